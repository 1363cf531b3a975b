"""What a row is: its times, its fingerprint, and the table that it stands in."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from models import (
    AuditEntry,
    Channel,
    Event,
    PendingUpdate,
    Status,
    TableMap,
    as_channel,
    fingerprint,
    plain_id,
)
from whatsapp_tokens.database.connection import Connection
from whatsapp_tokens.database.schema import reflect
from whatsapp_tokens.database.url import parse_url

CHANNEL = Channel(1, "Shop", "a-ciphertext")


@pytest.fixture
def connection(database_url):
    with closing(Connection(parse_url(database_url))) as opened:
        yield opened


def tables(connection, **mapping):
    return connection.run(lambda c, _: reflect(c, TableMap(**mapping)))


# Values


@pytest.mark.parametrize(
    ("stored", "replaced"), [(None, False), (fingerprint("a-ciphertext"), False), ("", True), ("x", True)]
)
def test_a_token_was_replaced_if_the_fingerprint_is_that_of_another(stored, replaced):
    assert replace(CHANNEL, fingerprint=stored).replaced is replaced


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (None, None),
        ("", None),
        ("not_extended", "not_extended"),
        ("reconnect_required: Error validating access token: Session has expired", "reconnect_required"),
    ],
)
def test_the_reason_is_what_stands_before_the_colon(error, reason):
    assert replace(CHANNEL, error=error).reason == reason


def test_a_repr_has_no_ciphertext():
    entry = AuditEntry(Event.REFRESHED, "message")
    now = datetime(2026, 6, 15, tzinfo=UTC)
    change = PendingUpdate(CHANNEL, now, "another-ciphertext", Status.OK, now, now, audit=(entry,))
    assert "ciphertext" not in repr(CHANNEL) + repr(change) + f"{change}"


@pytest.mark.parametrize(("id_", "plain"), [(7, 7), ("cm3x", "cm3x"), (UUID(int=5), str(UUID(int=5)))])
def test_an_id_is_a_number_or_a_text(id_, plain):
    assert plain_id(id_) == plain


@pytest.mark.parametrize(
    ("name", "shown"),
    [("Shop", "Shop"), (None, "7"), ("", "7"), (12, "12"), ({"es": "Shop"}, "{'es': 'Shop'}")],
)
def test_a_channel_without_a_name_is_shown_by_its_id(name, shown):
    assert as_channel((7, name, "x", *[None] * 7)).name == shown


def test_a_ciphertext_that_is_no_text_is_shown_as_one():
    assert as_channel((7, None, 12345, *[None] * 7)).ciphertext == "12345"


# The fingerprint


ODD_TEXTS = [
    "a-ciphertext",
    " ",
    "ñandú € 😀 \u202e \u0301",
    "two\nlines\r\n\tand 'quotes' \"of\" \\every\\ kind %s %(x)s :x",
    "x" * 2**20,
]


def fingerprints(rows, connection, text):
    """What the program's own SQL calls the fingerprint of a stored text, and what the row holds."""
    channel, _ = tables(connection)
    id_ = rows.insert(wa_token_encrypted=text)
    kind = sa.LargeBinary() if rows.is_sqlite else sa.Text()
    md5 = sa.func.md5(sa.cast(channel.c.wa_token_encrypted, kind))
    query = sa.select(md5, channel.c.wa_token_encrypted).where(channel.c.id == id_)
    return connection.run(lambda c, _: c.execute(query).one())


@pytest.mark.parametrize("text", ODD_TEXTS, ids=["plain", "space", "unicode", "quotes", "a megabyte"])
def test_the_database_finds_the_same_fingerprint_as_the_program(rows, connection, text):
    assert tuple(fingerprints(rows, connection, text)) == (fingerprint(text), text)


def test_no_text_has_no_fingerprint(rows, connection):
    assert tuple(fingerprints(rows, connection, None)) == (None, None)


@given(st.text())
def test_every_text_has_a_fingerprint(text):
    assert len(fingerprint(text)) == 32


def test_a_fingerprint_is_an_md5():
    assert fingerprint("abc") == "900150983cd24fb0d6963f7d28e17f72"


def test_even_half_a_character_has_a_fingerprint():
    assert fingerprint("a\ud800") == fingerprint("a?")
