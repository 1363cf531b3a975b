"""What an alert says: composed from values, in one language. Pure; nothing is sent here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Generic, TypeVar

from models import Channel
from notify import Card, Message
from whatsapp_tokens.redaction import one_line
from whatsapp_tokens.reports.labels import label, reconnect_link
from whatsapp_tokens.reports.language import Language, capital
from whatsapp_tokens.results import Aborted, AbortReason, Failed, Tally

T = TypeVar("T")

KEPT: Final = 100  # of what a run itself has to tell
SHOWN_IN_MESSAGE: Final = 45
MAX_NAMES: Final = 1500  # characters of recovered channels' names: a section of Slack's takes 3000 in all


@dataclass(slots=True)
class First(Generic[T]):
    """The first of any number of things, and how many there are in all: memory does not grow with them."""

    kept: list[T] = field(default_factory=list)
    more: int = 0

    def add(self, one: T) -> None:
        """Keep it, or count it."""
        if len(self.kept) < KEPT:
            self.kept.append(one)
        else:
            self.more += 1

    def __len__(self) -> int:
        return len(self.kept) + self.more


@dataclass(frozen=True, slots=True)
class Situation:
    """What an alert is composed from: channels that newly need attention, recoveries, the run's end."""

    attention: Sequence[Channel]
    recovered: First[str]
    stopped: Aborted | None
    tally: Tally
    now: datetime
    reconnect_url: str | None = None
    unwritten: First[Failed] = field(default_factory=First)

    @property
    def needing(self) -> int:
        """How many channels a person must do something about."""
        return len(self.attention) + len(self.unwritten)

    @property
    def all_expired(self) -> bool:
        """Whether the tokens of all of them are known to have expired."""
        known = [one.expires_at for one in self.attention] + [one.expires_at for one in self.unwritten.kept]
        return not self.unwritten.more and all(end is not None and end <= self.now for end in known)


def compose(situation: Situation, language: Language) -> Message:
    """Return the one message of a run: what newly needs attention, who must do what, why the run stopped."""
    cards = [_card(channel, situation, language) for channel in situation.attention]
    cards += [_unwritten_card(failure, situation.now, language) for failure in situation.unwritten.kept]
    message = Message(
        _title(situation, language),
        _summary(situation, language),
        tuple(cards),
        situation.unwritten.more,
        footer=_footer(situation, language),
        and_more=language.gettext("… and {} more"),
    )
    return message.shown(SHOWN_IN_MESSAGE)


def _title(situation: Situation, language: Language) -> str:
    """Return the most important thing, with its true total."""
    _ = language.gettext
    if stopped := situation.stopped:
        could_not_run = stopped.reason == AbortReason.CONFIGURATION
        return (
            _("WhatsApp token renewal could not run")
            if could_not_run
            else _("WhatsApp token renewal stopped early")
        )
    return _needing(situation, language) if situation.needing else _recoveries(situation, language)


def _needing(situation: Situation, language: Language) -> str:
    return language.counted(
        "{count} WhatsApp line needs attention",
        "{count} WhatsApp lines need attention",
        situation.needing,
    )


def _recoveries(situation: Situation, language: Language) -> str:
    return language.counted(
        "{count} WhatsApp line has recovered",
        "{count} WhatsApp lines have recovered",
        len(situation.recovered),
    )


def _summary(situation: Situation, language: Language) -> str:
    """Return what it means: why the run stopped, what happens to the channels, and which are well again."""
    _ = language.gettext
    sentences = []
    if stopped := situation.stopped:
        why = f"{capital(language.cause(stopped.reason))} ({stopped.reason})"
        to_do = _to_do(language.advice(stopped.reason), language)
        sentences += [f"{_with_detail(why, stopped.detail, language)}. {to_do}."]
    if situation.needing:
        if stopped:
            sentences += [f"{_needing(situation, language)}."]
        sentences += [_what_it_means(situation, language)]
    if situation.recovered:
        names = _enumerated(situation.recovered, language)
        sentences += [_("Recovered: {names}.").format(names=names)]
        if not (stopped or situation.needing):
            sentences += [_("No action needed.")]
    return " ".join(sentences)


def _what_it_means(situation: Situation, language: Language) -> str:
    if situation.all_expired:
        return language.counted(
            "Its renewal failed, and its token has expired: that customer's WhatsApp has stopped.",
            "Their renewal failed, and their tokens have expired: these customers' WhatsApp has stopped.",
            situation.needing,
        )
    return language.counted(
        "Its renewal failed. When its token expires, that customer's WhatsApp stops.",
        "Their renewal failed. When a token expires, that customer's WhatsApp stops.",
        situation.needing,
    )


def _enumerated(names: First[str], language: Language) -> str:
    """Return as many names as fit, and how many more there are."""
    kept, shown, size = names.kept, 0, 0
    while shown < len(kept) and (not shown or size + len(kept[shown]) <= MAX_NAMES):
        size += len(kept[shown])
        shown += 1
    listed, rest = ", ".join(kept[:shown]), len(names) - shown
    if not rest:
        return listed
    return language.gettext("{names} and {count} more").format(names=listed, count=rest)


def _footer(situation: Situation, language: Language) -> str:
    """Return the counts of the run, and when it was."""
    tally = situation.tally
    counts = language.gettext(
        "{renewed} renewed · {failed} failed · {waiting} waiting for a reconnect · {left} left"
    )
    said = counts.format(renewed=tally.renewed, failed=tally.failed, waiting=tally.waiting, left=tally.left)
    return f"{said} · {language.moment(situation.now)}"


def _unwritten_card(failure: Failed, now: datetime, language: Language) -> Card:
    """Return the card of a channel whose row the database refused: its customer has nothing to do."""
    error = f"{failure.reason}: {failure.detail}"
    return Card(label(failure), _card_lines(error, failure.expires_at, now, language))


def _card(channel: Channel, situation: Situation, language: Language) -> Card:
    """Return the card of a channel: which, why, by when, who must do what, and where to click."""
    url = situation.reconnect_url
    return Card(
        label(channel),
        _card_lines(channel.error or "", channel.expires_at, situation.now, language),
        reconnect_link(url, channel.id) if url else None,
        language.gettext("Reconnect"),
    )


def _card_lines(
    error: str, expires_at: datetime | None, now: datetime, language: Language
) -> tuple[str, ...]:
    """Return the lines of a card: the cause with its detail, when the token expires, who must do what."""
    reason, _, detail = one_line(error).partition(": ")
    cause = language.cause(reason) if reason else language.gettext("its cause is not known")
    return (
        capital(_with_detail(cause, detail, language)),
        capital(language.expiry(expires_at, now)),
        _to_do(language.advice(reason, expires_at, now), language),
    )


def _to_do(advice: str, language: Language) -> str:
    return language.gettext("To do: {advice}").format(advice=advice)


def _with_detail(cause: str, detail: str, language: Language) -> str:
    return f"{cause}: {language.detail(one_line(detail))}" if detail else cause
