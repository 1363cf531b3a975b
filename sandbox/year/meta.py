"""The simulated Meta of a year: it answers by the fleet's truth, and a share of its calls wrongly."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sandbox.answers import Answer, Reply, Reset, graph_error
from sandbox.graph import GraphServer, Seen
from sandbox.year.faults import Kind, pick


@dataclass(slots=True)
class Night:
    """What Meta was asked in one night. A new token counts as the one that it came from."""

    share: float = 0.0  # of the calls, that are answered wrongly
    is_down: bool = False
    calls: int = 0
    last: dict[str, Kind | None] = field(
        default_factory=dict
    )  # the last answer about a token; None: a right one
    faults: Counter[Kind] = field(default_factory=Counter)
    failed: set[str] = field(default_factory=set)  # the tokens that met a wrong answer
    numbers: Counter[tuple[str, str]] = field(default_factory=Counter)


class FailingMeta(GraphServer):
    """A Meta that fails. `tonight` may be replaced between runs; `turned` is what its clock says."""

    def __init__(self, seed: int, now: Callable[[], float]) -> None:
        super().__init__(now=now)
        self.record = False
        self.seed = f"{seed}"
        self.number = 0  # of the night
        self.tonight = Night()
        self._came_from: dict[str, tuple[str, int]] = {}  # the token before, and the night of the exchange
        self._traced = 0

    def customer(self, token: str | None) -> str:
        """Return whose token it is; the app's own and unknown ones are of no customer."""
        state = self._registry.tokens.get(token or "")
        return state.user_id if state else ""

    def scripted(self, seen: Seen) -> Answer | None:
        """Return a wrong answer or, mostly, None for a right one. The same seed gives the same answers."""
        if seen.endpoint is None:
            return None
        with self._lock:
            customer, night = self.customer(seen.token), self.tonight
            night.calls += 1
            night.numbers[customer, seen.endpoint] += 1
            key = (self.seed, self.number, customer, seen.endpoint, night.numbers[customer, seen.endpoint])
            rng = random.Random("/".join(map(str, key)))
            answer, kind = self._wrong(seen, rng)
            token = self._origin(seen.token or "")
            night.last[token] = kind
            if kind:
                night.faults[kind] += 1
                night.failed.add(token)
            return answer

    def chain(self, token: str) -> Iterator[str]:
        """Yield a token, the one that was exchanged for it, and so on to one that the application stored."""
        with self._lock:
            for old, new in self.exchanges[self._traced :]:
                if old != new:
                    self._came_from[new] = old, self.number
            self._traced = len(self.exchanges)
            while token:
                yield token
                token = self._came_from.get(token, ("", 0))[0]

    def _origin(self, token: str) -> str:
        """Return the token that a run began with: the same, or the one that it was exchanged for tonight."""
        before = next(islice(self.chain(token), 1, None), "")
        return before if before and self._came_from[token][1] == self.number else token

    def _wrong(self, seen: Seen, rng: random.Random) -> tuple[Answer | None, Kind | None]:
        if self.tonight.is_down:
            return rng.choice((Reset(), Reply(503, ""), graph_error(500, "Unknown", 2))), Kind.PASSING
        if seen.endpoint is None or rng.random() >= self.tonight.share:
            return None, None
        fault = pick(rng, seen.endpoint)
        if fault.kind is not Kind.PASSING and not self._is_our_app(seen):
            return None, None  # who calls is looked at first
        if fault.answer is not None:
            return fault.answer(), fault.kind
        reply = self.normal(seen)
        said: dict[str, Any] = json.loads(reply.content())
        if not said.get("data", {}).get("is_valid"):
            return reply, None
        said["data"]["scopes"] = ["whatsapp_business_manage_events"]
        del said["data"]["granular_scopes"]
        return Reply(200, said), Kind.SCOPES

    def _is_our_app(self, seen: Seen) -> bool:
        given = seen.query.get("client_secret") or seen.headers.get("authorization", "").rpartition("|")[2]
        return given == self.app_secret
