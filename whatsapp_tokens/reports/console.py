"""What a run shows while it works: lines, a progress bar on a terminal, or one JSON document.

Nothing that happens to an output stream (a closed pipe, a full disk) may disturb a run, so errors in
writing are remembered and not raised. Every line is redacted once more before it goes out.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import IO, Any, Final

import click

from whatsapp_tokens.redaction import redact
from whatsapp_tokens.reports.text import SHOWN_IN_SUMMARY, TABLE_HEAD, entry, outcome_line, table_row
from whatsapp_tokens.results import Failed, Outcome, Reason, Skipped

COLOURS: Final = {
    "renewed": "green",
    "ok": "green",
    "stored": "green",
    "PROBLEM": "red",
    "failed": "red",
    "waiting": "yellow",
}
KEPT_IN_MEMORY: Final = 1024 * 1024  # bytes of the document; a larger one needs a place for temporary files
ERASE_LINE: Final = "\r\033[K"
SHOW_CURSOR: Final = "\033[?25h"  # click's progress bar hides it


class Console:
    """Where outcomes go. With `as_json` they are kept in a file, so that memory does not grow with them.

    Colours only on a terminal, and not with NO_COLOR: https://no-color.org.
    """

    def __init__(self, *, as_json: bool, quiet: bool, dry_run: bool, now: datetime) -> None:
        self._as_json = as_json
        self._quiet = quiet
        self._dry_run = dry_run
        self._now = now
        self._has_head = False
        self._bar: Any = None
        self._spool: IO[str] | None = None
        if as_json:
            self._spool = tempfile.SpooledTemporaryFile(KEPT_IN_MEMORY, "w+", encoding="utf-8")  # noqa: SIM115 - closed in close()
        self._kept = 0
        self._colours = {} if os.environ.get("NO_COLOR") else COLOURS
        self._is_github = is_github(os.environ)
        self.failures: list[Failed] = []
        self.error: OSError | None = None  # what kept the output from being written

    @property
    def is_broken(self) -> bool:
        """Whether something could not be written."""
        return self.error is not None

    def close(self) -> None:
        """Let go of the temporary file."""
        if self._spool:
            with suppress(OSError):
                self._spool.close()

    def begin(self, due: int) -> None:
        """Show a progress bar, if somebody is looking."""
        if not due or self._as_json or self._quiet or self._dry_run:
            return
        if sys.stderr is not None and sys.stderr.isatty():  # None: the file descriptor is closed
            self._bar = click.progressbar(length=due, label="Renewing", file=sys.stderr, show_pos=True)
            with suppress(OSError):
                self._bar.render_progress()

    def end(self) -> None:
        """Take the progress bar away."""
        if self._bar:
            with suppress(OSError):
                click.echo(ERASE_LINE + SHOW_CURSOR, file=sys.stderr, nl=False)
            self._bar = None

    def outcome(self, outcome: Outcome) -> None:
        """Show one outcome, or keep it for the document."""
        if isinstance(outcome, Failed) and len(self.failures) < SHOWN_IN_SUMMARY:
            self.failures.append(outcome)
        if self._spool:
            self._keep(self._spool, entry(outcome))
        elif self._quiet and not isinstance(outcome, Failed):
            pass
        elif self._dry_run:
            if not self._has_head:
                self._has_head = True
                self.line(TABLE_HEAD)
            self.line(table_row(outcome, self._now))
        else:
            is_waiting = isinstance(outcome, Skipped) and outcome.reason is Reason.WAITING_FOR_RECONNECT
            self._above_bar(outcome_line(outcome, self._now), steps=0 if is_waiting else 1)

    def line(self, text: str) -> None:
        """Print a line on stdout; not where a JSON document belongs there."""
        if self._as_json or self.error:
            return
        colour = self._colours.get(text.partition(" ")[0])
        clean = harmless(redact(text)) if self._is_github else redact(text)
        self._write((click.style(clean, fg=colour) if colour else clean) + "\n")

    def document(self, head: Mapping[str, Any]) -> None:
        """Print the JSON document: `head`, and the outcomes as `channels`."""
        if self._spool is None:
            return
        try:
            self._spool.seek(0)
            self._write(self._json(_clean(head))[:-1] + ', "channels": [')
            for kept in self._spool:
                self._write(kept.rstrip("\n"))
        except OSError as error:
            self.error = error
        self._write("]}\n")

    def _keep(self, spool: IO[str], fields: dict[str, Any]) -> None:
        clean = fields | {name: _clean(fields[name]) for name in ("name", "detail")}
        try:
            spool.write((", " if self._kept else "") + self._json(clean) + "\n")
        except OSError as error:
            self.error = error  # better no document than one that lacks channels
        self._kept += 1

    def _json(self, value: Mapping[str, Any]) -> str:
        text = json.dumps(value)
        return harmless_json(text) if self._is_github else text

    def _above_bar(self, text: str, *, steps: int) -> None:
        if self._bar:
            with suppress(OSError):
                click.echo(ERASE_LINE, file=sys.stderr, nl=False)
        self.line(text)
        if self._bar:
            with suppress(OSError):
                self._bar.update(steps)

    def _write(self, text: str) -> None:
        if self.error:
            return
        try:
            click.echo(text, nl=False)
        except OSError as error:
            self.error = error


def _clean(value: Any) -> Any:
    """A JSON value with its texts redacted."""
    match value:
        case str():
            return redact(value)
        case Mapping():
            return {name: _clean(inner) for name, inner in value.items()}
        case _:
            return value


def is_github(environment: Mapping[str, str]) -> bool:
    """Whether a runner of GitHub's reads what is printed."""
    return environment.get("GITHUB_ACTIONS") == "true"


def harmless(line: str) -> str:
    """A line of output that is no command, whatever channel names are in it.

    A command begins its line (`::error::`), or stands anywhere in it in the old form (`##[error]`).
    """
    return re.sub(r"^(\s*):(?=:)", r"\1: ", line).replace("##[", "## [")


def harmless_json(document: str) -> str:
    """The same JSON, written without the old form of a command: only the texts in it can hold one."""
    return document.replace("##[", r"#\u0023[")
