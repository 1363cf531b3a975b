"""The database of an application: its own table, names and rules, and the program to run on it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import alembic.command
import alembic.config
import pytest
import sqlalchemy as sa
from world import ROOT, Result, World, days, fernet

from whatsapp_tokens.database.url import parse_url

TIMES = ("token_expires_at", "last_token_refresh_at", "token_alerted_at", "token_lease_until")
CLOCKS = TIMES[:2]
STATE = (*TIMES, "token_status", "token_error", "token_fingerprint")
TOKEN = "wa_token_encrypted"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Shop:
    """The database of an application: its own table and names, and the program to run on it."""

    def __init__(self, url: str, world: World) -> None:
        self.url = url
        self.world = world
        target = parse_url(url).url
        self.is_sqlite = target.get_backend_name() == "sqlite"
        # Read and write times in UTC, also if a test gives the database another zone.
        arguments = {} if self.is_sqlite else {"options": "-c timezone=UTC"}
        self.engine = sa.create_engine(target, poolclass=sa.NullPool, connect_args=arguments)
        self.names: dict[str, str] = {}
        self.table = '"Channel"'
        self.audit_table = "token_audit_log"

    # -- what the application does

    def sql(self, *statements: str) -> None:
        with self.engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement.replace(":", r"\:")))

    def configure(self, names: dict[str, str] | None = None, table: str = "Channel") -> None:
        """Set the settings that name the table and its columns."""
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
        """Create a table as Prisma's migrations do, with our columns and the audit log.

        `kinds` adds columns, by our name or theirs, or gives them another type; None leaves one out.
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
        """Insert a channel that is due; columns by our names. Return its id, by default one like Prisma's."""
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
        """Update a row as the application does."""
        marks = ", ".join(f"{self.column(name)} = :{name}" for name in columns)
        with self.engine.begin() as connection:
            where = f"CAST({self.column('id')} AS TEXT) = :its_id"
            connection.execute(
                sa.text(f"UPDATE {self.table} SET {marks} WHERE {where}"), columns | {"its_id": str(id_)}
            )

    # -- what the application sees

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return all rows by their ids as texts, with the application's names."""
        with self.engine.begin() as connection:
            found = connection.execute(sa.text(f"SELECT * FROM {self.table}")).mappings().all()
        return {str(row[self.names.get("id", "id")]): dict(row) for row in found}

    def row(self, id_: Any) -> dict[str, Any]:
        """Return a row, with our names of columns where we have one, and times in UTC."""
        ours = {theirs: name for name, theirs in self.names.items()}
        found = {ours.get(name, name): value for name, value in self.rows()[str(id_)].items()}
        times = (*TIMES, "updated_at")
        return {name: utc(value) if name in times else value for name, value in found.items()}

    def stored(self, id_: Any, key: bytes | None = None) -> str:
        """Return the token of the row, decrypted as the application does."""
        opener = fernet() if key is None else fernet(key)
        return opener.decrypt(self.row(id_)[TOKEN]).decode()

    def audit(self) -> list[dict[str, Any]]:
        with self.engine.begin() as connection:
            found = connection.execute(sa.text(f"SELECT * FROM {self.audit_table} ORDER BY id")).mappings()
            return [
                {key: utc(value) if key == "at" or "expires" in key else value for key, value in row.items()}
                for row in found
            ]

    def tables(self) -> set[str]:
        """Return the names of all tables."""
        return set(sa.inspect(self.engine).get_table_names())

    def is_renewed(self, id_: Any) -> bool:
        """Return whether the row has a token from an exchange, and the clocks of that token."""
        row = self.row(id_)
        return (
            self.stored(id_) in {new for _, new in self.world.meta.exchanges}
            and abs(row["token_expires_at"] - (self.world.now + days(60))) < days(0.01)
            and abs(row["last_token_refresh_at"] - self.world.now) < days(0.01)
            and (row["token_status"], row["token_error"], row["token_lease_until"]) == ("ok", None, None)
        )

    # -- the program

    def migrate(self) -> None:
        """Run `alembic upgrade head` with the same settings."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.world.env.items():
                patch.setenv(name, value)
            alembic.command.upgrade(alembic.config.Config(ROOT / "alembic.ini"), "head")

    def json(self, *options: str) -> Result:
        """Run the program. It never shows a traceback."""
        result = self.world.json(*options)
        assert "Traceback" not in result.err
        assert "unexpected error" not in result.err
        return result

    def refusal(self) -> str:
        """Run the program, which must refuse to start and change nothing. Return the reason."""
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
