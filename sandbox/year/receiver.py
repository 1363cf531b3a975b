"""Where alerts and pings arrive: one server that is Slack for alerts, and the monitor for the heartbeat."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, cast

SLACK: Final = "/services/T0YEAR/B0YEAR/made-up-for-the-year"
PING: Final = "/ping/made-up-for-the-year"
CARD: Final = re.compile(r"\*Line \d+ \((\d+)\)\*\n([^:\n]+)")
LINE: Final = re.compile(r"^• Line \d+ \((\d+)\): (?:[^;\n]+); ([^\n→]+)", re.MULTILINE)
RECOVERED: Final = re.compile(r"Recovered: ([^\n]+)")
NAME: Final = re.compile(r"Line \d+ \((\d+)\)")


@dataclass(frozen=True, slots=True)
class Message:
    """One message as people read it: who needs attention and why, and who is well again."""

    title: str
    causes: dict[int, str]
    recovered: frozenset[int]

    @classmethod
    def read(cls, payload: dict[str, Any]) -> Message:
        """Read what Slack is to show."""
        texts = [block["text"]["text"] for block in payload["blocks"] if block["type"] == "section"]
        text = "\n".join(texts)
        causes = {
            int(id_): cause.strip().lower() for id_, cause in (*CARD.findall(text), *LINE.findall(text))
        }
        recovered = {int(id_) for names in RECOVERED.findall(text) for id_ in NAME.findall(names)}
        return cls(payload["text"], causes, frozenset(recovered))


@dataclass(slots=True)
class Received:
    """What arrived in one night. `refuses`: Slack takes nothing."""

    refuses: bool = False
    messages: list[Message] = field(default_factory=list)
    pings: list[str] = field(default_factory=list)
    refused: int = 0


class Receiver(ThreadingHTTPServer):
    """The server. `tonight` may be replaced between runs; `on_alert` is called before Slack's answer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.tonight = Received()
        self.on_alert: Callable[[], None] | None = None
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """Say nothing: a run that is killed closes its connections."""


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Run the server."""
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_POST(self) -> None:
        """Take an alert or a ping."""
        server = cast(Receiver, self.server)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, said = 200, b"ok"
        if self.path == SLACK:
            if server.on_alert:
                server.on_alert()
            with server.lock:
                if server.tonight.refuses:
                    server.tonight.refused += 1
                    status, said = 410, b"channel_is_archived"
                else:
                    server.tonight.messages.append(Message.read(json.loads(body)))
        elif self.path.startswith(PING):
            with server.lock:
                server.tonight.pings.append(self.path.rpartition("/")[2])
        else:
            status, said = 404, b"no_service"
        self.send_response(status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
