"""Renew WhatsApp access tokens before they expire: the one command, meant for cron.

Options in, exit code out. `whatsapp_tokens/commands` does the work. The one clock is read here. What only a
command needs is imported when it runs, so `--help` and `--version` answer at once.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TextIO

sys.path += {str(Path(__file__).resolve().parent)} - set(sys.path)  # `python -I` leaves it out

from whatsapp_tokens.installed import what_is_missing

if missing := what_is_missing():
    print(missing, file=sys.stderr)  # noqa: T201 - where click may be what is missing
    sys.exit(2)

from datetime import UTC, datetime

import click

from whatsapp_tokens.commands.options import MANY, Options
from whatsapp_tokens.commands.uncaught import log_unexpected, redact_uncaught
from whatsapp_tokens.redaction import RedactingFormatter, RedactingJsonFormatter
from whatsapp_tokens.results import Exit
from whatsapp_tokens.signals import ignore_signals

VERSION: Final = "1.0.0"
logger = logging.getLogger("refresh_tokens")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--dry-run", is_flag=True, help="Show what is due and why; change nothing, call no one.")
@click.option("--force", is_flag=True, help="Renew every selected channel, due or not.")
@click.option("--audit", is_flag=True, help="Ask Meta about every token; renew those that are due after all.")
@click.option(
    "--check", is_flag=True, help="Check settings, database, keys, Meta and alerts; change nothing."
)
@click.option(
    "--history", metavar="ID", help="Show one channel: its state, why it is due or not, its audit log."
)
@click.option(
    "--test-alert", is_flag=True, help="Send a test message to every alert target and the heartbeat."
)
@click.option("--set-token", metavar="ID", help="Store a token from stdin or a hidden prompt.")
@click.option("--name", metavar="NAME", help="With --set-token: create the channel if it is missing.")
@click.option(
    "--yes",
    is_flag=True,
    help=f"Do not ask before --force renews over {MANY} channels; let --set-token store a token that "
    "expires sooner than the old one.",
)
@click.option("--channel", multiple=True, metavar="ID", help="Only this channel. Repeatable.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="At most N channels, most urgent first, or N rows of --history.",
)
@click.option(
    "--workers", type=int, metavar="N", help="Channels at once, 1 to 256; or set WORKERS.  [default: 16]"
)
@click.option(
    "--report",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the status page as .html or .json. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, and nothing else.")
@click.option(
    "--env-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Settings, instead of .env beside this script; the environment wins.",
)
@click.option("-v", "--verbose", is_flag=True, help="Log every step, and tracebacks of unexpected errors.")
@click.option(
    "-q", "--quiet", is_flag=True, help="Print only news, why a run stopped, and warnings about settings."
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Format of the logs, which go to stderr.",
)
@click.version_option(VERSION, prog_name="refresh_tokens.py")
@click.pass_context
def cli(context: click.Context, /, **given: Any) -> None:
    """Renew WhatsApp access tokens before they expire. README.md explains the settings."""
    options = Options(**given)
    if clash := options.clash():
        raise click.UsageError(clash)
    set_up_logging(options)
    from whatsapp_tokens.commands.execute import execute  # noqa: PLC0415 - it takes half a second to import

    context.exit(execute(options, VERSION, now))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
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
    except Exception as error:  # noqa: BLE001 - without a traceback, which may hold anything
        log_unexpected(error)
        return Exit.STOPPED
    finally:
        for stream in (sys.stdout, sys.stderr):
            flush_or_forget(stream)


def now() -> datetime:
    """Return the time: this is the one clock of the program."""
    return datetime.now(UTC)


def set_up_logging(options: Options) -> None:
    """Send all logs to stderr, each line redacted."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingJsonFormatter() if options.log_format == "json" else RedactingFormatter())
    level = logging.DEBUG if options.verbose else logging.ERROR if options.quiet else logging.WARNING
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.getLogger("whatsapp_tokens.settings").setLevel(min(level, logging.WARNING))  # also with --quiet
    logging.raiseExceptions = False  # a failed log call would print its arguments as they are
    for chatty in ("sqlalchemy", "urllib3"):  # they would log rows and addresses
        logging.getLogger(chatty).setLevel(logging.WARNING)


def flush_or_forget(stream: TextIO | None) -> None:
    """Flush a stream. If its reader has gone, keep Python from failing at exit and changing our exit code."""
    if stream is None:  # its file descriptor was closed before we began
        return
    try:
        stream.flush()
    except OSError as error:
        logger.warning("the output could not be written (%s)", error.strerror)
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    redact_uncaught()
    exit_code = main()
    ignore_signals()
    sys.exit(exit_code)
