"""What came of a command, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from whatsapp_tokens.database.database import Database
from whatsapp_tokens.monitoring.monitors import Monitors
from whatsapp_tokens.redaction import one_line
from whatsapp_tokens.results import Aborted, Failed, First, Tally
from whatsapp_tokens.settings import Settings


class Level(StrEnum):
    """How good a finding is. A problem keeps runs from working."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a check: what was looked at, how good it is, and what was seen or what to do."""

    subject: str
    level: Level
    text: str

    def line(self, width: int = 0) -> str:
        """Return the line, which begins with its word. The subject takes at least `width` characters."""
        word = self.level.upper() if self.level is Level.PROBLEM else self.level
        return f"{word:<8} {f'{self.subject}:':<{width}} {one_line(self.text)}"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What came of a command, for `finish`.

    `settings` and `database` are None if they could not be read or opened, `tally` is None if no channel was
    looked at. `failures` are the first ones; `unwritten` are those that the table cannot tell of. `overdue`
    counts channels that expire within 7 days and that the application kept locked. `alerts`: people are
    alerted; `undelivered`: a message has not arrived. `monitors`, which only runs have, have heard of the
    start. `document` is what the command adds to the JSON document, whose entries stand under `entries`.
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
    undelivered: bool = False
    document: Mapping[str, Any] = field(default_factory=dict)
    entries: str = "channels"

    @property
    def is_run(self) -> bool:
        """Whether this is a run, or a dry run, that has begun: only these are summed up and reported."""
        return self.monitors is not None and self.tally is not None
