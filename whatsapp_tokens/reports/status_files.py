"""The files of `--report`: the status page or its JSON twin, with all channels that need attention.

Lines come as an iterator and go out as a stream, so memory does not grow with their number. A file is
replaced in one step or not at all.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

from models import Channel
from whatsapp_tokens.database.errors import DatabaseError
from whatsapp_tokens.database.queries import Queries
from whatsapp_tokens.reports.json_document import exact, timestamp
from whatsapp_tokens.reports.status_lines import DownSince, Line, View, lines_of
from whatsapp_tokens.reports.status_page import Counted, html
from whatsapp_tokens.results import ChannelTotals, State

VERSION: Final = 1  # of the JSON document
TEMPORARY: Final = ".status-"  # as the names of temporary files begin
LEFT_BEHIND_SECONDS: Final = 3600  # no report takes so long to write
OTHERS_SHOWN: Final = 1000  # channels that do not need attention

logger = logging.getLogger(__name__)


class Source:
    """Where the lines of all reports and the figures of the metrics come from; totals are counted once."""

    def __init__(self, queries: Queries) -> None:
        self.queries = queries
        self._totals: ChannelTotals | None = None

    def totals(self, now: datetime, soon: datetime) -> ChannelTotals:
        """Return the totals as they were when they were first asked for. Raise a `DatabaseError`."""
        self._totals = self._totals or self.queries.totals(now, soon)
        return self._totals


def write_reports(source: Source, paths: Iterable[Path], view: View) -> list[str]:
    """Write each report; `view` has no totals yet. Return a line for each that could not be written."""
    try:
        view = replace(view, totals=source.totals(view.now, view.now + view.window))
    except DatabaseError as error:
        return [_problem(path, str(error)) for path in paths]
    problems = []
    for path in paths:
        try:
            write(path, view, _all_channels(source.queries, view), source.queries.down_since)
        except OSError as error:
            problems.append(_problem(path, error.strerror or type(error).__name__))
        except DatabaseError as error:
            problems.append(_problem(path, str(error)))
        except Exception as error:
            # A bug here must not keep a finished run from saying how it ended.
            logger.debug("unexpected error while writing a report", exc_info=True)
            problems.append(_problem(path, f"unexpected error ({type(error).__name__})"))
    return problems


def write(
    path: Path, view: View, channels: Iterable[Channel], rejected_since: DownSince = lambda _: {}
) -> None:
    """Replace the file, in the form that its suffix says. Raise OSError, and leave the old one.

    What a link leads to is replaced, not the link; a device or anything else that is no file is refused.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is there, and no file", str(path))
    _sweep(path.parent, view.now)
    lines = lines_of(channels, view, rejected_since)
    with _replaced(path) as file:
        for piece in document(view, lines) if path.suffix.lower() == ".json" else html(view, lines):
            file.write(piece)


def document(view: View, lines: Iterable[Line]) -> Iterator[str]:
    """Return the page for programs: one JSON object, a piece at a time."""
    totals = view.totals
    head = {
        "version": VERSION,
        "generated_at": timestamp(view.now),
        "dry_run": view.is_dry,
        "exit_code": view.exit_code,
        "stopped": view.stopped,
        "total": totals.total,
        "attention": totals.attention,
        "states": {state: totals.states.get(state, 0) for state in State},
        "soonest_expiry": timestamp(totals.soonest),
        "ends": [{"date": day.isoformat(), "count": count} for day, count in sorted(totals.expiries.items())],
    }
    yield json.dumps(head, ensure_ascii=False)[:-1] + ', "lines": ['
    shown = Counted(lines, totals)
    for line in shown:
        yield (",\n" if shown.count > 1 else "\n") + json.dumps(_entry(line), ensure_ascii=False)
    yield f'\n], "left_out": {shown.left_out}}}\n'


def _entry(line: Line) -> dict[str, Any]:
    """Return a line as JSON, without what only the page needs."""
    fields = asdict(line)
    del fields["known_as"], fields["on_page"]
    fields["id"] = exact(line.id)
    return fields | {name: timestamp(fields[name]) for name in ("expires_at", "refreshed_at")}


def _all_channels(queries: Queries, view: View) -> Iterator[Channel]:
    """Return all channels that need attention, then some of the others; in both, the most urgent first."""
    soon, totals = view.now + view.window, view.totals
    # A line of which another token was stored is in `UNKNOWN`, also while its row says `warning`.
    if totals.attention or totals.states.get(State.UNKNOWN):
        yield from queries.needing_attention(view.now, soon)
    yield from queries.not_needing_attention(
        view.now, soon, min(totals.total - totals.attention, OTHERS_SHOWN)
    )


def _sweep(folder: Path, now: datetime) -> None:
    """Remove what runs left behind that were killed while they wrote a report."""
    for left in folder.glob(f"{TEMPORARY}*"):
        with suppress(OSError):
            if now.timestamp() - left.stat().st_mtime > LEFT_BEHIND_SECONDS:
                left.unlink()


@contextmanager
def _replaced(path: Path) -> Iterator[IO[str]]:
    """Open a text file that takes the place of another once all of it is on the disk."""
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", errors="replace", dir=path.parent, prefix=TEMPORARY, delete=False
    ) as file:
        temporary = Path(file.name)
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), _mode(path))
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _mode(path: Path) -> int:
    """Return the mode of the file that is there, else what the umask allows: web servers must read it."""
    with suppress(OSError):
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _problem(path: Path, words: str) -> str:
    return f"--report {path} could not be written: {words}"
