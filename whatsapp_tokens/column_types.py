"""Times in the database: aware UTC in Python, in whichever kind of column the application made."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa


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
        """Return what is selected of the column: one odd row must not stop the others."""
        sql: Any = sa.literal_column
        return sa.case(
            (column < sql("'0002-01-01'"), sql("'-infinity'")),
            (column >= sql("'9999-01-01'"), sql("'infinity'")),
            else_=column,
        )

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | str | None:
        """Return what the column holds for a time. Raise ValueError for a naive one: that is a bug."""
        utc = _to_utc(value)
        if utc is not None and dialect.name == "postgresql" and utc.year in {1, 9999}:
            return "infinity" if utc.year > 1 else "-infinity"
        return utc if utc is None or self.timezone else utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Return the time that the column holds."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SQLiteUTC(sa.TypeDecorator[datetime]):
    """The same in SQLite, which has no dates: SQLAlchemy's own text form, in UTC.

    Other ISO forms are understood, and what is no date is read as null: one odd row must not stop the others.
    The SQL function `utc` that does it is registered by `connection`.
    """

    impl = sa.Text
    cache_ok = True

    def column_expression(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        """Return what is selected of the column."""
        return comparable(column)

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        """Return `YYYY-MM-DD HH:MM:SS.ffffff`. Raise ValueError for a naive time: that is a bug."""
        utc = _to_utc(value)
        return None if utc is None else utc.replace(tzinfo=None).isoformat(" ", "microseconds")

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Return the time of such a text."""
        return None if value is None else datetime.fromisoformat(value).replace(tzinfo=UTC)


def comparable(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """Return a date column as it is compared and sorted: SQLite's text in one form, null if it is no date."""
    if isinstance(column.type, SQLiteUTC):
        return sa.func.utc(column, type_=column.type)
    return column


def _to_utc(value: datetime | None) -> datetime | None:
    if value is not None and value.tzinfo is None:
        raise ValueError("naive datetime")
    return None if value is None else value.astimezone(UTC)
