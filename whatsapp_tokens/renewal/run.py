"""Many channels: claiming, worker threads, writing in batches, and the rules for stopping.

The main thread alone talks to the database and decides; workers do HTTP and crypto for one token at a
time and hand back what is to be written. A run stops early only for trouble that is everybody's: then
what is in flight is finished and written, the rest is given back untouched.
"""

from __future__ import annotations

import logging
import queue
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from time import monotonic
from typing import Final

from crypto import KeyRing, Undecryptable
from models import Channel, PendingUpdate, fingerprint
from whatsapp_tokens.database.claims import in_parts
from whatsapp_tokens.database.connection import BadDatabase, DatabaseLost
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.writes import UNMOVED, WriteResult
from whatsapp_tokens.meta.errors import AppRejected, RateLimited
from whatsapp_tokens.policy import Selection, is_due
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.renewal.circuit_breaker import ENOUGH, CircuitBreaker, counts_as_new
from whatsapp_tokens.renewal.decision import NewToken, Renewer, Unusable, Verdict
from whatsapp_tokens.renewal.outcomes import failed, skipped
from whatsapp_tokens.renewal.start import RunCallbacks, Scope, open_run
from whatsapp_tokens.renewal.updates import ClaimedChannel, Settled, settle
from whatsapp_tokens.results import Aborted, AbortReason, ChannelId, Failed, Outcome, Reason, Tally
from whatsapp_tokens.signals import WAKE_SECONDS, Interrupted, Stop

logger = logging.getLogger(__name__)

BATCH: Final = 64
MOST_UNWRITABLE: Final = 1000  # rows that cannot be claimed, and no other in between: then it is the database
PATIENCE_SECONDS: Final = 10  # in all, for rows that are locked when they are to be claimed
OVERTAKEN: Final = {
    WriteResult.REPLACED: (Reason.REPLACED_MEANWHILE, "another token was stored meanwhile; it stays"),
    WriteResult.TAKEN: (
        Reason.CLAIMED_ELSEWHERE,
        "the claim ran out, and another run has taken it over",
    ),
}
LAST_TRIES: Final = 3  # at rows that the application has locked
REMEMBERED: Final = 128  # tokens renewed last, for channels that share one and are claimed later


@dataclass(frozen=True, slots=True)
class Job:
    """One token, and the claimed channels that hold it. With a verdict there is nothing left to ask."""

    token: Secret
    claimed: tuple[ClaimedChannel, ...]
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker hands back: a verdict and what to write, or the error that is not about this token."""

    job: Job
    verdict: Verdict | None = None
    settled: tuple[Settled, ...] = ()
    error: AppRejected | RateLimited | Interrupted | None = None


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
        self._jury = CircuitBreaker()
        self._finished: queue.SimpleQueue[Future[Done]] = queue.SimpleQueue()
        self._in_flight: dict[Future[Done], Job] = {}
        self._sharing_token: dict[
            Secret, list[ClaimedChannel]
        ] = {}  # by token in flight: further channels that hold it
        self._renewed: OrderedDict[Secret, NewToken] = OrderedDict()
        self._parked: list[Job] = []  # not begun, while it is open whether to go on
        self._rejected: list[
            Job
        ] = []  # refused as an app, while it is open whether that is their own trouble
        self._deferred: list[Settled] = []  # failed as ten did before, and therefore not believed yet
        self._unwritable: list[tuple[Channel, str]] = []  # what the database did not let us claim
        self._passed_over: list[ChannelId] = []  # due and free, but locked when they were to be claimed
        self._locked: list[Settled] = []  # could not be written yet, because the row was locked
        self._is_exhausted = False
        self._seen: set[ChannelId] = set()  # dealt with, but due again further on in the order
        self._has_seen_all = False
        self._reached = 0
        self._refusal = ""
        self._stopped: Aborted | None = None
        self.tally = Tally()

    def execute(self, scope: Scope, ledger: RunCallbacks) -> Aborted | None:
        """Renew what is due. Gives None if all of it was reached or a signal came, else why the run stopped.

        Raises `WrongKeys`, or `BadDatabase` or `DatabaseLost` before the first channel was touched.
        """
        self._scope = scope
        self._ledger = ledger
        self.tally = open_run(self._database, self._keys, scope, ledger)
        pool = ThreadPoolExecutor(scope.workers, thread_name_prefix="worker")
        try:
            # Where nothing is due, another look at a large table would take as long as counting did.
            self._pump(pool, islice(self._places() if self.tally.due else (), scope.limit))
            self._database.claims.release_all()
        except (BadDatabase, DatabaseLost) as error:
            if isinstance(error, BadDatabase) and not self._reached:
                raise
            self._stopped = Aborted(AbortReason.DATABASE_LOST, str(error))
        finally:
            if self._in_flight:  # only after an error: nobody waits for what can no longer be written
                self._stop.set()
            pool.shutdown(cancel_futures=True)
        if self._has_seen_all and not self._is_closing:  # what was not met was dealt with by another run
            self.tally.due = self._reached
        self.tally.left = max(self.tally.due - self._reached, 0)
        self.tally.due = self._reached + self.tally.left
        return self._stopped

    def _pump(self, pool: ThreadPoolExecutor, places: Iterator[ChannelId]) -> None:
        """Claim, submit, collect and write until nothing is left or a reason to stop is certain."""
        next_extension = monotonic() + self._database.claims.lease / 3
        while True:
            if self._is_closing or self._is_pausing:
                self._park()
            else:
                self._unpark(pool)
                self._refill(pool, places)
            self._report_unwritable()
            if self._in_flight:
                self._collect(pool)
            elif self._is_closing or self._is_pausing or (self._is_exhausted and not self._passed_over):
                break
            if monotonic() >= next_extension:
                self._database.claims.extend()
                next_extension = monotonic() + self._database.claims.lease / 3
        self._write_again()
        if self._stopped is None and not self._stop.is_set():
            self._stopped = self._verdict()

    @property
    def _is_closing(self) -> bool:
        return self._stop.is_set() or self._stopped is not None

    @property
    def _is_pausing(self) -> bool:
        """Whether nothing new is begun until what is in flight has shown if the trouble is everybody's."""
        return self._jury.suspects_app or self._jury.systemic is not None

    def _verdict(self) -> Aborted | None:
        """Why the run stops, now that nothing is in flight; None if it is simply done."""
        if self._rejected:  # and nobody got through, else they would have been acquitted
            return Aborted(AbortReason.APP_REJECTED, self._refusal)
        if reason := self._jury.systemic:
            return Aborted(
                AbortReason.SYSTEMIC,
                f"{ENOUGH} channels newly failed with {reason} and none succeeded: {self._refusal}",
            )
        return None

    # -- claiming and submitting

    def _places(self) -> Iterator[ChannelId]:
        """Yield the ids of due channels in the order of urgency."""
        due_ids = self._database.queries.due_ids(self._scope.look)
        yield from (id_ for id_ in due_ids if id_ not in self._seen)
        self._has_seen_all = True

    def _refill(self, pool: ThreadPoolExecutor, places: Iterator[ChannelId]) -> None:
        """Claim more channels before the workers run out of them.

        In hand is one channel for each worker and up to as many that wait; a claim is due when half of these
        are gone, so that nobody is idle while it is made.
        """
        in_hand = sum(len(job.claimed) for job in self._in_flight.values())
        in_hand += sum(len(riders) for riders in self._sharing_token.values())
        room = 2 * self._scope.workers - in_hand
        if room < (self._scope.workers + 1) // 2:
            return
        ids = list(islice(places, room))
        self._is_exhausted = self._is_exhausted or not ids
        is_last = self._is_exhausted and not self._in_flight
        claimed = self._claim_passed_over(room) if is_last else self._claim(ids)
        unreadable = []
        for channel in claimed:
            try:
                opened = self._keys.decrypt(channel.ciphertext)
            except Undecryptable as error:
                bad = Unusable(Reason.UNDECRYPTABLE, str(error))
                unreadable.append(settle(bad, ClaimedChannel(channel), self._keys, self._clock()))
            else:
                self._admit(pool, opened.token, ClaimedChannel(channel, opened))
        self._conclude(unreadable)

    def _claim(self, ids: Sequence[ChannelId]) -> list[Channel]:
        """Take what can be had of the `ids`, and say what became of the others."""
        claimed, refused = self._take(ids)
        if absent := set(ids) - {channel.id for channel in claimed} - refused:
            self._passed_over += self._report_unclaimed(absent)
        return claimed

    def _take(self, ids: Sequence[ChannelId]) -> tuple[list[Channel], set[ChannelId]]:
        """Claim the `ids`. Gives the channels, and the ids that the database refused, which are noted."""
        claimed: list[Channel] = []
        refused = in_parts(
            ids, lambda some: claimed.extend(self._database.claims.claim(self._scope.look, some))
        )
        for id_, words in refused.items():
            if channel := self._database.queries.get(id_):
                self._unwritable.append((channel, words))
            else:  # gone since
                self.tally.due -= 1
        if ids:
            logger.debug("claimed %d of %d due channels", len(claimed), len(ids))
        return claimed, set(refused)

    def _admit(self, pool: ThreadPoolExecutor, token: Secret, claimed: ClaimedChannel) -> None:
        """Give a channel to a worker, or let it share what another one finds out about the same token."""
        if token in self._sharing_token:
            self._sharing_token[token].append(claimed)
        elif token in self._renewed:
            self._submit(pool, Job(token, (claimed,), self._renewed[token]))
        else:
            self._sharing_token[token] = []
            self._submit(pool, Job(token, (claimed,)))

    def _submit(self, pool: ThreadPoolExecutor, job: Job) -> None:
        future = pool.submit(self._work, job)
        self._in_flight[future] = job
        future.add_done_callback(self._finished.put)

    def _park(self) -> None:
        """Take back what no worker has begun."""
        for future, job in list(self._in_flight.items()):
            if future.cancel():
                del self._in_flight[future]
                self._parked.append(job)

    def _unpark(self, pool: ThreadPoolExecutor) -> None:
        while self._parked:
            self._submit(pool, self._parked.pop(0))

    def _report_unclaimed(self, ids: set[ChannelId]) -> list[ChannelId]:
        """Say which channels another run holds. Gives those that are nobody's and due all the same.

        The others are no longer due: another run was faster.
        """
        held = self._database.claims.claimed_elsewhere(ids)
        for channel in held:
            detail = "another run is at work on it"
            self._report(skipped(channel, Reason.CLAIMED_ELSEWHERE, detail, channel.expires_at))
        others = ids - {channel.id for channel in held}
        free = [channel.id for channel in self._database.claims.passed_over(self._scope.look, others)]
        self.tally.due -= len(others) - len(free)
        return free

    def _claim_passed_over(self, room: int) -> list[Channel]:
        """Take what was passed over before, now that nothing else is left: whoever locked it may be done.

        What cannot be had even so is the application's at this moment, or the database leaves it as it is.
        """
        ids, self._passed_over = self._passed_over[:room], self._passed_over[room:]
        claimed, refused = self._take(ids)
        rest = set(ids) - {channel.id for channel in claimed} - refused
        stuck = self._database.claims.passed_over(self._scope.look, rest) if rest else []
        self.tally.due -= len(rest) - len(stuck)
        until = monotonic() + PATIENCE_SECONDS
        for channel in stuck:
            if self._is_closing:
                break
            is_locked, late, words = monotonic() > until, [], UNMOVED
            try:
                if not is_locked:
                    late = self._database.claims.claim(self._scope.look, [channel.id], patient=True)
            except BadDatabase as error:
                is_locked, words = error.is_lock, str(error)
            if is_locked:
                detail = "a transaction of the application is at work on it"
                self._report(skipped(channel, Reason.CLAIMED_ELSEWHERE, detail, channel.expires_at))
            elif not late:
                self._unwritable.append((channel, words))
            claimed += late
        return claimed

    def _report_unwritable(self) -> None:
        """Say which rows could not even be claimed: once others have succeeded, or nothing else is left.

        Not before, or these alone might look like a trouble that is everybody's.
        """
        is_all = not (self._in_flight or self._passed_over) and (
            self._is_exhausted or len(self._unwritable) >= MOST_UNWRITABLE
        )
        if self._jury.succeeded or is_all:
            unwritable, self._unwritable = self._unwritable, []
            for channel, words in unwritable:
                self._report_unwritten(channel, words)

    def _report_unwritten(self, channel: Channel, words: str) -> None:
        detail = f"{words}; the stored token is as it was"
        outcome = failed(channel, Reason.WRITE_FAILED, detail, channel.expires_at)
        self._jury.judge(channel, outcome)
        self._refusal = detail
        self._report(outcome)

    # -- in the workers

    def _work(self, job: Job) -> Done:
        """Find the verdict on a token and settle its channels. Runs in a worker, and never raises."""
        try:
            verdict = job.verdict or self._renewer.renew(job.token)
            now = self._clock()
            settled = tuple(settle(verdict, claimed, self._keys, now) for claimed in job.claimed)
        except (AppRejected, RateLimited, Interrupted) as error:
            return Done(job, error=error.with_traceback(None))
        except Exception as error:
            # A mistake of ours must cost one channel, not the run.
            logger.exception("unexpected error while renewing")
            verdict = Unusable(Reason.UNEXPECTED_ANSWER, f"an internal error ({type(error).__name__})")
            settled = tuple(settle(verdict, claimed, self._keys, self._clock()) for claimed in job.claimed)
        return Done(job, verdict, settled)

    # -- collecting and writing

    def _collect(self, pool: ThreadPoolExecutor) -> None:
        """Write what has come back; wait for something, but never for long: a signal may come."""
        futures = []
        try:
            futures.append(self._finished.get(timeout=WAKE_SECONDS))
            while len(futures) < BATCH:
                futures.append(self._finished.get_nowait())
        except queue.Empty:
            pass
        settled: list[Settled] = []
        for future in futures:
            if self._in_flight.pop(future, None) is not None:  # else it was parked
                settled += self._receive(pool, future.result())
        self._conclude(settled)

    def _receive(self, pool: ThreadPoolExecutor, done: Done) -> tuple[Settled, ...]:
        """Note what a worker hands back. Gives what can be written of it."""
        job = done.job
        riders = () if job.verdict else tuple(self._sharing_token.pop(job.token))
        match done.error:
            case AppRejected() as error:
                self._rejected.append(replace(job, claimed=job.claimed + riders))
                self._jury.refused += len(job.claimed + riders)
                self._refusal = str(error)
            case RateLimited() as error:
                self._stopped = Aborted(AbortReason.RATE_LIMITED, str(error))
            case _ if done.verdict:
                self._remember(job.token, done.verdict)
                if riders:
                    self._submit(pool, Job(job.token, riders, done.verdict))
            case _:  # interrupted: still claimed, and given back at the end
                pass
        return done.settled

    def _remember(self, token: Secret, verdict: Verdict) -> None:
        """Keep what a token was exchanged for, for channels with the same one that are claimed later."""
        if isinstance(verdict, NewToken):
            self._renewed[token] = verdict
            if len(self._renewed) > REMEMBERED:
                self._renewed.popitem(last=False)

    def _conclude(self, settled: Iterable[Settled]) -> None:
        """Write good news, then bad news as far as it is believed, then what these have cleared up."""
        settled = list(settled)
        for one in settled:
            self._jury.hear(one.outcome)
        self._write(one for one in settled if not isinstance(one.outcome, Failed))
        believed: list[Settled] = []
        for one in settled:
            if isinstance(one.outcome, Failed):
                (believed if self._is_believed(one.channel, one.outcome) else self._deferred).append(one)
        self._write(believed)
        if self._rejected and self._jury.got_through:
            held, self._rejected = self._rejected, []
            self._conclude(self._acquit(held))
        if self._deferred and self._jury.systemic is None:
            doubted, self._deferred = self._deferred, []
            self._write(doubted)

    def _is_believed(self, channel: Channel, outcome: Failed) -> bool:
        """Whether a failure is taken for the channel's own: not once ten others have newly failed alike."""
        if outcome.reason is self._jury.systemic and counts_as_new(channel, outcome.reason):
            return False
        self._jury.judge(channel, outcome)
        if self._jury.systemic:
            self._refusal = outcome.detail
        return True

    def _acquit(self, held: Iterable[Job]) -> Iterator[Settled]:
        """Others got through, so what was refused was these channels' own trouble."""
        bad = Unusable(
            Reason.UNEXPECTED_ANSWER,
            f"Meta refused this channel's call as it refuses an app: {self._refusal}",
        )
        for job in held:
            for claimed in job.claimed:
                yield settle(bad, claimed, self._keys, self._clock())

    def _write(self, settled: Iterable[Settled]) -> None:
        """Write what is settled, and report what really became of it."""
        writes = []
        for one in settled:
            if one.change is None:
                self._database.claims.release([one.channel.id])
                self._report(one.outcome)
            else:
                writes.append((one, one.change))
        if not writes:
            return
        results = self._database.writer.write([change for _, change in writes])
        logger.debug("wrote %d channels", len(writes))
        for (one, change), (written, words) in zip(writes, results, strict=True):
            outcome = one.outcome
            if written in OVERTAKEN:
                reason, detail = OVERTAKEN[written]
                outcome = skipped(one.channel, reason, detail, one.channel.expires_at)
            elif written is WriteResult.REFUSED:
                self._report_unwritten(one.channel, words)
                continue
            elif written is WriteResult.LOCKED:
                self._locked.append(one)
                continue
            elif not isinstance(outcome, Failed):
                self._jury.judge(one.channel, outcome)
            if written is WriteResult.WRITTEN and _comes_again(one.channel, change, self._scope.look):
                self._seen.add(one.channel.id)
            self._report(outcome)

    def _write_again(self) -> None:
        """Write what was locked when its turn came; after the last try it is told as it is."""
        for _ in range(1 if self._stop.is_set() else LAST_TRIES):
            locked, self._locked = self._locked, []
            self._write(locked)
        locked, self._locked = self._locked, []
        self._database.claims.release([one.channel.id for one in locked])
        for one in locked:
            self._report_unwritten(one.channel, "a transaction of the application keeps the row locked")

    def _report(self, outcome: Outcome) -> None:
        self._reached += 1
        self.tally.add(outcome)
        self._ledger.outcome(outcome)


def _comes_again(channel: Channel, change: PendingUpdate, look: Selection) -> bool:
    """Whether the row is met once more further on: still due, and moved to a later place in the order."""
    if change.expires_at is None or is_due(_after(channel, change), look) is None:
        return False  # unknown ends come first, so they are behind us
    return channel.expires_at is None or change.expires_at > channel.expires_at


def _after(channel: Channel, change: PendingUpdate) -> Channel:
    """The row as `change` has left it."""
    return replace(
        channel,
        ciphertext=change.ciphertext,
        expires_at=change.expires_at,
        refreshed_at=change.refreshed_at,
        status=change.status,
        error=change.error,
        fingerprint=fingerprint(change.ciphertext),
    )
