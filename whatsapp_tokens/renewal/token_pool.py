"""The tokens that this run is working on: each of them once, however many channels share it."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from models import Channel
from whatsapp_tokens.facts import fact
from whatsapp_tokens.http_environment import LocalFault
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.renewal.clock_check import WrongClock
from whatsapp_tokens.renewal.decision import NewToken, Unusable, Verdict
from whatsapp_tokens.renewal.updates import ChannelResult, ClaimedChannel
from whatsapp_tokens.renewal.workers import Workers
from whatsapp_tokens.results import Reason
from whatsapp_tokens.signals import WAKE_SECONDS, Interrupted

logger = logging.getLogger(__name__)

BATCH: Final = 64
REMEMBERED: Final = 128  # tokens renewed last, for channels that share one and are claimed later


@dataclass(frozen=True, slots=True)
class Job:
    """How to find a verdict, and the claimed channels that hold the token. A question has neither."""

    find_verdict: Callable[[], Verdict]
    token: Secret | None = None
    claimed: tuple[ClaimedChannel, ...] = ()
    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker made of a job: the verdict, and the result of each channel. None if interrupted.

    `fault` is one of this machine: no channel's, and the end of the run.
    """

    job: Job
    verdict: Verdict | None = None
    results: tuple[ChannelResult, ...] = ()
    fault: WrongClock | LocalFault | None = None


class TokenPool:
    """Hands tokens to the workers, and shares what is found out about one with all of its channels."""

    def __init__(
        self,
        renew: Callable[[Secret], Verdict],
        conclude: Callable[[Verdict, ClaimedChannel], ChannelResult],
        workers: int,
    ) -> None:
        self._renew = renew
        self._conclude = conclude
        self._workers: Workers[Job, Done] = Workers(self._work, workers)
        self._sharing_token: dict[Secret, list[ClaimedChannel]] = {}  # with a token that is being renewed
        self._renewed: OrderedDict[Secret, NewToken] = OrderedDict()
        self._parked: list[Job] = []
        self.in_flight = 0  # channels that were added and whose result was not collected yet

    @property
    def is_idle(self) -> bool:
        """Whether no worker is busy."""
        return self._workers.is_idle

    @property
    def parked(self) -> list[tuple[Channel, Secret]]:
        """What no worker has begun, the least urgent first: a channel of each token, and the token."""
        return [
            (job.claimed[0].channel, job.token)
            for job in reversed(self._parked)
            if job.token is not None and not job.is_shared
        ]

    def add(self, token: Secret, claimed: ClaimedChannel) -> None:
        """Give a channel to a worker, or let it share what is found out about the same token."""
        self.in_flight += 1
        if token in self._sharing_token:
            self._sharing_token[token].append(claimed)
        elif token in self._renewed:
            self._submit_shared(token, (claimed,), self._renewed[token])
        else:
            self._sharing_token[token] = []
            self._workers.submit(Job(lambda: self._renew(token), token, (claimed,)))

    def ask(self, find_verdict: Callable[[], Verdict]) -> None:
        """Let a worker find a verdict that is for no channel. The pool must be idle; see `answer`."""
        self._workers.submit(Job(find_verdict))

    def answer(self) -> Verdict | None:
        """Return the verdict that was asked for, if it has come in. None also if it was interrupted."""
        return next((done.verdict for done in self._collect(1)), None)

    def collect(self) -> list[ChannelResult]:
        """Return the results that have come in. Waits for one, but not longer than a signal may wait.

        Raise `WrongClock` or `LocalFault`.
        """
        results: list[ChannelResult] = []
        for done in self._collect(BATCH):
            self.in_flight -= len(done.job.claimed)
            if done.job.token is not None and not done.job.is_shared:
                self._share(done.job.token, done.verdict)
            results += done.results
        return results

    def _collect(self, limit: int) -> list[Done]:
        found = self._workers.collect(WAKE_SECONDS, limit)
        if fault := next((done.fault for done in found if done.fault), None):
            raise fault.with_traceback(None)
        return found

    def park(self) -> None:
        """Take back what no worker has begun."""
        self._parked += self._workers.take_back()

    def unpark(self) -> None:
        """Give it to the workers again."""
        while self._parked:
            self._workers.submit(self._parked.pop(0))

    def close(self) -> None:
        """Wait for what the workers have begun, and begin nothing more."""
        self._workers.close()

    def _share(self, token: Secret, verdict: Verdict | None) -> None:
        """Pass a verdict on to the channels that share the token. Interrupted, they stay claimed."""
        sharing = tuple(self._sharing_token.pop(token))
        if verdict is None:
            self.in_flight -= len(sharing)
            return
        if isinstance(verdict, NewToken):
            self._renewed[token] = verdict
            if len(self._renewed) > REMEMBERED:
                self._renewed.popitem(last=False)
        if sharing:
            self._submit_shared(token, sharing, verdict)

    def _submit_shared(self, token: Secret, claimed: tuple[ClaimedChannel, ...], verdict: Verdict) -> None:
        """Let a worker encrypt for further channels of a token."""
        self._workers.submit(Job(lambda: verdict, token, claimed, is_shared=True))

    def _work(self, job: Job) -> Done:
        """Find the verdict on a token and what it means for its channels. Runs in a worker; never raises."""
        try:
            return self._finish(job, job.find_verdict())
        except Interrupted:
            return Done(job)
        except (WrongClock, LocalFault) as fault:
            return Done(job, fault=fault)
        except Exception as error:
            # A mistake of ours must cost one channel, not the run.
            logger.exception("unexpected error while renewing")
            detail = fact("internal error", type(error).__name__)
            return self._finish(job, Unusable(Reason.UNEXPECTED_ANSWER, detail))

    def _finish(self, job: Job, verdict: Verdict) -> Done:
        return Done(job, verdict, tuple(self._conclude(verdict, claimed) for claimed in job.claimed))
