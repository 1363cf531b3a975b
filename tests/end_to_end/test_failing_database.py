"""A database that fails in the middle of a run, or is kept busy by others: what the command makes of it."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import only_postgresql, only_sqlite
from world import days

from whatsapp_tokens.database import connection, deadlines
from whatsapp_tokens.database.url import parse_url
from whatsapp_tokens.renewal import claimer
from whatsapp_tokens.renewal import run as run_module

LONG = 60  # seconds after which something hangs


def poll(condition):
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


@pytest.fixture
def impatient(monkeypatch):
    """Nothing is tried again or waited for longer than a second or two."""
    monkeypatch.setattr(connection, "FIRST_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(connection, "RETRY_SECONDS", 2)
    monkeypatch.setattr(deadlines, "STATEMENT_SECONDS", 2)
    for module in (claimer, run_module):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 2)


@contextmanager
def after(calls, world, act):
    """While the block runs, call `act` once Meta has been called so many times."""
    done = threading.Event()

    def watch():
        while not done.is_set():
            if world.meta.count() >= calls:
                act()
                return
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def set_read_only(world, value):
    """Let new sessions be read-only or not, and end those that are there, as a failover does."""
    name = world.rows.engine.url.database
    engine = sa.create_engine(world.rows.engine.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as admin:
        admin.exec_driver_sql("SET default_transaction_read_only = off")
        admin.exec_driver_sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')
        admin.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def outcomes(result):
    return {one["outcome"] for one in result.document["channels"]}


def is_lost(result):
    """Whether the run stopped because of the database, and no channel is said to have failed."""
    return (
        result.code,
        result.document["stopped"]["reason"],
        result.document["counts"]["failed"],
        outcomes(result) <= {"renewed"},
    ) == (3, "database_lost", 0, True)


@only_postgresql
def test_a_database_that_takes_no_writes_any_more_is_one_incident_and_no_channel_s(world, impatient):
    ids = [world.channel() for _ in range(12)]
    world.meta.latency = 0.1
    with after(4, world, lambda: set_read_only(world, "on")):
        result = world.json("--workers", "2")
    set_read_only(world, "off")
    assert is_lost(result)
    assert "the database takes no writes: cannot execute" in result.document["stopped"]["detail"]
    assert {world.rows.get(id_)["token_status"] for id_ in ids} == {"ok"}
    assert {entry["event"] for entry in world.rows.audit()} <= {"refreshed"}


@only_postgresql
def test_a_database_that_takes_no_writes_for_a_moment_is_waited_for(world):
    for _ in range(8):
        world.channel()
    world.meta.latency = 0.1

    def fail_over():
        set_read_only(world, "on")
        time.sleep(1.5)
        set_read_only(world, "off")

    with after(4, world, fail_over):
        result = world.json("--workers", "2")
    assert (result.code, result.counts) == (0, {"candidates": 8, "due": 8, "renewed": 8})


@only_sqlite
def test_a_folder_in_which_sqlite_cannot_write_is_no_channel_s_failure(world, impatient):
    ids = [world.channel() for _ in range(3)]
    in_the_way = Path(f"{world.rows.engine.url.database}-journal")  # where SQLite wants to keep its journal
    in_the_way.mkdir()
    result = world.json()
    in_the_way.rmdir()
    assert is_lost(result)
    assert {world.rows.get(id_)["token_status"] for id_ in ids} == {"ok"}


@only_sqlite
def test_a_check_sees_that_the_folder_cannot_be_written(world, monkeypatch):
    folder = str(Path(world.rows.engine.url.database).parent)
    monkeypatch.setattr(os, "access", lambda path, _mode: str(path) != folder)
    result = world.run("--check")
    assert (result.code, f"the role may not write to {folder}; grant it" in result.out) == (2, True)


@only_postgresql
def test_a_table_that_is_published_without_a_replica_identity_is_seen_before_a_token_is_fetched(world):
    world.channel()
    world.rows.run('CREATE PUBLICATION everything FOR TABLE "Channel"')
    assert world.run("--check").code == 0
    world.rows.run('ALTER TABLE "Channel" REPLICA IDENTITY NOTHING')
    for result in (world.run("--check"), world.run()):
        assert (result.code, "published without a replica identity" in result.out + result.err) == (2, True)
    assert world.meta.exchanges == []


# Locks


@contextmanager
def locked(world, mode):
    with world.rows.connect() as application:
        application.exec_driver_sql(f'LOCK TABLE "Channel" IN {mode} MODE')
        yield application


@only_postgresql
@pytest.mark.parametrize(("lives", "code"), [(10, 0), (6, 1)])
def test_a_table_that_stays_locked_fails_no_channel(world, impatient, lives, code):
    ids = [world.channel(token_expires_at=world.now + days(lives)) for _ in range(40)]
    began = time.monotonic()
    with locked(world, "SHARE"):
        result = world.json("--workers", "4")
    assert (result.code, result.counts) == (code, {"candidates": 40, "due": 40, "skipped": 40})
    assert {result.told(id_) for id_ in ids} == {("skipped", "claimed_elsewhere")}
    assert result.entry(ids[0])["detail"] == "a transaction of the application keeps the row locked"
    assert time.monotonic() - began < 15  # and not a second for each row


@only_postgresql
def test_what_stays_locked_and_expires_soon_is_counted_although_little_is_said(world, impatient):
    world.channel(token_expires_at=world.now + days(6), name="Bakery")
    with locked(world, "SHARE"):
        result = world.run("--quiet")
    said = "the application kept channels locked that expire within 7 days: 1"
    assert (result.code, said in result.err) == (1, True)


@only_postgresql
def test_a_table_that_is_locked_for_a_while_is_waited_for(world):
    for _ in range(12):
        world.channel()
    with world.rows.connect() as application:

        def lock():
            application.exec_driver_sql('LOCK TABLE "Channel" IN SHARE MODE')
            time.sleep(3)
            application.commit()

        with after(2, world, lock):
            result = world.json("--workers", "4")
    assert (result.code, result.counts) == (0, {"candidates": 12, "due": 12, "renewed": 12})


# A database that is silent


@only_postgresql
def test_a_table_that_cannot_even_be_read_is_a_lost_database(world, impatient):
    world.channel()
    with locked(world, "ACCESS EXCLUSIVE"):
        result = world.run()
    assert (result.code, "database_lost, the database does not answer" in result.err) == (3, True)


@pytest.fixture
def frozen(world):
    """Stops the server processes that a run talks to, as a machine that hangs does; at the end they go on."""
    stopped = []

    def freeze():
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'whatsapp-token-refresh'"
        with world.rows.connect() as connected:
            stopped.extend(connected.execute(sa.text(query)).scalars())
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)

    yield freeze
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)


@only_postgresql
def test_a_server_that_freezes_is_a_lost_database(world, impatient, frozen):
    for _ in range(6):
        world.channel()
    world.meta.latency = 0.2
    with after(2, world, frozen):
        result = world.json("--workers", "1")
    assert is_lost(result)
    assert "the database does not answer" in result.document["stopped"]["detail"]


@only_postgresql
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_although_the_server_is_frozen(world, frozen, number, code):
    for _ in range(6):
        world.channel()
    world.meta.latency = 0.2
    with after(2, world, frozen):
        process = world.start("--workers", "1")
        poll(lambda: world.meta.count() >= 2)
        time.sleep(1)
        began = time.monotonic()
        process.send_signal(number)
        process.communicate(timeout=LONG)
    assert (process.returncode, time.monotonic() - began < 25) == (code, True)


@contextmanager
def writing(world):
    """Another program that writes to the file and does not come to an end."""
    path = parse_url(world.url).url.database
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def opened_files(process):
    """The files that a process has open: once the database is among them, it is past its settings."""
    links = Path(f"/proc/{process.pid}/fd").iterdir()
    return [str(link.readlink()) for link in links if link.is_symlink()]


@only_sqlite
def test_a_file_that_another_program_keeps_writing_to_is_a_lost_database(world, impatient):
    world.channel()
    with writing(world):
        result = world.run()
    text = result.out + result.err
    assert (result.code, "database_lost, the database cannot be reached (database is locked)" in text) == (
        3,
        True,
    )


@only_sqlite
def test_a_signal_ends_a_run_although_another_program_writes(world):
    world.channel()
    with writing(world):
        process = world.start()
        poll(lambda: world.rows.engine.url.database in opened_files(process))
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.communicate(timeout=LONG)
    assert (process.returncode, time.monotonic() - began < 15) == (143, True)


# A row that changes


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ('DELETE FROM "Channel"', "the channel was deleted meanwhile"),
        ('UPDATE "Channel" SET wa_token_encrypted = NULL', "the token was removed meanwhile"),
        ("UPDATE \"Channel\" SET wa_token_encrypted = 'x'", "another token was stored meanwhile"),
        ('UPDATE "Channel" SET id = 77', "the channel has another id now: 77"),
    ],
)
def test_what_became_of_a_row_meanwhile_is_said(world, change, detail):
    id_ = world.channel()
    world.meta.on_request = lambda seen: seen.endpoint == "exchange" and world.rows.run(change)
    result = world.json()
    assert (result.code, result.told(id_)) == (0, ("skipped", "replaced_meanwhile"))
    assert result.entry(id_)["detail"] == detail
