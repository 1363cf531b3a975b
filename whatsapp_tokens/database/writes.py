"""Writes: what a run found out, over the row that it read, together with the audit rows.

Whoever shares the table may write at any time. So a `PendingUpdate` is written only where the row still holds
the ciphertext that was read (compare-and-swap), together with its audit rows, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import MAXYEAR, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from models import RECOVERED, AuditEntry, Channel, Event, PendingUpdate, Status, as_channel, fingerprint
from whatsapp_tokens.database.channel_table import ChannelTable
from whatsapp_tokens.database.claims import Claims
from whatsapp_tokens.database.errors import LockTimeout, StatementRefused
from whatsapp_tokens.database.permissions import count_on
from whatsapp_tokens.facts import fact
from whatsapp_tokens.results import ChannelId

LOCKED: Final = fact("a transaction of the application keeps the row locked")
UNMOVED: Final = fact("the database leaves the row as it is, and does not say why (a policy? a trigger?)")
# A column may hold fewer digits of a second than were written.
ROUNDING: Final = timedelta(seconds=1)


class WriteResult(StrEnum):
    """What became of a `PendingUpdate`."""

    WRITTEN = "written"
    REPLACED = "replaced"  # the row holds another ciphertext by now, or none, or is gone
    REFUSED = "refused"  # the database did not accept it
    LOCKED = "locked"  # another session has locked the row; still claimed
    TAKEN = "taken"  # our claim ran out, and another run may have written what it found


class _Row(NamedTuple):
    """A row as it is when it is written."""

    channel: Channel
    lease: datetime | None


class Writer:
    """Writes updates and audit rows. A write also gives back the claim on its row."""

    def __init__(self, table: ChannelTable, claims: Claims) -> None:
        self._table = table
        self._where = table.where
        self._claims = claims

    def write(
        self, changes: Sequence[PendingUpdate], *, patient: bool = False
    ) -> list[tuple[WriteResult, str]]:
        """Write changes in one transaction, or one by one where the database refuses them together.

        A row that another session has locked is left alone, or (`patient`) waited for a moment. Return for
        each change, in order, what became of it and, if it was not written, why. Raise `DatabaseLost`.
        """
        try:
            results = self._table.run(
                lambda connection, attempt: self._write(
                    connection, changes, again=attempt > 1, patient=patient
                ),
                immediate=True,
            )
        except LockTimeout:
            if patient and len(changes) > 1:  # for one of the rows; the others need not wait
                return self.write(changes)
            return [(WriteResult.LOCKED, LOCKED)] * len(changes)  # the whole table is
        except StatementRefused as refused:
            if len(changes) > 1:
                return [self.write([change])[0] for change in changes]
            self._claims.release([changes[0].channel.id])
            return [(WriteResult.REFUSED, str(refused))]
        self._claims.forget(
            change.channel.id
            for change, (found, _) in zip(changes, results, strict=True)
            if found is not WriteResult.LOCKED
        )
        return results

    def create(self, change: PendingUpdate) -> None:
        """Insert the row that `change` describes, with its audit rows.

        Raise `StatementRefused` or `DatabaseLost`.
        """

        def insert(connection: sa.Connection, attempt: int) -> None:
            rows = self._rows(connection, [change.channel.id]) if attempt > 1 else {}
            row = rows.get(change.channel.id)
            if row is None or not self._has_landed(row, change):
                self._insert(connection, change)

        self._table.run(insert, immediate=True)

    def _write(
        self, connection: sa.Connection, changes: Sequence[PendingUpdate], *, again: bool, patient: bool
    ) -> list[tuple[WriteResult, str]]:
        """Write changes in the order of their ids, so that two who write the same rows cannot deadlock.

        `again` after an answer that may have been lost.
        """
        in_order = sorted(range(len(changes)), key=lambda place: changes[place].channel.id)
        ids = [changes[place].channel.id for place in in_order]
        rows = self._rows(connection, ids, skip_locked=not patient)
        locked = set(self._rows(connection, set(ids) - set(rows))) if len(rows) < len(set(ids)) else set()
        found: dict[int, tuple[WriteResult, str]] = {}
        for place in in_order:
            change = changes[place]
            id_ = change.channel.id
            if id_ in locked:
                found[place] = (WriteResult.LOCKED, LOCKED)
            else:
                found[place] = self._write_one(connection, change, rows.get(id_), again=again)
        return [found[place] for place in range(len(changes))]

    def _write_one(  # noqa: PLR0911 - guard clauses
        self, connection: sa.Connection, change: PendingUpdate, row: _Row | None, *, again: bool
    ) -> tuple[WriteResult, str]:
        """Write one change over its row, which is ours for this transaction; None if the row is gone."""
        if row is None:
            return WriteResult.REPLACED, self._where_gone(connection, change)
        if again and self._has_landed(row, change):
            return WriteResult.WRITTEN, ""
        is_new = change.ciphertext != change.channel.ciphertext
        lease = self._claims.lease_of(change.channel.id)
        is_overtaken = not is_new and lease is not None and row.lease != lease
        if row.channel.ciphertext != change.channel.ciphertext or is_overtaken:
            if self._has_landed(row, change):
                return WriteResult.WRITTEN, ""
            if row.channel.ciphertext == change.channel.ciphertext:
                # There is no new token to save, so the result of the run that holds the claim counts.
                return WriteResult.TAKEN, fact("the claim ran out, and another run has taken it over")
            if lease_end := self._give_back(change.channel.id):
                connection.execute(self._table.update(lease_end).where(self._table.c.id == change.channel.id))
            if not row.channel.ciphertext:
                return WriteResult.REPLACED, fact("the token was removed meanwhile")
            return WriteResult.REPLACED, fact("another token was stored meanwhile")
        self._update(connection, change, row.channel)
        self._log(connection, change, _recovery(change, row.channel))
        return WriteResult.WRITTEN, ""

    def _update(self, connection: sa.Connection, change: PendingUpdate, now_there: Channel) -> None:
        """Update a row. Raise `StatementRefused` if it does not hold that then: triggers can do that."""
        c, id_ = self._table.c, change.channel.id
        values = self._values(change)
        if change.ciphertext == change.channel.ciphertext:
            del values[c.wa_token_encrypted]
        told_at = change.channel.alerted_at
        # Not if another run has told people since. Where it was null, it may hold what is no date.
        if (change.clear_alert or told_at is None) and now_there.alerted_at == told_at:
            values[c.token_alerted_at] = None
        unchanged = sa.and_(c.id == id_, self._where.holds(change.channel.ciphertext))
        statement = self._table.update(values | self._give_back(id_)).where(unchanged)
        kept = connection.execute(statement.returning(*self._table.columns)).one_or_none()
        if kept is None:
            raise StatementRefused(UNMOVED)
        if lost := _lost_column(as_channel(kept), change, self._error_of(change)):
            raise StatementRefused(fact("a trigger of the database changes what is written", c[lost].name))

    def _insert(self, connection: sa.Connection, change: PendingUpdate) -> None:
        c = self._table.c
        values = self._values(change) | {c.id: change.channel.id, c.type: self._table.mapping.type}
        for key, value in (("name", change.channel.name), ("active", True)):
            if key in c:
                values[c[key]] = value
        if "updated_at" in c:
            values[c.updated_at] = self._where.clock(c.updated_at)
        connection.execute(sa.insert(self._table.channel).values(values))
        self._log(connection, change)
        if not self._table.is_sqlite and isinstance(change.channel.id, int):
            count_on(connection, self._table.channel, change.channel.id)

    def _values(self, change: PendingUpdate) -> dict[Any, Any]:
        """Return what a change puts into a row."""
        c = self._table.c
        return {
            c.wa_token_encrypted: change.ciphertext,
            c.token_expires_at: change.expires_at,
            c.last_token_refresh_at: change.refreshed_at,
            c.token_status: change.status,
            c.token_error: self._error_of(change),
            c.token_fingerprint: fingerprint(change.ciphertext),
        }

    def _error_of(self, change: PendingUpdate) -> str | None:
        return None if change.error is None else self._table.error_text(change.error)

    def _log(self, connection: sa.Connection, change: PendingUpdate, more: Iterable[AuditEntry] = ()) -> None:
        """Insert the audit rows of a change. Raise `StatementRefused` if one does not arrive."""
        for entry in (*change.audit, *more):
            values = {
                "at": change.at,
                "channel_id": str(change.channel.id),
                "event": entry.event,
                "message": self._table.fit(entry.message),
                "reason": entry.reason,
                "expires_at_before": entry.expires_at_before,
                "expires_at_after": entry.expires_at_after,
            }
            # Inline: to be given the new id back, the role would need SELECT.
            done = connection.execute(sa.insert(self._table.audit).inline().values(values))
            if done.rowcount == 0:
                raise StatementRefused(fact("the database does not keep the audit row"))

    # What is there

    def _rows(
        self, connection: sa.Connection, ids: Iterable[ChannelId], *, skip_locked: bool | None = None
    ) -> dict[ChannelId, _Row]:
        """Return the rows as they are now, and lock them unless `skip_locked` is None."""
        c = self._table.c
        query = self._table.select(c.id.in_(list(ids)), labels=[c.token_lease_until]).order_by(c.id)
        if skip_locked is not None:
            query = query.with_for_update(skip_locked=skip_locked, key_share=True)
        found = {}
        for row in connection.execute(query):
            channel = as_channel(row)
            found[channel.id] = _Row(channel, row.token_lease_until)
        return found

    def _where_gone(self, connection: sa.Connection, change: PendingUpdate) -> str:
        """Return what became of a row that is not there any more: its id may have been changed."""
        c = self._table.c
        is_it = self._where.holds(change.channel.ciphertext)
        elsewhere = sa.select(c.id).where(self._where.candidate(), is_it).limit(1)
        if (id_ := connection.execute(elsewhere).scalar()) is not None:
            return fact("the channel has another id now", id_)
        return fact("the channel was deleted meanwhile")

    def _give_back(self, id_: ChannelId) -> dict[Any, Any]:
        """Return the assignment that ends our claim on a row, and leaves any other run's."""
        column, lease = self._table.c.token_lease_until, self._claims.lease_of(id_)
        return {column: sa.case((column == lease, sa.null()), else_=column)} if lease else {}

    def _has_landed(self, row: _Row, change: PendingUpdate) -> bool:
        """Return whether an earlier attempt worked: the row holds what it wrote, and our claim is over."""
        held = self._claims.lease_of(change.channel.id)
        there = (row.channel.ciphertext, row.channel.status, row.channel.error)
        written = (change.ciphertext, change.status, self._error_of(change))
        return there == written and (held is None or row.lease != held)


def _recovery(change: PendingUpdate, now_there: Channel) -> list[AuditEntry]:
    """Return one more audit entry where another run has marked the channel since it was read."""
    was_known = Status.WARNING in {change.status, change.channel.status}
    if was_known or now_there.status != Status.WARNING:
        return []
    return [AuditEntry(Event.RECOVERED, RECOVERED, now_there.reason)]


def _lost_column(kept: Channel, change: PendingUpdate, error: str | None) -> str | None:
    """Return our name of a column that does not hold what was written, or None."""
    is_kept = {
        "wa_token_encrypted": kept.ciphertext == change.ciphertext,
        "token_status": kept.status == change.status,
        "token_error": kept.error == error,
        "token_fingerprint": kept.fingerprint == fingerprint(change.ciphertext),
        "token_expires_at": _is_same_time(kept.expires_at, change.expires_at),
        "last_token_refresh_at": _is_same_time(kept.refreshed_at, change.refreshed_at),
    }
    return next((name for name, is_there in is_kept.items() if not is_there), None)


def _is_same_time(one: datetime | None, other: datetime | None) -> bool:
    if one is None or other is None:
        return one is other
    return {one.year, other.year} == {MAXYEAR} or abs(one - other) <= ROUNDING  # infinity
