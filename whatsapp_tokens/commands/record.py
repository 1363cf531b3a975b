"""Commands that work on channels: outcomes are shown as they come, and recorded for `finish`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from whatsapp_tokens.commands.result import CommandResult
from whatsapp_tokens.commands.wiring import Invocation, aborted_by, open_database, read_settings
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.monitoring.monitors import Monitors
from whatsapp_tokens.reports.console import Console
from whatsapp_tokens.results import Aborted, Failed, First, Outcome, Reason, Renewed, Skipped, Tally
from whatsapp_tokens.settings import Settings

SOON: Final = timedelta(days=7)


class Record:
    """What a command has reported so far. It shows each outcome, and keeps what `finish` needs."""

    def __init__(self, console: Console, now: datetime) -> None:
        self._console = console
        self._soon = now + SOON
        self.tally: Tally | None = None
        self.unwritten: First[Failed] = First()
        self.recovered = False
        self.overdue = 0  # channels left locked although they expire soon

    def begin(self, tally: Tally) -> None:
        """Note that work begins; `tally` goes on counting."""
        self.tally = tally

    def outcome(self, outcome: Outcome) -> None:
        """Show what came of one channel."""
        match outcome:
            case Failed(reason=Reason.WRITE_FAILED):
                self.unwritten.add(outcome)
            case Renewed(recovered=True) | Skipped(recovered=True):
                self.recovered = True
            case Skipped(is_locked=True, expires_at=datetime() as expires_at) if expires_at <= self._soon:
                self.overdue += 1
            case _:
                pass
        self._console.outcome(outcome)


def recorded(
    invocation: Invocation,
    work: Callable[[Invocation, Settings, Database, Record], Aborted | None],
    monitors: Monitors | None = None,
) -> CommandResult:
    """Read the settings, open the database and do `work`, which returns why it stopped early, or None."""
    settings = database = None
    record = Record(invocation.console, invocation.started_at)
    try:
        settings = read_settings(invocation.options)
        if monitors:
            monitors.begin(settings, invocation.signalled.sleep, is_dry=invocation.options.dry_run)
        database = open_database(invocation, settings)
        aborted = work(invocation, settings, database, record)
    except Exception as error:  # noqa: BLE001 - also a mistake of ours must not keep people from being told
        aborted = aborted_by(error)
    return CommandResult(
        aborted,
        settings,
        database,
        monitors,
        record.tally,
        tuple(invocation.console.failures),
        record.unwritten,
        recovered=record.recovered,
        overdue=record.overdue,
    )
