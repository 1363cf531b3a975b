"""The simulated Meta's connections: kept alive, cut, reset, or sending byte by byte."""

from __future__ import annotations

import itertools
import json
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Literal, Protocol, TypeAlias, cast
from urllib.parse import parse_qsl, urlsplit

from sandbox.answers import Answer, Cut, Drip, Huge, Reply, Reset, Slow, trace_id

Endpoint: TypeAlias = Literal["exchange", "debug_token"]
ENDPOINTS: Final[Mapping[str, tuple[Endpoint, str]]] = {
    "oauth/access_token": ("exchange", "fb_exchange_token"),
    "debug_token": ("debug_token", "input_token"),
}
PHRASES: Final[Mapping[int, str]] = {status.value: status.phrase for status in HTTPStatus}


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came. Header names are in lower case; `connection` counts TCP connections."""

    method: str
    path: str
    endpoint: Endpoint | None
    token: str | None
    query: dict[str, str]
    headers: dict[str, str]
    at: float
    connection: int


class Meta(Protocol):
    """What a connection needs of the server."""

    closing: threading.Event
    latency: float
    usage: Mapping[str, int] | None
    served_version: str
    date: Callable[[], float] | None
    on_request: Callable[[Seen], None] | None

    def arrived(self, seen: Seen) -> None:
        """Record a request, and count it as in flight."""

    def left(self) -> None:
        """Count a request as answered."""

    def fault(self, error: BaseException) -> None:
        """Keep an exception of a connection's thread, to raise it when the server is closed."""

    def scripted(self, seen: Seen) -> Answer | None:
        """Return the next scripted answer for this request, or None for a normal one."""

    def normal(self, seen: Seen) -> Reply:
        """Answer as Meta does. An exchange happens here."""


class Listener(ThreadingHTTPServer):
    """Accepts connections, and closes them when it stops."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int, meta: Meta) -> None:
        self.meta = meta
        self.open: dict[socket.socket, tuple[int, threading.Thread]] = {}
        self._numbers = itertools.count(1)
        super().__init__(("127.0.0.1", port), _Connection)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        """Return the port that it listens on."""
        return int(self.server_address[1])

    def server_bind(self) -> None:
        """Bind without looking up the name of the host, which can take seconds."""
        socketserver.TCPServer.server_bind(self)

    def start(self) -> None:
        """Start to accept connections."""
        self._thread.start()

    def stop(self) -> None:
        """Close all connections and wait for their threads, which end within milliseconds."""
        self.shutdown()
        self._thread.join()
        self.server_close()
        connections = list(self.open.items())
        for connection, _ in connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it is closed already
        for _, (_, thread) in connections:
            thread.join(timeout=2)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a number and a thread."""
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), daemon=True
        )
        self.open[request] = next(self._numbers), thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close the connection and forget it."""
        super().shutdown_request(request)
        self.open.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the signature of the base class
        """Keep exceptions, except that a caller closed the connection."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.meta.fault(error)


class _Connection(BaseHTTPRequestHandler):
    """One TCP connection, in a thread of its own."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        listener = cast(Listener, self.server)
        self.meta = listener.meta
        self.number = listener.open[self.request][0]
        self.in_flight = False

    def log_message(self, *_: object) -> None:
        """Print nothing: the terminal belongs to the tests and the demo."""

    def do_GET(self) -> None:
        """Answer one request of any method."""
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen = self._seen()
        self.in_flight = True
        self.meta.arrived(seen)
        try:
            if self._called_back(seen):
                answer = self.meta.scripted(seen)
                if self._waited(self.meta.latency):
                    self._answer(seen, answer)
        finally:
            self._leave()

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - names of the base class

    def _seen(self) -> Seen:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        endpoint, parameter = ENDPOINTS.get(url.path.lstrip("/").partition("/")[2], (None, ""))
        return Seen(
            method=self.command,
            path=url.path,
            endpoint=endpoint,
            token=query.get(parameter),
            query=query,
            headers={name.lower(): value for name, value in self.headers.items()},
            at=time.time(),
            connection=self.number,
        )

    def _called_back(self, seen: Seen) -> bool:
        """Call `on_request`. Return False if it raised: the server raises the same at its end."""
        if self.meta.on_request is None:
            return True
        try:
            self.meta.on_request(seen)
        except BaseException as error:  # noqa: BLE001 - the server raises it at its end
            self.meta.fault(error)
            self.close_connection = True
            return False
        return True

    def _answer(self, seen: Seen, answer: Answer | None) -> None:
        match answer:
            case Reply():
                self._send(answer)
            case Reset():
                self._reset()
            case Huge():
                self._send_huge(answer)
            case Cut():
                self._send_part(self.meta.normal(seen), answer)
            case Drip():
                self._send_byte_by_byte(self.meta.normal(seen), answer)
            case Slow():
                if self._waited(answer.seconds):
                    self._send(self.meta.normal(seen))
            case None:
                self._send(self.meta.normal(seen))

    def _send(self, reply: Reply) -> None:
        content = reply.content()
        data = self._head(reply.status, content, len(content), reply.headers) + content
        self._leave()
        self.wfile.write(data)

    def _send_part(self, reply: Reply, cut: Cut) -> None:
        content = reply.content()
        head = self._head(cut.status, content, len(content), reply.headers)
        self._close_after([head + content[: min(cut.after, len(content) - 1)]])

    def _send_byte_by_byte(self, reply: Reply, drip: Drip) -> None:
        content = reply.content()
        head = self._head(reply.status, content, len(content), reply.headers)
        if drip.head:
            head, content = b"", head + content
        self.wfile.write(head)
        for number, byte in enumerate(content, 1):
            if not self._waited(drip.seconds / len(content)):
                return
            if number == len(content):
                self._leave()
            self.wfile.write(bytes([byte]))

    def _send_huge(self, huge: Huge) -> None:
        chunk = b"x" * 65536
        times, rest = divmod(huge.size, len(chunk))
        head = self._head(200, chunk, huge.size if huge.announced else None)
        self._close_after(itertools.chain((head,), itertools.repeat(chunk, times), (chunk[:rest],)))

    def _head(
        self, status: int, content: bytes, length: int | None, extra: Mapping[str, str] | None = None
    ) -> bytes:
        """Return the head of an answer. `extra` headers replace ours; without `length` no Content-Length."""
        kind = "text/html; charset=utf-8" if content.startswith(b"<") else "application/json; charset=UTF-8"
        headers = {
            "content-type": kind,
            "facebook-api-version": self.meta.served_version,
            "x-fb-trace-id": trace_id(),
        }
        if self.meta.date is not None:
            headers["date"] = formatdate(self.meta.date(), usegmt=True)
        if self.meta.usage is not None:
            headers["x-app-usage"] = json.dumps(dict(self.meta.usage), separators=(",", ":"))
        if length is not None:
            headers["content-length"] = str(length)
        for name, value in (extra or {}).items():
            headers.pop(name.lower(), None)
            headers[name] = value
        phrase = PHRASES.get(status, "Unknown")
        lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")

    def _close_after(self, pieces: Iterable[bytes]) -> None:
        self.close_connection = True
        self._leave()
        for piece in pieces:
            self.wfile.write(piece)

    def _reset(self) -> None:
        self.close_connection = True
        self._leave()
        # Closing with a linger time of zero sends a reset.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.connection.close()

    def _waited(self, seconds: float) -> bool:
        """Wait, and return True; or give the connection up if the server is closed meanwhile."""
        if seconds > 0 and self.meta.closing.wait(seconds):
            self.close_connection = True
            return False
        return True

    def _leave(self) -> None:
        """Count the request as answered, before its last byte is sent: the next one may come at once."""
        if self.in_flight:
            self.in_flight = False
            self.meta.left()
