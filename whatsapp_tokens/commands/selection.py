"""Which channels the command line asks for, and what is said of those that are not there."""

from __future__ import annotations

import logging

from whatsapp_tokens.commands.options import Options
from whatsapp_tokens.commands.wiring import Invocation, NotPossible, policy_of
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.renewal.start import Scope
from whatsapp_tokens.results import ChannelId, Tally
from whatsapp_tokens.settings import Settings

logger = logging.getLogger(__name__)


def scope_of(invocation: Invocation, settings: Settings, database: Database) -> Scope:
    """Return which channels the run is about. Raise `NotPossible` if an id is unknown."""
    options = invocation.options
    selection = policy_of(settings, options).select(invocation.started_at, _ids(database, options))
    return Scope(selection, options.limit, settings.workers)


def warn_of_missing(options: Options, tally: Tally) -> None:
    """Warn if channels that were asked for cannot be renewed, or if there are none at all."""
    missing = len(set(options.channel)) - tally.candidates
    if not tally.candidates:
        logger.warning("no channel has an active WhatsApp token: there is nothing to do")
    elif missing > 0:
        logger.warning("%d of the channels asked for cannot be renewed: no active WhatsApp token", missing)


def _ids(database: Database, options: Options) -> tuple[ChannelId, ...] | None:
    """Return the ids asked for as they are in the table; None means all channels."""
    if not options.channel:
        return None
    found = {text: database.queries.find_id(text) for text in options.channel}
    if unknown := [text for text, id_ in found.items() if id_ is None]:
        raise NotPossible(f"--channel {', '.join(unknown)}: there is no channel with this id")
    return tuple(id_ for id_ in found.values() if id_ is not None)
