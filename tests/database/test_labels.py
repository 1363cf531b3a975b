"""Why a channel is due, whether it waits, and in which state it is: labels that come back with its row."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import pytest
from fakes import NOW, SCOPES, days
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import Status, fingerprint
from whatsapp_tokens.database.queries import Counts
from whatsapp_tokens.policy import STEPS, Policy, is_rejected
from whatsapp_tokens.reports.status_lines import Group, View, lines_of
from whatsapp_tokens.reports.status_page import group_counts, sections
from whatsapp_tokens.results import DueReason, Reason, State

POLICY = Policy(days(45), days(15), days(60), SCOPES)
FORCED = replace(POLICY, force=True)
MARK = fingerprint("cipher")
WAITING = {
    "token_status": "warning",
    "token_error": "reconnect_required: x",
    "token_fingerprint": MARK,
    "token_expires_at": NOW,
}


@pytest.fixture
def insert(rows):
    """Inserts a healthy channel, unless told otherwise."""
    healthy = {
        "wa_token_encrypted": "cipher",
        "token_expires_at": NOW + days(40),
        "last_token_refresh_at": NOW - days(20),
        "token_status": "ok",
    }
    return lambda **columns: rows.insert(**healthy | columns)


def due_reasons(database, policy=POLICY):
    return [channel.due_reason for channel in database.queries.due(policy.select(NOW))]


def states(database):
    soon = NOW + days(15)
    listed = [
        *database.queries.needing_attention(NOW, soon),
        *database.queries.not_needing_attention(NOW, soon, 10_000),
    ]
    return {channel.id: channel.state for channel in listed}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, None),
        ({"token_expires_at": NOW + days(15)}, None),
        ({"token_expires_at": NOW + days(14.999)}, DueReason.EXPIRES_SOON),
        ({"token_expires_at": NOW}, DueReason.EXPIRED),
        ({"last_token_refresh_at": NOW - days(45)}, None),
        ({"last_token_refresh_at": NOW - days(45.001)}, DueReason.OLD),
        ({"last_token_refresh_at": None}, None),
        ({"token_expires_at": None}, DueReason.UNKNOWN_EXPIRY),
        ({"token_expires_at": None, "token_status": None}, DueReason.UNKNOWN_EXPIRY),
        ({"token_expires_at": None, "token_status": "never_expires"}, None),
        (
            {
                "token_expires_at": None,
                "token_status": "never_expires",
                "last_token_refresh_at": NOW - days(46),
            },
            DueReason.OLD,
        ),
        ({"token_fingerprint": MARK}, None),
        ({"token_fingerprint": "another"}, DueReason.REPLACED),
        (
            {"token_fingerprint": "another", "token_expires_at": None, "token_status": "never_expires"},
            DueReason.REPLACED,
        ),
        ({"token_status": "warning", "token_error": "reconnect_required: x"}, DueReason.FAILED_BEFORE),
        ({"token_status": "warning", "token_error": "unavailable: x"}, DueReason.FAILED_BEFORE),
        ({"token_status": "warning", "token_error": "unexpected_answer: x"}, DueReason.FAILED_BEFORE),
        ({"token_status": "warning", "token_error": "missing_permission: x"}, None),
        ({"token_status": "warning", "token_error": None}, None),
        (WAITING, None),
        (WAITING | {"token_fingerprint": "another"}, DueReason.REPLACED),
        (WAITING | {"token_fingerprint": None}, DueReason.EXPIRED),
    ],
)
def test_a_channel_is_due_for_the_first_reason_that_holds(insert, database, fields, why):
    insert(**fields)
    assert due_reasons(database) == ([] if why is None else [why])


@pytest.mark.parametrize("policy", [FORCED, replace(POLICY, audit=True)])
@pytest.mark.parametrize("fields", [{}, WAITING])
def test_force_and_audit_call_every_channel_due(insert, database, policy, fields):
    insert(**fields)
    assert due_reasons(database, policy) == [DueReason.ASKED_FOR]


@pytest.mark.parametrize(
    ("changed", "waiting"),
    [
        ({}, True),
        ({"token_status": "ok"}, False),
        ({"token_error": "unavailable: x"}, False),
        ({"token_error": None}, False),
        ({"token_fingerprint": None}, False),
        ({"token_fingerprint": "another"}, False),
        ({"token_expires_at": None}, False),
        ({"token_expires_at": NOW + days(0.001)}, False),
    ],
)
def test_a_channel_waits_only_if_its_dead_token_is_unchanged_and_past_its_expiry(
    insert, database, changed, waiting
):
    insert(**WAITING | changed)
    assert len(list(database.queries.waiting(POLICY.select(NOW)))) == waiting


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        (State.UNKNOWN, {}),
        (State.OK, {"token_status": "ok", "token_expires_at": NOW + days(15)}),
        (State.ENDING, {"token_status": "ok", "token_expires_at": NOW + days(14.9)}),
        (State.ENDED, {"token_status": "ok", "token_expires_at": NOW - days(1)}),
        (State.ENDED, {"token_expires_at": NOW}),
        (
            State.WARNING,
            {"token_status": "warning", "token_error": "unavailable: x", "token_expires_at": NOW - days(1)},
        ),
        (
            State.UNKNOWN,
            {"token_status": "ok", "token_expires_at": NOW - days(1), "token_fingerprint": "of another"},
        ),
        (State.NEVER_EXPIRES, {"token_status": "never_expires"}),
        (State.ENDED, {"token_status": "never_expires", "token_expires_at": NOW}),
        (
            State.WARNING,
            {"token_status": "warning", "token_error": "unavailable: x", "token_expires_at": NOW + days(3)},
        ),
        (
            State.UNKNOWN,
            {"token_status": "warning", "token_error": "unavailable: x", "token_fingerprint": "of another"},
        ),
        (
            State.DOWN,
            {
                "token_status": "warning",
                "token_error": "reconnect_required: x",
                "token_expires_at": NOW + days(3),
            },
        ),
        (State.DOWN, {"token_status": "warning", "token_error": "reconnect_required"}),
        (
            State.UNKNOWN,
            {"token_status": "warning", "token_error": "reconnect_required", "token_fingerprint": "other"},
        ),
        (
            State.WAITING,
            {
                "token_status": "warning",
                "token_error": "reconnect_required: x",
                "token_expires_at": NOW,
                "token_fingerprint": MARK,
            },
        ),
    ],
)
def test_a_channel_is_in_one_state(insert, database, state, fields):
    nothing = {"token_expires_at": None, "last_token_refresh_at": None, "token_status": None}
    id_ = insert(**nothing | fields)
    assert states(database) == {id_: state}
    assert database.queries.totals(NOW, NOW + days(15)).states == {state: 1}


ROWS = st.fixed_dictionaries(
    {
        "token_expires_at": st.sampled_from([None, *(NOW + days(n) for n in (-3, 0, 14.9, 15, 40))]),
        "last_token_refresh_at": st.sampled_from([None, *(NOW - days(n) for n in (46, 45, 1))]),
        "token_status": st.sampled_from([None, "", "odd", *Status]),
        "token_error": st.sampled_from([None, "", "x", *(f"{reason}: x" for reason in Reason)]),
        "token_fingerprint": st.sampled_from([None, MARK, "0" * 32]),
        "token_alerted_at": st.sampled_from([None, NOW - days(20), NOW - days(1)]),
    }
)


def may_be_reminded(channel):
    return channel.expires_at is None and channel.alerted_at is not None


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(columns=st.lists(ROWS, min_size=1, max_size=30))
def test_every_way_to_ask_agrees_on_what_is_due_and_waits(rows, insert, database, columns):
    rows.run('DELETE FROM "Channel"')
    ids = [insert(**each) for each in columns]
    selection = POLICY.select(NOW)
    due = list(database.queries.due(selection))
    due_ids = [channel.id for channel in due]
    waiting = [channel.id for channel in database.queries.waiting(selection)]
    assert set(due_ids) & set(waiting) == set()
    assert all(channel.due_reason for channel in due)
    known = [one for one in due if one.status == "warning" and one.alerted_at and not one.replaced]
    assert due[len(due) - len(known) :] == known
    untold = [one.id for one in database.queries.to_tell_of(NOW + max(STEPS))]
    untold += [one.id for one in database.queries.candidates() if is_rejected(one) and may_be_reminded(one)]
    counts = Counts(len(ids), len(due), len(waiting), len(known), len(set(untold)))
    assert database.queries.count(selection) == counts
    assert list(database.queries.due_ids(selection, counts)) == due_ids
    assert {channel.id for channel in database.queries.others(selection, 100)} == set(ids) - set(due_ids)
    found = states(database)
    assert sorted(found) == ids
    assert {id_ for id_, state in found.items() if state is State.WAITING} == set(waiting)
    assert {id_ for id_, state in found.items() if state is State.ENDED} <= set(due_ids)


def test_what_is_counted_by_state_is_what_is_said_of_each_channel(insert, database):
    ends = [None, NOW - days(3), NOW, NOW + days(14), NOW + days(15), NOW + days(40)]
    errors = [None, "reconnect_required: x", "unavailable: x"]
    statuses = [None, "ok", "warning", "never_expires", "other"]
    for end, error, status, mark in product(ends, errors, statuses, [None, MARK, "another"]):
        insert(token_expires_at=end, token_error=error, token_status=status, token_fingerprint=mark)
    found = list(states(database).values())
    counted = database.queries.totals(NOW, NOW + days(15)).states
    assert counted == {state: found.count(state) for state in State}


def test_the_channels_that_need_attention_come_first_and_none_comes_twice(insert, database):
    ends = [None, NOW - days(3), NOW, NOW + days(3)]
    ids = {
        insert(token_expires_at=end, token_status=status, token_fingerprint=mark): status
        for end, status, mark in product(ends, [None, "ok", "warning"], [None, MARK, "another"])
    }
    soon = NOW + days(15)
    first = [one.id for one in database.queries.needing_attention(NOW, soon)]
    others = [one.id for one in database.queries.not_needing_attention(NOW, soon, 100)]
    assert sorted(first + others) == sorted(ids)
    found = states(database)
    assert set(first) == {id_ for id_ in ids if ids[id_] == "warning" or found[id_].needs_attention}


def test_the_groups_of_the_page_are_counted_and_sorted_as_they_are_said_of_each_channel(insert, database):
    ends = [None, NOW - days(3), NOW, NOW + days(14.9), NOW + days(15), NOW + days(40)]
    errors = [None, "reconnect_required: x", "unavailable: x", "missing_permission: x", "missing_permission"]
    for end, error, status, mark in product(ends, errors, [None, *Status], [None, MARK, "another"]):
        insert(token_expires_at=end, token_error=error, token_status=status, token_fingerprint=mark)
    view = View(NOW, days(15), days(60), database.queries.totals(NOW, NOW + days(15)))
    listed = [
        *database.queries.needing_attention(NOW, NOW + days(15)),
        *database.queries.not_needing_attention(NOW, NOW + days(15), 10_000),
    ]
    lines = list(lines_of(listed, view))
    assert [title for title, _ in sections(lines)] == ["down", "warning", "lacking", "others"]
    groups = Counter(line.on_page.group for line in lines)
    others = sum(groups[group] for group in Group if group not in {"down", "warning", "lacking"})
    assert group_counts(view.totals) == {**groups, "others": others}
