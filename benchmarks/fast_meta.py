"""A simulated Meta that is fast enough for benchmarks: one process, one event loop, no threads.

It has the rules of the sandbox. `python -m benchmarks.fast_meta --channels N` prints its URL, serves until
SIGTERM and prints what it counted as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections import Counter
from typing import Final
from urllib.parse import parse_qsl

from sandbox.answers import Reply, graph_error
from sandbox.graph import APP_ID, APP_SECRET
from sandbox.tokens import SIXTY_DAYS, App, TokenRegistry
from sandbox.wire import ENDPOINTS

DAY: Final = 86400
AGE_DAYS: Final = 50
APP: Final = App(APP_ID, APP_SECRET)


def token_of(number: int) -> str:
    """Return the token of a channel, for the server and for the table. It is as long as a real one."""
    return f"EAAbench{number:08}".ljust(200, "x")


class FastMeta:
    """The tokens, and how often each was exchanged."""

    def __init__(self, channels: int, latency: float) -> None:
        self.latency = latency
        self.calls = 0
        self.registry = TokenRegistry(time.time)
        issued_at = int(time.time()) - AGE_DAYS * DAY
        for number in range(channels):
            self.registry.issue(
                token_of(number), type="USER", issued_at=issued_at, expires_at=issued_at + SIXTY_DAYS
            )

    def answer(self, target: str, authorization: str) -> Reply:
        """Answer a request as the sandbox does."""
        self.calls += 1
        path, _, query = target.partition("?")
        edge = path.lstrip("/").partition("/")[2]
        endpoint, _ = ENDPOINTS.get(edge, (None, ""))
        values = dict(parse_qsl(query))
        match endpoint:
            case "exchange":
                return self.registry.exchange(APP, values)
            case "debug_token":
                credential = authorization.partition(" ")[2] or values.get("access_token", "")
                return self.registry.debug_token(APP, credential, values)
            case None:
                return graph_error(400, f"Unknown path components: /{edge}", 2500)

    def counts(self) -> dict[str, int]:
        """Return how many calls and exchanges there were."""
        times = Counter(old for old, _ in self.registry.exchanges)
        return {
            "calls": self.calls,
            "exchanges": len(self.registry.exchanges),
            "exchanged_twice": sum(count > 1 for count in times.values()),
        }


class _Wire(asyncio.Protocol):
    """A connection that is kept alive. Its caller waits for each answer before it sends the next request."""

    def __init__(self, meta: FastMeta) -> None:
        self._meta = meta
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            fields = (line.split(":", 1) for line in lines)
            headers = {name.lower(): value.strip() for name, value in fields}
            reply = self._meta.answer(first.split(" ")[1], headers.get("authorization", ""))
            asyncio.get_running_loop().call_later(self._meta.latency, self._send, reply)

    def _send(self, reply: Reply) -> None:
        body = reply.content()
        head = (
            f"HTTP/1.1 {reply.status} -\r\ncontent-type: application/json; charset=UTF-8\r\n"
            f"facebook-api-version: v26.0\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        if isinstance(self._transport, asyncio.WriteTransport) and not self._transport.is_closing():
            self._transport.write(head.encode() + body)


async def serve(meta: FastMeta) -> None:
    """Serve on a free port until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    server = await loop.create_server(lambda: _Wire(meta), "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    print(f"http://127.0.0.1:{port}", flush=True)
    await stopped.wait()
    print(json.dumps(meta.counts()), flush=True)


def main() -> int:
    """Serve with the options of the command line."""
    parser = argparse.ArgumentParser(description="A simulated Meta for benchmarks.")
    parser.add_argument("--channels", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.15, help="seconds per call")
    options = parser.parse_args()
    asyncio.run(serve(FastMeta(options.channels, options.latency)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
