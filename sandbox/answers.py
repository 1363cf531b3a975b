"""What the simulated Meta can be told to answer: a reply, or one of the ways in which a connection fails."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer; a dict is sent as JSON. The call itself has no effect."""

    status: int
    body: str | bytes | dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> bytes:
        """Return the body as bytes."""
        match self.body:
            case bytes():
                return self.body
            case str():
                return self.body.encode()
            case _:
                return json.dumps(self.body, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Slow:
    """Wait so many seconds, then answer normally."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Cut:
    """Do what was asked, announce the whole answer, send `after` bytes of its body and close the connection.

    An exchange that is answered like this has happened: the caller does not learn the new token.
    """

    after: int = 20
    status: int = 200


@dataclass(frozen=True, slots=True)
class Reset:
    """Do nothing and reset the connection (TCP RST)."""


@dataclass(frozen=True, slots=True)
class Huge:
    """Do nothing and send `size` meaningless bytes with status 200, with or without Content-Length."""

    size: int
    announced: bool = field(default=True, kw_only=True)


@dataclass(frozen=True, slots=True)
class Drip:
    """Answer normally, but send the body, and if told so the `head`, byte by byte over so many seconds."""

    seconds: float
    head: bool = field(default=False, kw_only=True)


Answer: TypeAlias = Reply | Slow | Cut | Reset | Huge | Drip


def trace_id() -> str:
    """Return a random `fbtrace_id` that looks like Meta's."""
    return "A" + secrets.token_urlsafe(16)


def graph_error(
    status: int, message: str, code: int | None = None, subcode: int | None = None, **extra: Any
) -> Reply:
    """Return a Graph error. `extra` adds or replaces fields of it (`is_transient=True`, `type="…"`)."""
    error: dict[str, Any] = {"message": message, "type": "OAuthException"}
    if code is not None:
        error["code"] = code
    if subcode is not None:
        error["error_subcode"] = subcode
    error |= {"fbtrace_id": trace_id()} | extra
    # Meta repeats the message about an invalid token in this header.
    challenge = f'OAuth "Facebook Platform" "invalid_token" "{" ".join(message.split())}"'
    return Reply(status, {"error": error}, {"WWW-Authenticate": challenge} if code == 190 else {})
