"""Count all candidates for the page and the metrics: by state, by section, and by day of expiry."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from whatsapp_tokens.column_types import comparable
from whatsapp_tokens.database.channel_table import ChannelTable
from whatsapp_tokens.database.predicates import Section
from whatsapp_tokens.policy import Selection
from whatsapp_tokens.results import HORIZON_DAYS, ChannelTotals, State


def totals(table: ChannelTable, now: datetime, soon: datetime) -> ChannelTotals:
    """Count all candidates in one pass. `soon` is `now` and the window."""
    selection = Selection(now, soon, now)
    expires_at = comparable(table.c.token_expires_at)
    kind: Any = table.c.token_expires_at.type
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    is_listed = sa.and_(expires_at >= today, expires_at < today + timedelta(days=HORIZON_DAYS))
    is_zoned = not table.is_sqlite and kind.timezone
    day = sa.func.date(sa.func.timezone("UTC", expires_at) if is_zoned else expires_at, type_=sa.Text())
    state = table.where.state(selection).label("state")
    listed = sa.case((is_listed, day), else_=sa.null()).label("listed")
    section, is_other = table.where.section(selection), sa.not_(table.where.in_warning())
    # Of those in `warning` only: a section takes a digest of the row.
    sections = [
        sa.func.count(sa.case((is_other, sa.null()), (section == one, 1)))
        for one in (Section.STOPPED, Section.LACKING)
    ]
    figures = (sa.func.count(), sa.func.min(expires_at, type_=kind), *sections)
    query = sa.select(state, sa.cast(listed, sa.Text()), *figures).where(table.where.candidate())

    states, expiries = Counter[State](), Counter[date]()
    soonest: list[datetime] = []
    expired_warnings = lacking = 0
    for name, text, count, first, is_stopped, is_lacking in table.fetch(query.group_by(state, listed)):
        states[State(name)] += count
        if text is not None:
            expiries[date.fromisoformat(text)] += count
        if first is not None and name not in {State.WAITING, State.DOWN}:
            soonest.append(first)
        if name == State.WARNING:
            expired_warnings += is_stopped
            lacking += is_lacking
    return ChannelTotals(
        states=states,
        soonest=min(soonest, default=None),
        expired_warnings=expired_warnings,
        lacking=lacking,
        expiries=expiries,
    )
