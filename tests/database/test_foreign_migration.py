"""The migration of a table that an application has, with its names, its views, its triggers and its keys."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from conftest import migrate
from shop import CLOCKS, REAL, REAL_NAMES, STATE, TOKEN, real_channel

only_postgresql = pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)

INDEX = 'CREATE UNIQUE INDEX "Channel_phone_number_id_key" ON "Channel"("phone_number_id")'
# What hangs on the table: each would break, or keep the migration from its work, if the table were made anew.
AROUND = (
    'CREATE TABLE "Message" (id TEXT PRIMARY KEY, channel TEXT NOT NULL REFERENCES "Channel" (id))',
    'CREATE VIEW active_channels AS SELECT id, display_name FROM "Channel" WHERE is_active',
    "CREATE TABLE history (channel TEXT)",
)
TRIGGER = {
    "sqlite": """
        CREATE TRIGGER remember AFTER UPDATE ON "Channel" BEGIN INSERT INTO history VALUES (NEW.id); END
    """,
    "postgresql": """
        CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO history VALUES (NEW.id); RETURN NULL; END $$;
        CREATE TRIGGER remember AFTER UPDATE ON "Channel" FOR EACH ROW EXECUTE FUNCTION remember()
    """,
}
# What each kind of database tells of itself.
CATALOG = {
    "sqlite": ("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL",),
    "postgresql": (
        """SELECT table_name, column_name, data_type, datetime_precision, is_nullable, column_default
           FROM information_schema.columns WHERE table_schema = 'public'""",
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        """SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
           WHERE connamespace = 'public'::regnamespace""",
        "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'",
        "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    ),
}


@pytest.fixture
def alembic(shop, monkeypatch):
    """Runs Alembic as a user does, with the settings of the shop. Gives what it says."""

    def run(*command, fails=False):
        for name, value in shop.world.env.items():
            monkeypatch.setenv(name, value)
        done = migrate(shop.world.env["DATABASE_URL"], *command)
        assert ((done.returncode != 0), "Traceback" in done.stderr) == (fails, False), done.stdout
        return done.stdout

    return run


@pytest.fixture
def theirs(shop):
    """The real table with all that hangs on it, before this program."""
    shop.sql(REAL, INDEX, *AROUND, TRIGGER[shop.engine.dialect.name])
    shop.configure(REAL_NAMES)
    return shop


def everything(shop):
    """All that there is in the database."""
    with shop.engine.begin() as connection:
        found = (connection.exec_driver_sql(query) for query in CATALOG[shop.engine.dialect.name])
        return {tuple(row) for rows in found for row in rows}


def columns(shop):
    return [column["name"] for column in sa.inspect(shop.engine).get_columns("Channel")]


def test_all_that_hangs_on_the_table_stays_and_works(theirs, alembic):
    before = everything(theirs)
    alembic()
    kept = everything(theirs)
    if theirs.is_sqlite:  # which keeps the text of CREATE TABLE, with the new columns in it
        before = {row for row in before if row[:2] != ("table", "Channel")}
    assert before - kept == set()
    id_ = real_channel(theirs)
    theirs.sql(f"INSERT INTO \"Message\" VALUES ('m', '{id_}')")
    assert (theirs.json().code, theirs.is_renewed(id_)) == (0, True)
    with theirs.engine.begin() as connection:
        seen = connection.exec_driver_sql("SELECT id FROM active_channels").scalars().all()
        history = connection.exec_driver_sql("SELECT DISTINCT channel FROM history").scalars().all()
    assert (seen, history) == ([id_], [id_])


def test_the_real_table_goes_up_twice_and_down_to_what_it_was_with_its_rows(theirs, alembic):
    names = ", ".join(f'"{name}"' for name in ("id", "tenant_id", "phone_number_id", "verify_token", TOKEN))
    theirs.sql(f"INSERT INTO \"Channel\" ({names}) VALUES ('cm1', 't', 'p', 'v', 'a token')")
    before, rows, order = everything(theirs), theirs.rows(), columns(theirs)
    alembic()
    alembic()
    assert sorted(set(columns(theirs)) - set(order)) == sorted(STATE)
    assert theirs.rows() == {"cm1": rows["cm1"] | dict.fromkeys(STATE)}
    assert "No new upgrade operations detected" in alembic("check")
    alembic("downgrade", "base")
    after = {row for row in everything(theirs) if "whatsapp_token_alembic_version" not in str(row)}
    assert (columns(theirs), theirs.rows()) == (order, rows)
    if not theirs.is_sqlite:
        assert after == before


MAPPED = {
    "token_expires_at": "tokenExpiresAt",
    "last_token_refresh_at": "lastTokenRefreshAt",
    "token_status": "tokenStatus",
    "token_lease_until": "tokenLeaseUntil",
}


def test_columns_are_added_under_the_names_of_the_map_and_taken_away_under_them(shop, alembic):
    shop.sql(REAL)
    shop.configure(REAL_NAMES | MAPPED)
    before = columns(shop)
    alembic()
    assert set(columns(shop)) == {*before, *(MAPPED.get(name, name) for name in STATE)}
    assert "No new upgrade operations detected" in alembic("check")
    alembic("downgrade", "base")
    assert columns(shop) == before


def test_mapped_columns_that_prisma_has_added_are_neither_added_nor_taken_away(shop, alembic):
    shop.sql(REAL, *(f'ALTER TABLE "Channel" ADD "{MAPPED[name]}" TIMESTAMP(3)' for name in CLOCKS))
    shop.configure(REAL_NAMES | MAPPED)
    before = columns(shop)
    alembic()
    id_ = real_channel(shop)
    assert (shop.json().code, shop.is_renewed(id_)) == (0, True)
    assert len(columns(shop)) == len(before) + len(STATE) - len(CLOCKS)
    assert "No new upgrade operations detected" in alembic("check")
    row = shop.row(id_)
    alembic("downgrade", "base")
    assert columns(shop) == before
    assert {name: shop.row(id_)[name] for name in CLOCKS} == {name: row[name] for name in CLOCKS}


def test_a_map_to_columns_that_are_not_there_is_one_line_and_changes_nothing(theirs, alembic):
    theirs.configure({"type": "provider", "name": "title", "active": "is_active"})
    before = everything(theirs)
    said = alembic(fails=True)
    assert 'table "Channel" lacks title (it has app_secret_encrypted, ' in said
    if not theirs.is_sqlite:
        assert everything(theirs) == before


def test_a_view_in_place_of_the_table_needs_its_columns_and_is_left_alone(shop, alembic):
    shop.make()
    shop.sql(
        'ALTER TABLE "Channel" RENAME TO channels',
        'CREATE VIEW "Channel" AS SELECT * FROM channels',
        "DROP TABLE token_audit_log",
    )
    before = everything(shop)
    alembic()
    alembic()
    assert before - everything(shop) == set()
    assert "No new upgrade operations detected" in alembic("check")
    alembic("downgrade", "base")
    assert before - everything(shop) == set()


def test_a_view_that_lacks_columns_is_one_line_that_names_them(shop, alembic):
    shop.make()
    shop.sql(
        'ALTER TABLE "Channel" RENAME TO channels',
        f'CREATE VIEW "Channel" AS SELECT id, type, {TOKEN}, token_status FROM channels',
    )
    said = alembic(fails=True)
    assert '"Channel" is a view and lacks token_expires_at, last_token_refresh_at, token_error, ' in said


@only_postgresql
def test_a_table_in_partitions_is_a_table_like_any_other(shop, alembic):
    shop.configure()
    shop.sql(
        f"CREATE TABLE \"Channel\" (id TEXT PRIMARY KEY, type TEXT DEFAULT 'whatsapp', {TOKEN} TEXT) "
        "PARTITION BY HASH (id)",
        *(
            f'CREATE TABLE part_{part} PARTITION OF "Channel" FOR VALUES WITH (MODULUS 2, REMAINDER {part})'
            for part in range(2)
        ),
    )
    before = columns(shop)
    alembic()
    ids = [shop.channel() for _ in range(4)]
    assert (shop.json().code, [shop.is_renewed(id_) for id_ in ids]) == (0, [True] * 4)
    assert "No new upgrade operations detected" in alembic("check")
    alembic("downgrade", "base")
    assert columns(shop) == before
