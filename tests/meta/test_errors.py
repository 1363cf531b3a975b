"""What each of Meta's error answers means. A new row of `RULES` needs a new case here."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from whatsapp_tokens.meta.errors import (
    RULES,
    AppRejected,
    ForeignToken,
    GraphError,
    MetaError,
    RateLimited,
    ReconnectRequired,
    Throttled,
    Unavailable,
    UnexpectedAnswer,
    UnreadableToken,
    as_int,
    classify,
    wording,
)
from whatsapp_tokens.redaction import Secret, one_line

ENDPOINTS = ("debug_token", "exchange")


class Case(NamedTuple):
    """An answer with Graph's `error` member, and what it means: the class, and the meaning's words."""

    what: str
    error: object
    expected: type[MetaError]
    meaning: str = ""
    endpoint: str = "exchange"
    status: int = 400


def graph(message="Whatever Meta writes here", code=None, subcode=None, **more):
    error = {"message": message, "type": "OAuthException"}
    if code is not None:
        error["code"] = code
    if subcode is not None:
        error["error_subcode"] = subcode
    return error | more


SECRET = "META_APP_SECRET is wrong"
FOREIGN = "the token belongs to another app"
BLOCKED = "Meta has blocked the app"
PROOF = "the app wants an appsecret_proof"
IP = "this server's IP is not allowed"
VERSION = "META_GRAPH_VERSION is not accepted"
REFUSED = "Meta refuses the app's credentials or call"
CATCH_ALL = "Meta refuses our inspection call"
CONFIRM = "Facebook asks the customer to log in and confirm"
DEAD = "the token is no longer valid"
PERMISSION = "a permission was withdrawn"
LOCKED = "Meta has locked the account"

LIMITS = [
    *(
        Case(f"code {code} is a limit of one user or business", graph(code=code), Throttled)
        for code in (9, 17, 32, 80000, 80004, 80014, 131048, 131056, 133016)
    ),
    *(
        Case(f"code {code} is a limit of the app", graph(code=code), RateLimited)
        for code in (4, 341, 613, 130429)
    ),
    Case("limits hold for inspections too", graph(code=4), RateLimited, endpoint="debug_token", status=403),
    Case("so do those of one business", graph(code=80008), Throttled, endpoint="debug_token"),
    Case("368 by speed", graph("You are going TOO FAST here", 368), RateLimited),
    Case("368 by conduct", graph("Held back for abuse", 368), ReconnectRequired, LOCKED),
    Case("429 without any error", None, RateLimited, status=429),
    Case("429 over a dead token", graph(code=190, subcode=463), RateLimited, status=429),
    Case("a business limit with 429", graph(code=80002), Throttled, status=429),
    Case("a limit outranks is_transient", graph(code=4, is_transient=True), RateLimited),
    Case("a limit that is not transient", graph(code=4, is_transient=False), RateLimited, status=403),
    Case("a business limit called transient", graph(code=32, is_transient=True), Throttled),
    Case("a limit with 500", graph(code=613), RateLimited, status=500),
    Case("a limit with a text on tokens", graph("This session has expired", 341), RateLimited),
    Case("a limit only in the text", graph("(#4) Slow down, app"), RateLimited),
    Case("a business limit in the text", graph("(#80003) Slow down"), Throttled),
    Case("a limit as a bare text", "(#613) Slow down", RateLimited),
    Case("a limit's code as text", graph(code="4"), RateLimited),
]

TRANSIENT = [
    Case(
        "is_transient outranks a dead token",
        graph("Error validating access token: gone", 190, 463, is_transient=True),
        Unavailable,
        status=401,
    ),
    Case(
        "is_transient outranks the app's refusal",
        graph("Invalid OAuth access token signature, says this server", 190, is_transient=True),
        Unavailable,
        endpoint="debug_token",
    ),
    Case("is_transient without a code", graph("Bad token", is_transient=True), Unavailable),
    Case("is_transient: false proves nothing", graph("Try again", 2, is_transient=False), Unavailable),
    Case(
        "is_transient as a text is no word of Meta's",
        graph(code=190, is_transient="true"),
        ReconnectRequired,
        DEAD,
    ),
    Case("500 without any error", None, Unavailable, status=500),
    Case("503 at an inspection", graph(code=100), Unavailable, endpoint="debug_token", status=503),
    Case("599 over a dead token", graph(code=190), Unavailable, status=599),
    Case("1: too much data", graph("Please reduce the amount of data you ask for", 1), Unavailable),
    *(
        Case(f"code {code} passes by itself", graph(code=code), Unavailable)
        for code in (2, 131000, 131016, 131057)
    ),
    Case("code 2 at an inspection", graph(code=2), Unavailable, endpoint="debug_token"),
    Case("code 2 only in the text", graph("(#2) Come back later"), Unavailable),
]

CODE_1 = [
    Case("1: our secret", graph("error validating client secret, try harder", 1), AppRejected, SECRET),
    Case("1: Meta's failure", graph("An unknown error came up", 1), Unavailable),
    Case(
        "1: Meta's failure at an inspection", graph("Unknown error", 1), Unavailable, endpoint="debug_token"
    ),
    Case("1 with 500", graph("Ask for less at a time", 1), Unavailable, status=500),
    Case(
        "1: another app's token",
        graph("That token does not belong to application 7", 1),
        ForeignToken,
        FOREIGN,
    ),
    Case("1: no https", graph("You must use https:// here", 1), AppRejected, "META_GRAPH_URL is wrong"),
    Case("1: no token given", graph("fb_exchange_token is lacking", 1), UnexpectedAnswer),
    Case(
        "1: unknown, but explained to a person",
        graph("An unknown error came up", 1, error_user_title="This campaign is over"),
        UnexpectedAnswer,
    ),
]

CODE_190 = [
    Case("190: this token", graph("No such token", 190), ReconnectRequired, DEAD, status=401),
    Case(
        "190: our app id",
        graph("Error validating application: none of that id", 190),
        AppRejected,
        "META_APP_ID is wrong",
    ),
    Case(
        "190: our secret, at an inspection",
        graph("Invalid OAuth access token signature, says this server", 190),
        AppRejected,
        SECRET,
        endpoint="debug_token",
    ),
    Case(
        "190: the same words at an exchange are about the token",
        graph("Invalid OAuth access token signature, says this server", 190),
        ReconnectRequired,
        DEAD,
    ),
    Case("190: contradicts its own status", graph(code=190, status_code=500), UnexpectedAnswer),
    Case("190: repeats its own status", graph(code=190, status_code="400"), ReconnectRequired, DEAD),
    Case("another code may contradict its status", graph(code=102, status_code=500), ReconnectRequired, DEAD),
    Case("190 as a text", graph(code="190", subcode="463"), ReconnectRequired, "the token has expired"),
    Case("190 only in the text", graph("(#190) Gone"), ReconnectRequired, DEAD),
    Case("190 without any text", {"code": 190}, ReconnectRequired, DEAD),
    Case(
        "190 with `subcode`",
        graph(code=190) | {"subcode": 460},
        ReconnectRequired,
        "the customer's password was changed",
    ),
    Case(
        "190 with both subcodes: the right name wins",
        graph(code=190, subcode=467) | {"subcode": 460},
        ReconnectRequired,
        "the customer logged out",
    ),
]

APP = [
    Case(
        "a foreign token by inspection",
        graph("(#100) Its app did not match the Viewing App", 100),
        ForeignToken,
        FOREIGN,
        endpoint="debug_token",
    ),
    Case(
        "101: our app id",
        graph("Error validating application, for now", 101),
        AppRejected,
        "META_APP_ID is wrong",
    ),
    Case(
        "our secret, without code", graph("error validating client secret, try harder"), AppRejected, SECRET
    ),
    Case("200: blocked", graph("API access blocked.", 200), AppRejected, BLOCKED),
    Case("200: deactivated", graph("API access deactivated: see why", 200), AppRejected, BLOCKED),
    Case(
        "200: this customer's permission",
        graph("Permission was not granted", 200),
        ReconnectRequired,
        PERMISSION,
        status=403,
    ),
    Case(
        "calls refused for this app",
        graph("Cannot call API for app 7 on behalf of user 8", 190),
        AppRejected,
        "Meta refuses calls for this app",
    ),
    Case("100: no proof", graph("Calls need an appsecret_proof", 100), AppRejected, PROOF),
    Case("100: app secret proof", graph("Needs app secret proof", 100), AppRejected, PROOF),
    Case(
        "100: no app token",
        graph("(#100) You must provide an app access token", 100),
        AppRejected,
        "the app token is refused",
        endpoint="debug_token",
    ),
    Case("our IP, by its text", graph("This IP can't make requests here"), AppRejected, IP),
    *(
        Case(f"{code}: {text}", graph(text, code), AppRejected, BLOCKED, endpoint, status)
        for text in (
            "API access disrupted. Go to the App Dashboard and complete Data Use Checkup.",
            "Facebook Login is temporarily disabled for non-active apps until its owner returns.",
            "This app is currently unavailable, and nobody says why.",
        )
        for code, endpoint, status in (
            (None, "exchange", 401),
            (200, "exchange", 400),
            (190, "debug_token", 400),
        )
    ),
    Case("200: our app id", graph("(#200) Provide valid app ID", 200), AppRejected, "META_APP_ID is wrong"),
    Case("our IP, by its code", graph(code=5), AppRejected, IP),
    Case("12: version", graph(code=12), AppRejected, VERSION),
    Case("2635: version", graph(code=2635), AppRejected, VERSION, endpoint="debug_token"),
    Case("3: capability", graph(code=3), AppRejected, "the app lacks a capability"),
    Case("3 only in the text", graph("(#3) Not on our list"), AppRejected, "the app lacks a capability"),
    *(
        Case(f"code {code} is about our call", graph(code=code), AppRejected, REFUSED)
        for code in (101, 104, 191, 2500)
    ),
    *(
        Case(
            f"{what} at an inspection is about our call",
            error,
            AppRejected,
            CATCH_ALL,
            endpoint="debug_token",
        )
        for what, error in {
            "a dead token": graph(code=190, subcode=463),
            "a permission": graph(code=10),
            "code 100": graph(code=100),
            "an unheard-of code": graph(code=987_654),
            "a bare text": "Something is not as it should be",
            "an empty error": {},
        }.items()
    ),
    Case("a bare 400 at an inspection", None, UnexpectedAnswer, endpoint="debug_token"),
]

SUBCODES = {
    458: "the customer removed the app",
    459: CONFIRM,
    460: "the customer's password was changed",
    463: "the token has expired",
    464: "the customer's account is not confirmed",
    466: "the token was revoked",
    467: "the customer logged out",
    490: CONFIRM,
    492: "the customer lost the role on the page",
    493: "the customer was idle for 90 days",
}

TEXTS = (
    "Session has expired at noon",
    "The session is invalid by now",
    "Error validating access token: it was withdrawn",
    "Invalid OAuth access token.",
    "This user logged out",
    "The user has not authorized application 7: Not Authorized Application",
    "The user hasn't authorized the application to do so",
    "A permissions error, it seems",
    "It requires extended permission: fly",
)

UNREADABLE = "Meta cannot read the token"
UNREADABLE_TEXTS = (
    "Malformed access token EAA",
    "That access token could not be decrypted today",
    "Cannot parse access token",
)

CUSTOMER = [
    *(
        Case(f"subcode {subcode}", graph(code=190, subcode=subcode), ReconnectRequired, meaning)
        for subcode, meaning in SUBCODES.items()
    ),
    Case(
        "the subcode decides, not the code",
        graph(code=230, subcode=459),
        ReconnectRequired,
        CONFIRM,
        status=401,
    ),
    *(
        Case(f"code {code} is a dead token", graph(code=code), ReconnectRequired, DEAD)
        for code in (102, 450, 452)
    ),
    *(
        Case(f"code {code} is a lost right", graph(code=code), ReconnectRequired, PERMISSION, status=403)
        for code in (10, 25, 200, 230, 299, 131005)
    ),
    Case("code 131031", graph(code=131031), ReconnectRequired, LOCKED, status=403),
    Case("299 in the text", graph("(#299) More is wanted"), ReconnectRequired, PERMISSION),
    *(Case(f"only a text: {text}", graph(text), ReconnectRequired, DEAD) for text in TEXTS),
    *(Case(f"190: {text}", graph(text, 190), UnreadableToken, UNREADABLE) for text in UNREADABLE_TEXTS),
    *(Case(f"only a text: {text}", graph(text), UnreadableToken, UNREADABLE) for text in UNREADABLE_TEXTS),
    Case(
        "0: the app user",
        graph("Unable to authenticate the app user now", 0),
        ReconnectRequired,
        "the customer removed the app",
    ),
    Case("only a bare text", "This session has expired", ReconnectRequired, DEAD),
    Case("a text counts only without a code", graph(TEXTS[0], 100), UnexpectedAnswer),
]

UNKNOWN = [
    *(
        Case(f"code {code}", graph(code=code), UnexpectedAnswer)
        for code in (0, 100, 300, 506, 803, 1150, -190)
    ),
    Case("a code in parentheses without #", graph("(4) things"), UnexpectedAnswer),
    Case("a code that is no number wins nothing", graph(code="many"), UnexpectedAnswer),
    Case("a code of true is not 1", graph("Unknown error", True), UnexpectedAnswer),
    Case("a message that is no text", graph(["This session has expired"]), UnexpectedAnswer),
    Case("error: a text that says nothing", "Something", UnexpectedAnswer),
    Case("error: null", None, UnexpectedAnswer),
    Case("error: a list", [{"code": 190}], UnexpectedAnswer),
    Case("error: a list, at an inspection", [{"code": 190}], UnexpectedAnswer, endpoint="debug_token"),
    Case("error: a number", 190, UnexpectedAnswer),
    Case("error: an empty object", {}, UnexpectedAnswer),
    Case("a bare 404", None, UnexpectedAnswer, status=404),
]

CASES = LIMITS + TRANSIENT + CODE_1 + CODE_190 + APP + CUSTOMER + UNKNOWN


def rule_of(case):
    return classify(case.endpoint, GraphError.parse(case.status, case.error))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_each_answer_means_what_the_table_says(case):
    rule = rule_of(case)
    assert (rule.error, rule.meaning) == (case.expected, case.meaning)


def test_every_row_of_the_table_has_a_case():
    hit = {id(rule_of(case)) for case in CASES}
    assert [rule for rule in RULES if id(rule) not in hit] == []


def test_every_code_and_text_of_the_table_leads_to_its_row_from_some_endpoint():
    unreachable = [
        (rule, code, text)
        for rule in RULES
        for code in rule.codes or (None,)
        for text in rule.text or ("",)
        if not any(
            classify(
                endpoint,
                GraphError(
                    status=rule.status.start if rule.status else 400,
                    message=text,
                    code=code,
                    subcode=rule.subcode,
                    is_transient=rule.transient,
                    inner_status=500 if rule.contradictory else None,
                    shaped=True,
                ),
            )
            is rule
            for endpoint in ENDPOINTS
        )
    ]
    assert unreachable == []


def test_only_unavailable_is_worth_a_retry():
    kinds = (
        ReconnectRequired,
        ForeignToken,
        UnreadableToken,
        Unavailable,
        Throttled,
        UnexpectedAnswer,
        AppRejected,
        RateLimited,
    )
    assert [kind for kind in kinds if kind("").retryable] == [Unavailable]


# Wording


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (
            400,
            graph("This session has expired", 190, 463),
            "the token has expired; Graph error: 190/463; Meta said: “This session has expired”",
        ),
        (400, graph("Odd things", 506), "Graph error: 506; Meta said: “Odd things”"),
        (400, {"code": 102}, "the token is no longer valid; Graph error: 102"),
        (500, None, "HTTP: 500"),
        (400, graph("one\r\n\ttwo\x1b[31m", 506), "Graph error: 506; Meta said: “one two [31m”"),
    ],
)
def test_the_wording_says_what_it_means_what_meta_said_and_the_numbers(status, error, expected):
    answer = GraphError.parse(status, error)
    assert wording(classify("exchange", answer), answer) == expected


def test_a_token_that_meta_echoes_is_masked_although_no_secret_holds_it():
    answer = GraphError.parse(400, graph("Malformed access token EAAx9Kb2Zq7Lw0Tt4Rr8", 190))
    assert "EAAx9Kb2Zq7Lw0Tt4Rr8" not in wording(classify("exchange", answer), answer)


def test_a_long_message_is_cut_short():
    answer = GraphError.parse(400, graph("word " * 1000, 506))
    assert len(wording(classify("exchange", answer), answer)) < 250


def test_an_enormous_code_is_no_code():
    answer = GraphError.parse(400, graph("Odd", 10**4000))
    assert wording(classify("exchange", answer), answer) == "HTTP: 400; Meta said: “Odd”"


# Numbers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (190, 190),
        (-1, -1),
        (0, 0),
        ("190", 190),
        (" 190\n", 190),
        ("190\x1f", 190),  # white space to a regular expression, but not to int()
        ("١٩٠", None),
        ("-5", -5),
        (True, None),
        (False, None),
        (None, None),
        (1.0, None),
        ("", None),
        ("1.0", None),
        ("1e3", None),
        ("0x10", None),
        ("1_000", None),
        ("nine", None),
        ([190], None),
        ("9" * 18, 10**18 - 1),
        ("9" * 19, None),
        (10**18 - 1, 10**18 - 1),
        (10**18, None),
        (-(10**18), None),
    ],
    ids=repr,
)
def test_a_number_may_have_come_as_text(value, expected):
    assert as_int(value) == expected


# Anything at all

KEYS = st.sampled_from(
    [
        "message",
        "code",
        "subcode",
        "error_subcode",
        "is_transient",
        "status_code",
        "error_user_title",
        "error_user_msg",
        "type",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([1, 4, 100, 190, 200, 368, 463, 80001, "190", "(#4) much"])
    | st.floats()
    | st.text()
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(), inner, max_size=6)
)
STATUSES = st.integers(100, 599)
# What a token or an app secret may look like, single spaces within included. Stars would look like our mask.
SECRETS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Zl", "Zp", "Cc", "Cf"], exclude_characters="*"),
    min_size=8,
).filter(lambda text: text == one_line(text))


@given(status=STATUSES, error=JSON, endpoint=st.sampled_from(ENDPOINTS))
@settings(deadline=None)
def test_no_error_of_any_shape_makes_the_classifier_raise(status, error, endpoint):
    answer = GraphError.parse(status, error)
    rule = classify(endpoint, answer)
    assert issubclass(rule.error, MetaError)
    assert wording(rule, answer).isprintable()


@given(
    secret=SECRETS,
    before=st.text(),
    after=st.text(),
    code=st.sampled_from([None, 1, 4, 100, 190, 200, 506]),
    endpoint=st.sampled_from(ENDPOINTS),
)
@settings(deadline=None)
def test_the_wording_never_holds_a_living_secret(secret, before, after, code, endpoint):
    living = Secret(secret)
    message = f"{before}{secret}{after}"
    for error in (graph(message, code), message):
        answer = GraphError.parse(400, error)
        rule = classify(endpoint, answer)
        assume(secret not in wording(rule, replace(answer, message="-")))  # our own words are no leak
        assert living.reveal() not in wording(rule, answer)
