"""The rules: which channels are due, in which state they are, and of which people must be told. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from models import Channel, Status
from whatsapp_tokens.results import ChannelId, DueReason, Reason, State

RETRIED: Final = tuple(reason for reason in Reason if reason.is_retried)

# A channel that people know about comes up again when this much of its time is left.
STEPS: Final = tuple(timedelta(days=days) for days in (7, 3, 1, 0))


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
        """The rows that a run at `now` is about."""
        return Selection(
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
        and channel.reason == Reason.RECONNECT_REQUIRED
        and channel.fingerprint is not None
        and not channel.replaced
        and channel.expires_at is not None
        and channel.expires_at <= now
    )


def is_due(channel: Channel, selection: Selection) -> DueReason | None:  # noqa: PLR0911 - guard clauses
    """Why this candidate is due, or None. `Conditions.due` says the same in SQL; a test compares them."""
    if selection.everything:
        return DueReason.ASKED_FOR
    if is_waiting(channel, selection.now):
        return None
    if channel.replaced:
        return DueReason.REPLACED
    if channel.expires_at is None:
        if channel.status != Status.NEVER_EXPIRES:
            return DueReason.UNKNOWN_EXPIRY
    elif channel.expires_at <= selection.now:
        return DueReason.EXPIRED
    elif channel.expires_at < selection.expires_before:
        return DueReason.ENDS_SOON
    if channel.refreshed_at is not None and channel.refreshed_at < selection.refreshed_before:
        return DueReason.OLD
    if channel.status == Status.WARNING and channel.reason in RETRIED:
        return DueReason.FAILED_BEFORE
    return None


def state_of(channel: Channel, now: datetime, soon: datetime) -> State:
    """The state of a line. `soon` is `now` and the window. `Conditions.state` says the same in SQL.

    After a reconnect nothing is known until Meta has been asked: what the row says is of another token.
    """
    if channel.replaced:
        return State.UNKNOWN
    if is_waiting(channel, now):
        return State.WAITING
    if channel.status == Status.WARNING:
        return State.WARNING
    if channel.expires_at is None:
        return State.NEVER_EXPIRES if channel.status == Status.NEVER_EXPIRES else State.UNKNOWN
    if channel.expires_at <= now:
        return State.ENDED
    return State.ENDING if channel.expires_at < soon else State.OK


def is_news(channel: Channel, now: datetime) -> bool:
    """Whether there is something to say of a channel that has not been said yet."""
    if is_well_again(channel):
        return True
    if channel.status != Status.WARNING:
        return False
    if channel.replaced:
        return False  # what is known describes a token that is gone
    told, end = channel.alerted_at, channel.expires_at
    if told is None:
        return True
    return end is not None and any(end - now <= step < end - told for step in STEPS)


def is_well_again(channel: Channel) -> bool:
    """Whether a channel is well again, and people know only of its trouble."""
    return channel.status != Status.WARNING and channel.alerted_at is not None
