"""The controls: channels of which Meta is only asked, to tell their own failures from fleet-wide ones."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from crypto import KeyRing, Undecryptable
from models import Channel
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.policy import Selection
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.results import ChannelId

MOST_CONTROLS: Final = 3
LOOKED_AT: Final = 20  # rows: not every token can be decrypted


@dataclass(frozen=True, slots=True)
class Control:
    """A channel and its token. `is_due`: this run will come to it anyway."""

    channel: Channel
    token: Secret
    is_due: bool


def pick_controls(
    database: Database,
    keys: KeyRing,
    selection: Selection,
    asked: Collection[ChannelId],
    parked: Iterable[Control],
) -> Iterator[Control]:
    """Yield up to three controls: healthy channels that are not due, the most recently renewed first.

    Where there are none, the least urgent due ones, but for those that were `asked` about already; and then
    those that this run has claimed and not begun, `parked`.
    """
    found = database.queries.healthy(selection, LOOKED_AT)
    healthy = _decrypted([row for row in found if not row.replaced], keys, is_due=False)
    first = next(healthy, None)
    if first is not None:
        return islice(chain((first,), healthy), MOST_CONTROLS)
    due = [row for row in database.queries.least_urgent(selection, LOOKED_AT) if row.id not in asked]
    return islice(chain(_decrypted(due, keys, is_due=True), parked), MOST_CONTROLS)


def _decrypted(channels: Collection[Channel], keys: KeyRing, *, is_due: bool) -> Iterator[Control]:
    for channel in channels:
        try:
            yield Control(channel, keys.decrypt(channel.ciphertext).token, is_due)
        except Undecryptable:
            continue
