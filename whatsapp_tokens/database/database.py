"""A database that is open: its queries, histories, claims and writes.

Each of their methods is made of short transactions, so nothing is locked while Meta is being called, and
PgBouncer in transaction mode works.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from models import TableMap
from whatsapp_tokens.database.channel_table import ChannelTable
from whatsapp_tokens.database.claims import Claims
from whatsapp_tokens.database.connection import Connection
from whatsapp_tokens.database.history import History
from whatsapp_tokens.database.queries import Queries
from whatsapp_tokens.database.schema import reflect
from whatsapp_tokens.database.url import DatabaseUrl
from whatsapp_tokens.database.writes import Writer
from whatsapp_tokens.signals import Stop


class Database:
    """One connection, used by one thread."""

    def __init__(
        self, target: DatabaseUrl, mapping: TableMap, *, lease: timedelta, stop: Stop | None = None
    ) -> None:
        """Connect, and compare the tables with what the program needs. A signal sets `stop`.

        Raise a `DatabaseError`.
        """
        mapping = replace(mapping, schema=mapping.schema or target.schema)
        self._connection = Connection(target, stop)
        try:
            tables = self._connection.run(lambda connection, _: reflect(connection, mapping))
        except BaseException:
            self._connection.close()
            raise
        table = ChannelTable(self._connection, tables, mapping)
        self.queries = Queries(table)
        self.history = History(table)
        self.claims = Claims(table, lease)
        self.writer = Writer(table, self.claims)

    def close(self) -> None:
        """Close the connection. Claims are not given back: `claims.release_all` first."""
        self._connection.close()
