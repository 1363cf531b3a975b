"""What `--check` says of the keys: which of them the stored tokens still need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from crypto import KeyRing, Undecryptable
from models import Channel
from whatsapp_tokens.commands.result import Finding, Level
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.reports.language import ENGLISH

MOST_NAMED: Final = 3  # channels whose token cannot be decrypted
TO_DO: Final = "add the missing key, or store a token (--set-token)"


def check_keys(database: Database, keys: KeyRing) -> Finding:
    """Try the keys on every stored token.

    Those of inactive channels count, too: such a channel may be active again after its key has gone.
    """
    active = _Tried.on(keys, database.queries.candidates())
    inactive = _Tried.on(keys, database.queries.inactive())
    if active.unreadable and not active.by_key:
        tokens = _count(active.unreadable, "stored token")
        text = f"TOKEN_ENCRYPTION_KEY opens none of {tokens}: give the application's key ({active.named[0]})"
        return Finding("keys", Level.PROBLEM, text)
    text = _key_use(active, inactive, len(keys))
    if inactive.unreadable:
        text += f"; {inactive.unreadable} of inactive channels cannot be opened: {inactive.examples}"
    if active.unreadable:
        text += f"; {active.unreadable} cannot be opened, so {TO_DO}: {active.examples}"
    level = Level.PROBLEM if active.unreadable else Level.WARNING if inactive.unreadable else Level.OK
    return Finding("keys", level, text)


@dataclass(slots=True)
class _Tried:
    """How many tokens each key of the ring decrypts, and how many none does, with the first of these."""

    by_key: Counter[int] = field(default_factory=Counter)
    unreadable: int = 0
    named: list[str] = field(default_factory=list)

    @classmethod
    def on(cls, keys: KeyRing, channels: Iterator[Channel]) -> _Tried:
        """Try the keys on the tokens of channels."""
        tried = cls()
        for channel in channels:
            try:
                tried.by_key[keys.decrypt(channel.ciphertext).key_index] += 1
            except Undecryptable as error:
                tried.unreadable += 1
                if len(tried.named) < MOST_NAMED:
                    tried.named.append(f"channel {channel.id}, {ENGLISH.detail(str(error))}")
        return tried

    @property
    def examples(self) -> str:
        """The first that cannot be decrypted, with the reason of each, and how many more there are."""
        more = self.unreadable - len(self.named)
        return "; ".join([*self.named, *([f"and {more} more"] if more else [])])


def _key_use(active: _Tried, inactive: _Tried, keys: int) -> str:
    """Return how many tokens each key decrypts, and which keys of the ring are no longer needed."""
    if not (active.by_key or inactive.by_key):
        return f"{_count(keys, 'key')}; there is no stored token to try them on"
    used, also = active.by_key, inactive.by_key
    total = _count(used.total() + active.unreadable, "stored token")
    uses = [f"the first key opens {used[0]} of {total}"]
    uses += [f"{used[key]} still need key {key + 1}" for key in range(1, keys) if used[key]]
    uses += [
        f"{also[key]} of inactive channels need key {key + 1} (no run renews them)"
        for key in range(1, keys)
        if also[key]
    ]
    uses += [f"key {key + 1} opens none" for key in range(1, keys) if not (used[key] or also[key])]
    return ", ".join(uses)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
