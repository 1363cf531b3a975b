"""Meta's Graph API: inspect a token (`GET /debug_token`), exchange it (`GET /oauth/access_token`).

A fault of this machine, such as a CA file that is missing, is a `LocalFault`.
`meta/answers.py` reads the answers, `meta/errors.py` says what each error means, `meta/rate_limiter.py` keeps
all workers within Meta's limits. No exception of `requests` leaves this module: they hold the URL, and the
URL holds the secrets.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any, Final

import requests
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from whatsapp_tokens.facts import fact
from whatsapp_tokens.http_environment import LocalFault, local_fault
from whatsapp_tokens.http_session import ERRORS, Address, open_session
from whatsapp_tokens.meta.answers import Exchanged, Inspection, read_exchange, read_inspection, read_payload
from whatsapp_tokens.meta.errors import (
    Endpoint,
    MetaError,
    RateLimited,
    ReconnectRequired,
    Throttled,
    Unavailable,
    UnexpectedAnswer,
)
from whatsapp_tokens.meta.rate_limiter import RateLimiter, Usage
from whatsapp_tokens.redaction import Secret, quote_foreign
from whatsapp_tokens.signals import Sleep

logger = logging.getLogger(__name__)

PATHS: Final[Mapping[Endpoint, str]] = {"debug_token": "debug_token", "exchange": "oauth/access_token"}
MAX_ANSWER_BYTES: Final = 1024 * 1024
CONNECT_SECONDS: Final = 10.0
SYSTEM_USER: Final = "SYSTEM_USER"
SYSTEM_USER_FLAG: Final = {"set_token_expires_in_60_days": "true"}


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
class _Call:
    """One request. `finishes`: it completes a renewal that has begun, so no rate limit delays it."""

    endpoint: Endpoint
    params: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    finishes: bool = False


class MetaClient:
    """Inspects and exchanges tokens. Safe to share between threads."""

    def __init__(
        self, config: MetaConfig, *, sleep: Sleep, warn: Callable[[str], None] = logger.warning
    ) -> None:
        self._config = config
        self._warn = warn
        self._app_token = Secret(f"{config.app_id}|{config.app_secret.reveal()}")
        self._limiter = RateLimiter(config.rate_limit_wait, sleep)
        self._session = open_session(config.url, connections=config.connections)
        self._addresses = {
            endpoint: Address(self._session, f"{config.url}/{config.version}/{path}")
            for endpoint, path in PATHS.items()
        }
        self._new_token = threading.local()  # `.value`: what this thread's last exchange returned
        self._lock = threading.Lock()
        self._version_warned = False
        self._date: tuple[datetime, float] | None = None  # the first that Meta gave, and when
        self._retrying = Retrying(
            retry=retry_if_exception(lambda error: bool(getattr(error, "retryable", False))),
            stop=stop_after_attempt(config.retries + 1),
            wait=wait_exponential_jitter(multiplier=config.retry_wait, jitter=config.retry_wait / 2),
            sleep=sleep,
            reraise=True,
        )

    @property
    def retry_wait(self) -> float:
        """Seconds to wait before asking a second time."""
        return self._config.retry_wait

    def time_at_meta(self) -> datetime | None:
        """Return what time it is now by Meta's clock; None before its first answer with a `Date`."""
        if self._date is None:
            return None
        date, noted_at = self._date
        return date + timedelta(seconds=monotonic() - noted_at)

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()

    def inspect(self, token: Secret) -> Inspection:
        """Ask Meta about a token: https://developers.facebook.com/docs/graph-api/reference/debug_token.

        Raise `ReconnectRequired` if it is dead or of another app, with `expires_at` if Meta gives it; else
        any `MetaError`, or `Interrupted`.
        """
        return read_inspection(self._get(self._inspection_of(token)), self._config.app_id)

    def _inspection_of(self, token: Secret) -> _Call:
        return _Call(
            "debug_token",
            {"input_token": token.reveal()},
            # As bytes: for a text that is not Latin-1, `requests` raises an error that repeats it.
            {"Authorization": f"Bearer {self._app_token.reveal()}".encode()},
            finishes=token == getattr(self._new_token, "value", None),
        )

    def check_app(self) -> None:
        """Ask about the app token itself, to check that Meta accepts our app id and secret.

        Any answer about the token will do. Raise `MetaError` (but not `ReconnectRequired`) or `Interrupted`.
        """
        with suppress(ReconnectRequired):
            self.inspect(self._app_token)

    def exchange(self, token: Secret, kind: str | None) -> Exchanged:
        """Exchange a valid token for a new one. The old one stays valid until it expires.

        `kind` is the token's type as `inspect` returned it: only tokens of system users are exchanged with
        the 60-day flag, because Meta does not document what it does to others.
        https://developers.facebook.com/docs/facebook-login/guides/access-tokens/get-long-lived
        """
        params = {
            "grant_type": "fb_exchange_token",
            "client_id": self._config.app_id,
            "client_secret": self._config.app_secret.reveal(),
            "fb_exchange_token": token.reveal(),
        }
        if kind == SYSTEM_USER:
            params |= SYSTEM_USER_FLAG
        exchanged = read_exchange(self._get(_Call("exchange", params)))
        self._new_token.value = exchanged.token
        return exchanged

    def _get(self, call: _Call) -> dict[str, Any]:
        """Make a call, with its retries. Return the payload, or raise `MetaError`."""
        return self._retrying(self._get_within_limits, call)

    def _get_within_limits(self, call: _Call) -> dict[str, Any]:
        """Make a call, and repeat it while the app is limited and the budget for waiting lasts.

        Raise `Throttled` if another call gets through and this one does not: then it is not the app's limit.
        """
        has_waited = False
        while True:
            called_at = self._limiter.enter(begins=not call.finishes)
            try:
                return self._get_once(call, called_at)
            except RateLimited as limited:
                if (has_waited or self._limiter.is_spent) and self._another_gets_through(call):
                    return self._get_at_once(call)
                self._limiter.pause(limited, called_at)
                has_waited = True

    def _get_at_once(self, call: _Call) -> dict[str, Any]:
        """Make a call although Meta has limited it. Raise `Throttled` if it does so again."""
        try:
            return self._get_once(call, monotonic())
        except RateLimited as limited:
            raise Throttled(str(limited)) from None

    def _another_gets_through(self, limited: _Call) -> bool:
        """Return whether Meta answers a call about the app token while it limits this one."""
        call = self._inspection_of(self._app_token)
        if call.params == limited.params:
            return False
        try:
            self._get_once(call, monotonic())
        except MetaError:
            return False
        return True

    def _get_once(self, call: _Call, called_at: float) -> dict[str, Any]:
        failure: MetaError | LocalFault | None = None
        timeout = self._config.timeout
        try:
            response = self._addresses[call.endpoint].get(
                call.params, call.headers, timeout=(min(timeout, CONNECT_SECONDS), timeout)
            )
            with response:
                body = _read_body(response)
        except ERRORS as error:
            failure = local_fault(error, self._config.url)
            failure = failure or Unavailable(fact("no answer from Meta", type(error).__name__))
        if failure is not None:  # raised outside the handler, so that it does not hold theirs as its context
            raise failure
        logger.debug("%s: HTTP %d, %d bytes", call.endpoint, response.status_code, len(body))
        self._note_date(response.headers.get("Date", ""))
        self._watch_version(response.headers.get("facebook-api-version"))
        payload = read_payload(call.endpoint, response.status_code, response.headers, body)
        has_begun = call.finishes or call.endpoint == "exchange"
        self._limiter.note(Usage.parse(response.headers), called_at, has_begun=has_begun)
        return payload

    def _note_date(self, date: str) -> None:
        """Note what time it is at Meta, by the first answer that says it."""
        if self._date is not None:
            return
        with suppress(ValueError, TypeError, OverflowError):
            moment = parsedate_to_datetime(date)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            with self._lock:
                self._date = self._date or (moment, monotonic())

    def _watch_version(self, served: str | None) -> None:
        """Warn once if another version answers: a newer one does so where the configured one has ended."""
        if not served or served == self._config.version:
            return
        with self._lock:
            first, self._version_warned = not self._version_warned, True
        if first:
            is_older = _numbers(served) < _numbers(self._config.version)
            to_do = "is not out yet, set an older one" if is_older else "has ended, set a newer one"
            self._warn(
                f"Meta answers with {quote_foreign(served, 20)}, but META_GRAPH_VERSION is "
                f"{self._config.version}: that version {to_do}"
            )


def _read_body(response: requests.Response) -> bytes:
    """Read the whole body. Raise `UnexpectedAnswer` if it is too large."""
    body = b""
    # `iter_content` would wait until a chunk is full, however slowly it fills.
    while chunk := response.raw.read1(64 * 1024, decode_content=True):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise UnexpectedAnswer(fact("an answer of more than 1 MiB"))
    return body


def _numbers(version: str) -> tuple[int, int]:
    """Return the numbers of a version such as v26.0; of anything else, numbers higher than any."""
    found = re.fullmatch(r"v(\d{1,4})\.(\d{1,4})", version)
    return (int(found[1]), int(found[2])) if found else (10_000, 0)
