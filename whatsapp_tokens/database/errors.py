"""What can go wrong with the database, and what follows from it.

Every message is one line: what is wrong and what to do. It shows neither the URL nor a row's values::

    DatabaseError
    ├── BadUrl              DATABASE_URL cannot be used: correct it. Nothing is begun.
    ├── BadSchema           a table or column is missing or unfit: migrate or map it. Nothing is begun.
    ├── StatementRefused    the database answers, but refuses a statement; another row may do.
    │   └── LockTimeout     only because another session has locked the rows: try again later.
    └── DatabaseLost        it cannot be reached or takes no writes, also not after some retries: stop.

What an error of a driver means is decided in `driver_errors`.
"""

from __future__ import annotations

from typing import Final

UPGRADE: Final = "run: alembic upgrade head"


class DatabaseError(Exception):
    """Something is wrong with the database. `may_pass`: the same may well succeed in a moment."""

    may_pass = False


class BadUrl(DatabaseError):
    """DATABASE_URL is malformed, or names a file, host, role or database that cannot be used."""


class BadSchema(DatabaseError):
    """The tables are not as the program needs them."""


class StatementRefused(DatabaseError):
    """The database refused a statement."""


class LockTimeout(StatementRefused):
    """Another session kept rows or the table locked for longer than we wait."""


class DatabaseLost(DatabaseError):
    """The database cannot be reached, gives no session, or takes no writes at all."""
