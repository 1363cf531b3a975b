"""What an alert says, as literal text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_text import CLEAN, FAILED, HOSTILE, NOW, PAST, RENEWED, SOON, SPANISH

from models import Channel
from notify import Card, Message
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.reports.alert_message import First, Situation, compose
from whatsapp_tokens.reports.labels import label
from whatsapp_tokens.reports.language import ENGLISH
from whatsapp_tokens.results import (
    Aborted,
    AbortReason,
    Failed,
    Reason,
    Tally,
)


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
    assert compose(busy(), ENGLISH) == Message(
        title="2 WhatsApp lines need attention",
        summary="Their renewal failed. When a token expires, that customer's WhatsApp stops. "
        "Recovered: Garage (7).",
        cards=(
            Card(
                "Bakery North (1)",
                (
                    "Meta no longer accepts the token: the session was invalidated",
                    "Expires on 10 Dec 2026 (9 days)",
                    "To do: the customer must connect WhatsApp again",
                ),
                "https://app.example/channels/1/reconnect?c=1",
            ),
            Card(
                "Corner Shop (cl 9)",
                (
                    "The stored token cannot be decrypted: no key opens it",
                    "Expired on 28 Nov 2026",
                    "To do: add its key to TOKEN_ENCRYPTION_KEY, or have the customer connect WhatsApp again",
                ),
                "https://app.example/channels/cl%209/reconnect?c=cl%209",
            ),
        ),
        footer="17 renewed · 2 failed · 4 waiting for a reconnect · 1 left · 1 Dec 2026, 08:00 UTC",
    )


def test_an_alert_says_all_of_it_in_spanish_too():
    assert compose(busy(), SPANISH) == Message(
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
        ([SOON], "When its token expires, that customer's WhatsApp stops", "Cuando caduque su token"),
        ([NOW], "its token has expired: that customer's WhatsApp has stopped", "y su token ha caducado"),
        ([PAST, NOW], "their tokens have expired", "el WhatsApp de estos clientes ya no funciona"),
        ([PAST, SOON], "When a token expires", "Cuando caduca un token"),
        ([PAST, None], "When a token expires", "Cuando caduca un token"),
    ],
)
def test_what_has_stopped_already_is_not_announced(ends, english, spanish):
    named = [channel(number, end=end) for number, end in enumerate(ends)]
    said = [compose(situation(*named), words).summary for words in (ENGLISH, SPANISH)]
    assert (english in said[0], spanish in said[1]) == (True, True)


@pytest.mark.parametrize(("end", "is_past"), [(PAST, True), (SOON, False)])
def test_a_row_that_was_not_written_counts_for_what_has_stopped_too(end, is_past):
    of = situation(channel(end=PAST), unwritten=[replace(REFUSED, expires_at=end)])
    assert ("their tokens have expired" in compose(of, ENGLISH).summary) is is_past


def test_whether_those_that_are_not_named_have_ended_is_not_known():
    of = replace(situation(), unwritten=First([replace(REFUSED, expires_at=PAST)], more=1))
    assert "When a token expires" in compose(of, ENGLISH).summary


def test_our_own_details_are_in_the_language_of_the_alert():
    dead = channel(error="reconnect_required: the token was revoked; Graph error: 190/466; Meta said: “no”")
    stopped = Aborted(
        AbortReason.SYSTEMIC,
        "the customer logged out; 10",
    )
    message = compose(situation(dead, stopped=stopped), SPANISH)
    assert message.cards[0].lines[0] == (
        "Meta ya no acepta el token: el token fue revocado; error de Graph: 190/466; Meta dijo: “no”"
    )
    assert "ninguna tuvo éxito (systemic): el cliente cerró la sesión; 10. Qué hacer" in message.summary


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
    assert (compose(of, ENGLISH).title, compose(of, SPANISH).title) == (english, spanish)


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
                "The database cannot be reached (database_lost): timed out. To do: check that the database is"
                " up; the next run does the rest. 1 WhatsApp line needs attention. Its renewal"
                " failed. When its token expires, that customer's WhatsApp stops. Recovered: Garage (7)."
            ),
        ),
        (
            situation(stopped=Aborted("internal_error", "")),
            (
                "The program itself failed (internal_error). To do: this is a bug in the program: report"
                " it with the log."
            ),
        ),
        (
            situation(channel()),
            "Its renewal failed. When its token expires, that customer's WhatsApp stops.",
        ),
        (
            situation(recovered=("Garage (7)",)),
            "Recovered: Garage (7). No action needed.",
        ),
        (
            situation(recovered=("Garage (7)", "Kiosk (8)")),
            "Recovered: Garage (7), Kiosk (8). No action needed.",
        ),
    ],
)
def test_the_summary_says_what_it_means(of, summary):
    assert compose(of, ENGLISH).summary == summary


def test_a_run_that_stopped_says_why_in_spanish():
    assert compose(situation(stopped=STOPPED), SPANISH).summary == (
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
    recovered = compose(situation(channel(), recovered=("x" * length,) * count), ENGLISH).summary
    assert recovered.endswith(end)
    assert len(recovered) < 3000


@pytest.mark.parametrize(
    ("count", "unwritten", "shown", "more"),
    [(45, 0, 45, 0), (46, 0, 45, 1), (357, 0, 45, 312), (44, 1, 45, 0), (45, 1, 45, 1), (0, 50, 45, 5)],
)
def test_of_many_channels_the_rest_is_counted(count, unwritten, shown, more):
    message = compose(situation(*map(channel, range(count)), unwritten=(FAILED,) * unwritten), ENGLISH)
    assert (len(message.cards), message.more) == (shown, more)
    assert message.rest == (f"… and {more} more" if more else "")


def test_what_a_run_itself_tells_is_kept_up_to_a_hundred_and_then_counted():
    told, refused = First(), First()
    for number in range(250):
        told.add(f"Garage ({number})")
        refused.add(FAILED)
    message = compose(Situation([channel()], told, None, Tally(), NOW, unwritten=refused), ENGLISH)
    assert (len(told.kept), len(told), len(refused.kept), len(refused)) == (100, 250, 100, 250)
    assert (message.title, len(message.cards), message.more) == ("251 WhatsApp lines need attention", 45, 206)
    assert message.summary.endswith("Garage (99) and 150 more.")


def test_of_a_name_without_end_the_beginning_is_shown_and_no_half_of_a_secret():
    secret = Secret("s3cr3t" * 10)
    long = replace(RENEWED, name="x" * 480 + secret.reveal() + "y" * 1_000_000)
    assert label(long) == "x" * 480 + "***" + "y" * 16 + "… (12)"


def test_a_row_that_could_not_be_written_is_no_matter_for_the_customer():
    message = compose(
        situation(channel(), unwritten=(REFUSED,), url="https://app.example/{channel_id}"), ENGLISH
    )
    assert message.cards[1:] == (
        Card(
            "Corner Shop (13)",
            (
                "The database refused the row: disk full; the old stays",
                "Expires on 10 Dec 2026 (9 days)",
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
                "Meta gave an answer that this program does not know: two lines: and [31ma colon",
                "Its expiry is not known",
                "To do: look at the detail; the next run tries again",
            ),
        ),
        (
            "reconnect_required",
            (
                "Meta no longer accepts the token",
                "Its expiry is not known",
                "To do: the customer must connect WhatsApp again",
            ),
        ),
        ("two\nlines", ("Two lines", "Its expiry is not known", "To do: look at the detail")),
        (None, ("Its cause is not known", "Its expiry is not known", "To do: look at the detail")),
    ],
)
def test_whatever_the_row_says_a_card_has_three_clean_lines(error, lines):
    (card,) = compose(situation(channel(error=error, end=None)), ENGLISH).cards
    assert card.lines == lines


def test_the_name_on_a_card_is_one_clean_line():
    (card,) = compose(situation(channel(name=HOSTILE)), ENGLISH).cards
    assert card.title == f"{CLEAN} (1)"


def test_a_card_shows_the_number_of_its_line():
    one = replace(channel(), phone_number="+34 600 000 000")
    (card,) = compose(situation(one), ENGLISH).cards
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
    (card,) = compose(situation(channel(id_), url="https://app.example/?c={channel_id}"), ENGLISH).cards
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
    (card,) = compose(situation(channel(), url=url), ENGLISH).cards
    assert card.link == link
