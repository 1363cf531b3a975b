"""Who has to be told of what: read from the table, claimed, sent, and only then marked as told.

Nothing is remembered from the run itself, so killed, parallel and undelivered runs come out right.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from datetime import datetime
from itertools import islice
from typing import Final

from models import Channel
from notify import Message, Target, broadcast, pages
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import DatabaseError
from whatsapp_tokens.delivery import DeliveryError
from whatsapp_tokens.policy import STEPS, is_news, is_rejected, is_well_again
from whatsapp_tokens.reports.alert_message import Alert, Ended, Situation, Style, compose

MOST_AT_ONCE: Final = 10_000  # the next run tells of the rest; SQLite takes no more than 32766 in a list

logger = logging.getLogger(__name__)


def send_alerts(
    database: Database | None,
    targets: Sequence[Target],
    ended: Ended,
    now: datetime,
    style: Style,
) -> list[DeliveryError]:
    """Send what there is to say, in one message or as many as it needs. Return the errors of the targets.

    `database` is None if there is none to read from any more. What no target took is not marked as told, so
    the next run tells it again.
    """
    if not targets:
        return []
    news = _claim_news(database, now)
    if not (news or ended.stopped or ended.unwritten):
        return []
    recovered = [one for one in news if is_well_again(one)]
    attention = [one for one in news if not is_well_again(one)]
    situation = Situation(attention, recovered, ended, now, _rejected_since(database, attention))
    return _send(database, targets, compose(situation, style), now)


def _rejected_since(database: Database | None, attention: Sequence[Channel]) -> Mapping[str, datetime]:
    """Return since when Meta is known to reject tokens; empty if the database cannot be asked."""
    if database is None:
        return {}
    try:
        return database.queries.down_since([one for one in attention if is_rejected(one)])
    except DatabaseError:
        return {}


def forget_recoveries(database: Database, now: datetime) -> None:
    """Mark recoveries as told where people were told of the failures, and no alert target is set any more."""
    _note(database, _claim_news(database, now, is_well_again), now, was_told=True)


def _claim_news(
    database: Database | None, now: datetime, which: Callable[[Channel], bool] | None = None
) -> list[Channel]:
    """Claim what there is to say, or only what `which` holds for. Nothing if the database cannot be asked."""
    if database is None:
        return []
    try:
        reminders = {} if which else database.queries.to_remind_of(now)
        which = which or (lambda one: is_news(one, now, reminders))
        asked = database.queries.to_tell_of(now + max(STEPS), reminders)
        ids = list(islice((one.id for one in asked if which(one)), MOST_AT_ONCE))
        claimed = database.claims.claim_to_alert(ids) if ids else []
        # Since they were read, another run may have told of some and released them.
        database.claims.release([one.id for one in claimed if not which(one)])
    except DatabaseError as error:
        logger.warning("the channels that need attention could not be looked up: %s", error)
        return []
    return [one for one in claimed if which(one)]


def _send(
    database: Database | None, targets: Sequence[Target], alert: Alert, now: datetime
) -> list[DeliveryError]:
    """Send an alert page by page, and mark the channels of each page that a target took.

    A target that does not take a page is not sent the next ones.
    """
    errors: list[DeliveryError] = []
    named = iter(alert.named)
    parts = pages(alert.message, targets)
    for page in parts:
        told = [one for one in islice(named, len(page.cards) + len(page.lines)) if one]
        told += alert.enumerated if page is parts[0] else ()
        told += alert.counted if page is parts[-1] else ()
        taken = _delivered(database, targets, page, errors)
        targets = taken
        if database:
            _note(database, told, now, was_told=bool(taken))
    return errors


def _delivered(
    database: Database | None, targets: Sequence[Target], page: Message, errors: list[DeliveryError]
) -> list[Target]:
    """Deliver a page, and return the targets that took it; `errors` gets those of the others.

    Meanwhile the claims are extended: a target may be slow, or ask for minutes of patience.
    """

    def deliver() -> list[Target]:
        taken = []
        for target in targets:
            failures = broadcast([target], page)
            errors.extend(failures)
            taken += [] if failures else [target]
        return taken

    if database is None:
        return deliver()
    with ThreadPoolExecutor(max_workers=1) as pool:
        try:
            future = pool.submit(deliver)
        except RuntimeError:  # this machine has no thread to spare
            return deliver()
        while wait([future], timeout=database.claims.lease / 3).not_done:
            with suppress(DatabaseError):
                database.claims.extend()
    return future.result()


def _note(database: Database, channels: Sequence[Channel], now: datetime, *, was_told: bool) -> None:
    """Mark channels as told of, or only release them, so that the next run tells."""
    try:
        if was_told:
            database.claims.mark_alerted([one.id for one in channels if not is_well_again(one)], now)
            database.claims.mark_alerted([one.id for one in channels if is_well_again(one)], None)
        else:
            database.claims.release([one.id for one in channels])
    except DatabaseError as error:
        # The claims run out, and the next run tells again: better twice than never.
        logger.warning("what people were told of could not be noted: %s", error)
