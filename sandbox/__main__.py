"""`python -m sandbox serve` runs a simulated Meta, `demo` shows a run, and `year` plays a year of runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sandbox import demo, serve
from sandbox.year import command as year


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the commands and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox", description="A simulated Meta on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    serve.add_arguments(
        commands.add_parser("serve", help="run the simulated Graph API until Ctrl-C or SIGTERM")
    )
    commands.add_parser("demo", help="show a whole run against a temporary database")
    year.add_arguments(commands.add_parser("year", help="play a simulated year, and check every night of it"))
    options = parser.parse_args(argv)
    if options.command == "year":
        return year.main(options.channels, options.seed, options.nights, options.database)
    return demo.main() if options.command == "demo" else serve.run(options)


if __name__ == "__main__":
    sys.exit(main())
