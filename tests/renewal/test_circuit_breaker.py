"""When failures are fleet-wide, so that a run stops, and when they are the channels' own."""

from __future__ import annotations

import pytest

from models import Channel
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.renewal.circuit_breaker import CircuitBreaker, Question, accepts_app, counts_as_new
from whatsapp_tokens.renewal.decision import NeverExpires, NewToken, StillValid, Suspect, Unusable
from whatsapp_tokens.renewal.updates import ChannelResult
from whatsapp_tokens.results import AbortReason, Failed, Reason, Renewed

GOOD = StillValid(None, None)
DEAD = Unusable(Reason.RECONNECT_REQUIRED, "revoked", suspect=Suspect.TOKEN)
PLAIN_DEAD = Unusable(Reason.RECONNECT_REQUIRED, "dead")
UNREADABLE = Unusable(Reason.RECONNECT_REQUIRED, "malformed", suspect=Suspect.UNREADABLE)
OTHER_APP = Unusable(Reason.RECONNECT_REQUIRED, "of another app", suspect=Suspect.OTHER_APP)
REFUSED = Unusable(Reason.UNEXPECTED_ANSWER, "no such app", suspect=Suspect.APP)
NO_EXCHANGE = Unusable(Reason.UNEXPECTED_ANSWER, "disrupted", suspect=Suspect.EXCHANGE)
LIMITED = Unusable(Reason.UNAVAILABLE, "slow down", suspect=Suspect.LIMIT)
DOWN = Unusable(Reason.UNAVAILABLE, "down")
LACKING = Unusable(Reason.MISSING_PERMISSION, "lacking")
UNDECRYPTABLE = Unusable(Reason.UNDECRYPTABLE, "no key", suspect=Suspect.TOKEN)

ABOUT_APP = Question(Suspect.APP)


def channel(status="ok", error=None):
    return Channel(1, "x", "cipher", status=status, error=error)


def result(verdict, status="ok", error=None):
    outcome = (
        Failed(id=1, name="x", reason=verdict.reason, detail=verdict.detail)
        if isinstance(verdict, Unusable)
        else Renewed(id=1, name="x")
    )
    return ChannelResult(channel(status, error), verdict, outcome)


def known(verdict):
    """The result of a channel that failed in the same way before."""
    return result(verdict, "warning", f"{verdict.reason}: x")


class Run:
    """A breaker, and what it lets be written."""

    def __init__(self):
        self.breaker = CircuitBreaker()
        self.written = []

    def take(self, *results):
        self.written += self.breaker.take(results)
        return self

    def answer(self, question, *verdicts):
        self.written += self.breaker.answer(question, verdicts)
        return self

    def question(self, *, is_last=False):
        return self.breaker.question(is_last=is_last)

    def finish(self):
        self.written += self.breaker.finish()
        return self

    @property
    def aborted(self):
        return self.breaker.aborted and self.breaker.aborted.reason


@pytest.mark.parametrize(
    ("status", "error", "reason", "counts"),
    [
        ("ok", None, Reason.RECONNECT_REQUIRED, True),
        (None, None, Reason.RECONNECT_REQUIRED, True),
        ("warning", "unavailable: x", Reason.RECONNECT_REQUIRED, True),
        ("warning", "unavailable: x", Reason.UNAVAILABLE, False),
        ("warning", "reconnect_required: x", Reason.UNAVAILABLE, True),
        (None, None, Reason.UNAVAILABLE, True),
        ("ok", None, Reason.UNDECRYPTABLE, False),
        ("ok", None, Reason.WRITE_FAILED, True),
    ],
)
def test_only_new_failures_count_as_systemic(status, error, reason, counts):
    assert counts_as_new(channel(status, error), reason) is counts


@pytest.mark.parametrize(
    ("verdict", "accepts"),
    [
        (GOOD, True),
        (NeverExpires(), True),
        (DEAD, True),
        (PLAIN_DEAD, True),
        (LACKING, True),
        (Unusable(Reason.NOT_EXTENDED, "x"), True),
        (UNREADABLE, False),
        (OTHER_APP, False),
        (REFUSED, False),
        (NO_EXCHANGE, False),
        (LIMITED, False),
        (DOWN, False),
        (UNDECRYPTABLE, False),
        (Unusable(Reason.UNEXPECTED_ANSWER, "odd"), False),
    ],
)
def test_an_answer_about_the_token_itself_shows_that_meta_accepts_the_app(verdict, accepts):
    assert accepts_app(verdict) is accepts


# -- what is held, and for how long


def test_a_new_failure_is_held_until_something_succeeds():
    run = Run().take(result(DOWN), result(DEAD))
    before = list(run.written)
    run.take(result(GOOD))
    assert (before, [one.verdict for one in run.written]) == ([], [GOOD, DOWN, DEAD])


@pytest.mark.parametrize(
    "failure", [known(DOWN), known(PLAIN_DEAD), known(UNREADABLE), result(UNDECRYPTABLE)]
)
def test_a_failure_that_is_known_or_about_our_keys_is_written_at_once(failure):
    run = Run().take(failure)
    assert (run.written, run.question()) == ([failure], None)


@pytest.mark.parametrize("failure", [REFUSED, OTHER_APP])
@pytest.mark.parametrize("accepting", [GOOD, DEAD, PLAIN_DEAD])
def test_what_is_refused_like_an_app_is_held_until_another_gets_through(failure, accepting):
    run = Run().take(known(failure))
    before = list(run.written)
    run.take(known(accepting) if isinstance(accepting, Unusable) else result(accepting))
    assert (before, known(failure) in run.written) == ([], True)


def test_few_failures_of_some_channels_are_their_own_when_nothing_is_left():
    run = Run().take(result(DOWN), result(DEAD)).finish()
    assert (len(run.written), run.aborted) == (2, None)


# -- when the controls are asked


@pytest.mark.parametrize(
    ("results", "question"),
    [
        ([REFUSED], ABOUT_APP),
        ([OTHER_APP], ABOUT_APP),
        ([NO_EXCHANGE], ABOUT_APP),
        ([UNREADABLE], Question(Suspect.META, Reason.RECONNECT_REQUIRED)),
        ([DOWN] * 10, Question(Suspect.META, Reason.UNAVAILABLE)),
        ([DEAD] * 10, Question(Suspect.META, Reason.RECONNECT_REQUIRED)),
        ([LACKING] * 10, Question(Suspect.META, Reason.MISSING_PERMISSION)),
        ([DOWN] * 9 + [DEAD] * 9, None),
    ],
)
def test_the_controls_are_asked_for_what_could_be_common_to_all(results, question):
    run = Run().take(*map(result, results))
    assert (run.question(), run.breaker.is_paused) == (question, question is not None)
    run.take(result(NewToken(Secret("x"), None)))
    assert (run.question(), run.breaker.is_paused) == (None, False)


@pytest.mark.parametrize(
    ("results", "question"),
    [
        ([result(DOWN)] * 2, Question(Suspect.META, Reason.UNAVAILABLE)),
        ([result(PLAIN_DEAD)] * 3, Question(Suspect.META, Reason.RECONNECT_REQUIRED)),
        ([result(DOWN)], None),
        ([result(DEAD)] * 3, None),
        ([result(DOWN), result(PLAIN_DEAD)], None),
        ([result(DOWN), result(DOWN), known(DOWN)], None),
        ([], Question(Suspect.APP, is_for_app=True)),
        ([result(UNDECRYPTABLE)] * 3, Question(Suspect.APP, is_for_app=True)),
    ],
)
def test_at_the_end_they_are_asked_if_all_have_failed_alike_or_meta_was_not_asked(results, question):
    run = Run().take(*results)
    assert (run.question(), run.question(is_last=True)) == (None, question)


def test_the_app_token_is_asked_about_only_for_failures_that_are_known():
    assert Run().take(known(REFUSED)).question() == Question(Suspect.APP, is_for_app=True)
    assert Run().take(known(REFUSED), result(REFUSED)).question() == ABOUT_APP


def test_the_same_is_not_asked_twice():
    run = Run().take(result(REFUSED)).answer(ABOUT_APP, DOWN)
    assert (run.question(), run.question(is_last=True), run.aborted) == (None, None, None)


# -- what the controls show


@pytest.mark.parametrize("failure", [REFUSED, OTHER_APP, UNREADABLE, PLAIN_DEAD, DOWN, LACKING])
def test_a_control_that_is_good_shows_that_the_failures_are_the_channels_own(failure):
    run = Run().take(*[result(failure)] * 10)
    run.answer(run.question(), GOOD)
    assert (len(run.written), run.aborted, run.breaker.is_paused) == (10, None, False)


def test_a_control_that_only_lacks_a_permission_shows_that_meta_is_well():
    run = Run().take(*[result(DOWN)] * 10)
    run.answer(run.question(), LACKING)
    assert (len(run.written), run.aborted) == (10, None)


@pytest.mark.parametrize(
    ("failure", "control", "reason"),
    [
        (REFUSED, REFUSED, AbortReason.APP_REJECTED),
        (OTHER_APP, OTHER_APP, AbortReason.APP_REJECTED),
        (NO_EXCHANGE, REFUSED, AbortReason.APP_REJECTED),
        (UNREADABLE, UNREADABLE, AbortReason.SYSTEMIC),
        (PLAIN_DEAD, UNREADABLE, AbortReason.SYSTEMIC),
        (DOWN, DOWN, AbortReason.SYSTEMIC),
        (LACKING, LACKING, AbortReason.SYSTEMIC),
    ],
)
def test_a_control_that_fails_alike_shows_that_the_failure_is_common_to_all(failure, control, reason):
    run = Run().take(*[result(failure)] * 10)
    run.answer(run.question(), DEAD if reason is AbortReason.SYSTEMIC else DOWN, control).finish()
    assert (run.written, run.aborted, run.breaker.is_paused) == ([], reason, True)


def test_a_control_that_died_of_its_own_cause_shows_that_meta_accepts_the_app():
    run = Run().take(result(REFUSED), result(OTHER_APP))
    run.answer(run.question(), DEAD)
    assert (len(run.written), run.aborted) == (2, None)


@pytest.mark.parametrize("verdicts", [[], [DEAD], [DEAD, DOWN]])
def test_where_no_control_can_tell_ten_that_fail_alike_are_written_and_the_run_stops(verdicts):
    run = Run().take(*[result(DEAD)] * 13)
    run.answer(run.question(), *verdicts)
    before = list(run.written)
    run.finish()
    assert (before, len(run.written), run.aborted) == ([], 10, AbortReason.SYSTEMIC)
    detail = "10 channels newly failed alike and none succeeded: reconnect_required; revoked"
    assert run.breaker.aborted.detail == detail


@pytest.mark.parametrize("failure", [UNREADABLE, PLAIN_DEAD, DOWN])
def test_where_no_control_can_tell_fewer_are_the_channels_own(failure):
    run = Run().take(result(failure), result(failure))
    run.answer(run.question(is_last=True)).finish()
    assert (len(run.written), run.aborted) == (2, None)


@pytest.mark.parametrize("failure", [REFUSED, OTHER_APP, NO_EXCHANGE])
@pytest.mark.parametrize("verdicts", [[], [DOWN]])
def test_where_no_control_can_tell_an_app_that_is_refused_for_all_stops_the_run(failure, verdicts):
    run = Run().take(result(failure), result(DOWN))
    run.answer(run.question(), *verdicts).finish()
    assert [one.verdict for one in run.written] == [DOWN]
    assert (run.aborted, run.breaker.aborted.detail) == (AbortReason.APP_REJECTED, failure.detail)


def test_ten_exchanges_that_are_refused_are_not_excused_by_inspections():
    run = Run().take(result(NO_EXCHANGE))
    run.answer(run.question(), GOOD)
    before = (list(run.written), run.breaker.is_paused)
    run.take(*[result(NO_EXCHANGE)] * 9)
    assert (before, run.breaker.is_paused) == (([], False), True)
    assert (run.finish().written, run.aborted) == ([], AbortReason.APP_REJECTED)


@pytest.mark.parametrize("verdict", [NewToken(Secret("x"), None), Unusable(Reason.NOT_EXTENDED, "x")])
def test_an_exchange_that_is_refused_is_the_channels_own_once_another_is_accepted(verdict):
    run = Run().take(known(NO_EXCHANGE), result(verdict))
    assert known(NO_EXCHANGE) in run.written


def test_a_few_exchanges_that_are_refused_are_the_channels_own_if_a_control_is_good():
    run = Run().take(result(NO_EXCHANGE))
    run.answer(run.question(), GOOD).finish()
    assert (len(run.written), run.aborted) == (1, None)


def test_a_run_without_due_channels_finds_out_that_the_app_is_refused():
    run = Run()
    run.answer(run.question(is_last=True), REFUSED).finish()
    assert (run.aborted, run.breaker.aborted.detail) == (AbortReason.APP_REJECTED, "no such app")


@pytest.mark.parametrize("verdict", [GOOD, DEAD, DOWN, LIMITED, UNREADABLE])
def test_a_run_without_due_channels_is_done_with_any_other_answer(verdict):
    run = Run()
    run.answer(run.question(is_last=True), verdict).finish()
    assert (run.question(is_last=True), run.aborted) == (None, None)


def test_a_limit_of_the_app_stops_the_run():
    run = Run().take(result(GOOD), result(LIMITED))
    assert (len(run.written), run.aborted, run.breaker.is_paused) == (1, AbortReason.RATE_LIMITED, True)


def test_what_is_surely_a_channels_own_is_written_also_after_the_app_has_reached_its_limit():
    run = Run().take(result(GOOD), result(LIMITED)).take(result(DEAD), known(DOWN))
    assert [one.verdict for one in run.written] == [GOOD, DEAD, DOWN]


@pytest.mark.parametrize("failure", [REFUSED, NO_EXCHANGE])
def test_an_app_that_is_blocked_in_the_middle_of_a_run_marks_no_channel(failure):
    run = Run().take(result(NewToken(Secret("x"), None)))
    for _ in range(10):
        run.take(result(failure))
    paused = run.breaker.is_paused
    if question := run.question():
        run.answer(question, failure)
    assert (paused, len(run.finish().written), run.aborted) == (True, 1, AbortReason.APP_REJECTED)


def test_one_that_is_refused_like_an_app_among_others_is_released_by_the_next_that_gets_through():
    run = Run().take(result(GOOD)).take(result(REFUSED))
    before = len(run.written)
    run.take(result(GOOD))
    assert (before, len(run.written), run.question()) == (1, 3, None)


def test_the_controls_are_asked_about_each_that_is_refused_like_an_app_while_they_are_good():
    run = Run()
    for _ in range(3):
        run.take(result(REFUSED))
        run.answer(run.question(), GOOD)
    assert (len(run.finish().written), run.aborted) == (3, None)


# -- the database


def test_ten_rows_that_the_database_refuses_stop_the_run_unless_it_accepts_another():
    run = Run()
    for _ in range(10):
        run.breaker.note_write_failure(channel(), "full")
    paused = run.breaker.is_paused
    run.breaker.has_written = True
    assert (paused, run.breaker.is_paused) == (True, False)
    run.breaker.has_written = False
    assert (run.finish().aborted, run.breaker.aborted.detail) == (
        AbortReason.SYSTEMIC,
        "10 channels newly failed alike and none succeeded: write_failed; full",
    )
