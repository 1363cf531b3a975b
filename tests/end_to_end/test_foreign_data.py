"""The contract on what other people keep in their tables: times in any zone, other owners, and garbage."""

from __future__ import annotations

import base64
import uuid

import pytest
import sqlalchemy as sa
from conftest import migrate
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from receivers import SlackServer, running
from shop import STATE, TIMES, TOKEN, real_channel
from world import KEY, OTHER_KEY, World, days, fernet

from sandbox.graph import graph_error

DEAD = (190, 460, "Error validating access token: the session was invalidated.")

only_postgresql = pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
only_sqlite = pytest.mark.parametrize("empty_database_url", ["sqlite"], indirect=True)


@pytest.fixture
def slack(shop):
    with running(SlackServer()) as server:
        shop.world.env["SLACK_WEBHOOK_URL"] = server.url.reveal()
        yield server


# -- times


@only_postgresql
@pytest.mark.parametrize("kind", ["TIMESTAMP(3)", "TIMESTAMP", "TIMESTAMPTZ", "TIMESTAMPTZ(0)"])
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York", "UTC"])
def test_times_are_right_in_every_zone_of_the_server(shop, kind, zone):
    name = sa.engine.make_url(shop.url).database
    shop.sql(f"ALTER DATABASE \"{name}\" SET timezone = '{zone}'")
    shop.make(time=kind)
    due = shop.channel()
    edge = shop.channel(token_expires_at=shop.world.now + days(15.1), last_token_refresh_at=shop.world.now)
    first = shop.json()
    row = shop.row(due)
    assert (first.counts, shop.is_renewed(due)) == ({"candidates": 2, "due": 1, "renewed": 1}, True)
    assert abs(shop.audit()[0]["at"] - shop.world.now) < days(0.01)
    assert abs(row["token_expires_at"] - row["last_token_refresh_at"] - days(60)) < days(0.001)
    assert (shop.json().counts, shop.is_renewed(edge)) == ({"candidates": 2}, False)


@only_postgresql
@pytest.mark.parametrize("kind", ["TIMESTAMP(3)", "TIMESTAMPTZ"])
def test_claims_and_alerts_are_right_in_any_zone(shop, kind):
    name = sa.engine.make_url(shop.url).database
    shop.sql(f"ALTER DATABASE \"{name}\" SET timezone = 'Pacific/Auckland'")
    shop.make(time=kind)
    held = shop.channel(token_lease_until=shop.world.now + days(0.01))
    free = shop.channel(token_lease_until=shop.world.now - days(0.01))
    result = shop.json()
    assert (result.told(held), result.told(free)) == (("skipped", "claimed_elsewhere"), ("renewed", None))


@only_postgresql
@pytest.mark.parametrize("kind", ["TIMESTAMP(3)", "TIMESTAMPTZ"])
@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
def test_the_time_of_an_alert_is_right_in_any_zone(shop, slack, kind, zone):
    name = sa.engine.make_url(shop.url).database
    shop.sql(f"ALTER DATABASE \"{name}\" SET timezone = '{zone}'")
    shop.make(time=kind)
    dead = shop.channel(token=shop.world.token(error=DEAD))
    shop.json()
    shop.json()  # has nothing new to say
    row = shop.row(dead)
    assert abs(row["token_alerted_at"] - shop.world.now) < days(0.01)
    assert (len(slack.received), row["token_lease_until"]) == (1, None)


@only_postgresql
@pytest.mark.parametrize("kind", ["TIMESTAMP(3)", "TIMESTAMPTZ"])
def test_times_are_right_in_every_zone_that_the_role_or_the_url_sets(shop, kind):
    shop.make(time=kind)
    mark = "&" if "?" in shop.url else "?"
    shop.world.env["DATABASE_URL"] = f"{shop.url}{mark}options=-ctimezone%3DAsia/Kathmandu"
    by_url, by_role = shop.channel(), shop.channel()
    first = shop.json("--channel", by_url)
    role = f"role_{uuid.uuid4().hex[:12]}"
    shop.sql(
        f"CREATE ROLE {role} LOGIN PASSWORD '{role}' SUPERUSER",
        f"ALTER ROLE {role} SET timezone = 'America/St_Johns'",
    )
    url = sa.engine.make_url(shop.url).set(username=role, password=role)
    shop.world.env["DATABASE_URL"] = url.render_as_string(hide_password=False)
    try:
        second = shop.json()
    finally:
        shop.sql(f"DROP ROLE {role}")
    assert (first.counts["renewed"], second.counts["renewed"]) == (1, 1)
    assert (shop.is_renewed(by_url), shop.is_renewed(by_role)) == (True, True)


@only_postgresql
def test_no_write_at_all_leaves_the_time_of_the_last_one_as_it_was(shop, slack):
    shop.make({"updated_at": "TIMESTAMP(3) NOT NULL"}, names={"updated_at": "updatedAt"})
    shop.sql(
        "CREATE TABLE stale (what TEXT)",
        "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        """IF NEW."updatedAt" <= OLD."updatedAt" THEN INSERT INTO stale VALUES (row_to_json(NEW)); END IF; """
        "RETURN NEW; END $$",
        'CREATE TRIGGER look BEFORE UPDATE ON "Channel" FOR EACH ROW EXECUTE FUNCTION look()',
    )
    columns = {"updated_at": shop.world.now - days(400)}
    shop.channel(**columns)  # is claimed, then written
    shop.channel(token=shop.world.token(error=DEAD), **columns)  # and claimed again for its alert
    assert shop.json().counts == {"candidates": 2, "due": 2, "renewed": 1, "failed": 1}
    with shop.engine.begin() as connection:
        assert connection.execute(sa.text("SELECT what FROM stale")).scalars().all() == []


def test_a_required_time_of_the_last_write_is_set_by_every_write(shop):
    kind = "TIMESTAMP(3) NOT NULL"
    shop.make({"updated_at": kind}, names={"updated_at": "updatedAt"})
    renewed = shop.channel(updated_at=shop.world.now - days(400))
    broken = shop.channel(updated_at=shop.world.now - days(400), **{TOKEN: "garbage"})
    other = shop.channel(
        updated_at=shop.world.now - days(400),
        token_expires_at=shop.world.now + days(40),
        last_token_refresh_at=shop.world.now,
    )
    shop.json()
    written = {id_: abs(shop.row(id_)["updated_at"] - shop.world.now) < days(0.01) for id_ in shop.rows()}
    assert written == {renewed: True, broken: True, other: False}


# -- owners


def test_a_schema_of_prisma_s_own_needs_no_alembic(shop):
    shop.make()
    id_ = shop.channel(token_status=None, token_expires_at=None, last_token_refresh_at=None)
    before = set(shop.row(id_))
    tables = shop.tables()
    assert (shop.json().code, shop.is_renewed(id_), set(shop.row(id_)), shop.tables()) == (
        0,
        True,
        before,
        tables,
    )
    assert [entry["event"] for entry in shop.audit()] == ["refreshed"]


def test_what_the_application_writes_while_meta_is_asked_stays(real, monkeypatch):
    id_ = real_channel(real)
    answer = real.world.meta.normal

    def race(seen):
        real.update(id_, name="Renamed")
        return answer(seen)

    monkeypatch.setattr(real.world.meta, "normal", race)
    assert (real.json().code, real.row(id_)["name"], real.is_renewed(id_)) == (0, "Renamed", True)


@only_postgresql
def test_a_view_that_lets_itself_be_written_is_as_good_as_a_table(shop):
    shop.make()
    shop.sql('ALTER TABLE "Channel" RENAME TO channels', 'CREATE VIEW "Channel" AS SELECT * FROM channels')
    id_ = shop.channel()
    assert (shop.json().code, shop.is_renewed(id_)) == (0, True)


@only_postgresql
def test_a_view_that_cannot_be_written_is_a_clear_error(shop):
    shop.make()
    shop.channel()
    shop.sql(
        'ALTER TABLE "Channel" RENAME TO channels',
        'CREATE VIEW "Channel" AS SELECT DISTINCT * FROM channels',
    )
    assert 'may not write to "Channel", which is a view that cannot be written to' in shop.refusal()
    assert shop.world.meta.count() == 0


@only_postgresql
def test_a_materialized_view_is_a_clear_error(shop):
    shop.make()
    shop.channel()
    shop.sql(
        'ALTER TABLE "Channel" RENAME TO channels',
        'CREATE MATERIALIZED VIEW "Channel" AS SELECT * FROM channels',
    )
    assert 'may not write to "Channel", which is a view that cannot be written to' in shop.refusal()


@only_postgresql
def test_a_view_that_computes_what_is_written_is_found_out_before_meta_is_asked(shop):
    shop.make()
    shop.channel()
    columns = ", ".join(f"upper({name}) AS {name}" if name == "token_status" else name for name in STATE)
    shop.sql(
        'ALTER TABLE "Channel" RENAME TO channels',
        f'CREATE VIEW "Channel" AS SELECT id, name, type, {TOKEN}, {columns} FROM channels',
    )
    assert 'may not write token_status of "Channel", which PostgreSQL computes' in shop.refusal()
    assert shop.world.meta.count() == 0


@only_postgresql
def test_a_view_that_lacks_columns_is_named_with_those_that_it_has(shop):
    shop.make()
    shop.channel()
    shop.sql(
        'ALTER TABLE "Channel" RENAME TO channels',
        f'CREATE VIEW "Channel" AS SELECT id, type, {TOKEN} FROM channels',
    )
    detail = shop.refusal()
    assert detail.startswith('table "Channel" lacks token_expires_at, last_token_refresh_at, token_status, ')
    assert f"(it has id, type, {TOKEN})" in detail


@only_sqlite
def test_a_view_of_sqlite_is_a_clear_error(shop):
    shop.make()
    shop.channel()
    shop.sql('ALTER TABLE "Channel" RENAME TO channels', 'CREATE VIEW "Channel" AS SELECT * FROM channels')
    assert 'may not write to "Channel", which is a view' in shop.refusal()


# -- keys of rows


def test_rows_that_cannot_be_told_apart_are_a_clear_error(shop):
    shop.make({"id": "TEXT"})
    for _ in range(2):
        shop.channel("twice")
    assert 'column "id" of table "Channel" is no primary key, and several rows have twice' in shop.refusal()


def test_a_row_without_an_id_is_a_clear_error(shop):
    shop.make({"id": "TEXT"})
    shop.channel("one")
    shop.sql("INSERT INTO \"Channel\" (id, type) VALUES (NULL, 'whatsapp')")
    assert 'column "id" of table "Channel" is null in a row' in shop.refusal()


def test_a_table_without_a_primary_key_will_do_while_its_ids_differ(shop):
    shop.make({"id": "TEXT"})
    id_ = shop.channel("one")
    assert (shop.json().code, shop.is_renewed(id_)) == (0, True)


@pytest.mark.parametrize(
    "asked", ["8", "+7", "7.0", "\u0667", "7 ", "0x7", "9" * 30, "x'; DROP TABLE", "", "\x1b", "7\0"]
)
def test_an_id_that_is_not_there_is_a_usage_error(shop, asked):
    shop.make({"id": "INTEGER PRIMARY KEY"})
    shop.channel(7)
    result = shop.json("--channel", asked)
    assert (result.code, shop.world.meta.count()) == (2, 0)


@pytest.mark.parametrize("asked", ["007", "7\0", "cm", "\uff17"])
def test_an_id_that_is_a_text_is_taken_as_it_stands(shop, asked):
    shop.make()
    shop.channel("7")
    result = shop.json("--channel", asked)
    assert (result.code, shop.world.meta.count()) == (2, 0)


# -- maps that cannot be meant


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ("name=title,type=title", 'the column "title" is used twice: as name and as type'),
        ("name=type", 'the column "type" is used twice: as name and as type'),
        ("name=a,name=b", '"name" is given twice'),
        ("token=wa_token", '"token" is none of the names on the left: id, name, type'),
        ("name", '"name" is not of the form our_name=their_name'),
        ("=x", '"=x" is not of the form our_name=their_name'),
        ("name=", '"name=" is not of the form our_name=their_name'),
    ],
)
def test_a_map_that_cannot_be_meant_is_refused(shop, columns, problem):
    shop.make()
    shop.channel()
    shop.world.env["CHANNEL_COLUMNS"] = columns
    assert f"CHANNEL_COLUMNS: {problem}" in shop.refusal()


@pytest.mark.parametrize(
    "ours", ["name", "active", "phone_number", "updated_at", "wa_token_encrypted", "type"]
)
def test_a_mapped_column_that_is_missing_is_named_with_those_that_are_there(shop, ours):
    shop.make()
    shop.channel()
    shop.world.env["CHANNEL_COLUMNS"] = f"{ours}=nowhere"
    detail = shop.refusal()
    assert 'table "Channel" lacks nowhere (it has id, ' in detail
    assert detail.endswith("say in CHANNEL_COLUMNS what they are called there (our_name=their_name)")


# -- garbage


def gcm(token: str, key: bytes, parts: str) -> str:
    """AES-256-GCM as some application writes it."""
    iv = uuid.uuid4().bytes[:12]
    made = AESGCM(key).encrypt(iv, token.encode(), None)
    found = {"iv": iv.hex(), "tag": made[-16:].hex(), "data": made[:-16].hex()}
    return ":".join(found[part] for part in parts.split())


def test_rows_of_every_format_and_key_and_unreadable_ones_do_not_disturb_each_other(shop):
    shop.make()
    shop.world.env["TOKEN_ENCRYPTION_KEY"] = f"{KEY.hex()},{OTHER_KEY.hex()}"
    token = shop.world.token
    good = {
        shop.channel(**{TOKEN: text}): text
        for text in (
            fernet(OTHER_KEY).encrypt(token().encode()).decode(),
            gcm(token(), KEY, "iv tag data"),
            gcm(token(), OTHER_KEY, "iv data tag"),
            fernet().encrypt(token().encode()).decode(),
        )
    }
    bad = {
        shop.channel(**{TOKEN: text}): text
        for text in (
            "EAAplaintextplaintext",
            "x" * 1_000_000,
            "é" * 500_000,
            "U2FsdGVkX1" + base64.b64encode(bytes(40)).decode(),
            gcm("t", bytes(32), "iv tag data"),
            "{}",
            "[" * 100_000,
            '{"iv":"00","tag":"00","data":"00"}',
            "ab" * 16 + ":" + "cd" * 32,
            " ",
            "💥",
        )
    }
    result = shop.json()
    assert (result.code, result.counts) == (1, {"candidates": 15, "due": 15, "renewed": 4, "failed": 11})
    assert {result.told(id_) for id_ in bad} == {("failed", "undecryptable")}
    assert {id_: shop.row(id_)[TOKEN] for id_ in bad} == bad
    assert {id_: shop.row(id_)[TOKEN].count(":") for id_ in good} == {
        id_: text.count(":") for id_, text in good.items()
    }
    assert max(len(shop.row(id_)["token_error"]) for id_ in bad) <= 500


@only_sqlite
@pytest.mark.parametrize(
    "garbage", ["never", "0000-00-00", "2026-13-45", "", b"\xff\x00", 17, 1.5, "9" * 5000]
)
def test_a_date_that_is_none_counts_as_unknown(shop, garbage):
    shop.make()
    id_ = shop.channel()
    for name in TIMES:
        shop.update(id_, **{name: garbage})
    assert (shop.json().code, shop.is_renewed(id_)) == (0, True)


@only_postgresql
@pytest.mark.parametrize("garbage", ["infinity", "-infinity", "4713-01-01 BC", "294276-12-31", "10000-01-01"])
@pytest.mark.parametrize("kind", ["TIMESTAMP(3)", "TIMESTAMPTZ"])
@pytest.mark.parametrize("name", TIMES)
def test_a_date_that_python_does_not_know_harms_no_channel(shop, name, garbage, kind):
    shop.make(time=kind)
    odd, other = shop.channel(), shop.channel()
    shop.sql(f"UPDATE \"Channel\" SET {name} = '{garbage}' WHERE id = '{odd}'")
    result = shop.json("--force")
    is_held = name == "token_lease_until" and garbage[0] in "i12"  # by somebody, until the end of time
    assert (result.code, result.told(other), result.told(odd)) == (
        0,
        ("renewed", None),
        ("skipped", "claimed_elsewhere") if is_held else ("renewed", None),
    )


@only_sqlite
@pytest.mark.parametrize("name", ["name", TOKEN, "token_status", "token_error", "token_fingerprint"])
@pytest.mark.parametrize("garbage", ["a\x00b", b"\xff\xfe\x00", 12, 1.5, "\ud7ff\uffff", "x" * 1_000_000])
def test_any_value_in_any_text_column_of_sqlite_harms_no_channel(shop, name, garbage):
    shop.make()
    odd, other = shop.channel(), shop.channel()
    shop.update(odd, **{name: garbage})
    result = shop.json("--force")
    expected = ("failed", "undecryptable") if name == TOKEN else ("renewed", None)
    assert (result.told(other), result.told(odd)) == (("renewed", None), expected)


def test_a_name_of_a_megabyte_or_none_is_shown_all_the_same(shop):
    shop.make()
    long, none = shop.channel(name="x" * 1_000_000), shop.channel(name=None)
    result = shop.json()
    assert (result.code, result.entry(none)["name"], len(result.entry(long)["name"])) == (0, none, 1_000_000)


# -- databases that cannot be written


@only_postgresql
def test_a_server_that_is_read_only_is_found_out_before_meta_is_asked(shop):
    shop.make()
    shop.channel()
    name = sa.engine.make_url(shop.url).database
    shop.sql(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    assert "read-only" in shop.refusal()
    assert shop.world.meta.count() == 0


@only_postgresql
def test_a_role_that_may_not_write_tokens_is_found_out_before_meta_is_asked(shop):
    shop.make()
    shop.channel()
    role = f"role_{uuid.uuid4().hex[:12]}"
    columns = ", ".join(STATE)
    shop.sql(
        f"CREATE ROLE {role} LOGIN PASSWORD '{role}'",
        f'GRANT SELECT, UPDATE ({columns}) ON "Channel" TO {role}',
        f"GRANT INSERT ON token_audit_log TO {role}",
        f"GRANT USAGE ON SEQUENCE token_audit_log_id_seq TO {role}",
    )
    url = sa.engine.make_url(shop.url).set(username=role, password=role)
    shop.world.env["DATABASE_URL"] = url.render_as_string(hide_password=False)
    try:
        assert f'the database role may not UPDATE {TOKEN} of "Channel"' in shop.refusal()
        assert shop.world.meta.count() == 0
    finally:
        shop.sql(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


SEE = 'CREATE POLICY see ON "Channel" FOR SELECT TO {role} USING (true)'
WRITE = 'CREATE POLICY set ON "Channel" FOR UPDATE TO {role} USING (true)'
LOG = "CREATE POLICY log ON token_audit_log FOR INSERT WITH CHECK (true)"
NOT_LOG = "INSERT any row of token_audit_log"


@pytest.fixture
def guarded(shop):
    """A shop with row-level security, and a role without a policy, which the program uses."""
    shop.make()
    role = f"role_{uuid.uuid4().hex[:12]}"
    shop.sql(
        f"CREATE ROLE {role} LOGIN PASSWORD '{role}'",
        f'GRANT ALL ON "Channel", token_audit_log, token_audit_log_id_seq TO {role}',
        'ALTER TABLE "Channel" ENABLE ROW LEVEL SECURITY',
        "ALTER TABLE token_audit_log ENABLE ROW LEVEL SECURITY",
    )
    url = sa.engine.make_url(shop.url).set(username=role, password=role)
    shop.world.env["DATABASE_URL"] = url.render_as_string(hide_password=False)
    shop.role = role
    yield shop
    shop.sql(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@only_postgresql
@pytest.mark.parametrize(
    ("policies", "lacking"),
    [
        ([], ['SELECT any row of "Channel"', 'UPDATE any row of "Channel"', NOT_LOG]),
        ([SEE, LOG], ['UPDATE any row of "Channel"']),
        ([SEE, WRITE], [NOT_LOG]),
        ([SEE.replace("{role}", "pg_monitor"), WRITE, LOG], ['SELECT any row of "Channel"']),
        ([SEE, WRITE, LOG], []),
        (['CREATE POLICY whole ON "Channel" TO {role} USING (true)', LOG], []),
    ],
)
def test_rows_that_no_policy_lets_the_role_write_are_no_quiet_day(guarded, policies, lacking):
    id_ = guarded.channel()
    guarded.sql(*(policy.format(role=guarded.role) for policy in policies))
    if not lacking:
        assert (guarded.json().code, guarded.is_renewed(id_)) == (0, True)
        return
    why = ", as no policy of its row-level security lets it"
    said = "; nor ".join(f"{one}{why}" for one in lacking)
    assert f"the database role may not {said}; grant it" in guarded.refusal()
    assert guarded.world.meta.count() == 0


@only_postgresql
def test_a_row_that_a_trigger_refuses_fails_and_the_others_do_not(shop):
    shop.make()
    guarded, other = shop.channel(name="guarded"), shop.channel()
    shop.sql(
        "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.name = 'guarded' AND NEW.wa_token_encrypted <> OLD.wa_token_encrypted THEN "
        "RAISE EXCEPTION 'hands off'; END IF; RETURN NEW; END $$",
        'CREATE TRIGGER guard BEFORE UPDATE ON "Channel" FOR EACH ROW EXECUTE FUNCTION guard()',
    )
    before = shop.row(guarded)
    result = shop.json()
    assert (result.code, result.told(guarded), shop.is_renewed(other)) == (
        1,
        ("failed", "write_failed"),
        True,
    )
    assert shop.row(guarded) == before


# -- addresses


@only_postgresql
def test_an_unknown_parameter_of_the_address_is_warned_of_and_does_no_harm(shop):
    shop.make()
    id_ = shop.channel()
    mark = "&" if "?" in shop.url else "?"
    more = f"{mark}connection_limit=5&pgbouncer=true&pool_timeout=0&sslmode=prefer&favourite=blue"
    shop.world.env["DATABASE_URL"] = shop.url.replace("postgresql://", "postgres://") + more
    result = shop.json()
    assert (result.code, shop.is_renewed(id_)) == (0, True)
    assert [line.split("WARNING")[1].strip() for line in result.err.splitlines()] == [
        "DATABASE_URL: favourite is not known and is ignored"
    ]


@only_postgresql
@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
@pytest.mark.parametrize(
    "query",
    ["sslmode=disable", "sslmode=prefer", "schema=public&connection_limit=5&pgbouncer=true", "schema=app"],
)
def test_an_address_as_people_paste_it_leads_to_the_table(shop, scheme, query):
    shop.make()
    if query == "schema=app":
        shop.sql(
            "CREATE SCHEMA app",
            'ALTER TABLE "Channel" SET SCHEMA app',
            "ALTER TABLE token_audit_log SET SCHEMA app",
        )
        shop.table = 'app."Channel"'
    id_ = shop.channel()
    mark = "&" if "?" in shop.url else "?"
    shop.world.env["DATABASE_URL"] = f"{scheme}://{shop.url.partition('://')[2]}{mark}{query}"
    result = shop.json()
    assert (result.code, shop.is_renewed(id_), result.err) == (0, True, "")


@only_postgresql
@pytest.mark.parametrize(
    "wrong",
    [
        *("sslmode=banana", "connect_timeout=soon", "port=99999", "port=x", "schema=a%00b"),
        "schema=a&schema=b",
    ],
)
def test_a_wrong_parameter_of_the_address_is_a_clear_error_without_the_password(shop, wrong):
    shop.world.env["DATABASE_URL"] = f"postgresql://app:correct-horse-battery@127.0.0.1/app?{wrong}"
    result = shop.json()
    assert (
        result.code,
        "correct-horse" in result.out + result.err,
        result.document["stopped"]["reason"],
    ) == (
        2,
        False,
        "configuration",
    )


# -- a database that calls itself SQL_ASCII


def test_a_name_that_is_not_utf_8_is_that_row_s_alone(pg_server, meta, tmp_path, capsys):
    name = pg_server.create(encoding="SQL_ASCII")
    try:
        migrate(pg_server.url_of(name))
        world = World(pg_server.url_of(name), meta, tmp_path)
        world.capsys = capsys
        odd, other = world.channel(), world.channel(name="Café")
        world.rows.run("UPDATE \"Channel\" SET name = E'Caf\\xe9' WHERE id = :id", id=odd)
        result = world.json()
        text = world.run("--force", "--yes").out
    finally:
        pg_server.drop(name)
    assert (result.code, result.told(odd), result.told(other)) == (0, ("renewed", None), ("renewed", None))
    assert ("Café (2)" in text, "Caf\N{REPLACEMENT CHARACTER} (1)" in text) == (True, True)


# -- a dead token in somebody else's table


def test_a_dead_token_marks_the_row_and_nothing_of_the_application_s(real):
    id_ = real_channel(real)
    before = real.row(id_)
    real.world.meta.script(
        real.stored(id_),
        graph_error(400, "Error validating access token: expired.", 190, 463),
        endpoint="exchange",
    )
    assert real.json().told(id_) == ("failed", "reconnect_required")
    changed = {name for name, value in real.row(id_).items() if value != before[name]}
    assert changed <= set(STATE)
