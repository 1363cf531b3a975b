"""The end of a command: each step happens, even if another one fails."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from listener import listening
from world import ROOT

from whatsapp_tokens.commands import finish, run
from whatsapp_tokens.database.errors import DatabaseLost
from whatsapp_tokens.reports import json_document
from whatsapp_tokens.signals import Interrupted

DEAD = (190, 460, "The password was changed.")


def broken(*_, **__):
    raise ZeroDivisionError("what a mistake may repeat: hunter22secret")


@pytest.mark.parametrize("step", ["send_alerts", "write_reports", "summary"])
def test_a_step_that_fails_keeps_no_other_from_happening(world, monkeypatch, tmp_path, step):
    world.channel(world.token(error=DEAD), name="Bakery North")
    monkeypatch.setattr(finish, step, broken)
    page = tmp_path / "status.html"
    with listening() as slack, listening() as heartbeat:
        world.env |= {
            "SLACK_WEBHOOK_URL": f"{slack.url}/hook",
            "HEALTHCHECK_URL": heartbeat.url,
            "NO_PROXY": "127.0.0.1",
        }
        result = world.run("--report", str(page))
    happened = {
        "send_alerts": bool(slack.pings),
        "write_reports": page.exists(),
        "summary": "Failed:  1" in result.out,
    }
    assert [name for name, has_happened in happened.items() if not has_happened] == [step]
    assert (result.code, [ping.path for ping in heartbeat.pings]) == (1, ["/start", "/1"])
    assert "unexpected error (ZeroDivisionError)" in result.err
    assert "hunter22secret" not in result.out + result.err


def test_a_step_that_fails_after_a_good_run_is_no_success(world, monkeypatch):
    world.channel()
    monkeypatch.setattr(finish, "send_alerts", broken)
    result = world.json()
    assert (result.code, result.document["exit_code"], result.counts["renewed"]) == (1, 1, 1)


def test_an_alert_is_tried_again_although_the_database_was_lost(world, monkeypatch):
    class Lost(run.Run):
        def execute(self, *_):
            self._stop.set()  # as after an error that ends the workers
            raise DatabaseLost("the database cannot be reached")

    monkeypatch.setattr(run, "Run", Lost)
    world.channel()
    with listening() as slack:
        slack.script = [503, 200]
        world.env |= {"SLACK_WEBHOOK_URL": f"{slack.url}/hook", "NO_PROXY": "127.0.0.1"}
        result = world.json()
    assert (result.code, result.document["stopped"]["reason"], len(slack.pings)) == (3, "database_lost", 2)
    assert "could not be delivered" not in result.err


def test_a_signal_that_interrupts_a_closing_step_is_no_unexpected_error(world, monkeypatch):
    def interrupted(*_, **__):
        raise Interrupted

    world.channel()
    monkeypatch.setattr(finish, "send_alerts", interrupted)
    result = world.json()
    assert (result.counts["renewed"], "unexpected error" in result.err) == (1, False)


# -- output that cannot be written


def test_a_document_for_which_there_is_no_temporary_folder_is_said_to_be_lost(world, monkeypatch, tmp_path):
    channel = world.channel()
    monkeypatch.setattr(json_document, "KEPT_IN_MEMORY", 10)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    result = world.json()
    assert (result.code, result.out) == (1, "")
    assert "the JSON document was lost: it could not be written (No such file or directory)" in result.err
    assert world.stored(channel) == world.meta.exchanges[0][1]


@pytest.mark.parametrize(("options", "what"), [(("--json",), "the JSON document"), ((), "the output")])
def test_a_full_disk_behind_stdout_is_said_and_the_run_is_done(world, options, what):
    channel = world.channel()
    with Path("/dev/full").open("w") as full, listening() as heartbeat:
        world.env |= {"HEALTHCHECK_URL": heartbeat.url, "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, str(ROOT / "refresh_tokens.py"), *world.arguments(*options)],
            env=world.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, [ping.path for ping in heartbeat.pings]) == (1, ["/start", "/1"])
    assert f"{what} was lost: it could not be written (No space left on device)" in done.stderr
    assert "Traceback" not in done.stderr
    assert world.stored(channel) == world.meta.exchanges[0][1]


def test_quiet_loses_nothing_on_a_full_disk_where_it_has_nothing_to_say(world):
    world.channel()
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, str(ROOT / "refresh_tokens.py"), *world.arguments("--quiet")],
            env=world.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
