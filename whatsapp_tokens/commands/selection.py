"""Which channels the command line asks for, and what is said of those that are not there."""

from __future__ import annotations

import logging
from dataclasses import replace

from whatsapp_tokens.commands.no_channels import why_no_channels
from whatsapp_tokens.commands.options import Options
from whatsapp_tokens.commands.result import Level
from whatsapp_tokens.commands.wiring import Invocation, policy_of, settings_logger
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.policy import Selection
from whatsapp_tokens.redaction import one_line
from whatsapp_tokens.renewal.start import CannotRun, Scope
from whatsapp_tokens.results import ChannelId, Tally
from whatsapp_tokens.settings import Settings

logger = logging.getLogger(__name__)


def scope_of(invocation: Invocation, settings: Settings, database: Database) -> Scope:
    """Return which channels the run is about. Raise `CannotRun` if an id is unknown."""
    options = invocation.options
    selection = policy_of(settings, options).select(invocation.started_at, _ids(database, options))
    has_targets = bool(settings.slack_webhook_url or settings.notify_urls)
    return Scope(selection, options.limit, settings.workers, alerts=has_targets)


def warn_of_missing(database: Database, selection: Selection, tally: Tally, type_: str) -> None:
    """Warn if channels that were asked for cannot be renewed, and say why, or if there are none at all.

    Raise `CannotRun` if there are none because of a setting or a policy. `type_` is CHANNEL_TYPE.
    """
    ids = selection.ids
    if ids is None and not tally.candidates:
        finding = why_no_channels(database, type_)
        if finding.level is Level.PROBLEM:
            raise CannotRun(finding.text)
        (settings_logger if finding.level is Level.WARNING else logger).warning(finding.text)
    elif ids and tally.candidates < len(ids):
        reasons = [f"{id_} {why}" for id_ in ids if (why := _why_not(database, selection, id_))]
        words = one_line("; ".join(reasons))
        logger.warning("%d of the channels asked for cannot be renewed: %s", len(reasons), words)


def _why_not(database: Database, selection: Selection, id_: ChannelId) -> str | None:
    """Return why a row is no candidate, or None if it is one."""
    if database.queries.count(replace(selection, ids=(id_,))).candidates:
        return None
    channel = database.queries.get(id_)
    if channel is None:
        return "is of another type than CHANNEL_TYPE"
    return "is inactive" if channel.ciphertext else "has no token"


def _ids(database: Database, options: Options) -> tuple[ChannelId, ...] | None:
    """Return the ids asked for as they are in the table; None means all channels."""
    if not options.channel:
        return None
    found = {text: database.queries.find_id(text) for text in options.channel}
    if unknown := [text for text, id_ in found.items() if id_ is None]:
        raise CannotRun(f"--channel {', '.join(unknown)}: there is no channel with this id")
    return tuple(dict.fromkeys(id_ for id_ in found.values() if id_ is not None))
