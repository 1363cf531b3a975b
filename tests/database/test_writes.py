"""What a run writes, beside an application that writes as well."""

from __future__ import annotations

import sqlite3
import threading
from dataclasses import replace
from datetime import timedelta

import psycopg2
import pytest
import sqlalchemy as sa
from channels import (
    DAY,
    DEAD,
    NOW,
    WAITS,
    WELL,
    ids_of,
    leases,
    renewal_of,
    retype,
    select,
    set_zone,
    warning_of,
)
from conftest import only_postgresql

from models import AuditEntry, Event, PendingUpdate, Status, fingerprint
from whatsapp_tokens.database import connection as connection_module
from whatsapp_tokens.database.deadlines import Deadline
from whatsapp_tokens.database.errors import DatabaseLost
from whatsapp_tokens.database.writes import WriteResult


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(connection_module, "FIRST_WAIT_SECONDS", 0)
    monkeypatch.setattr(connection_module, "RETRY_SECONDS", 2)


# Writing


ANOTHER = "another token was stored meanwhile"
REMOVED = "the token was removed meanwhile"
TAKEN = "the claim ran out, and another run has taken it over"
CHANGES = pytest.mark.parametrize("change_of", [renewal_of, warning_of], ids=["a token", "a state"])


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
    (channel,) = database.claims.claim(select(), due_ids[:1])
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
    (channel,) = database.queries.due(select(ids=tuple(due_ids[:1])))
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
    (channel,) = one.queries.due(select(ids=tuple(due_ids[:1])))
    other.claims.claim(select(), due_ids)
    rows.update(channel.id, wa_token_encrypted="theirs")
    held = leases(rows, due_ids)
    written = one.writer.write([renewal_of(channel)])
    assert (written, leases(rows, due_ids)) == ([(WriteResult.REPLACED, ANOTHER)], held)


@CHANGES
@pytest.mark.parametrize("replaced", [True, False])
def test_the_claim_of_a_run_that_was_quicker_is_left_to_it(rows, overtaken, due_ids, change_of, replaced):
    slow, _ = overtaken
    (channel,) = slow.queries.due(select(ids=tuple(due_ids[:1])))
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


# Other runs


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
    (channel,) = database.claims.claim(select(), due_ids[:1])
    assert database.writer.write([warning_of(channel)]) == [(WriteResult.WRITTEN, "")]
    assert rows.get(due_ids[0])["token_error"] == "reconnect_required:…"


@only_postgresql
def test_columns_that_pad_with_spaces_change_nothing(rows, open_database, due_ids):
    retype(rows, "wa_token_encrypted", "char(40)")
    for name in ("token_status", "token_error", "token_fingerprint", "name"):
        retype(rows, name, "char(90)")
    database = open_database()
    channels = database.claims.claim(select(), due_ids)
    assert [(one.ciphertext, one.status, one.replaced) for one in channels] == [("stored", "ok", False)] * 3
    written = database.writer.write([renewal_of(channels[0]), warning_of(channels[1])])
    assert written == [(WriteResult.WRITTEN, "")] * 2
    assert not database.queries.get(channels[0].id).replaced
    waiting = PendingUpdate(
        channels[2], NOW, "stored", Status.WARNING, expires_at=NOW - DAY, refreshed_at=NOW, error=DEAD
    )
    database.writer.write([waiting])
    assert ids_of(database.queries.waiting(select())) == [channels[2].id]


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
        database.claims.claim(select(), due_ids),
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
    (channel,) = database.queries.due(select())
    if step in {"extend", "release", "write", "replaced", "mark"}:
        database.claims.claim(select(), [id_])
    if step == "replaced":
        rows.update(id_, wa_token_encrypted="theirs")
    rows.update(id_, updated_at=None)
    before = rows.clock()
    {
        "claim": lambda: database.claims.claim(select(), [id_]),
        "extend": database.claims.extend,
        "release": database.claims.release_all,
        "write": lambda: database.writer.write([renewal_of(channel)]),
        "replaced": lambda: database.writer.write([renewal_of(channel)]),
        "claim_to_alert": lambda: database.claims.claim_to_alert([id_]),
        "mark": lambda: database.claims.mark_alerted([id_], NOW),
    }[step]()
    after = rows.clock()
    assert before <= rows.get(id_)["updated_at"] <= after
