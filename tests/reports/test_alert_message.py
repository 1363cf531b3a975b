"""What an alert says, as literal text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_text import CLEAN, HOSTILE, LATER, NOW, PAST, RENEWED, SOON, SPANISH
from world import days

from models import Channel
from notify import Card, Message
from whatsapp_tokens.redaction import Secret
from whatsapp_tokens.reports.alert_message import Ended, Situation, Style, compose
from whatsapp_tokens.reports.labels import label
from whatsapp_tokens.reports.language import ENGLISH, Language
from whatsapp_tokens.results import (
    Aborted,
    AbortReason,
    Failed,
    First,
    Reason,
    Tally,
)

NOT_LONGER = "not_extended: the new token does not live longer"


def channel(
    id_=1, name="Bakery North", *, error="not_extended: the new token does not live longer", expires_at=SOON
):
    return Channel(id_, name, "ciphertext", expires_at=expires_at, status="warning", error=error)


def dead(id_=1, name="Bakery North", expires_at=SOON):
    return channel(id_, name, error="reconnect_required: the session was invalidated", expires_at=expires_at)


def well(id_=7, name="Garage"):
    return Channel(id_, name, "ciphertext", status="ok", alerted_at=PAST)


def situation(*attention, recovered=(), stopped=None, tally=None, unwritten=()):
    return Situation(attention, recovered, Ended(tally or Tally(), stopped, First(list(unwritten))), NOW)


def message(of, language=ENGLISH, url=None):
    return compose(of, Style(language, url)).message


REFUSED = Failed(
    id=13,
    name="Corner Shop",
    expires_at=SOON,
    reason=Reason.WRITE_FAILED,
    detail="disk full; the old stays",
)
STOPPED = Aborted(AbortReason.APP_REJECTED, "Meta says that META_APP_SECRET is wrong")
URL = "https://app.example/channels/{channel_id}/reconnect?c={channel_id}"


def busy():
    """A run that had everything to tell of."""
    tally = Tally(candidates=900, due=20, renewed=17, failed=2, waiting=4, left=1)
    channels = (
        channel("cl 9", "Corner Shop", error="undecryptable: no key opens it", expires_at=LATER),
        channel("cl 8", "Kiosk", error="missing_permission: missing permission: x", expires_at=LATER),
        dead(),
    )
    return situation(*channels, recovered=(well(),), tally=tally)


def test_an_alert_names_who_must_do_what_until_when_and_where():
    assert message(busy(), url=URL) == Message(
        title="3 WhatsApp lines need attention: 1 has stopped working",
        summary="1 line has stopped working: Meta no longer accepts its token. 1 line works, but its token "
        "lacks a permission, or its data access expires soon. The renewal of 1 line failed: when its token "
        "expires, that customer's WhatsApp stops. Recovered: Garage (7).",
        cards=(
            Card(
                "Bakery North (1)",
                (
                    "Meta no longer accepts the token: the session was invalidated",
                    "Stopped working",
                    "To do: the customer must connect WhatsApp again",
                ),
                "https://app.example/channels/1/reconnect?c=1",
            ),
            Card(
                "Corner Shop (cl 9)",
                (
                    "The stored token cannot be decrypted: no key opens it",
                    "Expires on 30 Jan 2027 (60 days)",
                    (
                        "To do: add its key to TOKEN_ENCRYPTION_KEY; if the stored value is no token, store"
                        " one (--set-token)"
                    ),
                ),
            ),
            Card(
                "Kiosk (cl 8)",
                (
                    "The token works, but not for everything: missing permission (x)",
                    "Expires on 30 Jan 2027 (60 days)",
                    "To do: the customer must connect WhatsApp again and grant every permission",
                ),
                "https://app.example/channels/cl%208/reconnect?c=cl%208",
            ),
        ),
        footer="17 renewed · 2 failed · 4 waiting for a reconnect · 1 left · 1 Dec 2026, 08:00 UTC",
        and_more="… and {} more: the status page (--report) shows all of them",
        link_label="Status page",
    )


def test_an_alert_says_all_of_it_in_spanish_too():
    said = message(
        situation(*busy().attention[::2], recovered=(well(),), tally=busy().ended.tally), SPANISH, URL
    )
    assert said == Message(
        title="2 líneas de WhatsApp necesitan atención: 1 ha dejado de funcionar",
        summary="1 línea ha dejado de funcionar: Meta ya no acepta su token. Falló la renovación de 1 línea: "
        "cuando caduque su token, el WhatsApp de ese cliente dejará de funcionar. Recuperadas: Garage (7).",
        cards=(
            Card(
                "Bakery North (1)",
                (
                    "Meta ya no acepta el token: the session was invalidated",
                    "Ya no funciona",
                    "Qué hacer: el cliente debe volver a conectar WhatsApp",
                ),
                "https://app.example/channels/1/reconnect?c=1",
                "Reconectar",
            ),
            Card(
                "Corner Shop (cl 9)",
                (
                    "El token guardado no se puede descifrar: no key opens it",
                    "Caduca el 30 ene 2027 (60 días)",
                    (
                        "Qué hacer: añada su clave a TOKEN_ENCRYPTION_KEY; si el valor guardado no es un"
                        " token, guarde uno (--set-token)"
                    ),
                ),
                None,
                "Reconectar",
            ),
        ),
        footer="renovadas: 17 · con fallo: 2 · a la espera de reconexión: 4 · sin procesar: 1"
        " · 1 dic 2026, 08:00 UTC",
        and_more="… y {} más: la página de estado (--report) las muestra todas",
        link_label="Página de estado",
    )


def test_an_alert_says_all_of_it_in_portuguese_too():
    told = situation(*busy().attention[::2], recovered=(well(),), tally=busy().ended.tally)
    said = message(told, Language("pt"), URL)
    assert said == Message(
        title="2 linhas de WhatsApp precisam de atenção: 1 parou de funcionar",
        summary="1 linha parou de funcionar: a Meta não aceita mais o token dela. A renovação de 1 linha "
        "falhou: quando o token expirar, o WhatsApp desse cliente deixará de funcionar. "
        "Voltaram a funcionar: Garage (7).",
        cards=(
            Card(
                "Bakery North (1)",
                (
                    "A Meta não aceita mais o token: the session was invalidated",
                    "Parou de funcionar",
                    "O que fazer: o cliente precisa conectar o WhatsApp de novo",
                ),
                "https://app.example/channels/1/reconnect?c=1",
                "Reconectar",
            ),
            Card(
                "Corner Shop (cl 9)",
                (
                    "O token armazenado não pode ser descriptografado: no key opens it",
                    "Expira em 30 jan. 2027 (60 dias)",
                    (
                        "O que fazer: adicione a chave dele a TOKEN_ENCRYPTION_KEY; se o valor armazenado não"
                        " for um token, armazene um (--set-token)"
                    ),
                ),
                None,
                "Reconectar",
            ),
        ),
        footer="renovadas: 17 · com falha: 2 · aguardando reconexão: 4 · pendentes: 1"
        " · 1 dez. 2026, 08:00 UTC",
        and_more="… e mais {}: a página de status (--report) mostra todas",
        link_label="Página de status",
    )


@pytest.mark.parametrize(
    ("expiries", "title", "summary"),
    [
        (
            [SOON],
            "1 WhatsApp line needs attention",
            "when its token expires, that customer's WhatsApp stops.",
        ),
        ([NOW], "1 WhatsApp line has stopped working", "Meta no longer accepts its token."),
        ([PAST, NOW], "2 WhatsApp lines have stopped working", "Meta no longer accepts their tokens."),
        (
            [PAST, SOON],
            "2 WhatsApp lines need attention: 1 has stopped working",
            "when its token expires, that customer's WhatsApp stops.",
        ),
        (
            [SOON, None],
            "2 WhatsApp lines need attention",
            "when a token expires, that customer's WhatsApp stops.",
        ),
    ],
)
def test_what_has_stopped_already_is_not_announced(expiries, title, summary):
    said = message(situation(*(channel(number, expires_at=at) for number, at in enumerate(expiries))))
    assert (said.title, said.summary.endswith(summary)) == (title, True)


@pytest.mark.parametrize(("expires_at", "down"), [(PAST, 2), (SOON, 1)])
def test_a_row_that_was_not_written_counts_for_what_has_stopped_too(expires_at, down):
    assert (
        situation(channel(expires_at=PAST), unwritten=[replace(REFUSED, expires_at=expires_at)]).down == down
    )


@pytest.mark.parametrize("expires_at", [SOON, None])
def test_a_line_whose_token_meta_rejects_has_stopped_working_with_any_expiry(expires_at):
    said = message(situation(dead(expires_at=expires_at)))
    assert (said.title, said.cards[0].lines[1]) == ("1 WhatsApp line has stopped working", "Stopped working")


def test_a_line_that_was_renewed_and_lacks_a_permission_is_not_told_as_a_failed_renewal():
    lacking = channel(error="missing_permission: missing permission: x", expires_at=LATER)
    assert message(situation(lacking)).summary == (
        "1 line works, but its token lacks a permission, or its data access expires soon."
    )


def test_what_has_stopped_working_comes_first_and_then_what_expires_first():
    channels = [
        channel(1, expires_at=SOON),
        channel(2, expires_at=None),
        dead(3, expires_at=LATER),
        channel(4, expires_at=PAST),
        dead(5, expires_at=None),
    ]
    titles = [card.title for card in message(situation(*channels)).cards]
    assert titles == [f"Bakery North ({number})" for number in (5, 4, 3, 2, 1)]


def test_our_own_details_are_in_the_language_of_the_alert():
    revoked = channel(
        error="reconnect_required: the token was revoked; Graph error: 190/466; Meta said: “no”"
    )
    stopped = Aborted(
        AbortReason.SYSTEMIC,
        "the customer logged out; 10",
    )
    said = message(situation(revoked, stopped=stopped), SPANISH)
    assert said.cards[0].lines[0] == (
        "Meta ya no acepta el token: el token fue revocado; error de Graph 190/466; Meta dijo “no”"
    )
    assert "ninguna tuvo éxito (systemic): el cliente cerró la sesión; 10. Qué hacer" in said.summary


@pytest.mark.parametrize(
    ("of", "english", "spanish"),
    [
        (
            situation(channel()),
            "1 WhatsApp line needs attention",
            "1 línea de WhatsApp necesita atención",
        ),
        (
            situation(dead(), dead(2)),
            "2 WhatsApp lines have stopped working",
            "2 líneas de WhatsApp han dejado de funcionar",
        ),
        (
            situation(unwritten=(REFUSED,)),
            "1 WhatsApp line needs attention",
            "1 línea de WhatsApp necesita atención",
        ),
        (
            situation(channel(), unwritten=(REFUSED,)),
            "2 WhatsApp lines need attention",
            "2 líneas de WhatsApp necesitan atención",
        ),
        (
            situation(recovered=(well(),)),
            "1 WhatsApp line has recovered",
            "1 línea de WhatsApp se ha recuperado",
        ),
        (
            situation(recovered=(well(), well(8))),
            "2 WhatsApp lines have recovered",
            "2 líneas de WhatsApp se han recuperado",
        ),
        (
            situation(channel(), recovered=(well(),)),
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
    assert (message(of).title, message(of, SPANISH).title) == (english, spanish)


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
            situation(channel(), stopped=Aborted("database_lost", "timed\nout"), recovered=(well(),)),
            (
                "The database cannot be reached (database_lost): timed out. To do: check that the database is"
                " up; the next run does the rest. 1 WhatsApp line needs attention. The renewal of 1 line"
                " failed: when its token expires, that customer's WhatsApp stops. Recovered: Garage (7)."
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
            situation(dead()),
            "1 line has stopped working: Meta no longer accepts its token.",
        ),
        (
            situation(recovered=(well(),)),
            "Recovered: Garage (7). No action needed.",
        ),
        (
            situation(recovered=(well(), well(8, "Kiosk"))),
            "Recovered: Garage (7), Kiosk (8). No action needed.",
        ),
    ],
)
def test_the_summary_says_what_it_means(of, summary):
    assert message(of).summary == summary


def test_a_run_that_stopped_says_why_in_spanish():
    assert message(situation(stopped=STOPPED), SPANISH).summary == (
        "Meta rechaza la app (app_rejected): Meta says that META_APP_SECRET is wrong. Qué hacer: revise"
        " META_APP_ID, META_APP_SECRET y el estado de la app en el panel de apps de Meta."
    )


@pytest.mark.parametrize(
    ("count", "length", "named"),
    [(14, 100, 14), (15, 100, 14), (312, 100, 14), (2, 300, 2), (1, 490, 1), (5, 490, 3)],
)
def test_recoveries_that_do_not_fit_into_the_summary_are_named_in_lines(count, length, named):
    said = message(situation(channel(), recovered=[well(number, "x" * length) for number in range(count)]))
    end = f" and {count - named} more." if count > named else ")."
    assert (said.summary.endswith(end), len(said.lines), len(said.summary) < 3000) == (
        True,
        count - named,
        True,
    )


@pytest.mark.parametrize(
    ("count", "unwritten", "cards", "lines", "more"),
    [
        (20, 0, 20, 0, 0),
        (40, 0, 20, 20, 0),
        (20, 1, 20, 1, 0),
        (0, 50, 20, 30, 0),
        (500, 0, 20, 480, 0),
        (501, 0, 20, 480, 1),
        (499, 3, 20, 480, 2),
    ],
)
def test_the_most_urgent_are_cards_up_to_500_a_line_and_the_rest_is_counted(
    count, unwritten, cards, lines, more
):
    of = situation(*map(channel, range(count)), unwritten=(REFUSED,) * unwritten)
    alert = compose(of, Style())
    said = alert.message
    assert (len(said.cards), len(said.lines), said.more) == (cards, lines, more)
    assert len(alert.named) == cards + lines
    assert said.rest == (f"… and {more} more: the status page (--report) shows all of them" if more else "")


def test_each_channel_is_told_of_in_one_place():
    channels = [channel(number) for number in range(600)]
    recovered = [well(number, "x" * 100) for number in range(600, 630)]
    alert = compose(situation(*channels, recovered=recovered), Style())
    told = [one.id for one in (*alert.named, *alert.enumerated, *alert.counted)]
    assert (sorted(told), len(alert.enumerated), len(alert.counted)) == (list(range(630)), 14, 116)


def test_a_line_says_which_why_and_until_when():
    channels = [dead(number) for number in range(20)] + [
        dead(20, expires_at=LATER),
        channel(21, "x" * 400, error=None, expires_at=None),
        channel(22),
    ]
    assert message(situation(*channels)).lines == (
        "Bakery North (20): stopped working; Meta no longer accepts the token → the customer",
        f"{'x' * 199}…: its expiry is not known; its cause is not known → your team",
        (
            "Bakery North (22): expires on 10 Dec 2026 (9 days); "
            "Meta answered, but did not extend the token → the customer"
        ),
    )


@pytest.mark.parametrize(
    ("expires_at", "said"),
    [
        (SOON, "Stopped working, found on 27 Nov 2026"),
        (None, "Stopped working, found on 27 Nov 2026"),
        (PAST, "Stopped working, found on 27 Nov 2026"),
        (NOW - days(9), "Stopped working on 22 Nov 2026"),
    ],
)
def test_a_line_that_is_down_says_since_when(expires_at, said):
    found = NOW - days(4)
    one = replace(situation(dead(expires_at=expires_at)), rejected_since={"1": found})
    assert message(one).cards[0].lines[1] == said


@pytest.mark.parametrize(
    ("error", "left", "is_linked"),
    [
        ("reconnect_required: x", 9, True),
        ("missing_permission: x", 40, True),
        ("not_extended: x", 9, True),
        ("unavailable: x", 0.5, True),
        ("unavailable: x", 9, False),
        ("unexpected_answer: x", 9, False),
        ("undecryptable: x", 9, False),
    ],
)
def test_there_is_a_link_to_reconnect_only_where_the_customer_must_act(error, left, is_linked):
    one = channel(error=error, expires_at=NOW + days(left))
    assert (message(situation(one), url=URL).cards[0].link is not None) is is_linked


@pytest.mark.parametrize(
    ("url", "link"),
    [
        ("https://status.example/w.html", "https://status.example/w.html"),
        ("https://status.example/wä.html?a=<b>", "https://status.example/w%C3%A4.html?a=%3Cb%3E"),
    ],
)
def test_the_link_to_the_status_page_is_in_the_alert(url, link):
    said = compose(situation(channel()), Style(status_page_url=url)).message
    assert (said.link, said.link_label) == (link, "Status page")


def test_what_a_run_itself_tells_is_kept_up_to_five_hundred_and_then_counted():
    refused = First()
    for _ in range(650):
        refused.add(REFUSED)
    said = message(replace(situation(channel()), ended=Ended(Tally(), unwritten=refused)))
    assert (len(refused.kept), len(refused)) == (500, 650)
    assert (said.title, len(said.cards), len(said.lines), said.more) == (
        "651 WhatsApp lines need attention",
        20,
        480,
        151,
    )


def test_of_a_name_without_end_the_beginning_is_shown_and_no_half_of_a_secret():
    secret = Secret("s3cr3t" * 10)
    long = replace(RENEWED, name="x" * 480 + secret.reveal() + "y" * 1_000_000)
    assert label(long) == "x" * 480 + "***" + "y" * 16 + "… (12)"


def test_a_row_that_could_not_be_written_is_no_matter_for_the_customer():
    said = message(situation(channel(), unwritten=(REFUSED,)), url="https://app.example/{channel_id}")
    assert said.cards[1:] == (
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
                "Meta gave an answer that this program does not know: two lines (and [31ma colon)",
                "Its expiry is not known",
                "To do: look at the detail; the next run tries again",
            ),
        ),
        (
            "reconnect_required",
            (
                "Meta no longer accepts the token",
                "Stopped working",
                "To do: the customer must connect WhatsApp again",
            ),
        ),
        ("two\nlines", ("Two lines", "Its expiry is not known", "To do: look at the detail")),
        (None, ("Its cause is not known", "Its expiry is not known", "To do: look at the detail")),
    ],
)
def test_a_card_has_three_clean_lines_for_any_row(error, lines):
    (card,) = message(situation(channel(error=error, expires_at=None))).cards
    assert card.lines == lines


def test_the_name_on_a_card_is_one_clean_line():
    (card,) = message(situation(channel(name=HOSTILE))).cards
    assert card.title == f"{CLEAN} (1)"


def test_a_card_shows_the_number_of_its_line():
    one = replace(channel(), phone_number="+34 600 000 000")
    (card,) = message(situation(one)).cards
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
    (card,) = message(situation(channel(id_)), url="https://app.example/?c={channel_id}").cards
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
    (card,) = message(situation(channel()), url=url).cards
    assert card.link == link
