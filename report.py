"""Outcomes as text, JSON and messages. Pure: values in, values out; nothing is printed or sent here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol, assert_never
from urllib.parse import quote

from models import Channel, ChannelId
from notify import Card, Message
from redact import one_line, redact
from renewal import Due, Failed, Outcome, Reason, Renewed, Skipped
from runner import Stopped, Tally

SHOWN_IN_SUMMARY: Final = 100
SHOWN_IN_MESSAGE: Final = 45
NAME_WIDTH: Final = 34

# What a person does about each reason.
ADVICE: Final[Mapping[str, str]] = {
    Reason.RECONNECT_REQUIRED: "the customer must connect WhatsApp again",
    Reason.MISSING_PERMISSION: "the customer must connect WhatsApp again and grant every permission",
    Reason.NOT_EXTENDED: "the customer must connect WhatsApp again before it ends",
    Reason.UNDECRYPTABLE: "add its key to TOKEN_ENCRYPTION_KEY, or have the customer connect WhatsApp again",
    Reason.UNAVAILABLE: "nothing yet: it is tried again at the next run",
    Reason.UNEXPECTED_ANSWER: "look at the detail; it is tried again at the next run",
    Reason.WRITE_FAILED: "see why the database refuses the row; the old token is untouched",
    Reason.APP_REJECTED: "check META_APP_ID, META_APP_SECRET and the app's state in Meta's App Dashboard",
    Reason.RATE_LIMITED: "nothing: the rest is done at the next run; run at another hour if it comes back",
    Reason.SYSTEMIC: "look at Meta's status page and the app's settings before anybody is asked to reconnect",
    Reason.DATABASE_LOST: "see whether the database is up; the next run does the rest",
    "configuration": "correct the configuration and run again",
    "internal_error": "this is a mistake in the program: report it with the log",
}


@dataclass(frozen=True, slots=True)
class Situation:
    """What an alert is composed from: channels that newly need attention, recoveries, the run's end."""

    attention: Sequence[Channel]
    recovered: Sequence[str]
    stopped: Stopped | None
    tally: Tally
    now: datetime
    reconnect_url: str | None = None
    unwritten: Sequence[Failed] = ()


def advice(reason: str) -> str:
    """What to do about a reason."""
    return ADVICE.get(reason, "look at the detail")


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
    name, number, phone = one_line(one.name), one_line(str(one.id)), one_line(one.phone_number or "")
    known = [part for part in (number, phone) if part]
    return ", ".join(known) if name in ("", number) else f"{name} ({', '.join(known)})"


def left(expires_at: datetime | None, now: datetime) -> str:
    """How long a token still lives: `9 days`, `less than a day`, `ended 3 days ago`, `unknown`."""
    if expires_at is None:
        return "unknown"
    days = (expires_at - now) // timedelta(days=1)
    if expires_at <= now:
        days = (now - expires_at) // timedelta(days=1)
        return f"ended {_days(days)} ago" if days else "ended today"
    return _days(days) if days else "less than a day"


def ends(expires_at: datetime | None, now: datetime) -> str:
    """When a token ends, as part of a sentence: `ends on 3 Dec 2026 (9 days)`."""
    if expires_at is None:
        return "its end is not known"
    if expires_at <= now:
        return f"ended on {_day(expires_at)}"
    return f"ends on {_day(expires_at)} ({left(expires_at, now)})"


def outcome_line(outcome: Outcome, now: datetime) -> str:
    """One outcome in one line, beginning with its word."""
    name = label(outcome)
    match outcome:
        case Renewed():
            end = "never expires now" if outcome.expires_at is None else ends(outcome.expires_at, now)
            return f"{'stored ' if outcome.by_hand else 'renewed'}  {name}: {end}"
        case Failed():
            return f"failed   {name}: {outcome.reason}: {outcome.detail}"
        case Skipped(reason=Reason.WAITING_FOR_RECONNECT):
            return f"waiting  {name}: {ends(outcome.expires_at, now)}; {advice(Reason.RECONNECT_REQUIRED)}"
        case Skipped():
            return f"skipped  {name}: {outcome.reason}: {outcome.detail}"
        case Due():
            return f"due      {name}: {outcome.why}"
        case _:
            assert_never(outcome)


TABLE_HEAD: Final = f"{'CHANNEL':<{NAME_WIDTH}}  {'EXPIRES':<10}  {'DAYS LEFT':<18}  WHY DUE"


def table_row(outcome: Outcome, now: datetime) -> str:
    """A row of the dry run's table: channel, expires, days left, why due."""
    name = redact(label(outcome))  # before it is cut: half a secret is not recognised
    name = name if len(name) <= NAME_WIDTH else name[: NAME_WIDTH - 1] + "…"
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
    return f"{name:<{NAME_WIDTH}}  {day:<10}  {left(outcome.expires_at, now):<18}  {why}"


def summary(tally: Tally, failures: Sequence[Failed], stopped: Stopped | None, now: datetime) -> list[str]:
    """The end of a real run in groups: renewed, failed with what to do, skipped, waiting, why it stopped."""
    shown = failures[:SHOWN_IN_SUMMARY]
    lines = [f"Renewed: {tally.renewed}", f"Failed:  {tally.failed}"]
    for failure in shown:
        name = label(failure)
        lines += [
            f"  {name}: {failure.reason}, {ends(failure.expires_at, now)}",
            f"    → {advice(failure.reason)}",
        ]
    if tally.failed > len(shown):
        lines += [f"  … and {tally.failed - len(shown)} more"]
    why = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.reasons.items()))
    lines += [f"Skipped: {tally.skipped}" + (f" ({why})" if why else "")]
    lines += [
        f"Waiting: {tally.waiting}" + (f" ({advice(Reason.RECONNECT_REQUIRED)})" if tally.waiting else "")
    ]
    if tally.left:
        lines += [f"Left:    {tally.left} (due, and not reached by this run)"]
    lines += [f"{tally.due} due of {tally.candidates} channels with a token"]
    if stopped:
        lines += [f"Stopped: {stopped.reason}: {stopped.detail}", f"    → {advice(stopped.reason)}"]
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


def compose(situation: Situation) -> Message:
    """The one message of a run: what newly needs attention, who must do what, and why the run stopped."""
    now, stopped, tally = situation.now, situation.stopped, situation.tally
    count = len(situation.attention) + len(situation.unwritten)
    if stopped:
        title = "WhatsApp token renewal stopped early"
        summary_line = f"{stopped.reason}: {stopped.detail}. What to do: {advice(stopped.reason)}."
    elif count:
        title = f"{count} WhatsApp {'line needs' if count == 1 else 'lines need'} attention"
        summary_line = "Their tokens could not be renewed. When a token ends, that customer's WhatsApp stops."
    else:
        count = len(situation.recovered)
        title = f"{count} WhatsApp {'line has' if count == 1 else 'lines have'} recovered"
        summary_line = "Nothing is to be done."
    if situation.recovered:
        names = ", ".join(situation.recovered[:SHOWN_IN_MESSAGE])
        more = len(situation.recovered) - SHOWN_IN_MESSAGE
        summary_line += f" Recovered: {names}" + (f" and {more} more." if more > 0 else ".")
    footer = (
        f"{tally.renewed} renewed · {tally.failed} failed · {tally.waiting} waiting for a reconnect · "
        f"{tally.left} left · {now:%Y-%m-%d %H:%M} UTC"
    )
    cards = [_card(channel, now, situation.reconnect_url) for channel in situation.attention]
    cards += [_unwritten_card(failure, now) for failure in situation.unwritten]
    more = len(cards[SHOWN_IN_MESSAGE:])
    return Message(title, summary_line, tuple(cards[:SHOWN_IN_MESSAGE]), more, footer)


def _unwritten_card(failure: Failed, now: datetime) -> Card:
    """A channel whose row the database refused to write: nothing for its customer to do."""
    lines = (failure.detail, _capital(ends(failure.expires_at, now)), f"To do: {advice(failure.reason)}")
    return Card(label(failure), lines)


def _card(channel: Channel, now: datetime, reconnect_url: str | None) -> Card:
    """A channel that needs attention: which, why, by when, who must do what, and where to click."""
    reason, _, detail = (channel.error or "").partition(": ")
    lines = (
        one_line(detail or reason),
        _capital(ends(channel.expires_at, now)),
        f"To do: {advice(reason)}",
    )
    link = reconnect_url.replace("{channel_id}", quote(str(channel.id), safe="")) if reconnect_url else None
    return Card(label(channel), lines, link)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _day(time: datetime) -> str:
    return f"{time.day} {time:%b %Y}"


def _days(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"
