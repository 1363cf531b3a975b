"""Tokens at work: each once, however many channels share it."""

from __future__ import annotations

import threading

import pytest
from fakes import NOW, channel, days

from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.renewal.decision import NewToken, Unusable
from whatsapp_tokens.renewal.token_pool import TokenPool
from whatsapp_tokens.renewal.updates import ChannelResult, ClaimedChannel
from whatsapp_tokens.results import Reason, Renewed
from whatsapp_tokens.signals import Interrupted


class Pool:
    """A pool whose workers wait for `gate` before they renew a token."""

    def __init__(self, workers=2):
        self.gate = threading.Event()
        self.begun = threading.Semaphore(0)
        self.renewed = []
        self.pool = TokenPool(self.renew, self.conclude, workers)

    def renew(self, token):
        self.begun.release()
        self.gate.wait(10)
        self.renewed.append(token.reveal())
        if token.reveal() == "stopped":
            raise Interrupted
        return NewToken(Secret("new"), NOW + days(60))

    @staticmethod
    def conclude(verdict, claimed):
        return ChannelResult(claimed.channel, verdict, Renewed(id=claimed.channel.id, name="x"))

    def add(self, token, id_):
        self.pool.add(Secret(token), ClaimedChannel(channel(id=id_)))

    def collect_all(self):
        self.gate.set()
        results = []
        while not self.pool.is_idle:
            results += self.pool.collect()
        return sorted(result.channel.id for result in results)


@pytest.fixture
def at_work():
    made = Pool()
    yield made
    made.gate.set()
    made.pool.close()


def test_channels_that_share_a_token_are_in_flight_like_others(at_work):
    counts = []
    for id_ in range(4):
        at_work.add("shared", id_)
        counts.append(at_work.pool.in_flight)
    assert counts == [1, 2, 3, 4]
    assert (at_work.collect_all(), at_work.renewed, at_work.pool.in_flight) == ([0, 1, 2, 3], ["shared"], 0)


def test_a_token_that_was_renewed_is_remembered_for_channels_that_come_later(at_work):
    at_work.add("shared", 1)
    first = at_work.collect_all()
    at_work.add("shared", 2)
    assert (first, at_work.collect_all(), at_work.renewed) == ([1], [2], ["shared"])


def test_channels_of_an_interrupted_token_have_no_result_and_are_no_longer_in_flight(at_work):
    at_work.add("stopped", 1)
    at_work.add("stopped", 2)
    assert (at_work.collect_all(), at_work.pool.in_flight) == ([], 0)


def test_what_is_parked_is_renewed_once_it_may_go_on(at_work):
    for id_ in range(5):
        at_work.add(f"token {id_}", id_)
    for _ in range(2):
        at_work.begun.acquire(timeout=10)
    at_work.pool.park()
    begun = at_work.collect_all()
    at_work.pool.unpark()
    assert len(begun) == 2
    assert sorted(begun + at_work.collect_all()) == [0, 1, 2, 3, 4]


def test_a_mistake_of_ours_is_a_verdict_like_others(at_work):
    def fail(_token):
        raise KeyError

    at_work.pool._renew = fail
    at_work.add("a", 1)
    at_work.gate.set()
    (result,) = at_work.pool.collect()
    assert result.verdict == Unusable(Reason.UNEXPECTED_ANSWER, "internal error: KeyError")
