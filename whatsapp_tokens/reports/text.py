"""Outcomes as text, JSON and messages. Pure: values in, values out; nothing is printed or sent here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Generic, Protocol, TypeVar, assert_never
from urllib.parse import quote

from models import Channel
from notify import Card, Message
from whatsapp_tokens.redaction import one_line, redact, truncate
from whatsapp_tokens.reports.translations import (
    AND_MORE,
    AND_OTHERS,
    COULD_NOT_RUN,
    COUNTS,
    EN,
    HAS_RECOVERED,
    NEEDS_ATTENTION,
    NOTHING_TO_DO,
    RECONNECT,
    RECOVERED,
    STOPPED_EARLY,
    TO_DO,
    UNKNOWN_CAUSE,
    WHAT_HAS_STOPPED,
    WHAT_IT_MEANS,
    Words,
)
from whatsapp_tokens.results import (
    Aborted,
    ChannelId,
    Due,
    Failed,
    Finding,
    Outcome,
    Reason,
    Renewed,
    Skipped,
    Tally,
)

T = TypeVar("T")

KEPT: Final = 100  # of what a run itself has to tell
SHOWN_IN_SUMMARY: Final = 100
SHOWN_IN_MESSAGE: Final = 45
MAX_NAMES: Final = 1500  # characters of recovered channels' names: a section of Slack's takes 3000 in all
NAME_WIDTH: Final = 34
LONGEST_TEXT: Final = 500  # characters of a name, an id or a phone number


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
    def all_ended(self) -> bool:
        """Whether the tokens of all of them are known to have ended."""
        ends = [one.expires_at for one in self.attention]
        ends += [one.expires_at for one in self.unwritten.kept]
        return not self.unwritten.more and all(end is not None and end <= self.now for end in ends)


class Named(Protocol):
    """What a label is made of: a channel, or an outcome."""

    @property
    def id(self) -> ChannelId:
        """As it is in the table."""

    @property
    def name(self) -> str:
        """The id again where there is none."""

    @property
    def phone_number(self) -> str | None:
        """If the table map names a column for it."""


def label(one: Named) -> str:
    """A channel as people see it: `Bakery North (12)`, with its number if there is one, or only the id."""
    name, number, phone = (_short(text) for text in (one.name, str(one.id), one.phone_number or ""))
    known = [part for part in (number, phone) if part]
    return ", ".join(known) if name in ("", number) else f"{name} ({', '.join(known)})"


def _short(text: str) -> str:
    """A text from the table on one line; a column may hold a megabyte."""
    text = one_line(text)
    # Redacted before it is cut: half a secret is not recognised.
    return text if len(text) <= LONGEST_TEXT else truncate(redact(text), LONGEST_TEXT)


def outcome_line(outcome: Outcome, now: datetime) -> str:
    """One outcome in one line, beginning with its word."""
    name = label(outcome)
    match outcome:
        case Renewed():
            end = "never expires now" if outcome.expires_at is None else EN.ends(outcome.expires_at, now)
            return f"{'stored ' if outcome.by_hand else 'renewed'}  {name}: {end}"
        case Failed():
            return f"failed   {name}: {outcome.reason}: {outcome.detail}"
        case Skipped(reason=Reason.WAITING_FOR_RECONNECT):
            advice = EN.advice(Reason.RECONNECT_REQUIRED)
            return f"waiting  {name}: {EN.ends(outcome.expires_at, now)}; {advice}"
        case Skipped():
            return f"skipped  {name}: {outcome.reason}: {outcome.detail}"
        case Due():
            return f"due      {name}: {outcome.why}"
        case _:
            assert_never(outcome)


def finding_line(finding: Finding) -> str:
    """One line of a preflight, beginning with its word."""
    return f"{'ok' if finding.ok else 'PROBLEM':<8} {finding.subject}: {one_line(finding.text)}"


TABLE_HEAD: Final = f"{'CHANNEL':<{NAME_WIDTH}}  {'EXPIRES':<10}  {'DAYS LEFT':<18}  WHY DUE"


def table_row(outcome: Outcome, now: datetime) -> str:
    """A row of the dry run's table: channel, expires, days left, why due."""
    name = redact(label(outcome))  # before it is cut: half a secret is not recognised
    name = truncate(name, NAME_WIDTH)
    day = outcome.expires_at.date().isoformat() if outcome.expires_at else "-"
    match outcome:
        case Due():
            why = str(outcome.why)
        case Failed():
            why = f"FAILED {outcome.reason}: {outcome.detail}"
        case Skipped():
            why = f"not due: {outcome.reason}"
        case Renewed():
            why = "renewed"
        case _:
            assert_never(outcome)
    return f"{name:<{NAME_WIDTH}}  {day:<10}  {EN.left(outcome.expires_at, now):<18}  {why}"


def summary(tally: Tally, failures: Sequence[Failed], stopped: Aborted | None, now: datetime) -> list[str]:
    """The end of a real run in groups: renewed, failed with what to do, skipped, waiting, why it stopped."""
    shown = failures[:SHOWN_IN_SUMMARY]
    lines = [f"Renewed: {tally.renewed}", f"Failed:  {tally.failed}"]
    for failure in shown:
        name = label(failure)
        lines += [
            f"  {name}: {failure.reason}, {EN.ends(failure.expires_at, now)}",
            f"    → {EN.advice_by(failure.reason, failure.expires_at, now)}",
        ]
    if tally.failed > len(shown):
        lines += [f"  … and {tally.failed - len(shown)} more"]
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.reasons.items()))
    lines += [f"Skipped: {tally.skipped}" + (f" ({why})" if why else "")]
    lines += [
        f"Waiting: {tally.waiting}" + (f" ({EN.advice(Reason.RECONNECT_REQUIRED)})" if tally.waiting else "")
    ]
    if tally.left:
        lines += [f"Left:    {tally.left} (due, and not reached by this run)"]
    lines += [f"{tally.due} due of {tally.candidates} channels with a token"]
    if stopped:
        lines += [f"Stopped: {stopped.reason}: {stopped.detail}", f"    → {EN.advice(stopped.reason)}"]
    return lines


def preview_summary(tally: Tally) -> str:
    """The last line of a dry run."""
    unreadable = f", of which {tally.failed} cannot be decrypted" if tally.failed else ""
    waiting = f"; {tally.waiting} only waiting for a reconnect" if tally.waiting else ""
    due = f"{tally.due} due of {tally.candidates} channels with a token"
    return f"{due}{unreadable}{waiting}. Dry run: nothing was written and nobody was called."


def entry(outcome: Outcome) -> dict[str, Any]:
    """One element of the JSON document's `channels`."""
    reason: str | None = None
    match outcome:
        case Renewed():
            word, detail = "renewed", ""
        case Failed():
            word, reason, detail = "failed", outcome.reason, outcome.detail
        case Skipped():
            word, reason, detail = "skipped", outcome.reason, outcome.detail
        case Due():
            word, detail = "due", str(outcome.why)
        case _:
            assert_never(outcome)
    return {
        "id": outcome.id,
        "name": outcome.name,
        "outcome": word,
        "reason": reason,
        "detail": detail or None,
        "expires_at": timestamp(outcome.expires_at),
        "expires_at_before": timestamp(outcome.expires_at_before),
    }


def counts(tally: Tally) -> dict[str, int]:
    """The JSON document's `counts`."""
    return {
        "candidates": tally.candidates,
        "due": tally.due,
        "renewed": tally.renewed,
        "failed": tally.failed,
        "skipped": tally.skipped,
        "waiting": tally.waiting,
        "left": tally.left,
    }


def timestamp(time: datetime | None) -> str | None:
    """ISO 8601 in UTC with `Z`, to the second; None where unknown."""
    if time is None:
        return None
    # Not strftime: it writes the first year, which is PostgreSQL's -infinity, without its zeros.
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def compose(situation: Situation, words: Words) -> Message:
    """The one message of a run: what newly needs attention, who must do what, and why the run stopped."""
    cards = [_card(channel, situation, words) for channel in situation.attention]
    cards += [_unwritten_card(failure, situation.now, words) for failure in situation.unwritten.kept]
    message = Message(
        _title(situation, words),
        _summary(situation, words),
        tuple(cards),
        situation.unwritten.more,
        footer=_footer(situation, words),
        and_more=words.say(AND_MORE),
    )
    return message.shown(SHOWN_IN_MESSAGE)


def _title(situation: Situation, words: Words) -> str:
    """The most important thing, with its true total."""
    if stopped := situation.stopped:
        return words.say(COULD_NOT_RUN if stopped.reason == "configuration" else STOPPED_EARLY)
    if situation.needing:
        return words.count(situation.needing, *NEEDS_ATTENTION)
    return words.count(len(situation.recovered), *HAS_RECOVERED)


def _summary(situation: Situation, words: Words) -> str:
    """What it means: why the run stopped, what happens to those in trouble, and which are well again."""
    sentences = []
    if stopped := situation.stopped:
        to_do = words.say(TO_DO).format(words.advice(stopped.reason))
        why = f"{capital(words.cause(stopped.reason))} ({stopped.reason})"
        sentences += [f"{_with_detail(why, stopped.detail, words)}. {to_do}."]
    if situation.needing:
        if stopped:
            sentences += [words.count(situation.needing, *NEEDS_ATTENTION) + "."]
        meaning = WHAT_HAS_STOPPED if situation.all_ended else WHAT_IT_MEANS
        sentences += [words.count(situation.needing, *meaning)]
    if situation.recovered:
        sentences += [words.say(RECOVERED).format(_enumerated(situation.recovered, words))]
        if not (stopped or situation.needing):
            sentences += [words.count(len(situation.recovered), *NOTHING_TO_DO)]
    return " ".join(sentences)


def _enumerated(names: First[str], words: Words) -> str:
    """As many names as have room, and how many more there are."""
    kept, shown, size = names.kept, 0, 0
    while shown < len(kept) and (not shown or size + len(kept[shown]) <= MAX_NAMES):
        size += len(kept[shown])
        shown += 1
    rest = len(names) - shown
    return ", ".join(kept[:shown]) + (words.say(AND_OTHERS).format(rest) if rest else "")


def _footer(situation: Situation, words: Words) -> str:
    """The counts of the run, and when it was."""
    tally = situation.tally
    numbers = (tally.renewed, tally.failed, tally.waiting, tally.left)
    return f"{words.say(COUNTS).format(*numbers)} · {words.moment(situation.now)}"


def _unwritten_card(failure: Failed, now: datetime, words: Words) -> Card:
    """A channel whose row the database refused to write: nothing for its customer to do."""
    return Card(label(failure), _lines(f"{failure.reason}: {failure.detail}", failure.expires_at, now, words))


def _card(channel: Channel, situation: Situation, words: Words) -> Card:
    """A channel that needs attention: which, why, by when, who must do what, and where to click."""
    url = situation.reconnect_url
    return Card(
        label(channel),
        _lines(channel.error or "", channel.expires_at, situation.now, words),
        reconnect_link(url, channel.id) if url else None,
        words.say(RECONNECT),
    )


def reconnect_link(url: str, channel: ChannelId) -> str:
    """The link to reconnect a channel, in characters that every reader of links takes."""
    link = url.replace("{channel_id}", quote(str(channel), safe=""))
    return re.sub(r"""[^!-~]|["<>\\^`{|}]""", lambda odd: quote(odd.group()), link)


def _lines(error: str, expires_at: datetime | None, now: datetime, words: Words) -> tuple[str, ...]:
    """What a card says: the cause in plain words and what more is known of it, the end, who must do what."""
    reason, _, detail = one_line(error).partition(": ")
    cause = _with_detail(words.cause(reason), detail, words) or words.say(UNKNOWN_CAUSE)
    to_do = words.say(TO_DO).format(words.advice_by(reason, expires_at, now))
    return capital(cause), capital(words.ends(expires_at, now)), to_do


def _with_detail(cause: str, detail: str, words: Words) -> str:
    return f"{cause}: {words.detail(one_line(detail))}" if detail else cause


def capital(text: str) -> str:
    """A text as it begins a sentence."""
    return text[:1].upper() + text[1:]
