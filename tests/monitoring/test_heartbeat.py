"""Pings over real HTTP, to a server that answers well and badly."""

from __future__ import annotations

import logging
import socket

import pytest
from listener import Drip, Hang, Ping, listening

from whatsapp_tokens.delivery import DeliveryError
from whatsapp_tokens.monitoring import heartbeat
from whatsapp_tokens.monitoring.heartbeat import MAX_BODY_BYTES, Heartbeat, ping_url
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.signals import Interrupted

PATH = "/3f0c8a52-uuid-of-the-check"


@pytest.fixture
def server():
    with listening() as running:
        yield running


@pytest.fixture
def waits():
    return []


@pytest.fixture
def pulse(server, waits):
    return Heartbeat(Secret(server.url + PATH), sleep=waits.append)


def interrupted(_seconds):
    raise Interrupted


def test_a_run_pings_at_its_beginning_and_with_its_exit_code_at_its_end(server, pulse):
    pulse.start()
    pulse.end(0, "Renewed: 1\n… café")
    assert server.pings == [
        Ping(f"{PATH}/start", "", "text/plain; charset=utf-8"),
        Ping(f"{PATH}/0", "Renewed: 1\n… café", "text/plain; charset=utf-8"),
    ]


def test_a_text_for_the_log_is_posted_without_secrets(server, pulse):
    token = Secret("opaque-token-1234")
    pulse.log("a test of opaque-token-1234")
    assert [(ping.path, ping.body) for ping in server.pings] == [(f"{PATH}/log", "a test of ***")]
    assert token


def test_a_text_for_the_log_that_is_not_taken_is_an_error(server, pulse, waits):
    server.script = [404]
    with pytest.raises(DeliveryError, match=r"^HTTP 404$"):
        pulse.log("a test")
    assert (len(server.pings), waits) == (1, [])


@pytest.mark.parametrize("code", [1, 2, 3, 130, 143])
def test_any_exit_code_is_the_last_part_of_the_path(server, pulse, code):
    pulse.end(code, "")
    assert [ping.path for ping in server.pings] == [f"{PATH}/{code}"]


@pytest.mark.parametrize(
    ("url", "pinged"),
    [
        ("https://hc.example/uuid", "https://hc.example/uuid/start"),
        ("https://hc.example/uuid/", "https://hc.example/uuid/start"),
        ("https://hc.example/uuid//", "https://hc.example/uuid/start"),
        ("https://hc.example", "https://hc.example/start"),
        ("https://hc.example/", "https://hc.example/start"),
        ("https://hc.example/key/slug?create=1", "https://hc.example/key/slug/start?create=1"),
        ("https://hc.example/key/slug/?create=1&x=/y", "https://hc.example/key/slug/start?create=1&x=/y"),
        ("https://hc.example?create=1", "https://hc.example/start?create=1"),
        ("https://hc.example/uuid#part", "https://hc.example/uuid/start"),
        ("https://me:pw@hc.example:8443/a%2Fb", "https://me:pw@hc.example:8443/a%2Fb/start"),
        ("http://[::1]:8000/ping/uuid", "http://[::1]:8000/ping/uuid/start"),
    ],
)
def test_what_is_pinged_goes_behind_the_path(url, pinged):
    assert ping_url(url, "start") == pinged


@pytest.mark.parametrize("bad", [500, 502, 503, 429])
def test_what_may_pass_is_tried_again(server, pulse, waits, caplog, bad):
    server.script = [bad, bad]
    pulse.start()
    assert (len(server.pings), waits, caplog.records) == (3, [1.0, 2.0], [])


def test_nothing_is_tried_again_once_the_run_was_told_to_stop(server, caplog):
    server.script = [503] * 3
    Heartbeat(Secret(server.url + PATH), sleep=interrupted).end(143, "")
    assert (len(server.pings), caplog.messages) == (
        1,
        ["the heartbeat /143 was not delivered (HTTP 503)"],
    )


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 403, 404, 409, 410])
def test_a_refusal_or_a_redirect_is_final_and_not_followed(server, pulse, waits, caplog, status):
    server.script = [status]
    pulse.start()
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert ([ping.path for ping in server.pings], waits) == ([f"{PATH}/start"], [])
    assert told == [("ERROR", f"the heartbeat /start was not delivered (HTTP {status})")]


def test_a_server_that_stays_broken_costs_a_few_tries_and_an_error(server, pulse, caplog):
    server.script = [500] * 10
    pulse.end(0, "x")
    assert (len(server.pings), caplog.messages) == (
        3,
        ["the heartbeat /0 was not delivered (HTTP 500)"],
    )


@pytest.mark.parametrize(("answer", "named"), [(Hang, "ReadTimeout"), (Drip, "ReadTimeout")])
def test_a_server_that_hangs_or_drips_is_not_waited_for(server, pulse, caplog, monkeypatch, answer, named):
    monkeypatch.setattr(heartbeat, "TIMEOUT_SECONDS", 0.1)
    server.script = [answer()] * 10
    pulse.start()
    assert (len(server.pings), caplog.messages) == (
        3,
        [f"the heartbeat /start was not delivered ({named})"],
    )


def test_a_server_that_is_not_there_is_an_error_without_its_address(waits, caplog):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}{PATH}"
    caplog.set_level(logging.DEBUG)
    Heartbeat(Secret(url), sleep=waits.append).start()
    own = [record.getMessage() for record in caplog.records if record.name == heartbeat.__name__]
    assert (own, len(waits)) == (["the heartbeat /start was not delivered (ConnectionError)"], 2)


def test_a_fault_of_this_machine_is_not_tried_again(waits, caplog, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    Heartbeat(Secret(f"https://hc.example{PATH}"), sleep=waits.append).start()
    assert ("there is no file /no/such/file" in caplog.text, waits) == (True, [])


def test_no_secret_leaves_with_the_summary(server, pulse):
    token = Secret("opaque-token-1234")
    pulse.end(1, "failed: opaque-token-1234 of EAAGm0PX4ZCpsBA")
    assert ([ping.body for ping in server.pings], bool(token)) == (["failed: *** of ***"], True)


def test_a_long_summary_is_cut(server, pulse):
    pulse.end(0, "x" * (MAX_BODY_BYTES + 1))
    assert [len(ping.body) for ping in server.pings] == [MAX_BODY_BYTES]
