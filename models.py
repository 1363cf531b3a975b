"""What a row is: the values that come from the database, and the tables that hold them.

The other rooms know `Channel` (a row as it was read), `Change` (what to write over it) and `Look` (which
rows a run is about); column names, column types and tables are known here and in `database` only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, TypeAlias

import sqlalchemy as sa

from connection import UPGRADE, BadDatabase

ChannelId: TypeAlias = int | str

AUDIT_TABLE: Final = "token_audit_log"
ERROR_LENGTH: Final = 500

# The reasons that SQL must know, because they decide whether a channel waits or is due again.
RECONNECT_REQUIRED: Final = "reconnect_required"
MAY_PASS: Final = (RECONNECT_REQUIRED, "unavailable", "unexpected_answer")  # by themselves


class Status(StrEnum):
    """`token_status`. Null means that the program has never looked at the channel."""

    OK = "ok"
    WARNING = "warning"
    NEVER_EXPIRES = "never_expires"


class Event(StrEnum):
    """`token_audit_log.event`."""

    REFRESHED = "refreshed"
    FAILED = "failed"
    RECOVERED = "recovered"
    NEVER_EXPIRES = "never_expires"
    CLOCK_CORRECTED = "clock_corrected"
    SET_BY_HAND = "set_by_hand"


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


@dataclass(frozen=True, slots=True)
class Channel:
    """A row as it was read. Times are aware UTC."""

    id: ChannelId
    name: str
    ciphertext: str = field(repr=False)
    expires_at: datetime | None = None
    refreshed_at: datetime | None = None
    status: str | None = None
    error: str | None = None
    fingerprint: str | None = None
    alerted_at: datetime | None = None

    @property
    def replaced(self) -> bool:
        """Whether the application has stored another token since status and clocks were written."""
        return self.fingerprint is not None and self.fingerprint != fingerprint(self.ciphertext)

    @property
    def reason(self) -> str | None:
        """The reason in `token_error`, which is `reason: detail`."""
        return self.error.partition(":")[0] if self.error else None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row of `token_audit_log`, but for its time and channel."""

    event: Event
    message: str
    reason: str | None = None
    expires_at_before: datetime | None = None
    expires_at_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """What to write over `channel`. `ciphertext` is what the row holds afterwards, new or not."""

    channel: Channel
    at: datetime
    ciphertext: str = field(repr=False)
    status: Status
    expires_at: datetime | None
    refreshed_at: datetime | None
    error: str | None = None
    clear_alert: bool = False
    audit: tuple[AuditEntry, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """Which rows a run is about. `ids` None means all; `everything` calls every candidate due."""

    now: datetime
    expires_before: datetime
    refreshed_before: datetime
    everything: bool = False
    ids: tuple[ChannelId, ...] | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the order of urgency: unknown expiry first, then soonest, then by id."""

    expires_at: datetime | None
    id: ChannelId


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows of a `Look` are candidates, due, and waiting for a reconnect."""

    candidates: int
    due: int
    waiting: int


def fingerprint(ciphertext: str) -> str:
    """Identify a ciphertext, the same way as the database does in SQL. It does not protect it."""
    return hashlib.md5(ciphertext.encode(errors="replace"), usedforsecurity=False).hexdigest()


# Used only where the table map names them.
OPTIONAL_COLUMNS: Final[Mapping[str, Any]] = {
    "active": sa.Boolean(),
    "phone_number": sa.Text(),
    "updated_at": UTCDateTime(),
}


def define_tables(
    metadata: sa.MetaData, mapping: TableMap, types: Mapping[str, Any] | None = None
) -> tuple[sa.Table, sa.Table]:
    """The channel table and the audit table, with our names as keys.

    `types` gives the types that the columns really have; without it they are as our migration makes them.
    """
    found = types or {}

    def column(ours: str, default: Any, **options: Any) -> sa.Column[Any]:
        return sa.Column(mapping.column(ours), found.get(ours, default), key=ours, **options)

    channel = sa.Table(
        mapping.table,
        metadata,
        column("id", sa.Integer(), primary_key=True),
        *([column("name", sa.Text())] if types is None or "name" in types else []),
        column("type", sa.Text(), nullable=False, server_default=mapping.type),
        column("wa_token_encrypted", sa.Text()),
        column("token_expires_at", UTCDateTime()),
        column("last_token_refresh_at", UTCDateTime()),
        column("token_status", sa.Text()),
        column("token_error", sa.Text()),
        column("token_fingerprint", sa.Text()),
        column("token_alerted_at", UTCDateTime()),
        column("token_lease_until", UTCDateTime()),
        *(column(ours, kind) for ours, kind in OPTIONAL_COLUMNS.items() if ours in mapping.columns),
        schema=mapping.schema,
    )
    audit = sa.Table(
        AUDIT_TABLE,
        metadata,
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
        sa.Column("at", UTCDateTime(), nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("expires_at_before", UTCDateTime()),
        sa.Column("expires_at_after", UTCDateTime()),
        sa.Index(f"ix_{AUDIT_TABLE}_channel_id", "channel_id", "at"),
        schema=mapping.schema,
    )
    return channel, audit


def due_index(channel: sa.Table, dialect: str) -> sa.Index:
    """The partial index that serves the due query: candidates of a type in the order of urgency.

    SQLite puts nulls first by itself, and does not let an index say so.
    """
    c = channel.c
    expires_at = c.token_expires_at.asc().nulls_first() if dialect == "postgresql" else c.token_expires_at
    with_token = c.wa_token_encrypted.is_not(None)
    return sa.Index(
        f"ix_{channel.name}_token_due",
        c.type,
        expires_at,
        c.id,
        postgresql_where=with_token,
        sqlite_where=with_token,
    )


def reflect(connection: sa.Connection, mapping: TableMap) -> tuple[sa.Table, sa.Table]:
    """The tables with the types that their columns really have. Raises `BadDatabase` if any is missing."""
    inspector = sa.inspect(connection)
    found = _columns_of(inspector, mapping.table, mapping.schema)
    types: dict[str, Any] = {}
    channel, audit = define_tables(sa.MetaData(), mapping)
    missing = [column.name for column in channel.c if column.name not in found and column.key != "name"]
    if missing:
        raise BadDatabase(
            f'table "{mapping.table}" lacks {", ".join(missing)} (it has {", ".join(found)}); {UPGRADE}'
        )
    if lacking := set(audit.c.keys()) - set(_columns_of(inspector, AUDIT_TABLE, mapping.schema)):
        raise BadDatabase(f'table "{AUDIT_TABLE}" lacks {", ".join(sorted(lacking))}; {UPGRADE}')
    for column in channel.c:
        if column.name in found:
            types[column.key] = _type(connection.dialect, mapping.table, column, found[column.name])
    return define_tables(sa.MetaData(), mapping, types)


def _columns_of(inspector: sa.Inspector, table: str, schema: str | None) -> dict[str, Any]:
    """The names and types of a table's columns."""
    try:
        return {column["name"]: column["type"] for column in inspector.get_columns(table, schema=schema)}
    except sa.exc.NoSuchTableError:
        raise BadDatabase(f'there is no table "{table}" in this database; {UPGRADE}') from None


def _type(dialect: sa.Dialect, table: str, column: sa.Column[Any], found: Any) -> Any:
    """How to speak to a column of ours that has the type `found`."""
    if isinstance(found, sa.Uuid):
        return sa.Uuid(as_uuid=False)
    if not isinstance(column.type, UTCDateTime):
        return found
    if dialect.name == "sqlite":
        return SQLiteUTC()
    if not isinstance(found, sa.DateTime):
        raise BadDatabase(f'column "{column.name}" of table "{table}" is {found}; it must be a timestamp')
    return UTCDateTime(timezone=found.timezone)


def as_channel(row: Any) -> Channel:
    """A row of `Database._columns` as a value."""
    id_, name, ciphertext, expires_at, refreshed_at, status, error, mark, alerted_at = row[:9]
    return Channel(
        id=plain_id(id_),
        name=str(name) if name not in (None, "") else str(id_),
        ciphertext=ciphertext if isinstance(ciphertext, str) else str(ciphertext),
        expires_at=expires_at,
        refreshed_at=refreshed_at,
        status=status,
        error=error,
        fingerprint=mark,
        alerted_at=alerted_at,
    )


def plain_id(id_: object) -> ChannelId:
    """An id as the rest of the program and its output know it: a number or a text."""
    return id_ if isinstance(id_, int) else str(id_)
