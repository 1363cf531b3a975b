"""Whose a failure is: one channel's, or common to all. And what a run asks Meta when nothing is due."""

from __future__ import annotations

import time

import pytest
from world import days, unix

from sandbox.graph import Reply, graph_error
from whatsapp_tokens.database import pages

DEAD = (190, 460, "Error validating access token: the session was invalidated.")
MALFORMED = Reply(
    200,
    {"data": {"error": {"code": 190, "message": "Malformed access token"}, "is_valid": False, "scopes": []}},
)
NO_CAPABILITY = graph_error(400, "(#101) Missing client_id parameter.", 101)
OTHER_APP = "200000000000002"


def healthy(world, age=20):
    """Columns of a channel that is not due."""
    return {
        "token_expires_at": world.now + days(60 - age),
        "last_token_refresh_at": world.now - days(age),
        "token_status": "ok",
    }


def control(world, age=20, **fields):
    """A healthy channel that is not due, and its token."""
    token = world.token(age=age, lives=60 - age, **fields)
    return world.channel(token, **healthy(world, age)), token


def states(world, channels):
    rows = [world.rows.get(channel) for channel in channels]
    return [(row["token_status"], row["token_error"], row["token_expires_at"]) for row in rows]


def stopped(result):
    return result.code, (result.document["stopped"] or {}).get("reason")


# -- another app, and a Meta that reads no token


def use_app(world, app_id):
    world.meta.app_id = world.env["META_APP_ID"] = app_id


@pytest.mark.parametrize("count", [1, 4, 30])
@pytest.mark.parametrize("status", ["ok", None])
def test_the_id_of_another_app_marks_no_channel_and_the_next_correct_run_renews_them_all(
    world, count, status
):
    ours = world.meta.app_id
    unknown = {"token_expires_at": None, "token_status": status}
    channels = [world.channel(world.token(app_id=ours), **unknown) for _ in range(count)]
    before = [world.rows.get(channel) for channel in channels]
    use_app(world, OTHER_APP)
    wrong = world.json()
    after = [world.rows.get(channel) for channel in channels]
    use_app(world, ours)
    assert (stopped(wrong), after, world.rows.audit()) == ((3, "app_rejected"), before, [])
    assert "another app" in wrong.document["stopped"]["detail"]
    assert world.json().counts == {"candidates": count, "due": count, "renewed": count}


@pytest.mark.parametrize("workers", [1, 16])
def test_a_meta_that_reads_no_token_is_systemic_if_a_control_fails_alike(world, workers):
    channels = [world.channel(token_expires_at=None) for _ in range(4)]
    also, _ = control(world)
    before = states(world, [*channels, also])
    world.meta.script(None, MALFORMED, endpoint="debug_token", forever=True)
    wrong = world.json("--workers", str(workers))
    assert (stopped(wrong), states(world, [*channels, also])) == ((3, "systemic"), before)
    world.meta.script(None, endpoint="debug_token")
    assert world.json().counts["renewed"] == 4


def test_tokens_that_meta_cannot_read_are_asked_about_again_where_no_control_can_tell(world):
    channels = [world.channel(token_expires_at=None) for _ in range(4)]
    world.meta.script(None, MALFORMED, endpoint="debug_token", forever=True)
    world.meta.latency = 0.5  # all are begun before the first answer comes: then there is no control
    wrong = world.json()
    assert {result[0] for result in map(wrong.told, channels)} == {"failed"}
    assert {row[2] for row in states(world, channels)} == {None}  # no end is invented
    world.meta.script(None, endpoint="debug_token")
    assert world.json().counts == {"candidates": 4, "due": 4, "renewed": 4}


def test_a_claimed_channel_that_was_not_begun_is_a_control_where_there_is_no_other(world):
    channels = [world.channel(token_expires_at=None, token_status=None) for _ in range(4)]
    before = states(world, channels)
    world.meta.script(None, MALFORMED, endpoint="debug_token", forever=True)
    # Two workers: after the first answer, which comes at once, nothing new is begun.
    world.meta.on_request = lambda seen: time.sleep(0.3 if len(world.meta.requests) > 1 else 0)
    wrong = world.json("--workers", "2")
    assert (stopped(wrong), states(world, channels)) == ((3, "systemic"), before)
    assert wrong.counts == {"candidates": 4, "due": 4, "left": 4}


def test_a_token_that_meta_cannot_read_is_its_channels_own_if_a_control_is_good(world):
    bad, good = world.channel("EAAnot-a-token-of-meta"), control(world)[0]
    before = world.rows.get(good)
    result = world.json()
    assert (result.code, result.told(bad)) == (1, ("failed", "reconnect_required"))
    assert world.rows.get(good) == before


def test_one_token_of_another_app_marks_its_channel_if_a_control_is_good(world):
    bad = world.channel(world.token(app_id=OTHER_APP))
    control(world)
    assert world.json().told(bad) == ("failed", "reconnect_required")


# -- many dead tokens


@pytest.mark.parametrize("count", [60, 150])
def test_newly_dead_tokens_do_not_starve_the_healthy_ones(world, count):
    soon = {"token_expires_at": world.now + days(1)}
    dead = [world.channel(world.token(error=DEAD), **soon) for _ in range(count)]
    good = [world.channel(token_expires_at=world.now + days(12)) for _ in range(5)]
    result = world.json()
    assert stopped(result) == (1, None)
    assert {result.told(channel) for channel in good} == {("renewed", None)}
    assert {result.told(channel) for channel in dead} == {("failed", "reconnect_required")}


def test_a_wave_of_deaths_without_a_cause_is_systemic_if_a_control_dies_alike(world):
    wave = (190, None, "Error validating access token.")
    channels = [world.channel(world.token(error=wave)) for _ in range(12)]
    also, _ = control(world, error=wave)
    before = states(world, [*channels, also])
    result = world.json()
    assert (stopped(result), states(world, [*channels, also])) == ((3, "systemic"), before)
    assert "other channels fail alike: reconnect_required" in result.document["stopped"]["detail"]


def test_a_meta_that_is_down_for_every_due_channel_is_systemic_if_a_control_shows_it(world):
    channels = [world.channel() for _ in range(2)]
    also, _ = control(world)
    before = states(world, [*channels, also])
    world.env["META_RETRIES"] = "0"
    world.meta.script(None, Reply(503, ""), forever=True)
    result = world.json()
    assert (stopped(result), states(world, [*channels, also])) == ((3, "systemic"), before)
    assert result.counts == {"candidates": 3, "due": 2, "left": 2}


def test_a_control_that_is_bad_while_meta_is_well_is_dealt_with_in_this_run(world):
    due = world.channel(world.token(app_id=OTHER_APP))
    bad, _ = control(world, age=5, error=DEAD)
    good, token = control(world, age=20)
    result = world.json()
    assert [result.told(due), result.told(bad)] == [("failed", "reconnect_required")] * 2
    assert result.counts == {"candidates": 3, "due": 2, "failed": 2}
    assert (world.rows.audit(good), world.meta.count("exchange", token)) == ([], 0)


# -- the app


@pytest.mark.parametrize("status", ["ok", "warning"])
def test_one_channel_that_is_refused_like_an_app_is_its_own_if_a_control_is_good(world, status):
    error = {"token_error": "unexpected_answer: x"} if status == "warning" else {}
    bad = world.channel(token := world.token(), token_status=status, **error)
    control(world)
    world.meta.script(token, NO_CAPABILITY, forever=True)
    result = world.json()
    assert (stopped(result), result.told(bad)) == ((1, None), ("failed", "unexpected_answer"))


def test_a_channel_that_is_known_to_be_refused_like_an_app_is_its_own_if_meta_accepts_the_app_token(world):
    bad = world.channel(token := world.token(), token_status="warning", token_error="unexpected_answer: x")
    world.meta.script(token, NO_CAPABILITY, forever=True)
    assert world.json().told(bad) == ("failed", "unexpected_answer")


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    "message",
    [
        "API access disrupted. Go to the App Dashboard and complete Data Use Checkup.",
        "Provide valid app ID",
        "This app is temporarily disabled for non-active apps",
    ],
)
def test_an_app_that_may_not_exchange_is_rejected(world, count, message):
    channels = [world.channel() for _ in range(count)]
    before = states(world, channels)
    world.meta.script(None, graph_error(400, message, 200), endpoint="exchange", forever=True)
    assert (stopped(world.json()), states(world, channels)) == ((3, "app_rejected"), before)


def test_api_access_that_is_blocked_for_one_token_is_its_own_if_a_control_is_good(world):
    bad = world.channel(token := world.token())
    control(world)
    world.meta.script(token, graph_error(400, "API access blocked.", 200), forever=True)
    assert world.json().told(bad) == ("failed", "unexpected_answer")


def test_a_limit_that_meets_one_token_only_is_that_channels(world):
    bad = world.channel(token := world.token(), token_expires_at=world.now + days(1))
    others = [world.channel() for _ in range(20)]
    world.meta.script(token, graph_error(403, "(#4) Application request limit reached", 4), forever=True)
    result = world.json("--workers", "2")
    assert (stopped(result), result.told(bad)) == ((1, None), ("failed", "unavailable"))
    assert {result.told(channel) for channel in others} == {("renewed", None)}


# -- a run in which nothing is due


def test_where_nothing_is_due_a_control_is_asked_about(world):
    _, older = control(world, age=20)
    _, newer = control(world, age=5)
    result = world.json()
    assert (result.code, result.counts) == (0, {"candidates": 2})
    assert (world.meta.count(), world.meta.count(token=newer)) == (1, 1), older


def test_where_there_is_no_control_the_app_token_is_asked_about(world):
    world.channel(token_lease_until=world.now + days(1))
    assert (world.json().code, world.meta.count("debug_token"), world.meta.count()) == (0, 1, 1)


@pytest.mark.parametrize("has_control", [True, False])
def test_a_secret_that_was_rotated_is_found_out_although_nothing_is_due(world, has_control):
    if has_control:
        control(world)
    world.meta.app_secret = "rotated"
    result = world.json()
    assert stopped(result) == (3, "app_rejected")
    assert "META_APP_SECRET" in result.document["stopped"]["detail"]


def test_a_meta_that_does_not_answer_is_no_failure_where_nothing_is_due(world):
    control(world)
    world.env["META_RETRIES"] = "0"
    world.meta.script(None, Reply(503, ""), forever=True)
    assert world.json().code == 0


# -- the clock


@pytest.mark.parametrize("apart", [-20, 365, 1 / 20])
@pytest.mark.parametrize("is_due", [True, False])
def test_a_clock_that_is_not_metas_is_a_configuration_error_that_names_both_times(world, apart, is_due):
    channel = world.channel() if is_due else control(world)[0]
    before = world.rows.get(channel)
    at_meta = world.now + days(apart)
    world.meta.date = at_meta.timestamp
    result = world.json()
    assert (stopped(result), world.rows.get(channel)) == ((2, "configuration"), before)
    assert (world.meta.exchanges, world.rows.audit()) == ([], [])
    detail = result.document["stopped"]["detail"]
    assert f"time at Meta: {at_meta:%Y-%m-%dT%H}" in detail
    assert f"time on this machine: {world.now:%Y-%m-%dT%H}" in detail


def test_a_clock_that_is_half_an_hour_wrong_will_do(world):
    channel = world.channel()
    world.meta.date = (world.now + days(1 / 48)).timestamp
    assert world.json().told(channel) == ("renewed", None)


def test_nothing_is_written_before_the_clock_was_compared(world):
    """Not even about a token that no key decrypts, for which Meta is not asked."""
    bad, _ = world.channel(wa_token_encrypted="nonsense"), control(world)
    world.meta.date = (world.now + days(1)).timestamp
    result = world.json()
    assert (stopped(result), world.rows.get(bad)["token_status"]) == ((2, "configuration"), "ok")


# -- proofs


@pytest.mark.parametrize("lives", [1 / 24, -1 / 24])
def test_a_new_token_that_expires_at_once_is_kept_out_where_meta_names_no_old_expiry(world, lives):
    old = world.token(expires_at=None, exchange_fields={"expires_at": unix(world.now + days(lives))})
    if lives < 0:
        world.meta.token(old).exchange_fields["valid"] = True
    channel = world.channel(old, token_expires_at=world.now + days(10))
    result = world.json()
    assert result.told(channel)[0] == "failed"
    assert world.stored(channel) == old


def test_a_new_token_that_the_row_outlives_is_kept_out_where_meta_names_no_old_expiry(world):
    old = world.token(expires_at=None, exchange_fields={"expires_at": unix(world.now + days(30))})
    channel = world.channel(
        old, token_expires_at=world.now + days(40), last_token_refresh_at=world.now - days(50)
    )
    result = world.json()
    assert (result.told(channel), world.stored(channel)) == (("failed", "not_extended"), old)


def test_a_new_token_of_which_meta_names_no_app_is_kept_out(world):
    old = world.token()
    channel = world.channel(old)

    def forget_the_app(seen):
        if seen.endpoint == "exchange":
            data = {"is_valid": True, "expires_at": unix(world.now + days(60)), "user_id": None}
            data["user_id"] = world.meta.token(old).user_id
            world.meta.script(None, Reply(200, {"data": data}), endpoint="debug_token", forever=True)

    world.meta.on_request = forget_the_app
    result = world.json()
    assert (result.told(channel), world.stored(channel)) == (("failed", "unexpected_answer"), old)


def test_an_old_token_of_which_meta_names_no_app_is_renewed(world):
    channel = world.channel(token := world.token())
    data = {"is_valid": True, "type": "SYSTEM_USER", "expires_at": unix(world.now + days(10))}
    world.meta.script(token, Reply(200, {"data": data}), endpoint="debug_token")
    assert world.json().told(channel) == ("renewed", None)


@pytest.mark.parametrize(
    ("scopes", "told"),
    [
        (["whatsapp_business_management", "whatsapp_business_messaging"], ("renewed", None)),
        (["whatsapp_business_manage_events"], ("failed", "missing_permission")),
    ],
)
def test_permissions_that_a_new_token_does_not_list_do_not_keep_it_out(world, scopes, told):
    channel = world.channel(world.token(exchange_fields={"scopes": scopes}))
    result = world.json()
    assert (result.told(channel), world.stored(channel)) == (told, world.meta.exchanges[0][1])


def test_tokens_that_are_renewed_and_lack_a_permission_do_not_look_systemic(world):
    fields = {"scopes": ["whatsapp_business_manage_events"]}
    for _ in range(15):
        world.channel(world.token(exchange_fields=fields))
    result = world.json("--workers", "2")
    assert (stopped(result), len(world.meta.exchanges)) == ((1, None), 15)


def test_a_dead_token_of_unknown_expiry_is_asked_about_at_every_run(world):
    channel = world.channel(token := world.token(error=DEAD, expires_at=0), token_expires_at=None)
    first, second = world.json(), world.json()
    assert [first.told(channel), second.told(channel)] == [("failed", "reconnect_required")] * 2
    assert (world.rows.get(channel)["token_expires_at"], world.meta.count(token=token)) == (None, 2)


# -- this machine


@pytest.mark.parametrize(
    ("threads", "code", "said"),
    [(0, 3, "this machine does not let us start a thread: can't start new thread"), (2, 0, "working with 2")],
)
def test_a_machine_with_few_threads_to_give_is_said_once(world, worker_threads, threads, code, said):
    channels = [world.channel() for _ in range(9)]
    worker_threads[0] = threads
    result = world.json()
    counts = {"renewed": 9} if threads else {"left": 9}
    assert (result.code, result.counts) == (code, {"candidates": 9, "due": 9} | counts)
    assert result.err.count(said) == 1
    assert {world.rows.get(channel)["token_lease_until"] for channel in channels} == {None}


# -- known failures


def known(world, **columns):
    """A channel of whose failure people have been told."""
    return world.channel(
        world.token(error=DEAD, expires_at=0),
        token_expires_at=None,
        token_status="warning",
        token_error="reconnect_required: x",
        token_alerted_at=world.now - days(2),
        **columns,
    )


def test_channels_that_are_known_to_fail_do_not_starve_the_healthy_ones_of_a_limit(world):
    for _ in range(5):
        known(world)
    good = [world.channel(token_expires_at=world.now + days(14)) for _ in range(3)]
    result = world.json("--limit", "3")
    assert result.counts == {"candidates": 8, "due": 8, "renewed": 3, "left": 5}
    assert {result.told(channel) for channel in good} == {("renewed", None)}


def test_a_token_that_was_stored_since_is_not_known_to_fail(world):
    known(world)
    stored = known(world, token_fingerprint="0" * 32)
    assert {entry["id"] for entry in world.json("--limit", "1").document["channels"]} == {stored}


def test_a_known_failure_is_news_again_on_the_day_of_its_reminder(world):
    world.env["SLACK_WEBHOOK_URL"] = "http://127.0.0.1:9/services/T0/B0/x"
    old, new = known(world), known(world)
    for channel, age in ((old, 8), (new, 3)):
        world.rows.run(
            "INSERT INTO token_audit_log (at, channel_id, event, message, reason)"
            " VALUES (:at, :id, 'failed', 'x', 'reconnect_required')",
            at=world.rows._out(world.now - days(age)),
            id=str(channel),
        )
    result = world.json()
    assert [result.entry(channel)["is_news"] for channel in (old, new)] == [True, False]


# -- two runs


def test_a_recovery_is_told_although_another_run_marked_the_channel_meanwhile(world):
    """A run pauses for longer than its lease; another one marks the channel and tells people of it."""
    channel = world.channel()

    def another_run(seen):
        if seen.endpoint == "exchange":
            world.rows.update(
                channel,
                token_status="warning",
                token_error="unavailable: x",
                token_alerted_at=world.now,
                token_lease_until=None,
            )

    world.meta.on_request = another_run
    result = world.json()
    assert result.told(channel) == ("renewed", None)
    assert world.events(channel) == ["refreshed", "recovered"]


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ('DELETE FROM "Channel" WHERE id = :id', "the channel was deleted meanwhile"),
        ('UPDATE "Channel" SET id = 4711 WHERE id = :id', "the channel has another id now: 4711"),
        ('UPDATE "Channel" SET wa_token_encrypted = NULL WHERE id = :id', "the token was removed meanwhile"),
        (
            "UPDATE \"Channel\" SET wa_token_encrypted = 'theirs' WHERE id = :id",
            "another token was stored meanwhile",
        ),
    ],
)
def test_what_happened_to_a_row_meanwhile_is_said(world, change, detail):
    channel = world.channel()
    world.meta.on_request = lambda seen: seen.endpoint == "exchange" and world.rows.run(change, id=channel)
    result = world.json()
    assert (result.code, result.told(channel)) == (0, ("skipped", "replaced_meanwhile"))
    assert detail in result.entry(channel)["detail"]


def test_a_reconnected_channel_that_fails_again_does_not_starve_the_last_of_the_known(world):
    """It moves from those that are asked first to those that are known to fail, while the run goes on."""
    known = {
        "token_status": "warning",
        "token_error": "unavailable: x",
        "token_alerted_at": world.now - days(1),
    }
    again = world.token()
    again_id = world.channel(
        again, token_expires_at=world.now + days(1), token_fingerprint="of another", **known
    )
    world.meta.script(again, graph_error(500, "Unknown", 1), forever=True)
    world.env["META_RETRIES"] = "0"
    for _ in range(5):
        world.channel(token_expires_at=world.now + days(2))
    last = world.channel(token_expires_at=world.now + days(12), **known)
    result = world.json("--workers", "1")
    assert result.told(last) == ("renewed", None)
    assert "left" not in result.counts
    assert [entry["id"] for entry in result.document["channels"]].count(again_id) == 1
    assert world.events(again_id) == ["failed"]


def test_what_another_run_held_is_not_met_again_where_that_run_has_moved_it(world, monkeypatch):
    monkeypatch.setattr(pages, "PAGE_SIZE", 1)
    held = world.channel(token_expires_at=world.now + days(1), token_lease_until=world.now + days(1))
    for _ in range(2):
        world.channel(token_expires_at=world.now + days(2))
    world.meta.on_request = lambda _seen: world.rows.update(
        held, token_lease_until=None, token_expires_at=world.now + days(60)
    )
    result = world.json("--force", "--workers", "1")
    assert result.counts == {"candidates": 3, "due": 3, "renewed": 2, "skipped": 1}
    assert result.told(held) == ("skipped", "claimed_elsewhere")
