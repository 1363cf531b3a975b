"""How to reach the database: its URL, the one connection, transactions, and what an error means.

Errors::

    BadDatabase    the URL, the file, the schema or a statement is refused: says what to do
    DatabaseLost   the server cannot be reached, also not after some retries; stops the run
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import sqlalchemy as sa
from psycopg2.extensions import encodings
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from whatsapp_tokens.redaction import one_line, redact

T = TypeVar("T")

UPGRADE: Final = "run: alembic upgrade head"

# What libpq understands in a URL; the rest is Prisma's or another driver's.
# https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
LIBPQ_OPTIONS: Final = frozenset(
    {
        "application_name", "channel_binding", "client_encoding", "connect_timeout", "gssencmode", "host",
        "hostaddr", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "krbsrvname",
        "options", "passfile", "port", "require_auth", "service", "sslcert", "sslcertmode", "sslcrl",
        "sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert", "sslsni",
        "ssl_max_protocol_version", "ssl_min_protocol_version", "target_session_attrs", "tcp_user_timeout",
    }
)  # fmt: skip

# What Prisma adds for its own engine. Not needed here, and no reason to warn every night.
# https://www.prisma.io/docs/orm/overview/databases/postgresql#arguments
PRISMA_OPTIONS: Final = frozenset(
    {
        "connection_limit", "max_connection_lifetime", "max_idle_connection_lifetime", "pgbouncer",
        "pool_timeout", "socket_timeout", "sslaccept", "sslidentity", "statement_cache_size",
    }
)  # fmt: skip
# What node-postgres says in its own way: https://node-postgres.com/features/ssl
SSL_MODES: Final = {
    "no-verify": "require",
    "true": "require",
    "1": "require",
    "false": "disable",
    "0": "disable",
}

# A statement is tried again when the database was away or busy for a moment.
TRIES: Final = 4
FIRST_WAIT_SECONDS: Final = 0.5  # doubles
BUSY_SECONDS: Final = 30
# A network that swallows everything is noticed after half a minute, and not after hours.
SILENCE: Final = {
    "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000,
}  # fmt: skip
LOCK_SECONDS: Final = 1  # for a row that somebody else has locked
CONNECT_SECONDS: Final = 10
# While connecting there is no SQLSTATE, only words. FATAL is the server's own: it was reached, and refuses.
REFUSALS: Final = (
    "FATAL",
    "invalid ",
    "no password supplied",
    "does not support SSL",
    "certificate",
    "definition of service",
)
PASSING_REFUSALS: Final = (
    "starting up", "not yet accepting", "shutting down", "recovery mode", "terminating", "try again later",
    "too many clients", "too many connections", "no more connections", "remaining connection slots",
)  # fmt: skip
LOCKED: Final = "55P03"
PASSING_STATES: Final = frozenset({"40001", "40P01", "57014"})  # serialization, deadlock, timeout


class BadDatabase(Exception):
    """The database as configured cannot be worked with. One line: what is wrong and what to do.

    `is_lock`: only because somebody else is at work on the same rows.
    """

    def __init__(self, message: str, *, is_lock: bool = False) -> None:
        super().__init__(message)
        self.is_lock = is_lock


class DatabaseLost(Exception):
    """The database cannot be reached. One line, without the URL."""


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """What DATABASE_URL says. Its `repr` shows nothing of the address, which may hold several secrets.

    `ignored` names the parameters that nobody here knows.
    """

    url: URL = field(repr=False)
    schema: str | None = None
    ignored: tuple[str, ...] = ()


def parse_url(text: str) -> DatabaseUrl:
    """Read what people paste as DATABASE_URL: PostgreSQL in any spelling, with Prisma's options, or SQLite.

    Raises `BadDatabase`, without repeating the text: it holds the password.
    """
    text = text.strip()
    if text[:1] in {'"', "'"} and text[:1] == text[-1:]:  # a file read by Docker keeps them
        text = text[1:-1].strip()
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme in {"postgres", "postgresql"} or scheme.startswith("postgresql+"):
        driver = "postgresql+psycopg2"
    elif scheme == "sqlite" or scheme.startswith("sqlite+"):
        driver = "sqlite"
    else:
        raise BadDatabase("it must begin with postgresql:// or sqlite:///")
    if "\0" in text or "%00" in text:
        raise BadDatabase("it holds a null character (%00), which no part of it can have")
    try:
        url = make_url(text).set(drivername=driver)
    except (ArgumentError, ValueError):
        raise BadDatabase(
            "it is not a valid URL; special characters in the password must be %-encoded"
        ) from None
    if driver == "sqlite":
        if url.host or url.database in {None, "", ":memory:"}:
            raise BadDatabase("it names no file; write sqlite:///path or, absolute, sqlite:////path")
        return DatabaseUrl(url.set(query={}), ignored=_unknown(url))
    if text.count("@") > 1:  # what follows the first would be shown as the host, and may be half a password
        raise BadDatabase("an @ within the password or any other part of it must be written as %40")
    return _postgresql(url)


def _postgresql(url: URL) -> DatabaseUrl:
    """A PostgreSQL URL with the parameters that libpq knows, and the rest taken out."""
    several = [name for name, value in url.query.items() if not isinstance(value, str)]
    if set(several) - {"host"}:  # of hosts there may be several
        raise BadDatabase(f"it gives {_named(several)} more than once")
    query: dict[str, Any] = dict(url.query)
    if url.host and "%" in url.host:  # libpq's own way to write the path of a socket
        url = url.set(host=unquote(url.host))
    # libpq takes these from anywhere, and what stands here wins.
    url = url.set(
        username=query.pop("user", url.username),
        password=query.pop("password", url.password),
        database=query.pop("dbname", url.database),
    )
    if not url.database:
        raise BadDatabase("it names no database; write postgresql://user:password@host/database")
    mode = query.get("sslmode", query.pop("ssl", ""))
    if mode:
        query["sslmode"] = SSL_MODES.get(mode, mode)
    schema = query.pop("schema", None)
    known = {name: value for name, value in query.items() if name in LIBPQ_OPTIONS}
    target = DatabaseUrl(url.set(query=known), schema, _unknown(url.set(query=query)))
    try:
        target.url.get_dialect()().create_connect_args(target.url)  # as later, when nobody expects an error
    except (ArgumentError, ValueError):
        raise BadDatabase("one of its hosts or ports cannot be one; a port is a number") from None
    return target


def _unknown(url: URL) -> tuple[str, ...]:
    return tuple(sorted(set(url.query) - LIBPQ_OPTIONS - PRISMA_OPTIONS))


def _named(names: Iterable[str]) -> str:
    """Names of parameters, unless they have no shape of one: then they may be half a password."""
    return ", ".join(name if re.fullmatch(r"\w{1,40}", name) else "a parameter" for name in names)


def warning_of(target: DatabaseUrl) -> str | None:
    """What is to be said of the parameters that are ignored, if there are any."""
    return f"DATABASE_URL: {_named(target.ignored)} is not known and is ignored" if target.ignored else None


class Connection:
    """One connection, used by one thread."""

    def __init__(self, target: DatabaseUrl) -> None:
        self._engine = _engine(target.url)
        self._codec = "utf-8"
        self.is_sqlite = target.url.get_backend_name() == "sqlite"
        if not self.is_sqlite:
            sa.event.listen(self._engine, "connect", self._note_encoding)

    def close(self) -> None:
        """Close it."""
        self._engine.dispose()

    def fit(self, text: str) -> str:
        """A text with a question mark for each character that the database's encoding does not have."""
        return text.encode(self._codec, errors="replace").decode(self._codec)

    def _note_encoding(self, connection: Any, _record: object) -> None:
        """Most databases are UTF-8. One that calls itself SQL_ASCII takes any bytes, and gives them back."""
        encoding = connection.info.parameter_status("server_encoding")
        if encoding == "SQL_ASCII":
            connection.set_client_encoding("UTF8")
        else:
            self._codec = encodings.get(encoding, "utf-8")

    def run(self, work: Callable[[sa.Connection, int], T], *, immediate: bool = False) -> T:
        """Do `work` in a transaction of its own, several times if the database is away or busy for a moment.

        `work` is given the number of the attempt. Raises `DatabaseLost`, or `BadDatabase` if the database
        answers but refuses.
        """
        attempts = itertools.count(1)

        def once() -> T:
            connection = self._engine.connect().execution_options(immediate=immediate)
            with connection, connection.begin():
                return work(connection, next(attempts))

        try:
            return _retrying()(once)
        except (SQLAlchemyError, ValueError, OverflowError) as error:
            if _is_lost(error):
                raise DatabaseLost(f"the database cannot be reached ({_words(error)})") from None
            is_lock = _sqlstate(error) == LOCKED
            raise BadDatabase(f"the database refused: {_words(error)}", is_lock=is_lock) from None


def _retrying() -> Retrying:
    return Retrying(
        retry=retry_if_exception(lambda error: _is_lost(error) or _is_busy(error)),
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential(multiplier=FIRST_WAIT_SECONDS),
        sleep=time.sleep,
        reraise=True,
    )


def _engine(url: URL) -> sa.Engine:
    """An engine with one connection, which never puts parameters into its error messages."""
    if url.get_backend_name() != "sqlite":
        defaults = {"connect_timeout": CONNECT_SECONDS, "application_name": "whatsapp-token-refresh"}
        defaults |= SILENCE
        engine = sa.create_engine(
            url,
            pool_size=1,
            max_overflow=0,
            hide_parameters=True,
            connect_args={name: value for name, value in defaults.items() if name not in url.query},
        )

        @sa.event.listens_for(engine, "begin")
        def be_patient(connection: sa.Connection) -> None:
            # A row that the application keeps locked must not keep everybody else. LOCAL, as PgBouncer would
            # hand the session on.
            if connection.get_execution_options().get("immediate"):
                connection.exec_driver_sql(f"SET LOCAL lock_timeout TO '{LOCK_SECONDS}s'")

        return engine
    path = Path(url.database or "")
    if not (os.access(path, os.R_OK) and path.is_file()):  # connecting would create an empty one
        raise BadDatabase(f"there is no file {path.absolute()} that can be read; {UPGRADE}")
    engine = sa.create_engine(
        url, pool_size=1, max_overflow=0, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS}
    )

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver begins no transaction of its own
        connection.text_factory = lambda raw: raw.decode(errors="surrogateescape")
        connection.create_function("md5", 1, _sqlite_md5, deterministic=True)
        connection.create_function("utc", 1, _sqlite_utc, deterministic=True)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A reader that turns into a writer would fail at once if somebody wrote meanwhile.
        immediate = connection.get_execution_options().get("immediate")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _sqlite_md5(stored: bytes | None) -> str | None:
    return None if stored is None else hashlib.md5(stored, usedforsecurity=False).hexdigest()


def _sqlite_utc(stored: object) -> str | None:
    """A date as SQLAlchemy's own text form, in UTC, which sorts as it should; None for what is no date."""
    try:
        found = datetime.fromisoformat(stored) if isinstance(stored, str) else None
        if found is not None and found.tzinfo is not None:
            found = found.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return None if found is None else found.isoformat(" ", "microseconds")


def _sqlstate(error: BaseException) -> str:
    return getattr(getattr(error, "orig", None), "pgcode", None) or ""


def _is_lost(error: BaseException) -> bool:
    """Whether the server could not be reached, as opposed to having refused something."""
    if not isinstance(error, DBAPIError):
        return False
    if error.connection_invalidated or _sqlstate(error).startswith(("08", "57P", "53300")):
        return True
    words = str(error.orig)
    if isinstance(error.orig, sqlite3.Error):
        return _has_any(words, ("database is locked", "disk I/O error", "unable to open"))
    refused = _has_any(words, REFUSALS) and not _has_any(words, PASSING_REFUSALS)
    return isinstance(error, OperationalError) and not _sqlstate(error) and not refused


def _is_busy(error: BaseException) -> bool:
    """Whether the same statement may well succeed in a moment."""
    return _sqlstate(error) in PASSING_STATES


def _has_any(text: str, words: Iterable[str]) -> bool:
    return any(word in text for word in words)


def _words(error: BaseException) -> str:
    """What the database said, in one line and without the row's values, which stand in its DETAIL."""
    orig = getattr(error, "orig", None)
    if orig is None:
        return type(error).__name__
    said = getattr(getattr(orig, "diag", None), "message_primary", None) or str(orig)
    return redact(one_line(said))[:300]
