"""What an alert says: composed from values, in one language. Pure; nothing is sent here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final

from models import Channel
from notify import Card, Message
from whatsapp_tokens.policy import is_down
from whatsapp_tokens.redaction import one_line, redact, truncate
from whatsapp_tokens.reports.causes import Actor, actor
from whatsapp_tokens.reports.labels import label, reconnect_link, safe_link
from whatsapp_tokens.reports.language import ENGLISH, Language, capital, is_last_day_of
from whatsapp_tokens.results import Aborted, AbortReason, Failed, First, Reason, Tally

CARDS_SHOWN: Final = 20  # of the most urgent; the others are named in one line each
MOST_NAMED: Final = 500
MAX_NAMES: Final = 1500  # characters of recovered channels' names in the summary: a section takes 3000 in all
LONGEST_NAME: Final = 200  # characters, where it is in one line with the rest


@dataclass(frozen=True, slots=True)
class Style:
    """How people are told: the language, the link to reconnect, and where the status page is published."""

    language: Language = ENGLISH
    reconnect_url: str | None = None  # `{channel_id}` in it is replaced
    status_page_url: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, as far as it matters for an alert."""

    tally: Tally
    stopped: Aborted | None = None
    unwritten: First[Failed] = field(default_factory=First)  # the table cannot tell of these


@dataclass(frozen=True, slots=True)
class Situation:
    """What an alert is composed from: channels that newly need attention, recoveries, the run's end.

    `rejected_since`: by ids as text, since when Meta is known to reject tokens.
    """

    attention: Sequence[Channel]
    recovered: Sequence[Channel]
    ended: Ended
    now: datetime
    rejected_since: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def needing(self) -> int:
        """How many channels a person must do something about."""
        return len(self.attention) + len(self.ended.unwritten)

    @property
    def down(self) -> int:
        """How many of them have stopped working."""
        expired = sum(
            bool(one.expires_at and one.expires_at <= self.now) for one in self.ended.unwritten.kept
        )
        return expired + sum(is_down(one, self.now) for one in self.attention)

    @property
    def lacking(self) -> int:
        """How many of them work, but lack a permission: their renewal did not fail."""
        reason = Reason.MISSING_PERMISSION
        return sum(one.reason == reason and not is_down(one, self.now) for one in self.attention)


@dataclass(frozen=True, slots=True)
class Alert:
    """A message of any length, and the channels that it tells of.

    `named` has one for each card and line of the message, in their order (None: it was not read from the
    table); `enumerated` are in the summary, and `counted` are only counted.
    """

    message: Message
    named: tuple[Channel | None, ...]
    enumerated: tuple[Channel, ...]
    counted: tuple[Channel, ...]


def compose(situation: Situation, style: Style) -> Alert:
    """Return the alert of a run: what newly needs attention, who must do what, why the run stopped."""
    writer = _Writer(situation, style)
    attention = sorted(situation.attention, key=lambda one: _urgency(one, situation.now))
    failed: list[Channel | Failed] = [*attention[:MOST_NAMED]]
    failed += situation.ended.unwritten.kept[: MOST_NAMED - len(failed)]
    cards = [writer.card(one) for one in failed[:CARDS_SHOWN]]
    lines = [writer.line(one) for one in failed[CARDS_SHOWN:]]
    count = _fitting([label(one) for one in situation.recovered])
    enumerated, rest = situation.recovered[:count], situation.recovered[count:]
    recovered = rest[: MOST_NAMED - len(failed)]
    return Alert(
        Message(
            writer.title(),
            writer.summary(count),
            tuple(cards),
            situation.needing - len(failed),
            footer=writer.footer(),
            and_more=writer.and_more(),
            lines=(*lines, *map(writer.recovered_line, recovered)),
            link=safe_link(style.status_page_url) if style.status_page_url else None,
            link_label=style.language.gettext("Status page"),
        ),
        named=(*(one if isinstance(one, Channel) else None for one in failed), *recovered),
        enumerated=tuple(enumerated),
        counted=(*attention[MOST_NAMED:], *rest[len(recovered) :]),
    )


def _urgency(channel: Channel, now: datetime) -> tuple[bool, datetime]:
    """Return the order of an alert: what has stopped working first, then what expires first."""
    return not is_down(channel, now), channel.expires_at or datetime.min.replace(tzinfo=UTC)


def _fitting(names: Sequence[str]) -> int:
    """Return how many names fit into the summary: at least one, if there is any."""
    sizes = accumulate(map(len, names))
    return max(sum(size <= MAX_NAMES for size in sizes), min(len(names), 1))


@dataclass(frozen=True, slots=True)
class _Writer:
    """The sentences of an alert."""

    situation: Situation
    style: Style

    @property
    def language(self) -> Language:
        return self.style.language

    def title(self) -> str:
        """Return the most important thing, with its true total."""
        _ = self.language.gettext
        situation = self.situation
        if situation.ended.stopped:
            could_not_run = situation.ended.stopped.reason == AbortReason.CONFIGURATION
            return (
                _("WhatsApp token renewal could not run")
                if could_not_run
                else _("WhatsApp token renewal stopped early")
            )
        if situation.needing:
            return self._needing()
        return self.language.counted(
            "{count} WhatsApp line has recovered",
            "{count} WhatsApp lines have recovered",
            len(situation.recovered),
        )

    def _needing(self) -> str:
        needing, down = self.situation.needing, self.situation.down
        if down == needing:
            return self.language.counted(
                "{count} WhatsApp line has stopped working",
                "{count} WhatsApp lines have stopped working",
                down,
            )
        said = self.language.counted(
            "{count} WhatsApp line needs attention", "{count} WhatsApp lines need attention", needing
        )
        stopped = self.language.counted("{count} has stopped working", "{count} have stopped working", down)
        return f"{said}: {stopped}" if down else said

    def summary(self, enumerated: int) -> str:
        """Return what it means. The first `enumerated` of the recovered channels are named."""
        _ = self.language.gettext
        situation = self.situation
        sentences = []
        if stopped := situation.ended.stopped:
            why = f"{capital(self.language.cause(stopped.reason))} ({stopped.reason})"
            sentences += [f"{self._with_detail(why, stopped.detail)}. {self._to_do(stopped.reason)}."]
            sentences += [f"{self._needing()}."] if situation.needing else []
        sentences += self._meanings()
        if situation.recovered:
            names = ", ".join(label(one) for one in situation.recovered[:enumerated])
            if rest := len(situation.recovered) - enumerated:
                names = _("{names} and {count} more").format(names=names, count=rest)
            sentences += [_("Recovered: {names}.").format(names=names)]
            sentences += [] if stopped or situation.needing else [_("No action needed.")]
        return " ".join(sentences)

    def _meanings(self) -> Iterator[str]:
        """Yield what happens to the channels that need attention."""
        counted, situation = self.language.counted, self.situation
        if down := situation.down:
            yield counted(
                "{count} line has stopped working: Meta no longer accepts its token.",
                "{count} lines have stopped working: Meta no longer accepts their tokens.",
                down,
            )
        if lacking := situation.lacking:
            yield counted(
                "{count} line works, but its token lacks a permission, or its data access expires soon.",
                "{count} lines work, but their tokens lack a permission, or their data access expires soon.",
                lacking,
            )
        if failing := situation.needing - down - lacking:
            yield counted(
                "The renewal of {count} line failed: when its token expires, that customer's WhatsApp stops.",
                "The renewal of {count} lines failed: when a token expires, that customer's WhatsApp stops.",
                failing,
            )

    def and_more(self) -> str:
        """Return what is said of the channels that are not named."""
        return self.language.gettext("… and {} more: the status page (--report) shows all of them")

    def footer(self) -> str:
        """Return the counts of the run, and when it was."""
        tally = self.situation.ended.tally
        counts = self.language.gettext(
            "{renewed} renewed · {failed} failed · {waiting} waiting for a reconnect · {left} left"
        )
        said = counts.format(
            renewed=tally.renewed, failed=tally.failed, waiting=tally.waiting, left=tally.left
        )
        return f"{said} · {self.language.moment(self.situation.now)}"

    def card(self, one: Channel | Failed) -> Card:
        """Return the card of a channel: which, why, until when it works, who must do what, where to click."""
        reason, detail = _error_of(one)
        cause = self._cause(reason, detail)
        url = self.style.reconnect_url if self._actor(one) is Actor.CUSTOMER else None
        return Card(
            label(one),
            (
                capital(self._with_detail(cause, detail)),
                capital(self._outlook(one)),
                self._to_do(reason, one.expires_at),
            ),
            reconnect_link(url, one.id) if url else None,
            self.language.gettext("Reconnect"),
        )

    def line(self, one: Channel | Failed) -> str:
        """Return the same in one line: which, until when it works, why, and who must act."""
        name, who = truncate(redact(label(one)), LONGEST_NAME), self.language.gettext(self._actor(one))
        return f"{name}: {self._outlook(one)}; {self._cause(*_error_of(one))} → {who}"

    def recovered_line(self, one: Channel) -> str:
        """Return the line of a channel that has recovered."""
        name = truncate(redact(label(one)), LONGEST_NAME)
        return self.language.gettext("Recovered: {names}.").format(names=name)

    def _cause(self, reason: str, detail: str) -> str:
        return self.language.cause(reason, detail) or self.language.gettext("its cause is not known")

    def _outlook(self, one: Channel | Failed) -> str:
        situation = self.situation
        since = situation.rejected_since.get(str(one.id)) if isinstance(one, Channel) else None
        return self.language.outlook(_error_of(one)[0], one.expires_at, situation.now, since)

    def _actor(self, one: Channel | Failed) -> Actor:
        if isinstance(one, Failed):
            return Actor.TEAM  # what was not written is our own business
        return actor(_error_of(one)[0], is_last_day=is_last_day_of(one.expires_at, self.situation.now))

    def _to_do(self, reason: str, expires_at: datetime | None = None) -> str:
        advice = self.language.advice(reason, expires_at, self.situation.now)
        return self.language.gettext("To do: {advice}").format(advice=advice)

    def _with_detail(self, cause: str, detail: str) -> str:
        return f"{cause}: {self.language.detail(one_line(detail))}" if detail else cause


def _error_of(one: Channel | Failed) -> tuple[str, str]:
    """Return the reason and the detail of a failure."""
    if isinstance(one, Failed):
        return one.reason, one.detail
    reason, _, detail = one_line(one.error or "").partition(": ")
    return reason, detail
