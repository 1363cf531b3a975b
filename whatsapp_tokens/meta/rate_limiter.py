"""Keep all workers within Meta's rate limits: slow down as usage grows, pause when a call is refused.

An answer may say how much of a limit is used: `X-App-Usage` is the app's, `X-Business-Use-Case-Usage` one
business's. The app's limit concerns every call, so all workers wait. A business's concerns the calls about
its own tokens, so only the worker that made one of them waits.
https://developers.facebook.com/docs/graph-api/overview/rate-limiting
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from whatsapp_tokens.facts import fact
from whatsapp_tokens.meta.errors import RateLimited, as_int
from whatsapp_tokens.signals import Sleep

logger = logging.getLogger(__name__)

SLOW_FROM: Final = 80  # percent used
PAUSE_FROM: Final = 95
SLOW_SECONDS: Final = 0.25  # for each percent above SLOW_FROM, between an answer and the next call
PAUSE_SECONDS: Final = 60.0  # the limit is per rolling hour: a minute gives back what a minute used
FOR_BUSINESSES: Final = 0.1  # share of the budget, so that one business cannot use it up


@dataclass(frozen=True, slots=True)
class Usage:
    """Percent of the limits used; 100 is limited. `regain`: seconds until the business may call again."""

    app: int = 0
    business: int = 0
    regain: float | None = None

    @classmethod
    def parse(cls, headers: Mapping[str, str]) -> Usage:
        """Read the two headers. A value that does not have the documented shape is ignored."""
        business = [entry for entries in _members(headers, "X-Business-Use-Case-Usage") for entry in entries]
        minutes = [as_int(entry.get("estimated_time_to_regain_access")) for entry in business]
        return cls(
            app=_percent(_json(headers, "X-App-Usage")),
            business=max(map(_percent, business), default=0),
            regain=max((float(number * 60) for number in minutes if number is not None), default=None),
        )


def pause_after(percent: int) -> float:
    """Return the seconds to wait at this usage: none up to 80 %, a minute from 95 % on."""
    if percent <= SLOW_FROM:
        return 0.0
    return (percent - SLOW_FROM) * SLOW_SECONDS if percent < PAUSE_FROM else PAUSE_SECONDS


class RateLimiter:
    """One pause for all workers when the app nears or meets its limit; at most `budget` seconds in all."""

    def __init__(self, budget: float, sleep: Sleep) -> None:
        self._sleep = sleep
        self._lock = threading.Lock()
        self._left = budget
        self._for_businesses = budget * FOR_BUSINESSES
        self._step = budget / 10  # doubles: 1/10, 2/10, 4/10, and what is left
        self._begun = self._until = self._refused_until = float("-inf")
        self._nearly_used: int | None = None  # percent, once there is no budget left to wait

    def enter(self, *, begins: bool = True) -> float:
        """Wait for the end of the current pause, if there is one. Return the time at which that was.

        Raise `RateLimited` if the limit is nearly used and no budget is left to wait. A call that completes
        a renewal (not `begins`) waits only if Meta has refused one: a run that is told to stop begins no
        wait, and would give up what it has nearly finished.
        """
        if begins and self._nearly_used is not None:
            raise RateLimited(fact("percent of the app's rate limit used", self._nearly_used))
        while (wait := (self._until if begins else self._refused_until) - monotonic()) > 0:
            self._sleep(wait)
        return monotonic()

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left of the budget."""
        return self._left <= 0

    def pause(self, limited: RateLimited, called_at: float) -> None:
        """Begin the next pause, unless one has begun since the limited call was made.

        Raise `limited` itself once the budget is spent.
        """
        with self._lock:
            if called_at < self._begun:
                return
            if self._left <= 0:
                raise limited
            wait = min(max(self._step, limited.retry_after or 0), self._left)
            self._left -= wait
            self._step *= 2
            self._begun = monotonic()
            self._until = self._refused_until = self._begun + wait
        logger.warning("Meta limits the app: every call waits for %.0f s (%s)", wait, limited)

    def note(self, usage: Usage, called_at: float, *, has_begun: bool = False) -> None:
        """Slow down for what a successful answer says of the limits, before Meta refuses a call.

        `has_begun`: the answer belongs to a renewal that is not finished yet, so it must not wait.
        """
        if pause_after(usage.app):
            self._spare_the_app(usage.app, called_at)
        if not has_begun and (wait := self._for_one_business(usage)):
            self._sleep(wait)

    def _spare_the_app(self, percent: int, called_at: float) -> None:
        """Begin a pause, unless one has begun since the call was made: then its answer may be out of date."""
        with self._lock:
            if called_at < self._begun:
                return
            wait = min(pause_after(percent), self._left)
            if wait <= 0:
                self._nearly_used = percent if percent >= PAUSE_FROM else None
                return
            self._left -= wait
            self._begun = monotonic()
            self._until = max(self._until, self._begun + wait)
        level = logging.WARNING if percent >= PAUSE_FROM else logging.DEBUG
        logger.log(level, "%d %% of the app's rate limit is used: every call waits for %.1f s", percent, wait)

    def _for_one_business(self, usage: Usage) -> float:
        """Take the seconds that the next call about this business has to wait from the budget."""
        wanted = usage.regain or pause_after(usage.business)
        if not wanted:
            return 0.0
        with self._lock:
            wait = min(wanted, self._for_businesses, self._left)
            self._for_businesses -= wait
            self._left -= wait
        return wait


def _json(headers: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return the JSON object in a header; an empty one if there is none."""
    try:
        found = json.loads(headers.get(name) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _members(headers: Mapping[str, str], name: str) -> Iterator[list[dict[str, Any]]]:
    """Yield the lists of objects in the JSON object of a header."""
    for entries in _json(headers, name).values():
        if isinstance(entries, list):
            yield [entry for entry in entries if isinstance(entry, dict)]


def _percent(usage: Mapping[str, Any]) -> int:
    """Return the greatest of the three counts: the first to reach 100 limits."""
    counts = (as_int(usage.get(name)) for name in ("call_count", "total_time", "total_cputime"))
    return max((count for count in counts if count is not None), default=0)
