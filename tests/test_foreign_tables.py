"""The contract on tables that other people made: their names, their types, their rules, their rubbish."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import alembic.command
import alembic.config
import pytest
import sqlalchemy as sa

from connection import parse_url
from world import ROOT, Result, World, days, fernet

DEAD = (190, 460, "Error validating access token: the session was invalidated.")
TIMES = ("token_expires_at", "last_token_refresh_at", "token_alerted_at", "token_lease_until")
CLOCKS = TIMES[:2]
STATE = (*TIMES, "token_status", "token_error", "token_fingerprint")
TOKEN = "wa_token_encrypted"

only_postgresql = pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
only_sqlite = pytest.mark.parametrize("empty_database_url", ["sqlite"], indirect=True)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Shop:
    """Somebody else's database: their table with their names, and the program to run on it."""

    def __init__(self, url: str, world: World) -> None:
        self.url = url
        self.world = world
        target = parse_url(url).url
        self.is_sqlite = target.get_backend_name() == "sqlite"
        # Whatever zone the database is given, here a time is read and written in UTC.
        arguments = {} if self.is_sqlite else {"options": "-c timezone=UTC"}
        self.engine = sa.create_engine(target, poolclass=sa.NullPool, connect_args=arguments)
        self.names: dict[str, str] = {}
        self.table = '"Channel"'
        self.audit_table = "token_audit_log"

    # -- what the owner does

    def sql(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement.replace(":", r"\:")))

    def configure(self, names: dict[str, str] | None = None, table: str = "Channel") -> None:
        """The settings that lead to the table."""
        self.names = names or {}
        self.table = quoted(table)
        self.world.env |= {
            "CHANNEL_TABLE": table,
            "CHANNEL_COLUMNS": ",".join(f"{ours}={theirs}" for ours, theirs in self.names.items()),
        }

    def make(
        self,
        kinds: dict[str, str | None] | None = None,
        *,
        names: dict[str, str] | None = None,
        table: str = "Channel",
        time: str = "TIMESTAMP(3)",
        rules: str = "",
    ) -> None:
        """A table as Prisma's own migrations make it, state columns and audit log included.

        `kinds` adds columns, by our name or theirs, gives them another type, or with None leaves them out.
        """
        self.configure(names, table)
        columns: dict[str, str | None] = {
            "id": "TEXT NOT NULL PRIMARY KEY",
            "name": "TEXT",
            "type": "TEXT NOT NULL DEFAULT 'whatsapp'",
            TOKEN: "TEXT",
        }
        columns |= {name: time if name in TIMES else "TEXT" for name in STATE} | (kinds or {})
        entries = [f"{self.column(name)} {kind}" for name, kind in columns.items() if kind is not None]
        self.sql(f"CREATE TABLE {self.table} ({', '.join([*entries, *([rules] if rules else [])])})")
        self.make_audit(time)

    def make_audit(self, time: str = "TIMESTAMP(3)") -> None:
        id_ = "INTEGER PRIMARY KEY AUTOINCREMENT" if self.is_sqlite else "BIGSERIAL PRIMARY KEY"
        self.sql(
            f"CREATE TABLE {self.audit_table} (id {id_}, at {time} NOT NULL, channel_id TEXT NOT NULL, "
            "event TEXT NOT NULL, message TEXT NOT NULL, reason TEXT, "
            f"expires_at_before {time}, expires_at_after {time})"
        )

    def column(self, ours: str) -> str:
        return quoted(self.names.get(ours, ours))

    def channel(self, id_: Any = None, token: str | None = None, **columns: Any) -> Any:
        """A channel that is due; columns by our names. Gives its id, by default one as Prisma makes it."""
        token = self.world.token() if token is None else token
        columns = {
            "id": f"cm{uuid.uuid4().hex[:23]}" if id_ is None else id_,
            TOKEN: fernet().encrypt(token.encode()).decode(),
            "token_expires_at": self.world.now + days(10),
            "last_token_refresh_at": self.world.now - days(50),
            "token_status": "ok",
        } | columns
        values = [
            value.replace(tzinfo=None).isoformat(" ") + ("" if self.is_sqlite else "+00")
            if isinstance(value, datetime)
            else value
            for value in columns.values()
        ]
        marks = ", ".join(f":v{index}" for index in range(len(values)))
        names = ", ".join(self.column(name) for name in columns)
        with self.engine.begin() as connection:
            connection.execute(
                sa.text(f"INSERT INTO {self.table} ({names}) VALUES ({marks})".replace("::", r"\:\:")),
                {f"v{index}": value for index, value in enumerate(values)},
            )
        return columns["id"]

    def update(self, id_: Any, **columns: Any) -> None:
        """As the application writes."""
        marks = ", ".join(f"{self.column(name)} = :{name}" for name in columns)
        with self.engine.begin() as connection:
            where = f"CAST({self.column('id')} AS TEXT) = :its_id"
            connection.execute(
                sa.text(f"UPDATE {self.table} SET {marks} WHERE {where}"), columns | {"its_id": str(id_)}
            )

    # -- what the owner sees

    def rows(self) -> dict[str, dict[str, Any]]:
        """All rows by their ids as texts, with the names of the owner."""
        with self.engine.begin() as connection:
            found = connection.execute(sa.text(f"SELECT * FROM {self.table}")).mappings().all()
        return {str(row[self.names.get("id", "id")]): dict(row) for row in found}

    def row(self, id_: Any) -> dict[str, Any]:
        """A row by our names, where we have one; times in UTC."""
        ours = {theirs: name for name, theirs in self.names.items()}
        found = {ours.get(name, name): value for name, value in self.rows()[str(id_)].items()}
        times = (*TIMES, "updated_at")
        return {name: utc(value) if name in times else value for name, value in found.items()}

    def stored(self, id_: Any, key: bytes | None = None) -> str:
        """The token that the row holds, as the application decrypts it."""
        opener = fernet() if key is None else fernet(key)
        return opener.decrypt(self.row(id_)[TOKEN]).decode()

    def audit(self) -> list[dict[str, Any]]:
        with self.engine.begin() as connection:
            found = connection.execute(sa.text(f"SELECT * FROM {self.audit_table} ORDER BY id")).mappings()
            return [
                {key: utc(value) if key == "at" or "expires" in key else value for key, value in row.items()}
                for row in found
            ]

    def is_renewed(self, id_: Any) -> bool:
        """Whether the row holds a token that Meta has given out in an exchange, and fitting clocks."""
        row = self.row(id_)
        return (
            self.stored(id_) in {new for _, new in self.world.meta.exchanges}
            and abs(row["token_expires_at"] - (self.world.now + days(60))) < days(0.01)
            and abs(row["last_token_refresh_at"] - self.world.now) < days(0.01)
            and (row["token_status"], row["token_error"], row["token_lease_until"]) == ("ok", None, None)
        )

    # -- the program

    def migrate(self) -> None:
        """`alembic upgrade head` with the same settings."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.world.env.items():
                patch.setenv(name, value)
            alembic.command.upgrade(alembic.config.Config(ROOT / "alembic.ini"), "head")

    def json(self, *options: str) -> Result:
        """Run the program. Whatever it finds, it never shows a traceback."""
        result = self.world.json(*options)
        assert "Traceback" not in result.err
        assert "unexpected error" not in result.err
        return result

    def trouble(self) -> str:
        """What a run says that cannot begin."""
        before = self.rows() if self.table else {}
        result = self.json()
        assert (result.code, result.document["stopped"]["reason"]) == (2, "configuration"), result.err
        assert (self.rows(), self.world.meta.exchanges) == (before, [])
        return result.document["stopped"]["detail"]


def utc(value: Any) -> datetime | None:
    if value is None:
        return None
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


@pytest.fixture
def shop(empty_database_url, meta, tmp_path, capsys) -> Shop:
    """A database without any table; once on SQLite and once on PostgreSQL."""
    if empty_database_url.startswith("sqlite"):
        (tmp_path / "empty.sqlite3").touch()
    world = World(empty_database_url, meta, tmp_path)
    world.capsys = capsys
    return Shop(empty_database_url, world)


# -- the table for which this was written

REAL = """
CREATE TABLE "Channel" (
    "id" TEXT NOT NULL,
    "tenant_id" TEXT NOT NULL,
    "provider" TEXT NOT NULL DEFAULT 'whatsapp',
    "phone_number_id" TEXT NOT NULL,
    "display_name" TEXT,
    "waba_id" TEXT,
    "verify_token" TEXT NOT NULL,
    "wa_token_encrypted" TEXT NOT NULL,
    "app_secret_encrypted" TEXT,
    "is_active" BOOLEAN NOT NULL DEFAULT true,
    "is_default" BOOLEAN NOT NULL DEFAULT false,
    "created_at" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT "Channel_pkey" PRIMARY KEY ("id")
)
"""
REAL_NAMES = {"type": "provider", "name": "display_name", "active": "is_active"}


@pytest.fixture
def real(shop) -> Shop:
    """The table as the application's own migrations made it, and then ours, with the same settings."""
    shop.sql(REAL, 'CREATE UNIQUE INDEX "Channel_phone_number_id_key" ON "Channel"("phone_number_id")')
    shop.configure(REAL_NAMES)
    shop.migrate()
    return shop


def real_channel(real, **columns):
    mark = uuid.uuid4().hex
    return real.channel(
        **{
            "tenant_id": f"t-{mark[:6]}",
            "phone_number_id": mark,
            "name": f"Línea {mark[:4]} 🥐",
            "verify_token": mark[::-1],
            "app_secret_encrypted": fernet().encrypt(b"a secret").decode(),
        }
        | columns
    )


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
    assert (result.told(ids[0]), result.counts) == (
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
    assert f'{column} is never "whatsapp", only "WHATSAPP", "EMAIL"' in shop.trouble()


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
