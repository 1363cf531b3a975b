"""Worker threads, also where the machine gives fewer than wanted."""

from __future__ import annotations

import threading

import pytest

from whatsapp_tokens.renewal.workers import NoThreads, Workers


@pytest.fixture
def make():
    """Makes workers, and closes them."""
    made = []

    def make_(work, limit):
        made.append(Workers(work, limit))
        return made[-1]

    yield make_
    for one in made:
        one.close()


def collect_all(workers):
    done = []
    while not workers.is_idle:
        done += workers.collect(0.05, 100)
    return sorted(done)


def test_threads_are_started_as_they_are_needed_and_no_more_than_allowed(make):
    gate = threading.Event()
    workers = make(lambda job: gate.wait(10) and job, 3)
    counts = []
    for job in range(5):
        workers.submit(job)
        counts.append(len(workers._threads))
    gate.set()
    assert (counts, collect_all(workers)) == ([1, 2, 3, 3, 3], [0, 1, 2, 3, 4])


def test_what_no_thread_has_begun_can_be_taken_back(make):
    gate, begun = threading.Event(), threading.Semaphore(0)
    workers = make(lambda job: (begun.release(), gate.wait(10), job)[2], 2)
    for job in range(5):
        workers.submit(job)
    for _ in range(2):
        begun.acquire(timeout=10)
    taken = workers.take_back()
    gate.set()
    assert (taken, collect_all(workers)) == ([2, 3, 4], [0, 1])


def test_a_machine_with_few_threads_to_give_is_said_so_once_and_they_do_all_the_work(
    make, worker_threads, caplog
):
    worker_threads[0] = 2
    workers = make(lambda job: job, 8)
    for job in range(20):
        workers.submit(job)
    assert collect_all(workers) == list(range(20))
    assert [record.getMessage() for record in caplog.records] == [
        "this machine has no more threads to give: working with 2"
    ]


def test_a_machine_without_any_thread_to_give_is_an_error(make, worker_threads):
    worker_threads[0] = 0
    workers = make(lambda job: job, 8)
    with pytest.raises(NoThreads, match="can't start new thread"):
        workers.submit(1)
    assert workers.is_idle
