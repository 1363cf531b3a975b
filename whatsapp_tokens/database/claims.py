"""Claims: which run works on which rows.

A claim is a time in the future in a row's `token_lease_until`, taken from the database's clock. Its exact
value says whose it is, and when it is past, the row is free again: a run that was killed blocks no other.

Every method may raise `StatementRefused` or `DatabaseLost`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from models import Channel, as_channel, plain_id
from whatsapp_tokens.column_types import comparable
from whatsapp_tokens.database.channel_table import ChannelTable
from whatsapp_tokens.database.errors import LockTimeout, StatementRefused
from whatsapp_tokens.database.predicates import never_null
from whatsapp_tokens.policy import Selection
from whatsapp_tokens.results import ChannelId

logger = logging.getLogger(__name__)

LONGEST_LEASE: Final = timedelta(days=2)  # twice what LEASE_SECONDS may be


class Claims:
    """The rows that this run has claimed, each with the exact time at which its lease expires."""

    def __init__(self, table: ChannelTable, lease: timedelta) -> None:
        self._table = table
        self._where = table.where
        self._duration = lease
        self._leases: dict[ChannelId, datetime] = {}

    @property
    def lease(self) -> float:
        """Seconds for which a claim holds."""
        return self._duration.total_seconds()

    def lease_of(self, id_: ChannelId) -> datetime | None:
        """Return the lease that this run has on a row, or None."""
        return self._leases.get(id_)

    def claim(
        self, selection: Selection, ids: Iterable[ChannelId], *, patient: bool = False
    ) -> list[Channel]:
        """Claim those of the `ids` that are still due and free, and return them, the most urgent first.

        A row that another session has locked is passed over, or (`patient`) waited for a moment.
        """
        is_due = sa.and_(self._where.candidate(selection), self._where.due(selection))
        return self._claim(is_due, ids, patient=patient)

    def claim_to_alert(self, ids: Iterable[ChannelId]) -> list[Channel]:
        """Claim those of the `ids` that are free and still to be told of, so that one run alone tells."""
        claimed: list[Channel] = []
        in_parts(list(ids), lambda some: claimed.extend(self._claim(self._where.may_be_news(), some)))
        return claimed

    def mark_alerted(self, ids: Iterable[ChannelId], at: datetime | None) -> None:
        """Store when people were told that these channels failed, and give the claims back.

        None means that they are well again and people know it. A row that this run no longer holds is left
        as it is: another run has claimed it, and tells.
        """
        c = self._table.c
        held = {id_: self._leases[id_] for id_ in ids if id_ in self._leases}

        def mark(ids: Sequence[ChannelId], lease: datetime) -> None:
            is_ours = sa.and_(c.id.in_(ids), c.token_lease_until == lease)
            self._table.execute(self._table.update({c.token_alerted_at: at}).where(is_ours))

        for lease, those in _by_lease(held).items():
            for id_, words in in_parts(those, partial(mark, lease=lease)).items():
                logger.warning("that people were told of channel %s could not be noted: %s", id_, words)
        self.release(held)

    def claimed_elsewhere(self, ids: Iterable[ChannelId]) -> list[Channel]:
        """Return those of the `ids` that another run holds at this moment."""
        c = self._table.c
        is_odd = comparable(c.token_lease_until) > self._where.clock(c.token_lease_until, LONGEST_LEASE)
        others = c.id.in_([id_ for id_ in ids if id_ not in self._leases])
        query = self._table.select(others, sa.not_(self._where.free()), labels=[is_odd.label("is_odd")])
        rows = self._table.fetch(query)
        if odd := next((row for row in rows if row.is_odd), None):  # it stays claimed until a person ends it
            logger.warning(
                "channel %s is claimed for longer than any run claims it: set its %s to null",
                plain_id(odd.id),
                c.token_lease_until.name,
            )
        return [as_channel(row) for row in rows]

    def still_due(self, selection: Selection, ids: Iterable[ChannelId]) -> list[Channel]:
        """Return those of the `ids` that are still due and free."""
        is_due = sa.and_(self._where.candidate(selection), self._where.due(selection))
        return self._table.channels(
            self._table.select(self._table.c.id.in_(list(ids)), is_due, self._where.free())
        )

    def extend(self) -> None:
        """Extend the lease of every claim. One that ran out and was taken by another run stays theirs.

        A row that is locked, or refuses, keeps the lease that it has.
        """
        c = self._table.c

        def extend(ids: Sequence[ChannelId], lease: datetime) -> None:
            def attempt(connection: sa.Connection, number: int) -> Sequence[Any]:
                held = c.token_lease_until == lease
                if number > 1:
                    # The answer to an earlier attempt may have been lost. While the lease that we know of
                    # runs, no other run can have claimed the row, so a later lease is that attempt's.
                    until = comparable(sa.literal(lease, c.token_lease_until.type))
                    is_running = until > self._where.clock(c.token_lease_until)
                    held = sa.or_(held, sa.and_(comparable(c.token_lease_until) > until, is_running))
                statement = (
                    self._table.update({c.token_lease_until: self._lease_end()})
                    .where(c.id.in_(self._unlocked(c.id.in_(ids), held)))
                    .returning(self._table.columns[0], c.token_lease_until)
                )
                return connection.execute(statement).all()

            for id_, until in self._table.run(attempt, immediate=True):
                self._leases[plain_id(id_)] = until

        with suppress(LockTimeout):
            for lease, ids in _by_lease(self._leases).items():
                in_parts(ids, partial(extend, lease=lease))

    def release(self, ids: Iterable[ChannelId]) -> None:
        """Give claims back, and write nothing else. A row that is locked, or refuses, keeps its lease."""
        c = self._table.c
        held = {id_: self._leases.pop(id_) for id_ in list(ids) if id_ in self._leases}

        def give_back(ids: Sequence[ChannelId], lease: datetime) -> None:
            rows = self._unlocked(c.id.in_(ids), c.token_lease_until == lease)
            self._table.execute(self._table.update({c.token_lease_until: None}).where(c.id.in_(rows)))

        try:
            for lease, those in _by_lease(held).items():
                for id_, words in in_parts(those, partial(give_back, lease=lease)).items():
                    logger.warning("channel %s stays claimed until its lease ends: %s", id_, words)
        except LockTimeout:
            logger.warning("channels stay claimed until their leases end, because the table is locked")

    def release_all(self) -> None:
        """Give back every claim."""
        self.release(list(self._leases))

    def forget(self, ids: Iterable[ChannelId]) -> None:
        """Note that these claims are over, because a write gave them back."""
        for id_ in ids:
            self._leases.pop(id_, None)

    # Statements

    def _claim(
        self, which: sa.ColumnElement[bool], ids: Iterable[ChannelId], *, patient: bool = False
    ) -> list[Channel]:
        c = self._table.c
        unlocked = self._unlocked(c.id.in_(list(ids)), which, self._where.free(), patient=patient)
        statement = (
            self._table.update({c.token_lease_until: self._lease_end()})
            .where(c.id.in_(unlocked))
            .returning(*self._table.columns, c.token_lease_until, self._is_fresh().label("is_ours"))
        )
        rows = self._table.fetch(statement, immediate=True, interruptible=True)
        found = [row for row in rows if row.is_ours]  # a trigger may have left a row as it was
        self._leases.update({plain_id(row.id): row.token_lease_until for row in found})
        beginning = datetime.min.replace(tzinfo=UTC)
        claimed = [as_channel(row) for row in found]
        return sorted(claimed, key=lambda channel: (channel.expires_at or beginning, channel.id))

    def _lease_end(self) -> sa.ColumnElement[Any]:
        return self._where.clock(self._table.c.token_lease_until, self._duration)

    def _is_fresh(self) -> sa.ColumnElement[bool]:
        """Whether a row's lease has just begun, however many digits of a second its column can hold."""
        lease = self._table.c.token_lease_until
        return never_null(comparable(lease) > self._where.clock(lease, self._duration - timedelta(seconds=1)))

    def _unlocked(self, *which: sa.ColumnElement[bool], patient: bool = False) -> sa.Select[Any]:
        """Lock rows that no other session has locked, and select their ids; the others are not waited for."""
        id_ = self._table.c.id
        # As a CTE, because the planner might otherwise run a locking sub-select more than once.
        rows = sa.select(id_).where(*which).with_for_update(skip_locked=not patient, key_share=True)
        return sa.select(rows.cte("unlocked").c.id)


def in_parts(ids: Sequence[ChannelId], act: Callable[[Sequence[ChannelId]], object]) -> dict[ChannelId, str]:
    """Act on all of the `ids` at once, or on ever fewer where the database refuses one of them.

    Return those that it refuses by themselves, with its words: one bad row stops no other. Raise
    `LockTimeout` if the whole table is locked.
    """
    try:
        if ids:
            act(ids)
    except LockTimeout:
        raise
    except StatementRefused as refused:
        if len(ids) == 1:
            return {ids[0]: str(refused)}
        middle = len(ids) // 2
        return in_parts(ids[:middle], act) | in_parts(ids[middle:], act)
    return {}


def _by_lease(leases: dict[ChannelId, datetime]) -> dict[datetime, list[ChannelId]]:
    """Return the ids of each lease: what was claimed together has the same."""
    found: dict[datetime, list[ChannelId]] = {}
    for id_, lease in leases.items():
        found.setdefault(lease, []).append(id_)
    return found
