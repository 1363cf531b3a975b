"""Let the simulated Meta accept tokens that it did not issue, and fail on purpose: for a rehearsal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Final

from sandbox.answers import Reset, graph_error
from sandbox.graph import GraphServer
from sandbox.tokens import SCOPES, SIXTY_DAYS
from sandbox.wire import Seen

DAY: Final = 86400


class Failure(StrEnum):
    """What goes wrong at Meta. The comments say what a run makes of it."""

    REVOKED = "revoked"  # reconnect_required
    PERMISSION = "permission"  # renewed, then missing_permission
    NOT_EXTENDED = "not-extended"  # not_extended
    SECRET = "secret"  # noqa: S105 - no secret; the run stops: app_rejected
    LIMIT = "limit"  # the run stops: rate_limited
    DOWN = "down"  # unavailable
    UNREACHABLE = "unreachable"  # unavailable

    @property
    def is_of_tokens(self) -> bool:
        """Whether it is a property of the accepted tokens, and not of Meta as a whole."""
        return self in TOKEN_FIELDS


TOKEN_FIELDS: Final[dict[Failure, dict[str, Any]]] = {
    Failure.REVOKED: {"valid": False},
    Failure.PERMISSION: {"scopes": SCOPES[:2]},
    Failure.NOT_EXTENDED: {"exchange_same": True},
}


def read_tokens(lines: Iterable[str]) -> list[str]:
    """Return the tokens of a file that has one in each line. Raise ValueError if a line holds more."""
    tokens = []
    for number, line in enumerate(lines, start=1):
        if len(words := line.split()) > 1:
            raise ValueError(f"line {number} is not one token")
        tokens += words
    return tokens


def accept(meta: GraphServer, tokens: Iterable[str], *, days_left: float, failure: Failure | None) -> None:
    """Register tokens with Meta as the app's own that expire in so many days, of the 60 that they live."""
    issue = _issuer(meta, days_left, failure)
    for token in tokens:
        issue(token)


def accept_any(meta: GraphServer, *, days_left: float, failure: Failure | None) -> None:
    """Let Meta register each token like this when it sees it for the first time."""
    issue = _issuer(meta, days_left, failure)
    lock = threading.Lock()

    def register(seen: Seen) -> None:
        # An app token (`APPID|SECRET`) is inspected, too, and is no customer's.
        if not seen.token or "|" in seen.token:
            return
        with lock:
            try:
                meta.token(seen.token)
            except KeyError:
                issue(seen.token)

    meta.on_request = register


def fail(meta: GraphServer, failure: Failure) -> None:
    """Let Meta as a whole fail from now on. Failures of tokens are for `accept`."""
    match failure:
        case Failure.SECRET:
            meta.app_secret = "another-secret"  # noqa: S105 - made up
        case Failure.LIMIT:
            limited = graph_error(400, "(#4) Application request limit reached", 4)
            meta.script(None, limited, forever=True)
        case Failure.DOWN:
            busy = graph_error(503, "Service temporarily unavailable", 2, is_transient=True)
            meta.script(None, busy, forever=True)
        case Failure.UNREACHABLE:
            meta.script(None, Reset(), forever=True)


def _issuer(meta: GraphServer, days_left: float, failure: Failure | None) -> Callable[[str], object]:
    """Return what registers a token: with Meta's time at that moment, as a server may run for days."""
    fields = TOKEN_FIELDS.get(failure, {}) if failure else {}

    def issue(token: str) -> str:
        expires_at = int(meta.now() + days_left * DAY)
        return meta.issue(token, issued_at=expires_at - SIXTY_DAYS, expires_at=expires_at, **fields)

    return issue
