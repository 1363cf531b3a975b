"""The tables that the program works on, and the values that are read from them.

`channel_table` and `token_audit_log_table` are the tables as our migration makes them. The application may
call its table and columns otherwise: a `TableMap` says how, and `mapped_tables` gives them those names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)  # fmt: skip

from whatsapp_tokens.column_types import UTCDateTime
from whatsapp_tokens.results import ChannelId, DueReason, State

ERROR_LENGTH: Final = 500
NAME_BYTES: Final = 63  # of PostgreSQL's names

# fmt: off
channel_table = Table(
    "Channel",
    MetaData(),
    Column("id", Integer),  # in a table that exists it may be text, too
    Column("name", Text),  # shown to people; where it is null, the id is
    Column("type", Text, nullable=False, server_default="whatsapp"),
    Column("wa_token_encrypted", Text),  # the token, encrypted by the application or by us; null: no token
    Column("token_expires_at", UTCDateTime),  # when the token dies, by its own expiry or its data access
    Column("last_token_refresh_at", UTCDateTime),  # when it was obtained or last looked at
    Column("token_status", Text),  # see `Status`
    Column("token_error", Text),  # null, or `reason: detail`
    Column("token_fingerprint", Text),  # of the ciphertext that the state and the times describe
    Column("token_alerted_at", UTCDateTime),  # when people were told that it failed
    Column("token_lease_until", UTCDateTime),  # until when a run has claimed it
    PrimaryKeyConstraint("id", name="pk_Channel"),
)

token_audit_log_table = Table(
    "token_audit_log",
    MetaData(),
    Column("id", BigInteger().with_variant(Integer(), "sqlite")),
    Column("at", UTCDateTime, nullable=False),
    Column("channel_id", Text, nullable=False),
    Column("event", Text, nullable=False),  # see `Event`
    Column("message", Text, nullable=False),
    Column("reason", Text),  # of a failure
    Column("expires_at_before", UTCDateTime),
    Column("expires_at_after", UTCDateTime),
    PrimaryKeyConstraint("id", name="pk_token_audit_log"),
    Index("ix_token_audit_log_channel_id", "channel_id", "at"),
)
# fmt: on

AUDIT_TABLE: Final = token_audit_log_table.name
COLUMNS: Final = tuple(channel_table.c.keys())
# Of these, what our migration does not add to a table that exists: it is the application's to have.
THEIRS: Final = ("id", "name", "type", "wa_token_encrypted")
# What a table of the application may have, too. Used only where the map names it.
OPTIONAL_COLUMNS: Final[Mapping[str, Any]] = {
    "active": Boolean(),
    "phone_number": Text(),
    "updated_at": UTCDateTime(),
}


@dataclass(frozen=True, slots=True)
class TableMap:
    """Where the channels are: a table, its schema, the type to look for, and other names for our columns."""

    table: str = channel_table.name
    schema: str | None = None
    type: str = "whatsapp"
    columns: Mapping[str, str] = field(default_factory=dict)

    def column(self, ours: str) -> str:
        """Return the table's name for one of our columns."""
        return self.columns.get(ours, ours)

    @property
    def full_name(self) -> str:
        """The table as people are told of it."""
        return f'"{self.schema}"."{self.table}"' if self.schema else f'"{self.table}"'


class Tables(NamedTuple):
    """The channel table, with our names as keys, and the audit table."""

    channel: Table
    audit: Table


def mapped_tables(
    metadata: MetaData, mapping: TableMap, types: Mapping[tuple[str, str], Any] | None = None
) -> Tables:
    """Return the tables under the names that `mapping` gives.

    `types` are the types that columns really have, by table and our name, without a `name` that is not there;
    by default the tables are as our migration makes them.
    """
    given = types or {}

    def copy(table: str, column: Column[Any]) -> Column[Any]:
        name = mapping.column(column.key) if table == mapping.table else column.name
        kind = given.get((table, column.key), column.type)
        default = mapping.type if column.server_default is not None else None
        return Column(name, kind, key=column.key, nullable=column.nullable, server_default=default)

    optional = (Column(ours, kind) for ours, kind in OPTIONAL_COLUMNS.items() if ours in mapping.columns)
    is_nameless = types is not None and (mapping.table, "name") not in types
    channel = Table(
        mapping.table,
        metadata,
        *(
            copy(mapping.table, column)
            for column in (*channel_table.c, *optional)
            if column.key != "name" or not is_nameless
        ),
        PrimaryKeyConstraint("id", name=short_name(f"pk_{mapping.table}")),
        schema=mapping.schema,
    )
    audit = Table(
        AUDIT_TABLE,
        metadata,
        *(copy(AUDIT_TABLE, column) for column in token_audit_log_table.c),
        PrimaryKeyConstraint("id", name=f"pk_{AUDIT_TABLE}"),
        Index(f"ix_{AUDIT_TABLE}_channel_id", "channel_id", "at"),
        schema=mapping.schema,
    )
    return Tables(channel, audit)


def short_name(name: str) -> str:
    """Return a name as long as PostgreSQL lets it be, and still different from others."""
    raw = name.encode()
    if len(raw) <= NAME_BYTES:
        return name
    digest = hashlib.md5(raw, usedforsecurity=False).hexdigest()[:8]
    return f"{raw[: NAME_BYTES - 9].decode(errors='ignore')}_{digest}"


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


@dataclass(frozen=True, slots=True)
class Channel:
    """A row as it was read. Times are aware UTC.

    `due_reason` and `state` are only there where a query asks for them.
    """

    id: ChannelId
    name: str
    ciphertext: str = field(repr=False)  # empty where the column is null
    expires_at: datetime | None = None
    refreshed_at: datetime | None = None
    status: str | None = None
    error: str | None = None
    fingerprint: str | None = None
    alerted_at: datetime | None = None
    phone_number: str | None = None
    due_reason: DueReason | None = None
    state: State | None = None

    @property
    def replaced(self) -> bool:
        """Whether the application has stored another token since status and times were written."""
        return self.fingerprint is not None and self.fingerprint != fingerprint(self.ciphertext)

    @property
    def reason(self) -> str | None:
        """The reason in `token_error`, which is `reason: detail`."""
        return self.error.partition(":")[0] if self.error else None


RECOVERED: Final = "The channel is well again"  # the message of `Event.RECOVERED`


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One row of `token_audit_log`, but for its time and channel."""

    event: Event
    message: str
    reason: str | None = None
    expires_at_before: datetime | None = None
    expires_at_after: datetime | None = None


@dataclass(frozen=True, slots=True)
class PendingUpdate:
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


def fingerprint(ciphertext: str) -> str:
    """Return what identifies a ciphertext, as the database computes it in SQL. It does not protect it."""
    return hashlib.md5(as_stored(ciphertext), usedforsecurity=False).hexdigest()


def as_stored(text: str) -> bytes:
    """Return a text as the bytes that it was read from, also where they are not UTF-8."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="replace")


def as_channel(row: Any) -> Channel:
    """Return a row of `ChannelTable.columns` as a value."""
    id_, name, ciphertext, expires_at, refreshed_at, status, error, mark, alerted_at, phone = row[:10]
    due_reason, state = (getattr(row, label, None) for label in ("due_reason", "state"))
    return Channel(
        id=plain_id(id_),
        name=as_text(name) or str(id_),
        ciphertext=_raw_text(ciphertext) or "",
        expires_at=expires_at,
        refreshed_at=refreshed_at,
        status=as_text(status),
        error=as_text(error),
        fingerprint=as_text(mark),
        alerted_at=alerted_at,
        phone_number=as_text(phone) or None,
        due_reason=due_reason and DueReason(due_reason),
        state=state and State(state),
    )


def _raw_text(value: object) -> str | None:
    """Return the value of a text column as text. In SQLite it may be of any kind, and of any bytes."""
    match value:
        case None | str():
            return value
        case bytes():
            return value.decode(errors="surrogateescape")
        case _:
            return str(value)


def as_text(value: object) -> str | None:
    """Return the value of a text column, with a replacement for bytes that are not UTF-8."""
    text = _raw_text(value)
    return text if text is None else as_stored(text).decode(errors="replace")


def plain_id(id_: object) -> ChannelId:
    """Return an id as the rest of the program and its output know it: a number or a text."""
    return id_ if isinstance(id_, int) else as_text(id_) or ""
