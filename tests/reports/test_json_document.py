"""The elements and counts of the JSON document."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

import pytest
from test_text import ENDLESS, FAILED, RENEWED, UNKNOWN, WAITING

from whatsapp_tokens.reports.json_document import counts, entry
from whatsapp_tokens.results import (
    Renewed,
    Tally,
)


@pytest.mark.parametrize(
    ("outcome", "fields"),
    [
        (
            RENEWED,
            {
                "id": 12,
                "name": "Bakery North",
                "outcome": "renewed",
                "reason": None,
                "detail": None,
                "expires_at": "2027-01-30T08:00:00Z",
                "expires_at_before": "2026-12-10T20:30:15Z",
                "is_news": False,
            },
        ),
        (
            ENDLESS,
            {
                "id": 12,
                "name": "Bakery North",
                "outcome": "renewed",
                "reason": None,
                "detail": None,
                "expires_at": None,
                "expires_at_before": "2026-12-10T20:30:15Z",
                "is_news": False,
            },
        ),
        (
            FAILED,
            {
                "id": 13,
                "name": "Corner Shop",
                "outcome": "failed",
                "reason": "reconnect_required",
                "detail": "the session was invalidated",
                "expires_at": "2026-11-28T07:00:00Z",
                "expires_at_before": "2026-11-28T07:00:00Z",
                "is_news": True,
            },
        ),
        (
            WAITING,
            {
                "id": "cl9/x",
                "name": "Garage",
                "outcome": "skipped",
                "reason": "waiting_for_reconnect",
                "detail": "the session was invalidated",
                "expires_at": "2026-11-28T07:00:00Z",
                "expires_at_before": "2026-11-28T07:00:00Z",
                "is_news": False,
            },
        ),
        (
            UNKNOWN,
            {
                "id": 16,
                "name": "Butcher",
                "outcome": "due",
                "reason": None,
                "detail": "its expiry is not known yet",
                "expires_at": None,
                "expires_at_before": None,
                "is_news": False,
            },
        ),
    ],
)
def test_an_outcome_is_one_element_of_the_json_document(outcome, fields):
    assert json.loads(json.dumps(entry(outcome))) == fields


@pytest.mark.parametrize("id_", [7, 2**53, -(2**53), "7", "cl9x", str(UUID(int=7))])
def test_an_id_is_in_the_json_document_as_it_is_in_the_table(id_):
    assert json.loads(json.dumps(entry(Renewed(id=id_, name="x"))))["id"] == id_


@pytest.mark.parametrize("id_", [2**53 + 1, 2**62, -(2**53) - 1])
def test_an_id_that_javascript_would_round_is_a_text(id_):
    assert entry(Renewed(id=id_, name="x"))["id"] == str(id_)


def test_a_failure_that_people_know_of_is_no_news():
    assert entry(replace(FAILED, is_news=False))["is_news"] is False


def test_the_counts_are_those_of_the_contract():
    tally = Tally(candidates=9, due=8, renewed=1, failed=2, known=1, skipped=3, waiting=4, left=5)
    assert counts(tally) == {
        "candidates": 9,
        "due": 8,
        "renewed": 1,
        "failed": 2,
        "known": 1,
        "skipped": 3,
        "waiting": 4,
        "left": 5,
    }
