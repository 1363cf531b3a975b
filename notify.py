"""Deliver messages to people. Slack's Block Kit and its webhook are known here only.

`broadcast` gives a finished `Message` to every target and returns the errors of those that did not take it.
A target that fails does not keep the message from the others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from whatsapp_tokens.delivery import DeliveryError, deliver_with_retries, refusal, retry_after
from whatsapp_tokens.http_session import NoAnswer, origin, post
from whatsapp_tokens.redaction import Secret, quote_foreign, redact, truncate
from whatsapp_tokens.signals import Sleep

TIMEOUT_SECONDS: Final = 10
MAX_ANSWER_BYTES: Final = 4096  # Slack answers with one word; anything longer is not read

# https://docs.slack.dev/reference/block-kit/blocks
MAX_BLOCKS: Final = 50
MAX_SECTION: Final = 3000
MAX_HEADER: Final = 150
MAX_BUTTON_URL: Final = 3000
MAX_CARDS: Final = 39  # on a page: each is a block
LINE_SECTIONS: Final = 6  # that the lines of a page take
LEAST_CAPACITY: Final = 1500  # characters of a page
# All cards and lines together. Slack documents no limit and has one: https://github.com/slackapi/bolt-js/issues/2867
MAX_CARDS_TEXT: Final = 9000


@dataclass(frozen=True, slots=True)
class Card:
    """One thing to act on: a title, lines of plain text, and a link with its label."""

    title: str
    lines: tuple[str, ...] = ()
    link: str | None = None
    link_label: str = "Reconnect"


@dataclass(frozen=True, slots=True)
class Message:
    """Plain text for people: a summary, cards, then lines for what is named without a card.

    `more` is the number of cards and lines that were left out, and `and_more` the text that says so.
    """

    title: str
    summary: str
    cards: tuple[Card, ...] = ()
    more: int = 0
    footer: str = ""
    and_more: str = "… and {} more"
    lines: tuple[str, ...] = ()
    link: str | None = None
    link_label: str = ""

    def shown(self, count: int) -> Message:
        """Return the message with its first `count` cards and lines; the others are counted in `more`."""
        lines = self.lines[: max(count - len(self.cards), 0)]
        left_out = max(len(self.cards) + len(self.lines) - count, 0)
        return replace(self, cards=self.cards[:count], lines=lines, more=self.more + left_out)

    @property
    def rest(self) -> str:
        """The line about the cards and lines that were left out; empty if there are none."""
        return self.and_more.format(self.more) if self.more else ""


class Target(Protocol):
    """Somewhere to deliver to."""

    @property
    def name(self) -> str:
        """What people call it. Never its address."""

    @property
    def capacity(self) -> int:
        """How many characters of cards and lines fit into one message."""

    @property
    def server(self) -> str | None:
        """The server that takes its messages, as `why_unreachable` asks it. None where that is not known."""

    def deliver(self, message: Message) -> None:
        """Deliver, or raise `DeliveryError`."""


def broadcast(targets: Sequence[Target], message: Message) -> list[DeliveryError]:
    """Redact the message and deliver it to every target. Return the errors of those that failed."""
    message = _redacted(message)
    errors = []
    for target in targets:
        try:
            target.deliver(message)
        except DeliveryError as error:
            errors.append(error)
        except Exception as error:  # noqa: BLE001 - a bug in one target must not keep the message from others
            errors.append(DeliveryError(f"{target.name}: unexpected error ({type(error).__name__})"))
    return errors


def pages(message: Message, targets: Sequence[Target]) -> list[Message]:
    """Split a message into parts that fit its targets, with each card and line whole and in order.

    A target that takes very little, such as SMS, does not make the parts short: it cuts what it is given.
    """
    capacity = max(min((target.capacity for target in targets), default=MAX_CARDS_TEXT), LEAST_CAPACITY)
    entries: list[Card | str] = [*message.cards, *message.lines]
    parts: list[list[Card | str]] = [[]]
    size = 0
    for one in entries:
        needed = _size(one)
        if parts[-1] and (
            size + needed > capacity or (len(parts[-1]) == MAX_CARDS and isinstance(one, Card))
        ):
            parts.append([])
            size = 0
        parts[-1].append(one)
        size += needed
    if len(parts) == 1:
        return [message]
    return [_page(message, part, number, len(parts)) for number, part in enumerate(parts, start=1)]


def _page(message: Message, part: list[Card | str], number: int, total: int) -> Message:
    """Return one page: the first has the summary, the last says what was left out."""
    page = replace(
        message,
        title=f"{message.title} ({number}/{total})",
        cards=tuple(one for one in part if isinstance(one, Card)),
        lines=tuple(one for one in part if isinstance(one, str)),
    )
    page = page if number == 1 else replace(page, summary=f"({number}/{total})")
    return page if number == total else replace(page, more=0, footer="", link=None)


def _size(one: Card | str) -> int:
    """Return how many characters of a page a card or a line takes, as Slack counts them."""
    texts = [one] if isinstance(one, str) else [one.title, *one.lines, one.link or ""]
    return min(sum(len(escape(text)) + 3 for text in texts), MAX_SECTION)


class Slack:
    """A Slack incoming webhook: https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks."""

    name = "Slack"
    capacity = MAX_CARDS_TEXT

    def __init__(self, url: Secret, *, sleep: Sleep) -> None:
        self._url = url
        self._sleep = sleep
        self.server = origin(url.reveal())

    def deliver(self, message: Message) -> None:
        """Post the message. Waits as long as Slack asks after a 429, and tries again after a 5xx."""
        payload = {"text": escape(message.title), "blocks": blocks(message)}
        deliver_with_retries(lambda: self._post(payload), self._sleep)

    def _post(self, payload: dict[str, Any]) -> None:
        answer = post(self._url, timeout=TIMEOUT_SECONDS, read_bytes=MAX_ANSWER_BYTES, json=payload)
        if isinstance(answer, NoAnswer):
            raise DeliveryError(f"Slack did not answer ({answer.why})", is_local=answer.is_local)
        said = quote_foreign(answer.body.decode(errors="replace"))
        if answer.status != 200 or said != "ok":
            said = f"Slack refused the alert: {said or 'no explanation'} (HTTP {answer.status})"
            wait = retry_after(answer.headers.get("Retry-After", ""), answer.headers.get("Date", ""))
            raise refusal(said, answer.status, retry_after=wait)


def blocks(message: Message) -> list[dict[str, Any]]:
    """Return a message as Slack's Block Kit, within its limits."""
    rendered: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": truncate(message.title, MAX_HEADER)}},
        _section(escape(message.summary)),
    ]
    cards: list[dict[str, Any]] = []
    size = 0
    for card in message.cards[: MAX_BLOCKS - len(rendered) - _reserved(message)]:
        section = _section("\n".join([f"*{escape(card.title)}*", *map(escape, card.lines)]))
        size += len(section["text"]["text"])
        if size > MAX_CARDS_TEXT:
            break
        cards.append(_with_button(section, card.link_label, card.link))
    shown, sections = 0, [""]
    for line in message.lines if len(cards) == len(message.cards) else ():
        text = f"• {escape(line)}\n"
        size += len(text)
        if size > MAX_CARDS_TEXT:
            break
        if len(sections[-1]) + len(text) > MAX_SECTION:
            sections.append("")
        sections[-1] += text
        shown += 1
    rendered += [*cards, *(_section(text.rstrip()) for text in sections if text)]
    if rest := message.shown(len(cards) + shown).rest:
        rendered.append(_section(escape(rest)))
    if message.link:
        rendered.append(_with_button(_section(escape(message.link_label)), message.link_label, message.link))
    if message.footer:
        rendered.append({"type": "context", "elements": [_mrkdwn(escape(message.footer))]})
    return rendered


def _reserved(message: Message) -> int:
    """Return how many blocks are needed for what follows the cards: lines, "and … more", link and footer."""
    return 2 + bool(message.link) + (LINE_SECTIONS if message.lines else 0)


def escape(text: str) -> str:
    """Escape plain text for Slack's mrkdwn: https://docs.slack.dev/messaging/formatting-message-text."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _with_button(section: dict[str, Any], label: str, link: str | None) -> dict[str, Any]:
    """Return a section with a button that opens a link, if there is one that Slack takes."""
    if not link or len(link) > MAX_BUTTON_URL:
        return section
    return section | {
        "accessory": {"type": "button", "text": {"type": "plain_text", "text": label}, "url": link}
    }


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(text)}


def _mrkdwn(text: str) -> dict[str, Any]:
    """Return escaped text as a text object; verbatim, so that a name such as @here mentions no one."""
    cut = truncate(text, MAX_SECTION)
    if cut != text:
        cut = re.sub(r"&[a-z]*…$", "…", cut)  # drop half of an escaped character
    return {"type": "mrkdwn", "text": cut, "verbatim": True}


def _redacted(message: Message) -> Message:
    """Return the message without the secrets that its names and details may contain."""
    cards = tuple(
        replace(card, title=redact(card.title), lines=tuple(map(redact, card.lines)))
        for card in message.cards
    )
    return replace(
        message,
        title=redact(message.title),
        summary=redact(message.summary),
        cards=cards,
        lines=tuple(map(redact, message.lines)),
        footer=redact(message.footer),
    )
