"""Those who watch over runs from outside: a heartbeat, Prometheus and GitHub Actions, each told in its way.

Nothing that happens to one of them disturbs another, or changes how a run ends: it is a line in the log.
A dry run is shown in GitHub Actions, but is no sign that the job is alive, so the others hear nothing of it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from whatsapp_tokens.database.errors import DatabaseError
from whatsapp_tokens.monitoring.github_actions import SummaryFull, annotate, append_summary, masks
from whatsapp_tokens.monitoring.heartbeat import Heartbeat
from whatsapp_tokens.monitoring.step_summary import markdown, notes, shortfalls
from whatsapp_tokens.reports.console import is_github
from whatsapp_tokens.reports.text import summary
from whatsapp_tokens.results import AbortReason, ChannelTotals, Reason, RunResult, Tally
from whatsapp_tokens.settings import Settings
from whatsapp_tokens.signals import Sleep

FAILURES: Final = tuple(reason for reason in Reason if reason.is_failure)
SKIPS: Final = tuple(reason for reason in Reason if not reason.is_failure)

logger = logging.getLogger(__name__)


class Source(Protocol):
    """Who knows the channels as a whole: the database."""

    def totals(self, now: datetime, soon: datetime) -> ChannelTotals:
        """Their totals. Raises a `DatabaseError`."""


class Monitors:
    """All that watch, as far as they are configured. `environment` is the real one."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._heartbeat: Heartbeat | None = None
        self._metrics_file: Path | None = None
        self._window = timedelta()

    def begin(self, settings: Settings, sleep: Sleep, *, is_dry: bool) -> None:
        """The settings could be read, and nothing was done yet."""
        if is_github(self._environment):
            with _undisturbed("GITHUB_ACTIONS"):
                _print(masks(settings.secrets, self._environment))
        if is_dry:
            return
        self._metrics_file, self._window = settings.metrics_file, settings.refresh_before_expiry
        if settings.healthcheck_url:
            self._heartbeat = Heartbeat(settings.healthcheck_url, sleep=sleep)
            with _undisturbed("HEALTHCHECK_URL"):
                self._heartbeat.start()

    def end(self, ending: RunResult, source: Source | None) -> None:
        """Tell how the run ended, or why it could not begin. The heartbeat comes last: then all is done."""
        if self._metrics_file:
            with _undisturbed("METRICS_FILE"):
                self._write_metrics(self._metrics_file, ending, source)
        if is_github(self._environment):
            with _undisturbed("GITHUB_ACTIONS"):
                _print(map(annotate, notes(ending)))
        if path := self._environment.get("GITHUB_STEP_SUMMARY"):
            with _undisturbed("GITHUB_STEP_SUMMARY"):
                append_summary(Path(path), markdown(ending))
        if self._heartbeat:
            with _undisturbed("HEALTHCHECK_URL"):
                lines = summary(ending.tally, ending.failures, ending.stopped, ending.finished_at)
                self._heartbeat.end(ending.code, "\n".join((*lines, *shortfalls(ending))))

    def _write_metrics(self, path: Path, ending: RunResult, source: Source | None) -> None:
        from whatsapp_tokens.monitoring.prometheus import Figures, write  # noqa: PLC0415 - most have no Prometheus, and start faster so

        figures = Figures(
            started_at=ending.started_at,
            finished_at=ending.finished_at,
            succeeded=ending.code == 0,
            outcomes=outcomes(ending.tally),
            fleet=self._look(ending, source),
        )
        write(path, figures)

    def _look(self, ending: RunResult, source: Source | None) -> ChannelTotals | None:
        """The channels after the run, or None where nobody can tell."""
        if source is None or (ending.stopped and ending.stopped.reason == AbortReason.DATABASE_LOST):
            return None
        try:
            return source.totals(ending.finished_at, ending.finished_at + self._window)
        except DatabaseError as error:
            logger.error("the channels could not be counted for METRICS_FILE: %s", error)  # noqa: TRY400 - a traceback adds nothing
            return None


def outcomes(tally: Tally) -> dict[tuple[str, str], int]:
    """How many channels had each outcome for each reason; all there are, also those that none had."""
    counted: dict[tuple[str, str], int] = {("renewed", ""): tally.renewed}
    counted.update({("failed", reason): 0 for reason in FAILURES})
    counted.update({("skipped", reason): 0 for reason in SKIPS})
    counted |= {("failed", reason): count for reason, count in tally.causes.items()}
    counted |= {("skipped", reason): count for reason, count in tally.reasons.items()}
    return counted | {("skipped", Reason.WAITING_FOR_RECONNECT): tally.waiting}


@contextmanager
def _undisturbed(setting: str) -> Iterator[None]:
    """Log what goes wrong with one watcher, even in a run that is to be quiet.

    Errors of the system have words of their own, without values.
    """
    trouble = ""
    try:
        yield
    except SummaryFull:
        trouble = "the summary is full"
    except OSError as error:
        trouble = error.strerror or type(error).__name__
    except Exception as error:  # noqa: BLE001 - even a mistake of ours must not change what a run gives
        trouble = f"unexpected error ({type(error).__name__})"
    if trouble:
        logger.error("%s: %s", setting, trouble)


def _print(commands: Iterable[str]) -> None:
    """Print commands for GitHub's runner, each on a line of its own."""
    if sys.stderr is not None:  # else its file descriptor is closed
        sys.stderr.writelines(f"{command}\n" for command in commands)
