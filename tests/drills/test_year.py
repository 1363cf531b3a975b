"""The simulated year in small: it passes on both databases, and each of its rules notices a defect."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from math import inf

import defects
import pytest
from conftest import only_sqlite
from world import ROOT

from sandbox.year import job
from sandbox.year.application import Application
from sandbox.year.fleet import Fleet, Kind
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
        customer = min(
            year.fleet.customers.values(), key=lambda one: year.meta.token(one.token).expires_at or inf
        )
        customer.kind, year.meta.token(customer.token).exchange_same = Kind.STUCK, True
        assert year.night(0) == []
        yield year
        year.close()


def first_broken(year):
    """Return what is wrong with the first night on which anything is."""
    nights = (year.night(night) for night in range(1, 40))
    return next((broken for broken in nights if broken), [])


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
    broken = first_broken(calm_year)
    assert [line for line in broken if noticed in line], broken


@only_sqlite
def test_a_line_of_which_people_hear_nothing_more_is_noticed(calm_year, monkeypatch):
    monkeypatch.setattr(job, "run", partial(defects.run_with, defects.tells_of_a_failure_only_once))
    monkeypatch.setattr(Fleet, "connect", lambda *_: None)  # no customer reconnects
    broken = first_broken(calm_year)
    assert any("came nearer, and people were told on" in line for line in broken), broken


@only_sqlite
def test_a_token_of_the_application_that_is_not_in_the_table_any_more_is_noticed(calm_year, monkeypatch):
    customer = next(iter(calm_year.fleet.customers.values()))
    monkeypatch.setattr(Application, "connect", lambda *_: None)
    calm_year.fleet.connect(customer, calm_year.meta.now())
    broken = calm_year.night(1)
    assert any("the token that the application stored last was overwritten" in line for line in broken)


@only_sqlite
def test_a_run_that_does_not_stop_although_meta_refuses_the_app_is_noticed(calm_year, monkeypatch):
    monkeypatch.setattr(job, "run", partial(defects.run_with, defects.exits_with_zero))
    calm_year.meta.app_secret = "another"
    assert any("Meta refuses the app, and the exit code is" in line for line in calm_year.night(1))


@only_sqlite
def test_a_token_that_no_run_came_to_for_many_nights_is_lost(calm_year):
    calm_year.rules.starved[1] = 4
    assert [*calm_year.rules._expired(1, "token")] == [
        "line 1: its token expired, and 4 runs had not come to it"
    ]
    assert [*calm_year.rules._expired(2, "another")] == []
    assert (calm_year.rules.counts["lost"], len(calm_year.rules.expired)) == (1, 2)
