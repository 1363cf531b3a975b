"""Alembic's environment: the same DATABASE_URL and the same URL rules as the program."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command, context
from alembic.util import CommandError

from models import AUDIT_TABLE, COLUMNS, OPTIONAL_COLUMNS, THEIRS, TableMap, mapped_tables
from whatsapp_tokens.column_types import UTCDateTime
from whatsapp_tokens.database.driver_errors import opening_error, statement_words
from whatsapp_tokens.database.errors import BadUrl
from whatsapp_tokens.database.schema import VERSION_TABLE, make_indexes
from whatsapp_tokens.database.url import DatabaseUrl, warning_of
from whatsapp_tokens.environment import BadSettings, read_environment
from whatsapp_tokens.settings import ENV_FILE, read_database

LOCK_SECONDS = 10


def target() -> tuple[DatabaseUrl, TableMap]:
    """Return the database to migrate and the names in it. Raise `CommandError` with one line."""
    given = context.get_x_argument(as_dictionary=True).get("env-file")
    if given and not Path(given).is_file():
        raise CommandError(f"there is no file {given}, which -x env-file names")
    try:
        environment, _ = read_environment(os.environ, Path(given) if given else ENV_FILE)
        return read_database(environment)
    except (BadSettings, BadUrl) as error:
        raise CommandError(str(error)) from None


database, mapping = target()
added = {mapping.column(ours) for ours in COLUMNS if ours not in THEIRS}

# What the migrations need to know: they never import today's models.
context.config.attributes["channel"] = {
    "table": mapping.table,
    "type": mapping.type,
    "columns": {ours: mapping.column(ours) for ours in (*COLUMNS, *OPTIONAL_COLUMNS)},
    "mapped": frozenset(mapping.columns),
}


def is_ours(thing: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:  # noqa: FBT001 - Alembic's signature
    """Return whether autogenerate may compare a thing: the table is shared, and most of it is not ours."""
    if kind == "table":
        return name in {AUDIT_TABLE, mapping.table}
    if kind == "column" and thing.table.name != AUDIT_TABLE:
        return name in added and compare_to is None  # what is there is as its owner wants it
    return not reflected or compare_to is not None


def is_another_type(_context: Any, _found: Any, _ours: Any, found: Any, ours: Any) -> bool | None:
    """Return whether a column's type has to be changed; None lets Alembic decide.

    A time may be with or without a zone: the application decides that (Prisma has none).
    """
    return False if isinstance(found, sa.DateTime) and isinstance(ours, UTCDateTime) else None


if context.config.cmd_opts is not None:  # on the command line, say what is done
    logging.basicConfig(format="%(message)s")
    logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)
    logging.getLogger("alembic.util.messaging").setLevel(logging.CRITICAL)  # it prints the same as well


def refuse_newer_revisions() -> None:
    """Raise `CommandError` if the database was migrated to a revision that this version does not have."""
    known = {script.revision for script in context.script.walk_revisions()}
    if newer := set(context.get_context().get_current_heads()) - known:
        raise CommandError(
            f"the database was migrated by a newer version of this program (to {', '.join(sorted(newer))}); "
            "update this one: git pull && make install"
        )


def is_downgrade_to_base() -> bool:
    """Return whether `alembic downgrade base` is what a person or a script runs."""
    options = context.config.cmd_opts
    return options is not None and options.cmd[0] is command.downgrade and options.revision == "base"


def run() -> None:
    """Run the migrations, or compare the database with the models, in one transaction."""
    engine = sa.create_engine(database.url, poolclass=sa.NullPool, hide_parameters=True)
    metadata = sa.MetaData()
    channel = mapped_tables(metadata, mapping).channel
    make_indexes(channel, engine.dialect.name)
    try:
        opened = engine.connect()
    except (sa.exc.SQLAlchemyError, UnicodeDecodeError, AssertionError) as error:
        raise CommandError(str(opening_error(error))) from None
    try:
        with opened as connection, connection.begin():
            if engine.dialect.name == "postgresql":  # an ALTER that waits makes all others wait behind it
                connection.exec_driver_sql(f"SET LOCAL lock_timeout TO '{LOCK_SECONDS}s'")
            if (
                database.schema is not None
            ):  # LOCAL, as PgBouncer would hand the session on to another program
                quoted = engine.dialect.identifier_preparer.quote_identifier(database.schema)
                connection.exec_driver_sql(f"SET LOCAL search_path TO {quoted}")
                engine.dialect.default_schema_name = database.schema
            if mapping.table in sa.inspect(connection).get_view_names():  # which is not ours to create
                metadata.remove(channel)
            context.configure(
                connection=connection,
                target_metadata=metadata,
                version_table=VERSION_TABLE,
                include_object=is_ours,
                compare_type=is_another_type,
                # What the table's owner says about it in comments is not ours to take away.
                autogenerate_plugins=["alembic.autogenerate.*", "~alembic.autogenerate.comments"],
            )
            refuse_newer_revisions()
            if is_downgrade_to_base():
                context.script.get_revision("0001").module.confirm_loss_of_history(connection)
            context.run_migrations()
    except sa.exc.DBAPIError as error:
        raise CommandError(f"the database says: {statement_words(error)}") from None


if warning := warning_of(database):
    logging.getLogger("alembic.runtime.migration").warning(warning)
if context.is_offline_mode():
    raise CommandError("these migrations look at the database that they change; --sql cannot do that")
run()
