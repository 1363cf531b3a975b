"""The application that owns the table: its rows, its key, and its "Connect WhatsApp" button."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from whatsapp_tokens.database.url import parse_url

COLUMNS: Final = (
    *("id", "wa_token_encrypted", "token_expires_at", "token_status", "token_error"),
    *("token_alerted_at", "token_lease_until"),
)


class Undecryptable(Exception):
    """No key of the application opens a stored token."""


@dataclass(frozen=True, slots=True)
class Row:
    """A channel as the application sees it. Times are aware UTC."""

    id: int
    ciphertext: str
    expires_at: datetime | None
    status: str | None
    error: str | None
    alerted_at: datetime | None
    lease: datetime | None

    @property
    def reason(self) -> str:
        """Return the reason of a warning, or an empty text."""
        return (self.error or "").partition(":")[0] if self.status == "warning" else ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the audit log."""

    id: int
    channel: int
    event: str
    reason: str | None
    message: str
    expires_at_after: datetime | None


class Application:
    """Reads and writes the table with plain SQL, and encrypts with the first of its keys."""

    def __init__(self, url: str) -> None:
        # A write of the job may take a moment.
        self._engine = sa.create_engine(parse_url(url).url, pool_pre_ping=True)
        self.is_sqlite = self._engine.dialect.name == "sqlite"
        self.keys = [os.urandom(32)]
        self._opened: dict[str, str] = {}

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    def count(self) -> int:
        """Return how many channels there are."""
        return int(self._read('SELECT count(*) FROM "Channel"')[0][0])

    def insert(self, id_: int, token: str) -> None:
        """Insert a channel that was connected just now: no run has seen it."""
        values = {"id": id_, "name": f"Line {id_}", "type": "whatsapp", "token": self.encrypt(token, id_)}
        self._write(
            'INSERT INTO "Channel" (id, name, type, wa_token_encrypted) VALUES (:id, :name, :type, :token)',
            values,
        )

    def connect(self, id_: int, token: str) -> None:
        """Store a new token as the button does: nothing else is written."""
        self._write(
            'UPDATE "Channel" SET wa_token_encrypted = :token WHERE id = :id',
            {"id": id_, "token": self.encrypt(token, id_)},
        )

    def delete(self, id_: int) -> None:
        """Delete a channel."""
        self._write('DELETE FROM "Channel" WHERE id = :id', {"id": id_})

    def let_leases_pass(self, by: timedelta) -> None:
        """Move the leases into the past by so much: the clock of the database is not turned."""
        column = "token_lease_until"
        moved = (
            f"strftime('%Y-%m-%d %H:%M:%f', {column}, :by) || '000'"
            if self.is_sqlite
            else f"{column} + cast(:by AS interval)"
        )
        seconds = f"-{by.total_seconds():.0f} seconds"
        self._write(f'UPDATE "Channel" SET {column} = {moved} WHERE {column} IS NOT NULL', {"by": seconds})  # noqa: S608 - our own names

    def rows(self) -> dict[int, Row]:
        """Return every channel, by id."""
        found = self._read(f'SELECT {", ".join(COLUMNS)} FROM "Channel"')  # noqa: S608 - our own names
        rows = (Row(row[0], row[1], _time(row[2]), *row[3:5], *map(_time, row[5:])) for row in found)
        return {row.id: row for row in rows}

    def audit(self, after: int) -> list[Entry]:
        """Return what the audit log has gained since the entry with the id `after`."""
        found = self._read(
            "SELECT id, channel_id, event, reason, message, expires_at_after FROM token_audit_log "
            "WHERE id > :after ORDER BY id",
            {"after": after},
        )
        return [Entry(row[0], int(row[1]), row[2], row[3], row[4], _time(row[5])) for row in found]

    # Encryption: a third of the rows are AES-256-GCM in hex, the others Fernet.

    def encrypt(self, token: str, id_: int) -> str:
        """Return a token as the application stores it."""
        key = self.keys[0]
        if id_ % 3:
            return _fernet(key).encrypt(token.encode()).decode()
        iv = os.urandom(12)
        sealed = AESGCM(key).encrypt(iv, token.encode(), None)
        return ":".join(part.hex() for part in (iv, sealed[-16:], sealed[:-16]))

    def decrypt(self, ciphertext: str) -> str:
        """Return the token. Raise `Undecryptable`."""
        if ciphertext not in self._opened:
            opened = next((text for key in self.keys if (text := _open(ciphertext, key)) is not None), None)
            if opened is None:
                raise Undecryptable
            self._opened[ciphertext] = opened
        return self._opened[ciphertext]

    def uses_last_key(self, ciphertexts: Sequence[str]) -> bool:
        """Return whether any of these was encrypted with the last of several keys."""
        return any(_open(text, self.keys[-1]) is not None for text in ciphertexts)

    def drop_last_key(self) -> None:
        """Forget the oldest key, and what it opened."""
        self.keys.pop()
        self._opened.clear()

    def _read(self, sql: str, values: Mapping[str, Any] | None = None) -> Sequence[Any]:
        with self._engine.connect() as connection:
            return connection.execute(sa.text(sql), values or {}).all()

    def _write(self, sql: str, values: Mapping[str, Any]) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.text(sql), values)


def _fernet(key: bytes) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(key))


def _open(ciphertext: str, key: bytes) -> str | None:
    """Return the token in a ciphertext, or None if this key does not open it."""
    try:
        if ":" not in ciphertext:
            return _fernet(key).decrypt(ciphertext).decode()
        iv, tag, data = map(bytes.fromhex, ciphertext.split(":"))
        return AESGCM(key).decrypt(iv, data + tag, None).decode()
    except (InvalidToken, InvalidTag, ValueError):
        return None


def _time(value: datetime | str | None) -> datetime | None:
    if value is None:
        return None
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
