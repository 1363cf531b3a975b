"""Measure everything: `python -m benchmarks --date 2026-01-31 > tables.md`. `--quick` only tries it."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.environment import Table, postgresql
from benchmarks.figures import FULL, QUICK, Figure, all_figures


def machine() -> str:
    """Return a line about the machine: cores, processor, system and Python."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{os.cpu_count()} x {name}, {platform.system()}, Python {platform.python_version()}"


def markdown(figure: Figure) -> str:
    """Return a figure as Markdown."""
    lines = [figure.head, tuple("---" for _ in figure.head), *figure.rows]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"### {figure.title}\n\n{figure.about}\n\n{table}\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Print each table as soon as it is measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure the program.")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything works")
    parser.add_argument("--date", default="", help="the date, for the line about the machine")
    options = parser.parse_args(argv)
    print(f"{options.date} {machine()}".strip() + "\n", flush=True)
    with postgresql() as server:
        table = Table(server)
        try:
            for figure in all_figures(table, QUICK if options.quick else FULL):
                print(markdown(figure), flush=True)
        finally:
            table.drop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
