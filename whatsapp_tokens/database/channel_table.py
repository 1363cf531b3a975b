"""The channel table of an open connection: what queries, claims and writes have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from models import ERROR_LENGTH, Channel, TableMap, Tables, as_channel
from whatsapp_tokens.database.connection import Connection
from whatsapp_tokens.database.predicates import Conditions
from whatsapp_tokens.redaction import truncate

T = TypeVar("T")


class ChannelTable:
    """The tables as `reflect` found them, with the connection to them.

    `c` are the columns of the channel table, `columns` those of which a `Channel` is made, the id first.
    """

    def __init__(self, connection: Connection, tables: Tables, mapping: TableMap) -> None:
        self.mapping = mapping
        self.channel, self.audit = tables
        self.is_sqlite = connection.is_sqlite
        self.where = Conditions(self.channel, mapping.type, is_sqlite=connection.is_sqlite)
        self.c = c = self.channel.c
        names = (
            "id", "name", "wa_token_encrypted", "token_expires_at", "last_token_refresh_at",
            "token_status", "token_error", "token_fingerprint", "token_alerted_at", "phone_number",
        )  # fmt: skip
        self.columns = tuple(self._shown(c[key]) if key in c else sa.null().label(key) for key in names)
        self.fit = connection.fit
        self._connection = connection

    def error_text(self, text: str) -> str:
        """Return a text as `token_error` can hold it: in the database's encoding, and no longer than that."""
        length = getattr(self.c.token_error.type, "length", None)
        return truncate(self.fit(text), min(length or ERROR_LENGTH, ERROR_LENGTH))

    def _shown(self, column: sa.Column[Any]) -> sa.ColumnElement[Any]:
        """Return what is selected of a column: CHAR columns without the spaces with which they pad."""
        if isinstance(column.type, sa.CHAR) and not self.is_sqlite:
            return sa.cast(column, sa.Text()).label(column.key)
        return column

    def run(self, work: Callable[[sa.Connection, int], T], **how: bool) -> T:
        """Do `work` in a transaction of its own: see `Connection.run`."""
        return self._connection.run(work, **how)

    def fetch(self, statement: sa.Executable, **how: bool) -> Sequence[Any]:
        """Return all rows of one statement."""
        return self.run(lambda connection, _: connection.execute(statement).all(), **how)

    def execute(self, statement: sa.Executable) -> None:
        """Run one statement that changes something."""
        self.run(lambda connection, _: connection.execute(statement), immediate=True)

    def select(self, *which: sa.ColumnElement[bool], labels: Sequence[Any] = ()) -> sa.Select[Any]:
        """Return a query of the channels for which all of the conditions hold, with more columns."""
        return sa.select(*self.columns, *labels).where(*which)

    def channels(self, query: sa.Select[Any]) -> list[Channel]:
        """Return what a query made by `select` finds."""
        return [as_channel(row) for row in self.fetch(query)]

    def update(self, values: Mapping[Any, Any]) -> sa.Update:
        """Return the UPDATE with which every write begins: it sets `updated_at`, too, if that is mapped."""
        statement = sa.update(self.channel).values(values)
        if (updated_at := self.c.get("updated_at")) is not None:
            statement = statement.values({updated_at: self.where.clock(updated_at)})
        return statement
