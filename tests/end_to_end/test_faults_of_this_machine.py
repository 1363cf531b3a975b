"""What is wrong with this machine or its settings is told as that, and marks no channel."""

from __future__ import annotations

import os

import pytest
from conftest import only_sqlite
from listener import listening
from receivers import closed_port
from tls import certificate, tls_context
from world import fernet

from sandbox.graph import graph_error

pytestmark = only_sqlite


def rows(world):
    return [world.rows.get(id_) for id_ in (1, 2)]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        (
            {"REQUESTS_CA_BUNDLE": "/nowhere/ca.pem"},
            "REQUESTS_CA_BUNDLE: there is no file /nowhere/ca.pem",
        ),
        ({"CURL_CA_BUNDLE": "/nowhere/ca.pem"}, "CURL_CA_BUNDLE: there is no file /nowhere/ca.pem"),
        ({"SSL_CERT_FILE": "/nowhere/ca.pem"}, "SSL_CERT_FILE: there is no file /nowhere/ca.pem"),
        (
            {"HTTPS_PROXY": "http:/proxy.example:3128"},
            "HTTPS_PROXY: it must be a proxy's address such as http://host:port",
        ),
        (
            {"HTTPS_PROXY": "proxy.example:port"},
            "HTTPS_PROXY: it must be a proxy's address such as http://host:port",
        ),
        (
            {"ALL_PROXY": "socks5h://proxy.example:1080"},
            "ALL_PROXY: a SOCKS proxy needs PySocks; run: pip install pysocks",
        ),
        (
            {"HTTPS_PROXY": f"127.0.0.1:{closed_port()}"},
            "HTTPS_PROXY: the proxy does not let the call through",
        ),
    ],
)
@pytest.mark.parametrize("option", ["--json", "--check"])
def test_a_fault_of_this_machine_ends_a_run_before_it_touches_a_row(world, variables, said, option):
    for _ in range(2):
        world.channel()
    before = rows(world)
    world.env |= {"META_GRAPH_URL": "https://graph.example", "META_RETRIES": "1"} | variables
    result = world.run(option)
    told = (
        result.document["stopped"]
        if option == "--json"
        else {"reason": "configuration", "detail": result.out}
    )
    assert (result.code, told["reason"], said in told["detail"], rows(world) == before) == (
        2,
        "configuration",
        True,
        True,
    )


def test_a_certificate_that_is_not_trusted_here_ends_a_run_and_names_what_to_set(world, tmp_path):
    for _ in range(2):
        world.channel()
    before = rows(world)
    with listening() as server:
        server.socket = tls_context(certificate(tmp_path)).wrap_socket(server.socket, server_side=True)
        world.env["META_GRAPH_URL"] = server.url.replace("http", "https")
        results = [world.run(option) for option in ("--json", "--check")]
    said = (
        "the certificate of 127.0.0.1 is not trusted here (self-signed certificate); "
        "name the file of its CA in REQUESTS_CA_BUNDLE"
    )
    assert [(result.code, said in result.out) for result in results] == [(2, True)] * 2
    assert rows(world) == before


def test_a_ca_file_that_is_not_there_is_a_fault_also_where_meta_is_on_this_machine(world):
    world.channel()
    world.env["REQUESTS_CA_BUNDLE"] = "/nowhere/ca.pem"
    result = world.json()
    assert (result.code, "REQUESTS_CA_BUNDLE: there is no file /nowhere/ca.pem" in result.out) == (2, True)
    assert world.rows.get(1)["token_status"] == "ok"


def test_no_secret_goes_to_a_proxy_where_meta_slack_and_the_heartbeat_are_on_this_machine(world):
    id_ = world.channel()
    with listening() as here, listening() as proxy:
        world.env |= dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), proxy.url)
        world.env |= {"HEALTHCHECK_URL": f"{here.url}/check", "SLACK_WEBHOOK_URL": f"{here.url}/services/x"}
        world.env["NOTIFY_URLS"] = here.url.replace("http", "json") + "/of-the-alerts"
        world.channel("EAA-unknown-to-meta")
        result = world.json()
        paths = {ping.path for ping in here.pings}
        assert (result.told(id_), proxy.pings) == (("renewed", None), [])
        assert paths >= {"/check/start", "/check/1", "/services/x", "/of-the-alerts"}


@pytest.mark.parametrize(
    ("plaintext", "kind"),
    [
        ('"EAA-sandbox-x"', "it is in quotation marks"),
        ('{"access_token":"EAA-sandbox-x"}', "it is JSON"),
        ("undefined", "it begins with undefined or null"),
        ("null", "it begins with undefined or null"),
        ("Bearer EAA-sandbox-x", "it begins with Bearer"),
        ("EAA-sandbox-x\n", "it contains white space"),
        (" EAA-sandbox-x", "it contains white space"),
        (fernet().encrypt(b"EAA-sandbox-x").decode(), "it is encrypted twice"),
    ],
    ids=["quotes", "JSON", "undefined", "null", "Bearer", "line break", "space", "twice"],
)
def test_a_stored_value_that_is_no_token_is_not_sent_to_meta(world, plaintext, kind):
    good, bad = world.channel(), world.channel(plaintext)
    result = world.json()
    assert (result.told(good), result.told(bad)) == (("renewed", None), ("failed", "undecryptable"))
    assert result.entry(bad)["detail"] == f"the stored value is no token; {kind}"
    assert world.meta.count(token=plaintext) == 0


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ('"whatsapp_business_messaging,whatsapp_business_management"', 2, "it must be names of permissions"),
        ("whatsapp_business_messaging;whatsapp_business_management", 2, "it must be names of permissions"),
        ("whatsapp_business_mesaging", 1, "(whatsapp_business_mesaging); check the spelling"),
        ("none", 0, ""),
    ],
)
def test_permissions_that_are_none_are_refused_and_misspelt_ones_warned_of(world, text, code, said):
    world.channel(world.token(scopes=[]))
    world.env["REQUIRED_SCOPES"] = text
    result = world.run()
    assert (result.code, said in result.err) == (code, True)


def test_a_limit_that_meets_one_token_every_time_leaves_the_others_to_be_renewed(world):
    limited = world.token()
    ids = [world.channel(limited), *(world.channel() for _ in range(4))]
    world.meta.script(limited, graph_error(400, "(#4) Application request limit reached", 4), forever=True)
    result = world.json("--workers", "1")
    assert [result.told(id_) for id_ in ids] == [("failed", "unavailable"), *[("renewed", None)] * 4]


@pytest.mark.parametrize("text", ["https://*.x", "https://a..example", "https://" + "x" * 64 + ".example"])
def test_an_address_of_meta_that_cannot_be_looked_up_is_a_problem_of_the_settings(world, text):
    world.env["META_GRAPH_URL"] = text
    result = world.run()
    assert (result.code, "META_GRAPH_URL: its host is no name that can be looked up" in result.err) == (
        2,
        True,
    )


def test_a_pipe_instead_of_a_secret_does_not_hang(world, tmp_path):
    os.mkfifo(tmp_path / "secret")
    world.env["META_APP_SECRET_FILE"] = str(tmp_path / "secret")
    del world.env["META_APP_SECRET"]
    result = world.run()
    assert (
        result.code,
        "META_APP_SECRET_FILE: the file that it names is not a regular file" in result.err,
    ) == (
        2,
        True,
    )


def test_a_byte_that_is_not_utf8_in_a_link_is_a_problem_of_the_settings(world):
    world.env["RECONNECT_URL"] = b"https://app.example/\xe9".decode(errors="surrogateescape")
    result = world.json()
    assert (result.code, "RECONNECT_URL: it contains bytes that are not UTF-8" in result.err) == (2, True)


def test_the_beginning_of_a_token_that_meta_echoes_is_not_printed(world):
    token = world.token()
    for start in (token[:16], token[4:20]):
        world.meta.script(token, graph_error(400, f"Odd token ({start}…)", 506), endpoint="exchange")
        result = world.json("--force", "--channel", str(world.channel(token)))
        assert (result.code, start[:12] in result.out + result.err, "Odd token (***" in result.out) == (
            1,
            False,
            True,
        )


def test_a_folder_instead_of_the_env_file_is_told(world, monkeypatch, tmp_path):
    (tmp_path / ".env").mkdir()
    monkeypatch.setattr("whatsapp_tokens.commands.wiring.ENV_FILE", tmp_path / ".env")
    world.arguments = lambda *options: list(options)
    result = world.run("--quiet")
    assert (result.code, "is a folder and was ignored" in result.err) == (0, True)
