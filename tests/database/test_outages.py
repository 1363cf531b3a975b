"""Since when channels are down, as the audit log tells."""

from __future__ import annotations

from datetime import UTC, datetime

from world import days

from models import Channel
from whatsapp_tokens.database.errors import StatementRefused

NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)


def since(database, *ids):
    return database.queries.down_since([Channel(id_, "x", "y") for id_ in ids])


def test_a_channel_is_down_since_the_first_failure_of_this_outage(rows, database):
    for ago in (30, 20):
        rows.audited(1, "failed", NOW - days(ago), "reconnect_required")
    rows.audited(1, "refreshed", NOW - days(15))
    for ago in (9, 3):
        rows.audited(1, "failed", NOW - days(ago), "reconnect_required")
    assert since(database, 1) == {"1": NOW - days(9)}


def test_another_failure_is_no_outage_and_each_channel_has_its_own(rows, database):
    rows.audited(1, "failed", NOW - days(9), "unavailable")
    rows.audited(1, "failed", NOW - days(8), "reconnect_required")
    rows.audited(2, "failed", NOW - days(5), "reconnect_required")
    rows.audited(3, "failed", NOW - days(4), "unavailable")
    rows.audited(4, "failed", NOW - days(2), "reconnect_required")
    assert since(database, 1, 2, 3) == {"1": NOW - days(8), "2": NOW - days(5)}


def test_an_outage_that_is_over_is_none(rows, database):
    rows.audited(1, "failed", NOW - days(9), "reconnect_required")
    rows.audited(1, "recovered", NOW - days(8))
    assert since(database, 1) == {}


def test_without_channels_the_log_is_not_read(database, monkeypatch):
    monkeypatch.setattr(database.queries._table, "fetch", lambda _query: 1 / 0)
    assert since(database) == {}


def test_a_role_that_may_not_read_the_log_learns_nothing(database, monkeypatch):
    def refuse(_query):
        raise StatementRefused("permission denied for table token_audit_log")

    monkeypatch.setattr(database.queries._table, "fetch", refuse)
    assert since(database, 1) == {}
