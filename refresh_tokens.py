"""Renew WhatsApp access tokens before they die: the one command, meant for cron.

This is the door: options in, exit code out. What is done with them stands in `program`, what a run does in
`runner` and `renewal`. Here the one clock is read.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

import click

from whatsapp_tokens.commands.options import Options
from whatsapp_tokens.commands.program import MANY, Exit, Program
from whatsapp_tokens.redaction import RedactingFormatter, RedactingJsonFormatter
from whatsapp_tokens.settings import MAX_WORKERS

VERSION: Final = "0.1.0"
logger = logging.getLogger("refresh_tokens")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--dry-run", is_flag=True, help="Show what is due and why; write nothing, call nobody.")
@click.option("--force", is_flag=True, help="Renew every selected channel, due or not.")
@click.option(
    "--audit", is_flag=True, help="Ask Meta about every token; renew those that turn out to be due."
)
@click.option(
    "--check", is_flag=True, help="See whether a run would work: settings, database, keys, Meta, alerts."
)
@click.option(
    "--set-token",
    metavar="ID",
    help="Store a token obtained by hand, from stdin or a hidden prompt.",
)
@click.option("--name", metavar="NAME", help="With --set-token: create the channel if it is missing.")
@click.option(
    "--yes",
    is_flag=True,
    help=f"Do not ask before --force of over {MANY} channels; store a --set-token that ends sooner.",
)
@click.option("--channel", multiple=True, metavar="ID", help="Only this channel. Repeatable.")
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="At most N channels, the most urgent first."
)
@click.option(
    "--workers",
    type=click.IntRange(1, MAX_WORKERS),
    metavar="N",
    help="Channels at once; or set WORKERS.  [default: 16]",
)
@click.option(
    "--report",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the status page, .html or .json. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout, and nothing else there.")
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Settings, instead of .env beside this script; the environment wins.",
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Log what is done, and show tracebacks of unexpected errors."
)
@click.option("-q", "--quiet", is_flag=True, help="Print failures only.")
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Logs go to stderr.",
)
@click.version_option(VERSION, prog_name="refresh_tokens.py")
@click.pass_context
def cli(context: click.Context, /, **given: Any) -> None:
    """Renew WhatsApp access tokens before they die. README.md explains the settings."""
    options = Options(**given)
    if options.verbose and options.quiet:
        raise click.UsageError("--verbose and --quiet exclude each other.")
    if clash := options.clash():
        raise click.UsageError(clash)
    set_up_logging(options)
    context.exit(Program(options, version=VERSION, clock=now).run())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and give its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # cron's locale may know no “ or →
    try:
        return int(cli.main(args=argv, prog_name="refresh_tokens.py", standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        return Exit.CONFIGURATION
    except click.Abort:
        return Exit.INTERRUPTED
    finally:
        for stream in (sys.stdout, sys.stderr):
            flush_or_forget(stream)


def now() -> datetime:
    """The one clock of the program."""
    return datetime.now(UTC)


def set_up_logging(options: Options) -> None:
    """Send all logs to stderr, each line redacted."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingJsonFormatter() if options.log_format == "json" else RedactingFormatter())
    level = logging.DEBUG if options.verbose else logging.ERROR if options.quiet else logging.WARNING
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.raiseExceptions = False  # a failed log call would print its arguments as they are
    for chatty in ("sqlalchemy", "urllib3"):  # they would log rows and addresses
        logging.getLogger(chatty).setLevel(logging.WARNING)


def flush_or_forget(stream: TextIO | None) -> None:
    """Flush a stream; if its reader has gone, Python shall not trip over it and change our exit code."""
    if stream is None:  # its file descriptor was closed before we began
        return
    try:
        stream.flush()
    except OSError as error:
        logger.warning("the output could not be written (%s)", error.strerror)
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
