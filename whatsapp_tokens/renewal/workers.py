"""The worker threads: they take jobs from one queue and put what they made of them into another."""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Generic, TypeVar

from whatsapp_tokens.facts import fact

logger = logging.getLogger(__name__)

Job = TypeVar("Job")
Done = TypeVar("Done")


class NoThreads(Exception):
    """The machine does not let us start even one thread."""


class Workers(Generic[Job, Done]):
    """Up to `limit` threads, started when there is work for them. `work` must not raise."""

    def __init__(self, work: Callable[[Job], Done], limit: int) -> None:
        self._work = work
        self._limit = limit
        self._threads: list[Thread] = []
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._done: SimpleQueue[Done] = SimpleQueue()
        self._unfinished = 0

    @property
    def is_idle(self) -> bool:
        """Whether every job was collected or taken back."""
        return not self._unfinished

    def submit(self, job: Job) -> None:
        """Queue a job. Raise `NoThreads`."""
        if len(self._threads) < min(self._limit, self._unfinished + 1):
            self._start_thread()
        self._jobs.put(job)
        self._unfinished += 1

    def collect(self, timeout: float, limit: int) -> list[Done]:
        """Wait up to `timeout` seconds for a job to be done. Return up to `limit` that are."""
        found: list[Done] = []
        try:
            found.append(self._done.get(timeout=timeout))
            while len(found) < limit:
                found.append(self._done.get_nowait())
        except Empty:
            pass
        self._unfinished -= len(found)
        return found

    def take_back(self) -> list[Job]:
        """Return the jobs that no thread has begun, and take them out of the queue."""
        jobs: list[Job] = []
        try:
            while True:
                if (job := self._jobs.get_nowait()) is not None:
                    jobs.append(job)
        except Empty:
            self._unfinished -= len(jobs)
            return jobs

    def close(self) -> None:
        """Drop what has not begun, and wait for what has."""
        self.take_back()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _start_thread(self) -> None:
        thread = Thread(target=self._run, name=f"worker-{len(self._threads) + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not self._threads:
                raise NoThreads(fact("this machine does not let us start a thread", error)) from None
            self._limit = len(self._threads)
            logger.warning("this machine has no more threads to give: working with %d", self._limit)
        else:
            self._threads.append(thread)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._done.put(self._work(job))
