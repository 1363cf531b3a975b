"""The nightly job: the real command, each run in a process of its own, with its clock turned to the night.

The processes are forked from one that has imported the program, so a run starts in milliseconds. Otherwise
nothing is simulated: settings come from its environment, and signals end it as they end any process.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from time import monotonic

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["refresh_tokens", "whatsapp_tokens.commands.execute"])
KEPT = ("HOME", "LANG", "PATH", "TMPDIR")


def start(
    number: int, environment: Mapping[str, str], began: float, arguments: Sequence[str], folder: Path
) -> ForkServerProcess:
    """Start a run of the night on which it is `began` (unix seconds). Its output is kept in `folder`."""
    process = _forks.Process(
        target=run, args=(dict(environment), began, list(arguments), folder / f"run-{number}")
    )
    process.start()
    return process


def run(environment: Mapping[str, str], began: float, arguments: Sequence[str], output: Path) -> None:
    """Be the program, from here to the end of the process."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    os.environ.clear()
    os.environ.update(kept | dict(environment))
    for stream, suffix in ((sys.stdout, ".out"), (sys.stderr, ".err")):
        stream.flush()
        os.dup2(os.open(f"{output}{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), stream.fileno())
    import refresh_tokens  # noqa: PLC0415 - the sandbox itself knows nothing of the program

    started = monotonic()

    def now() -> datetime:
        return datetime.fromtimestamp(began, UTC) + timedelta(seconds=monotonic() - started)

    refresh_tokens.now = now
    code = refresh_tokens.main(["--env-file", os.devnull, *arguments])
    from whatsapp_tokens.signals import ignore_signals  # noqa: PLC0415 - as above

    ignore_signals()
    sys.exit(code)
