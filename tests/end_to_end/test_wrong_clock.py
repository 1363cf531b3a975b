"""A machine whose clock is wrong: nothing is touched, and both times are named."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from listener import listening
from world import days

import refresh_tokens

WRONG = {
    "20 days behind": lambda: datetime.now(UTC) - days(20),
    "1970": lambda: datetime(1970, 1, 1, 0, 5, tzinfo=UTC),
    "a year ahead": lambda: datetime.now(UTC) + days(365),
}


@pytest.fixture(params=WRONG.values(), ids=list(WRONG))
def wrong_clock(request, monkeypatch):
    monkeypatch.setattr(refresh_tokens, "now", request.param)


def assert_is_refused(result, before, world, channels):
    stopped = result.document["stopped"]
    assert (result.code, stopped["reason"]) == (2, "configuration")
    assert "the clock of this machine is wrong; time on this machine: " in stopped["detail"]
    assert f"{datetime.now(UTC):%Y-%m-%dT}" in stopped["detail"]
    assert [world.rows.get(id_) for id_ in channels] == before
    assert world.rows.audit() == []


def test_a_wrong_clock_is_said_and_nothing_is_touched(world, wrong_clock):
    channels = [world.channel(world.token(age=58, lives=2), token_expires_at=world.now + days(2))]
    channels += [world.channel(token_status="warning", token_error="unavailable: x", token_expires_at=None)]
    before = [world.rows.get(id_) for id_ in channels]
    with listening() as slack:
        world.env |= {"SLACK_WEBHOOK_URL": f"{slack.url}/hook", "NO_PROXY": "127.0.0.1"}
        assert_is_refused(world.json(), before, world, channels)
        assert ["the clock of this machine is wrong" in ping.body for ping in slack.pings] == [True]


def test_a_wrong_clock_is_said_although_meta_does_not_say_what_time_it_is(world, wrong_clock):
    world.meta.date = None
    channels = [world.channel(world.token(age=58, lives=2), token_expires_at=world.now + days(2))]
    before = [world.rows.get(id_) for id_ in channels]
    result = world.json()
    assert_is_refused(result, before, world, channels)
    assert world.meta.exchanges == []
    assert "time at the database server: " in result.document["stopped"]["detail"]


def test_with_the_right_clock_the_next_run_renews(world):
    channel = world.channel(world.token(age=58, lives=2), token_expires_at=world.now + days(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refresh_tokens, "now", WRONG["20 days behind"])
        world.json()
    assert world.json().told(channel) == ("renewed", None)
