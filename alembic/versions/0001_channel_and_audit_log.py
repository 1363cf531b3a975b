"""Create `Channel` where there is none, add what it lacks where there is one, and create the audit log.

The table may belong to an application and hold the tokens of every customer: so nothing is ever dropped
from it but the state that this program keeps for itself, and running this twice is harmless.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

CHANNEL = "Channel"
AUDIT = "token_audit_log"
DUE_INDEX = "ix_Channel_token_due"
AUDIT_INDEX = "ix_token_audit_log_channel_id"

TIME = sa.DateTime(timezone=True)
CLOCKS = {"token_expires_at": TIME, "last_token_refresh_at": TIME}
STATE = {
    "token_status": sa.Text(),
    "token_error": sa.Text(),
    "token_fingerprint": sa.Text(),
    "token_alerted_at": TIME,
    "token_lease_until": TIME,
}


def upgrade() -> None:
    inspector = sa.inspect(op.get_bind())
    if inspector.has_table(CHANNEL):
        present = {column["name"] for column in inspector.get_columns(CHANNEL)}
        for name, kind in (CLOCKS | STATE).items():
            if name not in present:
                op.add_column(CHANNEL, sa.Column(name, kind))
    else:
        op.create_table(
            CHANNEL,
            sa.Column("id", sa.Integer(), nullable=False),
            sa.Column("name", sa.Text()),
            sa.Column("type", sa.Text(), nullable=False, server_default="whatsapp"),
            sa.Column("wa_token_encrypted", sa.Text()),
            *(sa.Column(name, kind) for name, kind in (CLOCKS | STATE).items()),
            sa.PrimaryKeyConstraint("id", name="pk_Channel"),
        )
    if not inspector.has_table(AUDIT):
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
            sa.PrimaryKeyConstraint("id", name="pk_token_audit_log"),
        )
        op.create_index(AUDIT_INDEX, AUDIT, ["channel_id", "at"])
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    with_token = sa.text("wa_token_encrypted IS NOT NULL")
    op.create_index(
        DUE_INDEX,
        CHANNEL,
        # SQLite puts nulls first by itself, and does not let an index say so.
        ["type", sa.text("token_expires_at NULLS FIRST") if on_postgresql else "token_expires_at", "id"],
        postgresql_where=with_token,
        sqlite_where=with_token,
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_index(DUE_INDEX, CHANNEL, if_exists=True)
    for name in STATE:
        op.drop_column(CHANNEL, name)
    op.drop_table(AUDIT)
