"""Ends a statement that the database does not answer in time, or that a signal interrupts.

Both happen on our side, because a server that hangs ends nothing by itself. psycopg2 waits in Python when it
has a callback (https://www.psycopg.org/docs/advanced.html#support-for-coroutine-libraries); SQLite calls us
while it works, and waits for another writer only for a moment at a time.
"""

from __future__ import annotations

import select
from time import monotonic, sleep
from typing import Any, Final

import psycopg2
from psycopg2 import extensions

from whatsapp_tokens.signals import WAKE_SECONDS, Stop

STATEMENT_SECONDS: Final = 60.0
# After a signal: what is in flight may still be written, and a report still be read.
GRACE_SECONDS: Final = 10.0
LEAST_SECONDS: Final = 2.0  # for each operation, although those before it have used up the grace
SQLITE_STEPS: Final = 100_000  # of its virtual machine, between two calls: some milliseconds


class Expired(psycopg2.OperationalError):
    """The database did not answer in time."""


class InterruptedStatement(psycopg2.OperationalError):
    """A signal came while the database was silent."""


class Deadline:
    """Until when an operation and each of its statements may take."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self._stopped_at: float | None = None
        self._operation_began = monotonic()
        self._statement_began = monotonic()
        self._is_interruptible = False
        self.seconds = STATEMENT_SECONDS

    def begin_operation(self, *, interruptible: bool) -> None:
        """Begin an operation, with all its attempts. An `interruptible` one ends with a signal."""
        self._operation_began = self._statement_began = monotonic()
        self._is_interruptible = interruptible

    def begin_statement(self) -> None:
        """Begin a statement, or anything else of the operation that is waited for."""
        self._statement_began = monotonic()

    def expiry(self) -> Expired | InterruptedStatement | None:
        """Return why the statement must end now, or None."""
        now = monotonic()
        until = self._statement_began + self.seconds
        if self.stop.is_set():
            if self._is_interruptible:
                return InterruptedStatement()
            self._stopped_at = self._stopped_at or now
            grace_ends = max(self._stopped_at + GRACE_SECONDS, self._operation_began + LEAST_SECONDS)
            until = min(until, grace_ends)
        return Expired(f"no answer for {now - self._statement_began:.0f} s") if now > until else None

    def check(self) -> None:
        """Raise `Expired` or `InterruptedStatement` if the statement must end now."""
        if error := self.expiry():
            raise error

    def sleep(self, seconds: float) -> None:
        """Wait between two attempts. Raise like `check`."""
        self.begin_statement()
        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            self.check()
            sleep(min(left, WAKE_SECONDS))

    def watched_connection(self) -> type[extensions.connection]:
        """Return the class of a PostgreSQL connection that keeps to this deadline."""
        extensions.set_wait_callback(_wait)
        return type("WatchedConnection", (extensions.connection,), {"deadline": self})

    def watch_sqlite(self, connection: Any) -> None:
        """Let an SQLite connection keep to this deadline."""
        connection.set_progress_handler(lambda: self.expiry() is not None, SQLITE_STEPS)


def _wait(connection: Any) -> None:
    """Wait until a PostgreSQL connection is done with what it does."""
    deadline: Deadline | None = getattr(connection, "deadline", None)
    if deadline:
        deadline.begin_statement()
    while (state := connection.poll()) != extensions.POLL_OK:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        while not poll.poll(WAKE_SECONDS * 1000):
            if deadline:
                deadline.check()
