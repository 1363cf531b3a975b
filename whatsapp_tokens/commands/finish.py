"""How every command ends: send alerts, write reports, print the summary, tell the monitors."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final, TypeVar

from whatsapp_tokens.commands.result import CommandResult, Level
from whatsapp_tokens.commands.uncaught import log_unexpected
from whatsapp_tokens.commands.wiring import Invocation, open_targets_of
from whatsapp_tokens.monitoring.step_summary import shortfalls
from whatsapp_tokens.reports.alert_message import Ended, Style
from whatsapp_tokens.reports.alerts import forget_recoveries, send_alerts
from whatsapp_tokens.reports.json_document import counts, timestamp
from whatsapp_tokens.reports.language import ENGLISH, Language
from whatsapp_tokens.reports.status_files import Source, write_reports
from whatsapp_tokens.reports.status_lines import View
from whatsapp_tokens.reports.text import page_link, preview_summary, reason_and_detail, summary
from whatsapp_tokens.results import AbortReason, Exit, RunResult, Tally
from whatsapp_tokens.settings import Settings
from whatsapp_tokens.signals import Interrupted

T = TypeVar("T")

LOGGED_AT_ONCE: Final = {AbortReason.CONFIGURATION, AbortReason.INTERNAL_ERROR}

logger = logging.getLogger(__name__)


def finish(invocation: Invocation, result: CommandResult, version: str) -> int:
    """Send alerts, write reports, print the summary, tell the monitors; return the exit code.

    A step that fails is logged, and keeps no other from happening.
    """
    options, console = invocation.options, invocation.console
    guarded(console.end, None)
    guarded(lambda: _log_stop(invocation, result), None)
    undelivered = result.undelivered
    if result.alerts:
        undelivered = guarded(lambda: _send_alerts(invocation, result), otherwise=True)
    source = Source(result.database.queries) if result.database else None
    unwritten = _write_reports(invocation, result, source, undelivered=undelivered)
    ended = RunResult(
        code=_exit_code(invocation, result, is_short=undelivered or bool(unwritten)),
        tally=result.tally or Tally(),
        failures=result.failures,
        stopped=result.aborted,
        started_at=invocation.started_at,
        finished_at=invocation.clock(),
        is_dry=options.dry_run,
        undelivered=undelivered,
        unwritten=unwritten,
        status_page_url=result.settings.status_page_url if result.settings else None,
    )
    is_shown = guarded(lambda: _show(invocation, result, ended, version), otherwise=False)
    is_short = ended.undelivered or bool(ended.unwritten) or not is_shown
    ended = replace(ended, code=_exit_code(invocation, result, is_short=is_short))
    if monitors := result.monitors:
        guarded(lambda: monitors.end(ended, source), None)
    return ended.code


def guarded(step: Callable[[], T], otherwise: T) -> T:
    """Return what `step` returns, or `otherwise` if a signal interrupts it or it fails, which is logged."""
    try:
        return step()
    except Interrupted:
        return otherwise
    except Exception as error:  # noqa: BLE001 - also a mistake of ours keeps no other step from happening
        log_unexpected(error)
        return otherwise


def _log_stop(invocation: Invocation, result: CommandResult) -> None:
    """Log why the command stopped, unless it was logged where it happened, or the summary says it."""
    if result.overdue:
        logger.error("the application kept channels locked that expire within 7 days: %d", result.overdue)
    aborted = result.aborted
    is_summed_up = result.is_run and not (invocation.options.as_json or invocation.options.quiet)
    if aborted and aborted.reason not in LOGGED_AT_ONCE and not is_summed_up:
        advice = ENGLISH.advice(aborted.reason)
        logger.error("stopped early: %s; %s", reason_and_detail(aborted), advice)


def _exit_code(invocation: Invocation, result: CommandResult, *, is_short: bool) -> int:
    """Return the exit code. `is_short`: an alert, a report or the output did not arrive."""
    if invocation.signalled.signal is not None:
        return 128 + invocation.signalled.signal
    if result.aborted:
        is_unusable = result.aborted.reason == AbortReason.CONFIGURATION
        return Exit.CONFIGURATION if is_unusable else Exit.STOPPED
    if any(finding.level is Level.PROBLEM for finding in result.findings):
        return Exit.CONFIGURATION
    tally = result.tally or Tally()
    failed = tally.failed if invocation.options.dry_run else tally.news
    return Exit.FAILED if is_short or failed or result.overdue else Exit.OK


def _send_alerts(invocation: Invocation, result: CommandResult) -> bool:
    """Alert people if there is something to say. Return whether a target did not take it.

    If the run could not begin, only that is told: with exit code 2 no channel is touched, not even marked as
    told, and this machine's clock may be what is wrong.
    """
    settings, aborted = result.settings, result.aborted
    if settings is None:
        return False
    could_begin = aborted is None or aborted.reason is not AbortReason.CONFIGURATION
    database = result.database if could_begin and _may_be_news(result) else None
    targets = open_targets_of(settings, invocation.signalled)
    if result.recovered and database and not targets:
        forget_recoveries(database, invocation.clock())
    errors = send_alerts(
        database,
        targets,
        Ended(result.tally or Tally(), aborted, result.unwritten),
        invocation.clock(),
        Style(Language(settings.alert_language), settings.reconnect_url, settings.status_page_url),
    )
    for error in errors:
        logger.error("an alert could not be delivered: %s", error)
    return bool(errors)


def _may_be_news(result: CommandResult) -> bool:
    """Return whether a channel may be news: a large table takes long to search for none."""
    tally = result.tally
    return tally is None or tally.untold != 0 or tally.failed > 0 or result.recovered


def _write_reports(
    invocation: Invocation, result: CommandResult, source: Source | None, *, undelivered: bool
) -> tuple[str, ...]:
    """Write the reports, if a run has begun. Return a line for each that is missing."""
    paths, settings = invocation.options.report, result.settings
    if not (paths and settings and source and result.is_run):
        return ()
    problems = guarded(
        lambda: write_reports(source, paths, _view(invocation, result, settings, undelivered=undelivered)),
        otherwise=[f"--report {path} could not be written" for path in paths],
    )
    for problem in problems:
        logger.error(problem)
    return tuple(problems)


def _view(invocation: Invocation, result: CommandResult, settings: Settings, *, undelivered: bool) -> View:
    return View(
        now=invocation.clock(),
        window=settings.refresh_before_expiry,
        lifetime=settings.token_lifetime,
        exit_code=_exit_code(invocation, result, is_short=undelivered),
        stopped=result.aborted.reason if result.aborted else None,
        is_dry=invocation.options.dry_run,
        language=Language(settings.alert_language),
        reconnect_url=settings.reconnect_url,
        undelivered=undelivered and not (result.tally and result.tally.news),
    )


def _show(invocation: Invocation, result: CommandResult, ended: RunResult, version: str) -> bool:
    """Print the document or the summary. Return whether all output of the command has arrived."""
    options, console = invocation.options, invocation.console
    console.document({**_document(ended, version), **result.document}, result.entries)
    if result.is_run and not options.quiet:
        lines = summary(ended.tally, ended.failures, ended.stopped, ended.started_at)
        lines = [preview_summary(ended.tally)] if options.dry_run else lines
        for line in ("", *lines, *shortfalls(ended), *page_link(ended.status_page_url)):
            console.line(line)
    error = console.error
    if error is None or (error.errno == errno.EPIPE and not options.as_json):  # who reads has seen enough
        return True
    what = "the JSON document" if options.as_json else "the output"
    logger.error("%s was lost: it could not be written (%s)", what, error.strerror or error)
    return False


def _document(ended: RunResult, version: str) -> dict[str, object]:
    """Return what the JSON document of every command has, without its entries."""
    stopped = ended.stopped
    return {
        "version": version,
        "started_at": timestamp(ended.started_at),
        "finished_at": timestamp(ended.finished_at),
        "dry_run": ended.is_dry,
        "exit_code": int(ended.code),
        "stopped": {"reason": stopped.reason, "detail": stopped.detail} if stopped else None,
        "counts": counts(ended.tally),
    }
