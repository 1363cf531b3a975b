"""Figures for Prometheus: what is in the file, what survives in it, and what if it cannot be written."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from world import ROOT

from whatsapp_tokens.monitoring.prometheus import (
    CHANNELS,
    DURATION,
    HELP,
    LAST_RUN,
    LAST_SUCCESS,
    OUTCOMES,
    SOONEST,
    Figures,
    write,
)
from whatsapp_tokens.results import ChannelTotals, State

STARTED = datetime(2026, 6, 1, 4, 37, tzinfo=UTC)
FINISHED = STARTED + timedelta(seconds=12.5)
SOON = datetime(2026, 6, 17, tzinfo=UTC)
FLEET = ChannelTotals({State.OK: 40, State.WARNING: 2, State.ENDING: 1}, soonest=SOON)
FIGURES = Figures(
    started_at=STARTED,
    finished_at=FINISHED,
    succeeded=True,
    outcomes={("renewed", ""): 3, ("failed", "unavailable"): 0, ("skipped", "never_expires"): 1},
    totals=FLEET,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "whatsapp_tokens.prom"


def samples(path):
    """The series in the file, each with its labels, and its value."""
    found = {}
    for family in text_string_to_metric_families(path.read_text(encoding="utf-8")):
        for sample in family.samples:
            found[(sample.name, *sorted(sample.labels.values()))] = sample.value
    return found


def test_the_file_is_what_the_contract_says(path):
    write(path, FIGURES)
    assert path.read_text(encoding="utf-8").splitlines() == [
        f"# HELP {LAST_SUCCESS} {HELP[LAST_SUCCESS]}",
        f"# TYPE {LAST_SUCCESS} gauge",
        f"{LAST_SUCCESS} 1.7802886325e+09",
        f"# HELP {LAST_RUN} {HELP[LAST_RUN]}",
        f"# TYPE {LAST_RUN} gauge",
        f"{LAST_RUN} 1.7802886325e+09",
        f"# HELP {DURATION} {HELP[DURATION]}",
        f"# TYPE {DURATION} gauge",
        f"{DURATION} 12.5",
        f"# HELP {CHANNELS} {HELP[CHANNELS]}",
        f"# TYPE {CHANNELS} gauge",
        f'{CHANNELS}{{state="down"}} 0.0',
        f'{CHANNELS}{{state="warning"}} 2.0',
        f'{CHANNELS}{{state="ended"}} 0.0',
        f'{CHANNELS}{{state="waiting"}} 0.0',
        f'{CHANNELS}{{state="ending"}} 1.0',
        f'{CHANNELS}{{state="unknown"}} 0.0',
        f'{CHANNELS}{{state="ok"}} 40.0',
        f'{CHANNELS}{{state="never_expires"}} 0.0',
        f"# HELP {OUTCOMES} {HELP[OUTCOMES]}",
        f"# TYPE {OUTCOMES} gauge",
        f'{OUTCOMES}{{outcome="failed",reason="unavailable"}} 0.0',
        f'{OUTCOMES}{{outcome="renewed",reason=""}} 3.0',
        f'{OUTCOMES}{{outcome="skipped",reason="never_expires"}} 1.0',
        f"# HELP {SOONEST} {HELP[SOONEST]}",
        f"# TYPE {SOONEST} gauge",
        f"{SOONEST} 1.7816544e+09",
    ]


def test_the_names_are_those_of_the_contract():
    assert [LAST_SUCCESS, LAST_RUN, DURATION, CHANNELS, OUTCOMES, SOONEST] == [
        "whatsapp_token_refresh_last_success_timestamp_seconds",
        "whatsapp_token_refresh_last_run_timestamp_seconds",
        "whatsapp_token_refresh_duration_seconds",
        "whatsapp_token_refresh_channels",
        "whatsapp_token_refresh_outcomes",
        "whatsapp_token_refresh_soonest_expiry_timestamp_seconds",
    ]


def test_a_failed_run_keeps_the_time_of_the_last_success(path):
    write(path, FIGURES)
    later = FINISHED + timedelta(days=1)
    for day in (later, later + timedelta(days=1)):
        write(path, replace(FIGURES, finished_at=day, succeeded=False))
    found = samples(path)
    assert (found[(LAST_SUCCESS,)], found[(LAST_RUN,)]) == (
        FINISHED.timestamp(),
        (later + timedelta(days=1)).timestamp(),
    )


def test_a_success_after_failures_counts_from_now(path):
    write(path, replace(FIGURES, succeeded=False))
    write(path, FIGURES)
    assert samples(path)[(LAST_SUCCESS,)] == FINISHED.timestamp()


def test_where_no_success_is_known_it_is_long_ago(path):
    write(path, replace(FIGURES, succeeded=False))
    assert samples(path)[(LAST_SUCCESS,)] == 0


def test_where_the_database_is_lost_the_channels_stay_as_they_were_last_known(path):
    write(path, FIGURES)
    before = samples(path)
    write(path, replace(FIGURES, totals=None, outcomes={("renewed", ""): 0}))
    after = samples(path)
    kept = {series: value for series, value in before.items() if series[0] in (CHANNELS, SOONEST)}
    assert kept == {series: value for series, value in after.items() if series[0] in (CHANNELS, SOONEST)}


def test_where_the_channels_were_never_known_they_are_left_out(path):
    write(path, replace(FIGURES, totals=None))
    assert {series[0] for series in samples(path)} == {LAST_SUCCESS, LAST_RUN, DURATION, OUTCOMES}


def test_where_nothing_expires_there_is_no_soonest_expiry(path):
    write(path, FIGURES)
    write(path, replace(FIGURES, totals=ChannelTotals({State.NEVER_EXPIRES: 3})))
    assert SOONEST not in {series[0] for series in samples(path)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"# TYPE",
        b"# TYPE a",
        f"# TYPE {LAST_SUCCESS} gauge".encode(),
        f"{LAST_SUCCESS} many".encode(),
        b"{",
        b'x{y="z',
    ],
)
def test_an_old_file_that_is_not_understood_is_replaced(path, content):
    path.write_bytes(content)
    write(path, replace(FIGURES, succeeded=False))
    assert samples(path)[(LAST_SUCCESS,)] == 0


@given(st.one_of(st.binary(max_size=60), st.text('#{}="\\, \nTYPEHLa1_', max_size=60).map(str.encode)))
def test_no_old_file_of_any_content_is_in_the_way(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("metrics") / "x.prom"
    path.write_bytes(content)
    write(path, FIGURES)
    assert samples(path)[(LAST_SUCCESS,)] == FINISHED.timestamp()


def test_series_of_others_in_the_file_do_not_stay(path):
    path.write_text("# TYPE other gauge\nother 1\n")
    write(path, FIGURES)
    assert "other" not in path.read_text()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_the_mode_is_what_the_umask_allows(path, umask, mode):
    before = os.umask(umask)
    try:
        write(path, FIGURES)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode


def test_a_file_that_cannot_be_written_in_full_leaves_the_old_one(path):
    write(path, FIGURES)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)  # to a program, as good as a full disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write(path, replace(FIGURES, succeeded=False))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (path.read_bytes(), [one.name for one in path.parent.iterdir()]) == (before, [path.name])


def test_a_folder_that_does_not_exist_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        write(tmp_path / "nowhere" / "x.prom", FIGURES)


def test_the_program_knows_nothing_of_prometheus_until_it_is_asked_for():
    code = "import sys, refresh_tokens; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
