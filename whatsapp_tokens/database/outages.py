"""Since when channels are down: read from the audit log, which our role may or may not read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from models import Event
from whatsapp_tokens.database.channel_table import ChannelTable
from whatsapp_tokens.database.errors import StatementRefused
from whatsapp_tokens.results import ChannelId, Reason


def first_rejection(audit: sa.Table, *which: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """Return a query of when Meta was first found to reject a token, of the audit rows `which` holds for.

    Only since the last audit row of the channel that is no failure: what was before is another outage.
    """
    failed, later = audit.c, audit.alias("later").c
    has_ended = sa.exists().where(
        later.channel_id == failed.channel_id, later.event != Event.FAILED, later.at > failed.at
    )
    return sa.select(sa.func.min(failed.at, type_=failed.at.type).label("since")).where(
        failed.event == Event.FAILED,
        failed.reason == Reason.RECONNECT_REQUIRED,
        sa.not_(has_ended),
        *which,
    )


def down_since(table: ChannelTable, ids: Collection[ChannelId]) -> Mapping[str, datetime]:
    """Return since when Meta is known to reject the tokens of these channels, by their ids as text.

    A channel without an audit row is left out; all are, where our role may not read the audit log.
    """
    channel_id = table.audit.c.channel_id
    query = first_rejection(table.audit, channel_id.in_([str(one) for one in ids]))
    try:
        rows = table.fetch(query.add_columns(channel_id).group_by(channel_id)) if ids else []
    except StatementRefused:
        return {}
    return {row.channel_id: row.since for row in rows}
