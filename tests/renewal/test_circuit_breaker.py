"""When a trouble is everybody's, so that a run stops, and when it is the channels' own."""

from __future__ import annotations

import pytest

from models import Channel
from whatsapp_tokens.renewal.circuit_breaker import CircuitBreaker, counts_as_new
from whatsapp_tokens.results import Failed, Reason, Renewed, Skipped


def failed(reason):
    return Failed(id=1, name="x", reason=reason, detail="x")


def channel(status=None, error=None):
    return Channel(1, "x", "cipher", status=status, error=error)


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
    jury = CircuitBreaker()
    seen = []
    for reason in [Reason.UNAVAILABLE] * 9 + [Reason.UNEXPECTED_ANSWER] * 9 + [Reason.UNAVAILABLE]:
        jury.judge(channel(), failed(reason))
        seen.append(jury.systemic)
    assert seen == [None] * 18 + [Reason.UNAVAILABLE]


@pytest.mark.parametrize(
    ("outcome", "clears"),
    [
        (Renewed(id=1, name="x"), True),
        (Skipped(id=1, name="x", reason=Reason.CLOCK_CORRECTED), True),
        (Skipped(id=1, name="x", reason=Reason.NEVER_EXPIRES), True),
        (Skipped(id=1, name="x", reason=Reason.REPLACED_MEANWHILE), False),
        (failed(Reason.RECONNECT_REQUIRED), False),
    ],
)
def test_one_success_clears_the_suspicion_that_all_fail(outcome, clears):
    jury = CircuitBreaker()
    for _ in range(10):
        jury.judge(channel(), failed(Reason.UNAVAILABLE))
    jury.judge(channel("ok"), outcome)
    assert (jury.systemic is None) is clears


@pytest.mark.parametrize(
    ("outcome", "through"),
    [
        (Renewed(id=1, name="x"), True),
        (Skipped(id=1, name="x", reason=Reason.CLOCK_CORRECTED), True),
        (failed(Reason.RECONNECT_REQUIRED), True),
        (failed(Reason.MISSING_PERMISSION), True),
        (failed(Reason.NOT_EXTENDED), True),
        (failed(Reason.UNAVAILABLE), False),
        (failed(Reason.UNEXPECTED_ANSWER), False),
        (failed(Reason.UNDECRYPTABLE), False),
    ],
)
def test_an_answer_about_the_channel_itself_shows_that_meta_accepts_the_app(outcome, through):
    jury = CircuitBreaker(refused=10)
    jury.hear(outcome)
    assert jury.suspects_app is not through
