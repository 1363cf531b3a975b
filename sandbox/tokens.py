"""Meta's rules about tokens, without HTTP: what an inspection says, and what an exchange returns."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from sandbox.answers import Reply, graph_error

SIXTY_DAYS: Final = 60 * 86400
SCOPES: Final = ("business_management", "whatsapp_business_management", "whatsapp_business_messaging")
REVOKED: Final = (
    190,
    460,
    (
        "Error validating access token: The session has been invalidated because the user changed their "
        "password or Facebook has changed the session for security reasons."
    ),
)
NO_APP: Final = "Error validating application. Cannot get application info due to a system error."
NOT_AN_APP: Final = (
    "(#100) You must provide an app access token, or a user access token that is an owner or developer of "
    "the app"
)

InnerError = tuple[int, int | None, str]
"""Code, subcode and message of a token that is no longer valid."""


class ExpiresIn(Enum):
    """Special values of `SimToken.exchange_expires_in`."""

    TRUE = "the seconds until the new token expires"
    OMIT = "no such key in the answer"


OMIT: Final = ExpiresIn.OMIT


def _random_user_id() -> str:
    return str(10**14 + secrets.randbelow(9 * 10**14))


@dataclass(kw_only=True)
class SimToken:
    """What Meta knows about a token, and what an exchange of it returns. It may be changed at any time.

    Times are unix seconds; 0 means never, and None leaves the key out of the answer. A token is dead if it is
    not `valid`, has an `error`, or is past `expires_at`.
    """

    type: str = "SYSTEM_USER"
    user_id: str = field(default_factory=_random_user_id)
    app_id: str | None = None  # None: the server's own
    scopes: Sequence[str] = SCOPES
    issued_at: int | None = None
    expires_at: int | None = None
    data_access_expires_at: int | None = 0
    valid: bool = True
    error: InnerError | None = None
    exchange_lifetime: int = SIXTY_DAYS
    exchange_same: bool = False
    exchange_fields: dict[str, Any] = field(default_factory=dict)
    exchange_expires_in: Any = ExpiresIn.TRUE

    def death(self, now: float) -> InnerError | None:
        """Return why the token is dead, or None if it is not."""
        if self.error is not None or not self.valid:
            return self.error or REVOKED
        if self.expires_at and self.expires_at <= now:
            ended, current = _spelled(self.expires_at), _spelled(now)
            text = f"Session has expired on {ended}. The current time is {current}."
            return 190, 463, f"Error validating access token: {text}"
        return None


@dataclass(frozen=True, slots=True)
class App:
    """The app whose tokens the server knows."""

    id: str
    secret: str


class TokenRegistry:
    """Every token that Meta knows, and the two calls about them. Not thread-safe: the server has the lock."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.tokens: dict[str, SimToken] = {}
        self.exchanges: list[tuple[str, str]] = []

    def issue(self, token: str | None = None, **fields: Any) -> str:
        """Register a token, by default one that was issued now for 60 days, and return it."""
        name = token or f"EAA-sandbox-{secrets.token_urlsafe(24)}"
        fields.setdefault("issued_at", int(self.now()))
        fields.setdefault("expires_at", (fields["issued_at"] or int(self.now())) + SIXTY_DAYS)
        self.tokens[name] = SimToken(**fields)
        return name

    def debug_token(self, app: App, credential: str, query: Mapping[str, str]) -> Reply:
        """Answer a call of `debug_token` with the app token `credential` (`APPID|SECRET`)."""
        refusal = _refused_caller(app, credential)
        if refusal is not None:
            return refusal
        name = query.get("input_token", "")
        if not name:
            return graph_error(400, "(#100) The parameter input_token is required.", 100)
        token = self.tokens.get(name)
        if token is None:
            error = {"code": 190, "message": f"Malformed access token {name}"}
            return Reply(200, {"data": {"error": error, "is_valid": False, "scopes": []}})
        if token.app_id not in (None, app.id):
            return graph_error(400, "(#100) The App_id in the input_token did not match the Viewing App", 100)
        return Reply(200, {"data": _inspection(token, app, self.now())})

    def exchange(self, app: App, query: Mapping[str, str]) -> Reply:
        """Answer a call that exchanges `fb_exchange_token`. The old token does not change."""
        name = query.get("fb_exchange_token", "")
        refusal = _refused_request(app, query) or self._refused_token(app, name)
        if refusal is not None:
            return refusal
        now = int(self.now())
        old = self.tokens[name]
        if old.exchange_same:
            new_name, new = name, old
        else:
            flag = query.get("set_token_expires_in_60_days") == "true"
            fields = {
                "issued_at": now,
                "expires_at": now + old.exchange_lifetime if _extends(old, flag=flag) else old.expires_at,
            }
            new = dataclasses.replace(old, **(fields | old.exchange_fields))
            new_name = f"EAA-sandbox-{secrets.token_urlsafe(24)}"
            self.tokens[new_name] = new
        self.exchanges.append((name, new_name))
        answer: dict[str, Any] = {"access_token": new_name, "token_type": "bearer"}
        expires_in = old.exchange_expires_in
        if expires_in is ExpiresIn.TRUE:
            expires_in = new.expires_at - now if new.expires_at else OMIT
        if expires_in is not OMIT:
            answer["expires_in"] = expires_in
        return Reply(200, answer)

    def _refused_token(self, app: App, name: str) -> Reply | None:
        token = self.tokens.get(name)
        if token is None:
            return graph_error(400, f"Malformed access token {name}", 190)
        if token.app_id not in (None, app.id):
            return graph_error(400, f"The access token does not belong to application {app.id}", 1)
        death = token.death(self.now())
        if death is not None:
            code, subcode, message = death
            return graph_error(400, message, code, subcode)
        return None


def _refused_caller(app: App, credential: str) -> Reply | None:
    """Return why this app token may not inspect, or None. Its 190s are not about the inspected token."""
    app_id, bar, secret = credential.partition("|")
    if not credential:
        return graph_error(400, "An access token is required to request this resource.", 104)
    if not bar:
        return graph_error(400, NOT_AN_APP, 100)
    if app_id != app.id:
        return graph_error(400, NO_APP, 190)
    if secret != app.secret:
        return graph_error(400, "Invalid OAuth access token signature.", 190)
    return None


def _refused_request(app: App, query: Mapping[str, str]) -> Reply | None:
    """Return why an exchange is refused before Meta looks at the token, in Meta's order, or None."""
    if query.get("client_id") != app.id:
        return graph_error(400, NO_APP, 101)
    if query.get("client_secret") != app.secret:
        return graph_error(400, "Error validating client secret.", 1)
    if query.get("grant_type") != "fb_exchange_token":
        return graph_error(400, "Missing redirect_uri parameter.", 191)
    if not query.get("fb_exchange_token"):
        return graph_error(400, "fb_exchange_token parameter not specified", 1)
    return None


def _extends(token: SimToken, *, flag: bool) -> bool:
    """Return whether an exchange gives 60 new days. A token that never expires then does: avoid that."""
    return flag or token.type != "SYSTEM_USER" or token.expires_at == 0


def _inspection(token: SimToken, app: App, now: float) -> dict[str, Any]:
    """Return the `data` of an inspection. In it the key is `subcode`, elsewhere `error_subcode`."""
    death = token.death(now)
    data: dict[str, Any] = {
        "app_id": app.id,
        "type": token.type,
        "application": "Sandbox App",
        "data_access_expires_at": token.data_access_expires_at,
        "expires_at": token.expires_at,
        "is_valid": death is None,
        "issued_at": token.issued_at,
        "scopes": list(token.scopes),
        "granular_scopes": [
            {"scope": scope, "target_ids": [token.user_id[::-1]]}
            for scope in token.scopes
            if scope.startswith("whatsapp_")
        ],
        "user_id": token.user_id,
    }
    if death is not None:
        code, subcode, message = death
        error = {"code": code, "message": message, "subcode": subcode}
        data["error"] = {key: value for key, value in error.items() if value is not None}
    return {key: value for key, value in data.items() if value is not None}


def _spelled(moment: float) -> str:
    """Return a time as Meta words it: Pacific Standard Time, also in summer."""
    return time.strftime("%A, %d-%b-%y %H:%M:%S PST", time.gmtime(moment - 8 * 3600))
