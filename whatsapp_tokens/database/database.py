"""Every statement: looking, claiming, writing over what was read, and the audit rows.

Each method is one short transaction, so nothing is locked while Meta is being called, and PgBouncer in
transaction mode works. Whoever shares the table may write at any time: a `PendingUpdate` lands only where the
row still holds the ciphertext that was read (compare-and-swap), together with its audit rows, or not at
all. A claim is a row's `token_lease_until`, taken from the database's clock; its exact value says whose
it is.

Every method may raise `BadDatabase` (it answers, but refuses) or `DatabaseLost`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from models import Channel, Counts, Cursor, PendingUpdate, Status, as_channel, fingerprint, is_same, plain_id
from whatsapp_tokens.database.connection import BadDatabase, Connection, DatabaseUrl
from whatsapp_tokens.database.permissions import count_on, missing_permissions
from whatsapp_tokens.database.predicates import Conditions
from whatsapp_tokens.database.schema import TableMap, Tables, comparable, reflect
from whatsapp_tokens.policy import Selection
from whatsapp_tokens.results import HORIZON_DAYS, ChannelId, ChannelTotals, State

logger = logging.getLogger(__name__)

T = TypeVar("T")

PAGE_SIZE: Final = 2000
UNMOVED: Final = "the database leaves the row as it is, and does not say why (a policy? a trigger?)"
LOCKED_TABLE: Final = 3  # locked rows one after the other, before the next are not tried any more
LONGEST_LEASE: Final = timedelta(days=2)  # twice what LEASE_SECONDS may be


class WriteResult(StrEnum):
    """What became of a `PendingUpdate`."""

    WRITTEN = "written"
    REPLACED = "replaced"  # the row holds another ciphertext by now, or is gone
    REFUSED = "refused"  # the database did not accept it
    LOCKED = "locked"  # somebody else is at work on the row, and was waited for; still claimed
    TAKEN = "taken"  # our claim ran out, and another run may have written what it found


class Database:
    """One connection, used by one thread. It remembers which rows this run has claimed."""

    def __init__(self, target: DatabaseUrl, mapping: TableMap, *, lease: timedelta) -> None:
        """Connect, and compare the tables with what the program needs.

        Raises `BadDatabase` or `DatabaseLost`.
        """
        self._mapping = mapping = replace(mapping, schema=mapping.schema or target.schema)
        self._lease = lease
        self._leases: dict[ChannelId, datetime] = {}
        self._connection = Connection(target)
        try:
            self._channel, self._audit = self._connection.run(lambda c, _: reflect(c, mapping))
        except BaseException:
            self._connection.close()
            raise
        self._where = Conditions(self._channel, mapping.type, is_sqlite=self._connection.is_sqlite)
        c = self._channel.c
        name, phone = (c[key] if key in c else sa.null().label(key) for key in ("name", "phone_number"))
        self._columns = (
            c.id, name, c.wa_token_encrypted, c.token_expires_at, c.last_token_refresh_at,
            c.token_status, c.token_error, c.token_fingerprint, c.token_alerted_at, phone,
        )  # fmt: skip

    # The seams along which this class is to be cut.

    @property
    def queries(self) -> Database:
        """What only reads."""
        return self

    @property
    def claims(self) -> Database:
        """Claims and leases."""
        return self

    @property
    def writer(self) -> Database:
        """What writes updates and audit rows."""
        return self

    @property
    def lease(self) -> float:
        """Seconds for which a claim holds."""
        return self._lease.total_seconds()

    def close(self) -> None:
        """Close the connection. Claims in hand are not given back: `release` them first."""
        self._connection.close()

    def find_id(self, text: str) -> ChannelId | None:
        """The id that a user wrote as `text`, as it is in the table, or None."""
        column = self._channel.c.id
        value: ChannelId = text
        if isinstance(column.type, sa.Integer):
            if not re.fullmatch(r"-?[0-9]{1,19}", text):
                return None
            value = int(text)
        try:
            found = self._connection.run(
                lambda c, _: c.execute(sa.select(column).where(column == value)).scalar_one_or_none()
            )
        except BadDatabase:  # not even the shape of an id of this table
            return None
        return None if found is None else plain_id(found)

    def new_id(self, text: str) -> ChannelId | None:
        """What a user wrote as `text`, as the id of a row that is not there yet; None if it cannot be one."""
        if not isinstance(self._channel.c.id.type, sa.Integer):
            return text
        return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None

    def get(self, id_: ChannelId) -> Channel | None:
        """The channel with this id, with or without a token; None if it is not of the type to look for."""
        c = self._channel.c
        query = sa.select(*self._columns).where(c.id == id_, c.type == self._mapping.type)
        row = self._connection.run(lambda conn, _: conn.execute(query).one_or_none())
        return None if row is None else as_channel(row)

    def candidates(self, after: ChannelId | None = None, limit: int = PAGE_SIZE) -> list[Channel]:
        """The next page of all channels with a token, by id."""
        return self._by_id(self._where.candidate(), after, limit)

    def inactive(self, after: ChannelId | None = None, limit: int = PAGE_SIZE) -> list[Channel]:
        """The next page of those that have a token and are inactive, by id: no run touches them."""
        return self._by_id(self._where.inactive(), after, limit)

    def of_other_types(self, limit: int = PAGE_SIZE) -> list[Channel]:
        """Some rows with tokens that are not for us, but of the same application."""
        return self._by_id(self._where.of_another_type(), None, limit)

    def missing_permissions(self) -> list[str]:
        """What the role that we are may not do although a run needs it."""
        tables = Tables(self._channel, self._audit)
        return self._connection.run(lambda c, _: missing_permissions(c, tables))

    def describe(self) -> str:
        """Where the channels are, for people."""
        return f"{self._mapping.full_name} in {'SQLite' if self._connection.is_sqlite else 'PostgreSQL'}"

    def count(self, look: Selection) -> Counts:
        """Count candidates, due and waiting in one pass."""
        query = sa.select(
            sa.func.count(),
            sa.func.count(sa.case((self._where.due(look), 1))),
            sa.func.count(sa.case((self._where.waiting(look), 1))),
        ).where(self._where.candidate(look))
        return Counts(*self._connection.run(lambda c, _: tuple(c.execute(query).one())))

    def due(self, look: Selection, after: Cursor | None = None, limit: int = PAGE_SIZE) -> list[Channel]:
        """The next page of due channels, the most urgent first. Claims nothing."""
        return self._page(look, self._where.due(look), after, limit)

    def waiting(self, look: Selection, after: Cursor | None = None, limit: int = PAGE_SIZE) -> list[Channel]:
        """The next page of channels that only wait for a reconnect."""
        return self._page(look, self._where.waiting(look), after, limit)

    def due_ids(self, look: Selection, after: Cursor | None = None, limit: int = PAGE_SIZE) -> list[Cursor]:
        """The next page of due channels, as places in the order only: they are claimed a few at a time."""
        c = self._channel.c
        query = self._ordered(sa.select(c.token_expires_at, c.id), after, limit)
        query = query.where(self._where.candidate(look), self._where.due(look))
        return self._connection.run(
            lambda conn, _: [Cursor(at, plain_id(id_)) for at, id_ in conn.execute(query)]
        )

    def others(self, look: Selection, limit: int) -> list[Channel]:
        """Up to `limit` candidates, of the whole table and in no order, that this look does not call due."""
        whole_table = replace(look, ids=None)
        query = sa.select(*self._columns).where(
            self._where.candidate(whole_table),
            sa.not_(sa.and_(self._where.asked_for(look), self._where.due(look))),
        )
        return self._channels(query.limit(limit))

    def claimed_elsewhere(self, ids: Iterable[ChannelId]) -> list[Channel]:
        """Those of the `ids` that another run holds at this moment."""
        c, mine = self._channel.c, self._leases
        is_odd = comparable(c.token_lease_until) > self._where.clock(c.token_lease_until, LONGEST_LEASE)
        query = sa.select(*self._columns, is_odd.label("is_odd")).where(
            c.id.in_([id_ for id_ in ids if id_ not in mine]), sa.not_(self._where.free())
        )
        rows = self._connection.run(_fetch(query))
        if odd := next((row for row in rows if row.is_odd), None):  # it stays aside until somebody ends it
            logger.warning(
                "channel %s is claimed for longer than any run claims it: set its %s to null",
                plain_id(odd.id),
                c.token_lease_until.name,
            )
        return [as_channel(row) for row in rows]

    def claim(self, look: Selection, ids: Iterable[ChannelId], *, patient: bool = False) -> list[Channel]:
        """Take those of the `ids` that are still due and free; the most urgent first.

        A row that somebody else has locked is passed over, or (`patient`) waited for a moment.
        """
        is_due = sa.and_(self._where.candidate(look), self._where.due(look))
        return self._claim(is_due, ids, patient=patient)

    def passed_over(self, look: Selection, ids: Iterable[ChannelId]) -> list[Channel]:
        """Those of the `ids` that are still due and free, although they could not be claimed."""
        query = sa.select(*self._columns).where(
            self._channel.c.id.in_(list(ids)),
            self._where.candidate(look),
            self._where.due(look),
            self._where.free(),
        )
        return self._channels(query)

    def extend(self) -> None:
        """Prolong every claim in hand. One that ran out and was taken by another run stays theirs.

        A row that is locked, or refuses, keeps the lease that it has.
        """
        c = self._channel.c

        def prolong(ids: Sequence[ChannelId], lease: datetime) -> None:
            def try_it(connection: sa.Connection, attempt: int) -> Sequence[Any]:
                held = c.token_lease_until == lease
                if attempt > 1:
                    # The answer to an earlier try may have been lost. While the lease that we know of runs,
                    # nobody else can have claimed the row, so a later one is of that try.
                    until = comparable(sa.literal(lease, c.token_lease_until.type))
                    is_running = until > self._where.clock(c.token_lease_until)
                    held = sa.or_(held, sa.and_(comparable(c.token_lease_until) > until, is_running))
                statement = (
                    self._update({c.token_lease_until: self._lease_end()})
                    .where(c.id.in_(self._unlocked(c.id.in_(ids), held)))
                    .returning(c.id, c.token_lease_until)
                )
                return connection.execute(statement).all()

            for id_, until in self._connection.run(try_it, immediate=True):
                self._leases[plain_id(id_)] = until

        for lease in set(self._leases.values()):
            ids = [id_ for id_, held in self._leases.items() if held == lease]
            in_parts(ids, partial(prolong, lease=lease))

    def release(self, ids: Iterable[ChannelId]) -> None:
        """Give claims back, and write nothing else. A row that is locked, or refuses, keeps its lease."""
        c = self._channel.c
        held = {id_: self._leases.pop(id_) for id_ in list(ids) if id_ in self._leases}

        def give_back(ids: Sequence[ChannelId], lease: datetime) -> None:
            statement = self._update({c.token_lease_until: None}).where(
                c.id.in_(self._unlocked(c.id.in_(ids), c.token_lease_until == lease))
            )
            self._connection.run(_execute(statement), immediate=True)

        for lease in set(held.values()):
            those = [id_ for id_ in held if held[id_] == lease]
            for id_, words in in_parts(those, partial(give_back, lease=lease)).items():
                logger.warning("channel %s stays claimed until its lease ends: %s", id_, words)

    def release_all(self) -> None:
        """Give back whatever is still claimed."""
        self.release(list(self._leases))

    def write(self, changes: Sequence[PendingUpdate]) -> list[tuple[WriteResult, str]]:
        """Write changes in one transaction, or one by one where the database refuses them together.

        Gives for each, in order, what became of it and, where it was refused, the database's words.
        The claim of a change that was dealt with is over. Raises `DatabaseLost`.
        """

        def apply(connection: sa.Connection, attempt: int) -> list[WriteResult]:
            found = {}
            # In the order of the ids, as others who write several rows do: so nobody waits for each other.
            for place in sorted(range(len(changes)), key=lambda place: changes[place].channel.id):
                found[place] = self._apply(connection, changes[place], again=attempt > 1)
            return [found[place] for place in range(len(changes))]

        try:
            results = self._connection.run(apply, immediate=True)
        except BadDatabase as refused:
            if len(changes) > 1:
                return self._write_one_by_one(changes)
            if refused.is_lock:
                return [(WriteResult.LOCKED, str(refused))]
            self.release([changes[0].channel.id])
            return [(WriteResult.REFUSED, str(refused))]
        for change in changes:
            self._leases.pop(change.channel.id, None)
        return [(written, "") for written in results]

    def _write_one_by_one(self, changes: Sequence[PendingUpdate]) -> list[tuple[WriteResult, str]]:
        """What the database refused together. Where several in a row are locked, the whole table may be."""
        results: list[tuple[WriteResult, str]] = []
        for change in changes:
            last = results[-LOCKED_TABLE:]
            if len(last) == LOCKED_TABLE and all(written is WriteResult.LOCKED for written, _ in last):
                results.append(last[-1])
            else:
                results += self.write([change])
        return results

    def create(self, change: PendingUpdate) -> None:
        """Insert the row that `change` describes, with its audit rows."""

        def insert(connection: sa.Connection, attempt: int) -> None:
            if attempt == 1 or not self._has_landed(connection, change):
                self._insert(connection, change)

        self._connection.run(insert, immediate=True)

    def to_tell_of(
        self, soon: datetime, after: Cursor | None = None, limit: int = PAGE_SIZE
    ) -> list[Channel]:
        """The next page of those that people may have to be told of; the caller decides.

        They are in `warning` and nobody was told, or not since they came near their end (`soon` bounds
        that); or they are well again, and people only know of their trouble.
        """
        c = self._channel.c
        expires_at, alerted_at = comparable(c.token_expires_at), comparable(c.token_alerted_at)
        is_warning = sa.func.coalesce(c.token_status == Status.WARNING, sa.false())
        query = self._ordered(sa.select(*self._columns), after, limit).where(
            self._where.candidate(),
            sa.or_(
                sa.and_(is_warning, alerted_at.is_(None)),
                sa.and_(is_warning, expires_at <= soon, alerted_at < expires_at),
                sa.and_(sa.not_(is_warning), alerted_at.is_not(None)),
            ),
        )
        return self._channels(query)

    def claim_to_alert(self, ids: Iterable[ChannelId]) -> list[Channel]:
        """Take those of the `ids` that are still to be told of and free: one run alone shall tell of them."""
        c = self._channel.c
        is_news = sa.or_(c.token_status == Status.WARNING, c.token_alerted_at.is_not(None))
        claimed: list[Channel] = []
        in_parts(list(ids), lambda some: claimed.extend(self._claim(is_news, some)))
        return claimed

    def mark_alerted(self, ids: Iterable[ChannelId], at: datetime | None) -> None:
        """Remember when people were told of trouble with these channels, and give their claims back.

        None: there is no trouble any more, and people know.
        """
        c = self._channel.c
        ids = list(ids)

        def mark(ids: Sequence[ChannelId]) -> None:
            statement = self._update({c.token_alerted_at: at}).where(c.id.in_(ids))
            self._connection.run(_execute(statement), immediate=True)

        for id_, words in in_parts(ids, mark).items():
            logger.warning("that people were told of channel %s could not be noted: %s", id_, words)
        self.release(ids)

    def in_trouble(self, now: datetime, after: Cursor | None = None, limit: int = PAGE_SIZE) -> list[Channel]:
        """The next page of candidates in `warning`, or whose token has ended; the most urgent first."""
        query = self._ordered(sa.select(*self._columns), after, limit)
        return self._channels(query.where(self._where.candidate(), self._where.in_trouble(now)))

    def not_in_trouble(self, now: datetime, limit: int) -> list[Channel]:
        """Up to `limit` other candidates, the most urgent first, and last those that never expire."""
        status = sa.func.coalesce(self._channel.c.token_status, "")
        query: sa.Select[Any] = sa.select(*self._columns)
        query = query.where(self._where.candidate(), sa.not_(self._where.in_trouble(now)))
        query = self._ordered(query.order_by(status == Status.NEVER_EXPIRES), None, limit)
        return self._channels(query)

    def fleet(self, now: datetime, soon: datetime) -> ChannelTotals:
        """The totals of all candidates. `soon` is `now` and the window."""
        expires_at = comparable(self._channel.c.token_expires_at)
        state = self._where.state(Selection(now, soon, now)).label("state")
        states = sa.select(
            state, sa.func.count(), sa.func.min(expires_at, type_=self._channel.c.token_expires_at.type)
        )
        today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        kind: Any = expires_at.type
        is_zoned = not self._connection.is_sqlite and kind.timezone
        day = sa.func.date(sa.func.timezone("UTC", expires_at) if is_zoned else expires_at, type_=sa.Text())
        days = sa.select(sa.cast(day, sa.Text()), sa.func.count()).where(
            expires_at >= today, expires_at < today + timedelta(days=HORIZON_DAYS)
        )

        def look(connection: sa.Connection, _: int) -> ChannelTotals:
            found = connection.execute(states.where(self._where.candidate()).group_by(state)).all()
            ends = connection.execute(days.where(self._where.candidate()).group_by(day)).all()
            known = [end for name, _, end in found if end is not None and name != State.WAITING]
            return ChannelTotals(
                states={State(name): count for name, count, _ in found},
                soonest=min(known, default=None),
                ends={date.fromisoformat(text): count for text, count in ends},
            )

        return self._connection.run(look)

    # -- statements

    def _lease_end(self) -> sa.ColumnElement[Any]:
        return self._where.clock(self._channel.c.token_lease_until, self._lease)

    def _ordered(self, query: sa.Select[Any], after: Cursor | None, limit: int | None) -> sa.Select[Any]:
        """The order of urgency, from behind a place in it on."""
        id_, expires_at = self._channel.c.id, comparable(self._channel.c.token_expires_at)
        if after is not None and after.expires_at is None:
            query = query.where(sa.or_(expires_at.is_not(None), id_ > after.id))
        elif after is not None:
            later = sa.and_(expires_at == after.expires_at, id_ > after.id)
            # The first of these says nothing new, but lets an index begin there.
            query = query.where(expires_at >= after.expires_at, sa.or_(expires_at > after.expires_at, later))
        return query.order_by(expires_at.asc().nulls_first(), id_).limit(limit)

    def _page(
        self, look: Selection, which: sa.ColumnElement[bool], after: Cursor | None, limit: int
    ) -> list[Channel]:
        query = self._ordered(sa.select(*self._columns), after, limit).where(
            self._where.candidate(look), which
        )
        return self._channels(query)

    def _by_id(self, which: sa.ColumnElement[bool], after: ChannelId | None, limit: int) -> list[Channel]:
        id_ = self._channel.c.id
        query = sa.select(*self._columns).where(which).order_by(id_).limit(limit)
        return self._channels(query if after is None else query.where(id_ > after))

    def _channels(self, query: sa.Select[Any]) -> list[Channel]:
        """What a query of `_columns` finds."""
        return self._connection.run(lambda c, _: [as_channel(row) for row in c.execute(query)])

    def _update(self, values: Mapping[Any, Any]) -> sa.Update:
        """Every write of ours to the channel table begins here: `updated_at` is set if it is mapped."""
        statement = sa.update(self._channel).values(values)
        if (updated_at := self._channel.c.get("updated_at")) is not None:
            statement = statement.values({updated_at: self._where.clock(updated_at)})
        return statement

    def _claim(
        self, which: sa.ColumnElement[bool], ids: Iterable[ChannelId], *, patient: bool = False
    ) -> list[Channel]:
        c = self._channel.c
        statement = (
            self._update({c.token_lease_until: self._lease_end()})
            .where(c.id.in_(self._unlocked(c.id.in_(list(ids)), which, self._where.free(), patient=patient)))
            .returning(*self._columns, c.token_lease_until, self._is_fresh().label("is_ours"))
        )
        # A trigger may have left a row as it was.
        rows = [row for row in self._connection.run(_fetch(statement), immediate=True) if row.is_ours]
        self._leases.update({plain_id(row.id): row.token_lease_until for row in rows})
        beginning = datetime.min.replace(tzinfo=UTC)
        return sorted(
            (as_channel(row) for row in rows), key=lambda row: (row.expires_at or beginning, row.id)
        )

    def _is_fresh(self) -> sa.ColumnElement[bool]:
        """Whether a row's lease has just begun, whatever fraction of a second its column can hold."""
        lease = self._channel.c.token_lease_until
        begun = comparable(lease) > self._where.clock(lease, self._lease - timedelta(seconds=1))
        return sa.func.coalesce(begun, sa.false(), type_=sa.Boolean())

    def _unlocked(self, *which: sa.ColumnElement[bool], patient: bool = False) -> sa.Select[Any]:
        """The ids of rows that nobody else has locked, locked for us; for the others nobody waits."""
        id_ = self._channel.c.id
        # As a CTE, because the planner might otherwise run a locking sub-select more than once.
        rows = sa.select(id_).where(*which).with_for_update(skip_locked=not patient, key_share=True)
        return sa.select(rows.cte("unlocked").c.id)

    def _apply(self, connection: sa.Connection, change: PendingUpdate, *, again: bool) -> WriteResult:
        """Compare-and-swap one row, with its audit rows. `again` after an answer that may have been lost.

        Raises `BadDatabase` if the row does not hold afterwards what was written: triggers can do that.
        """
        c = self._channel.c
        id_ = change.channel.id
        if again and self._has_landed(connection, change):
            return WriteResult.WRITTEN
        values = self._values(change)
        if change.ciphertext == change.channel.ciphertext:
            del values[c.wa_token_encrypted]
        statement = self._update(values | self._give_back(id_))
        unchanged = sa.and_(c.id == id_, self._where.holds(change.channel.ciphertext))
        is_ours: sa.ColumnElement[bool] = sa.true()
        if change.ciphertext == change.channel.ciphertext and id_ in self._leases:
            # Nothing new to save: then whoever holds the claim knows better.
            holds = c.token_lease_until == self._leases[id_]
            is_ours = sa.func.coalesce(holds, sa.false(), type_=sa.Boolean())
        written = statement.where(unchanged, is_ours).returning(c.wa_token_encrypted, c.token_status)
        kept = connection.execute(written).one_or_none()
        if kept is None:
            if self._has_landed(connection, change):
                return WriteResult.WRITTEN
            if connection.execute(sa.select(c.id).where(unchanged, sa.not_(is_ours))).first():
                return WriteResult.TAKEN
            if connection.execute(sa.select(c.id).where(unchanged)).first() is None:
                if lost := self._give_back(id_):
                    connection.execute(self._update(lost).where(c.id == id_))
                return WriteResult.REPLACED
        # What a trigger may have made of it shows only in what comes back; CHAR columns pad.
        if kept is None or not (is_same(kept[0], change.ciphertext) and is_same(kept[1], change.status)):
            raise BadDatabase(UNMOVED)
        self._log(connection, change)
        return WriteResult.WRITTEN

    def _insert(self, connection: sa.Connection, change: PendingUpdate) -> None:
        c = self._channel.c
        values = self._values(change) | {c.id: change.channel.id, c.type: self._mapping.type}
        for key, value in (("name", change.channel.name), ("active", True)):
            if key in c:
                values[c[key]] = value
        if "updated_at" in c:
            values[c.updated_at] = self._where.clock(c.updated_at)
        connection.execute(sa.insert(self._channel).values(values))
        self._log(connection, change)
        if not self._connection.is_sqlite and isinstance(change.channel.id, int):
            count_on(connection, self._channel, change.channel.id)

    def _values(self, change: PendingUpdate) -> dict[Any, Any]:
        """What a change puts into a row."""
        c = self._channel.c
        values: dict[Any, Any] = {
            c.wa_token_encrypted: change.ciphertext,
            c.token_expires_at: change.expires_at,
            c.last_token_refresh_at: change.refreshed_at,
            c.token_status: change.status,
            c.token_error: self._error_of(change),
            c.token_fingerprint: fingerprint(change.ciphertext),
        }
        return values | ({c.token_alerted_at: None} if change.clear_alert else {})

    def _error_of(self, change: PendingUpdate) -> str | None:
        return None if change.error is None else self._connection.fit(change.error)

    def _log(self, connection: sa.Connection, change: PendingUpdate) -> None:
        """The audit rows of a change."""
        for entry in change.audit:
            connection.execute(
                # Inline: to be given the new id back, the role would need SELECT.
                sa.insert(self._audit)
                .inline()
                .values(
                    at=change.at,
                    channel_id=str(change.channel.id),
                    event=entry.event,
                    message=self._connection.fit(entry.message),
                    reason=entry.reason,
                    expires_at_before=entry.expires_at_before,
                    expires_at_after=entry.expires_at_after,
                )
            )

    def _give_back(self, id_: ChannelId) -> dict[Any, Any]:
        """The assignment that ends our claim on a row, and leaves anybody else's."""
        lease = self._channel.c.token_lease_until
        if id_ not in self._leases:
            return {}
        return {lease: sa.case((lease == self._leases[id_], sa.null()), else_=lease)}

    def _has_landed(self, connection: sa.Connection, change: PendingUpdate) -> bool:
        """Whether the row holds what `change` writes and our claim is over: an earlier try got through."""
        c = self._channel.c
        row = connection.execute(
            sa.select(c.wa_token_encrypted, c.token_status, c.token_error, c.token_lease_until).where(
                c.id == change.channel.id
            )
        ).one_or_none()
        held = self._leases.get(change.channel.id)
        return row is not None and (
            tuple(row[:3]) == (change.ciphertext, change.status, self._error_of(change))
            and (held is None or row.token_lease_until != held)
        )


def in_parts(ids: Sequence[ChannelId], act: Callable[[Sequence[ChannelId]], object]) -> dict[ChannelId, str]:
    """Act on all of the `ids` at once, or on ever fewer where the database refuses one of them.

    Gives those that it refused by themselves, with its words: one bad row stops no other.
    """
    try:
        if ids:
            act(ids)
    except BadDatabase as refused:
        if len(ids) == 1:
            return {ids[0]: str(refused)}
        middle = len(ids) // 2
        return in_parts(ids[:middle], act) | in_parts(ids[middle:], act)
    return {}


def pages(look_up: Callable[[Cursor | None], list[Channel]]) -> Iterator[Channel]:
    """All rows of a look-up that gives a page at a time, in the order of urgency."""
    return _walk(look_up, lambda last: Cursor(last.expires_at, last.id))


def pages_by_id(look_up: Callable[[ChannelId | None], list[Channel]]) -> Iterator[Channel]:
    """The same of a look-up that goes by id."""
    return _walk(look_up, lambda last: last.id)


def _walk(look_up: Callable[[T | None], list[Channel]], place: Callable[[Channel], T]) -> Iterator[Channel]:
    after: T | None = None
    while page := look_up(after):
        yield from page
        if len(page) < PAGE_SIZE:  # one more look at the whole table would find nothing
            break
        after = place(page[-1])


def _fetch(statement: sa.Executable) -> Callable[[sa.Connection, int], Sequence[Any]]:
    return lambda connection, _attempt: connection.execute(statement).all()


def _execute(statement: sa.Executable) -> Callable[[sa.Connection, int], object]:
    return lambda connection, _attempt: connection.execute(statement)
