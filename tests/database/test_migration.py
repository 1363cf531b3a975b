"""The migration, run as users run it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import socket
import sys
from contextlib import closing, suppress
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from conftest import ROOT, migrate, only_postgresql
from refusing_server import Refusing, fatal

from models import TableMap, mapped_tables
from whatsapp_tokens.database.connection import Connection
from whatsapp_tokens.database.errors import BadSchema
from whatsapp_tokens.database.schema import make_indexes, reflect
from whatsapp_tokens.database.url import parse_url

empty_postgresql = pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)

PASSWORD = "s3cr3t-of-mine"
ADDED = "whatsapp_token_alembic_added"
INDEXES = {"ix_Channel_token_due", "ix_Channel_token_news"}
OURS = ["Channel", "token_audit_log", ADDED, "whatsapp_token_alembic_version"]
STATE = ["token_status", "token_error", "token_fingerprint", "token_alerted_at", "token_lease_until"]

# What an application with Prisma has before it hears of this program.
APPLICATION = (
    'CREATE TABLE "Tenant" (id TEXT PRIMARY KEY, name TEXT NOT NULL)',
    """CREATE TABLE "Channel" (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, type VARCHAR(20) NOT NULL, wa_token_encrypted TEXT,
        "tenantId" TEXT NOT NULL REFERENCES "Tenant" (id),
        "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
    )""",
    'CREATE INDEX "Channel_tenantId_idx" ON "Channel" ("tenantId")',
    'CREATE TABLE "_prisma_migrations" (id TEXT PRIMARY KEY)',
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)",
    "INSERT INTO alembic_version VALUES ('of the application')",
    """INSERT INTO "Tenant" VALUES ('t1', 'Tenant')""",
    """INSERT INTO "Channel" (id, name, type, wa_token_encrypted, "tenantId", "createdAt")
       VALUES ('cm3x', 'Shop', 'whatsapp', 'token', 't1', '2026-01-01 00:00:00')""",
)

APPLICATION_COLUMNS = ["id", "name", "type", "wa_token_encrypted", "tenantId", "createdAt"]


def run(url, *statements):
    with sa.create_engine(parse_url(url).url, poolclass=sa.NullPool).begin() as connection:
        for statement in statements:
            found = connection.exec_driver_sql(statement)
        return found.mappings().all() if found.returns_rows else None


def channels(url):
    return [dict(row) for row in run(url, 'SELECT * FROM "Channel" ORDER BY id')]


def shape(url, *tables):
    """What the tables of a database look like: columns, keys and indexes."""
    inspector = sa.inspect(sa.create_engine(parse_url(url).url, poolclass=sa.NullPool))
    found = {}
    for table in tables or inspector.get_table_names():
        columns = [
            (column["name"], repr(column["type"]), column["nullable"], column["default"])
            for column in inspector.get_columns(table)
        ]
        indexes = {}
        for index in inspector.get_indexes(table):
            options = {name: str(value) for name, value in index.pop("dialect_options", {}).items()}
            indexes[index["name"]] = index | options
        keys = (inspector.get_pk_constraint(table), inspector.get_foreign_keys(table))
        found[table] = (columns, indexes, keys)
    return found


def succeed(*runs):
    assert [run.returncode for run in runs] == [0] * len(runs), runs[-1].stdout + runs[-1].stderr


def with_option(url, option):
    return f"{url}{'&' if '?' in url else '?'}{option}"


# An empty database


def test_upgrading_an_empty_database_twice_is_upgrading_it_once(empty_database_url):
    first = migrate(empty_database_url)
    second = migrate(empty_database_url)
    check = migrate(empty_database_url, "check")
    assert (first.returncode, second.returncode, check.returncode) == (0, 0, 0), first.stderr + check.stdout


def test_an_empty_database_gets_three_tables_of_which_one_is_the_version(database_url):
    assert sorted(shape(database_url)) == OURS


def test_the_migration_makes_what_the_models_say(database_url):
    migrated = shape(database_url, *OURS[:2])
    run(database_url, *(f'DROP TABLE "{table}"' for table in OURS[:2]))
    engine = sa.create_engine(parse_url(database_url).url, poolclass=sa.NullPool)
    metadata = sa.MetaData(naming_convention={"pk": "pk_%(table_name)s"})
    channel, _ = mapped_tables(metadata, TableMap())
    make_indexes(channel, engine.dialect.name)
    metadata.create_all(engine)
    assert migrated == shape(database_url, *OURS[:2])


@only_postgresql
@pytest.mark.parametrize(
    ("what", "which"),
    [
        ("due", "(wa_token_encrypted IS NOT NULL)"),
        ("news", "((token_status = 'warning'::text) OR (token_alerted_at IS NOT NULL))"),
    ],
)
def test_each_index_is_partial_and_in_the_order_of_urgency(database_url, what, which):
    (index,) = run(
        database_url, f"SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_Channel_token_{what}'"
    )
    assert index["indexdef"].endswith(f"(type, token_expires_at NULLS FIRST, id) WHERE {which}")


# A database that an application has


@pytest.fixture
def application_url(empty_database_url):
    run(empty_database_url, *APPLICATION)
    return empty_database_url


def test_an_existing_table_keeps_its_rows_and_its_columns_and_gets_what_it_lacks(application_url):
    before = channels(application_url)
    succeed(migrate(application_url), migrate(application_url))
    added = dict.fromkeys(["token_expires_at", "last_token_refresh_at", *STATE])
    assert channels(application_url) == [row | added for row in before]


def test_everything_else_in_the_database_stays_as_it_was(application_url):
    before = shape(application_url)
    succeed(migrate(application_url))
    after = shape(application_url)
    columns, indexes, keys = after["Channel"]
    after["Channel"] = (
        [column for column in columns if column[0] in APPLICATION_COLUMNS],
        {name: index for name, index in indexes.items() if name not in INDEXES},
        keys,
    )
    assert {table: after[table] for table in before} == before


def test_the_application_s_own_alembic_is_left_alone(application_url):
    succeed(migrate(application_url))
    assert run(application_url, "SELECT * FROM alembic_version") == [{"version_num": "of the application"}]


def test_the_program_can_work_with_a_table_that_was_added_to(application_url):
    succeed(migrate(application_url))
    with closing(Connection(parse_url(application_url))) as connection:
        channel, _ = connection.run(lambda c, _: reflect(c, TableMap()))
    assert channel.c.id.type.python_type is str


@pytest.mark.parametrize("present", [["token_expires_at", "last_token_refresh_at"], STATE[:2]])
def test_columns_that_prisma_has_added_already_stay_as_they_are(application_url, present):
    for name in present:
        run(application_url, f'ALTER TABLE "Channel" ADD {name} TIMESTAMP(3)')
    before = shape(application_url, "Channel")["Channel"][0]
    run(application_url, f"""UPDATE "Channel" SET {present[0]} = '2026-06-15 12:00:00.123'""")
    rows = channels(application_url)
    succeed(migrate(application_url), migrate(application_url))
    after = shape(application_url, "Channel")["Channel"][0]
    assert (after[: len(before)], channels(application_url)[0][present[0]], len(after)) == (
        before,
        rows[0][present[0]],
        len(APPLICATION_COLUMNS) + 7,
    )


def test_an_existing_table_and_foreign_ones_are_no_difference_to_alembic(application_url):
    run(application_url, 'ALTER TABLE "Channel" ADD token_expires_at TIMESTAMP(3)')
    succeed(migrate(application_url), migrate(application_url, "check"))


@pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
def test_what_the_owner_says_of_the_tables_in_comments_is_no_difference_to_alembic(application_url):
    succeed(migrate(application_url))
    run(application_url, """COMMENT ON TABLE "Channel" IS 'theirs'""")
    run(application_url, "COMMENT ON COLUMN token_audit_log.message IS 'theirs'")
    succeed(migrate(application_url, "check"))


@pytest.mark.parametrize("empty_database_url", ["postgresql"], indirect=True)
def test_an_audit_log_that_prisma_has_made_gets_its_index_and_is_no_difference_to_alembic(application_url):
    run(
        application_url,
        """CREATE TABLE token_audit_log (id BIGSERIAL PRIMARY KEY, at TIMESTAMP(3) NOT NULL,
           channel_id TEXT NOT NULL, event TEXT NOT NULL, message TEXT NOT NULL, reason TEXT,
           expires_at_before TIMESTAMP(3), expires_at_after TIMESTAMP(3))""",
    )
    before = shape(application_url, "token_audit_log")
    succeed(migrate(application_url), migrate(application_url, "check"))
    succeed(migrate(application_url, "downgrade", "base"))
    assert shape(application_url, "token_audit_log") == before


@pytest.mark.parametrize("length", [55, 63])
def test_a_table_may_have_as_long_a_name_as_postgresql_allows(empty_database_url, monkeypatch, length):
    monkeypatch.setenv("CHANNEL_TABLE", "m" * length)
    succeed(migrate(empty_database_url), migrate(empty_database_url), migrate(empty_database_url, "check"))
    succeed(migrate(empty_database_url, "downgrade", "base"))


def test_a_column_of_ours_that_is_missing_is_a_difference_to_alembic(database_url):
    run(database_url, 'ALTER TABLE "Channel" DROP COLUMN token_error')
    assert "token_error" in migrate(database_url, "check").stdout


# Down and up again


def test_going_down_takes_away_what_going_up_has_added_and_nothing_else(application_url):
    before, rows = shape(application_url), channels(application_url)
    succeed(migrate(application_url), migrate(application_url, "downgrade", "base"))
    after = shape(application_url)
    del after["whatsapp_token_alembic_version"]
    assert (after, channels(application_url)) == (before, rows)


def test_going_down_leaves_the_columns_that_prisma_had_added_before(application_url):
    for name in ("token_expires_at", "last_token_refresh_at", "token_status"):
        run(application_url, f'ALTER TABLE "Channel" ADD {name} TIMESTAMP(3)')
    before = shape(application_url)
    succeed(migrate(application_url), migrate(application_url, "downgrade", "base"))
    after = shape(application_url)
    del after["whatsapp_token_alembic_version"]
    assert after == before


def test_a_table_of_our_own_stays_with_its_tokens_and_their_clocks_when_going_down(empty_database_url):
    succeed(migrate(empty_database_url))
    run(
        empty_database_url,
        """INSERT INTO "Channel" (id, name, wa_token_encrypted, token_expires_at, token_status)
           VALUES (7, 'Shop', 'token', '2026-06-15 12:00:00.000000', 'ok')""",
    )
    before = channels(empty_database_url)
    succeed(migrate(empty_database_url, "downgrade", "base"), migrate(empty_database_url))
    assert channels(empty_database_url) == [row | {"token_status": None} for row in before]


AUDIT_ROW = """INSERT INTO token_audit_log (at, channel_id, event, message)
    VALUES ('2026-11-01 00:00:00', '1', 'refreshed', 'Token refreshed automatically')"""


def test_a_script_that_goes_down_is_told_what_is_lost(database_url):
    run(database_url, AUDIT_ROW)
    done = migrate(database_url, "downgrade", "base")
    succeed(done)
    assert "Dropping token_audit_log and its rows, the history of every token: 1\n" in done.stderr


@pytest.mark.parametrize("ending", ["n\n", "\x03", "\x04"])
def test_on_a_terminal_going_down_asks_first_and_changes_nothing_without_a_yes(database_url, ending):
    run(database_url, AUDIT_ROW)
    before = shape(database_url), run(database_url, "SELECT * FROM whatsapp_token_alembic_version")
    code, shown = answer(database_url, ending)
    assert (code != 0, "the history of every token: 1. Go on? [y/N]" in shown) == (True, True)
    after = shape(database_url), run(database_url, "SELECT * FROM whatsapp_token_alembic_version")
    assert (after, "Traceback" in shown) == (before, False)


@pytest.mark.parametrize("to", ["base", "-2"])
def test_on_a_terminal_a_yes_lets_it_go_down(database_url, to):
    run(database_url, AUDIT_ROW)
    code, shown = answer(database_url, "y\n", to)
    assert (code, list(shape(database_url))) == (0, ["whatsapp_token_alembic_version"])
    assert shown.count("Go on?") == 1


def test_without_any_history_nothing_is_asked_on_a_terminal(database_url):
    code, shown = answer(database_url, "")
    assert (code, "Go on?" in shown) == (0, False)


def answer(url, text, to="base"):
    """Go down on a terminal and type an answer. Return the exit code and what was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        command = [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "downgrade", to]
        os.execve(sys.executable, command, os.environ | {"DATABASE_URL": url})
    shown, is_typed = b"", False
    with suppress(OSError):  # the other end is closed
        while True:
            if not select.select([terminal], [], [], 2)[0]:
                is_typed = False  # a Ctrl-C that came just before the wait for an answer is lost: type again
            elif chunk := os.read(terminal, 4096):
                shown += chunk
            else:
                break
            if text and not is_typed and b"[y/N]" in shown:
                os.write(terminal, text.encode())
                is_typed = True
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_a_table_of_our_own_that_is_empty_goes_when_going_down(empty_database_url):
    succeed(migrate(empty_database_url), migrate(empty_database_url, "downgrade", "base"))
    assert list(shape(empty_database_url)) == ["whatsapp_token_alembic_version"]


def test_what_somebody_took_away_meanwhile_does_not_keep_it_from_going_down(application_url):
    succeed(migrate(application_url))
    for statement in (
        "DROP TABLE token_audit_log",
        'DROP INDEX "ix_Channel_token_due"',
        'DROP INDEX "ix_Channel_token_news"',
        'ALTER TABLE "Channel" DROP COLUMN token_error',
    ):
        run(application_url, statement)
    succeed(migrate(application_url, "downgrade", "base"))
    assert [name for name, *_ in shape(application_url)["Channel"][0]] == APPLICATION_COLUMNS


def test_what_somebody_took_away_comes_back_as_the_program_says(application_url):
    succeed(migrate(application_url))
    before = shape(application_url)
    run(application_url, 'ALTER TABLE "Channel" DROP COLUMN token_lease_until')
    with closing(Connection(parse_url(application_url))) as connection, pytest.raises(BadSchema) as told:
        connection.run(lambda c, _: reflect(c, TableMap()))
    assert str(told.value).endswith("run: alembic stamp base && alembic upgrade head")
    succeed(migrate(application_url, "stamp", "base"), migrate(application_url))
    assert shape(application_url) == before
    succeed(migrate(application_url, "downgrade", "base"))
    assert [name for name, *_ in shape(application_url)["Channel"][0]] == APPLICATION_COLUMNS


@pytest.mark.parametrize("column", ["token_status", "token_alerted_at"])
def test_the_second_revision_goes_on_without_a_column_that_somebody_took_away(application_url, column):
    succeed(migrate(application_url))
    before = shape(application_url)
    succeed(migrate(application_url, "downgrade", "0001"))
    run(application_url, f'ALTER TABLE "Channel" DROP COLUMN {column}')
    succeed(migrate(application_url))
    succeed(migrate(application_url, "stamp", "base"), migrate(application_url))
    assert sorted(shape(application_url)["Channel"][0]) == sorted(before["Channel"][0])
    assert shape(application_url)["Channel"][1:] == before["Channel"][1:]


def test_the_second_revision_goes_on_where_the_settings_name_another_table(application_url, monkeypatch):
    succeed(migrate(application_url, "upgrade", "0001"))
    monkeypatch.setenv("CHANNEL_TABLE", "lines")
    succeed(migrate(application_url))
    monkeypatch.delenv("CHANNEL_TABLE")
    with closing(Connection(parse_url(application_url))) as connection, pytest.raises(BadSchema) as told:
        connection.run(lambda c, _: reflect(c, TableMap(table="lines")))
    assert "alembic" in str(told.value)


# A schema


@empty_postgresql
@pytest.mark.parametrize("schema", ["public", "shop", 'of "Shop"'])
def test_a_schema_in_the_url_is_where_everything_goes(empty_database_url, schema):
    quoted = schema.replace('"', '""')
    run(
        empty_database_url,
        f'CREATE SCHEMA IF NOT EXISTS "{quoted}"',
        "CREATE SCHEMA other",
        'CREATE TABLE other."Channel" (id INT)',
    )
    url = with_option(empty_database_url, f"schema={quote(schema)}")
    succeed(migrate(url), migrate(url), migrate(url, "check"))
    tables = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^(pg_|information_)'"
    found = [(row["schemaname"], row["tablename"]) for row in run(empty_database_url, tables)]
    assert sorted(found) == sorted([("other", "Channel"), *((schema, table) for table in OURS)])


# Wherever, and whatever goes wrong


@pytest.fixture
def checkout(tmp_path):
    """The program somewhere else, with an `.env` of its own or none."""
    root = tmp_path / "checkout"
    for folder in ("alembic", "whatsapp_tokens"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("*.py"), ROOT / "alembic.ini"]:
        shutil.copy(path, root)
    return root


def test_it_works_from_any_directory_and_reads_the_env_file_beside_it(checkout, tmp_path):
    (checkout / ".env").write_text(f"DATABASE_URL=sqlite:///{tmp_path / 'channels.db'}\n")
    (tmp_path / "elsewhere").mkdir()
    succeed(migrate(None, root=checkout, cwd=tmp_path / "elsewhere"))
    assert sorted(shape(f"sqlite:///{tmp_path / 'channels.db'}")) == OURS


def failure(*arguments, **options):
    """What a migration that fails says, which must be a line on stdout and no traceback."""
    done = migrate(*arguments, **options)
    assert (done.returncode != 0, done.stdout.count("\n"), "Traceback" in done.stderr) == (True, 1, False)
    assert PASSWORD not in done.stdout + done.stderr
    return done.stdout


def test_without_a_database_url_it_says_so_in_one_line(checkout):
    assert "DATABASE_URL" in failure(None, root=checkout)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "DATABASE_URL: it is empty"),
        (f"mysql://app:{PASSWORD}@db.example/shop", "DATABASE_URL: it must begin with postgresql://"),
        (f"postgresql://app:{PASSWORD}@{PASSWORD}@db.example/shop", "must be written as %40"),
        (f"postgresql://app:{PASSWORD}@127.0.0.1/shop?sslmode=perhaps", "invalid sslmode value"),
        ("sqlite:////nowhere/channels.db", "unable to open database file"),
    ],
)
def test_a_database_url_that_leads_nowhere_is_one_line(url, words):
    assert words in failure(url)


def test_a_server_that_is_away_is_one_line():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # and does not listen
        port = listener.getsockname()[1]
        assert "Connection refused" in failure(f"postgresql://app:{PASSWORD}@127.0.0.1:{port}/shop")


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize(
    "words",
    [
        "la autentificación password falló para el usuario «app»",
        "lo siento, no hay más conexiones, inténtelo",
    ],
)
def test_a_server_that_refuses_us_in_any_language_and_encoding_is_one_line(words, encoding):
    with Refusing(fatal(words, encoding=encoding)) as server:
        assert words in failure(server.url("sslmode=disable"))


@only_postgresql
def test_a_schema_that_is_not_there_is_one_line(database_url):
    assert "no schema has been selected" in failure(with_option(database_url, "schema=nowhere"))


@empty_postgresql
def test_an_upgrade_that_fails_changes_nothing(empty_database_url):
    run(empty_database_url, 'CREATE TABLE "Channel" (id TEXT PRIMARY KEY, provider TEXT)')
    before = shape(empty_database_url)
    said = failure(empty_database_url)
    assert ('"Channel" lacks type, wa_token_encrypted' in said, shape(empty_database_url)) == (True, before)


def test_sql_alone_cannot_be_had_because_the_migration_looks_first(database_url):
    assert "--sql cannot do that" in failure(database_url, "upgrade", "head", "--sql")


def test_everything_is_made_in_the_schema_of_the_url(pg_server):
    name = pg_server.create()
    url = f"{pg_server.url_of(name)}&schema=App"
    engine = sa.create_engine(parse_url(url).url, poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql('CREATE SCHEMA "App"')
        codes = [migrate(url).returncode, migrate(url).returncode, migrate(url, "check").returncode]
        made = {
            schema: set(sa.inspect(engine).get_table_names(schema=schema)) for schema in ("App", "public")
        }
    finally:
        pg_server.drop(name)
    assert codes == [0, 0, 0]
    assert made == {"App": set(OURS), "public": set()}
