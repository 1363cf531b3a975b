"""The status page: one HTML file that shows all WhatsApp lines.

It needs no network: style, script and pictures are in it, and its Content-Security-Policy allows only these.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from whatsapp_tokens.reports.causes import N_
from whatsapp_tokens.reports.json_document import timestamp
from whatsapp_tokens.reports.status_lines import Line, View
from whatsapp_tokens.results import HORIZON_DAYS, ChannelTotals, State

LEAST_SCALE: Final = 4  # tokens on a day, for the full height of the timeline: one alone is no peak
_TEMPLATES: Final = Path(__file__).resolve().parent / "templates"

STATES: Final[Mapping[State, str]] = {
    State.DOWN: N_("Stopped working"),
    State.WARNING: N_("Needs attention"),
    State.ENDED: N_("Token expired"),
    State.WAITING: N_("Disconnected"),
    State.ENDING: N_("Expires soon"),
    State.UNKNOWN: N_("Not known yet"),
    State.OK: N_("Working"),
    State.NEVER_EXPIRES: N_("Never expires"),
}


@dataclass(frozen=True, slots=True)
class Headline:
    """The first thing on the page; `tone` is `bad`, `calm`, or empty where it is neither."""

    tone: str
    figure: str
    more: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One day of the timeline. `top` and `height` are parts of a hundred."""

    day: str
    count: int
    is_near: bool
    top: float
    height: float


class Counted:
    """Lines that pass through, and are counted. `left_out` is right once they have passed."""

    def __init__(self, lines: Iterable[Line], totals: ChannelTotals) -> None:
        self._lines = iter(lines)
        self._total = totals.total
        self.count = 0

    def __iter__(self) -> Iterator[Line]:
        for line in self._lines:
            self.count += 1
            yield line

    @property
    def left_out(self) -> int:
        """How many channels were not among the lines."""
        return max(self._total - self.count, 0)


def html(view: View, lines: Iterable[Line]) -> Iterator[str]:
    """Return the page, a piece at a time."""
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
    language = view.language
    stream = environment.get_template("status.html.j2").stream(
        _=language.gettext,
        language=language,
        policy=policy(style, script),
        css=Markup(style),  # noqa: S704 - our own file, and no text from outside
        js=Markup(script),  # noqa: S704 - the same
        states={state: language.gettext(name) for state, name in STATES.items()},
        now=view.now,
        timestamp=timestamp,
        totals=view.totals,
        headline=headline(view),
        is_dry=view.is_dry,
        run_is_bad=bool(view.stopped),
        run_text=_run_text(view),
        bars=bars,
        most=max(bar.count for bar in bars),
        expiring=sum(bar.count for bar in bars),
        lines=Counted(lines, view.totals),
    )
    stream.enable_buffering(500)
    yield from stream


def policy(style: str, script: str) -> str:
    """Return a Content-Security-Policy that allows this style and this script, and nothing else."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def headline(view: View) -> Headline:
    """Return whether anybody must act. "All lines are well" needs that nothing is known against it."""
    totals, language, _ = view.totals, view.language, view.language.gettext
    ending, unknown = (totals.states.get(state, 0) for state in (State.ENDING, State.UNKNOWN))
    parts = [language.counted("of {count} line", "of {count} lines", totals.total)]
    if ending:
        parts += [language.counted("{count} expires soon", "{count} expire soon", ending)]
    if unknown:
        parts += [_("{count} not known yet").format(count=unknown)]
    more = " · ".join(parts)
    if not totals.total:
        return Headline("", _("no line has a token"), more)
    figure = language.counted("{count} needs attention", "{count} need attention", totals.attention)
    if totals.attention:
        return Headline("bad", figure, more)
    if ending or unknown or view.exit_code or view.stopped:
        return Headline("", figure, more)
    return Headline("calm", _("all lines are well"), more)


def timeline(view: View) -> list[Bar]:
    """Return how many tokens expire on each of the next days."""
    days = [view.now.date() + timedelta(days=count) for count in range(HORIZON_DAYS)]
    counts = [view.totals.expiries.get(day, 0) for day in days]
    most = max(LEAST_SCALE, *counts)
    near = (view.now + view.window).date()
    bars = []
    for day, count in zip(days, counts, strict=True):
        height = max(round(count / most * 95, 2), 2.0) if count else 0.0
        bars.append(Bar(view.language.day_of_year(day), count, day < near, round(99 - height, 2), height))
    return bars


def _run_text(view: View) -> str:
    """Return how the run ended that made the page."""
    language, _ = view.language, view.language.gettext
    if view.is_dry:
        return ""
    if view.stopped:
        cause, advice = language.cause(view.stopped), language.advice(view.stopped)
        return _("stopped early: {cause}; {advice}").format(cause=cause, advice=advice)
    if view.exit_code == 0:
        return _("finished; nothing new failed")
    if view.exit_code != 1:
        return _("was interrupted")
    if view.undelivered:
        return _("finished; an alert was not delivered")
    return _("finished; some lines failed")
