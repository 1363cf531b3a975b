"""The outcome of a channel, made from its row."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from models import Channel, Status
from whatsapp_tokens.database.writes import LOCKED
from whatsapp_tokens.results import Failed, Reason, Renewed, Skipped


def renewed(channel: Channel, expires_at: datetime | None, *, set_by_hand: bool = False) -> Renewed:
    """Return the outcome of a channel that holds a new token."""
    return Renewed(**about(channel, expires_at), recovered=has_recovered(channel), set_by_hand=set_by_hand)


def failed(
    channel: Channel, reason: Reason, detail: str, expires_at: datetime | None, *, is_news: bool = True
) -> Failed:
    """Return the outcome of a channel that failed."""
    return Failed(**about(channel, expires_at), reason=reason, detail=detail, is_news=is_news)


def skipped(
    channel: Channel, reason: Reason, detail: str, expires_at: datetime | None, *, recovered: bool = False
) -> Skipped:
    """Return the outcome of a channel that was not renewed and did not fail."""
    return Skipped(**about(channel, expires_at), reason=reason, detail=detail, recovered=recovered)


def left_locked(channel: Channel) -> Skipped:
    """Return the outcome of a channel whose row the application kept locked to the end."""
    reason = Reason.CLAIMED_ELSEWHERE
    return Skipped(**about(channel, channel.expires_at), reason=reason, detail=LOCKED, is_locked=True)


def about(channel: Channel, expires_at: datetime | None) -> dict[str, Any]:
    """Return what every outcome says of a channel, whose token now expires at `expires_at`."""
    return {
        "id": channel.id,
        "name": channel.name,
        "phone_number": channel.phone_number,
        "expires_at": expires_at,
        "expires_at_before": channel.expires_at,
    }


def has_recovered(channel: Channel) -> bool:
    """Return whether a success is news: people had been told that this channel failed."""
    return channel.status == Status.WARNING and channel.alerted_at is not None
