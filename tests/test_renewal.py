"""One token's way, decided with values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crypto import KeyRing, SealBroken
from fakes import NOW, SCOPES, FakeMeta, days, exchanged, inspection
from graph_errors import AppRejected, RateLimited, ReconnectRequired, Throttled, Unavailable, UnexpectedAnswer
from layouts import FERNET
from meta_client import Interrupted
from models import ERROR_LENGTH, Change, Channel, Status, fingerprint
from redact import Secret
from renewal import (
    Bad,
    Claimed,
    Endless,
    Extended,
    Failed,
    Good,
    Policy,
    Proof,
    Reason,
    Renewed,
    Renewer,
    Skipped,
    Why,
    decide,
    end_of,
    error_text,
    is_due,
    is_waiting,
    issued,
    lacks,
    prove,
    settle,
)

POLICY = Policy(days(45), days(15), days(60), SCOPES)
FORCED = replace(POLICY, force=True)
KEYS = KeyRing.parse("00" * 32)
TOKEN = Secret("old-token")


def channel(**fields):
    fields = {"expires_at": NOW + days(40), "refreshed_at": NOW - days(20), "status": "ok"} | fields
    return Channel(**{"id": 1, "name": "Bakery North", "ciphertext": "cipher"} | fields)


MARK = fingerprint("cipher")
WAITING = {"status": "warning", "error": "reconnect_required: x", "fingerprint": MARK, "expires_at": NOW}


# -- due and waiting


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, None),
        ({"expires_at": NOW + days(15)}, None),
        ({"expires_at": NOW + days(14.999)}, Why.ENDS_SOON),
        ({"expires_at": NOW}, Why.EXPIRED),
        ({"refreshed_at": NOW - days(45)}, None),
        ({"refreshed_at": NOW - days(45.001)}, Why.OLD),
        ({"refreshed_at": None}, None),
        ({"expires_at": None}, Why.UNKNOWN_EXPIRY),
        ({"expires_at": None, "status": None}, Why.UNKNOWN_EXPIRY),
        ({"expires_at": None, "status": "never_expires"}, None),
        ({"expires_at": None, "status": "never_expires", "refreshed_at": NOW - days(46)}, Why.OLD),
        ({"fingerprint": MARK}, None),
        ({"fingerprint": "another"}, Why.REPLACED),
        ({"fingerprint": "another", "expires_at": None, "status": "never_expires"}, Why.REPLACED),
        ({"status": "warning", "error": "reconnect_required: x"}, Why.FAILED_BEFORE),
        ({"status": "warning", "error": "unavailable: x"}, Why.FAILED_BEFORE),
        ({"status": "warning", "error": "unexpected_answer: x"}, Why.FAILED_BEFORE),
        ({"status": "warning", "error": "missing_permission: x"}, None),
        ({"status": "warning", "error": None}, None),
        (WAITING, None),
        (WAITING | {"fingerprint": "another"}, Why.REPLACED),
        (WAITING | {"fingerprint": None}, Why.EXPIRED),
    ],
)
def test_a_channel_is_due_for_the_first_reason_that_holds(fields, why):
    assert is_due(channel(**fields), POLICY.look(NOW)) == why


@pytest.mark.parametrize("policy", [FORCED, replace(POLICY, audit=True)])
@pytest.mark.parametrize("fields", [{}, WAITING])
def test_force_and_audit_call_every_channel_due(policy, fields):
    assert is_due(channel(**fields), policy.look(NOW)) is Why.ASKED_FOR


@pytest.mark.parametrize(
    ("changed", "waiting"),
    [
        ({}, True),
        ({"status": "ok"}, False),
        ({"error": "unavailable: x"}, False),
        ({"error": None}, False),
        ({"fingerprint": None}, False),
        ({"fingerprint": "another"}, False),
        ({"expires_at": None}, False),
        ({"expires_at": NOW + days(0.001)}, False),
    ],
)
def test_a_channel_waits_only_if_its_dead_token_is_unchanged_and_past_its_end(changed, waiting):
    assert is_waiting(channel(**WAITING | changed), NOW) is waiting


# -- what an inspection says


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        ({"lives": 10}, 10),
        ({"lives": 10, "data_access_expires_at": NOW + days(5)}, 5),
        ({"lives": 10, "data_access_expires_at": NOW + days(50)}, 10),
        ({"lives": None, "data_access_expires_at": NOW + days(5)}, 5),
        ({"lives": None}, None),
    ],
)
def test_the_end_is_the_earlier_of_expiry_and_data_access(fields, end):
    assert end_of(inspection(**fields)) == (None if end is None else NOW + days(end))


@pytest.mark.parametrize(
    ("fields", "at"),
    [({"age": 3}, -3), ({"age": None, "lives": 10}, -50), ({"age": None, "lives": None}, None)],
)
def test_the_age_counts_from_the_issue_or_from_the_expiry(fields, at):
    assert issued(inspection(**fields), days(60)) == (None if at is None else NOW + days(at))


@pytest.mark.parametrize(
    ("fields", "lacking"),
    [
        ({}, None),
        ({"scopes": None}, None),
        ({"scopes": SCOPES | {"more"}}, None),
        (
            {"scopes": frozenset({"whatsapp_business_messaging"})},
            "the permission whatsapp_business_management is missing",
        ),
        (
            {"scopes": frozenset()},
            "the permission whatsapp_business_management and whatsapp_business_messaging is missing",
        ),
        ({"data_access_expires_at": NOW + days(15)}, None),
        (
            {"data_access_expires_at": NOW + days(14)},
            "its data access ends on 2026-06-15, which a renewal does not move",
        ),
    ],
)
def test_what_a_token_lacks_is_said_in_words(fields, lacking):
    assert lacks(inspection(**fields), NOW, POLICY) == lacking


LACKING = {"scopes": frozenset({"whatsapp_business_management"})}
LACKS_IT = "the permission whatsapp_business_messaging is missing"


@pytest.mark.parametrize(
    ("fields", "policy", "verdict"),
    [
        ({"age": 50, "lives": 10}, POLICY, None),
        ({"age": 45, "lives": 15}, POLICY, Good(NOW + days(15), NOW - days(45))),
        ({"age": 45, "lives": 14.9}, POLICY, None),
        ({"age": 45.1, "lives": 15}, POLICY, None),
        ({"age": 5, "lives": 55}, POLICY, Good(NOW + days(55), NOW - days(5))),
        ({"age": 5, "lives": 55}, FORCED, None),
        ({"age": None, "lives": None}, POLICY, None),
        ({"age": None, "lives": 55}, POLICY, Good(NOW + days(55), NOW - days(5))),
        ({"never_expires": True, "lives": None}, POLICY, Endless()),
        ({"never_expires": True, "lives": None}, FORCED, Endless()),
        (
            {"never_expires": True, "lives": None, "data_access_expires_at": NOW + days(50), "age": 90},
            FORCED,
            Good(NOW + days(50), NOW - days(90)),
        ),
        (
            {"never_expires": True, "lives": None, **LACKING},
            POLICY,
            Bad(Reason.MISSING_PERMISSION, LACKS_IT, None, NOW - days(50)),
        ),
        (
            {"age": 5, "lives": 55, **LACKING},
            POLICY,
            Bad(Reason.MISSING_PERMISSION, LACKS_IT, NOW + days(55), NOW - days(5)),
        ),
        ({"age": 50, "lives": 10, **LACKING}, POLICY, None),
        ({"age": 5, "lives": 55, **LACKING}, FORCED, None),
    ],
)
def test_an_inspection_decides_whether_there_is_an_exchange(fields, policy, verdict):
    assert decide(inspection(**fields), NOW, policy) == verdict


# -- what an exchange proves


def proof(*, old=None, new=None, token="new-token", expires_in=None):
    return Proof(
        TOKEN, inspection(**(old or {})), exchanged(token, expires_in), inspection(**(new or {})), NOW
    )


NEW = {"age": 0, "lives": 60}


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (proof(new=NEW), Extended(Secret("new-token"), NOW + days(60))),
        (proof(new={"lives": 10.001}), Extended(Secret("new-token"), NOW + days(10.001))),
        (proof(new={"lives": None, "never_expires": True}), Extended(Secret("new-token"), None)),
        (
            proof(new={"lives": None, "never_expires": True, "data_access_expires_at": NOW + days(80)}),
            Extended(Secret("new-token"), NOW + days(80)),
        ),
        (
            proof(new=NEW | {"data_access_expires_at": NOW + days(30)}),
            Extended(Secret("new-token"), NOW + days(30)),
        ),
        (
            proof(old=LACKING, new=NEW | LACKING),
            Extended(Secret("new-token"), NOW + days(60), LACKS_IT),
        ),
        (proof(new={"lives": None}, expires_in=days(50)), Extended(Secret("new-token"), NOW + days(50))),
        (proof(new={"lives": None}), Extended(Secret("new-token"), NOW + days(60))),
        (proof(old={"lives": None}, new=NEW), Extended(Secret("new-token"), NOW + days(60))),
        (proof(old={"lives": None}, new={"lives": None}), Extended(Secret("new-token"), NOW + days(60))),
        (proof(new=NEW, token="old-token"), Extended(TOKEN, NOW + days(60))),
        (proof(old={"user_id": None}, new=NEW), Extended(Secret("new-token"), NOW + days(60))),
        (proof(old={"scopes": None}, new=NEW), Extended(Secret("new-token"), NOW + days(60))),
    ],
)
def test_a_new_token_that_lives_longer_is_taken(given, verdict):
    assert prove(given, POLICY) == verdict


NOT_LONGER = Bad(
    Reason.NOT_EXTENDED, "Meta answered, but the new token ends on 2026-06-11", NOW + days(10), NOW - days(50)
)


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (proof(new={"lives": 10}), NOT_LONGER),
        (proof(new={"lives": 3}), NOT_LONGER),
        (proof(new={"lives": None}, token="old-token"), NOT_LONGER),
        (proof(new={"lives": None}, expires_in=days(10.01)), NOT_LONGER),
        (
            proof(old={"lives": None, "age": None}, new={"lives": None}, token="old-token"),
            Bad(Reason.NOT_EXTENDED, "Meta answered, but the new token ends when the old one does"),
        ),
        (
            proof(old={"age": 20, "lives": 40}, new={"age": 20, "lives": 40}, token="old-token"),
            Good(NOW + days(40), NOW - days(20)),
        ),
        (
            proof(old={"age": 20, "lives": 40, **LACKING}, new={"lives": 40, **LACKING}),
            Bad(Reason.MISSING_PERMISSION, LACKS_IT, NOW + days(40), NOW - days(20)),
        ),
    ],
)
def test_a_new_token_that_does_not_live_longer_is_no_renewal(given, verdict):
    assert prove(given, POLICY) == verdict


@pytest.mark.parametrize(
    ("new", "detail"),
    [
        ({"user_id": "8"}, "the new token belongs to another user"),
        ({"user_id": None}, "the new token belongs to another user"),
        (
            {"scopes": frozenset({"whatsapp_business_messaging"})},
            "the new token lost whatsapp_business_management",
        ),
        (
            {"scopes": None},
            "the new token lost whatsapp_business_management, whatsapp_business_messaging",
        ),
    ],
)
def test_a_new_token_of_somebody_else_or_with_fewer_rights_is_not_taken(new, detail):
    expected = Bad(Reason.UNEXPECTED_ANSWER, detail, NOW + days(10), NOW - days(50))
    assert prove(proof(new=NEW | new), POLICY) == expected


# -- the walk


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
    assert walk.renew() == Extended(Secret("new-token"), NOW + days(60))
    assert walk.meta.calls == [
        ("inspect", "old-token"),
        ("exchange", "old-token", "SYSTEM_USER"),
        ("inspect", "new-token"),
    ]


def test_a_walk_ends_with_the_inspection_where_that_settles_it():
    walk = Walk()
    walk.meta.inspections["old-token"] = [inspection(age=5, lives=55)]
    assert (walk.renew(), len(walk.meta.calls)) == (Good(NOW + days(55), NOW - days(5)), 1)


ERRORS = [
    (ReconnectRequired("gone"), Reason.RECONNECT_REQUIRED),
    (Unavailable("down"), Reason.UNAVAILABLE),
    (Throttled("slow"), Reason.UNAVAILABLE),
    (UnexpectedAnswer("odd"), Reason.UNEXPECTED_ANSWER),
]


@pytest.mark.parametrize(("error", "reason"), ERRORS)
def test_an_error_of_the_inspection_is_the_channels_own(error, reason):
    walk = Walk()
    walk.meta.inspections["old-token"] = [error]
    assert walk.renew() == Bad(reason, str(error))


def test_meta_may_know_when_a_dead_token_ended():
    walk = Walk()
    walk.meta.inspections["old-token"] = [ReconnectRequired("gone", expires_at=NOW - days(1))]
    assert walk.renew() == Bad(Reason.RECONNECT_REQUIRED, "gone", NOW - days(1))


@pytest.mark.parametrize(("error", "reason"), ERRORS)
def test_an_error_of_the_exchange_keeps_what_the_inspection_has_shown(error, reason):
    walk = Walk()
    walk.meta.exchanges["old-token"] = [error]
    assert walk.renew() == Bad(reason, str(error), NOW + days(10), NOW - days(50))


@pytest.mark.parametrize("error", [AppRejected("app"), RateLimited("slow"), Interrupted()])
@pytest.mark.parametrize("step", ["inspect", "exchange", "prove"])
def test_an_error_that_is_not_about_the_token_goes_up(error, step):
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
    assert walk.renew() == Extended(Secret("new-token"), NOW + days(60))
    assert walk.slept == [0, 3.0]


def test_a_new_token_called_invalid_twice_is_dropped():
    walk = Walk()
    walk.meta.inspections["new-token"] = [ReconnectRequired("not good")]
    assert walk.renew() == Bad(
        Reason.UNEXPECTED_ANSWER,
        "Meta gave a new token and does not call it good: not good",
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


# -- what is written


def settled(verdict, **fields):
    return settle(verdict, Claimed(channel(**fields), FERNET), KEYS, NOW)


def written(change: Change):
    """A change's columns, and the words of its audit entries."""
    return (
        change.status,
        change.expires_at,
        change.refreshed_at,
        change.error,
        [(entry.event, entry.reason) for entry in change.audit],
    )


def test_a_renewal_is_written_encrypted_with_new_clocks():
    one = settled(Extended(TOKEN, NOW + days(60)), expires_at=NOW + days(9))
    assert written(one.change) == (Status.OK, NOW + days(60), NOW, None, [("refreshed", None)])
    assert KEYS.open(one.change.ciphertext).token == TOKEN
    assert one.change.clear_alert
    assert one.outcome == Renewed(
        id=1, name="Bakery North", expires_at=NOW + days(60), expires_at_before=NOW + days(9)
    )


def test_a_renewal_that_never_ends_is_written_as_such():
    assert written(settled(Extended(TOKEN, None)).change)[:2] == (Status.NEVER_EXPIRES, None)


def test_a_renewal_of_a_channel_that_people_were_told_of_is_a_recovery():
    fields = {"status": "warning", "error": "unavailable: x"}
    one = settled(Extended(TOKEN, NOW + days(60)), alerted_at=NOW, **fields)
    assert written(one.change)[4] == [("refreshed", None), ("recovered", "unavailable")]
    assert (one.outcome.recovered, settled(Good(NOW, None), **fields).outcome.recovered) == (True, False)


def test_a_renewal_that_lacks_something_is_written_and_marked():
    one = settled(Extended(TOKEN, NOW + days(60), "it lacks x"))
    assert written(one.change) == (
        Status.WARNING,
        NOW + days(60),
        NOW,
        "missing_permission: it lacks x",
        [("refreshed", None), ("failed", "missing_permission")],
    )
    assert isinstance(one.outcome, Failed)
    assert KEYS.open(one.change.ciphertext).token == TOKEN


def test_a_token_that_cannot_be_sealed_changes_nothing(monkeypatch):
    def broken(*_):
        raise SealBroken("no")

    monkeypatch.setattr(KeyRing, "seal", broken)
    one = settled(Extended(TOKEN, NOW + days(60)))
    assert (one.change, one.outcome.reason) == (None, Reason.WRITE_FAILED)


def test_a_channel_that_was_not_decrypted_cannot_get_a_new_token():
    with pytest.raises(ValueError, match="not decrypted"):
        settle(Extended(TOKEN, None), Claimed(channel()), KEYS, NOW)


def test_right_clocks_are_confirmed_without_an_audit_row():
    one = settled(Good(NOW + days(40), NOW - days(20)))
    assert written(one.change) == (Status.OK, NOW + days(40), NOW - days(20), None, [])
    assert one.outcome == Skipped(
        id=1,
        name="Bakery North",
        expires_at=NOW + days(40),
        expires_at_before=NOW + days(40),
        reason=Reason.CLOCK_CORRECTED,
        detail="the token is good until 2026-07-11",
    )


def test_wrong_clocks_are_corrected_with_an_audit_row():
    one = settled(Good(NOW + days(30), None))
    assert written(one.change)[1:] == (
        NOW + days(30),
        NOW - days(20),
        None,
        [("clock_corrected", "clock_corrected")],
    )


@pytest.mark.parametrize("verdict", [Good(NOW + days(30), None), Bad(Reason.UNAVAILABLE, "x")])
def test_clocks_of_a_token_that_was_replaced_are_not_kept(verdict):
    one = settled(verdict, fingerprint="another")
    assert one.change.refreshed_at is None


def test_good_for_an_unknown_time_is_said_so():
    assert settled(Good(None, None)).outcome.detail == "the token is good for an unknown time"


def test_a_token_without_end_is_looked_at_again_after_its_age():
    one = settled(Endless())
    assert written(one.change) == (Status.NEVER_EXPIRES, None, NOW, None, [("never_expires", None)])
    assert one.outcome.reason is Reason.NEVER_EXPIRES


@pytest.mark.parametrize(
    ("verdict", "fields", "end"),
    [
        (Bad(Reason.RECONNECT_REQUIRED, "x", NOW - days(2)), {}, NOW - days(2)),
        (Bad(Reason.RECONNECT_REQUIRED, "x"), {}, NOW + days(40)),
        (Bad(Reason.RECONNECT_REQUIRED, "x"), {"expires_at": None}, NOW),
        (Bad(Reason.RECONNECT_REQUIRED, "x"), {"fingerprint": "another"}, NOW),
        (Bad(Reason.UNAVAILABLE, "x"), {"expires_at": None}, None),
        (Bad(Reason.UNAVAILABLE, "x"), {"fingerprint": "another"}, None),
    ],
)
def test_a_failure_keeps_the_best_known_end(verdict, fields, end):
    one = settled(verdict, **fields)
    assert (one.change.expires_at, one.outcome.expires_at) == (end, end)


def test_a_failure_is_marked_and_audited_and_leaves_the_ciphertext():
    one = settled(Bad(Reason.NOT_EXTENDED, "it is not longer", NOW + days(3), NOW - days(57)))
    assert written(one.change) == (
        Status.WARNING,
        NOW + days(3),
        NOW - days(57),
        "not_extended: it is not longer",
        [("failed", "not_extended")],
    )
    assert (one.change.ciphertext, one.outcome.reason) == ("cipher", Reason.NOT_EXTENDED)


@pytest.mark.parametrize(
    ("before", "reason", "is_news"),
    [
        (None, Reason.RECONNECT_REQUIRED, True),
        ("unavailable: x", Reason.RECONNECT_REQUIRED, True),
        ("reconnect_required: x", Reason.RECONNECT_REQUIRED, False),
        ("reconnect_required: x", Reason.UNAVAILABLE, False),
        ("reconnect_required: x", Reason.MISSING_PERMISSION, True),
    ],
)
def test_people_are_told_again_when_the_reason_changes_to_one_that_needs_them(before, reason, is_news):
    one = settled(Bad(reason, "x"), status="warning", error=before)
    assert one.change.clear_alert is is_news


def test_a_verdict_of_no_known_kind_is_a_mistake_that_shows():
    with pytest.raises(AssertionError):
        settled(None)


def test_an_error_text_keeps_within_its_column():
    text = error_text(Reason.UNAVAILABLE, "x" * 1000)
    assert (len(text), text[:13], text[-1]) == (ERROR_LENGTH, "unavailable: ", "…")
