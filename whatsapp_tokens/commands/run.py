"""A real run: renew what is due."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import click

from whatsapp_tokens.commands.options import MANY
from whatsapp_tokens.commands.record import Record, recorded
from whatsapp_tokens.commands.result import CommandResult
from whatsapp_tokens.commands.selection import scope_of, warn_of_missing
from whatsapp_tokens.commands.wiring import (
    Invocation,
    interruptible,
    misconfigured,
    open_renewer,
    policy_of,
    require_permissions,
)
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.monitoring.monitors import Monitors
from whatsapp_tokens.renewal.run import Run
from whatsapp_tokens.renewal.start import CannotRun, RunCallbacks
from whatsapp_tokens.results import Aborted, Tally
from whatsapp_tokens.settings import Settings


class _AnswerWasNo(Exception):
    """The person at the terminal does not want the run."""


class Declined(Aborted):
    """A run that a person at the terminal did not want: alerting people would tell them nothing new."""


def run(invocation: Invocation) -> CommandResult:
    """Renew the due channels."""
    result = recorded(invocation, _renew, Monitors(os.environ))
    return replace(result, alerts=not isinstance(result.aborted, Declined))


def _renew(invocation: Invocation, settings: Settings, database: Database, record: Record) -> Aborted | None:
    """Run. Return why it stopped early, or None."""
    options = invocation.options
    require_permissions(database)
    scope = scope_of(invocation, settings, database)

    def begin(tally: Tally) -> None:
        warn_of_missing(database, scope.selection, tally, settings.table.type)
        count = min(tally.candidates, options.limit or tally.candidates)
        if options.force and not options.yes and count > MANY:
            every = "all " if count == tally.candidates else ""
            _confirm(f"--force renews {every}{count} channels", invocation)
        record.begin(tally)
        invocation.console.begin(tally.due)

    renewer = open_renewer(invocation, settings, policy_of(settings, options))
    try:
        run_ = Run(database, renewer, settings.keys, invocation.clock, invocation.stop)
        return run_.execute(scope, RunCallbacks(begin, record.outcome))
    except _AnswerWasNo as no:
        declined = misconfigured(str(no))
        return Declined(declined.reason, declined.detail)


def _confirm(question: str, invocation: Invocation) -> None:
    """Ask the person at the terminal, and raise unless the answer is yes. No answer is a no."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise CannotRun(f"{question}; add --yes if that is meant")
    try:
        with interruptible(invocation):
            meant = click.confirm(f"{question}. Go on?", err=True)
    except click.Abort:
        meant = False
    if not meant:
        raise _AnswerWasNo(f"{question}; the answer was no")
