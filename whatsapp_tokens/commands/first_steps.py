"""What to do next, where the program was only just installed and has no settings yet."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from whatsapp_tokens.environment import BadSettings
from whatsapp_tokens.installed import ROOT, is_here, typed
from whatsapp_tokens.settings import REQUIRED


def require_settings(environment: Mapping[str, str], env_file: Path) -> None:
    """Raise `BadSettings` with the first steps if there is no env file, and none of the required settings."""
    given = {name for name in environment if environment[name].strip()}
    if env_file.exists() or given & {*REQUIRED, *(f"{name}_FILE" for name in REQUIRED)}:
        return
    *first, last = REQUIRED
    missing = f"{', '.join(first)} and {last} are missing: set them in the environment, or in {typed('.env')}"
    raise BadSettings([missing], _steps())


def _steps() -> tuple[str, ...]:
    """Return commands, as one types them in the folder where one stands."""
    python = Path(sys.executable)
    alembic, script, example = python.with_name("alembic"), typed("refresh_tokens.py"), typed(".env.example")
    ini = "" if is_here() else f" -c {typed('alembic.ini')}"
    steps = {
        f"cp {example} {typed('.env')} && chmod 600 {typed('.env')}": "fill in these four",
        f"{_typed(alembic)}{ini} upgrade head": "creates or completes the table; keeps your data",
        f"{_typed(python)} {script} --check": "says what is still wrong; then --dry-run shows what is due",
        "make demo" if is_here() else f"make -C {shlex.quote(str(ROOT))} demo": "or see it work first",
    }
    width = max(map(len, steps))
    return tuple(f"  {command:<{width}}  # {what}" for command, what in steps.items())


def _typed(program: Path) -> str:
    """Return a program as one types it: a virtual environment may be in our folder, or elsewhere."""
    return (
        typed(str(program.relative_to(ROOT))) if program.is_relative_to(ROOT) else shlex.quote(str(program))
    )
