"""One channel as `--history` shows it: state, clocks, why it is due or not, and its audit log. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from models import Channel, Event
from whatsapp_tokens.database.history import AuditRow, Snapshot
from whatsapp_tokens.policy import Renewal
from whatsapp_tokens.redaction import one_line
from whatsapp_tokens.reports.causes import Actor
from whatsapp_tokens.reports.json_document import exact, timestamp
from whatsapp_tokens.reports.labels import label
from whatsapp_tokens.reports.language import ENGLISH
from whatsapp_tokens.reports.status_lines import Line, View, lines_of
from whatsapp_tokens.reports.status_page import GROUPS
from whatsapp_tokens.results import State

# What the audit log is searched for: since when the failure lasts.
FAILED_STATES: Final = frozenset({State.DOWN, State.WARNING, State.WAITING})
NO_CANDIDATE: Final = frozenset({Renewal.INACTIVE, Renewal.ANOTHER_TYPE, Renewal.TOKENLESS})
WHY_NOT: Final = {
    Renewal.NOT_DUE: "no: it never expires, and its age is not known",
    Renewal.WAITING: "no: it waits for its customer to connect WhatsApp again; Meta is not asked before that",
    Renewal.INACTIVE: "no: it is inactive",
    Renewal.TOKENLESS: "no: it has no token; its customer has not connected WhatsApp",
}
TIME_WIDTH: Final = 22
EVENT_WIDTH: Final = max(map(len, Event))


@dataclass(frozen=True, slots=True)
class Findings:
    """What was found of a channel. `since` is when its failure began, `next_due_at` when it becomes due."""

    snapshot: Snapshot
    since: datetime | None
    next_due_at: datetime | None
    wanted_type: str  # CHANNEL_TYPE

    @property
    def channel(self) -> Channel:
        """The row."""
        return self.snapshot.channel

    @property
    def state(self) -> State | None:
        """The state; None if the channel is no candidate, so that no run looks after it."""
        return None if self.snapshot.renewal in NO_CANDIDATE else self.channel.state


def channel_lines(found: Findings, view: View) -> list[str]:
    """Return a channel as text: its label, then a line for each thing that is known of it."""
    rows = [(name, text) for name, text in _rows(found, view) if text]
    width = max(len(name) for name, _ in rows) + 1
    return [label(found.channel), *(f"  {f'{name}:':<{width}}  {one_line(text)}" for name, text in rows)]


def _rows(found: Findings, view: View) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each line; an empty text is left out."""
    channel, now = found.channel, view.now
    (line,) = lines_of([channel], view)
    yield "State", _state(found, line)
    if found.state:
        yield "Cause", line.cause or ""
        yield "Detail", line.detail or ""
        yield "To do", line.advice or ""
        yield "Reconnect", (line.reconnect_url or "") if line.on_page.actor is Actor.CUSTOMER else ""
    yield "Due", why(found)
    if found.snapshot.claimed_until:
        yield "Claimed", f"by a run, until {ENGLISH.moment(found.snapshot.claimed_until)}"
    if channel.replaced:
        yield "Token", "the application has stored another one since: what follows describes the earlier one"
    yield "Expires", _expiry(channel, now)
    yield "Refreshed", _moment(channel.refreshed_at)
    yield "Status", _status(channel)
    yield "Told", f"people were told on {ENGLISH.moment(channel.alerted_at)}" if channel.alerted_at else ""


def _state(found: Findings, line: Line) -> str:
    if found.state is None:
        return "Not renewed by this program"
    since = f", since {ENGLISH.moment(found.since)}" if found.since else ""
    return f"{GROUPS[line.on_page.group]}{since}"


def why(found: Findings) -> str:
    """Return whether a run looks at the channel, and why."""
    renewal, type_ = found.snapshot.renewal, found.snapshot.type
    if renewal is Renewal.DUE:
        return f"yes: {found.channel.due_reason}"
    if renewal is Renewal.ANOTHER_TYPE:
        its_type = "not set" if type_ is None else f'"{type_}"'
        return f'no: its type is {its_type}, and CHANNEL_TYPE is "{found.wanted_type}"'
    if renewal is Renewal.NOT_DUE and found.next_due_at:
        return f"no: next due on {ENGLISH.moment(found.next_due_at)}"
    return WHY_NOT[renewal]


def _expiry(channel: Channel, now: datetime) -> str:
    if channel.expires_at is None:
        return "never" if channel.state is State.NEVER_EXPIRES else "not known"
    return f"{ENGLISH.moment(channel.expires_at)} ({ENGLISH.time_left(channel.expires_at, now)})"


def _moment(time: datetime | None) -> str:
    return ENGLISH.moment(time) if time else "not known"


def _status(channel: Channel) -> str:
    if channel.status is None:
        return "never looked at"
    return f"{channel.status} ({channel.reason})" if channel.reason else channel.status


def audit_line(row: AuditRow) -> str:
    """Return an audit row as one line: time, event, reason, message, expiry before → after."""
    said = one_line(_message(row))
    what = "; ".join(filter(None, (said, _change(row, said))))
    time = ENGLISH.moment(row.at) if row.at else "unknown"
    return f"{time:<{TIME_WIDTH}}  {one_line(row.event):<{EVENT_WIDTH}}  {what}"


def _message(row: AuditRow) -> str:
    """Return the reason and the message. The reason of a recovery is that of the failure before it."""
    message = ENGLISH.detail(row.message)
    if not row.reason or row.reason == row.event:
        return message
    return f"{message}; it was {row.reason}" if row.event == Event.RECOVERED else f"{row.reason}, {message}"


def _change(row: AuditRow, said: str) -> str:
    """Return the expiry before and after; nothing if neither is known, or it is the same and was `said`."""
    before, after = (
        ENGLISH.day(time) if time else "unknown" for time in (row.expires_at_before, row.expires_at_after)
    )
    if before == after:
        return f"expiry {after}" if row.expires_at_after and after not in said else ""
    return f"expiry {before} → {after}"


def channel_fields(found: Findings, view: View) -> dict[str, Any]:
    """Return a channel as JSON."""
    (line,) = lines_of([found.channel], view)
    channel, snapshot = found.channel, found.snapshot
    has_failed = found.state is not None
    return {
        "id": exact(line.id),
        "name": line.name,
        "phone_number": line.phone_number,
        "type": snapshot.type,
        "state": found.state,
        "since": timestamp(found.since),
        "reason": line.reason if has_failed else None,
        "cause": line.cause if has_failed else None,
        "detail": line.detail if has_failed else None,
        "advice": line.advice if has_failed else None,
        "reconnect_url": line.reconnect_url,
        "renewal": snapshot.renewal,
        "why": why(found),
        "next_due_at": timestamp(found.next_due_at),
        "claimed_until": timestamp(snapshot.claimed_until),
        "replaced": channel.replaced,
        "expires_at": timestamp(channel.expires_at),
        "refreshed_at": timestamp(channel.refreshed_at),
        "status": channel.status,
        "error": channel.error,
        "alerted_at": timestamp(channel.alerted_at),
    }


def audit_fields(row: AuditRow) -> dict[str, Any]:
    """Return an audit row as JSON."""
    return {
        "at": timestamp(row.at),
        "event": row.event,
        "message": row.message,
        "reason": row.reason,
        "expires_at_before": timestamp(row.expires_at_before),
        "expires_at_after": timestamp(row.expires_at_after),
    }
