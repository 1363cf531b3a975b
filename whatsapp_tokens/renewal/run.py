"""A run over many channels: claim, renew in worker threads, write in batches, and stop if need be.

The main thread alone talks to the database and decides; workers do HTTP and crypto for one token at a time. A
run stops early only on fleet-wide failures: what is in flight is finished and written, the rest is released
untouched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

from crypto import KeyRing, Undecryptable
from models import Channel, PendingUpdate
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import DatabaseError, DatabaseLost
from whatsapp_tokens.database.writes import WriteResult
from whatsapp_tokens.facts import fact, facts
from whatsapp_tokens.renewal.circuit_breaker import CircuitBreaker
from whatsapp_tokens.renewal.claimer import Claimer
from whatsapp_tokens.renewal.decision import Unusable, Verdict
from whatsapp_tokens.renewal.outcomes import failed, skipped
from whatsapp_tokens.renewal.renewer import Renewer
from whatsapp_tokens.renewal.start import RunCallbacks, Scope, open_run
from whatsapp_tokens.renewal.token_pool import TokenPool
from whatsapp_tokens.renewal.updates import ChannelResult, ClaimedChannel, conclude
from whatsapp_tokens.results import Aborted, AbortReason, Failed, Outcome, Reason, Tally
from whatsapp_tokens.signals import Stop

logger = logging.getLogger(__name__)

MOST_UNWRITABLE: Final = 1000  # rows that cannot be claimed, and no other in between: then it is the database
LAST_TRIES: Final = 3  # at rows that the application has locked
OVERTAKEN: Final = {
    WriteResult.REPLACED: (Reason.REPLACED_MEANWHILE, fact("another token was stored meanwhile")),
    WriteResult.TAKEN: (
        Reason.CLAIMED_ELSEWHERE,
        fact("the claim ran out, and another run has taken it over"),
    ),
}


class Run:
    """One real run."""

    def __init__(
        self, database: Database, renewer: Renewer, keys: KeyRing, clock: Callable[[], datetime], stop: Stop
    ) -> None:
        self._database = database
        self._renewer = renewer
        self._keys = keys
        self._clock = clock
        self._stop = stop
        self._breaker = CircuitBreaker()
        self._locked: list[ChannelResult] = []  # not written yet, because the row was locked
        self._reached = 0
        self.tally = Tally()

    def execute(self, scope: Scope, callbacks: RunCallbacks) -> Aborted | None:
        """Renew what is due. Return None if all of it was reached or a signal came, else why the run stopped.

        Raises `WrongKeys`, or a `DatabaseError` before the first channel was touched.
        """
        self._scope = scope
        self._callbacks = callbacks
        self.tally = open_run(self._database, self._keys, scope, callbacks)
        self._claimer = Claimer(self._database, scope.selection, self._report, self._stop, limit=scope.limit)
        self._pool = TokenPool(self._renewer.renew, self._conclude, scope.workers)
        aborted = None
        try:
            # Where nothing is due, another look at a large table would take as long as counting did.
            if self.tally.due:
                self._loop()
            aborted = None if self._stop.is_set() else self._breaker.abort_reason()
            self._database.claims.release_all()
        except DatabaseError as error:
            if not (isinstance(error, DatabaseLost) or self._reached):
                raise
            aborted = Aborted(AbortReason.DATABASE_LOST, str(error))
        finally:
            if not self._pool.is_idle:  # only after an error: what is in flight can no longer be written
                self._stop.set()
            self._pool.close()
        self._count_left(aborted)
        return aborted

    def _loop(self) -> None:
        """Claim, renew and write until nothing is left, or the circuit breaker or a signal ends it."""
        while True:
            is_ending = self._stop.is_set() or self._breaker.is_open
            if is_ending:
                self._pool.park()
            else:
                self._pool.unpark()
                self._refill()
            self._report_unwritable()
            if not self._pool.is_idle:
                self._write(self._breaker.take(self._pool.collect()))
            elif is_ending or self._claimer.is_done:
                break
            self._claimer.extend_leases()
        self._write_locked()

    def _refill(self) -> None:
        """Claim more channels before the workers run out of them.

        In hand is one channel for each worker and up to as many that wait; more are claimed when half of
        these are gone, so that no worker is idle meanwhile.
        """
        room = 2 * self._scope.workers - self._pool.in_hand
        if room < (self._scope.workers + 1) // 2:
            return
        unreadable = []
        for channel in self._claimer.claim(room, is_last=self._pool.is_idle):
            try:
                decrypted = self._keys.decrypt(channel.ciphertext)
            except Undecryptable as error:
                verdict = Unusable(Reason.UNDECRYPTABLE, str(error))
                unreadable.append(self._conclude(verdict, ClaimedChannel(channel)))
            else:
                self._pool.add(decrypted.token, ClaimedChannel(channel, decrypted))
        self._write(self._breaker.take(unreadable))

    def _conclude(self, verdict: Verdict, claimed: ClaimedChannel) -> ChannelResult:
        """Return what a verdict means for a channel. Also called by the workers."""
        return conclude(verdict, claimed, self._keys, self._clock())

    def _write(self, results: Iterable[ChannelResult]) -> None:
        """Write what the circuit breaker allows, and report what really became of it."""
        updates: list[tuple[ChannelResult, PendingUpdate]] = []
        for result in results:
            if result.update is None:
                self._database.claims.release([result.channel.id])
                self._report(result.outcome)
            else:
                updates.append((result, result.update))
        if updates:
            written = self._database.writer.write([update for _, update in updates])
            logger.debug("wrote %d channels", len(updates))
            moved = []
            for (result, update), (found, words) in zip(updates, written, strict=True):
                self._report_write(result, found, words)
                if found is WriteResult.WRITTEN and _moves_back(update):
                    moved.append(update.channel.id)
            self._claimer.note_moved(moved)
        if released := self._breaker.released():
            self._write(released)

    def _report_write(self, result: ChannelResult, found: WriteResult, words: str) -> None:
        """Report what became of one write."""
        channel = result.channel
        match found:
            case WriteResult.REPLACED | WriteResult.TAKEN:
                reason, detail = OVERTAKEN[found]
                self._report(skipped(channel, reason, detail, channel.expires_at))
            case WriteResult.REFUSED:
                self._report_unwritten(channel, words)
            case WriteResult.LOCKED:
                self._locked.append(result)
            case WriteResult.WRITTEN:
                if not isinstance(result.outcome, Failed):
                    self._breaker.note_success()
                self._report(result.outcome)

    def _write_locked(self) -> None:
        """Write what was locked when its turn came. After the last try it has failed."""
        for _ in range(1 if self._stop.is_set() else LAST_TRIES):
            locked, self._locked = self._locked, []
            self._write(locked)
        locked, self._locked = self._locked, []
        self._database.claims.release([result.channel.id for result in locked])
        for result in locked:
            self._report_unwritten(
                result.channel, fact("a transaction of the application keeps the row locked")
            )

    def _report_unwritable(self) -> None:
        """Report the rows that could not be claimed: once others have succeeded, or nothing else is left.

        Not before, or these alone might look like a fleet-wide failure.
        """
        unwritable = self._claimer.unwritable
        is_all = self._pool.is_idle and (self._claimer.is_done or len(unwritable) >= MOST_UNWRITABLE)
        if self._breaker.has_succeeded or is_all:
            self._claimer.unwritable = []
            for channel, words in unwritable:
                self._report_unwritten(channel, words)

    def _report_unwritten(self, channel: Channel, words: str) -> None:
        detail = facts(words, fact("the stored token is as it was"))
        self._breaker.note_write_failure(channel, detail)
        self._report(failed(channel, Reason.WRITE_FAILED, detail, channel.expires_at))

    def _report(self, outcome: Outcome) -> None:
        self._reached += 1
        self.tally.add(outcome)
        self._callbacks.outcome(outcome)

    def _count_left(self, aborted: Aborted | None) -> None:
        """Count the due channels that were not reached; those that another run was faster at are not due."""
        self.tally.due -= self._claimer.no_longer_due
        if self._claimer.has_met_all and aborted is None and not self._stop.is_set():
            self.tally.due = self._reached
        self.tally.left = max(self.tally.due - self._reached, 0)
        self.tally.due = self._reached + self.tally.left


def _moves_back(update: PendingUpdate) -> bool:
    """Return whether the row moves to a later place in the order; unknown expiries come first."""
    before, after = update.channel.expires_at, update.expires_at
    return after is not None and (before is None or after > before)
