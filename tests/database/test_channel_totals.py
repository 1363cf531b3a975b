"""All channels, counted: by state, and by the day on which their tokens expire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from world import days

from models import fingerprint
from whatsapp_tokens.results import ChannelTotals, State

NOW = datetime(2026, 12, 1, 23, 30, tzinfo=UTC)
SOON = NOW + days(15)
TEXT = "a ciphertext"


def test_a_line_needs_attention_when_its_token_has_ended_and_no_run_has_dealt_with_it():
    states = {State.WARNING: 1, State.ENDED: 2, State.WAITING: 4, State.ENDING: 8, State.UNKNOWN: 16}
    assert ChannelTotals(states).attention == 7


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


def test_the_expiry_of_a_token_that_meta_rejects_is_not_the_soonest(rows, database):
    rejected = {"token_status": "warning", "token_error": "reconnect_required: x"}
    rows.insert(wa_token_encrypted=TEXT, token_expires_at=NOW + days(2), **rejected)
    rows.insert(wa_token_encrypted=TEXT, token_status="ok", token_expires_at=NOW + days(9))
    totals = database.queries.totals(NOW, SOON)
    assert (totals.soonest, totals.states) == (NOW + days(9), {State.DOWN: 1, State.ENDING: 1})


def test_lines_that_have_stopped_working_come_first(rows, database):
    ids = [
        rows.insert(wa_token_encrypted=TEXT, token_status="warning", token_error=error, token_expires_at=end)
        for error, end in (
            ("unavailable: x", None),
            ("reconnect_required: x", NOW + days(9)),
            ("unavailable: x", NOW - days(1)),
            ("reconnect_required: x", NOW + days(2)),
        )
    ]
    found = [one.id for one in database.queries.needing_attention(NOW, SOON)]
    assert found == [ids[2], ids[3], ids[1], ids[0]]


def test_the_ends_of_today_and_sixty_days_are_counted_by_day_in_utc(rows, database):
    midnight = datetime(2026, 12, 1, tzinfo=UTC)
    moment = timedelta(microseconds=1)
    ends = [midnight - moment, midnight, midnight + days(1) - moment, midnight + days(1)]
    ends += [midnight + days(61) - moment, midnight + days(61)]
    for end in ends:
        rows.insert(wa_token_encrypted=TEXT, token_expires_at=end)
    assert {str(day): count for day, count in database.queries.totals(NOW, SOON).expiries.items()} == {
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
    assert ([str(day) for day in fleet.expiries], fleet.soonest) == (
        ["2026-12-01"],
        datetime(2026, 12, 1, 23, 59, 59, tzinfo=UTC),
    )
