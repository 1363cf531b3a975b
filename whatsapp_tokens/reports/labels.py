"""How a channel is named to people, and the link with which its customer reconnects."""

from __future__ import annotations

import re
from typing import Final, Protocol
from urllib.parse import quote

from whatsapp_tokens.redaction import one_line, redact, truncate
from whatsapp_tokens.results import ChannelId

LONGEST_TEXT: Final = 500  # characters of a name, an id or a phone number: a column may hold a megabyte


class Named(Protocol):
    """What a label is made of: a channel, or an outcome."""

    @property
    def id(self) -> ChannelId:
        """The id as it is in the table."""

    @property
    def name(self) -> str:
        """The name, or the id again where there is none."""

    @property
    def phone_number(self) -> str | None:
        """The phone number, if the table map names a column for it."""


def label(one: Named) -> str:
    """Return a channel as people see it: `Bakery (12)`, `Bakery (12, +34 600)`, or only the id."""
    texts = (one.name, str(one.id), one.phone_number or "")
    name, number, phone = map(_short, texts)
    known = [part for part in (number, phone) if part]
    return ", ".join(known) if name in ("", number) else f"{name} ({', '.join(known)})"


def _short(text: str) -> str:
    text = one_line(text)
    # Redacted before it is cut: half a secret is not recognised.
    return text if len(text) <= LONGEST_TEXT else truncate(redact(text), LONGEST_TEXT)


def reconnect_link(url: str, channel: ChannelId) -> str:
    """Return the link to reconnect a channel, in characters that every reader of links takes."""
    return safe_link(url.replace("{channel_id}", quote(str(channel), safe="", errors="replace")))


def safe_link(url: str) -> str:
    """Return an address in characters that every reader of links takes."""
    return re.sub(r"""[^!-~]|["<>\\^`{|}]""", lambda odd: quote(odd.group(), errors="replace"), url)
