"""Rows as the tests of the database want them, and what is to be written over them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from models import AuditEntry, Channel, Event, PendingUpdate, Status, fingerprint
from whatsapp_tokens.policy import Selection

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)
INSTANT = timedelta(milliseconds=1)
DEAD = "reconnect_required: Error validating access token"
TIMES = ("token_expires_at", "last_token_refresh_at", "token_alerted_at", "token_lease_until")
COLUMNS = """
    id {id} PRIMARY KEY, name TEXT, type TEXT, wa_token_encrypted TEXT, token_status TEXT, token_error TEXT,
    token_fingerprint TEXT
"""

# A channel about which there is nothing to do.
WELL = {
    "wa_token_encrypted": "stored",
    "token_expires_at": NOW + 40 * DAY,
    "last_token_refresh_at": NOW - 20 * DAY,
    "token_status": "ok",
    "token_fingerprint": fingerprint("stored"),
}
EXPIRES_SOON = {"token_expires_at": NOW + DAY}
WAITS = {"token_status": "warning", "token_error": DEAD, "token_expires_at": NOW - DAY}


def select(*, everything=False, ids=None):
    return Selection(NOW, NOW + 15 * DAY, NOW - 45 * DAY, everything=everything, ids=ids)


def ids_of(found):
    return [each.id if isinstance(each, Channel) else each for each in found]


def text_ids(rows):
    """The table of an application whose ids are texts and whose times have no zone, as Prisma makes them."""
    time = "TEXT" if rows.is_sqlite else "timestamp(3)"
    rows.recreate(COLUMNS.format(id="TEXT") + "".join(f", {name} {time}" for name in TIMES))


def retype(rows, column, kind):
    rows.run(f'ALTER TABLE "Channel" ALTER {column} TYPE {kind}')


def configure(rows, setting):
    """From now on, sessions have this setting of PostgreSQL, as with some hosts."""
    name = rows.engine.url.database
    rows.run(f'ALTER DATABASE "{name}" SET {setting}')


def set_zone(rows, zone):
    configure(rows, f"timezone = '{zone}'")


def leases(rows, ids):
    return [rows.get(id_)["token_lease_until"] for id_ in ids]


def renewal_of(channel, ciphertext="renewed", **changes):
    """A new token for a channel."""
    expires_at = NOW + 60 * DAY
    entry = AuditEntry(Event.REFRESHED, "Token refreshed automatically", None, channel.expires_at, expires_at)
    change = PendingUpdate(
        channel, NOW, ciphertext, Status.OK, expires_at=expires_at, refreshed_at=NOW, audit=(entry,)
    )
    return replace(change, **changes)


def warning_of(channel, **changes):
    """A mark on a channel whose token stays."""
    entry = AuditEntry(Event.FAILED, "Session has expired", "reconnect_required", channel.expires_at)
    change = PendingUpdate(
        channel,
        NOW,
        channel.ciphertext,
        Status.WARNING,
        expires_at=channel.expires_at,
        refreshed_at=channel.refreshed_at,
        error=DEAD,
        audit=(entry,),
    )
    return replace(change, **changes)
