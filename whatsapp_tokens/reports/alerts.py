"""Who has to be told of what: read from the table, claimed, sent, and only then marked as sent.

Because nothing is remembered from the run itself, killed, parallel and undelivered runs come out right.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Final

from models import Channel
from notify import DeliveryError, Target, broadcast
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import DatabaseError
from whatsapp_tokens.policy import STEPS, is_news, is_well_again
from whatsapp_tokens.reports.alert_message import First, Situation, compose
from whatsapp_tokens.reports.labels import label
from whatsapp_tokens.reports.language import ENGLISH, Language
from whatsapp_tokens.results import Aborted, Failed, Tally

MOST_AT_ONCE: Final = 10_000  # the next run tells of the rest; SQLite takes no more than 32766 in a list

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, as far as it matters for an alert."""

    tally: Tally
    stopped: Aborted | None = None
    unwritten: First[Failed] = field(default_factory=First)  # of these the table cannot tell


@dataclass(frozen=True, slots=True)
class Style:
    """How people are told: the language, and the link to reconnect (`{channel_id}` is replaced)."""

    language: Language = ENGLISH
    reconnect_url: str | None = None


def send_alerts(
    database: Database | None,
    targets: Sequence[Target],
    ended: Ended,
    now: datetime,
    style: Style,
) -> list[DeliveryError]:
    """Send one message if there is anything to say. Gives the errors of targets that did not take it.

    `database` is None if there is none to read from any more. An alert that nobody received is not
    marked as sent, so the next run sends it again.
    """
    if not targets:
        return []
    news = _claim_news(database, now)
    troubled = [one for one in news if not is_well_again(one)]
    recovered: First[str] = First()
    for one in news:
        if is_well_again(one):
            recovered.add(label(one))
    if not (news or ended.stopped or ended.unwritten):
        return []
    situation = Situation(
        troubled, recovered, ended.stopped, ended.tally, now, style.reconnect_url, ended.unwritten
    )
    errors = broadcast(targets, compose(situation, style.language))
    _remember(database, news, now, was_sent=len(errors) < len(targets))
    return errors


def forget_recoveries(database: Database, now: datetime) -> None:
    """Note that channels are well again of which people once were told, where nobody is told any more."""
    news = _claim_news(database, now, is_well_again)
    _remember(database, news, now, was_sent=True)


def _claim_news(
    database: Database | None, now: datetime, which: Callable[[Channel], bool] | None = None
) -> list[Channel]:
    """Claim what there is to say, or only what `which` holds for. Nothing if the database cannot be asked."""
    which = which or (lambda one: is_news(one, now))
    if database is None:
        return []
    try:
        in_question = database.queries.to_tell_of(now + max(STEPS))
        news = list(islice((one.id for one in in_question if which(one)), MOST_AT_ONCE))
        claimed = database.claims.claim_to_alert(news) if news else []
        # Since they were looked up, another run may have told of some and given them back.
        database.claims.release([one.id for one in claimed if not which(one)])
    except DatabaseError as error:
        logger.warning("the channels that need attention could not be looked up: %s", error)
        return []
    return [one for one in claimed if which(one)]


def _remember(database: Database | None, news: Sequence[Channel], now: datetime, *, was_sent: bool) -> None:
    """Note what people were told of; what nobody received is only given back, and told by the next run."""
    if database is None or not news:
        return
    try:
        if was_sent:
            database.claims.mark_alerted([one.id for one in news if not is_well_again(one)], now)
            database.claims.mark_alerted([one.id for one in news if is_well_again(one)], None)
        else:
            database.claims.release([one.id for one in news])
    except DatabaseError as error:
        # The claims run out, and the next run tells again: better twice than never.
        logger.warning("what people were told of could not be noted: %s", error)
