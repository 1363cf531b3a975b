"""A run over many channels: claim, renew in worker threads, write in batches, and stop if need be.

The main thread alone talks to the database and decides; workers do HTTP and crypto for one token at a time. A
run stops early only on fleet-wide failures: what is in flight is finished and written, the rest is released
untouched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Final

from crypto import KeyRing, Undecryptable
from models import Channel, PendingUpdate
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import DatabaseError, DatabaseLost
from whatsapp_tokens.database.writes import WriteResult
from whatsapp_tokens.facts import fact, facts
from whatsapp_tokens.http_environment import LocalFault
from whatsapp_tokens.policy import Reminders
from whatsapp_tokens.renewal.circuit_breaker import CircuitBreaker, Question, is_answer
from whatsapp_tokens.renewal.claimer import PATIENCE_SECONDS, Claimer
from whatsapp_tokens.renewal.clock_check import MOST_APART, WrongClock, as_text
from whatsapp_tokens.renewal.controls import Control, pick_controls
from whatsapp_tokens.renewal.decision import Suspect, Unusable, Verdict
from whatsapp_tokens.renewal.outcomes import failed, left_locked, skipped
from whatsapp_tokens.renewal.renewer import Renewer
from whatsapp_tokens.renewal.start import RunCallbacks, Scope, open_run
from whatsapp_tokens.renewal.token_pool import TokenPool
from whatsapp_tokens.renewal.updates import ChannelResult, ClaimedChannel, conclude
from whatsapp_tokens.renewal.workers import NoThreads
from whatsapp_tokens.results import Aborted, AbortReason, ChannelId, Failed, Outcome, Reason, Tally
from whatsapp_tokens.signals import Interrupted, Stop

logger = logging.getLogger(__name__)

MOST_UNWRITABLE: Final = 1000  # rows that cannot be claimed, and no other in between: then it is the database


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
        self._unwritten: list[ChannelResult] = []  # until the clock is known to be right
        self._clock_is_right = False
        self._bad_controls: list[ChannelId] = []
        self._locked: list[ChannelResult] = []  # not written yet, because the row was locked
        self._reached = 0
        self._reminders: Reminders = {}  # of these people are told again, although nothing has changed
        self.tally = Tally()

    def execute(self, scope: Scope, callbacks: RunCallbacks) -> Aborted | None:
        """Renew what is due. Return None if all of it was reached or a signal came, else why the run stopped.

        Raise `CannotRun`, or a `DatabaseError` or `LocalFault` before the first channel was touched.
        """
        self._scope = scope
        self._callbacks = callbacks
        counts, self.tally = open_run(self._database, self._keys, scope, callbacks)
        if scope.alerts and counts.due and counts.news:
            self._reminders = self._database.queries.to_remind_of(scope.selection.now)
        self._renewer.note_time_at_database(self._database.queries.now())
        self._claimer = Claimer(self._database, scope, counts, self._report, self._stop)
        self._pool = TokenPool(self._renewer.renew, self._conclude, scope.workers)
        try:
            self._loop()
            aborted = None if self._stop.is_set() else self._breaker.aborted
        except DatabaseError as error:
            if not (isinstance(error, DatabaseLost) or self._reached):
                raise
            aborted = Aborted(AbortReason.DATABASE_LOST, str(error))
        except (LocalFault, NoThreads) as fault:
            if isinstance(fault, LocalFault) and not self._reached:
                raise
            aborted = Aborted(AbortReason.INTERNAL_ERROR, str(fault))
            logger.error("stopped early: %s, %s", aborted.reason, fault)  # noqa: TRY400 - not ours
        finally:
            if not self._pool.is_idle:  # only after an error: what is in flight can no longer be written
                self._stop.set()
            self._pool.close()
        self._count_left(aborted)
        return aborted

    def _loop(self) -> None:
        """Claim, renew and write until nothing is left, or the circuit breaker or a signal ends it."""
        try:
            while self._step_or_stop():
                self._claimer.extend_leases()
            self._write_locked()
        except (WrongClock, LocalFault, NoThreads):
            self._database.claims.release_all()
            raise
        self._database.claims.release_all()

    def _step_or_stop(self) -> bool:
        """Do what comes next. A query that a signal ends is no step: the next one ends the run."""
        try:
            return self._step()
        except Interrupted:
            return True

    def _step(self) -> bool:
        """Do what comes next: claim, collect and write, or ask the controls. Return whether there is more."""
        if self._stop.is_set() or self._breaker.is_paused:
            self._pool.park()
        else:
            self._pool.unpark()
            self._refill()
        self._report_unwritable()
        if not self._pool.is_idle:
            self._write(self._breaker.take(self._pool.collect()))
            self._admit(self._claim_bad_controls())
        elif self._stop.is_set() or self._breaker.aborted:
            return False
        elif question := self._breaker.question(is_last=self._claimer.is_done):
            self._write(self._breaker.answer(question, self._ask_controls(question)))
            self._admit(self._claim_bad_controls())
        elif self._claimer.is_done or self._breaker.is_paused:
            self._write(self._breaker.finish())
            return False
        return True

    def _ask_controls(self, question: Question) -> list[Verdict]:
        """Ask Meta about one control after the other, until it calls one good. Return the verdicts."""
        verdicts: list[Verdict] = []
        asked = self._claimer.recent
        parked = [Control(channel, token, is_due=True) for channel, token in self._pool.parked]
        for control in pick_controls(self._database, self._keys, self._scope.selection, asked, parked):
            verdict = self._ask(partial(self._renewer.ask, control.token))
            if verdict is None:
                return verdicts
            verdicts.append(verdict)
            if not isinstance(verdict, Unusable):
                return verdicts
            if not control.is_due:
                self._bad_controls.append(control.channel.id)
        if question.is_for_app and not any(map(is_answer, verdicts)):
            verdict = self._ask(self._renewer.ask_about_app)
            verdicts += [] if verdict is None else [verdict]
        return verdicts

    def _ask(self, find_verdict: Callable[[], Verdict]) -> Verdict | None:
        """Let a worker ask Meta. Return None if the run is told to stop meanwhile."""
        self._pool.ask(find_verdict)
        while (verdict := self._pool.answer()) is None and not self._pool.is_idle:
            self._claimer.extend_leases()
        return verdict

    def _claim_bad_controls(self) -> list[Channel]:
        """Claim the controls that failed, once another call has shown that Meta is well."""
        if not (self._bad_controls and self._breaker.meta_is_well):
            return []
        claimed = self._claimer.claim_also(self._bad_controls)
        self._bad_controls = []
        self.tally.due += len(claimed)
        return claimed

    def _refill(self) -> None:
        """Claim more channels before the workers run out of them.

        In flight is one channel for each worker and up to as many that wait; more are claimed when half of
        these are gone, so that no worker is idle meanwhile.
        """
        free = 2 * self._scope.workers - self._pool.in_flight
        if free < (self._scope.workers + 1) // 2:
            return
        self._admit(self._claimer.claim(free, is_last=self._pool.is_idle))

    def _admit(self, channels: Iterable[Channel]) -> None:
        """Decrypt the tokens of claimed channels, and give them to the workers."""
        unreadable = []
        for channel in channels:
            try:
                decrypted = self._keys.decrypt(channel.ciphertext)
            except Undecryptable as error:
                verdict = Unusable(Reason.UNDECRYPTABLE, str(error), suspect=Suspect.TOKEN)
                unreadable.append(self._conclude(verdict, ClaimedChannel(channel)))
            else:
                self._pool.add(decrypted.token, ClaimedChannel(channel, decrypted))
        self._write(self._breaker.take(unreadable))

    def _conclude(self, verdict: Verdict, claimed: ClaimedChannel) -> ChannelResult:
        """Return what a verdict means for a channel. Also called by the workers."""
        return conclude(verdict, claimed, self._keys, self._clock())

    def _write(self, results: Iterable[ChannelResult], *, patient: bool = False) -> None:
        """Write what the circuit breaker allows, and report what really became of it."""
        self._unwritten += results
        if not (self._has_right_clock() and self._unwritten):
            return
        results, self._unwritten = self._unwritten, []
        updates: list[tuple[ChannelResult, PendingUpdate]] = []
        for result in results:
            if result.update is None:
                self._database.claims.release([result.channel.id])
                if isinstance(result.outcome, Failed):  # it could not be encrypted
                    self._breaker.note_write_failure(result.channel, result.outcome.detail)
                self._report(result.outcome)
            else:
                updates.append((result, result.update))
        if updates:
            written = self._database.writer.write([update for _, update in updates], patient=patient)
            logger.debug("wrote %d channels", len(updates))
            kept: list[PendingUpdate] = []
            for (result, update), (found, words) in zip(updates, written, strict=True):
                self._report_write(result, found, words)
                if found is WriteResult.WRITTEN:
                    kept.append(update)
            self._claimer.note_written(kept)

    def _has_right_clock(self) -> bool:
        """Return whether this machine's clock is known to be right. Raise `WrongClock`."""
        if self._clock_is_right or not self._breaker.has_asked:
            return self._clock_is_right
        self._renewer.check_clock()
        if abs(self._renewer.ahead_of_database) > MOST_APART:
            at_database = self._clock() - self._renewer.ahead_of_database
            logger.warning("the clock of the database server is wrong: it says %s", as_text(at_database))
        self._clock_is_right = True
        return True

    def _report_write(self, result: ChannelResult, found: WriteResult, words: str) -> None:
        """Report what became of one write."""
        channel = result.channel
        match found:
            case WriteResult.REPLACED:
                self._report(skipped(channel, Reason.REPLACED_MEANWHILE, words, channel.expires_at))
            case WriteResult.TAKEN:
                self._report(skipped(channel, Reason.CLAIMED_ELSEWHERE, words, channel.expires_at))
            case WriteResult.REFUSED:
                self._report_unwritten(channel, words)
            case WriteResult.LOCKED:
                self._locked.append(result)
            case WriteResult.WRITTEN:
                self._breaker.has_written = True
                self._report(result.outcome)

    def _write_locked(self) -> None:
        """Write what was locked when its turn came, and wait for a while. What stays locked is left alone."""
        until = monotonic() + (0 if self._stop.is_set() else PATIENCE_SECONDS)
        while True:
            again, self._locked = self._locked, []
            self._write(again, patient=True)
            if not self._locked or monotonic() > until or self._stop.is_set():
                break
        locked, self._locked = self._locked, []
        self._database.claims.release([result.channel.id for result in locked])
        for result in locked:
            self._report(left_locked(result.channel))

    def _report_unwritable(self) -> None:
        """Report the rows that could not be claimed: once others have succeeded, or nothing else is left.

        Not before, or these alone might look like a fleet-wide failure.
        """
        unwritable = self._claimer.unwritable
        is_all = self._pool.is_idle and (self._claimer.is_done or len(unwritable) >= MOST_UNWRITABLE)
        if self._breaker.has_written or is_all:
            self._claimer.unwritable = []
            for channel, words in unwritable:
                self._report_unwritten(channel, words)

    def _report_unwritten(self, channel: Channel, words: str) -> None:
        detail = facts(words, fact("the stored token is as it was"))
        self._breaker.note_write_failure(channel, detail)
        self._report(failed(channel, Reason.WRITE_FAILED, detail, channel.expires_at))

    def _report(self, outcome: Outcome) -> None:
        is_untold = not self._scope.alerts or outcome.id in self._reminders
        if isinstance(outcome, Failed) and is_untold:
            outcome = replace(outcome, is_news=True)  # also if the row says otherwise
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
