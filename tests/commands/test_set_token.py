"""Tokens that a person obtained: what is checked, where they go, and how they come in."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sys
import threading
import time
from base64 import b64decode, b64encode
from contextlib import contextmanager

import pytest
import sqlalchemy as sa
from conftest import only_postgresql, only_sqlite
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from listener import listening
from world import KEY, OTHER_KEY, ROOT, days, fernet

from whatsapp_tokens.commands import token_store

DEAD = (190, 460, "Error validating access token: the session was invalidated.")


def test_a_good_token_is_stored_with_its_clocks_and_audited(world):
    token = world.token(age=1, lives=59)
    id_ = world.channel(token_status="warning", token_error="reconnect_required: gone")
    result = world.json("--set-token", str(id_), stdin=f"{token}\n")
    row = world.rows.get(id_)
    assert (result.code, result.told(id_), world.stored(id_), world.events(id_)) == (
        0,
        ("renewed", None),
        token,
        ["set_by_hand", "recovered"],
    )
    assert (
        row["token_status"],
        row["token_error"],
        row["token_expires_at"],
        row["last_token_refresh_at"],
    ) == (
        "ok",
        None,
        world.now + days(59),
        world.now - days(1),
    )


def test_a_stored_token_is_not_due(world):
    id_ = world.channel(token_expires_at=None)
    world.run("--set-token", str(id_), stdin=world.token(age=0, lives=60))
    assert world.json().document["counts"]["due"] == 0


def test_a_channel_without_a_token_gets_one(world):
    id_ = world.channel(wa_token_encrypted=None)
    token = world.token(age=0, lives=60)
    assert (world.run("--set-token", str(id_), stdin=token).code, world.stored(id_)) == (0, token)


def test_a_token_that_never_expires_is_stored_as_such(world):
    id_ = world.channel()
    world.run("--set-token", str(id_), stdin=world.meta.issue(expires_at=0))
    row = world.rows.get(id_)
    assert (row["token_status"], row["token_expires_at"]) == ("never_expires", None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"error": DEAD}, "reconnect_required"),
        ({"app_id": "555"}, "reconnect_required"),
        ({"scopes": ("whatsapp_business_messaging",)}, "missing_permission"),
    ],
)
def test_what_meta_does_not_call_good_is_not_stored(world, fields, reason):
    id_ = world.channel()
    before = world.rows.get(id_)
    result = world.json("--set-token", str(id_), stdin=world.token(lives=60, **fields))
    assert (result.code, result.told(id_), world.rows.get(id_), world.events(id_)) == (
        1,
        ("failed", reason),
        before,
        [],
    )


def test_a_token_of_an_hour_does_not_replace_one_that_is_good_for_weeks(world):
    id_ = world.channel(token_expires_at=world.now + days(40))
    before = world.rows.get(id_)
    result = world.json("--set-token", str(id_), stdin=world.token(age=0, lives=0.04))
    assert (result.code, result.told(id_), world.rows.get(id_)) == (1, ("failed", "not_extended"), before)


def test_but_it_does_if_that_is_insisted_on(world):
    id_ = world.channel(token_expires_at=world.now + days(40))
    token = world.token(age=0, lives=0.04)
    assert (world.run("--set-token", str(id_), "--yes", stdin=token).code, world.stored(id_)) == (0, token)


def test_a_token_replaces_one_that_meta_has_revoked_however_long_it_would_have_lived(world):
    id_ = world.channel(token_status="warning", token_expires_at=world.now + days(40))
    token = world.token(age=0, lives=5)
    assert (world.run("--set-token", str(id_), stdin=token).code, world.stored(id_)) == (0, token)


@pytest.mark.parametrize("id_", ["", " "])
def test_an_empty_id_is_a_usage_error_and_no_run(world, id_):
    channel = world.channel()
    before = world.rows.get(channel)
    result = world.run("--set-token", id_, stdin=world.token())
    assert (result.code, world.rows.get(channel), world.meta.count()) == (2, before, 0)


# -- new channels


def test_a_missing_channel_is_created_if_it_is_given_a_name(world):
    token = world.token(age=0, lives=60)
    result = world.json("--set-token", "77", "--name", "Bakery North", stdin=token)
    row = world.rows.get(77)
    assert (result.code, row["name"], row["type"], world.stored(77), world.events(77)) == (
        0,
        "Bakery North",
        "whatsapp",
        token,
        ["set_by_hand"],
    )


@only_postgresql
def test_the_database_does_not_give_out_the_id_of_a_created_channel_again(world):
    world.run("--set-token", "3", "--name", "Third", stdin=world.token(lives=60))
    assert [world.channel() for _ in range(2)] == [4, 5]


def test_a_created_channel_is_written_as_the_other_rows_are(world):
    def packed(token):
        made = AESGCM(KEY).encrypt(bytes(12), token.encode(), None)
        return ":".join(part.hex() for part in (bytes(12), made[-16:], made[:-16]))

    for _ in range(2):
        world.channel(wa_token_encrypted=packed(world.token()))
    world.channel()
    token = world.token(lives=60)
    world.run("--set-token", "77", "--name", "New", stdin=token)
    iv, tag, data = map(bytes.fromhex, world.rows.get(77)["wa_token_encrypted"].split(":"))
    assert AESGCM(KEY).decrypt(iv, data + tag, None).decode() == token


def packed_json(token, **members):
    iv = os.urandom(12)
    made = AESGCM(KEY).encrypt(iv, token.encode(), None)
    return json.dumps({"iv": iv.hex(), "tag": made[-16:].hex(), "data": made[:-16].hex()} | members)


def test_what_differs_from_row_to_row_does_not_make_a_layout_rare(world):
    for number in range(3):
        world.channel(wa_token_encrypted=packed_json(world.token(), ts=number))
    for _ in range(2):
        world.channel()
    world.run("--set-token", "77", "--name", "New", stdin=world.token(lives=60))
    assert set(json.loads(world.rows.get(77)["wa_token_encrypted"])) == {"iv", "tag", "data", "ts"}


@pytest.mark.parametrize("columns", [{"active": False}, {"type": "instagram"}])
def test_rows_that_runs_do_not_touch_show_the_layout_where_there_are_no_others(world, columns):
    world.rows.run('ALTER TABLE "Channel" ADD COLUMN active BOOLEAN')
    world.env["CHANNEL_COLUMNS"] = "active=active"
    world.channel(wa_token_encrypted=packed_json(world.token()), **columns)
    world.run("--set-token", "77", "--name", "New", stdin=world.token(lives=60))
    assert set(json.loads(world.rows.get(77)["wa_token_encrypted"])) == {"iv", "tag", "data"}


def test_a_single_other_token_that_does_not_open_leaves_the_layout_unknown(world):
    world.channel(key=OTHER_KEY)
    result = world.run("--set-token", "77", "--name", "New", stdin=world.token(lives=60))
    assert (result.code, "opens none of the stored tokens" in result.err) == (2, True)


def test_the_only_token_may_be_replaced_by_any_other(world):
    id_ = world.channel(key=OTHER_KEY)
    token = world.token(lives=60)
    assert (world.run("--set-token", str(id_), stdin=token).code, world.stored(id_)) == (0, token)


def test_a_row_keeps_its_own_layout(world):
    made = AESGCM(KEY).encrypt(bytes(16), b"an-old-token", None)
    id_ = world.channel(wa_token_encrypted=b64encode(bytes(16) + made[-16:] + made[:-16]).decode())
    world.channel()
    token = world.token(lives=60)
    world.run("--set-token", str(id_), stdin=token)
    raw = b64decode(world.rows.get(id_)["wa_token_encrypted"], validate=True)
    assert AESGCM(KEY).decrypt(raw[:16], raw[32:] + raw[16:32], None).decode() == token


def test_a_ring_that_opens_no_token_of_several_is_the_wrong_one(world):
    for _ in range(2):
        world.channel(key=OTHER_KEY)
    id_ = world.channel(wa_token_encrypted="")
    result = world.run("--set-token", str(id_), stdin=world.token(lives=60))
    assert (result.code, "opens none of the stored tokens" in result.err) == (2, True)


# -- what cannot be done


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set-token", "99"), "there is no channel with the id 99; to create it, add --name NAME"),
        (("--set-token", "north", "--name", "North"), "whole numbers, and north is none"),
    ],
)
def test_an_id_that_cannot_be_used_is_said_before_meta_is_asked(world, options, said):
    result = world.run(*options, stdin=world.token(lives=60))
    assert (result.code, said in result.err, world.meta.count()) == (2, True, 0)


@only_postgresql
def test_an_id_that_does_not_fit_the_column_is_a_clear_error(world):
    result = world.run("--set-token", "9" * 18, "--name", "North", stdin=world.token(lives=60))
    assert (result.code, "the channel cannot be created" in result.err) == (2, True)


def test_a_row_of_another_type_is_left_alone(world):
    id_ = world.channel(type="email")
    result = world.run("--set-token", str(id_), stdin=world.token(lives=60))
    assert (result.code, "is no WhatsApp channel" in result.err, world.meta.count()) == (2, True, 0)


@pytest.mark.parametrize(
    "text", ["", "  \n", "two words", "a\nb", "a\x00b", "x" * 20_000, "\x1b[31mred"], ids=range(7)
)
def test_what_is_no_token_is_refused_without_showing_it(world, text):
    id_ = world.channel()
    result = world.run("--set-token", str(id_), stdin=text)
    assert (result.code, world.meta.count(), len(result.err) < 200) == (2, 0, True)


def test_no_secret_is_shown_in_any_case(world):
    token = world.token(lives=60, error=(190, None, "Malformed access token EAAsecret0secret1"))
    result = world.run("-v", "--set-token", str(world.channel()), stdin=token)
    shown = result.out + result.err
    assert [
        secret for secret in (token, "EAAsecret0", KEY.hex(), world.meta.app_secret) if secret in shown
    ] == []


def test_an_app_that_meta_refuses_stops_it(world):
    id_ = world.channel()
    world.env["META_APP_SECRET"] = "0" * 32
    result = world.json("--set-token", str(id_), stdin=world.token(lives=60))
    assert (result.code, result.document["stopped"]["reason"]) == (3, "app_rejected")


@pytest.mark.parametrize(
    "options",
    [
        ("--set-token", "1", "--force"),
        ("--set-token", "1", "--dry-run"),
        ("--set-token", "1", "--channel", "1"),
        ("--check", "--set-token", "1"),
        ("--check", "--audit"),
        ("--check", "--limit", "1"),
        ("--name", "North"),
    ],
)
def test_options_that_do_not_go_together_are_refused(world, options):
    assert (world.run(*options).code, world.meta.count()) == (2, 0)


def test_a_token_that_the_application_stores_meanwhile_is_written_over(world, monkeypatch):
    id_ = world.channel()
    token = world.token(lives=60)
    inspect = world.meta.normal

    def race(seen):
        world.rows.update(id_, wa_token_encrypted=fernet().encrypt(b"theirs").decode())
        return inspect(seen)

    monkeypatch.setattr(world.meta, "normal", race)
    assert (world.run("--set-token", str(id_), stdin=token).code, world.stored(id_)) == (0, token)


def test_a_row_whose_old_token_cannot_be_decrypted_gets_the_new_one(world):
    world.channel()
    id_ = world.channel(wa_token_encrypted="not encrypted")
    token = world.token(lives=60)
    assert (world.run("--set-token", str(id_), stdin=token).code, world.stored(id_)) == (0, token)


@only_sqlite
def test_a_write_that_the_database_refuses_leaves_the_old_token(world):
    id_ = world.channel()
    before = world.rows.get(id_)
    world.rows.run(
        'CREATE TRIGGER guard BEFORE UPDATE OF wa_token_encrypted ON "Channel" '
        "BEGIN SELECT RAISE(ABORT, 'hands off'); END"
    )
    result = world.json("--set-token", str(id_), stdin=world.token(lives=60))
    assert (result.code, result.told(id_), world.rows.get(id_)) == (1, ("failed", "write_failed"), before)


@only_sqlite
def test_a_channel_that_is_deleted_meanwhile_is_not_made_again(world, monkeypatch):
    id_ = world.channel()
    inspect = world.meta.normal

    def race(seen):
        world.rows.run('DELETE FROM "Channel"')
        return inspect(seen)

    monkeypatch.setattr(world.meta, "normal", race)
    result = world.json("--set-token", str(id_), stdin=world.token(lives=60))
    assert (result.code, result.entry(id_)["detail"]) == (
        1,
        "the row was deleted, or is of another type now; nothing was stored",
    )


# -- a row that the application has locked


@contextmanager
def locked(world, id_):
    """Keep a row locked, as a transaction of the application does."""
    with world.rows.engine.connect() as connection, connection.begin():
        connection.execute(sa.text('SELECT id FROM "Channel" WHERE id = :id FOR UPDATE'), {"id": id_})
        yield connection


@only_postgresql
def test_a_row_that_stays_locked_keeps_its_token_and_that_is_a_failure(world, monkeypatch):
    monkeypatch.setattr(token_store, "PATIENCE_SECONDS", 1)
    id_ = world.channel()
    before = world.rows.get(id_)
    with locked(world, id_):
        result = world.json("--set-token", str(id_), stdin=world.token(lives=60))
    assert (result.code, result.told(id_), world.rows.get(id_), world.events(id_)) == (
        1,
        ("failed", "write_failed"),
        before,
        [],
    )
    assert result.entry(id_)["detail"] == "the row stays locked by another transaction; nothing was stored"


@only_postgresql
def test_a_row_that_is_locked_for_a_while_is_waited_for(world):
    id_ = world.channel()
    token = world.token(lives=60)
    with locked(world, id_) as connection:
        release = threading.Timer(2.5, connection.rollback)
        release.start()
        result = world.run("--set-token", str(id_), stdin=token)
        release.join()
    assert (result.code, world.stored(id_), world.events(id_)) == (0, token, ["set_by_hand"])


@only_postgresql
def test_a_table_that_stays_locked_gets_no_new_channel_and_that_is_a_failure(world, monkeypatch):
    monkeypatch.setattr(token_store, "PATIENCE_SECONDS", 1)
    with world.rows.engine.connect() as connection, connection.begin():
        connection.execute(sa.text('LOCK TABLE "Channel" IN SHARE MODE'))
        result = world.json("--set-token", "77", "--name", "North", stdin=world.token(lives=60))
    assert (result.code, result.told(77), world.rows.scalar('SELECT count(*) FROM "Channel"')) == (
        1,
        ("failed", "write_failed"),
        0,
    )


# -- a terminal


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, world, *options):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            arguments = [sys.executable, str(ROOT / "refresh_tokens.py"), *world.arguments(*options)]
            os.execve(sys.executable, arguments, world.environment())
        self.shown = ""

    def until(self, text):
        deadline = time.monotonic() + 30
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            try:
                self.shown += os.read(self.fd, 4096).decode()
            except OSError:  # the other end is closed
                break
        return self

    def type(self, text):
        os.write(self.fd, text.encode())
        return self

    def interrupt(self, number):
        """Send a signal and return the exit code. Send it again after ten seconds, as a person does.

        A signal between Python's printing of the prompt and its reading is lost, so give it a moment.
        A second one while Python shuts down would kill the process, so give a slow machine the time to end.
        """
        time.sleep(0.2)
        while not select.select([self.fd], [], [], 0)[0] or self.reads_on():
            os.kill(self.pid, number)
            while select.select([self.fd], [], [], 10)[0] and self.reads_on():
                pass
        return self.end()

    def reads_on(self):
        """Read what is there. False: the other end is closed."""
        try:
            shown = os.read(self.fd, 4096).decode()
        except OSError:
            return False
        self.shown += shown
        return bool(shown)

    def end(self):
        self.until("\0never\0")
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def test_on_a_terminal_the_token_is_asked_for_and_not_shown(world):
    id_ = world.channel()
    token = world.token(age=0, lives=60)
    terminal = Terminal(world, "--set-token", str(id_)).until("Token").type(token + "\n")
    code = terminal.end()
    assert (code, token in terminal.shown, bool(re.search(r"stored .*: expires on", terminal.shown))) == (
        0,
        False,
        True,
    )
    assert world.stored(id_) == token


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_question(world, number, code):
    terminal = Terminal(world, "--set-token", str(world.channel())).until("Token")
    assert terminal.interrupt(number) == code


def test_the_end_of_the_input_at_the_question_is_no_token(world):
    id_ = world.channel()
    before = world.rows.get(id_)
    terminal = Terminal(world, "--set-token", str(id_)).until("Token").type("\x04")
    assert (terminal.end(), world.rows.get(id_)) == (2, before)
    assert "nothing was entered" in terminal.shown
    assert "unexpected error" not in terminal.shown


def test_who_says_no_to_the_question_is_not_told_so_by_an_alert(world):
    ciphertext = fernet().encrypt(world.token().encode()).decode()
    world.rows.insert_many({"type": "whatsapp", "wa_token_encrypted": ciphertext} for _ in range(101))
    with listening() as slack:
        world.env |= {"SLACK_WEBHOOK_URL": f"{slack.url}/hook", "NO_PROXY": "127.0.0.1"}
        code = Terminal(world, "--force").until("Go on? [y/N]: ").type("n\n").end()
    assert (code, slack.pings, world.meta.count()) == (2, [], 0)


def test_a_signal_ends_the_question_before_many_channels_are_forced(world):
    ciphertext = fernet().encrypt(world.token().encode()).decode()
    world.rows.insert_many({"type": "whatsapp", "wa_token_encrypted": ciphertext} for _ in range(101))
    terminal = Terminal(world, "--force").until("Go on? [y/N]: ")
    assert (terminal.interrupt(signal.SIGINT), world.meta.count()) == (130, 0)
