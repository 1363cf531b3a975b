"""Renew WhatsApp access tokens before they die: the one command, meant for cron.

This is the door: options → settings → wiring → run → print → exit code. What a run does stands in
`runner` and `renewal`; here the clock is read, signals are caught, and errors become exit codes.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import Any, Final, TextIO

import click

from alerts import Ended, Style, send_alerts
from apprise_target import open_targets
from connection import UPGRADE, BadDatabase, DatabaseLost, warning_of
from console import Console
from database import Database
from meta_client import Interrupted, MetaClient
from models import ChannelId
from notify import Slack, Target
from redact import RedactingFormatter, RedactingJsonFormatter
from renewal import Outcome, Policy, Reason, Renewed, Renewer, Skipped
from report import counts, label, preview_summary, summary, timestamp
from runner import Ledger, Run, Scope, Stop, Stopped, Tally, WrongKeys, preview
from settings import MAX_WORKERS, BadSettings, Settings, read_environment
from words import EN, Words

VERSION: Final = "0.1.0"
CONFIGURATION: Final = "configuration"
MANY: Final = 100  # channels that --force does not touch without being asked twice
logger = logging.getLogger("refresh_tokens")


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


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    dry_run: bool
    force: bool
    audit: bool
    yes: bool
    channel: tuple[str, ...]
    limit: int | None
    workers: int | None
    as_json: bool
    env_file: Path | None
    verbose: bool
    quiet: bool
    log_format: str


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--dry-run", is_flag=True, help="Show what is due and why; write nothing, call nobody.")
@click.option("--force", is_flag=True, help="Renew every selected channel, due or not.")
@click.option(
    "--audit", is_flag=True, help="Ask Meta about every token; renew those that turn out to be due."
)
@click.option("--yes", is_flag=True, help=f"Do not ask before --force renews more than {MANY} channels.")
@click.option("--channel", multiple=True, metavar="ID", help="Only this channel. Repeatable.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="At most N channels, the most urgent first."
)
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    metavar="N",
    help="Channels at once; the variable WORKERS says the same.  [default: 16]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, and nothing else there.")
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Settings; instead of .env beside this script. The real environment wins over either.",
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Log what is done, and show tracebacks of unexpected errors."
)
@click.option("-q", "--quiet", is_flag=True, help="Print failures only.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Logs go to stderr.",
)
@click.version_option(VERSION, prog_name="refresh_tokens.py")
@click.pass_context
def cli(context: click.Context, /, **given: Any) -> None:
    """Renew WhatsApp access tokens before they die.

    Finds the channels whose token is old or ends soon, exchanges each at Meta, proves the new token, and
    stores it encrypted. What cannot be renewed is marked and reported. See README.md for the settings.
    """
    options = Options(**given)
    if options.verbose and options.quiet:
        raise click.UsageError("--verbose and --quiet exclude each other.")
    context.exit(Program(options).run())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # cron's locale may know no “ or →
    try:
        return int(cli.main(args=argv, prog_name="refresh_tokens.py", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return Exit.CONFIGURATION
    except click.Abort:
        return Exit.INTERRUPTED
    finally:
        flush_or_forget(sys.stdout)


class Program:
    """One start of the program, from its options to its exit code."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._started_at = now()
        self._stop = Stop()
        self._signal: int | None = None
        self._console = Console(
            as_json=options.as_json, quiet=options.quiet, dry_run=options.dry_run, now=self._started_at
        )
        self._settings: Settings | None = None
        self._database: Database | None = None
        self._tally = Tally()
        self._has_begun = False
        self._recovered: list[str] = []

    def run(self) -> int:
        """Do what the options ask for. Never raises."""
        set_up_logging(self._options)
        with ExitStack() as stack:
            stack.callback(self._console.close)
            stack.enter_context(caught_signals(self._on_signal))
            return self._finish(*self._attempt(stack))

    def _attempt(self, stack: ExitStack) -> tuple[Stopped | None, int]:
        """Why the work stopped early, if it did, and the exit code so far."""
        try:
            stopped = self._work(stack)
        except BadSettings as error:
            for problem in error.problems:
                logger.error(problem)  # noqa: TRY400 - a traceback says nothing to whoever mistyped a setting
            return Stopped(CONFIGURATION, str(error)), Exit.CONFIGURATION
        except (BadDatabase, WrongKeys, UsageProblem) as error:
            hint = (
                "; check DATABASE_URL" if isinstance(error, BadDatabase) and UPGRADE not in str(error) else ""
            )
            logger.error("%s%s", error, hint)  # noqa: TRY400
            return Stopped(CONFIGURATION, f"{error}{hint}"), Exit.CONFIGURATION
        except DatabaseLost as error:
            stopped = Stopped(Reason.DATABASE_LOST, str(error))
        except Exception as error:
            name = type(error).__name__
            logger.error("unexpected error (%s)", name, exc_info=self._options.verbose)  # noqa: TRY400
            return Stopped("internal_error", name), Exit.STOPPED
        if stopped:
            if self._options.as_json or not self._has_begun:  # else the summary says it
                logger.error(
                    "stopped early: %s: %s; %s",
                    stopped.reason,
                    stopped.detail,
                    EN.advice(stopped.reason),
                )
            return stopped, Exit.STOPPED
        return None, Exit.FAILED if self._tally.failed else Exit.OK

    def _work(self, stack: ExitStack) -> Stopped | None:
        """Wire everything up and run. Gives why the run stopped early, or None."""
        options = self._options
        settings = self._settings = self._read_settings()
        database = self._database = Database(settings.database, settings.table, lease=settings.lease)
        stack.callback(database.close)
        policy = Policy(
            refresh_after=settings.refresh_after,
            refresh_before_expiry=settings.refresh_before_expiry,
            token_lifetime=settings.token_lifetime,
            required_scopes=settings.required_scopes,
            force=options.force,
            audit=options.audit,
        )
        scope = Scope(policy.look(self._started_at, self._ids(database)), options.limit, settings.workers)
        ledger = Ledger(self._begin, self._on_outcome)
        if options.dry_run:
            preview(database, settings.keys, scope, ledger)
            return None
        meta = MetaClient(settings.meta, sleep=self._sleep)
        stack.callback(meta.close)
        run = Run(database, Renewer(meta, policy, now, self._sleep), settings.keys, now, self._stop)
        return run.execute(scope, ledger)

    def _read_settings(self) -> Settings:
        env_file = self._options.env_file or Path(__file__).resolve().parent / ".env"
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
        found = {text: database.find_id(text) for text in self._options.channel}
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
            if not is_meant(question):
                raise UsageProblem(f"{question}; the answer was no")
        if not tally.candidates:
            logger.warning("no channel has an active WhatsApp token: there is nothing to do")
        self._has_begun = True
        if not options.dry_run:
            self._console.begin(tally.due)

    def _on_outcome(self, outcome: Outcome) -> None:
        if isinstance(outcome, Renewed | Skipped) and outcome.recovered:
            self._recovered.append(label(outcome))
        self._console.outcome(outcome)

    def _on_signal(self, number: int) -> None:
        self._signal = number
        self._stop.set()

    def _sleep(self, seconds: float) -> None:
        """Wait, unless the run was told to stop: then nothing goes on."""
        if self._stop.wait(seconds):
            raise Interrupted

    def _doze(self, seconds: float) -> None:
        """Wait, but for no longer than until the run is told to stop."""
        self._stop.wait(seconds)

    def _finish(self, stopped: Stopped | None, code: int) -> int:
        """Tell people, print the end, and give the exit code."""
        self._console.end()
        undelivered = self._alert(stopped)
        if undelivered and code == Exit.OK:
            code = Exit.FAILED
        if self._signal is not None:
            code = 128 + self._signal
        self._console.document(
            {
                "version": VERSION,
                "started_at": timestamp(self._started_at),
                "finished_at": timestamp(now()),
                "dry_run": self._options.dry_run,
                "exit_code": int(code),
                "stopped": {"reason": stopped.reason, "detail": stopped.detail} if stopped else None,
                "counts": counts(self._tally),
            }
        )
        if self._has_begun and (code != Exit.OK or not self._options.quiet):
            for line in self._last_lines(stopped):
                self._console.line(line)
        return int(code)

    def _last_lines(self, stopped: Stopped | None) -> list[str]:
        if self._options.dry_run:
            return ["", preview_summary(self._tally)]
        return ["", *summary(self._tally, self._console.failures, stopped, self._started_at)]

    def _targets(self, settings: Settings) -> list[Target]:
        """Where alerts go."""
        url = settings.slack_webhook_url
        slack = [] if url is None else [Slack(url, sleep=self._doze)]
        return [*slack, *open_targets(settings.notify_urls)]

    def _alert(self, stopped: Stopped | None) -> bool:
        """Send what is to be said. Gives whether anybody did not get it."""
        settings = self._settings
        if settings is None or self._options.dry_run:
            return False
        unwritten = tuple(one for one in self._console.failures if one.reason is Reason.WRITE_FAILED)
        ended = Ended(self._tally, tuple(self._recovered), stopped, unwritten)
        style = Style(Words(settings.alert_language), settings.reconnect_url)
        errors = send_alerts(self._database, self._targets(settings), ended, now(), style)
        for error in errors:
            logger.error("an alert could not be delivered: %s", error)
        return bool(errors)


def now() -> datetime:
    """The one clock of the program."""
    return datetime.now(UTC)


def is_meant(question: str) -> bool:
    """Ask the person at the terminal; no answer is a no."""
    try:
        return click.confirm(f"{question}. Go on?", err=True)
    except click.Abort:
        return False


@contextmanager
def caught_signals(tell: Callable[[int], None]) -> Iterator[None]:
    """SIGINT and SIGTERM are passed on to `tell` instead of ending the process."""

    def handler(number: int, _frame: FrameType | None) -> None:
        tell(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def set_up_logging(options: Options) -> None:
    """Send all logs to stderr, each line redacted."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingJsonFormatter() if options.log_format == "json" else RedactingFormatter())
    level = logging.DEBUG if options.verbose else logging.ERROR if options.quiet else logging.WARNING
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.raiseExceptions = False  # a failed log call would print its arguments as they are
    for chatty in ("sqlalchemy", "urllib3"):  # they would log rows and addresses
        logging.getLogger(chatty).setLevel(logging.WARNING)


def flush_or_forget(stream: TextIO) -> None:
    """Flush a stream; if its reader has gone, Python shall not trip over it and change our exit code."""
    try:
        stream.flush()
    except OSError as error:
        logger.warning("the output could not be written (%s)", error.strerror)
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
