"""What a verdict on a token means for a row that holds it: what to write, and what to report.

Pure, but for the encryption: here a new token goes into the format that its row had. `token_alerted_at` of a
channel that works again is kept until people were told of the recovery, too.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, assert_never

from crypto import Decrypted, EncryptionFailed, KeyRing
from models import ERROR_LENGTH, RECOVERED, AuditEntry, Channel, Event, PendingUpdate, Status
from whatsapp_tokens.facts import fact, facts
from whatsapp_tokens.policy import must_tell
from whatsapp_tokens.redaction import truncate
from whatsapp_tokens.renewal.decision import (
    DATA_ACCESS_EXPIRES,
    NeverExpires,
    NewToken,
    StillValid,
    Suspect,
    Unusable,
    Verdict,
    not_longer,
)
from whatsapp_tokens.renewal.outcomes import failed, has_recovered, renewed, skipped
from whatsapp_tokens.results import Outcome, Reason

REFRESHED: Final = "Token refreshed automatically"


@dataclass(frozen=True, slots=True)
class ClaimedChannel:
    """A channel that this run has claimed, and its decrypted token; None if no key decrypts it."""

    channel: Channel
    decrypted: Decrypted | None = None


@dataclass(frozen=True, slots=True)
class ChannelResult:
    """What to write for one channel (None: nothing), and what to report once that is done."""

    channel: Channel
    verdict: Verdict
    outcome: Outcome
    update: PendingUpdate | None = field(default=None, repr=False)

    @property
    def is_answer(self) -> bool:
        """Whether Meta was asked about the channel."""
        return not isinstance(self.verdict, Unusable) or self.verdict.reason is not Reason.UNDECRYPTABLE


def conclude(verdict: Verdict, claimed: ClaimedChannel, keys: KeyRing, now: datetime) -> ChannelResult:
    """Return what a verdict means for one of the channels that hold the token."""
    match verdict:
        case NewToken() if not (verdict.is_longer or _outlives(verdict, claimed.channel)):
            bad = Unusable(Reason.NOT_EXTENDED, not_longer(verdict.expires_at))
            return _unusable(bad, claimed, keys, now)
        case NewToken():
            return _new_token(verdict, claimed, keys, now)
        case StillValid():
            return _still_valid(verdict, claimed, keys, now)
        case NeverExpires():
            return _never_expires(verdict, claimed, keys, now)
        case Unusable():
            return _unusable(verdict, claimed, keys, now)
        case _:
            assert_never(verdict)


def _new_token(verdict: NewToken, claimed: ClaimedChannel, keys: KeyRing, now: datetime) -> ChannelResult:
    channel, expires_at = claimed.channel, verdict.expires_at
    if claimed.decrypted is None:
        raise ValueError("a channel whose token was not decrypted cannot get a new one")
    try:
        ciphertext = keys.encrypt(verdict.token, claimed.decrypted.format)
    except EncryptionFailed as error:
        outcome = failed(channel, Reason.WRITE_FAILED, str(error), channel.expires_at)
        return ChannelResult(channel, verdict, outcome)
    refreshed = AuditEntry(Event.REFRESHED, REFRESHED, None, channel.expires_at, expires_at)
    if verdict.lacking:
        reason = Reason.MISSING_PERMISSION
        lacking = AuditEntry(Event.FAILED, verdict.lacking, reason, channel.expires_at, expires_at)
        update = PendingUpdate(
            channel,
            now,
            ciphertext,
            Status.WARNING,
            expires_at=expires_at,
            refreshed_at=now,
            error=error_text(reason, verdict.lacking),
            clear_alert=_is_another_failure(channel, reason),
            audit=(refreshed, lacking),
        )
        outcome = failed(channel, reason, verdict.lacking, expires_at, is_news=_is_news(update))
        return ChannelResult(channel, verdict, outcome, update)
    update = PendingUpdate(
        channel,
        now,
        ciphertext,
        Status.NEVER_EXPIRES if expires_at is None else Status.OK,
        expires_at=expires_at,
        refreshed_at=now,
        audit=with_recovery(channel, refreshed),
    )
    return ChannelResult(channel, verdict, renewed(channel, expires_at), update)


def _still_valid(verdict: StillValid, claimed: ClaimedChannel, keys: KeyRing, now: datetime) -> ChannelResult:
    channel, expires_at = claimed.channel, verdict.expires_at
    refreshed_at = verdict.issued_at or _known_refresh(channel)
    was_right = (channel.expires_at, channel.refreshed_at) == (expires_at, refreshed_at)
    expiry = fact("expires", expires_at.date()) if expires_at else fact("its expiry is not known")
    detail = facts(fact("the token is valid"), expiry)
    corrected = AuditEntry(
        Event.CLOCK_CORRECTED, detail, Reason.CLOCK_CORRECTED, channel.expires_at, expires_at
    )
    update = PendingUpdate(
        channel,
        now,
        _kept(claimed, keys),
        Status.OK,
        expires_at=expires_at,
        refreshed_at=refreshed_at,
        audit=with_recovery(channel, *([] if was_right else [corrected])),
    )
    outcome = skipped(channel, Reason.CLOCK_CORRECTED, detail, expires_at, recovered=has_recovered(channel))
    return ChannelResult(channel, verdict, outcome, update)


def _never_expires(
    verdict: NeverExpires, claimed: ClaimedChannel, keys: KeyRing, now: datetime
) -> ChannelResult:
    channel = claimed.channel
    detail = fact("Meta says that this token never expires")
    entry = AuditEntry(Event.NEVER_EXPIRES, detail, None, channel.expires_at)
    update = PendingUpdate(
        channel,
        now,
        _kept(claimed, keys),
        Status.NEVER_EXPIRES,
        expires_at=None,
        refreshed_at=now,  # so that it is looked at again when it would be old
        audit=with_recovery(channel, entry),
    )
    outcome = skipped(channel, Reason.NEVER_EXPIRES, detail, None, recovered=has_recovered(channel))
    return ChannelResult(channel, verdict, outcome, update)


def _unusable(verdict: Unusable, claimed: ClaimedChannel, keys: KeyRing, now: datetime) -> ChannelResult:
    channel, detail = claimed.channel, verdict.detail
    if verdict.suspect in {Suspect.APP, Suspect.EXCHANGE}:
        detail = facts(fact("Meta refused this channel's call as it refuses an app"), detail)
    expires_at = verdict.expires_at or _known_expiry(channel, verdict.reason, now)
    update = PendingUpdate(
        channel,
        now,
        _kept(claimed, keys),
        Status.WARNING,
        expires_at=expires_at,
        refreshed_at=verdict.issued_at or _known_refresh(channel),
        error=channel.error if _stays_true(channel, verdict) else error_text(verdict.reason, detail),
        clear_alert=_is_another_failure(channel, verdict.reason),
        audit=(AuditEntry(Event.FAILED, detail, verdict.reason, channel.expires_at, expires_at),),
    )
    outcome = failed(channel, verdict.reason, detail, expires_at, is_news=_is_news(update))
    return ChannelResult(channel, verdict, outcome, update)


def error_text(reason: Reason, detail: str) -> str:
    """Return what `token_error` holds: `reason: detail`, not longer than the column."""
    return truncate(f"{reason}: {detail}", ERROR_LENGTH)


def with_recovery(channel: Channel, *entries: AuditEntry) -> tuple[AuditEntry, ...]:
    """Return the audit entries of a success, and one more if the channel had failed before."""
    if channel.status != Status.WARNING:
        return entries
    return (*entries, AuditEntry(Event.RECOVERED, RECOVERED, channel.reason))


def _kept(claimed: ClaimedChannel, keys: KeyRing) -> str:
    """Return the ciphertext of a token that stays, encrypted with the first key if another decrypts it."""
    decrypted = claimed.decrypted
    if decrypted is not None and decrypted.key_index:
        with suppress(EncryptionFailed):
            return keys.encrypt(decrypted.token, decrypted.format)
    return claimed.channel.ciphertext


def _known_expiry(channel: Channel, reason: Reason, now: datetime) -> datetime | None:
    """Return the row's expiry, if it is that of the stored token.

    A dead token is not asked about any more once that has passed. Without a fingerprint it may be that of
    another token, so a past one is not kept then. Nor is the end of its data access: the token itself lives
    longer, and Meta may have called it dead by mistake.
    """
    if channel.replaced or channel.expires_at is None:
        return None
    if reason is not Reason.RECONNECT_REQUIRED:
        return channel.expires_at
    is_of_data_access = (channel.error or "").startswith(
        f"{Reason.MISSING_PERMISSION}: {DATA_ACCESS_EXPIRES}"
    )
    is_sure = channel.fingerprint is not None or channel.expires_at > now
    return channel.expires_at if is_sure and not is_of_data_access else None


def _outlives(verdict: NewToken, channel: Channel) -> bool:
    """Return whether a new token lives longer than the row says of the old one."""
    if verdict.expires_at is None or channel.expires_at is None or channel.replaced:
        return True
    return verdict.expires_at > channel.expires_at


def _known_refresh(channel: Channel) -> datetime | None:
    """Return the row's refresh time, if it is that of the stored token."""
    return None if channel.replaced else channel.refreshed_at


def _is_news(update: PendingUpdate) -> bool:
    """Return whether people have to be told of a failure, or to be told of it again."""
    told = None if update.clear_alert else update.channel.alerted_at
    return must_tell(told, update.expires_at, update.at)


def _stays_true(channel: Channel, verdict: Unusable) -> bool:
    """Return whether the row says better than this failure what a person must do.

    A failure that may pass, such as an outage, does not heal a token that needs a person. If it took that
    reason's place, people would be told of the reason again once the outage is over.
    """
    if channel.status != Status.WARNING or channel.replaced or not verdict.reason.may_pass:
        return False
    if channel.reason == Reason.RECONNECT_REQUIRED:  # unless Meta has called the token valid since
        return verdict.expires_at is None and verdict.issued_at is None
    return channel.reason in {Reason.MISSING_PERMISSION, Reason.NOT_EXTENDED}


def _is_another_failure(channel: Channel, reason: Reason) -> bool:
    """Return whether people who were told of this channel must be told again."""
    return channel.status != Status.WARNING or (reason.needs_person and channel.reason != reason)
