"""The circuit breaker: whether failures are the channels' own, or common to all of them.

It is handed the results of channels and gives back those that may be written now. What could be common to all
stays with it, claimed and unwritten, until another channel shows that it is not. Knows no database and no
threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from models import Channel, Status
from whatsapp_tokens.facts import fact, facts
from whatsapp_tokens.renewal.decision import Suspect, Unusable
from whatsapp_tokens.renewal.updates import ChannelResult
from whatsapp_tokens.results import Aborted, AbortReason, Failed, Outcome, Reason, Renewed, Skipped

ENOUGH: Final = 10  # channels that newly fail for one reason before it is taken for a fleet-wide failure


class CircuitBreaker:
    """Holds back failures that may be fleet-wide, and says when to pause and why to stop."""

    def __init__(self) -> None:
        self._rejected: list[ChannelResult] = []  # Meta refused the call as it refuses an app
        self._deferred: list[ChannelResult] = []  # failed like ten others before
        self._newly: Counter[Reason] = Counter()
        self._aborted: Aborted | None = None
        self._detail = ""
        self._app_is_accepted = False
        self.has_succeeded = False

    @property
    def is_open(self) -> bool:
        """Whether nothing new may begin until what is in flight shows whether the failure is fleet-wide."""
        return self._aborted is not None or self._systemic is not None or self._suspects_app

    def take(self, results: Iterable[ChannelResult]) -> list[ChannelResult]:
        """Take what came of some channels. Return what may be written now, successes first."""
        failures: list[ChannelResult] = []
        allowed: list[ChannelResult] = []
        for result in results:
            self._app_is_accepted |= _is_answered(result.outcome)
            (failures if isinstance(result.outcome, Failed) else allowed).append(result)
        allowed += [failure for failure in failures if self._admits(failure)]
        if self._app_is_accepted:
            acquitted, self._rejected = self._rejected, []
            allowed += [result for result in acquitted if self._counts(result)]
        return allowed

    def released(self) -> list[ChannelResult]:
        """Return what was deferred, if a success has shown since that it may be written."""
        if self._systemic is not None:
            return []
        released, self._deferred = self._deferred, []
        return released

    def note_success(self) -> None:
        """Take note that a channel was renewed, corrected or found never to expire, and that is written."""
        self.has_succeeded = True

    def note_write_failure(self, channel: Channel, detail: str) -> None:
        """Take note that the database refused a row."""
        if counts_as_new(channel, Reason.WRITE_FAILED):
            self._newly[Reason.WRITE_FAILED] += 1
        self._detail = detail

    def abort_reason(self) -> Aborted | None:
        """Return why the run stops, now that nothing is in flight; None if it is simply done."""
        if self._aborted is None and self._rejected:
            return Aborted(AbortReason.APP_REJECTED, self._detail)
        if self._aborted is None and (reason := self._systemic):
            failures = fact("10 channels newly failed alike and none succeeded", reason)
            return Aborted(AbortReason.SYSTEMIC, facts(failures, self._detail))
        return self._aborted

    @property
    def _suspects_app(self) -> bool:
        return len(self._rejected) >= ENOUGH and not self._app_is_accepted

    @property
    def _systemic(self) -> Reason | None:
        """The one reason for which so many channels failed while none succeeded, or None."""
        if self.has_succeeded:
            return None
        return next((reason for reason, count in self._newly.items() if count >= ENOUGH), None)

    def _admits(self, result: ChannelResult) -> bool:
        """Return whether a failure may be written now; else keep it."""
        verdict = result.verdict
        match verdict.suspect if isinstance(verdict, Unusable) else Suspect.META:
            case Suspect.APP:
                self._rejected.append(result)
                self._detail = verdict.detail if isinstance(verdict, Unusable) else ""
                return False
            case Suspect.LIMIT:
                self._aborted = Aborted(AbortReason.RATE_LIMITED, _detail(result))
                return False
            case Suspect.META:
                return self._counts(result)

    def _counts(self, result: ChannelResult) -> bool:
        """Count a failure. Return whether it is taken for the channel's own: not once ten failed alike."""
        reason = result.outcome.reason if isinstance(result.outcome, Failed) else None
        if reason is None or not counts_as_new(result.channel, reason):
            return True
        if reason is self._systemic:
            self._deferred.append(result)
            return False
        self._newly[reason] += 1
        if self._systemic:
            self._detail = _detail(result)
        return True


def counts_as_new(channel: Channel, reason: Reason) -> bool:
    """Return whether a failure is new: not known before, and never an unreadable ciphertext."""
    if reason is Reason.UNDECRYPTABLE:
        return False
    if reason is Reason.RECONNECT_REQUIRED:
        return channel.status == Status.OK
    return not (channel.status == Status.WARNING and channel.reason == reason)


def _is_answered(outcome: Outcome) -> bool:
    """Return whether Meta has said something about the channel itself: then it accepts our app."""
    return isinstance(outcome, Renewed) or (
        isinstance(outcome, Skipped | Failed) and outcome.reason.is_answered
    )


def _detail(result: ChannelResult) -> str:
    return result.outcome.detail if isinstance(result.outcome, Failed) else ""
