"""What people and machines read, as literal text."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from uuid import UUID

import pytest

from models import Channel
from notify import Card, Message
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.reports.text import (
    TABLE_HEAD,
    First,
    Situation,
    compose,
    counts,
    entry,
    label,
    outcome_line,
    preview_summary,
    summary,
    table_row,
    timestamp,
)
from whatsapp_tokens.reports.translations import ADVICE, EN, Words
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
from whatsapp_tokens.settings import Language

NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
SOON = datetime(2026, 12, 10, 20, 30, 15, 999_999, tzinfo=UTC)
LATER = datetime(2027, 1, 30, 8, 0, tzinfo=UTC)
PAST = datetime(2026, 11, 28, 7, 0, tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
FIRST = datetime.min.replace(tzinfo=UTC)
ES = Words(Language.ES)

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
    detail="the token is good until 2027-01-30",
)
DUE = Due(id=15, name="Florist", expires_at=SOON, expires_at_before=SOON, why=DueReason.ENDS_SOON)
UNKNOWN = Due(id=16, name="Butcher", why=DueReason.UNKNOWN_EXPIRY)


# Advice


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
    assert EN.advice("something new") == "look at the detail"


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
        (timedelta(0), "ended today"),
        (-timedelta(hours=23), "ended today"),
        (-timedelta(days=1), "ended 1 day ago"),
        (-timedelta(days=3, hours=5), "ended 3 days ago"),
    ],
)
def test_how_long_a_token_lives(lives, shown):
    assert EN.left(NOW + lives, NOW) == shown


def test_how_long_a_token_lives_may_be_unknown_or_for_ever():
    assert [EN.left(None, NOW), EN.left(LAST, NOW), EN.left(FIRST, NOW)] == [
        "unknown",
        "2912108 days",
        "ended 739950 days ago",
    ]


@pytest.mark.parametrize(
    ("end", "shown"),
    [
        (None, "its end is not known"),
        (SOON, "ends on 10 Dec 2026 (9 days)"),
        (datetime(2026, 12, 2, 8, 0, tzinfo=UTC), "ends on 2 Dec 2026 (1 day)"),
        (datetime(2026, 12, 1, 9, 0, tzinfo=UTC), "ends on 1 Dec 2026 (less than a day)"),
        (NOW, "ended on 1 Dec 2026"),
        (PAST, "ended on 28 Nov 2026"),
    ],
)
def test_when_a_token_ends(end, shown):
    assert EN.ends(end, NOW) == shown


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
        (RENEWED, "renewed  Bakery North (12): ends on 30 Jan 2027 (60 days)"),
        (ENDLESS, "renewed  Bakery North (12): never expires now"),
        (FAILED, "failed   Corner Shop (13): reconnect_required: the session was invalidated"),
        (
            WAITING,
            "waiting  Garage (cl9/x): ended on 28 Nov 2026; the customer must connect WhatsApp again",
        ),
        (CORRECTED, "skipped  14: clock_corrected: the token is good until 2027-01-30"),
        (DUE, "due      Florist (15): it ends soon"),
    ],
)
def test_an_outcome_is_one_line(outcome, line):
    assert outcome_line(outcome, NOW) == line


# fmt: off
ROWS = [
    (DUE,
     "Florist (15)                        2026-12-10  9 days              it ends soon"),
    (UNKNOWN,
     "Butcher (16)                        -           unknown             its expiry is not known yet"),
    (Failed(id=17, name="Kiosk", expires_at=SOON, reason=Reason.UNDECRYPTABLE, detail="no key fits"),
     "Kiosk (17)                          2026-12-10  9 days              FAILED undecryptable: no key fits"),
    (WAITING,
     "Garage (cl9/x)                      2026-11-28  ended 3 days ago    not due: waiting_for_reconnect"),
    (RENEWED,
     "Bakery North (12)                   2027-01-30  60 days             renewed"),
    (Due(id=18, name="A name that is longer than the column", expires_at=FIRST, why=DueReason.EXPIRED),
     "A name that is longer than the co…  0001-01-01  ended 739950 days ago  it has expired"),
]
# fmt: on


@pytest.mark.parametrize(("outcome", "row"), ROWS)
def test_a_dry_run_shows_a_row_for_each_channel(outcome, row):
    assert table_row(outcome, NOW) == row


def test_the_rows_stand_under_their_heads():
    row = table_row(DUE, NOW)
    heads = ("CHANNEL", "EXPIRES", "DAYS LEFT", "WHY DUE")
    cells = ("Florist (15)", "2026-12-10", "9 days", "it ends soon")
    assert [TABLE_HEAD.index(head) for head in heads] == [row.index(cell) for cell in cells]


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
        "  Corner Shop (13): reconnect_required, ended on 28 Nov 2026",
        "    → the customer must connect WhatsApp again",
        "  14: unavailable, its end is not known",
        "    → nothing yet: it is tried again at the next run",
        "Skipped: 3 (1 clock_corrected, 2 replaced_meanwhile)",
        "Waiting: 4 (the customer must connect WhatsApp again)",
        "Left:    12 (due, and not reached by this run)",
        "20 due of 900 channels with a token",
        "Stopped: rate_limited: too many calls",
        "    → nothing: the rest is done at the next run; run at another hour if it comes back",
    ]


def test_the_summary_names_a_hundred_failures_and_counts_the_rest():
    failures = [
        Failed(id=number, name=f"Line {number}", reason=Reason.UNAVAILABLE, detail="a timeout")
        for number in range(150)
    ]
    lines = summary(Tally(candidates=500, due=312, failed=312), failures, None, NOW)
    assert [lines[2], lines[200], lines[202]] == [
        "  Line 0 (0): unavailable, its end is not known",
        "  Line 99 (99): unavailable, its end is not known",
        "  … and 212 more",
    ]


@pytest.mark.parametrize(
    ("tally", "line"),
    [
        (
            Tally(candidates=40, due=2),
            "2 due of 40 channels with a token. Dry run: nothing was written and nobody was called.",
        ),
        (
            Tally(candidates=40, due=5, failed=2, waiting=3),
            (
                "5 due of 40 channels with a token, of which 2 cannot be decrypted; 3 only waiting for a "
                "reconnect. Dry run: nothing was written and nobody was called."
            ),
        ),
    ],
)
def test_the_last_line_of_a_dry_run(tally, line):
    assert preview_summary(tally) == line


# JSON


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
            },
        ),
    ],
)
def test_an_outcome_is_one_element_of_the_json_document(outcome, fields):
    assert json.loads(json.dumps(entry(outcome))) == fields


@pytest.mark.parametrize("id_", [7, 2**62, "7", "cl9x", str(UUID(int=7))])
def test_an_id_is_in_the_json_document_as_it_is_in_the_table(id_):
    assert json.loads(json.dumps(entry(Renewed(id=id_, name="x"))))["id"] == id_


def test_the_counts_are_those_of_the_contract():
    tally = Tally(candidates=9, due=8, renewed=1, failed=2, skipped=3, waiting=4, left=5)
    assert counts(tally) == {
        "candidates": 9,
        "due": 8,
        "renewed": 1,
        "failed": 2,
        "skipped": 3,
        "waiting": 4,
        "left": 5,
    }


# The alert


def channel(id_=1, name="Bakery North", *, error="reconnect_required: the session was invalidated", end=SOON):
    return Channel(id_, name, "ciphertext", expires_at=end, status="warning", error=error)


def situation(*attention, recovered=(), stopped=None, tally=None, url=None, unwritten=()):
    told, refused = First(list(recovered)), First(list(unwritten))
    return Situation(attention, told, stopped, tally or Tally(), NOW, url, refused)


REFUSED = Failed(
    id=13,
    name="Corner Shop",
    expires_at=SOON,
    reason=Reason.WRITE_FAILED,
    detail="disk full; the old stays",
)
STOPPED = Aborted(AbortReason.APP_REJECTED, "Meta says that META_APP_SECRET is wrong")


def busy():
    """A run that had everything to tell of."""
    tally = Tally(candidates=900, due=20, renewed=17, failed=2, waiting=4, left=1)
    channels = (channel(), channel("cl 9", "Corner Shop", error="undecryptable: no key opens it", end=PAST))
    url = "https://app.example/channels/{channel_id}/reconnect?c={channel_id}"
    return situation(*channels, recovered=("Garage (7)",), tally=tally, url=url)


def test_an_alert_names_who_must_do_what_until_when_and_where():
    assert compose(busy(), EN) == Message(
        title="2 WhatsApp lines need attention",
        summary="Their renewal failed. When a token ends, that customer's WhatsApp stops. "
        "Recovered: Garage (7).",
        cards=(
            Card(
                "Bakery North (1)",
                (
                    "Meta no longer accepts the token: the session was invalidated",
                    "Ends on 10 Dec 2026 (9 days)",
                    "To do: the customer must connect WhatsApp again",
                ),
                "https://app.example/channels/1/reconnect?c=1",
            ),
            Card(
                "Corner Shop (cl 9)",
                (
                    "The stored token cannot be decrypted: no key opens it",
                    "Ended on 28 Nov 2026",
                    "To do: add its key to TOKEN_ENCRYPTION_KEY, or have the customer connect WhatsApp again",
                ),
                "https://app.example/channels/cl%209/reconnect?c=cl%209",
            ),
        ),
        footer="17 renewed · 2 failed · 4 waiting for a reconnect · 1 left · 1 Dec 2026, 08:00 UTC",
    )


def test_an_alert_says_all_of_it_in_spanish_too():
    assert compose(busy(), ES) == Message(
        title="2 líneas de WhatsApp necesitan atención",
        summary="Falló su renovación. Cuando caduca un token, el WhatsApp de su cliente deja de funcionar."
        " Recuperadas: Garage (7).",
        cards=(
            Card(
                "Bakery North (1)",
                (
                    "Meta ya no acepta el token: the session was invalidated",
                    "Caduca el 10 dic 2026 (9 días)",
                    "Qué hacer: el cliente debe volver a conectar WhatsApp",
                ),
                "https://app.example/channels/1/reconnect?c=1",
                "Reconectar",
            ),
            Card(
                "Corner Shop (cl 9)",
                (
                    "El token guardado no se puede descifrar: no key opens it",
                    "Caducó el 28 nov 2026",
                    (
                        "Qué hacer: añada su clave a TOKEN_ENCRYPTION_KEY, o pida al cliente que vuelva"
                        " a conectar WhatsApp"
                    ),
                ),
                "https://app.example/channels/cl%209/reconnect?c=cl%209",
                "Reconectar",
            ),
        ),
        footer="renovadas: 17 · con fallo: 2 · a la espera de reconexión: 4 · sin procesar: 1"
        " · 1 dic 2026, 08:00 UTC",
        and_more="… y {} más",
    )


@pytest.mark.parametrize(
    ("ends", "english", "spanish"),
    [
        ([SOON], "When its token ends, that customer's WhatsApp stops", "Cuando caduque su token"),
        ([NOW], "its token has ended: that customer's WhatsApp has stopped", "y su token ha caducado"),
        ([PAST, NOW], "their tokens have ended", "el WhatsApp de estos clientes ya no funciona"),
        ([PAST, SOON], "When a token ends", "Cuando caduca un token"),
        ([PAST, None], "When a token ends", "Cuando caduca un token"),
    ],
)
def test_what_has_stopped_already_is_not_announced(ends, english, spanish):
    named = [channel(number, end=end) for number, end in enumerate(ends)]
    said = [compose(situation(*named), words).summary for words in (EN, ES)]
    assert (english in said[0], spanish in said[1]) == (True, True)


@pytest.mark.parametrize(("end", "is_past"), [(PAST, True), (SOON, False)])
def test_a_row_that_was_not_written_counts_for_what_has_stopped_too(end, is_past):
    of = situation(channel(end=PAST), unwritten=[replace(REFUSED, expires_at=end)])
    assert ("their tokens have ended" in compose(of, EN).summary) is is_past


def test_whether_those_that_are_not_named_have_ended_is_not_known():
    of = replace(situation(), unwritten=First([replace(REFUSED, expires_at=PAST)], more=1))
    assert "When a token ends" in compose(of, EN).summary


def test_our_own_details_are_in_the_language_of_the_alert():
    dead = channel(error="reconnect_required: the token was revoked: Meta said “no” (code 190, subcode 466)")
    stopped = Aborted(
        AbortReason.SYSTEMIC,
        "10 channels newly failed with unavailable and none succeeded: no answer from Meta (ReadTimeout)",
    )
    message = compose(situation(dead, stopped=stopped), ES)
    assert message.cards[0].lines[0] == (
        "Meta ya no acepta el token: el token fue revocado: Meta dijo “no” (código 190, subcódigo 466)"
    )
    assert "ninguna tuvo éxito: sin respuesta de Meta (ReadTimeout). Qué hacer" in message.summary


@pytest.mark.parametrize(
    ("of", "english", "spanish"),
    [
        (
            situation(channel()),
            "1 WhatsApp line needs attention",
            "1 línea de WhatsApp necesita atención",
        ),
        (
            situation(channel(1), channel(2)),
            "2 WhatsApp lines need attention",
            "2 líneas de WhatsApp necesitan atención",
        ),
        (
            situation(unwritten=(FAILED,)),
            "1 WhatsApp line needs attention",
            "1 línea de WhatsApp necesita atención",
        ),
        (
            situation(channel(), unwritten=(FAILED,)),
            "2 WhatsApp lines need attention",
            "2 líneas de WhatsApp necesitan atención",
        ),
        (
            situation(recovered=("a",)),
            "1 WhatsApp line has recovered",
            "1 línea de WhatsApp se ha recuperado",
        ),
        (
            situation(recovered=("a", "b")),
            "2 WhatsApp lines have recovered",
            "2 líneas de WhatsApp se han recuperado",
        ),
        (
            situation(channel(), recovered=("a", "b")),
            "1 WhatsApp line needs attention",
            "1 línea de WhatsApp necesita atención",
        ),
        (
            situation(channel(), stopped=Aborted("systemic", "10 failed")),
            "WhatsApp token renewal stopped early",
            "La renovación de tokens de WhatsApp se detuvo antes de terminar",
        ),
        (
            situation(stopped=Aborted("configuration", "META_APP_ID: it is missing")),
            "WhatsApp token renewal could not run",
            "La renovación de tokens de WhatsApp no pudo ejecutarse",
        ),
    ],
)
def test_the_title_says_the_most_important_thing(of, english, spanish):
    assert (compose(of, EN).title, compose(of, ES).title) == (english, spanish)


@pytest.mark.parametrize(
    ("of", "summary"),
    [
        (
            situation(stopped=STOPPED),
            (
                "Meta refuses the app (app_rejected): Meta says that META_APP_SECRET is wrong. To do: check"
                " META_APP_ID, META_APP_SECRET and the app's state in Meta's App Dashboard."
            ),
        ),
        (
            situation(channel(), stopped=Aborted("database_lost", "timed\nout"), recovered=("Garage (7)",)),
            (
                "The database cannot be reached (database_lost): timed out. To do: see whether the database"
                " is up; the next run does the rest. 1 WhatsApp line needs attention. Its renewal"
                " failed. When its token ends, that customer's WhatsApp stops. Recovered: Garage (7)."
            ),
        ),
        (
            situation(stopped=Aborted("internal_error", "")),
            (
                "The program itself failed (internal_error). To do: this is a mistake in the program: report"
                " it with the log."
            ),
        ),
        (
            situation(channel()),
            "Its renewal failed. When its token ends, that customer's WhatsApp stops.",
        ),
        (
            situation(recovered=("Garage (7)",)),
            "Recovered: Garage (7). Nothing is to be done about it.",
        ),
        (
            situation(recovered=("Garage (7)", "Kiosk (8)")),
            "Recovered: Garage (7), Kiosk (8). Nothing is to be done about them.",
        ),
    ],
)
def test_the_summary_says_what_it_means(of, summary):
    assert compose(of, EN).summary == summary


def test_a_run_that_stopped_says_why_in_spanish():
    assert compose(situation(stopped=STOPPED), ES).summary == (
        "Meta rechaza la app (app_rejected): Meta says that META_APP_SECRET is wrong. Qué hacer: revise"
        " META_APP_ID, META_APP_SECRET y el estado de la app en el panel de apps de Meta."
    )


@pytest.mark.parametrize(
    ("count", "length", "end"),
    [
        (15, 100, "x, " + "x" * 100 + "."),
        (16, 100, "x and 1 more."),
        (312, 100, "x and 297 more."),
        (2, 300, "x."),
        (1, 2000, "x."),
        (2, 2000, "x and 1 more."),
    ],
)
def test_of_many_recoveries_the_rest_is_counted(count, length, end):
    recovered = compose(situation(channel(), recovered=("x" * length,) * count), EN).summary
    assert recovered.endswith(end)
    assert len(recovered) < 3000


@pytest.mark.parametrize(
    ("count", "unwritten", "shown", "more"),
    [(45, 0, 45, 0), (46, 0, 45, 1), (357, 0, 45, 312), (44, 1, 45, 0), (45, 1, 45, 1), (0, 50, 45, 5)],
)
def test_of_many_channels_the_rest_is_counted(count, unwritten, shown, more):
    message = compose(situation(*map(channel, range(count)), unwritten=(FAILED,) * unwritten), EN)
    assert (len(message.cards), message.more) == (shown, more)
    assert message.rest == (f"… and {more} more" if more else "")


def test_what_a_run_itself_tells_is_kept_up_to_a_hundred_and_then_counted():
    told, refused = First(), First()
    for number in range(250):
        told.add(f"Garage ({number})")
        refused.add(FAILED)
    message = compose(Situation([channel()], told, None, Tally(), NOW, unwritten=refused), EN)
    assert (len(told.kept), len(told), len(refused.kept), len(refused)) == (100, 250, 100, 250)
    assert (message.title, len(message.cards), message.more) == ("251 WhatsApp lines need attention", 45, 206)
    assert message.summary.endswith("Garage (99) and 150 more.")


def test_of_a_name_without_end_the_beginning_is_shown_and_no_half_of_a_secret():
    secret = Secret("s3cr3t" * 10)
    long = replace(RENEWED, name="x" * 480 + secret.reveal() + "y" * 1_000_000)
    assert label(long) == "x" * 480 + "***" + "y" * 16 + "… (12)"


def test_a_row_that_could_not_be_written_is_no_matter_for_the_customer():
    message = compose(situation(channel(), unwritten=(REFUSED,), url="https://app.example/{channel_id}"), EN)
    assert message.cards[1:] == (
        Card(
            "Corner Shop (13)",
            (
                "The database refused the row: disk full; the old stays",
                "Ends on 10 Dec 2026 (9 days)",
                "To do: see why the database refuses the row; the old token is untouched",
            ),
        ),
    )


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (
            "unexpected_answer: two\nlines: and \x1b[31ma colon",
            (
                "Meta gave an answer that fits nothing known: two lines: and [31ma colon",
                "Its end is not known",
                "To do: look at the detail; it is tried again at the next run",
            ),
        ),
        (
            "reconnect_required",
            (
                "Meta no longer accepts the token",
                "Its end is not known",
                "To do: the customer must connect WhatsApp again",
            ),
        ),
        ("two\nlines", ("Two lines", "Its end is not known", "To do: look at the detail")),
        (None, ("Its cause is not known", "Its end is not known", "To do: look at the detail")),
    ],
)
def test_whatever_the_row_says_a_card_has_three_clean_lines(error, lines):
    (card,) = compose(situation(channel(error=error, end=None)), EN).cards
    assert card.lines == lines


def test_the_name_on_a_card_is_one_clean_line():
    (card,) = compose(situation(channel(name=HOSTILE)), EN).cards
    assert card.title == f"{CLEAN} (1)"


def test_a_card_shows_the_number_of_its_line():
    one = replace(channel(), phone_number="+34 600 000 000")
    (card,) = compose(situation(one), EN).cards
    assert card.title == "Bakery North (1, +34 600 000 000)"


@pytest.mark.parametrize(
    ("id_", "link"),
    [
        (12, "https://app.example/?c=12"),
        ("cl9x", "https://app.example/?c=cl9x"),
        ("a/b c&d", "https://app.example/?c=a%2Fb%20c%26d"),
        ("../{channel_id}?#ñ", "https://app.example/?c=..%2F%7Bchannel_id%7D%3F%23%C3%B1"),
    ],
)
def test_the_id_is_encoded_in_the_link(id_, link):
    (card,) = compose(situation(channel(id_), url="https://app.example/?c={channel_id}"), EN).cards
    assert card.link == link


@pytest.mark.parametrize(
    ("url", "link"),
    [
        (None, None),
        ("https://app.example/channels", "https://app.example/channels"),
        (
            "https://app.example/ñ?a='(b)%20*&c=\"<>{}|\\^`#!$,;:@[]~",
            "https://app.example/%C3%B1?a='(b)%20*&c=%22%3C%3E%7B%7D%7C%5C%5E%60#!$,;:@[]~",
        ),
        ("https://señal.example/", "https://se%C3%B1al.example/"),
    ],
)
def test_a_link_may_be_missing_or_the_same_for_all_and_has_no_odd_characters(url, link):
    (card,) = compose(situation(channel(), url=url), EN).cards
    assert card.link == link
