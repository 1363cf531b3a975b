"""Be a run that is killed (SIGKILL) before or after a step: `python kills.py STEP WHEN [OPTIONS]`."""

from __future__ import annotations

import os
import signal
import sys
from functools import wraps
from importlib import import_module
from pathlib import Path

# Where each step of a run is done. One function may be looked up by several modules.
STEPS = {
    "claim": ("whatsapp_tokens.database.claims", "Claims", "_claim"),
    "inspect": ("meta_client", "MetaClient", "inspect"),
    "exchange": ("meta_client", "MetaClient", "exchange"),
    "prove": ("whatsapp_tokens.renewal.renewer", "Renewer", "_inspect_new"),
    "encrypt": ("crypto", "KeyRing", "encrypt"),
    "write": ("whatsapp_tokens.database.writes", "Writer", "_update"),
    "log": ("whatsapp_tokens.database.writes", "Writer", "_log"),
    "commit": ("sqlalchemy.engine.default", "DefaultDialect", "do_commit"),
    "release": ("whatsapp_tokens.database.claims", "Claims", "release_all"),
    "alert": ("notify", "Slack", "deliver"),
    "mark": ("whatsapp_tokens.database.claims", "Claims", "mark_alerted"),
    "report": ("whatsapp_tokens.commands.finish", None, "write_reports"),
}


def arm(step, when):
    """Let this process die at that step. A commit counts once a new token is about to be stored."""
    module, class_, name = STEPS[step]
    owner = getattr(import_module(module), class_) if class_ else import_module(module)
    real = getattr(owner, name)
    is_armed = step != "commit"

    @wraps(real)
    def deadly(*arguments, **options):
        if is_armed and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*arguments, **options)
        if is_armed:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)
    if step == "commit":
        writer = import_module("whatsapp_tokens.database.writes").Writer
        log = writer._log

        def log_and_arm(*arguments):
            nonlocal is_armed
            log(*arguments)
            is_armed = True

        writer._log = log_and_arm


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
    arm(*sys.argv[1:3])
    import refresh_tokens

    sys.exit(refresh_tokens.main(sys.argv[3:]))
