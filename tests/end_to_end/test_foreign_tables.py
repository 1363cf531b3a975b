"""The contract on tables that other people made: their names, their types and their rules."""

from __future__ import annotations

import uuid
from urllib.parse import quote

import pytest
from shop import STATE, TIMES, TOKEN, quoted, real_channel
from world import days, fernet

from whatsapp_tokens.reports.json_document import exact

only_postgresql = pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
only_sqlite = pytest.mark.parametrize("empty_database_url", ["sqlite"], indirect=True)


def others_of(row, written):
    return {name: value for name, value in row.items() if name not in written}


def test_the_real_table_is_renewed_and_nothing_else_of_it_changes(real):
    due = [real_channel(real) for _ in range(3)]
    others = [
        real_channel(real, active=False),
        real_channel(real, wa_token_encrypted=""),
        real_channel(real, type="instagram"),
        real_channel(real, token_expires_at=real.world.now + days(40), last_token_refresh_at=real.world.now),
    ]
    before = real.rows()
    preview = real.json("--dry-run")
    assert (preview.code, preview.document["counts"]["due"], real.rows()) == (0, 3, before)
    result = real.json()
    after = real.rows()
    written = {TOKEN, *STATE}
    assert (result.code, result.counts) == (0, {"candidates": 4, "due": 3, "renewed": 3})
    assert all(real.is_renewed(id_) for id_ in due)
    assert {id_: after[id_] for id_ in others} == {id_: before[id_] for id_ in others}
    assert {id_: others_of(row, written) for id_, row in after.items()} == {
        id_: others_of(row, written) for id_, row in before.items()
    }
    assert sorted(row["channel_id"] for row in real.audit()) == sorted(due)
    assert {entry["name"] for entry in result.document["channels"]} == {
        before[id_]["display_name"] for id_ in due
    }
    assert real.json().counts == {"candidates": 4}


def test_a_token_that_may_be_null_is_no_candidate_while_it_is(real):
    if not real.is_sqlite:
        real.sql('ALTER TABLE "Channel" ALTER wa_token_encrypted DROP NOT NULL')
        empty = real_channel(real, wa_token_encrypted=None)
        before = real.rows()[empty]
        assert (real.json("--force").counts, real.rows()[empty]) == ({}, before)


def test_the_migration_of_the_real_table_run_twice_changes_nothing(real):
    real_channel(real)
    before = real.rows()
    real.migrate()
    assert real.rows() == before


def test_a_reconnect_that_writes_only_the_token_is_noticed(real):
    channel = real_channel(real)
    real.json()
    new = real.world.token(age=1, lives=59)
    real.update(channel, wa_token_encrypted=fernet().encrypt(new.encode()).decode())
    result = real.json()
    row = real.row(channel)
    assert result.told(channel) == ("skipped", "clock_corrected")
    assert (row["token_expires_at"], row["last_token_refresh_at"], row["token_status"]) == (
        real.world.now + days(59),
        real.world.now - days(1),
        "ok",
    )
    assert real.stored(channel) == new
    assert real.json().counts == {"candidates": 1}


def test_a_channel_that_waits_for_a_reconnect_is_no_longer_waiting_after_it(real):
    token = real.world.token(lives=-1)
    channel = real_channel(
        real, wa_token_encrypted=fernet().encrypt(token.encode()).decode(), token_expires_at=real.world.now
    )
    first = real.json()
    second = real.json()
    new = real.world.token(age=0, lives=60)
    real.update(channel, wa_token_encrypted=fernet().encrypt(new.encode()).decode())
    third = real.json()
    row = real.row(channel)
    assert first.told(channel) == ("failed", "reconnect_required")
    assert second.told(channel) == ("skipped", "waiting_for_reconnect")
    assert (third.code, third.told(channel)) == (0, ("skipped", "clock_corrected"))
    assert (row["token_status"], row["token_error"], row["token_expires_at"]) == (
        "ok",
        None,
        real.world.now + days(60),
    )
    assert real.json().counts == {"candidates": 1}


# -- other people's tables


@pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("INTEGER NOT NULL PRIMARY KEY", [1, 20, 3]),
        ("BIGINT NOT NULL PRIMARY KEY", [2**62, 5, -(2**62)]),
        ("VARCHAR(40) NOT NULL UNIQUE", ["b", "A", "ñ 'quoted\" %s :x"]),
        ("CHAR(3) PRIMARY KEY", ["abc", "abd", "abe"]),
    ],
)
def test_ids_may_be_numbers_or_texts(shop, kind, ids):
    shop.make({"id": kind})
    for id_ in ids:
        shop.channel(id_)
    result = shop.json("--channel", str(ids[0]))
    assert (result.told(exact(ids[0])), result.counts) == (
        ("renewed", None),
        {"candidates": 1, "due": 1, "renewed": 1},
    )
    assert shop.json().counts == {"candidates": 3, "due": 2, "renewed": 2}
    assert all(shop.is_renewed(id_) for id_ in ids)


@only_postgresql
def test_ids_may_be_uuids(shop):
    shop.make({"id": "UUID PRIMARY KEY DEFAULT gen_random_uuid()"})
    ids = [shop.channel(str(uuid.uuid4())) for _ in range(3)]
    assert shop.json("--channel", ids[1].upper()).told(ids[1]) == ("renewed", None)
    result = shop.json()
    assert (result.counts["renewed"], {entry["id"] for entry in result.document["channels"]}) == (
        2,
        {ids[0], ids[2]},
    )
    assert all(shop.is_renewed(id_) for id_ in ids)


@only_postgresql
@pytest.mark.parametrize("over", ["TEXT", "UUID", "INTEGER"])
def test_types_may_be_domains(shop, over):
    shop.sql(
        f"CREATE DOMAIN key_of_ours AS {over}",
        "CREATE DOMAIN secret AS TEXT CHECK (VALUE <> 'no')",
        "CREATE DOMAIN instant AS TIMESTAMP(3)",
        "CREATE DOMAIN yes_or_no AS BOOLEAN",
    )
    kinds = dict.fromkeys(TIMES, "instant") | {
        "id": "key_of_ours PRIMARY KEY",
        TOKEN: "secret NOT NULL",
        "active": "yes_or_no",
    }
    shop.make(kinds, names={"active": "active"})
    some_uuid = str(uuid.uuid4())
    id_ = shop.channel({"TEXT": "x", "UUID": some_uuid, "INTEGER": 7}[over])
    other = shop.channel({"TEXT": "y", "UUID": str(uuid.uuid4()), "INTEGER": 8}[over], active=False)
    result = shop.json()
    assert (result.code, shop.is_renewed(id_), shop.is_renewed(other)) == (0, True, False)
    assert result.told(id_) == ("renewed", None)


CAMEL = {
    "id": "channelId",
    "name": "displayName",
    "type": "channelType",
    TOKEN: "waTokenEncrypted",
    "token_expires_at": "tokenExpiresAt",
    "last_token_refresh_at": "lastTokenRefreshAt",
    "token_status": "tokenStatus",
    "token_error": "tokenError",
    "token_fingerprint": "tokenFingerprint",
    "token_alerted_at": "tokenAlertedAt",
    "token_lease_until": "tokenLeaseUntil",
    "active": "isActive",
    "phone_number": "phoneNumber",
    "updated_at": "updatedAt",
}


@pytest.mark.parametrize("migrated", [True, False])
def test_every_column_may_have_another_name(shop, migrated):
    kinds = {"active": "BOOLEAN", "phone_number": "TEXT", "updated_at": "TIMESTAMP(3) NOT NULL"}
    if migrated:
        shop.configure(CAMEL)
        columns = {
            "id": "TEXT PRIMARY KEY", "name": "TEXT", "type": "TEXT", TOKEN: "TEXT NOT NULL",
        } | kinds  # fmt: skip
        entries = ", ".join(f"{shop.column(name)} {kind}" for name, kind in columns.items())
        shop.sql(f'CREATE TABLE "Channel" ({entries})')
        shop.migrate()
    else:
        shop.make(kinds, names=CAMEL)
    long_ago = shop.world.now - days(100)
    columns = {"type": "whatsapp", "updated_at": long_ago}
    due = shop.channel(name="Bäckerei", phone_number="+49 30 1", **columns)
    off = shop.channel(active=False, **columns)
    result = shop.json()
    assert (result.counts, result.entry(due)["name"]) == (
        {"candidates": 1, "due": 1, "renewed": 1},
        "Bäckerei",
    )
    assert (shop.is_renewed(due), shop.is_renewed(off)) == (True, False)
    assert abs(shop.row(due)["updated_at"] - shop.world.now) < days(0.01)
    assert shop.row(off)["updated_at"] == long_ago


@pytest.mark.parametrize(
    "name", ["whatsapp accounts", 'the "real" one', "MixedCase", "select", "100% ñ'; --", "a.b", "x" * 63]
)
def test_the_table_may_be_called_anything(shop, name):
    shop.make(table=name)
    id_ = shop.channel()
    assert (shop.json().code, shop.is_renewed(id_)) == (0, True)


@pytest.mark.parametrize("name", ["whatsapp accounts", 'the "real" one', "100% ñ'; --", "a.b"])
def test_a_table_of_any_name_is_migrated(shop, name):
    shop.configure(table=name)
    shop.sql(f"CREATE TABLE {shop.table} (id TEXT PRIMARY KEY, type TEXT DEFAULT 'whatsapp', {TOKEN} TEXT)")
    shop.migrate()
    id_ = shop.channel()
    assert (shop.json().code, shop.is_renewed(id_)) == (0, True)


@pytest.mark.parametrize("name", ["the (secret) one", "100%", 'a "quoted" one', "select", "Ñame: x"])
def test_a_column_may_be_called_anything(shop, name):
    shop.make(names={TOKEN: name, "token_expires_at": f"{name} ends"})
    id_ = shop.channel()
    assert (shop.json().code, shop.is_renewed(id_)) == (0, True)


@only_postgresql
@pytest.mark.parametrize("schema", ["app", "My App", 'of "Bob" & co', "50%"])
@pytest.mark.parametrize("migrated", [True, False])
def test_another_schema_is_used_and_a_decoy_in_public_is_left_alone(shop, schema, migrated):
    shop.make()
    decoy = shop.channel()
    untouched = shop.rows()
    shop.sql(f"CREATE SCHEMA {quoted(schema)}")
    if migrated:
        shop.sql(
            f'CREATE TABLE {quoted(schema)}."Channel" '
            f"(id TEXT PRIMARY KEY, type TEXT DEFAULT 'whatsapp', {TOKEN} TEXT)"
        )
    else:
        shop.sql(
            *(
                f"CREATE TABLE {quoted(schema)}.{table} (LIKE public.{table} INCLUDING ALL)"
                for table in ('"Channel"', "token_audit_log")
            )
        )
    mark = "&" if "?" in shop.url else "?"
    shop.world.env["DATABASE_URL"] = f"{shop.url}{mark}schema={quote(schema, safe='')}"
    if migrated:
        shop.migrate()
    assert (shop.rows(), shop.audit()) == (untouched, [])
    shop.table, public = f'{quoted(schema)}."Channel"', shop.table
    shop.audit_table = f"{quoted(schema)}.token_audit_log"
    id_ = shop.channel()
    result = shop.json()
    assert (result.code, shop.is_renewed(id_)) == (0, True)
    assert [row["channel_id"] for row in shop.audit()] == [id_]
    shop.table, shop.audit_table = public, "token_audit_log"
    assert (shop.rows(), shop.audit(), decoy in untouched) == (untouched, [], True)


@only_postgresql
def test_a_schema_that_the_role_looks_into_first_is_used(shop):
    shop.make()
    shop.channel()
    untouched = shop.rows()
    shop.sql(
        "CREATE SCHEMA app",
        'CREATE TABLE app."Channel" (LIKE public."Channel" INCLUDING ALL)',
        "CREATE TABLE app.token_audit_log (LIKE public.token_audit_log INCLUDING ALL)",
    )
    mark = "&" if "?" in shop.url else "?"
    shop.world.env["DATABASE_URL"] = f"{shop.url}{mark}options=-csearch_path%3Dapp,public"
    shop.table = 'app."Channel"'
    id_ = shop.channel()
    assert (shop.json().code, shop.is_renewed(id_)) == (0, True)
    shop.table = 'public."Channel"'
    assert shop.rows() == untouched


@only_postgresql
@pytest.mark.parametrize("schema", ["public", "app"])
def test_the_type_may_be_an_enum(shop, schema):
    shop.sql(
        f"CREATE SCHEMA IF NOT EXISTS {schema}",
        f"CREATE TYPE {schema}.\"Provider\" AS ENUM ('WHATSAPP', 'EMAIL')",
    )
    shop.make({"type": f'{schema}."Provider" NOT NULL'}, names={"type": "provider"})
    shop.world.env["CHANNEL_TYPE"] = "WHATSAPP"
    id_, email = shop.channel(type="WHATSAPP"), shop.channel(type="EMAIL")
    assert (shop.json().counts, shop.is_renewed(id_), shop.is_renewed(email)) == (
        {"candidates": 1, "due": 1, "renewed": 1},
        True,
        False,
    )


@only_postgresql
def test_a_type_that_the_enum_does_not_know_is_named_with_those_it_knows(shop):
    shop.sql("CREATE TYPE \"Provider\" AS ENUM ('WHATSAPP', 'EMAIL')")
    shop.make({"type": '"Provider" NOT NULL'}, names={"type": "provider"})
    shop.channel(type="WHATSAPP")
    column = 'column "provider" of table "Channel"'
    assert f'{column} is never "whatsapp", only "WHATSAPP", "EMAIL"' in shop.refusal()


@only_postgresql
@pytest.mark.parametrize(
    ("kind", "wanted", "other"),
    [
        ("INTEGER", "1", "2"),
        ("BOOLEAN", "true", "false"),
        ("UUID", str(uuid.UUID(int=1)), str(uuid.UUID(int=2))),
        ("VARCHAR(20)", "whatsapp", "email"),
    ],
)
def test_the_type_may_be_of_any_kind(shop, kind, wanted, other):
    shop.make({"type": kind})
    shop.world.env["CHANNEL_TYPE"] = wanted
    id_, foreign = shop.channel(type=wanted), shop.channel(type=other)
    assert (shop.json().code, shop.is_renewed(id_), shop.is_renewed(foreign)) == (0, True, False)


@pytest.mark.parametrize(
    ("kind", "on", "off"),
    [
        ("BOOLEAN", [True, None], [False]),
        ("BOOLEAN NOT NULL DEFAULT true", [True], [False]),
        ("INTEGER", [1, None, 2], [0]),
        ("SMALLINT", [1, None], [0]),
    ],
)
def test_only_a_channel_that_says_that_it_is_inactive_is_left_out(shop, kind, on, off):
    shop.make({"active": kind}, names={"active": "enabled"})
    active = [shop.channel(active=value) for value in on]
    inactive = [shop.channel(active=value) for value in off]
    shop.json("--force")
    assert ([shop.is_renewed(id_) for id_ in active], [shop.is_renewed(id_) for id_ in inactive]) == (
        [True] * len(on),
        [False] * len(off),
    )


def test_other_columns_may_be_required_and_of_any_type(shop):
    extra = {"tenant": "TEXT NOT NULL", "price": "NUMERIC(10, 2) NOT NULL", "blob": "BYTEA"}
    if not shop.is_sqlite:
        shop.sql("CREATE TYPE pair AS (x INTEGER, y INTEGER)")
        extra |= {"place": "pair", "box": "INT4RANGE", "tags": "TEXT[]", "more": "JSONB", "spot": "POINT"}
    shop.make(extra)
    shop.sql('CREATE INDEX by_lower ON "Channel" (lower(tenant))')
    id_ = shop.channel(tenant="t", price=3)
    assert (shop.json().code, shop.is_renewed(id_)) == (0, True)
