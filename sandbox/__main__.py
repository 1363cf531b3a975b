"""`python -m sandbox serve` runs a simulated Meta; `python -m sandbox demo` shows a whole run against one."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from sandbox import demo
from sandbox.graph import GraphServer
from sandbox.seed import seed


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the two commands and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sandbox", description="A simulated Meta on this machine."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve", help="run the simulated Graph API until Ctrl-C or SIGTERM")
    server.add_argument("--port", type=int, default=0, help="default: a free one")
    server.add_argument(
        "--latency", type=float, default=0, metavar="MS", help="milliseconds that each call takes"
    )
    server.add_argument(
        "--seed",
        metavar="DATABASE_URL",
        help="fill this migrated database with a channel in every condition; tokens are encrypted with "
        "TOKEN_ENCRYPTION_KEY (64 hex digits), or with a new key, which is printed",
    )
    commands.add_parser("demo", help="show a whole run against a temporary database")
    options = parser.parse_args(argv)
    if options.command == "demo":
        return demo.main()
    try:
        key = bytes.fromhex(os.environ.get("TOKEN_ENCRYPTION_KEY") or os.urandom(32).hex())
    except ValueError:
        key = b""
    if len(key) != 32:
        parser.error("TOKEN_ENCRYPTION_KEY must be 64 hex digits here")
    return serve(options.port, options.latency / 1000, options.seed, key)


def serve(port: int, latency: float, database_url: str | None, key: bytes) -> int:
    """Print the settings that lead the program here, and serve until a signal comes."""
    with GraphServer(port=port, latency=latency) as meta:
        settings = {
            "META_GRAPH_URL": meta.url,
            "META_APP_ID": meta.app_id,
            "META_APP_SECRET": meta.app_secret,
        }
        if database_url is not None:
            channels = seed(database_url, meta, key, datetime.now(UTC))
            settings |= {"DATABASE_URL": database_url, "TOKEN_ENCRYPTION_KEY": key.hex()}
            print(f"{len(channels)} channels seeded.", file=sys.stderr)
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            # A shell starts a program in the background with SIGINT ignored, so set it, too.
            signal.signal(number, lambda *_: stopped.set())
        for name, value in settings.items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        stopped.wait()
        print(f"{meta.count('debug_token')} inspections, {len(meta.exchanges)} exchanges.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
