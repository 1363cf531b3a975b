"""One token that a person obtained by hand: checked with Meta, encrypted like the others, stored and audited.

Nothing is stored that Meta does not call good, and nothing that would shorten a working connection.
"""

from __future__ import annotations

import getpass
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from crypto import KeyRing, SealBroken, Undecryptable
from models import AuditEntry, Channel, Event, PendingUpdate, Status
from whatsapp_tokens.ciphertext_formats import FERNET, JsonObject, Layout
from whatsapp_tokens.database.connection import BadDatabase
from whatsapp_tokens.database.database import Database, WriteResult
from whatsapp_tokens.policy import Policy
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.renewal.decision import NeverExpires, Renewer, StillValid, Unusable
from whatsapp_tokens.renewal.outcomes import failed, renewed
from whatsapp_tokens.renewal.start import WrongKeys
from whatsapp_tokens.renewal.updates import with_recovery
from whatsapp_tokens.results import ChannelId, Failed, Reason, Renewed

LONGEST_TOKEN: Final = 16 * 1024  # characters; Meta names no limit, and a file piped in by mistake is longer
TRIES: Final = 5
MESSAGE: Final = "Token set by hand"


class NotPossible(Exception):
    """What was asked for cannot be done. One line: why, and what to do."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a token goes: the channel as it is, or as it will be."""

    channel: Channel
    is_new: bool


def read_token() -> Secret:
    """The token from stdin, or from a prompt that does not show it. Raises `NotPossible`."""
    if sys.stdin is None:
        raise NotPossible("there is no stdin to read the token from")
    if sys.stdin.isatty():
        text = getpass.getpass("Token (it is not shown): ")
    else:
        text = sys.stdin.buffer.read(LONGEST_TOKEN + 1).decode(errors="replace")
    token = Secret(text.strip())
    if not token:
        raise NotPossible("no token came in; pipe it in, or run this on a terminal and paste it")
    if len(text) > LONGEST_TOKEN or not text.strip().isprintable() or len(text.split()) > 1:
        raise NotPossible("what came in is no token: one word of at most 16384 printable characters")
    return token


def find_slot(database: Database, id_: str, name: str | None) -> Slot:
    """The channel with the id that a user wrote, or the one to create. Raises `NotPossible`."""
    found = database.queries.find_id(id_)
    if found is None:
        if name is None:
            raise NotPossible(f"there is no channel with the id {id_}; to create it, add --name NAME")
        new = database.queries.new_id(id_)
        if new is None:
            raise NotPossible(f"the ids of this table are whole numbers, and {id_} is none")
        return Slot(Channel(new, name, ""), is_new=True)
    channel = database.queries.get(found)
    if channel is None:
        raise NotPossible(f"the row with the id {id_} is no WhatsApp channel (see CHANNEL_TYPE)")
    return Slot(channel, is_new=False)


@dataclass(frozen=True, slots=True)
class Store:
    """What is needed to store a token. `anyway`: also one that ends sooner than the stored one."""

    database: Database
    renewer: Renewer
    keys: KeyRing
    policy: Policy
    clock: Callable[[], datetime]
    anyway: bool = False

    def store(self, slot: Slot, token: Secret) -> Renewed | Failed:
        """Check a token with Meta and store it. A refused token is a `Failed`, and nothing has changed.

        Raises `NotPossible`, `WrongKeys`, `AppRejected`, `RateLimited`, `Interrupted`, `BadDatabase` and
        `DatabaseLost`.
        """
        channel = slot.channel
        layout = self._layout(channel)
        verdict = self.renewer.examine(token)
        if not isinstance(verdict, Unusable) and not self.anyway:
            verdict = self._worth_it(verdict, channel)
        if isinstance(verdict, Unusable):
            detail = f"{verdict.detail}; nothing was stored"
            return failed(channel, verdict.reason, detail, channel.expires_at)
        try:
            ciphertext = self.keys.seal(token, layout)
        except SealBroken as error:
            return failed(channel, Reason.WRITE_FAILED, str(error), channel.expires_at)
        change = _change(verdict, channel, ciphertext, self.clock())
        if slot.is_new:
            self._create(change)
        elif refusal := self._overwrite(change, verdict):
            return failed(channel, Reason.WRITE_FAILED, refusal, channel.expires_at)
        return renewed(channel, change.expires_at, by_hand=True)

    def _worth_it(
        self, verdict: StillValid | NeverExpires, channel: Channel
    ) -> StillValid | NeverExpires | Unusable:
        """The verdict, unless the token ends at once and a better one is there: then it was a mistake."""
        end = verdict.end if isinstance(verdict, StillValid) else None
        known = channel.expires_at if channel.status == Status.OK and not channel.replaced else None
        soon = self.clock() + self.policy.refresh_before_expiry
        if end is None or known is None or not end < soon <= known:
            return verdict
        days = f"it ends on {end:%Y-%m-%d}, but the stored one is good until {known:%Y-%m-%d}"
        detail = f"{days} (--yes stores it all the same)"
        return Unusable(Reason.NOT_EXTENDED, detail, end)

    def _layout(self, channel: Channel) -> Layout:
        """The layout of the row itself, else the usual one of the table. Raises `WrongKeys`."""
        if channel.ciphertext:
            try:
                return self.keys.open(channel.ciphertext).layout
            except Undecryptable:
                pass
        return usual_layout(self.database, self.keys, channel.id)

    def _create(self, change: PendingUpdate) -> None:
        try:
            self.database.writer.create(change)
        except BadDatabase as error:
            raise NotPossible(
                f"the channel cannot be created: {error}; create it in the application, then set its token"
            ) from None

    def _overwrite(self, change: PendingUpdate, verdict: StillValid | NeverExpires) -> str | None:
        """Write over whatever token the row holds: a person chose this one. Gives why it did not work."""
        channel = change.channel
        for _ in range(TRIES):
            ((written, words),) = self.database.writer.write([change])
            if written is not WriteResult.REPLACED:
                return f"{words}; the stored token is as it was" if written is WriteResult.REFUSED else None
            if (now_there := self.database.queries.get(channel.id)) is None:
                return "the channel is gone"
            change = _change(verdict, now_there, change.ciphertext, self.clock())
        return "the row changes all the time"


def usual_layout(database: Database, keys: KeyRing, own: ChannelId) -> Layout:
    """How most of the table's other tokens are written down; Fernet where there are none.

    First of those that runs renew, then of inactive ones, then of other types: it is one application that
    writes them all. Raises `WrongKeys` if there are other tokens of our type and none opens.
    """
    found: Counter[Layout] = Counter()
    examples: dict[Layout, Layout] = {}
    failures: list[Undecryptable] = []
    for look_up in (database.queries.candidates, database.queries.inactive, database.queries.of_other_types):
        for channel in look_up():
            try:
                layout = keys.open(channel.ciphertext).layout
            except Undecryptable as error:
                failures += (
                    [error] if channel.id != own and look_up != database.queries.of_other_types else []
                )
            else:
                found[_style(layout)] += 1
                examples.setdefault(_style(layout), layout)
        if found:
            return examples[found.most_common(1)[0][0]]
    if failures:
        raise WrongKeys.of_all(failures)
    return FERNET


def _style(layout: Layout) -> Layout:
    """A layout without what differs from row to row: further members of a JSON object."""
    return replace(layout, template="") if isinstance(layout, JsonObject) else layout


def _change(
    verdict: StillValid | NeverExpires, channel: Channel, ciphertext: str, now: datetime
) -> PendingUpdate:
    end = verdict.end if isinstance(verdict, StillValid) else None
    issued_at = verdict.issued_at if isinstance(verdict, StillValid) else None
    entry = AuditEntry(Event.SET_BY_HAND, MESSAGE, None, channel.expires_at, end)
    return PendingUpdate(
        channel,
        now,
        ciphertext,
        Status.OK if isinstance(verdict, StillValid) else Status.NEVER_EXPIRES,
        expires_at=end,
        refreshed_at=issued_at or now,
        clear_alert=channel.alerted_at is None,
        audit=with_recovery(channel, entry),
    )
