"""One start of the program: settings → wiring → a run, a check or one token → what is said → exit code.

Everything is put together here and nothing is decided: errors become exit codes, signals a request to stop.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from enum import IntEnum
from typing import Final

import click

from meta_client import Interrupted, MetaClient
from notify import Slack, Target
from whatsapp_tokens.apprise_target import open_targets
from whatsapp_tokens.commands.check import bad_settings, preflight
from whatsapp_tokens.commands.options import Options
from whatsapp_tokens.commands.set_token import NotPossible, Store, find_slot, read_token
from whatsapp_tokens.database.connection import UPGRADE, BadDatabase, DatabaseLost, warning_of
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.meta.errors import AppRejected, RateLimited
from whatsapp_tokens.monitoring.monitors import Monitors
from whatsapp_tokens.monitoring.step_summary import shortfalls
from whatsapp_tokens.policy import Policy
from whatsapp_tokens.renewal.decision import Renewer
from whatsapp_tokens.renewal.run import Run
from whatsapp_tokens.renewal.start import RunCallbacks, Scope, WrongKeys, preview
from whatsapp_tokens.reports.alerts import Ended, Style, forget_recoveries, send_alerts
from whatsapp_tokens.reports.console import Console
from whatsapp_tokens.reports.status_files import write_reports
from whatsapp_tokens.reports.status_page import View
from whatsapp_tokens.reports.text import First, counts, finding_line, preview_summary, summary, timestamp
from whatsapp_tokens.reports.translations import EN, Words
from whatsapp_tokens.results import (
    Aborted,
    AbortReason,
    ChannelId,
    Failed,
    Finding,
    Outcome,
    Reason,
    Renewed,
    RunResult,
    Skipped,
    Tally,
)
from whatsapp_tokens.settings import ENV_FILE, BadSettings, Settings, read_environment
from whatsapp_tokens.signals import Stop, caught_signals

MANY: Final = 100  # channels that --force does not touch without being asked twice
logger = logging.getLogger(__name__)


class Exit(IntEnum):
    """The exit codes, for scripts that look at them."""

    OK = 0
    FAILED = 1
    CONFIGURATION = 2
    STOPPED = 3
    INTERRUPTED = 128 + signal.SIGINT
    TERMINATED = 128 + signal.SIGTERM


class UsageProblem(Exception):
    """The options do not fit the database. One line: what is wrong and what to do."""


class Program:
    """One start of the program, from its options to its exit code."""

    def __init__(self, options: Options, *, version: str, clock: Callable[[], datetime]) -> None:
        self._options = options
        self._version = version
        self._clock = clock
        self._started_at = self._clock()
        self._stop = Stop()
        self._signal: int | None = None
        self._console = Console(
            as_json=options.as_json, quiet=options.quiet, dry_run=options.dry_run, now=self._started_at
        )
        self._settings: Settings | None = None
        self._database: Database | None = None
        self._tally = Tally()
        self._has_begun = False
        self._has_recovered = False
        self._is_declined = False
        self._unwritten: First[Failed] = First()
        self._findings: list[Finding] = []
        self._watchers = Monitors(os.environ)

    def run(self) -> int:
        """Do what the options ask for. Never raises."""
        with ExitStack() as stack:
            stack.callback(self._console.close)
            stack.enter_context(caught_signals(self._on_signal))
            return self._finish(*self._attempt(stack))

    def _attempt(self, stack: ExitStack) -> tuple[Aborted | None, int]:
        """Why the work stopped early, if it did, and the exit code so far."""
        options = self._options
        work = self._check if options.check else self._set_token if options.set_token else self._renew
        try:
            stopped = work(stack)
        except Interrupted:  # the signal decides what the exit code is
            stopped = None
        except BadSettings as error:
            return misconfigured(error.problems), Exit.CONFIGURATION
        except BadDatabase as error:
            hint = "" if UPGRADE in str(error) else "; check DATABASE_URL"
            return misconfigured([f"{error}{hint}"]), Exit.CONFIGURATION
        except (WrongKeys, UsageProblem, NotPossible) as error:
            return misconfigured([str(error)]), Exit.CONFIGURATION
        except DatabaseLost as error:
            stopped = Aborted(AbortReason.DATABASE_LOST, str(error))
        except Exception as error:
            name = type(error).__name__
            logger.error("unexpected error (%s)", name, exc_info=self._options.verbose)  # noqa: TRY400
            return Aborted(AbortReason.INTERNAL_ERROR, name), Exit.STOPPED
        if stopped:
            if self._options.as_json or not self._has_begun:  # else the summary says it
                logger.error(
                    "stopped early: %s: %s; %s",
                    stopped.reason,
                    stopped.detail,
                    EN.advice(stopped.reason),
                )
            return stopped, Exit.STOPPED
        return None, self._code()

    def _code(self) -> Exit:
        """How work ended that was not stopped."""
        if not all(finding.ok for finding in self._findings):
            return Exit.CONFIGURATION
        return Exit.FAILED if self._tally.failed else Exit.OK

    def _renew(self, stack: ExitStack) -> Aborted | None:
        """Wire everything up and run. Gives why the run stopped early, or None."""
        options = self._options
        settings = self._settings = self._read_settings()
        self._watchers.begin(settings, self._stop.wait, is_dry=options.dry_run)
        database = self._open_database(stack, settings)
        policy = self._policy(settings)
        scope = Scope(policy.look(self._started_at, self._ids(database)), options.limit, settings.workers)
        ledger = RunCallbacks(self._begin, self._on_outcome)
        if options.dry_run:
            preview(database, settings.keys, scope, ledger)
            return None
        run = Run(database, self._renewer(stack, settings, policy), settings.keys, self._clock, self._stop)
        return run.execute(scope, ledger)

    def _set_token(self, stack: ExitStack) -> Aborted | None:
        """Store the one token that comes in. Gives why Meta could not be asked about it, or None."""
        options = self._options
        settings = self._settings = self._read_settings()
        database = self._open_database(stack, settings)
        slot = find_slot(database, options.set_token or "", options.name)
        with caught_signals(self._interrupt):
            token = read_token()
        policy = self._policy(settings)
        renewer = self._renewer(stack, settings, policy)
        store = Store(database, renewer, settings.keys, policy, self._clock, anyway=options.yes)
        self._tally = Tally(candidates=1, due=1)
        try:
            outcome = store.store(slot, token)
        except (AppRejected, RateLimited) as error:
            reason = AbortReason.RATE_LIMITED if isinstance(error, RateLimited) else AbortReason.APP_REJECTED
            return Aborted(reason, f"{error}; nothing was stored")
        self._tally.add(outcome)
        self._on_outcome(outcome)
        return None

    def _check(self, _stack: ExitStack) -> Aborted | None:
        """Look at everything that a run needs, and show what was found."""
        try:
            settings = self._read_settings()
        except BadSettings as error:
            findings: Iterable[Finding] = bad_settings(error.problems)
        else:
            findings = preflight(settings, self._targets(settings), self._sleep)
        for finding in findings:
            self._findings.append(finding)
            if not (finding.ok and self._options.quiet):
                self._console.line(finding_line(finding))
        return None

    def _open_database(self, stack: ExitStack, settings: Settings) -> Database:
        """The database, if we may do there what is asked for. Raises `UsageProblem` if we may not."""
        database = self._database = Database(settings.database, settings.table, lease=settings.lease)
        stack.callback(database.close)
        lacking = [] if self._options.dry_run else database.queries.missing_permissions()
        if lacking:  # a token that could not be stored is not fetched
            raise UsageProblem(f"the database role may not {'; nor '.join(lacking)}; grant it")
        return database

    def _renewer(self, stack: ExitStack, settings: Settings, policy: Policy) -> Renewer:
        meta = MetaClient(settings.meta, sleep=self._sleep)
        stack.callback(meta.close)
        return Renewer(meta, policy, self._clock, self._sleep)

    def _policy(self, settings: Settings) -> Policy:
        return Policy(
            refresh_after=settings.refresh_after,
            refresh_before_expiry=settings.refresh_before_expiry,
            token_lifetime=settings.token_lifetime,
            required_scopes=settings.required_scopes,
            force=self._options.force,
            audit=self._options.audit,
        )

    def _targets(self, settings: Settings) -> list[Target]:
        """Where alerts go."""
        url = settings.slack_webhook_url
        slack: list[Target] = [] if url is None else [Slack(url, sleep=self._stop.wait)]
        return [*slack, *open_targets(settings.notify_urls, self._stop.is_set)]

    def _read_settings(self) -> Settings:
        env_file = self._options.env_file or ENV_FILE
        environment, warnings = read_environment(os.environ, env_file)
        for warning in warnings:
            logger.warning(warning)
        if self._options.workers is not None:
            environment["WORKERS"] = str(self._options.workers)
        settings = Settings.from_env(environment)
        if ignored := warning_of(settings.database):
            logger.warning(ignored)
        return settings

    def _ids(self, database: Database) -> tuple[ChannelId, ...] | None:
        """The channels asked for, as their ids are in the table; None for all of them."""
        if not self._options.channel:
            return None
        found = {text: database.queries.find_id(text) for text in self._options.channel}
        if unknown := [text for text, id_ in found.items() if id_ is None]:
            raise UsageProblem(f"--channel {', '.join(unknown)}: there is no channel with this id")
        return tuple(id_ for id_ in found.values() if id_ is not None)

    def _begin(self, tally: Tally) -> None:
        """Take note of the counts before the first channel is touched; the last moment to say no."""
        self._tally = tally
        options = self._options
        if 0 < tally.candidates < len(set(options.channel)):
            missing = len(set(options.channel)) - tally.candidates
            logger.warning(
                "%d of the channels asked for cannot be renewed: no active WhatsApp token", missing
            )
        if options.force and not options.dry_run and not options.yes and tally.candidates > MANY:
            question = f"--force renews all {tally.candidates} channels"
            if sys.stdin is None or not sys.stdin.isatty():
                raise UsageProblem(f"{question}; add --yes if that is meant")
            with caught_signals(self._interrupt):
                meant = is_meant(question)
            if not meant:
                self._is_declined = True
                raise UsageProblem(f"{question}; the answer was no")
        if not tally.candidates:
            logger.warning("no channel has an active WhatsApp token: there is nothing to do")
        self._has_begun = True
        if not options.dry_run:
            self._console.begin(tally.due)

    def _on_outcome(self, outcome: Outcome) -> None:
        if isinstance(outcome, Renewed | Skipped) and outcome.recovered:
            self._has_recovered = True
        if isinstance(outcome, Failed) and outcome.reason is Reason.WRITE_FAILED:
            self._unwritten.add(outcome)
        self._console.outcome(outcome)

    def _on_signal(self, number: int) -> None:
        self._signal = number
        self._stop.set()

    def _interrupt(self, number: int) -> None:
        """What a signal does while a person is asked: nothing has begun, so nothing is finished first."""
        self._on_signal(number)
        raise Interrupted

    def _sleep(self, seconds: float) -> None:
        """Wait, unless the run was told to stop: then nothing goes on."""
        if self._stop.wait(seconds):
            raise Interrupted

    def _finish(self, stopped: Aborted | None, code: int) -> int:
        """Tell people, print the end, and give the exit code."""
        self._console.end()
        undelivered = self._alert(stopped)
        code = self._final(code, is_short=undelivered)
        unwritten = self._write_reports(stopped, code, undelivered=undelivered)
        code = self._final(code, is_short=bool(unwritten))
        ending = self._ending(stopped, code, undelivered=undelivered, unwritten=unwritten)
        self._console.document(
            {
                "version": self._version,
                "started_at": timestamp(self._started_at),
                "finished_at": timestamp(self._clock()),
                "dry_run": self._options.dry_run,
                "exit_code": int(code),
                "stopped": {"reason": stopped.reason, "detail": stopped.detail} if stopped else None,
                "counts": counts(self._tally),
            }
            | ({"checks": [asdict(finding) for finding in self._findings]} if self._options.check else {})
        )
        if self._has_begun and (code != Exit.OK or not self._options.quiet):
            for line in (*self._last_lines(stopped), *shortfalls(ending)):
                self._console.line(line)
        if not (self._options.check or self._options.set_token):
            self._watchers.end(ending, self._database)
        return int(code)

    def _final(self, code: int, *, is_short: bool) -> int:
        """The exit code: that of a signal before all others; 1 where work that went well was not told."""
        if self._signal is not None:
            return 128 + self._signal
        return Exit.FAILED if is_short and code == Exit.OK else code

    def _ending(
        self, stopped: Aborted | None, code: int, *, undelivered: bool, unwritten: tuple[str, ...]
    ) -> RunResult:
        """What those who watch are told."""
        return RunResult(
            code=int(code),
            tally=self._tally,
            failures=tuple(self._console.failures),
            stopped=stopped,
            started_at=self._started_at,
            finished_at=self._clock(),
            is_dry=self._options.dry_run,
            undelivered=undelivered,
            unwritten=unwritten,
        )

    def _write_reports(self, stopped: Aborted | None, code: int, *, undelivered: bool) -> tuple[str, ...]:
        """Write the status pages, if a run has begun that can be shown. Gives a line for each missing one."""
        settings, database, paths = self._settings, self._database, self._options.report
        if not (paths and self._has_begun and settings and database):
            return ()
        view = View(
            now=self._clock(),
            window=settings.refresh_before_expiry,
            lifetime=settings.token_lifetime,
            exit_code=int(code),
            stopped=stopped.reason if stopped else None,
            is_dry=self._options.dry_run,
            words=Words(settings.alert_language),
            reconnect_url=settings.reconnect_url,
            undelivered=undelivered and not self._tally.failed,
        )
        problems = write_reports(database, paths, view)
        for problem in problems:
            logger.error(problem)
        return tuple(problems)

    def _last_lines(self, stopped: Aborted | None) -> list[str]:
        if self._options.dry_run:
            return ["", preview_summary(self._tally)]
        return ["", *summary(self._tally, self._console.failures, stopped, self._started_at)]

    def _alert(self, stopped: Aborted | None) -> bool:
        """Send what is to be said. Gives whether anybody did not get it."""
        settings = self._settings
        if settings is None or self._options.dry_run or self._is_declined:  # who said no knows
            return False
        if self._options.set_token and not self._has_recovered:  # whoever sets a token sees what comes of it
            return False
        ended = Ended(self._tally, stopped, self._unwritten)
        style = Style(Words(settings.alert_language), settings.reconnect_url)
        targets = self._targets(settings)
        if self._has_recovered and self._database and not targets:
            forget_recoveries(self._database, self._clock())
        errors = send_alerts(self._database, targets, ended, self._clock(), style)
        for error in errors:
            logger.error("an alert could not be delivered: %s", error)
        return bool(errors)


def misconfigured(problems: Sequence[str]) -> Aborted:
    """Log what is wrong, without tracebacks: they say nothing to whoever mistyped a setting."""
    for problem in problems:
        logger.error(problem)
    return Aborted(AbortReason.CONFIGURATION, "; ".join(problems))


def is_meant(question: str) -> bool:
    """Ask the person at the terminal; no answer is a no."""
    try:
        return click.confirm(f"{question}. Go on?", err=True)
    except click.Abort:
        return False
