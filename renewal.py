"""One token's way: which channels are due, and what Meta's answers mean for a token and its rows.

Decisions are pure: values in, a value out, and no clock, database or network inside. `Renewer.renew`
walks a token through inspect → decide → exchange → prove, and `settle` turns the `Verdict` at the end of
that way into what is written for each channel that holds the token. A new token is believed only when
Meta itself has confirmed it, and leaves this room only encrypted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final, TypeAlias, assert_never

from crypto import KeyRing, SealBroken
from graph_errors import AppRejected, MetaError, RateLimited, ReconnectRequired, Unavailable
from layouts import Layout
from meta_client import Exchanged, Inspection, MetaClient, Sleep
from models import (
    ERROR_LENGTH,
    MAY_PASS,
    AuditEntry,
    Change,
    Channel,
    ChannelId,
    Event,
    Look,
    Status,
)
from redact import Secret

logger = logging.getLogger(__name__)

REFRESHED: Final = "Token refreshed automatically"
# Two ways to compute one instant differ by the seconds that a call takes.
TOLERANCE: Final = timedelta(hours=1)


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


def is_due(channel: Channel, look: Look) -> Why | None:  # noqa: PLR0911 - guard clauses
    """Why this candidate is due, or None. `Database._due` says the same in SQL; a test compares them."""
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


@dataclass(frozen=True, slots=True)
class Extended:
    """A new token, proved. `end` is None if it never ends; `lacking` says what it lacks all the same."""

    token: Secret
    end: datetime | None
    lacking: str | None = None


@dataclass(frozen=True, slots=True)
class Good:
    """The stored token is good for long enough: only the clocks need to be right."""

    end: datetime | None
    issued_at: datetime | None


@dataclass(frozen=True, slots=True)
class Endless:
    """The stored token never expires."""


@dataclass(frozen=True, slots=True)
class Bad:
    """The stored token could not be renewed. `end` is None where Meta did not say."""

    reason: Reason
    detail: str
    end: datetime | None = None
    issued_at: datetime | None = None


Verdict: TypeAlias = Extended | Good | Endless | Bad


def end_of(inspection: Inspection) -> datetime | None:
    """When a token stops being of use: the earlier of its expiry and the end of its data access."""
    known = (inspection.expires_at, inspection.data_access_expires_at)
    return min((time for time in known if time is not None), default=None)


def issued(inspection: Inspection, lifetime: timedelta) -> datetime | None:
    """From when a token's age counts; never taken from the row, whose clock may describe another token."""
    if inspection.issued_at is not None:
        return inspection.issued_at
    return None if inspection.expires_at is None else inspection.expires_at - lifetime


def lacks_scopes(inspection: Inspection, policy: Policy) -> str | None:
    """The permissions that a token lacks, in words, or None. It is not blamed for what Meta does not list."""
    if inspection.scopes is not None and (missing := policy.required_scopes - inspection.scopes):
        return f"the permission {' and '.join(sorted(missing))} is missing"
    return None


def lacks(inspection: Inspection, now: datetime, policy: Policy) -> str | None:
    """What a valid token lacks, permissions or time to use them, in words, or None."""
    if lacking := lacks_scopes(inspection, policy):
        return lacking
    access_ends = inspection.data_access_expires_at
    if access_ends is not None and access_ends < now + policy.refresh_before_expiry:
        return f"its data access ends on {access_ends:%Y-%m-%d}, which a renewal does not move"
    return None


def decide(old: Inspection, now: datetime, policy: Policy) -> Good | Endless | Bad | None:
    """What a valid token's inspection settles without an exchange; None if it is to be exchanged."""
    lacking = lacks(old, now, policy)
    issued_at = issued(old, policy.token_lifetime)
    long_enough = old.expires_at is not None and old.expires_at >= now + policy.refresh_before_expiry
    young = issued_at is not None and issued_at >= now - policy.refresh_after
    # A token without expiry is never exchanged: it might come back as one of 60 days.
    if not old.never_expires and (policy.force or not long_enough or not young):
        return None
    if lacking:
        return Bad(Reason.MISSING_PERMISSION, lacking, end_of(old), issued_at)
    if old.never_expires and old.data_access_expires_at is None:
        return Endless()
    return Good(end_of(old), issued_at)


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known when an exchange has to be judged."""

    old_token: Secret
    old: Inspection
    exchanged: Exchanged
    new: Inspection
    now: datetime

    def expiry(self, lifetime: timedelta) -> datetime | None:
        """When the new token expires: as Meta says of it, else as the exchange said, else by the lifetime."""
        if self.new.never_expires or self.new.expires_at is not None:
            return self.new.expires_at
        if self.is_same_token:
            return self.old.expires_at
        return self.now + (self.exchanged.expires_in or lifetime)

    @property
    def is_same_token(self) -> bool:
        """Whether Meta gave the old token back."""
        return self.exchanged.token == self.old_token

    def lives_longer(self, lifetime: timedelta) -> bool:
        """Whether the new token outlives the old one."""
        if self.new.never_expires:
            return True
        expiry = self.expiry(lifetime)
        if self.old.expires_at is None or expiry is None:
            return not self.is_same_token
        slack = timedelta(0) if self.new.expires_at is not None else TOLERANCE
        return expiry > self.old.expires_at + slack


def prove(proof: Proof, policy: Policy) -> Extended | Good | Bad:
    """Whether the new token, which Meta calls valid and of our app, may replace the old one."""
    old, new, now = proof.old, proof.new, proof.now
    end, issued_at = end_of(old), issued(old, policy.token_lifetime)
    if old.user_id is not None and new.user_id != old.user_id:
        return Bad(Reason.UNEXPECTED_ANSWER, "the new token belongs to another user", end, issued_at)
    if old.scopes is not None and (lost := old.scopes - (new.scopes or frozenset())):
        detail = f"the new token lost {', '.join(sorted(lost))}"
        return Bad(Reason.UNEXPECTED_ANSWER, detail, end, issued_at)
    if proof.lives_longer(policy.token_lifetime):
        expiry = proof.expiry(policy.token_lifetime)
        ends = [time for time in (expiry, new.data_access_expires_at) if time is not None]
        return Extended(proof.exchanged.token, min(ends, default=None), lacks(new, now, policy))
    if old.expires_at is not None and old.expires_at >= now + policy.refresh_before_expiry:
        if lacking := lacks(old, now, policy):
            return Bad(Reason.MISSING_PERMISSION, lacking, end, issued_at)
        return Good(end, issued_at)
    ending = f"on {old.expires_at:%Y-%m-%d}" if old.expires_at else "when the old one does"
    return Bad(Reason.NOT_EXTENDED, f"Meta answered, but the new token ends {ending}", end, issued_at)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A channel that this run has claimed, and the layout in which its token was written."""

    channel: Channel
    layout: Layout | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What to write for one channel (None: nothing) and what to say of it once that is done."""

    channel: Channel
    outcome: Outcome
    change: Change | None = field(default=None, repr=False)


class Renewer:
    """Walks tokens from inspection to proof. Safe to share between threads."""

    _REASONS: ClassVar = (
        (ReconnectRequired, Reason.RECONNECT_REQUIRED),
        (Unavailable, Reason.UNAVAILABLE),
        (MetaError, Reason.UNEXPECTED_ANSWER),
    )

    def __init__(
        self,
        meta: MetaClient,
        policy: Policy,
        clock: Callable[[], datetime],
        sleep: Sleep,
    ) -> None:
        self._meta = meta
        self._policy = policy
        self._clock = clock
        self._sleep = sleep

    def renew(self, token: Secret) -> Verdict:
        """Walk one token to its verdict.

        Raises `AppRejected` and `RateLimited`, which are not about this token, and `Interrupted`.
        """
        old = self._inspect(token)
        if isinstance(old, Bad):
            return old
        verdict = decide(old, self._clock(), self._policy)
        if verdict is not None:
            return verdict
        try:
            return self._exchange(token, old)
        except (AppRejected, RateLimited):
            raise
        except MetaError as error:
            issued_at = issued(old, self._policy.token_lifetime)
            return Bad(self._reason(error), str(error), end_of(old), issued_at)

    def examine(self, token: Secret) -> Good | Endless | Bad:
        """What Meta says of a token that is to be stored as it is.

        Raises `AppRejected` and `RateLimited`, which are not about this token, and `Interrupted`.
        """
        found = self._inspect(token)
        if isinstance(found, Bad):
            return found
        if lacking := lacks_scopes(found, self._policy):
            return Bad(Reason.MISSING_PERMISSION, lacking, end_of(found))
        if found.never_expires and found.data_access_expires_at is None:
            return Endless()
        return Good(end_of(found), issued(found, self._policy.token_lifetime))

    def _inspect(self, token: Secret) -> Inspection | Bad:
        """Ask about a token that is stored, or is to be."""
        try:
            return self._meta.inspect(token)
        except (AppRejected, RateLimited):
            raise
        except MetaError as error:
            return Bad(self._reason(error), str(error), error.expires_at)

    def _exchange(self, token: Secret, old: Inspection) -> Verdict:
        self._sleep(0)  # nothing new begins once the run is told to stop
        exchanged = self._meta.exchange(token, old.kind)
        try:
            new = self._inspect_new(exchanged.token)
        except ReconnectRequired as error:
            issued_at = issued(old, self._policy.token_lifetime)
            detail = f"Meta gave a new token and does not call it good: {error}"
            return Bad(Reason.UNEXPECTED_ANSWER, detail, end_of(old), issued_at)
        return prove(Proof(token, old, exchanged, new, self._clock()), self._policy)

    def _inspect_new(self, token: Secret) -> Inspection:
        """Ask about a new token; once more if it is called invalid: it may not be known everywhere yet."""
        try:
            return self._meta.inspect(token)
        except ReconnectRequired:
            self._sleep(self._meta.retry_wait)
            return self._meta.inspect(token)

    def _reason(self, error: MetaError) -> Reason:
        return next(reason for kind, reason in self._REASONS if isinstance(error, kind))


def settle(verdict: Verdict, claimed: Claimed, keys: KeyRing, now: datetime) -> Settled:
    """What a verdict means for one of the channels that hold the token."""
    channel = claimed.channel
    match verdict:
        case Extended():
            return _settle_extended(verdict, claimed, keys, now)
        case Good(end, issued_at):
            return _settle_good(channel, end, issued_at, now)
        case Endless():
            return _settle_endless(channel, now)
        case Bad():
            return _settle_bad(verdict, channel, now)
        case _:
            assert_never(verdict)


def _settle_extended(verdict: Extended, claimed: Claimed, keys: KeyRing, now: datetime) -> Settled:
    channel = claimed.channel
    if claimed.layout is None:
        raise ValueError("a channel whose token was not decrypted cannot get a new one")
    try:
        ciphertext = keys.seal(verdict.token, claimed.layout)
    except SealBroken as error:
        return Settled(channel, failed(channel, Reason.WRITE_FAILED, str(error), channel.expires_at))
    refreshed = AuditEntry(Event.REFRESHED, REFRESHED, None, channel.expires_at, verdict.end)
    if verdict.lacking:
        reason = Reason.MISSING_PERMISSION
        lacking = AuditEntry(Event.FAILED, verdict.lacking, reason, channel.expires_at, verdict.end)
        change = Change(
            channel,
            now,
            ciphertext,
            Status.WARNING,
            expires_at=verdict.end,
            refreshed_at=now,
            error=error_text(reason, verdict.lacking),
            clear_alert=_is_news(channel, reason),
            audit=(refreshed, lacking),
        )
        return Settled(channel, failed(channel, reason, verdict.lacking, verdict.end), change)
    change = Change(
        channel,
        now,
        ciphertext,
        Status.NEVER_EXPIRES if verdict.end is None else Status.OK,
        expires_at=verdict.end,
        refreshed_at=now,
        clear_alert=True,
        audit=with_recovery(channel, refreshed),
    )
    return Settled(channel, renewed(channel, verdict.end), change)


def _settle_good(
    channel: Channel, end: datetime | None, issued_at: datetime | None, now: datetime
) -> Settled:
    refreshed_at = issued_at or (None if channel.replaced else channel.refreshed_at)
    was_right = (channel.expires_at, channel.refreshed_at) == (end, refreshed_at)
    day = f"until {end:%Y-%m-%d}" if end else "for an unknown time"
    detail = f"the token is good {day}"
    corrected = AuditEntry(Event.CLOCK_CORRECTED, detail, Reason.CLOCK_CORRECTED, channel.expires_at, end)
    change = Change(
        channel,
        now,
        channel.ciphertext,
        Status.OK,
        expires_at=end,
        refreshed_at=refreshed_at,
        clear_alert=True,
        audit=with_recovery(channel, *([] if was_right else [corrected])),
    )
    outcome = skipped(channel, Reason.CLOCK_CORRECTED, detail, end, recovered=has_recovered(channel))
    return Settled(channel, outcome, change)


def _settle_endless(channel: Channel, now: datetime) -> Settled:
    detail = "Meta says that this token never expires"
    entry = AuditEntry(Event.NEVER_EXPIRES, detail, None, channel.expires_at)
    change = Change(
        channel,
        now,
        channel.ciphertext,
        Status.NEVER_EXPIRES,
        expires_at=None,
        refreshed_at=now,  # so that it is looked at again when it would be old
        clear_alert=True,
        audit=with_recovery(channel, entry),
    )
    outcome = skipped(channel, Reason.NEVER_EXPIRES, detail, None, recovered=has_recovered(channel))
    return Settled(channel, outcome, change)


def _settle_bad(verdict: Bad, channel: Channel, now: datetime) -> Settled:
    recorded = None if channel.replaced else channel.expires_at
    end = verdict.end or recorded
    if end is None and verdict.reason is Reason.RECONNECT_REQUIRED:
        end = now  # dead, and nobody knows since when: from now on it waits for its customer
    change = Change(
        channel,
        now,
        channel.ciphertext,
        Status.WARNING,
        expires_at=end,
        refreshed_at=verdict.issued_at or (None if channel.replaced else channel.refreshed_at),
        error=error_text(verdict.reason, verdict.detail),
        clear_alert=_is_news(channel, verdict.reason),
        audit=(AuditEntry(Event.FAILED, verdict.detail, verdict.reason, channel.expires_at, end),),
    )
    return Settled(channel, failed(channel, verdict.reason, verdict.detail, end), change)


def renewed(channel: Channel, expires_at: datetime | None, *, by_hand: bool = False) -> Renewed:
    """The outcome of a channel that holds a new token."""
    return Renewed(
        id=channel.id,
        name=channel.name,
        phone_number=channel.phone_number,
        expires_at=expires_at,
        expires_at_before=channel.expires_at,
        recovered=has_recovered(channel),
        by_hand=by_hand,
    )


def failed(channel: Channel, reason: Reason, detail: str, expires_at: datetime | None) -> Failed:
    """The outcome of a channel that failed."""
    return Failed(
        id=channel.id,
        name=channel.name,
        phone_number=channel.phone_number,
        expires_at=expires_at,
        expires_at_before=channel.expires_at,
        reason=reason,
        detail=detail,
    )


def error_text(reason: Reason, detail: str) -> str:
    """What `token_error` holds: `reason: detail`, cut to what the column promises."""
    text = f"{reason}: {detail}"
    return text if len(text) <= ERROR_LENGTH else text[: ERROR_LENGTH - 1] + "…"


def skipped(
    channel: Channel, reason: Reason, detail: str, expires_at: datetime | None, *, recovered: bool = False
) -> Skipped:
    """The outcome of a channel that was not renewed and did not fail."""
    return Skipped(
        id=channel.id,
        name=channel.name,
        phone_number=channel.phone_number,
        expires_at=expires_at,
        expires_at_before=channel.expires_at,
        reason=reason,
        detail=detail,
        recovered=recovered,
    )


def has_recovered(channel: Channel) -> bool:
    """Whether a success is news: people had been told of this channel's trouble."""
    return _was_warning(channel) and channel.alerted_at is not None


def _was_warning(channel: Channel) -> bool:
    return channel.status == Status.WARNING


def with_recovery(channel: Channel, *entries: AuditEntry) -> tuple[AuditEntry, ...]:
    """The audit entries of a success, and one more if the channel was in trouble before."""
    if not _was_warning(channel):
        return entries
    return (*entries, AuditEntry(Event.RECOVERED, "The channel is well again", channel.reason))


def _is_news(channel: Channel, reason: Reason) -> bool:
    """Whether people who were told of this channel must be told again because its reason has changed."""
    return reason in NEEDS_A_PERSON and channel.reason != reason
