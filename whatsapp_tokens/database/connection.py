"""The one connection to the database: how it is opened, its transactions, and what an error of it means."""

from __future__ import annotations

import hashlib
import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from psycopg2.extensions import encodings
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from whatsapp_tokens.database.errors import (
    UPGRADE,
    BadUrl,
    DatabaseError,
    DatabaseLost,
    LockTimeout,
    StatementRefused,
)
from whatsapp_tokens.database.url import DatabaseUrl
from whatsapp_tokens.facts import fact
from whatsapp_tokens.redaction import one_line, redact

T = TypeVar("T")

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

        `work` is given the number of the attempt. Raise `BadUrl`, `StatementRefused` or `DatabaseLost`.
        """
        attempts = itertools.count(1)
        refusal: type[DatabaseError] = BadUrl

        def once() -> T:
            nonlocal refusal
            refusal = BadUrl  # while a session is opened
            connection = self._engine.connect().execution_options(immediate=immediate)
            refusal = StatementRefused
            with connection, connection.begin():
                return work(connection, next(attempts))

        try:
            return _retrying()(once)
        except (SQLAlchemyError, ValueError, OverflowError) as error:
            if _is_lost(error):
                raise DatabaseLost(fact("the database cannot be reached", _words(error))) from None
            if _sqlstate(error) == LOCKED:
                refusal = LockTimeout
            raise refusal(fact("the database refused", _words(error))) from None


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
        raise BadUrl(f"there is no file {path.absolute()} that can be read; {UPGRADE}")
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
