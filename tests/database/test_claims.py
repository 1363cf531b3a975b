"""Which run works on which rows."""

from __future__ import annotations

import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest
from channels import (
    DAY,
    EXPIRES_SOON,
    NOW,
    WAITS,
    WELL,
    configure,
    ids_of,
    leases,
    retype,
    select,
    set_zone,
)
from conftest import only_postgresql, only_sqlite

from models import TableMap
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.url import parse_url

# Claims


def test_a_claim_lasts_for_the_lease_by_the_database_s_clock_in_whole_milliseconds(rows, database, due_ids):
    before = rows.clock()
    database.claims.claim(select(), due_ids)
    after = rows.clock()
    (until,) = set(leases(rows, due_ids))
    assert (before <= until - timedelta(minutes=5) <= after, until.microsecond % 1000) == (True, 0)


@only_postgresql
@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp", "timestamp(3)", "timestamptz(0)"])
def test_a_claim_is_recognised_in_every_kind_of_column(rows, open_database, due_ids, kind, zone):
    retype(rows, "token_lease_until", kind)
    set_zone(rows, zone)
    database, other = open_database(), open_database()
    before = rows.clock()
    database.claims.claim(select(), due_ids)
    (until,) = set(leases(rows, due_ids))
    database.claims.extend()
    taken = other.claims.claim(select(), due_ids)
    database.claims.release(due_ids)
    assert (
        abs(until - before - timedelta(minutes=5)) < timedelta(minutes=1),
        taken,
        leases(rows, due_ids),
    ) == (
        True,
        [],
        [None] * 3,
    )


def test_claimed_channels_come_in_the_order_of_urgency(rows, database, due_ids):
    unknown = [rows.insert(**WELL | {"token_expires_at": None}) for _ in range(2)]
    same = rows.insert(**WELL | {"token_expires_at": NOW + 3 * DAY})
    claimed = database.claims.claim(select(), [*due_ids, same, *reversed(unknown)])
    assert ids_of(claimed) == [*unknown, due_ids[2], due_ids[1], due_ids[0], same]


def test_a_claimed_channel_comes_as_it_is_now_and_not_as_it_was_seen(rows, database, due_ids):
    list(database.queries.due_ids(select()))
    rows.update(due_ids[0], wa_token_encrypted="new", name="Renamed")
    (channel,) = database.claims.claim(select(), due_ids[:1])
    assert (channel.ciphertext, channel.name, channel.expires_at) == ("new", "Renamed", NOW + 3 * DAY)


@pytest.mark.parametrize(
    "changes", [{"token_expires_at": NOW + 40 * DAY}, {"wa_token_encrypted": None}, {"type": "email"}, WAITS]
)
def test_what_is_no_longer_due_is_not_claimed(rows, database, due_ids, changes):
    rows.update(due_ids[1], **changes)
    assert (ids_of(database.claims.claim(select(), due_ids)), leases(rows, due_ids)[1]) == (
        [due_ids[2], due_ids[0]],
        None,
    )


def test_an_id_that_is_gone_or_outside_the_look_is_not_claimed(rows, database, due_ids):
    assert ids_of(database.claims.claim(select(ids=(due_ids[0], 999)), [*due_ids, 999])) == [due_ids[0]]


def test_claiming_nothing_is_nothing(database):
    assert database.claims.claim(select(), []) == []


def test_what_one_run_has_claimed_another_does_not_get(due_ids, open_database):
    one, other = open_database(), open_database()
    assert (
        ids_of(one.claims.claim(select(), due_ids[:2])),
        ids_of(other.claims.claim(select(), due_ids)),
    ) == (
        [due_ids[1], due_ids[0]],
        [due_ids[2]],
    )


def test_a_run_does_not_get_twice_what_it_has(database, due_ids):
    database.claims.claim(select(), due_ids)
    assert database.claims.claim(select(), due_ids) == []


def test_the_claims_of_a_run_that_was_killed_end_by_themselves(rows, open_database, due_ids):
    killed, next_one = open_database(lease=timedelta(seconds=-1)), open_database()
    killed.claims.claim(select(), due_ids)
    assert ids_of(next_one.claims.claim(select(), due_ids)) == due_ids[::-1]


@only_sqlite
def test_a_lease_that_is_no_date_blocks_no_run(rows, database, due_ids):
    rows.run("UPDATE \"Channel\" SET token_lease_until = 'soon'")
    assert ids_of(database.claims.claim(select(), due_ids)) == due_ids[::-1]


@only_postgresql
def test_a_row_that_the_application_has_locked_is_passed_over(rows, open_database, due_ids):
    configure(rows, "lock_timeout = '2s'")  # it would rather fail than wait
    database = open_database()
    with rows.connect() as application:
        application.exec_driver_sql(f"UPDATE \"Channel\" SET name = 'Renamed' WHERE id = {due_ids[1]}")
        claimed = database.claims.claim(select(), due_ids)
    assert ids_of(claimed) == [due_ids[2], due_ids[0]]


def test_what_others_hold_is_told_apart(due_ids, open_database):
    one, other = open_database(), open_database()
    one.claims.claim(select(), due_ids[:1])
    other.claims.claim(select(), due_ids[1:2])
    expired = open_database(lease=timedelta(seconds=-1))
    expired.claims.claim(select(), due_ids[2:])
    assert [ids_of(run.claims.claimed_elsewhere(due_ids)) for run in (one, other, expired)] == [
        [due_ids[1]],
        [due_ids[0]],
        due_ids[:2],
    ]


def test_nothing_is_held_elsewhere_if_nothing_is_asked(database):
    assert database.claims.claimed_elsewhere([]) == []


def test_runs_that_claim_at_the_same_time_get_every_channel_once(rows, database_url, monkeypatch):
    monkeypatch.undo()  # each may have to wait for the others
    ids = [rows.insert(**WELL | EXPIRES_SOON) for _ in range(60)]
    start, claimed, errors = threading.Barrier(4), [[] for _ in range(4)], []

    def run(mine, order):
        try:
            with closing(Database(parse_url(database_url), TableMap(), lease=5 * DAY)) as database:
                start.wait()
                for first in range(0, len(order), 7):
                    mine.extend(ids_of(database.claims.claim(select(), order[first : first + 7])))
        except BaseException as error:  # noqa: BLE001 - a thread cannot tell anyone else
            errors.append(error)

    orders = [ids, ids[::-1], ids[30:] + ids[:30], ids[::2] + ids[1::2]]
    threads = [threading.Thread(target=run, args=each) for each in zip(claimed, orders, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (errors, sorted(chain.from_iterable(claimed))) == ([], ids)


def test_extending_prolongs_what_is_ours_and_takes_nothing_back(rows, overtaken, due_ids):
    slow, quick = overtaken
    theirs = leases(rows, due_ids)[0]
    slow.claims._duration = timedelta(minutes=5)
    slow.claims.extend()
    assert (leases(rows, due_ids)[0], quick.claims.claim(select(), due_ids)) == (theirs, [])


def test_extending_goes_on_from_the_last_extension(rows, database, due_ids):
    database.claims.claim(select(), due_ids[:1])
    database.claims.claim(select(), due_ids[1:])
    for minutes in (10, 20):
        database.claims._duration = timedelta(minutes=minutes)
        database.claims.extend()
    beginning = rows.clock() + timedelta(minutes=19)
    assert [until > beginning for until in leases(rows, due_ids)] == [True] * 3


def test_an_extended_claim_can_be_given_back(rows, database, due_ids):
    database.claims.claim(select(), due_ids)
    database.claims.extend()
    database.claims.release_all()
    assert leases(rows, due_ids) == [None] * 3


def test_extending_nothing_is_nothing(rows, database, due_ids):
    database.claims.extend()
    assert leases(rows, due_ids) == [None] * 3


def test_releasing_gives_back_what_was_named_and_not_the_rest(rows, database, due_ids):
    database.claims.claim(select(), due_ids)
    database.claims.release(due_ids[:1])
    assert [until is None for until in leases(rows, due_ids)] == [True, False, False]


def test_what_was_given_back_can_be_claimed_by_anybody(due_ids, open_database):
    one, other = open_database(), open_database()
    one.claims.claim(select(), due_ids)
    one.claims.release_all()
    assert ids_of(other.claims.claim(select(), due_ids)) == due_ids[::-1]


def test_releasing_leaves_what_another_run_has_taken(rows, overtaken, due_ids):
    slow, _ = overtaken
    theirs = leases(rows, due_ids)[0]
    slow.claims.release_all()
    assert leases(rows, due_ids) == [theirs, None, None]


def test_releasing_what_was_never_claimed_changes_nothing(rows, open_database, due_ids):
    one, other = open_database(), open_database()
    one.claims.claim(select(), due_ids)
    held = leases(rows, due_ids)
    other.claims.release([*due_ids, 999])
    other.claims.release_all()
    assert leases(rows, due_ids) == held


def test_a_run_knows_how_long_its_claims_hold(open_database):
    assert open_database(lease=timedelta(minutes=2)).claims.lease == 120


def test_a_lease_that_no_run_can_have_taken_is_named(rows, database, due_ids, caplog):
    rows.update(due_ids[0], token_lease_until=datetime(2999, 1, 1, tzinfo=UTC))
    rows.update(due_ids[1], token_lease_until=datetime.now(UTC) + timedelta(hours=23))
    assert sorted(ids_of(database.claims.claimed_elsewhere(due_ids))) == sorted(due_ids[:2])
    named = f"channel {due_ids[0]} is claimed for longer than any run claims it"
    assert [record.getMessage() for record in caplog.records] == [
        f"{named}: set its token_lease_until to null"
    ]


# Alerts


@pytest.fixture
def warned(rows):
    """A channel in warning that waits, one that does not, and one that is well."""
    return [rows.insert(**WELL | changes) for changes in (WAITS, {"token_status": "warning"}, {})]


def test_one_run_alone_tells_of_a_warning(warned, open_database):
    one, other = open_database(), open_database()
    assert (ids_of(one.claims.claim_to_alert(warned)), ids_of(other.claims.claim_to_alert(warned))) == (
        warned[:2],
        [],
    )


def test_a_warning_is_not_told_of_while_another_run_works_on_the_channel(warned, open_database):
    one, other = open_database(), open_database()
    one.claims.claim(select(everything=True), warned[:1])
    assert ids_of(other.claims.claim_to_alert(warned)) == warned[1:2]


def test_what_people_were_told_of_is_remembered_and_given_back(rows, warned, database):
    database.claims.claim_to_alert(warned)
    database.claims.mark_alerted(iter(warned[:1]), NOW)
    found = [rows.get(id_) for id_ in warned]
    assert [(row["token_alerted_at"], row["token_lease_until"] is None) for row in found] == [
        (NOW, True),
        (None, False),
        (None, True),
    ]
