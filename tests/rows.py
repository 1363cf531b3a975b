"""The channel table as the application that shares it sees it: plain SQL, without our models."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from whatsapp_tokens.database.url import parse_url

DATES = {
    *("token_expires_at", "last_token_refresh_at", "token_alerted_at", "token_lease_until", "updated_at"),
    *("at", "expires_at_before", "expires_at_after"),  # of the audit log
}


class Rows:
    """Insert, read and change rows of `Channel` and read the audit log. Times are aware UTC."""

    def __init__(self, url: str) -> None:
        # One connection for all: with NullPool, opening one for each row was half of some tests' time.
        self.engine = sa.create_engine(parse_url(url).url, pool_size=1, pool_pre_ping=True)
        weakref.finalize(self, self.engine.dispose)  # Python 3.13 and newer warn of one that stays open
        self.is_sqlite = self.engine.dialect.name == "sqlite"

    @contextmanager
    def connect(self) -> Iterator[sa.Connection]:
        with self.engine.begin() as connection:
            yield connection

    def insert(self, **values: Any) -> int:
        """Insert a channel, by default of type whatsapp, and return its id."""
        values = {"type": "whatsapp"} | {name: self._out(value) for name, value in values.items()}
        names = ", ".join(f'"{name}"' for name in values)
        marks = ", ".join(f":{name}" for name in values)
        with self.connect() as connection:
            statement = sa.text(f'INSERT INTO "Channel" ({names}) VALUES ({marks}) RETURNING id')
            return connection.execute(statement, values).scalar_one()

    def insert_many(self, channels: Iterable[dict[str, Any]]) -> None:
        """Insert channels that all have the same columns, in one statement."""
        values = [{name: self._out(value) for name, value in channel.items()} for channel in channels]
        names, marks = (
            ", ".join(f'"{name}"' for name in values[0]),
            ", ".join(f":{name}" for name in values[0]),
        )
        with self.connect() as connection:
            connection.execute(sa.text(f'INSERT INTO "Channel" ({names}) VALUES ({marks})'), values)

    def update(self, id_: Any, **values: Any) -> None:
        values = {name: self._out(value) for name, value in values.items()}
        marks = ", ".join(f'"{name}" = :{name}' for name in values)
        with self.connect() as connection:
            statement = sa.text(f'UPDATE "Channel" SET {marks} WHERE id = :_id')
            connection.execute(statement, values | {"_id": id_})

    def get(self, id_: Any) -> dict[str, Any]:
        with self.connect() as connection:
            found = connection.execute(sa.text('SELECT * FROM "Channel" WHERE id = :id'), {"id": id_})
            row = found.mappings().one()
        return self._row(row)

    def audit(self, id_: Any = None) -> list[dict[str, Any]]:
        where, values = ("WHERE channel_id = :id", {"id": str(id_)}) if id_ is not None else ("", {})
        with self.connect() as connection:
            found = connection.execute(sa.text(f"SELECT * FROM token_audit_log {where} ORDER BY id"), values)
            return [self._row(row) for row in found.mappings()]

    def audited(self, id_: Any, event: str, at: datetime, reason: str | None = None) -> None:
        """A row of the audit log."""
        values = {"at": self._out(at), "id": str(id_), "event": event, "reason": reason}
        self.run(
            "INSERT INTO token_audit_log (at, channel_id, event, message, reason) "
            "VALUES (:at, :id, :event, 'x', :reason)",
            **values,
        )

    def run(self, sql: str, **values: Any) -> None:
        with self.connect() as connection:
            connection.execute(sa.text(sql), values)

    def scalar(self, sql: str, **values: Any) -> Any:
        with self.connect() as connection:
            return connection.execute(sa.text(sql), values).scalar()

    def recreate(self, columns: str) -> None:
        """Replace `Channel` by an empty table with other columns, as another application may have it."""
        self.run('DROP TABLE "Channel"')
        self.run(f'CREATE TABLE "Channel" ({columns})')

    def clock(self) -> datetime:
        """Return the time by the clock of the database, to the millisecond."""
        return self._in(
            self.scalar("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")
            if self.is_sqlite
            else self.scalar("SELECT date_trunc('milliseconds', clock_timestamp())")
        )

    def _row(self, row: Any) -> dict[str, Any]:
        return {name: self._in(value) if name in DATES else value for name, value in row.items()}

    def _out(self, value: Any) -> Any:
        if isinstance(value, datetime) and self.is_sqlite:
            return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        return value

    def _in(self, value: Any) -> datetime | None:
        if value is None:
            return None
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
