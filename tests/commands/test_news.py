"""A failure is news until people have been told of it: what that does to the exit code and to `--quiet`."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from conftest import only_postgresql
from listener import listening
from world import OTHER_KEY, days

from whatsapp_tokens.renewal import claimer

DEAD = (190, 460, "The password was changed.")


@pytest.fixture
def slack(world):
    with listening() as server:
        world.env |= {"SLACK_WEBHOOK_URL": f"{server.url}/hook", "NO_PROXY": "127.0.0.1"}
        yield server


@pytest.fixture
def heartbeat(world):
    with listening() as server:
        world.env |= {"HEALTHCHECK_URL": server.url, "NO_PROXY": "127.0.0.1"}
        yield server


def test_the_same_failure_is_news_on_the_first_night_only(world, slack, heartbeat):
    channel = world.channel(world.token(error=DEAD), name="Bakery North")
    world.channel(name="Clinic East")
    first, second = world.json(), world.json()
    assert [(result.code, result.document["counts"]["known"]) for result in (first, second)] == [
        (1, 0),
        (0, 1),
    ]
    assert [result.entry(channel)["is_news"] for result in (first, second)] == [True, False]
    assert [ping.path for ping in heartbeat.pings] == ["/start", "/1", "/start", "/0"]
    assert len(slack.pings) == 1


def test_what_is_known_is_still_retried_listed_and_counted(world, slack):
    channel = world.channel(world.token(error=DEAD), name="Bakery North")
    world.run()
    calls = world.meta.count()
    result = world.run()
    assert (result.code, world.meta.count() > calls) == (0, True)
    assert f"failed   Bakery North ({channel}): reconnect_required, " in result.out
    assert "Failed:  1" in result.out


def test_quiet_is_silent_about_what_is_known_and_names_what_is_new(world, slack):
    world.channel(world.token(error=DEAD), name="Bakery North")
    world.run()
    known = world.run("--quiet")
    world.channel(world.token(error=DEAD), name="Clinic East")
    new = world.run("--quiet")
    assert (known.code, known.out, known.err) == (0, "", "")
    assert (new.code, "Clinic East" in new.out, "Bakery North" in new.out) == (1, True, False)


def test_a_failure_is_news_again_when_days_are_crossed(world, slack):
    known = {"token_status": "warning", "token_error": "reconnect_required: x"}
    channel = world.channel(
        world.token(error=DEAD, lives=2.5),
        token_expires_at=world.now + days(2.5),
        token_alerted_at=world.now - days(1),
        **known,
    )
    first, second = world.json(), world.json()
    assert [(result.code, result.entry(channel)["is_news"]) for result in (first, second)] == [
        (1, True),
        (0, False),
    ]


def test_a_failure_is_news_again_when_another_reason_needs_a_person(world, slack):
    world.channel()
    channel = world.channel(
        key=OTHER_KEY,
        token_status="warning",
        token_error="missing_permission: x",
        token_alerted_at=world.now - days(1),
    )
    first, second = world.json(), world.json()
    assert [(result.code, result.entry(channel)["is_news"]) for result in (first, second)] == [
        (1, True),
        (0, False),
    ]


def test_every_failure_is_news_where_no_one_would_be_told(world):
    channel = world.channel(
        world.token(error=DEAD),
        token_status="warning",
        token_error="reconnect_required: x",
        token_alerted_at=world.now - days(1),
    )
    results = [world.json() for _ in range(2)]
    assert [(result.code, result.entry(channel)["is_news"]) for result in results] == [(1, True)] * 2


def test_a_failure_that_no_one_received_stays_news(world, slack):
    world.channel(world.token(error=DEAD))
    slack.script = [404, 404]
    assert [world.json().code for _ in range(3)] == [1, 1, 1]
    assert world.json().code == 0


def test_known_failures_of_a_dry_run_are_no_success(world, slack):
    world.channel()
    known = {"token_status": "warning", "token_error": "undecryptable: x", "token_alerted_at": world.now}
    world.channel(key=OTHER_KEY, **known)
    assert (world.json("--dry-run").code, world.json().code) == (1, 0)


@only_postgresql
@pytest.mark.parametrize(("left", "code"), [(6, 1), (9, 0)])
def test_a_row_that_stays_locked_is_no_success_if_its_token_expires_within_a_week(
    world, monkeypatch, left, code
):
    monkeypatch.setattr(claimer, "PATIENCE_SECONDS", 0)
    locked = world.channel(token_expires_at=world.now + days(left))
    free = world.channel()
    with world.rows.engine.connect() as connection, connection.begin():
        connection.execute(sa.text('SELECT id FROM "Channel" WHERE id = :id FOR UPDATE'), {"id": locked})
        result = world.json()
    assert (result.code, result.told(locked), result.told(free)) == (
        code,
        ("skipped", "claimed_elsewhere"),
        ("renewed", None),
    )
    said = "the application kept channels locked that expire within 7 days: 1"
    assert (said in result.err) == bool(code)
