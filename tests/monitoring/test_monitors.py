"""Those who watch, told by the real command: every exit code, and that none of them ever changes one."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from datetime import timedelta

import pytest
from listener import Hang, listening
from test_prometheus import samples
from world import KEY, OTHER_KEY, ROOT, days

from sandbox.graph import Reply
from whatsapp_tokens import delivery
from whatsapp_tokens.database.errors import DatabaseLost
from whatsapp_tokens.database.queries import Queries
from whatsapp_tokens.monitoring import heartbeat
from whatsapp_tokens.monitoring.github_actions import MAX_SUMMARY_BYTES
from whatsapp_tokens.monitoring.monitors import FAILURES, SKIPS, outcomes
from whatsapp_tokens.monitoring.prometheus import (
    CHANNELS,
    DURATION,
    LAST_RUN,
    LAST_SUCCESS,
    OUTCOMES,
    SOONEST,
)
from whatsapp_tokens.results import ChannelTotals, Reason, State, Tally

DEAD = (190, 460, "Error validating access token: the session was invalidated.")
CHECK = "/uuid-of-the-check"


@pytest.fixture
def pinged(world):
    """A heartbeat server that the program is told of."""
    with listening() as server:
        world.env["HEALTHCHECK_URL"] = server.url + CHECK
        yield server


@pytest.fixture
def metrics_file(world, tmp_path):
    path = tmp_path / "whatsapp_tokens.prom"
    world.env["METRICS_FILE"] = str(path)
    return path


@pytest.fixture
def counted(monkeypatch):
    """A count of the channels that is made up; what it was asked for."""
    asked = []

    def fleet(_self, now, soon):
        asked.append(soon - now)
        return ChannelTotals({State.OK: 2, State.WARNING: 1}, soonest=now + days(3))

    monkeypatch.setattr(Queries, "totals", fleet)
    return asked


@pytest.fixture
def step(world, tmp_path):
    """The program as a step of GitHub Actions; gives the file of its summary."""
    path = tmp_path / "step.md"
    world.env |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(path)}
    return path


def paths(server):
    return [ping.path.removeprefix(CHECK) for ping in server.pings]


def refuse_all(world):
    """Make every run stop early."""
    world.meta.script(None, Reply(429, ""), forever=True)


# -- the heartbeat


def test_a_good_run_pings_success_with_its_summary(world, pinged):
    world.channel()
    assert (world.run().code, paths(pinged)) == (0, ["/start", "/0"])
    start, end = pinged.pings
    assert (start.body, end.body.splitlines()) == (
        "",
        ["Renewed: 1", "Failed:  0", "Skipped: 0", "Waiting: 0", "1 due of 1 channels with a token"],
    )


def test_the_published_page_is_linked_where_a_run_is_summed_up(world, pinged, step):
    world.env["STATUS_PAGE_URL"] = "https://ops.example/wä.html"
    result = world.run()
    link = "https://ops.example/w%C3%A4.html"
    assert result.out.splitlines()[-1] == f"Status page: {link}"
    assert pinged.pings[-1].body.splitlines()[-1] == f"Status page: {link}"
    assert f"[Status page](<{link}>)" in step.read_text()
    assert world.run("--dry-run").out.splitlines()[-1] == f"Status page: {link}"
    assert world.run("--quiet").out == ""


def test_a_failed_channel_is_in_the_ping(world, pinged):
    world.channel(world.token(error=DEAD), name="Bakery North")
    assert (world.run("--quiet").code, paths(pinged)) == (1, ["/start", "/1"])
    assert "Bakery North (1): reconnect_required" in pinged.pings[-1].body


def test_a_configuration_error_pings_as_soon_as_the_settings_can_be_read(world, pinged, tmp_path):
    world.env["DATABASE_URL"] = f"sqlite:///{tmp_path / 'nowhere.sqlite3'}"
    assert (world.run().code, paths(pinged)) == (2, ["/start", "/2"])
    assert "Stopped: configuration, " in pinged.pings[-1].body


def test_wrong_keys_ping_too(world, pinged):
    for _ in range(2):
        world.channel(key=OTHER_KEY)
    assert (world.run().code, paths(pinged)) == (2, ["/start", "/2"])


def test_settings_that_cannot_be_read_give_no_ping(world, pinged):
    world.env["WORKERS"] = "many"
    assert (world.run().code, paths(pinged)) == (2, [])


def test_a_stopped_run_pings_why(world, pinged):
    world.channel()
    refuse_all(world)
    assert (world.run().code, paths(pinged)) == (3, ["/start", "/3"])
    assert "Stopped: rate_limited, " in pinged.pings[-1].body


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_told_to_end_pings_its_end(world, pinged, number, code):
    for _ in range(4):
        world.channel()
    process = world.start("--json", "--workers", "1")
    world.meta.on_request = lambda _seen: process.send_signal(number)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, json.loads(out)["exit_code"]) == (code, code)
    assert paths(pinged) == ["/start", f"/{code}"]


def test_after_a_signal_every_target_is_told_once_and_nothing_is_tried_again(world, pinged):
    with listening() as slack, listening() as hook:
        slack.script, hook.script = [503] * 9, [503] * 9
        world.env |= {
            "SLACK_WEBHOOK_URL": f"{slack.url}/hook",
            "NOTIFY_URLS": hook.url.replace("http", "json"),
            "NO_PROXY": "127.0.0.1",
        }
        dead = world.token(error=(190, 460, "x"))  # so that it is told of however soon the signal is noticed
        world.channel(dead, token_status="warning", token_error="unavailable: x")
        pinged.script = [200, *[503] * 9]
        process = world.start("--workers", "1")
        world.meta.on_request = lambda _seen: process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert (process.returncode, paths(pinged)) == (143, ["/start", "/143"])
    assert (len(slack.pings), len(hook.pings)) == (1, 1)


@pytest.mark.parametrize("options", [("--dry-run",), ("--check",)])
def test_what_is_no_run_is_no_sign_of_life(world, pinged, metrics_file, options):
    world.channel()
    assert (world.run(*options).code, paths(pinged), metrics_file.exists()) == (0, [], False)


def test_a_token_set_by_hand_is_no_sign_of_life(world, pinged, metrics_file):
    channel = world.channel()
    result = world.run("--set-token", str(channel), stdin=world.token(lives=60, age=0))
    assert (result.code, paths(pinged), metrics_file.exists()) == (0, [], False)


@pytest.mark.parametrize("answer", [Hang(), 302, 404, 500])
@pytest.mark.parametrize("failing", [False, True])
def test_a_heartbeat_that_is_not_taken_changes_nothing(world, pinged, monkeypatch, answer, failing):
    monkeypatch.setattr(heartbeat, "TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr(delivery, "_wait", lambda _state: 0.0)
    channel = world.channel(world.token(error=DEAD) if failing else None)
    pinged.script = [answer] * 10
    result = world.json()
    assert (result.code, result.document["exit_code"], result.entry(channel)["outcome"]) == (
        (1, 1, "failed") if failing else (0, 0, "renewed")
    )
    assert (result.err.count("ERROR"), CHECK in result.err) == (2, False)


def test_a_heartbeat_without_a_server_changes_nothing(world, monkeypatch):
    monkeypatch.setattr(delivery, "_wait", lambda _state: 0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        world.env["HEALTHCHECK_URL"] = f"http://127.0.0.1:{free.getsockname()[1]}{CHECK}"
    world.channel()
    result = world.run("-v")
    assert (result.code, "(ConnectionError)" in result.err, CHECK in result.err) == (0, True, False)


def test_the_address_of_the_heartbeat_may_stand_in_a_file(world, pinged, tmp_path):
    path = tmp_path / "heartbeat"
    path.write_text(world.env.pop("HEALTHCHECK_URL") + "\n")
    world.env["HEALTHCHECK_URL_FILE"] = str(path)
    assert (world.run().code, paths(pinged)) == (0, ["/start", "/0"])


# -- Prometheus


def test_the_figures_of_a_run_are_in_the_file(world, metrics_file, counted):
    world.channel()
    world.channel(world.token(error=DEAD))
    world.channel(key=OTHER_KEY)
    result = world.run()
    found = samples(metrics_file)
    outcomes_found = {key[1:]: value for key, value in found.items() if key[0] == OUTCOMES and value}
    assert (result.code, outcomes_found, counted) == (
        1,
        {("", "renewed"): 1, ("failed", "reconnect_required"): 1, ("failed", "undecryptable"): 1},
        [timedelta(days=15)],
    )
    assert {key[1]: value for key, value in found.items() if key[0] == CHANNELS} == {
        state: {"ok": 2, "warning": 1}.get(state, 0) for state in State
    }
    assert abs(found[(LAST_RUN,)] - world.now.timestamp()) < 60
    assert abs(found[(SOONEST,)] - (world.now + days(3)).timestamp()) < 60
    assert (found[(LAST_SUCCESS,)], 0 < found[(DURATION,)] < 60) == (0, True)


def test_the_database_itself_counts_the_channels(world, metrics_file):
    world.channel(name="renewed by the run")
    world.channel(
        token_expires_at=world.now + days(40),
        last_token_refresh_at=world.now - days(1),
        token_status="warning",
        token_error="missing_permission: x",
    )
    result = world.run()
    found = samples(metrics_file)
    counts = {key[1]: value for key, value in found.items() if key[0] == CHANNELS and value}
    assert (result.code, counts) == (0, {"ok": 1, "warning": 1})
    assert abs(found[(SOONEST,)] - (world.now + days(40)).timestamp()) < 60


def test_only_a_run_without_any_failure_counts_as_success(world, metrics_file, counted):
    world.run()
    good = samples(metrics_file)[(LAST_SUCCESS,)]
    channel = world.channel(world.token(error=DEAD))
    failed = world.run()
    after_failure = samples(metrics_file)[(LAST_SUCCESS,)]
    world.rows.update(channel, token_status="ok")
    refuse_all(world)
    stopped = world.run()
    after_stop = samples(metrics_file)
    assert (failed.code, stopped.code, after_failure, after_stop[(LAST_SUCCESS,)]) == (1, 3, good, good)
    assert after_stop[(LAST_RUN,)] > good > 0


def test_a_configuration_error_is_a_run_without_channels(world, metrics_file, counted, tmp_path):
    world.env["DATABASE_URL"] = f"sqlite:///{tmp_path / 'nowhere.sqlite3'}"
    result = world.run()
    found = samples(metrics_file)
    assert (result.code, counted, {key[0] for key in found}) == (
        2,
        [],
        {LAST_SUCCESS, LAST_RUN, DURATION, OUTCOMES},
    )
    assert {value for key, value in found.items() if key[0] == OUTCOMES} == {0}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (DatabaseLost("the connection broke"), "could not be counted for METRICS_FILE: the connection broke"),
        (RuntimeError("zq7"), "METRICS_FILE: unexpected error (RuntimeError)"),
    ],
)
def test_channels_that_cannot_be_counted_change_nothing(world, metrics_file, monkeypatch, error, told):
    def fleet(*_):
        raise error

    monkeypatch.setattr(Queries, "totals", fleet)
    world.channel()
    result = world.run()
    assert (result.code, told in result.err, "zq7" in result.err) == (0, True, False)


def test_a_file_that_cannot_be_written_is_an_error(world, counted, tmp_path):
    world.channel()
    world.env["METRICS_FILE"] = str(tmp_path / "nowhere" / "x.prom")
    result = world.run()
    (line,) = result.err.splitlines()
    assert (result.code, line.partition("ERROR")[2].strip()) == (
        0,
        "METRICS_FILE: No such file or directory",
    )


def test_every_reason_has_its_series_whether_any_channel_has_it_or_not():
    assert set(FAILURES) | set(SKIPS) == set(Reason)
    assert outcomes(Tally()) == {
        ("renewed", ""): 0,
        **{("failed", reason): 0 for reason in FAILURES},
        **{("skipped", reason): 0 for reason in SKIPS},
    }


# -- GitHub Actions


def commands(text):
    """The lines that GitHub's runner would take for commands."""
    return [line for line in text.splitlines() if line.lstrip().startswith("::") or "##[" in line]


def test_outside_of_github_nothing_is_said_to_it(world):
    world.channel(world.token(error=DEAD))
    result = world.run()
    assert commands(result.out + result.err) == []


def test_a_step_has_annotations_and_a_summary(world, step):
    world.channel(world.token(error=DEAD), name="Bakery: North")
    result = world.run()
    (note,) = commands(result.err)
    assert (result.code, commands(result.out)) == (1, [])
    assert note.startswith("::error title=Bakery%3A North (1)::reconnect_required, ")
    assert "%0ATo do: the customer must connect WhatsApp again" in note
    assert step.read_text().startswith("## WhatsApp tokens: 1 failed\n")
    assert r"| Bakery\: North \(1\) | reconnect\_required\, " in step.read_text()


def test_in_a_step_the_json_document_stays_alone_on_stdout(world, step):
    channel = world.channel(world.token(error=DEAD))
    result = world.json()
    assert (result.told(channel), len(commands(result.err))) == (("failed", "reconnect_required"), 1)


@pytest.mark.parametrize("name", ["::error::x", " ::add-mask::Bakery", "##[error]x", "a\n::stop-commands::x"])
def test_no_name_gives_a_runner_commands(world, step, name):
    world.channel(key=OTHER_KEY, name=name)
    world.channel(name=name)
    before = world.run("--dry-run")
    result = world.run()
    own = [line for line in commands(before.err + result.err) if line.startswith("::error title=")]
    assert commands(before.out + result.out) == []
    assert commands(before.err + result.err) == own != []


def test_a_dry_run_has_a_summary_too(world, step):
    world.channel()
    assert world.run("--dry-run").code == 0
    assert "1 due of 1 channels with a token. Dry run" in step.read_text()


def test_settings_that_cannot_be_read_are_an_annotation(world, step):
    world.env["WORKERS"] = "many"
    result = world.run()
    assert (result.code, commands(result.err)) == (
        2,
        [
            (
                "::error title=WhatsApp tokens%3A the configuration is wrong::configuration, WORKERS: "
                "it must be a whole number from 1 to 256%0ATo do: correct the configuration and run again"
            )
        ],
    )


def test_an_alert_that_was_not_delivered_is_an_annotation(world, step):
    with listening() as slack:
        slack.script = [404]
        world.env["SLACK_WEBHOOK_URL"] = f"{slack.url}/services/T0/B0/very-secret-hook"
        world.channel(world.token(error=DEAD))
        result = world.run()
    assert (result.code, len(commands(result.err)), "very-secret" in result.err) == (1, 2, False)
    assert "::error title=An alert could not be delivered::" in result.err


@pytest.fixture
def deaf(world):
    """A Slack that takes no alert."""
    with listening() as slack:
        slack.script = [404] * 10
        world.env["SLACK_WEBHOOK_URL"] = f"{slack.url}/services/T0/B0/very-secret-hook"
        yield slack


def reports_of(folder):
    """How a page and its twin say that the run ended."""
    code = json.loads((folder / "status.json").read_text())["exit_code"]
    page = (folder / "status.html").read_text()
    texts = ("nothing failed", "some lines failed", "an alert was not delivered")
    return code, [text for text in texts if f"finished; {text}" in page]


@pytest.mark.parametrize(
    ("fails", "said"), [(False, "an alert was not delivered"), (True, "some lines failed")]
)
def test_an_alert_that_was_not_delivered_is_known_to_page_ping_and_console(
    world, deaf, pinged, tmp_path, fails, said
):
    world.channel(token_status="warning", token_error="unavailable: x", token_alerted_at=world.now)
    if fails:
        world.channel(world.token(error=DEAD))
    paths_ = [str(tmp_path / name) for name in ("status.html", "status.json")]
    result = world.run(*(part for path in paths_ for part in ("--report", path)))
    problem = "Problem: an alert could not be delivered: see the log"
    assert (result.code, reports_of(tmp_path), paths(pinged)) == (1, (1, [said]), ["/start", "/1"])
    assert (pinged.pings[1].body.splitlines()[-1], result.out.splitlines()[-1]) == (problem, problem)


def test_a_report_that_cannot_be_written_is_told_everywhere(world, pinged, step, tmp_path):
    world.channel()
    path = tmp_path / "nowhere" / "x.html"
    result = world.run("--report", str(path))
    problem = f"--report {path} could not be written: No such file or directory"
    assert (result.code, step.read_text().splitlines()[0]) == (
        1,
        "## WhatsApp tokens: a report could not be written",
    )
    assert commands(result.err) == [f"::error title=A report could not be written::{problem}"]
    assert (pinged.pings[1].body.splitlines()[-1], result.out.splitlines()[-1]) == (
        f"Problem: {problem}",
        f"Problem: {problem}",
    )


def test_a_summary_that_cannot_be_written_changes_nothing(world, step, tmp_path):
    world.env["GITHUB_STEP_SUMMARY"] = str(tmp_path / "nowhere" / "step.md")
    world.channel()
    result = world.run()
    assert (result.code, "GITHUB_STEP_SUMMARY: No such file or directory" in result.err) == (0, True)


def test_a_summary_that_is_full_changes_nothing(world, step):
    step.write_bytes(b"x" * MAX_SUMMARY_BYTES)
    world.channel()
    result = world.run()
    assert (result.code, "GITHUB_STEP_SUMMARY: the summary is full" in result.err) == (0, True)


def test_a_quiet_run_says_what_went_wrong_with_those_who_watch(world, pinged, step, tmp_path):
    nowhere = tmp_path / "nowhere"
    world.env |= {"METRICS_FILE": str(nowhere / "x.prom"), "GITHUB_STEP_SUMMARY": str(nowhere / "step.md")}
    world.channel()
    pinged.script = [404, 404]
    result = world.run("--quiet")
    assert (result.code, result.out, [line.partition("ERROR")[2].strip() for line in logged(result)]) == (
        0,
        "",
        [
            "the heartbeat /start was not delivered (HTTP 404)",
            "METRICS_FILE: No such file or directory",
            "GITHUB_STEP_SUMMARY: No such file or directory",
            "the heartbeat /0 was not delivered (HTTP 404)",
        ],
    )


def logged(result):
    """The lines of the log: what else is on stderr is for GitHub's runner."""
    return [line for line in result.err.splitlines() if not line.startswith("::")]


def test_in_the_document_no_name_is_a_command_and_every_name_is_itself(world, step):
    channel = world.channel(world.token(error=DEAD), name="###[error]x ##[group]y")
    result = world.json()
    assert ("##[" in result.out, result.entry(channel)["name"]) == (False, "###[error]x ##[group]y")


def test_secrets_of_the_environment_are_not_printed_not_even_to_be_masked(world, step):
    world.env["SLACK_WEBHOOK_URL"] = "http://127.0.0.1:9/services/T0/B0/very-secret-hook"
    world.channel(key=OTHER_KEY)
    result = world.run("-v")
    printed = result.out + result.err + step.read_text()
    secrets = (KEY.hex(), world.meta.app_secret, "very-secret-hook")
    assert [secret for secret in secrets if secret in printed] == []


def test_secrets_of_files_are_not_printed_not_even_to_be_masked(world, step, tmp_path):
    path = tmp_path / "key"
    path.write_text(f"{world.env.pop('TOKEN_ENCRYPTION_KEY')},{OTHER_KEY.hex()}\n")
    world.env["TOKEN_ENCRYPTION_KEY_FILE"] = str(path)
    secret = world.env.pop("META_APP_SECRET")
    world.env_file.write_text(f"META_APP_SECRET={secret}\n")
    world.env_file.chmod(0o600)
    world.channel(world.token(error=DEAD))
    result = world.run("-v")
    printed = result.out + result.err + step.read_text()
    found = [one for one in (KEY.hex(), OTHER_KEY.hex(), secret, "add-mask") if one in printed]
    assert found == []


def test_a_stderr_without_a_reader_changes_nothing(world, step):
    world.channel(world.token(error=DEAD))
    process = world.start("--json")
    process.stderr.close()
    with process.stdout as stdout:
        document = json.load(stdout)
    assert (process.wait(timeout=60), document["exit_code"]) == (1, 1)


@pytest.mark.parametrize(("redirection", "printed"), [("2>&-", True), (">&-", False)])
def test_a_stream_that_is_closed_changes_nothing(world, step, redirection, printed):
    world.channel(world.token(error=DEAD))
    done = subprocess.run(
        [
            *("sh", "-c", f'exec "$@" {redirection}', "sh"),
            *(sys.executable, str(ROOT / "refresh_tokens.py"), *world.arguments("--json")),
        ],
        env=world.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.startswith("{"), "Traceback" in done.stderr) == (1, printed, False)
