"""Commands for the runner of GitHub Actions, and the file of a step's summary.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands. The runner reads
commands from both streams; ours go to stderr, because stdout may be one JSON document. No secret is printed
in order to be masked: everything that this program prints is redacted, so there is nothing to mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from whatsapp_tokens.redaction import redact

MAX_ANNOTATIONS: Final = 10  # of each level in a step; the runner drops what comes after
MAX_SUMMARY_BYTES: Final = 1024 * 1024  # of a step; a larger file is not shown at all


class Level(StrEnum):
    """How an annotation looks."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Annotation:
    """A note in plain text that GitHub shows at the top of a run."""

    level: Level
    title: str
    message: str


class SummaryFull(Exception):
    """The step's summary would be larger than GitHub shows."""


def annotate(annotation: Annotation) -> str:
    """Return an annotation as a command. Redacted before it is escaped: then a secret may look different."""
    title, message = redact(annotation.title), redact(annotation.message)
    return f"::{annotation.level} title={_property(title)}::{_data(message)}"


def append_summary(path: Path, markdown: str) -> None:
    """Append to the step's summary. Raise OSError, or `SummaryFull` and leave the file unchanged."""
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
