"""SIGINT and SIGTERM, and what they become: a request to stop that ends every wait."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from types import FrameType
from typing import Final, TypeAlias

WAKE_SECONDS: Final = 0.2  # how long a request to stop may go unnoticed

# Waits for a number of seconds. Raises `Interrupted` once the run was told to stop.
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
        self.signal: int | None = None  # the last one, if a signal made the request

    def set(self, signal_number: int | None = None) -> None:
        """Ask for the end."""
        self._is_set = True
        self.signal = signal_number if signal_number is not None else self.signal

    def is_set(self) -> bool:
        """Return whether the end was asked for."""
        return self._is_set

    def wait(self, seconds: float) -> bool:
        """Wait, but not longer than until the end is asked for. Return whether it was."""
        until = monotonic() + seconds
        while not self._is_set and (left := until - monotonic()) > 0:
            sleep(min(left, WAKE_SECONDS))
        return self._is_set

    def sleep(self, seconds: float) -> None:
        """Wait so long. Raises `Interrupted` if the end was asked for, before or meanwhile."""
        if self.wait(seconds):
            raise Interrupted


@contextmanager
def caught_signals(tell: Callable[[int], None]) -> Iterator[None]:
    """Pass SIGINT and SIGTERM on to `tell` instead of ending the process."""

    def handler(number: int, _frame: FrameType | None) -> None:
        tell(number)

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
