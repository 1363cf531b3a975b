"""The circuit breaker: whether failures are the channels' own, or common to all of them.

It is handed the results of channels and gives back those that may be written now. A failure that could be
common to all stays with it, claimed and unwritten, until something shows whose it is: another channel that
succeeds, or the *controls*, channels of which Meta is only asked. It says when to ask them (`question`), is
told what they answered, and says at the end why the run stops, if it does. Knows no database, no threads and
no network.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from models import Channel, Status
from whatsapp_tokens.facts import fact, facts
from whatsapp_tokens.renewal.decision import NewToken, Suspect, Unusable, Verdict
from whatsapp_tokens.renewal.updates import ChannelResult
from whatsapp_tokens.results import Aborted, AbortReason, Failed, Reason

ENOUGH: Final = 10  # channels that newly fail for one reason before it is taken for a fleet-wide failure
OUR_APP: Final = frozenset({Suspect.APP, Suspect.EXCHANGE, Suspect.OTHER_APP})


@dataclass(frozen=True, slots=True)
class Question:
    """What the controls are to show: whether `suspect` is at fault, because they fail alike.

    `is_for_app`: where no control answers, the app token itself may.
    """

    suspect: Suspect
    reason: Reason | None = None
    is_for_app: bool = False


class CircuitBreaker:
    """Holds back failures that may be fleet-wide, and says when to pause, what to ask and why to stop."""

    def __init__(self) -> None:
        self._held: list[ChannelResult] = []
        self._asked: set[tuple[Suspect, Reason | None]] = set()
        self._answers = 0  # of Meta, about channels and controls
        self._channels = 0  # that Meta was asked about
        self._app_is_accepted = False
        self._exchange_is_accepted = False
        self._write_failures = 0
        self._write_detail = ""
        self.has_written = False
        self.meta_is_well = False  # a token was found good, so failures are the channels' own
        self.aborted: Aborted | None = None

    @property
    def has_asked(self) -> bool:
        """Whether Meta was asked about anything, and has answered or not."""
        return self._answers > 0

    @property
    def is_paused(self) -> bool:
        """Whether nothing new may begin until it is known whose the failures are."""
        return (
            self.aborted is not None
            or self.question(is_last=False) is not None
            or self._systemic is not None
            or len(self._rejected) >= ENOUGH
            or self._refuses_writes
        )

    def take(self, results: Iterable[ChannelResult]) -> list[ChannelResult]:
        """Take what came of some channels. Return what may be written now, successes first."""
        successes: list[ChannelResult] = []
        results = list(results)
        suspects = {_suspect(result) for result in results}
        # An app may be blocked while the run goes on: then what was accepted before shows nothing any more.
        self._app_is_accepted &= not suspects & OUR_APP
        self._exchange_is_accepted &= Suspect.EXCHANGE not in suspects
        for result in results:
            if result.is_answer:
                self._channels += 1
                self._note(result.verdict)
            if _suspect(result) is Suspect.LIMIT:  # the app itself was limited, too, when the client asked
                self.aborted = Aborted(AbortReason.RATE_LIMITED, _said(result))
            elif isinstance(result.verdict, Unusable):
                self._held.append(result)
            else:
                successes.append(result)
        return successes + self._release()

    def question(self, *, is_last: bool) -> Question | None:
        """Return what the controls are to be asked now, or None. `is_last`: no due channel is left."""
        if self.aborted is not None:
            return None
        questions: list[Question] = []
        rejected = self._rejected
        if rejected and not self._app_is_accepted:
            questions.append(Question(Suspect.APP, is_for_app=all(map(_is_known_refusal, rejected))))
        elif is_last and not self._answers:
            questions.append(Question(Suspect.APP, is_for_app=True))
        if not self.meta_is_well:
            reasons = [one for one in self._newly() if self._may_be_metas(one, is_last=is_last)]
            questions += [Question(Suspect.META, reason) for reason in reasons]
        return next((one for one in questions if (one.suspect, one.reason) not in self._asked), None)

    def answer(self, question: Question, verdicts: Sequence[Verdict]) -> list[ChannelResult]:
        """Take the verdicts on the controls. Return what may be written now."""
        for verdict in verdicts:
            self._note(verdict, question.reason)
        if question.suspect is not Suspect.APP or not self._app_is_accepted:
            self._asked.add((question.suspect, question.reason))
        alike = [one for one in verdicts if isinstance(one, Unusable) and _fails_alike(one, question)]
        if alike and question.suspect is Suspect.APP and not self._app_is_accepted:
            detail = _said(self._rejected[0]) if self._rejected else alike[0].detail
            self.aborted = Aborted(AbortReason.APP_REJECTED, detail)
        elif alike and question.reason and not self.meta_is_well:
            first = self._newly()[question.reason][0]
            failing = fact("other channels fail alike", question.reason)
            self.aborted = Aborted(AbortReason.SYSTEMIC, facts(failing, _said(first)))
        return self._release()

    def finish(self) -> list[ChannelResult]:
        """Settle what is still held, now that nothing can show whose it is. Return what may be written."""
        if self.aborted is not None:
            return []
        if self._refuses_writes:
            self._abort_systemic(Reason.WRITE_FAILED, self._write_detail)
            return []
        if reason := self._systemic:
            marked = self._newly()[reason][:ENOUGH]
            self._abort_systemic(reason, _said(marked[-1]))
            return marked
        rejected = self._rejected
        if rejected and (not self._app_is_accepted or len(rejected) >= ENOUGH):
            self.aborted = Aborted(AbortReason.APP_REJECTED, _said(rejected[0]))
            released = [result for result in self._held if result not in rejected]
        else:
            released = self._held
        self._held = []
        return released

    def note_write_failure(self, channel: Channel, detail: str) -> None:
        """Take note that the database refused a row."""
        self._write_failures += counts_as_new(channel, Reason.WRITE_FAILED)
        self._write_detail = detail

    @property
    def _systemic(self) -> Reason | None:
        """The one reason for which so many channels newly failed while none succeeded, or None."""
        if self.meta_is_well:
            return None
        return next((reason for reason, results in self._newly().items() if len(results) >= ENOUGH), None)

    @property
    def _refuses_writes(self) -> bool:
        return self._write_failures >= ENOUGH and not self.has_written

    def _note(self, verdict: Verdict, wanted: Reason | None = None) -> None:
        """Take note of what an answer shows, whether it was about a due channel or a control."""
        self._answers += 1
        self._app_is_accepted |= accepts_app(verdict)
        self._exchange_is_accepted |= isinstance(verdict, NewToken)
        if isinstance(verdict, Unusable):
            is_valid = verdict.reason is Reason.MISSING_PERMISSION and wanted not in {None, verdict.reason}
            self.meta_is_well |= is_valid
            self._exchange_is_accepted |= verdict.reason is Reason.NOT_EXTENDED
        else:
            self.meta_is_well = True

    def _release(self) -> list[ChannelResult]:
        """Return what is known to be the channels' own, and hold the rest."""
        own = [result for result in self._held if self._is_own(result)]
        self._held = [result for result in self._held if not self._is_own(result)]
        return own

    def _is_own(self, result: ChannelResult) -> bool:
        if self.aborted is not None and self.aborted.reason is not AbortReason.RATE_LIMITED:
            return False
        match _suspect(result):
            case Suspect.APP | Suspect.OTHER_APP:
                return self._app_is_accepted
            case Suspect.EXCHANGE:  # an inspection does not show that exchanges are accepted
                return self._exchange_is_accepted
            case _:
                return self.meta_is_well or not counts_as_new(result.channel, _reason(result))

    @property
    def _rejected(self) -> list[ChannelResult]:
        """The held failures for which our app may be at fault."""
        return [result for result in self._held if _suspect(result) in OUR_APP]

    def _newly(self) -> dict[Reason, list[ChannelResult]]:
        """Return the held failures for which Meta may be at fault, by reason."""
        found: dict[Reason, list[ChannelResult]] = {}
        for result in self._held:
            if _suspect(result) not in OUR_APP:
                found.setdefault(_reason(result), []).append(result)
        return found

    def _may_be_metas(self, reason: Reason, *, is_last: bool) -> bool:
        """Return whether the failures for one reason are such that Meta itself may be at fault."""
        suspects = [_suspect(result) for result in self._newly()[reason]]
        is_fleet_wide = is_last and 1 < len(suspects) == self._channels
        return (
            len(suspects) >= ENOUGH
            or Suspect.UNREADABLE in suspects
            or (is_fleet_wide and set(suspects) != {Suspect.TOKEN})
        )

    def _abort_systemic(self, reason: Reason, detail: str) -> None:
        failures = fact("10 channels newly failed alike and none succeeded", reason)
        self.aborted = Aborted(AbortReason.SYSTEMIC, facts(failures, detail))


def counts_as_new(channel: Channel, reason: Reason) -> bool:
    """Return whether a failure is new: not known before, and never an unreadable ciphertext."""
    if reason is Reason.UNDECRYPTABLE:
        return False
    return not (channel.status == Status.WARNING and channel.reason == reason)


def is_answer(verdict: Verdict) -> bool:
    """Return whether a control could tell something."""
    return not (isinstance(verdict, Unusable) and verdict.reason is Reason.UNAVAILABLE)


def accepts_app(verdict: Verdict) -> bool:
    """Return whether Meta has said something about the token itself: then it accepts our app."""
    if not isinstance(verdict, Unusable):
        return True
    return verdict.reason.is_answered and verdict.suspect in {Suspect.TOKEN, Suspect.META}


def _is_known_refusal(result: ChannelResult) -> bool:
    """Return whether Meta refused this channel's call as it refuses an app already at an earlier run."""
    is_new = counts_as_new(result.channel, Reason.UNEXPECTED_ANSWER)
    return _suspect(result) is not Suspect.OTHER_APP and not is_new


def _fails_alike(verdict: Unusable, question: Question) -> bool:
    if question.suspect is Suspect.APP:
        return verdict.suspect in OUR_APP
    return verdict.reason is question.reason and verdict.suspect in {Suspect.META, Suspect.UNREADABLE}


def _suspect(result: ChannelResult) -> Suspect:
    return result.verdict.suspect if isinstance(result.verdict, Unusable) else Suspect.TOKEN


def _reason(result: ChannelResult) -> Reason:
    return result.outcome.reason if isinstance(result.outcome, Failed) else Reason.UNEXPECTED_ANSWER


def _said(result: ChannelResult) -> str:
    """Return what Meta said of a channel."""
    return result.verdict.detail if isinstance(result.verdict, Unusable) else ""
