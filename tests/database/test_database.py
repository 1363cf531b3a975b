"""What a run asks of the database, on SQLite and on PostgreSQL, beside an application that writes as well."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice

import psycopg2
import pytest
import sqlalchemy as sa
from conftest import only_postgresql, only_sqlite

from models import AuditEntry, Channel, Event, PendingUpdate, Status, TableMap, fingerprint
from whatsapp_tokens.database import connection as connection_module
from whatsapp_tokens.database import queries as queries_module
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.deadlines import Deadline
from whatsapp_tokens.database.errors import BadSchema, DatabaseLost
from whatsapp_tokens.database.queries import Counts
from whatsapp_tokens.database.url import parse_url
from whatsapp_tokens.database.writes import WriteResult
from whatsapp_tokens.policy import Selection
from whatsapp_tokens.results import DueReason

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)
INSTANT = timedelta(milliseconds=1)
DEAD = "reconnect_required: Error validating access token"
TIMES = ("token_expires_at", "last_token_refresh_at", "token_alerted_at", "token_lease_until")
COLUMNS = """
    id {id} PRIMARY KEY, name TEXT, type TEXT, wa_token_encrypted TEXT, token_status TEXT, token_error TEXT,
    token_fingerprint TEXT
"""

# A channel about which there is nothing to do.
WELL = {
    "wa_token_encrypted": "stored",
    "token_expires_at": NOW + 40 * DAY,
    "last_token_refresh_at": NOW - 20 * DAY,
    "token_status": "ok",
    "token_fingerprint": fingerprint("stored"),
}
ENDS_SOON = {"token_expires_at": NOW + DAY}
WAITS = {"token_status": "warning", "token_error": DEAD, "token_expires_at": NOW - DAY}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(connection_module, "FIRST_WAIT_SECONDS", 0)
    monkeypatch.setattr(connection_module, "RETRY_SECONDS", 2)


def look(*, everything=False, ids=None):
    return Selection(NOW, NOW + 15 * DAY, NOW - 45 * DAY, everything=everything, ids=ids)


def ids_of(found):
    return [each.id if isinstance(each, Channel) else each for each in found]


def text_ids(rows):
    """The table of an application whose ids are texts and whose times have no zone, as Prisma makes them."""
    time = "TEXT" if rows.is_sqlite else "timestamp(3)"
    rows.recreate(COLUMNS.format(id="TEXT") + "".join(f", {name} {time}" for name in TIMES))


def retype(rows, column, kind):
    rows.run(f'ALTER TABLE "Channel" ALTER {column} TYPE {kind}')


def configure(rows, setting):
    """From now on, sessions have this setting of PostgreSQL, as with some hosts."""
    name = rows.engine.url.database
    rows.run(f'ALTER DATABASE "{name}" SET {setting}')


def set_zone(rows, zone):
    configure(rows, f"timezone = '{zone}'")


# Candidates


@pytest.mark.parametrize(
    ("changes", "is_candidate"),
    [
        ({}, True),
        ({"type": "email"}, False),
        ({"type": "WhatsApp"}, False),
        ({"wa_token_encrypted": None}, False),
        ({"wa_token_encrypted": ""}, False),
        ({"wa_token_encrypted": " "}, True),
    ],
)
def test_a_candidate_is_of_our_type_and_has_a_token(rows, database, changes, is_candidate):
    rows.insert(**WELL | changes)
    assert database.queries.count(look()).candidates == is_candidate


def test_another_type_may_be_looked_for(rows, open_database):
    rows.insert(**WELL, type="wa_cloud")
    assert open_database(type="wa_cloud").queries.count(look()).candidates == 1


@pytest.mark.parametrize(("active", "is_candidate"), [(True, True), (None, True), (False, False)])
def test_an_inactive_channel_is_no_candidate_if_the_column_is_mapped(
    rows, open_database, active, is_candidate
):
    rows.run('ALTER TABLE "Channel" ADD is_active BOOLEAN')
    rows.insert(**WELL, is_active=active)
    counts = [
        open_database(columns=columns).queries.count(look()) for columns in ({"active": "is_active"}, {})
    ]
    assert [count.candidates for count in counts] == [is_candidate, 1]


@only_postgresql
def test_the_type_may_be_an_enum(rows, open_database):
    rows.run("CREATE TYPE provider AS ENUM ('email', 'whatsapp')")
    rows.recreate(
        COLUMNS.format(id="TEXT").replace("type TEXT", "type provider")
        + "".join(f", {name} timestamptz" for name in TIMES)
    )
    rows.insert(id="a", **WELL | ENDS_SOON)
    assert ids_of(open_database().claims.claim(look(), ["a"])) == ["a"]


# Due, waiting, or neither


def standing(database, about):
    """What the database calls its one channel; all the ways to ask must agree."""
    due, waiting = ids_of(database.queries.due(about)), ids_of(database.queries.waiting(about))
    assert (ids_of(database.queries.due_ids(about)), database.queries.count(about)) == (
        due,
        Counts(1, len(due), len(waiting)),
    )
    return {(1, 0): "due", (0, 1): "waiting", (0, 0): "neither"}[len(due), len(waiting)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "neither"),
        ({"token_fingerprint": None}, "neither"),
        # its end
        ({"token_expires_at": NOW + 15 * DAY}, "neither"),
        ({"token_expires_at": NOW + 15 * DAY - INSTANT}, "due"),
        ({"token_expires_at": NOW - 300 * DAY}, "due"),
        # its age
        ({"last_token_refresh_at": NOW - 45 * DAY}, "neither"),
        ({"last_token_refresh_at": NOW - 45 * DAY - INSTANT}, "due"),
        ({"last_token_refresh_at": None}, "neither"),
        # an unknown end
        ({"token_expires_at": None}, "due"),
        ({"token_expires_at": None, "token_status": None}, "due"),
        ({"token_expires_at": None, "last_token_refresh_at": None, "token_status": None}, "due"),
        ({"token_expires_at": None, "token_status": "never_expires"}, "neither"),
        ({"token_expires_at": NOW + DAY, "token_status": "never_expires"}, "due"),
        (
            {
                "token_expires_at": None,
                "token_status": "never_expires",
                "last_token_refresh_at": NOW - 46 * DAY,
            },
            "due",
        ),
        # another token
        ({"token_fingerprint": "of another"}, "due"),
        ({"token_fingerprint": ""}, "due"),
        ({"wa_token_encrypted": "ñ€ 'another'\n"}, "due"),
        # waiting for a reconnect
        (WAITS, "waiting"),
        (WAITS | {"token_expires_at": NOW}, "waiting"),
        (WAITS | {"token_expires_at": NOW + INSTANT}, "due"),
        (WAITS | {"token_expires_at": None}, "due"),
        (WAITS | {"token_fingerprint": None}, "due"),
        (WAITS | {"token_fingerprint": "of another"}, "due"),
        (WAITS | {"token_status": "ok"}, "due"),
        (WAITS | {"token_status": None}, "due"),
        (WAITS | {"token_error": None}, "due"),
        (WAITS | {"token_error": "not_extended: reconnect_required: x"}, "due"),
        (WAITS | {"token_error": "reconnectXrequired: x"}, "due"),
        (WAITS | {"last_token_refresh_at": NOW - 300 * DAY}, "waiting"),
    ],
)
def test_each_rule_of_being_due_and_waiting_holds_to_the_instant(rows, database, changes, expected):
    rows.insert(**WELL | changes)
    assert standing(database, look()) == expected


@pytest.mark.parametrize("changes", [{}, ENDS_SOON, WAITS, {"token_status": "never_expires"}])
def test_everything_is_due_if_it_was_asked_for(rows, database, changes):
    rows.insert(**WELL | changes)
    assert standing(database, look(everything=True)) == "due"


@only_sqlite
@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("soon", "due"),
        ("", "due"),
        (1781524800000, "due"),
        ("2026-06-30T11:59:59Z", "due"),
        ("2026-06-30T12:00:00Z", "neither"),
        ("2026-06-30T13:00:00+01:00", "neither"),
        ("2026-06-30", "due"),
        ("2026-07-01", "neither"),
    ],
)
def test_a_date_of_another_form_counts_as_what_it_means(rows, database, stored, expected):
    rows.insert(**WELL | {"token_expires_at": stored})
    assert standing(database, look()) == expected


@only_postgresql
@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
@pytest.mark.parametrize(("before", "expected"), [(timedelta(0), "neither"), (INSTANT, "due")])
def test_the_zone_of_the_session_changes_nothing(rows, open_database, zone, kind, before, expected):
    set_zone(rows, "UTC")
    for name in TIMES:
        retype(rows, name, kind)
    rows.insert(**WELL | {"token_expires_at": NOW + 15 * DAY - before})
    set_zone(rows, zone)
    assert standing(open_database(), look()) == expected


def test_a_look_may_be_at_some_ids_only(rows, database):
    ids = [rows.insert(**WELL | changes) for changes in (ENDS_SOON, ENDS_SOON, WAITS, WAITS, {}, {})]
    about = look(ids=(*ids[1::2], 999))
    assert (
        ids_of(database.queries.due(about)),
        ids_of(database.queries.waiting(about)),
        database.queries.count(about),
    ) == (
        [ids[1]],
        [ids[3]],
        Counts(3, 1, 1),
    )


def test_a_look_at_no_ids_sees_nothing(rows, database):
    rows.insert(**WELL | ENDS_SOON)
    due = list(database.queries.due(look(ids=())))
    assert (due, database.queries.count(look(ids=()))) == ([], Counts(0, 0, 0))


def test_an_empty_table_has_nothing(database):
    assert (
        list(database.queries.due(look())),
        list(database.queries.waiting(look())),
        database.queries.count(look()),
    ) == (
        [],
        [],
        Counts(0, 0, 0),
    )


def test_a_row_comes_as_it_stands(rows, database):
    id_ = rows.insert(
        name="Línea Ñ",
        wa_token_encrypted="stored",
        token_expires_at=NOW + DAY,
        last_token_refresh_at=NOW - DAY,
        token_status="warning",
        token_error="unavailable: x",
        token_fingerprint="f",
        token_alerted_at=NOW,
    )
    row = (id_, "Línea Ñ", "stored", NOW + DAY, NOW - DAY, "warning", "unavailable: x", "f", NOW)
    assert list(database.queries.due(look())) == [Channel(*row, due_reason=DueReason.REPLACED)]


def test_a_table_without_names_shows_ids(rows, open_database):
    rows.run('ALTER TABLE "Channel" DROP COLUMN name')
    id_ = rows.insert(**WELL | ENDS_SOON)
    database = open_database()
    assert [
        channel.name for channel in [*database.queries.due(look()), *database.claims.claim(look(), [id_])]
    ] == [str(id_)] * 2


# The order of urgency, and pages


@pytest.fixture
def page_size(monkeypatch):
    """Sets how many rows a page holds."""
    return lambda size: monkeypatch.setattr(queries_module, "PAGE_SIZE", size)


def first(rows, most=1000):
    """What an iterator yields, if it does not end either."""
    return list(islice(rows, most))


ENDS = [None, NOW, None, NOW - DAY, NOW, NOW + DAY, None, NOW + DAY, NOW, NOW - 9 * DAY, NOW + 9 * DAY]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("pages", ["due", "due_ids", "waiting"])
def test_pages_show_every_channel_once_in_the_order_of_urgency(rows, database, page_size, pages, limit):
    page_size(limit)
    state = WAITS if pages == "waiting" else {}
    ends = [end for end in ENDS if pages != "waiting" or (end is not None and end <= NOW)]
    ids = {rows.insert(**WELL | state | {"token_expires_at": end}): end for end in ends}
    expected = sorted(ids, key=lambda id_: (ids[id_] is not None, ids[id_] or NOW, id_))
    assert ids_of(first(getattr(database.queries, pages)(look()))) == expected


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("pages", ["due", "due_ids"])
def test_pages_work_with_ids_that_are_texts(rows, open_database, page_size, pages, limit):
    page_size(limit)
    text_ids(rows)
    ids = {f"c{n * 7 % 11:02}": end for n, end in enumerate(ENDS)}
    for id_, end in ids.items():
        rows.insert(id=id_, **WELL | {"token_expires_at": end})
    expected = sorted(ids, key=lambda id_: (ids[id_] is not None, ids[id_] or NOW, id_))
    assert ids_of(first(getattr(open_database().queries, pages)(look()))) == expected


@only_sqlite
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_end_although_dates_are_odd(rows, database, page_size, limit):
    page_size(limit)
    odd = ["soon", None, "", "2026-06-15 12:00:00", "2026-06-15T12:00:00Z", NOW, 1781524800000, "2026-06-15"]
    ids = [rows.insert(**WELL | {"token_expires_at": end}) for end in odd]
    expected = [ids[n] for n in (0, 1, 2, 6, 7, 3, 4, 5)]
    assert first(database.queries.due_ids(look())) == expected


@only_postgresql
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_end_although_dates_are_infinite(rows, open_database, page_size, kind, limit):
    page_size(limit)
    retype(rows, "token_expires_at", kind)
    odd = ["infinity", NOW, "-infinity", None, "infinity", "-infinity"]
    ids = [rows.insert(**WELL | {"token_expires_at": end}) for end in odd]
    expected = [ids[n] for n in (3, 2, 5, 1, 0, 4)]
    assert first(open_database().queries.due_ids(look(everything=True))) == expected


@only_postgresql
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_end_although_many_dates_are_at_either_end_of_the_calendar(rows, database, page_size, limit):
    page_size(limit)
    first_days, last_days = ["0001-01-01"] * 4 + ["-infinity"] * 3, ["9999-12-31"] * 4 + ["infinity"] * 3
    for end in (*last_days, *first_days, "4713-01-01 BC", "294276-12-31"):
        rows.insert(**WELL | {"token_expires_at": end})
    everything = look(everything=True)
    found = [first(query(everything)) for query in (database.queries.due, database.queries.due_ids)]
    assert [sorted(ids_of(rows)) for rows in found] == [list(range(1, 17))] * 2


@only_postgresql
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_one_year_that_is_out_of_range_stops_no_other_row(rows, database, page_size, limit):
    page_size(limit)
    ids = [rows.insert(**WELL | {"token_expires_at": end}) for end in ("58421-01-01", NOW, NOW - DAY)]
    found = first(database.queries.due(look(everything=True)))
    assert [(channel.id, channel.expires_at.year) for channel in found] == [
        (ids[2], 2026),
        (ids[1], 2026),
        (ids[0], 9999),
    ]


# One id


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("7", 7),
        ("007", 7),
        ("8", None),
        ("-7", None),
        (" 7", None),
        ("7.0", None),
        ("\N{ARABIC-INDIC DIGIT SEVEN}", None),
        ("", None),
        ("seven", None),
        ("7; DROP TABLE", None),
        ("\0", None),
        ("9" * 18, None),
        ("9" * 400, None),
    ],
)
def test_an_id_that_is_a_number_is_found_by_its_digits(rows, database, text, found):
    rows.insert(id=7)
    assert database.queries.find_id(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cm3x", "cm3x"),
        ("CM3X", None),
        ("7", "7"),
        ("", None),
        ("c'x", None),
        ("\0", None),
        ("9" * 400, None),
    ],
)
def test_an_id_that_is_a_text_is_found_as_it_is(rows, open_database, text, found):
    text_ids(rows)
    for id_ in ("cm3x", "7"):
        rows.insert(id=id_)
    assert open_database().queries.find_id(text) == found


UUID = "5eb63bbb-e01e-4ed0-93cb-22bb8f5acdc3"


@only_postgresql
@pytest.mark.parametrize(
    ("text", "found"),
    [(UUID, UUID), (UUID.upper(), UUID), (UUID[:-1] + "4", None), ("cm3x", None), ("\0", None)],
)
def test_an_id_that_is_a_uuid_is_found_in_any_case(rows, open_database, text, found):
    rows.recreate(COLUMNS.format(id="UUID") + "".join(f", {name} timestamptz" for name in TIMES))
    rows.insert(id=UUID)
    assert open_database().queries.find_id(text) == found


@only_postgresql
def test_a_channel_whose_id_is_a_uuid_goes_all_the_way(rows, open_database):
    rows.recreate(COLUMNS.format(id="UUID") + "".join(f", {name} timestamptz" for name in TIMES))
    rows.insert(id=UUID, **WELL | ENDS_SOON)
    database = open_database()
    places = database.queries.due_ids(look())
    claimed = database.claims.claim(look(), ids_of(places))
    written = database.writer.write([renewal_of(channel) for channel in claimed])
    assert (
        written,
        [entry["channel_id"] for entry in rows.audit()],
        rows.get(UUID)["token_lease_until"],
    ) == (
        [(WriteResult.WRITTEN, "")],
        [UUID],
        None,
    )


# Claims


@pytest.fixture
def due_ids(rows):
    """Three due channels, the most urgent last."""
    return [rows.insert(**WELL | {"token_expires_at": NOW + days * DAY}) for days in (3, 2, 1)]


def leases(rows, ids):
    return [rows.get(id_)["token_lease_until"] for id_ in ids]


def test_a_claim_lasts_for_the_lease_by_the_database_s_clock_in_whole_milliseconds(rows, database, due_ids):
    before = rows.clock()
    database.claims.claim(look(), due_ids)
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
    database.claims.claim(look(), due_ids)
    (until,) = set(leases(rows, due_ids))
    database.claims.extend()
    taken = other.claims.claim(look(), due_ids)
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
    claimed = database.claims.claim(look(), [*due_ids, same, *reversed(unknown)])
    assert ids_of(claimed) == [*unknown, due_ids[2], due_ids[1], due_ids[0], same]


def test_a_claimed_channel_comes_as_it_is_now_and_not_as_it_was_seen(rows, database, due_ids):
    list(database.queries.due_ids(look()))
    rows.update(due_ids[0], wa_token_encrypted="new", name="Renamed")
    (channel,) = database.claims.claim(look(), due_ids[:1])
    assert (channel.ciphertext, channel.name, channel.expires_at) == ("new", "Renamed", NOW + 3 * DAY)


@pytest.mark.parametrize(
    "changes", [{"token_expires_at": NOW + 40 * DAY}, {"wa_token_encrypted": None}, {"type": "email"}, WAITS]
)
def test_what_is_no_longer_due_is_not_claimed(rows, database, due_ids, changes):
    rows.update(due_ids[1], **changes)
    assert (ids_of(database.claims.claim(look(), due_ids)), leases(rows, due_ids)[1]) == (
        [due_ids[2], due_ids[0]],
        None,
    )


def test_an_id_that_is_gone_or_outside_the_look_is_not_claimed(rows, database, due_ids):
    assert ids_of(database.claims.claim(look(ids=(due_ids[0], 999)), [*due_ids, 999])) == [due_ids[0]]


def test_claiming_nothing_is_nothing(database):
    assert database.claims.claim(look(), []) == []


def test_what_one_run_has_claimed_another_does_not_get(due_ids, open_database):
    one, other = open_database(), open_database()
    assert (ids_of(one.claims.claim(look(), due_ids[:2])), ids_of(other.claims.claim(look(), due_ids))) == (
        [due_ids[1], due_ids[0]],
        [due_ids[2]],
    )


def test_a_run_does_not_get_twice_what_it_has(database, due_ids):
    database.claims.claim(look(), due_ids)
    assert database.claims.claim(look(), due_ids) == []


def test_the_claims_of_a_run_that_was_killed_end_by_themselves(rows, open_database, due_ids):
    killed, next_one = open_database(lease=timedelta(seconds=-1)), open_database()
    killed.claims.claim(look(), due_ids)
    assert ids_of(next_one.claims.claim(look(), due_ids)) == due_ids[::-1]


@only_sqlite
def test_a_lease_that_is_no_date_blocks_no_run(rows, database, due_ids):
    rows.run("UPDATE \"Channel\" SET token_lease_until = 'soon'")
    assert ids_of(database.claims.claim(look(), due_ids)) == due_ids[::-1]


@only_postgresql
def test_a_row_that_the_application_has_locked_is_passed_over(rows, open_database, due_ids):
    configure(rows, "lock_timeout = '2s'")  # it would rather fail than wait
    database = open_database()
    with rows.connect() as application:
        application.exec_driver_sql(f"UPDATE \"Channel\" SET name = 'Renamed' WHERE id = {due_ids[1]}")
        claimed = database.claims.claim(look(), due_ids)
    assert ids_of(claimed) == [due_ids[2], due_ids[0]]


def test_what_others_hold_is_told_apart(due_ids, open_database):
    one, other = open_database(), open_database()
    one.claims.claim(look(), due_ids[:1])
    other.claims.claim(look(), due_ids[1:2])
    expired = open_database(lease=timedelta(seconds=-1))
    expired.claims.claim(look(), due_ids[2:])
    assert [ids_of(run.claims.claimed_elsewhere(due_ids)) for run in (one, other, expired)] == [
        [due_ids[1]],
        [due_ids[0]],
        due_ids[:2],
    ]


def test_nothing_is_held_elsewhere_if_nothing_is_asked(database):
    assert database.claims.claimed_elsewhere([]) == []


def test_runs_that_claim_at_the_same_time_get_every_channel_once(rows, database_url, monkeypatch):
    monkeypatch.undo()  # each may have to wait for the others
    ids = [rows.insert(**WELL | ENDS_SOON) for _ in range(60)]
    start, claimed, troubles = threading.Barrier(4), [[] for _ in range(4)], []

    def run(mine, order):
        try:
            with closing(Database(parse_url(database_url), TableMap(), lease=5 * DAY)) as database:
                start.wait()
                for first in range(0, len(order), 7):
                    mine.extend(ids_of(database.claims.claim(look(), order[first : first + 7])))
        except BaseException as error:  # noqa: BLE001 - a thread has nobody else to tell
            troubles.append(error)

    orders = [ids, ids[::-1], ids[30:] + ids[:30], ids[::2] + ids[1::2]]
    threads = [threading.Thread(target=run, args=each) for each in zip(claimed, orders, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (troubles, sorted(chain.from_iterable(claimed))) == ([], ids)


@pytest.fixture
def overtaken(rows, open_database, due_ids):
    """A run of which the first claim ran out and was taken by another run; and that run."""
    slow, quick = open_database(lease=timedelta(seconds=-1)), open_database(lease=timedelta(hours=1))
    slow.claims.claim(look(), due_ids)
    quick.claims.claim(look(), due_ids[:1])
    return slow, quick


def test_extending_prolongs_what_is_ours_and_takes_nothing_back(rows, overtaken, due_ids):
    slow, quick = overtaken
    theirs = leases(rows, due_ids)[0]
    slow.claims._duration = timedelta(minutes=5)
    slow.claims.extend()
    assert (leases(rows, due_ids)[0], quick.claims.claim(look(), due_ids)) == (theirs, [])


def test_extending_goes_on_from_the_last_extension(rows, database, due_ids):
    database.claims.claim(look(), due_ids[:1])
    database.claims.claim(look(), due_ids[1:])
    for minutes in (10, 20):
        database.claims._duration = timedelta(minutes=minutes)
        database.claims.extend()
    beginning = rows.clock() + timedelta(minutes=19)
    assert [until > beginning for until in leases(rows, due_ids)] == [True] * 3


def test_an_extended_claim_can_be_given_back(rows, database, due_ids):
    database.claims.claim(look(), due_ids)
    database.claims.extend()
    database.claims.release_all()
    assert leases(rows, due_ids) == [None] * 3


def test_extending_nothing_is_nothing(rows, database, due_ids):
    database.claims.extend()
    assert leases(rows, due_ids) == [None] * 3


def test_releasing_gives_back_what_was_named_and_not_the_rest(rows, database, due_ids):
    database.claims.claim(look(), due_ids)
    database.claims.release(due_ids[:1])
    assert [until is None for until in leases(rows, due_ids)] == [True, False, False]


def test_what_was_given_back_can_be_claimed_by_anybody(due_ids, open_database):
    one, other = open_database(), open_database()
    one.claims.claim(look(), due_ids)
    one.claims.release_all()
    assert ids_of(other.claims.claim(look(), due_ids)) == due_ids[::-1]


@pytest.mark.parametrize("is_done", [True, False])
def test_a_late_mark_does_not_overwrite_what_another_run_finds_out(rows, overtaken, due_ids, is_done):
    slow, quick = overtaken
    mark = warning_of(slow.queries.get(due_ids[0]))
    if is_done:
        quick.claims.release_all()
    before = rows.get(due_ids[0])
    assert (slow.writer.write([mark]), rows.get(due_ids[0])) == (
        [(WriteResult.TAKEN, TAKEN)],
        before,
    )


@only_postgresql
@pytest.mark.parametrize("mode", ["SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"])
def test_a_table_that_is_locked_as_a_whole_is_not_waited_for_row_by_row(
    rows, database, claimed, monkeypatch, mode
):
    changes = [warning_of(channel) for channel in claimed] * 4
    waits, run = [], database._connection.run
    monkeypatch.setattr(
        database._connection, "run", lambda *work, **how: (waits.append(1), run(*work, **how))[1]
    )
    with rows.connect() as theirs:
        theirs.execute(sa.text(f'LOCK TABLE "Channel" IN {mode} MODE'))
        found = {written for written, _ in database.writer.write(changes)}
    assert (found, len(waits)) == ({WriteResult.LOCKED}, 1)


def test_a_late_renewal_is_saved_all_the_same(rows, overtaken, due_ids):
    slow, _ = overtaken
    renewal = renewal_of(slow.queries.get(due_ids[0]))
    assert slow.writer.write([renewal]) == [(WriteResult.WRITTEN, "")]
    assert rows.get(due_ids[0])["wa_token_encrypted"] == "renewed"


def test_releasing_leaves_what_another_run_has_taken(rows, overtaken, due_ids):
    slow, _ = overtaken
    theirs = leases(rows, due_ids)[0]
    slow.claims.release_all()
    assert leases(rows, due_ids) == [theirs, None, None]


def test_releasing_what_was_never_claimed_changes_nothing(rows, open_database, due_ids):
    one, other = open_database(), open_database()
    one.claims.claim(look(), due_ids)
    held = leases(rows, due_ids)
    other.claims.release([*due_ids, 999])
    other.claims.release_all()
    assert leases(rows, due_ids) == held


def test_a_run_knows_how_long_its_claims_hold(open_database):
    assert open_database(lease=timedelta(minutes=2)).claims.lease == 120


# Writing


def renewal_of(channel, ciphertext="renewed", **changes):
    """A new token for a channel."""
    end = NOW + 60 * DAY
    entry = AuditEntry(Event.REFRESHED, "Token refreshed automatically", None, channel.expires_at, end)
    change = PendingUpdate(
        channel, NOW, ciphertext, Status.OK, expires_at=end, refreshed_at=NOW, audit=(entry,)
    )
    return replace(change, **changes)


def warning_of(channel, **changes):
    """A mark on a channel whose token stays."""
    entry = AuditEntry(Event.FAILED, "Session has expired", "reconnect_required", channel.expires_at)
    change = PendingUpdate(
        channel,
        NOW,
        channel.ciphertext,
        Status.WARNING,
        expires_at=channel.expires_at,
        refreshed_at=channel.refreshed_at,
        error=DEAD,
        audit=(entry,),
    )
    return replace(change, **changes)


ANOTHER = "another token was stored meanwhile"
REMOVED = "the token was removed meanwhile"
TAKEN = "the claim ran out, and another run has taken it over"
CHANGES = pytest.mark.parametrize("change_of", [renewal_of, warning_of], ids=["a token", "a state"])


@pytest.fixture
def claimed(database, due_ids):
    """The three due channels, claimed, the most urgent first."""
    return database.claims.claim(look(), due_ids)


def forbid(rows, change, when):
    """Let the database refuse a change (`UPDATE ON "Channel"`, …) of rows for which `when` holds."""
    if rows.is_sqlite:
        rows.run(f"CREATE TRIGGER t BEFORE {change} WHEN {when} BEGIN SELECT RAISE(ABORT, 'not this'); END")
        return
    rows.run("""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                RAISE EXCEPTION 'not this' USING DETAIL = NEW; END $$""")
    rows.run(f"CREATE TRIGGER t BEFORE {change} FOR EACH ROW WHEN ({when}) EXECUTE FUNCTION refuse()")


def test_a_renewal_is_written_with_its_audit_row_and_ends_the_claim(rows, database, claimed):
    rows.update(claimed[0].id, name="Shop", token_alerted_at=NOW - DAY)
    written = database.writer.write([renewal_of(replace(claimed[0], alerted_at=NOW - DAY))])
    assert (written, rows.get(claimed[0].id), rows.audit()) == (
        [(WriteResult.WRITTEN, "")],
        {
            "id": claimed[0].id,
            "name": "Shop",
            "type": "whatsapp",
            "wa_token_encrypted": "renewed",
            "token_expires_at": NOW + 60 * DAY,
            "last_token_refresh_at": NOW,
            "token_status": "ok",
            "token_error": None,
            "token_fingerprint": fingerprint("renewed"),
            "token_alerted_at": NOW - DAY,
            "token_lease_until": None,
        },
        [
            {
                "id": 1,
                "at": NOW,
                "channel_id": str(claimed[0].id),
                "event": "refreshed",
                "message": "Token refreshed automatically",
                "reason": None,
                "expires_at_before": NOW + DAY,
                "expires_at_after": NOW + 60 * DAY,
            }
        ],
    )


def test_a_mark_leaves_the_token_as_it_is(rows, database, claimed):
    database.writer.write([warning_of(claimed[0])])
    row, (entry,) = rows.get(claimed[0].id), rows.audit(claimed[0].id)
    assert (row["wa_token_encrypted"], row["token_status"], row["token_error"], entry["reason"]) == (
        "stored",
        "warning",
        DEAD,
        "reconnect_required",
    )


@pytest.mark.parametrize(("clear", "left"), [(True, None), (False, NOW)])
def test_the_mark_of_an_alert_is_cleared_only_on_request(rows, open_database, due_ids, clear, left):
    rows.update(due_ids[0], token_alerted_at=NOW)
    database = open_database()
    (channel,) = database.claims.claim(look(), due_ids[:1])
    database.writer.write([renewal_of(channel, clear_alert=clear)])
    assert rows.get(due_ids[0])["token_alerted_at"] == left


def test_the_mark_of_an_alert_that_another_run_has_sent_since_is_not_cleared(rows, database, claimed):
    rows.update(claimed[0].id, token_alerted_at=NOW)
    database.writer.write([renewal_of(claimed[0], clear_alert=True)])
    assert rows.get(claimed[0].id)["token_alerted_at"] == NOW


def test_a_renewal_of_a_channel_that_another_run_has_marked_since_has_recovered(rows, overtaken, due_ids):
    slow, _ = overtaken
    channel = slow.queries.get(due_ids[0])
    rows.update(due_ids[0], token_status="warning", token_error=DEAD, token_alerted_at=NOW)
    slow.writer.write([renewal_of(channel, clear_alert=True)])
    row = rows.get(due_ids[0])
    assert (row["token_status"], row["token_error"], row["token_alerted_at"]) == ("ok", None, NOW)
    assert [(one["event"], one["reason"]) for one in rows.audit()] == [
        ("refreshed", None),
        ("recovered", "reconnect_required"),
    ]


def test_a_change_may_have_several_audit_rows_or_none(rows, database, claimed):
    two = (AuditEntry(Event.REFRESHED, "one"), AuditEntry(Event.RECOVERED, "two", "unavailable"))
    database.writer.write([renewal_of(claimed[0], audit=()), renewal_of(claimed[1], audit=two)])
    assert [(entry["channel_id"], entry["event"]) for entry in rows.audit()] == [
        (str(claimed[1].id), "refreshed"),
        (str(claimed[1].id), "recovered"),
    ]


def test_many_changes_are_written_in_one_transaction(rows, database, claimed):
    commits = []
    sa.event.listen(database._connection._engine, "commit", commits.append)
    written = database.writer.write([renewal_of(channel, f"renewed {channel.id}") for channel in claimed])
    assert (len(commits), written, [rows.get(c.id)["wa_token_encrypted"] for c in claimed]) == (
        1,
        [(WriteResult.WRITTEN, "")] * 3,
        [f"renewed {channel.id}" for channel in claimed],
    )


def test_writing_nothing_is_nothing(database):
    assert database.writer.write([]) == []


def test_a_channel_that_was_not_claimed_can_be_written_too(rows, database, due_ids):
    (channel,) = database.queries.due(look(ids=tuple(due_ids[:1])))
    assert (database.writer.write([renewal_of(channel)]), rows.get(due_ids[0])["wa_token_encrypted"]) == (
        [(WriteResult.WRITTEN, "")],
        "renewed",
    )


@CHANGES
def test_a_token_that_was_stored_meanwhile_stays(rows, database, claimed, change_of):
    rows.update(claimed[1].id, wa_token_encrypted="theirs")
    before = rows.get(claimed[1].id)
    written = database.writer.write([change_of(channel) for channel in claimed])
    assert (written, rows.get(claimed[1].id), rows.audit(claimed[1].id)) == (
        [(WriteResult.WRITTEN, ""), (WriteResult.REPLACED, ANOTHER), (WriteResult.WRITTEN, "")],
        before | {"token_lease_until": None},
        [],
    )


@CHANGES
@pytest.mark.parametrize("theirs", [None, ""])
def test_a_token_that_was_taken_away_meanwhile_does_not_come_back(rows, database, claimed, change_of, theirs):
    rows.update(claimed[0].id, wa_token_encrypted=theirs)
    written = database.writer.write([change_of(claimed[0])])
    assert (written, rows.get(claimed[0].id)["wa_token_encrypted"]) == (
        [(WriteResult.REPLACED, REMOVED)],
        theirs,
    )


@CHANGES
def test_a_channel_that_was_deleted_meanwhile_stays_away(rows, database, claimed, change_of):
    rows.run('DELETE FROM "Channel"')
    written = database.writer.write([change_of(channel) for channel in claimed])
    assert (written, rows.audit()) == ([(WriteResult.REPLACED, "the channel was deleted meanwhile")] * 3, [])


def test_a_replaced_channel_that_was_not_claimed_by_us_stays_claimed(rows, open_database, due_ids):
    one, other = open_database(), open_database()
    (channel,) = one.queries.due(look(ids=tuple(due_ids[:1])))
    other.claims.claim(look(), due_ids)
    rows.update(channel.id, wa_token_encrypted="theirs")
    held = leases(rows, due_ids)
    written = one.writer.write([renewal_of(channel)])
    assert (written, leases(rows, due_ids)) == ([(WriteResult.REPLACED, ANOTHER)], held)


@CHANGES
@pytest.mark.parametrize("replaced", [True, False])
def test_the_claim_of_a_run_that_was_quicker_is_left_to_it(rows, overtaken, due_ids, change_of, replaced):
    slow, _ = overtaken
    (channel,) = slow.queries.due(look(ids=tuple(due_ids[:1])))
    if replaced:
        rows.update(channel.id, wa_token_encrypted="theirs")
    theirs = leases(rows, due_ids)[0]
    slow.writer.write([change_of(channel)])
    assert leases(rows, due_ids)[0] == theirs


def test_after_a_write_the_channel_is_no_longer_held(database, claimed, due_ids):
    database.writer.write([renewal_of(claimed[0]), renewal_of(claimed[1])])
    assert list(database.claims._leases) == [claimed[2].id]


@CHANGES
def test_a_channel_whose_id_was_changed_meanwhile_is_said_so(rows, database, claimed, change_of):
    rows.update(claimed[0].id, id=999, wa_token_encrypted="its own")
    change = change_of(replace(claimed[0], ciphertext="its own"))
    assert database.writer.write([change]) == [(WriteResult.REPLACED, "the channel has another id now: 999")]


@only_postgresql
@pytest.mark.parametrize("patient", [True, False])
def test_a_row_that_is_locked_does_not_keep_the_others_from_being_written(rows, database, claimed, patient):
    with rows.connect() as application:
        application.exec_driver_sql(f"UPDATE \"Channel\" SET name = 'x' WHERE id = {claimed[1].id}")
        written = database.writer.write([renewal_of(channel) for channel in claimed], patient=patient)
    found = [result for result, _ in written]
    assert found == [WriteResult.WRITTEN, WriteResult.LOCKED, WriteResult.WRITTEN]
    assert list(database.claims._leases) == [claimed[1].id]
    assert database.writer.write([renewal_of(claimed[1])]) == [(WriteResult.WRITTEN, "")]


@only_postgresql
def test_a_row_that_is_locked_for_a_moment_is_waited_for_if_that_is_asked(rows, database, claimed):
    with rows.connect() as application:
        application.exec_driver_sql(f"UPDATE \"Channel\" SET name = 'x' WHERE id = {claimed[0].id}")
        timer = threading.Timer(0.3, application.commit)
        timer.start()
        written = database.writer.write([renewal_of(claimed[0])], patient=True)
        timer.join()
    assert written == [(WriteResult.WRITTEN, "")]


# Writes that the database refuses


@CHANGES
def test_an_audit_row_that_is_refused_takes_its_change_with_it(rows, database, claimed, change_of):
    forbid(rows, "INSERT ON token_audit_log", "1 = 1")
    before = rows.get(claimed[0].id)
    written = database.writer.write([change_of(claimed[0])])
    assert (written, rows.get(claimed[0].id), rows.audit()) == (
        [(WriteResult.REFUSED, "the database refused: not this")],
        before | {"token_lease_until": None},
        [],
    )


def test_one_row_that_is_refused_does_not_take_the_others_with_it(rows, database, claimed):
    forbid(rows, 'UPDATE ON "Channel"', "NEW.wa_token_encrypted = 'bad'")
    texts = ["good", "bad", "good"]
    written = database.writer.write([renewal_of(*each) for each in zip(claimed, texts, strict=True)])
    assert (written, [rows.get(channel.id)["wa_token_encrypted"] for channel in claimed]) == (
        [
            (WriteResult.WRITTEN, ""),
            (WriteResult.REFUSED, "the database refused: not this"),
            (WriteResult.WRITTEN, ""),
        ],
        ["good", "stored", "good"],
    )


def test_a_row_that_was_refused_is_given_back_and_has_no_audit_row(rows, database, claimed):
    forbid(rows, 'UPDATE ON "Channel"', "NEW.wa_token_encrypted = 'bad'")
    database.writer.write([renewal_of(channel, "bad") for channel in claimed])
    assert (leases(rows, ids_of(claimed)), rows.audit()) == ([None] * 3, [])


def test_a_row_that_cannot_even_be_given_back_is_named_in_the_log(rows, database, claimed, caplog):
    forbid(rows, 'UPDATE ON "Channel"', f"NEW.id = {claimed[0].id}")
    written = database.writer.write([renewal_of(channel) for channel in claimed[:2]])
    expected = f"channel {claimed[0].id} stays claimed until its lease ends: the database refused: not this"
    assert ([result for result, _ in written], caplog.messages) == (
        [WriteResult.REFUSED, WriteResult.WRITTEN],
        [expected],
    )


def test_a_value_that_the_database_cannot_hold_is_refused_alone(rows, database, claimed):
    if rows.is_sqlite:  # holds anything
        forbid(rows, 'UPDATE ON "Channel"', "NEW.wa_token_encrypted = char(0)")
    written = database.writer.write([renewal_of(claimed[0], "\0"), renewal_of(claimed[1])])
    assert [result for result, _ in written] == [WriteResult.REFUSED, WriteResult.WRITTEN]


def ignore(rows, change, column=None):
    """Let a trigger ignore a change, or (`column`, in PostgreSQL) set a column of what is written to null."""
    if rows.is_sqlite:
        rows.run(f"CREATE TRIGGER t BEFORE {change} BEGIN SELECT RAISE(IGNORE); END")
        return
    body = f"NEW.{column} := NULL; RETURN NEW;" if column else "RETURN NULL;"
    rows.run(f"CREATE FUNCTION ignore() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
    rows.run(f"CREATE TRIGGER t BEFORE {change} FOR EACH ROW EXECUTE FUNCTION ignore()")


@only_postgresql
@pytest.mark.parametrize("column", ["token_expires_at", "last_token_refresh_at", "token_fingerprint"])
def test_a_column_that_a_trigger_drops_is_a_write_that_failed(rows, database, claimed, column):
    ignore(rows, 'UPDATE ON "Channel"', column)
    before = rows.get(claimed[0].id)
    written = database.writer.write([renewal_of(claimed[0])])
    assert written == [(WriteResult.REFUSED, f"a trigger of the database changes what is written: {column}")]
    assert rows.get(claimed[0].id)["wa_token_encrypted"] == before["wa_token_encrypted"]
    assert rows.audit() == []


def test_an_audit_row_that_a_trigger_drops_is_a_write_that_failed(rows, database, claimed):
    ignore(rows, "INSERT ON token_audit_log")
    before = rows.get(claimed[0].id)
    written = database.writer.write([renewal_of(claimed[0])])
    assert written == [(WriteResult.REFUSED, "the database does not keep the audit row")]
    assert rows.get(claimed[0].id) == before | {"token_lease_until": None}


@only_postgresql
def test_an_error_is_cut_to_what_its_column_holds(rows, open_database, due_ids):
    retype(rows, "token_error", "varchar(20)")
    database = open_database()
    (channel,) = database.claims.claim(look(), due_ids[:1])
    assert database.writer.write([warning_of(channel)]) == [(WriteResult.WRITTEN, "")]
    assert rows.get(due_ids[0])["token_error"] == "reconnect_required:…"


@only_postgresql
def test_columns_that_pad_with_spaces_change_nothing(rows, open_database, due_ids):
    retype(rows, "wa_token_encrypted", "char(40)")
    for name in ("token_status", "token_error", "token_fingerprint", "name"):
        retype(rows, name, "char(90)")
    database = open_database()
    channels = database.claims.claim(look(), due_ids)
    assert [(one.ciphertext, one.status, one.replaced) for one in channels] == [("stored", "ok", False)] * 3
    written = database.writer.write([renewal_of(channels[0]), warning_of(channels[1])])
    assert written == [(WriteResult.WRITTEN, "")] * 2
    assert not database.queries.get(channels[0].id).replaced
    waiting = PendingUpdate(
        channels[2], NOW, "stored", Status.WARNING, expires_at=NOW - DAY, refreshed_at=NOW, error=DEAD
    )
    database.writer.write([waiting])
    assert ids_of(database.queries.waiting(look())) == [channels[2].id]


# Writes whose answer is lost


@pytest.fixture
def cut(database, monkeypatch):
    """Lets the connection break at the next commit, before the database has done it or afterwards."""

    def cut(*, after, times=1):
        dialect = database._connection._engine.dialect
        commit, left = dialect.do_commit, [times]

        def broken(dbapi_connection):
            if after or not left[0]:
                commit(dbapi_connection)
            if left[0]:
                left[0] -= 1
                if isinstance(dbapi_connection.dbapi_connection, sqlite3.Connection):
                    error = sqlite3.OperationalError("disk I/O error")
                    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
                    raise error
                raise psycopg2.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(dialect, "do_commit", broken)

    return cut


@CHANGES
@pytest.mark.parametrize("after", [True, False], ids=["done", "undone"])
def test_a_write_whose_answer_was_lost_is_written_once(rows, database, claimed, cut, change_of, after):
    cut(after=after)
    changes = [change_of(channel) for channel in claimed]
    written = database.writer.write(changes)
    assert (
        written,
        [rows.get(channel.id)["token_fingerprint"] for channel in claimed],
        [rows.get(channel.id)["token_status"] for channel in claimed],
        [len(rows.audit(channel.id)) for channel in claimed],
        leases(rows, ids_of(claimed)),
    ) == (
        [(WriteResult.WRITTEN, "")] * 3,
        [fingerprint(change.ciphertext) for change in changes],
        [change.status for change in changes],
        [1] * 3,
        [None] * 3,
    )


@CHANGES
def test_a_write_whose_answer_was_lost_twice_is_written_once(rows, database, claimed, cut, change_of):
    cut(after=True, times=2)
    written = database.writer.write([change_of(claimed[0])])
    assert (written, len(rows.audit())) == ([(WriteResult.WRITTEN, "")], 1)


@pytest.mark.parametrize("after", [True, False], ids=["done", "undone"])
def test_an_extension_whose_answer_was_lost_is_known_all_the_same(rows, database, claimed, cut, after):
    database.claims._duration = timedelta(minutes=9)
    cut(after=after)
    database.claims.extend()
    database.claims.release_all()
    assert leases(rows, ids_of(claimed)) == [None] * 3


def test_an_extension_whose_answer_was_lost_takes_nothing_from_a_run_that_came_after(
    rows, overtaken, due_ids, monkeypatch
):
    slow, _ = overtaken
    theirs = leases(rows, due_ids)[0]
    run = slow._connection.run
    monkeypatch.setattr(
        slow._connection, "run", lambda work, **how: run(lambda c, attempt: work(c, attempt + 1), **how)
    )
    slow.claims._duration = timedelta(hours=2)
    slow.claims.extend()
    assert leases(rows, due_ids)[0] == theirs


def test_a_mark_that_changes_nothing_but_a_date_is_not_mistaken_for_done(rows, database, claimed, cut):
    rows.update(claimed[0].id, token_status="ok")
    cut(after=False)
    later = warning_of(claimed[0], status=Status.OK, error=None, expires_at=NOW + 50 * DAY)
    written = database.writer.write([later])
    assert (written, rows.get(claimed[0].id)["token_expires_at"], len(rows.audit())) == (
        [(WriteResult.WRITTEN, "")],
        NOW + 50 * DAY,
        1,
    )


def test_an_application_that_stores_a_token_before_the_second_try_wins(
    rows, database, claimed, cut, monkeypatch
):
    cut(after=False)

    def meanwhile(*_):
        rows.update(claimed[0].id, wa_token_encrypted="theirs")

    monkeypatch.setattr(Deadline, "sleep", meanwhile)
    written = database.writer.write([renewal_of(claimed[0])])
    assert (written, rows.get(claimed[0].id)["wa_token_encrypted"]) == (
        [(WriteResult.REPLACED, ANOTHER)],
        "theirs",
    )


@CHANGES
def test_a_write_that_never_gets_an_answer_is_a_lost_database(rows, database, claimed, cut, change_of):
    cut(after=False, times=10**6)
    with pytest.raises(DatabaseLost):
        database.writer.write([change_of(claimed[0])])
    assert (rows.get(claimed[0].id)["wa_token_encrypted"], rows.audit()) == ("stored", [])


def test_a_claim_whose_answer_was_lost_belongs_to_no_run_until_it_ends(database, due_ids, cut):
    cut(after=True)
    assert (
        database.claims.claim(look(), due_ids),
        sorted(ids_of(database.claims.claimed_elsewhere(due_ids))),
    ) == (
        [],
        due_ids,
    )


def test_a_caller_that_writes_a_renewal_again_does_not_take_its_own_for_another_s(rows, database, claimed):
    change = renewal_of(claimed[0])
    assert (database.writer.write([change]), database.writer.write([change]), len(rows.audit())) == (
        [(WriteResult.WRITTEN, "")],
        [(WriteResult.WRITTEN, "")],
        1,
    )


@only_postgresql
def test_a_server_that_was_restarted_between_two_writes_is_no_matter(rows, database, claimed):
    rows.run("""SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()""")
    assert database.writer.write([renewal_of(claimed[0])]) == [(WriteResult.WRITTEN, "")]


# Whom to tell of


@pytest.mark.parametrize(
    ("changes", "told_of"),
    [
        ({}, True),
        ({"token_status": "ok"}, False),
        ({"token_status": None}, False),
        ({"type": "email"}, False),
        ({"wa_token_encrypted": None}, False),
        ({"token_expires_at": None}, True),
        # told already
        ({"token_alerted_at": NOW - 9 * DAY, "token_expires_at": NOW + 7 * DAY}, True),
        ({"token_alerted_at": NOW - 9 * DAY, "token_expires_at": NOW + 7 * DAY + INSTANT}, False),
        ({"token_alerted_at": NOW - 9 * DAY, "token_expires_at": None}, False),
        ({"token_alerted_at": NOW - 9 * DAY, "token_expires_at": NOW - 8 * DAY}, True),
        ({"token_alerted_at": NOW - 9 * DAY, "token_expires_at": NOW - 9 * DAY}, False),
        ({"token_alerted_at": NOW, "token_expires_at": NOW - DAY}, False),
    ],
)
def test_people_are_told_of_warnings_that_are_new_or_come_near_their_end(rows, database, changes, told_of):
    rows.insert(**WELL | {"token_status": "warning"} | changes)
    assert len(list(database.queries.to_tell_of(NOW + 7 * DAY))) == told_of


def test_the_most_urgent_are_told_of_first(rows, database):
    ids = [rows.insert(**WELL | {"token_status": "warning", "token_expires_at": end}) for end in ENDS[:5]]
    assert ids_of(database.queries.to_tell_of(NOW)) == [ids[n] for n in (0, 2, 3, 1, 4)]


def test_those_to_be_told_of_come_a_page_at_a_time(rows, database, page_size):
    page_size(2)
    ids = [rows.insert(**WELL | {"token_status": "warning", "token_expires_at": end}) for end in ENDS[:5]]
    assert ids_of(first(database.queries.to_tell_of(NOW))) == [ids[n] for n in (0, 2, 3, 1, 4)]


def test_pages_end_with_the_first_that_is_not_full(rows, database, page_size):
    page_size(2)
    ids = [rows.insert(**WELL) for _ in range(5)]
    asked = []
    engine = database._connection._engine
    sa.event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    assert ids_of(database.queries.candidates()) == ids
    assert len([sql for sql in asked if sql.startswith("SELECT")]) == 3


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
    one.claims.claim(look(everything=True), warned[:1])
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


# Others


def test_a_lease_that_no_run_can_have_taken_is_named(rows, database, due_ids, caplog):
    rows.update(due_ids[0], token_lease_until=datetime(2999, 1, 1, tzinfo=UTC))
    rows.update(due_ids[1], token_lease_until=datetime.now(UTC) + timedelta(hours=23))
    assert sorted(ids_of(database.claims.claimed_elsewhere(due_ids))) == sorted(due_ids[:2])
    named = f"channel {due_ids[0]} is claimed for longer than any run claims it"
    assert [record.getMessage() for record in caplog.records] == [
        f"{named}: set its token_lease_until to null"
    ]


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (look(), [1, 2]),
        (look(ids=()), [0, 1, 2]),
        (look(everything=True), []),
    ],
)
def test_others_are_the_candidates_that_are_not_due(rows, database, about, expected):
    ids = [rows.insert(**WELL | changes) for changes in (ENDS_SOON, WAITS, {}, {"type": "email"})]
    assert sorted(ids_of(database.queries.others(about, 10))) == [ids[n] for n in expected]


@pytest.mark.parametrize("everything", [True, False])
def test_others_are_looked_for_beyond_the_ids_that_a_run_is_about(rows, database, everything):
    ids = [rows.insert(**WELL | ENDS_SOON) for _ in range(3)]
    about = look(ids=(ids[1],), everything=everything)
    assert sorted(ids_of(database.queries.others(about, 10))) == [ids[0], ids[2]]


def test_no_more_others_than_wanted_come(rows, database):
    for _ in range(5):
        rows.insert(**WELL)
    assert len(database.queries.others(look(), 3)) == 3


# A column that says when a row was changed last


@pytest.mark.parametrize(
    "step", ["claim", "extend", "release", "write", "replaced", "claim_to_alert", "mark"]
)
@pytest.mark.parametrize(
    ("database_url", "kind"),
    [("sqlite", "TEXT"), *(("postgresql", kind) for kind in ("timestamptz", "timestamp", "timestamp(3)"))],
    indirect=["database_url"],
)
def test_every_write_says_when_it_was_in_every_kind_of_column(rows, open_database, kind, step):
    rows.run(f'ALTER TABLE "Channel" ADD updated_at {kind}')
    if not rows.is_sqlite:
        set_zone(rows, "America/New_York")
    id_ = rows.insert(**WELL | WAITS | {"token_expires_at": NOW + DAY})
    database = open_database(columns={"updated_at": "updated_at"})
    (channel,) = database.queries.due(look())
    if step in {"extend", "release", "write", "replaced", "mark"}:
        database.claims.claim(look(), [id_])
    if step == "replaced":
        rows.update(id_, wa_token_encrypted="theirs")
    rows.update(id_, updated_at=None)
    before = rows.clock()
    {
        "claim": lambda: database.claims.claim(look(), [id_]),
        "extend": database.claims.extend,
        "release": database.claims.release_all,
        "write": lambda: database.writer.write([renewal_of(channel)]),
        "replaced": lambda: database.writer.write([renewal_of(channel)]),
        "claim_to_alert": lambda: database.claims.claim_to_alert([id_]),
        "mark": lambda: database.claims.mark_alerted([id_], NOW),
    }[step]()
    after = rows.clock()
    assert before <= rows.get(id_)["updated_at"] <= after


# The index


def plan(database, ask):
    """How the database goes about the statement that `ask` leads to."""
    seen = []
    engine = database._connection._engine
    sa.event.listen(engine, "before_cursor_execute", lambda *call: seen.append(call[2:4]))
    ask()
    statement, values = seen[-1]
    explain = "EXPLAIN QUERY PLAN " if database._connection.is_sqlite else "EXPLAIN "
    found = database._connection.run(lambda c, _: c.exec_driver_sql(explain + statement, values).all())
    return "\n".join(str(row[-1]) for row in found)


@pytest.fixture
def twenty_thousand(rows):
    """A table of which one channel in a hundred is due."""
    numbers = (
        "WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 20000)"
        if rows.is_sqlite
        else "WITH g(n) AS (SELECT generate_series(1, 20000))"
    )
    rows.run(
        f"""INSERT INTO "Channel" (name, wa_token_encrypted, token_expires_at, token_fingerprint)
            {numbers} SELECT 'n', 'stored', CASE WHEN n % 100 = 0 THEN :soon ELSE :late END, :mark FROM g""",
        soon=rows._out(NOW + DAY),
        late=rows._out(NOW + 40 * DAY),
        mark=fingerprint("stored"),
    )
    rows.run("ANALYZE")


@pytest.mark.parametrize("pages", [1, 2, 5])
def test_the_most_urgent_are_found_by_the_index(database, twenty_thousand, page_size, pages):
    page_size(20)
    due_ids = database.queries.due_ids(look())
    assert "ix_Channel_token_due" in plan(database, lambda: first(due_ids, 20 * (pages - 1) + 1))


# Opening


def test_a_table_that_is_not_as_needed_leaves_no_connection_behind(rows, open_database, monkeypatch):
    rows.run('ALTER TABLE "Channel" DROP COLUMN token_error')
    closed, close = [], connection_module.Connection.close
    monkeypatch.setattr(
        connection_module.Connection, "close", lambda self: closed.append(self) or close(self)
    )
    with pytest.raises(BadSchema, match="lacks token_error"):
        open_database()
    assert len(closed) == 1


@only_postgresql
def test_the_schema_of_the_url_is_where_the_tables_are(rows, database_url):
    rows.run("CREATE SCHEMA shop")
    for table in ('"Channel"', "token_audit_log"):
        rows.run(f"ALTER TABLE {table} SET SCHEMA shop")
    rows.run("""INSERT INTO shop."Channel" (wa_token_encrypted) VALUES ('stored')""")
    url = f"{database_url}{'&' if '?' in database_url else '?'}schema=shop"
    with closing(Database(parse_url(url), TableMap(), lease=DAY)) as database:
        (channel,) = database.claims.claim(look(), ids_of(database.queries.due_ids(look())))
        assert database.writer.write([renewal_of(channel)]) == [(WriteResult.WRITTEN, "")]
