"""Secrets, and the last line of defence against printing one.

`Secret` wraps every token, key and password while it is in memory: printing it shows stars, and
`reveal()` is the one way to its value, so a search for that word lists every place where a secret
is in the open. Whatever is alive as a `Secret` is also taken out of any text that goes through
`redact()`; on top of that, patterns catch what was never wrapped. The formatters clean the
*finished* line, because a filter would miss tracebacks.
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

# Shorter values are not searched for: they would blank out ordinary words.
SHORTEST_SEARCHED: Final = 4

JOINERS: Final = "\u200c\u200d"  # zero width non-joiner and joiner


class Secret:
    """A string that will not print. Compares by value; hidden in `repr`, `str` and f-strings.

    While an instance lives, `redact()` removes its value from any text.
    """

    __slots__ = ("__forms", "__value", "__weakref__")

    def __init__(self, value: str) -> None:
        self.__value = value
        self.__forms: frozenset[str] | None = None
        if len(value) >= SHORTEST_SEARCHED:
            with _living_lock:
                _living[id(self)] = self

    def reveal(self) -> str:
        """The value itself: every call is a place where the secret is in the open."""
        return self.__value

    def reveal_forms(self) -> frozenset[str]:
        """All that it may look like in a text. Reckoned once: every text shown is searched for them."""
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


# By identity, not by value: of two equal secrets the one that dies first must not hide the other.
_living: weakref.WeakValueDictionary[int, Secret] = weakref.WeakValueDictionary()
_living_lock = threading.RLock()  # a signal handler may log while its own thread is in here


def redact(text: str) -> str:
    """`text` without any living secret, and without what looks like a credential."""
    with _living_lock:
        living = list(_living.values())
    found = {form for secret in living for form in secret.reveal_forms() if form in text}
    # Longest first: an app token contains the app secret.
    for form in sorted(found, key=len, reverse=True):
        text = text.replace(form, MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def quote_foreign(text: str, limit: int = 200) -> str:
    """What somebody else wrote, made fit to repeat: one line, at most `limit` characters, no secret.

    Meta echoes tokens in some messages, and tokens have no shape that one could rely on; so here
    every long run of mixed characters goes, not only what is known to be secret.
    """
    cleaned = _LONG_RUN.sub(_mask_if_mixed, redact(_fold(text)))
    return truncate(cleaned, limit)


def truncate(text: str, length: int) -> str:
    """Return `text` if it has at most `length` characters, else its beginning and an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def one_line(text: str) -> str:
    """`text` with white space folded and control characters gone: safe in a terminal and a log.

    Joiners between two letters or pictures stay: families of emoji and Persian names are spelt with them.
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
    """One line without any character that is not printable, but for those at the places to keep."""
    kept = (c if c.isprintable() or place in keep else " " for place, c in enumerate(text))
    return " ".join("".join(kept).split())


class RedactingFormatter(logging.Formatter):
    """A formatter for people: UTC times, and the finished line, traceback included, redacted."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%SZ")

    def format(self, record: logging.LogRecord) -> str:
        """The whole record as text without secrets."""
        return redact(super().format(record))


class RedactingJsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message` and, after an error, `traceback`."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        """The whole record as one JSON object without secrets."""
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
    """A secret as it stands, and as URLs, JSON, Python's `repr` and `one_line` would write it."""
    if value.isascii() and value.isalnum():
        return {value}
    encoded = {quote(value, safe, errors="surrogatepass") for safe in ("", "/", _REQUESTS_SAFE)}
    encoded.add(quote_plus(value, errors="surrogatepass"))
    encoded |= {re.sub(r"%[0-9A-F]{2}", lambda match: match.group().lower(), form) for form in encoded}
    quoted = {json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value), ascii(value)}
    forms = {value, one_line(value), _fold(value), *encoded, *(form[1:-1] for form in quoted)}
    return {form for form in forms if len(form) >= SHORTEST_SEARCHED}


_REQUESTS_SAFE: Final = "!#$%&'()*+,/:;=?@[]~"  # what `requests` leaves as it is in a URL

# Credentials in shapes that are known beforehand. Anything else is caught by its value.
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
    # every token of Meta's that has been seen in public begins so; before it may stand \n or %3D
    (re.compile(r"EAA[\w-]{8,}"), MASK),
    # user:password@ in any URL
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,30}://[^\s:/@]*):[^\s/]*@"), rf"\1:{MASK}@"),
    (re.compile(r"(?i)(hooks\.slack\.com/(?:services|workflows|triggers)/)[\w/-]+"), rf"\1{MASK}"),
    # urllib3 writes the host and the path of a webhook apart
    (re.compile(r"(/(?:services|workflows|triggers)/)T\w+/[\w/-]+"), rf"\1{MASK}"),
)
_LONG_RUN: Final = re.compile(r"[\w|.~+/=%-]{20,}")


def _mask_if_mixed(match: re.Match[str]) -> str:
    """Permission names such as whatsapp_business_messaging stay; anything with digits or capitals goes."""
    run = match.group()
    return run if run.islower() and not any(c.isdigit() for c in run) else MASK
