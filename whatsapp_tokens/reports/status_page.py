"""The status page and its JSON twin: one file that shows the whole fleet, for people and for programs.

The page needs no network: style, script and pictures are in it, and its Content-Security-Policy lets nothing
else in. Lines come as an iterator and go out as a stream, so memory does not grow with their number; all that
need attention are shown, and of the others as many as they are given. A file is replaced in one step or not
at all.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

from models import Channel
from whatsapp_tokens.policy import state_of
from whatsapp_tokens.redaction import one_line, redact
from whatsapp_tokens.reports.page_texts import STATES, TEXTS
from whatsapp_tokens.reports.text import capital, reconnect_link, timestamp
from whatsapp_tokens.reports.translations import EN, Words
from whatsapp_tokens.results import HORIZON_DAYS, ChannelId, ChannelTotals, State

VERSION: Final = 1  # of the JSON document
CLEANED_AT_ONCE: Final = 1000
LEAST_SCALE: Final = 4  # tokens on a day, for the full height of the timeline: one alone is no peak
_TEMPLATES: Final = Path(__file__).resolve().parent / "templates"
_BETWEEN: Final = "\x1f"  # which no cleaned text contains


@dataclass(frozen=True, slots=True)
class View:
    """What a page is about, but for its lines. Times are aware UTC.

    `exit_code` and `stopped` (a reason) say how the run ended that made it; `lifetime` is a new token's.
    """

    now: datetime
    window: timedelta
    lifetime: timedelta
    fleet: ChannelTotals = field(default_factory=ChannelTotals)
    exit_code: int = 0
    stopped: str | None = None
    is_dry: bool = False
    words: Words = EN
    reconnect_url: str | None = None
    undelivered: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One WhatsApp line as it is shown. Texts are clean: one line each, without secrets.

    But for `id`: it is as it is in the table, for programs to find the line by; people see `known_as`.
    """

    id: ChannelId
    known_as: str
    name: str
    phone_number: str | None
    state: State
    expires_at: datetime | None
    refreshed_at: datetime | None
    percent_left: int
    reason: str | None
    cause: str | None
    detail: str | None
    advice: str | None
    reconnect_url: str | None


def lines_of(channels: Iterable[Channel], view: View) -> Iterator[Line]:
    """Channels as lines of the page, in their order."""
    rest = iter(channels)
    while some := list(islice(rest, CLEANED_AT_ONCE)):
        # In one go: to look for every secret takes long, for a long text hardly longer.
        raw = [text for one in some for text in _texts(one, view)]
        clean = redact(_BETWEEN.join(map(one_line, raw))).split(_BETWEEN)
        per_line = len(clean) // len(some)
        for place, channel in enumerate(some):
            yield _line(channel, view, clean[place * per_line : (place + 1) * per_line])


def _texts(channel: Channel, view: View) -> tuple[str, str, str, str, str]:
    """The texts of a line that may hold anything: id, name, phone number, error, link."""
    link = reconnect_link(view.reconnect_url, channel.id) if view.reconnect_url else ""
    return str(channel.id), channel.name, channel.phone_number or "", channel.error or "", link


def _line(channel: Channel, view: View, texts: Sequence[str]) -> Line:
    """One line, with its texts cleaned."""
    id_, name, phone_number, error, link = texts
    state = state_of(channel, view.now, view.now + view.window)
    reason, _, detail = error.partition(": ")
    is_bad = state.needs_attention
    is_told = is_bad and state is not State.ENDED  # else what the row says is of an earlier time
    cause, advice = view.words.cause(reason), view.words.advice_by(reason, channel.expires_at, view.now)
    if state is State.ENDED:
        cause, advice = (view.words.say(TEXTS[name]) for name in ("ended", "to_do_ended"))
    return Line(
        id=_plain(channel.id, id_),
        known_as=id_,
        name=name or id_,
        phone_number=phone_number or None,
        state=state,
        expires_at=None if channel.replaced else channel.expires_at,
        refreshed_at=None if channel.replaced else channel.refreshed_at,
        percent_left=_percent_left(channel, view),
        reason=reason if is_told and reason else None,
        cause=capital(cause) if is_bad and cause else None,
        detail=view.words.detail(detail) if is_told and detail else None,
        advice=capital(advice) if is_bad else None,
        reconnect_url=link or None,
    )


def _plain(id_: ChannelId, cleaned: str) -> ChannelId:
    """An id as it is in the table, if it holds no secret."""
    if isinstance(id_, int) or id_ == cleaned:
        return id_
    return redact(id_)


def _percent_left(channel: Channel, view: View) -> int:
    """How much of a whole life is left of a token."""
    if channel.expires_at is None or channel.replaced:
        return 100 if state_of(channel, view.now, view.now) is State.NEVER_EXPIRES else 0
    return round(min(max((channel.expires_at - view.now) / view.lifetime, 0), 1) * 100)


def write(path: Path, view: View, channels: Iterable[Channel]) -> None:
    """Replace the file, as its suffix says. Raises OSError; then the old one stays as it is.

    What a link leads to is replaced, not the link; what is no file, such as a device, is refused.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is there, and no file", str(path))
    lines = lines_of(channels, view)
    with _replaced(path) as file:
        for chunk in document(view, lines) if path.suffix.lower() == ".json" else html(view, lines):
            file.write(chunk)


@contextmanager
def _replaced(path: Path) -> Iterator[IO[str]]:
    """A text file that takes the place of another once all of it has reached the disk."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", errors="replace", dir=path.parent, prefix=".status-", delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), _mode(path))
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _mode(path: Path) -> int:
    """The mode of the file that is there, else what the umask allows: web servers must read it."""
    with suppress(OSError):
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


# -- HTML


@dataclass(frozen=True, slots=True)
class Bar:
    """One day of the timeline. `top` and `height` are parts of a hundred."""

    day: str
    count: int
    is_near: bool
    top: float
    height: float


@dataclass(frozen=True, slots=True)
class Headline:
    """The first thing that is said of a fleet; `tone` is `bad`, `calm`, or nothing where it is neither."""

    tone: str
    figure: str
    more: str


def headline(view: View) -> Headline:
    """Whether anybody must do anything. That all is well is said only where nothing is known against it."""
    fleet, say = view.fleet, {name: view.words.say(text) for name, text in TEXTS.items()}
    ending, unknown = (fleet.states.get(state, 0) for state in (State.ENDING, State.UNKNOWN))
    parts = [say["of_one_line"] if fleet.total == 1 else say["of_lines"].format(fleet.total)]
    if ending:
        parts += [say["ends_soon_one"] if ending == 1 else say["ends_soon"].format(ending)]
    if unknown:
        parts += [say["not_known"].format(unknown)]
    more = " · ".join(parts)
    if not fleet.total:
        return Headline("", say["no_lines"], more)
    if fleet.attention:
        verb = say["attention_one"] if fleet.attention == 1 else say["attention"]
        return Headline("bad", f"{fleet.attention} {verb}", more)
    if ending or unknown or view.exit_code or view.stopped:
        return Headline("", f"0 {say['attention']}", more)
    return Headline("calm", say["all_well"], more)


def html(view: View, lines: Iterable[Line]) -> Iterator[str]:
    """The page, a piece at a time."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - few runs write a page
    from markupsafe import Markup  # noqa: PLC0415 - the same

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css, js = (_TEMPLATES / name for name in ("status.css", "status.js"))
    style, script = css.read_text(encoding="utf-8"), js.read_text(encoding="utf-8")
    bars = timeline(view)
    shown = _Counted(lines)
    words = view.words
    stream = environment.get_template("status.html.j2").stream(
        language=words.language.value,
        policy=policy(style, script),
        css=Markup(style),  # noqa: S704 - our own file, and no text from outside
        js=Markup(script),  # noqa: S704 - the same
        t={name: words.say(text) for name, text in TEXTS.items()},
        states={state: words.say(text) for state, text in STATES.items()},
        words=words,
        now=view.now,
        timestamp=timestamp,
        fleet=view.fleet,
        headline=headline(view),
        is_dry=view.is_dry,
        run_is_bad=bool(view.stopped),
        run_text=_run_text(view),
        bars=bars,
        most=max(bar.count for bar in bars),
        ending=sum(bar.count for bar in bars),
        lines=shown,
        left_out=_LeftOut(view.fleet, shown),
    )
    stream.enable_buffering(500)
    yield from stream


def policy(style: str, script: str) -> str:
    """A Content-Security-Policy that lets in this style and this script, and nothing else."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def timeline(view: View) -> list[Bar]:
    """How many tokens end on each of the next days."""
    days = [view.now.date() + timedelta(days=count) for count in range(HORIZON_DAYS)]
    counts = [view.fleet.ends.get(day, 0) for day in days]
    most = max(LEAST_SCALE, *counts)
    near = (view.now + view.window).date()
    bars = []
    for day, count in zip(days, counts, strict=True):
        height = max(round(count / most * 95, 2), 2.0) if count else 0.0
        bars.append(Bar(view.words.day_of_year(day), count, day < near, round(99 - height, 2), height))
    return bars


def _run_text(view: View) -> str:
    """How the run ended that made the page."""
    if view.is_dry:
        return ""
    if view.stopped:
        cause, advice = view.words.cause(view.stopped), view.words.advice(view.stopped)
        return f"{view.words.say(TEXTS['stopped'])}: {cause}; {advice}"
    endings = {0: "went_well", 1: "undelivered" if view.undelivered else "with_failures"}
    return view.words.say(TEXTS[endings.get(view.exit_code, "was_interrupted")])


class _Counted:
    """Passes lines on, and counts them."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self.count = 0

    def __iter__(self) -> Iterator[Line]:
        for line in self._lines:
            self.count += 1
            yield line


class _LeftOut:
    """How many lines were not shown: known only after the others were."""

    def __init__(self, fleet: ChannelTotals, shown: _Counted) -> None:
        self._fleet = fleet
        self._shown = shown

    def __bool__(self) -> bool:
        return int(self) > 0

    def __int__(self) -> int:
        return max(self._fleet.total - self._shown.count, 0)

    def __format__(self, spec: str) -> str:
        return format(int(self), spec)


# -- JSON


def document(view: View, lines: Iterable[Line]) -> Iterator[str]:
    """The same for programs: one JSON object, a piece at a time."""
    fleet = view.fleet
    head = {
        "version": VERSION,
        "generated_at": timestamp(view.now),
        "dry_run": view.is_dry,
        "exit_code": view.exit_code,
        "stopped": view.stopped,
        "total": fleet.total,
        "attention": fleet.attention,
        "states": {state: fleet.states.get(state, 0) for state in State},
        "soonest_expiry": timestamp(fleet.soonest),
        "ends": [{"date": day.isoformat(), "count": count} for day, count in sorted(fleet.ends.items())],
    }
    yield json.dumps(head, ensure_ascii=False)[:-1] + ', "lines": ['
    shown = _Counted(lines)
    for line in shown:
        yield (",\n" if shown.count > 1 else "\n") + json.dumps(_entry(line), ensure_ascii=False)
    yield f'\n], "left_out": {int(_LeftOut(fleet, shown))}}}\n'


def _entry(line: Line) -> dict[str, Any]:
    """A line as JSON. What only a page needs is left out."""
    fields = asdict(line)
    del fields["percent_left"], fields["known_as"]
    return fields | {name: timestamp(fields[name]) for name in ("expires_at", "refreshed_at")}
