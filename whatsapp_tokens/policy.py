"""Which channels are due: the rules of the clocks. Pure; `conditions.py` says the same in SQL.

A channel is due, waits for its customer to reconnect, or is well.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from models import MAY_PASS, RECONNECT_REQUIRED, Channel, ChannelId, Look, Status


class Why(StrEnum):
    """Why a channel is due, in words for a person."""

    ASKED_FOR = "asked for"
    REPLACED = "another token was stored since the last look"
    UNKNOWN_EXPIRY = "its expiry is not known yet"
    EXPIRED = "it has expired"
    ENDS_SOON = "it ends soon"
    OLD = "it is old"
    FAILED_BEFORE = "it failed last time"


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts as due and as sufficient."""

    refresh_after: timedelta
    refresh_before_expiry: timedelta
    token_lifetime: timedelta
    required_scopes: frozenset[str]
    force: bool = False
    audit: bool = False

    def look(self, now: datetime, ids: tuple[ChannelId, ...] | None = None) -> Look:
        """The rows that a run at `now` is about."""
        return Look(
            now=now,
            expires_before=now + self.refresh_before_expiry,
            refreshed_before=now - self.refresh_after,
            everything=self.force or self.audit,
            ids=ids,
        )


def is_waiting(channel: Channel, now: datetime) -> bool:
    """Whether the channel only waits for its customer to reconnect; nobody is asked about it any more."""
    return (
        channel.status == Status.WARNING
        and channel.reason == RECONNECT_REQUIRED
        and channel.fingerprint is not None
        and not channel.replaced
        and channel.expires_at is not None
        and channel.expires_at <= now
    )


def is_due(channel: Channel, look: Look) -> Why | None:  # noqa: PLR0911 - guard clauses
    """Why this candidate is due, or None. `Conditions.due` says the same in SQL; a test compares them."""
    if look.everything:
        return Why.ASKED_FOR
    if is_waiting(channel, look.now):
        return None
    if channel.replaced:
        return Why.REPLACED
    if channel.expires_at is None:
        if channel.status != Status.NEVER_EXPIRES:
            return Why.UNKNOWN_EXPIRY
    elif channel.expires_at <= look.now:
        return Why.EXPIRED
    elif channel.expires_at < look.expires_before:
        return Why.ENDS_SOON
    if channel.refreshed_at is not None and channel.refreshed_at < look.refreshed_before:
        return Why.OLD
    if channel.status == Status.WARNING and channel.reason in MAY_PASS:
        return Why.FAILED_BEFORE
    return None
