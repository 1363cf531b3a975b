"""Every query: the channels that are due, wait, or have to be told of, in the order of urgency.

Queries that may find many rows are iterators: they fetch a page at a time, each in a transaction of its own,
so memory does not grow with the table and no transaction stays open.

Every method may raise `StatementRefused` or `DatabaseLost`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from models import Channel, Status, Tables, plain_id
from whatsapp_tokens.column_types import comparable
from whatsapp_tokens.database.channel_table import ChannelTable
from whatsapp_tokens.database.errors import StatementRefused
from whatsapp_tokens.database.outages import down_since, first_rejection
from whatsapp_tokens.database.pages import Pages
from whatsapp_tokens.database.permissions import hides_rows, missing_permissions
from whatsapp_tokens.database.predicates import Section
from whatsapp_tokens.policy import Reminders, Selection, is_reminder_due
from whatsapp_tokens.results import HORIZON_DAYS, ChannelId, ChannelTotals, State

MOST_TYPES: Final = 20


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows of a `Selection` are candidates, due, and waiting for a reconnect."""

    candidates: int
    due: int
    waiting: int


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
        """Count candidates, due and waiting in one pass."""
        query = sa.select(
            sa.func.count(),
            sa.func.count(sa.case((self._where.due(selection), 1))),
            sa.func.count(sa.case((self._where.waiting(selection), 1))),
        ).where(self._where.candidate(selection))
        return Counts(*self._table.fetch(query)[0])

    def due(self, selection: Selection) -> Iterator[Channel]:
        """Yield the due channels, each with its `due_reason`; those that are known to fail come last."""
        why = self._where.due_reason(selection).label("due_reason")
        for which in self._due_parts(selection):
            yield from self._pages.by_urgency(*which, labels=[why])

    def due_ids(self, selection: Selection) -> Iterator[ChannelId]:
        """Yield the ids of the due channels, in the same order."""
        for which in self._due_parts(selection):
            yield from (plain_id(row.id) for row in self._pages.rows_by_urgency(*which))

    def _due_parts(self, selection: Selection) -> Iterable[tuple[sa.ColumnElement[bool], ...]]:
        """Return the conditions of the due channels in two parts: first those not known to fail.

        As two queries, because an index gives the order of urgency of each.
        """
        why, is_known = self._where.due_reason(selection), self._where.known_to_fail()
        # One condition each: with more, SQLite expects few rows and sorts them instead of using the index.
        parts = sa.case((is_known, sa.null()), else_=why), sa.case((is_known, why), else_=sa.null())
        return tuple((self._where.candidate(selection), part.is_not(None)) for part in parts)

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
            self._where.candidate(),
            self._where.rejected(),
            c.token_expires_at.is_(None),
            c.token_alerted_at.is_not(None),
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
        """Yield the channels that people may have to be told of; the caller decides.

        They are in `warning` and people were not told, or not since the expiry came near (`soon` bounds
        that), or are to be reminded; or they are well again, and people only know of the failure.
        """
        c = self._table.c
        expires_at, alerted_at = comparable(c.token_expires_at), comparable(c.token_alerted_at)
        is_warning = self._where.in_warning()
        return self._pages.by_urgency(
            self._where.candidate(),
            sa.or_(
                sa.and_(is_warning, alerted_at.is_(None)),
                sa.and_(is_warning, expires_at <= soon, alerted_at < expires_at),
                sa.and_(sa.not_(is_warning), alerted_at.is_not(None)),
                c.id.in_(list(reminders)),
            ),
        )

    def needing_attention(self, now: datetime, soon: datetime) -> Iterator[Channel]:
        """Yield the candidates in `warning` and those whose token has expired, each with its `state`.

        By `Section`: those that have stopped working come first.
        """
        selection = Selection(now, soon, now)
        state, section = self._where.state(selection), self._where.section(selection)
        which = (self._where.candidate(), self._where.needs_attention(selection))
        for number in Section:
            yield from self._pages.by_urgency(*which, section == number, labels=[state.label("state")])

    def not_needing_attention(self, now: datetime, soon: datetime, limit: int) -> list[Channel]:
        """Return up to `limit` of the others, each with its `state`; those that never expire come last."""
        selection = Selection(now, soon, now)
        query = self._table.select(
            self._where.candidate(),
            sa.not_(self._where.needs_attention(selection)),
            labels=[self._where.state(selection).label("state")],
        )
        status = sa.func.coalesce(self._table.c.token_status, "")
        query = query.order_by(status == Status.NEVER_EXPIRES, *self._pages.urgency)
        return self._table.channels(query.limit(limit))

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
        expires_at = comparable(self._table.c.token_expires_at)
        kind: Any = self._table.c.token_expires_at.type
        selection = Selection(now, soon, now)
        state = self._where.state(selection).label("state")
        section, is_other = self._where.section(selection), sa.not_(self._where.in_warning())
        shown = (Section.STOPPED, Section.LACKING)
        # Of those in `warning` only: a section takes a digest of the row.
        sections = [sa.func.count(sa.case((is_other, sa.null()), (section == one, 1))) for one in shown]
        soonest = sa.func.min(expires_at, type_=kind)
        states = sa.select(state, sa.func.count(), soonest, *sections).group_by(state)
        today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        is_zoned = not self._table.is_sqlite and kind.timezone
        day = sa.func.date(sa.func.timezone("UTC", expires_at) if is_zoned else expires_at, type_=sa.Text())
        days = sa.select(sa.cast(day, sa.Text()), sa.func.count()).group_by(day)
        days = days.where(expires_at >= today, expires_at < today + timedelta(days=HORIZON_DAYS))

        def count(connection: sa.Connection, _: int) -> ChannelTotals:
            found = connection.execute(states.where(self._where.candidate())).all()
            expiries = connection.execute(days.where(self._where.candidate())).all()
            dead = {State.WAITING, State.DOWN}
            known = [row[2] for row in found if row[2] is not None and row.state not in dead]
            stopped, lacking = next((row[3:] for row in found if row.state == State.WARNING), (0, 0))
            return ChannelTotals(
                states={State(row.state): row[1] for row in found},
                soonest=min(known, default=None),
                expired_warnings=stopped,
                lacking=lacking,
                expiries={date.fromisoformat(text): count for text, count in expiries},
            )

        return self._table.run(count)
