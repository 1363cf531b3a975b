"""The command line: bad input of every kind, what it says, and what it leaves alone."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from rows import Rows
from world import KEY, OTHER_KEY, ROOT, World, days

from sandbox.graph import graph_error
from whatsapp_tokens.commands import run

SECRETS = ("hunter22secret", KEY.hex(), "very-secret-hook")


@pytest.fixture
def slack():
    """A webhook that takes everything; what it was sent, and what it is to answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.messages.append(json.loads(body))
            self.send_response(server.status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.messages, server.status = [], 200
    server.url = f"http://127.0.0.1:{server.server_port}/services/T0/B0/very-secret-hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def clean(result) -> bool:
    """No traceback and no secret anywhere."""
    printed = result.out + result.err
    return "Traceback" not in printed and not any(secret in printed for secret in SECRETS)


# -- settings


def test_every_missing_setting_is_named_at_once(world):
    for name in ("DATABASE_URL", "META_APP_ID", "META_APP_SECRET", "TOKEN_ENCRYPTION_KEY"):
        del world.env[name]
    result = world.run()
    named = re.findall(r"ERROR +(\w+): it is missing", result.err)
    assert (result.code, result.out, sorted(named)) == (
        2,
        "",
        ["DATABASE_URL", "META_APP_ID", "META_APP_SECRET", "TOKEN_ENCRYPTION_KEY"],
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "mysql://u:hunter22secret@127.0.0.1/x"),
        ("DATABASE_URL", "postgres://u:hunter22secret@host:port/x"),
        ("META_APP_SECRET", "  "),
        ("META_APP_SECRET", "hunter22secret with space"),
        ("META_GRAPH_VERSION", "26"),
        ("META_GRAPH_URL", "http://graph.facebook.com"),
        ("TOKEN_ENCRYPTION_KEY", KEY.hex()[:-2]),
        ("TOKEN_ENCRYPTION_KEY", f"{KEY.hex()},"),
        ("TOKEN_ENCRYPTION_KEY", "hunter22secret"),
        ("WORKERS", "many"),
        ("REFRESH_AFTER_DAYS", "-1"),
        ("META_RETRIES", "1.5"),
        ("META_TIMEOUT_SECONDS", "nan"),
        ("SLACK_WEBHOOK_URL", "http://example.com/very-secret-hook"),
        ("NOTIFY_URLS", "pigeon://very-secret-hook"),
        ("NOTIFY_URLS", "json://127.0.0.1/a mailtos://u:hunter22secret@mail.example?verify=no"),
        ("ALERT_LANGUAGE", "french"),
        ("RECONNECT_URL", "javascript:alert(1)"),
    ],
)
def test_a_bad_setting_is_one_clear_line_and_nothing_is_touched(world, name, value):
    world.channel()
    world.env[name] = value
    result = world.run()
    (line,) = result.err.splitlines()
    assert re.match(rf"\S+ ERROR +{name}: ", line)
    assert (result.code, result.out, world.meta.count(), clean(result)) == (2, "", 0, True)


def test_a_secret_may_stand_in_a_file(world, tmp_path):
    channel = world.channel()
    for name in ("DATABASE_URL", "META_APP_SECRET", "TOKEN_ENCRYPTION_KEY"):
        path = tmp_path / name
        path.write_text(world.env.pop(name) + "\n")
        world.env[f"{name}_FILE"] = str(path)
    assert world.json().told(channel) == ("renewed", None)


def test_the_env_file_is_read_and_the_environment_wins(world):
    channel = world.channel()
    lines = [f"{name}={value}" for name, value in world.env.items()]
    lines += ["META_APP_ID=wrong", "WORKERS=nonsense"]
    world.env_file.write_text("\n".join(lines))
    world.env = {"META_APP_ID": world.meta.app_id, "WORKERS": "2"}
    assert world.json().told(channel) == ("renewed", None)


def test_an_env_file_that_others_can_read_is_warned_of(world):
    world.channel()
    world.env_file.touch()
    world.env_file.chmod(0o644)
    result = world.run()
    assert (result.code, f"chmod 600 {world.env_file}" in result.err) == (0, True)


# -- databases


def test_a_sqlite_file_that_is_not_there_is_not_made(world, tmp_path):
    path = tmp_path / "nowhere.sqlite3"
    world.env["DATABASE_URL"] = f"sqlite:///{path}"
    result = world.run()
    assert (result.code, path.exists(), "alembic upgrade head" in result.err, clean(result)) == (
        2,
        False,
        True,
        True,
    )


def test_a_database_without_our_tables_says_what_to_run(empty_database_url, meta, tmp_path, capsys):
    world = World(empty_database_url, meta, tmp_path)
    world.capsys = capsys
    if world.rows.is_sqlite:
        world.rows.run("CREATE TABLE other (id INTEGER)")
    result = world.run()
    assert (result.code, result.out, clean(result)) == (2, "", True)
    assert 'there is no table "Channel"' in result.err
    assert "alembic upgrade head" in result.err


def test_a_table_that_lacks_a_column_says_which(world):
    world.rows.run('ALTER TABLE "Channel" DROP COLUMN token_fingerprint')
    result = world.run()
    assert (result.code, 'table "Channel" lacks token_fingerprint' in result.err) == (2, True)


def test_a_file_that_is_no_database_is_said_to_be_none(world, tmp_path):
    (tmp_path / "text.db").write_text("hello" * 100)
    world.env["DATABASE_URL"] = f"sqlite:///{tmp_path / 'text.db'}"
    result = world.run()
    assert (result.code, "check DATABASE_URL" in result.err, clean(result)) == (2, True, True)


def test_a_server_that_cannot_be_reached_is_a_lost_database(world, monkeypatch):
    monkeypatch.setattr("whatsapp_tokens.database.connection.RETRY_SECONDS", 1)
    world.env["DATABASE_URL"] = "postgresql://u:hunter22secret@127.0.0.1:1/x"
    result = world.json()
    assert (result.code, result.document["stopped"]["reason"], clean(result)) == (3, "database_lost", True)


def test_a_role_that_may_only_read_changes_nothing_and_says_so(
    pg_server, pg_template, meta, tmp_path, capsys
):
    name = pg_server.create(pg_template)
    world = World(pg_server.url_of(name), meta, tmp_path)
    world.capsys = capsys
    world.channel()
    world.rows.run("CREATE ROLE reader LOGIN")
    try:
        world.rows.run('GRANT SELECT ON "Channel", token_audit_log TO reader')
        world.env["DATABASE_URL"] = pg_server.url_of(name).replace("//postgres", "//reader")
        dry, real = world.json("--dry-run"), world.json()
        assert (dry.code, dry.counts) == (0, {"candidates": 1, "due": 1})
        refused = "the database role may not UPDATE wa_token_encrypted, " in real.err
        assert (real.code, refused, clean(real), meta.count()) == (2, True, True, 0)
    finally:
        pg_server.drop(name)
        pg_server.run("DROP ROLE reader")


# -- alerts, by the exit code


def blocks(message):
    return json.dumps(message["blocks"], ensure_ascii=False)


def test_one_message_says_who_needs_what_until_when_and_where_to_click(world, slack):
    world.env |= {"SLACK_WEBHOOK_URL": slack.url, "RECONNECT_URL": "https://example.com/lines/{channel_id}"}
    channel = world.channel(
        world.token(error=(190, 460, "The password was changed.")), name="Bakery <North> & Co"
    )
    well = world.channel(name="Clinic East")
    first, second = world.json(), world.json()
    (message,) = slack.messages
    said = blocks(message)
    assert (first.code, second.code) == (1, 0)
    assert message["text"] == "1 WhatsApp line has stopped working"
    assert f"*Bakery &lt;North&gt; &amp; Co ({channel})*" in said
    assert "the customer's password was changed" in said
    assert ("Stopped working" in said, "(10 days)" in said) == (True, False)
    assert "To do: the customer must connect WhatsApp again" in said
    assert f"https://example.com/lines/{channel}" in said
    assert ("Clinic East" in said, world.rows.get(well)["token_alerted_at"]) == (False, None)
    assert world.rows.get(channel)["token_alerted_at"] is not None


def test_a_quiet_day_sends_nothing(world, slack):
    world.env["SLACK_WEBHOOK_URL"] = slack.url
    world.channel()
    assert (world.json().code, world.json("--dry-run").code, slack.messages) == (0, 0, [])


def test_an_alert_that_was_not_delivered_is_an_error_and_is_sent_again(world, slack):
    world.env["SLACK_WEBHOOK_URL"] = slack.url
    channel = world.channel(world.token(age=5, lives=55, scopes=[]))
    slack.status = 404
    first = world.run()
    slack.status = 200
    assert (first.code, "could not be delivered" in first.err, clean(first)) == (1, True, True)
    assert world.rows.get(channel)["token_alerted_at"] is None
    assert (world.json().code, len(slack.messages)) == (0, 2)
    assert world.rows.get(channel)["token_alerted_at"] is not None


def test_a_run_that_stops_early_always_alerts(world, slack):
    world.env["SLACK_WEBHOOK_URL"] = slack.url
    world.channel()
    world.meta.app_secret = "another"
    world.json()
    world.json()
    assert [message["text"] for message in slack.messages] == ["WhatsApp token renewal stopped early"] * 2
    assert "META_APP_SECRET is wrong" in blocks(slack.messages[0])


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_configuration_error_alerts_once_the_settings_are_read_but_not_in_a_dry_run(world, slack, dry_run):
    world.env["SLACK_WEBHOOK_URL"] = slack.url
    for _ in range(2):
        world.channel(key=OTHER_KEY)
    result = world.json(*(["--dry-run"] if dry_run else []))
    assert (result.code, len(slack.messages)) == (2, 0 if dry_run else 1)


def test_a_recovery_is_told_where_the_failure_was_told(world, slack):
    world.env["SLACK_WEBHOOK_URL"] = slack.url
    failure = {"token_status": "warning", "token_error": "unavailable: x"}
    world.channel(name="Bakery North", token_alerted_at=world.now - days(1), **failure)
    world.channel(name="Clinic East", **failure)
    world.json()
    (message,) = slack.messages
    assert ("Bakery North" in blocks(message), "Clinic East" in blocks(message)) == (True, False)


def test_a_row_that_the_database_refuses_is_told_of_although_the_table_cannot_say_so(world, slack):
    world.env["SLACK_WEBHOOK_URL"] = slack.url
    channel = world.channel(name="Bakery North")
    if world.rows.is_sqlite:
        world.rows.run(
            "CREATE TRIGGER no BEFORE INSERT ON token_audit_log BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    else:
        world.rows.run("ALTER TABLE token_audit_log ADD CONSTRAINT full_ CHECK (false)")
    result = world.json()
    (message,) = slack.messages
    assert (result.code, result.told(channel)) == (1, ("failed", "write_failed"))
    assert message["text"] == "1 WhatsApp line needs attention"
    assert f"*Bakery North ({channel})*" in blocks(message)
    assert "the stored token is as it was" in blocks(message)


def test_a_row_that_the_database_refuses_is_told_of_behind_a_hundred_old_failures(world, slack):
    world.env["SLACK_WEBHOOK_URL"] = slack.url
    known = {"token_status": "warning", "token_error": "undecryptable: no key", "token_alerted_at": world.now}
    for _ in range(101):
        world.channel(key=OTHER_KEY, token_expires_at=world.now + days(10), **known)
    world.channel(name="Bakery North", token_expires_at=world.now + days(12))
    if world.rows.is_sqlite:
        world.rows.run(
            "CREATE TRIGGER no BEFORE INSERT ON token_audit_log WHEN new.event = 'refreshed'"
            " BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    else:
        world.rows.run("ALTER TABLE token_audit_log ADD CONSTRAINT full_ CHECK (event <> 'refreshed')")
    result = world.json()
    (message,) = slack.messages
    assert result.counts == {"candidates": 102, "due": 102, "failed": 102, "known": 101}
    assert message["text"] == "1 WhatsApp line needs attention"
    assert "*Bakery North (102)*" in blocks(message)


# -- output


def test_a_real_run_ends_with_its_outcomes_in_groups(world):
    world.channel(name="Bakery North")
    world.channel(world.token(error=(190, 460, "x")), name="Clinic East")
    world.channel(world.token(expires_at=0), name="Gym South")
    result = world.run("--workers", "1")
    assert re.search(r"^renewed  Bakery North \(1\): expires on .+ \(\d+ days\)$", result.out, re.MULTILINE)
    assert re.search(r"^failed   Clinic East \(2\): reconnect_required, ", result.out, re.MULTILINE)
    assert result.out.split("\n\n")[1].splitlines()[:2] == ["Renewed: 1", "Failed:  1"]
    assert "    → the customer must connect WhatsApp again" in result.out
    assert "Skipped: 1 (1 never_expires)" in result.out
    assert "\x1b" not in result.out


def test_quiet_prints_nothing_on_a_good_day_and_failures_on_a_bad_one(world):
    world.channel(name="Bakery North")
    good = world.run("--quiet")
    world.channel(world.token(error=(190, 460, "x")), name="Clinic East")
    bad = world.run("--quiet")
    assert (good.code, good.out, good.err) == (0, "", "")
    assert (bad.code, "Clinic East" in bad.out) == (1, True)


def test_quiet_says_why_a_run_stopped_and_nothing_of_how_it_went(world):
    for _ in range(2):
        world.channel()
    world.meta.app_secret = "another"
    result = world.run("--quiet")
    assert (result.code, result.out) == (3, "")
    (line,) = result.err.splitlines()
    assert "stopped early: app_rejected, " in line


def test_quiet_warns_of_settings_all_the_same(world):
    world.channel()
    world.env_file.touch()
    world.env_file.chmod(0o644)
    result = world.run("--quiet")
    assert (result.code, result.out, f"chmod 600 {world.env_file}" in result.err) == (0, "", True)


def test_json_is_alone_on_stdout_in_every_case(world):
    world.channel()
    world.meta.served_version = "v99.0"
    result = world.json("-v", "--log-format", "json")
    logs = [json.loads(line) for line in result.err.splitlines()]
    assert result.document["exit_code"] == 0
    assert {"warning"} <= {line["level"] for line in logs}


def test_a_database_without_channels_is_not_called_well(world):
    result = world.run()
    assert (result.code, "no channel has an active WhatsApp token" in result.err) == (0, True)


def test_a_channel_that_cannot_be_renewed_is_said_not_to_be_one(world):
    world.rows.run('ALTER TABLE "Channel" ADD COLUMN active BOOLEAN')
    world.env["CHANNEL_COLUMNS"] = "active=active"
    world.channel()
    email, empty = world.channel(type="email"), world.channel(wa_token_encrypted=None)
    inactive = world.channel(active=False)
    options = [word for id_ in (email, 1, empty, inactive) for word in ("--channel", str(id_))]
    result, alone = world.run(*options), world.run("--channel", str(inactive), "--dry-run")
    assert (result.code, alone.code) == (0, 0)
    assert (
        f"3 of the channels asked for cannot be renewed: {email} is of another type than CHANNEL_TYPE; "
        f"{empty} has no token; {inactive} is inactive" in result.err
    )
    assert f"1 of the channels asked for cannot be renewed: {inactive} is inactive" in alone.err
    assert "there is nothing to do" not in alone.err


def test_a_channel_that_can_be_renewed_gives_no_warning(world):
    id_, _ = world.channel(), world.channel(type="email")
    result = world.run("--channel", str(id_))
    assert (result.code, result.err) == (0, "")


def test_an_unexpected_error_is_one_line_and_a_stop(world, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(run, "Run", broken)
    result, verbose = world.json(), world.json("-v")
    assert (result.code, result.document["stopped"]["reason"]) == (3, "internal_error")
    assert ("unexpected error (ZeroDivisionError)" in result.err, clean(result)) == (True, True)
    assert "Traceback" in verbose.err


@pytest.mark.parametrize(("answer", "code", "calls"), [("n\n", 2, 0), ("\x04", 2, 0), ("y\n", 0, 303)])
def test_force_asks_on_a_terminal(world, answer, code, calls):
    for _ in range(101):
        world.channel(token_expires_at=world.now + days(40), last_token_refresh_at=world.now)
    master, slave = pty.openpty()
    process = world.start("--force", "--json", stdin=slave)
    os.write(master, answer.encode())
    out, err = process.communicate(timeout=60)
    os.close(master)
    os.close(slave)
    assert (process.returncode, world.meta.count()) == (code, calls)
    assert "--force renews all 101 channels" in err
    assert json.loads(out)["exit_code"] == code


@pytest.mark.parametrize(
    ("limit", "code", "said"), [("3", 0, None), ("101", 2, "--force renews 101 channels; add --yes")]
)
def test_force_asks_about_as_many_channels_as_it_would_renew(world, limit, code, said):
    token = world.token()
    for _ in range(102):
        world.channel(token)
    result = world.json("--force", "--limit", limit, stdin="")
    assert (result.code, (said or "--force") in result.err) == (code, said is not None)


def test_a_terminal_sees_a_progress_bar(world):
    for _ in range(5):
        world.channel()
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "refresh_tokens.py"), *world.arguments()],
        env=world.environment() | {"TERM": "xterm"},
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    os.close(master)
    assert (process.wait(timeout=60), b"Renewing" in seen, seen.count(b"renewed  ")) == (0, True, 5)


def test_a_reader_that_goes_away_does_not_stop_the_run(world):
    for _ in range(20):
        world.channel()
    process = world.start()
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(timeout=60), "Traceback" in err, len(world.meta.exchanges)) == (0, False, 20)
    assert "the output could not be written (Broken pipe)" in err


# -- as cron starts it


def test_it_runs_from_crontab_with_an_empty_environment_and_another_directory(world, tmp_path):
    channel = world.channel()
    home = tmp_path / "opt"
    home.mkdir()
    for path in ROOT.glob("*.py"):
        shutil.copy(path, home)
    shutil.copytree(ROOT / "whatsapp_tokens", home / "whatsapp_tokens")
    (home / ".env").write_text("".join(f"{name}='{value}'\n" for name, value in world.env.items()))
    (home / ".env").chmod(0o600)
    (line,) = re.findall(r"^37 4 \* \* \* (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    command = line.replace("/opt/whatsapp-token-refresh/.venv/bin/python", sys.executable)
    command = command.replace("/opt/whatsapp-token-refresh", str(home))
    done = subprocess.run(
        ["/bin/sh", "-c", command], env={}, cwd="/", capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert world.stored(channel) == world.meta.exchanges[0][1]


@pytest.mark.parametrize("flag", ["-I", "-P", "-s"])
def test_it_runs_in_isolated_mode(world, tmp_path, flag):
    channel = world.channel()
    done = subprocess.run(
        [sys.executable, flag, str(ROOT / "refresh_tokens.py"), *world.arguments("--json")],
        env=world.environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert world.stored(channel) == world.meta.exchanges[0][1]


def test_a_limit_for_one_channel_appears_in_the_row_and_nowhere_with_a_secret(world):
    channel = world.channel(token := world.token())
    world.meta.script(token, graph_error(400, f"Odd answer about {token}", 100), endpoint="exchange")
    world.json()
    error = Rows(world.url).get(channel)["token_error"]
    assert (error.startswith("unexpected_answer: "), token in error, "***" in error) == (True, False, True)


# -- keys


@pytest.mark.parametrize("options", [(), ("--channel", "1"), ("--dry-run",), ("--dry-run", "--channel", "1")])
def test_a_wrong_key_is_found_although_only_one_of_three_channels_is_due(world, options):
    channels = [world.channel(key=OTHER_KEY)]
    later = {"token_expires_at": world.now + days(40), "last_token_refresh_at": world.now - days(20)}
    channels += [world.channel(world.token(age=20, lives=40), key=OTHER_KEY, **later) for _ in range(2)]
    before = [world.rows.get(id_) for id_ in channels]
    result = world.json(*options)
    assert (result.code, result.document["stopped"]["reason"], result.document["channels"]) == (
        2,
        "configuration",
        [],
    )
    assert "TOKEN_ENCRYPTION_KEY opens none of the stored tokens" in result.err
    assert ([world.rows.get(id_) for id_ in channels], world.meta.count()) == (before, 0)


def test_a_wrong_key_is_found_on_a_day_on_which_no_channel_is_due(world):
    later = {"token_expires_at": world.now + days(40), "last_token_refresh_at": world.now - days(20)}
    for _ in range(2):
        world.channel(world.token(age=20, lives=40), key=OTHER_KEY, **later)
    assert (world.json().code, world.meta.count()) == (2, 0)


def test_the_only_token_of_a_table_may_be_at_fault_itself(world):
    channel = world.channel(key=OTHER_KEY)
    result = world.json()
    assert (result.code, result.told(channel)) == (1, ("failed", "undecryptable"))


def test_one_token_that_opens_shows_that_the_key_is_right_also_for_another_channel(world):
    world.channel(token_expires_at=world.now + days(40), last_token_refresh_at=world.now)
    channel = world.channel(key=OTHER_KEY)
    result = world.json("--channel", str(channel))
    assert (result.code, result.told(channel)) == (1, ("failed", "undecryptable"))
