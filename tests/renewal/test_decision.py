"""One token's way, decided with values."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import NOW, SCOPES, days, exchanged, inspection

from crypto import KeyRing
from whatsapp_tokens.policy import Policy
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.renewal.decision import (
    NeverExpires,
    NewToken,
    Proof,
    StillValid,
    Unusable,
    decide,
    expiry_of,
    issued,
    lacks,
    validate_exchange,
)
from whatsapp_tokens.results import Reason

POLICY = Policy(days(45), days(15), days(60), SCOPES)
FORCED = replace(POLICY, force=True)
KEYS = KeyRing.parse("00" * 32)
TOKEN = Secret("old-token")


# -- what an inspection says


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"lives": 10}, 10),
        ({"lives": 10, "data_access_expires_at": NOW + days(5)}, 5),
        ({"lives": 10, "data_access_expires_at": NOW + days(50)}, 10),
        ({"lives": None, "data_access_expires_at": NOW + days(5)}, 5),
        ({"lives": None}, None),
    ],
)
def test_the_expiry_is_the_earlier_of_expiry_and_data_access(fields, expected):
    assert expiry_of(inspection(**fields)) == (None if expected is None else NOW + days(expected))


@pytest.mark.parametrize(
    ("fields", "at"),
    [({"age": 3}, -3), ({"age": None, "lives": 10}, -50), ({"age": None, "lives": None}, None)],
)
def test_the_age_counts_from_the_issue_or_from_the_expiry(fields, at):
    assert issued(inspection(**fields), days(60)) == (None if at is None else NOW + days(at))


@pytest.mark.parametrize(
    ("fields", "lacking"),
    [
        ({}, ""),
        ({"scopes": None}, ""),
        ({"scopes": SCOPES | {"more"}}, ""),
        (
            {"scopes": frozenset({"whatsapp_business_messaging"})},
            "missing permission: whatsapp_business_management",
        ),
        (
            {"scopes": frozenset()},
            "missing permission: whatsapp_business_management, whatsapp_business_messaging",
        ),
        ({"data_access_expires_at": NOW + days(15)}, ""),
        (
            {"data_access_expires_at": NOW + days(14)},
            "data access expires: 2026-06-15",
        ),
    ],
)
def test_what_a_token_lacks_is_said_in_words(fields, lacking):
    assert lacks(inspection(**fields), NOW, POLICY) == lacking


LACKING = {"scopes": frozenset({"whatsapp_business_management"})}
LACKS_IT = "missing permission: whatsapp_business_messaging"


@pytest.mark.parametrize(
    ("fields", "policy", "verdict"),
    [
        ({"age": 50, "lives": 10}, POLICY, None),
        ({"age": 45, "lives": 15}, POLICY, StillValid(NOW + days(15), NOW - days(45))),
        ({"age": 45, "lives": 14.9}, POLICY, None),
        ({"age": 45.1, "lives": 15}, POLICY, None),
        ({"age": 5, "lives": 55}, POLICY, StillValid(NOW + days(55), NOW - days(5))),
        ({"age": 5, "lives": 55}, FORCED, None),
        ({"age": None, "lives": None}, POLICY, None),
        ({"age": None, "lives": 55}, POLICY, StillValid(NOW + days(55), NOW - days(5))),
        ({"never_expires": True, "lives": None}, POLICY, NeverExpires()),
        ({"never_expires": True, "lives": None}, FORCED, NeverExpires()),
        (
            {"never_expires": True, "lives": None, "data_access_expires_at": NOW + days(50), "age": 90},
            FORCED,
            StillValid(NOW + days(50), NOW - days(90)),
        ),
        (
            {"never_expires": True, "lives": None, **LACKING},
            POLICY,
            Unusable(Reason.MISSING_PERMISSION, LACKS_IT, None, NOW - days(50)),
        ),
        (
            {"age": 5, "lives": 55, **LACKING},
            POLICY,
            Unusable(Reason.MISSING_PERMISSION, LACKS_IT, NOW + days(55), NOW - days(5)),
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
        (proof(new=NEW), NewToken(Secret("new-token"), NOW + days(60))),
        (proof(new={"lives": 10.001}), NewToken(Secret("new-token"), NOW + days(10.001))),
        (proof(new={"lives": None, "never_expires": True}), NewToken(Secret("new-token"), None)),
        (
            proof(new={"lives": None, "never_expires": True, "data_access_expires_at": NOW + days(80)}),
            NewToken(Secret("new-token"), NOW + days(80)),
        ),
        (
            proof(new=NEW | {"data_access_expires_at": NOW + days(30)}),
            NewToken(Secret("new-token"), NOW + days(30)),
        ),
        (
            proof(old=LACKING, new=NEW | LACKING),
            NewToken(Secret("new-token"), NOW + days(60), LACKS_IT),
        ),
        (proof(new={"lives": None}, expires_in=days(50)), NewToken(Secret("new-token"), NOW + days(50))),
        (proof(new={"lives": None}), NewToken(Secret("new-token"), NOW + days(60))),
        (
            proof(old={"scopes": None}, new=NEW | {"scopes": None}),
            NewToken(Secret("new-token"), NOW + days(60)),
        ),
        (proof(new=NEW | {"scopes": SCOPES | {"more"}}), NewToken(Secret("new-token"), NOW + days(60))),
        (
            proof(old={"scopes": SCOPES | {"more"}}, new=NEW),
            NewToken(Secret("new-token"), NOW + days(60)),
        ),
        (proof(new=NEW | LACKING), NewToken(Secret("new-token"), NOW + days(60), LACKS_IT)),
        (
            proof(new=NEW | {"scopes": None}),
            NewToken(
                Secret("new-token"),
                NOW + days(60),
                "missing permission: whatsapp_business_management, whatsapp_business_messaging",
            ),
        ),
        (proof(old={"app_id": None}, new=NEW), NewToken(Secret("new-token"), NOW + days(60))),
        (proof(new=NEW, token="old-token"), NewToken(TOKEN, NOW + days(60))),
        (proof(old={"user_id": None}, new=NEW), NewToken(Secret("new-token"), NOW + days(60))),
        (proof(old={"scopes": None}, new=NEW), NewToken(Secret("new-token"), NOW + days(60))),
    ],
)
def test_a_new_token_that_lives_longer_is_taken(given, verdict):
    assert validate_exchange(given, POLICY) == verdict


@pytest.mark.parametrize(
    ("lives", "expires_in"), [(60, None), (15.001, None), (None, None), (None, days(16))]
)
def test_where_the_old_expiry_is_not_known_the_new_token_must_outlive_the_window_and_the_row(
    lives, expires_in
):
    verdict = validate_exchange(
        proof(old={"lives": None}, new={"lives": lives}, expires_in=expires_in), POLICY
    )
    expires_at = NOW + (days(lives) if lives else expires_in or days(60))
    assert verdict == NewToken(Secret("new-token"), expires_at, is_longer=False)


NOT_LONGER = Unusable(
    Reason.NOT_EXTENDED,
    "the new token does not live longer; expires: 2026-06-11",
    NOW + days(10),
    NOW - days(50),
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
            Unusable(Reason.NOT_EXTENDED, "the new token does not live longer"),
        ),
        (
            proof(old={"lives": None, "age": None}, new={"lives": 15}),
            Unusable(Reason.NOT_EXTENDED, "the new token does not live longer; expires: 2026-06-16"),
        ),
        (
            proof(old={"lives": None, "age": None}, new={"lives": -1 / 24}),
            Unusable(Reason.NOT_EXTENDED, "the new token does not live longer; expires: 2026-06-01"),
        ),
        (
            proof(old={"lives": None, "age": None}, new={"lives": None}, expires_in=days(1)),
            Unusable(Reason.NOT_EXTENDED, "the new token does not live longer; expires: 2026-06-02"),
        ),
        (
            proof(old={"age": 20, "lives": 40}, new={"age": 20, "lives": 40}, token="old-token"),
            StillValid(NOW + days(40), NOW - days(20)),
        ),
        (
            proof(old={"age": 20, "lives": 40, **LACKING}, new={"lives": 40, **LACKING}),
            Unusable(Reason.MISSING_PERMISSION, LACKS_IT, NOW + days(40), NOW - days(20)),
        ),
    ],
)
def test_a_new_token_that_does_not_live_longer_is_no_renewal(given, verdict):
    assert validate_exchange(given, POLICY) == verdict


@pytest.mark.parametrize(
    ("new", "detail"),
    [
        ({"user_id": "8"}, "the new token belongs to another user"),
        ({"user_id": None}, "the new token belongs to another user"),
        ({"app_id": None}, "Meta does not say of which app the new token is"),
    ],
)
def test_a_new_token_of_somebody_else_is_not_taken(new, detail):
    expected = Unusable(Reason.UNEXPECTED_ANSWER, detail, NOW + days(10), NOW - days(50))
    assert validate_exchange(proof(new=NEW | new), POLICY) == expected
