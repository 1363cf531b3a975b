"""Where the channels are: the table map, the tables as they really are, and the types of their columns.

The table belongs to somebody else. A `TableMap` says what it and its columns are called; `reflect` looks
at what is there and gives tables that speak our names in code and theirs in SQL, or says what is missing.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOMAIN

from whatsapp_tokens.database.errors import UPGRADE, BadSchema

AUDIT_TABLE: Final = "token_audit_log"
VERSION_TABLE: Final = "whatsapp_token_alembic_version"
MOST_SHOWN: Final = 20  # names of tables in an error
NAME_BYTES: Final = 63  # of PostgreSQL's names


@dataclass(frozen=True, slots=True)
class TableMap:
    """Where the channels are: a table, its schema, the type to look for, and other names for our columns."""

    table: str = "Channel"
    schema: str | None = None
    type: str = "whatsapp"
    columns: Mapping[str, str] = field(default_factory=dict)

    def column(self, ours: str) -> str:
        """The table's name for one of our columns."""
        return self.columns.get(ours, ours)

    @property
    def full_name(self) -> str:
        """The table as people are told of it."""
        return f'"{self.schema}"."{self.table}"' if self.schema else f'"{self.table}"'


# What the program needs of a table, in the order in which our migration makes it; and then what it uses only
# where the map names it.
COLUMNS: Final = (
    *("id", "name", "type", "wa_token_encrypted", "token_expires_at", "last_token_refresh_at"),
    *("token_status", "token_error", "token_fingerprint", "token_alerted_at", "token_lease_until"),
)
# Of these, what our migration does not add to a table that exists: it is the application's to have.
THEIRS: Final = ("id", "name", "type", "wa_token_encrypted")
OPTIONAL_COLUMNS: Final = ("active", "phone_number", "updated_at")


def parse_columns(text: str) -> dict[str, str]:
    """Read `ours=theirs,…` as our column names and theirs. Raises ValueError with what to do."""
    known = (*COLUMNS, *OPTIONAL_COLUMNS)
    found: dict[str, str] = {}
    for entry in filter(None, (entry.strip() for entry in text.split(","))):
        ours, equals, theirs = (part.strip() for part in entry.partition("="))
        theirs = theirs.strip('"')
        if not (ours and equals and theirs):
            raise ValueError(f'"{entry[:60]}" is not of the form our_name=their_name')
        if ours not in known:
            raise ValueError(f'"{ours[:60]}" is none of the names on the left: {", ".join(known)}')
        if ours in found:
            raise ValueError(f'"{ours}" is given twice')
        found[ours] = theirs
    users: dict[str, list[str]] = {}
    for ours in known:
        if ours in COLUMNS or ours in found:
            users.setdefault(found.get(ours, ours), []).append(ours)
    for theirs, several in users.items():
        if len(several) > 1:
            raise ValueError(f'the column "{theirs}" is used twice: as {" and as ".join(several)}')
    return found


class UTCDateTime(sa.TypeDecorator[datetime]):
    """Aware UTC in Python; in PostgreSQL `timestamptz`, or `timestamp` holding UTC.

    Converted here and not by the server, so the session's time zone never matters. PostgreSQL knows more
    years than Python: those are read as its infinities, which psycopg2 gives as the first and last datetime.
    """

    impl = sa.DateTime
    cache_ok = True

    def __init__(self, *, timezone: bool = True) -> None:
        super().__init__(timezone=timezone)
        self.timezone = timezone

    def column_expression(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """What is selected of the column: one odd row must not stop the others."""
        sql: Any = sa.literal_column
        return sa.case(
            (column < sql("'0002-01-01'"), sql("'-infinity'")),
            (column >= sql("'9999-01-01'"), sql("'infinity'")),
            else_=column,
        )

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | str | None:
        """To what the column holds. A naive value is a bug and raises ValueError."""
        utc = _to_utc(value)
        if utc is not None and dialect.name == "postgresql" and utc.year in {1, 9999}:
            return "infinity" if utc.year > 1 else "-infinity"
        return utc if utc is None or self.timezone else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """From what the column holds."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SQLiteUTC(sa.TypeDecorator[datetime]):
    """The same in SQLite, which has no dates: SQLAlchemy's own text form, in UTC.

    Other ISO forms are understood, and what is no date is read as "unknown": one odd row must not stop the
    others. The `utc` that does it is registered by `connection`.
    """

    impl = sa.Text
    cache_ok = True

    def column_expression(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """What is selected of the column."""
        return comparable(column)

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        """As `YYYY-MM-DD HH:MM:SS.ffffff`. A naive value is a bug and raises ValueError."""
        utc = _to_utc(value)
        return None if utc is None else utc.replace(tzinfo=None).isoformat(" ", "microseconds")

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """From the same."""
        return None if value is None else datetime.fromisoformat(value).replace(tzinfo=UTC)


def comparable(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """A date column as one compares and sorts it: SQLite's text in its one form, or null if it is no date."""
    if isinstance(column.type, SQLiteUTC):
        return sa.func.utc(column, type_=column.type)
    return column


def _to_utc(value: datetime | None) -> datetime | None:
    if value is not None and value.tzinfo is None:
        raise ValueError("naive datetime")
    return None if value is None else value.astimezone(UTC)


# The types that our migration gives them.
_TYPES: Final[Mapping[str, Any]] = {
    "id": sa.Integer(),
    "active": sa.Boolean(),
    **dict.fromkeys(
        ("token_expires_at", "last_token_refresh_at", "token_alerted_at", "token_lease_until", "updated_at"),
        UTCDateTime(),
    ),
}
_OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "id": {"primary_key": True},
    "type": {"nullable": False},
}


class Tables(NamedTuple):
    """The channel table, with our names as keys, and the audit table."""

    channel: sa.Table
    audit: sa.Table


def define_tables(
    metadata: sa.MetaData, mapping: TableMap, types: Mapping[tuple[str, str], Any] | None = None
) -> Tables:
    """The tables as `mapping` describes them.

    `types` gives the types that columns really have, by table and our name, and leaves out a `name` that is
    not there; without it the tables are as our migration makes them.
    """
    found = types or {}

    def kind(table: str, ours: str, default: Any) -> Any:
        return found.get((table, ours), default)

    channel = sa.Table(
        mapping.table,
        metadata,
        *(
            sa.Column(
                mapping.column(ours),
                kind(mapping.table, ours, _TYPES.get(ours, sa.Text())),
                key=ours,
                server_default=mapping.type if ours == "type" else None,
                **_OPTIONS.get(ours, {}),
            )
            for ours in (*COLUMNS, *OPTIONAL_COLUMNS)
            if (ours in COLUMNS or ours in mapping.columns)
            and (ours != "name" or types is None or (mapping.table, "name") in types)
        ),
        schema=mapping.schema,
    )

    def time(name: str, **options: Any) -> sa.Column[Any]:
        return sa.Column(name, kind(AUDIT_TABLE, name, UTCDateTime()), **options)

    audit = sa.Table(
        AUDIT_TABLE,
        metadata,
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        time("at", nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        time("expires_at_before"),
        time("expires_at_after"),
        sa.Index(f"ix_{AUDIT_TABLE}_channel_id", "channel_id", "at"),
        schema=mapping.schema,
    )
    return Tables(channel, audit)


def due_index(channel: sa.Table, dialect: str) -> sa.Index:
    """The partial index that serves the due query: candidates of a type in the order of urgency.

    SQLite puts nulls first by itself, and does not let an index say so.
    """
    c = channel.c
    expires_at = c.token_expires_at.asc().nulls_first() if dialect == "postgresql" else c.token_expires_at
    with_token = c.wa_token_encrypted.is_not(None)
    return sa.Index(
        short_name(f"ix_{channel.name}_token_due"),
        c.type,
        expires_at,
        c.id,
        postgresql_where=with_token,
        sqlite_where=with_token,
    )


def short_name(name: str) -> str:
    """A name as long as PostgreSQL lets it be, and still different from others."""
    raw = name.encode()
    if len(raw) <= NAME_BYTES:
        return name
    digest = hashlib.md5(raw, usedforsecurity=False).hexdigest()[:8]
    return f"{raw[: NAME_BYTES - 9].decode(errors='ignore')}_{digest}"


def reflect(connection: sa.Connection, mapping: TableMap) -> Tables:
    """The tables with the types that their columns really have.

    Raises `BadSchema` if one is missing, lacks a column, or cannot be worked with.
    """
    with warnings.catch_warnings():  # of types and indexes that SQLAlchemy does not know, and nobody needs
        warnings.simplefilter("ignore", sa.exc.SAWarning)
        return _reflect(connection, mapping)


def _reflect(connection: sa.Connection, mapping: TableMap) -> Tables:
    inspector = sa.inspect(connection)
    plain = define_tables(sa.MetaData(), mapping)
    types: dict[tuple[str, str], Any] = {}
    for table in plain:
        found = _columns_of(inspector, table.name, mapping)
        optional = {"name"} - set(mapping.columns)
        missing = [column for column in table.c if column.name not in found and column.key not in optional]
        if missing:
            foreign = table is plain.channel and any(column.key in _NOT_OURS for column in missing)
            raise BadSchema(
                f'table "{table.name}" lacks {", ".join(column.name for column in missing)} '
                f"(it has {', '.join(found)}); {MAP_THEM if foreign else _upgrade(inspector, mapping)}"
            )
        for column in table.c:
            if column.name in found:
                types[table.name, column.key] = _type(connection.dialect, column, found[column.name])
    tables = define_tables(sa.MetaData(), mapping, types)
    _check_type(connection, tables.channel.c.type, mapping)
    _check_ids(connection, inspector, tables.channel)
    return tables


_NOT_OURS: Final = {*THEIRS, *OPTIONAL_COLUMNS}
MAP_THEM: Final = "say in CHANNEL_COLUMNS what they are called there (our_name=their_name)"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _upgrade(inspector: sa.Inspector, mapping: TableMap) -> str:
    """What to run. Where the migration ran already, something it made is gone, or the map has changed."""
    if inspector.has_table(VERSION_TABLE, schema=mapping.schema):
        return "run: alembic stamp base && alembic upgrade head"
    return UPGRADE


def _columns_of(inspector: sa.Inspector, table: str, mapping: TableMap) -> dict[str, Any]:
    """The names and types of a table's columns."""
    try:
        columns = inspector.get_columns(table, schema=mapping.schema)
    except sa.exc.NoSuchTableError:
        raise BadSchema(_no_table(inspector, table, mapping)) from None
    return {column["name"]: _plain(column["type"]) for column in columns}


def _plain(found: Any) -> Any:
    """What a type is beneath the names and rules that a domain gives it."""
    while isinstance(found, DOMAIN):
        found = found.data_type
    return found


def _no_table(inspector: sa.Inspector, table: str, mapping: TableMap) -> str:
    """A wrong CHANNEL_TABLE, or a migration that has not been run: only the reader can know which."""
    if mapping.schema and mapping.schema not in inspector.get_schema_names():
        return f'there is no schema "{mapping.schema}" in this database; see ?schema= in DATABASE_URL'
    where = f'the schema "{mapping.schema}"' if mapping.schema else "this database"
    there = sorted({*inspector.get_table_names(mapping.schema), *inspector.get_view_names(mapping.schema)})
    shown = ", ".join(there[:MOST_SHOWN]) + (", …" if len(there) > MOST_SHOWN else "")
    remedy = "name it in CHANNEL_TABLE, or " if table == mapping.table and there else ""
    return (
        f'there is no table "{table}" in {where}{f" (it has {shown})" if there else ""}; '
        f"{remedy}{_upgrade(inspector, mapping)}"
    )


def _type(dialect: sa.Dialect, column: sa.Column[Any], found: Any) -> Any:
    """How to speak to a column of ours that has the type `found`. Raises `BadSchema`."""
    if isinstance(column.type, UTCDateTime):
        if dialect.name == "sqlite":
            return SQLiteUTC()
        if isinstance(found, sa.DateTime):
            return UTCDateTime(timezone=found.timezone)
        raise _unfit(column, found, "a timestamp")
    if column.key == "active" and not isinstance(found, sa.Boolean | sa.Integer) and dialect.name != "sqlite":
        raise _unfit(column, found, "a boolean")
    if column.key == "id":
        return _id_type(dialect, column, found)
    if column.key in ("wa_token_encrypted", "token_status", "token_error", "token_fingerprint"):
        is_text = isinstance(found, sa.String) and not isinstance(found, sa.Enum)
        if not is_text and (dialect.name != "sqlite" or isinstance(found, sa.LargeBinary)):
            raise _unfit(column, found, "text")
    # SQLite columns hold anything whatever their type says, so nothing there is converted by it.
    return column.type if dialect.name == "sqlite" else found


def _id_type(dialect: sa.Dialect, column: sa.Column[Any], found: Any) -> Any:
    """Integers stay integers; everything else is handled as text."""
    if column.table.name == AUDIT_TABLE:
        return column.type
    if isinstance(found, sa.Uuid):
        return sa.Uuid(as_uuid=False)
    if isinstance(found, sa.Integer | sa.String):
        return found
    if dialect.name == "sqlite":
        return sa.types.NullType()
    raise _unfit(column, found, "a number, a text or a uuid")


def _unfit(column: sa.Column[Any], found: object, wanted: str) -> BadSchema:
    mapped = f" (it is our {column.key}: see CHANNEL_COLUMNS)" if column.name != column.key else ""
    return BadSchema(
        f'column "{column.name}" of table "{column.table.name}" is {found}; it must be {wanted}{mapped}'
    )


def _check_type(connection: sa.Connection, column: sa.Column[Any], mapping: TableMap) -> None:
    """An enum that does not know CHANNEL_TYPE, or a column of another kind, would refuse every query."""
    if isinstance(column.type, sa.Enum) and mapping.type not in column.type.enums:
        raise BadSchema(
            f'column "{column.name}" of table "{mapping.table}" is never "{mapping.type}", only '
            f"{_quoted(column.type.enums)}; set CHANNEL_TYPE"
        )
    try:
        connection.execute(sa.select(sa.literal(1)).where(column == mapping.type).limit(0))
    except sa.exc.DatabaseError as error:
        if error.connection_invalidated:
            raise
        raise BadSchema(
            f'column "{column.name}" of table "{mapping.table}" is {column.type} and cannot be '
            f'"{mapping.type}"; set CHANNEL_TYPE, or map another column to type in CHANNEL_COLUMNS'
        ) from None


def _check_ids(connection: sa.Connection, inspector: sa.Inspector, channel: sa.Table) -> None:
    """Rows are written by their ids, so no two may have the same. Usually the database sees to that."""
    id_ = channel.c.id
    if not _is_key(inspector, channel):
        twice = sa.select(id_).where(id_.is_not(None)).group_by(id_).having(sa.func.count() > 1).limit(1)
        if (found := connection.execute(twice).scalar()) is not None:
            raise BadSchema(
                f'column "{id_.name}" of table "{channel.name}" is no primary key, and several rows have '
                f"{found}: they cannot be told apart"
            )
    if connection.execute(sa.select(sa.literal(1)).where(id_.is_(None)).limit(1)).first():
        raise BadSchema(f'column "{id_.name}" of table "{channel.name}" is null in a row')


def _is_key(inspector: sa.Inspector, channel: sa.Table) -> bool:
    """Whether the database itself keeps the ids apart."""
    where = (channel.name, channel.schema)
    keys = [
        inspector.get_pk_constraint(*where)["constrained_columns"],
        *(constraint["column_names"] for constraint in inspector.get_unique_constraints(*where)),
        *(
            index["column_names"]
            for index in inspector.get_indexes(*where)
            if index["unique"] and not any("where" in name for name in index.get("dialect_options", {}))
        ),
    ]
    return [channel.c.id.name] in keys
