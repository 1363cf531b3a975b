"""Which channels are due, which wait, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes import NOW, SCOPES, channel, days

from models import fingerprint
from whatsapp_tokens.policy import Policy, is_due, is_waiting
from whatsapp_tokens.results import DueReason

POLICY = Policy(days(45), days(15), days(60), SCOPES)
FORCED = replace(POLICY, force=True)
MARK = fingerprint("cipher")
WAITING = {"status": "warning", "error": "reconnect_required: x", "fingerprint": MARK, "expires_at": NOW}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, None),
        ({"expires_at": NOW + days(15)}, None),
        ({"expires_at": NOW + days(14.999)}, DueReason.ENDS_SOON),
        ({"expires_at": NOW}, DueReason.EXPIRED),
        ({"refreshed_at": NOW - days(45)}, None),
        ({"refreshed_at": NOW - days(45.001)}, DueReason.OLD),
        ({"refreshed_at": None}, None),
        ({"expires_at": None}, DueReason.UNKNOWN_EXPIRY),
        ({"expires_at": None, "status": None}, DueReason.UNKNOWN_EXPIRY),
        ({"expires_at": None, "status": "never_expires"}, None),
        ({"expires_at": None, "status": "never_expires", "refreshed_at": NOW - days(46)}, DueReason.OLD),
        ({"fingerprint": MARK}, None),
        ({"fingerprint": "another"}, DueReason.REPLACED),
        ({"fingerprint": "another", "expires_at": None, "status": "never_expires"}, DueReason.REPLACED),
        ({"status": "warning", "error": "reconnect_required: x"}, DueReason.FAILED_BEFORE),
        ({"status": "warning", "error": "unavailable: x"}, DueReason.FAILED_BEFORE),
        ({"status": "warning", "error": "unexpected_answer: x"}, DueReason.FAILED_BEFORE),
        ({"status": "warning", "error": "missing_permission: x"}, None),
        ({"status": "warning", "error": None}, None),
        (WAITING, None),
        (WAITING | {"fingerprint": "another"}, DueReason.REPLACED),
        (WAITING | {"fingerprint": None}, DueReason.EXPIRED),
    ],
)
def test_a_channel_is_due_for_the_first_reason_that_holds(fields, why):
    assert is_due(channel(**fields), POLICY.select(NOW)) == why


@pytest.mark.parametrize("policy", [FORCED, replace(POLICY, audit=True)])
@pytest.mark.parametrize("fields", [{}, WAITING])
def test_force_and_audit_call_every_channel_due(policy, fields):
    assert is_due(channel(**fields), policy.select(NOW)) is DueReason.ASKED_FOR


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
