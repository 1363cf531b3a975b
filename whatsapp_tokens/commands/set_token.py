"""`--set-token`: read a token that was obtained by hand, and store it."""

from __future__ import annotations

import getpass
import sys
from dataclasses import replace
from typing import Final

from models import Channel
from whatsapp_tokens.commands.record import Record, recorded
from whatsapp_tokens.commands.result import CommandResult
from whatsapp_tokens.commands.token_store import Slot, Store
from whatsapp_tokens.commands.wiring import (
    Invocation,
    interruptible,
    open_renewer,
    policy_of,
    require_permissions,
)
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.meta.errors import AppRejected, RateLimited
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.renewal.start import CannotRun
from whatsapp_tokens.results import Aborted, AbortReason, Tally
from whatsapp_tokens.settings import Settings
from whatsapp_tokens.token_text import why_no_token

LONGEST_TOKEN: Final = 16 * 1024  # characters; Meta names no limit, and a file piped in by mistake is longer


def set_token(invocation: Invocation) -> CommandResult:
    """Store the one token that comes in. People are told only if the channel has recovered."""
    result = recorded(invocation, _set_token)
    return replace(result, alerts=result.recovered)


def _set_token(
    invocation: Invocation, settings: Settings, database: Database, record: Record
) -> Aborted | None:
    """Store the token. Return why Meta could not be asked about it, or None."""
    options = invocation.options
    require_permissions(database)
    slot = find_slot(database, options.set_token or "", options.name)
    policy = policy_of(settings, options)
    try:
        with interruptible(invocation):
            token = read_token()
        renewer = open_renewer(invocation, settings, policy)
        tally = Tally(candidates=1, due=1)
        record.begin(tally)
        store = Store(
            database,
            renewer,
            settings.keys,
            policy,
            invocation.clock,
            invocation.signalled.is_set,
            anyway=options.yes,
        )
        outcome = store.store(slot, token)
    except (AppRejected, RateLimited) as error:
        reason = AbortReason.RATE_LIMITED if isinstance(error, RateLimited) else AbortReason.APP_REJECTED
        return Aborted(reason, f"{error}; nothing was stored")
    tally.add(outcome)
    record.outcome(outcome)
    return None


def read_token() -> Secret:
    """Read the token from stdin, or from a prompt that does not show it. Raise `CannotRun`."""
    if sys.stdin is None:
        raise CannotRun("there is no stdin to read the token from")
    if sys.stdin.isatty():
        try:
            text = getpass.getpass("Token (it is not shown): ")
        except EOFError:  # ^D
            raise CannotRun("nothing was entered") from None
    else:
        text = sys.stdin.buffer.read(LONGEST_TOKEN + 1).decode(errors="replace")
    token = Secret(text.strip())
    if not token:
        raise CannotRun("no token came in; pipe it in, or run this on a terminal and paste it")
    if len(text) > LONGEST_TOKEN:
        raise CannotRun("what came in is no token: it has more than 16384 characters")
    if why := why_no_token(token.reveal()):
        raise CannotRun(f"what came in is no token: {why}")
    return token


def find_slot(database: Database, id_: str, name: str | None) -> Slot:
    """Return the channel with the id that a user wrote, or the one to create. Raise `CannotRun`."""
    found = database.queries.find_id(id_)
    if found is None:
        if name is None:
            raise CannotRun(f"there is no channel with the id {id_}; to create it, add --name NAME")
        new = database.queries.new_id(id_)
        if new is None:
            raise CannotRun(f"the ids of this table are whole numbers, and {id_} is none")
        return Slot(Channel(new, name, ""), is_new=True)
    channel = database.queries.get(found)
    if channel is None:
        raise CannotRun(f"the row with the id {id_} is no WhatsApp channel (see CHANNEL_TYPE)")
    return Slot(channel, is_new=False)
