"""A run that is killed at any step: the next one heals it, exchanges nothing without need, and tells once."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from kills import STEPS
from receivers import SlackServer, running
from world import days

DEAD = (190, 460, "The password was changed.")
# The new token was at hand and not yet stored, so it has to be exchanged again.
UNSTORED = {
    *(("exchange", "after"), ("prove", "before"), ("prove", "after"), ("encrypt", "before")),
    *(("encrypt", "after"), ("write", "before"), ("write", "after"), ("log", "before"), ("log", "after")),
    ("commit", "before"),
}
# People were told, and that could not be noted: told twice is better than never.
UNNOTED = {("alert", "after"), ("mark", "before")}


@pytest.fixture
def slack(world):
    with running(SlackServer()) as server:
        world.env |= {"SLACK_WEBHOOK_URL": server.url.reveal(), "NO_PROXY": "127.0.0.1"}
        yield server


def named(slack):
    """How often each channel was named as one that needs attention."""
    texts = [
        block["text"]["text"] for payload in slack.received for block in payload["blocks"] if "text" in block
    ]
    return Counter(int(id_) for text in texts for id_ in re.findall(r"^\*.*\((\d+)\)\*", text))


def killed(world, step, when, *options):
    """Let a run be killed at a step."""
    program = Path(__file__).with_name("kills.py")
    done = subprocess.run(
        [sys.executable, program, step, when, *world.arguments(*options)],
        env=world.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def let_the_leases_pass(world):
    world.rows.run(
        'UPDATE "Channel" SET token_lease_until = :past WHERE token_lease_until IS NOT NULL',
        past=world.rows._out(world.rows.clock() - timedelta(seconds=1)),
    )


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_the_next_run_heals_what_a_killed_one_left(world, slack, tmp_path, step, when):
    healthy = world.token()
    good = world.channel(healthy, name="Bakery")
    dead = world.channel(
        world.token(error=DEAD, lives=9.5), name="Cafe", token_expires_at=world.now + days(9.5)
    )
    report = tmp_path / "status.json"
    killed(world, step, when, "--workers", "1", "--report", str(report))
    for id_ in (good, dead):  # at every moment, a stored token works
        world.stored(id_)
    assert world.meta.alive(world.stored(good))
    let_the_leases_pass(world)

    codes = [world.run("--report", str(report)).code for _ in range(2)]

    rows = [world.rows.get(id_) for id_ in (good, dead)]
    assert [(row["token_status"], row["token_lease_until"]) for row in rows] == [
        ("ok", None),
        ("warning", None),
    ]
    exchanges = Counter(old for old, _ in world.meta.exchanges)
    assert exchanges == {healthy: 2 if (step, when) in UNSTORED else 1}
    assert world.stored(good) == world.meta.exchanges[-1][1]
    assert world.events(good) == ["refreshed"]
    assert named(slack) == {dead: 2 if (step, when) in UNNOTED else 1}
    assert codes[1] == 0
    assert '"name": "Cafe"' in report.read_text(encoding="utf-8")
