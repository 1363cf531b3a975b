"""Servers that receive alerts: one like Slack's incoming webhooks, a mail server, and a plain webhook."""

from __future__ import annotations

import email
import email.policy
import json
import re
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller

from whatsapp_tokens.redaction import Secret

PATH = "/services/T0AAAAAAA/B0BBBBBBB/cccCCCddd123"


@dataclass(frozen=True)
class Reply:
    """A fixed answer to any request."""

    status: int
    body: str | bytes = ""
    headers: dict[str, str] = field(default_factory=dict)


class Hang:
    """Never answer."""


class Cut:
    """Announce a longer body than is sent."""


class Drip:
    """Send a body that never ends, a byte at a time."""


class DripHead:
    """Send headers that never end, a byte at a time."""


def text_of(text, kinds, longest):
    """Return what is wrong with a text object, or None."""
    if text.get("type") not in kinds or not 1 <= len(text.get("text", "")) <= longest:
        return "invalid_blocks"
    # What Slack would take for markup: https://docs.slack.dev/messaging/formatting-message-text
    if text["type"] == "mrkdwn" and re.search(r"[<>]|&(?!(amp|lt|gt);)", text["text"]):
        return "unescaped"
    return None


def wrong_with_block(block):
    """Return what is wrong with a block, or None. Only the kinds that we send are known."""
    match block:
        case {"type": "header", "text": text}:
            return text_of(text, {"plain_text"}, 150)
        case {"type": "section", "text": text, "accessory": {"type": "button", "text": label, "url": url}}:
            if not re.fullmatch(r"https?://[^\s\"<>\\^`{|}]+", url, re.ASCII) or len(url) > 3000:
                return "invalid_blocks"
            return text_of(text, {"mrkdwn"}, 3000) or text_of(label, {"plain_text"}, 75)
        case {"type": "section", "text": text}:
            return text_of(text, {"mrkdwn"}, 3000)
        case {"type": "context", "elements": elements} if 1 <= len(elements) <= 10:
            return next(filter(None, (text_of(element, {"mrkdwn"}, 3000) for element in elements)), None)
        case _:
            return "invalid_blocks"


def wrong_with(payload):
    """Return Slack's error code for a payload, or None."""
    if not isinstance(payload, dict):
        return "invalid_payload"
    if not payload.get("text"):
        return "no_text"
    if not 1 <= len(payload["blocks"]) <= 50:
        return "invalid_blocks"
    return next(filter(None, map(wrong_with_block, payload["blocks"])), None)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        slack = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        slack.paths.append(self.path)
        match slack.script.pop(0) if slack.script else None:
            case Reply(status, said, headers):
                self.answer(status, said, headers)
            case Hang():
                slack.closing.wait()
            case Cut():
                self.answer(200, "ok", {"Content-Length": "100"})
            case Drip() | DripHead() as answer:
                if isinstance(answer, Drip):
                    self.answer(200, "", {"Content-Length": "1000"})
                else:
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX-A: ")
                while not slack.closing.wait(0.02):
                    self.wfile.write(b"o")
            case None:
                self.receive(body)

    def receive(self, body):
        try:
            payload = json.loads(body)
        except ValueError:
            payload = None
        if self.path != PATH:
            self.answer(404, "no_service")
        elif error := wrong_with(payload):
            self.answer(400, error)
        else:
            self.server.received.append(payload)
            self.answer(200, "ok")

    def answer(self, status, body, headers=None):
        raw = body if isinstance(body, bytes) else body.encode()
        if "Date" in (headers or {}):
            self.send_response_only(status)
        else:
            self.send_response(status)
        for name, value in ({"Content-Length": str(len(raw))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_):
        pass


class SlackServer(ThreadingHTTPServer):
    """Gives the answers in `script` first; `received` are the payloads that it accepted."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = []
        self.paths = []
        self.received = []
        self.closing = threading.Event()
        self.url = Secret(f"http://127.0.0.1:{self.server_port}{PATH}")

    def handle_error(self, *_):
        pass  # in some tests the client closes the connection


@contextmanager
def running(server):
    """Run a server in a thread."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


class HookServer(ThreadingHTTPServer):
    """A webhook. Gives the answers in `script` first; `requests` are headers and bodies that came."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), HookHandler)
        self.script = []
        self.paths = []
        self.requests = []
        self.closing = threading.Event()
        self.address = f"json://127.0.0.1:{self.server_port}/hook/of-the-alerts"

    def handle_error(self, *_):
        pass

    @property
    def received(self):
        """Return the title and the text of each message that came."""
        return [(body["title"], body["message"]) for _, body in self.requests]


class HookHandler(Handler):
    def receive(self, body):
        self.server.requests.append((dict(self.headers), json.loads(body)))
        self.answer(200, "ok")


class MailServer:
    """A real SMTP server. `mails` are those that it accepted, `asked` the recipients of all.

    It accepts no mail for the addresses in `refused`.
    """

    def __init__(self):
        self.mails = []
        self.asked = []
        self.refused = set()
        self._controller = Controller(self, hostname="127.0.0.1", port=closed_port())

    async def handle_RCPT(self, _server, _session, envelope, address, _options):  # noqa: N802 - aiosmtpd's name
        self.asked.append(address)
        if address in self.refused:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802 - aiosmtpd's name
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.mails.append((envelope.rcpt_tos, message))
        return "250 OK"

    def address(self, to="ops@shop.example", more=""):
        """Return the Apprise URL of this server."""
        return f"mailto://127.0.0.1:{self._controller.port}?from=alerts@shop.example&to={to}{more}"

    def __enter__(self):
        self._controller.start()
        return self

    def __exit__(self, *_):
        self._controller.stop()


def closed_port():
    """Return a port on which no program listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
