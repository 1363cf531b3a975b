"""`--history`: what happened to one channel. It calls no one, decrypts nothing and changes nothing."""

from __future__ import annotations

import sys
from datetime import datetime
from itertools import islice
from typing import Any, Final

from models import AUDIT_TABLE
from whatsapp_tokens.commands.result import CommandResult
from whatsapp_tokens.commands.wiring import Invocation, aborted_by, open_database, policy_of, read_settings
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import StatementRefused
from whatsapp_tokens.database.history import Snapshot
from whatsapp_tokens.policy import Renewal, next_due
from whatsapp_tokens.renewal.start import CannotRun
from whatsapp_tokens.reports.channel_history import (
    FAILED_STATES,
    Findings,
    audit_fields,
    audit_line,
    channel_fields,
    channel_lines,
)
from whatsapp_tokens.reports.status_lines import View
from whatsapp_tokens.results import State
from whatsapp_tokens.settings import Settings

SHOWN_ON_TERMINAL: Final = 50  # audit rows, unless --limit says otherwise


def history(invocation: Invocation) -> CommandResult:
    """Show one channel and its audit log, newest first."""
    document: dict[str, Any] = {"channels": [], "channel": None, "left_out": 0}
    aborted = settings = None
    try:
        settings = read_settings(invocation.options)
        database = open_database(invocation, settings)
        _History(invocation, settings, database, document).show()
    except Exception as error:  # noqa: BLE001 - also a mistake of ours gets its exit code
        aborted = aborted_by(error)
    return CommandResult(aborted, settings, document=document, entries="audit")


class _History:
    """The channel that the command line names. What is shown goes into `document`, too."""

    def __init__(
        self, invocation: Invocation, settings: Settings, database: Database, document: dict[str, Any]
    ) -> None:
        self._invocation = invocation
        self._settings = settings
        self._database = database
        self._document = document
        self._asked = invocation.options.history or ""

    def show(self) -> None:
        """Show the channel and its audit log. Raise `CannotRun`, or a `DatabaseError`."""
        policy = policy_of(self._settings, self._invocation.options)
        id_ = self._database.queries.find_id(self._asked)
        selection = policy.select(self._invocation.started_at)
        snapshot = None if id_ is None else self._database.history.find(id_, selection)
        if snapshot is None:
            self._show_deleted()
            return
        is_waiting_for_its_day = snapshot.renewal is Renewal.NOT_DUE
        next_due_at = next_due(snapshot.channel, policy) if is_waiting_for_its_day else None
        known_as, log = str(snapshot.channel.id), self._database.history
        since, count, unreadable = None, 0, None
        try:
            since, count = self._since(snapshot), log.count(known_as)
        except StatementRefused as error:
            unreadable = error
        found = Findings(snapshot, since, next_due_at, self._settings.table.type)
        self._document["channel"] = channel_fields(found, self._view())
        for line in channel_lines(found, self._view()):
            self._invocation.console.line(line)
        if unreadable:
            raise CannotRun(_unreadable(unreadable))
        self._show_audit_log(known_as, count)

    def _show_deleted(self) -> None:
        """Show what the audit log has of a channel that is not there any more."""
        log = self._database.history
        unknown = f"--history {self._asked}: there is no channel with this id"
        try:
            counts = {id_: log.count(id_) for id_ in log.written_ids(self._asked)}
        except StatementRefused as error:
            raise CannotRun(f"{unknown}; and {_unreadable(error)}") from None
        if not any(counts.values()):
            raise CannotRun(unknown)
        self._invocation.console.line(f"{self._asked}: the row is gone; the audit log still has its history")
        known_as = max(counts, key=counts.__getitem__)
        self._show_audit_log(known_as, counts[known_as])

    def _show_audit_log(self, id_: str, count: int) -> None:
        options, console = self._invocation.options, self._invocation.console
        limit = options.limit
        if limit is None and not options.as_json and sys.stdout is not None and sys.stdout.isatty():
            limit = SHOWN_ON_TERMINAL
        console.line("")
        console.line("Audit log, newest first:" if count else "The audit log has nothing about this channel.")
        self._document["left_out"] = count
        for shown, row in enumerate(islice(self._database.history.audit_rows(id_), limit), start=1):
            console.entry(audit_fields(row), foreign=("event", "message", "reason"))
            console.line(audit_line(row))
            self._document["left_out"] = max(count - shown, 0)
            if console.error:  # whoever reads has seen enough
                return
        if left_out := self._document["left_out"]:
            console.line(f"… and {left_out} older: --limit {count} shows all of them")

    def _since(self, snapshot: Snapshot) -> datetime | None:
        """Return since when the channel has failed as it does now; None if it has not, or is unknown."""
        channel = snapshot.channel
        if channel.state is State.ENDED:
            return channel.expires_at
        if channel.state in FAILED_STATES and channel.reason:
            return self._database.history.failing_since(str(channel.id), channel.reason)
        return None

    def _view(self) -> View:
        settings = self._settings
        return View(
            now=self._invocation.started_at,
            window=settings.refresh_before_expiry,
            lifetime=settings.token_lifetime,
            reconnect_url=settings.reconnect_url,
        )


def _unreadable(error: StatementRefused) -> str:
    return f"the audit log cannot be read: {error}; the role needs SELECT on {AUDIT_TABLE}"
