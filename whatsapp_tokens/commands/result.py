"""What came of a command, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from whatsapp_tokens.database.database import Database
from whatsapp_tokens.monitoring.monitors import Monitors
from whatsapp_tokens.results import Aborted, Failed, Finding, First, Tally
from whatsapp_tokens.settings import Settings


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What came of a command, for `finish`.

    `settings` and `database` are None if they could not be read or opened, `tally` is None if no channel was
    looked at. `failures` are the first ones; `unwritten` are those that the table cannot tell of. `overdue`
    counts channels that expire within 7 days and that the application kept locked. `alerts`:
    people are alerted. `monitors`, which only runs have, have heard of the start.
    """

    aborted: Aborted | None = None
    settings: Settings | None = None
    database: Database | None = None
    monitors: Monitors | None = None
    tally: Tally | None = None
    failures: tuple[Failed, ...] = ()
    unwritten: First[Failed] = field(default_factory=First)
    recovered: bool = False
    overdue: int = 0
    findings: tuple[Finding, ...] = ()
    alerts: bool = False

    @property
    def is_run(self) -> bool:
        """Whether this is a run, or a dry run, that has begun: only these are summed up and reported."""
        return self.monitors is not None and self.tally is not None
