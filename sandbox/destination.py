"""The table that `seed` fills: ours, or one that another application made, with its own names and rules."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa

from models import TableMap
from whatsapp_tokens.database.driver_errors import opening_error, statement_words
from whatsapp_tokens.database.errors import DatabaseError
from whatsapp_tokens.database.schema import reflect
from whatsapp_tokens.database.url import DatabaseUrl, parse_url

RUNNING_NUMBER: Final = "{n}"


class NotSeeded(Exception):
    """The table cannot be filled; nothing was written. The text says why, in a sentence."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A database, what its table is called, and values for columns of which the program knows nothing.

    In such a value, `{n}` stands for the number of the row. A table that holds rows already is only filled
    if `may_hold_rows`: it could be a real one.
    """

    database: DatabaseUrl
    mapping: TableMap = field(default_factory=TableMap)
    columns: Mapping[str, str] = field(default_factory=dict)
    may_hold_rows: bool = True

    @classmethod
    def of(cls, database_url: str) -> Destination:
        """Return a database in which everything has the names of our migration."""
        return cls(parse_url(database_url))

    @contextmanager
    def open(self) -> Iterator[Target]:
        """Open the table in a transaction that ends with the block. Raise `NotSeeded`."""
        engine = sa.create_engine(self.database.url, poolclass=sa.NullPool, hide_parameters=True)
        try:
            connection = engine.connect()
        except (sa.exc.SQLAlchemyError, UnicodeDecodeError) as error:
            raise NotSeeded(str(opening_error(error))) from None
        try:
            with connection, connection.begin():
                yield self._target(connection)
        except DatabaseError as error:
            raise NotSeeded(str(error)) from None
        except sa.exc.DBAPIError as error:
            raise NotSeeded(f"the database refuses a row: {statement_words(error)}") from None

    def _target(self, connection: sa.Connection) -> Target:
        mapping = replace(self.mapping, schema=self.database.schema)
        channel = reflect(connection, mapping).channel
        if not self.may_hold_rows and connection.execute(sa.select(1).select_from(channel).limit(1)).first():
            raise NotSeeded(
                f"{mapping.full_name} holds rows already; if it is no table of real customers, add --yes"
            )
        found = sa.inspect(connection).get_columns(channel.name, schema=channel.schema)
        return Target(
            connection, channel, mapping.type, {column["name"]: column for column in found}, self.columns
        )


class Target:
    """A table on an open connection."""

    def __init__(
        self,
        connection: sa.Connection,
        channel: sa.Table,
        whatsapp: str,
        found: Mapping[str, Any],
        columns: Mapping[str, str],
    ) -> None:
        self.whatsapp = whatsapp
        self._connection = connection
        self._channel = channel
        self._found = found
        self._columns = columns
        self._number = 0
        self._check_columns()

    def insert(self, values: Mapping[str, Any], now: datetime) -> Any:
        """Insert a row and return its id. `values` by our names; those that the table lacks are left out."""
        self._number += 1
        ours = self._optional(now) | dict(values)
        if ours["wa_token_encrypted"] is None and not self._nullable("wa_token_encrypted"):
            ours["wa_token_encrypted"] = ""  # no token, either
        row = self._required_times(now)
        for name, column in self._channel.c.items():
            if name in ours:
                row[column.name] = sa.bindparam(None, ours[name], column.type)
        if self._has_to_be_given("id"):
            row[self._channel.c.id.name] = self._new_id()
        for name, text in self._columns.items():
            row[name] = text.replace(RUNNING_NUMBER, str(self._number))
        # Apart from the mapping: a column of theirs may have the name that we have for another one.
        plain = sa.table(self._channel.name, *(sa.column(name) for name in row), schema=self._channel.schema)
        id_ = self._channel.c.id
        statement = plain.insert().values(row).returning(sa.column(id_.name, id_.type))
        return self._connection.execute(statement).scalar_one()

    def insert_if_allowed(self, values: Mapping[str, Any], now: datetime) -> Any | None:
        """Insert a row and return its id, or None if the table refuses it."""
        try:
            with self._connection.begin_nested():
                return self.insert(values, now)
        except sa.exc.DBAPIError:
            return None

    def another_type(self) -> str | None:
        """Return a type of channel that is not WhatsApp, or None if the column has no other."""
        kind = self._channel.c.type.type
        others = kind.enums if isinstance(kind, sa.Enum) else ["email"]
        return next((name for name in others if name != self.whatsapp), None)

    def _check_columns(self) -> None:
        """Raise `NotSeeded` if a value is for no column, or a column needs one."""
        where = f'"{self._channel.name}"'
        ours = {column.name for column in self._channel.c}
        for name in self._columns:
            if name not in self._found or name in ours:
                why = "the sandbox fills itself" if name in ours else "does not exist"
                raise NotSeeded(f'column "{name}" of {where} {why}')
        known = ours | set(self._columns) | set(self._times())
        if missing := [name for name in self._found if name not in known and self._needs_value(name)]:
            these = ", ".join(missing)
            raise NotSeeded(
                f"{where} has columns that must not be null and have no default: {these}. Give each a value: "
                + " ".join(f"--column {name}=…" for name in missing)
                + f" ({RUNNING_NUMBER} in it becomes the number of the row)"
            )

    def _needs_value(self, name: str) -> bool:
        column = self._found[name]
        is_made = column.get("identity") or column.get("computed") or column["default"] is not None
        return not column["nullable"] and not is_made

    def _has_to_be_given(self, ours: str) -> bool:
        column = self._found[self._channel.c[ours].name]
        return not column.get("identity") and column["default"] is None

    def _nullable(self, ours: str) -> bool:
        return bool(self._found[self._channel.c[ours].name]["nullable"])

    def _times(self) -> list[str]:
        """Return the names of their times that have to be given, such as `updatedAt` of Prisma."""
        ours = {column.name for column in self._channel.c}
        return [
            name
            for name, column in self._found.items()
            if name not in ours and isinstance(column["type"], sa.DateTime) and self._needs_value(name)
        ]

    def _required_times(self, now: datetime) -> dict[str, Any]:
        return dict.fromkeys(self._times(), now.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S+00"))

    def _optional(self, now: datetime) -> dict[str, Any]:
        active = self._channel.c.get("active")
        is_number = active is not None and isinstance(active.type, sa.Integer)
        phone = f"+1 202 555 01{self._number:02}"  # these numbers belong to no one
        return {"active": 1 if is_number else True, "phone_number": phone, "updated_at": now}

    def _new_id(self) -> Any:
        id_ = self._channel.c.id
        if isinstance(id_.type, sa.Integer):
            return sa.select(sa.func.coalesce(sa.func.max(id_), 0) + 1).scalar_subquery()
        return str(uuid.uuid4()) if isinstance(id_.type, sa.Uuid) else f"cm{uuid.uuid4().hex[:23]}"
