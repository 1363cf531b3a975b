"""Every query: the channels that are due, wait, or have to be told of, in the order of urgency.

Queries that may find many rows are iterators: they fetch a page at a time, each in a transaction of its own,
so memory does not grow with the table and no transaction stays open.

Every method may raise `StatementRefused` or `DatabaseLost`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from models import Channel, Status, Tables, plain_id
from whatsapp_tokens.column_types import comparable
from whatsapp_tokens.database.channel_table import ChannelTable
from whatsapp_tokens.database.errors import StatementRefused
from whatsapp_tokens.database.outages import down_since, first_rejection
from whatsapp_tokens.database.pages import Pages
from whatsapp_tokens.database.permissions import hides_rows, missing_permissions
from whatsapp_tokens.database.predicates import Section
from whatsapp_tokens.database.totals import totals
from whatsapp_tokens.policy import STEPS, Reminders, Selection, is_reminder_due
from whatsapp_tokens.results import ChannelId, ChannelTotals

MOST_TYPES: Final = 20


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows of a `Selection` are candidates, due, and waiting for a reconnect.

    `known`: how many of those due are known to fail; `news`: how many rows people may have to be told of.
    """

    candidates: int
    due: int
    waiting: int
    known: int = 0
    news: int = 0


class Queries:
    """What is read from the tables. Changes nothing and claims nothing."""

    def __init__(self, table: ChannelTable) -> None:
        self._table = table
        self._where = table.where
        self._pages = Pages(table)

    # One channel

    def find_id(self, text: str) -> ChannelId | None:
        """Return the id that a user wrote as `text`, as it is in the table, or None."""
        column = self._table.c.id
        value: ChannelId = text
        if isinstance(column.type, sa.Integer):
            if not re.fullmatch(r"-?[0-9]{1,19}", text):
                return None
            value = int(text)
        try:
            found = self._table.fetch(sa.select(column).where(column == value))
        except StatementRefused:  # it does not even have the form of an id of this table
            return None
        return plain_id(found[0].id) if found else None

    def new_id(self, text: str) -> ChannelId | None:
        """Return what a user wrote as `text`, as the id of a new row, or None if it cannot be one."""
        if not isinstance(self._table.c.id.type, sa.Integer):
            return text
        return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None

    def get(self, id_: ChannelId) -> Channel | None:
        """Return the channel with this id, with or without a token, or None if it is of another type."""
        c = self._table.c
        found = self._table.channels(self._table.select(c.id == id_, c.type == self._table.mapping.type))
        return found[0] if found else None

    # Channels by id

    def candidates(self) -> Iterator[Channel]:
        """Yield all candidates."""
        return self._pages.by_id(self._where.candidate())

    def inactive(self) -> Iterator[Channel]:
        """Yield the channels that have a token and are inactive."""
        return self._pages.by_id(self._where.inactive())

    def of_other_types(self) -> Iterator[Channel]:
        """Yield the rows of other types that have a token."""
        return self._pages.by_id(self._where.of_another_type())

    def some(self, limit: int) -> list[Channel]:
        """Return up to `limit` candidates, any."""
        return self._table.channels(self._table.select(self._where.candidate()).limit(limit))

    def others(self, selection: Selection, limit: int) -> list[Channel]:
        """Return up to `limit` candidates of the whole table that this selection does not call due."""
        query = self._table.select(
            self._where.candidate(replace(selection, ids=None)),
            sa.not_(sa.and_(self._where.asked_for(selection), self._where.due(selection))),
        )
        return self._table.channels(query.limit(limit))

    def healthy(self, selection: Selection, limit: int) -> list[Channel]:
        """Return up to `limit` channels of the table that are `ok` and not due, the last renewed first.

        One whose token was replaced since may be among them: to find out would take a digest of every row.
        """
        c, refreshed_at = self._table.c, comparable(self._table.c.last_token_refresh_at)
        query = self._table.select(
            self._where.candidate(),
            c.token_status == Status.OK,
            comparable(c.token_expires_at) >= selection.expires_before,
            sa.or_(refreshed_at.is_(None), refreshed_at >= selection.refreshed_before),
            sa.not_(self._where.asked_for(selection)) if selection.everything else sa.true(),
        )
        return self._table.channels(query.order_by(refreshed_at.desc().nulls_last(), c.id).limit(limit))

    def least_urgent(self, selection: Selection, limit: int) -> list[Channel]:
        """Return up to `limit` due channels of the whole table that no run holds, those in `warning` last."""
        expires_at = comparable(self._table.c.token_expires_at)
        query = self._table.select(self._where.candidate(), self._where.due(selection), self._where.free())
        order = (self._where.in_warning(), expires_at.desc().nulls_last(), self._table.c.id.desc())
        return self._table.channels(query.order_by(*order).limit(limit))

    # Channels in the order of urgency

    def count(self, selection: Selection) -> Counts:
        """Count everything that a run asks for first, in one pass: a large table takes long to read."""
        where, soon = self._where, selection.now + max(STEPS)
        is_due = where.due(selection)
        conditions = (
            is_due,
            where.waiting(selection),
            sa.and_(where.known_to_fail(), is_due),
            sa.or_(where.to_tell_of(soon), where.to_remind_of()),
        )
        query = sa.select(sa.func.count(), *(sa.func.count(sa.case((one, 1))) for one in conditions))
        return Counts(*self._table.fetch(query.where(where.candidate(selection)))[0])

    def due(self, selection: Selection, counts: Counts | None = None) -> Iterator[Channel]:
        """Yield the due channels, each with its `due_reason`; those that are known to fail come last.

        `counts` says how many there are, so that the table is not searched for more.
        """
        why = self._where.due_reason(selection).label("due_reason")
        for which, most in self._due_parts(selection, counts):
            yield from self._pages.by_urgency(*which, labels=[why], most=most)

    def due_ids(
        self, selection: Selection, counts: Counts | None = None, but: Container[ChannelId] = ()
    ) -> Iterator[ChannelId]:
        """Yield the ids of the due channels in the same order, without those in `but`."""
        for which, most in self._due_parts(selection, counts):
            rows = self._pages.rows_by_urgency(*which, most=most, but=but)
            yield from (plain_id(row.id) for row in rows)

    def _due_parts(
        self, selection: Selection, counts: Counts | None
    ) -> Iterable[tuple[tuple[sa.ColumnElement[bool], ...], int | None]]:
        """Return the conditions of the due channels, and how many there are, in two parts.

        First those not known to fail. As two queries, because an index gives the order of urgency of each.
        """
        why, is_known = self._where.due_reason(selection), self._where.known_to_fail()
        # One condition each: with more, SQLite expects few rows and sorts them instead of using the index.
        parts = sa.case((is_known, sa.null()), else_=why), sa.case((is_known, why), else_=sa.null())
        # What is read late may have more rows by then: the application stores tokens, runs fail. So the first
        # part is known to end if it is one page, and of the second only none is certain.
        fresh = counts.due - counts.known if counts else None
        numbers = (fresh if self._pages.is_one(fresh) else None, 0 if counts and not counts.known else None)
        candidate = self._where.candidate(selection)
        return [((candidate, part.is_not(None)), most) for part, most in zip(parts, numbers, strict=True)]

    def waiting(self, selection: Selection) -> Iterator[Channel]:
        """Yield the channels that only wait for a reconnect."""
        return self._pages.by_urgency(self._where.candidate(selection), self._where.waiting(selection))

    def to_remind_of(self, now: datetime) -> Reminders:
        """Return the channels that are down, have no known expiry, and of which people are to be reminded.

        Empty if our role may not read the audit log.
        """
        c, audit = self._table.c, self._table.audit
        since = first_rejection(audit, audit.c.channel_id == sa.cast(c.id, sa.Text()))
        query = sa.select(c.id, c.token_alerted_at, since.scalar_subquery().label("since")).where(
            self._where.candidate(), self._where.to_remind_of()
        )
        try:
            rows = self._table.fetch(query)
        except StatementRefused:
            return {}
        return {
            plain_id(row.id): row.token_alerted_at
            for row in rows
            if row.since and is_reminder_due(row.token_alerted_at, row.since, now)
        }

    def down_since(self, channels: Iterable[Channel]) -> Mapping[str, datetime]:
        """Return since when Meta is known to reject the tokens of some channels, by their ids as text."""
        return down_since(self._table, [one.id for one in channels])

    def to_tell_of(self, soon: datetime, reminders: Collection[ChannelId] = ()) -> Iterator[Channel]:
        """Yield the channels that people may have to be told of, the most urgent first."""
        return self._pages.by_urgency(self._where.candidate(), self._where.to_tell_of(soon, reminders))

    def needing_attention(self, now: datetime, soon: datetime) -> Iterator[Channel]:
        """Yield the candidates in `warning` and those whose token has expired, each with its `state`.

        By `Section`: those that have stopped working come first.
        """
        selection = Selection(now, soon, now)
        which = (self._where.may_need_attention(selection), self._where.needs_attention(selection))
        section = self._where.section(selection)
        for number in Section:
            yield from self._by_urgency_with_state(selection, *which, section == number)

    def not_needing_attention(self, now: datetime, soon: datetime, limit: int) -> Iterator[Channel]:
        """Yield up to `limit` of the others, each with its `state`; those that never expire come last.

        As two queries, because an index gives the order of urgency of each.
        """
        selection = Selection(now, soon, now)
        needs_none = sa.not_(self._where.needs_attention(selection))
        status = sa.func.coalesce(self._table.c.token_status, "")
        for part in (status != Status.NEVER_EXPIRES, status == Status.NEVER_EXPIRES):
            for channel in self._by_urgency_with_state(selection, needs_none, part, most=limit):
                limit -= 1
                yield channel

    def _by_urgency_with_state(
        self, selection: Selection, *which: sa.ColumnElement[bool], most: int | None = None
    ) -> Iterator[Channel]:
        """Yield the candidates for which all of the conditions hold, each with its `state`."""
        state = self._where.state(selection).label("state")
        return self._pages.by_urgency(self._where.candidate(), *which, labels=[state], most=most)

    # The whole table

    def other_types(self) -> dict[str, int]:
        """Return the other types of rows with a token, and how many rows of each, if there is no row of ours.

        If there is one, return none.
        """
        type_ = self._table.c.type
        ours = sa.select(sa.literal(1)).where(type_ == self._table.mapping.type).exists()
        count = sa.func.count()
        query = sa.select(sa.cast(type_, sa.Text()), count).where(
            self._where.of_another_type(), type_.is_not(None), sa.not_(ours)
        )
        rows = self._table.fetch(query.group_by(type_).order_by(count.desc(), type_).limit(MOST_TYPES))
        return {str(name): number for name, number in rows}

    def hides_rows(self) -> bool:
        """Return whether row-level security hides rows that the statistics of the server know of."""
        return self._table.run(lambda c, _: hides_rows(c, self._table.channel))

    def missing_permissions(self) -> list[str]:
        """Return what the database role may not do although a run needs it."""
        tables = Tables(self._table.channel, self._table.audit)
        return self._table.run(lambda c, _: missing_permissions(c, tables))

    def describe(self) -> str:
        """Return where the channels are, for people."""
        kind = "SQLite" if self._table.is_sqlite else "PostgreSQL"
        return f"{self._table.mapping.full_name} in {kind}"

    def now(self) -> datetime:
        """Return what time it is by the database's clock."""
        clock = self._where.clock(self._table.c.token_lease_until)
        found: datetime = self._table.fetch(sa.select(clock))[0][0]
        return found

    def totals(self, now: datetime, soon: datetime) -> ChannelTotals:
        """Count all candidates by state and by day of expiry. `soon` is `now` and the window."""
        return totals(self._table, now, soon)
