"""The heartbeat: a ping when a run begins and one when it ends, so that somebody notices a job that stopped.

The address is that of a check at healthchecks.io or a server of one's own; any server does that takes POST
requests for `<address>/start` and `<address>/<exit code>`: https://healthchecks.io/docs/http_api/.
A ping that does not arrive is an error in the log and nothing else: the run goes on as if it had.
"""

from __future__ import annotations

import http.client
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import urllib3

from whatsapp_tokens.http_session import TooSlow, open_session
from whatsapp_tokens.redaction import Secret, redact

TIMEOUT_SECONDS: Final = 5
WAITS_SECONDS: Final = (1.0, 2.0)  # before each further try
MAX_BODY_BYTES: Final = 100_000  # of what is sent beyond, healthchecks.io keeps nothing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a ping was not taken, without its address, and whether another try may help."""

    text: str
    may_pass: bool


class Heartbeat:
    """Pings one address. Nothing here raises for what the other side does.

    `sleep` gives whether the run was told to stop: then no ping is tried again.
    """

    def __init__(self, url: Secret, *, sleep: Callable[[float], bool]) -> None:
        self._url = url
        self._sleep = sleep

    def start(self) -> None:
        """Say that a run has begun."""
        self._ping("start", "")

    def end(self, code: int, summary: str) -> None:
        """Say how it ended: 0 is success, up to 255 a failure. `summary` goes with it, redacted."""
        self._ping(str(code), redact(summary))

    def _ping(self, what: str, text: str) -> None:
        body = text.encode(errors="replace")[:MAX_BODY_BYTES]
        trouble = self._post(what, body)
        for wait in WAITS_SECONDS:
            if trouble is None or not trouble.may_pass or self._sleep(wait):
                break
            trouble = self._post(what, body)
        if trouble:
            logger.error("the heartbeat /%s was not delivered (%s)", what, trouble.text)

    def _post(self, what: str, body: bytes) -> _Trouble | None:
        """One try. Of the answer only its status is looked at: the rest is not even read."""
        url = ping_url(self._url.reveal(), what)
        try:
            with (
                open_session(url, connections=1) as session,
                session.post(
                    url,
                    data=body,
                    headers={"Content-Type": "text/plain; charset=utf-8"},
                    timeout=TIMEOUT_SECONDS,
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                status = response.status_code
        except (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
            return _Trouble(type(error).__name__, may_pass=True)  # its text holds the address
        except TooSlow as error:
            return _Trouble(str(error), may_pass=True)
        if 200 <= status < 300:
            return None
        return _Trouble(f"HTTP {status}", may_pass=status == 429 or status >= 500)


def ping_url(url: str, what: str) -> str:
    """The address of one kind of ping: a query stays behind the path, a slash at its end is not doubled."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{what}", fragment=""))
