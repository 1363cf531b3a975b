"""Where the channels are: every table that somebody may have, and the times in it."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
import sqlalchemy as sa
from conftest import only_postgresql, only_sqlite

from models import Channel, TableMap, mapped_tables, plain_id
from whatsapp_tokens.column_types import SQLiteUTC, UTCDateTime
from whatsapp_tokens.database.connection import Connection
from whatsapp_tokens.database.errors import BadSchema
from whatsapp_tokens.database.schema import reflect
from whatsapp_tokens.database.url import parse_url

STATE = """
    token_expires_at {time}, last_token_refresh_at {time}, token_status TEXT, token_error TEXT,
    token_fingerprint TEXT, token_alerted_at {time}, token_lease_until {time}
"""
CHANNEL = Channel(1, "Shop", "a-ciphertext")


@pytest.fixture
def connection(database_url):
    with closing(Connection(parse_url(database_url))) as opened:
        yield opened


def tables(connection, **mapping):
    return connection.run(lambda c, _: reflect(c, TableMap(**mapping)))


def refusal_of(connection, **mapping):
    with pytest.raises(BadSchema) as raised:
        tables(connection, **mapping)
    return str(raised.value)


# Times

INSTANTS = [
    datetime(2026, 6, 15, 12, tzinfo=UTC),
    datetime(2026, 3, 8, 7, 30, tzinfo=UTC),  # an hour that New York's clocks leave out, as UTC
    datetime(2026, 11, 1, 5, 30, tzinfo=UTC),  # an hour that they have twice
    datetime(2026, 11, 1, 6, 30, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2038, 1, 19, 3, 14, 8, 123456, tzinfo=UTC),
]


@pytest.mark.parametrize("instant", INSTANTS)
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@only_postgresql
def test_an_instant_goes_into_both_kinds_of_column_and_comes_back_in_any_zone(
    rows, database_url, zone, instant
):
    rows.run(f"ALTER DATABASE {rows.engine.url.database} SET timezone = '{zone}'")
    aware, naive = sa.Column("aware", UTCDateTime()), sa.Column("naive", UTCDateTime(timezone=False))
    table = sa.Table("t", sa.MetaData(), aware, naive)
    somewhere = instant.astimezone(timezone(timedelta(hours=-9)))
    stored = "SELECT extract(epoch FROM aware), extract(epoch FROM naive AT TIME ZONE 'UTC') FROM t"

    def there_and_back(c, _):
        table.create(c)
        c.execute(sa.insert(table).values(aware=somewhere, naive=somewhere))
        read = c.execute(sa.select(table).where(aware == somewhere, naive == somewhere)).one()
        seconds = c.exec_driver_sql(stored).one()
        return [*read, *(datetime.fromtimestamp(float(since_1970), UTC) for since_1970 in seconds)]

    with closing(Connection(parse_url(database_url))) as connection:
        times = connection.run(there_and_back)
        session_zone = connection.run(lambda c, _: c.exec_driver_sql("SHOW timezone").scalar())
    assert (times, {time.tzinfo for time in times}, session_zone) == ([instant] * 4, {UTC}, zone)


@pytest.mark.parametrize("instant", INSTANTS)
@only_sqlite
def test_an_instant_goes_into_sqlite_as_text_in_utc_and_comes_back(connection, instant):
    table = sa.Table("t", sa.MetaData(), sa.Column("at", SQLiteUTC()))
    somewhere = instant.astimezone(timezone(timedelta(hours=-9)))

    def there_and_back(c, _):
        table.create(c)
        c.execute(sa.insert(table).values(at=somewhere))
        return c.execute(sa.select(table.c.at)).scalar(), c.exec_driver_sql("SELECT at FROM t").scalar()

    read, stored = connection.run(there_and_back, immediate=True)
    assert (read, read.tzinfo, stored) == (instant, UTC, instant.strftime("%Y-%m-%d %H:%M:%S.%f"))


@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ("2026-06-15 12:00:00", datetime(2026, 6, 15, 12, tzinfo=UTC)),
        ("2026-06-15T14:00:00+02:00", datetime(2026, 6, 15, 12, tzinfo=UTC)),
        ("soon", None),
        ("", None),
        (1781524800000, None),
        (None, None),
    ],
)
@only_sqlite
def test_an_odd_date_in_sqlite_is_unknown(rows, connection, stored, read):
    rows.run('INSERT INTO "Channel" (token_expires_at) VALUES (:stored)', stored=stored)
    channel, _ = tables(connection)
    query = sa.select(channel.c.token_expires_at)
    assert connection.run(lambda c, _: c.execute(query).scalar()) == read


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("kind", ["timestamptz", "timestamp"])
@pytest.mark.parametrize(
    ("stored", "year"),
    [("infinity", 9999), ("-infinity", 1), ("58421-01-01", 9999), ("0044-03-15 BC", 1), ("0001-01-01", 1)],
)
@only_postgresql
def test_a_year_that_python_does_not_know_is_read_as_its_first_or_last(
    rows, connection, zone, kind, stored, year
):
    rows.run('ALTER TABLE "Channel" DROP COLUMN token_expires_at')
    rows.run(f'ALTER TABLE "Channel" ADD token_expires_at {kind}')
    rows.run('INSERT INTO "Channel" (token_expires_at) VALUES (:stored)', stored=stored)
    channel, _ = tables(connection)
    query = sa.select(channel.c.token_expires_at)

    def read(c, _):
        c.exec_driver_sql(f"SET LOCAL timezone = '{zone}'")
        return c.execute(query).scalar()

    assert connection.run(read).year == year


@pytest.mark.parametrize("last", [datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)])
@only_postgresql
def test_what_was_read_as_the_first_or_last_date_is_written_back_as_it_was(rows, connection, last):
    channel, _ = tables(connection)
    connection.run(lambda c, _: c.execute(sa.insert(channel).values(token_expires_at=last)))
    query = sa.select(channel.c.token_expires_at).where(channel.c.token_expires_at == last)
    assert (
        connection.run(lambda c, _: c.execute(query).scalar()),
        rows.scalar('SELECT isfinite(token_expires_at) FROM "Channel"'),
    ) == (last, False)


@pytest.mark.parametrize("kind", [UTCDateTime(), UTCDateTime(timezone=False), SQLiteUTC()])
def test_a_time_without_a_zone_is_a_mistake(kind):
    with pytest.raises(ValueError, match="naive datetime"):
        kind.process_bind_param(INSTANTS[0].replace(tzinfo=None), sa.make_url("sqlite://").get_dialect()())


@pytest.mark.parametrize("kind", [UTCDateTime(), UTCDateTime(timezone=False), SQLiteUTC()])
def test_an_unknown_time_is_null(kind):
    dialect = sa.make_url("sqlite://").get_dialect()()
    assert (kind.process_bind_param(None, dialect), kind.process_result_value(None, dialect)) == (None, None)


# The tables


def test_a_table_that_the_migration_made_is_as_the_models_say(connection):
    channel, audit = tables(connection)
    expected = mapped_tables(sa.MetaData(), TableMap())
    assert [[c.key for c in table.c] for table in (channel, audit)] == [
        [c.key for c in t.c] for t in expected
    ]


def test_a_table_that_is_not_there_is_named(connection):
    assert refusal_of(connection, table="Kanal") == (
        'there is no table "Kanal" in this database (it has Channel, token_audit_log, '
        "whatsapp_token_alembic_added, whatsapp_token_alembic_version); name it in CHANNEL_TABLE, or "
        "run: alembic stamp base && alembic upgrade head"
    )


def test_where_nothing_is_there_a_table_of_ones_own_is_looked_for_in_another_database(rows, connection):
    for table in (
        "Channel",
        "token_audit_log",
        "whatsapp_token_alembic_added",
        "whatsapp_token_alembic_version",
    ):
        rows.run(f'DROP TABLE "{table}"')
    assert refusal_of(connection, table="Kanal") == (
        'there is no table "Kanal" in this database; see whether DATABASE_URL names the right database, '
        "or run: alembic upgrade head"
    )
    assert refusal_of(connection) == 'there is no table "Channel" in this database; run: alembic upgrade head'


@only_postgresql
def test_a_schema_that_is_not_there_is_named(connection):
    said = 'there is no schema "elsewhere" in this database; see ?schema= in DATABASE_URL'
    assert refusal_of(connection, schema="elsewhere") == said


def test_a_missing_audit_table_is_named(rows, connection):
    rows.run("DROP TABLE token_audit_log")
    assert 'there is no table "token_audit_log"' in refusal_of(connection)


def test_missing_columns_are_named_with_those_that_there_are(rows, connection):
    rows.recreate('id INTEGER PRIMARY KEY, type TEXT, wa_token TEXT, "createdAt" TEXT')
    assert refusal_of(connection) == (
        'table "Channel" lacks wa_token_encrypted, token_expires_at, last_token_refresh_at, token_status, '
        "token_error, token_fingerprint, token_alerted_at, token_lease_until "
        "(it has id, type, wa_token, createdAt); "
        "say in CHANNEL_COLUMNS what they are called there (our_name=their_name)"
    )


def test_missing_columns_of_the_audit_table_are_named(rows, connection):
    rows.run("ALTER TABLE token_audit_log DROP COLUMN reason")
    rows.run("ALTER TABLE token_audit_log DROP COLUMN message")
    assert refusal_of(connection) == (
        'table "token_audit_log" lacks message, reason (it has id, at, channel_id, event, expires_at_before, '
        "expires_at_after); run: alembic stamp base && alembic upgrade head"
    )


def test_a_mapped_column_that_is_missing_is_named_as_the_table_should_name_it(connection):
    assert "lacks aktiv (it has" in refusal_of(connection, columns={"active": "aktiv"})


def test_a_table_may_have_no_name_column(rows, connection):
    rows.run('ALTER TABLE "Channel" DROP COLUMN name')
    channel, _ = tables(connection)
    assert "name" not in channel.c


def test_our_columns_may_have_other_names(rows, connection):
    for ours, theirs in {"name": "display name", "type": "provider", "token_expires_at": "expiresAt"}.items():
        rows.run(f'ALTER TABLE "Channel" RENAME {ours} TO "{theirs}"')
    rows.run('ALTER TABLE "Channel" RENAME TO "whatsapp accounts"')
    columns = {"name": "display name", "type": "provider", "token_expires_at": "expiresAt"}
    channel, _ = tables(connection, table="whatsapp accounts", columns=columns)
    assert (channel.name, [channel.c[ours].name for ours in columns]) == (
        "whatsapp accounts",
        ["display name", "provider", "expiresAt"],
    )


def test_optional_columns_are_known_only_if_they_are_mapped(rows, connection):
    rows.run('ALTER TABLE "Channel" ADD active BOOLEAN')
    rows.run('ALTER TABLE "Channel" ADD phone TEXT')
    channel, _ = tables(connection, columns={"phone_number": "phone"})
    assert [key for key in ("active", "phone_number", "updated_at") if key in channel.c] == ["phone_number"]


def id_found(rows, connection, kind, stored):
    """An id that is stored in a column of this kind, as a query for it finds it."""
    time = "TEXT" if rows.is_sqlite else "timestamptz"
    rows.recreate(f"id {kind} PRIMARY KEY, type TEXT, wa_token_encrypted TEXT, {STATE.format(time=time)}")
    rows.run('INSERT INTO "Channel" (id) VALUES (:id)', id=stored)
    channel, _ = tables(connection)
    query = sa.select(channel.c.id).where(channel.c.id.in_([stored]))
    return connection.run(lambda c, _: plain_id(c.execute(query).scalar()))


@pytest.mark.parametrize(
    ("kind", "stored"), [("INTEGER", 7), ("BIGINT", 2**40), ("TEXT", "cm3x"), ("VARCHAR(30)", "7")]
)
def test_an_id_may_be_a_number_or_a_text(rows, connection, kind, stored):
    assert id_found(rows, connection, kind, stored) == stored


@only_postgresql
def test_an_id_may_be_a_uuid(rows, connection):
    assert id_found(rows, connection, "uuid", str(UUID(int=5))) == str(UUID(int=5))


@pytest.mark.parametrize(
    ("kind", "timezone"),
    [("timestamptz", True), ("timestamp", False), ("timestamp(3)", False), ("timestamptz(0)", True)],
)
@only_postgresql
def test_a_date_column_is_spoken_to_as_what_it_is(rows, connection, kind, timezone):
    rows.run(f'ALTER TABLE "Channel" ALTER token_expires_at TYPE {kind}')
    channel, _ = tables(connection)
    assert channel.c.token_expires_at.type.timezone is timezone


@pytest.mark.parametrize(("kind", "shown"), [("date", "DATE"), ("text", "TEXT"), ("bigint", "BIGINT")])
@only_postgresql
def test_a_date_column_that_holds_no_timestamps_is_refused(rows, connection, kind, shown):
    rows.run('ALTER TABLE "Channel" DROP COLUMN token_expires_at')
    rows.run(f'ALTER TABLE "Channel" ADD token_expires_at {kind}')
    assert refusal_of(connection) == (
        f'column "token_expires_at" of table "Channel" is {shown}; it must be a timestamp'
    )


NOT_WHATSAPP = 'cannot be "whatsapp"; set CHANNEL_TYPE, or map another column to type in CHANNEL_COLUMNS'


@pytest.mark.parametrize(
    ("ours", "kind", "said"),
    [
        ("active", "text", "is TEXT; it must be a boolean (it is our active: see CHANNEL_COLUMNS)"),
        ("type", "boolean", f"is BOOLEAN and {NOT_WHATSAPP}"),
        ("type", "integer", f"is INTEGER and {NOT_WHATSAPP}"),
    ],
)
@only_postgresql
def test_a_mapped_column_of_another_kind_is_refused(rows, connection, ours, kind, said):
    rows.run(f'ALTER TABLE "Channel" ADD odd {kind}')
    assert refusal_of(connection, columns={ours: "odd"}) == f'column "odd" of table "Channel" {said}'


@pytest.mark.parametrize("kind", ["TEXT", "DATETIME", "TIMESTAMP", "NUMERIC"])
@only_sqlite
def test_a_date_column_of_sqlite_is_text_whichever_type_it_declares(rows, connection, kind):
    rows.recreate(f"id INTEGER PRIMARY KEY, type, wa_token_encrypted, {STATE.format(time=kind)}")
    channel, _ = tables(connection)
    assert isinstance(channel.c.token_expires_at.type, SQLiteUTC)
