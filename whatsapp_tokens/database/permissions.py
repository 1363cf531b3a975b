"""What the database role may do. This is asked before a run: a token that cannot be stored is not fetched."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from models import Tables

READ_ONLY: Final = frozenset({"id", "name", "type", "active", "phone_number"})

# Which of some columns of a table the role may not SELECT or UPDATE, whether by the table or by itself.
_LACKING: Final = sa.text(
    "SELECT wanted FROM unnest(CAST(:columns AS text[])) AS wanted "
    "WHERE NOT has_column_privilege(CAST(:table AS text), wanted, CAST(:right AS text))"
)
# Columns that no role can write: those of a view that PostgreSQL cannot trace to its table.
_COMPUTED: Final = sa.text(
    "SELECT attname FROM pg_attribute "
    "WHERE attrelid = CAST(:table AS regclass) AND attname = ANY(CAST(:columns AS text[])) "
    "AND NOT pg_column_is_updatable(attrelid, attnum, true) ORDER BY attnum"
)
# Whether row-level security keeps the role from every row: it then hides them, and reports no error.
# https://www.postgresql.org/docs/current/ddl-rowsecurity.html
_BARRED: Final = sa.text(
    "SELECT row_security_active(CAST(:table AS regclass)) AND NOT EXISTS (SELECT 1 FROM pg_policy "
    "WHERE polrelid = CAST(:table AS regclass) AND polpermissive AND polcmd IN ('*', :command) "
    "AND EXISTS (SELECT 1 FROM unnest(polroles) AS role WHERE role = 0 OR pg_has_role(role, 'USAGE')))"
)
# Estimates, but an empty table has none: https://www.postgresql.org/docs/current/monitoring-stats.html
_HIDING: Final = sa.text(
    "SELECT row_security_active(oid) AND (reltuples > 0 OR pg_stat_get_live_tuples(oid) > 0) "
    "FROM pg_class WHERE oid = CAST(:table AS regclass)"
)
# Whether updates are refused because logical replication could not name the row.
# https://www.postgresql.org/docs/current/logical-replication-publication.html
_WITHOUT_IDENTITY: Final = sa.text(
    "SELECT EXISTS (SELECT 1 FROM pg_class AS t JOIN pg_namespace AS n ON n.oid = t.relnamespace "
    "JOIN pg_publication_tables AS p ON p.schemaname = n.nspname AND p.tablename = t.relname "
    "JOIN pg_publication USING (pubname) WHERE t.oid = CAST(:table AS regclass) AND pubupdate "
    "AND (t.relreplident = 'n' OR t.relreplident IN ('d', 'i') AND NOT EXISTS (SELECT 1 FROM pg_index "
    "WHERE indrelid = t.oid AND CASE t.relreplident WHEN 'd' THEN indisprimary ELSE indisreplident END)))"
)
_POLICY_COMMANDS: Final = {"SELECT": "r", "INSERT": "a", "UPDATE": "w"}  # pg_policy.polcmd
# The sequence behind a column, and whether it is one of an identity column, which needs no right of its own.
_SEQUENCE: Final = sa.text(
    "SELECT pg_get_serial_sequence(:table, attname), attidentity <> '' FROM pg_attribute "
    "WHERE attrelid = CAST(:table AS regclass) AND attname = :column"
)
# Nothing where the sequence has got so far by itself.
_COUNT_ON: Final = sa.text(
    "SELECT setval(CAST(:sequence AS regclass), :id) "
    "WHERE :id > coalesce(pg_sequence_last_value(CAST(:sequence AS regclass)), 0)"
)

logger = logging.getLogger(__name__)


def missing_permissions(connection: sa.Connection, tables: Tables) -> list[str]:
    """Return what the role lacks for a run, in words that go behind "the role may not"."""
    if connection.dialect.name == "sqlite":
        if tables.channel.name in sa.inspect(connection).get_view_names():
            return [f"write to {quoted(connection, tables.channel)}, which is a view"]
        path = Path(connection.engine.url.database or "").absolute()
        # SQLite keeps its journal beside the file.
        return [f"write to {place}" for place in (path, path.parent) if not os.access(place, os.W_OK)][:1]
    if connection.execute(sa.text("SHOW transaction_read_only")).scalar() == "on":
        return ["write anything, because this server or role is read-only"]
    channel, audit = tables
    read = [column.name for column in channel.c]
    written = [column.name for column in channel.c if column.key not in READ_ONLY]
    return [
        *_lacking(connection, channel, "SELECT", read),
        *_lacking(connection, channel, "UPDATE", written),
        *_lacking(connection, audit, "INSERT", [column.name for column in audit.c if column.key != "id"]),
        *_lacking_sequence(connection, audit),
        *_computed(connection, channel, written),
        *_barred(connection, channel, "SELECT"),
        *_barred(connection, channel, "UPDATE"),
        *_barred(connection, audit, "INSERT"),
        *_without_identity(connection, channel),
    ]


def hides_rows(connection: sa.Connection, table: sa.Table) -> bool:
    """Return whether row-level security holds for us, and the table has rows by the server's statistics."""
    if connection.dialect.name == "sqlite":
        return False
    return bool(connection.execute(_HIDING, {"table": quoted(connection, table)}).scalar())


def quoted(connection: sa.Connection, table: sa.Table) -> str:
    """Return a table's name as SQL has it, to be given as a value."""
    name = connection.dialect.identifier_preparer.format_table(table)
    return name.replace("%%", "%")  # psycopg2 wants % doubled in statements, where this does not go


def _sequence(connection: sa.Connection, table: sa.Table) -> tuple[str, bool] | None:
    """Return the sequence that numbers the rows, and whether it is that of an identity column; or None."""
    values = {"table": quoted(connection, table), "column": table.c.id.name}
    found = connection.execute(_SEQUENCE, values).one_or_none()
    return None if found is None or found[0] is None else (str(found[0]), bool(found[1]))


def count_on(connection: sa.Connection, table: sa.Table, id_: int) -> None:
    """Keep the sequence from giving out an id that was put in by hand, if the role may."""
    found = _sequence(connection, table)
    if found is None:
        return
    sequence, _ = found
    try:
        with connection.begin_nested():
            connection.execute(_COUNT_ON, {"sequence": sequence, "id": id_})
    except sa.exc.ProgrammingError:
        logger.warning("the role may not set %s: it may give out the id %d again", sequence, id_)


def _lacking(connection: sa.Connection, table: sa.Table, right: str, columns: Iterable[str]) -> list[str]:
    values = {"columns": list(columns), "table": quoted(connection, table), "right": right}
    lacking = connection.execute(_LACKING, values).scalars().all()
    if not lacking:
        return []
    return [f"{right} {', '.join(lacking)} of {quoted(connection, table)}"]


def _lacking_sequence(connection: sa.Connection, audit: sa.Table) -> list[str]:
    found = _sequence(connection, audit)
    if found is None:
        return []
    sequence, is_identity = found
    if is_identity:
        return []
    usable = sa.select(sa.func.has_sequence_privilege(sequence, "USAGE"))
    return [] if connection.execute(usable).scalar() else [f"USE the sequence {sequence}"]


def _computed(connection: sa.Connection, table: sa.Table, columns: Sequence[str]) -> list[str]:
    values = {"columns": columns, "table": quoted(connection, table)}
    computed = connection.execute(_COMPUTED, values).scalars().all()
    if len(computed) == len(columns):
        return [f"write to {quoted(connection, table)}, which is a view that cannot be written to"]
    if not computed:
        return []
    return [f"write {', '.join(computed)} of {quoted(connection, table)}, which PostgreSQL computes"]


def _without_identity(connection: sa.Connection, table: sa.Table) -> list[str]:
    if not connection.execute(_WITHOUT_IDENTITY, {"table": quoted(connection, table)}).scalar():
        return []
    name = quoted(connection, table)
    return [f"UPDATE {name}, as it is published without a replica identity (ALTER TABLE … REPLICA IDENTITY)"]


def _barred(connection: sa.Connection, table: sa.Table, right: str) -> list[str]:
    values = {"table": quoted(connection, table), "command": _POLICY_COMMANDS[right]}
    if not connection.execute(_BARRED, values).scalar():
        return []
    return [f"{right} any row of {quoted(connection, table)}, as no policy of its row-level security lets it"]
