"""The figures. Each compares two things in one run, so that a slow machine slows both."""

from __future__ import annotations

import contextlib
import http.client
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks.environment import CALLS, Cost, Table, fast_meta, finish, refresh, run, settings, start

ALTERNATIVES_PYTHON: Final = Path(__file__).with_name(".venv") / "bin" / "python"
IMPORTS: Final = "import click, sqlalchemy, psycopg2, requests, tenacity, cryptography.fernet, babel, dotenv"


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of all figures: `FULL` for RESULTS.md, `QUICK` to see that they work."""

    latency: float
    workers: tuple[int, ...]
    rounds: int  # channels for each worker
    slow: int  # channels for the alternative without threads
    processes: tuple[int, ...]
    tables: tuple[int, ...]
    dues: tuple[int, int]
    among: int
    fast: int
    repeats: int


FULL: Final = Sizes(0.15, (16, 64, 128), 30, 100, (1, 2, 4), (10_000, 100_000, 1_000_000), (1000, 20_000),
                    1500, 3000, 5)  # fmt: skip
QUICK: Final = Sizes(0.01, (4,), 2, 4, (1, 2), (100,), (5, 20), 10, 20, 1)


@dataclass(frozen=True, slots=True)
class Figure:
    """One table of RESULTS.md: its title, what it compares, its head and its rows."""

    title: str
    about: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def _renew(table: Table, due: int, workers: int, latency: float) -> tuple[Cost, dict[str, int]]:
    """Run the program once. Raise `RuntimeError` if it did not renew all channels that are due."""
    with fast_meta(due, latency) as meta:
        cost = run(refresh("--json", "--workers", str(workers)), settings(table.url, meta.url))
    left = table.scalar(
        "SELECT count(*) FROM \"Channel\" WHERE token_expires_at < now() + interval '15 days'"
    )
    if left or meta.seen["exchanges"] != due:
        raise RuntimeError(f"{left} channels were not renewed, {meta.seen}")
    return cost, meta.seen


def limit_of_meta(sizes: Sizes) -> Figure:
    """Measure how many calls a second the simulated Meta answers."""
    asked = sizes.fast * 2
    with fast_meta(1, 0) as meta:
        address = urlsplit(meta.url).netloc

        def ask(times: int) -> None:
            connection = http.client.HTTPConnection(address)
            for _ in range(times):
                connection.request("GET", "/v26.0/debug_token?input_token=x&access_token=x")
                connection.getresponse().read()
            connection.close()

        begun = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(ask, [asked // 2] * 2))
        rate = asked / (time.monotonic() - begun)
    most = max(sizes.workers) / sizes.latency
    row = (f"{rate:,.0f}", f"{most:,.0f}", f"{rate / most:.1f}")
    head = ("calls a second, at least", f"most that {max(sizes.workers)} workers can make", "ratio")
    return Figure("The simulated Meta's own limit", "One Python caller on the same machine.", head, (row,))


def efficiency(table: Table, sizes: Sizes) -> Figure:
    """Compare the wall time of the process with the lower bound that latency sets."""
    rows = []
    for workers in sizes.workers:
        due = workers * sizes.rounds
        table.fill(due=due)
        cost, _ = _renew(table, due, workers, sizes.latency)
        bound = due * CALLS * sizes.latency / workers
        times = (f"{bound:.2f} s", f"{cost.wall:.2f} s", f"{bound / cost.wall:.3f}")
        rows.append((str(workers), str(due), *times, f"{cost.cpu / due * 1000:.2f} ms"))
    head = ("workers", "channels", "bound", "wall", "efficiency", "CPU a channel")
    about = (
        f"Bound: channels x {CALLS} calls x {sizes.latency * 1000:.0f} ms ÷ workers. Start-up is included."
    )
    return Figure("1. Efficiency", about, head, tuple(rows))


def against_alternatives(table: Table, sizes: Sizes) -> Figure:
    """Compare with a plain loop and with a pool of threads, on the packages that people use."""
    workers = max(w for w in sizes.workers if w <= 64)
    if not ALTERNATIVES_PYTHON.exists():
        return Figure("2. Against what people use", "Not installed: run `make bench`.", ("",), ())
    plans = [("facebook-sdk", 1, sizes.slow), ("python-facebook-api", workers, workers * sizes.rounds)]
    found: list[tuple[str, float, float]] = []
    for name, threads, due in plans:
        table.fill(due=due)
        with fast_meta(due, sizes.latency) as meta:
            script = [str(ALTERNATIVES_PYTHON), str(Path(__file__).with_name("alternatives.py"))]
            cost = run([*script, name, str(due), str(threads)], settings(table.url, meta.url))
        found.append((f"{name}, {threads} at once, 1 call", due / cost.wall, cost.cpu / due))
    due = workers * sizes.rounds
    table.fill(due=due)
    ours, _ = _renew(table, due, workers, sizes.latency)
    found.append((f"this program, {workers} at once, {CALLS} calls", due / ours.wall, ours.cpu / due))
    slowest = found[0][1]
    rows = [
        (what, f"{rate:.1f}", f"{rate / slowest:.1f} x", f"{cpu * 1000:.2f} ms") for what, rate, cpu in found
    ]
    about = (
        "Both make one call a channel and prove nothing; this program makes three, and proves each renewal."
    )
    head = ("", "channels a second", "speed-up", "CPU a channel")
    return Figure("2. Against what people use", about, head, tuple(rows))


def scale_out(table: Table, sizes: Sizes) -> Figure:
    """Compare several processes on one database with one."""
    workers = 16 if 16 in sizes.workers else sizes.workers[0]
    due = workers * sizes.rounds * max(sizes.processes)
    rows, alone = [], 0.0
    for processes in sizes.processes:
        table.fill(due=due)
        with fast_meta(due, sizes.latency) as meta, contextlib.ExitStack() as stack:
            folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(processes)]
            command, environment = refresh("--json", "--workers", str(workers)), settings(table.url, meta.url)
            begun = time.monotonic()
            runs = [(start(command, environment, folder), folder) for folder in folders]
            for process, folder in runs:
                finish(process, folder)
            wall = time.monotonic() - begun
        alone = alone or wall
        rows.append(
            (str(processes), f"{wall:.2f} s", f"{alone / wall:.2f} x", str(meta.seen["exchanged_twice"]))
        )
    head = ("processes", "wall", "speed-up", "tokens exchanged twice")
    return Figure("3. Scale-out", f"{due} channels, {workers} workers in each process.", head, tuple(rows))


def _bare_query(table: Table) -> float:
    """Return the seconds that a plain query of all rows takes, without connecting."""
    query = (
        "SELECT count(*), count(*) FILTER (WHERE token_expires_at < now() OR token_fingerprint "
        "<> md5(wa_token_encrypted)) FROM \"Channel\" WHERE type = 'whatsapp' AND wa_token_encrypted <> ''"
    )
    with table.engine.connect() as connection:
        begun = time.monotonic()
        connection.exec_driver_sql(query).all()
        return time.monotonic() - begun


def nothing_due(table: Table, sizes: Sizes) -> Figure:
    """Measure a run with nothing to do, on tables of several sizes."""
    imports = statistics.median(_imports(sizes))
    rows = []
    for channels in sizes.tables:
        table.fill(due=0, fresh=channels)
        bare = statistics.median(_bare_query(table) for _ in range(sizes.repeats))
        with fast_meta(1, 0) as meta:  # a run with nothing to do asks about one good token
            costs = [run(refresh("--json"), settings(table.url, meta.url)) for _ in range(sizes.repeats)]
        wall = statistics.median(cost.wall for cost in costs)
        rows.append((f"{channels:,}", f"{bare:.2f} s", f"{imports:.2f} s", f"{wall:.2f} s",
                     f"{wall / (bare + imports):.2f}", f"{wall - bare - imports:+.2f} s",
                     f"{max(cost.peak for cost in costs) / 1024:.0f} MiB"))  # fmt: skip
    head = ("channels", "bare query", "imports", "run", "ratio", "more", "peak memory")
    return Figure("4a. Growth: nothing due", "Ratio: the run ÷ (bare query + imports).", head, tuple(rows))


def some_among_many(table: Table, sizes: Sizes) -> Figure:
    """Measure a run on some due channels in the largest table."""
    largest, workers = sizes.tables[-1], max(w for w in sizes.workers if w <= 64)
    table.fill(due=sizes.among, fresh=largest)
    query = statistics.median(_bare_query(table) for _ in range(sizes.repeats))
    cost, _ = _renew(table, sizes.among, workers, sizes.latency)
    bound = sizes.among * CALLS * sizes.latency / workers
    allowed = 2 * bound + 3 * query
    row = (f"{sizes.among:,} of {sizes.among + largest:,}", f"{bound:.2f} s", f"{query:.2f} s",
           f"{cost.wall:.2f} s", f"{cost.wall / allowed:.2f}")  # fmt: skip
    head = ("due", "bound", "one query", "wall", "of 2 x bound + 3 queries")
    return Figure("4b. Growth: some due among many", f"{workers} workers.", head, (row,))


def memory(table: Table, sizes: Sizes) -> Figure:
    """Compare the peak memory for few and for many due channels."""
    workers = max(w for w in sizes.workers if w <= 64)
    peaks = []
    for due in sizes.dues:
        table.fill(due=due)
        cost, _ = _renew(table, due, workers, 0)
        peaks.append((due, cost.peak))
    rows = [(f"{due:,}", f"{peak / 1024:.1f} MiB", f"{peak / peaks[0][1]:.2f}") for due, peak in peaks]
    head = ("due", "peak memory", "ratio")
    return Figure("4c. Growth: memory by channels due", "With `--json`, no latency.", head, tuple(rows))


def zero_latency(table: Table, sizes: Sizes) -> Figure:
    """Measure what one core does when Meta answers at once."""
    table.fill(due=sizes.fast)
    cost, _ = _renew(table, sizes.fast, 16, 0)
    row = (str(sizes.fast), f"{sizes.fast / cost.wall:.0f}", f"{sizes.fast / cost.cpu:.0f}",
           f"{cost.cpu / cost.wall:.2f}")  # fmt: skip
    head = ("channels", "a second", "a second of CPU", "cores busy")
    return Figure("5. Zero latency", "16 workers; PostgreSQL and Meta share the machine.", head, (row,))


def _imports(sizes: Sizes) -> Iterator[float]:
    environment = {"PATH": os.environ.get("PATH", "")}
    for _ in range(sizes.repeats):
        yield run([sys.executable, "-c", IMPORTS], environment).wall


def start_up(table: Table, sizes: Sizes) -> Figure:
    """Compare `--help` and an empty run with importing the same libraries."""
    table.fill(due=0)
    base = statistics.median(_imports(sizes))
    rows = [("importing the libraries", f"{base:.2f} s", "1.00")]
    with fast_meta(0, 0) as meta:
        environment = settings(table.url, meta.url)
        for name, command in (("`--help`", refresh("--help")), ("an empty run", refresh("--json"))):
            wall = statistics.median(run(command, environment).wall for _ in range(sizes.repeats))
            rows.append((name, f"{wall:.2f} s", f"{wall / base:.2f}"))
    return Figure("6. Start-up", "Medians.", ("", "wall", "ratio"), tuple(rows))


def all_figures(table: Table, sizes: Sizes) -> Iterator[Figure]:
    """Yield every figure as soon as it is measured."""
    yield limit_of_meta(sizes)
    yield efficiency(table, sizes)
    yield against_alternatives(table, sizes)
    yield scale_out(table, sizes)
    yield nothing_due(table, sizes)
    yield some_among_many(table, sizes)
    yield memory(table, sizes)
    yield zero_latency(table, sizes)
    yield start_up(table, sizes)
