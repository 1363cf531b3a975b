"""What the simulated Meta can be told to answer: plain replies, and all that goes wrong on a wire."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer, sent as it stands; a dict is sent as JSON. The call itself has no effect."""

    status: int
    body: str | bytes | dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        """The body as it goes over the wire."""
        match self.body:
            case bytes():
                return self.body
            case str():
                return self.body.encode()
            case _:
                return json.dumps(self.body, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Slow:
    """Wait that many seconds, then answer normally."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Do what was asked, announce the whole answer, send `after` bytes of its body and hang up.

    An exchange answered like this has happened: the caller only does not know the new token.
    """

    after: int = 20
    status: int = 200


@dataclass(frozen=True, slots=True)
class Reset:
    """Do nothing and reset the connection (a TCP RST, not an orderly end)."""


@dataclass(frozen=True, slots=True)
class Huge:
    """Do nothing and send `size` bytes of rubbish with status 200; the length can stay un-`announced`."""

    size: int
    announced: bool = field(default=True, kw_only=True)


@dataclass(frozen=True, slots=True)
class Drip:
    """Answer normally, the body one byte at a time over that many seconds; the `head` too, if so told."""

    seconds: float
    head: bool = field(default=False, kw_only=True)


Answer: TypeAlias = Reply | Slow | Cut | Reset | Huge | Drip


def trace_id() -> str:
    """A random `fbtrace_id`, shaped like Meta's."""
    return "A" + secrets.token_urlsafe(16)


def graph_error(
    status: int, message: str, code: int | None = None, subcode: int | None = None, **extra: Any
) -> Reply:
    """A Graph error; `extra` adds fields to it or replaces them (`is_transient=True`, `type="…"`)."""
    error: dict[str, Any] = {"message": message, "type": "OAuthException"}
    if code is not None:
        error["code"] = code
    if subcode is not None:
        error["error_subcode"] = subcode
    error |= {"fbtrace_id": trace_id()} | extra
    # Meta repeats the message of an invalid token in this header, so whatever leaks there, leaks twice.
    challenge = f'OAuth "Facebook Platform" "invalid_token" "{" ".join(message.split())}"'
    return Reply(status, {"error": error}, {"WWW-Authenticate": challenge} if code == 190 else {})
