"""The contract, driven from outside: the real command, a real database, a Meta that answers over HTTP."""

from __future__ import annotations

import json
import re
import signal
import threading
from datetime import datetime

import pytest
from conftest import migrate
from rows import Rows
from world import OTHER_KEY, World, days, fernet, unix

from sandbox.graph import OMIT, Cut, Huge, Reply, Reset, graph_error

DEAD = (190, 460, "Error validating access token: the session was invalidated.")
HEALTHY = {"token_expires_at": None}


def healthy(world):
    """Columns of a channel that is not due."""
    return {"token_expires_at": world.now + days(40), "last_token_refresh_at": world.now - days(20)}


def together(count):
    """For `on_request`: the first `count` requests are answered only when all of them have come."""
    barrier, first = threading.Barrier(count, timeout=60), iter(range(count))
    return lambda _seen: barrier.wait() if next(first, None) is not None else None


# -- one token's way


def test_a_due_token_is_renewed_proved_and_stored_with_its_clocks_and_an_audit_row(world):
    old = world.token()
    channel = world.channel(old, name="Bakery North")
    result = world.json()
    row = world.rows.get(channel)
    (exchange,) = world.meta.exchanges
    assert result.code == 0
    assert result.counts == {"candidates": 1, "due": 1, "renewed": 1}
    assert (old, world.stored(channel)) == exchange
    assert abs(row["token_expires_at"] - (world.now + days(60))) < days(0.01)
    assert abs(row["last_token_refresh_at"] - world.now) < days(0.01)
    assert (row["token_status"], row["token_error"], row["token_lease_until"]) == ("ok", None, None)
    (audit,) = world.rows.audit(channel)
    assert (audit["event"], audit["message"], audit["reason"], audit["channel_id"]) == (
        "refreshed",
        "Token refreshed automatically",
        None,
        str(channel),
    )


def test_a_second_run_finds_nothing_to_do(world):
    world.channel()
    world.json()
    calls = world.meta.count()
    second = world.json()
    assert (second.code, second.counts, world.meta.count()) == (0, {"candidates": 1}, calls + 1)  # a control


def test_the_json_document_is_what_the_contract_says(world):
    channel = world.channel(name="Bakery North")
    document = world.json().document
    (entry,) = document["channels"]
    assert list(document) == [
        "version", "started_at", "finished_at", "dry_run", "exit_code", "stopped", "counts", "channels",
    ]  # fmt: skip
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["started_at"])
    assert (document["dry_run"], document["exit_code"], document["stopped"]) == (False, 0, None)
    assert document["counts"] == {
        "candidates": 1, "due": 1, "renewed": 1, "failed": 0, "known": 0, "skipped": 0, "waiting": 0,
        "left": 0,
    }  # fmt: skip
    assert {name: entry[name] for name in ("id", "name", "outcome", "reason")} == {
        "id": channel, "name": "Bakery North", "outcome": "renewed", "reason": None,
    }  # fmt: skip
    before = datetime.fromisoformat(entry["expires_at_before"])
    assert datetime.fromisoformat(entry["expires_at"]) - before > days(49)


@pytest.mark.parametrize(
    ("columns", "due"),
    [
        ({"expires": 40, "age": 20}, False),
        ({"expires": 15.1, "age": 20}, False),
        ({"expires": 14.9, "age": 20}, True),
        ({"expires": -3, "age": 20}, True),
        ({"expires": 40, "age": 44.9}, False),
        ({"expires": 40, "age": 45.1}, True),
        ({"expires": 40, "age": None}, False),
        ({"expires": None, "age": 20}, True),
        ({"expires": None, "age": 20, "status": None}, True),
        ({"expires": None, "age": 20, "status": "never_expires"}, False),
        ({"expires": None, "age": 45.1, "status": "never_expires"}, True),
        ({"expires": 40, "age": 20, "fingerprint": "0" * 32}, True),
        ({"expires": 40, "age": 20, "status": "warning", "error": "missing_permission: x"}, False),
        ({"expires": 40, "age": 20, "status": "warning", "error": "reconnect_required: x"}, True),
    ],
)
def test_a_channel_is_due_when_the_contract_says_so(world, columns, due):
    expires, age = columns["expires"], columns["age"]
    world.channel(
        token_expires_at=None if expires is None else world.now + days(expires),
        last_token_refresh_at=None if age is None else world.now - days(age),
        token_status=columns.get("status", "ok"),
        token_error=columns.get("error"),
        token_fingerprint=columns.get("fingerprint"),
    )
    assert world.json("--dry-run").document["counts"]["due"] == int(due)


@pytest.mark.parametrize(
    "columns", [{"type": "email"}, {"wa_token_encrypted": None}, {"wa_token_encrypted": ""}]
)
def test_what_is_no_whatsapp_channel_with_a_token_is_not_touched(world, columns):
    channel = world.channel(**columns)
    before = world.rows.get(channel)
    result = world.json("--force")
    assert (result.code, result.counts, world.rows.get(channel)) == (0, {}, before)


def test_a_token_that_never_expires_is_not_exchanged_even_when_forced(world):
    channel = world.channel(world.token(expires_at=0))
    result = world.json("--force")
    row = world.rows.get(channel)
    assert result.told(channel) == ("skipped", "never_expires")
    assert (row["token_status"], row["token_expires_at"]) == ("never_expires", None)
    assert abs(row["last_token_refresh_at"] - world.now) < days(0.01)
    assert (world.meta.exchanges, world.events(channel)) == ([], ["never_expires"])


def test_a_wrong_clock_is_corrected_without_an_exchange(world):
    token = world.token(age=5, lives=55)
    channel = world.channel(token)
    result = world.json()
    row = world.rows.get(channel)
    assert (result.code, result.told(channel)) == (0, ("skipped", "clock_corrected"))
    assert (row["token_expires_at"], row["last_token_refresh_at"]) == (
        world.now + days(55),
        world.now - days(5),
    )
    assert (world.meta.exchanges, world.stored(channel)) == ([], token)
    assert (row["token_status"], world.events(channel)) == ("ok", ["clock_corrected"])


def test_the_end_of_a_token_is_the_earlier_of_its_expiry_and_its_data_access(world):
    channel = world.channel(
        world.token(age=5, lives=55, data_access_expires_at=unix(world.now + days(30))),
        token_expires_at=None,
    )
    world.json()
    assert world.rows.get(channel)["token_expires_at"] == world.now + days(30)


def test_the_age_of_a_token_counts_from_its_expiry_where_meta_names_no_issue(world):
    young = world.channel(world.token(lives=20, issued_at=None))
    old = world.channel(world.token(lives=14, issued_at=None))
    result = world.json()
    assert [result.told(young), result.told(old)] == [("skipped", "clock_corrected"), ("renewed", None)]


def test_system_users_get_the_flag_that_users_do_not_get(world):
    world.channel(world.token(type="SYSTEM_USER"))
    world.channel(world.token(type="USER"))
    world.json()
    flags = [
        seen.query.get("set_token_expires_in_60_days")
        for seen in world.meta.requests
        if seen.endpoint == "exchange"
    ]
    assert sorted(flags, key=str) == [None, "true"]


def test_what_is_renewed_is_written_in_the_layout_of_the_row_with_the_first_key(world):
    channel = world.channel(key=OTHER_KEY)
    world.env["TOKEN_ENCRYPTION_KEY"] += f",{OTHER_KEY.hex()}"
    assert world.json().code == 0
    assert world.stored(channel) == world.meta.exchanges[0][1]


def test_a_token_of_several_channels_is_exchanged_once_and_stored_for_all_of_them(world):
    token = world.token()
    channels = [world.channel(token) for _ in range(3)]
    apart = world.channel()
    result = world.json()
    new = dict(world.meta.exchanges)[token]
    assert result.counts == {"candidates": 4, "due": 4, "renewed": 4}
    assert ([world.stored(channel) for channel in channels], len(world.meta.exchanges)) == ([new] * 3, 2)
    assert world.stored(apart) != new


def test_a_shared_token_is_exchanged_once_also_when_its_channels_are_claimed_apart(world):
    token = world.token()
    first = world.channel(token, token_expires_at=None)
    for _ in range(4):
        world.channel()
    last = world.channel(token, token_expires_at=world.now + days(12))
    world.json("--workers", "1")
    assert (world.stored(first), world.stored(last)) == (dict(world.meta.exchanges)[token],) * 2
    assert world.meta.count("exchange", token) == 1


# -- proofs that fail


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({"user_id": "9"}, "another user"),
        ({"valid": False}, "does not call it good"),
        ({"app_id": "999"}, "another app"),
    ],
)
def test_a_new_token_that_is_not_what_it_should_be_is_dropped(world, fields, detail):
    old = world.token(exchange_fields=fields)
    channel = world.channel(old)
    result = world.json()
    assert (result.code, result.told(channel)) == (1, ("failed", "unexpected_answer"))
    assert detail in result.entry(channel)["detail"]
    assert (world.stored(channel), world.rows.get(channel)["token_status"]) == (old, "warning")


def test_a_new_token_that_is_called_invalid_at_first_is_asked_about_once_more(world):
    channel = world.channel(world.token())
    inspected = []

    def spoil(seen):
        if seen.endpoint == "debug_token":
            inspected.append(seen.token)
            if len(inspected) in {2, 3}:  # the new token, twice
                world.meta.token(seen.token).valid = len(inspected) == 3

    world.meta.on_request = spoil
    assert world.json().told(channel) == ("renewed", None)
    assert len(inspected) == 3


def test_an_exchange_that_does_not_extend_is_not_called_a_renewal(world):
    old = world.token(type="USER", exchange_same=True)
    channel = world.channel(old)
    result = world.json()
    assert result.told(channel) == ("failed", "not_extended")
    assert (world.stored(channel), world.rows.get(channel)["token_status"]) == (old, "warning")


def test_an_early_renewal_that_does_not_extend_only_corrects_the_clocks(world):
    channel = world.channel(world.token(type="USER", age=20, lives=40, exchange_same=True), **healthy(world))
    result = world.json("--force")
    assert (result.code, result.told(channel)) == (0, ("skipped", "clock_corrected"))
    assert len(world.meta.exchanges) == 1


@pytest.mark.parametrize("expires_in", [OMIT, 0, "5184000", 5184000, None])
def test_the_expiry_is_what_meta_says_of_the_new_token_and_not_what_the_exchange_says(world, expires_in):
    channel = world.channel(world.token(exchange_expires_in=expires_in, exchange_lifetime=50 * 86400))
    assert world.json().told(channel) == ("renewed", None)
    assert abs(world.rows.get(channel)["token_expires_at"] - (world.now + days(50))) < days(0.01)


@pytest.mark.parametrize(("expires_in", "lives"), [(5000000, 5000000 / 86400), (OMIT, 60)])
def test_the_expiry_is_computed_where_meta_does_not_name_it(world, expires_in, lives):
    token = world.token(exchange_expires_in=expires_in, exchange_fields={"expires_at": None})
    channel = world.channel(token)
    world.json()
    assert abs(world.rows.get(channel)["token_expires_at"] - (world.now + days(lives))) < days(0.01)


def test_a_token_that_comes_back_endless_is_stored_as_never_expiring(world):
    channel = world.channel(world.token(exchange_fields={"expires_at": 0}))
    result = world.json()
    row = world.rows.get(channel)
    assert result.told(channel) == ("renewed", None)
    assert (row["token_status"], row["token_expires_at"]) == ("never_expires", None)
    assert world.json().counts == {"candidates": 1}


# -- permissions


def test_a_token_that_lacks_a_permission_is_marked_and_not_exchanged_while_it_lives(world):
    token = world.token(age=5, lives=55, scopes=["whatsapp_business_management"])
    channel = world.channel(token)
    result = world.json()
    assert (result.code, result.told(channel)) == (1, ("failed", "missing_permission"))
    assert "whatsapp_business_messaging" in result.entry(channel)["detail"]
    assert (world.meta.exchanges, world.rows.get(channel)["token_expires_at"]) == ([], world.now + days(55))


def test_a_token_that_lacks_a_permission_is_renewed_when_its_own_end_is_near(world):
    channel = world.channel(world.token(scopes=["whatsapp_business_management"]))
    result = world.json()
    row = world.rows.get(channel)
    assert result.told(channel) == ("failed", "missing_permission")
    assert world.stored(channel) == world.meta.exchanges[0][1]
    assert row["token_status"] == "warning"
    assert row["token_expires_at"] > world.now + days(59)
    assert world.events(channel) == ["refreshed", "failed"]


def test_data_access_that_ends_soon_is_no_reason_for_an_exchange(world):
    ends = world.now + days(5)
    channel = world.channel(world.token(age=5, lives=55, data_access_expires_at=unix(ends)))
    result = world.json()
    assert result.told(channel) == ("failed", "missing_permission")
    assert f"{ends:%Y-%m-%d}" in result.entry(channel)["detail"]
    assert (world.meta.exchanges, world.rows.get(channel)["token_expires_at"]) == ([], ends)


# -- dead tokens and waiting


def test_a_dead_token_marks_its_channel_and_is_retried_until_its_recorded_end(world):
    channel = world.channel(world.token(lives=30, error=DEAD))
    first = world.json()
    row = world.rows.get(channel)
    calls = world.meta.count()
    second = world.json()
    assert (first.code, first.told(channel)) == (1, ("failed", "reconnect_required"))
    assert (row["token_status"], row["token_expires_at"]) == ("warning", world.now + days(30))
    assert row["token_error"].startswith("reconnect_required: ")
    assert (second.told(channel), world.meta.count()) == (("failed", "reconnect_required"), calls + 1)


def test_a_channel_whose_dead_token_has_ended_only_waits(world):
    channel = world.channel(token := world.token(lives=-1))
    world.json()
    calls = world.meta.count(token=token)
    result = world.json()
    assert (result.code, result.counts) == (0, {"candidates": 1, "waiting": 1})
    assert (result.told(channel), world.meta.count(token=token)) == (
        ("skipped", "waiting_for_reconnect"),
        calls,
    )


@pytest.mark.parametrize("option", ["--force", "--audit"])
def test_force_and_audit_ask_also_about_channels_that_wait(world, option):
    channel = world.channel(world.token(lives=-1))
    world.json()
    assert world.json(option).told(channel) == ("failed", "reconnect_required")


def test_a_reconnect_is_noticed_although_only_the_ciphertext_was_written(world):
    channel = world.channel(world.token(lives=-1))
    world.json()
    token = world.token(age=0, lives=60)
    world.rows.update(channel, wa_token_encrypted=fernet().encrypt(token.encode()).decode())
    result = world.json()
    row = world.rows.get(channel)
    assert result.told(channel) == ("skipped", "clock_corrected")
    assert (row["token_status"], row["token_error"], row["token_expires_at"]) == (
        "ok",
        None,
        world.now + days(60),
    )
    assert world.events(channel) == ["failed", "clock_corrected", "recovered"]


def test_a_channel_that_had_failed_and_is_renewed_has_recovered(world):
    channel = world.channel(token_status="warning", token_error="unavailable: x", token_alerted_at=world.now)
    world.json()
    row = world.rows.get(channel)
    assert (row["token_status"], row["token_error"], row["token_alerted_at"]) == ("ok", None, None)
    assert world.events(channel) == ["refreshed", "recovered"]


def test_an_audit_finds_a_token_that_was_revoked_long_before_it_is_due(world):
    dead = world.channel(world.token(age=5, lives=55, error=DEAD), **healthy(world))
    well = world.channel(world.token(age=20, lives=40), **healthy(world))
    result = world.json("--audit")
    assert [result.told(dead), result.told(well)] == [
        ("failed", "reconnect_required"),
        ("skipped", "clock_corrected"),
    ]
    assert (world.meta.exchanges, world.events(well)) == ([], [])


# -- ciphertexts


@pytest.mark.parametrize(
    "stored", ["not a ciphertext", "EAAplain-token-without-encryption", " ", "gAAAAAB" + "x" * 90]
)
def test_a_ciphertext_that_cannot_be_read_fails_alone(world, stored):
    bad = world.channel(wa_token_encrypted=stored)
    good = world.channel()
    result = world.json()
    assert [result.told(bad), result.told(good)] == [("failed", "undecryptable"), ("renewed", None)]
    assert (world.rows.get(bad)["wa_token_encrypted"], world.rows.get(bad)["token_status"]) == (
        stored,
        "warning",
    )
    assert stored.strip() not in result.out + result.err or not stored.strip()


def test_one_channel_that_cannot_be_read_is_marked(world):
    channel = world.channel(key=OTHER_KEY)
    assert world.json().told(channel) == ("failed", "undecryptable")


def test_a_key_that_opens_nothing_is_a_wrong_key_and_nothing_is_touched(world):
    due = [world.channel() for _ in range(2)]
    world.channel(**healthy(world))
    before = [world.rows.get(channel) for channel in due]
    world.env["TOKEN_ENCRYPTION_KEY"] = OTHER_KEY.hex()
    result = world.json()
    assert (result.code, result.document["stopped"]["reason"]) == (2, "configuration")
    assert "TOKEN_ENCRYPTION_KEY" in result.err
    assert ([world.rows.get(channel) for channel in due], world.meta.count()) == (before, 0)


def test_a_key_that_opens_other_channels_is_right_and_the_due_ones_are_marked(world):
    due = [world.channel(key=OTHER_KEY) for _ in range(2)]
    world.channel(**healthy(world))
    result = world.json()
    assert [result.told(channel) for channel in due] == [("failed", "undecryptable")] * 2


# -- when Meta fails


def test_a_passing_fault_is_retried_and_costs_nothing(world):
    channel = world.channel(token := world.token())
    world.meta.script(token, Reset(), Reply(500, ""), Reply(200, '{"data": {"is_va'), endpoint="debug_token")
    world.meta.script(token, Cut(), graph_error(400, "later", 2), endpoint="exchange")
    assert world.json().told(channel) == ("renewed", None)


def test_a_fault_that_stays_marks_its_channel_and_leaves_the_others_alone(world):
    bad, good = world.channel(token := world.token()), world.channel()
    world.meta.script(token, Reply(503, "<html>down</html>"), forever=True)
    result = world.json()
    assert [result.told(bad), result.told(good)] == [("failed", "unavailable"), ("renewed", None)]
    assert world.meta.count(token=token) == 4


@pytest.mark.parametrize(
    "answer",
    [
        Reply(200, ""),
        Reply(200, "true"),
        Reply(200, "[null]"),
        Reply(200, "{}"),
        Reply(200, "<html>hello</html>"),
        Reply(200, '{"access_token": null, "expires_in": 5183944}'),
        Reply(200, '{"access_token": ""}'),
        Reply(200, '{"access_token": ["x"]}'),
        Reply(302, "", {"Location": "https://example.com/"}),
        Reply(400, '{"error": null}'),
        Reply(400, '{"error": "Invalid token"}'),
        Huge(2_000_000),
    ],
    ids=repr,
)
def test_an_odd_answer_to_an_exchange_loses_nothing(world, answer):
    old = world.token()
    channel = world.channel(old)
    world.meta.script(old, answer, endpoint="exchange", forever=True)
    result = world.json()
    assert (result.code, result.told(channel)) == (1, ("failed", "unexpected_answer"))
    assert (world.stored(channel), "Traceback" in result.err) == (old, False)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"is_valid": "yes"},
        {"is_valid": True, "expires_at": "soon"},
        {"is_valid": True, "expires_at": -5},
        {"is_valid": True, "expires_at": 10**20},
    ],
    ids=repr,
)
def test_an_odd_inspection_loses_nothing(world, data):
    old = world.token()
    channel = world.channel(old)
    world.meta.script(old, Reply(200, {"data": data}), endpoint="debug_token", forever=True)
    assert world.json().told(channel) == ("failed", "unexpected_answer")
    assert (world.stored(channel), world.meta.exchanges) == (old, [])


def test_an_app_that_is_refused_stops_the_run_and_touches_nothing(world):
    channels = [world.channel() for _ in range(30)]
    before = [world.rows.get(channel) for channel in channels]
    world.meta.app_secret = "another-secret"
    result = world.json()
    assert (result.code, result.document["stopped"]["reason"]) == (3, "app_rejected")
    assert result.counts == {"candidates": 30, "due": 30, "left": 30}
    assert ([world.rows.get(channel) for channel in channels], world.rows.audit()) == (before, [])


def test_an_app_that_is_refused_is_found_out_with_a_single_channel(world):
    channel = world.channel()
    world.meta.app_id = "77"
    result = world.json()
    assert (result.code, result.document["stopped"]["reason"]) == (3, "app_rejected")
    assert "META_APP_ID" in result.document["stopped"]["detail"]
    assert world.rows.get(channel)["token_status"] == "ok"


def test_channels_that_are_refused_like_an_app_do_not_keep_the_others_from_being_renewed(world):
    refused = [world.token() for _ in range(12)]
    bad = [world.channel(token, token_expires_at=world.now + days(1)) for token in refused]
    good = [world.channel(token_expires_at=world.now + days(9)) for _ in range(8)]
    for token in refused:
        world.meta.script(token, graph_error(400, "(#3) No capability", 3), forever=True)
    world.meta.on_request = together(16)  # else ten may be refused before a good one is asked about
    result = world.json("--workers", "16")
    assert (result.code, result.document["stopped"]) == (1, None)
    assert {result.told(channel) for channel in bad} == {("failed", "unexpected_answer")}
    assert {result.told(channel) for channel in good} == {("renewed", None)}


def test_ten_dead_channels_at_once_are_not_believed(world):
    channels = [world.channel(world.token(error=DEAD)) for _ in range(30)]
    result = world.json("--workers", "4")
    marked = [world.rows.get(channel)["token_status"] for channel in channels].count("warning")
    assert (result.code, result.document["stopped"]["reason"]) == (3, "systemic")
    assert result.counts == {"candidates": 30, "due": 30, "failed": 10, "left": 20}
    assert (marked, {world.rows.get(channel)["token_lease_until"] for channel in channels}) == (10, {None})


def test_dead_channels_do_not_stop_a_run_in_which_one_was_renewed(world):
    world.channel(token_expires_at=world.now + days(1))
    for _ in range(15):
        world.channel(world.token(error=DEAD))
    result = world.json("--workers", "1")
    assert (result.code, result.counts) == (1, {"candidates": 16, "due": 16, "failed": 15, "renewed": 1})


def test_channels_that_were_known_to_fail_do_not_count_as_systemic(world):
    for _ in range(15):
        world.channel(world.token(error=DEAD), token_status="warning", token_error="reconnect_required: x")
    last = world.channel(token_expires_at=world.now + days(14))
    result = world.json("--workers", "1")
    assert (result.code, result.told(last)) == (1, ("renewed", None))


def test_an_app_that_is_limited_stops_the_run_after_the_waiting(world):
    channels = [world.channel() for _ in range(6)]
    world.env["RATE_LIMIT_WAIT_SECONDS"] = "0.2"
    world.meta.script(None, graph_error(403, "(#4) Application request limit reached", 4), forever=True)
    result = world.json("--workers", "2")
    assert (result.code, result.document["stopped"]["reason"]) == (3, "rate_limited")
    assert result.counts == {"candidates": 6, "due": 6, "left": 6}
    assert {world.rows.get(channel)["token_status"] for channel in channels} == {"ok"}


def test_a_limit_that_passes_is_waited_for(world):
    channel = world.channel()
    world.env["RATE_LIMIT_WAIT_SECONDS"] = "1"
    world.meta.script(None, Reply(429, ""), graph_error(400, "(#4) limit", 4))
    assert world.json().told(channel) == ("renewed", None)


def test_a_limit_of_one_customer_fails_that_channel_only(world):
    bad, good = world.channel(token := world.token()), world.channel()
    world.meta.script(token, graph_error(400, "(#80008) too many calls", 80008), forever=True)
    result = world.json()
    assert [result.told(bad), result.told(good)] == [("failed", "unavailable"), ("renewed", None)]
    assert world.meta.count(token=token) == 1


def test_a_version_that_has_ended_is_warned_of_once(world):
    for _ in range(3):
        world.channel()
    world.meta.served_version = "v27.0"
    result = world.json()
    assert (result.code, result.err.count("META_GRAPH_VERSION")) == (0, 1)


# -- the application writes at the same time


def test_a_token_that_the_application_stores_meanwhile_stays(world):
    channel = world.channel()
    theirs = fernet().encrypt(b"EAA-sandbox-theirs").decode()

    def reconnect(seen):
        if seen.endpoint == "exchange":
            world.rows.update(channel, wa_token_encrypted=theirs)

    world.meta.on_request = reconnect
    result = world.json()
    row = world.rows.get(channel)
    assert (result.code, result.told(channel)) == (0, ("skipped", "replaced_meanwhile"))
    assert (row["wa_token_encrypted"], row["token_lease_until"], world.events(channel)) == (theirs, None, [])


def test_a_channel_that_is_deleted_meanwhile_harms_no_other(world):
    channel, other = world.channel(token_expires_at=world.now + days(1)), world.channel()

    def delete(seen):
        if seen.endpoint == "exchange":
            world.rows.run('DELETE FROM "Channel" WHERE id = :id', id=channel)

    world.meta.on_request = delete
    result = world.json("--workers", "1")
    assert [result.told(channel), result.told(other)] == [
        ("skipped", "replaced_meanwhile"),
        ("renewed", None),
    ]


def test_a_channel_that_another_run_holds_is_left_to_it(world):
    held = world.channel(token_lease_until=world.now + days(1))
    free = world.channel(token_lease_until=world.now - days(1))
    result = world.json()
    assert [result.told(held), result.told(free)] == [("skipped", "claimed_elsewhere"), ("renewed", None)]
    assert world.rows.get(held)["token_lease_until"] == world.now + days(1)


# -- options


def test_a_dry_run_shows_what_is_due_and_why_and_touches_nothing(world):
    channel = world.channel(name="Bakery North", token_expires_at=world.now + days(3.5))
    before = world.rows.get(channel)
    result = world.run("--dry-run")
    assert re.search(
        rf"^Bakery North \({channel}\) +\d+ \w+ \d+ +3 days +it expires soon$", result.out, re.MULTILINE
    )
    assert result.out.startswith("CHANNEL")
    assert (result.code, world.rows.get(channel), world.rows.audit(), world.meta.count()) == (
        0,
        before,
        [],
        0,
    )


def test_a_dry_run_says_due_or_failed_in_json(world):
    good, bad = world.channel(), world.channel(key=OTHER_KEY)
    waiting = world.channel(world.token(lives=-1), token_expires_at=world.now + days(1))
    world.json("--channel", str(waiting))
    result = world.json("--dry-run")
    assert (result.code, result.document["dry_run"]) == (1, True)
    assert [result.told(good), result.told(bad)] == [("due", None), ("failed", "undecryptable")]
    assert result.told(waiting) == ("skipped", "waiting_for_reconnect")
    assert result.counts == {"candidates": 3, "due": 2, "failed": 1, "waiting": 1}


def test_force_renews_what_is_not_due(world):
    channel = world.channel(world.token(age=20, lives=40), **healthy(world))
    assert (world.json().counts, world.json("--force").told(channel)) == (
        {"candidates": 1},
        ("renewed", None),
    )


def test_a_forced_run_deals_with_each_channel_once(world):
    for lives in (3, 20, 40, 59):
        world.channel(world.token(age=1, lives=lives), token_expires_at=world.now + days(lives))
    result = world.json("--force", "--workers", "1")
    assert (result.counts, len(world.meta.exchanges)) == ({"candidates": 4, "due": 4, "renewed": 4}, 4)


def test_force_asks_twice_before_it_renews_more_than_a_hundred(world):
    for _ in range(101):
        world.rows.insert(name="x", wa_token_encrypted=fernet().encrypt(b"EAA-sandbox-x").decode())
    refused = world.json("--force")
    assert (refused.code, "--yes" in refused.err, world.meta.count()) == (2, True, 0)
    assert world.json("--force", "--dry-run").code == 0


def test_only_the_channels_that_are_asked_for_are_renewed(world):
    wanted, other, also = (world.channel() for _ in range(3))
    result = world.json("--channel", str(also), "--channel", str(wanted), "--channel", str(wanted))
    assert result.counts == {"candidates": 2, "due": 2, "renewed": 2}
    assert world.rows.audit(other) == []


@pytest.mark.parametrize("unknown", ["999999", "abc", "99999999999999999999999", "1; DROP TABLE x", ""])
def test_an_unknown_channel_is_a_usage_error_that_names_it(world, unknown):
    world.channel()
    result = world.json("--channel", unknown)
    assert (result.code, world.meta.count()) == (2, 0)
    assert f"--channel {unknown}" in result.err
    assert "Traceback" not in result.err


def test_a_limit_takes_the_most_urgent_and_counts_the_rest_as_left(world):
    later = world.channel(token_expires_at=world.now + days(9))
    unknown = world.channel(token_expires_at=None)
    sooner = world.channel(token_expires_at=world.now + days(2))
    result = world.json("--limit", "2")
    assert (result.code, result.counts) == (0, {"candidates": 3, "due": 3, "renewed": 2, "left": 1})
    assert {entry["id"] for entry in result.document["channels"]} == {unknown, sooner}
    assert world.rows.audit(later) == []


@pytest.mark.parametrize(
    "options",
    [["--limit", "0"], ["--workers", "0"], ["--workers", "257"], ["--nonsense"], ["-v", "-q"], ["x"]],
)
def test_a_wrong_option_is_a_usage_error(world, options):
    result = world.run(*options)
    assert (result.code, result.out, "Traceback" in result.err) == (2, "", False)


def test_an_env_file_that_is_not_there_is_a_usage_error(world, tmp_path):
    assert world.run("--env-file", str(tmp_path / "nowhere.env")).code == 2


def test_workers_work_at_once_and_no_more_of_them_than_allowed(world):
    for _ in range(8):
        world.channel()
    world.env["WORKERS"] = "9"
    world.meta.on_request = together(4)
    world.json("--workers", "4")
    assert world.meta.peak == 4


# -- databases of another encoding


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_need_not_be_utf8(pg_server, meta, tmp_path, capsys, encoding):
    name = pg_server.create(encoding=encoding)
    url = pg_server.url_of(name)
    migrate(url)
    world = World(url, meta, tmp_path)
    world.capsys = capsys
    world.rows = Rows(f"{url}{'&' if '?' in url else '?'}client_encoding=utf8")
    dead = world.channel(world.token(error=(190, 460, "日本 “changed”")), name="Café")
    good = world.channel(name="Señal")
    result = world.json()
    row = world.rows.get(dead)
    assert (result.told(dead), result.told(good)) == (("failed", "reconnect_required"), ("renewed", None))
    assert (row["token_status"], row["token_error"].startswith("reconnect_required: ")) == ("warning", True)
    pg_server.drop(name)


# -- stopping


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
)
def test_a_signal_lets_what_is_in_flight_finish_and_gives_back_the_rest(world, number, code):
    channels = [world.channel() for _ in range(12)]
    world.meta.latency = 0.3
    process = world.start("--json", "--workers", "2")

    def interrupt(seen):
        if seen.endpoint == "exchange" and world.meta.count("exchange") <= 1:
            process.send_signal(number)

    world.meta.on_request = interrupt
    out, err = process.communicate(timeout=60)
    document = json.loads(out)
    rows = [world.rows.get(channel) for channel in channels]
    renewed = [new for _, new in world.meta.exchanges]
    assert (process.returncode, document["exit_code"], "Traceback" in err) == (code, code, False)
    assert {row["token_lease_until"] for row in rows} == {None}
    assert sorted(set(renewed) & {world.stored(channel) for channel in channels}) == sorted(renewed)
    assert document["counts"]["renewed"] == len(renewed) < 12
    assert document["counts"]["left"] == 12 - len(renewed)


def test_a_signal_ends_a_long_wait_at_once(world):
    channels = [world.channel() for _ in range(3)]
    world.env["RATE_LIMIT_WAIT_SECONDS"] = "6000"
    process = world.start("--json")
    # Several in a row: the second may come while the first is being handled.
    world.meta.on_request = lambda _seen: [process.send_signal(signal.SIGTERM) for _ in range(20)]
    world.meta.script(None, Reply(429, ""), forever=True)
    document = json.loads(process.communicate(timeout=60)[0])
    assert (process.returncode, document["counts"]["left"]) == (143, 3)
    assert {world.rows.get(channel)["token_lease_until"] for channel in channels} == {None}


def test_a_hangup_that_nohup_ignores_does_not_stop_the_run(world):
    channels = [world.channel() for _ in range(4)]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does it; a child inherits that
    try:
        process = world.start("--json")
    finally:
        signal.signal(signal.SIGHUP, before)
    world.meta.on_request = lambda _seen: process.send_signal(signal.SIGHUP)
    document = json.loads(process.communicate(timeout=60)[0])
    assert (process.returncode, document["counts"]["renewed"]) == (0, len(channels))


def test_nothing_secret_is_ever_printed(world):
    world.env["SLACK_WEBHOOK_URL"] = "http://127.0.0.1:9/services/T0/B0/very-secret-hook"
    plain = [
        world.token(),
        "opaque token/with+odd=signs",
        world.token(error=(190, 460, "Malformed access token {}")),
    ]
    for token in plain:
        world.channel(token)
    world.meta.token(plain[2]).error = (190, 460, f"Malformed access token {plain[2]}")
    world.channel(fourth := world.token())
    world.meta.script(
        fourth, graph_error(400, f"secret {world.meta.app_secret} of {fourth}", 100), forever=True
    )
    results = [
        world.run("-v"),
        world.json("-v", "--force"),
        world.run("--log-format", "json", "-v", "--audit"),
    ]
    printed = "".join(result.out + result.err for result in results)
    printed += "".join(str(world.rows.get(id_)["token_error"]) for id_ in range(1, 5)) + str(
        world.rows.audit()
    )
    new = [token for pair in world.meta.exchanges for token in pair]
    secrets = [
        *plain,
        *new,
        world.meta.app_secret,
        world.env["TOKEN_ENCRYPTION_KEY"],
        "very-secret-hook",
        fourth,
    ]
    assert [secret for secret in secrets if secret in printed] == []


# -- several runs


def test_runs_at_once_share_the_work_and_exchange_nothing_twice(world):
    channels = [world.channel() for _ in range(40)]
    world.meta.latency = 0.02
    processes = [world.start("--json", "--workers", "3") for _ in range(3)]
    documents = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    exchanged = [old for old, _ in world.meta.exchanges]
    assert {process.returncode for process in processes} == {0}
    assert sum(document["counts"]["renewed"] for document in documents) == 40
    assert (len(exchanged), len(set(exchanged))) == (40, 40)
    assert {world.stored(channel) for channel in channels} == {new for _, new in world.meta.exchanges}


def test_a_killed_run_blocks_its_channels_no_longer_than_its_lease(world):
    channels = [world.channel() for _ in range(6)]
    world.env["LEASE_SECONDS"] = "1"
    process = world.start("--workers", "2")

    def kill(seen):
        if seen.endpoint == "exchange":
            process.kill()

    world.meta.on_request = kill
    process.communicate(timeout=60)
    world.meta.on_request = None
    at_once = world.json()
    while any(world.rows.get(channel)["token_lease_until"] for channel in channels):
        world.json()
    assert (process.returncode, at_once.code) == (-signal.SIGKILL, 0)
    assert {world.rows.get(channel)["token_status"] for channel in channels} == {"ok"}
    assert {world.meta.alive(world.stored(channel)) for channel in channels} == {True}
    assert world.json().counts == {"candidates": 6}
