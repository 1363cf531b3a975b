"""Many channels: what a run does when the database, the keys or our own code get in its way."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from conftest import only_postgresql
from fakes import FakeMeta, exchanged, inspection
from rows import Rows
from world import KEY, days, fernet

from crypto import EncryptionFailed, KeyRing
from models import TableMap
from whatsapp_tokens.commands.dry_run import preview
from whatsapp_tokens.database import pages as pages_module
from whatsapp_tokens.database.claims import Claims
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import DatabaseLost, StatementRefused
from whatsapp_tokens.database.url import parse_url
from whatsapp_tokens.http_environment import LocalFault
from whatsapp_tokens.meta.errors import AppRejected, RateLimited, Unavailable
from whatsapp_tokens.policy import Policy
from whatsapp_tokens.renewal import run as run_module
from whatsapp_tokens.renewal import token_pool
from whatsapp_tokens.renewal.renewer import Renewer
from whatsapp_tokens.renewal.run import Run
from whatsapp_tokens.renewal.start import RunCallbacks, Scope, WrongKeys
from whatsapp_tokens.results import AbortReason, DueReason, Reason
from whatsapp_tokens.signals import Interrupted, Stop

POLICY = Policy(days(45), days(15), days(60), frozenset())
KEYS = KeyRing.parse(KEY.hex())


class ChannelTotals:
    """Channels in a real database, and a Meta that is only played."""

    def __init__(self, url):
        self.now = datetime.now(UTC)
        self.rows = Rows(url)
        self.database = Database(parse_url(url), TableMap(), lease=timedelta(seconds=300))
        self.meta = FakeMeta()
        self.stop = Stop()
        self.outcomes = []
        self.begun = []

    def channel(self, token, inspected=None, **columns):
        """A due channel; by default Meta renews its token to `token+`."""
        new = f"{token}+"
        self.meta.inspections[token] = [self.inspection() if inspected is None else inspected]
        self.meta.exchanges[token] = [exchanged(new)]
        self.meta.inspections[new] = [self.inspection(age=0, lives=60)]
        columns = {
            "name": token,
            "wa_token_encrypted": fernet().encrypt(token.encode()).decode(),
            "token_expires_at": self.now + days(10),
            "token_status": "ok",
        } | columns
        return self.rows.insert(**columns)

    def inspection(self, *, age=50, lives=10):
        return replace(
            inspection(), issued_at=self.now - days(age), expires_at=self.now + days(lives), scopes=None
        )

    def sleep(self, _seconds):
        if self.stop.is_set():
            raise Interrupted

    def run(self, *, workers=4, limit=None, ids=None, policy=POLICY, outcome=None):
        renewer = Renewer(self.meta, policy, lambda: self.now, self.sleep)
        self.started = Run(self.database, renewer, KEYS, lambda: self.now, self.stop)
        callbacks = RunCallbacks(self.begun.append, outcome or self.outcomes.append)
        return self.started.execute(Scope(policy.select(self.now, ids), limit, workers), callbacks)

    @property
    def told(self):
        return {outcome.name: getattr(outcome, "reason", "renewed") for outcome in self.outcomes}


@pytest.fixture
def fleet(database_url):
    made = ChannelTotals(database_url)
    yield made
    made.database.close()


# -- runs


def test_one_dead_token_does_not_stop_the_others(fleet):
    fleet.channel("a1")
    fleet.channel("b1", Unavailable("down"))
    fleet.channel("c1")
    assert fleet.run() is None
    assert fleet.told == {"a1": "renewed", "b1": Reason.UNAVAILABLE, "c1": "renewed"}


def test_a_mistake_of_ours_costs_one_channel_and_not_the_run(fleet, caplog):
    fleet.channel("a1", KeyError("oops"))
    fleet.channel("b1")
    assert fleet.run() is None
    assert fleet.told == {"a1": Reason.UNEXPECTED_ANSWER, "b1": "renewed"}
    assert "unexpected error" in caplog.text


def refuse(fleet, *ids, on="UPDATE OF token_status"):
    """Make the database refuse to write these rows."""
    those = f"old.id IN ({', '.join(map(str, ids))})"
    if fleet.rows.is_sqlite:
        fleet.rows.run(
            f'CREATE TRIGGER no BEFORE {on} ON "Channel" WHEN {those} '
            "BEGIN SELECT RAISE(ABORT, 'this row is frozen'); END"
        )
    else:
        fleet.rows.run(
            f"CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {those} THEN "
            "RAISE 'this row is frozen'; END IF; RETURN new; END $$"
        )
        fleet.rows.run(f'CREATE TRIGGER no BEFORE {on} ON "Channel" FOR EACH ROW EXECUTE FUNCTION no()')


def test_a_row_that_the_database_refuses_fails_alone_and_stays_as_it_was(fleet):
    frozen = fleet.channel("a1")
    fleet.channel("b1")
    refuse(fleet, frozen)
    before = fleet.rows.get(frozen)
    assert fleet.run(workers=1) is None
    assert fleet.told == {"a1": Reason.WRITE_FAILED, "b1": "renewed"}
    assert any("this row is frozen" in getattr(outcome, "detail", "") for outcome in fleet.outcomes)
    assert (fleet.rows.get(frozen), fleet.rows.audit(frozen)) == (before, [])


def test_a_row_that_refuses_even_to_be_claimed_fails_alone(fleet):
    fleet.channel("a1")
    frozen = fleet.channel("b1", token_expires_at=fleet.now + days(2))
    for number in range(20):
        fleet.channel(f"c{number:02}")
    refuse(fleet, frozen, on="UPDATE")
    before = fleet.rows.get(frozen)
    assert fleet.run(workers=4) is None
    assert {name for name, told in fleet.told.items() if told != "renewed"} == {"b1"}
    assert (fleet.told["b1"], fleet.rows.get(frozen)) == (Reason.WRITE_FAILED, before)
    assert any("this row is frozen" in getattr(outcome, "detail", "") for outcome in fleet.outcomes)
    tally = fleet.started.tally
    assert (tally.due, tally.renewed, tally.failed, tally.left) == (22, 21, 1, 0)


def test_many_rows_that_refuse_to_be_claimed_do_not_look_like_a_fleet_wide_failure(fleet):
    soon = fleet.now + days(1)
    refuse(fleet, *(fleet.channel(f"a{n:02}", token_expires_at=soon) for n in range(12)), on="UPDATE")
    fleet.channel("b1", token_expires_at=fleet.now + days(9))
    assert fleet.run(workers=16) is None
    assert (fleet.started.tally.renewed, fleet.started.tally.failed) == (1, 12)


def test_a_table_in_which_no_row_can_be_claimed_is_systemic(fleet):
    refuse(fleet, *(fleet.channel(f"a{number:02}") for number in range(12)), on="UPDATE")
    stopped = fleet.run(workers=4)
    assert (stopped.reason, "this row is frozen" in stopped.detail) == (AbortReason.SYSTEMIC, True)


def test_a_row_that_the_database_silently_leaves_as_it_is_fails(fleet):
    frozen = fleet.channel("a1")
    fleet.channel("b1")
    if fleet.rows.is_sqlite:
        fleet.rows.run(
            f'CREATE TRIGGER no BEFORE UPDATE ON "Channel" WHEN old.id = {frozen}'
            " BEGIN SELECT RAISE(IGNORE); END"
        )
    else:
        fleet.rows.run(
            f"CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF old.id = {frozen} THEN "
            "RETURN NULL; END IF; RETURN new; END $$"
        )
        fleet.rows.run('CREATE TRIGGER no BEFORE UPDATE ON "Channel" FOR EACH ROW EXECUTE FUNCTION no()')
    assert fleet.run(workers=1) is None
    assert fleet.told == {"a1": Reason.WRITE_FAILED, "b1": "renewed"}


@pytest.mark.parametrize("workers", [1, 3, 16])
def test_whole_batches_that_refuse_to_be_claimed_do_not_starve_the_others(fleet, workers):
    soon = fleet.now + days(1)
    refuse(fleet, *(fleet.channel(f"a{n:02}", token_expires_at=soon) for n in range(40)), on="UPDATE")
    for number in range(8):
        fleet.channel(f"b{number}", token_expires_at=fleet.now + days(9))
    assert fleet.run(workers=workers) is None
    assert (fleet.started.tally.renewed, fleet.started.tally.failed) == (8, 40)


def leave_as_it_is(fleet, when, gives="NULL"):
    """Let a trigger see to it that an update of a row has no effect, without an error."""
    if fleet.rows.is_sqlite:
        fleet.rows.run(
            f'CREATE TRIGGER no BEFORE UPDATE ON "Channel" WHEN {when} BEGIN SELECT RAISE(IGNORE); END'
        )
    else:
        fleet.rows.run(
            f"CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF {when} THEN "
            f"RETURN {gives}; END IF; RETURN new; END $$"
        )
        fleet.rows.run('CREATE TRIGGER no BEFORE UPDATE ON "Channel" FOR EACH ROW EXECUTE FUNCTION no()')


@pytest.mark.parametrize("gives", ["NULL", "old"])
@pytest.mark.parametrize("also", ["", " AND new.wa_token_encrypted <> old.wa_token_encrypted"])
def test_a_write_without_effect_is_no_success(fleet, also, gives):
    frozen = fleet.channel("a1")
    fleet.channel("b1")
    leave_as_it_is(fleet, f"old.id = {frozen}{also}", gives)
    before = fleet.rows.get(frozen)
    assert fleet.run(workers=1) is None
    assert (fleet.told, fleet.rows.get(frozen)) == ({"a1": Reason.WRITE_FAILED, "b1": "renewed"}, before)


@only_postgresql
def test_rows_that_are_locked_when_their_turn_comes_are_taken_once_they_are_free(fleet):
    busy = fleet.channel("a1")
    for number in range(6):
        fleet.channel(f"b{number}")
    theirs = fleet.rows.engine.connect()
    theirs.execute(sa.text(f'UPDATE "Channel" SET name = name WHERE id = {busy}'))

    def until_the_first_is_renewed(outcome):
        fleet.outcomes.append(outcome)
        theirs.close()  # which gives the row free

    assert fleet.run(workers=1, outcome=until_the_first_is_renewed) is None
    assert set(fleet.told.values()) == {"renewed"}


@only_postgresql
@pytest.mark.parametrize("is_freed", [True, False])
def test_a_row_that_is_locked_after_it_was_claimed_keeps_no_other_from_being_written(
    fleet, is_freed, monkeypatch
):
    monkeypatch.setattr(run_module, "PATIENCE_SECONDS", 2)
    busy = fleet.channel("a1")
    for number in range(6):
        fleet.channel(f"b{number}")
    theirs, inspect = fleet.rows.engine.connect(), fleet.meta.inspect

    def lock_first(token):
        if token.reveal() == "a1":
            theirs.execute(sa.text(f'SELECT id FROM "Channel" WHERE id = {busy} FOR UPDATE'))
        return inspect(token)

    def see(outcome):
        fleet.outcomes.append(outcome)
        if is_freed and len(fleet.outcomes) == 6:
            theirs.close()

    fleet.meta.inspect = lock_first
    assert fleet.run(workers=1, outcome=see) is None
    theirs.close()
    expected = "renewed" if is_freed else Reason.CLAIMED_ELSEWHERE
    assert fleet.told == {"a1": expected} | {f"b{number}": "renewed" for number in range(6)}


@only_postgresql
def test_a_row_that_the_application_is_writing_is_left_to_the_next_run(fleet):
    busy = fleet.channel("a1")
    fleet.channel("b1")
    with fleet.rows.connect() as theirs:
        theirs.execute(sa.text(f'UPDATE "Channel" SET name = name WHERE id = {busy}'))
        assert fleet.run(workers=1) is None
    assert fleet.told == {"a1": Reason.CLAIMED_ELSEWHERE, "b1": "renewed"}


def test_a_database_that_refuses_every_write_is_systemic(fleet):
    for number in range(14):
        fleet.channel(f"t{number:02}")
    if fleet.rows.is_sqlite:
        fleet.rows.run(
            "CREATE TRIGGER no BEFORE INSERT ON token_audit_log BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    else:
        fleet.rows.run("ALTER TABLE token_audit_log ADD CONSTRAINT full_ CHECK (false)")
    stopped = fleet.run(workers=1)
    assert (stopped.reason, fleet.started.tally.failed in {10, 11}) == (AbortReason.SYSTEMIC, True)
    assert set(fleet.told.values()) == {Reason.WRITE_FAILED}


def test_a_database_that_is_lost_stops_the_run(fleet, monkeypatch):
    for number in range(9):
        fleet.channel(f"t{number:02}")
    write = fleet.database.writer.write

    def lose(changes, **options):
        if fleet.outcomes:
            raise DatabaseLost("the database cannot be reached")
        return write(changes, **options)

    monkeypatch.setattr(fleet.database.writer, "write", lose)
    stopped = fleet.run(workers=1)
    tally = fleet.started.tally
    assert (stopped.reason, tally.due, tally.renewed + tally.left) == (AbortReason.DATABASE_LOST, 9, 9)
    assert tally.renewed < 9


def test_a_statement_that_is_refused_before_anything_was_done_is_a_configuration_error(fleet, monkeypatch):
    fleet.channel("a1")

    def refuse(*_):
        raise StatementRefused("permission denied")

    monkeypatch.setattr(fleet.database.queries, "due_ids", refuse)
    with pytest.raises(StatementRefused, match="permission denied"):
        fleet.run()


def test_a_statement_that_is_refused_in_the_middle_stops_the_run(fleet, monkeypatch):
    for number in range(9):
        fleet.channel(f"t{number:02}")
    monkeypatch.setattr(pages_module, "PAGE_SIZE", 1)
    due_ids = fleet.database.queries.due_ids

    def refuse_later(selection, *_):
        for id_ in due_ids(selection):
            if fleet.outcomes:
                raise StatementRefused("permission denied")
            yield id_

    monkeypatch.setattr(fleet.database.queries, "due_ids", refuse_later)
    assert fleet.run(workers=1).reason == AbortReason.DATABASE_LOST


def test_claims_are_extended_while_meta_is_slow(fleet, monkeypatch):
    fleet.channel("a1")
    extended = []
    monkeypatch.setattr(Claims, "lease", 0.03)
    extend = fleet.database.claims.extend
    monkeypatch.setattr(fleet.database.claims, "extend", lambda: (extended.append(1), extend()))
    gate = threading.Event()
    inspect = fleet.meta.inspect

    def slow(token):
        gate.wait(5)
        return inspect(token)

    monkeypatch.setattr(fleet.meta, "inspect", slow)
    monkeypatch.setattr(token_pool, "WAKE_SECONDS", 0.01)
    wait = threading.Thread(target=lambda: (poll(lambda: len(extended) > 2), gate.set()))
    wait.start()
    assert fleet.run() is None
    wait.join()
    assert (fleet.told, len(extended) > 2) == ({"a1": "renewed"}, True)


def test_a_crash_ends_every_wait_of_the_workers(fleet, monkeypatch):
    """What is in flight can no longer be written, so nothing is waited for."""
    fleet.channel("a1", token_expires_at=fleet.now + days(1))
    fleet.channel("b1")
    has_begun, is_told = threading.Event(), threading.Event()
    inspect = fleet.meta.inspect

    def wait_for_the_end(token):
        if token.reveal() == "a1":
            has_begun.wait(10)
        elif token.reveal() == "b1":
            has_begun.set()
            poll(fleet.stop.is_set)
            if fleet.stop.is_set():
                is_told.set()
        return inspect(token)

    def lose(_changes, **_):
        raise DatabaseLost("the database cannot be reached")

    fleet.meta.inspect = wait_for_the_end
    monkeypatch.setattr(fleet.database.writer, "write", lose)
    assert fleet.run(workers=2).reason == AbortReason.DATABASE_LOST
    assert (is_told.is_set(), fleet.outcomes) == (True, [])


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_a_machine_with_few_threads_to_give_loses_no_channel_and_no_count(fleet, worker_threads, threads):
    """Fewer do the work; without any, the claims are given back."""
    for number in range(12):
        fleet.channel(f"t{number:02}")
    worker_threads[0] = threads
    stopped = fleet.run(workers=8)
    tally = fleet.started.tally
    leases = {fleet.rows.get(id_)["token_lease_until"] for id_ in range(1, 13)}
    assert (tally.due, tally.renewed, tally.left, leases) == (12, *((12, 0) if threads else (0, 12)), {None})
    assert (stopped and stopped.reason) == (None if threads else AbortReason.INTERNAL_ERROR)


@pytest.mark.parametrize("already", [0, 3])
def test_a_fault_of_this_machine_marks_no_channel(fleet, already):
    """It is raised before the first channel was reached, and stops the run later."""
    for number in range(6):
        fleet.channel(f"t{number:02}", token_expires_at=fleet.now + days(1 + number))
    inspect = fleet.meta.inspect

    def fail(token):
        if int(token.reveal()[1:3]) >= already:
            raise LocalFault("HTTPS_PROXY: the proxy does not let the call through")
        return inspect(token)

    fleet.meta.inspect = fail
    if already:
        stopped = fleet.run(workers=1)
        assert (stopped.reason, "HTTPS_PROXY" in stopped.detail) == (AbortReason.INTERNAL_ERROR, True)
        assert set(fleet.told.values()) == {"renewed"}
    else:
        with pytest.raises(LocalFault, match="HTTPS_PROXY"):
            fleet.run(workers=1)
        assert fleet.outcomes == []
    rows = [fleet.rows.get(id_) for id_ in range(1, 7)]
    assert {(row["token_status"], row["token_lease_until"]) for row in rows} == {("ok", None)}


def poll(condition):
    for _ in range(500):
        if condition():
            return
        threading.Event().wait(0.01)


def test_the_limit_of_the_app_stops_the_run_and_releases_the_rest(fleet):
    for number in range(6):
        fleet.channel(f"t{number:02}", RateLimited("slow down"))
    stopped = fleet.run(workers=2)
    leases = {fleet.rows.get(id_)["token_lease_until"] for id_ in range(1, 7)}
    assert (stopped.reason, stopped.detail, leases) == (AbortReason.RATE_LIMITED, "slow down", {None})


def test_channels_that_share_a_refused_token_are_held_together(fleet):
    for _ in range(3):
        fleet.channel("same", AppRejected("no such app"))
    stopped = fleet.run(workers=4)
    assert (stopped.reason, stopped.detail, fleet.outcomes) == (AbortReason.APP_REJECTED, "no such app", [])


def test_what_was_put_aside_as_systemic_is_written_once_one_succeeds(fleet):
    for number in range(12):
        fleet.channel(f"a{number:02}", Unavailable("down"), token_expires_at=fleet.now + days(1))
    gate = threading.Event()
    fleet.channel("slow", token_expires_at=fleet.now + days(0.5))
    inspect = fleet.meta.inspect

    def slow(token):
        if token.reveal() == "slow":
            gate.wait(10)
        return inspect(token)

    fleet.meta.inspect = slow

    def outcome(one):
        fleet.outcomes.append(one)
        if len(fleet.outcomes) == 10:
            gate.set()

    assert fleet.run(workers=16, outcome=outcome) is None
    assert (len(fleet.outcomes), fleet.told["slow"]) == (13, "renewed")


def test_remembered_renewals_do_not_grow_without_end(fleet, monkeypatch):
    monkeypatch.setattr(token_pool, "REMEMBERED", 2)
    for number in range(5):
        fleet.channel(f"t{number:02}")
    fleet.run(workers=1)
    assert len(fleet.started._pool._renewed) == 2


def test_a_channel_that_another_run_has_renewed_meanwhile_is_left_alone(fleet):
    first, second = fleet.channel("a1"), fleet.channel("b1")
    selection = POLICY.select(fleet.now)
    places = list(fleet.database.queries.due_ids(selection))
    fleet.rows.update(first, token_expires_at=fleet.now + days(60))
    fleet.database.queries.due_ids = lambda *_: (
        places if not fleet.begun[1:] and not fleet.begun.append(1) else []
    )
    assert fleet.run() is None
    assert (fleet.told, fleet.started.tally.due, second) == ({"b1": "renewed"}, 1, second)


def test_no_key_that_fits_is_found_out_before_anything_begins(fleet):
    for token in ("a1", "b1"):
        fleet.channel(token, wa_token_encrypted=fernet(bytes(32)).encrypt(b"x").decode())
    with pytest.raises(WrongKeys):
        fleet.run()
    with pytest.raises(WrongKeys):
        preview(fleet.database, KEYS, Scope(POLICY.select(fleet.now)), RunCallbacks(print, print))
    assert fleet.begun == []


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ("EAAG plain", "an unencrypted token"),
        ("U2FsdGVkX1+abc", "CryptoJS"),
        (f"{'0' * 32}:{'1' * 64}", "AES-CBC"),
    ],
)
def test_tokens_that_are_all_written_in_a_way_that_is_refused_are_no_matter_of_the_key(fleet, stored, said):
    for token in ("a1", "b1"):
        fleet.channel(token, wa_token_encrypted=stored)
    with pytest.raises(WrongKeys, match=f"none of the stored tokens can be read .*{said}"):
        fleet.run()


def test_a_dry_run_stops_at_its_limit(fleet):
    for number in range(5):
        fleet.channel(f"t{number:02}")
    tally = preview(
        fleet.database,
        KEYS,
        Scope(POLICY.select(fleet.now), limit=2),
        RunCallbacks(fleet.begun.append, fleet.outcomes.append),
    )
    assert ([outcome.why for outcome in fleet.outcomes], tally.left) == ([DueReason.EXPIRES_SOON] * 2, 3)


def test_a_token_that_cannot_be_sealed_is_given_back_as_it_was(fleet, monkeypatch):
    channel = fleet.channel("a1")
    before = fleet.rows.get(channel)

    def broken(*_):
        raise EncryptionFailed("the encrypted token does not decrypt again")

    monkeypatch.setattr(KeyRing, "encrypt", broken)
    assert fleet.run() is None
    assert (fleet.told, fleet.rows.get(channel)) == ({"a1": Reason.WRITE_FAILED}, before)


def test_channels_of_an_interrupted_run_are_given_back_and_counted_as_left(fleet):
    for number in range(4):
        fleet.channel(f"t{number:02}")
    inspect = fleet.meta.inspect

    def interrupt(token):
        fleet.stop.set()
        return inspect(token)

    fleet.meta.inspect = interrupt
    assert fleet.run(workers=1) is None
    leases = {fleet.rows.get(id_)["token_lease_until"] for id_ in range(1, 5)}
    assert (fleet.outcomes, fleet.started.tally.left, leases) == ([], 4, {None})


def test_results_are_written_in_batches_of_limited_size(fleet, monkeypatch):
    monkeypatch.setattr(token_pool, "BATCH", 1)
    sizes = []
    write = fleet.database.writer.write
    monkeypatch.setattr(
        fleet.database.writer, "write", lambda changes, **_: sizes.append(len(changes)) or write(changes)
    )
    for number in range(6):
        fleet.channel(f"t{number:02}")
    assert (fleet.run(), sizes) == (None, [1] * 6)


# -- a table that others work on, too


def test_what_another_run_dealt_with_before_it_was_met_is_not_left(fleet, monkeypatch):
    monkeypatch.setattr(pages_module, "PAGE_SIZE", 1)
    *_, carl = (
        fleet.channel(name, token_expires_at=fleet.now + days(1 + number))
        for number, name in enumerate(("anna", "bert", "carl"))
    )

    def another_run_is_faster(outcome):
        fleet.outcomes.append(outcome)
        fleet.rows.update(carl, token_expires_at=fleet.now + days(60))

    assert fleet.run(workers=1, outcome=another_run_is_faster) is None  # with two in its hands
    assert fleet.told == {"anna": "renewed", "bert": "renewed"}
    assert (fleet.started.tally.due, fleet.started.tally.left) == (2, 0)


def test_an_audit_remembers_only_channels_that_have_moved_on_in_the_order(fleet):
    until = fleet.now.replace(microsecond=0) + days(50)
    good = fleet.inspection(age=10)
    for name, expires_at in (("right", until), ("wrong", until - days(1)), ("late", until + days(1))):
        fleet.channel(name, replace(good, expires_at=until), token_expires_at=expires_at)
    fleet.run(policy=replace(POLICY, audit=True))
    assert (len(fleet.outcomes), len(fleet.started._claimer.seen)) == (3, 1)
