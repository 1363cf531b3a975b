"""One token's way through Meta: inspect → decide → exchange → inspect the new token → validate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import ClassVar

from meta_client import MetaClient
from whatsapp_tokens.facts import fact, facts
from whatsapp_tokens.meta.answers import Inspection
from whatsapp_tokens.meta.errors import (
    AppRejected,
    ForeignToken,
    MetaError,
    RateLimited,
    ReconnectRequired,
    Unavailable,
    UnreadableToken,
)
from whatsapp_tokens.policy import Policy
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.renewal.clock_check import require_right_clock
from whatsapp_tokens.renewal.decision import (
    NeverExpires,
    Proof,
    StillValid,
    Suspect,
    Unusable,
    Verdict,
    decide,
    expiry_of,
    issued,
    missing_scopes,
    validate_exchange,
)
from whatsapp_tokens.results import Reason
from whatsapp_tokens.signals import Sleep


class Renewer:
    """Renews and examines tokens. Safe to share between threads."""

    _MEANINGS: ClassVar = (
        (AppRejected, Reason.UNEXPECTED_ANSWER, Suspect.APP),
        (RateLimited, Reason.UNAVAILABLE, Suspect.LIMIT),
        (ForeignToken, Reason.RECONNECT_REQUIRED, Suspect.OTHER_APP),
        (UnreadableToken, Reason.RECONNECT_REQUIRED, Suspect.UNREADABLE),
        (ReconnectRequired, Reason.RECONNECT_REQUIRED, Suspect.META),
        (Unavailable, Reason.UNAVAILABLE, Suspect.META),
        (MetaError, Reason.UNEXPECTED_ANSWER, Suspect.META),
    )

    def __init__(self, meta: MetaClient, policy: Policy, clock: Callable[[], datetime], sleep: Sleep) -> None:
        self._meta = meta
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self.ahead_of_database = timedelta(0)

    def renew(self, token: Secret) -> Verdict:
        """Renew a token if it is due. Raise `Interrupted`."""
        try:
            old = self._meta.inspect(token)
        except MetaError as error:
            return self._unusable(error)
        verdict = decide(old, self._clock(), self._policy)
        if verdict is not None:
            return verdict
        try:
            return self._exchange(token, old)
        except MetaError as error:
            return self._unusable(error, old)

    def ask(self, token: Secret) -> StillValid | NeverExpires | Unusable:
        """Return what Meta says of a token that is to stay as it is. Raise `Interrupted`."""
        try:
            return self.examine(token)
        except (AppRejected, RateLimited) as error:
            return self._unusable(error)

    def ask_about_app(self) -> Unusable:
        """Return what Meta says of the app token; `Suspect.TOKEN` means that it accepts our app."""
        try:
            self._meta.check_app()
        except MetaError as error:
            return self._unusable(error)
        return Unusable(Reason.RECONNECT_REQUIRED, "", suspect=Suspect.TOKEN)

    def note_time_at_database(self, at_database: datetime) -> None:
        """Take note of the database server's clock: it decides where Meta does not say what time it is."""
        self.ahead_of_database = self._clock() - at_database

    def check_clock(self) -> None:
        """Raise `WrongClock` if this machine's clock is not Meta's, or else the database server's."""
        now = self._clock()
        require_right_clock(now, self._meta.time_at_meta(), now - self.ahead_of_database)

    def examine(self, token: Secret) -> StillValid | NeverExpires | Unusable:
        """Return what Meta says of a token that is to be stored as it stands.

        Raise `AppRejected` and `RateLimited`, which are not about this token, and `Interrupted`.
        """
        try:
            found = self._meta.inspect(token)
        except (AppRejected, RateLimited):
            raise
        except MetaError as error:
            return self._unusable(error)
        if missing := missing_scopes(found, self._policy):
            return Unusable(Reason.MISSING_PERMISSION, missing, expiry_of(found))
        if found.never_expires and found.data_access_expires_at is None:
            return NeverExpires()
        return StillValid(expiry_of(found), issued(found, self._policy.token_lifetime))

    def _exchange(self, token: Secret, old: Inspection) -> Verdict:
        self._sleep(0)  # nothing new begins once the run is told to stop
        self.check_clock()
        exchanged = self._meta.exchange(token, old.kind)
        try:
            new = self._inspect_new(exchanged.token)
        except ReconnectRequired as error:
            detail = facts(fact("Meta gave a new token and does not call it good"), str(error))
            return Unusable(Reason.UNEXPECTED_ANSWER, detail, *self._clocks(old))
        return validate_exchange(Proof(token, old, exchanged, new, self._clock()), self._policy)

    def _inspect_new(self, token: Secret) -> Inspection:
        """Ask about a new token; once more if it is called invalid: not all of Meta may know it yet."""
        try:
            return self._meta.inspect(token)
        except ReconnectRequired:
            self._sleep(self._meta.retry_wait)
            return self._meta.inspect(token)

    def _unusable(self, error: MetaError, old: Inspection | None = None) -> Unusable:
        """Return what an error means for the token that was asked about. With `old`: it met the exchange."""
        _, reason, suspect = next(row for row in self._MEANINGS if isinstance(error, row[0]))
        if suspect is Suspect.APP and old:
            suspect = Suspect.EXCHANGE
        if isinstance(error, ReconnectRequired) and error.names_app and error.has_cause:
            suspect = Suspect.TOKEN
        expires_at, issued_at = self._clocks(old) if old else (error.expires_at, None)
        if old and isinstance(error, ReconnectRequired):
            expires_at = old.expires_at  # not that of its data access: Meta may call it dead by mistake
        return Unusable(reason, str(error), expires_at, issued_at, suspect)

    def _clocks(self, old: Inspection) -> tuple[datetime | None, datetime | None]:
        return expiry_of(old), issued(old, self._policy.token_lifetime)
