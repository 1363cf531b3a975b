"""Who has to be told of what: read from the table, claimed, sent, and only then marked as sent.

Because nothing is remembered from the run itself, killed, parallel and undelivered runs come out right.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Final

from connection import BadDatabase, DatabaseLost
from database import Database, pages
from models import Channel
from notify import DeliveryError, Target, broadcast
from outcomes import Failed, Stopped, Tally
from report import First, Situation, compose
from words import EN, Words

# A channel that people know about comes up again when this much of its time is left.
STEPS: Final = tuple(timedelta(days=days) for days in (7, 3, 1, 0))
MOST_AT_ONCE: Final = 10_000  # the next run tells of the rest; SQLite takes no more than 32766 in a list

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, as far as it matters for an alert."""

    tally: Tally
    recovered: First[str] = field(default_factory=First)
    stopped: Stopped | None = None
    unwritten: First[Failed] = field(default_factory=First)  # of these the table cannot tell


@dataclass(frozen=True, slots=True)
class Style:
    """How people are told: in which words, and with which link to reconnect (`{channel_id}` is replaced)."""

    words: Words = EN
    reconnect_url: str | None = None


def is_news(channel: Channel, now: datetime) -> bool:
    """Whether there is something to say of a channel in `warning` that has not been said yet."""
    if channel.replaced:
        return False  # what is known describes a token that is gone
    told, end = channel.alerted_at, channel.expires_at
    if told is None:
        return True
    return end is not None and any(end - now <= step < end - told for step in STEPS)


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
    claimed = _claim_news(database, now)
    if not (claimed or ended.recovered or ended.stopped or ended.unwritten):
        return []
    situation = Situation(
        claimed, ended.recovered, ended.stopped, ended.tally, now, style.reconnect_url, ended.unwritten
    )
    errors = broadcast(targets, compose(situation, style.words))
    _remember(database, claimed, now if len(errors) < len(targets) else None)
    return errors


def _claim_news(database: Database | None, now: datetime) -> tuple[Channel, ...]:
    if database is None:
        return ()
    try:
        in_question = pages(partial(database.needing_attention, now + max(STEPS)))
        news = list(islice((one.id for one in in_question if is_news(one, now)), MOST_AT_ONCE))
        claimed = database.claim_to_alert(news) if news else []
        # Since they were looked up, another run may have told of some and given them back.
        database.release([one.id for one in claimed if not is_news(one, now)])
    except (DatabaseLost, BadDatabase) as error:
        logger.warning("the channels that need attention could not be looked up: %s", error)
        return ()
    return tuple(one for one in claimed if is_news(one, now))


def _remember(database: Database | None, claimed: Sequence[Channel], sent_at: datetime | None) -> None:
    if database is None or not claimed:
        return
    ids = [channel.id for channel in claimed]
    try:
        if sent_at is None:
            database.release(ids)
        else:
            database.mark_alerted(ids, sent_at)
    except (DatabaseLost, BadDatabase) as error:
        # The claims run out, and the next run tells again: better twice than never.
        logger.warning("what people were told of could not be noted: %s", error)
