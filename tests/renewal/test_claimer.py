"""Claiming channels, and keeping the claims."""

from __future__ import annotations

import pytest
from fakes import NOW, SCOPES, days

from whatsapp_tokens.database.queries import Counts
from whatsapp_tokens.policy import Policy
from whatsapp_tokens.renewal import claimer as module
from whatsapp_tokens.renewal.claimer import Claimer
from whatsapp_tokens.renewal.start import Scope
from whatsapp_tokens.signals import Stop


class FakeClaims:
    lease = 300.0

    def __init__(self):
        self.extensions = 0

    def extend(self):
        self.extensions += 1


class FakeDatabase:
    def __init__(self):
        self.claims = FakeClaims()


@pytest.fixture
def clock(monkeypatch):
    """The seconds of the monotonic clock, in a list of one."""
    seconds = [0.0]
    monkeypatch.setattr(module, "monotonic", lambda: seconds[0])
    return seconds


def test_leases_are_extended_each_time_that_a_third_of_them_has_passed(clock):
    database = FakeDatabase()
    selection = Policy(days(45), days(15), days(60), SCOPES).select(NOW)
    claimer = Claimer(database, Scope(selection), Counts(0, 0, 0), print, Stop())
    extensions = []
    for seconds in range(0, 501, 50):
        clock[0] = float(seconds)
        claimer.extend_leases()
        extensions.append(database.claims.extensions)
    assert extensions == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
