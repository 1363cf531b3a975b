"""One token's way through Meta, with a Meta that says what it is told."""

from __future__ import annotations

import pytest
from fakes import NOW, SCOPES, FakeMeta, days, exchanged, inspection

from whatsapp_tokens.meta.errors import (
    AppRejected,
    ForeignToken,
    RateLimited,
    ReconnectRequired,
    Throttled,
    Unavailable,
    UnexpectedAnswer,
    UnreadableToken,
)
from whatsapp_tokens.policy import Policy
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.renewal.decision import NewToken, StillValid, Suspect, Unusable
from whatsapp_tokens.renewal.renewer import Renewer
from whatsapp_tokens.results import Reason
from whatsapp_tokens.signals import Interrupted

POLICY = Policy(days(45), days(15), days(60), SCOPES)
TOKEN = Secret("old-token")
NEW = {"age": 0, "lives": 60}


class Walk:
    """A renewer with a Meta that says what it is told."""

    def __init__(self, policy=POLICY):
        self.meta = FakeMeta()
        self.slept = []
        self.meta.inspections["old-token"] = [inspection()]
        self.meta.exchanges["old-token"] = [exchanged()]
        self.meta.inspections["new-token"] = [inspection(**NEW)]
        self.renewer = Renewer(self.meta, policy, lambda: NOW, self.slept.append)

    def renew(self):
        return self.renewer.renew(TOKEN)


def test_a_walk_inspects_exchanges_and_proves_in_this_order():
    walk = Walk()
    assert walk.renew() == NewToken(Secret("new-token"), NOW + days(60))
    assert walk.meta.calls == [
        ("inspect", "old-token"),
        ("exchange", "old-token", "SYSTEM_USER"),
        ("inspect", "new-token"),
    ]


def test_a_walk_ends_with_the_inspection_where_that_settles_it():
    walk = Walk()
    walk.meta.inspections["old-token"] = [inspection(age=5, lives=55)]
    assert (walk.renew(), len(walk.meta.calls)) == (StillValid(NOW + days(55), NOW - days(5)), 1)


ERRORS = [
    (ReconnectRequired("gone"), Reason.RECONNECT_REQUIRED, Suspect.META),
    (Unavailable("down"), Reason.UNAVAILABLE, Suspect.META),
    (Throttled("slow"), Reason.UNAVAILABLE, Suspect.META),
    (UnexpectedAnswer("odd"), Reason.UNEXPECTED_ANSWER, Suspect.META),
    (ForeignToken("other"), Reason.RECONNECT_REQUIRED, Suspect.OTHER_APP),
    (UnreadableToken("odd"), Reason.RECONNECT_REQUIRED, Suspect.UNREADABLE),
    (AppRejected("app"), Reason.UNEXPECTED_ANSWER, Suspect.APP),
    (RateLimited("slow"), Reason.UNAVAILABLE, Suspect.LIMIT),
]


@pytest.mark.parametrize(("error", "reason", "suspect"), ERRORS)
def test_an_error_of_the_inspection_says_what_may_be_at_fault(error, reason, suspect):
    walk = Walk()
    walk.meta.inspections["old-token"] = [error]
    assert walk.renew() == Unusable(reason, str(error), suspect=suspect)


def test_meta_may_know_when_a_dead_token_expired():
    walk = Walk()
    walk.meta.inspections["old-token"] = [ReconnectRequired("gone", expires_at=NOW - days(1))]
    assert walk.renew() == Unusable(Reason.RECONNECT_REQUIRED, "gone", NOW - days(1))


@pytest.mark.parametrize(("error", "reason", "suspect"), ERRORS)
def test_an_error_of_the_exchange_keeps_what_the_inspection_has_shown(error, reason, suspect):
    walk = Walk()
    walk.meta.exchanges["old-token"] = [error]
    suspect = Suspect.EXCHANGE if suspect is Suspect.APP else suspect
    assert walk.renew() == Unusable(reason, str(error), NOW + days(10), NOW - days(50), suspect)


@pytest.mark.parametrize(
    ("error", "suspect"), [(AppRejected("app"), Suspect.EXCHANGE), (RateLimited("slow"), Suspect.LIMIT)]
)
def test_an_error_of_the_proof_that_is_not_about_the_token_says_so(error, suspect):
    walk = Walk()
    walk.meta.inspections["new-token"] = [error]
    assert walk.renew().suspect is suspect


@pytest.mark.parametrize("error", [row[0] for row in ERRORS[6:]])
def test_an_error_that_is_not_about_a_token_to_be_stored_goes_up(error):
    walk = Walk()
    walk.meta.inspections["old-token"] = [error]
    with pytest.raises(type(error)):
        walk.renewer.examine(TOKEN)


@pytest.mark.parametrize("step", ["inspect", "exchange", "prove"])
def test_an_interruption_goes_up(step):
    error = Interrupted()
    walk = Walk()
    answers = {
        "inspect": walk.meta.inspections["old-token"],
        "exchange": walk.meta.exchanges["old-token"],
        "prove": walk.meta.inspections["new-token"],
    }
    answers[step][:] = [error]
    with pytest.raises(type(error)):
        walk.renew()


def test_a_new_token_called_invalid_is_asked_about_once_more_after_a_wait():
    walk = Walk()
    walk.meta.inspections["new-token"] = [ReconnectRequired("not yet"), inspection(**NEW)]
    assert walk.renew() == NewToken(Secret("new-token"), NOW + days(60))
    assert walk.slept == [0, 3.0]


def test_a_new_token_called_invalid_twice_is_dropped():
    walk = Walk()
    walk.meta.inspections["new-token"] = [ReconnectRequired("not good")]
    assert walk.renew() == Unusable(
        Reason.UNEXPECTED_ANSWER,
        "Meta gave a new token and does not call it good; not good",
        NOW + days(10),
        NOW - days(50),
    )
    assert [call[0] for call in walk.meta.calls] == ["inspect", "exchange", "inspect", "inspect"]


def test_no_exchange_begins_once_the_run_is_told_to_stop():
    walk = Walk()

    def stopped(_seconds):
        raise Interrupted

    walk.renewer = Renewer(walk.meta, POLICY, lambda: NOW, stopped)
    with pytest.raises(Interrupted):
        walk.renew()
    assert [call[0] for call in walk.meta.calls] == ["inspect"]


def test_a_token_that_the_exchange_calls_dead_expires_itself_and_not_with_its_data_access():
    walk = Walk()
    walk.meta.inspections["old-token"] = [inspection(data_access_expires_at=NOW + days(1))]
    walk.meta.exchanges["old-token"] = [ReconnectRequired("x")]
    assert walk.renew().expires_at == NOW + days(10)
