"""Meta's allowance: what the headers say, how long everybody waits, and when a run gives up."""

from __future__ import annotations

import json

import pytest
from conftest import only_sqlite
from hypothesis import given
from hypothesis import strategies as st
from world import days

from whatsapp_tokens.meta import rate_limiter as limits
from whatsapp_tokens.meta.errors import RateLimited
from whatsapp_tokens.meta.rate_limiter import RateLimiter, Usage, pause_after


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 1000.0
        self.waits = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    fake = Clock()
    monkeypatch.setattr(limits, "monotonic", fake)
    return fake


def said(app=None, business=None):
    headers = {"X-App-Usage": app, "X-Business-Use-Case-Usage": business}
    return {name: json.dumps(value) for name, value in headers.items() if value is not None}


# What the headers say


@pytest.mark.parametrize(
    ("headers", "usage"),
    [
        ({}, Usage()),
        (said({"call_count": 28, "total_time": 25, "total_cputime": 26}), Usage(app=28)),
        (said({"call_count": 1, "total_time": 2, "total_cputime": 93}), Usage(app=93)),
        (said({"call_count": "81"}), Usage(app=81)),
        (said(business={"7": [{"call_count": 85}], "8": [{"total_time": 90}]}), Usage(business=90)),
        (
            said(business={"7": [{"call_count": 100, "estimated_time_to_regain_access": 2}]}),
            Usage(business=100, regain=120.0),
        ),
        (said({"call_count": None}), Usage()),
        (said([100]), Usage()),
        (said(100), Usage()),
        (said(business={"7": {"call_count": 100}}), Usage()),
        (said(business={"7": [100]}), Usage()),
        ({"X-App-Usage": "{", "X-Business-Use-Case-Usage": "[" * 20_000}, Usage()),
    ],
)
def test_usage_is_read_by_shape_and_the_greatest_count_matters(headers, usage):
    assert Usage.parse(headers) == usage


@given(st.text(), st.text())
def test_no_header_can_break_the_reading(app, business):
    Usage.parse({"X-App-Usage": app, "X-Business-Use-Case-Usage": business})


@pytest.mark.parametrize(
    ("percent", "seconds"),
    [(0, 0), (80, 0), (81, 0.25), (90, 2.5), (94, 3.5), (95, 60), (100, 60), (250, 60)],
)
def test_calls_slow_down_above_80_percent_and_pause_before_100(percent, seconds):
    assert pause_after(percent) == seconds


# What everybody does about it


def test_a_nearly_used_allowance_makes_every_worker_wait(clock):
    gate = RateLimiter(600, clock.sleep)
    gate.note(Usage(app=96), gate.enter())
    gate.enter()
    gate.enter()
    assert clock.waits == [60]


def test_answers_to_calls_from_before_a_pause_do_not_prolong_it(clock):
    gate = RateLimiter(600, clock.sleep)
    called_at = gate.enter() - 1
    gate.note(Usage(app=96), called_at)
    gate.note(Usage(app=97), called_at)
    gate.enter()
    assert clock.waits == [60]


def test_the_budget_bounds_all_waiting_and_then_nothing_begins(clock):
    gate = RateLimiter(90, clock.sleep)
    for _ in range(3):
        gate.note(Usage(app=99), gate.enter())
    with pytest.raises(RateLimited, match="percent of the app's rate limit used: 99"):
        gate.enter()
    assert clock.waits == [60, 30]


def test_what_has_begun_may_end_although_nothing_may_begin(clock):
    gate = RateLimiter(0, clock.sleep)
    gate.note(Usage(app=99), gate.enter())
    assert gate.enter(begins=False) == clock()


def test_without_a_budget_a_run_goes_on_at_full_speed_while_there_is_some_allowance(clock):
    gate = RateLimiter(0, clock.sleep)
    gate.note(Usage(app=94), gate.enter())
    gate.enter()
    assert clock.waits == []


def test_a_business_at_its_limit_delays_its_own_worker_only(clock):
    gate = RateLimiter(6000, clock.sleep)
    gate.note(Usage(business=100, regain=120), gate.enter())
    waits, clock.waits = clock.waits, []
    gate.enter()
    assert (waits, clock.waits) == ([120], [])


def test_businesses_together_get_a_tenth_of_the_budget(clock):
    gate = RateLimiter(600, clock.sleep)
    for _ in range(3):
        gate.note(Usage(business=96, regain=45), gate.enter())
    assert clock.waits == [45, 15]


def test_what_has_begun_ends_without_a_wait_unless_meta_has_refused_a_call(clock):
    gate = RateLimiter(600, clock.sleep)
    gate.note(Usage(app=96), gate.enter())
    gate.note(Usage(business=96), gate.enter(begins=False), has_begun=True)
    assert clock.waits == []
    gate.pause(RateLimited("limited"), called_at=clock())
    gate.enter(begins=False)
    assert clock.waits == [60]


# A whole run


@only_sqlite
def test_a_run_stops_before_the_allowance_is_used_up_and_leaves_the_rest(world):
    ids = [world.channel() for _ in range(5)]
    world.meta.usage = {"call_count": 97, "total_time": 5, "total_cputime": 5}
    result = world.json("--workers", "1")
    assert (result.code, result.document["stopped"]["reason"]) == (3, "rate_limited")
    assert result.counts["left"] == 5
    assert [world.rows.get(id_)["token_status"] for id_ in ids] == ["ok"] * 5


@only_sqlite
def test_a_token_that_was_exchanged_is_proved_before_a_run_stops(world):
    ids = [world.channel(token_expires_at=world.now + days(1 + number)) for number in range(3)]
    called = iter(range(100))

    def nearly_used(_seen):
        world.meta.usage = {"call_count": 97} if next(called) >= 1 else None

    world.meta.on_request = nearly_used
    result = world.json("--workers", "1")
    assert [result.code, result.counts["renewed"], result.counts["left"]] == [3, 1, 2]
    assert world.meta.alive(world.stored(ids[0]))


@only_sqlite
def test_a_run_below_80_percent_does_not_slow_down(world):
    world.env["RATE_LIMIT_WAIT_SECONDS"] = "600"
    world.channel()
    world.meta.usage = {"call_count": 80}
    assert world.json().counts["renewed"] == 1


@only_sqlite
def test_a_signal_while_calls_are_slowed_down_does_not_lose_what_was_exchanged(world):
    world.env["RATE_LIMIT_WAIT_SECONDS"] = "600"
    id_ = world.channel()

    def end_after_exchange(seen):
        if seen.endpoint == "exchange":
            world.meta.usage = {"call_count": 99}
            process.terminate()

    world.meta.on_request = end_after_exchange
    process = world.start("--json")
    process.communicate(timeout=60)
    assert (process.returncode, world.events(id_)) == (143, ["refreshed"])
