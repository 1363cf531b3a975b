"""What is known of one channel: its row, why it is due or not, and its audit log. Only reads.

Every method may raise `StatementRefused` or `DatabaseLost`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from models import Channel, Event, as_channel, as_text
from whatsapp_tokens.database.channel_table import ChannelTable
from whatsapp_tokens.database.pages import Pages
from whatsapp_tokens.policy import Renewal, Selection
from whatsapp_tokens.results import ChannelId


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A row as it is at this moment: the channel with its `due_reason` and `state`, and what is done with it.

    `claimed_until` is the end of a run's claim by the database's clock; None if no run has claimed the row.
    """

    channel: Channel
    type: str | None
    renewal: Renewal
    claimed_until: datetime | None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One row of the audit log, as it was read."""

    at: datetime | None
    event: str
    message: str
    reason: str | None
    expires_at_before: datetime | None
    expires_at_after: datetime | None


class History:
    """One channel at a time, of whichever type, active or not."""

    def __init__(self, table: ChannelTable) -> None:
        self._table = table
        self._pages = Pages(table)

    def find(self, id_: ChannelId, selection: Selection) -> Snapshot | None:
        """Return the row with this id, or None. `selection` has the time and the rules of a run."""
        c, where = self._table.c, self._table.where
        is_ours = sa.func.coalesce(c.type == self._table.mapping.type, sa.false(), type_=sa.Boolean())
        labels: dict[str, sa.ColumnElement[Any]] = {
            "type_": sa.cast(c.type, sa.Text()),
            "due_reason": where.due_reason(selection),
            "state": where.state(selection),
            "is_waiting": where.waiting(selection),
            "is_candidate": where.candidate(),
            "is_inactive": where.inactive(),
            "is_ours": is_ours,
            "is_free": where.free(),
        }
        columns = [*(column.label(name) for name, column in labels.items()), c.token_lease_until]
        found = self._table.fetch(self._table.select(c.id == id_, labels=columns))
        if not found:
            return None
        row = found[0]
        claimed_until = None if row.is_free else row.token_lease_until
        return Snapshot(as_channel(row), as_text(row.type_), _renewal(row), claimed_until)

    def written_ids(self, text: str) -> tuple[str, ...]:
        """Return how the audit log may have written the id that a user wrote as `text`."""
        kind = self._table.c.id.type
        if any("\ud800" <= character <= "\udfff" for character in text):
            return ()  # bytes that are no text: no id is written so
        if isinstance(kind, sa.Integer) and re.fullmatch(r"-?[0-9]+", text):
            return (str(int(text)),)
        return (text, text.lower()) if isinstance(kind, sa.Uuid) else (text,)

    def count(self, id_: str) -> int:
        """Count the audit rows of a channel."""
        audit = self._table.audit.c
        query = sa.select(sa.func.count()).where(audit.channel_id == id_)
        return int(self._table.fetch(query)[0][0])

    def audit_rows(self, id_: str) -> Iterator[AuditRow]:
        """Yield the audit rows of a channel, newest first, a page at a time."""
        audit = self._table.audit.c
        written = sa.cast(audit.at, sa.Text()).label("written")  # the exact value, of any year
        query = sa.select(*audit, written).where(audit.channel_id == id_)

        def behind(last: Any) -> sa.ColumnElement[bool]:
            at: Any = sa.literal(last.written, sa.Text())
            at = at if self._table.is_sqlite else sa.cast(at, audit.at.type)
            plain = sa.type_coerce(audit.at, sa.Text()) if self._table.is_sqlite else audit.at
            # The first condition says nothing new, but lets the index begin there.
            return sa.and_(plain <= at, sa.or_(plain < at, audit.id < last.id))

        for row in self._pages.rows(query.order_by(audit.at.desc(), audit.id.desc()), behind):
            event, message = as_text(row.event) or "", as_text(row.message) or ""
            before, after = row.expires_at_before, row.expires_at_after
            yield AuditRow(row.at, event, message, as_text(row.reason), before, after)

    def failing_since(self, id_: str, reason: str) -> datetime | None:
        """Return when a failure began that has lasted since, by the audit log; None if it does not say."""
        audit = self._table.audit
        failed, other = audit.alias("failed").c, audit.alias("other").c
        is_other = sa.or_(other.event != Event.FAILED, sa.func.coalesce(other.reason, "") != reason)
        last_other = sa.select(sa.func.max(other.id)).where(other.channel_id == id_, is_other)
        query = sa.select(failed.at).where(
            failed.channel_id == id_,
            failed.event == Event.FAILED,
            failed.reason == reason,
            failed.id > sa.func.coalesce(last_other.scalar_subquery(), sa.literal(-1)),
        )
        found = self._table.fetch(query.order_by(failed.id).limit(1))
        return found[0][0] if found else None


def _renewal(row: Any) -> Renewal:
    """Return what a run does with a row."""
    if not row.is_ours:
        return Renewal.ANOTHER_TYPE
    if row.is_inactive:
        return Renewal.INACTIVE
    if not row.is_candidate:
        return Renewal.TOKENLESS
    if row.is_waiting:
        return Renewal.WAITING
    return Renewal.DUE if row.due_reason else Renewal.NOT_DUE
