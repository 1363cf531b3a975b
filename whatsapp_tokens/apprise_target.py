"""Alerts by Apprise: e-mail, Telegram, Teams and all its other services.

Its addresses look like `mailto://user:password@example.com`, and nearly every part of one may be a secret.
Apprise is imported only if there is such an address, because that takes time.
"""

from __future__ import annotations

import html
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from notify import Card, Message
from whatsapp_tokens.delivery import TRIES, DeliveryError
from whatsapp_tokens.redaction import Secret, quote_foreign

if TYPE_CHECKING:
    from apprise import Apprise, AppriseAsset, AppriseResult, NotifyBase

APP_NAME: Final = "WhatsApp token refresh"  # the sender of e-mail and chat messages
DEADLINE_SECONDS: Final = 60  # for one address, its retries included
RETRY_WAIT_SECONDS: Final = 1.0
LOOPBACK: Final = "127.0.0.0/8,localhost,::1"  # as NO_PROXY takes it
OWN_SERVERS: Final = ("JSON", "XML", "Form")  # services whose address names a server, as a URL does
HELP: Final = "see https://appriseit.com/services/"


class AppriseTarget:
    """One address that Apprise delivers to. `name` is that of its service."""

    def __init__(self, address: Secret, is_stopped: Callable[[], bool]) -> None:
        self._service = open_service(address.reveal())
        self._is_stopped = is_stopped
        self.name = str(self._service.service_name)
        self.capacity = self._service.body_maxlen * 2 // 3  # markup takes the rest
        self.server = _server(self._service)

    def deliver(self, message: Message) -> None:
        """Send it as HTML if the service prefers that, else as plain text, cut to what the service takes.

        Apprise tries again after a failure, without sending twice to those who got it; not once the run was
        told to stop.
        """
        if self._is_stopped():
            self._service.retry = 0
        title, text, kind = message.title, *_body(message, self._service)
        with _environment_for_secrets():
            result = _within(
                DEADLINE_SECONDS,
                lambda: _sender(self._service).notify(text, title, notify_type="warning", body_format=kind),
            )
        if isinstance(result, Exception):  # only its name: its text may hold the address
            raise DeliveryError(f"{self.name} did not take the alert: {type(result).__name__}")
        if not result:
            raise DeliveryError(f"{self.name} did not take the alert: {_said(result)}")


def parse_addresses(text: str) -> tuple[Secret, ...]:
    """Return the addresses in `NOTIFY_URLS`. Raise ValueError, which says which are wrong and shows none."""
    addresses = _split(text)
    problems = []
    for number, address in enumerate(addresses, start=1):
        try:
            open_service(address)
        except ValueError as error:
            which = f"address {number} of {len(addresses)}: " if len(addresses) > 1 else ""
            problems.append(f"{which}{error}")
    if problems:
        raise ValueError("; ".join(problems))
    return tuple(map(Secret, addresses))


def open_targets(addresses: Sequence[Secret], is_stopped: Callable[[], bool]) -> list[AppriseTarget]:
    """Return a target for each address, each with a name of its own: `E-Mail`, `E-Mail (2)` and so on.

    `is_stopped` says whether the run was told to stop.
    """
    targets: list[AppriseTarget] = []
    for target in [AppriseTarget(address, is_stopped) for address in addresses]:
        alike = sum(other.name.partition(" (")[0] == target.name for other in targets)
        if alike:
            target.name = f"{target.name} ({alike + 1})"
        targets.append(target)
    return targets


def as_text(message: Message) -> str:
    """Return a message as plain text, without its title."""
    lines = "\n".join(f"• {line}" for line in message.lines)
    link = f"{message.link_label}: {message.link}" if message.link else ""
    parts = [message.summary, *map(_card_as_text, message.cards), lines, message.rest, link, message.footer]
    return "\n\n".join(filter(None, parts))


def as_html(message: Message) -> str:
    """Return a message as escaped HTML paragraphs, without its title."""
    parts = [
        html.escape(message.summary),
        *map(_card_as_html, message.cards),
        "<br>\n".join(html.escape(f"• {line}") for line in message.lines),
        html.escape(message.rest),
        _link_as_html(message.link_label, message.link),
        html.escape(message.footer),
    ]
    return "\n".join(f"<p>{part}</p>" for part in parts if part)


def _card_as_text(card: Card) -> str:
    link = (f"{card.link_label}: {card.link}",) if card.link else ()
    return "\n  ".join((f"• {card.title}", *card.lines, *link))


def _card_as_html(card: Card) -> str:
    link = _link_as_html(card.link_label, card.link)
    return "<br>\n".join(
        filter(None, (f"<b>{html.escape(card.title)}</b>", *map(html.escape, card.lines), link))
    )


def _link_as_html(label: str, link: str | None) -> str:
    """Return a link that shows its address, because Apprise makes the plain text of a mail from its HTML."""
    address = html.escape(link or "")
    return f'{html.escape(label)}: <a href="{address}">{address}</a>' if address else ""


def _body(message: Message, service: NotifyBase) -> tuple[str, str]:
    """Return the body and its format: as many cards as the service takes, the others counted."""
    most = service.body_maxlen - len(message.title) - 2  # services without titles put it before the text
    renderers = {"text": as_text}
    if service.resolve_format().value == "html":
        renderers = {"html": as_html} | renderers
    for kind, render in renderers.items():
        for count in range(len(message.cards) + len(message.lines), -1, -1):
            if len(text := render(message.shown(count))) <= most:
                return text, kind
    return text, kind  # plain text that is still too long, for example for SMS: Apprise cuts it


def _split(text: str) -> list[str]:
    """Split a text at commas and white space; both may also occur inside an address."""
    from apprise.utils.parse import parse_urls  # noqa: PLC0415 - see the module's docstring

    text = text.strip(" \t\r\n,;")
    if not re.match(r"[A-Za-z0-9]+://", text):
        raise ValueError(f"it must hold addresses such as mailto://user:password@example.com; {HELP}")
    return list(parse_urls(text))  # type: ignore[no-untyped-call]


def open_service(address: str) -> NotifyBase:
    """Return the service of an address. Raise ValueError, which does not show it."""
    from apprise import Apprise, OverflowMode  # noqa: PLC0415

    # Its log repeats addresses, so it goes nowhere. The reason of a failed delivery comes with the result, if
    # it is of this level.
    its_logger = logging.getLogger("apprise")
    its_logger.propagate = False
    its_logger.setLevel(logging.WARNING)
    service = Apprise.instantiate(address, asset=_asset())
    if service is None:
        raise ValueError(f"Apprise cannot make sense of it; {HELP}")
    if not service.verify_certificate:
        raise ValueError("certificates are always verified here; take verify=no out of it")
    service.redirects = False
    service.optional = False  # else a failure would count as a success
    service.overflow_mode = OverflowMode.TRUNCATE
    return service


def _server(service: NotifyBase) -> str | None:
    """Return the server of a service, as `why_unreachable` asks it, or None.

    For most services, what Apprise calls the host is a token, which must not even be looked up.
    """
    if host := getattr(service, "smtp_host", None):
        return f"smtp://{host}:{service.port or 25}"
    fixed = urlsplit(getattr(type(service), "notify_url", None) or "")
    if fixed.scheme == "https" and re.fullmatch(r"[\w.-]+", fixed.netloc):
        return f"https://{fixed.netloc}"
    if service.service_name in OWN_SERVERS:
        port = f":{service.port}" if service.port else ""
        return f"{'https' if service.secure else 'http'}://{service.host}{port}"
    return None


def _asset() -> AppriseAsset:
    """Return how Apprise works: without files, redirects and threads of its own."""
    from apprise import AppriseAsset  # noqa: PLC0415

    return AppriseAsset(
        app_id=APP_NAME,
        http_redirects=False,
        storage_mode="memory",
        service_timeout=0,
        default_service_retry=TRIES - 1,
        default_service_wait=RETRY_WAIT_SECONDS,
    )


def _sender(service: NotifyBase) -> Apprise:
    from apprise import Apprise  # noqa: PLC0415

    return Apprise(service, asset=service.asset)


def _within(seconds: float, send: Callable[[], AppriseResult]) -> AppriseResult | Exception | None:
    """Return what `send` returns or raises, or None if it takes longer.

    A daemon thread, because the threads of a pool are waited for when the program ends.
    """
    results: list[AppriseResult | Exception] = []

    def run() -> None:
        try:
            results.append(send())
        except Exception as error:  # noqa: BLE001 - services are code of others, and raise what they like
            results.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return results[0] if results else None


def _said(result: AppriseResult | None) -> str:
    """Return the last thing that Apprise logged of a delivery, without secrets."""
    if result is None:
        return f"no answer within {DEADLINE_SECONDS} seconds"
    said = [entry.message for one in result for attempt in one.attempts for entry in attempt.logs]
    return quote_foreign(said[-1]) if said else "no explanation"


@contextmanager
def _environment_for_secrets() -> Iterator[None]:
    """Keep `requests`, as Apprise calls it, from reading `.netrc` and from using a proxy for loopback."""
    excepted = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    changes = {"NETRC": os.devnull, "no_proxy": ",".join(filter(None, (excepted, LOOPBACK)))}
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
