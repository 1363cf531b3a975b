"""`python -m sandbox serve`: run a simulated Meta until a signal comes."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from crypto import KeyRing
from sandbox.accept import Failure, accept, accept_any, fail, read_tokens
from sandbox.destination import Destination, NotSeeded
from sandbox.graph import GraphServer
from sandbox.seed import seed
from whatsapp_tokens.environment import BadSettings, Reader, read_environment
from whatsapp_tokens.settings import read_database

LIFETIME_DAYS: Final = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `serve`."""
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument(
        "--latency", type=float, default=0, metavar="MS", help="milliseconds that each call takes"
    )
    tokens = parser.add_argument_group("tokens of your own table")
    tokens.add_argument("--accept-any", action="store_true", help="accept every token, as one of this app")
    tokens.add_argument(
        "--accept", action="append", default=[], metavar="TOKEN",
        help="accept this token. Repeatable. Other users of this machine see it in `ps`: for made-up tokens",
    )  # fmt: skip
    tokens.add_argument(
        "--accept-from", metavar="FILE", help="accept the tokens of a file, one in each line; - is stdin"
    )
    tokens.add_argument(
        "--expires-in", type=_days, default=10, metavar="DAYS", help="when accepted tokens expire (10)"
    )
    tokens.add_argument(
        "--fail", choices=[str(failure) for failure in Failure], metavar="KIND",
        help=f"what goes wrong: {', '.join(Failure)}",
    )  # fmt: skip
    rows = parser.add_argument_group("rows to try it with")
    rows.add_argument(
        "--seed", nargs="?", const="", metavar="DATABASE_URL",
        help="fill a migrated table with a channel in every condition. CHANNEL_TABLE, CHANNEL_COLUMNS and "
        "CHANNEL_TYPE say what it is called; tokens are encrypted with TOKEN_ENCRYPTION_KEY, or with a new "
        "key, which is printed. Without an address: DATABASE_URL",
    )  # fmt: skip
    rows.add_argument(
        "--column", action="append", type=_column, default=[], metavar="NAME=VALUE",
        help="a value for a column of yours that must not be null; {n} in it becomes the number of the row",
    )  # fmt: skip
    rows.add_argument("--yes", action="store_true", help="also fill a table that holds rows already")
    rows.add_argument(
        "--env-file", type=Path, metavar="FILE", help="settings for --seed; the environment wins"
    )


def run(options: argparse.Namespace) -> int:
    """Print the settings that lead the program here, and serve. Return the exit code."""
    try:
        tokens = [*filter(None, options.accept), *_read_tokens(options.accept_from)]
        with GraphServer(port=options.port, latency=options.latency / 1000) as meta:
            settings = {
                "META_GRAPH_URL": meta.url,
                "META_APP_ID": meta.app_id,
                "META_APP_SECRET": meta.app_secret,
            }
            _accept(meta, tokens, options)
            settings |= _seed(meta, options)
            stopped = threading.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                # A shell starts a program in the background with SIGINT ignored, so set it, too.
                signal.signal(number, lambda *_: stopped.set())
            for name, value in settings.items():
                print(f"export {name}={shlex.quote(value)}", flush=True)
            stopped.wait()
            _say(f"{meta.count('debug_token')} inspections, {len(meta.exchanges)} exchanges.")
    except _Refused as refusal:
        _say(str(refusal))
        return 2
    return 0


class _Refused(Exception):
    """An option or a setting cannot be used."""


def _accept(meta: GraphServer, tokens: list[str], options: argparse.Namespace) -> None:
    failure, days_left = options.fail and Failure(options.fail), options.expires_in
    accepts = bool(tokens or options.accept_any)
    if failure and failure.is_of_tokens and not accepts:
        raise _Refused(
            f"--fail {failure} is about accepted tokens: add --accept-any, --accept or --accept-from"
        )
    accept(meta, tokens, days_left=days_left, failure=failure)
    if options.accept_any:
        accept_any(meta, days_left=days_left, failure=failure)
    if accepts:
        count = len(set(tokens))
        which = (
            "Any token is" if options.accept_any else "1 token is" if count == 1 else f"{count} tokens are"
        )
        _say(f"{which} accepted, with {days_left:g} days left.")
    if failure:
        fail(meta, failure)
        _say(f"What goes wrong: {failure}.")


def _read_tokens(file: str | None) -> list[str]:
    if file is None:
        return []
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
        tokens = read_tokens(text.splitlines())
    except (OSError, ValueError) as error:  # the error of an encoding would show some of the text
        why = error if type(error) is ValueError else f"it cannot be read ({type(error).__name__})"
        raise _Refused(f"--accept-from {file}: {why}") from None
    if not tokens:
        raise _Refused(f"--accept-from {file}: it holds no token")
    return tokens


def _seed(meta: GraphServer, options: argparse.Namespace) -> dict[str, str]:
    """Fill the table if asked to. Return the settings for it that are not in the environment."""
    if options.seed is None:
        if options.column or options.yes or options.env_file:
            raise _Refused("--column, --yes and --env-file are for --seed: add it")
        return {}
    given: dict[str, str] = {"DATABASE_URL": options.seed} if options.seed else {}
    try:
        environment, warnings = read_environment(os.environ, options.env_file or Path(os.devnull))
        if given:
            environment.pop("DATABASE_URL_FILE", None)
        database, mapping = read_database(environment | given)
        keys = _read_keys(environment)
        if keys is None:
            given["TOKEN_ENCRYPTION_KEY"] = os.urandom(32).hex()
            keys = KeyRing.parse(given["TOKEN_ENCRYPTION_KEY"])
        into = Destination(database, mapping, dict(options.column), may_hold_rows=options.yes)
        channels = seed(into, meta, keys, datetime.now(UTC))
    except BadSettings as error:
        raise _Refused("\n".join(error.problems)) from None
    except NotSeeded as error:
        raise _Refused(f"nothing was seeded: {error}") from None
    for line in (*warnings, f"{len(channels)} channels seeded."):
        _say(line)
    return given


def _read_keys(environment: Mapping[str, str]) -> KeyRing | None:
    """Return the keys of the settings, or None if there are none. Raise `BadSettings`."""
    read = Reader(environment)
    keys: KeyRing | None = read.secret("TOKEN_ENCRYPTION_KEY", KeyRing.parse, required=False)
    if read.problems:
        raise BadSettings(read.problems)
    return keys


def _column(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError("it is not of the form NAME=VALUE")
    return name, value


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 < days <= LIFETIME_DAYS:
        raise argparse.ArgumentTypeError(
            f"it must be a number of days, more than 0 and at most {LIFETIME_DAYS}"
        )
    return days


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
