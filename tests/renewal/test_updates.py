"""What a verdict on a token writes over its rows, and what is said of it."""

from __future__ import annotations

import pytest
from fakes import NOW, channel, days

from crypto import Decrypted, EncryptionFailed, KeyRing
from models import ERROR_LENGTH, PendingUpdate, Status, fingerprint
from whatsapp_tokens.ciphertext_formats import FERNET
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.renewal.decision import NeverExpires, NewToken, StillValid, Unusable
from whatsapp_tokens.renewal.updates import ClaimedChannel, conclude, error_text
from whatsapp_tokens.results import Failed, Reason, Renewed, Skipped

KEYS = KeyRing.parse("00" * 32)
TOKEN = Secret("new-token")
OPENED = Decrypted(Secret("old-token"), FERNET)
MARK = fingerprint("cipher")
LAPSED = "missing_permission: data access expires: 2026-05-31"


def settled(verdict, **fields):
    return conclude(verdict, ClaimedChannel(channel(**fields), OPENED), KEYS, NOW)


def written(change: PendingUpdate):
    """A change's columns, and the words of its audit entries."""
    return (
        change.status,
        change.expires_at,
        change.refreshed_at,
        change.error,
        [(entry.event, entry.reason) for entry in change.audit],
    )


def test_a_renewal_is_written_encrypted_with_new_clocks():
    one = settled(NewToken(TOKEN, NOW + days(60)), expires_at=NOW + days(9))
    assert written(one.update) == (Status.OK, NOW + days(60), NOW, None, [("refreshed", None)])
    assert KEYS.decrypt(one.update.ciphertext).token == TOKEN
    assert one.outcome == Renewed(
        id=1, name="Bakery North", expires_at=NOW + days(60), expires_at_before=NOW + days(9)
    )


def test_a_renewal_that_never_ends_is_written_as_such():
    assert written(settled(NewToken(TOKEN, None)).update)[:2] == (Status.NEVER_EXPIRES, None)


def test_a_renewal_of_a_channel_that_people_were_told_of_is_a_recovery():
    fields = {"status": "warning", "error": "unavailable: x"}
    one = settled(NewToken(TOKEN, NOW + days(60)), alerted_at=NOW, **fields)
    assert written(one.update)[4] == [("refreshed", None), ("recovered", "unavailable")]
    assert (one.outcome.recovered, settled(StillValid(NOW, None), **fields).outcome.recovered) == (
        True,
        False,
    )


def test_a_renewal_that_lacks_something_is_written_and_marked():
    one = settled(NewToken(TOKEN, NOW + days(60), "missing permission: x"))
    assert written(one.update) == (
        Status.WARNING,
        NOW + days(60),
        NOW,
        "missing_permission: missing permission: x",
        [("refreshed", None), ("failed", "missing_permission")],
    )
    assert isinstance(one.outcome, Failed)
    assert KEYS.decrypt(one.update.ciphertext).token == TOKEN


def test_a_token_that_cannot_be_sealed_changes_nothing(monkeypatch):
    def broken(*_):
        raise EncryptionFailed("no")

    monkeypatch.setattr(KeyRing, "encrypt", broken)
    one = settled(NewToken(TOKEN, NOW + days(60)))
    assert (one.update, one.outcome.reason) == (None, Reason.WRITE_FAILED)


def test_a_channel_that_was_not_decrypted_cannot_get_a_new_token():
    with pytest.raises(ValueError, match="not decrypted"):
        conclude(NewToken(TOKEN, None), ClaimedChannel(channel()), KEYS, NOW)


def test_right_clocks_are_confirmed_without_an_audit_row():
    one = settled(StillValid(NOW + days(40), NOW - days(20)))
    assert written(one.update) == (Status.OK, NOW + days(40), NOW - days(20), None, [])
    assert one.outcome == Skipped(
        id=1,
        name="Bakery North",
        expires_at=NOW + days(40),
        expires_at_before=NOW + days(40),
        reason=Reason.CLOCK_CORRECTED,
        detail="the token is valid; expires: 2026-07-11",
    )


def test_wrong_clocks_are_corrected_with_an_audit_row():
    one = settled(StillValid(NOW + days(30), None))
    assert written(one.update)[1:] == (
        NOW + days(30),
        NOW - days(20),
        None,
        [("clock_corrected", "clock_corrected")],
    )


@pytest.mark.parametrize("verdict", [StillValid(NOW + days(30), None), Unusable(Reason.UNAVAILABLE, "x")])
def test_clocks_of_a_token_that_was_replaced_are_not_kept(verdict):
    one = settled(verdict, fingerprint="another")
    assert one.update.refreshed_at is None


def test_good_for_an_unknown_time_is_said_so():
    assert settled(StillValid(None, None)).outcome.detail == "the token is valid; its expiry is not known"


def test_a_token_without_end_is_looked_at_again_after_its_age():
    one = settled(NeverExpires())
    assert written(one.update) == (Status.NEVER_EXPIRES, None, NOW, None, [("never_expires", None)])
    assert one.outcome.reason is Reason.NEVER_EXPIRES


@pytest.mark.parametrize(
    ("verdict", "fields", "expires_at"),
    [
        (Unusable(Reason.RECONNECT_REQUIRED, "x", NOW - days(2)), {}, NOW - days(2)),
        (Unusable(Reason.RECONNECT_REQUIRED, "x"), {}, NOW + days(40)),
        (Unusable(Reason.RECONNECT_REQUIRED, "x"), {"expires_at": None}, None),
        (Unusable(Reason.RECONNECT_REQUIRED, "x"), {"fingerprint": "another"}, None),
        (Unusable(Reason.RECONNECT_REQUIRED, "x"), {"expires_at": NOW - days(1)}, None),
        (
            Unusable(Reason.RECONNECT_REQUIRED, "x"),
            {"expires_at": NOW - days(1), "fingerprint": MARK},
            NOW - days(1),
        ),
        (  # that is the end of its data access, and the token lives on
            Unusable(Reason.RECONNECT_REQUIRED, "x"),
            {"expires_at": NOW - days(1), "fingerprint": MARK, "error": LAPSED, "status": "warning"},
            None,
        ),
        (
            Unusable(Reason.RECONNECT_REQUIRED, "x"),
            {"expires_at": NOW + days(1), "fingerprint": MARK, "error": LAPSED, "status": "warning"},
            None,
        ),
        (Unusable(Reason.UNAVAILABLE, "x"), {"expires_at": NOW - days(1)}, NOW - days(1)),
        (Unusable(Reason.UNAVAILABLE, "x"), {"expires_at": None}, None),
        (Unusable(Reason.UNAVAILABLE, "x"), {"fingerprint": "another"}, None),
    ],
)
def test_a_failure_keeps_the_best_known_expiry(verdict, fields, expires_at):
    one = settled(verdict, **fields)
    assert (one.update.expires_at, one.outcome.expires_at) == (expires_at, expires_at)


def test_a_failure_is_marked_and_audited_and_leaves_the_ciphertext():
    one = settled(Unusable(Reason.NOT_EXTENDED, "it is not longer", NOW + days(3), NOW - days(57)))
    assert written(one.update) == (
        Status.WARNING,
        NOW + days(3),
        NOW - days(57),
        "not_extended: it is not longer",
        [("failed", "not_extended")],
    )
    assert (one.update.ciphertext, one.outcome.reason) == ("cipher", Reason.NOT_EXTENDED)


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
    one = settled(Unusable(reason, "x"), status="warning", error=before)
    assert one.update.clear_alert is is_news


DEAD, LACKING = "reconnect_required: password", "missing_permission: data access expires"


@pytest.mark.parametrize("reason", [Reason.UNAVAILABLE, Reason.UNEXPECTED_ANSWER])
@pytest.mark.parametrize(
    ("known", "fields", "stays"),
    [
        (DEAD, {}, True),
        (LACKING, {}, True),
        ("not_extended: x", {}, True),
        ("undecryptable: x", {}, False),  # it was decrypted, or Meta would not have been asked
        (DEAD, {"fingerprint": "another"}, False),
        (DEAD, {"status": "ok"}, False),
    ],
)
def test_an_outage_does_not_hide_what_a_person_must_do(reason, known, fields, stays):
    one = settled(Unusable(reason, "x"), **{"status": "warning", "error": known} | fields)
    assert one.update.error == (known if stays else f"{reason}: x")
    assert (one.outcome.reason, one.update.audit[0].reason) == (reason, reason)


@pytest.mark.parametrize(("known", "stays"), [(DEAD, False), (LACKING, True)])
def test_a_token_that_meta_calls_valid_again_is_no_longer_dead_although_its_exchange_fails(known, stays):
    verdict = Unusable(Reason.UNAVAILABLE, "x", NOW + days(9), NOW - days(51))
    one = settled(verdict, status="warning", error=known)
    assert one.update.error == (known if stays else "unavailable: x")


def test_people_are_not_told_again_of_what_an_outage_interrupted():
    told = {"alerted_at": NOW - days(1), "status": "warning"}
    during = settled(Unusable(Reason.UNAVAILABLE, "x"), error=LACKING, **told).update
    after = settled(Unusable(Reason.MISSING_PERMISSION, "data access expires"), error=during.error, **told)
    assert (during.clear_alert, after.update.clear_alert, after.outcome.is_news) == (False, False, False)


@pytest.mark.parametrize("verdict", [NewToken(TOKEN, NOW + days(60)), StillValid(NOW, None), NeverExpires()])
@pytest.mark.parametrize("told", [NOW, None])
def test_a_success_never_takes_the_mark_away_that_people_were_told_of_a_failure(verdict, told):
    """Another run may have told them since the row was read."""
    assert settled(verdict, alerted_at=told).update.clear_alert is False


FAILING = {"status": "warning", "error": "reconnect_required: x"}


@pytest.mark.parametrize(
    ("verdict", "fields", "is_news"),
    [
        (Unusable(Reason.RECONNECT_REQUIRED, "x"), {}, True),
        (Unusable(Reason.RECONNECT_REQUIRED, "x"), {"alerted_at": None} | FAILING, True),
        (Unusable(Reason.RECONNECT_REQUIRED, "x"), {"alerted_at": NOW - days(1)} | FAILING, False),
        (Unusable(Reason.UNAVAILABLE, "x"), {"alerted_at": NOW - days(1)} | FAILING, False),
        (Unusable(Reason.NOT_EXTENDED, "x"), {"alerted_at": NOW - days(1)} | FAILING, True),
        (NewToken(TOKEN, NOW + days(60), "x"), {"alerted_at": NOW - days(1)} | FAILING, True),
        (
            Unusable(Reason.RECONNECT_REQUIRED, "x", NOW + days(6.9)),
            {"alerted_at": NOW - days(1)} | FAILING,
            True,
        ),
        (
            Unusable(Reason.RECONNECT_REQUIRED, "x", NOW + days(6)),
            {"alerted_at": NOW - days(0.5)} | FAILING,
            False,
        ),
        (Unusable(Reason.RECONNECT_REQUIRED, "x"), {"alerted_at": NOW - days(1), "status": "ok"}, True),
    ],
)
def test_a_failure_is_news_until_people_are_told_and_when_they_must_be_told_again(verdict, fields, is_news):
    assert settled(verdict, **fields).outcome.is_news is is_news


@pytest.mark.parametrize(
    ("known", "kept_out"),
    [
        ({}, True),
        ({"expires_at": None}, False),
        ({"expires_at": NOW + days(20)}, False),
        ({"fingerprint": "x"}, False),
    ],
)
def test_a_new_token_that_is_not_longer_by_metas_dates_must_outlive_what_the_row_knows(known, kept_out):
    one = settled(NewToken(TOKEN, NOW + days(30), is_longer=False), **known)
    if kept_out:
        assert (one.update.ciphertext, one.outcome.reason, one.update.expires_at) == (
            "cipher",
            Reason.NOT_EXTENDED,
            NOW + days(40),
        )
        assert one.outcome.detail == "the new token does not live longer; expires: 2026-07-01"
    else:
        assert (KEYS.decrypt(one.update.ciphertext).token, one.update.expires_at) == (TOKEN, NOW + days(30))


@pytest.mark.parametrize("reason", [Reason.UNAVAILABLE, Reason.RECONNECT_REQUIRED])
def test_people_are_told_of_a_failure_that_comes_before_they_heard_of_the_last_recovery(reason):
    assert settled(Unusable(reason, "x"), status="ok", alerted_at=NOW).update.clear_alert


def test_a_verdict_of_no_known_kind_is_a_mistake_that_shows():
    with pytest.raises(AssertionError):
        settled(None)


def test_an_error_text_keeps_within_its_column():
    text = error_text(Reason.UNAVAILABLE, "x" * 1000)
    assert (len(text), text[:13], text[-1]) == (ERROR_LENGTH, "unavailable: ", "…")
