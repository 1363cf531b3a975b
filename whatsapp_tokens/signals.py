"""SIGINT, SIGTERM and SIGHUP, and what they become: a request to stop that ends every wait."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from types import FrameType
from typing import Final, TypeAlias

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WAKE_SECONDS: Final = 0.2  # how long a request to stop may go unnoticed

# Waits for a number of seconds. Raise `Interrupted` once the run was told to stop.
Sleep: TypeAlias = Callable[[float], None]


class Interrupted(Exception):
    """The run was told to stop."""


class Stop:
    """A request to stop, which a signal handler may make at any moment: so there is no lock in it.

    `threading.Event` has one, and a second signal that comes while the first is handled would wait for it
    for ever.
    """

    def __init__(self) -> None:
        self._is_set = False
        self.signal: int | None = None  # the last one that made the request

    def set(self) -> None:
        """Ask the run to stop."""
        self._is_set = True

    def is_set(self) -> bool:
        """Return whether the run was asked to stop."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait, at most until the run is asked to stop. Return whether it was."""
        until = monotonic() + seconds
        while not self._is_set and (left := until - monotonic()) > 0:
            sleep(min(left, WAKE_SECONDS))
        return self._is_set

    def sleep(self, seconds: float) -> None:
        """Wait so long. Raise `Interrupted` if the end was asked for, before or meanwhile."""
        if self.wait(seconds):
            raise Interrupted


@contextmanager
def caught_signals(*stops: Stop, then: Callable[[], None] | None = None) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP set `stops`, and call `then`, instead of ending the process.

    A signal that is ignored when we start stays ignored: `nohup` does that, and shells in the background.
    """

    def handler(number: int, _frame: FrameType | None) -> None:
        for stop in stops:
            stop.signal = number
            stop.set()
        if then:
            then()

    caught = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in caught}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def ignore_signals() -> None:
    """Ignore them from now on: all is done, and a late one must not change the exit code."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
