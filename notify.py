"""Delivering messages to people: the only room that speaks to Slack. It composes nothing.

A `Message` comes in, finished; a target delivers it or raises `DeliveryError`, and `broadcast` says who
did not get it. One failing target never keeps a message from another.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol, TypeAlias

import requests
import urllib3

from whatsapp_tokens.http_session import TooSlow, open_session
from whatsapp_tokens.redaction import Secret, quote_foreign, redact, truncate

# Waits so many seconds. Gives whether the run was told to stop: then nothing is tried again.
Sleep: TypeAlias = Callable[[float], bool]

TIMEOUT_SECONDS: Final = 10
TRIES: Final = 3
LONGEST_WAIT_SECONDS: Final = 30
LONGEST_ASKED_SECONDS: Final = 300  # whatever Slack says
MAX_ANSWER_BYTES: Final = 4096  # Slack says one word; what comes after this is not even read

# https://docs.slack.dev/reference/block-kit/blocks
MAX_BLOCKS: Final = 50
MAX_SECTION: Final = 3000
MAX_HEADER: Final = 150
MAX_BUTTON_URL: Final = 3000
# Of all cards together. Slack names no limit and has one: https://github.com/slackapi/bolt-js/issues/2867
MAX_CARDS_TEXT: Final = 9000


class DeliveryError(Exception):
    """A target did not take a message. One line, without its address; `permanent`: nor will it later."""

    def __init__(self, message: str, *, permanent: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Card:
    """One thing to act on: a title, lines of plain text, and a link with its label."""

    title: str
    lines: tuple[str, ...] = ()
    link: str | None = None
    link_label: str = "Reconnect"


@dataclass(frozen=True, slots=True)
class Message:
    """What people are told, in plain text. `more` counts the cards that were left out, `and_more` says it."""

    title: str
    summary: str
    cards: tuple[Card, ...] = ()
    more: int = 0
    footer: str = ""
    and_more: str = "… and {} more"

    def shown(self, count: int) -> Message:
        """The message with its first `count` cards only; the others are counted."""
        left = len(self.cards[count:])
        return replace(self, cards=self.cards[:count], more=self.more + left)

    @property
    def rest(self) -> str:
        """What is said of the cards that were left out; nothing if there are none."""
        return self.and_more.format(self.more) if self.more else ""


class Target(Protocol):
    """Somewhere to deliver to."""

    @property
    def name(self) -> str:
        """What people call it. Never its address."""

    def deliver(self, message: Message) -> None:
        """Deliver, or raise `DeliveryError`."""


def broadcast(targets: Sequence[Target], message: Message) -> list[DeliveryError]:
    """Deliver to every target, redacted once more. Gives the errors of those that did not take it."""
    message = _redacted(message)
    errors = []
    for target in targets:
        try:
            target.deliver(message)
        except DeliveryError as error:
            errors.append(error)
    return errors


class Slack:
    """A Slack incoming webhook: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks."""

    name = "Slack"

    def __init__(self, url: Secret, *, sleep: Sleep) -> None:
        self._url = url
        self._sleep = sleep

    def deliver(self, message: Message) -> None:
        """Post it. A 429 is waited for as long as Slack says, a 5xx is tried again."""
        payload = {"text": escape(message.title), "blocks": blocks(message)}
        failure = self._post(payload)
        for attempt in range(1, TRIES):
            if failure is None or failure.permanent or self._sleep(_wait(failure, attempt)):
                break
            failure = self._post(payload)
        if failure:
            raise failure

    def _post(self, payload: dict[str, Any]) -> DeliveryError | None:
        """One try. Gives why it did not succeed."""
        try:
            with (
                open_session(self._url.reveal(), connections=1) as session,
                session.post(
                    self._url.reveal(),
                    json=payload,
                    timeout=TIMEOUT_SECONDS,
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                status, said = response.status_code, quote_foreign(_read_answer(response))
                headers = response.headers
        except (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
            # Only the name: the text of these errors holds the webhook's address.
            return DeliveryError(f"Slack did not answer ({type(error).__name__})")
        except TooSlow as error:
            return DeliveryError(f"Slack did not answer ({error})")
        if status == 200 and said == "ok":
            return None
        return DeliveryError(
            f"Slack refused the alert: {said or 'no explanation'} (HTTP {status})",
            permanent=status != 429 and status < 500,
            retry_after=retry_after(headers.get("Retry-After", ""), headers.get("Date", "")),
        )


def retry_after(asked: str, date: str) -> float | None:
    """The seconds that a server asks for in `Retry-After`, or None if it does not, or not intelligibly.

    It may name a moment: that is compared with the answer's own `Date`, so no clocks need to agree.
    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    if re.fullmatch(r"\d+(\.\d+)?", asked.strip(), re.ASCII):
        return float(asked)
    with suppress(ValueError, TypeError, OverflowError):  # no dates, or one has a zone and the other has none
        seconds = (parsedate_to_datetime(asked) - parsedate_to_datetime(date)).total_seconds()
        return max(seconds, 0.0)
    return None


def _read_answer(response: requests.Response) -> str:
    """The beginning of what Slack says."""
    body = b""
    while len(body) < MAX_ANSWER_BYTES and (chunk := response.raw.read1(MAX_ANSWER_BYTES)):
        body += chunk
    return body.decode(errors="replace")


def _wait(failure: DeliveryError, attempt: int) -> float:
    """As long as Slack says, within reason, else 1, 2, 4 … seconds."""
    if failure.retry_after is not None:
        return min(failure.retry_after, LONGEST_ASKED_SECONDS)
    return min(2.0 ** (attempt - 1), LONGEST_WAIT_SECONDS)


def blocks(message: Message) -> list[dict[str, Any]]:
    """A message as Slack's Block Kit, within its limits."""
    rendered: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": truncate(message.title, MAX_HEADER)}},
        _section(escape(message.summary)),
    ]
    cards: list[dict[str, Any]] = []
    room, size = MAX_BLOCKS - len(rendered) - 2, 0  # two are for "and … more" and the footer
    for card in message.cards[:room]:
        section = _section("\n".join([f"*{escape(card.title)}*", *map(escape, card.lines)]))
        size += len(section["text"]["text"])
        if size > MAX_CARDS_TEXT:
            break
        if card.link and len(card.link) <= MAX_BUTTON_URL:
            label = {"type": "plain_text", "text": card.link_label}
            section["accessory"] = {"type": "button", "text": label, "url": card.link}
        cards.append(section)
    rendered += cards
    if rest := message.shown(len(cards)).rest:
        rendered.append(_section(escape(rest)))
    if message.footer:
        rendered.append({"type": "context", "elements": [_mrkdwn(escape(message.footer))]})
    return rendered


def escape(text: str) -> str:
    """Plain text for Slack's mrkdwn: https://docs.slack.dev/messaging/formatting-message-text."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> dict[str, Any]:
    """Escaped text. Verbatim: else a channel called @here, or like a web address, would become one."""
    cut = truncate(text, MAX_SECTION)
    if cut != text:
        cut = re.sub(r"&[a-z]*…$", "…", cut)  # no half of an escaped character
    return {"type": "mrkdwn", "text": cut, "verbatim": True}


def _redacted(message: Message) -> Message:
    """A message without secrets, whatever the names and errors held that it was composed from."""
    cards = tuple(
        replace(card, title=redact(card.title), lines=tuple(map(redact, card.lines)))
        for card in message.cards
    )
    return replace(
        message,
        title=redact(message.title),
        summary=redact(message.summary),
        cards=cards,
        footer=redact(message.footer),
    )
