"""Print PostgreSQL's plans for the three largest statements of a run: `python -m benchmarks.plans`.

The statements are recorded as the program sends them, and explained on a million channels.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import sqlalchemy as sa

from benchmarks.environment import Table, postgresql
from benchmarks.figures import FULL
from models import TableMap
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.url import parse_url
from whatsapp_tokens.policy import Policy


def statements(table: Table) -> dict[str, tuple[str, Any]]:
    """Return the statements that a run sends, by purpose, with their parameters."""
    sent: list[tuple[str, Any]] = []

    def record(*event: Any) -> None:
        if not event[2].startswith("SET "):
            sent.append((event[2], event[3]))

    policy = Policy(timedelta(days=45), timedelta(days=15), timedelta(days=60), frozenset())
    selection = policy.select(datetime.now(UTC))
    database = Database(parse_url(table.url), TableMap(), lease=timedelta(minutes=5))
    sa.event.listen(sa.Engine, "before_cursor_execute", record)
    try:
        database.queries.count(selection)
        database.claims.claim(selection, list(islice(database.queries.due_ids(selection), 128)))
        database.claims.release_all()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", record)
        database.close()
    return {"count": sent[0], "due ids": sent[1], "claim of 128": sent[2]}


def main() -> int:
    """Print the plans."""
    with postgresql() as server:
        table = Table(server)
        try:
            table.fill(due=FULL.among, fresh=FULL.tables[-1])
            for name, (sql, parameters) in statements(table).items():
                with table.engine.connect() as connection:  # rolled back
                    found = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, COSTS OFF) {sql}", parameters)
                    print(f"-- {name}", *(line for (line,) in found), sep="\n", end="\n\n")
        finally:
            table.drop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
