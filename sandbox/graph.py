"""A simulated Graph API: real HTTP on a free loopback port.

    with GraphServer() as meta:
        token = meta.issue(expires_at=0)
        meta.script(token, Reset(), endpoint="debug_token")
        ...  # point the program at meta.url

`tokens` holds Meta's rules, `answers` what can be scripted, `wire` the connections. Import them from here.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self

from sandbox.answers import Answer, Cut, Drip, Huge, Reply, Reset, Slow, graph_error
from sandbox.tokens import OMIT, SCOPES, SIXTY_DAYS, App, SimToken, TokenRegistry
from sandbox.wire import Endpoint, Listener, Seen

__all__ = [
    "APP_ID",
    "APP_SECRET",
    "OMIT",
    "SCOPES",
    "SIXTY_DAYS",
    "Answer",
    "Cut",
    "Drip",
    "Endpoint",
    "GraphServer",
    "Huge",
    "Reply",
    "Reset",
    "Seen",
    "SimToken",
    "Slow",
    "graph_error",
]

APP_ID: Final = "100000000000001"
APP_SECRET: Final = "sandbox-app-secret"  # noqa: S105 - made up, and says so


@dataclass(slots=True)
class _Script:
    """Answers to give, in order. Once they are used up, `last` is given every time."""

    answers: list[Answer | None] = field(default_factory=list)
    last: tuple[Answer | None] | None = None


class GraphServer:
    """The part of Meta that deals with tokens. Its attributes may be read and set while it runs.

    `latency`: seconds that each call takes.
    `usage`: what the `X-App-Usage` header says.
    `served_version`: what the `facebook-api-version` header says.
    `date`: the time that the `Date` header says; None leaves it out.
    `record`: whether `requests` keeps every request.
    `on_request`: called before each answer, in the server's thread. If it raises, the connection ends without
    an answer, and the `with` block raises the same at its end.
    `exchanges`: (old, new) pairs of tokens.
    `peak`: the most requests that were in flight at once.
    """

    def __init__(  # noqa: PLR0913 - each is what some test needs
        self,
        *,
        app_id: str = APP_ID,
        app_secret: str = APP_SECRET,
        version: str = "v26.0",
        latency: float = 0.0,
        usage: Mapping[str, int] | None = None,
        now: Callable[[], float] = time.time,
        port: int = 0,
    ) -> None:
        self.app_id = app_id
        self.app_secret = app_secret
        self.version = version
        self.served_version = version
        self.latency = latency
        self.usage = usage
        self.date: Callable[[], float] | None = now
        self.record = True
        self.on_request: Callable[[Seen], None] | None = None
        self.requests: list[Seen] = []
        self.peak = 0
        self.url = ""
        self.closing = threading.Event()
        self._port = port
        self._registry = TokenRegistry(now)
        self.exchanges = self._registry.exchanges
        self._counts: Counter[tuple[Endpoint | None, str | None]] = Counter()
        self._scripts: dict[tuple[str | None, Endpoint | None], _Script] = {}
        self._in_flight = 0
        self._faults: list[BaseException] = []
        self._lock = threading.RLock()
        self._listener: Listener | None = None

    def start(self) -> None:
        """Listen, and set `url`. A server that was closed listens on the same port again."""
        if self._listener is not None:
            raise RuntimeError("the server is running already")
        self.closing.clear()
        self._listener = Listener(self._port, self)
        self._port = self._listener.port
        self.url = f"http://127.0.0.1:{self._port}"
        self._listener.start()

    def close(self) -> None:
        """Close all connections at once. Closing twice does no harm."""
        self.closing.set()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if error is None and self._faults:
            raise self._faults[0]

    def issue(self, token: str | None = None, **fields: Any) -> str:
        """Register a token (a random one if None) with these fields of `SimToken`, and return it.

        By default it was issued now, and expires 60 days after its `issued_at`.
        """
        with self._lock:
            return self._registry.issue(token, **fields)

    def token(self, token: str) -> SimToken:
        """Return the state of a token. A change of it counts from the next call on."""
        return self._registry.tokens[token]

    def now(self) -> float:
        """Return Meta's time, in unix seconds."""
        return self._registry.now()

    def alive(self, token: str) -> bool:
        """Return whether Meta calls the token valid now."""
        with self._lock:
            state = self._registry.tokens.get(token)
            return state is not None and state.death(self._registry.now()) is None

    def script(
        self,
        token: str | None,
        *answers: Answer | None,
        endpoint: Endpoint | None = None,
        forever: bool = False,
    ) -> None:
        """Give these answers to the next calls about a token (None: any) on an endpoint (None: both).

        Each is given once, in order; None means "behave normally"; `forever` repeats the last one. The most
        specific script wins. Further answers follow earlier ones, but replace one that was given `forever`.
        No answers at all delete the script of that token and endpoint.
        """
        with self._lock:
            if not answers:
                self._scripts.pop((token, endpoint), None)
                return
            script = self._scripts.setdefault((token, endpoint), _Script())
            script.answers += answers[:-1] if forever else answers
            script.last = (answers[-1],) if forever else None

    def count(self, endpoint: Endpoint | None = None, token: str | None = None) -> int:
        """Return how many requests came: in all, on that endpoint, about that token."""
        with self._lock:
            return sum(
                number
                for (its_endpoint, its_token), number in self._counts.items()
                if endpoint in (None, its_endpoint) and token in (None, its_token)
            )

    # The rest is for the connections.

    def arrived(self, seen: Seen) -> None:
        """Record a request, and count it as in flight."""
        with self._lock:
            self._counts[seen.endpoint, seen.token] += 1
            if self.record:
                self.requests.append(seen)
            self._in_flight += 1
            self.peak = max(self.peak, self._in_flight)

    def left(self) -> None:
        """Count a request as answered."""
        with self._lock:
            self._in_flight -= 1

    def fault(self, error: BaseException) -> None:
        """Keep an exception of a connection's thread, to raise it when the server is closed."""
        with self._lock:
            self._faults.append(error)

    def scripted(self, seen: Seen) -> Answer | None:
        """Return the next scripted answer for this request, or None for a normal one."""
        if seen.endpoint is None:
            return None
        keys = ((seen.token, seen.endpoint), (seen.token, None), (None, seen.endpoint), (None, None))
        with self._lock:
            for script in (self._scripts[key] for key in keys if key in self._scripts):
                if script.answers:
                    return script.answers.pop(0)
                if script.last is not None:
                    return script.last[0]
        return None

    def normal(self, seen: Seen) -> Reply:
        """Answer as Meta does. An exchange happens here."""
        _, version, edge = seen.path.split("/", 2) if seen.path.count("/") > 1 else ("", "", seen.path)
        asked, newest = _version(version), _version(self.version)
        # Meta serves a version that has expired by a newer one, and does not know one that is not out yet.
        if seen.endpoint is None or asked is None or (newest is not None and asked > newest):
            return graph_error(400, f"Unknown path components: /{edge}", 2500)
        if seen.method != "GET":
            text = (
                f"Unsupported {seen.method.lower()} request. Object with ID '{edge}' does not exist, "
                "cannot be loaded due to missing permissions, or does not support this operation."
            )
            return graph_error(400, text, 100, 33)
        app = App(self.app_id, self.app_secret)
        with self._lock:
            if seen.endpoint == "exchange":
                return self._registry.exchange(app, seen.query)
            scheme, _, credential = seen.headers.get("authorization", "").partition(" ")
            if scheme.lower() != "bearer":
                credential = seen.query.get("access_token", "")
            return self._registry.debug_token(app, credential, seen.query)


def _version(text: str) -> tuple[int, ...] | None:
    """Return the numbers of a version, or None if it is not one."""
    found = re.fullmatch(r"v(\d+)\.(\d+)", text)
    return found and tuple(int(number) for number in found.groups())
