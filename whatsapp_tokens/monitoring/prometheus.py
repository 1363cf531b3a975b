"""Metrics of a run, in a file for the textfile collector of node_exporter.

https://github.com/prometheus/node_exporter#textfile-collector. The file is replaced in one step; its mode is
what the umask allows, usually the 0644 that node_exporter needs. This module is imported only where
`METRICS_FILE` is set.

What a run could not find out keeps its last value: the time of the last success when it failed, and the
state of the channels when the database could not be asked. So an outage does not clear an alert.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from whatsapp_tokens.results import ChannelTotals, State

PREFIX: Final = "whatsapp_token_refresh_"
LAST_SUCCESS: Final = f"{PREFIX}last_success_timestamp_seconds"
LAST_RUN: Final = f"{PREFIX}last_run_timestamp_seconds"
DURATION: Final = f"{PREFIX}duration_seconds"
CHANNELS: Final = f"{PREFIX}channels"
OUTCOMES: Final = f"{PREFIX}outcomes"
SOONEST: Final = f"{PREFIX}soonest_expiry_timestamp_seconds"

HELP: Final = {
    LAST_SUCCESS: "When a run last ended with exit code 0; 0 if none is known.",
    LAST_RUN: "When a run last ended, however it ended.",
    DURATION: "How long the last run took.",
    CHANNELS: "WhatsApp channels with a token, by state.",
    OUTCOMES: "What came of the channels of the last run.",
    SOONEST: "When the next token expires, of those that Meta may still accept.",
}


@dataclass(frozen=True, slots=True)
class Figures:
    """One run in figures. `totals` is None where the database could not be asked; times are aware UTC.

    `outcomes` counts channels by outcome and reason, which is empty where there is none.
    """

    started_at: datetime
    finished_at: datetime
    succeeded: bool
    outcomes: Mapping[tuple[str, str], int]
    totals: ChannelTotals | None = None


def write(path: Path, figures: Figures) -> None:
    """Replace the file in one step. Raise OSError, and leave the old one."""
    registry = CollectorRegistry()
    registry.register(_Fixed(families(figures, read_back(path))))
    mode = path.stat().st_mode & 0o777 if path.is_file() else None
    write_to_textfile(str(path), registry)
    if mode is not None:  # it was replaced, and its reader may be another user
        path.chmod(mode)


def read_back(path: Path) -> dict[str, Metric]:
    """Return the gauges that are in the file; none if it is missing or cannot be parsed."""
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        found = {family.name: family for family in text_string_to_metric_families(text)}
    except (OSError, ValueError, LookupError):
        return {}
    return {name: family for name, family in found.items() if family.type == "gauge" and family.samples}


def families(figures: Figures, before: Mapping[str, Metric]) -> list[Metric]:
    """Return all gauges of a run; `before` gives those that this run could not find out."""
    success = figures.finished_at.timestamp() if figures.succeeded else 0
    totals = figures.totals
    new: dict[str, Metric | None] = {
        LAST_SUCCESS: _single(LAST_SUCCESS, success) if success or LAST_SUCCESS not in before else None,
        LAST_RUN: _single(LAST_RUN, figures.finished_at.timestamp()),
        DURATION: _single(DURATION, (figures.finished_at - figures.started_at).total_seconds()),
        CHANNELS: _channels(totals) if totals else None,
        OUTCOMES: _outcomes(figures.outcomes),
        SOONEST: _single(SOONEST, totals.soonest.timestamp()) if totals and totals.soonest else None,
    }
    if totals and not totals.soonest:
        del new[SOONEST]  # no token expires, which is not the same as unknown
    chosen = (family or before.get(name) for name, family in new.items())
    return [family for family in chosen if family]


def _single(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, HELP[name], value=value)


def _channels(totals: ChannelTotals) -> Metric:
    """Return every state, also those that no channel is in: an absent series is not a zero."""
    family = GaugeMetricFamily(CHANNELS, HELP[CHANNELS], labels=["state"])
    for state in State:
        family.add_metric([state], totals.states.get(state, 0))
    return family


def _outcomes(outcomes: Mapping[tuple[str, str], int]) -> Metric:
    family = GaugeMetricFamily(OUTCOMES, HELP[OUTCOMES], labels=["outcome", "reason"])
    for labels, count in sorted(outcomes.items()):
        family.add_metric(list(labels), count)
    return family


class _Fixed(Collector):
    """Families that are already complete."""

    def __init__(self, found: Iterable[Metric]) -> None:
        self._families = list(found)

    def collect(self) -> Iterable[Metric]:
        return self._families
