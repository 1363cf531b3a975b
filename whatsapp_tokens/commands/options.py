"""The command line as one value, and which of its options go together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

MANY: Final = 100  # more channels than this are not forced without a second confirmation
REPORT_SUFFIXES: Final = (".html", ".json")  # of the files that --report writes


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    dry_run: bool
    force: bool
    audit: bool
    yes: bool
    check: bool
    set_token: str | None
    name: str | None
    history: str | None
    test_alert: bool
    channel: tuple[str, ...]
    limit: int | None
    workers: int | None
    report: tuple[Path, ...]
    as_json: bool
    env_file: Path | None
    verbose: bool
    quiet: bool
    log_format: str

    def clash(self) -> str | None:
        """Return a sentence that says which options do not go together, or None."""
        run = {
            "--dry-run": self.dry_run,
            "--force": self.force,
            "--audit": self.audit,
            "--channel": bool(self.channel),
            "--limit": self.limit is not None and self.history is None,
            "--report": bool(self.report),
        }
        alone = {
            "--check": self.check,
            "--set-token": self.set_token is not None,
            "--history": self.history is not None,
            "--test-alert": self.test_alert,
        }
        modes = [name for name, given in alone.items() if given]
        if modes and (others := [*modes[1:], *(name for name, given in run.items() if given)]):
            return f"{modes[0]} stands alone: leave out {', '.join(others)}."
        if self.verbose and self.quiet:
            return "--verbose and --quiet exclude each other."
        for name, id_ in {"--set-token": self.set_token, "--history": self.history}.items():
            if id_ is not None and not id_.strip():
                return f"{name} needs the id of a channel."
        if self.name is not None and self.set_token is None:
            return "--name goes with --set-token."
        if strange := [str(path) for path in self.report if path.suffix.lower() not in REPORT_SUFFIXES]:
            return f"--report {strange[0]}: its name must end in {' or '.join(REPORT_SUFFIXES)}."
        return None
