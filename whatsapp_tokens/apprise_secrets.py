"""Find the secrets in an address of Apprise, so that they are removed from every text.

Nearly every part of `mailto://user:password@example.com` or `tgram://token/chat` may be one, and Apprise does
not describe all of them.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from whatsapp_tokens.apprise_target import open_service
from whatsapp_tokens.redaction import SHORTEST_SEARCHED, Secret

if TYPE_CHECKING:
    from apprise import NotifyBase

SHORTEST_PART: Final = 8  # characters; a shorter part of an address does not look like a credential
LONGEST_WORD: Final = 20
_WORD: Final = re.compile(r"[A-Za-z][a-z]*|[A-Z]+|([A-Z][a-z]{2,})+")
_NAMES: Final = re.compile(r"(?i)pass|secret|token|key|auth|sig|sid")  # of parameters that hold credentials


def secret_parts(address: Secret) -> Iterator[Secret]:
    """Yield the secrets of an address: all of it, what Apprise calls private, what looks like a credential.

    Hosts, users, receivers and ordinary words are not: they occur in other texts, too.
    """
    text = address.reveal()
    found = {text}
    rest = text.partition("://")[2]
    if not re.fullmatch(r"[\w.-]*(:\d+)?/?", rest):
        found.add(rest)
    with suppress(ValueError):  # an address that Apprise refuses is never used
        service = open_service(text)
        found |= _private(service) | _blanked(service, text) | _alike(text, own=set(service.template_args))
    return map(Secret, found)


def _private(service: NotifyBase) -> set[str]:
    """Return the values of what Apprise's description of a service calls private."""
    found: set[str] = set()
    for name, about in {**service.template_tokens, **service.template_args}.items():
        held = getattr(service, about.get("map_to", name), None)
        if about.get("private") and isinstance(held, str):
            parts = {held, held.partition(":")[2]} if name == "bot_token" else {held}  # Telegram's `id:token`
            found |= {part for part in parts if _NAMES.search(name) or not _is_ordinary(part)}
    return {part for part in found if len(part) >= SHORTEST_SEARCHED}


def _blanked(service: NotifyBase, address: str) -> set[str]:
    """Return what Apprise hides or leaves out when it shows an address: more than it describes."""
    shown, known = (
        set(_pieces(service.url(privacy=hides), "@"))  # type: ignore[no-untyped-call]
        for hides in (True, False)
    )
    password = unquote(urlsplit(address).password or "")
    found = {password, *(piece for piece in known if not _is_ordinary(piece))} - shown
    return {piece for piece in found if len(piece) >= SHORTEST_SEARCHED}


def _alike(address: str, *, own: Container[str]) -> set[str]:
    """Return what looks like a credential after the host; `own` are the names of Apprise's parameters."""
    parts = urlsplit(address)
    found = {piece for piece in _pieces(f"{parts.path}/{parts.fragment}") if _is_credential(piece)}
    for name, value in parse_qsl(parts.query):
        if _NAMES.search(name) and len(value) >= SHORTEST_SEARCHED:
            found |= set() if name in own and _is_ordinary(value) else {value}
        elif name not in own and _is_credential(value):
            found.add(value)
    return found


def _pieces(text: str, more: str = "") -> list[str]:
    """Split an address at its separators, and decode the pieces."""
    return list(map(unquote, re.split(f"[/?#&=;:,{more}]", text)))


def _is_credential(text: str) -> bool:
    """Return whether a text looks too random to be a name."""
    if "@" in text or len(text) < SHORTEST_PART:
        return False
    is_mixed = any(c.isdigit() for c in text) and any(c.isalpha() for c in text)
    return is_mixed or (len(text) >= LONGEST_WORD and not _is_ordinary(text))


def _is_ordinary(text: str) -> bool:
    """Return whether a text is words, or a short number such as a year."""
    if text.isdigit():
        return len(text) < SHORTEST_PART
    words = re.split(r"[-_. ]+", text)
    return all(len(word) < LONGEST_WORD and _WORD.fullmatch(word) for word in words)
