"""Commands that run with less than the tests may do: read-only files, no capabilities, few system calls."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import make_url


@cache
def may_confine() -> bool:
    """Whether this machine lets us make a mount namespace, which takes root."""
    found = os.getuid() == 0 and shutil.which("unshare")
    return bool(found) and not subprocess.run(["unshare", "--mount", "true"], check=False).returncode


def confined(command: Sequence[str], **restrictions: Any) -> list[str]:
    """Return the command line that runs a command with what `confined.py` takes away."""
    script = str(Path(__file__).with_name("confined.py"))
    return ["unshare", "--mount", sys.executable, script, json.dumps(restrictions), *command]


@contextmanager
def reachable(database_url: str) -> Iterator[None]:
    """Let every user go to the socket of the test server; a usual one has it in /run/postgresql."""
    folder = Path(make_url(database_url).query.get("host", "/run/postgresql"))
    mode = stat.S_IMODE(folder.stat().st_mode) if folder.is_dir() else None
    if mode is not None:
        folder.chmod(0o711)
    yield
    if mode is not None:
        folder.chmod(mode)
