"""What a run asks of the database, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice

import pytest
import sqlalchemy as sa
from channels import (
    COLUMNS,
    DAY,
    EXPIRES_SOON,
    INSTANT,
    NOW,
    TIMES,
    WAITS,
    WELL,
    ids_of,
    renewal_of,
    retype,
    select,
    set_zone,
    text_ids,
)
from conftest import only_postgresql, only_sqlite

from models import Channel, fingerprint
from whatsapp_tokens.database import pages as pages_module
from whatsapp_tokens.database.queries import Counts
from whatsapp_tokens.database.writes import WriteResult
from whatsapp_tokens.results import DueReason

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
    assert database.queries.count(select()).candidates == is_candidate


def test_another_type_may_be_looked_for(rows, open_database):
    rows.insert(**WELL, type="wa_cloud")
    assert open_database(type="wa_cloud").queries.count(select()).candidates == 1


@pytest.mark.parametrize(("active", "is_candidate"), [(True, True), (None, True), (False, False)])
def test_an_inactive_channel_is_no_candidate_if_the_column_is_mapped(
    rows, open_database, active, is_candidate
):
    rows.run('ALTER TABLE "Channel" ADD is_active BOOLEAN')
    rows.insert(**WELL, is_active=active)
    counts = [
        open_database(columns=columns).queries.count(select()) for columns in ({"active": "is_active"}, {})
    ]
    assert [count.candidates for count in counts] == [is_candidate, 1]


@only_postgresql
def test_the_type_may_be_an_enum(rows, open_database):
    rows.run("CREATE TYPE provider AS ENUM ('email', 'whatsapp')")
    rows.recreate(
        COLUMNS.format(id="TEXT").replace("type TEXT", "type provider")
        + "".join(f", {name} timestamptz" for name in TIMES)
    )
    rows.insert(id="a", **WELL | EXPIRES_SOON)
    assert ids_of(open_database().claims.claim(select(), ["a"])) == ["a"]


# Due, waiting, or neither


def statements(database, ask):
    """The queries that `ask` leads to, each with its values."""
    seen = []
    engine = database._connection._engine

    def note(*call):
        seen.append(call[2:4])

    sa.event.listen(engine, "before_cursor_execute", note)
    ask()
    sa.event.remove(engine, "before_cursor_execute", note)
    return [one for one in seen if one[0].startswith("SELECT")]


def standing(database, about):
    """What the database calls its one channel; all the ways to ask must agree."""
    due, waiting = ids_of(database.queries.due(about)), ids_of(database.queries.waiting(about))
    counts = database.queries.count(about)
    assert (
        ids_of(database.queries.due_ids(about, counts)),
        counts.candidates,
        counts.due,
        counts.waiting,
    ) == (
        due,
        1,
        len(due),
        len(waiting),
    )
    return {(1, 0): "due", (0, 1): "waiting", (0, 0): "neither"}[len(due), len(waiting)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "neither"),
        ({"token_fingerprint": None}, "neither"),
        # its expiry
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
    assert standing(database, select()) == expected


@pytest.mark.parametrize("changes", [{}, EXPIRES_SOON, WAITS, {"token_status": "never_expires"}])
def test_everything_is_due_if_it_was_asked_for(rows, database, changes):
    rows.insert(**WELL | changes)
    assert standing(database, select(everything=True)) == "due"


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
    assert standing(database, select()) == expected


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
    assert standing(open_database(), select()) == expected


def test_a_look_may_be_at_some_ids_only(rows, database):
    ids = [rows.insert(**WELL | changes) for changes in (EXPIRES_SOON, EXPIRES_SOON, WAITS, WAITS, {}, {})]
    about = select(ids=(*ids[1::2], 999))
    assert (
        ids_of(database.queries.due(about)),
        ids_of(database.queries.waiting(about)),
        database.queries.count(about),
    ) == (
        [ids[1]],
        [ids[3]],
        Counts(3, 1, 1, news=1),
    )


def test_a_selection_of_no_ids_is_empty(rows, database):
    rows.insert(**WELL | EXPIRES_SOON)
    due = list(database.queries.due(select(ids=())))
    assert (due, database.queries.count(select(ids=()))) == ([], Counts(0, 0, 0))


def test_an_empty_table_has_nothing(database):
    assert (
        list(database.queries.due(select())),
        list(database.queries.waiting(select())),
        database.queries.count(select()),
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
    assert list(database.queries.due(select())) == [Channel(*row, due_reason=DueReason.REPLACED)]


def test_a_table_without_names_shows_ids(rows, open_database):
    rows.run('ALTER TABLE "Channel" DROP COLUMN name')
    id_ = rows.insert(**WELL | EXPIRES_SOON)
    database = open_database()
    assert [
        channel.name for channel in [*database.queries.due(select()), *database.claims.claim(select(), [id_])]
    ] == [str(id_)] * 2


# The order of urgency, and pages


@pytest.fixture
def page_size(monkeypatch):
    """Sets how many rows a page holds."""
    return lambda size: monkeypatch.setattr(pages_module, "PAGE_SIZE", size)


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
    assert ids_of(first(getattr(database.queries, pages)(select()))) == expected


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("pages", ["due", "due_ids"])
def test_pages_work_with_ids_that_are_texts(rows, open_database, page_size, pages, limit):
    page_size(limit)
    text_ids(rows)
    ids = {f"c{n * 7 % 11:02}": end for n, end in enumerate(ENDS)}
    for id_, end in ids.items():
        rows.insert(id=id_, **WELL | {"token_expires_at": end})
    expected = sorted(ids, key=lambda id_: (ids[id_] is not None, ids[id_] or NOW, id_))
    assert ids_of(first(getattr(open_database().queries, pages)(select()))) == expected


@only_sqlite
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_end_although_dates_are_odd(rows, database, page_size, limit):
    page_size(limit)
    odd = ["soon", None, "", "2026-06-15 12:00:00", "2026-06-15T12:00:00Z", NOW, 1781524800000, "2026-06-15"]
    ids = [rows.insert(**WELL | {"token_expires_at": end}) for end in odd]
    expected = [ids[n] for n in (0, 1, 2, 6, 7, 3, 4, 5)]
    assert first(database.queries.due_ids(select())) == expected


@only_postgresql
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_end_although_dates_are_infinite(rows, open_database, page_size, kind, limit):
    page_size(limit)
    retype(rows, "token_expires_at", kind)
    odd = ["infinity", NOW, "-infinity", None, "infinity", "-infinity"]
    ids = [rows.insert(**WELL | {"token_expires_at": end}) for end in odd]
    expected = [ids[n] for n in (3, 2, 5, 1, 0, 4)]
    assert first(open_database().queries.due_ids(select(everything=True))) == expected


@only_postgresql
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_end_although_many_dates_are_at_either_end_of_the_calendar(rows, database, page_size, limit):
    page_size(limit)
    first_days, last_days = ["0001-01-01"] * 4 + ["-infinity"] * 3, ["9999-12-31"] * 4 + ["infinity"] * 3
    for end in (*last_days, *first_days, "4713-01-01 BC", "294276-12-31"):
        rows.insert(**WELL | {"token_expires_at": end})
    everything = select(everything=True)
    found = [first(query(everything)) for query in (database.queries.due, database.queries.due_ids)]
    assert [sorted(ids_of(rows)) for rows in found] == [list(range(1, 17))] * 2


@only_postgresql
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_one_year_that_is_out_of_range_stops_no_other_row(rows, database, page_size, limit):
    page_size(limit)
    ids = [rows.insert(**WELL | {"token_expires_at": end}) for end in ("58421-01-01", NOW, NOW - DAY)]
    found = first(database.queries.due(select(everything=True)))
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
    rows.insert(id=UUID, **WELL | EXPIRES_SOON)
    database = open_database()
    places = database.queries.due_ids(select())
    claimed = database.claims.claim(select(), ids_of(places))
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
def test_people_are_told_of_warnings_that_are_new_or_come_near_their_expiry(rows, database, changes, told_of):
    rows.insert(**WELL | {"token_status": "warning"} | changes)
    assert len(list(database.queries.to_tell_of(NOW + 7 * DAY))) == told_of


def test_the_places_of_what_is_due_are_not_looked_for_beyond_what_was_counted(rows, database, page_size):
    page_size(5)
    for _ in range(5):
        rows.insert(**WELL | EXPIRES_SOON)
    known = rows.insert(**WELL | EXPIRES_SOON | {"token_status": "warning", "token_alerted_at": NOW})
    counts = database.queries.count(select())
    sent = statements(database, lambda: list(database.queries.due_ids(select(), counts)))
    assert (counts.due, counts.known, len(sent)) == (6, 1, 2)  # a page of 5, and one of 1
    rows.run('DELETE FROM "Channel" WHERE id <> :id', id=known)
    counts = database.queries.count(select())
    assert len(statements(database, lambda: list(database.queries.due_ids(select(), counts)))) == 1


def test_a_channel_that_becomes_due_between_two_pages_does_not_hide_the_last_one(rows, database, page_size):
    page_size(2)
    ids = [rows.insert(**WELL | {"token_expires_at": NOW + n * DAY}) for n in range(1, 5)]
    found = database.queries.due_ids(select(), database.queries.count(select()))
    taken = [next(found), next(found)]
    reconnected = rows.insert(**WELL | {"token_expires_at": NOW + 3 * DAY, "token_fingerprint": "of another"})
    assert [*taken, *found] == [*ids[:3], reconnected, ids[3]]


def test_what_was_met_already_does_not_count_as_found(rows, database):
    ids = [rows.insert(**WELL | EXPIRES_SOON) for _ in range(3)]
    found = database.queries.due_ids(select(), Counts(3, 2, 0), but={ids[0]})
    assert list(found) == ids[1:]


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
    found = []
    sent = statements(database, lambda: found.extend(ids_of(database.queries.candidates())))
    assert (found, len(sent)) == (ids, 3)


# Others


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (select(), [1, 2]),
        (select(ids=()), [0, 1, 2]),
        (select(everything=True), []),
    ],
)
def test_others_are_the_candidates_that_are_not_due(rows, database, about, expected):
    ids = [rows.insert(**WELL | changes) for changes in (EXPIRES_SOON, WAITS, {}, {"type": "email"})]
    assert sorted(ids_of(database.queries.others(about, 10))) == [ids[n] for n in expected]


@pytest.mark.parametrize("everything", [True, False])
def test_others_are_looked_for_beyond_the_ids_that_a_run_is_about(rows, database, everything):
    ids = [rows.insert(**WELL | EXPIRES_SOON) for _ in range(3)]
    about = select(ids=(ids[1],), everything=everything)
    assert sorted(ids_of(database.queries.others(about, 10))) == [ids[0], ids[2]]


def test_no_more_others_than_wanted_come(rows, database):
    for _ in range(5):
        rows.insert(**WELL)
    assert len(database.queries.others(select(), 3)) == 3


# The index


def plan(database, ask):
    """How the database goes about the last statement that `ask` leads to."""
    statement, values = statements(database, ask)[-1]
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
    due_ids = database.queries.due_ids(select())
    assert "ix_Channel_token_due" in plan(database, lambda: first(due_ids, 20 * (pages - 1) + 1))


@only_postgresql
@pytest.mark.parametrize(
    "ask",
    [
        lambda queries: first(queries.to_tell_of(NOW + 7 * DAY)),
        lambda queries: queries.to_remind_of(NOW),
        lambda queries: first(queries.needing_attention(NOW, NOW + 15 * DAY)),
    ],
)
def test_what_is_rare_is_found_by_its_own_index(database, twenty_thousand, ask):
    assert "ix_Channel_token_news" in plan(database, lambda: ask(database.queries))


def test_lines_that_need_no_attention_are_found_by_the_index(database, twenty_thousand):
    some = database.queries.not_needing_attention(NOW, NOW + 15 * DAY, 10)
    assert "ix_Channel_token_due" in plan(database, lambda: list(some))
