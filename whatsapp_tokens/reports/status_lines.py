"""The lines of the status page: each channel as it is shown, in one language, without secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Final, TypeAlias

from models import Channel
from whatsapp_tokens.policy import is_rejected
from whatsapp_tokens.redaction import one_line, redact
from whatsapp_tokens.reports.causes import Actor, actor
from whatsapp_tokens.reports.labels import reconnect_link
from whatsapp_tokens.reports.language import ENGLISH, Language, capital, is_last_day_of
from whatsapp_tokens.results import ChannelId, ChannelTotals, Reason, State

CLEANED_AT_ONCE: Final = 1000
_BETWEEN: Final = "\x1f"  # which no cleaned text contains


@dataclass(frozen=True, slots=True)
class View:
    """What a page is about, without its lines. Times are aware UTC.

    `exit_code` and `stopped` (a reason) say how the run ended that made it; `lifetime` is a new token's.
    """

    now: datetime
    window: timedelta
    lifetime: timedelta
    totals: ChannelTotals = field(default_factory=ChannelTotals)
    exit_code: int = 0
    stopped: str | None = None
    is_dry: bool = False
    language: Language = ENGLISH
    reconnect_url: str | None = None
    undelivered: bool = False


class Group(StrEnum):
    """What the page says of a line at first sight; `State` without how it came about."""

    DOWN = "down"  # it has stopped working
    WARNING = "warning"  # it works until its token expires
    LACKING = "lacking"  # it works, and lacks a permission
    ENDING = "ending"
    UNKNOWN = "unknown"
    OK = "ok"
    NEVER_EXPIRES = "never_expires"


@dataclass(frozen=True, slots=True)
class Line:
    """One WhatsApp line as it is shown. Texts are clean: one line each, without secrets.

    Only `id` is as it is in the table, for programs to find the channel by; people see `known_as`.
    """

    id: ChannelId
    known_as: str
    name: str
    phone_number: str | None
    state: State
    expires_at: datetime | None
    refreshed_at: datetime | None
    reason: str | None
    cause: str | None
    detail: str | None
    advice: str | None
    reconnect_url: str | None
    on_page: OnPage


@dataclass(frozen=True, slots=True)
class OnPage:
    """What only the page shows: `down_since` where a line is down, and who must act, if anyone."""

    group: Group
    percent_left: int
    down_since: datetime | None
    actor: Actor | None


DownSince: TypeAlias = Callable[[Sequence[Channel]], Mapping[str, datetime]]


def lines_of(
    channels: Iterable[Channel], view: View, rejected_since: DownSince = lambda _: {}
) -> Iterator[Line]:
    """Return channels as lines of the page, in their order.

    `rejected_since` gives, by ids as text, since when Meta is known to reject tokens.
    """
    rest = iter(channels)
    while some := list(islice(rest, CLEANED_AT_ONCE)):
        # All texts at once: the search for every secret takes long, but hardly longer in a long text.
        raw = [text for one in some for text in _texts(one, view)]
        clean = redact(_BETWEEN.join(map(one_line, raw))).split(_BETWEEN)
        per_line = len(clean) // len(some)
        since = rejected_since([one for one in some if is_rejected(one)])
        for place, channel in enumerate(some):
            texts = clean[place * per_line : (place + 1) * per_line]
            yield _line(channel, view, texts, since.get(str(channel.id)))


def _texts(channel: Channel, view: View) -> tuple[str, str, str, str, str]:
    """Return the texts of a line that may hold anything: id, name, phone number, error, link."""
    link = reconnect_link(view.reconnect_url, channel.id) if view.reconnect_url else ""
    return str(channel.id), channel.name, channel.phone_number or "", channel.error or "", link


def _line(channel: Channel, view: View, texts: Sequence[str], rejected_since: datetime | None) -> Line:
    """Return one line, given its cleaned texts."""
    id_, name, phone_number, error, link = texts
    language, _ = view.language, view.language.gettext
    state = channel.state or State.UNKNOWN
    reason, _colon, detail = error.partition(": ")
    has_failed = state.needs_attention and state is not State.ENDED  # else the error is of an earlier time
    cause = advice = None
    if state is State.ENDED:
        cause = _("its token has expired, and no run has renewed it")
        advice = _("run the renewal now; if that fails, the customer must connect WhatsApp again")
    elif has_failed:
        cause = language.cause(reason, detail)
        advice = language.advice(reason, channel.expires_at, view.now)
    expires_at = None if channel.replaced else channel.expires_at
    return Line(
        id=_redacted_id(channel.id, id_),
        known_as=id_,
        name=name or id_,
        phone_number=phone_number or None,
        state=state,
        expires_at=expires_at,
        refreshed_at=None if channel.replaced else channel.refreshed_at,
        reason=reason if has_failed and reason else None,
        cause=capital(cause) if cause else None,
        detail=language.detail(detail) if has_failed and detail else None,
        advice=capital(advice) if advice else None,
        reconnect_url=link or None,
        on_page=_on_page(channel, view, expires_at, rejected_since),
    )


def _on_page(
    channel: Channel, view: View, expires_at: datetime | None, rejected_since: datetime | None
) -> OnPage:
    state, reason = channel.state or State.UNKNOWN, channel.reason or ""
    group = _group(state, reason, expires_at, view)
    ends = [time for time in (rejected_since, expires_at) if time and time <= view.now]
    return OnPage(
        group,
        _percent_left(state, expires_at, view),
        down_since=min(ends, default=None) if group is Group.DOWN else None,
        actor=(
            actor("" if state is State.ENDED else reason, is_last_day=is_last_day_of(expires_at, view.now))
            if state.needs_attention
            else None
        ),
    )


def _group(state: State, reason: str, expires_at: datetime | None, view: View) -> Group:
    """Return the group of a line. `Conditions.section` says the same of a row, in SQL."""
    match state:
        case State.DOWN | State.ENDED | State.WAITING:
            return Group.DOWN
        case State.WARNING if expires_at and expires_at <= view.now:
            return Group.DOWN
        case State.WARNING if reason == Reason.MISSING_PERMISSION:
            is_near = expires_at is not None and expires_at < view.now + view.window
            return Group.WARNING if is_near else Group.LACKING
        case _:
            return Group(state)


def _redacted_id(id_: ChannelId, cleaned: str) -> ChannelId:
    """Return an id as it is in the table, if it holds no secret."""
    return id_ if isinstance(id_, int) or id_ == cleaned else redact(id_)


def _percent_left(state: State, expires_at: datetime | None, view: View) -> int:
    """Return how much of a whole lifetime a token has left."""
    if expires_at is None:
        return 100 if state is State.NEVER_EXPIRES else 0
    return round(min(max((expires_at - view.now) / view.lifetime, 0), 1) * 100)
