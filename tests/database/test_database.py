"""Opening a database."""

from __future__ import annotations

from contextlib import closing

import pytest
from channels import (
    DAY,
    ids_of,
    renewal_of,
    select,
)
from conftest import only_postgresql

from models import TableMap
from whatsapp_tokens.database import connection as connection_module
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import BadSchema
from whatsapp_tokens.database.url import parse_url
from whatsapp_tokens.database.writes import WriteResult

# Opening


def test_a_table_that_is_not_as_needed_leaves_no_connection_behind(rows, open_database, monkeypatch):
    rows.run('ALTER TABLE "Channel" DROP COLUMN token_error')
    closed, close = [], connection_module.Connection.close
    monkeypatch.setattr(
        connection_module.Connection, "close", lambda self: closed.append(self) or close(self)
    )
    with pytest.raises(BadSchema, match="lacks token_error"):
        open_database()
    assert len(closed) == 1


@only_postgresql
def test_the_schema_of_the_url_is_where_the_tables_are(rows, database_url):
    rows.run("CREATE SCHEMA shop")
    for table in ('"Channel"', "token_audit_log"):
        rows.run(f"ALTER TABLE {table} SET SCHEMA shop")
    rows.run("""INSERT INTO shop."Channel" (wa_token_encrypted) VALUES ('stored')""")
    url = f"{database_url}{'&' if '?' in database_url else '?'}schema=shop"
    with closing(Database(parse_url(url), TableMap(), lease=DAY)) as database:
        (channel,) = database.claims.claim(select(), ids_of(database.queries.due_ids(select())))
        assert database.writer.write([renewal_of(channel)]) == [(WriteResult.WRITTEN, "")]
