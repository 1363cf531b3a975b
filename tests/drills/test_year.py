"""The simulated year in small: it passes on both databases, and each of its rules notices a defect."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import defects
import pytest
from conftest import only_sqlite
from world import ROOT

from sandbox.year import job
from sandbox.year.nights import Year
from sandbox.year.plan import Plan
from sandbox.year.receiver import receiver


def test_a_short_year_loses_nothing(empty_database_url):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sandbox", "year"),
            *("--channels", "24", "--nights", "70", "--seed", "3", "--database", empty_database_url),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[1:])
    assert lines["lost"].startswith("0;")
    assert "false alarms  0;" in done.stdout
    assert int(lines["renewals"].partition(",")[0]) > 20


def test_a_year_is_not_played_in_a_database_that_somebody_uses(world):
    world.channel()
    with receiver() as people, pytest.raises(SystemExit, match="not empty"):
        Year(3, 1, 70, world.url, world.env_file.parent, people)


@pytest.fixture
def calm_year(database_url, tmp_path):
    """A year without outages, kills and rotations: what is wrong in it is the defect's doing."""
    with receiver() as people:
        year = Year(60, 5, 40, database_url, tmp_path, people)
        year.plan = Plan(40, range(0), range(0))
        assert year.night(0) == []
        yield year
        year.close()


@only_sqlite
@pytest.mark.parametrize(
    ("defect", "noticed"),
    [
        (defects.stores_nothing, "it was due, Meta answered, and it was not renewed"),
        (defects.seals_with_a_lost_key, "no key opens what is stored"),
        (defects.stores_the_token_of_another, "it holds a token that was not issued to it"),
        (defects.asks_about_nothing, "it was due, and Meta was not asked about it"),
        (defects.keeps_its_claims, "the claim on it was not given back"),
        (defects.keeps_no_log, "the audit log"),
        (defects.notes_a_day_too_many, "the row says that it expires"),
        (defects.stays_silent, "there is no news"),
        (defects.forgets_that_it_told, ": told "),
        (defects.finds_fault_with_good_tokens, "and its token is good"),
        (defects.exits_with_zero, "the exit code is 0, and there is news"),
        (defects.exits_with_one, "the exit code is 1, and there is no news"),
        (defects.says_that_all_is_well, "and the heartbeat says"),
        (defects.stops_for_no_reason, "the run stopped early, and nothing was wrong with Meta"),
        (defects.calls_every_warning_well_again, "told that it is well again"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_a_defect_is_noticed(calm_year, monkeypatch, defect, noticed):
    monkeypatch.setattr(job, "run", partial(defects.run_with, defect))
    nights = (calm_year.night(night) for night in range(1, 40))
    broken = next((broken for broken in nights if broken), [])
    assert [line for line in broken if noticed in line], broken
