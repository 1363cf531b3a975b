"""The one connection to the database: how it is opened, and transactions that are tried again."""

from __future__ import annotations

import codecs
import hashlib
import itertools
import os
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from psycopg2.extensions import encodings
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential

from whatsapp_tokens.database import deadlines
from whatsapp_tokens.database.deadlines import Deadline, Expired, InterruptedStatement
from whatsapp_tokens.database.driver_errors import opening_error, statement_error
from whatsapp_tokens.database.errors import UPGRADE, BadUrl, DatabaseError, DatabaseLost
from whatsapp_tokens.database.url import DatabaseUrl
from whatsapp_tokens.facts import fact
from whatsapp_tokens.signals import Interrupted, Stop

T = TypeVar("T")

# What may pass is tried again for half a minute. The wait doubles.
RETRY_SECONDS: Final = 30
FIRST_WAIT_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 5
# SQLite waits that long for another writer, in which it notices no signal; then it is tried again, too.
BUSY_SECONDS: Final = 0.2
LOCK_SECONDS: Final = 1  # for a row or table that another session has locked
CONNECT_SECONDS: Final = 10  # for each host
# A network that swallows everything is noticed after half a minute, and not after hours.
SILENCE: Final = {
    "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000,
}  # fmt: skip


class Connection:
    """One connection, used by one thread. A signal sets `stop`: see `deadlines`."""

    def __init__(self, target: DatabaseUrl, stop: Stop | None = None) -> None:
        self.is_sqlite = target.url.get_backend_name() == "sqlite"
        self._codec = "utf-8"
        self._deadline = Deadline(stop or Stop())
        self._connect_seconds = _connect_seconds(target.url)
        self._uses_system_ca = target.url.query.get("sslrootcert") == "system"
        self._engine = self._sqlite(target.url) if self.is_sqlite else self._postgresql(target.url)

    def close(self) -> None:
        """Close it."""
        self._engine.dispose()

    def fit(self, text: str) -> str:
        """Return a text with a question mark for each character that the database cannot hold."""
        return text.encode(self._codec, errors="replace").decode(self._codec)

    def run(
        self,
        work: Callable[[sa.Connection, int], T],
        *,
        immediate: bool = False,
        interruptible: bool | None = None,
    ) -> T:
        """Do `work` in a transaction of its own, several times if the database is away or busy for a moment.

        `work` is given the number of the attempt; `immediate` work writes. Raise `BadUrl`,
        `StatementRefused`, `DatabaseLost`, or, if a signal comes and it is `interruptible`, `Interrupted`. By
        default that is what only reads and has begun before the signal.
        """
        if interruptible is None:
            interruptible = not (immediate or self._deadline.stop.is_set())
        self._deadline.begin_operation(interruptible=interruptible)
        attempts = itertools.count(1)

        def once() -> T:
            connection = self._open().execution_options(immediate=immediate)
            try:
                with connection, connection.begin():
                    return work(connection, next(attempts))
            except (SQLAlchemyError, ValueError, OverflowError) as error:
                translated = self._translated(error)
                if isinstance(translated, DatabaseLost):
                    self._engine.dispose()  # the next attempt opens a new session
                raise translated from None

        haste = 10 if self.is_sqlite else 1  # which is locked for moments only, and for all
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, DatabaseError) and error.may_pass),
            stop=stop_after_delay(RETRY_SECONDS),
            wait=wait_exponential(multiplier=FIRST_WAIT_SECONDS / haste, max=LONGEST_WAIT_SECONDS / haste),
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(once)

    def _open(self) -> sa.Connection:
        """Return a connection, if need be a new one. Raise `BadUrl`, `DatabaseLost` or `Interrupted`."""
        self._deadline.seconds = self._connect_seconds
        try:
            connection = self._engine.connect()
        except (SQLAlchemyError, UnicodeDecodeError, AssertionError) as error:
            if isinstance(getattr(error, "orig", None), InterruptedStatement):
                raise Interrupted from None
            raise opening_error(error, uses_system_ca=self._uses_system_ca) from None
        self._deadline.seconds = deadlines.STATEMENT_SECONDS
        return connection

    def _translated(self, error: Exception) -> Exception:
        """Return what is raised instead of an error of the driver."""
        orig = getattr(error, "orig", None)
        if getattr(orig, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT:
            orig = self._deadline.expiry()
        return Interrupted() if isinstance(orig, InterruptedStatement) else statement_error(error)

    def _sleep(self, seconds: float) -> None:
        """Wait between two attempts. Raise `Interrupted` or `DatabaseLost` if no other is to be made."""
        try:
            self._deadline.sleep(seconds)
        except InterruptedStatement:
            raise Interrupted from None
        except Expired as error:
            raise DatabaseLost(fact("the database does not answer", error)) from None

    def _postgresql(self, url: URL) -> sa.Engine:
        """Return an engine with one connection, which never puts parameters into its error messages."""
        defaults = {"connect_timeout": CONNECT_SECONDS, "application_name": "whatsapp-token-refresh"}
        defaults |= SILENCE
        options: dict[str, Any] = {name: value for name, value in defaults.items() if name not in url.query}
        options["connection_factory"] = self._deadline.watched_connection()
        engine = sa.create_engine(
            url, pool_size=1, max_overflow=0, hide_parameters=True, connect_args=options
        )
        sa.event.listen(engine, "connect", self._note_encoding)

        @sa.event.listens_for(engine, "begin")
        def limit_lock_waits(connection: sa.Connection) -> None:
            # A row that the application keeps locked must not keep all others. LOCAL, as PgBouncer would hand
            # the session on.
            if connection.get_execution_options().get("immediate"):
                connection.exec_driver_sql(f"SET LOCAL lock_timeout TO '{LOCK_SECONDS}s'")

        return engine

    def _sqlite(self, url: URL) -> sa.Engine:
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
            self._deadline.watch_sqlite(connection)

        @sa.event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            # A reader that turns into a writer would fail at once if another session wrote meanwhile.
            immediate = connection.get_execution_options().get("immediate")
            connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

        return engine

    def _note_encoding(self, connection: Any, _record: object) -> None:
        self._codec = encodings.get(connection.info.parameter_status("server_encoding"), "utf-8")


def _connect_seconds(url: URL) -> float:
    """Return how long opening a session may take: with a callback, libpq has no `connect_timeout`."""
    hosts = url.query.get("host", ())
    count = len(hosts) if isinstance(hosts, tuple) else str(hosts).count(",") + 1
    try:
        seconds = int(str(url.query.get("connect_timeout", CONNECT_SECONDS)))
    except ValueError:
        raise BadUrl("connect_timeout must be a number of seconds") from None
    return max(seconds, 2) * max(count, 1) if seconds > 0 else deadlines.STATEMENT_SECONDS


def _utf8_or_bytes(name: str) -> codecs.CodecInfo | None:
    """Return a codec for databases that call themselves SQL_ASCII: they take any bytes, and give them back.

    Most of their text is UTF-8. What is not comes as surrogates, which `redact` and `as_stored` know.
    """
    if name != "utf8_or_bytes":
        return None
    return codecs.CodecInfo(
        lambda text, _errors="strict": (text.encode(errors="surrogateescape"), len(text)),
        lambda raw, _errors="strict": (bytes(raw).decode(errors="surrogateescape"), len(raw)),
        name=name,
    )


codecs.register(_utf8_or_bytes)
encodings.update(dict.fromkeys(("SQL_ASCII", "SQLASCII"), "utf8_or_bytes"))


def _sqlite_md5(stored: bytes | None) -> str | None:
    return None if stored is None else hashlib.md5(stored, usedforsecurity=False).hexdigest()


def _sqlite_utc(stored: object) -> str | None:
    """Return a date in SQLAlchemy's own text form, in UTC, which sorts; None for what is no date."""
    try:
        found = datetime.fromisoformat(stored) if isinstance(stored, str) else None
        if found is not None and found.tzinfo is not None:
            found = found.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return None if found is None else found.isoformat(" ", "microseconds")
