"""A dry run: show what a run would do, and why. It writes nothing, and calls and alerts no one."""

from __future__ import annotations

import os
from itertools import islice

from crypto import KeyRing, Undecryptable
from models import Channel
from whatsapp_tokens.commands.record import Record, recorded
from whatsapp_tokens.commands.result import CommandResult
from whatsapp_tokens.commands.selection import scope_of, warn_of_missing
from whatsapp_tokens.commands.wiring import Invocation
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.monitoring.monitors import Monitors
from whatsapp_tokens.renewal.outcomes import about, failed
from whatsapp_tokens.renewal.start import RunCallbacks, Scope, open_run
from whatsapp_tokens.results import Due, DueReason, Failed, Reason, Tally
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


def preview(database: Database, keys: KeyRing, scope: Scope, callbacks: RunCallbacks) -> Tally:
    """Report every due channel and why it is due; those that no key decrypts have failed.

    Raise `WrongKeys`, or a `DatabaseError`.
    """
    counts, tally = open_run(database, keys, scope, callbacks)
    for channel in islice(database.queries.due(scope.selection, counts), scope.limit):
        outcome = _foresee(channel, keys)
        tally.add(outcome)
        callbacks.outcome(outcome)
    tally.left = max(tally.due - scope.limit, 0) if scope.limit else 0
    return tally


def _foresee(channel: Channel, keys: KeyRing) -> Due | Failed:
    try:
        keys.decrypt(channel.ciphertext)
    except Undecryptable as error:
        return failed(channel, Reason.UNDECRYPTABLE, str(error), channel.expires_at)
    return Due(**about(channel, channel.expires_at), why=channel.due_reason or DueReason.ASKED_FOR)
