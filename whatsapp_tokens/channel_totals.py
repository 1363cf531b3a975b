"""The fleet as a whole: in what state each line is, and the totals that the page and the metrics show.

Pure values; the database counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from due import is_waiting
from models import Channel, Status

HORIZON_DAYS: Final = 61  # today and the next 60: a token that is renewed today ends on the last of them


class State(StrEnum):
    """In what state a line is; each line is in one. The most urgent first."""

    WARNING = "warning"  # it needs attention
    ENDED = "ended"  # its token has ended, and no run has dealt with it
    WAITING = "waiting"  # its token is dead: nobody is asked about it until its customer reconnects
    ENDING = "ending"  # it ends within the window, and will be renewed
    UNKNOWN = "unknown"  # its end is not known yet
    OK = "ok"
    NEVER_EXPIRES = "never_expires"


ATTENTION: Final = frozenset({State.WARNING, State.ENDED, State.WAITING})  # these need a person


def state_of(channel: Channel, now: datetime, soon: datetime) -> State:
    """The state of a line. `soon` is `now` and the window. `Conditions.state` says the same in SQL.

    After a reconnect nothing is known until Meta has been asked: what the row says is of another token.
    """
    if channel.replaced:
        return State.UNKNOWN
    if is_waiting(channel, now):
        return State.WAITING
    if channel.status == Status.WARNING:
        return State.WARNING
    if channel.expires_at is None:
        return State.NEVER_EXPIRES if channel.status == Status.NEVER_EXPIRES else State.UNKNOWN
    if channel.expires_at <= now:
        return State.ENDED
    return State.ENDING if channel.expires_at < soon else State.OK


@dataclass(frozen=True, slots=True)
class Fleet:
    """Totals of all candidates.

    `soonest` is the soonest known end of those that do not wait, past or not. `ends` counts, for each of
    the next `HORIZON_DAYS` UTC days from today on, the tokens that end on it; days without any are left out.
    """

    states: Mapping[State, int] = field(default_factory=dict)
    soonest: datetime | None = None
    ends: Mapping[date, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many lines there are."""
        return sum(self.states.values())

    @property
    def attention(self) -> int:
        """How many of them need a person."""
        return sum(self.states.get(state, 0) for state in ATTENTION)
