"""A server on loopback that records what is posted to it, and answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Ping:
    path: str
    body: str
    kind: str


class Hang:
    """Never answer."""


class Drip:
    """Send headers that never end, a byte at a time."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.pings.append(Ping(self.path, body, self.headers["Content-Type"]))
        answer = self.server.script.pop(0) if self.server.script else 200
        if isinstance(answer, Hang):
            self.server.closing.wait()
            return
        if isinstance(answer, Drip):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: ")
            while not self.server.closing.wait(0.02):
                self.wfile.write(b"a")
            return
        self.send_response(answer)
        if 300 <= answer < 400:
            self.send_header("Location", f"{self.server.url}/redirected")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")  # which Slack says, too

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def listening() -> Iterator[Any]:
    """Yield a server: its `url`, a `script` of answers (status, `Hang` or `Drip`), the `pings` that came."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.handle_error = True, lambda *_: None
    server.pings, server.script, server.closing = [], [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
