"""The rules: which rows a run is about, what is good enough, and what people must be told. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

from models import Channel, Status
from whatsapp_tokens.results import ChannelId, Reason

# A channel that people know about comes up again when this much of its time is left.
STEPS: Final = tuple(timedelta(days=days) for days in (7, 3, 1, 0))
# And one that is down and has no known expiry, so long after it went down.
REMINDERS: Final = tuple(timedelta(days=days) for days in (7, 30))


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows a run is about. `ids` None means all; `everything` calls every candidate due."""

    now: datetime
    expires_before: datetime
    refreshed_before: datetime
    everything: bool = False
    ids: tuple[ChannelId, ...] | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """What counts as due and as sufficient."""

    refresh_after: timedelta
    refresh_before_expiry: timedelta
    token_lifetime: timedelta
    required_scopes: frozenset[str]
    force: bool = False
    audit: bool = False

    def select(self, now: datetime, ids: tuple[ChannelId, ...] | None = None) -> Selection:
        """Return the rows that a run at `now` is about."""
        return Selection(
            now=now,
            expires_before=now + self.refresh_before_expiry,
            refreshed_before=now - self.refresh_after,
            everything=self.force or self.audit,
            ids=ids,
        )


class Renewal(StrEnum):
    """What runs do with a row; the last three are no candidates."""

    DUE = "due"
    NOT_DUE = "not_due"
    WAITING = "waiting"  # for its customer to reconnect: Meta is not asked about it
    INACTIVE = "inactive"
    ANOTHER_TYPE = "another_type"
    TOKENLESS = "no_token"


def next_due(channel: Channel, policy: Policy) -> datetime | None:
    """Return when a channel that is not due becomes due by its clocks; None if it never does."""
    times = []
    with suppress(OverflowError):  # a row may hold infinity
        if channel.expires_at:
            times.append(channel.expires_at - policy.refresh_before_expiry)
        if channel.refreshed_at:
            times.append(channel.refreshed_at + policy.refresh_after)
    return min(times, default=None)


def is_rejected(channel: Channel) -> bool:
    """Return whether Meta said of the stored token that it no longer accepts it."""
    is_warning = channel.status == Status.WARNING
    return is_warning and channel.reason == Reason.RECONNECT_REQUIRED and not channel.replaced


def is_down(channel: Channel, now: datetime) -> bool:
    """Return whether the line has stopped working: its token is rejected, or has expired."""
    has_expired = channel.expires_at is not None and channel.expires_at <= now and not channel.replaced
    return is_rejected(channel) or has_expired


# Channels of which people are to be reminded although nothing has changed, and when they were told last.
Reminders: TypeAlias = Mapping[ChannelId, datetime]


def is_news(channel: Channel, now: datetime, reminders: Reminders) -> bool:
    """Return whether there is something to tell of a channel that was not told yet."""
    if is_well_again(channel):
        return True
    if channel.status != Status.WARNING:
        return False
    if channel.replaced:
        return False  # what is known describes a token that is gone
    if channel.id in reminders and reminders[channel.id] == channel.alerted_at:
        return True
    return must_tell(channel.alerted_at, channel.expires_at, now)


def must_tell(told_at: datetime | None, expires_at: datetime | None, now: datetime) -> bool:
    """Return whether people must be told of a failure: not told yet, or a step of days was crossed since."""
    if told_at is None:
        return True
    return expires_at is not None and any(expires_at - now <= step < expires_at - told_at for step in STEPS)


def is_reminder_due(told: datetime, down_since: datetime, now: datetime) -> bool:
    """Return whether people are to be reminded of a line that is down and whose token has no known expiry."""
    return any(told < down_since + after <= now for after in REMINDERS)


def is_well_again(channel: Channel) -> bool:
    """Return whether a channel is well again, and people know only of its failure."""
    return channel.status != Status.WARNING and channel.alerted_at is not None
