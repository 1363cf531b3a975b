"""Errors that no one catches."""

from __future__ import annotations

import subprocess
import sys

import pytest
from world import ROOT

MISTAKES = {
    "main": "raise ValueError(leak)",
    "thread": "threading.Thread(target=lambda: int(leak)).start()",
    "destructor": "x = type('X', (), {'__del__': lambda self: int(leak)})(); del x",
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=list(MISTAKES))
@pytest.mark.parametrize("level", ["WARNING", "DEBUG"])
def test_an_error_that_no_one_catches_is_shown_without_secrets(mistake, level):
    script = (
        "import logging, threading, refresh_tokens as r; from whatsapp_tokens.redaction import *;"
        "leak = 'EAAB' + 'secret0' * 9;"
        "h = logging.StreamHandler(); h.setFormatter(RedactingFormatter());"
        f"logging.basicConfig(handlers=[h], level='{level}'); r.redact_uncaught()\n{mistake}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ("unexpected error (ValueError)" in done.stderr, "secret0secret0" in done.stderr) == (True, False)
    assert ("Traceback" in done.stderr) == (level == "DEBUG")
