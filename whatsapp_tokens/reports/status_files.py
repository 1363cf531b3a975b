"""The reports of a run: which lines the status page shows, and where it is written."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from models import Channel
from whatsapp_tokens.database.database import Database
from whatsapp_tokens.database.errors import DatabaseError
from whatsapp_tokens.reports.status_page import View, write

OTHERS_SHOWN: Final = 1000

logger = logging.getLogger(__name__)


def write_reports(database: Database, paths: Iterable[Path], view: View) -> list[str]:
    """Write each report; `view` has no fleet yet. Gives a line for each that could not be written."""
    try:
        view = replace(view, fleet=database.queries.totals(view.now, view.now + view.window))
    except DatabaseError as error:
        return [_problem(path, str(error)) for path in paths]
    problems = []
    for path in paths:
        try:
            write(path, view, whole_fleet(database, view.now))
        except OSError as error:
            problems.append(_problem(path, error.strerror or type(error).__name__))
        except DatabaseError as error:
            problems.append(_problem(path, str(error)))
        except Exception as error:
            # A mistake of ours must not keep a run that is over from saying how it ended.
            logger.debug("unexpected error while writing a report", exc_info=True)
            problems.append(_problem(path, f"unexpected error ({type(error).__name__})"))
    return problems


def whole_fleet(database: Database, now: datetime) -> Iterator[Channel]:
    """All channels that need attention, and then some of the others; in both, the most urgent first."""
    yield from database.queries.needing_attention(now)
    yield from database.queries.not_needing_attention(now, OTHERS_SHOWN)


def _problem(path: Path, words: str) -> str:
    return f"--report {path} could not be written: {words}"
