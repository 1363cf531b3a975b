"""Create the channel table or add what it lacks, and create the audit log.

The table may belong to an application and hold the tokens of every customer. So what is added is recorded in
a table of its own, a downgrade removes nothing else, and running this twice is harmless.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from functools import cache

import click
import sqlalchemy as sa
from alembic import context, op
from alembic.util import CommandError

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NAME_BYTES = 63
AUDIT = "token_audit_log"
AUDIT_INDEX = f"ix_{AUDIT}_channel_id"
ADDED = "whatsapp_token_alembic_added"

TIME = sa.DateTime(timezone=True)
CLOCKS = {"token_expires_at": TIME, "last_token_refresh_at": TIME}
STATE = {
    "token_status": sa.Text(),
    "token_error": sa.Text(),
    "token_fingerprint": sa.Text(),
    "token_alerted_at": TIME,
    "token_lease_until": TIME,
}
# Used only where the settings name them.
OPTIONAL = {"active": sa.Boolean(), "phone_number": sa.Text(), "updated_at": TIME}

added = sa.table(ADDED, sa.column("kind"), sa.column("table_name"), sa.column("name"))


def upgrade() -> None:
    channel = context.config.attributes["channel"]
    inspector = sa.inspect(op.get_bind())
    if not inspector.has_table(ADDED):
        op.create_table(
            ADDED,
            *(sa.Column(name, sa.Text(), nullable=False) for name in ("kind", "table_name", "name")),
            sa.PrimaryKeyConstraint("kind", "table_name", "name", name=f"pk_{ADDED}"),
        )
    if inspector.has_table(channel["table"]):
        add_columns(channel, inspector)
    else:
        create_channel(channel)
    if not inspector.has_table(AUDIT):
        create_audit()
    elif AUDIT_INDEX not in {found["name"] for found in inspector.get_indexes(AUDIT)}:
        create_audit_index()
    create_index(channel, inspector)


def downgrade() -> None:
    bind = op.get_bind()
    inspector = sa.inspect(bind)
    if not inspector.has_table(ADDED):
        return
    rows = bind.execute(sa.select(added)).all()
    there = {table for table in {row.table_name for row in rows} if inspector.has_table(table)}
    confirm_loss_of_history(bind)
    indexes = {table: {index["name"] for index in inspector.get_indexes(table)} for table in there}
    columns = {table: {column["name"] for column in inspector.get_columns(table)} for table in there}
    for _, table, name in (row for row in rows if row.kind == "index" and row.table_name in there):
        if name in indexes[table]:
            op.drop_index(name, table)
    for _, table, name in (row for row in rows if row.kind == "column" and row.table_name in there):
        if name in columns[table]:
            op.drop_column(table, name)
    for _, table, _ in (row for row in rows if row.kind == "table" and row.table_name in there):
        # Tokens stay, whoever made their table: the last column of it goes with its last row.
        if table == AUDIT or not bind.execute(sa.select(sa.literal(1)).select_from(sa.table(table))).first():
            op.drop_table(table)
    op.drop_table(ADDED)


@cache
def confirm_loss_of_history(bind: sa.Connection) -> None:
    """Say how many audit rows a downgrade removes; on a terminal, ask first. Raise `CommandError` on a no.

    env.py calls it before the first step of a downgrade to base: later, locks would be held while a person
    thinks, and SQLite does not undo the steps that were taken. A second call on a connection does nothing.
    """
    inspector = sa.inspect(bind)
    if not (inspector.has_table(AUDIT) and inspector.has_table(ADDED)):
        return
    is_ours = sa.select(added).filter_by(kind="table", table_name=AUDIT)
    count = bind.execute(sa.select(sa.func.count()).select_from(sa.table(AUDIT))).scalar_one()
    if not (count and bind.execute(is_ours).first()):
        return
    what = f"{AUDIT} and its rows, the history of every token: {count}"
    if sys.stdin is None or not sys.stdin.isatty():  # a script has decided
        logging.getLogger("alembic.runtime.migration").info("Dropping %s", what)
        return
    try:
        click.confirm(f"This drops {what}. Go on?", err=True, abort=True)
    except click.Abort:
        raise CommandError("nothing was changed") from None


def add_columns(channel: dict, inspector: sa.Inspector) -> None:
    """Add what an existing table lacks and this program keeps; what the application keeps must be there."""
    table, names = channel["table"], channel["columns"]
    present = {column["name"] for column in inspector.get_columns(table)}
    wanted = ["id", "type", "wa_token_encrypted", *(channel["mapped"] & {"name", *OPTIONAL})]
    if missing := [names[ours] for ours in wanted if names[ours] not in present]:
        raise CommandError(
            f'table "{table}" lacks {", ".join(sorted(missing))} (it has {", ".join(sorted(present))}); '
            "say in CHANNEL_COLUMNS what they are called there"
        )
    lacking = {names[ours]: kind for ours, kind in (CLOCKS | STATE).items() if names[ours] not in present}
    if lacking and table in inspector.get_view_names():
        raise CommandError(
            f'"{table}" is a view and lacks {", ".join(lacking)}; add them to its table and to it'
        )
    for name, kind in lacking.items():
        op.add_column(table, sa.Column(name, kind))
        remember("column", table, name)


def create_channel(channel: dict) -> None:
    """Create the table as this program would have it, with the names that the settings give."""
    table, names = channel["table"], channel["columns"]
    optional = {ours: kind for ours, kind in OPTIONAL.items() if ours in channel["mapped"]}
    op.create_table(
        table,
        sa.Column(names["id"], sa.Integer(), nullable=False),
        sa.Column(names["name"], sa.Text()),
        sa.Column(names["type"], sa.Text(), nullable=False, server_default=channel["type"]),
        sa.Column(names["wa_token_encrypted"], sa.Text()),
        *(sa.Column(names[ours], kind) for ours, kind in (CLOCKS | STATE | optional).items()),
        sa.PrimaryKeyConstraint(names["id"], name=short_name(f"pk_{table}")),
    )
    remember("table", table)
    for ours in STATE:  # which a downgrade removes even if the table has to stay
        remember("column", table, names[ours])


def create_audit() -> None:
    """Create the audit log, which is ours alone."""
    op.create_table(
        AUDIT,
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("expires_at_before", TIME),
        sa.Column("expires_at_after", TIME),
        sa.PrimaryKeyConstraint("id", name=f"pk_{AUDIT}"),
    )
    create_audit_index()
    remember("table", AUDIT)


def create_audit_index() -> None:
    """Create the index with which the history of a channel is looked up."""
    op.create_index(AUDIT_INDEX, AUDIT, ["channel_id", "at"])
    remember("index", AUDIT, AUDIT_INDEX)


def create_index(channel: dict, inspector: sa.Inspector) -> None:
    """Create the partial index for what is due, in the order of urgency. A view cannot have one."""
    table, names = channel["table"], channel["columns"]
    index = short_name(f"ix_{table}_token_due")
    if table in inspector.get_view_names() or (
        inspector.has_table(table) and index in {found["name"] for found in inspector.get_indexes(table)}
    ):
        return
    expires_at = names["token_expires_at"]
    if op.get_bind().dialect.name == "postgresql":  # SQLite does it by itself, and has no syntax for it
        expires_at = sa.column(expires_at).asc().nulls_first()
    with_token = sa.column(names["wa_token_encrypted"]).is_not(None)
    op.create_index(
        index,
        table,
        [names["type"], expires_at, names["id"]],
        postgresql_where=with_token,
        sqlite_where=with_token,
    )
    remember("index", table, index)


def short_name(name: str) -> str:
    """Return a name as long as PostgreSQL lets it be, and still different from others."""
    raw = name.encode()
    if len(raw) <= NAME_BYTES:
        return name
    digest = hashlib.md5(raw, usedforsecurity=False).hexdigest()[:8]
    return f"{raw[: NAME_BYTES - 9].decode(errors='ignore')}_{digest}"


def remember(kind: str, table: str, name: str = "") -> None:
    """Record that this migration made a thing, so that a downgrade removes nothing else."""
    bind = op.get_bind()
    row = {"kind": kind, "table_name": table, "name": name}
    if not bind.execute(sa.select(added).filter_by(**row)).first():
        bind.execute(sa.insert(added).values(row))
