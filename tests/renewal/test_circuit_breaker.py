"""When failures are fleet-wide, so that a run stops, and when they are the channels' own."""

from __future__ import annotations

import pytest

from models import Channel
from whatsapp_tokens.renewal.circuit_breaker import CircuitBreaker, counts_as_new
from whatsapp_tokens.renewal.decision import StillValid, Suspect, Unusable
from whatsapp_tokens.renewal.updates import ChannelResult
from whatsapp_tokens.results import AbortReason, Failed, Reason, Renewed, Skipped


def channel(status=None, error=None):
    return Channel(1, "x", "cipher", status=status, error=error)


def failing(reason, suspect=Suspect.META, known=None):
    outcome = Failed(id=1, name="x", reason=reason, detail="x")
    return ChannelResult(channel(known and "warning", known), Unusable(reason, "x", suspect=suspect), outcome)


def result(outcome):
    return ChannelResult(channel(), StillValid(None, None), outcome)


REFUSED = failing(Reason.UNEXPECTED_ANSWER, Suspect.APP, "unexpected_answer: x")


@pytest.mark.parametrize(
    ("status", "error", "reason", "counts"),
    [
        ("ok", None, Reason.RECONNECT_REQUIRED, True),
        (None, None, Reason.RECONNECT_REQUIRED, False),
        ("warning", "unavailable: x", Reason.RECONNECT_REQUIRED, False),
        ("warning", "unavailable: x", Reason.UNAVAILABLE, False),
        ("warning", "reconnect_required: x", Reason.UNAVAILABLE, True),
        (None, None, Reason.UNAVAILABLE, True),
        ("ok", None, Reason.UNDECRYPTABLE, False),
        ("ok", None, Reason.WRITE_FAILED, True),
    ],
)
def test_only_new_failures_count_as_systemic(status, error, reason, counts):
    assert counts_as_new(channel(status, error), reason) is counts


def test_ten_new_failures_with_one_reason_are_systemic_and_nine_or_mixed_ones_are_not():
    breaker = CircuitBreaker()
    seen = []
    for reason in [Reason.UNAVAILABLE] * 9 + [Reason.UNEXPECTED_ANSWER] * 9 + [Reason.UNAVAILABLE]:
        breaker.take([failing(reason)])
        seen.append(breaker.abort_reason())
    assert (seen[:18], seen[18].reason, seen[18].detail) == (
        [None] * 18,
        AbortReason.SYSTEMIC,
        "10 channels newly failed alike and none succeeded: unavailable; x",
    )


def test_one_success_clears_the_suspicion_that_all_fail_and_releases_what_was_deferred():
    breaker = CircuitBreaker()
    allowed = breaker.take([failing(Reason.UNAVAILABLE) for _ in range(12)])
    before = (len(allowed), breaker.is_open, breaker.released())
    breaker.note_success()
    assert before == (10, True, [])
    assert (breaker.is_open, len(breaker.released()), breaker.abort_reason()) == (False, 2, None)


@pytest.mark.parametrize(
    ("answer", "through"),
    [
        (result(Renewed(id=1, name="x")), True),
        (result(Skipped(id=1, name="x", reason=Reason.CLOCK_CORRECTED)), True),
        (failing(Reason.RECONNECT_REQUIRED), True),
        (failing(Reason.MISSING_PERMISSION), True),
        (failing(Reason.NOT_EXTENDED), True),
        (failing(Reason.UNAVAILABLE), False),
        (failing(Reason.UNEXPECTED_ANSWER), False),
        (failing(Reason.UNDECRYPTABLE), False),
    ],
)
def test_an_answer_about_the_channel_itself_shows_that_meta_accepts_the_app(answer, through):
    breaker = CircuitBreaker()
    held = breaker.take([REFUSED] * 10)
    assert (held, breaker.is_open, breaker.abort_reason().reason) == ([], True, AbortReason.APP_REJECTED)
    assert breaker.take([answer]) == ([answer, *[REFUSED] * 10] if through else [answer])
    assert breaker.is_open is not through


def test_nine_channels_that_are_refused_like_an_app_do_not_pause_the_run():
    breaker = CircuitBreaker()
    breaker.take([REFUSED] * 9)
    assert breaker.is_open is False
