"""The wrong answers of a Meta that fails: every kind that was reported of the real one, and its share."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from sandbox.answers import Answer, Cut, Huge, Reply, Reset, graph_error
from sandbox.graph import APP_ID
from sandbox.wire import Endpoint


class Kind(Enum):
    """What a wrong answer looks like."""

    PASSING = auto()  # asking again may help at once
    LIMIT = auto()  # of one user or business
    APP_LIMIT = auto()
    APP = auto()  # our app is refused
    DEAD = auto()  # the token is called dead, although it is not
    UNREADABLE = auto()  # the same, in words that Meta also uses of all tokens at once
    SCOPES = auto()  # permissions are not listed, although they are there
    ODD = auto()  # it fits nothing


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong answer, on one endpoint or both (None). No `answer`: the right one, without permissions."""

    kind: Kind
    answer: Callable[[], Answer] | None
    endpoint: Endpoint | None = None


def pick(rng: random.Random, endpoint: Endpoint) -> Fault:
    """Return a wrong answer for a call: mostly one that passes, else any of the others."""
    kinds = rng.choices(list(_SHARES), weights=list(_SHARES.values()))
    fitting = [fault for fault in FAULTS if fault.kind is kinds[0] and fault.endpoint in (None, endpoint)]
    return rng.choice(fitting or [fault for fault in FAULTS if fault.kind is Kind.PASSING])


# Of a hundred wrong answers, so many are of each kind.
_SHARES: Final = {
    Kind.PASSING: 80,
    Kind.LIMIT: 3,
    Kind.APP_LIMIT: 1,
    Kind.APP: 3,
    Kind.DEAD: 4,
    Kind.UNREADABLE: 2,
    Kind.SCOPES: 2,
    Kind.ODD: 5,
}


def _error(kind: Kind, status: int, message: str, *code: int, **more: Any) -> Fault:
    endpoint: Endpoint | None = more.pop("endpoint", None)
    return Fault(kind, lambda: graph_error(status, message, *code, **more), endpoint)


def _body(kind: Kind, status: int, body: str | dict[str, Any], endpoint: Endpoint | None = None) -> Fault:
    return Fault(kind, lambda: Reply(status, body), endpoint)


def _dead(message: str, code: int, subcode: int | None = None) -> Fault:
    """Return an inspection that calls a token dead."""
    error = {"code": code, "message": message, "subcode": subcode}
    data = {"app_id": APP_ID, "is_valid": False, "error": error, "scopes": []}
    return _body(Kind.DEAD, 200, {"data": data}, "debug_token")


_SESSION: Final = "Error validating access token: "
_PASSWORD: Final = _SESSION + "The session has been invalidated because the user changed their password."
_BLOCKED: Final = "API access blocked."

FAULTS: Final[tuple[Fault, ...]] = (
    # It may pass: asked again at once, Meta answers.
    _error(Kind.PASSING, 500, "An unknown error has occurred.", 1),
    _error(Kind.PASSING, 400, "An unknown error has occurred.", 1),
    _error(Kind.PASSING, 400, "Please reduce the amount of data you're asking for", 1),
    _error(Kind.PASSING, 503, "Service temporarily unavailable", 2),
    _error(Kind.PASSING, 400, "Service temporarily unavailable", 2),
    _error(Kind.PASSING, 400, "Error validating access token", 190, is_transient=True),
    _error(Kind.PASSING, 500, "Something went wrong", 131000),
    _error(Kind.PASSING, 400, "Service unavailable", 131016),
    _error(Kind.PASSING, 400, "Account in maintenance mode", 131057),
    _body(Kind.PASSING, 502, "<html><body>Bad Gateway</body></html>"),
    _body(Kind.PASSING, 504, ""),
    _body(Kind.PASSING, 200, '{"data": {"is_va'),
    Fault(Kind.PASSING, Reset),
    Fault(Kind.PASSING, lambda: Cut(after=0)),
    Fault(Kind.PASSING, lambda: Cut(after=20)),
    # A limit.
    _error(Kind.LIMIT, 400, "User request limit reached", 17),
    _error(Kind.LIMIT, 400, "Page request limit reached", 32),
    _error(Kind.LIMIT, 400, "There have been too many calls to this WhatsApp Business account.", 80008),
    _error(Kind.LIMIT, 400, "Spam rate limit hit", 131048),
    _error(Kind.LIMIT, 400, "(#9) The user is performing too many actions", 9),
    _error(Kind.APP_LIMIT, 403, "(#4) Application request limit reached", 4),
    _error(Kind.APP_LIMIT, 400, "Calls to this API have exceeded the rate limit.", 613),
    _error(Kind.APP_LIMIT, 429, "Rate limit hit", 130429),
    _error(Kind.APP_LIMIT, 400, "It looks like you were misusing this feature by going too fast.", 368),
    _body(Kind.APP_LIMIT, 429, "Too Many Requests"),
    # Our app is refused.
    _error(Kind.APP, 400, "Error validating client secret.", 1),
    _error(Kind.APP, 400, "Error validating application. Cannot get application info.", 101),
    _error(Kind.APP, 400, "Error validating application. Invalid application ID.", 190),
    _error(Kind.APP, 400, "Invalid OAuth access token signature.", 190, endpoint="debug_token"),
    _error(Kind.APP, 400, _BLOCKED, 200),
    _error(Kind.APP, 400, "API access deactivated. To reactivate, go to the app dashboard", 200),
    _error(Kind.APP, 401, "API access disrupted. Go to the App Dashboard and complete Data Use Checkup."),
    _error(Kind.APP, 400, "This IP can't make requests for that application.", 5),
    _error(Kind.APP, 400, "(#3) Application does not have the capability to make this API call.", 3),
    _error(Kind.APP, 400, "Unknown path components: /debug_token", 2500),
    _error(Kind.APP, 400, "API calls from the server require an appsecret_proof argument", 100),
    # The token is called dead.
    _error(Kind.DEAD, 400, _PASSWORD, 190, 460, endpoint="exchange"),
    _error(
        Kind.DEAD, 401, _SESSION + "The session was invalidated explicitly.", 190, 466, endpoint="exchange"
    ),
    _error(Kind.DEAD, 400, "The user has not authorized application 1.", 190, 458, endpoint="exchange"),
    _error(
        Kind.DEAD, 400, "(#10) Application does not have permission for this action", 10, endpoint="exchange"
    ),
    _error(Kind.DEAD, 403, "(#200) Permissions error", 200, endpoint="exchange"),
    _error(Kind.DEAD, 400, "Access denied", 131005, endpoint="exchange"),
    _error(Kind.DEAD, 400, "The account has been locked", 131031, endpoint="exchange"),
    _dead(_PASSWORD, 190, 460),
    _dead(_SESSION + "The user is enrolled in a blocking, logged-in checkpoint", 190, 459),
    _dead(_SESSION + "Session does not match current stored session.", 190),
    _error(Kind.UNREADABLE, 400, "Cannot parse access token", 190, endpoint="exchange"),
    _error(Kind.UNREADABLE, 400, "The access token could not be decrypted", 190, endpoint="exchange"),
    _body(
        Kind.UNREADABLE,
        200,
        {"data": {"is_valid": False, "error": {"code": 190, "message": "Malformed access token"}}},
        "debug_token",
    ),
    Fault(Kind.SCOPES, None, "debug_token"),
    # It fits nothing.
    _error(Kind.ODD, 400, "(#100) Invalid parameter", 100, endpoint="exchange"),
    _error(Kind.ODD, 400, "(#803) Some of the aliases you requested do not exist", 803, endpoint="exchange"),
    _error(Kind.ODD, 400, "Duplicate status message", 506, endpoint="exchange"),
    _body(Kind.ODD, 404, "<html><body>Not found</body></html>"),
    _body(Kind.ODD, 200, "<html><body>Log in</body></html>"),
    _body(Kind.ODD, 302, ""),
    _body(Kind.ODD, 200, "true"),
    _body(Kind.ODD, 200, "[null]"),
    _body(Kind.ODD, 200, '{"access_token": null, "expires_in": 0}', "exchange"),
    _body(Kind.ODD, 200, '{"data": []}', "debug_token"),
    Fault(Kind.ODD, lambda: Huge(2 * 1024 * 1024)),
)
