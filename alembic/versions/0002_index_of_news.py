"""Create the partial index for the few channels that people may have to be told of.

It is recorded like everything that was added, so a downgrade removes nothing that was there before.
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NAME_BYTES = 63

added = sa.table(
    "whatsapp_token_alembic_added", sa.column("kind"), sa.column("table_name"), sa.column("name")
)


def upgrade() -> None:
    channel = context.config.attributes["channel"]
    table, names = channel["table"], channel["columns"]
    bind = op.get_bind()
    inspector = sa.inspect(bind)
    index = index_of(table)
    kinds = columns_of(table, inspector)
    needed = ("id", "type", "token_expires_at", "token_status", "token_alerted_at")
    if any(names[ours] not in kinds for ours in needed) or index in indexes_of(table, inspector):
        return  # the program will say which table or column is not there, and what to run
    status_kind = kinds[names["token_status"]]
    if not isinstance(status_kind, sa.String) or isinstance(status_kind, sa.Enum):
        return  # the program will say that the column must be text
    expires_at = sa.column(names["token_expires_at"])
    status, alerted_at = (sa.column(names[ours]) for ours in ("token_status", "token_alerted_at"))
    may_be_news = sa.or_(status == sa.text("'warning'"), alerted_at.is_not(None))
    is_sqlite = bind.dialect.name == "sqlite"  # which sorts nulls first by itself, and has no syntax for it
    op.create_index(
        index,
        table,
        [names["type"], expires_at if is_sqlite else expires_at.asc().nulls_first(), names["id"]],
        postgresql_where=may_be_news,
        sqlite_where=may_be_news,
    )
    bind.execute(sa.insert(added).values(kind="index", table_name=table, name=index))


def downgrade() -> None:
    bind = op.get_bind()
    inspector = sa.inspect(bind)
    indexes = sa.select(added.c.table_name, added.c.name).where(added.c.kind == "index")
    for table, name in bind.execute(indexes).all():
        if name == index_of(table):
            if name in indexes_of(table, inspector):
                op.drop_index(name, table)
            bind.execute(sa.delete(added).where(added.c.kind == "index", added.c.name == name))


def columns_of(table: str, inspector: sa.Inspector) -> dict:
    """Return the columns of a table with their types; none if it is a view or not there."""
    if table in inspector.get_view_names() or not inspector.has_table(table):
        return {}
    return {column["name"]: column["type"] for column in inspector.get_columns(table)}


def indexes_of(table: str, inspector: sa.Inspector) -> set:
    """Return the names of the indexes of a table; none if it is not there."""
    return {one["name"] for one in inspector.get_indexes(table)} if inspector.has_table(table) else set()


def index_of(table: str) -> str:
    """Return the name of the index, as long as PostgreSQL lets it be, and still different from others."""
    name = f"ix_{table}_token_news"
    raw = name.encode()
    if len(raw) <= NAME_BYTES:
        return name
    digest = hashlib.md5(raw, usedforsecurity=False).hexdigest()[:8]
    return f"{raw[: NAME_BYTES - 9].decode(errors='ignore')}_{digest}"
