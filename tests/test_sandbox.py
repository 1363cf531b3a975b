"""The simulated Meta behaves like the real one, over real HTTP, and the seeded database is what it says."""

from __future__ import annotations

import base64
import hashlib
import shutil
import socket
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests
from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import NullPool, create_engine, text

from crypto import KeyRing
from sandbox.destination import Destination
from sandbox.graph import (
    APP_ID,
    APP_SECRET,
    OMIT,
    SIXTY_DAYS,
    Cut,
    Drip,
    GraphServer,
    Huge,
    Reply,
    Reset,
    Slow,
    graph_error,
)
from sandbox.seed import Condition, seed

NOW = 1_800_000_000
DAY = 86400
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def meta():
    with GraphServer(now=lambda: NOW) as server:
        yield server


def get(meta, path, query=(), *, timeout=60, headers=(), session=requests):
    return session.get(f"{meta.url}/{path}", params=dict(query), headers=dict(headers), timeout=timeout)


def inspect(meta, token, *, secret=APP_SECRET, app_id=APP_ID, **options):
    headers = {"Authorization": f"Bearer {app_id}|{secret}"}
    return get(meta, "v26.0/debug_token", {"input_token": token}, headers=headers, **options)


def exchange(meta, token, *, secret=APP_SECRET, app_id=APP_ID, flag=False, **options):
    query = {
        "grant_type": "fb_exchange_token",
        "client_id": app_id,
        "client_secret": secret,
        "fb_exchange_token": token,
    }
    if flag:
        query["set_token_expires_in_60_days"] = "true"
    return get(meta, "v26.0/oauth/access_token", query, **options)


def error_of(answer):
    error = answer.json()["error"]
    return answer.status_code, error.get("code"), error.get("error_subcode"), error["message"]


def renewed_expiry(meta, answer):
    return inspect(meta, answer.json()["access_token"]).json()["data"]["expires_at"]


# Inspection


def test_an_inspection_tells_all_that_meta_tells(meta):
    token = meta.issue(user_id="407619950721687", issued_at=NOW - DAY)
    assert inspect(meta, token).json() == {
        "data": {
            "app_id": APP_ID,
            "type": "SYSTEM_USER",
            "application": "Sandbox App",
            "data_access_expires_at": 0,
            "expires_at": NOW + 59 * DAY,
            "is_valid": True,
            "issued_at": NOW - DAY,
            "scopes": ["business_management", "whatsapp_business_management", "whatsapp_business_messaging"],
            "granular_scopes": [
                {"scope": "whatsapp_business_management", "target_ids": ["786127059916704"]},
                {"scope": "whatsapp_business_messaging", "target_ids": ["786127059916704"]},
            ],
            "user_id": "407619950721687",
        }
    }


def test_the_app_token_may_also_stand_in_the_query(meta):
    query = {"input_token": meta.issue(), "access_token": f"{APP_ID}|{APP_SECRET}"}
    assert get(meta, "v26.0/debug_token", query).json()["data"]["is_valid"] is True


@pytest.mark.parametrize("key", ["expires_at", "data_access_expires_at", "issued_at"])
def test_a_time_of_none_is_a_key_left_out(meta, key):
    assert key not in inspect(meta, meta.issue(**{key: None})).json()["data"]


def test_a_token_that_never_expires_says_zero(meta):
    assert inspect(meta, meta.issue(expires_at=0)).json()["data"]["expires_at"] == 0


def test_a_token_past_its_end_is_dead_with_200_and_the_key_subcode(meta):
    data = inspect(meta, meta.issue(expires_at=NOW - 60)).json()["data"]
    assert (data["is_valid"], data["error"]) == (
        False,
        {
            "code": 190,
            "subcode": 463,
            "message": "Error validating access token: Session has expired on Thursday, 14-Jan-27 23:59:00 "
            "PST. The current time is Friday, 15-Jan-27 00:00:00 PST.",
        },
    )


def test_a_revoked_token_is_dead_for_inspection_and_exchange(meta):
    token = meta.issue(valid=False)
    inner = inspect(meta, token).json()["data"]["error"]
    assert (inner["code"], inner["subcode"], *error_of(exchange(meta, token))[:3]) == (
        190,
        460,
        400,
        190,
        460,
    )


def test_a_dead_token_can_have_an_error_of_its_own(meta):
    data = inspect(meta, meta.issue(error=(190, None, "The access token could not be decrypted"))).json()[
        "data"
    ]
    assert (data["is_valid"], data["error"]) == (
        False,
        {"code": 190, "message": "The access token could not be decrypted"},
    )


def test_a_token_can_die_and_come_back_while_the_server_runs(meta):
    token = meta.issue()
    seen = []
    for valid in (True, False, True):
        meta.token(token).valid = valid
        seen.append((inspect(meta, token).json()["data"]["is_valid"], meta.alive(token)))
    assert seen == [(True, True), (False, False), (True, True)]


def test_an_unknown_token_is_echoed_by_the_inspection(meta):
    assert inspect(meta, "EAA-unknown").json() == {
        "data": {
            "error": {"code": 190, "message": "Malformed access token EAA-unknown"},
            "is_valid": False,
            "scopes": [],
        }
    }


@pytest.mark.parametrize(
    ("caller", "error"),
    [
        ({"secret": "wrong"}, (400, 190, None, "Invalid OAuth access token signature.")),
        (
            {"app_id": "7"},
            (
                400,
                190,
                None,
                "Error validating application. Cannot get application info due to a system error.",
            ),
        ),
    ],
)
def test_an_inspection_by_a_wrong_app_is_a_190_that_is_not_about_the_token(meta, caller, error):
    assert error_of(inspect(meta, meta.issue(), **caller)) == error


@pytest.mark.parametrize(("credential", "code"), [({}, 104), ({"access_token": "EAA-own"}, 100)])
def test_an_inspection_needs_an_app_token(meta, credential, code):
    answer = get(meta, "v26.0/debug_token", {"input_token": meta.issue()} | credential)
    assert error_of(answer)[:2] == (400, code)


def test_an_inspection_of_nothing_is_refused(meta):
    assert error_of(inspect(meta, ""))[:2] == (400, 100)


def test_a_token_of_another_app_is_not_inspected(meta):
    message = "(#100) The App_id in the input_token did not match the Viewing App"
    assert error_of(inspect(meta, meta.issue(app_id="999"))) == (400, 100, None, message)


# Exchange


def test_a_system_user_token_is_extended_with_the_flag(meta):
    token = meta.issue(issued_at=NOW - 50 * DAY)
    answer = exchange(meta, token, flag=True)
    assert (answer.json().keys(), answer.json()["expires_in"], renewed_expiry(meta, answer)) == (
        {"access_token", "token_type", "expires_in"},
        SIXTY_DAYS,
        NOW + SIXTY_DAYS,
    )


def test_a_system_user_token_is_not_extended_without_the_flag(meta):
    token = meta.issue(expires_at=NOW + 10 * DAY)
    answer = exchange(meta, token)
    assert (
        answer.json()["expires_in"],
        renewed_expiry(meta, answer),
        answer.json()["access_token"] == token,
    ) == (
        10 * DAY,
        NOW + 10 * DAY,
        False,
    )


def test_a_user_token_is_extended_by_default(meta):
    answer = exchange(meta, meta.issue(type="USER", expires_at=NOW + DAY))
    assert renewed_expiry(meta, answer) == NOW + SIXTY_DAYS


def test_a_token_that_never_expires_comes_back_with_an_expiry(meta):
    assert renewed_expiry(meta, exchange(meta, meta.issue(expires_at=0))) == NOW + SIXTY_DAYS


def test_the_old_token_stays_valid_after_an_exchange(meta):
    token = meta.issue()
    new = exchange(meta, token, flag=True).json()["access_token"]
    assert (inspect(meta, token).json()["data"]["is_valid"], meta.exchanges) == (True, [(token, new)])


def test_the_new_token_keeps_its_user_and_scopes(meta):
    token = meta.issue(scopes=["whatsapp_business_messaging"])
    new = meta.token(exchange(meta, token).json()["access_token"])
    assert (new.user_id, new.scopes, new.issued_at) == (
        meta.token(token).user_id,
        ["whatsapp_business_messaging"],
        NOW,
    )


def test_an_exchange_can_give_the_same_token_with_what_is_left(meta):
    token = meta.issue(expires_at=NOW + 5 * DAY, exchange_same=True)
    assert exchange(meta, token, flag=True).json() == {
        "access_token": token,
        "token_type": "bearer",
        "expires_in": 5 * DAY,
    }


def test_an_exchange_can_give_another_life_and_other_fields(meta):
    token = meta.issue(exchange_lifetime=DAY, exchange_fields={"user_id": "42", "valid": False})
    data = inspect(meta, exchange(meta, token, flag=True).json()["access_token"]).json()["data"]
    assert (data["expires_at"], data["user_id"], data["is_valid"]) == (NOW + DAY, "42", False)


@pytest.mark.parametrize("value", [0, "5183944", None])
def test_the_answer_can_say_anything_about_the_life(meta, value):
    answer = exchange(meta, meta.issue(exchange_expires_in=value), flag=True)
    assert answer.json()["expires_in"] == value


def test_the_answer_can_keep_quiet_about_the_life(meta):
    assert "expires_in" not in exchange(meta, meta.issue(exchange_expires_in=OMIT), flag=True).json()


def test_an_expired_token_cannot_be_exchanged(meta):
    answer = exchange(meta, meta.issue(expires_at=NOW - 1), flag=True)
    assert (error_of(answer)[:3], meta.exchanges) == ((400, 190, 463), [])


def test_an_unknown_token_is_echoed_in_the_body_and_in_a_header(meta):
    answer = exchange(meta, "EAA-unknown")
    assert (error_of(answer), answer.headers["WWW-Authenticate"]) == (
        (400, 190, None, "Malformed access token EAA-unknown"),
        'OAuth "Facebook Platform" "invalid_token" "Malformed access token EAA-unknown"',
    )


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"secret": "wrong"}, (400, 1, None, "Error validating client secret.")),
        (
            {"app_id": "7"},
            (
                400,
                101,
                None,
                "Error validating application. Cannot get application info due to a system error.",
            ),
        ),
    ],
)
def test_an_exchange_by_a_wrong_app_is_refused(meta, wrong, error):
    assert error_of(exchange(meta, meta.issue(), **wrong)) == error


def test_a_token_of_another_app_is_not_exchanged(meta):
    message = f"The access token does not belong to application {APP_ID}"
    assert error_of(exchange(meta, meta.issue(app_id="999"))) == (400, 1, None, message)


def test_an_exchange_of_nothing_is_refused(meta):
    assert error_of(exchange(meta, ""))[:2] == (400, 1)


def test_another_kind_of_grant_is_refused(meta):
    query = {"client_id": APP_ID, "client_secret": APP_SECRET, "grant_type": "authorization_code"}
    assert error_of(get(meta, "v26.0/oauth/access_token", query))[:2] == (400, 191)


def test_the_secret_of_the_app_can_change_while_the_server_runs(meta):
    meta.app_secret = "sandbox-other-secret"
    token = meta.issue()
    assert (exchange(meta, token).status_code, inspect(meta, token, secret=meta.app_secret).status_code) == (
        400,
        200,
    )


# Around both


@pytest.mark.parametrize("edge", ["oauth/access_token", "debug_token"])
def test_anything_but_get_is_unsupported(meta, edge):
    answer = requests.post(f"{meta.url}/v26.0/{edge}", data={"input_token": "x"}, timeout=60)
    assert error_of(answer)[:3] == (400, 100, 33)


@pytest.mark.parametrize(
    "path", ["latest/debug_token", "v99.0/debug_token", "debug_token", "v26.0/me", "v26/debug_token", ""]
)
def test_an_unknown_version_or_path_is_refused(meta, path):
    assert error_of(get(meta, path))[:2] == (400, 2500)


def test_an_ended_version_is_served_by_the_version_of_the_server(meta):
    answer = get(meta, "v2.9/debug_token", {"access_token": f"{APP_ID}|{APP_SECRET}", "input_token": "x"})
    assert (answer.status_code, answer.headers["facebook-api-version"]) == (200, "v26.0")


def test_the_served_version_can_be_set(meta):
    meta.served_version = "v27.0"
    assert inspect(meta, "x").headers["facebook-api-version"] == "v27.0"


def test_every_error_has_a_type_and_a_trace(meta):
    first, second = (exchange(meta, "x").json()["error"] for _ in range(2))
    assert (first["type"], first["fbtrace_id"] != second["fbtrace_id"]) == ("OAuthException", True)


def test_the_usage_header_is_there_once_usage_is_set(meta):
    before = "x-app-usage" in inspect(meta, "x").headers
    meta.usage = {"call_count": 97, "total_time": 25, "total_cputime": 25}
    assert (before, inspect(meta, "x").headers["x-app-usage"]) == (
        False,
        '{"call_count":97,"total_time":25,"total_cputime":25}',
    )


def test_every_request_is_written_down(meta):
    token = meta.issue()
    exchange(meta, token, headers={"X-Mine": "yes"})
    seen = meta.requests[0]
    assert (
        seen.method,
        seen.path,
        seen.endpoint,
        seen.token,
        seen.query["client_id"],
        seen.headers["x-mine"],
    ) == (
        "GET",
        "/v26.0/oauth/access_token",
        "exchange",
        token,
        APP_ID,
        "yes",
    )


def test_requests_are_counted_by_endpoint_and_token_even_if_not_recorded(meta):
    meta.record = False
    one, two = meta.issue(), meta.issue()
    for token in (one, one, two):
        inspect(meta, token)
    exchange(meta, two)
    assert (
        meta.count(),
        meta.count("debug_token"),
        meta.count(token=two),
        meta.count("exchange", one),
        meta.requests,
    ) == (4, 3, 2, 0, [])


def test_a_session_keeps_its_connection(meta):
    with requests.Session() as session:
        for _ in range(3):
            inspect(meta, "x", session=session)
    inspect(meta, "x")
    assert [seen.connection for seen in meta.requests] == [1, 1, 1, 2]


def test_the_connection_survives_a_refused_post(meta):
    with requests.Session() as session:
        session.post(f"{meta.url}/v26.0/debug_token", data={"input_token": "x" * 5000}, timeout=60)
        inspect(meta, "x", session=session)
    assert [seen.connection for seen in meta.requests] == [1, 1]


def test_the_peak_is_how_many_calls_were_in_flight_at_once(meta):
    inspect(meta, "x")
    alone = meta.peak
    together = threading.Barrier(8)
    meta.on_request = lambda _seen: together.wait(30)
    threads = [threading.Thread(target=inspect, args=(meta, "x")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (alone, meta.peak) == (1, 8)


def test_each_call_takes_the_latency(meta):
    meta.latency = 0.2
    began = time.monotonic()
    inspect(meta, "x")
    assert time.monotonic() - began >= 0.2


def test_a_test_can_step_in_before_the_answer(meta):
    token = meta.issue()
    meta.on_request = lambda seen: setattr(meta.token(seen.token), "valid", False)
    assert inspect(meta, token).json()["data"]["is_valid"] is False


def test_what_a_test_raises_on_a_request_is_not_lost():
    server = GraphServer()
    server.on_request = lambda _: pytest.fail("seen in the server's thread")
    with (
        pytest.raises(pytest.fail.Exception, match="seen in the server's thread"),
        server,
        pytest.raises(requests.ConnectionError),
    ):
        inspect(server, "x")


# Scripts


def test_scripted_answers_come_in_order_and_then_it_is_normal_again(meta):
    token = meta.issue()
    meta.script(token, graph_error(500, "An unknown error has occurred.", 1), None, Reply(429, ""))
    assert [inspect(meta, token).status_code for _ in range(4)] == [500, 200, 429, 200]


def test_a_scripted_answer_can_last_until_it_is_forgotten(meta):
    meta.script(None, Reply(503, "one"), Reply(502, "two"), forever=True)
    codes = [inspect(meta, "x").status_code for _ in range(4)]
    meta.script(None)
    assert [*codes, inspect(meta, "x").status_code] == [503, 502, 502, 502, 200]


def test_a_new_script_replaces_one_that_stood_for_ever(meta):
    meta.script(None, Reply(503, ""), forever=True)
    meta.script(None, Reply(502, ""))
    assert [inspect(meta, "x").status_code for _ in range(2)] == [502, 200]


def test_a_script_is_about_its_token_and_endpoint_only(meta):
    one, two = meta.issue(), meta.issue()
    meta.script(one, Reply(500, ""), endpoint="exchange", forever=True)
    assert [call(meta, token).status_code for call in (inspect, exchange) for token in (one, two)] == [
        200,
        200,
        500,
        200,
    ]


def test_the_most_specific_script_wins(meta):
    meta.script(None, Reply(504, ""))
    meta.script(None, Reply(503, ""), endpoint="debug_token")
    meta.script("x", Reply(502, ""))
    meta.script("x", Reply(501, ""), endpoint="debug_token")
    assert [inspect(meta, "x").status_code for _ in range(5)] == [501, 502, 503, 504, 200]


def test_a_scripted_exchange_does_not_happen(meta):
    token = meta.issue()
    meta.script(token, Reply(200, {"access_token": "EAA-made-up"}))
    assert (exchange(meta, token).json(), meta.exchanges) == ({"access_token": "EAA-made-up"}, [])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<html>Sorry</html>", "text/html; charset=utf-8"),
        (b"\xff", "application/json; charset=UTF-8"),
        ({"a": 1}, "application/json; charset=UTF-8"),
    ],
)
def test_a_reply_can_be_text_bytes_or_json(meta, body, kind):
    meta.script(None, Reply(200, body))
    answer = inspect(meta, "x")
    expected = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else b'{"a":1}'
    assert (answer.content, answer.headers["content-type"]) == (expected, kind)


def test_the_headers_of_a_reply_replace_the_usual_ones(meta):
    meta.script(None, Reply(429, "", {"Retry-After": "60", "Facebook-API-Version": "v1.0"}))
    headers = inspect(meta, "x").headers
    assert (headers["retry-after"], headers["facebook-api-version"]) == ("60", "v1.0")


def test_a_graph_error_can_carry_more_fields(meta):
    meta.script(None, graph_error(400, "Try later.", 2, is_transient=True, type="Other", fbtrace_id="A1"))
    assert inspect(meta, "x").json() == {
        "error": {
            "message": "Try later.",
            "type": "Other",
            "code": 2,
            "fbtrace_id": "A1",
            "is_transient": True,
        }
    }


def test_a_slow_answer_comes_in_the_end(meta):
    token = meta.issue()
    meta.script(token, Slow(0.2))
    began = time.monotonic()
    assert (inspect(meta, token).json()["data"]["is_valid"], time.monotonic() - began >= 0.2) == (True, True)


def test_a_slow_answer_runs_into_the_caller_s_timeout(meta):
    meta.script(None, Slow(60))
    with pytest.raises(requests.ReadTimeout):
        inspect(meta, "x", timeout=0.1)


def test_a_cut_exchange_has_happened(meta):
    token = meta.issue()
    meta.script(token, Cut(after=10))
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        exchange(meta, token)
    assert len(meta.exchanges) == 1


def test_a_cut_answer_announces_all_and_gives_a_part(meta):
    meta.script(None, Cut(after=20, status=500))
    answer = inspect(meta, meta.issue(), session=Streaming())
    received = answer.raw.read1(10_000)
    answer.close()
    assert (answer.status_code, int(answer.headers["content-length"]) > 300, received) == (
        500,
        True,
        b'{"data":{"app_id":"1',
    )


class Streaming:
    """`requests`, leaving the body on the wire."""

    @staticmethod
    def get(url, **options):
        return requests.get(url, stream=True, **options)


def test_a_reset_gives_no_answer_and_does_nothing(meta):
    token = meta.issue()
    meta.script(token, Reset())
    with pytest.raises(requests.ConnectionError, match="reset by peer"):
        exchange(meta, token)
    assert meta.exchanges == []


@pytest.mark.parametrize(("announced", "length"), [(True, "2000000"), (False, None)])
def test_a_huge_answer_is_as_big_as_told(meta, announced, length):
    meta.script(None, Huge(2_000_000, announced=announced))
    answer = inspect(meta, "x")
    assert (answer.status_code, len(answer.content), answer.headers.get("content-length")) == (
        200,
        2_000_000,
        length,
    )


def test_it_does_not_matter_that_a_caller_hangs_up_on_a_huge_answer(meta):
    meta.script(None, Huge(50_000_000))
    inspect(meta, "x", session=Streaming()).close()
    assert inspect(meta, "x").status_code == 200


@pytest.mark.parametrize("head", [False, True])
def test_a_dripping_answer_takes_its_time_and_is_whole(meta, head):
    token = meta.issue()
    meta.script(token, Drip(0.5, head=head))
    began = time.monotonic()
    assert (inspect(meta, token).json()["data"]["is_valid"], time.monotonic() - began >= 0.5) == (True, True)


def test_a_dripping_answer_outlives_a_timeout_between_two_bytes(meta):
    meta.script(None, Drip(2.5))
    assert inspect(meta, "x", timeout=2).status_code == 200


# Starting and closing


def seconds_to_close(server):
    began = time.monotonic()
    server.close()
    return time.monotonic() - began


def test_closing_is_quick_although_a_connection_is_open():
    server = GraphServer()
    server.start()
    with requests.Session() as session:
        inspect(server, "x", session=session)
        assert seconds_to_close(server) < 10


@pytest.mark.parametrize("answer", [Slow(60), Drip(60), Drip(60, head=True)])
def test_closing_ends_what_is_slow_at_once(answer):
    server = GraphServer()
    server.start()
    server.script(None, answer)
    failed = []

    def call():
        try:
            inspect(server, "x", timeout=30)
        except requests.RequestException as error:
            failed.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    while not server.count():
        time.sleep(0.01)
    took = seconds_to_close(server)
    thread.join()
    assert (took < 10, len(failed)) == (True, 1)


def test_closing_twice_is_harmless_and_starting_twice_is_not():
    with GraphServer() as server:
        with pytest.raises(RuntimeError):
            server.start()
        server.close()


def test_nothing_listens_after_closing_and_the_same_port_comes_back():
    server = GraphServer()
    server.start()
    url = server.url
    server.close()
    with pytest.raises(requests.ConnectionError):
        inspect(server, "x")
    with server:
        assert (server.url, inspect(server, "x").status_code) == (url, 200)


def test_no_thread_is_left_behind():
    before = threading.active_count()
    with GraphServer() as server, requests.Session() as session:
        inspect(server, "x", session=session)
    assert threading.active_count() == before


def test_a_malformed_request_prints_nothing_on_the_terminal(meta, capfd):
    with socket.create_connection(("127.0.0.1", int(meta.url.rpartition(":")[2]))) as wire:
        wire.sendall(b"\x16\x03\x01 what\r\n\r\n")
        wire.recv(1000)
    assert (capfd.readouterr(), inspect(meta, "x").status_code) == (("", ""), 200)


# The seeded database

KEY = bytes(range(32))
RING = KeyRing.parse(KEY.hex())
TODAY = datetime.fromtimestamp(NOW, UTC)


@pytest.fixture
def database_url(sqlite_template, tmp_path):
    path = shutil.copy(sqlite_template, tmp_path / "channels.db")
    return f"sqlite:///{path}"


def rows_of(url):
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return {row["id"]: row for row in connection.execute(text('SELECT * FROM "Channel"')).mappings()}


@pytest.fixture
def seeded(meta, database_url):
    return seed(Destination.of(database_url), meta, RING, TODAY)


@pytest.fixture
def rows(seeded, database_url):
    return {channel.condition: (channel, rows_of(database_url)[channel.id]) for channel in seeded}


def opened(ciphertext):
    try:
        return Fernet(base64.urlsafe_b64encode(KEY)).decrypt(ciphertext.encode()).decode()
    except InvalidToken:
        return None


def test_there_is_one_channel_for_each_condition_and_two_that_share_a_token(seeded):
    expected = dict.fromkeys(Condition, 1) | {Condition.SHARED: 2}
    assert Counter(channel.condition for channel in seeded) == expected


def test_every_name_and_id_occurs_once(seeded):
    assert [len({getattr(channel, key) for channel in seeded}) for key in ("id", "name")] == [len(seeded)] * 2


def test_every_row_opens_to_the_token_that_meta_knows(seeded, database_url):
    rows = rows_of(database_url)
    wrong = [
        channel.condition
        for channel in seeded
        if channel.token and opened(rows[channel.id]["wa_token_encrypted"]) != channel.token
    ]
    assert wrong == [Condition.UNDECRYPTABLE]


def test_the_tokens_that_meta_calls_dead_are_the_revoked_and_the_expired(seeded, meta):
    dead = {channel.condition for channel in seeded if channel.token and not meta.alive(channel.token)}
    assert dead == {Condition.REVOKED, Condition.LONG_EXPIRED}


def test_the_two_that_share_a_token_have_two_ciphertexts(seeded, database_url):
    one, two = (channel for channel in seeded if channel.condition is Condition.SHARED)
    rows = rows_of(database_url)
    assert (
        one.token == two.token,
        rows[one.id]["wa_token_encrypted"] == rows[two.id]["wa_token_encrypted"],
    ) == (
        True,
        False,
    )


def test_a_fingerprint_is_the_md5_of_the_ciphertext(rows):
    _, row = rows[Condition.LONG_EXPIRED]
    assert row["token_fingerprint"] == hashlib.md5(row["wa_token_encrypted"].encode()).hexdigest()


def test_a_channel_that_waits_was_told_about_when_it_expired(rows):
    _, row = rows[Condition.LONG_EXPIRED]
    expired = (TODAY - timedelta(days=20)).strftime("%Y-%m-%d %H:%M:%S.%f")
    assert (row["token_status"], row["token_expires_at"], row["token_alerted_at"]) == (
        "warning",
        expired,
        expired,
    )


@pytest.mark.parametrize(
    "condition", [Condition.UNKNOWN_AGED, Condition.UNKNOWN_YOUNG, Condition.NEVER_EXPIRES]
)
def test_a_channel_never_looked_at_has_only_its_token(rows, condition):
    _, row = rows[condition]
    filled = {name for name, value in row.items() if value is not None}
    assert filled == {"id", "name", "type", "wa_token_encrypted"}


@pytest.mark.parametrize(
    ("condition", "row_days", "meta_days"),
    [
        (Condition.YOUNG, 50, 50),
        (Condition.AGED, 10, 10),
        (Condition.LAST_DAYS, 3, 3),
        (Condition.WRONG_CLOCK, 5, 55),
        (Condition.DATA_ACCESS_ENDS, 5, 40),
        (Condition.LONG_EXPIRED, -20, -20),
    ],
)
def test_row_and_meta_believe_what_the_condition_says(rows, meta, condition, row_days, meta_days):
    channel, row = rows[condition]
    believed = datetime.fromisoformat(row["token_expires_at"]).replace(tzinfo=UTC) - TODAY
    assert (believed.days, (meta.token(channel.token).expires_at - NOW) // DAY) == (row_days, meta_days)


def test_dates_are_in_utc_in_every_zone_of_now(meta, database_url):
    from datetime import timezone

    channels = seed(Destination.of(database_url), meta, RING, TODAY.astimezone(timezone(timedelta(hours=9))))
    young = next(channel for channel in channels if channel.condition is Condition.YOUNG)
    expected = (TODAY + timedelta(days=50)).strftime("%Y-%m-%d %H:%M:%S.%f")
    assert rows_of(database_url)[young.id]["token_expires_at"] == expected


def test_no_candidates_are_those_of_another_type_or_without_a_token(rows):
    other, empty = rows[Condition.OTHER_TYPE][1], rows[Condition.NO_TOKEN][1]
    assert (other["type"], empty["type"], empty["wa_token_encrypted"]) == ("email", "whatsapp", None)
