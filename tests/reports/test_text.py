"""What people read on a terminal, as literal text."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from models import Channel
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.reports.json_document import entry, timestamp
from whatsapp_tokens.reports.labels import label
from whatsapp_tokens.reports.language import ENGLISH, Language
from whatsapp_tokens.reports.text import TABLE_HEAD, outcome_line, preview_summary, summary, table_row
from whatsapp_tokens.results import (
    Aborted,
    AbortReason,
    Due,
    DueReason,
    Failed,
    Reason,
    Renewed,
    Skipped,
    Tally,
)

NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
SOON = datetime(2026, 12, 10, 20, 30, 15, 999_999, tzinfo=UTC)
LATER = datetime(2027, 1, 30, 8, 0, tzinfo=UTC)
PAST = datetime(2026, 11, 28, 7, 0, tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
FIRST = datetime.min.replace(tzinfo=UTC)
SPANISH = Language("es")

HOSTILE = "two\nlines\r\n\x1b[31mred\x1b[0m \x07bell\x00 \u202eright to left\u2028 end"
CLEAN = "two lines [31mred [0m bell right to left end"

RENEWED = Renewed(id=12, name="Bakery North", expires_at=LATER, expires_at_before=SOON)
ENDLESS = Renewed(id=12, name="Bakery North", expires_at_before=SOON)
FAILED = Failed(
    id=13,
    name="Corner Shop",
    expires_at=PAST,
    expires_at_before=PAST,
    reason=Reason.RECONNECT_REQUIRED,
    detail="the session was invalidated",
)
WAITING = Skipped(
    id="cl9/x",
    name="Garage",
    expires_at=PAST,
    expires_at_before=PAST,
    reason=Reason.WAITING_FOR_RECONNECT,
    detail="the session was invalidated",
)
CORRECTED = Skipped(
    id=14,
    name="14",
    expires_at=LATER,
    reason=Reason.CLOCK_CORRECTED,
    detail="the token is valid; expires: 2027-01-30",
)
DUE = Due(id=15, name="Florist", expires_at=SOON, expires_at_before=SOON, why=DueReason.EXPIRES_SOON)
UNKNOWN = Due(id=16, name="Butcher", why=DueReason.UNKNOWN_EXPIRY)

# Names, days and times


@pytest.mark.parametrize(
    ("name", "id_", "shown"),
    [
        ("Bakery North", 12, "Bakery North (12)"),
        ("Bakery North", "cl9x", "Bakery North (cl9x)"),
        ("12", 12, "12"),
        ("cl9x", "cl9x", "cl9x"),
        ("12", 13, "12 (13)"),
        ("  wide \t name  ", 12, "wide name (12)"),
        ("Panadería Ñandú 🥐", 12, "Panadería Ñandú 🥐 (12)"),
        (HOSTILE, 12, f"{CLEAN} (12)"),
        ("Bakery", HOSTILE, f"Bakery ({CLEAN})"),
        (HOSTILE, HOSTILE, CLEAN),
        (" \n\x1b ", 12, "12"),
        ("", 12, "12"),
    ],
)
def test_a_channel_is_shown_by_its_name_and_id_in_one_clean_line(name, id_, shown):
    assert label(Channel(id_, name, "")) == shown


@pytest.mark.parametrize(
    ("lives", "shown"),
    [
        (timedelta(days=60), "60 days"),
        (timedelta(days=9, hours=23), "9 days"),
        (timedelta(days=2), "2 days"),
        (timedelta(days=1, hours=23), "1 day"),
        (timedelta(days=1), "1 day"),
        (timedelta(hours=23), "less than a day"),
        (timedelta(microseconds=1), "less than a day"),
        (timedelta(0), "expired today"),
        (-timedelta(hours=23), "expired today"),
        (-timedelta(days=1), "expired 1 day ago"),
        (-timedelta(days=3, hours=5), "expired 3 days ago"),
    ],
)
def test_how_long_a_token_lives(lives, shown):
    assert ENGLISH.time_left(NOW + lives, NOW) == shown


def test_how_long_a_token_lives_may_be_unknown_or_for_ever():
    assert [ENGLISH.time_left(None, NOW), ENGLISH.time_left(LAST, NOW), ENGLISH.time_left(FIRST, NOW)] == [
        "unknown",
        "2912108 days",
        "expired 739950 days ago",
    ]


@pytest.mark.parametrize(
    ("expires_at", "shown"),
    [
        (None, "its expiry is not known"),
        (SOON, "expires on 10 Dec 2026 (9 days)"),
        (datetime(2026, 12, 2, 8, 0, tzinfo=UTC), "expires on 2 Dec 2026 (1 day)"),
        (datetime(2026, 12, 1, 9, 0, tzinfo=UTC), "expires on 1 Dec 2026 (less than a day)"),
        (NOW, "expired on 1 Dec 2026"),
        (PAST, "expired on 28 Nov 2026"),
    ],
)
def test_when_a_token_expires(expires_at, shown):
    assert ENGLISH.expiry(expires_at, NOW) == shown


@pytest.mark.parametrize(
    ("time", "shown"),
    [
        (None, None),
        (NOW, "2026-12-01T08:00:00Z"),
        (SOON, "2026-12-10T20:30:15Z"),
        (datetime(2026, 12, 1, 1, 30, tzinfo=timezone(timedelta(hours=2))), "2026-11-30T23:30:00Z"),
        (FIRST, "0001-01-01T00:00:00Z"),
        (LAST, "9999-12-31T23:59:59Z"),
    ],
)
def test_times_are_iso_8601_in_utc_to_the_second(time, shown):
    assert timestamp(time) == shown


# One outcome


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (RENEWED, "renewed  Bakery North (12): expires on 30 Jan 2027 (60 days)"),
        (ENDLESS, "renewed  Bakery North (12): never expires now"),
        (FAILED, "failed   Corner Shop (13): reconnect_required, the session was invalidated"),
        (
            WAITING,
            "waiting  Garage (cl9/x): expired on 28 Nov 2026; the customer must connect WhatsApp again",
        ),
        (CORRECTED, "skipped  14: clock_corrected, the token is valid; expires on 30 Jan 2027"),
        (DUE, "due      Florist (15): it expires soon"),
    ],
)
def test_an_outcome_is_one_line(outcome, line):
    assert outcome_line(outcome, NOW) == line


def test_a_failure_that_people_know_of_is_said_to_be_known():
    line = outcome_line(replace(FAILED, is_news=False), NOW)
    assert line == "failed   Corner Shop (13): reconnect_required, the session was invalidated (known)"


# fmt: off
ROWS = [
    (DUE,
     "Florist (15)                        10 Dec 2026  9 days               it expires soon"),
    (UNKNOWN,
     "Butcher (16)                        -            unknown              its expiry is not known yet"),
    (Failed(id=17, name="Kiosk", expires_at=SOON, reason=Reason.UNDECRYPTABLE, detail="no key fits"),
     ("Kiosk (17)                          10 Dec 2026  9 days               "
     "FAILED undecryptable, no key fits")),
    (WAITING,
     "Garage (cl9/x)                      28 Nov 2026  expired 3 days ago   not due: waiting_for_reconnect"),
    (RENEWED,
     "Bakery North (12)                   30 Jan 2027  60 days              renewed"),
    (Due(id=18, name="A name that is longer than the column", expires_at=FIRST, why=DueReason.EXPIRED),
     "A name that is longer than the co…  1 Jan 1      expired 739950 days ago  it has expired"),
]
# fmt: on


@pytest.mark.parametrize(("outcome", "row"), ROWS)
def test_a_dry_run_shows_a_row_for_each_channel(outcome, row):
    assert table_row(outcome, NOW) == row


def test_the_rows_stand_under_their_heads():
    row = table_row(DUE, NOW)
    heads = ("CHANNEL", "EXPIRES", "DAYS LEFT", "WHY DUE")
    cells = ("Florist (15)", "10 Dec 2026", "9 days", "it expires soon")
    assert [TABLE_HEAD.index(head) for head in heads] == [row.index(cell) for cell in cells]


DETAILS = [
    "data access expires: 2026-11-30",
    "the new token does not live longer; expires: 2026-12-06",
    "the customer's password was changed; Graph error: 190/460; Meta said: “Error validating: no”",
    "no key of TOKEN_ENCRYPTION_KEY decrypts it: Fernet; another key encrypted it, or it was altered",
    "the clock of this machine is wrong; time at Meta: 2026-12-02T08:00:00Z; nothing was changed",
]


@pytest.mark.parametrize("detail", DETAILS)
def test_no_line_has_three_colons(detail):
    failed = replace(FAILED, detail=detail)
    stopped = Aborted(AbortReason.CONFIGURATION, detail)
    lines = [outcome_line(failed, NOW), table_row(failed, NOW)]
    lines += summary(Tally(failed=1), [failed], stopped, NOW)
    assert [line for line in lines if re.sub(r"\d\d:\d\d", "", line).count(":") > 2] == []


def with_name(kind, name):
    more = {
        Renewed: {"expires_at": LATER},
        Failed: {"reason": Reason.UNAVAILABLE, "detail": "a timeout"},
        Skipped: {"reason": Reason.NEVER_EXPIRES, "detail": "it never expires"},
        Due: {"why": DueReason.OLD},
    }[kind]
    return kind(id=1, name=name, **more)


@pytest.mark.parametrize("kind", [Renewed, Failed, Skipped, Due])
def test_no_name_can_write_a_second_line_or_colour_a_terminal(kind):
    outcome = with_name(kind, HOSTILE)
    assert outcome_line(outcome, NOW).split(": ")[0].endswith(f" {CLEAN} (1)")
    assert table_row(outcome, NOW).startswith(CLEAN[:33] + "…  ")


@pytest.mark.parametrize(
    "show",
    [lambda it: outcome_line(it, NOW), lambda it: table_row(it, NOW), entry],
    ids=["line", "row", "json"],
)
def test_a_new_kind_of_outcome_is_not_shown_as_an_old_one(show):
    with pytest.raises(AssertionError):
        show(SimpleNamespace(id=1, name="x", phone_number=None, expires_at=None))


def test_a_secret_in_a_name_is_not_cut_to_what_would_not_be_recognised():
    secret = Secret("correct-horse-battery-staple-and-some-more")
    row = table_row(Due(id=1, name=f"Shop {secret.reveal()}", why=DueReason.OLD), NOW)
    assert row.startswith("Shop *** (1)   ")


# The end of a run


def test_the_summary_of_a_quiet_night():
    tally = Tally(candidates=40, due=2, renewed=2)
    assert summary(tally, [], None, NOW) == [
        "Renewed: 2",
        "Failed:  0",
        "Skipped: 0",
        "Waiting: 0",
        "2 due of 40 channels with a token",
    ]


def test_the_summary_of_a_bad_night():
    tally = Tally(candidates=900, due=20, renewed=3, failed=2, skipped=3, waiting=4, left=12)
    tally.reasons = Counter({Reason.REPLACED_MEANWHILE: 2, Reason.CLOCK_CORRECTED: 1})
    failures = [FAILED, Failed(id=14, name="14", reason=Reason.UNAVAILABLE, detail="a timeout")]
    assert summary(tally, failures, Aborted(AbortReason.RATE_LIMITED, "too many calls"), NOW) == [
        "Renewed: 3",
        "Failed:  2",
        "  Corner Shop (13): reconnect_required, stopped working on 28 Nov 2026",
        "    → the customer must connect WhatsApp again",
        "  14: unavailable, its expiry is not known",
        "    → nothing yet; the next run tries again",
        "Skipped: 3 (1 clock_corrected, 2 replaced_meanwhile)",
        "Waiting: 4 (the customer must connect WhatsApp again)",
        "Left:    12 (due, and not reached by this run)",
        "20 due of 900 channels with a token",
        "Stopped: rate_limited, too many calls",
        "    → nothing; the next run does the rest; if this happens again, run at another hour",
    ]


def test_the_summary_says_how_many_failures_are_known_and_which_lines_have_stopped():
    tally = Tally(candidates=9, due=3, failed=3, known=2)
    lines = summary(tally, [replace(FAILED, expires_at=SOON)], None, NOW)
    assert lines[1:3] == ["Failed:  3 (2 known)", "  Corner Shop (13): reconnect_required, stopped working"]


def test_the_summary_names_a_hundred_failures_and_counts_the_rest():
    failures = [
        Failed(id=number, name=f"Line {number}", reason=Reason.UNAVAILABLE, detail="a timeout")
        for number in range(150)
    ]
    lines = summary(Tally(candidates=500, due=312, failed=312), failures, None, NOW)
    assert [lines[2], lines[200], lines[202]] == [
        "  Line 0 (0): unavailable, its expiry is not known",
        "  Line 99 (99): unavailable, its expiry is not known",
        "  … and 212 more",
    ]


@pytest.mark.parametrize(
    ("tally", "line"),
    [
        (
            Tally(candidates=40, due=2),
            "2 due of 40 channels with a token. Dry run: nothing was written, and Meta was not asked.",
        ),
        (
            Tally(candidates=40, due=5, failed=2, waiting=3),
            (
                "5 due of 40 channels with a token, of which 2 cannot be decrypted; 3 only waiting for a "
                "reconnect. Dry run: nothing was written, and Meta was not asked."
            ),
        ),
    ],
)
def test_the_last_line_of_a_dry_run(tally, line):
    assert preview_summary(tally) == line
