"""Meta's Graph API: the only room that speaks HTTP to it.

Two verbs: `inspect` (`GET /debug_token`) and `exchange` (`GET /oauth/access_token`). Their answers
are parsed by shape before they are believed, and nothing of `requests` leaves this module, because
its exceptions hold the URL and the URL holds the secrets. What can go wrong is `graph_errors`' tree.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs

import requests
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from whatsapp_tokens.http_session import ERRORS, Address, open_session
from whatsapp_tokens.meta.errors import (
    Endpoint,
    GraphError,
    MetaError,
    RateLimited,
    ReconnectRequired,
    Rule,
    Unavailable,
    UnexpectedAnswer,
    as_int,
    classify,
    wording,
)
from whatsapp_tokens.meta.rate_limiter import RateLimiter, Usage
from whatsapp_tokens.redaction import Secret, quote_foreign
from whatsapp_tokens.signals import Sleep

logger = logging.getLogger(__name__)

PATHS: Final[Mapping[Endpoint, str]] = {"debug_token": "debug_token", "exchange": "oauth/access_token"}
MAX_ANSWER_BYTES: Final = 1024 * 1024
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999, where Python's dates end
_LONGEST_LIFE: Final = 100 * 365 * 86400  # seconds; later than this is nonsense, and no date to reckon with
_NOT_JSON: Final = object()
CONNECT_SECONDS: Final = 10.0
SYSTEM_USER: Final = "SYSTEM_USER"
_SYSTEM_USER_FLAG: Final = {"set_token_expires_in_60_days": "true"}


@dataclass(frozen=True, slots=True)
class MetaConfig:
    """How to reach Meta. `timeout`, `retry_wait` and `rate_limit_wait` are seconds."""

    app_id: str
    app_secret: Secret
    version: str
    url: str = "https://graph.facebook.com"
    timeout: float = 30
    retries: int = 3
    retry_wait: float = 1
    rate_limit_wait: float = 600
    connections: int = 16


@dataclass(frozen=True, slots=True)
class Inspection:
    """What Meta says of a living token of our app. None where it says nothing.

    `never_expires` is Meta's `expires_at: 0`; `expires_at` is then None. `data_access_expires_at` is
    None for "never", too: USER tokens lose data access 90 days after the user's last activity.
    """

    kind: str | None
    user_id: str | None
    expires_at: datetime | None
    never_expires: bool
    data_access_expires_at: datetime | None
    issued_at: datetime | None
    scopes: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A new token. `expires_in` is None where Meta does not say, or says 0 or nonsense."""

    token: Secret
    expires_in: timedelta | None


class MetaClient:
    """Inspects and exchanges tokens. Safe to share between threads."""

    def __init__(self, config: MetaConfig, *, sleep: Sleep) -> None:
        self._config = config
        self._app_token = Secret(f"{config.app_id}|{config.app_secret.reveal()}")
        self._sleep = sleep
        self._gate = RateLimiter(config.rate_limit_wait, sleep)
        self._session = open_session(config.url, connections=config.connections)
        self._addresses = {
            endpoint: Address(self._session, f"{config.url}/{config.version}/{path}")
            for endpoint, path in PATHS.items()
        }
        self._fresh = threading.local()
        self._version_lock = threading.Lock()
        self._version_warned = False
        self._retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, MetaError) and error.retryable),
            stop=stop_after_attempt(config.retries + 1),
            wait=wait_exponential_jitter(multiplier=config.retry_wait, jitter=config.retry_wait / 2),
            sleep=sleep,
            reraise=True,
        )

    @property
    def retry_wait(self) -> float:
        """Seconds before something is asked a second time."""
        return self._config.retry_wait

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()

    def inspect(self, token: Secret) -> Inspection:
        """Ask Meta about a token: https://developers.facebook.com/docs/graph-api/reference/debug_token.

        Raises `ReconnectRequired` if it is dead or of another app, with `expires_at` if Meta knows it;
        otherwise any `MetaError`, or `Interrupted`.
        """
        payload = self._get(
            "debug_token",
            {"input_token": token.reveal()},
            # As bytes: a text that is not Latin-1 would be refused with an error that repeats it.
            {"Authorization": f"Bearer {self._app_token.reveal()}".encode()},
        )
        return _inspection(payload, self._config.app_id)

    def check_app(self) -> None:
        """Make sure that Meta accepts our app id and secret: ask about the app token itself.

        Whatever Meta says of it, it has let us ask. Raises any other `MetaError`, or `Interrupted`.
        """
        with suppress(ReconnectRequired):
            self.inspect(self._app_token)

    def exchange(self, token: Secret, kind: str | None) -> Exchanged:
        """Exchange a living token for a new one; the old one stays valid until its own end.

        `kind` is the token's type as `inspect` gave it: 60-day tokens of system users want a flag more,
        and what that flag does to another token is not known.
        https://developers.facebook.com/docs/facebook-login/guides/access-tokens/get-long-lived
        """
        params = {
            "grant_type": "fb_exchange_token",
            "client_id": self._config.app_id,
            "client_secret": self._config.app_secret.reveal(),
            "fb_exchange_token": token.reveal(),
        }
        if kind == SYSTEM_USER:
            params |= _SYSTEM_USER_FLAG
        exchanged = _exchanged(self._get("exchange", params, {}))
        self._fresh.token = exchanged.token
        return exchanged

    def _get(self, endpoint: Endpoint, params: dict[str, str], headers: dict[str, bytes]) -> dict[str, Any]:
        """One call with its retries. The payload, or a `MetaError`."""
        return self._retrying(self._get_within_limits, endpoint, params, headers)

    def _get_within_limits(
        self, endpoint: Endpoint, params: dict[str, str], headers: dict[str, bytes]
    ) -> dict[str, Any]:
        """One call, repeated while the whole app is limited and the budget of waiting lasts."""
        proves = endpoint == "debug_token" and params["input_token"] == self._fresh_token()
        while True:
            called_at = self._gate.enter(begins=not proves)
            try:
                return self._get_once(endpoint, params, headers, called_at, has_begun=proves)
            except RateLimited as limited:
                self._gate.pause(limited, called_at)

    def _fresh_token(self) -> str | None:
        """The token that this thread got last: it is still to be proved, or its exchange was for nothing."""
        fresh: Secret | None = getattr(self._fresh, "token", None)
        return None if fresh is None else fresh.reveal()

    def _get_once(
        self,
        endpoint: Endpoint,
        params: dict[str, str],
        headers: dict[str, bytes],
        called_at: float,
        *,
        has_begun: bool,
    ) -> dict[str, Any]:
        config = self._config
        failure = None
        try:
            response = self._addresses[endpoint].get(
                params, headers, timeout=(min(config.timeout, CONNECT_SECONDS), config.timeout)
            )
            with response:
                body = _read_body(response)
        except ERRORS as error:
            failure = f"no answer from Meta: {type(error).__name__}"
        if failure is not None:
            # Only the name: the text of these errors holds the URL, and so the secrets. And only here: raised
            # in the handler, ours would keep theirs as its context.
            raise Unavailable(failure)
        logger.debug("%s: HTTP %d, %d bytes", endpoint, response.status_code, len(body))
        self._watch_version(response.headers.get("facebook-api-version"))
        payload = _payload(endpoint, response.status_code, response.headers, body)
        usage = Usage.parse(response.headers)
        self._gate.note(usage, called_at, has_begun=has_begun or endpoint == "exchange")
        return payload

    def _watch_version(self, served: str | None) -> None:
        """Warn once if a newer version answers: Meta does so silently when the configured one has ended."""
        if not served or served == self._config.version:
            return
        with self._version_lock:
            first, self._version_warned = not self._version_warned, True
        if first:
            logger.warning(
                "Meta answers with %s, but META_GRAPH_VERSION is %s: that version has ended, set a newer one",
                quote_foreign(served, 20),
                self._config.version,
            )


def _read_body(response: requests.Response) -> bytes:
    """The whole body, which must be small. Raises `TooSlow`, too."""
    chunks: list[bytes] = []
    size = 0
    # What has come so far, each time: `iter_content` waits until a chunk is full, however slowly it fills.
    while chunk := response.raw.read1(64 * 1024, decode_content=True):
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise UnexpectedAnswer(f"an answer of more than {MAX_ANSWER_BYTES // 1024} KiB was refused")
        chunks.append(chunk)
    return b"".join(chunks)


def _payload(endpoint: Endpoint, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    """The JSON object of a successful answer; for any other answer its error is raised."""
    if 300 <= status < 400:
        raise UnexpectedAnswer(f"a redirect (HTTP {status}), which is never followed")
    text = body.decode("utf-8", errors="replace").strip()
    document: object = _NOT_JSON
    with suppress(ValueError, RecursionError):  # an error raised in a handler would keep theirs, and the body
        document = json.loads(text)
    if document is _NOT_JSON:
        document = _not_json(endpoint, status, headers, text)
    error = document.get("error") if isinstance(document, dict) else None
    if error is not None or not 200 <= status < 300:
        raise _error(endpoint, GraphError.parse(status, error), headers)
    if not isinstance(document, dict):
        raise UnexpectedAnswer(f"JSON that is not an object (HTTP {status})")
    return document


def _not_json(endpoint: Endpoint, status: int, headers: Mapping[str, str], text: str) -> dict[str, Any]:
    """What to make of a body that is not JSON: an old urlencoded answer, or an error."""
    if status == 429 or status >= 500:
        raise _error(endpoint, GraphError(status), headers)
    if not text:
        raise UnexpectedAnswer(f"an empty answer (HTTP {status})")
    if text[0] in '{["':
        raise Unavailable(f"a cut or broken JSON answer (HTTP {status})")
    if status == 200 and endpoint == "exchange" and text.startswith(("access_token=", "expires")):
        return {name: values[0] for name, values in parse_qs(text).items()}
    raise UnexpectedAnswer(f"an answer that is not JSON (HTTP {status})")


def _error(endpoint: Endpoint, answer: GraphError, headers: Mapping[str, str]) -> MetaError:
    """The error that `answer` stands for, worded without secrets."""
    rule = classify(endpoint, answer)
    return rule.error(wording(rule, answer), retry_after=_retry_after(headers))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that Meta names, in `Retry-After` or in `X-Business-Use-Case-Usage`."""
    seconds = as_int(headers.get("Retry-After"))
    return Usage.parse(headers).regain if seconds is None else float(max(seconds, 0))


def _inspection(payload: dict[str, Any], app_id: str) -> Inspection:
    """Parse `debug_token`'s `data`. Raises `ReconnectRequired` for a dead or foreign token."""
    data = payload.get("data")
    if not isinstance(data, dict):
        raise UnexpectedAnswer("an inspection without data")
    never_expires = as_int(data.get("expires_at")) == 0
    expires_at = _as_time(data.get("expires_at"))
    data_access_expires_at = _as_time(data.get("data_access_expires_at"))
    if data.get("is_valid") is False:
        raise _dead(data, min(filter(None, (expires_at, data_access_expires_at)), default=None))
    if data.get("is_valid") is not True:
        raise UnexpectedAnswer("an inspection that does not say whether the token is valid")
    if data.get("app_id") is not None and str(data["app_id"]) != app_id:
        raise ReconnectRequired(
            f"the token belongs to another app ({quote_foreign(str(data['app_id']), 40)})",
            expires_at=expires_at,
        )
    return Inspection(
        kind=_as_text(data.get("type")),
        user_id=_as_text(data.get("user_id")),
        expires_at=expires_at,
        never_expires=never_expires,
        data_access_expires_at=data_access_expires_at,
        issued_at=_as_time(data.get("issued_at")),
        scopes=_scopes(data),
    )


def _dead(data: dict[str, Any], expires_at: datetime | None) -> MetaError:
    """The error for a token that Meta calls invalid: Meta's inner error only adds why."""
    answer = GraphError.parse(200, data.get("error"))
    if answer.is_transient:
        return Unavailable(wording(Rule(Unavailable), answer))
    rule = classify("exchange", answer)  # as where errors are about the token, not about the caller
    meaning = rule.meaning if rule.error is ReconnectRequired else ""
    rule = Rule(ReconnectRequired, meaning or "the token is no longer valid")
    return ReconnectRequired(wording(rule, answer), expires_at=expires_at)


def _exchanged(payload: dict[str, Any]) -> Exchanged:
    """Parse an exchange. The token must look like one: a text without spaces that can be sent on."""
    token = payload.get("access_token")
    if not isinstance(token, str) or not token:
        raise UnexpectedAnswer("an exchange without a token")
    if not token.isprintable() or any(c.isspace() for c in token):
        raise UnexpectedAnswer("an exchange whose token holds spaces or control characters")
    seconds = as_int(payload.get("expires_in", payload.get("expires")))
    if seconds is None or not 0 < seconds < _LONGEST_LIFE:
        return Exchanged(Secret(token), None)
    return Exchanged(Secret(token), timedelta(seconds=seconds))


def _scopes(data: dict[str, Any]) -> frozenset[str] | None:
    """The granted permissions, or None where Meta lists none at all."""
    scopes = data.get("scopes")
    granular = data.get("granular_scopes")
    if not isinstance(scopes, list) and not isinstance(granular, list):
        return None
    names = list(scopes) if isinstance(scopes, list) else []
    if isinstance(granular, list):
        names += [entry.get("scope") for entry in granular if isinstance(entry, dict)]
    return frozenset(name for name in names if isinstance(name, str))


def _as_text(value: object) -> str | None:
    """A text or a number as text, or None."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None


def _as_time(value: object) -> datetime | None:
    """Unix seconds as an aware UTC time, None for 0 and for nothing; nonsense is an `UnexpectedAnswer`."""
    seconds = 0 if value is None else as_int(value)
    if seconds is not None and 0 <= seconds <= _LAST_SECOND:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    raise UnexpectedAnswer("an inspection with an impossible date")
