"""What people are told about a token, in English and in Spanish."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from world import ROOT

from whatsapp_tokens.reports.causes import ADVICE
from whatsapp_tokens.reports.language import ENGLISH, Language
from whatsapp_tokens.results import AbortReason, Reason

SPANISH = Language("es")
NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)


def in_(**time):
    return NOW + timedelta(**time)


@pytest.mark.parametrize(
    ("expires_at", "english", "spanish"),
    [
        (None, "its expiry is not known", "no se sabe cuándo caduca"),
        (in_(days=9, hours=23), "expires on 11 Dec 2026 (9 days)", "caduca el 11 dic 2026 (9 días)"),
        (in_(days=1), "expires on 2 Dec 2026 (1 day)", "caduca el 2 dic 2026 (1 día)"),
        (
            in_(hours=23),
            "expires on 2 Dec 2026 (less than a day)",
            "caduca el 2 dic 2026 (menos de un día)",
        ),
        (NOW, "expired on 1 Dec 2026", "caducó el 1 dic 2026"),
        (in_(days=-3), "expired on 28 Nov 2026", "caducó el 28 nov 2026"),
    ],
)
def test_when_a_token_expires_is_part_of_a_sentence(expires_at, english, spanish):
    assert (ENGLISH.expiry(expires_at, NOW), SPANISH.expiry(expires_at, NOW)) == (english, spanish)


@pytest.mark.parametrize(
    ("expires_at", "english", "spanish"),
    [
        (None, "unknown", "desconocido"),
        (in_(days=9), "9 days", "9 días"),
        (in_(days=1, hours=5), "1 day", "1 día"),
        (in_(hours=1), "less than a day", "menos de un día"),
        (NOW, "expired today", "caducó hoy"),
        (in_(days=-1), "expired 1 day ago", "caducó hace 1 día"),
        (in_(days=-40), "expired 40 days ago", "caducó hace 40 días"),
    ],
)
def test_how_long_a_token_lives_is_counted_in_whole_days(expires_at, english, spanish):
    assert (ENGLISH.time_left(expires_at, NOW), SPANISH.time_left(expires_at, NOW)) == (english, spanish)


def test_a_reason_that_is_not_known_is_its_own_cause():
    assert (SPANISH.cause("strange_one"), SPANISH.advice("strange_one")) == ("strange_one", "vea el detalle")


@pytest.mark.parametrize("reason", ["unavailable", "unexpected_answer", "not_extended"])
def test_on_the_last_day_no_one_is_told_to_wait(reason):
    waits = ("nothing yet", "next run", "before it expires")
    expiries = {
        "unknown": None,
        "days": in_(days=1),
        "hours": in_(hours=23),
        "now": NOW,
        "past": in_(days=-3),
    }
    said = {name: ENGLISH.advice(reason, expires_at, NOW) for name, expires_at in expiries.items()}
    early, late = ENGLISH.advice(reason), said["now"]
    assert said == {"unknown": early, "days": early, "hours": late, "now": late, "past": late}
    assert (any(one in early for one in waits), "must connect WhatsApp again" in late) == (True, True)


def test_other_advice_is_the_same_on_the_last_day():
    assert ENGLISH.advice("reconnect_required", NOW, NOW) == "the customer must connect WhatsApp again"


SKIPPED = {
    Reason.REPLACED_MEANWHILE,
    Reason.CLAIMED_ELSEWHERE,
    Reason.NEVER_EXPIRES,
    Reason.CLOCK_CORRECTED,
    Reason.WAITING_FOR_RECONNECT,
}


def test_there_is_advice_for_every_reason_to_fail_or_to_stop_and_for_no_other():
    assert set(ADVICE) == {*set(Reason) - SKIPPED, *AbortReason}


def test_where_there_is_no_advice_the_detail_must_do():
    assert ENGLISH.advice("something new") == "look at the detail"


DETAILS = [
    (
        "the customer's password was changed; Graph error: 190/460; Meta said: “It; has: expired (#1)”",
        "the customer's password was changed; Graph error 190/460; Meta said “It; has: expired (#1)”",
        "se cambió la contraseña del cliente; error de Graph 190/460; Meta dijo “It; has: expired (#1)”",
    ),
    ("the token has expired", "the token has expired", "el token ha caducado"),
    ("x: the token has expired", "x (the token has expired)", "x (the token has expired)"),
    (
        "the token was revoked; Meta said: “a long sente…",  # cut in `token_error`
        "the token was revoked; Meta said “a long sente…",
        "el token fue revocado; Meta dijo “a long sente…",
    ),
    (
        "Meta said: “it is so; the token has expired; no”; the token was revoked",
        "Meta said “it is so; the token has expired; no”; the token was revoked",
        "Meta dijo “it is so; the token has expired; no”; el token fue revocado",
    ),
    ("the token was revoked; ", "the token was revoked; ", "el token fue revocado; "),
    (
        "data access expires: 2026-12-05",
        "data access expires on 5 Dec 2026",
        "su acceso a datos caduca el 5 dic 2026",
    ),
    (
        "time at Meta: 2026-12-05T07:08:09Z",
        "time at Meta (5 Dec 2026, 07:08 UTC)",
        "hora en Meta (5 dic 2026, 07:08 UTC)",
    ),
    ("expires: 2026-13-05", "expires (2026-13-05)", "caduca (2026-13-05)"),
    ("Meta said: “on 2026-12-05”", "Meta said “on 2026-12-05”", "Meta dijo “on 2026-12-05”"),
    (
        "no answer from Meta: ReadTimeout",
        "no answer from Meta (ReadTimeout)",
        "sin respuesta de Meta (ReadTimeout)",
    ),
    ("internal error: f(x)", "internal error: f(x)", "error interno: f(x)"),
    ("WORKERS: a number", "WORKERS: a number", "WORKERS: a number"),
]


@pytest.mark.parametrize(("detail", "english", "spanish"), DETAILS)
def test_a_detail_has_translated_phrases_days_as_everywhere_and_no_colon_of_ours(detail, english, spanish):
    assert (ENGLISH.detail(detail), SPANISH.detail(detail)) == (english, spanish)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ": ",
        "; ; ",
        "a sentence of a later version",
        "x" * 5000,
        "; x" * 400,
        "“; " * 400,
        "”; " * 400,
    ],
)
def test_what_is_not_known_stays_as_it_is(text):
    assert (SPANISH.detail(text), ENGLISH.detail(text)) == (text, text)


def test_dates_are_those_of_the_language():
    days = [Language(code).day(NOW) for code in ("en", "es", "pt")]
    assert days == ["1 Dec 2026", "1 dic 2026", "1 dez. 2026"]


def test_a_run_in_english_does_not_import_babel_jinja_or_prometheus():
    code = (
        "import sys, refresh_tokens; from whatsapp_tokens.reports.language import *;"
        "from datetime import UTC, datetime; ENGLISH.day(datetime(2026, 1, 1)); ENGLISH.counted('a', 'b', 1);"
        "print({'babel', 'jinja2', 'prometheus_client'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
