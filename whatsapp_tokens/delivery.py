"""Try again to deliver: one policy for alerts and for the heartbeat."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Final

from tenacity import Future, RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from whatsapp_tokens.signals import Interrupted, Sleep

TRIES: Final = 3
LONGEST_WAIT_SECONDS: Final = 30
LONGEST_ASKED_SECONDS: Final = 300  # in a Retry-After


class DeliveryError(Exception):
    """A target did not take a message. One line without the address.

    `permanent`: a retry would not help. `is_local`: something on this machine is at fault, and the line names
    it.
    """

    def __init__(
        self,
        message: str,
        *,
        permanent: bool = False,
        retry_after: float | None = None,
        is_local: bool = False,
    ) -> None:
        super().__init__(message)
        self.permanent = permanent or is_local
        self.retry_after = retry_after
        self.is_local = is_local


def refusal(message: str, status: int, *, retry_after: float | None = None) -> DeliveryError:
    """Return the error of an answer with this HTTP status: of these only 429 and 5xx may pass."""
    return DeliveryError(message, permanent=status != 429 and status < 500, retry_after=retry_after)


def deliver_with_retries(deliver: Callable[[], None], sleep: Sleep) -> None:
    """Call `deliver`, and again after a `DeliveryError` that is not permanent.

    Raise the last one after `TRIES` calls, or once the run was told to stop.
    """
    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, DeliveryError) and not error.permanent),
        stop=stop_after_attempt(TRIES),
        wait=_wait,
        sleep=sleep,
        reraise=True,
    )
    last: Future | None = None
    with suppress(Interrupted):
        for attempt in retrying:
            with attempt:
                deliver()
            last = attempt.retry_state.outcome
        return
    if last is not None:
        last.result()  # raises


def _wait(state: RetryCallState) -> float:
    """Return the seconds that the server asks for, up to a maximum, else 1, 2, 4 … seconds."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, DeliveryError) and error.retry_after is not None:
        return min(error.retry_after, LONGEST_ASKED_SECONDS)
    return min(2.0 ** (state.attempt_number - 1), LONGEST_WAIT_SECONDS)


def retry_after(asked: str, date: str) -> float | None:
    """Return the seconds that a server asks for in `Retry-After`, or None if there are none to be read.

    A time is compared with the answer's own `Date`, so our clock does not matter.
    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    if re.fullmatch(r"\d+(\.\d+)?", asked.strip(), re.ASCII):
        return float(asked)
    with suppress(ValueError, TypeError, OverflowError):  # not two dates, or only one of them has a zone
        seconds = (parsedate_to_datetime(asked) - parsedate_to_datetime(date)).total_seconds()
        return max(seconds, 0.0)
    return None
