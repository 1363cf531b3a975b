"""Read Meta's answers: an HTTP answer becomes an `Inspection`, an `Exchanged` or a `MetaError`.

An answer is checked for its shape before it is used. No error holds the body or the URL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs

from whatsapp_tokens.facts import fact, facts
from whatsapp_tokens.meta.errors import (
    Endpoint,
    ForeignToken,
    GraphError,
    MetaError,
    ReconnectRequired,
    Rule,
    Unavailable,
    UnexpectedAnswer,
    as_int,
    classify,
    wording,
)
from whatsapp_tokens.meta.rate_limiter import Usage
from whatsapp_tokens.redaction import Secret, quote_foreign

_LAST_SECOND: Final = 253_402_300_799  # of the year 9999, where Python's dates end
_LONGEST_LIFE: Final = 100 * 365 * 86400  # seconds; a longer one is no date
_NOT_JSON: Final = object()


@dataclass(frozen=True, slots=True)
class Inspection:
    """What Meta says of a valid token. None where it says nothing; `app_id` is ours, or not given.

    `never_expires` is Meta's `expires_at: 0`; `expires_at` is then None. `data_access_expires_at` is also
    None for "never": USER tokens lose data access 90 days after the user's last activity.
    """

    kind: str | None
    user_id: str | None
    expires_at: datetime | None
    never_expires: bool
    data_access_expires_at: datetime | None
    issued_at: datetime | None
    scopes: frozenset[str] | None
    app_id: str | None = None


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A new token. `expires_in` is None if Meta gives none, 0 or nonsense."""

    token: Secret
    expires_in: timedelta | None


def read_payload(endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """Return the JSON object of a successful answer. Raise the `MetaError` of any other."""
    http = fact("HTTP", status)
    if 300 <= status < 400:
        raise UnexpectedAnswer(facts(fact("a redirect, which is never followed"), http))
    text = body.decode("utf-8", errors="replace").strip()
    document: object = _NOT_JSON
    with suppress(ValueError, RecursionError):  # an error raised here would hold theirs, and so the body
        document = json.loads(text)
    if document is _NOT_JSON:
        document = _read_other(endpoint, status, headers, text)
    error = document.get("error") if isinstance(document, dict) else None
    if error is not None or not 200 <= status < 300:
        raise _error(endpoint, GraphError.parse(status, error), headers)
    if not isinstance(document, dict):
        raise UnexpectedAnswer(facts(fact("an answer that is not a JSON object"), http))
    return document


def _read_other(endpoint: Endpoint, status: int, headers: Mapping[str, str], text: str) -> dict[str, Any]:
    """Read a body that is not JSON: an old urlencoded answer, or an error."""
    http = fact("HTTP", status)
    if status == 429 or status >= 500:
        raise _error(endpoint, GraphError(status), headers)
    if not text:
        raise UnexpectedAnswer(facts(fact("an empty answer"), http))
    if text[0] in '{["':
        raise Unavailable(facts(fact("a cut or broken JSON answer"), http))
    if status == 200 and endpoint == "exchange" and text.startswith(("access_token=", "expires")):
        return {name: values[0] for name, values in parse_qs(text).items()}
    raise UnexpectedAnswer(facts(fact("an answer that is not JSON"), http))


def _error(endpoint: Endpoint, answer: GraphError, headers: Mapping[str, str]) -> MetaError:
    rule = classify(endpoint, answer)
    return rule.error(wording(rule, answer), retry_after=_retry_after(headers))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in `Retry-After`, or those in `X-Business-Use-Case-Usage`."""
    seconds = as_int(headers.get("Retry-After"))
    return Usage.parse(headers).regain if seconds is None else float(max(seconds, 0))


def read_inspection(payload: dict[str, Any], app_id: str) -> Inspection:
    """Read `debug_token`'s `data`. Raise `ReconnectRequired` for a dead or foreign token."""
    data = payload.get("data")
    if not isinstance(data, dict):
        raise UnexpectedAnswer(fact("an inspection without data"))
    expires_at = _as_time(data.get("expires_at"))
    data_access_expires_at = _as_time(data.get("data_access_expires_at"))
    if data.get("app_id") is not None and str(data["app_id"]) != app_id:
        other = quote_foreign(str(data["app_id"]), 40)
        raise ForeignToken(fact("the token belongs to another app", other), expires_at=expires_at)
    if data.get("is_valid") is False:
        expiry = min(filter(None, (expires_at, data_access_expires_at)), default=None)
        raise _dead(data.get("error"), expiry, names_app=str(data.get("app_id")) == app_id)
    if data.get("is_valid") is not True:
        raise UnexpectedAnswer(fact("an inspection that does not say whether the token is valid"))
    return Inspection(
        kind=_as_text(data.get("type")),
        user_id=_as_text(data.get("user_id")),
        expires_at=expires_at,
        never_expires=as_int(data.get("expires_at")) == 0,
        data_access_expires_at=data_access_expires_at,
        issued_at=_as_time(data.get("issued_at")),
        scopes=_scopes(data),
        app_id=_as_text(data.get("app_id")),
    )


def _dead(inner_error: object, expires_at: datetime | None, *, names_app: bool) -> MetaError:
    """Return the error for a token that Meta calls invalid; Meta's inner error only says why."""
    answer = GraphError.parse(200, inner_error)
    if answer.is_transient:
        return Unavailable(wording(Rule(Unavailable), answer))
    rule = classify("exchange", answer)  # whose errors are about the token, not about the caller
    if not issubclass(rule.error, ReconnectRequired):
        rule = Rule(ReconnectRequired, "the token is no longer valid")
    error = rule.error(wording(rule, answer), expires_at=expires_at)
    if isinstance(error, ReconnectRequired):
        error.names_app, error.has_cause = names_app, rule.subcode is not None
    return error


def read_exchange(payload: dict[str, Any]) -> Exchanged:
    """Read an exchange. The token must be one word that can be sent in a header."""
    token = payload.get("access_token")
    if not isinstance(token, str) or not token:
        raise UnexpectedAnswer(fact("an exchange without a token"))
    if not token.isprintable() or any(c.isspace() for c in token):
        raise UnexpectedAnswer(fact("an exchange whose token holds spaces or control characters"))
    seconds = as_int(payload.get("expires_in", payload.get("expires")))
    if seconds is None or not 0 < seconds < _LONGEST_LIFE:
        return Exchanged(Secret(token), None)
    return Exchanged(Secret(token), timedelta(seconds=seconds))


def _scopes(data: dict[str, Any]) -> frozenset[str] | None:
    """Return the granted permissions, or None if Meta lists none at all."""
    scopes, granular = data.get("scopes"), data.get("granular_scopes")
    if not isinstance(scopes, list) and not isinstance(granular, list):
        return None
    names = list(scopes) if isinstance(scopes, list) else []
    if isinstance(granular, list):
        names += [entry.get("scope") for entry in granular if isinstance(entry, dict)]
    return frozenset(name for name in names if isinstance(name, str))


def _as_text(value: object) -> str | None:
    """Return a text or a number as text, or None."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _as_time(value: object) -> datetime | None:
    """Return Unix seconds as an aware UTC time, None for 0 and for nothing. Raise `UnexpectedAnswer`."""
    seconds = 0 if value is None else as_int(value)
    if seconds is not None and 0 <= seconds <= _LAST_SECOND:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    raise UnexpectedAnswer(fact("an inspection with an impossible date"))
