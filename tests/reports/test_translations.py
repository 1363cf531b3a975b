"""What people are told about a token, in English and in Spanish."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest

from whatsapp_tokens.reports import translations as words
from whatsapp_tokens.reports.translations import ADVICE, CAUSES, EN, LAST_ADVICE, Words
from whatsapp_tokens.settings import Language

ES = Words(Language.ES)
NOW = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)


def in_(**time):
    return NOW + timedelta(**time)


@pytest.mark.parametrize(
    ("end", "english", "spanish"),
    [
        (None, "its end is not known", "no se sabe cuándo caduca"),
        (in_(days=9, hours=23), "ends on 11 Dec 2026 (9 days)", "caduca el 11 dic 2026 (9 días)"),
        (in_(days=1), "ends on 2 Dec 2026 (1 day)", "caduca el 2 dic 2026 (1 día)"),
        (
            in_(hours=23),
            "ends on 2 Dec 2026 (less than a day)",
            "caduca el 2 dic 2026 (menos de un día)",
        ),
        (NOW, "ended on 1 Dec 2026", "caducó el 1 dic 2026"),
        (in_(days=-3), "ended on 28 Nov 2026", "caducó el 28 nov 2026"),
    ],
)
def test_when_a_token_ends_is_part_of_a_sentence(end, english, spanish):
    assert (EN.ends(end, NOW), ES.ends(end, NOW)) == (english, spanish)


@pytest.mark.parametrize(
    ("end", "english", "spanish"),
    [
        (None, "unknown", "desconocido"),
        (in_(days=9), "9 days", "9 días"),
        (in_(days=1, hours=5), "1 day", "1 día"),
        (in_(hours=1), "less than a day", "menos de un día"),
        (NOW, "ended today", "caducó hoy"),
        (in_(days=-1), "ended 1 day ago", "caducó hace 1 día"),
        (in_(days=-40), "ended 40 days ago", "caducó hace 40 días"),
    ],
)
def test_how_long_a_token_lives_is_counted_in_whole_days(end, english, spanish):
    assert (EN.left(end, NOW), ES.left(end, NOW)) == (english, spanish)


def test_a_reason_that_is_not_known_is_its_own_cause():
    assert (ES.cause("strange_one"), ES.advice("strange_one")) == ("strange_one", "mire el detalle")


@pytest.mark.parametrize("reason", ["unavailable", "unexpected_answer", "not_extended"])
def test_on_the_last_day_nobody_is_told_to_wait(reason):
    waits = ("nothing yet", "next run", "before it ends")
    ends = {"unknown": None, "days": in_(days=1), "hours": in_(hours=23), "now": NOW, "past": in_(days=-3)}
    said = {name: EN.advice_by(reason, end, NOW) for name, end in ends.items()}
    early, late = EN.advice(reason), said["now"]
    assert said == {"unknown": early, "days": early, "hours": late, "now": late, "past": late}
    assert (any(one in early for one in waits), "must connect WhatsApp again" in late) == (True, True)


def test_other_advice_is_the_same_on_the_last_day():
    assert EN.advice_by("reconnect_required", NOW, NOW) == "the customer must connect WhatsApp again"


def every_phrase():
    """All texts that there are."""
    singles = [value for value in vars(words).values() if is_phrase(value)]
    pairs = [
        value for value in vars(words).values() if isinstance(value, tuple) and all(map(is_phrase, value))
    ]
    return [*CAUSES.values(), *ADVICE.values(), *LAST_ADVICE.values(), *singles, *chain.from_iterable(pairs)]


def is_phrase(value):
    return isinstance(value, dict) and set(value) == set(Language)


def test_every_phrase_is_said_in_every_language_and_in_each_differently():
    assert [one for one in every_phrase() if not all(one.values()) or len(set(one.values())) == 1] == []


def test_every_phrase_has_the_same_gaps_in_every_language():
    assert [one for one in every_phrase() if len({text.count("{}") for text in one.values()}) != 1] == []
