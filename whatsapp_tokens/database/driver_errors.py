"""What an error of psycopg2 or sqlite3 means: the one place where that is decided.

What happens while a session is opened is never a row's fault. psycopg2 shows no SQLSTATE there, only words,
in any language and encoding: so only what is surely a wrong setting is a `BadUrl`, and the rest may pass.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError, OperationalError

from whatsapp_tokens.database.deadlines import Expired
from whatsapp_tokens.database.errors import BadUrl, DatabaseError, DatabaseLost, LockTimeout, StatementRefused
from whatsapp_tokens.facts import fact, facts
from whatsapp_tokens.redaction import one_line, redact

# What the server says of a role, password or database, in English, Spanish, Portuguese, French and German.
REFUSED_LOGIN: Final = re.compile(
    r"""
      authentication\ failed | no\ pg_hba\.conf\ entry | is\ not\ permitted\ to\ log\ in
    | (?:role|database|user)\ "[^"]*"\ does\ not\ exist | no\ such\ (?:user|database)
    | la\ autentificación\ .*\ falló | no\ existe\ (?:la\ base\ de\ datos|el\ rol)
    | no\ (?:hay|existe)\ una\ línea\ en\ pg_hba\.conf
    | autenticação\ .*\ falhou | (?:banco\ de\ dados|role)\ "[^"]*"\ não\ existe
    | nenhuma\ entrada\ no\ pg_hba\.conf
    | authentification\ .*\ échouée | (?:la\ base\ de\ données|le\ rôle)\ «[^»]*»\ n'existe\ pas
    | authentifizierung\ .*\ fehlgeschlagen | (?:Datenbank|Rolle)\ »[^«]*«\ existiert\ nicht
    """,
    re.VERBOSE | re.IGNORECASE,
)
# What libpq says of an option, a certificate or a password that it needs. It says so in English.
REFUSED_OPTION: Final = re.compile(
    r"invalid |no password supplied|does not support SSL|certificate|definition of service|private key"
)
# What a pooler or server adds where even such words only mean "not now".
NOT_NOW: Final = re.compile(r"try again later|starting up|shutting down|not yet accepting|recovery mode")

LOCKED: Final = "55P03"
BUSY: Final = frozenset({"40001", "40P01", "57014"})  # serialization failure, deadlock, canceled
# What is never one row's: https://www.postgresql.org/docs/current/errcodes-appendix.html
LOST: Final = ("08", "53", "57P", "58")  # connections, resources, shutdown, system errors
NO_WRITES: Final = frozenset({"25006", "53100"})  # read-only, disk full
UNFIT_TABLE: Final = "55000"  # such as one that is published without a replica identity

SQLITE_LOST: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
    }
)  # fmt: skip
SQLITE_NO_WRITES: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
SQLITE_BROKEN: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


def opening_error(error: Exception, *, uses_system_ca: bool = False) -> DatabaseError:
    """Return what an error means that came while a session was opened."""
    if isinstance(error, AssertionError):  # SQLAlchemy could not read the answer to version()
        return BadUrl(fact("the server is not PostgreSQL", _quote(str(error))))
    if _sqlstate(error):
        return statement_error(error)
    words = _opening_words(error)
    attempts = re.split(r"(?=connection to server )", words)  # one for each host and address
    refusals = [REFUSED_LOGIN.search(attempt) for attempt in attempts if attempt.strip()]
    is_option = REFUSED_OPTION.search(words) and "FATAL" not in words
    if (is_option or all(refusals)) and not NOT_NOW.search(words):
        needs_ca = uses_system_ca and "certificate verify failed" in words
        hint = fact("for sslrootcert=system, set SSL_CERT_FILE to this machine's CA file") if needs_ca else ""
        return BadUrl(facts(fact("the database refused", _quote(words)), hint))
    return _lost(_quote(words))


def statement_error(error: Exception) -> DatabaseError:  # noqa: PLR0911 - guard clauses
    """Return what an error means that came while a statement was executed."""
    orig = getattr(error, "orig", None)
    state, words = _sqlstate(error), statement_words(error)
    if isinstance(orig, Expired):
        return DatabaseLost(fact("the database does not answer", words))
    if isinstance(orig, sqlite3.Error):
        return _sqlite_error(orig, words)
    if state == LOCKED:
        return LockTimeout(fact("the database refused", words))
    if state == UNFIT_TABLE:
        return DatabaseLost(fact("the database takes no writes", words))
    if state in NO_WRITES:
        return _may_pass(DatabaseLost(fact("the database takes no writes", words)))
    if state.startswith(LOST) or getattr(error, "connection_invalidated", False):
        return _lost(words)
    if isinstance(error, OperationalError) and not state:
        return _lost(words)
    refused = StatementRefused(fact("the database refused", words))
    return _may_pass(refused) if state in BUSY else refused


def statement_words(error: Exception) -> str:
    """Return what the database said, in one line and without the row's values, which stand in its DETAIL."""
    orig = getattr(error, "orig", None)
    if orig is None:
        return type(error).__name__
    return _quote(getattr(getattr(orig, "diag", None), "message_primary", None) or str(orig))


def _sqlite_error(orig: sqlite3.Error, words: str) -> DatabaseError:
    code = getattr(orig, "sqlite_errorcode", 0) & 0xFF
    if code in SQLITE_NO_WRITES:
        return _may_pass(DatabaseLost(fact("the database takes no writes", words)))
    if code in SQLITE_LOST:
        return _lost(words)
    if code == sqlite3.SQLITE_INTERRUPT:
        return DatabaseLost(fact("the database does not answer", words))
    if code in SQLITE_BROKEN:
        return BadUrl(fact("the database refused", words))
    return StatementRefused(fact("the database refused", words))


def _lost(words: str) -> DatabaseError:
    return _may_pass(DatabaseLost(fact("the database cannot be reached", words)))


def _may_pass(error: DatabaseError) -> DatabaseError:
    error.may_pass = True
    return error


def _opening_words(error: Exception) -> str:
    """Return what was said, also by a server that does not speak UTF-8."""
    if isinstance(error, UnicodeDecodeError):
        return error.object.decode("latin-1")
    return str(error.orig if isinstance(error, DBAPIError) else error)


def _sqlstate(error: Exception) -> str:
    return getattr(getattr(error, "orig", None), "pgcode", None) or ""


def _quote(words: str) -> str:
    return redact(one_line(words))[:300]
