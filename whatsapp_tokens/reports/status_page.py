"""The status page: one HTML file that shows all WhatsApp lines.

It needs no network: style, script and pictures are in it, and its Content-Security-Policy allows only these.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Final

from whatsapp_tokens.reports.causes import N_, Actor
from whatsapp_tokens.reports.json_document import timestamp
from whatsapp_tokens.reports.language import capital
from whatsapp_tokens.reports.status_lines import Group, Line, View
from whatsapp_tokens.results import HORIZON_DAYS, ChannelTotals, State

LEAST_SCALE: Final = 4  # tokens on a day, for the full height of the timeline: one alone is no peak
_TEMPLATES: Final = Path(__file__).resolve().parent / "templates"

GROUPS: Final[Mapping[Group, str]] = {
    Group.DOWN: N_("Down now"),
    Group.WARNING: N_("Needs attention"),
    Group.LACKING: N_("Lacks a permission"),
    Group.ENDING: N_("Expires soon"),
    Group.UNKNOWN: N_("Not known yet"),
    Group.OK: N_("Working"),
    Group.NEVER_EXPIRES: N_("Never expires"),
}

OTHERS: Final = "others"
SECTIONS: Final[Mapping[str, str]] = {
    Group.DOWN: N_("Down now"),
    Group.WARNING: N_("Need attention before they expire"),
    Group.LACKING: N_("Work, but lack a permission"),
    OTHERS: N_("Other lines"),
}


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the first things on the page; `tone` is that of a group, `calm`, or empty."""

    tone: str
    label: str
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
    counted = Counted(lines, view.totals)
    language = view.language
    stream = environment.get_template("status.html.j2").stream(
        _=language.gettext,
        language=language,
        policy=policy(style, script),
        css=Markup(style),  # noqa: S704 - our own file, and no text from outside
        js=Markup(script),  # noqa: S704 - the same
        groups={group: language.gettext(name) for group, name in GROUPS.items()},
        titles={section: language.gettext(name) for section, name in SECTIONS.items()},
        counts=group_counts(view.totals),
        now=view.now,
        timestamp=timestamp,
        totals=view.totals,
        tiles=tiles(view),
        is_dry=view.is_dry,
        run_is_bad=bool(view.stopped),
        run_text=_run_text(view),
        bars=bars,
        most=max(bar.count for bar in bars),
        expiring=sum(bar.count for bar in bars),
        counted=counted,
        sections=sections(counted),
        acts_by_customer=Actor.CUSTOMER,
        capital=capital,
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


def tiles(view: View) -> list[Tile]:
    """Return what is down, what needs attention in time, and all lines.

    "All lines are well" needs that nothing is known against it.
    """
    totals, _ = view.totals, view.language.gettext
    in_time = totals.attention - totals.down - totals.lacking
    found = []
    if totals.attention:
        down = _("WhatsApp does not work") if totals.down else _("none")
        found += [Tile(Group.DOWN if totals.down else "", _("Down now"), str(totals.down), down)]
        before = _("before they expire") if in_time else _("none")
        found += [
            Tile(Group.WARNING if in_time else "", _("Need attention"), str(in_time), before),
        ]
    if totals.lacking:
        found += [Tile(Group.LACKING, _("Lack a permission"), str(totals.lacking), _("but work"))]
    return [*found, _all_lines(view)]


def _all_lines(view: View) -> Tile:
    totals, language, _ = view.totals, view.language, view.language.gettext
    ending, unknown = (totals.states.get(state, 0) for state in (State.ENDING, State.UNKNOWN))
    parts = []
    if ending:
        parts += [language.counted("{count} expires soon", "{count} expire soon", ending)]
    if unknown:
        parts += [_("{count} not known yet").format(count=unknown)]
    if not totals.total:
        parts = [_("no line has a token")]
    is_well = not (totals.attention or parts or view.exit_code or view.stopped)
    parts += [_("all lines are well")] if is_well else []
    return Tile("calm" if is_well else "", _("All lines"), str(totals.total), " · ".join(parts))


def sections(lines: Iterable[Line]) -> Iterator[tuple[str, Iterator[Line]]]:
    """Return the sections of the list, each with its lines, which come in this order."""
    return groupby(lines, lambda line: line.on_page.group if line.on_page.group in SECTIONS else OTHERS)


def group_counts(totals: ChannelTotals) -> dict[str, int]:
    """Return how many lines are in each group, and in the section of the others."""
    first: dict[str, int] = {
        Group.DOWN: totals.down,
        Group.WARNING: totals.attention - totals.down - totals.lacking,
        Group.LACKING: totals.lacking,
    }
    rest: dict[str, int] = {
        group: totals.states.get(State(group), 0) for group in Group if group not in first
    }
    return {**first, **rest, OTHERS: totals.total - totals.attention}


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
