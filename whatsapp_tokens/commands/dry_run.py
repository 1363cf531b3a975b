"""A dry run: show what a run would do, and why. It writes nothing, and calls and alerts no one."""

from __future__ import annotations

import os

from whatsapp_tokens.commands.record import Record, recorded
from whatsapp_tokens.commands.result import CommandResult
from whatsapp_tokens.commands.selection import scope_of, warn_of_missing
from whatsapp_tokens.commands.wiring import Invocation
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.monitoring.monitors import Monitors
from whatsapp_tokens.renewal.start import RunCallbacks, preview
from whatsapp_tokens.results import Tally
from whatsapp_tokens.settings import Settings


def dry_run(invocation: Invocation) -> CommandResult:
    """Show the due channels."""
    return recorded(invocation, _preview, Monitors(os.environ))


def _preview(invocation: Invocation, settings: Settings, database: Database, record: Record) -> None:
    scope = scope_of(invocation, settings, database)

    def begin(tally: Tally) -> None:
        warn_of_missing(database, scope.selection, tally, settings.table.type)
        record.begin(tally)

    preview(database, settings.keys, scope, RunCallbacks(begin, record.outcome))
