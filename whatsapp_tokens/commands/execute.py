"""Choose the command that the options ask for, and finish it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime

from whatsapp_tokens.commands.check import check
from whatsapp_tokens.commands.dry_run import dry_run
from whatsapp_tokens.commands.finish import finish, guarded
from whatsapp_tokens.commands.history import history
from whatsapp_tokens.commands.options import Options
from whatsapp_tokens.commands.result import CommandResult
from whatsapp_tokens.commands.run import run
from whatsapp_tokens.commands.set_token import set_token
from whatsapp_tokens.commands.trial_alert import trial_alert
from whatsapp_tokens.commands.wiring import Invocation
from whatsapp_tokens.reports.console import Console
from whatsapp_tokens.signals import Stop, caught_signals


def execute(options: Options, version: str, clock: Callable[[], datetime]) -> int:
    """Do what the options ask for, and return the exit code."""
    started_at, stop, signalled, resources = clock(), Stop(), Stop(), ExitStack()
    with caught_signals(signalled, stop):
        console = Console(
            as_json=options.as_json, quiet=options.quiet, dry_run=options.dry_run, now=started_at
        )
        resources.callback(console.close)
        invocation = Invocation(options, clock, started_at, stop, signalled, console, resources)
        code = finish(invocation, _command(options)(invocation), version)
        guarded(resources.close, None)
    return code


def _command(options: Options) -> Callable[[Invocation], CommandResult]:
    if options.check:
        return check
    if options.set_token:
        return set_token
    if options.history:
        return history
    if options.test_alert:
        return trial_alert
    return dry_run if options.dry_run else run
