"""What a run shows while it works: lines, a progress bar on a terminal, or one JSON document.

An output stream that fails (a closed pipe, a full disk) does not disturb a run: the error is remembered and
not raised. Every line is redacted once more before it goes out.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TextIO

import click

from whatsapp_tokens.redaction import redact
from whatsapp_tokens.reports.json_document import JsonDocument, entry
from whatsapp_tokens.reports.text import SHOWN_IN_SUMMARY, TABLE_HEAD, outcome_line, table_row
from whatsapp_tokens.results import Failed, Outcome, Reason, Skipped

COLOURS: Final = {
    "renewed": "green",
    "ok": "green",
    "stored": "green",
    "PROBLEM": "red",
    "warning": "yellow",
    "failed": "red",
    "waiting": "yellow",
}
ERASE_LINE: Final = "\r\033[K"
SHOW_CURSOR: Final = "\033[?25h"  # click's progress bar hides it


class Console:
    """Where outcomes go: with `as_json` into a document, else on stdout.

    Colours only on a terminal, and not with NO_COLOR: https://no-color.org.
    """

    def __init__(self, *, as_json: bool, quiet: bool, dry_run: bool, now: datetime) -> None:
        self._document = JsonDocument() if as_json else None
        self._quiet = quiet
        self._dry_run = dry_run
        self._now = now
        self._has_head = False
        self._bar: Any = None
        self._colours = {} if os.environ.get("NO_COLOR") else COLOURS
        self._is_github = is_github(os.environ)
        self.failures: list[Failed] = []
        self.error: OSError | None = None  # what kept the output from being written

    @property
    def is_broken(self) -> bool:
        """Whether something could not be written."""
        return self.error is not None

    @property
    def is_terminal(self) -> bool:
        """Whether a person sees stdout."""
        return _is_terminal(sys.stdout)

    def close(self) -> None:
        """Let go of the document's temporary file."""
        if self._document:
            self._document.close()

    def begin(self, due: int) -> None:
        """Show a progress bar if stderr is a terminal."""
        if not due or self._document or self._quiet or self._dry_run:
            return
        if _is_terminal(sys.stderr):
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
        if self._document:
            self.entry(entry(outcome))
        elif self._quiet and not (isinstance(outcome, Failed) and outcome.is_news):
            pass
        elif self._dry_run:
            if not self._has_head:
                self._has_head = True
                self.line(TABLE_HEAD)
            self.line(table_row(outcome, self._now, fits=self.is_terminal))
        else:
            is_waiting = isinstance(outcome, Skipped) and outcome.reason is Reason.WAITING_FOR_RECONNECT
            self._above_bar(outcome_line(outcome, self._now), steps=0 if is_waiting else 1)

    def entry(self, fields: Mapping[str, Any], **how: Collection[str]) -> None:
        """Keep an entry for the document: see `JsonDocument.add`."""
        if self._document:
            try:
                self._document.add(fields, **how)
            except OSError as error:
                self.error = error

    def line(self, text: str) -> None:
        """Print a line on stdout, unless a JSON document belongs there."""
        if self._document:
            return
        colour = self._colours.get(text.partition(" ")[0])
        clean = harmless(redact(text)) if self._is_github else redact(text)
        self._write((click.style(clean, fg=colour) if colour else clean) + "\n")

    def document(self, head: Mapping[str, Any], entries: str = "channels") -> None:
        """Print the JSON document: `head`, and the entries under the name `entries`."""
        if self._document is None or self.is_broken:
            return
        try:
            for piece in self._document.pieces(head, entries):
                self._write(harmless_json(piece) if self._is_github else piece)
        except OSError as error:
            self.error = error

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


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sees it. None: its file descriptor is closed."""
    return stream is not None and stream.isatty()


def is_github(environment: Mapping[str, str]) -> bool:
    """Whether a runner of GitHub Actions reads what is printed."""
    return environment.get("GITHUB_ACTIONS") == "true"


def harmless(line: str) -> str:
    """Return a line of output that is no workflow command, even if channel names in it look like one.

    A command begins its line (`::error::`), or stands anywhere in it in the old form (`##[error]`).
    """
    return re.sub(r"^(\s*):(?=:)", r"\1: ", line).replace("##[", "## [")


def harmless_json(document: str) -> str:
    """Return the same JSON, written without the old form of a command: only its texts can hold one."""
    return document.replace("##[", r"#\u0023[")
