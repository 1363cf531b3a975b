"""What a run leaves behind for Prometheus, in a file that node_exporter's textfile collector picks up.

https://github.com/prometheus/node_exporter#textfile-collector. The file is replaced in one step, and its
mode is what the umask allows: 0644 with the usual one, which is what node_exporter needs. Only this room
knows `prometheus_client`, and it is imported only where `METRICS_FILE` is set.

What a run could not find out keeps its last value: the time of the last success when it failed, and the
state of the channels when the database could not be asked. So an alert does not clear because of an outage.
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
    OUTCOMES: "What became of the channels of the last run.",
    SOONEST: "When the next token ends, of the channels that do not wait for a reconnect.",
}


@dataclass(frozen=True, slots=True)
class Figures:
    """One run in figures. `fleet` is None where the database could not tell; times are aware UTC.

    `outcomes` counts channels by outcome and reason, which is empty where there is none.
    """

    started_at: datetime
    finished_at: datetime
    succeeded: bool
    outcomes: Mapping[tuple[str, str], int]
    fleet: ChannelTotals | None = None


def write(path: Path, figures: Figures) -> None:
    """Replace the file in one step. Raises OSError; then the old one stays as it is."""
    registry = CollectorRegistry()
    registry.register(_Fixed(families(figures, read_back(path))))
    write_to_textfile(str(path), registry)


def read_back(path: Path) -> dict[str, Metric]:
    """The gauges that are in the file by now; none if there is no such file, or it is not understood."""
    try:
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        found = {family.name: family for family in text_string_to_metric_families(text)}
    except (OSError, ValueError, LookupError):
        return {}
    return {name: family for name, family in found.items() if family.type == "gauge" and family.samples}


def families(figures: Figures, before: Mapping[str, Metric]) -> list[Metric]:
    """All gauges of a run, each with its series; `before` gives those that this run could not find out."""
    success = figures.finished_at.timestamp() if figures.succeeded else 0
    fleet = figures.fleet
    new: dict[str, Metric | None] = {
        LAST_SUCCESS: _single(LAST_SUCCESS, success) if success or LAST_SUCCESS not in before else None,
        LAST_RUN: _single(LAST_RUN, figures.finished_at.timestamp()),
        DURATION: _single(DURATION, (figures.finished_at - figures.started_at).total_seconds()),
        CHANNELS: _channels(fleet) if fleet else None,
        OUTCOMES: _outcomes(figures.outcomes),
        SOONEST: _single(SOONEST, fleet.soonest.timestamp()) if fleet and fleet.soonest else None,
    }
    if fleet and not fleet.soonest:
        del new[SOONEST]  # nothing ends, which is not the same as not to know
    chosen = (family or before.get(name) for name, family in new.items())
    return [family for family in chosen if family]


def _single(name: str, value: float) -> Metric:
    return GaugeMetricFamily(name, HELP[name], value=value)


def _channels(fleet: ChannelTotals) -> Metric:
    """Every state, also those that no channel is in: an absent series is not a zero."""
    family = GaugeMetricFamily(CHANNELS, HELP[CHANNELS], labels=["state"])
    for state in State:
        family.add_metric([state], fleet.states.get(state, 0))
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
