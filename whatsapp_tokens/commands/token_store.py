"""Store a token obtained by hand: checked with Meta, encrypted like the others, and audited.

A token is not stored unless Meta calls it valid, nor where it would shorten a working connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from time import monotonic
from typing import Final

from crypto import EncryptionFailed, KeyRing, Undecryptable
from models import AuditEntry, Channel, Event, PendingUpdate, Status
from whatsapp_tokens.ciphertext_formats import FERNET, CiphertextFormat, JsonObject
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import LockTimeout, StatementRefused
from whatsapp_tokens.database.writes import WriteResult
from whatsapp_tokens.facts import facts
from whatsapp_tokens.policy import Policy
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.renewal.decision import NeverExpires, StillValid, Unusable
from whatsapp_tokens.renewal.outcomes import failed, renewed
from whatsapp_tokens.renewal.renewer import Renewer
from whatsapp_tokens.renewal.start import CannotRun, WrongKeys
from whatsapp_tokens.renewal.updates import with_recovery
from whatsapp_tokens.results import ChannelId, Failed, Reason, Renewed

PATIENCE_SECONDS: Final = 30  # for a row that another transaction has locked
EXAMPLES: Final = 2000  # rows of each kind that show how tokens are written
MESSAGE: Final = "Token set by hand"


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a token goes: the channel as it is, or as it will be."""

    channel: Channel
    is_new: bool


@dataclass(frozen=True, slots=True)
class Store:
    """What is needed to store a token. `anyway`: also one that expires sooner than the stored one."""

    database: Database
    renewer: Renewer
    keys: KeyRing
    policy: Policy
    clock: Callable[[], datetime]
    is_stopped: Callable[[], bool]
    anyway: bool = False

    def store(self, slot: Slot, token: Secret) -> Renewed | Failed:
        """Check a token with Meta and store it. A refused token is a `Failed`, and nothing has changed.

        Raise `CannotRun`, `WrongKeys`, `AppRejected`, `RateLimited`, `Interrupted` or a `DatabaseError`.
        """
        channel = slot.channel
        ciphertext_format = self._format(channel)
        verdict = self.renewer.examine(token)
        if not isinstance(verdict, Unusable) and not self.anyway:
            verdict = self._worth_it(verdict, channel)
        if isinstance(verdict, Unusable):
            detail = facts(verdict.detail, "nothing was stored")
            return failed(channel, verdict.reason, detail, channel.expires_at)
        try:
            ciphertext = self.keys.encrypt(token, ciphertext_format)
        except EncryptionFailed as error:
            return failed(channel, Reason.WRITE_FAILED, str(error), channel.expires_at)
        change = _change(verdict, channel, ciphertext, self.clock())
        if refusal := self._create(change) if slot.is_new else self._overwrite(change, verdict):
            detail = facts(refusal, "nothing was stored")
            return failed(channel, Reason.WRITE_FAILED, detail, channel.expires_at)
        return renewed(channel, change.expires_at, set_by_hand=True)

    def _worth_it(
        self, verdict: StillValid | NeverExpires, channel: Channel
    ) -> StillValid | NeverExpires | Unusable:
        """Return the verdict; refuse a token that expires soon while the row holds one that lives longer."""
        expires_at = verdict.expires_at if isinstance(verdict, StillValid) else None
        known = channel.expires_at if channel.status == Status.OK and not channel.replaced else None
        soon = self.clock() + self.policy.refresh_before_expiry
        if expires_at is None or known is None or not expires_at < soon <= known:
            return verdict
        detail = facts(
            f"expires: {expires_at:%Y-%m-%d}",
            f"the stored token expires: {known:%Y-%m-%d}",
            "--yes stores it all the same",
        )
        return Unusable(Reason.NOT_EXTENDED, detail, expires_at)

    def _format(self, channel: Channel) -> CiphertextFormat:
        """Return the format of the row itself, else the usual one of the table. Raise `WrongKeys`."""
        if channel.ciphertext:
            try:
                return self.keys.format_of(channel.ciphertext)
            except Undecryptable:
                pass
        return usual_format(self.database, self.keys, channel.id)

    def _create(self, change: PendingUpdate) -> str | None:
        """Insert the row. Return why it failed, or None. Raise `CannotRun` if the database refuses it."""
        until = monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self.database.writer.create(change)
            except LockTimeout:
                if self._is_over(until):
                    return "the table stays locked by another transaction"
            except StatementRefused as error:
                instead = "create it in the application, then set its token"
                raise CannotRun(f"the channel cannot be created: {error}; {instead}") from None
            else:
                return None

    def _overwrite(self, change: PendingUpdate, verdict: StillValid | NeverExpires) -> str | None:
        """Write over the token that the row holds: a person chose this one. Return why it failed, or None.

        Each try waits about a second for a locked row.
        """
        until = monotonic() + PATIENCE_SECONDS
        while True:
            ((written, words),) = self.database.writer.write([change], patient=True)
            match written:
                case WriteResult.WRITTEN:
                    return None
                case WriteResult.REFUSED:
                    return words
                case WriteResult.LOCKED if self._is_over(until):
                    return "the row stays locked by another transaction"
                case WriteResult.LOCKED:
                    continue
                case _ if self._is_over(until):
                    return "the row keeps changing"
            if (now_there := self.database.queries.get(change.channel.id)) is None:
                return "the row was deleted, or is of another type now"
            change = _change(verdict, now_there, change.ciphertext, self.clock())

    def _is_over(self, until: float) -> bool:
        return self.is_stopped() or monotonic() > until


def usual_format(database: Database, keys: KeyRing, own: ChannelId) -> CiphertextFormat:
    """Return the format of most of the table's other tokens; Fernet if there are none.

    Active channels are looked at first, then inactive ones, then those of other types: one application writes
    them all. Raise `WrongKeys` if there are other tokens of our type and none can be decrypted.
    """
    found: Counter[CiphertextFormat] = Counter()
    examples: dict[CiphertextFormat, CiphertextFormat] = {}
    failures: list[Undecryptable] = []
    for look_up in (database.queries.candidates, database.queries.inactive, database.queries.of_other_types):
        for channel in islice(look_up(), EXAMPLES):
            try:
                ciphertext_format = keys.format_of(channel.ciphertext)
            except Undecryptable as error:
                if channel.id != own and look_up != database.queries.of_other_types:
                    failures.append(error)
            else:
                found[_style(ciphertext_format)] += 1
                examples.setdefault(_style(ciphertext_format), ciphertext_format)
        if found:
            return examples[found.most_common(1)[0][0]]
    if failures:
        raise WrongKeys.of_all(failures)
    return FERNET


def _style(ciphertext_format: CiphertextFormat) -> CiphertextFormat:
    """Return a format without what differs from row to row: further members of a JSON object."""
    if isinstance(ciphertext_format, JsonObject):
        return replace(ciphertext_format, template="")
    return ciphertext_format


def _change(
    verdict: StillValid | NeverExpires, channel: Channel, ciphertext: str, now: datetime
) -> PendingUpdate:
    expires_at = verdict.expires_at if isinstance(verdict, StillValid) else None
    issued_at = verdict.issued_at if isinstance(verdict, StillValid) else None
    entry = AuditEntry(Event.SET_BY_HAND, MESSAGE, None, channel.expires_at, expires_at)
    return PendingUpdate(
        channel,
        now,
        ciphertext,
        Status.OK if isinstance(verdict, StillValid) else Status.NEVER_EXPIRES,
        expires_at=expires_at,
        refreshed_at=issued_at or now,
        clear_alert=channel.alerted_at is None,
        audit=with_recovery(channel, entry),
    )
