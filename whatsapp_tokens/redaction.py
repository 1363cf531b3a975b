"""Secrets, and the removal of secrets from every text that is shown.

Every token, key and password in memory is a `Secret`. It prints as stars, and `reveal()` is the only way to
its value, so `grep reveal` lists every place that uses one. `redact()` removes the values of all living
`Secret`s from a text, and what looks like a credential. The formatters redact the *finished* log line,
because a filter would miss tracebacks.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
import weakref
from collections.abc import Collection
from typing import Any, Final, NoReturn
from urllib.parse import quote, quote_plus

MASK: Final = "***"

SHORTEST_SEARCHED: Final = 4  # characters; to mask a shorter secret would mask ordinary words
SHORTEST_PIECE: Final = 12  # characters of a secret that others may not repeat

JOINERS: Final = "\u200c\u200d"  # zero width non-joiner and joiner


class Secret:
    """A string that prints as stars. Compares by value.

    While an instance lives, `redact()` removes its value from every text.
    """

    __slots__ = ("__forms", "__value", "__weakref__")

    def __init__(self, value: str) -> None:
        self.__value = value
        self.__forms: frozenset[str] | None = None
        if len(value) >= SHORTEST_SEARCHED:
            with _living_lock:
                _living[id(self)] = self

    def reveal(self) -> str:
        """Return the value: every call is a place where the secret is in the open."""
        return self.__value

    def reveal_forms(self) -> frozenset[str]:
        """Return all that it may look like in a text. Computed once: every text is searched for them."""
        if self.__forms is None:
            self.__forms = frozenset(_forms(self.__value))
        return self.__forms

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.__value == other.__value

    def __hash__(self) -> int:
        return hash((Secret, self.__value))

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret does not leave the process")


# By identity: if one of two equal secrets is deleted, the other must still be found.
_living: weakref.WeakValueDictionary[int, Secret] = weakref.WeakValueDictionary()
_living_lock = threading.RLock()  # reentrant: a signal handler may log while its own thread holds it


def redact(text: str) -> str:
    """Return the text without the values of living secrets, and without what looks like a credential."""
    found = {form for secret in _living_secrets() for form in secret.reveal_forms() if form in text}
    for form in sorted(found, key=len, reverse=True):  # an app token contains the app secret
        text = text.replace(form, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _living_secrets() -> list[Secret]:
    with _living_lock:
        return list(_living.values())


def quote_foreign(text: str, limit: int = 200) -> str:
    """Return what others wrote as one line without secrets, of at most `limit` characters.

    Meta echoes tokens in some messages, sometimes only their beginning. So here pieces of secrets are masked,
    too, and every long run of mixed characters, because tokens have no certain shape.
    """
    cleaned = _without_pieces(redact(_fold(text))[: 10 * limit])  # one may quote a megabyte
    return truncate(_LONG_RUN.sub(_mask_if_mixed, cleaned), limit)


def _without_pieces(text: str) -> str:
    """Mask pieces of secrets. Of an address only its secret parts count, and ids of digits do not."""
    secrets = [secret for secret in _living_secrets() if "://" not in secret.reveal()]
    all_forms = "\0".join(form for secret in secrets for form in secret.reveal_forms())
    kept: list[str] = []
    start = 0
    while piece := text[start : start + SHORTEST_PIECE]:
        if len(piece) < SHORTEST_PIECE or piece.isdigit() or piece not in all_forms:
            kept.append(text[start])
            start += 1
            continue
        end = start + SHORTEST_PIECE
        while end < len(text) and text[start : end + 1] in all_forms:
            end += 1
        kept.append(MASK)
        start = end
    return "".join(kept)


def truncate(text: str, length: int) -> str:
    """Return `text` if it has at most `length` characters, else its beginning and an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def one_line(text: str) -> str:
    """Return the text with white space folded and control characters removed, safe for a terminal and a log.

    Joiners between two letters or pictures stay: some emoji and Persian names are written with them.
    """
    if text.isprintable():
        return " ".join(text.split())
    around = zip(f" {text}", text, f"{text[1:]} ", strict=False)
    return _fold(
        text, keep={place for place, (a, c, b) in enumerate(around) if c in JOINERS and _joins(a, b)}
    )


def _joins(before: str, after: str) -> bool:
    return all(c.isprintable() and not c.isspace() for c in (before, after))


def _fold(text: str, keep: Collection[int] = ()) -> str:
    """Return one line of the printable characters, and those at the places to keep."""
    kept = (c if c.isprintable() or place in keep else " " for place, c in enumerate(text))
    return " ".join("".join(kept).split())


class RedactingFormatter(logging.Formatter):
    """Log lines for people: UTC times, and the finished line redacted, with its traceback."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text without secrets."""
        return redact(super().format(record))


class RedactingJsonFormatter(logging.Formatter):
    """Log lines as JSON objects: `time`, `level`, `logger`, `message` and, after an error, `traceback`."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one JSON object without secrets."""
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            line["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def _forms(value: str) -> set[str]:
    """Return a secret as it stands, and as URLs, JSON, Python's `repr` and `one_line` write it."""
    if value.isascii() and value.isalnum():
        return {value}
    encoded = {quote(value, safe, errors="surrogatepass") for safe in ("", "/", _REQUESTS_SAFE)}
    encoded.add(quote_plus(value, errors="surrogatepass"))
    encoded |= {re.sub(r"%[0-9A-F]{2}", lambda match: match.group().lower(), form) for form in encoded}
    quoted = {json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value), ascii(value)}
    forms = {value, one_line(value), _fold(value), *encoded, *(form[1:-1] for form in quoted)}
    return {form for form in forms if len(form) >= SHORTEST_SEARCHED}


_REQUESTS_SAFE: Final = "!#$%&'()*+,/:;=?@[]~"  # what `requests` does not encode in a URL

# Credentials that are known by their shape. All others are found by their value.
_PATTERNS: Final = (
    # query parameters, urlencoded bodies, JSON members, dicts and pairs that carry a credential
    (
        re.compile(
            r"(?i)(access_token|input_token|fb_exchange_token|client_secret|appsecret_proof|refresh_token)"
            r"((?:\\*[\"']?\s*(?:[=:]|%3d)\s*(?:b?\\*[\"'])?|[\"']\s*,\s*b?[\"'])(?:bearer\s+)?)"
            r"(?:\\[^\"'\s]|[^\s&\"',;}\\])+"
        ),
        rf"\1\2{MASK}",
    ),
    (re.compile(r"(?i)\b(bearer|oauth)(\s+)[\w%.~+/|-]{16,}=*"), rf"\1\2{MASK}"),
    # every token of Meta that was seen in public begins like this; before it there may be \n or %3D
    (re.compile(r"EAA[\w-]{8,}"), MASK),
    # user:password@ in any URL
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://[^\s:/@]*):[^\s/]*@"), rf"\1:{MASK}@"),
    (re.compile(r"(?i)(hooks\.slack\.com/(?:services|workflows|triggers)/)[\w/-]+"), rf"\1{MASK}"),
    # urllib3 writes the host and the path of a webhook apart
    (re.compile(r"(/(?:services|workflows|triggers)/)T\w+/[\w/-]+"), rf"\1{MASK}"),
)
_LONG_RUN: Final = re.compile(r"[\w|.~+/=%-]{20,}")


def _mask_if_mixed(match: re.Match[str]) -> str:
    """Mask a run with digits or capitals; permission names such as whatsapp_business_messaging stay."""
    run = match.group()
    return run if run.islower() and not any(c.isdigit() for c in run) else MASK
