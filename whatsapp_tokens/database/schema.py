"""What the tables really are: their types are read from the database, and compared with what a run needs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import DOMAIN

from models import AUDIT_TABLE, OPTIONAL_COLUMNS, THEIRS, TableMap, Tables, mapped_tables, short_name
from whatsapp_tokens.column_types import SQLiteUTC, UTCDateTime
from whatsapp_tokens.database.errors import UPGRADE, BadSchema

VERSION_TABLE: Final = "whatsapp_token_alembic_version"
PRISMA_TABLE: Final = "_prisma_migrations"  # where Prisma notes what it has migrated
MOST_SHOWN: Final = 20  # names of tables in an error


def make_indexes(channel: sa.Table, dialect: str) -> None:
    """Add the partial indexes to the table: for candidates of a type, and for those of them that may be news.

    Both are in the order of urgency. SQLite puts nulls first by itself, and does not let an index say so.
    """
    c = channel.c
    expires_at = c.token_expires_at.asc().nulls_first() if dialect == "postgresql" else c.token_expires_at
    conditions = {
        "due": c.wa_token_encrypted.is_not(None),
        "news": sa.or_(c.token_status == sa.text("'warning'"), c.token_alerted_at.is_not(None)),
    }
    for what, condition in conditions.items():
        name = short_name(f"ix_{channel.name}_token_{what}")
        sa.Index(name, c.type, expires_at, c.id, postgresql_where=condition, sqlite_where=condition)


def reflect(connection: sa.Connection, mapping: TableMap) -> Tables:
    """Return the tables with the types that their columns really have.

    Raise `BadSchema` if one is missing, lacks a column, or has a type that does not work.
    """
    with warnings.catch_warnings():  # of types and indexes that SQLAlchemy does not know and we do not need
        warnings.simplefilter("ignore", sa.exc.SAWarning)
        return _reflect(connection, mapping)


def _reflect(connection: sa.Connection, mapping: TableMap) -> Tables:
    inspector = sa.inspect(connection)
    plain = mapped_tables(sa.MetaData(), mapping)
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
    tables = mapped_tables(sa.MetaData(), mapping, types)
    _check_type(connection, tables.channel.c.type, mapping)
    _check_ids(connection, inspector, tables.channel)
    return tables


_NOT_OURS: Final = {*THEIRS, *OPTIONAL_COLUMNS}
MAP_THEM: Final = "say in CHANNEL_COLUMNS what they are called there (our_name=their_name)"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _upgrade(inspector: sa.Inspector, mapping: TableMap) -> str:
    """Return what to run. After a migration, what it made is gone, or CHANNEL_COLUMNS has changed."""
    if inspector.has_table(VERSION_TABLE, schema=mapping.schema):
        return "run: alembic stamp base && alembic upgrade head"
    if inspector.has_table(PRISMA_TABLE, schema=mapping.schema):
        return f"{UPGRADE}, or let Prisma add them, as docs/your-own-table.md says"
    return UPGRADE


def _columns_of(inspector: sa.Inspector, table: str, mapping: TableMap) -> dict[str, Any]:
    """Return the names and types of a table's columns."""
    try:
        columns = inspector.get_columns(table, schema=mapping.schema)
    except sa.exc.NoSuchTableError:
        raise BadSchema(_no_table(inspector, table, mapping)) from None
    return {column["name"]: _plain(column["type"]) for column in columns}


def _plain(found: Any) -> Any:
    """Return the type beneath the names and rules that a domain gives it."""
    while isinstance(found, DOMAIN):
        found = found.data_type
    return found


def _no_table(inspector: sa.Inspector, table: str, mapping: TableMap) -> str:
    """Return what to do: CHANNEL_TABLE may be wrong, or the migration has not been run."""
    if mapping.schema and mapping.schema not in inspector.get_schema_names():
        return f'there is no schema "{mapping.schema}" in this database; see ?schema= in DATABASE_URL'
    where = f'the schema "{mapping.schema}"' if mapping.schema else "this database"
    there = sorted({*inspector.get_table_names(mapping.schema), *inspector.get_view_names(mapping.schema)})
    shown = ", ".join(there[:MOST_SHOWN]) + (", …" if len(there) > MOST_SHOWN else "")
    remedy = ""
    if table == mapping.table and there:
        remedy = "name it in CHANNEL_TABLE, or "
    elif table == mapping.table != TableMap().table:  # the right database has a table of the user's own
        remedy = "see whether DATABASE_URL names the right database, or "
    return (
        f'there is no table "{table}" in {where}{f" (it has {shown})" if there else ""}; '
        f"{remedy}{_upgrade(inspector, mapping)}"
    )


def _type(dialect: sa.Dialect, column: sa.Column[Any], found: Any) -> Any:
    """Return the type with which to use a column that has the type `found` there. Raise `BadSchema`."""
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
    # SQLite columns hold anything also if their type says otherwise, so nothing there is converted by it.
    return column.type if dialect.name == "sqlite" else found


def _id_type(dialect: sa.Dialect, column: sa.Column[Any], found: Any) -> Any:
    """Return the type of ids: integers stay integers, and all others are handled as text."""
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
    """Raise `BadSchema` if the column cannot hold CHANNEL_TYPE: it would refuse every query."""
    if isinstance(column.type, sa.Enum) and mapping.type not in column.type.enums:
        raise BadSchema(
            f'column "{column.name}" of table "{mapping.table}" is never "{mapping.type}", only '
            f"{_quoted(column.type.enums)}; set CHANNEL_TYPE"
        )
    try:
        connection.execute(sa.select(sa.literal(1)).where(column == mapping.type).limit(0))
    except (sa.exc.DataError, sa.exc.ProgrammingError):
        raise BadSchema(
            f'column "{column.name}" of table "{mapping.table}" is {column.type} and cannot be '
            f'"{mapping.type}"; set CHANNEL_TYPE, or map another column to type in CHANNEL_COLUMNS'
        ) from None


def _check_ids(connection: sa.Connection, inspector: sa.Inspector, channel: sa.Table) -> None:
    """Raise `BadSchema` if two rows have the same id, or one has none: rows are written by their ids."""
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
    """Return whether the database itself keeps the ids unique."""
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
