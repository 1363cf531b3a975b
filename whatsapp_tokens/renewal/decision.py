"""What Meta's answers mean for one token. Pure: values in, a value out; no clock, database or network.

A new token is taken only when Meta itself has confirmed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final, TypeAlias

from whatsapp_tokens.facts import fact, facts
from whatsapp_tokens.meta.answers import Exchanged, Inspection
from whatsapp_tokens.policy import Policy
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.results import Reason

# Two ways to compute one instant differ by the seconds that a call takes.
TOLERANCE: Final = timedelta(hours=1)
DATA_ACCESS_EXPIRES: Final = fact("data access expires")


class Suspect(Enum):
    """What may be at fault when a token is unusable, besides the token itself."""

    TOKEN = auto()  # nothing else: Meta names our app and says why this token died, or was not asked
    APP = auto()  # our app: Meta refused the inspection as it refuses an app
    EXCHANGE = auto()  # our app: Meta refused the exchange so, after an inspection
    OTHER_APP = auto()  # our app id: Meta says that the token is of another app
    LIMIT = auto()  # our app has reached its limit
    UNREADABLE = auto()  # Meta, which says that it cannot read the token
    META = auto()  # Meta, if many tokens fail alike


@dataclass(frozen=True, slots=True)
class NewToken:
    """A new token, confirmed by Meta. `expires_at` is None if it never expires.

    `lacking` is the detail of what it lacks: it is stored all the same, and its channel marked. Unless it
    `is_longer` by Meta's own dates, it also has to live longer than a row says.
    """

    token: Secret
    expires_at: datetime | None
    lacking: str = ""
    is_longer: bool = True


@dataclass(frozen=True, slots=True)
class StillValid:
    """The stored token is valid for long enough: only the clocks have to be right."""

    expires_at: datetime | None
    issued_at: datetime | None


@dataclass(frozen=True, slots=True)
class NeverExpires:
    """The stored token never expires."""


@dataclass(frozen=True, slots=True)
class Unusable:
    """The stored token could not be renewed. `expires_at` is None where Meta did not say."""

    reason: Reason
    detail: str
    expires_at: datetime | None = None
    issued_at: datetime | None = None
    suspect: Suspect = Suspect.META


Verdict: TypeAlias = NewToken | StillValid | NeverExpires | Unusable


def expiry_of(inspection: Inspection) -> datetime | None:
    """Return when a token stops being of use: when it or its data access expires."""
    return _earliest(inspection.expires_at, inspection.data_access_expires_at)


def issued(inspection: Inspection, lifetime: timedelta) -> datetime | None:
    """Return from when a token's age counts; never from the row, whose clock may be another token's."""
    if inspection.issued_at is not None:
        return inspection.issued_at
    return None if inspection.expires_at is None else inspection.expires_at - lifetime


def missing_scopes(inspection: Inspection, policy: Policy) -> str:
    """Return the detail that names the missing permissions, or "". Where Meta lists none, none is missing."""
    return "" if inspection.scopes is None else _missing(policy.required_scopes - inspection.scopes)


def lacks(inspection: Inspection, now: datetime, policy: Policy) -> str:
    """Return the detail of what a valid token lacks, permissions or time to use them, or ""."""
    if missing := missing_scopes(inspection, policy):
        return missing
    access_expires_at = inspection.data_access_expires_at
    if access_expires_at is None or access_expires_at >= now + policy.refresh_before_expiry:
        return ""
    return fact(DATA_ACCESS_EXPIRES, access_expires_at.date())


def decide(old: Inspection, now: datetime, policy: Policy) -> StillValid | NeverExpires | Unusable | None:
    """Return what a valid token's inspection settles without an exchange; None if it is to be exchanged."""
    issued_at = issued(old, policy.token_lifetime)
    is_young = issued_at is not None and issued_at >= now - policy.refresh_after
    # A token that never expires is not exchanged: it might come back as one of 60 days.
    if not old.never_expires and (policy.force or not is_young or not _is_long(old, now, policy)):
        return None
    if lacking := lacks(old, now, policy):
        return Unusable(Reason.MISSING_PERMISSION, lacking, expiry_of(old), issued_at)
    if old.never_expires and old.data_access_expires_at is None:
        return NeverExpires()
    return StillValid(expiry_of(old), issued_at)


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known when an exchange is validated."""

    old_token: Secret
    old: Inspection
    exchanged: Exchanged
    new: Inspection
    now: datetime

    def expiry(self, lifetime: timedelta) -> datetime | None:
        """Return when the new token expires: by its inspection, else by the exchange, else by `lifetime`."""
        if self.new.never_expires or self.new.expires_at is not None:
            return self.new.expires_at
        if self.is_same_token:
            return self.old.expires_at
        return self.now + (self.exchanged.expires_in or lifetime)

    @property
    def is_same_token(self) -> bool:
        """Whether Meta gave the old token back."""
        return self.exchanged.token == self.old_token

    def lives_longer(self, policy: Policy) -> bool:
        """Return whether the new token outlives the old one, or the window if the old expiry is not known."""
        if self.new.never_expires:
            return True
        expiry = self.expiry(policy.token_lifetime)
        if expiry is None:
            return False
        if self.old.expires_at is None:
            return expiry > self.now + policy.refresh_before_expiry
        slack = timedelta(0) if self.new.expires_at is not None else TOLERANCE
        return expiry > self.old.expires_at + slack


def validate_exchange(proof: Proof, policy: Policy) -> NewToken | StillValid | Unusable:
    """Return whether the new token, which Meta calls valid, replaces the old one."""
    old, new, now = proof.old, proof.new, proof.now
    clocks = expiry_of(old), issued(old, policy.token_lifetime)
    if new.app_id is None:
        return Unusable(
            Reason.UNEXPECTED_ANSWER, fact("Meta does not say of which app the new token is"), *clocks
        )
    if old.user_id is not None and new.user_id != old.user_id:
        return Unusable(Reason.UNEXPECTED_ANSWER, fact("the new token belongs to another user"), *clocks)
    expiry = proof.expiry(policy.token_lifetime)
    if proof.lives_longer(policy):
        expires_at = _earliest(expiry, new.data_access_expires_at)
        lacking = lacks(new, now, policy) or _lost_scopes(old, new, policy)
        is_longer = new.never_expires or old.expires_at is not None
        return NewToken(proof.exchanged.token, expires_at, lacking, is_longer)
    if _is_long(old, now, policy):
        if lacking := lacks(old, now, policy):
            return Unusable(Reason.MISSING_PERMISSION, lacking, *clocks)
        return StillValid(*clocks)
    return Unusable(Reason.NOT_EXTENDED, not_longer(old.expires_at or expiry), *clocks)


def not_longer(expires_at: datetime | None) -> str:
    """Return the detail of a new token that does not live longer."""
    expires = fact("expires", expires_at.date()) if expires_at else ""
    return facts(fact("the new token does not live longer"), expires)


def _lost_scopes(old: Inspection, new: Inspection, policy: Policy) -> str:
    """Return the detail that names required permissions that only the old token lists, or "".

    An exchange takes no rights away, and Meta's lists change, so this never keeps a new token out.
    """
    return _missing(policy.required_scopes & (old.scopes or frozenset()) - (new.scopes or frozenset()))


def _missing(scopes: frozenset[str]) -> str:
    return fact("missing permission", ", ".join(sorted(scopes))) if scopes else ""


def _is_long(old: Inspection, now: datetime, policy: Policy) -> bool:
    """Return whether a token's own expiry is known and later than the window."""
    return old.expires_at is not None and old.expires_at >= now + policy.refresh_before_expiry


def _earliest(*times: datetime | None) -> datetime | None:
    return min((time for time in times if time is not None), default=None)
