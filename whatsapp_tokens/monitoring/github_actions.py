"""How a program speaks to GitHub's runner: commands in its output, and a file for the step's summary.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands. The runner reads
commands from both streams; ours go to stderr, because stdout may be one JSON document.

**Masks.** `::add-mask::` has the value itself in it, and only a real runner swallows such a line: piped into
a file, or run by something that merely calls itself GitHub, it would print what must never be printed. So it
is used only for what GitHub cannot know: secrets that come from `.env` or from an `X_FILE`. What stands in
the environment comes from the repository's secrets, which GitHub masks itself, and everything that this
program prints is redacted beforehand in any case. Tokens from the database are never printed, not even so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from whatsapp_tokens.redaction import SHORTEST_SEARCHED, Secret, redact

MAX_ANNOTATIONS: Final = 10  # of each level in a step; the runner drops what comes after
MAX_SUMMARY_BYTES: Final = 1024 * 1024  # of a step; a larger file is not shown at all


class Level(StrEnum):
    """How an annotation looks."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Annotation:
    """A note that GitHub shows at the top of a run's page. Plain text."""

    level: Level
    title: str
    message: str


class SummaryFull(Exception):
    """With this text, the step's summary would be larger than GitHub shows."""


def annotate(annotation: Annotation) -> str:
    """An annotation as a command, redacted before it is escaped: afterwards a secret might look different."""
    title, message = redact(annotation.title), redact(annotation.message)
    return f"::{annotation.level} title={_property(title)}::{_data(message)}"


def masks(secrets: Iterable[Secret], environment: Mapping[str, str]) -> list[str]:
    """The commands that hide what GitHub cannot know: all secrets that are in no variable of the environment.

    The parts of a variable count as known with it. `environment` is the real one, without `.env`.
    """
    values = {secret.reveal() for secret in secrets}
    known = list(environment.values())
    unknown = {
        value
        for value in values
        if len(value) >= SHORTEST_SEARCHED and not any(value in given for given in known)
    }
    return [f"::add-mask::{_data(value)}" for value in sorted(unknown)]


def append_summary(path: Path, markdown: str) -> None:
    """Add to the step's summary. Raises OSError, or `SummaryFull` and leaves it as it is."""
    text = markdown.encode(errors="replace")
    size = path.stat().st_size if path.exists() else 0
    if size + len(text) > MAX_SUMMARY_BYTES:
        raise SummaryFull
    with path.open("ab") as file:
        file.write(text)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
