"""The fleet as a whole: in what state each line is, said in Python and in SQL, and the totals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from world import days

from models import Channel, fingerprint
from whatsapp_tokens.policy import state_of
from whatsapp_tokens.results import ChannelTotals, State

NOW = datetime(2026, 12, 1, 23, 30, tzinfo=UTC)
SOON = NOW + days(15)
TEXT = "a ciphertext"


def channel(**fields):
    return Channel(1, "North", TEXT, **fields)


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        (State.UNKNOWN, {}),
        (State.OK, {"status": "ok", "expires_at": NOW + days(15)}),
        (State.ENDING, {"status": "ok", "expires_at": NOW + days(14.9)}),
        (State.ENDED, {"status": "ok", "expires_at": NOW - days(1)}),
        (State.ENDED, {"expires_at": NOW}),
        (State.WARNING, {"status": "warning", "error": "unavailable: x", "expires_at": NOW - days(1)}),
        (State.UNKNOWN, {"status": "ok", "expires_at": NOW - days(1), "fingerprint": "of another"}),
        (State.NEVER_EXPIRES, {"status": "never_expires"}),
        (State.ENDED, {"status": "never_expires", "expires_at": NOW}),
        (State.WARNING, {"status": "warning", "error": "unavailable: x", "expires_at": NOW + days(3)}),
        (State.UNKNOWN, {"status": "warning", "error": "unavailable: x", "fingerprint": "of another"}),
        (State.WARNING, {"status": "warning", "error": "reconnect_required: x", "expires_at": NOW + days(3)}),
        (
            State.WAITING,
            {
                "status": "warning",
                "error": "reconnect_required: x",
                "expires_at": NOW,
                "fingerprint": fingerprint(TEXT),
            },
        ),
    ],
)
def test_a_line_is_in_one_state(state, fields):
    assert state_of(channel(**fields), NOW, SOON) == state


def test_the_database_counts_the_same_states_as_are_said_of_each_line(rows, database):
    ends = [None, NOW - days(3), NOW, NOW + days(14), NOW + days(15), NOW + days(40)]
    errors = [None, "reconnect_required: x", "unavailable: x"]
    statuses = [None, "ok", "warning", "never_expires", "other"]
    for end, error, status, mark in product(ends, errors, statuses, [None, fingerprint(TEXT), "another"]):
        rows.insert(
            wa_token_encrypted=TEXT,
            token_expires_at=end,
            token_error=error,
            token_status=status,
            token_fingerprint=mark,
        )
    found = [state_of(one, NOW, SOON) for one in database.queries.candidates()]
    assert database.queries.totals(NOW, SOON).states == {state: found.count(state) for state in State}


def test_a_line_needs_attention_when_its_token_has_ended_and_no_run_has_dealt_with_it():
    states = {State.WARNING: 1, State.ENDED: 2, State.WAITING: 4, State.ENDING: 8, State.UNKNOWN: 16}
    assert ChannelTotals(states).attention == 7


def test_each_line_that_needs_attention_is_in_trouble_and_no_line_is_in_both_sections(rows, database):
    ends = [None, NOW - days(3), NOW, NOW + days(3)]
    for end, status, mark in product(ends, [None, "ok", "warning"], [None, fingerprint(TEXT), "another"]):
        rows.insert(
            wa_token_encrypted=TEXT, token_expires_at=end, token_status=status, token_fingerprint=mark
        )
    every = list(database.queries.candidates())
    in_trouble = [one.id for one in database.queries.needing_attention(NOW)]
    others = [one.id for one in database.queries.not_needing_attention(NOW, 100)]
    assert sorted(in_trouble + others) == [one.id for one in every]
    assert set(in_trouble) == {
        one.id for one in every if one.status == "warning" or state_of(one, NOW, SOON).needs_attention
    }


def test_without_channels_there_is_nothing_to_count(database):
    assert database.queries.totals(NOW, SOON) == ChannelTotals()


def test_only_candidates_count(rows, database):
    rows.insert(wa_token_encrypted=None, token_expires_at=NOW)
    rows.insert(wa_token_encrypted="", token_expires_at=NOW)
    rows.insert(type="email", wa_token_encrypted=TEXT, token_expires_at=NOW)
    assert database.queries.totals(NOW, SOON) == ChannelTotals()


def test_the_soonest_end_is_that_of_a_line_that_does_not_wait(rows, database):
    waiting = {"token_status": "warning", "token_error": "reconnect_required: x"}
    rows.insert(
        wa_token_encrypted=TEXT,
        token_fingerprint=fingerprint(TEXT),
        token_expires_at=NOW - days(20),
        **waiting,
    )
    for lives in (9, -2, 40):
        rows.insert(wa_token_encrypted=TEXT, token_status="ok", token_expires_at=NOW + days(lives))
    fleet = database.queries.totals(NOW, SOON)
    assert (fleet.soonest, fleet.total, fleet.attention) == (NOW - days(2), 4, 2)


def test_the_ends_of_today_and_sixty_days_are_counted_by_day_in_utc(rows, database):
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    moment = timedelta(microseconds=1)
    ends = [midnight - moment, midnight, midnight + days(1) - moment, midnight + days(1)]
    ends += [midnight + days(61) - moment, midnight + days(61)]
    for end in ends:
        rows.insert(wa_token_encrypted=TEXT, token_expires_at=end)
    assert {str(day): count for day, count in database.queries.totals(NOW, SOON).ends.items()} == {
        "2026-12-01": 2,
        "2026-12-02": 1,
        "2027-01-30": 1,
    }


def test_times_in_columns_without_zone_are_counted_the_same(rows, open_database):
    if not rows.is_sqlite:
        rows.run('ALTER TABLE "Channel" DROP token_expires_at, ADD token_expires_at timestamp(3)')
    id_ = rows.insert(wa_token_encrypted=TEXT)
    rows.run("UPDATE \"Channel\" SET token_expires_at = '2026-12-01 23:59:59' WHERE id = :id", id=id_)
    fleet = open_database().queries.totals(NOW, SOON)
    assert ([str(day) for day in fleet.ends], fleet.soonest) == (
        ["2026-12-01"],
        datetime(2026, 12, 1, 23, 59, 59, tzinfo=UTC),
    )
