"""Writes: what a run found out, over the row that it read, together with the audit rows.

Whoever shares the table may write at any time. So a `PendingUpdate` is written only where the row still holds
the ciphertext that was read (compare-and-swap), together with its audit rows, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from typing import Any, Final

import sqlalchemy as sa

from models import RECOVERED, AuditEntry, Event, PendingUpdate, Status, fingerprint, is_same
from whatsapp_tokens.database.channel_table import ChannelTable
from whatsapp_tokens.database.claims import Claims
from whatsapp_tokens.database.errors import LockTimeout, StatementRefused
from whatsapp_tokens.database.permissions import count_on
from whatsapp_tokens.facts import fact
from whatsapp_tokens.results import ChannelId

UNMOVED: Final = fact("the database leaves the row as it is, and does not say why (a policy? a trigger?)")
LOCKED_TABLE: Final = 3  # locked rows one after the other, before the next are not tried any more


class WriteResult(StrEnum):
    """What became of a `PendingUpdate`."""

    WRITTEN = "written"
    REPLACED = "replaced"  # the row holds another ciphertext by now
    EMPTIED = "emptied"  # the row holds no token any more
    GONE = "gone"  # no row has this id any more
    REFUSED = "refused"  # the database did not accept it
    LOCKED = "locked"  # another session has locked the row, and was waited for; still claimed
    TAKEN = "taken"  # our claim ran out, and another run may have written what it found


class Writer:
    """Writes updates and audit rows. A write also gives back the claim on its row."""

    def __init__(self, table: ChannelTable, claims: Claims) -> None:
        self._table = table
        self._where = table.where
        self._claims = claims

    def write(self, changes: Sequence[PendingUpdate]) -> list[tuple[WriteResult, str]]:
        """Write changes in one transaction, or one by one where the database refuses them together.

        Return for each, in order, what became of it and, where it was refused, the database's words.
        Raise `DatabaseLost`.
        """

        def apply(connection: sa.Connection, attempt: int) -> list[WriteResult]:
            found = {}
            # In the order of the ids, as others who write several rows do, so that none waits for the other.
            for place in sorted(range(len(changes)), key=lambda place: changes[place].channel.id):
                found[place] = self._apply(connection, changes[place], again=attempt > 1)
            return [found[place] for place in range(len(changes))]

        try:
            results = self._table.run(apply, immediate=True)
        except StatementRefused as refused:
            if len(changes) > 1:
                return self._write_one_by_one(changes)
            if isinstance(refused, LockTimeout):
                return [(WriteResult.LOCKED, str(refused))]
            self._claims.release([changes[0].channel.id])
            return [(WriteResult.REFUSED, str(refused))]
        self._claims.forget(change.channel.id for change in changes)
        return [(written, "") for written in results]

    def create(self, change: PendingUpdate) -> None:
        """Insert the row that `change` describes, with its audit rows.

        Raise `StatementRefused` or `DatabaseLost`.
        """

        def insert(connection: sa.Connection, attempt: int) -> None:
            if attempt == 1 or not self._has_landed(connection, change):
                self._insert(connection, change)

        self._table.run(insert, immediate=True)

    def _write_one_by_one(self, changes: Sequence[PendingUpdate]) -> list[tuple[WriteResult, str]]:
        """Write what was refused together. Where several in a row are locked, the whole table may be."""
        results: list[tuple[WriteResult, str]] = []
        for change in changes:
            last = results[-LOCKED_TABLE:]
            if len(last) == LOCKED_TABLE and all(written is WriteResult.LOCKED for written, _ in last):
                results.append(last[-1])
            else:
                results += self.write([change])
        return results

    def _apply(self, connection: sa.Connection, change: PendingUpdate, *, again: bool) -> WriteResult:
        """Compare-and-swap one row, with its audit rows. `again` after an answer that may have been lost.

        Raise `StatementRefused` if the row does not hold afterwards what was written: triggers can do that.
        """
        c = self._table.c
        id_ = change.channel.id
        if again and self._has_landed(connection, change):
            return WriteResult.WRITTEN
        is_new = change.ciphertext != change.channel.ciphertext
        values = self._values(change)
        if not is_new:
            del values[c.wa_token_encrypted]
        unchanged = sa.and_(c.id == id_, self._where.holds(change.channel.ciphertext))
        is_ours: sa.ColumnElement[bool] = sa.true()
        if not is_new and (lease := self._claims.lease_of(id_)):
            # There is no new token to save, so the run that holds the claim knows better.
            is_ours = sa.func.coalesce(c.token_lease_until == lease, sa.false(), type_=sa.Boolean())
        statement = self._table.update(values | self._give_back(id_)).where(unchanged, is_ours)
        kept = connection.execute(
            statement.returning(c.wa_token_encrypted, c.token_status, c.token_alerted_at)
        ).one_or_none()
        if kept is None:
            if self._has_landed(connection, change):
                return WriteResult.WRITTEN
            if connection.execute(sa.select(c.id).where(unchanged, sa.not_(is_ours))).first():
                return WriteResult.TAKEN
            if connection.execute(sa.select(c.id).where(unchanged)).first() is None:
                return self._give_up(connection, id_)
        # What a trigger made of it shows only in what comes back; CHAR columns pad with spaces.
        if kept is None or not (is_same(kept[0], change.ciphertext) and is_same(kept[1], change.status)):
            raise StatementRefused(UNMOVED)
        self._log(connection, change)
        is_news = kept.token_alerted_at is not None and change.channel.alerted_at is None
        if is_news and change.status != Status.WARNING:
            # Another run has marked the channel, and told people of it, since it was read.
            self._log(connection, replace(change, audit=(AuditEntry(Event.RECOVERED, RECOVERED),)))
        return WriteResult.WRITTEN

    def _give_up(self, connection: sa.Connection, id_: ChannelId) -> WriteResult:
        """Give back the claim on a row that no longer holds what was read. Return what happened to it."""
        c = self._table.c
        if lease_end := self._give_back(id_):
            connection.execute(self._table.update(lease_end).where(c.id == id_))
        row = connection.execute(sa.select(c.wa_token_encrypted).where(c.id == id_)).first()
        if row is None:
            return WriteResult.GONE
        return WriteResult.REPLACED if row.wa_token_encrypted else WriteResult.EMPTIED

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
        return None if change.error is None else self._table.fit(change.error)

    def _log(self, connection: sa.Connection, change: PendingUpdate) -> None:
        """Insert the audit rows of a change."""
        for entry in change.audit:
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
            connection.execute(sa.insert(self._table.audit).inline().values(values))

    def _give_back(self, id_: ChannelId) -> dict[Any, Any]:
        """Return the assignment that ends our claim on a row, and leaves any other run's."""
        column, lease = self._table.c.token_lease_until, self._claims.lease_of(id_)
        return {column: sa.case((column == lease, sa.null()), else_=column)} if lease else {}

    def _has_landed(self, connection: sa.Connection, change: PendingUpdate) -> bool:
        """Return whether an earlier attempt worked: the row holds what it wrote, and our claim is over."""
        c = self._table.c
        row = connection.execute(
            sa.select(c.wa_token_encrypted, c.token_status, c.token_error, c.token_lease_until).where(
                c.id == change.channel.id
            )
        ).one_or_none()
        held = self._claims.lease_of(change.channel.id)
        return row is not None and (
            tuple(row[:3]) == (change.ciphertext, change.status, self._error_of(change))
            and (held is None or row.token_lease_until != held)
        )
