"""Errors that no one catches: Python would print them with their values, so its hooks are replaced."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

logger = logging.getLogger(__name__)


def redact_uncaught() -> None:
    """Log uncaught errors in one line, also those of threads and destructors; `--verbose` adds tracebacks."""
    sys.excepthook = _log
    sys.unraisablehook = lambda args: _log(args.exc_type, args.exc_value, args.exc_traceback)
    threading.excepthook = lambda args: _log(args.exc_type, args.exc_value, args.exc_traceback)


def log_unexpected(error: BaseException) -> None:
    """Log an error that is a mistake of ours: its type, and with `--verbose` its traceback."""
    _log(type(error), error, error.__traceback__)


def _log(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    details = (kind, error, traceback) if error and logger.isEnabledFor(logging.DEBUG) else None
    logger.error("unexpected error (%s)", kind.__name__, exc_info=details)
