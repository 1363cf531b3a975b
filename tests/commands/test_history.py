"""`--history`: one channel as it is, why it is due or not, and its audit log."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import only_postgresql, only_sqlite
from listener import listening
from world import ROOT, days

from models import fingerprint
from whatsapp_tokens.database.errors import DatabaseLost
from whatsapp_tokens.database.pages import Pages

DEAD = "reconnect_required: Error validating access token"
MOMENT = r"\d{1,2} [A-Z][a-z]{2} \d{4}, \d{2}:\d{2} UTC"


def shown(result):
    """The lines about the channel, by their names; the label is under an empty name."""
    head = result.out.partition("\n\n")[0].splitlines()
    return {"": head[0]} | {
        name.strip(): text.strip() for name, _, text in (x.partition(":") for x in head[1:])
    }


def log_of(result):
    return result.out.partition("Audit log, newest first:\n")[2].splitlines()


def moment(time):
    return f"{time.day} {time:%b %Y, %H:%M} UTC"


def ok_channel(world, **columns):
    columns = {
        "name": "Bakery North",
        "token_expires_at": world.now + days(40),
        "last_token_refresh_at": world.now - days(20),
    } | columns
    return world.channel(**columns)


def dead_channel(world, **columns):
    columns = {"wa_token_encrypted": "stored", "token_status": "warning", "token_error": DEAD} | columns
    return world.channel(**columns, token_fingerprint=fingerprint(columns["wa_token_encrypted"]))


def test_the_state_the_clocks_and_the_day_on_which_it_is_due(world):
    id_ = ok_channel(world)
    result = world.run("--history", str(id_))
    assert (result.code, result.err, shown(result)) == (
        0,
        "",
        {
            "": f"Bakery North ({id_})",
            "State": "Working",
            "Due": f"no: next due on {moment(world.now + days(25))}",
            "Expires": f"{moment(world.now + days(40))} (39 days)",
            "Refreshed": moment(world.now - days(20)),
            "Status": "ok",
        },
    )


def test_what_is_wrong_since_when_and_what_to_do(world):
    told = world.now - days(3)
    id_ = dead_channel(world, name="Bakery North", token_alerted_at=told)
    world.env["RECONNECT_URL"] = "https://app.example.com/connect?id={channel_id}"
    for ago, event, reason in [
        (9, "failed", "reconnect_required"),
        (8, "recovered", None),
        (6, "failed", "reconnect_required"),
        (5, "failed", "unavailable"),
        (4, "failed", "reconnect_required"),
        (3, "failed", "reconnect_required"),
    ]:
        world.rows.audited(id_, event, world.now - days(ago), reason)
    result = world.run("--history", str(id_))
    assert shown(result) == {
        "": f"Bakery North ({id_})",
        "State": f"Down now, since {moment(world.now - days(4))}",
        "Cause": "Meta no longer accepts the token",
        "Detail": "Error validating access token",
        "To do": "The customer must connect WhatsApp again",
        "Reconnect": f"https://app.example.com/connect?id={id_}",
        "Due": "yes: it expires soon",
        "Expires": f"{moment(world.now + days(10))} (9 days)",
        "Refreshed": moment(world.now - days(50)),
        "Status": "warning (reconnect_required)",
        "Told": f"people were told on {moment(told)}",
    }


def test_a_real_failure_a_recovery_and_a_renewal_are_in_the_log(world):
    token = world.token()
    id_ = world.channel(token)
    world.meta.token(token).error = (190, 460, "The password was changed.")
    other = world.channel()
    world.run()
    world.meta.token(token).error = None
    world.run()
    result = world.run("--history", str(id_))
    lines = [re.sub(rf"^{MOMENT} +", "", line) for line in log_of(result)]
    assert [line.split("  ")[0] for line in lines] == ["recovered", "refreshed", "failed"]
    before, after = (f"{time.day} {time:%b %Y}" for time in (world.now + days(10), world.now + days(60)))
    assert lines[0] == "recovered        The channel is well again; it was reconnect_required"
    assert lines[1] == f"refreshed        Token refreshed automatically; expiry {before} → {after}"
    assert lines[2].startswith("failed           reconnect_required, ")
    assert lines[2].endswith(f"; expiry {before}")
    assert len(log_of(world.run("--history", str(other)))) == 1


def test_one_json_document(world):
    id_ = dead_channel(world, name="Bakery North", token_expires_at=world.now - days(2))
    world.rows.audited(id_, "refreshed", world.now - days(9))
    world.rows.audited(id_, "failed", world.now - days(4), "reconnect_required")
    result = world.json("--history", str(id_))

    def text(time):
        return f"{time:%Y-%m-%dT%H:%M:%SZ}"

    assert (result.code, result.err) == (0, "")
    assert {name: result.document[name] for name in ("exit_code", "stopped", "channels", "left_out")} == {
        "exit_code": 0,
        "stopped": None,
        "channels": [],
        "left_out": 0,
    }
    assert result.document["channel"] == {
        "id": id_,
        "name": "Bakery North",
        "phone_number": None,
        "type": "whatsapp",
        "state": "waiting",
        "since": text(world.now - days(4)),
        "reason": "reconnect_required",
        "cause": "Meta no longer accepts the token",
        "detail": "Error validating access token",
        "advice": "The customer must connect WhatsApp again",
        "reconnect_url": None,
        "renewal": "waiting",
        "why": "no: it waits for its customer to connect WhatsApp again; Meta is not asked before that",
        "next_due_at": None,
        "claimed_until": None,
        "replaced": False,
        "expires_at": text(world.now - days(2)),
        "refreshed_at": text(world.now - days(50)),
        "status": "warning",
        "error": DEAD,
        "alerted_at": None,
    }
    assert result.document["audit"] == [
        {
            "at": text(world.now - days(4)),
            "event": "failed",
            "message": "x",
            "reason": "reconnect_required",
            "expires_at_before": None,
            "expires_at_after": None,
        },
        {
            "at": text(world.now - days(9)),
            "event": "refreshed",
            "message": "x",
            "reason": None,
            "expires_at_before": None,
            "expires_at_after": None,
        },
    ]


def test_it_calls_no_one_and_changes_nothing(world, tmp_path):
    id_ = dead_channel(world)
    before = world.rows.get(id_)
    metrics = tmp_path / "metrics.prom"
    with listening() as hook:
        world.env |= {
            "SLACK_WEBHOOK_URL": f"{hook.url}/slack",
            "NOTIFY_URLS": f"json://127.0.0.1:{hook.server_port}/apprise",
            "HEALTHCHECK_URL": f"{hook.url}/check",
            "METRICS_FILE": str(metrics),
        }
        assert world.run("--history", str(id_)).code == 0
        assert world.run("--history", "unknown").code == 2
        assert hook.pings == []
    assert (world.meta.count(), world.rows.get(id_), world.rows.audit()) == (0, before, [])
    assert not metrics.exists()


# -- which rows


def test_a_key_that_does_not_fit_is_no_hindrance(world):
    id_ = ok_channel(world, wa_token_encrypted="what no key opens")
    result = world.run("--history", str(id_))
    assert (result.code, shown(result)["State"]) == (0, "Working")
    assert "what no key opens" not in world.json("--history", str(id_)).out + result.out


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"type": "instagram"}, 'no: its type is "instagram", and CHANNEL_TYPE is "whatsapp"'),
        ({"wa_token_encrypted": None}, "no: it has no token; its customer has not connected WhatsApp"),
        ({"wa_token_encrypted": ""}, "no: it has no token; its customer has not connected WhatsApp"),
        ({"token_expires_at": None}, "yes: its expiry is not known yet"),
        ({"token_fingerprint": "of another"}, "yes: another token was stored since the last run"),
    ],
)
def test_why_a_channel_is_due_or_not(world, columns, why):
    id_ = ok_channel(world, **columns)
    result = world.run("--history", str(id_))
    assert (result.code, shown(result)["Due"]) == (0, why)


def test_a_row_of_no_type(world):
    world.rows.run('ALTER TABLE "Channel" RENAME TO "Typed"')
    world.rows.run('CREATE TABLE "Channel" AS SELECT * FROM "Typed"')
    id_ = ok_channel(world, id=7, type=None)
    result = world.run("--history", str(id_))
    assert shown(result)["Due"] == 'no: its type is not set, and CHANNEL_TYPE is "whatsapp"'


def test_an_inactive_channel_is_not_called_working(world):
    world.rows.run('ALTER TABLE "Channel" ADD is_active BOOLEAN')
    world.env["CHANNEL_COLUMNS"] = "active=is_active"
    id_ = ok_channel(world, is_active=False)
    result = world.run("--history", str(id_))
    assert (shown(result)["State"], shown(result)["Due"]) == (
        "Not renewed by this program",
        "no: it is inactive",
    )
    channel = world.json("--history", str(id_)).document["channel"]
    assert (channel["state"], channel["renewal"]) == (None, "inactive")


def test_a_token_stored_since_is_said_before_the_clocks_of_the_earlier_one(world):
    id_ = dead_channel(world)
    world.rows.update(id_, wa_token_encrypted="stored by the application")
    result = world.run("--history", str(id_))
    assert shown(result)["State"] == "Not known yet"
    assert shown(result)["Token"].startswith("the application has stored another one since")
    assert "Cause" not in shown(result)
    assert world.json("--history", str(id_)).document["channel"]["replaced"] is True


def test_a_claim_is_shown_until_it_ends(world):
    claimed, free = ok_channel(world), ok_channel(world)
    until = world.now + timedelta(minutes=9)
    world.rows.update(claimed, token_lease_until=until)
    world.rows.update(free, token_lease_until=world.now - days(1))
    assert shown(world.run("--history", str(claimed)))["Claimed"] == f"by a run, until {moment(until)}"
    assert "Claimed" not in shown(world.run("--history", str(free)))


def test_phone_number_and_a_name_that_is_not_there(world):
    world.rows.run('ALTER TABLE "Channel" ADD phone TEXT')
    world.env["CHANNEL_COLUMNS"] = "phone_number=phone"
    id_ = ok_channel(world, name=None, phone="+34 600 000 001")
    assert shown(world.run("--history", str(id_)))[""] == f"{id_}, +34 600 000 001"


@only_postgresql
def test_infinity_is_a_time_like_others(world):
    id_ = ok_channel(world)
    set_ = "token_expires_at = 'infinity', last_token_refresh_at = 'infinity'"
    world.rows.run(f'UPDATE "Channel" SET {set_}')
    world.rows.audited(id_, "failed", world.now)
    world.rows.run("UPDATE token_audit_log SET at = 'infinity', expires_at_before = '-infinity'")
    result = world.run("--history", str(id_))
    assert (result.code, len(log_of(result))) == (0, 1)


def test_a_channel_that_never_expires(world):
    id_ = ok_channel(world, token_status="never_expires", token_expires_at=None, last_token_refresh_at=None)
    found = shown(world.run("--history", str(id_)))
    assert [found[name] for name in ("State", "Due", "Expires", "Refreshed")] == [
        "Never expires",
        "no: it never expires, and its age is not known",
        "never",
        "not known",
    ]


# -- ids


@pytest.mark.parametrize(
    "id_", ["cl9abc", "Ünïcode/1", "a'b\"c;--", "%s%%", "7", " padded ", "::error::x", "-x"]
)
def test_ids_of_any_form(shop, id_):
    shop.make()
    shop.channel(id_)
    shop.json()
    result = shop.world.json(f"--history={id_}")
    assert (result.code, result.document["channel"]["id"]) == (0, id_)
    assert [entry["event"] for entry in result.document["audit"]] == ["refreshed"]


@pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
def test_a_uuid_in_capitals_is_found(shop):
    id_ = "0b7c1f5e-6a5b-4f0e-9d0a-0123456789ab"
    shop.make({"id": "UUID PRIMARY KEY"})
    shop.channel(id_)
    shop.json()
    result = shop.world.json("--history", id_.upper())
    assert (result.document["channel"]["id"], len(result.document["audit"])) == (id_, 1)
    shop.sql(f"DELETE FROM {shop.table}")
    gone = shop.world.json("--history", id_.upper())
    assert (gone.document["channel"], len(gone.document["audit"])) == (None, 1)


@pytest.mark.parametrize("id_", ["99", "abc", "1e3", "9" * 30, "1; DROP TABLE x", "ñ", "\udcff"])
def test_an_unknown_id_is_a_usage_error_that_names_it(world, id_):
    ok_channel(world)
    result = world.json("--history", id_)
    assert (result.code, result.document["exit_code"], result.document["channel"]) == (2, 2, None)
    assert result.document["stopped"]["reason"] == "configuration"
    assert result.document["stopped"]["detail"] == f"--history {id_}: there is no channel with this id"


def test_the_log_of_a_row_that_is_gone(world):
    id_ = ok_channel(world)
    world.rows.audited(id_, "failed", world.now, "unavailable")
    world.rows.run('DELETE FROM "Channel"')
    result = world.run("--history", f"0{id_}")
    assert (result.code, len(log_of(result))) == (0, 1)
    assert result.out.startswith(f"0{id_}: the row is gone; the audit log still has its history\n")
    document = world.json("--history", str(id_)).document
    assert (document["channel"], [row["reason"] for row in document["audit"]]) == (None, ["unavailable"])


# -- the audit log


def many_rows(world, id_, count):
    start = world.now - timedelta(seconds=count)
    values = [
        {"at": world.rows._out(start + timedelta(seconds=number // 3)), "id": str(id_), "m": f"row {number}"}
        for number in range(count)
    ]
    with world.rows.connect() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO token_audit_log (at, channel_id, event, message) VALUES (:at, :id, 'failed', :m)"
            ),
            values,
        )


def test_a_long_log_is_complete_in_order_and_only_its_channels(world):
    id_, other = ok_channel(world), ok_channel(world)
    many_rows(world, id_, 4321)
    many_rows(world, other, 10)
    messages = [row["message"] for row in world.json("--history", str(id_)).document["audit"]]
    assert messages == [f"row {number}" for number in range(4320, -1, -1)]
    assert len(log_of(world.run("--history", str(id_)))) == 4321


def test_limit_shows_the_newest_and_counts_the_others(world):
    id_ = ok_channel(world)
    many_rows(world, id_, 10)
    document = world.json("--history", str(id_), "--limit", "2").document
    assert ([row["message"] for row in document["audit"]], document["left_out"]) == (["row 9", "row 8"], 8)
    lines = log_of(world.run("--history", str(id_), "--limit", "9"))
    assert lines[9:] == ["… and 1 older: --limit 10 shows all of them"]


def test_a_terminal_gets_the_newest_fifty(world):
    id_ = ok_channel(world)
    many_rows(world, id_, 60)
    ours, theirs = pty.openpty()
    with world.start("--history", str(id_), "--limit", "60") as piped:
        assert len(piped.stdout.read().split("newest first:")[1].splitlines()) == 61
    with subprocess.Popen(
        [sys.executable, str(ROOT / "refresh_tokens.py"), *world.arguments("--history", str(id_))],
        env=world.environment(),
        stdout=theirs,
    ) as process:
        os.close(theirs)
        out = b""
        try:
            while piece := os.read(ours, 65536):
                out += piece
        except OSError:  # the end, on Linux
            pass
        assert process.wait() == 0
    os.close(ours)
    assert out.decode().splitlines()[-1] == "… and 10 older: --limit 60 shows all of them"


def test_the_index_is_used(world):
    id_ = ok_channel(world)
    many_rows(world, id_, 3000)
    if world.rows.is_sqlite:
        explain = "EXPLAIN QUERY PLAN"
    else:
        explain = "EXPLAIN"
        world.rows.run("ANALYZE token_audit_log")
    statements = []

    @sa.event.listens_for(sa.engine.Engine, "before_cursor_execute")
    def note(_connection, _cursor, statement, parameters, *_):
        if "ORDER BY token_audit_log.at DESC" in statement:
            statements.append((statement, parameters))

    try:
        world.json("--history", str(id_))
    finally:
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)
    with world.rows.connect() as connection:
        if world.rows.is_sqlite:
            connection.connection.create_function("utc", 1, str)
        plans = [
            str(connection.exec_driver_sql(f"{explain} {text}", values).all()) for text, values in statements
        ]
    assert ["ix_token_audit_log_channel_id" in plan for plan in plans] == [True, True]


def test_whoever_stops_reading_ends_it(world):
    id_ = ok_channel(world)
    many_rows(world, id_, 5000)
    with world.start("--history", str(id_)) as process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert (process.wait(), "the output could not be written (Broken pipe)" in err) == (0, True)


# -- hostile text and secrets


def test_texts_of_others_stay_on_their_line_and_show_no_secret(world):
    token = world.token()
    id_ = ok_channel(
        world, name="Shop\x1b[31m\u202eevil\nState: fine", token_error=f"x: {token}\n{world.meta.app_secret}"
    )
    world.rows.run(
        "INSERT INTO token_audit_log (at, channel_id, event, message, reason) VALUES (:at, :id, :e, :m, :r)",
        at=world.rows._out(world.now),
        id=str(id_),
        e="failed\x1b[2J",
        m=f"\u202ewhat {token} said\n{world.env['TOKEN_ENCRYPTION_KEY']}",
        r=f"r\u2066{world.meta.app_secret}",
    )
    plain, document = world.run("--history", str(id_)), world.json("--history", str(id_))
    printed = plain.out + plain.err + document.out + document.err
    assert [
        secret
        for secret in (token, world.meta.app_secret, world.env["TOKEN_ENCRYPTION_KEY"])
        if secret in printed
    ] == []
    assert [c for c in plain.out if not c.isprintable() and c != "\n"] == []
    assert shown(plain)[""] == f"Shop [31m evil State: fine ({id_})"
    assert len(log_of(plain)) == 1
    assert json.loads(document.out)["audit"][0]["message"].startswith("\u202ewhat *** said")


# -- rights, faults and other options


@only_postgresql
def test_a_role_that_may_only_read_is_enough(world, pg_server):
    id_ = ok_channel(world)
    world.rows.audited(id_, "failed", world.now, "unavailable")
    role = f"reader_{os.getpid()}_{id(world)}"
    pg_server.run(f"CREATE ROLE {role} LOGIN")
    try:
        world.rows.run(f'GRANT SELECT ON "Channel" TO {role}')
        world.env["DATABASE_URL"] = re.sub(r"//([^@/]*@)?", f"//{role}@", world.url, count=1)
        without = world.json("--history", str(id_))
        world.rows.run(f"GRANT SELECT ON token_audit_log TO {role}")
        world.rows.run(f"ALTER ROLE {role} SET default_transaction_read_only = on")
        reader = world.json("--history", str(id_))
    finally:
        world.rows.run(f"DROP OWNED BY {role}")
        pg_server.run(f"DROP ROLE {role}")
    assert (without.code, without.document["channel"]["state"], without.document["audit"]) == (2, "ok", [])
    assert "the role needs SELECT on token_audit_log" in without.document["stopped"]["detail"]
    assert (reader.code, len(reader.document["audit"])) == (0, 1)


@only_sqlite
def test_not_a_byte_of_a_file_changes(world):
    id_ = ok_channel(world)
    many_rows(world, id_, 3)
    path = Path(world.url.removeprefix("sqlite:///"))
    before = path.read_bytes()
    assert world.run("--history", str(id_)).code == 0
    assert path.read_bytes() == before


def test_a_log_that_breaks_off_counts_what_was_not_read(world, monkeypatch):
    def broken(pages, query, behind):
        yield from list(original(pages, query, behind))[:7]
        raise DatabaseLost("the database cannot be reached")

    original = Pages.rows
    monkeypatch.setattr(Pages, "rows", broken)
    id_ = ok_channel(world)
    many_rows(world, id_, 10)
    result = world.json("--history", str(id_))
    assert (result.code, result.document["stopped"]["reason"]) == (3, "database_lost")
    assert (len(result.document["audit"]), result.document["left_out"]) == (7, 3)


@pytest.mark.parametrize("kind", ["CHAR(10)", "VARCHAR(10)", "BIGINT"])
@pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
def test_ids_of_every_type_of_column(shop, kind):
    id_ = 2**53 + 1 if kind == "BIGINT" else "ab"
    shop.make({"id": f"{kind} PRIMARY KEY"})
    shop.channel(id_)
    shop.json()
    document = shop.world.json("--history", str(id_)).document
    assert (document["channel"]["id"], len(document["audit"])) == (str(id_), 1)


def test_without_the_audit_table_it_says_what_to_run(world):
    id_ = ok_channel(world)
    world.rows.run("DROP TABLE token_audit_log")
    result = world.run("--history", str(id_))
    assert (result.code, "alembic upgrade head" in result.err) == (2, True)


def test_quiet_still_answers(world):
    id_ = ok_channel(world)
    assert world.run("--history", str(id_), "--quiet").out == world.run("--history", str(id_)).out


@pytest.mark.parametrize(
    "others",
    [
        ["--dry-run"],
        ["--force"],
        ["--audit"],
        ["--check"],
        ["--set-token", "1"],
        ["--channel", "1"],
        ["--report", "x.html"],
        ["--test-alert"],
    ],
)
def test_it_stands_alone(world, others):
    result = world.run("--history", "1", *others)
    assert (result.code, "stands alone" in result.err) == (2, True)


def test_a_signal_ends_it(world):
    id_ = ok_channel(world)
    many_rows(world, id_, 20_000)
    with world.start("--history", str(id_)) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert (process.wait(), process.stderr.read()) == (130, "")


def test_the_next_due_day_is_the_one_that_the_query_knows(world):
    """The same rule stands in SQL: a second before the day a channel is not due, and a second after it is."""
    by_expiry = ok_channel(world, token_expires_at=world.now + days(30))
    by_age = ok_channel(world, last_token_refresh_at=world.now - days(44))
    for id_ in (by_expiry, by_age):
        due_at = world.json("--history", str(id_)).document["channel"]["next_due_at"]
        left = datetime.fromisoformat(due_at).astimezone(UTC) - world.now
        row = world.rows.get(id_)
        for shift, renewal in (
            (left - timedelta(minutes=5), "not_due"),
            (left + timedelta(minutes=5), "due"),
        ):
            world.rows.update(
                id_,
                token_expires_at=row["token_expires_at"] - shift,
                last_token_refresh_at=row["last_token_refresh_at"] - shift,
            )
            assert world.json("--history", str(id_)).document["channel"]["renewal"] == renewal
