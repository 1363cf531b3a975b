"""The heartbeat: one ping when a run begins and one when it ends, so that a job that stopped is noticed.

`HEALTHCHECK_URL` is a check at healthchecks.io, or any server that accepts POST requests at
`<address>/start` and `<address>/<exit code>`: https://healthchecks.io/docs/http_api/.
A ping that is not delivered is logged as an error and does not change the run. `--test-alert` posts to
`<address>/log`, which is shown among the events of a check and neither raises nor resets its alarm.
"""

from __future__ import annotations

import logging
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from whatsapp_tokens.delivery import DeliveryError, deliver_with_retries, refusal
from whatsapp_tokens.http_session import NoAnswer, post
from whatsapp_tokens.redaction import Secret, redact
from whatsapp_tokens.signals import Sleep

TIMEOUT_SECONDS: Final = 5
MAX_BODY_BYTES: Final = 100_000  # healthchecks.io keeps no more

logger = logging.getLogger(__name__)


class Heartbeat:
    """Pings one address."""

    def __init__(self, url: Secret, *, sleep: Sleep) -> None:
        self._url = url
        self._sleep = sleep

    def start(self) -> None:
        """Say that a run has begun."""
        self._ping("start", "")

    def end(self, code: int, summary: str) -> None:
        """Say how the run ended: 0 is success, up to 255 a failure. `summary` is redacted and sent along."""
        self._ping(str(code), redact(summary))

    def log(self, text: str) -> None:
        """Send a text that changes nothing: the check stays as it is. Raise `DeliveryError`."""
        self._deliver("log", redact(text))

    def _deliver(self, what: str, text: str) -> None:
        url = Secret(ping_url(self._url.reveal(), what))
        body = text.encode(errors="replace")[:MAX_BODY_BYTES]
        deliver_with_retries(lambda: _post(url, body), self._sleep)

    def _ping(self, what: str, text: str) -> None:
        try:
            self._deliver(what, text)
        except DeliveryError as error:
            logger.error("the heartbeat /%s was not delivered (%s)", what, error)  # noqa: TRY400 - a traceback adds nothing


def _post(url: Secret, body: bytes) -> None:
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    answer = post(url, timeout=TIMEOUT_SECONDS, read_bytes=0, data=body, headers=headers)
    if isinstance(answer, NoAnswer):
        raise DeliveryError(answer.why, is_local=answer.is_local)
    if not 200 <= answer.status < 300:
        raise refusal(f"HTTP {answer.status}", answer.status)


def ping_url(url: str, what: str) -> str:
    """Return the address of one kind of ping: `what` becomes the end of the path, before any query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{what}", fragment=""))
