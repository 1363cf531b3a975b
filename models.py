"""What a row is: the values that the modules hand to each other, and no SQL.

`Channel` is a row as it was read, and `PendingUpdate` what to write over it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from whatsapp_tokens.results import ChannelId

ERROR_LENGTH: Final = 500


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
    """A row as it was read. Times are aware UTC."""

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


@dataclass(frozen=True, slots=True)
class Counts:
    """How many rows of a `Selection` are candidates, due, and waiting for a reconnect."""

    candidates: int
    due: int
    waiting: int


def fingerprint(ciphertext: str) -> str:
    """Identify a ciphertext, the same way as the database does in SQL. It does not protect it."""
    return hashlib.md5(as_stored(ciphertext), usedforsecurity=False).hexdigest()


def as_stored(text: str) -> bytes:
    """A text as the bytes that it was read from, also where they are not UTF-8 (SQLite does not look)."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="replace")


def as_channel(row: Any) -> Channel:
    """A row of `Database._columns` as a value."""
    id_, name, ciphertext, expires_at, refreshed_at, status, error, mark, alerted_at, phone = row[:10]
    return Channel(
        id=plain_id(id_),
        name=_text(name) or str(id_),
        ciphertext=_raw_text(ciphertext) or "",
        expires_at=expires_at,
        refreshed_at=refreshed_at,
        status=_text(status),
        error=_text(error),
        fingerprint=_text(mark),
        alerted_at=alerted_at,
        phone_number=_text(phone) or None,
    )


def _raw_text(value: object) -> str | None:
    """A value of a text column. In SQLite it may be of any kind, and of any bytes."""
    match value:
        case None | str():
            return value
        case bytes():
            return value.decode(errors="surrogateescape")
        case _:
            return str(value)


def is_same(value: object, text: str) -> bool:
    """Whether a value of a text column is this text, but for the spaces with which CHAR columns pad."""
    return (_raw_text(value) or "").rstrip() == text.rstrip()


def _text(value: object) -> str | None:
    """The same, fit to be shown."""
    text = _raw_text(value)
    return text if text is None else as_stored(text).decode(errors="replace")


def plain_id(id_: object) -> ChannelId:
    """An id as the rest of the program and its output know it: a number or a text."""
    return id_ if isinstance(id_, int) else _text(id_) or ""
