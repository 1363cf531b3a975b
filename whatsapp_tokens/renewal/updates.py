"""What a verdict on a token means for a row that holds it: what to write over it, and what to say of it.

Pure, but for the encryption: a new token is encrypted in the format that its row had. A success leaves the
mark that people were told of a trouble: only when they were told of the recovery, too, is it taken away.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, assert_never

from crypto import Decrypted, EncryptionFailed, KeyRing
from models import ERROR_LENGTH, AuditEntry, Channel, Event, PendingUpdate, Status
from whatsapp_tokens.redaction import truncate
from whatsapp_tokens.renewal.decision import NeverExpires, NewToken, StillValid, Unusable, Verdict
from whatsapp_tokens.renewal.outcomes import failed, has_recovered, renewed, skipped
from whatsapp_tokens.results import Outcome, Reason

REFRESHED: Final = "Token refreshed automatically"


@dataclass(frozen=True, slots=True)
class ClaimedChannel:
    """A channel that this run has claimed, and its token as the key ring opened it; None if it did not."""

    channel: Channel
    opened: Decrypted | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What to write for one channel (None: nothing) and what to say of it once that is done."""

    channel: Channel
    outcome: Outcome
    change: PendingUpdate | None = field(default=None, repr=False)


def settle(verdict: Verdict, claimed: ClaimedChannel, keys: KeyRing, now: datetime) -> Settled:
    """What a verdict means for one of the channels that hold the token."""
    match verdict:
        case NewToken():
            return _settle_extended(verdict, claimed, keys, now)
        case StillValid():
            return _settle_good(verdict, claimed, keys, now)
        case NeverExpires():
            return _settle_endless(claimed, keys, now)
        case Unusable():
            return _settle_bad(verdict, claimed, keys, now)
        case _:
            assert_never(verdict)


def _kept(claimed: ClaimedChannel, keys: KeyRing) -> str:
    """The ciphertext of a token that stays: as it is, or under the first key if another one opened it."""
    opened = claimed.opened
    if opened is not None and opened.key_index:
        with suppress(EncryptionFailed):
            return keys.encrypt(opened.token, opened.format)
    return claimed.channel.ciphertext


def _settle_extended(verdict: NewToken, claimed: ClaimedChannel, keys: KeyRing, now: datetime) -> Settled:
    channel = claimed.channel
    if claimed.opened is None:
        raise ValueError("a channel whose token was not decrypted cannot get a new one")
    try:
        ciphertext = keys.encrypt(verdict.token, claimed.opened.format)
    except EncryptionFailed as error:
        return Settled(channel, failed(channel, Reason.WRITE_FAILED, str(error), channel.expires_at))
    refreshed = AuditEntry(Event.REFRESHED, REFRESHED, None, channel.expires_at, verdict.end)
    if verdict.lacking:
        reason = Reason.MISSING_PERMISSION
        lacking = AuditEntry(Event.FAILED, verdict.lacking, reason, channel.expires_at, verdict.end)
        change = PendingUpdate(
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
    change = PendingUpdate(
        channel,
        now,
        ciphertext,
        Status.NEVER_EXPIRES if verdict.end is None else Status.OK,
        expires_at=verdict.end,
        refreshed_at=now,
        clear_alert=channel.alerted_at is None,  # else once people know
        audit=with_recovery(channel, refreshed),
    )
    return Settled(channel, renewed(channel, verdict.end), change)


def _settle_good(verdict: StillValid, claimed: ClaimedChannel, keys: KeyRing, now: datetime) -> Settled:
    channel, end = claimed.channel, verdict.end
    refreshed_at = verdict.issued_at or (None if channel.replaced else channel.refreshed_at)
    was_right = (channel.expires_at, channel.refreshed_at) == (end, refreshed_at)
    day = f"until {end:%Y-%m-%d}" if end else "for an unknown time"
    detail = f"the token is good {day}"
    corrected = AuditEntry(Event.CLOCK_CORRECTED, detail, Reason.CLOCK_CORRECTED, channel.expires_at, end)
    change = PendingUpdate(
        channel,
        now,
        _kept(claimed, keys),
        Status.OK,
        expires_at=end,
        refreshed_at=refreshed_at,
        clear_alert=channel.alerted_at is None,  # else once people know
        audit=with_recovery(channel, *([] if was_right else [corrected])),
    )
    outcome = skipped(channel, Reason.CLOCK_CORRECTED, detail, end, recovered=has_recovered(channel))
    return Settled(channel, outcome, change)


def _settle_endless(claimed: ClaimedChannel, keys: KeyRing, now: datetime) -> Settled:
    channel = claimed.channel
    detail = "Meta says that this token never expires"
    entry = AuditEntry(Event.NEVER_EXPIRES, detail, None, channel.expires_at)
    change = PendingUpdate(
        channel,
        now,
        _kept(claimed, keys),
        Status.NEVER_EXPIRES,
        expires_at=None,
        refreshed_at=now,  # so that it is looked at again when it would be old
        clear_alert=channel.alerted_at is None,  # else once people know
        audit=with_recovery(channel, entry),
    )
    outcome = skipped(channel, Reason.NEVER_EXPIRES, detail, None, recovered=has_recovered(channel))
    return Settled(channel, outcome, change)


def _settle_bad(verdict: Unusable, claimed: ClaimedChannel, keys: KeyRing, now: datetime) -> Settled:
    channel = claimed.channel
    recorded = None if channel.replaced else channel.expires_at
    end = verdict.end or recorded
    if end is None and verdict.reason is Reason.RECONNECT_REQUIRED:
        end = now  # dead, and nobody knows since when: from now on it waits for its customer
    change = PendingUpdate(
        channel,
        now,
        _kept(claimed, keys),
        Status.WARNING,
        expires_at=end,
        refreshed_at=verdict.issued_at or (None if channel.replaced else channel.refreshed_at),
        error=error_text(verdict.reason, verdict.detail),
        clear_alert=_is_news(channel, verdict.reason),
        audit=(AuditEntry(Event.FAILED, verdict.detail, verdict.reason, channel.expires_at, end),),
    )
    return Settled(channel, failed(channel, verdict.reason, verdict.detail, end), change)


def error_text(reason: Reason, detail: str) -> str:
    """What `token_error` holds: `reason: detail`, cut to what the column promises."""
    return truncate(f"{reason}: {detail}", ERROR_LENGTH)


def with_recovery(channel: Channel, *entries: AuditEntry) -> tuple[AuditEntry, ...]:
    """The audit entries of a success, and one more if the channel was in trouble before."""
    if channel.status != Status.WARNING:
        return entries
    return (*entries, AuditEntry(Event.RECOVERED, "The channel is well again", channel.reason))


def _is_news(channel: Channel, reason: Reason) -> bool:
    """Whether people who were told of this channel must be told again: its trouble is new, or another one."""
    return channel.status != Status.WARNING or (reason.needs_person and channel.reason != reason)
