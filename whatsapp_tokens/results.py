"""What becomes of a channel, and of a whole run: a closed set of values, for all who write, count or tell.

They hold text and never exceptions, tokens or rows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias

from due import Why
from models import Channel, ChannelId, Status


class Reason(StrEnum):
    """Why a channel failed or was skipped, or why a run stopped."""

    RECONNECT_REQUIRED = "reconnect_required"
    MISSING_PERMISSION = "missing_permission"
    NOT_EXTENDED = "not_extended"
    UNDECRYPTABLE = "undecryptable"
    UNAVAILABLE = "unavailable"
    UNEXPECTED_ANSWER = "unexpected_answer"
    WRITE_FAILED = "write_failed"
    APP_REJECTED = "app_rejected"
    RATE_LIMITED = "rate_limited"
    SYSTEMIC = "systemic"
    DATABASE_LOST = "database_lost"
    REPLACED_MEANWHILE = "replaced_meanwhile"
    CLAIMED_ELSEWHERE = "claimed_elsewhere"
    NEVER_EXPIRES = "never_expires"
    CLOCK_CORRECTED = "clock_corrected"
    WAITING_FOR_RECONNECT = "waiting_for_reconnect"


# These do not pass by themselves: a change to one of them is worth telling somebody again.
NEEDS_A_PERSON: Final = frozenset(
    {Reason.RECONNECT_REQUIRED, Reason.MISSING_PERMISSION, Reason.NOT_EXTENDED, Reason.UNDECRYPTABLE}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _About:
    """What every outcome says. Times are aware UTC, None where unknown."""

    id: ChannelId
    name: str
    phone_number: str | None = None
    expires_at: datetime | None = None
    expires_at_before: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed(_About):
    """A new token was proved and stored. `recovered`: people had been told that it was in trouble."""

    recovered: bool = False
    by_hand: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped(_About):
    """Nothing had to be renewed, or nothing could be done by this run; not a failure."""

    reason: Reason
    detail: str = ""
    recovered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(_About):
    """The token was not renewed, or not as it should be."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due(_About):
    """What a dry run says of a channel that a run would renew."""

    why: Why


Outcome: TypeAlias = Renewed | Skipped | Failed | Due


def renewed(channel: Channel, expires_at: datetime | None, *, by_hand: bool = False) -> Renewed:
    """The outcome of a channel that holds a new token."""
    return Renewed(**about(channel, expires_at), recovered=has_recovered(channel), by_hand=by_hand)


def failed(channel: Channel, reason: Reason, detail: str, expires_at: datetime | None) -> Failed:
    """The outcome of a channel that failed."""
    return Failed(**about(channel, expires_at), reason=reason, detail=detail)


def skipped(
    channel: Channel, reason: Reason, detail: str, expires_at: datetime | None, *, recovered: bool = False
) -> Skipped:
    """The outcome of a channel that was not renewed and did not fail."""
    return Skipped(**about(channel, expires_at), reason=reason, detail=detail, recovered=recovered)


def about(channel: Channel, expires_at: datetime | None) -> dict[str, Any]:
    """What every outcome says of a channel, whose token now ends at `expires_at`."""
    return {
        "id": channel.id,
        "name": channel.name,
        "phone_number": channel.phone_number,
        "expires_at": expires_at,
        "expires_at_before": channel.expires_at,
    }


def has_recovered(channel: Channel) -> bool:
    """Whether a success is news: people had been told of this channel's trouble."""
    return channel.status == Status.WARNING and channel.alerted_at is not None


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a run ended before all due channels were reached."""

    reason: str
    detail: str


@dataclass(slots=True)
class Tally:
    """What became of the channels of a run. `due` is the sum of what follows it, but for `waiting`."""

    candidates: int = 0
    due: int = 0
    renewed: int = 0
    failed: int = 0
    skipped: int = 0
    waiting: int = 0
    left: int = 0
    reasons: Counter[Reason] = field(default_factory=Counter)  # of those skipped
    causes: Counter[Reason] = field(default_factory=Counter)  # of those failed

    def add(self, outcome: Outcome) -> None:
        """Count one channel."""
        match outcome:
            case Renewed():
                self.renewed += 1
            case Failed():
                self.failed += 1
                self.causes[outcome.reason] += 1
            case Skipped(reason=Reason.WAITING_FOR_RECONNECT):
                self.waiting += 1
            case Skipped():
                self.skipped += 1
                self.reasons[outcome.reason] += 1
            case _:  # a dry run only says what is due
                pass
