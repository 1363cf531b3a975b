"""How every command ends: people are alerted, reports written, the end printed, and monitors told."""

from __future__ import annotations

import logging
from dataclasses import asdict

from whatsapp_tokens.commands.result import CommandResult
from whatsapp_tokens.commands.wiring import Invocation, open_targets_of
from whatsapp_tokens.monitoring.step_summary import shortfalls
from whatsapp_tokens.reports.alerts import Ended, Style, forget_recoveries, send_alerts
from whatsapp_tokens.reports.status_files import write_reports
from whatsapp_tokens.reports.status_page import View
from whatsapp_tokens.reports.text import counts, timestamp
from whatsapp_tokens.reports.translations import EN, Words
from whatsapp_tokens.results import Aborted, AbortReason, Exit, RunResult, Tally

LOGGED_AT_ONCE = {AbortReason.CONFIGURATION, AbortReason.INTERNAL_ERROR}

logger = logging.getLogger(__name__)


def finish(invocation: Invocation, result: CommandResult, version: str) -> int:
    """Tell everyone who is to know how the command ended, and return the exit code."""
    options, console = invocation.options, invocation.console
    console.end()
    if result.aborted and (options.as_json or not result.summary):  # else the summary says it
        _log_stop(result.aborted)
    undelivered = result.alerts and _send_alerts(invocation, result)
    code = _exit_code(invocation, result, is_short=undelivered)
    unwritten = _write_reports(invocation, result, code, undelivered=undelivered)
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
    )
    console.document(
        _document(ended, version)
        | ({"checks": [asdict(finding) for finding in result.findings]} if options.check else {})
    )
    if result.summary and (ended.code != Exit.OK or not options.quiet):
        for line in (*result.summary, *shortfalls(ended)):
            console.line(line)
    if result.monitors:
        result.monitors.end(ended, result.database.queries if result.database else None)
    return ended.code


def _log_stop(aborted: Aborted) -> None:
    if aborted.reason not in LOGGED_AT_ONCE:
        logger.error("stopped early: %s: %s; %s", aborted.reason, aborted.detail, EN.advice(aborted.reason))


def _exit_code(invocation: Invocation, result: CommandResult, *, is_short: bool) -> int:
    """Return the exit code. `is_short`: an alert was not delivered, or a report not written."""
    if invocation.stop.signal is not None:
        return 128 + invocation.stop.signal
    if result.aborted:
        is_unusable = result.aborted.reason == AbortReason.CONFIGURATION
        return Exit.CONFIGURATION if is_unusable else Exit.STOPPED
    if not all(finding.ok for finding in result.findings):
        return Exit.CONFIGURATION
    return Exit.FAILED if is_short or (result.tally and result.tally.failed) else Exit.OK


def _send_alerts(invocation: Invocation, result: CommandResult) -> bool:
    """Alert people if there is something to say. Return whether a target did not take it."""
    settings, database = result.settings, result.database
    if settings is None:
        return False
    targets = open_targets_of(settings, invocation.stop)
    if result.recovered and database and not targets:
        forget_recoveries(database, invocation.clock())
    errors = send_alerts(
        database,
        targets,
        Ended(result.tally or Tally(), result.aborted, result.unwritten),
        invocation.clock(),
        Style(Words(settings.alert_language), settings.reconnect_url),
    )
    for error in errors:
        logger.error("an alert could not be delivered: %s", error)
    return bool(errors)


def _write_reports(
    invocation: Invocation, result: CommandResult, code: int, *, undelivered: bool
) -> tuple[str, ...]:
    """Write the reports, if a run has begun. Return a line for each that is missing."""
    paths, settings, database, tally = (
        invocation.options.report,
        result.settings,
        result.database,
        result.tally,
    )
    if not (paths and settings and database and tally):
        return ()
    view = View(
        now=invocation.clock(),
        window=settings.refresh_before_expiry,
        lifetime=settings.token_lifetime,
        exit_code=code,
        stopped=result.aborted.reason if result.aborted else None,
        is_dry=invocation.options.dry_run,
        words=Words(settings.alert_language),
        reconnect_url=settings.reconnect_url,
        undelivered=undelivered and not tally.failed,
    )
    problems = write_reports(database, paths, view)
    for problem in problems:
        logger.error(problem)
    return tuple(problems)


def _document(ended: RunResult, version: str) -> dict[str, object]:
    """Return the JSON document without its channels."""
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
