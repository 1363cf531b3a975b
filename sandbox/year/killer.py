"""A deploy that ends a run by a signal, at a moment that the plan says."""

from __future__ import annotations

import os
import threading
from multiprocessing.context import ForkServerProcess

from sandbox.year.plan import Kill


class Killer:
    """Ends the first run by a signal, at a moment that the plan says."""

    def __init__(self, kill: Kill | None) -> None:
        self._kill = kill
        self._left = kill.after if kill else None
        self._runs: list[ForkServerProcess] = []
        self._lock = threading.Lock()
        self._is_due = False

    def watch(self, runs: list[ForkServerProcess]) -> None:
        """Say which runs there are; what came before ends the first one now."""
        with self._lock:
            self._runs = runs
        if self._is_due:
            self._fire()

    def called(self) -> None:
        """Count a call of Meta."""
        with self._lock:
            if self._left is None:
                return
            self._left -= 1
            is_now = self._left < 0
        if is_now:
            self._fire()

    def alerted(self) -> None:
        """Take note that people are being alerted."""
        if self._kill and self._kill.after is None:
            self._fire()

    def _fire(self) -> None:
        with self._lock:
            self._is_due = True
            if not (self._kill and self._runs):
                return
            kill, self._kill, self._left = self._kill, None, None
            pid = self._runs[0].pid
        if pid and self._runs[0].exitcode is None:
            os.kill(pid, kill.signal)
