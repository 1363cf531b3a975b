"""One token's way: inspect → decide → exchange → prove. What Meta's answers mean for a token.

Decisions are pure: values in, a value out, and no clock, database or network inside. `Renewer` walks a
token to its `Verdict`. A new token is believed only when Meta itself has confirmed it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final, TypeAlias

from meta_client import Exchanged, Inspection, MetaClient
from whatsapp_tokens.meta.errors import AppRejected, MetaError, RateLimited, ReconnectRequired, Unavailable
from whatsapp_tokens.policy import Policy
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.results import Reason
from whatsapp_tokens.signals import Sleep

# Two ways to compute one instant differ by the seconds that a call takes.
TOLERANCE: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class NewToken:
    """A new token, proved. `end` is None if it never ends; `lacking` says what it lacks all the same."""

    token: Secret
    end: datetime | None
    lacking: str | None = None


@dataclass(frozen=True, slots=True)
class StillValid:
    """The stored token is good for long enough: only the clocks need to be right."""

    end: datetime | None
    issued_at: datetime | None


@dataclass(frozen=True, slots=True)
class NeverExpires:
    """The stored token never expires."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """The stored token could not be renewed. `end` is None where Meta did not say."""

    reason: Reason
    detail: str
    end: datetime | None = None
    issued_at: datetime | None = None


Verdict: TypeAlias = NewToken | StillValid | NeverExpires | Unusable


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


def decide(old: Inspection, now: datetime, policy: Policy) -> StillValid | NeverExpires | Unusable | None:
    """What a valid token's inspection settles without an exchange; None if it is to be exchanged."""
    lacking = lacks(old, now, policy)
    issued_at = issued(old, policy.token_lifetime)
    long_enough = old.expires_at is not None and old.expires_at >= now + policy.refresh_before_expiry
    young = issued_at is not None and issued_at >= now - policy.refresh_after
    # A token without expiry is never exchanged: it might come back as one of 60 days.
    if not old.never_expires and (policy.force or not long_enough or not young):
        return None
    if lacking:
        return Unusable(Reason.MISSING_PERMISSION, lacking, end_of(old), issued_at)
    if old.never_expires and old.data_access_expires_at is None:
        return NeverExpires()
    return StillValid(end_of(old), issued_at)


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


def validate_exchange(proof: Proof, policy: Policy) -> NewToken | StillValid | Unusable:
    """Whether the new token, which Meta calls valid and of our app, may replace the old one."""
    old, new, now = proof.old, proof.new, proof.now
    end, issued_at = end_of(old), issued(old, policy.token_lifetime)
    if old.user_id is not None and new.user_id != old.user_id:
        return Unusable(Reason.UNEXPECTED_ANSWER, "the new token belongs to another user", end, issued_at)
    if old.scopes is not None and (lost := old.scopes - (new.scopes or frozenset())):
        detail = f"the new token lost {', '.join(sorted(lost))}"
        return Unusable(Reason.UNEXPECTED_ANSWER, detail, end, issued_at)
    if proof.lives_longer(policy.token_lifetime):
        expiry = proof.expiry(policy.token_lifetime)
        ends = [time for time in (expiry, new.data_access_expires_at) if time is not None]
        return NewToken(proof.exchanged.token, min(ends, default=None), lacks(new, now, policy))
    if old.expires_at is not None and old.expires_at >= now + policy.refresh_before_expiry:
        if lacking := lacks(old, now, policy):
            return Unusable(Reason.MISSING_PERMISSION, lacking, end, issued_at)
        return StillValid(end, issued_at)
    ending = f"on {old.expires_at:%Y-%m-%d}" if old.expires_at else "when the old one does"
    return Unusable(Reason.NOT_EXTENDED, f"the new token ends {ending}", end, issued_at)


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
        if isinstance(old, Unusable):
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
            return Unusable(self._reason(error), str(error), end_of(old), issued_at)

    def examine(self, token: Secret) -> StillValid | NeverExpires | Unusable:
        """What Meta says of a token that is to be stored as it is.

        Raises `AppRejected` and `RateLimited`, which are not about this token, and `Interrupted`.
        """
        found = self._inspect(token)
        if isinstance(found, Unusable):
            return found
        if lacking := lacks_scopes(found, self._policy):
            return Unusable(Reason.MISSING_PERMISSION, lacking, end_of(found))
        if found.never_expires and found.data_access_expires_at is None:
            return NeverExpires()
        return StillValid(end_of(found), issued(found, self._policy.token_lifetime))

    def _inspect(self, token: Secret) -> Inspection | Unusable:
        """Ask about a token that is stored, or is to be."""
        try:
            return self._meta.inspect(token)
        except (AppRejected, RateLimited):
            raise
        except MetaError as error:
            return Unusable(self._reason(error), str(error), error.expires_at)

    def _exchange(self, token: Secret, old: Inspection) -> Verdict:
        self._sleep(0)  # nothing new begins once the run is told to stop
        exchanged = self._meta.exchange(token, old.kind)
        try:
            new = self._inspect_new(exchanged.token)
        except ReconnectRequired as error:
            issued_at = issued(old, self._policy.token_lifetime)
            detail = f"Meta gave a new token and does not call it good: {error}"
            return Unusable(Reason.UNEXPECTED_ANSWER, detail, end_of(old), issued_at)
        return validate_exchange(Proof(token, old, exchanged, new, self._clock()), self._policy)

    def _inspect_new(self, token: Secret) -> Inspection:
        """Ask about a new token; once more if it is called invalid: it may not be known everywhere yet."""
        try:
            return self._meta.inspect(token)
        except ReconnectRequired:
            self._sleep(self._meta.retry_wait)
            return self._meta.inspect(token)

    def _reason(self, error: MetaError) -> Reason:
        return next(reason for kind, reason in self._REASONS if isinstance(error, kind))
