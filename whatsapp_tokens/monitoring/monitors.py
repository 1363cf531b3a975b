"""What watches the job from outside: a heartbeat, Prometheus and GitHub Actions.

Monitoring failures are logged and never change the exit code. A dry run is shown in GitHub Actions only: it
is no sign that the job is alive.
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
from whatsapp_tokens.monitoring.github_actions import SummaryFull, annotate, append_summary
from whatsapp_tokens.monitoring.heartbeat import Heartbeat
from whatsapp_tokens.monitoring.step_summary import markdown, notes, shortfalls
from whatsapp_tokens.reports.console import is_github
from whatsapp_tokens.reports.text import page_link, summary
from whatsapp_tokens.results import AbortReason, ChannelTotals, Reason, RunResult, Tally
from whatsapp_tokens.settings import Settings
from whatsapp_tokens.signals import Sleep

FAILURES: Final = tuple(reason for reason in Reason if reason.is_failure)
SKIPS: Final = tuple(reason for reason in Reason if not reason.is_failure)

logger = logging.getLogger(__name__)


class Source(Protocol):
    """What counts the channels: the queries of the database."""

    def totals(self, now: datetime, soon: datetime) -> ChannelTotals:
        """Return their totals. Raise a `DatabaseError`."""


class Monitors:
    """All monitors that are configured. `environment` is the real one, without `.env`."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._heartbeat: Heartbeat | None = None
        self._metrics_file: Path | None = None
        self._window = timedelta()

    def begin(self, settings: Settings, sleep: Sleep, *, is_dry: bool) -> None:
        """Note the settings, and ping the heartbeat: nothing was done yet."""
        if is_dry:
            return
        self._metrics_file, self._window = settings.metrics_file, settings.refresh_before_expiry
        if settings.healthcheck_url:
            self._heartbeat = Heartbeat(settings.healthcheck_url, sleep=sleep)
            with _logged("HEALTHCHECK_URL"):
                self._heartbeat.start()

    def end(self, result: RunResult, source: Source | None) -> None:
        """Report how the run ended, or why it could not begin. The heartbeat comes last: then all is done."""
        if self._metrics_file:
            with _logged("METRICS_FILE"):
                self._write_metrics(self._metrics_file, result, source)
        if is_github(self._environment):
            with _logged("GITHUB_ACTIONS"):
                _print(map(annotate, notes(result)))
        if path := self._environment.get("GITHUB_STEP_SUMMARY"):
            with _logged("GITHUB_STEP_SUMMARY"):
                append_summary(Path(path), markdown(result))
        if self._heartbeat:
            with _logged("HEALTHCHECK_URL"):
                lines = summary(result.tally, result.failures, result.stopped, result.finished_at)
                lines += [*shortfalls(result), *page_link(result.status_page_url)]
                self._heartbeat.end(result.code, "\n".join(lines))

    def _write_metrics(self, path: Path, result: RunResult, source: Source | None) -> None:
        from whatsapp_tokens.monitoring.prometheus import Figures, write  # noqa: PLC0415 - runs without METRICS_FILE start faster

        figures = Figures(
            started_at=result.started_at,
            finished_at=result.finished_at,
            succeeded=result.code == 0,
            outcomes=outcomes(result.tally),
            totals=self._totals(result, source),
        )
        write(path, figures)

    def _totals(self, result: RunResult, source: Source | None) -> ChannelTotals | None:
        """Return the totals after the run, or None where the database cannot be asked."""
        if source is None or (result.stopped and result.stopped.reason == AbortReason.DATABASE_LOST):
            return None
        try:
            return source.totals(result.finished_at, result.finished_at + self._window)
        except DatabaseError as error:
            logger.error("the channels could not be counted for METRICS_FILE: %s", error)  # noqa: TRY400 - a traceback adds nothing
            return None


def outcomes(tally: Tally) -> dict[tuple[str, str], int]:
    """Return how many channels had each outcome for each reason, including those that none had."""
    counted: dict[tuple[str, str], int] = {("renewed", ""): tally.renewed}
    counted.update({("failed", reason): 0 for reason in FAILURES})
    counted.update({("skipped", reason): 0 for reason in SKIPS})
    counted |= {("failed", reason): count for reason, count in tally.causes.items()}
    counted |= {("skipped", reason): count for reason, count in tally.reasons.items()}
    return counted | {("skipped", Reason.WAITING_FOR_RECONNECT): tally.waiting}


@contextmanager
def _logged(setting: str) -> Iterator[None]:
    """Log what goes wrong with one monitor, and go on.

    Only the words of the operating system are shown: other errors may hold values.
    """
    problem = ""
    try:
        yield
    except SummaryFull:
        problem = "the summary is full"
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except Exception as error:  # noqa: BLE001 - a bug here must not change the exit code
        problem = f"unexpected error ({type(error).__name__})"
    if problem:
        logger.error("%s: %s", setting, problem)


def _print(commands: Iterable[str]) -> None:
    """Print commands for GitHub's runner, each on a line of its own."""
    if sys.stderr is not None:  # else its file descriptor is closed
        sys.stderr.writelines(f"{command}\n" for command in commands)
