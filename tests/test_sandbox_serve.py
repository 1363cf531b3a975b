"""`python -m sandbox serve` as a person uses it, with the table of an application and with its tokens."""

from __future__ import annotations

import base64
import io
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
import requests
from cryptography.fernet import Fernet
from dotenv import dotenv_values
from shop import real_channel
from world import KEY, OTHER_KEY, ROOT, days, fernet

from sandbox.accept import Failure

THEIRS = ["tenant_id=t-1", "phone_number_id=line-{n}", "verify_token=v"]
FILLED = [argument for column in THEIRS for argument in ("--column", column)]


class Sandbox:
    """A sandbox in a process of its own: what it printed, and what it said at its end."""

    def __init__(self, process):
        self.process = process
        self.printed = ""
        self.said = ""

    @property
    def settings(self):
        """What a program reads that gets the printed lines as its .env file."""
        return dict(dotenv_values(stream=io.StringIO(self.printed), interpolate=False))

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        _, self.said = self.process.communicate(timeout=60)
        return self.process.returncode


def environment(**more):
    return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ} | more


def command(*options):
    return [sys.executable, "-m", "sandbox", "serve", *options]


@contextmanager
def serving(*options, stdin="", lines=3, **settings):
    with subprocess.Popen(
        command(*options),
        cwd=ROOT,
        env=environment(**settings),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        hung = threading.Timer(60, process.kill)
        hung.start()
        sandbox = Sandbox(process)
        try:
            process.stdin.write(stdin)
            process.stdin.close()
            process.stdin = None
            sandbox.printed = "".join(process.stdout.readline() for _ in range(lines))
            hung.cancel()
            if sandbox.printed.count("\n") < lines:
                pytest.fail(f"it does not serve: {process.communicate(timeout=60)}")
            yield sandbox
        finally:
            hung.cancel()
            process.kill()


def refusal(*options, **settings):
    """Run a sandbox that does not begin to serve; return the last line that it says."""
    done = subprocess.run(
        command(*options),
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (2, "", False), done
    return done.stderr.splitlines()[-1]


def inspect(sandbox, token):
    settings = sandbox.settings
    answer = requests.get(
        settings["META_GRAPH_URL"] + "/v26.0/debug_token",
        params={"input_token": token},
        headers={"Authorization": f"Bearer {settings['META_APP_ID']}|{settings['META_APP_SECRET']}"},
        timeout=60,
    )
    return answer.json()["data"]


@pytest.fixture
def connected(real):
    """The table of an application with two lines that are due, and tokens that Meta does not know."""
    real.ids = [connect(real, f"EAAapplication{mark}") for mark in "ab"]
    return real


def connect(real, token, **columns):
    return real_channel(
        real, wa_token_encrypted=fernet().encrypt(token.encode()).decode(), token_fingerprint=None, **columns
    )


def run(shop, sandbox, *options):
    """Run the program with the settings that the sandbox printed."""
    shop.world.env |= sandbox.settings | {"META_RETRIES": "0"}
    return shop.json(*options)


# -- tokens of the application


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_any_token_is_accepted_and_renewed_for_sixty_days(connected, stop):
    with serving("--accept-any", "--expires-in", "9") as sandbox:
        assert run(connected, sandbox, "--check").code == 0
        result = run(connected, sandbox)
        code = sandbox.stop(stop)
    assert (result.code, result.counts) == (0, {"candidates": 2, "due": 2, "renewed": 2})
    for entry in result.document["channels"]:
        row = connected.row(entry["id"])
        assert abs(row["token_expires_at"] - (connected.world.now + days(60))) < days(0.01)
        assert connected.stored(entry["id"]).startswith("EAA-sandbox-")
    assert (code, sandbox.said.splitlines()[0]) == (0, "Any token is accepted, with 9 days left.")
    assert sandbox.said.splitlines()[-1].endswith(" inspections, 2 exchanges.")


def test_a_token_that_is_renewed_meanwhile_is_known_and_an_app_token_is_no_customers():
    with serving("--accept-any", "--expires-in", "9") as sandbox:
        settings = sandbox.settings
        app_token = f"{settings['META_APP_ID']}|{settings['META_APP_SECRET']}"
        first, app = inspect(sandbox, "EAAone"), inspect(sandbox, app_token)
        assert (first["is_valid"], first["app_id"], app["is_valid"]) == (True, settings["META_APP_ID"], False)
        assert inspect(sandbox, "EAAone") == first
        assert first["expires_at"] - first["issued_at"] == 60 * 86400


def test_only_the_tokens_that_are_named_are_accepted():
    with serving(
        "--accept", "EAAone", "--accept", "EAAtwo", "--accept-from", "-", stdin="EAAthree\n\n"
    ) as sandbox:
        tokens = ["EAAone", "EAAtwo", "EAAthree", "EAAfour"]
        assert [inspect(sandbox, token)["is_valid"] for token in tokens] == [True, True, True, False]
        sandbox.stop()
    assert sandbox.said.splitlines()[0] == "3 tokens are accepted, with 10 days left."


def test_tokens_come_from_a_file_and_none_is_printed(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("EAAfromafile2\nEAAfromafile2\n")
    with serving("--accept-from", str(file)) as sandbox:
        assert inspect(sandbox, "EAAfromafile2")["is_valid"]
        sandbox.stop()
    assert sandbox.said.splitlines()[0] == "1 token is accepted, with 10 days left."
    assert "EAAfrom" not in sandbox.printed + sandbox.said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "it cannot be read (FileNotFoundError)"),
        (b"\n", "it holds no token"),
        (b"EAAone\nEAAtwo EAAthree\n", "line 2 is not one token"),
        (b"EAA\xff\n", "it cannot be read (UnicodeDecodeError)"),
    ],
)
def test_a_file_that_is_no_list_of_tokens_is_refused_without_showing_it(tmp_path, content, said):
    file = tmp_path / "tokens"
    if content is not None:
        file.write_bytes(content)
    assert refusal("--accept-from", str(file)) == f"--accept-from {file}: {said}"


@pytest.mark.parametrize("given", ["0", "61", "-1", "ten", "nan"])
def test_a_token_expires_within_its_sixty_days(given):
    assert "more than 0 and at most 60" in refusal("--accept-any", "--expires-in", given)


# -- what goes wrong

OUTCOMES = {
    Failure.REVOKED: (1, "reconnect_required"),
    Failure.PERMISSION: (1, "missing_permission"),
    Failure.NOT_EXTENDED: (1, "not_extended"),
    Failure.SECRET: (3, "app_rejected"),
    Failure.LIMIT: (3, "rate_limited"),
    Failure.DOWN: (1, "unavailable"),
    Failure.UNREACHABLE: (1, "unavailable"),
}


@pytest.mark.parametrize("empty_database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("failure", Failure)
def test_meta_fails_as_it_is_told_and_recovers(connected, failure):
    code, reason = OUTCOMES[failure]
    first = connected.ids[0]
    with serving("--accept-any", "--fail", failure) as sandbox:
        result = run(connected, sandbox, "--channel", first)
        found = result.document["stopped"] or result.entry(first)
    assert (result.code, found["reason"]) == (code, reason)
    with serving("--accept-any") as sandbox:
        assert run(connected, sandbox, "--force").counts == {"candidates": 2, "due": 2, "renewed": 2}


def test_a_failure_of_tokens_needs_tokens():
    assert "add --accept-any" in refusal("--fail", "revoked")
    assert "invalid choice" in refusal("--fail", "everything") or "invalid Failure" in refusal(
        "--fail", "everything"
    )


@pytest.mark.parametrize("option", [["--yes"], ["--column", "a=b"], ["--env-file", "x"]])
def test_options_about_rows_need_seed(option):
    assert refusal(*option) == "--column, --yes and --env-file are for --seed: add it"


# -- rows in the table of an application

KEYS = {
    "hex": KEY.hex(),
    "base64": base64.b64encode(KEY).decode(),
    "ring": f"{KEY.hex()},{OTHER_KEY.hex()}",
    "passphrase": "sha256:it is a passphrase",
}


def conditions(result):
    return {entry["name"]: (entry["outcome"], entry["reason"]) for entry in result.document["channels"]}


def test_a_mapped_table_is_filled_and_a_run_finds_a_channel_in_every_condition(real):
    real.world.env["CHANNEL_COLUMNS"] = "type=provider,name=display_name,active=is_active"
    names = {name: real.world.env[name] for name in ("CHANNEL_TABLE", "CHANNEL_COLUMNS")}
    with serving("--seed", real.url, *FILLED, lines=4, TOKEN_ENCRYPTION_KEY=KEY.hex(), **names) as sandbox:
        assert sandbox.settings["DATABASE_URL"] == real.url
        result = run(real, sandbox)
        sandbox.stop()
    rows = real.rows().values()
    assert sorted(row["phone_number_id"] for row in rows) == sorted(f"line-{n}" for n in range(1, 19))
    assert {(row["tenant_id"], row["is_active"] in (True, 1)) for row in rows} == {("t-1", True)}
    assert (result.counts["renewed"], result.counts["due"]) == (6, 14)
    assert conditions(result)["Clinic East"] == ("renewed", None)
    assert conditions(result)["Dental Practice"] == ("failed", "reconnect_required")
    assert "18 channels seeded." in sandbox.said


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_key_may_have_every_form_and_is_not_printed(world, key):
    settings = {"TOKEN_ENCRYPTION_KEY": key, "DATABASE_URL": world.url}
    with serving("--seed", **settings) as sandbox:
        world.env |= sandbox.settings | settings
        assert world.json("--dry-run").counts["due"] == 14
        sandbox.stop()
    assert set(sandbox.settings) == {"META_GRAPH_URL", "META_APP_ID", "META_APP_SECRET"}


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_without_a_key_there_is_a_new_one_and_a_shell_takes_what_is_printed(world):
    with serving("--seed", world.url, lines=5) as sandbox:
        shown = subprocess.run(
            ["sh", "-c", f'{sandbox.printed}\nprintf "%s\\n" "$TOKEN_ENCRYPTION_KEY"'],
            capture_output=True,
            text=True,
            check=True,
        )
        key = bytes.fromhex(shown.stdout.strip())
        assert sandbox.settings["TOKEN_ENCRYPTION_KEY"] == key.hex()
        stored = world.rows.get(1)["wa_token_encrypted"]
        token = Fernet(base64.urlsafe_b64encode(key)).decrypt(stored.encode()).decode()
        assert inspect(sandbox, token)["is_valid"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_settings_come_from_a_file_where_the_environment_has_none(world, tmp_path):
    file = tmp_path / "rehearsal.env"
    file.touch(mode=0o600)
    file.write_text(f"DATABASE_URL={world.url}\nTOKEN_ENCRYPTION_KEY={KEY.hex()}\n")
    with serving("--seed", "--env-file", str(file)) as sandbox:
        sandbox.stop()
    assert (sandbox.said.splitlines()[0], world.rows.get(18)["name"]) == (
        "18 channels seeded.",
        "Warehouse Line",
    )


def test_a_table_with_rows_is_only_filled_on_demand(connected):
    settings = {"TOKEN_ENCRYPTION_KEY": KEY.hex()} | connected.world.env
    before = connected.rows()
    said = refusal("--seed", *FILLED, **settings)
    assert said == (
        'nothing was seeded: "Channel" holds rows already; if it is no table of real customers, add --yes'
    )
    assert connected.rows() == before
    with serving("--seed", "--yes", *FILLED, **settings):
        assert len(connected.rows()) == len(before) + 18


def test_columns_that_need_a_value_are_named(real):
    assert refusal("--seed", **real.world.env) == (
        'nothing was seeded: "Channel" has columns that must not be null and have no default: tenant_id, '
        "phone_number_id, verify_token. Give each a value: --column tenant_id=… --column phone_number_id=… "
        "--column verify_token=… ({n} in it becomes the number of the row)"
    )


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("tenant=1", 'column "tenant" of "Channel" does not exist'),
        ("provider=x", 'column "provider" of "Channel" the sandbox fills itself'),
    ],
)
def test_a_column_that_is_not_theirs_to_fill_is_refused(real, column, said):
    assert refusal("--seed", *FILLED, "--column", column, **real.world.env) == f"nothing was seeded: {said}"


def test_what_the_table_refuses_is_said_and_nothing_stays(real):
    same = ["--column", "tenant_id=t", "--column", "verify_token=v", "--column", "phone_number_id=same"]
    said = refusal("--seed", *same, **real.world.env)
    assert said.startswith("nothing was seeded: the database refuses a row: ")
    assert "phone_number_id" in said
    assert real.rows() == {}


def test_other_kinds_of_columns_get_what_they_need(shop):
    """Of another schema on PostgreSQL, with an enum, uuids, and times that Prisma writes itself."""
    names = {"phone_number": "phone", "active": "enabled", "updated_at": "changed"}
    kinds = {"phone": "TEXT NOT NULL", "enabled": "BOOLEAN NOT NULL", "changed": "TIMESTAMP(3) NOT NULL"}
    kinds |= {"id": "UUID PRIMARY KEY", "seenAt": "TIMESTAMP(3) NOT NULL"}
    if shop.is_sqlite:
        kinds["id"] = "TEXT PRIMARY KEY"
    else:
        shop.sql("CREATE TYPE provider AS ENUM ('mail', 'wa')")
        kinds["type"] = "provider NOT NULL"
    shop.make(kinds, names=names, table="line")
    shop.world.env["CHANNEL_TYPE"] = "wa"
    with serving("--seed", **shop.world.env) as sandbox:
        result = run(shop, sandbox)
        sandbox.stop()
    rows = shop.rows().values()
    assert result.counts["renewed"] == 6
    assert sorted({str(row["type"]) for row in rows}) == (
        ["email", "wa"] if shop.is_sqlite else ["mail", "wa"]
    )
    assert len({row["phone"] for row in rows}) == 18
    assert all(row["enabled"] in (True, 1) and row["changed"] and row["seenAt"] for row in rows)


@pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
def test_the_schema_of_the_address_is_filled(shop):
    shop.sql("CREATE SCHEMA app", "SET search_path TO app")
    shop.sql(
        'CREATE TABLE app."Channel" (id TEXT PRIMARY KEY DEFAULT gen_random_uuid(), name TEXT, '
        "type TEXT NOT NULL CHECK (type IN ('whatsapp')), wa_token_encrypted TEXT NOT NULL)"
    )
    shop.world.env["DATABASE_URL"] = shop.url + ("&" if "?" in shop.url else "?") + "schema=app"
    shop.migrate()
    with serving("--seed", **shop.world.env) as sandbox:
        result = run(shop, sandbox)
        sandbox.stop()
    assert (result.counts["renewed"], sandbox.said.splitlines()[0]) == (6, "17 channels seeded.")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"DATABASE_URL": "mysql://x"}, "DATABASE_URL: it must begin with postgresql:// or sqlite:///"),
        (
            {"DATABASE_URL": "sqlite:////nowhere/x"},
            "nothing was seeded: the database cannot be reached: unable to open database file",
        ),
        ({"CHANNEL_COLUMNS": "x"}, 'CHANNEL_COLUMNS: "x" is not of the form our_name=their_name'),
        (
            {"TOKEN_ENCRYPTION_KEY": "abc"},
            "TOKEN_ENCRYPTION_KEY: it holds 2 bytes, not 32",
        ),
    ],
)
def test_a_setting_that_cannot_be_used_is_said_as_the_program_says_it(tmp_path, settings, said):
    given = {"DATABASE_URL": f"sqlite:///{tmp_path / 'x.db'}"} | settings
    assert refusal("--seed", **given).startswith(said)


def test_a_table_without_our_columns_is_not_filled(shop):
    shop.sql('CREATE TABLE "Channel" (id TEXT PRIMARY KEY, type TEXT, wa_token_encrypted TEXT)')
    assert "lacks token_expires_at" in refusal("--seed", DATABASE_URL=shop.url)
