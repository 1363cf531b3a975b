"""`--check`: one line for each thing that a run needs, and what to do where it is not well."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import uuid
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from conftest import only_postgresql, only_sqlite
from listener import listening
from receivers import closed_port
from world import KEY, OTHER_KEY, ROOT, days, fernet

import refresh_tokens
from sandbox.graph import graph_error
from whatsapp_tokens.database.queries import Queries


def checks(result):
    """What was found, by subject."""
    return {check["subject"]: (check["ok"], check["text"]) for check in result.document["checks"]}


def test_where_all_is_well_each_line_says_ok_and_that_no_one_is_told_is_a_warning(world):
    world.channel()
    result = world.run("--check")
    assert (result.code, [line.split(": ")[0] for line in result.out.splitlines()]) == (
        0,
        [
            "ok       settings",
            "ok       database",
            "ok       keys",
            "ok       meta",
            "ok       clocks",
            "warning  alerts",
            "",
            "no problems, 1 warning",
        ],
    )


def test_nothing_is_changed_and_meta_is_asked_about_no_token(world):
    id_ = world.channel()
    before = world.rows.get(id_)
    world.run("--check")
    assert (world.rows.get(id_), world.rows.audit(), world.meta.count("exchange")) == (before, [], 0)
    assert world.meta.count() == 1


def test_the_findings_are_one_json_document(world):
    world.channel()
    result = world.json("--check")
    assert (result.code, result.err, result.document["exit_code"]) == (0, "", 0)
    assert checks(result)["keys"] == (True, "the first key opens 1 of 1 stored token")


def test_quiet_shows_only_what_is_not_well(world):
    world.env["META_APP_SECRET"] = "0" * 32
    result = world.run("--check", "--quiet")
    assert [line.split(": ")[0] for line in result.out.splitlines()] == ["PROBLEM  meta", "warning  alerts"]


def test_an_id_that_holds_a_secret_does_not_show_it(shop):
    shop.make()
    shop.channel(f"x-{shop.world.meta.app_secret}", wa_token_encrypted="no ciphertext")
    shop.channel("y")
    for flags in ((), ("--json",)):
        result = shop.world.run("--check", *flags)
        assert ("channel x-***, " in result.out, shop.world.meta.app_secret in result.out) == (True, False)


# -- keys


def test_it_is_counted_how_many_tokens_still_need_an_old_key(world):
    for key in (KEY, OTHER_KEY, OTHER_KEY):
        world.channel(key=key)
    world.env["TOKEN_ENCRYPTION_KEY"] = f"{KEY.hex()},{OTHER_KEY.hex()},sha256:never used"
    assert checks(world.json("--check"))["keys"] == (
        True,
        "the first key opens 1 of 3 stored tokens, 2 still need key 2, key 3 opens none",
    )


def test_after_a_forced_run_no_token_needs_the_old_key(world):
    for _ in range(3):
        world.channel(key=OTHER_KEY)
    world.env["TOKEN_ENCRYPTION_KEY"] = f"{KEY.hex()},{OTHER_KEY.hex()}"
    world.run("--force")
    assert checks(world.json("--check"))["keys"] == (
        True,
        "the first key opens 3 of 3 stored tokens, key 2 opens none",
    )


@pytest.mark.parametrize("inspected", [{"expires_at": 0}, {"age": 1, "lives": 59}])
def test_a_token_that_stays_is_encrypted_with_the_first_key_all_the_same(world, inspected):
    token = world.token(**inspected)
    id_ = world.channel(token, key=OTHER_KEY)
    world.env["TOKEN_ENCRYPTION_KEY"] = f"{KEY.hex()},{OTHER_KEY.hex()}"
    result = world.json()
    assert (result.told(id_)[0], world.stored(id_), world.meta.exchanges) == ("skipped", token, [])
    assert world.json().counts == {"candidates": 1}


def test_an_old_key_that_an_inactive_channel_needs_is_still_needed(world):
    world.rows.run('ALTER TABLE "Channel" ADD COLUMN active BOOLEAN')
    world.env["CHANNEL_COLUMNS"] = "active=active"
    world.channel()
    world.channel(key=OTHER_KEY, active=False)
    world.env["TOKEN_ENCRYPTION_KEY"] = f"{KEY.hex()},{OTHER_KEY.hex()}"
    assert checks(world.json("--check"))["keys"] == (
        True,
        "the first key opens 1 of 1 stored token, 1 of inactive channels need key 2 (no run renews them)",
    )


def test_an_inactive_channel_whose_key_is_gone_is_warned_of(world):
    world.rows.run('ALTER TABLE "Channel" ADD COLUMN active BOOLEAN')
    world.env["CHANNEL_COLUMNS"] = "active=active"
    world.channel()
    id_ = world.channel(key=OTHER_KEY, active=False)
    result = world.json("--check")
    ((level, text),) = levels(result, "keys")
    assert (result.code, level) == (0, "warning")
    assert f"; 1 of inactive channels cannot be opened: channel {id_}, " in text


def test_tokens_of_more_pages_than_one_are_all_tried(world):
    ciphertext = fernet().encrypt(b"a-token").decode()
    world.rows.insert_many({"type": "whatsapp", "wa_token_encrypted": ciphertext} for _ in range(4321))
    assert checks(world.json("--check"))["keys"] == (True, "the first key opens 4321 of 4321 stored tokens")


def test_tokens_that_no_key_opens_are_named(world):
    world.channel()
    bad = [world.channel(wa_token_encrypted=text) for text in ("EAAplain", "x", "y", "z")]
    ok, text = checks(world.json("--check"))["keys"]
    said = f"; 4 cannot be opened, so add the missing key, or store a token (--set-token): channel {bad[0]}, "
    assert (ok, said in text, text.endswith("; and 1 more")) == (
        False,
        True,
        True,
    )


def test_a_key_that_opens_nothing_is_called_the_wrong_one(world):
    world.channel(key=OTHER_KEY)
    result = world.json("--check")
    ok, text = checks(result)["keys"]
    assert (result.code, ok, text.startswith("TOKEN_ENCRYPTION_KEY opens none of 1 stored token")) == (
        2,
        False,
        True,
    )


def test_without_a_stored_token_the_keys_are_only_counted(world):
    assert checks(world.json("--check"))["keys"] == (True, "1 key; there is no stored token to try them on")


# -- the rest


def test_every_problem_of_the_settings_is_a_line_and_nothing_else_is_looked_at(world):
    world.env |= {"TOKEN_ENCRYPTION_KEY": "short", "META_APP_ID": ""}
    result = world.run("--check")
    lines = [line.split(": ")[:2] for line in result.out.splitlines()]
    assert (result.code, lines, world.meta.count()) == (
        2,
        [
            ["PROBLEM  settings", "TOKEN_ENCRYPTION_KEY"],
            ["PROBLEM  settings", "META_APP_ID"],
            [""],
            ["2 problems, no warnings"],
        ],
        0,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("META_APP_SECRET", "0" * 32), ("META_APP_ID", "999"), ("META_GRAPH_VERSION", "v999.0")],
)
def test_an_app_that_meta_does_not_accept_is_found(world, name, value):
    world.env[name] = value
    result = world.json("--check")
    assert (result.code, checks(result)["meta"][0]) == (2, False)


def test_a_meta_that_does_not_answer_is_found_and_its_address_named(world):
    world.env |= {"META_GRAPH_URL": "http://127.0.0.1:9", "META_RETRIES": "0"}
    ok, text = checks(world.json("--check"))["meta"]
    assert (ok, text.startswith("no answer from Meta"), "META_APP_ID" in text) == (False, True, False)
    assert text.endswith("; asked: http://127.0.0.1:9; check the network and META_GRAPH_URL")


def test_an_app_that_meta_accepts_is_named_with_the_address_that_was_asked(world):
    assert checks(world.json("--check"))["meta"] == (
        True,
        f"{world.meta.url} accepts the app {world.meta.app_id}",
    )


def test_a_missing_column_is_found_and_meta_is_looked_at_all_the_same(world):
    world.rows.run('ALTER TABLE "Channel" RENAME COLUMN token_status TO state')
    found = checks(world.json("--check"))
    assert (found["database"][0], "lacks token_status" in found["database"][1], found["meta"][0]) == (
        False,
        True,
        True,
    )
    assert "check DATABASE_URL" not in found["database"][1]


def test_a_database_that_cannot_be_reached_is_found(world):
    world.env["DATABASE_URL"] = "postgresql://app:hunter2-very-secret@127.0.0.1:9/app"
    result = world.json("--check")
    assert (result.code, checks(result)["database"][0], "hunter2" in result.out + result.err) == (
        2,
        False,
        False,
    )


@only_postgresql
def test_a_role_that_may_not_write_is_found(world):
    name = world.rows.engine.url.database
    world.rows.run(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    result = world.json("--check")
    ok, text = checks(result)["database"]
    assert (
        result.code,
        ok,
        "the role may not write anything, because this server or role is read-only" in text,
    ) == (
        2,
        False,
        True,
    )


@only_sqlite
def test_an_unmigrated_database_says_what_to_run(world, tmp_path):
    (tmp_path / "new.sqlite3").touch()
    world.env["DATABASE_URL"] = f"sqlite:///{tmp_path / 'new.sqlite3'}"
    ok, text = checks(world.json("--check"))["database"]
    assert (ok, text.endswith("run: alembic upgrade head")) == (False, True)


@only_sqlite
def test_a_table_that_prisma_migrates_may_get_its_columns_from_prisma(world):
    world.rows.run('ALTER TABLE "Channel" DROP COLUMN token_lease_until')
    world.rows.run("DROP TABLE whatsapp_token_alembic_version")
    world.rows.run("CREATE TABLE _prisma_migrations (id TEXT)")
    _, text = checks(world.json("--check"))["database"]
    assert text.endswith("run: alembic upgrade head, or let Prisma add them, as docs/your-own-table.md says")


@only_sqlite
def test_a_relative_path_of_a_database_is_warned_of(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world.env["DATABASE_URL"] = "sqlite:///channels.sqlite3"
    result = world.json("--check")
    assert (result.code, [level for level, _ in levels(result, "database")]) == (0, ["warning", "ok"])


def levels(result, subject):
    found = [check for check in result.document["checks"] if check["subject"] == subject]
    return [(check["level"], check["text"]) for check in found]


def test_that_no_one_is_told_is_a_warning_and_no_problem(world):
    result = world.json("--check")
    assert (result.code, levels(result, "alerts")) == (
        0,
        [("warning", "no one is told when a channel fails: set SLACK_WEBHOOK_URL or NOTIFY_URLS")],
    )


def test_where_alerts_go_is_said_and_that_it_can_be_reached_without_sending_anything(world):
    with listening() as slack:
        world.env |= {"SLACK_WEBHOOK_URL": f"{slack.url}/T0/very-secret", "NO_PROXY": "127.0.0.1"}
        result = world.json("--check")
        assert (result.code, levels(result, "alerts"), slack.pings, "very-secret" in result.out) == (
            0,
            [("ok", f"they go to Slack, and {slack.url} answers; nothing was sent, --test-alert does that")],
            [],
            False,
        )


def test_a_webhook_at_which_nothing_listens_is_a_problem_that_names_the_address(world):
    world.env["SLACK_WEBHOOK_URL"] = "https://127.0.0.1:9/services/T0/B0/very-secret"
    result = world.json("--check")
    ((level, text),) = levels(result, "alerts")
    assert (result.code, level, "very-secret" in result.out) == (2, "problem", False)
    assert text.startswith("Slack cannot be reached at https://127.0.0.1:9 (ConnectionError")


@only_sqlite
@pytest.mark.parametrize("kind", ["json", "mail", "chat"])
def test_the_servers_of_other_targets_are_looked_at_where_they_are_known_and_are_sent_nothing(world, kind):
    with listening() as server:
        port = server.url.rpartition(":")[2]
        address, asked = {
            "json": (f"json://127.0.0.1:{port}/very-secret", f"{server.url} answers"),
            "mail": (
                f"mailto://u:very-secret@127.0.0.1:{port}?mode=insecure&from=a@shop.example",
                f"smtp://127.0.0.1:{port} answers",
            ),
            "chat": ("matrix://u:very-secret@127.0.0.1/#ops", "whether its server answers was not tried"),
        }[kind]
        world.env |= {"NOTIFY_URLS": address}
        result = world.json("--check")
        ((level, text),) = levels(result, "alerts")
        assert (
            result.code,
            level,
            asked in text,
            text.endswith("nothing was sent, --test-alert does that"),
        ) == (
            0,
            "ok",
            True,
            True,
        )
        assert (server.pings, "very-secret" in result.out) == ([], False)


@only_sqlite
def test_a_mail_server_at_which_nothing_listens_is_a_problem(world):
    port = closed_port()
    world.env["NOTIFY_URLS"] = f"mailto://u:very-secret@127.0.0.1:{port}?mode=insecure&from=a@shop.example"
    result = world.json("--check")
    assert (result.code, levels(result, "alerts")) == (
        2,
        [
            (
                "problem",
                (
                    f"E-Mail cannot be reached at smtp://127.0.0.1:{port} (Connection refused); "
                    "check NOTIFY_URLS"
                ),
            )
        ],
    )


@only_sqlite
def test_the_server_of_the_heartbeat_is_looked_at_and_not_pinged(world):
    with listening() as server:
        world.env["HEALTHCHECK_URL"] = f"{server.url}/very-secret"
        result = world.json("--check")
        assert (result.code, levels(result, "heartbeat"), server.pings, "very-secret" in result.out) == (
            0,
            [("ok", f"{server.url} answers; nothing was pinged, --test-alert does that")],
            [],
            False,
        )
    result = world.json("--check")
    ((level, text),) = levels(result, "heartbeat")
    assert (result.code, level, text.endswith("; check HEALTHCHECK_URL")) == (2, "problem", True)


@pytest.mark.parametrize(
    ("path", "level", "said"),
    [
        ("{folder}/metrics.prom", "ok", "they go to {folder}/metrics.prom"),
        ("{folder}/no/metrics.prom", "warning", "METRICS_FILE: there is no folder {folder}/no; make it"),
        ("{folder}", "warning", "METRICS_FILE: it names a folder"),
        ("metrics.prom", "warning", "METRICS_FILE: it depends on the folder where a run is started"),
    ],
)
@only_sqlite
def test_it_is_looked_at_whether_the_metrics_can_be_written(world, tmp_path, path, level, said):
    world.env["METRICS_FILE"] = path.format(folder=tmp_path)
    result = world.json("--check")
    ((found, text),) = levels(result, "metrics")
    assert (result.code, found, said.format(folder=tmp_path) in text) == (0, level, True)


# -- what is said reads well


UNREACHABLE = {
    "META_GRAPH_URL": "http://127.0.0.1:9",
    "META_RETRIES": "0",
    "SLACK_WEBHOOK_URL": "https://127.0.0.1:9/services/x",
    "HEALTHCHECK_URL": "https://127.0.0.1:9/x",
}


@only_sqlite
@pytest.mark.parametrize(
    "settings",
    [
        {},
        UNREACHABLE,
        {"META_APP_SECRET": "0" * 32, "METRICS_FILE": "metrics.prom", "DATABASE_URL": "sqlite:///x.sqlite3"},
        {"CHANNEL_TYPE": "WhatsApp", "REQUIRED_SCOPES": "whatsapp_business_mesaging"},
        {"CHANNEL_TYPE": "sms", "TOKEN_ENCRYPTION_KEY": OTHER_KEY.hex()},
        {"META_APP_ID": "", "META_APP_IDS": "1", "TOKEN_ENCRYPTION_KEY": "short", "WORKERS": "0"},
    ],
    ids=["keys", "unreachable", "wrong secret", "wrong type", "another type", "settings"],
)
def test_no_line_has_three_colons(world, settings):
    world.channel()
    world.channel(key=OTHER_KEY)
    world.channel(wa_token_encrypted="EAAplain")
    world.env_file.write_text("SLACK_WEBHOK_URL=x\n")
    world.env |= settings
    lines = world.run("--check").out.splitlines()
    assert (len(lines) > 2, [line for line in lines if line.count(": ") > 2]) == (True, [])


@only_sqlite
def test_warnings_about_settings_are_lines_of_the_check(world):
    world.env |= {"REQUIRED_SCOPES": "whatsapp_business_mesaging"}
    world.env_file.write_text("SLACK_WEBHOK_URL=x\nnothing at all\n")
    world.env_file.chmod(0o600)
    result = world.json("--check")
    assert (result.code, result.err, levels(result, "settings")) == (
        0,
        "",
        [
            ("warning", f"{world.env_file}, line 2: it is not of the form NAME=value and was ignored"),
            (
                "warning",
                (
                    f"{world.env_file}: SLACK_WEBHOK_URL is no setting and is ignored; "
                    "is SLACK_WEBHOOK_URL meant?"
                ),
            ),
            (
                "warning",
                (
                    "REQUIRED_SCOPES: it names permissions that are not known (whatsapp_business_mesaging); "
                    "check the spelling"
                ),
            ),
            ("ok", "all required settings are there"),
        ],
    )


@only_sqlite
def test_a_secret_that_stands_in_a_file_is_called_by_the_variable_that_names_the_file(world, tmp_path):
    world.channel(key=OTHER_KEY)
    (tmp_path / "key").write_text(world.env.pop("TOKEN_ENCRYPTION_KEY"))
    world.env["TOKEN_ENCRYPTION_KEY_FILE"] = str(tmp_path / "key")
    _, text = checks(world.json("--check"))["keys"]
    assert text.startswith("TOKEN_ENCRYPTION_KEY_FILE opens none of 1 stored token")


@only_sqlite
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("META_APP_SECRET", "0" * 32, "copy it again from App settings > Basic in Meta's App Dashboard"),
        ("META_APP_ID", "999", "copy it again from Meta's App Dashboard"),
        ("META_GRAPH_VERSION", "v999.0", "set one that Meta's App Dashboard offers, or leave it out"),
    ],
)
def test_it_is_said_what_to_do_about_what_meta_refuses(world, name, value, said):
    world.env[name] = value
    _, text = checks(world.json("--check"))["meta"]
    assert (name in text, text.endswith(said)) == (True, True)


@only_sqlite
def test_a_version_that_has_ended_is_a_warning_of_the_check(world):
    world.meta.served_version = "v27.0"
    result = world.json("--check")
    assert [level for level, _ in levels(result, "meta")] == ["warning", "ok"]
    assert "META_GRAPH_VERSION is v26.0: that version has ended" in levels(result, "meta")[0][1]


@only_sqlite
def test_a_limit_of_the_app_is_no_problem_of_the_settings(world):
    world.meta.script(None, graph_error(403, "(#4) Application request limit reached", 4), forever=True)
    result = world.json("--check")
    ((level, text),) = levels(result, "meta")
    assert (result.code, level, text.endswith("try again later; a run waits for it")) == (0, "warning", True)


@only_sqlite
@pytest.mark.parametrize("no_color", [None, "1"])
def test_a_terminal_gets_columns_and_colours_unless_it_wants_none(world, no_color):
    leader, follower = pty.openpty()
    environment = world.environment() | ({"NO_COLOR": no_color} if no_color else {})
    subprocess.run(
        [sys.executable, str(ROOT / "refresh_tokens.py"), *world.arguments("--check")],
        env=environment,
        stdout=follower,
        check=True,
    )
    os.close(follower)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    subjects = [line[9:20] for line in re.sub(r"\x1b\[\d+m", "", shown).splitlines() if line[:7] == "ok     "]
    assert (("\x1b[32m" in shown), subjects[:2]) == (no_color is None, ["settings:  ", "database:  "])


# -- clocks


def test_all_three_clocks_are_shown(world):
    ((level, text),) = levels(world.json("--check"), "clocks")
    shown = re.fullmatch(r"this machine (.+ UTC), the database server (.+ UTC), Meta (.+ UTC)", text)
    times = [datetime.strptime(time, "%d %b %Y, %H:%M %Z").replace(tzinfo=UTC) for time in shown.groups()]
    assert (level, max(times) - min(times) < days(0.01)) == ("ok", True)


@pytest.mark.parametrize("ahead", [-20, 366])
def test_a_machine_whose_clock_is_wrong_is_told_so(world, monkeypatch, ahead):
    monkeypatch.setattr(refresh_tokens, "now", lambda: datetime.now(UTC) + days(ahead))
    result = world.json("--check")
    ((level, text),) = levels(result, "clocks")
    assert (result.code, level, text.startswith("set the clock of this machine: ")) == (2, "problem", True)


def test_a_database_server_whose_clock_is_wrong_is_warned_of(world, monkeypatch):
    monkeypatch.setattr(Queries, "now", lambda _self: datetime.now(UTC) - days(1))
    result = world.json("--check")
    ((level, text),) = levels(result, "clocks")
    assert (result.code, level) == (0, "warning")
    assert text.startswith("set the clock of the database server: ")


# -- what the role may do


@pytest.fixture
def role(world):
    """A role of its own, which the program then uses."""
    name = f"role_{uuid.uuid4().hex[:12]}"
    url = sa.engine.make_url(world.url)
    world.rows.run(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
    world.env["DATABASE_URL"] = url.set(username=name, password=name).render_as_string(hide_password=False)
    yield name
    world.rows.run(f"DROP OWNED BY {name}")
    world.rows.run(f"DROP ROLE {name}")


STATE = (
    "token_expires_at, last_token_refresh_at, token_status, token_error, token_fingerprint, "
    "token_alerted_at, token_lease_until"
)


@only_postgresql
@pytest.mark.parametrize(
    ("grants", "lacking"),
    [
        (
            ['SELECT ON "Channel"', "SELECT ON token_audit_log"],
            (
                f'UPDATE wa_token_encrypted, {STATE} of "Channel"; '
                "nor INSERT at, channel_id, event, message, reason, expires_at_before, expires_at_after of "
                "token_audit_log; nor USE the sequence public.token_audit_log_id_seq"
            ),
        ),
        (
            [
                'SELECT, UPDATE ON "Channel"',
                "INSERT ON token_audit_log",
            ],
            "USE the sequence public.token_audit_log_id_seq",
        ),
        (
            [
                'SELECT ON "Channel"',
                f'UPDATE ({STATE}) ON "Channel"',
                "INSERT ON token_audit_log",
                "USAGE ON SEQUENCE token_audit_log_id_seq",
            ],
            'UPDATE wa_token_encrypted of "Channel"',
        ),
    ],
    ids=["reader", "no sequence", "no tokens"],
)
def test_what_the_role_may_not_do_is_named(world, role, grants, lacking):
    for grant in grants:
        world.rows.run(f"GRANT {grant} TO {role}")
    assert checks(world.json("--check"))["database"] == (
        False,
        f'"Channel" in PostgreSQL: the role may not {lacking}; grant it',
    )


@only_postgresql
def test_a_role_with_just_the_rights_that_the_readme_names_is_enough(world, role):
    id_ = world.channel()
    for grant in (
        'SELECT, UPDATE ON "Channel"',
        "INSERT ON token_audit_log",
        "USAGE ON SEQUENCE token_audit_log_id_seq",
    ):
        world.rows.run(f"GRANT {grant} TO {role}")
    assert (checks(world.json("--check"))["database"][0], world.json().told(id_)) == (True, ("renewed", None))
