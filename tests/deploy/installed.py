"""The program as an operator installs it: the files of a clone in a folder of its own, with its settings."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from world import ROOT

HOME = "/opt/whatsapp-token-refresh"  # where the files in deploy/ look for it
PYTHON = f"{HOME}/.venv/bin/python"
PARTS = ("alembic", "locale", "sandbox", "whatsapp_tokens", "alembic.ini")


def install(folder: Path) -> Path:
    """Copy the program to a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*map(ROOT.joinpath, PARTS), *ROOT.glob("*.py")]:
        if path.is_dir():
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, folder)
    return folder


def write_settings(path: Path, settings: dict[str, str], above: str = "") -> None:
    """Write settings as an operator does, for the owner only; `above` is what the file says first."""
    path.touch(mode=0o600)
    path.write_text(above + "".join(f"{name}={value}\n" for name, value in settings.items()))


def mapped(text: str, home: Path, **more: str) -> str:
    """Return a text of deploy/ with the paths of this installation; `more` are other words to replace."""
    for word, other in {PYTHON: sys.executable, HOME: str(home), **more}.items():
        text = text.replace(word, other)
    return text
