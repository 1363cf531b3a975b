"""Whether this Python can run the program, and what to do where it cannot: two lines instead of a traceback.

It is imported before anything that may be missing, by any Python 3.8 or newer: so the standard library only.
"""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
OLDEST: Final = (3, 11)
# What `runtime` in pyproject.toml asks for, as it is imported; Alembic is a command of its own.
PACKAGES: Final = (
    "apprise", "babel", "click", "cryptography", "dotenv", "jinja2", "prometheus_client", "psycopg2",
    "requests", "sqlalchemy", "tenacity",
)  # fmt: skip


def what_is_missing() -> str | None:
    """Return two lines, what this Python lacks and what to run. None if it lacks nothing."""
    version, python = ".".join(map(str, sys.version_info[:2])), ""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if sys.version_info < OLDEST:
        lacks, python = f"is Python {version}; 3.11 or newer is needed", " PYTHON=python3.11"
    elif missing:
        lacks = f"lacks packages that this program needs: {', '.join(missing)}"
    else:
        return None
    make = f"make{python} install" if is_here() else f"make -C {shlex.quote(str(ROOT))}{python} install"
    script = f"{typed('.venv/bin/python')} {typed('refresh_tokens.py')}"
    return f"{sys.executable or 'this Python'} {lacks}\nRun: {make}, then: {script}"


def is_here() -> bool:
    """Return whether the user stands in the program's folder."""
    try:
        return Path.cwd() == ROOT
    except OSError:  # that folder was deleted
        return False


def typed(path: str) -> str:
    """Return a path of the program's folder as one types it: from another folder, it is absolute."""
    return path if is_here() else shlex.quote(str(ROOT / path))
