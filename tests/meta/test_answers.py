"""Answers are read by their shape before they are believed, and nothing breaks the reading."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.graph import APP_ID
from whatsapp_tokens.meta.answers import Exchanged, Inspection, read_exchange, read_inspection, read_payload
from whatsapp_tokens.meta.errors import (
    ForeignToken,
    MetaError,
    RateLimited,
    ReconnectRequired,
    Unavailable,
    UnexpectedAnswer,
)
from whatsapp_tokens.redaction import Secret

NOW = 1_800_000_000
VALID = {"app_id": APP_ID, "is_valid": True}
GOOD = {"access_token": "EAA-a-new-token", "token_type": "bearer", "expires_in": 5_184_000}
NOTHING = Inspection(
    kind=None,
    user_id=None,
    expires_at=None,
    never_expires=False,
    data_access_expires_at=None,
    issued_at=None,
    scopes=None,
    app_id=APP_ID,
)
ODD_TOKENS = {
    "with a space": "abc d",
    "like base64": "x/y+z=",
    "long": "Zq7" * 100,
    "with what URLs and JSON escape": 'q&u?o#t%41"e\\d',
    "not Latin": "tökén-日本",
    "with line breaks": "tok\n en\r\n",
}


def at(seconds):
    """A moment in Unix time."""
    return datetime.fromtimestamp(seconds, UTC)


def payload(endpoint, body, status, headers):
    """What an answer with this body holds; what is no text or bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    return read_payload(endpoint, status, {**headers}, raw)


def inspected(body, status=200, **headers):
    return read_inspection(payload("debug_token", body, status, headers), APP_ID)


def exchanged(body, status=200, **headers):
    return read_exchange(payload("exchange", body, status, headers))


# What an inspection says


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, {}),
        ({"type": "SYSTEM_USER", "user_id": "42"}, {"kind": "SYSTEM_USER", "user_id": "42"}),
        ({"type": ["USER"], "user_id": 42}, {"user_id": "42"}),
        ({"type": None, "user_id": True}, {}),
        ({"expires_at": NOW}, {"expires_at": at(NOW)}),
        ({"expires_at": str(NOW)}, {"expires_at": at(NOW)}),
        ({"expires_at": 253_402_300_799}, {"expires_at": at(253_402_300_799)}),
        ({"expires_at": 0}, {"never_expires": True}),
        ({"expires_at": "0"}, {"never_expires": True}),
        ({"expires_at": None}, {}),
        ({"data_access_expires_at": NOW}, {"data_access_expires_at": at(NOW)}),
        ({"data_access_expires_at": 0}, {}),
        ({"issued_at": NOW}, {"issued_at": at(NOW)}),
        ({"app_id": int(APP_ID)}, {}),
        ({"app_id": None}, {"app_id": None}),
        ({"scopes": []}, {"scopes": frozenset()}),
        ({"scopes": ["a", "b"]}, {"scopes": frozenset("ab")}),
        ({"scopes": "a,b"}, {}),
        ({"granular_scopes": [{"scope": "a", "target_ids": ["1"]}]}, {"scopes": frozenset("a")}),
        ({"scopes": ["a"], "granular_scopes": [{"scope": "b"}]}, {"scopes": frozenset("ab")}),
        ({"scopes": None, "granular_scopes": []}, {"scopes": frozenset()}),
        ({"scopes": ["a", 1, None, ["b"]], "granular_scopes": [None, {}, "c"]}, {"scopes": frozenset("a")}),
        ({"granular_scopes": {"scope": "a"}}, {}),
    ],
)
def test_an_inspection_is_read_by_shape(said, expected):
    assert inspected({"data": VALID | said}) == replace(NOTHING, **expected)


def test_an_inspection_without_an_app_id_says_so():
    assert inspected({"data": {"is_valid": True}}) == replace(NOTHING, app_id=None)


@pytest.mark.parametrize("key", ["expires_at", "data_access_expires_at", "issued_at"])
@pytest.mark.parametrize("value", [-1, 253_402_300_800, 10**30, 1.5, True, "", "soon", []], ids=repr)
def test_an_impossible_date_is_not_believed(key, value):
    with pytest.raises(UnexpectedAnswer, match="impossible date"):
        inspected({"data": VALID | {key: value}})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"data": None},
        {"data": []},
        {"data": [VALID]},
        {"data": "yes"},
        {"data": {}},
        {"data": VALID | {"is_valid": "true"}},
        {"data": VALID | {"is_valid": 1}},
        {"data": VALID | {"is_valid": None}},
        {"error": None},
        "access_token=abc",
    ],
)
def test_an_inspection_that_does_not_say_yes_or_no_is_unexpected(body):
    with pytest.raises(UnexpectedAnswer):
        inspected(body)


@pytest.mark.parametrize(
    ("said", "names_app", "has_cause"),
    [
        ({"app_id": APP_ID, "error": {"code": 190, "subcode": 460}}, True, True),
        ({"app_id": int(APP_ID), "error": {"code": 190, "subcode": 463}}, True, True),
        ({"app_id": APP_ID, "error": {"code": 190}}, True, False),
        ({"error": {"code": 190, "subcode": 460}}, False, True),
        ({"error": {"code": 190, "message": "Malformed access token"}}, False, False),
        ({}, False, False),
    ],
)
def test_a_dead_token_says_whether_meta_named_our_app_and_a_cause(said, names_app, has_cause):
    with pytest.raises(ReconnectRequired) as caught:
        inspected({"data": {"is_valid": False} | said})
    assert (caught.value.names_app, caught.value.has_cause) == (names_app, has_cause)


@pytest.mark.parametrize("is_valid", [True, False])
def test_a_token_of_another_app_is_foreign_alive_or_dead(is_valid):
    error = {"code": 190, "subcode": 460}
    with pytest.raises(ForeignToken, match=r"^the token belongs to another app: 200000000000002$"):
        inspected({"data": {"app_id": "200000000000002", "is_valid": is_valid, "error": error}})


@pytest.mark.parametrize("app_id", ["200000000000002", 200000000000002, f"{APP_ID}0", "", False, [APP_ID]])
def test_a_living_token_of_another_app_needs_a_reconnect(app_id):
    with pytest.raises(ReconnectRequired, match="belongs to another app") as caught:
        inspected({"data": VALID | {"app_id": app_id, "expires_at": NOW}})
    assert caught.value.expires_at == at(NOW)


DEAD = "the token is no longer valid"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            {"code": 190, "subcode": 460, "message": "New password"},
            "the customer's password was changed; Graph error: 190/460; Meta",
        ),
        (
            {"code": 190, "error_subcode": 463, "message": "Old"},
            "the token has expired; Graph error: 190/463; Meta",
        ),
        ({"code": "190", "subcode": "467"}, "the customer logged out; Graph error: 190/467"),
        ({"code": 190, "message": "Whatever"}, f"{DEAD}; Graph error: 190; Meta said: “Whatever”"),
        ({"code": 4, "message": "Too many calls"}, f"{DEAD}; Graph error: 4; Meta said: “Too many calls”"),
        (
            {"code": 1, "message": "An unknown error"},
            f"{DEAD}; Graph error: 1; Meta said: “An unknown error”",
        ),
        (
            {"message": "Error validating application"},
            f"{DEAD}; HTTP: 200; Meta said: “Error validating application”",
        ),
        ("This session has expired", f"{DEAD}; HTTP: 200; Meta said: “This session has expired”"),
        (None, f"{DEAD}; HTTP: 200"),
        ([], f"{DEAD}; HTTP: 200"),
    ],
    ids=repr,
)
def test_an_invalid_token_needs_a_reconnect_with_any_inner_error(error, says):
    with pytest.raises(ReconnectRequired) as caught:
        inspected({"data": {"app_id": APP_ID, "is_valid": False, "error": error}})
    assert str(caught.value).startswith(says)


def test_an_invalid_token_may_be_a_failure_of_metas_that_passes():
    error = {"code": 190, "message": "This session is invalid", "is_transient": True}
    with pytest.raises(Unavailable):
        inspected({"data": {"is_valid": False, "error": error}})


@pytest.mark.parametrize(
    ("said", "expires_at"),
    [
        ({}, None),
        ({"expires_at": 0, "data_access_expires_at": 0}, None),
        ({"expires_at": NOW - 5}, at(NOW - 5)),
        ({"expires_at": NOW - 5, "data_access_expires_at": NOW + 5}, at(NOW - 5)),
        ({"expires_at": NOW + 5, "data_access_expires_at": NOW - 5}, at(NOW - 5)),
        ({"expires_at": 0, "data_access_expires_at": NOW - 5}, at(NOW - 5)),
    ],
    ids=repr,
)
def test_a_dead_token_comes_with_the_earlier_of_its_expiries(said, expires_at):
    with pytest.raises(ReconnectRequired) as caught:
        inspected({"data": {"is_valid": False} | said})
    assert caught.value.expires_at == expires_at


# What an exchange gives


@pytest.mark.parametrize(
    ("said", "expires_in"),
    [
        ({"expires_in": 5_183_944}, timedelta(seconds=5_183_944)),
        ({"expires_in": "5183944"}, timedelta(seconds=5_183_944)),
        ({"expires": 60}, timedelta(seconds=60)),
        ({"expires_in": 60, "expires": 90}, timedelta(seconds=60)),
        ({"expires_in": 60, "machine_id": "m", "token_type": None}, timedelta(seconds=60)),
        ({}, None),
        ({"expires_in": 0}, None),
        ({"expires_in": "0"}, None),
        ({"expires_in": -5}, None),
        ({"expires_in": None}, None),
        ({"expires_in": "soon"}, None),
        ({"expires_in": True}, None),
        ({"expires_in": [60]}, None),
        ({"expires_in": 10**10}, None),
        ({"expires_in": 10**17}, None),
        ({"expires_in": 10**400}, None),
    ],
)
def test_the_life_of_a_new_token_is_what_meta_says_or_unknown(said, expires_in):
    assert exchanged({"access_token": "new"} | said) == Exchanged(Secret("new"), expires_in)


@pytest.mark.parametrize(
    ("body", "token", "expires_in"),
    [
        ("access_token=a%2Bb%2F&expires_in=60", "a+b/", timedelta(seconds=60)),
        ("access_token=7|abc\n", "7|abc", None),
        ("expires=60&access_token=abc", "abc", timedelta(seconds=60)),
    ],
)
def test_the_old_urlencoded_answer_is_understood(body, token, expires_in):
    assert exchanged(body) == Exchanged(Secret(token), expires_in)


@pytest.mark.parametrize("token", ODD_TOKENS.values(), ids=ODD_TOKENS)
def test_a_new_token_may_have_any_shape_without_white_space(token):
    token = "".join(token.split())
    assert exchanged({"access_token": token}).token == Secret(token)


@pytest.mark.parametrize("token", [None, "", 5, True, [], ["abc"], {"a": 1}], ids=repr)
def test_an_answer_without_a_token_is_no_exchange(token):
    with pytest.raises(UnexpectedAnswer, match="an exchange without a token"):
        exchanged(GOOD | {"access_token": token})


@pytest.mark.parametrize(
    "token", ["a b", "abc\n", "\tabc", "a\0b", "a\u00a0b", "\u200babc", "\ud800abc"], ids=ascii
)
def test_a_token_with_white_space_or_invisible_characters_is_not_taken(token):
    with pytest.raises(UnexpectedAnswer, match="spaces or control characters"):
        exchanged(GOOD | {"access_token": token})


@pytest.mark.parametrize(
    "body",
    [
        "true",
        "null",
        "5",
        "[null]",
        '"abc"',
        "",
        " \r\n",
        "{}",
        '{"error": null}',
        "<html><body>Welcome</body></html>",
        "<?xml version='1.0'?><access_token>abc</access_token>",
        "token=abc",
        "access_token=",
        "access_token=a+b",
        b"\xff\xfe\x00",
        b"\xef\xbb\xbf{}",
    ],
    ids=repr,
)
def test_anything_else_with_200_is_unexpected(body):
    with pytest.raises(UnexpectedAnswer):
        exchanged(body)


@pytest.mark.parametrize(
    "body",
    [
        '{"access_token": "EAA',
        '{"access_token": "EAA"',
        "[",
        '"EAA',
        "{" * 50_000,
        "[" * 50_000,
        '{"a":' + "9" * 5000,
    ],
    ids=lambda body: body[:20],
)
def test_broken_json_is_a_failure_of_metas_that_passes(body):
    with pytest.raises(Unavailable, match="cut or broken JSON"):
        exchanged(body)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, "<html>Bad</html>", UnexpectedAnswer),
        (403, "", UnexpectedAnswer),
        (404, "{}", UnexpectedAnswer),
        (400, "access_token=abc", UnexpectedAnswer),
        (400, '["Session has expired"]', UnexpectedAnswer),
        (400, '{"error_message": "Session has expired", "code": 190}', UnexpectedAnswer),
        (201, "access_token=abc", UnexpectedAnswer),
        (500, "<html>Sorry</html>", Unavailable),
        (502, "", Unavailable),
        (503, "{}", Unavailable),
        (599, "[", Unavailable),
        (429, "", RateLimited),
        (429, "<html>Slow down</html>", RateLimited),
        (429, "{}", RateLimited),
        (200, '{"error": {"code": 190, "error_subcode": 463}}', ReconnectRequired),
        (200, '{"error": {"code": 2}, "access_token": "abc"}', Unavailable),
        (200, '{"error": "This session has expired"}', ReconnectRequired),
        (200, '{"error": []}', UnexpectedAnswer),
        (401, '{"error": {"code": 190}}', ReconnectRequired),
    ],
)
def test_status_and_body_decide_together(status, body, error):
    with pytest.raises(MetaError) as caught:
        exchanged(body, status)
    assert type(caught.value) is error


# Anything at all

KEYS = st.sampled_from(
    [
        *VALID,
        *GOOD,
        "expires",
        "expires_at",
        "issued_at",
        "data",
        "error",
        "scopes",
        "granular_scopes",
        "code",
        "message",
    ]
)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(APP_ID)
DOCUMENTS = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6)
)
BODIES = DOCUMENTS.map(json.dumps).map(str.encode) | st.binary() | st.text().map(str.encode)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "Retry-After": st.text() | st.integers().map(str),
        "X-Business-Use-Case-Usage": st.text() | DOCUMENTS.map(json.dumps),
    },
)


@given(
    status=st.sampled_from([200, 200, 200, 201, 302, 400, 401, 403, 429, 500]), body=BODIES, headers=HEADERS
)
@settings(deadline=None)
def test_no_answer_raises_anything_but_our_errors(status, body, headers):
    with suppress(MetaError):
        read_inspection(read_payload("debug_token", status, headers, body), APP_ID)
    with suppress(MetaError):
        read_exchange(read_payload("exchange", status, headers, body))
