"""Whose trouble is it: the channels' own, or everybody's? The rules by which a run stops early.

Pure counting, without databases or threads: outcomes are heard and judged one by one. One success is
enough to clear everybody, and a channel that was known to fail proves nothing new.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from models import Channel, Status
from whatsapp_tokens.results import Failed, Outcome, Reason, Renewed, Skipped

ENOUGH: Final = 10  # channels with the same trouble before it is taken for everybody's


@dataclass(slots=True)
class CircuitBreaker:
    """Tells channels' own trouble from everybody's. Knows nothing of databases or threads."""

    got_through: bool = False
    succeeded: bool = False
    refused: int = 0
    newly: Counter[Reason] = field(default_factory=Counter)

    def hear(self, outcome: Outcome) -> None:
        """Note whether Meta gave an answer about the channel itself: then it has accepted our app."""
        if isinstance(outcome, Renewed) or (
            isinstance(outcome, Skipped | Failed) and outcome.reason.is_answered
        ):
            self.got_through = True

    def judge(self, channel: Channel, outcome: Outcome) -> None:
        """Take what became of a channel into account."""
        match outcome:
            case Renewed() | Skipped(reason=Reason.CLOCK_CORRECTED | Reason.NEVER_EXPIRES):
                self.succeeded = True
            case Failed(reason=reason) if counts_as_new(channel, reason):
                self.newly[reason] += 1
            case _:
                pass

    @property
    def suspects_app(self) -> bool:
        """Whether it looks as if Meta refused our app as a whole."""
        return self.refused >= ENOUGH and not self.got_through

    @property
    def systemic(self) -> Reason | None:
        """The one reason for which so many channels failed while nothing succeeded, or None."""
        if self.succeeded:
            return None
        return next((reason for reason, count in self.newly.items() if count >= ENOUGH), None)


def counts_as_new(channel: Channel, reason: Reason) -> bool:
    """Whether a failure counts towards `systemic`: not if it was known before, never a bad ciphertext."""
    if reason is Reason.UNDECRYPTABLE:
        return False
    if reason is Reason.RECONNECT_REQUIRED:
        return channel.status == Status.OK
    return not (channel.status == Status.WARNING and channel.reason == reason)
