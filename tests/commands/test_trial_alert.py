"""`--test-alert`: one message to everyone who would hear of a failure, over real HTTP and real SMTP."""

from __future__ import annotations

import json
import signal
import socket
import time

import pytest
from conftest import only_sqlite
from listener import Hang, listening
from receivers import Cut, HookServer, Reply, closed_port, running

from notify import Slack

pytestmark = only_sqlite  # no database is opened

PAGE = "https://status.example/wa.html?x=(1)&y=<2>"
TITLE = "Test: alerts about WhatsApp tokens arrive here"


@pytest.fixture
def hook(world):
    with running(HookServer()) as server:
        world.env["NOTIFY_URLS"] = server.address
        yield server


@pytest.fixture
def check(world):
    with listening() as server:
        world.env["HEALTHCHECK_URL"] = f"{server.url}/ping-key/slug?create=1"
        yield server


def deliveries(result):
    return [(one["target"], one["delivered"]) for one in result.document["deliveries"]]


def test_each_target_and_the_heartbeat_get_one_message(world, slack, mail, check):
    world.env["STATUS_PAGE_URL"] = PAGE
    result = world.run("--test-alert")
    assert (result.code, result.err, result.out.splitlines()) == (
        0,
        "",
        ["ok       Slack: delivered", "ok       E-Mail: delivered", "ok       heartbeat: delivered"],
    )
    link = "https://status.example/wa.html?x=(1)&y=%3C2%3E"
    (payload,) = slack.received
    assert (payload["text"], payload["blocks"][2]["accessory"]["url"]) == (TITLE, link)
    ((_, letter),) = mail.mails
    assert letter["Subject"] == TITLE
    plain = letter.get_body(("plain",)).get_content()
    assert "This is only a test: no line failed, and there is nothing to do." in plain.replace("\n", " ")
    assert link in plain
    (ping,) = check.pings
    assert ping.path == "/ping-key/slug/log?create=1"
    assert (ping.body.splitlines()[0], f"Status page: {link}" in ping.body) == (TITLE, True)


def test_it_says_where_it_comes_from_without_user_and_password(world, hook):
    world.env["DATABASE_URL"] = "postgresql://some-user:hunter22secret@db.example.com:6543/shop?schema=app"
    result = world.run("--test-alert")
    ((_, text),) = hook.received
    assert f'on {socket.gethostname()}, for the table "Channel" in shop (db.example.com).' in text
    assert result.code == 0
    assert "some-user" not in text + result.out
    assert "hunter22secret" not in text + result.out + result.err


def test_it_speaks_the_language_of_alerts(world, slack):
    world.env["ALERT_LANGUAGE"] = "es"
    world.run("--test-alert")
    assert slack.received[0]["text"] == "Prueba: aquí llegan los avisos sobre los tokens de WhatsApp"


def test_no_database_is_needed_and_no_channel_is_touched(world, slack):
    id_ = world.channel(token_status="warning", token_error="unavailable: x")
    before = world.rows.get(id_)
    assert world.run("--test-alert").code == 0
    assert (world.rows.get(id_), world.rows.audit(), world.meta.count()) == (before, [], 0)
    world.env["DATABASE_URL"] = f"postgresql://nobody@127.0.0.1:{closed_port()}/none"
    assert world.run("--test-alert").code == 0
    assert len(slack.received) == 2


def test_one_that_fails_keeps_no_other_from_being_tried(world, slack, hook, check):
    slack.script = [Reply(404, "no_service")]
    check.script = [503, 503, 503]
    result = world.json("--test-alert")
    assert (result.code, result.err, result.document["exit_code"]) == (1, "", 1)
    assert deliveries(result) == [("Slack", False), ("JSON", True), ("heartbeat", False)]
    assert [one["detail"] for one in result.document["deliveries"]] == [
        "refused the alert: no_service (HTTP 404); check SLACK_WEBHOOK_URL",
        None,
        "HTTP 503; check HEALTHCHECK_URL and the network, or try again",
    ]
    assert (len(hook.received), len(check.pings)) == (1, 3)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Reply(302, "", {"Location": "https://elsewhere.example/"}), "HTTP 302"),
        (Reply(403, "invalid_token"), "invalid_token (HTTP 403)"),
        (Reply(200, "<html>a portal</html>"), "a portal"),
        (Cut(), "did not answer"),
    ],
)
def test_why_slack_did_not_take_it(world, slack, answer, said):
    slack.script = [answer] * 3
    result = world.run("--test-alert")
    assert (result.code, slack.received) == (1, [])
    assert result.out.startswith("PROBLEM  Slack: ")
    assert said in result.out


def test_a_secret_that_stands_in_a_file_is_called_by_the_name_of_its_variable(world, slack, check, tmp_path):
    for name in ("SLACK_WEBHOOK_URL", "HEALTHCHECK_URL"):
        path = tmp_path / name
        path.write_text(world.env.pop(name))
        world.env[f"{name}_FILE"] = str(path)
    slack.script, check.script = [Reply(404, "no_service")], [404]
    assert world.run("--test-alert").out.splitlines() == [
        "PROBLEM  Slack: refused the alert: no_service (HTTP 404); check SLACK_WEBHOOK_URL_FILE",
        "PROBLEM  heartbeat: HTTP 404; check HEALTHCHECK_URL_FILE",
    ]


def test_a_mailbox_that_is_refused(world, mail):
    mail.refused = {"ops@shop.example"}
    result = world.run("--test-alert")
    assert (result.code, mail.mails) == (1, [])
    assert result.out.startswith("PROBLEM  E-Mail: did not take the alert: ")
    assert result.out.endswith("; check NOTIFY_URLS and the network, or try again\n")


def test_two_of_a_kind_are_told_apart(world, hook):
    world.env["NOTIFY_URLS"] = f"{hook.address},json://127.0.0.1:{closed_port()}"
    assert deliveries(world.json("--test-alert")) == [("JSON", True), ("JSON (2)", False)]


def test_a_fault_of_this_machine_is_named_instead_of_the_target(world, slack):
    world.env["REQUESTS_CA_BUNDLE"] = "/no/such/file"
    world.env["SLACK_WEBHOOK_URL"] = "https://hooks.slack.com/services/T0/B0/very-secret-hook"
    result = world.run("--test-alert")
    assert (result.code, result.out) == (
        1,
        "PROBLEM  Slack: did not answer (REQUESTS_CA_BUNDLE: there is no file /no/such/file)\n",
    )


def test_one_that_is_not_there(world):
    world.env["NOTIFY_URLS"] = f"json://127.0.0.1:{closed_port()}/of-the-alerts"
    result = world.run("--test-alert")
    assert (result.code, result.out.startswith("PROBLEM  JSON: did not take the alert: ")) == (1, True)
    assert result.out.endswith(" to 127.0.0.1; check NOTIFY_URLS and the network, or try again\n")


def test_a_heartbeat_alone_is_enough(world, check):
    assert deliveries(world.json("--test-alert")) == [("heartbeat", True)]


@pytest.mark.parametrize("flags", [[], ["--json"], ["-q"]])
def test_where_no_one_would_hear_it_is_an_error(world, flags):
    result = world.run("--test-alert", *flags)
    assert result.code == 2
    assert "set SLACK_WEBHOOK_URL, NOTIFY_URLS or HEALTHCHECK_URL" in result.err
    if flags == ["--json"]:
        document = json.loads(result.out)
        assert (document["deliveries"], document["stopped"]["reason"]) == ([], "configuration")


def test_quiet_shows_only_what_did_not_arrive(world, slack, check):
    check.script = [404]
    result = world.run("--test-alert", "--quiet")
    assert (result.code, result.out.startswith("PROBLEM  heartbeat: HTTP 404; ")) == (1, True)
    assert len(result.out.splitlines()) == 1
    assert world.run("--test-alert", "--quiet").out == ""


def test_other_monitors_hear_nothing_of_it(world, slack, tmp_path):
    metrics, page = tmp_path / "metrics.prom", tmp_path / "summary.md"
    world.env |= {"METRICS_FILE": str(metrics), "GITHUB_STEP_SUMMARY": str(page)}
    assert world.run("--test-alert").code == 0
    assert (metrics.exists(), page.exists()) == (False, False)


def test_bad_settings_are_all_named(world, slack):
    del world.env["META_APP_ID"]
    world.env["STATUS_PAGE_URL"] = "ftp://x"
    result = world.run("--test-alert")
    assert (result.code, slack.received) == (2, [])
    assert ("META_APP_ID" in result.err, "STATUS_PAGE_URL" in result.err) == (True, True)


def test_a_bug_in_one_target_stops_no_other(world, slack, hook, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("hunter22secret")

    monkeypatch.setattr(Slack, "deliver", broken)
    result = world.run("--test-alert")
    assert (result.code, len(hook.received)) == (1, 1)
    assert "PROBLEM  Slack: unexpected error (ZeroDivisionError)" in result.out
    assert "hunter22secret" not in result.out + result.err


@pytest.mark.parametrize("target", ["slack", "apprise"])
def test_a_signal_does_not_wait_for_a_slow_target(world, target):
    with listening() as server:
        server.script = [Hang()]
        name, address = {
            "slack": ("SLACK_WEBHOOK_URL", f"{server.url}/hook"),
            "apprise": ("NOTIFY_URLS", f"json://127.0.0.1:{server.server_port}/hook"),
        }[target]
        world.env[name] = address
        with world.start("--test-alert", "--json") as process:
            until = time.monotonic() + 60
            while not server.pings and time.monotonic() < until:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            began = time.monotonic()
            out, err = process.communicate(timeout=60)
            took = time.monotonic() - began
    document = json.loads(out)
    assert (process.returncode, document["exit_code"], document["deliveries"], err) == (130, 130, [], "")
    assert took < 8  # the shorter timeout of the two is 10 seconds


@pytest.mark.parametrize("others", [["--dry-run"], ["--check"], ["--history", "1"], ["--limit", "1"]])
def test_it_stands_alone(world, others):
    result = world.run("--test-alert", *others)
    assert (result.code, "stands alone" in result.err) == (2, True)
