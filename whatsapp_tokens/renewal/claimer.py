"""Which channels come next: due ids in the order of urgency, claimed a few at a time.

Rows that another transaction has locked are deferred, and tried once more at the end. Rows that the
database refuses to claim are kept for the caller to report.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from time import monotonic
from typing import Final

from models import Channel, PendingUpdate, Status
from whatsapp_tokens.database.claims import in_parts
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import LockTimeout, StatementRefused
from whatsapp_tokens.database.queries import Counts
from whatsapp_tokens.database.writes import UNMOVED
from whatsapp_tokens.facts import fact
from whatsapp_tokens.renewal.outcomes import left_locked, skipped
from whatsapp_tokens.renewal.start import Scope
from whatsapp_tokens.results import ChannelId, Outcome, Reason
from whatsapp_tokens.signals import Stop

logger = logging.getLogger(__name__)

RECENT: Final = 1024
PATIENCE_SECONDS: Final = 10  # in all, for rows that are locked when they are to be claimed


class Claimer:
    """Claims the due channels of a selection. What it cannot claim is reported, or kept in `unwritable`."""

    def __init__(
        self,
        database: Database,
        scope: Scope,
        counts: Counts,
        report: Callable[[Outcome], None],
        stop: Stop,
    ) -> None:
        self._database = database
        self._selection = scope.selection
        self._counts = counts
        self._report = report
        self._stop = stop
        self._ids = islice(self._due_ids(), scope.limit)
        self._deferred: list[ChannelId] = []  # due and free, but locked when they were to be claimed
        self._is_exhausted = False
        self.recent: deque[ChannelId] = deque(maxlen=RECENT)  # met last, claimed or not
        self.seen: set[ChannelId] = set()  # dealt with, but may be met once more further on in the order
        self.unwritable: list[tuple[Channel, str]] = []  # refused by the database, with its words
        self.no_longer_due = 0  # because another run was faster
        self.has_met_all = False
        self._table_is_locked = False
        self._give_up_at: float | None = None  # when nothing that is locked is waited for any longer
        self._extend_at = monotonic() + database.claims.lease / 3

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to claim."""
        return self._is_exhausted and not self._deferred

    def claim(self, count: int, *, is_last: bool) -> list[Channel]:
        """Claim up to `count` of the next due channels.

        `is_last`: no other channel is in flight, so what was deferred can be tried again.
        """
        if self._table_is_locked and not is_last:
            return []
        ids = list(islice(self._ids, count))
        self.recent += ids
        self._is_exhausted = self._is_exhausted or not ids
        if self._is_exhausted and is_last:
            return self._claim_deferred(count)
        claimed, refused = self._take(ids)
        if absent := set(ids) - {channel.id for channel in claimed} - refused:
            self._deferred += self._explain_absent(absent)
        return claimed

    def claim_also(self, ids: Collection[ChannelId]) -> list[Channel]:
        """Claim what can be had of further channels, due or not."""
        everything = replace(self._selection, everything=True, ids=None)
        claimed: list[Channel] = []
        with suppress(LockTimeout):
            in_parts(list(ids), lambda some: claimed.extend(self._database.claims.claim(everything, some)))
        return claimed

    def extend_leases(self) -> None:
        """Extend the leases of all claims, if a third of their time has passed since the last extension."""
        if monotonic() >= self._extend_at:
            self._database.claims.extend()
            self._extend_at = monotonic() + self._database.claims.lease / 3

    def _due_ids(self) -> Iterator[ChannelId]:
        """Yield the ids of due channels in the order of urgency."""
        yield from self._database.queries.due_ids(self._selection, self._counts, self.seen)
        self.has_met_all = True

    def _take(self, ids: Sequence[ChannelId]) -> tuple[list[Channel], set[ChannelId]]:
        """Claim the `ids`. Return the channels, and the ids that the database refused."""
        claimed: list[Channel] = []
        refused: dict[ChannelId, str] = {}
        if not (self._table_is_locked and self._is_out_of_patience()):
            try:
                refused = in_parts(
                    ids, lambda some: claimed.extend(self._database.claims.claim(self._selection, some))
                )
                self._table_is_locked = False
            except LockTimeout:
                self._table_is_locked = True
        for id_, words in refused.items():
            if channel := self._database.queries.get(id_):
                self.unwritable.append((channel, words))
            else:  # gone since
                self.no_longer_due += 1
        if ids:
            logger.debug("claimed %d of %d due channels", len(claimed), len(ids))
        return claimed, set(refused)

    def _explain_absent(self, ids: set[ChannelId]) -> list[ChannelId]:
        """Report the channels that another run holds. Return those that are free and still due."""
        held = self._database.claims.claimed_elsewhere(ids)
        for channel in held:
            detail = fact("another run is at work on it")
            self._report(skipped(channel, Reason.CLAIMED_ELSEWHERE, detail, channel.expires_at))
            self.seen.add(channel.id)  # the other run may move it
        others = ids - {channel.id for channel in held}
        free = [channel.id for channel in self._database.claims.still_due(self._selection, others)]
        self.no_longer_due += len(others) - len(free)
        return free

    def _claim_deferred(self, count: int) -> list[Channel]:
        """Claim what was deferred: the transaction that had locked it may have ended.

        What cannot be claimed even now is locked by the application, or left as it is by the database.
        """
        ids, self._deferred = self._deferred[:count], self._deferred[count:]
        claimed, refused = self._take(ids)
        rest = set(ids) - {channel.id for channel in claimed} - refused
        stuck = self._database.claims.still_due(self._selection, rest) if rest else []
        self.no_longer_due += len(rest) - len(stuck)
        for channel in stuck:
            if self._stop.is_set():
                break
            is_locked, late, words = self._is_out_of_patience(), [], UNMOVED
            try:
                if not is_locked:
                    late = self._database.claims.claim(self._selection, [channel.id], patient=True)
            except StatementRefused as error:
                is_locked, words = isinstance(error, LockTimeout), str(error)
            if is_locked:
                self._report(left_locked(channel))
            elif not late:
                self.unwritable.append((channel, words))
            claimed += late
        return claimed

    def _is_out_of_patience(self) -> bool:
        """Return whether what is locked has been waited for long enough, by all channels together."""
        self._give_up_at = self._give_up_at or monotonic() + PATIENCE_SECONDS
        return monotonic() > self._give_up_at

    def note_written(self, updates: Iterable[PendingUpdate]) -> None:
        """Remember which of these written channels are due all the same, and come once more in the order.

        Of those that failed, some may join those that are known to fail, which come last.
        """
        updates = list(updates)
        self.seen.update(update.channel.id for update in updates if _joins_the_known(update))
        moved = [update.channel.id for update in updates if self._has_moved_on(update)]
        if moved:
            due = self._database.claims.still_due(self._selection, moved)
            self.seen.update(channel.id for channel in due)

    def _has_moved_on(self, update: PendingUpdate) -> bool:
        """Return whether a row may still be due, and now stands further on in the order.

        Unknown expiries come first, so they are behind us.
        """
        before, after = update.channel.expires_at, update.expires_at
        if after is None or (before is not None and after <= before):
            return False
        is_fresh = (
            update.status is Status.OK
            and update.refreshed_at
            and update.refreshed_at >= self._selection.refreshed_before
        )
        return self._selection.everything or not is_fresh or after < self._selection.expires_before


def _joins_the_known(update: PendingUpdate) -> bool:
    """Return whether a channel failed of which people had been told, for instance before a reconnect."""
    return update.status is Status.WARNING and update.channel.alerted_at is not None
