"""A real browser for tests of pages: Chromium, with axe-core to look for what shuts people out."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = "axe-core@4.14.1"


@contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """Run Chromium, or skip the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", *arguments]
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


def axe_source(folder: Path) -> str:
    """Return the source of axe-core, from npm, or skip the test."""
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), AXE]
    if shutil.which("npm") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("npm cannot bring axe-core here")
    return (folder / "node_modules/axe-core/axe.min.js").read_text()
