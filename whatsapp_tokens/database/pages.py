"""Rows in an order, a page at a time: memory does not grow with the table, and no transaction stays open."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa

from models import Channel, as_channel, plain_id
from whatsapp_tokens.column_types import comparable
from whatsapp_tokens.database.channel_table import ChannelTable
from whatsapp_tokens.results import ChannelId

PAGE_SIZE: Final = 2000


class Pages:
    """All rows for which some conditions hold, each page in a transaction of its own."""

    def __init__(self, table: ChannelTable) -> None:
        self._table = table

    @property
    def urgency(self) -> tuple[sa.ColumnElement[Any], ...]:
        """The order of urgency: unknown expiry first, then the soonest, then by id."""
        return (comparable(self._table.c.token_expires_at).asc().nulls_first(), self._table.c.id)

    def is_one(self, count: int | None) -> bool:
        """Return whether so many rows are one page, which is read at once; not if that is not known."""
        return count is not None and count <= PAGE_SIZE

    def by_urgency(
        self, *which: sa.ColumnElement[bool], labels: Sequence[Any] = (), most: int | None = None
    ) -> Iterator[Channel]:
        """Yield channels in the order of urgency, with more columns, and no more than `most`."""
        columns = (*self._table.columns[1:], *labels)
        return map(as_channel, self.rows_by_urgency(*which, columns=columns, most=most))

    def by_id(self, *which: sa.ColumnElement[bool]) -> Iterator[Channel]:
        """Yield channels in the order of their ids."""
        id_ = self._table.c.id
        query = self._table.select(*which).order_by(id_)
        return map(as_channel, self.rows(query, lambda last: id_ > last.id))

    def rows_by_urgency(
        self,
        *which: sa.ColumnElement[bool],
        columns: Sequence[Any] = (),
        most: int | None = None,
        but: Container[ChannelId] = (),
    ) -> Iterator[Any]:
        """Yield rows of the id, `columns`, and the expiry as the database writes it.

        That text is the exact value, which may be a year that Python does not know. Rows whose id is in
        `but` are passed over; after `most` others there is no look for more.
        """
        id_, expires_at = self._table.c.id, comparable(self._table.c.token_expires_at)
        written = sa.cast(expires_at, sa.Text()).label("written")
        query = sa.select(self._table.columns[0], *columns, written).where(*which).order_by(*self.urgency)

        def behind(last: Any) -> sa.ColumnElement[bool]:
            if last.written is None:
                return sa.or_(expires_at.is_not(None), id_ > last.id)
            at_last: Any = sa.literal(last.written, sa.Text())
            if not self._table.is_sqlite:
                at_last = sa.cast(at_last, self._table.c.token_expires_at.type)
            # The first condition says nothing new, but lets an index begin there.
            return sa.and_(expires_at >= at_last, sa.or_(expires_at > at_last, id_ > last.id))

        return self.rows(query, behind, most, but)

    def rows(
        self,
        query: sa.Select[Any],
        behind: Callable[[Any], sa.ColumnElement[bool]],
        most: int | None = None,
        but: Container[ChannelId] = (),
    ) -> Iterator[Any]:
        """Yield the rows of an ordered query. `behind` gives the condition for those after a row."""
        following = query
        while most is None or most > 0:
            size = PAGE_SIZE if most is None else min(most, PAGE_SIZE)
            page = self._table.fetch(following.limit(size))
            for row in page:
                if plain_id(row.id) not in but:
                    most = None if most is None else most - 1
                    yield row
            if len(page) < size:  # one more query of the whole table would find nothing
                return
            following = query.where(behind(page[-1]))
