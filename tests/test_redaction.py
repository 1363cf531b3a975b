"""No secret gets out: not by printing it, not in a text that is cleaned, not in a log line."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic
from urllib.parse import quote, quote_plus

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.graph import GraphServer
from whatsapp_tokens import redaction as redact_module
from whatsapp_tokens.redaction import (
    RedactingFormatter,
    RedactingJsonFormatter,
    Secret,
    one_line,
    quote_foreign,
    redact,
)

VALUE = "correct-horse_battery|staple"


@pytest.fixture
def secret():
    return Secret(VALUE)


@dataclass(frozen=True)
class Holder:
    secret: Secret


# --- A Secret that is printed


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        ascii,
        format,
        "{}".format,
        "{!s}".format,
        "{!r}".format,
        "%s".__mod__,
        "%r".__mod__,
        "%40s".__mod__,
        lambda it: f"{it}",
        lambda it: f"{it!a}",
        lambda it: f"{it=}",
        lambda it: str([it, {it: it}, (it,)]),
        lambda it: repr(Holder(it)),
        lambda it: str(ValueError(it)),
        lambda it: repr(KeyError(it)),
        lambda it: json.dumps({"it": it}, default=str),
    ],
)
def test_a_printed_secret_shows_stars(secret, show):
    shown = show(secret)
    assert ("***" in shown, VALUE in shown) == (True, False)


@pytest.mark.parametrize(
    "leave",
    [
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        json.dumps,
        lambda it: pickle.dumps(Holder(it)),
        lambda it: copy.deepcopy(Holder(it)),
        lambda it: f"{it:>40}",
        "".join,
        lambda it: it + "",
        vars,
        len,
        iter,
    ],
)
def test_a_secret_cannot_be_copied_or_taken_apart_and_the_refusal_does_not_show_it(secret, leave):
    with pytest.raises(TypeError) as refusal:
        leave(secret)
    assert VALUE not in str(refusal.value)


def test_the_repr_of_a_secret_says_what_it_is(secret):
    assert repr(secret) == "Secret('***')"


def test_the_value_is_had_by_reveal(secret):
    assert secret.reveal() == VALUE


def test_secrets_are_equal_by_value_and_never_equal_to_a_plain_string(secret):
    assert [secret == other for other in (Secret(VALUE), Secret("other"), VALUE, None)] == [
        True,
        False,
        False,
        False,
    ]


def test_equal_secrets_count_as_one_in_a_set():
    assert len({Secret(VALUE), Secret(VALUE), Secret("other")}) == 2


def test_an_empty_secret_is_false():
    assert (bool(Secret("")), bool(Secret("x"))) == (False, True)


# --- Living secrets in a text


@pytest.mark.parametrize(
    "value",
    [
        VALUE,
        "plain",
        "pass word",
        "pass  two blanks",
        "first line\nsecond line",
        "tab\tand\x1bescape",
        'with "double" quotes',
        "with 'single' quotes",
        """both ' and " quotes""",
        "back\\slash",
        "a/b+c=d?e&f#g%h",
        "contraseña",
        "пароль",
        "🔑🔑🔑🔑",
        "zero\u200bwidth",
        "joined\u200dand\u200cnot",
        "\u200djoiners\u200d outside \u200c",
        "surrogate\udce9",
        "high\ud800",
    ],
)
@pytest.mark.parametrize(
    "write",
    [
        str,
        one_line,
        lambda value: repr(value)[1:-1],
        lambda value: ascii(value)[1:-1],
        lambda value: json.dumps(value)[1:-1],
        lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
        lambda value: quote(value, errors="surrogatepass"),
        lambda value: quote(value, safe="", errors="surrogatepass"),
        lambda value: quote(value, safe="", errors="surrogatepass").lower(),
        lambda value: quote_plus(value, errors="surrogatepass"),
        lambda value: quote_plus(value, errors="surrogatepass").lower(),
    ],
)
def test_a_living_secret_is_taken_out_however_it_is_written(value, write):
    _alive = Secret(value)
    assert redact(f"<{write(value)}>") == "<***>"


def test_a_secret_is_found_as_requests_writes_it_in_a_url():
    _alive = Secret("/hook/ñandú|x y")
    url = requests.Request("GET", "https://example.com/hook/ñandú|x y").prepare().url
    assert redact(url) == "https://example.com***"


# No "*": a mask beside one would spell such a secret anew, which tells nobody anything.
TEXT = st.text(st.characters(exclude_characters="*"))
JOINED = st.text("xy \u200c\u200d")
FORMS = st.sampled_from(
    [
        lambda value: value,
        lambda value: quote(value, safe="", errors="surrogatepass"),
        lambda value: quote(value, errors="surrogatepass"),
        lambda value: quote_plus(value, errors="surrogatepass"),
        lambda value: json.dumps(value)[1:-1],
        lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
        lambda value: repr(value)[1:-1],
    ]
)


@settings(deadline=None)
@given(before=TEXT, value=st.text(st.characters(exclude_characters="*"), min_size=4), after=TEXT, form=FORMS)
def test_no_living_secret_comes_through_in_any_surroundings(before, value, after, form):
    _alive = Secret(value)
    cleaned = redact(before + form(value) + after)
    assert (value in cleaned, form(value) in cleaned, "***" in cleaned) == (False, False, True)


@settings(deadline=None)
@given(value=st.text(st.characters(exclude_characters="*"), min_size=4), around=st.tuples(TEXT, TEXT))
def test_no_living_secret_comes_through_a_quotation_of_somebody_else(value, around):
    _alive = Secret(value)
    assert value not in quote_foreign(value.join(around), limit=10**6)


@settings(deadline=None)
@given(values=st.lists(st.text(st.sampled_from("ab|%/ "), min_size=4), min_size=2, max_size=5))
def test_of_secrets_that_contain_one_another_none_comes_through(values):
    _alive = [Secret(value) for value in values]
    cleaned = redact("\n".join(values))
    assert [value for value in values if value in cleaned] == []


@pytest.mark.parametrize("order", [1, -1])
def test_nothing_of_a_longer_secret_is_left_beside_the_shorter_one_inside_it(order):
    _alive = [Secret(value) for value in ("shh-app-secret", "1234|shh-app-secret")[::order]]
    assert redact("Bearer: 1234|shh-app-secret.") == "Bearer: ***."


@pytest.mark.parametrize("dies", [0, 1])
def test_the_death_of_an_equal_secret_does_not_let_the_living_one_out(dies):
    twins = [Secret(VALUE), Secret(VALUE)]
    del twins[dies]
    assert redact(f"<{VALUE}>") == "<***>"


def test_a_secret_that_is_no_longer_in_memory_is_not_searched_for(secret):
    passing = Secret("ordinary words")
    del passing
    assert redact("ordinary words") == "ordinary words"


@pytest.mark.parametrize(
    ("value", "cleaned"), [("cat", "a cat sat"), ("a ca", "***t sat"), ("", "a cat sat")]
)
def test_a_secret_of_less_than_four_characters_does_not_blank_out_words(value, cleaned):
    _alive = Secret(value)
    assert redact("a cat sat") == cleaned


def test_a_secret_that_folds_to_less_than_four_characters_does_not_blank_out_words():
    _alive = Secret("a\n\n\nb")
    assert redact("a b, a\n\n\nb") == "a b, ***"


def test_all_of_several_secrets_and_of_several_places_are_taken_out():
    _alive = [Secret("first-one"), Secret("second-one")]
    assert redact("first-one second-one first-one") == "*** *** ***"


def test_a_signal_handler_may_log_while_its_own_thread_is_at_the_list_of_secrets():
    with redact_module._living_lock:
        entered = redact_module._living_lock.acquire(blocking=False)
        if entered:
            redact_module._living_lock.release()
    assert entered


def test_secrets_may_come_and_go_in_other_threads_meanwhile(secret):
    def come_and_go(number):
        return [redact(f"{VALUE} {Secret(f'passing {number} {turn}')}") for turn in range(100)]

    with ThreadPoolExecutor(8) as pool:
        assert {line for lines in pool.map(come_and_go, range(8)) for line in lines} == {"*** ***"}


# --- What looks like a credential, and was never wrapped


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("/oauth?client_secret=abc&x=1", "/oauth?client_secret=***&x=1"),
        ("/oauth?x=1&CLIENT_SECRET=abc", "/oauth?x=1&CLIENT_SECRET=***"),
        ("?input_token=abc%7Cdef#top", "?input_token=***"),
        ("fb_exchange_token=abc", "fb_exchange_token=***"),
        ("appsecret_proof=0a1b", "appsecret_proof=***"),
        ("refresh_token = abc def", "refresh_token = *** def"),
        ("user_access_token=abc", "user_access_token=***"),
        ("wa%3Faccess_token%3Dabc%26x", "wa%3Faccess_token%3D***"),
        ('{"access_token":"abc","n":1}', '{"access_token":"***","n":1}'),
        ('{"access_token": "abc"}', '{"access_token": "***"}'),
        ('{"access_token": 12345}', '{"access_token": ***}'),
        (r'{"access_token":"ab\/cd\u00e9"}', '{"access_token":"***"}'),
        (r'"{\"access_token\":\"abc\"}"', r'"{\"access_token\":\"***\"}"'),
        ("{'client_secret': 'abc', 'n': 1}", "{'client_secret': '***', 'n': 1}"),
        ("{'client_secret': b'abc'}", "{'client_secret': b'***'}"),
        ("[('client_secret', 'abc'), ('n', 1)]", "[('client_secret', '***'), ('n', 1)]"),
        ("client_secret=bare", "client_secret=***"),
        ("access_token: Bearer abc", "access_token: Bearer ***"),
        ("access_token=bearer-abc", "access_token=***"),
        ("access_token=bearer", "access_token=***"),
        ("Authorization: Bearer 1234|abcdefghijklmnop", "Authorization: Bearer ***"),
        ("'Authorization': b'OAuth abcdefghijklmnop=='", "'Authorization': b'OAuth ***'"),
        ("Malformed access token EAABwzLixnjYBO", "Malformed access token ***"),
        ("first line\\nEAABwzLixnjYBO", "first line\\n***"),
        ("q%3DEAABwzLixnjYBO%26", "q%3D***%26"),
        ("postgresql://user:pa:ss@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:p@ss@host/db", "postgresql://user:***@host/db"),
        ("redis://:pass@host", "redis://:***@host"),
        ("https://hooks.slack.com/services/T0/B0/xyz", "https://hooks.slack.com/services/***"),
        ("https://hooks.slack.com/triggers/E0/1/xyz", "https://hooks.slack.com/triggers/***"),
        ("https://hooks.slack.com:443/services/T0/B0/xyz", "https://hooks.slack.com:443/services/***"),
        ("host='hooks.slack.com' url: /services/T0/B0/xyz", "host='hooks.slack.com' url: /services/***"),
        ("host='hooks.slack.com' url: /workflows/T0/A0/xyz", "host='hooks.slack.com' url: /workflows/***"),
    ],
)
def test_what_looks_like_a_credential_is_taken_out(text, cleaned):
    assert redact(text) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing secret here",
        "renewed 3 of 4 channels in 2.5 s",
        "the access_token has expired",
        "the client_secret, which is wrong",
        "Bearer token missing",
        "EAA is how a token begins",
        "https://graph.facebook.com:443/v26.0/debug_token",
        "see https://developers.facebook.com/docs and write to help@example.com",
        "postgresql://host/db",
        "https://example.com/services/list",
        "whatsapp_business_messaging, whatsapp_business_management",
        "2026-11-23T09:00:00Z DATABASE_URL: it is missing",
        "café ñandú 🔑\n\ttabs stay",
    ],
)
def test_an_ordinary_text_stays_as_it_is(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    "unit", ["a.", "a", "access_token ", "\\", "bearer ", "x://:", "/services/T", "EAA", "a|"]
)
def test_a_long_text_does_not_stall_it(unit):
    assert redact(unit * 100_000 + " client_secret=abc").endswith("client_secret=***")


@settings(deadline=None)
@given(value=st.text("ab \n\u200c\u200d\u202e\u200b", min_size=4), around=st.tuples(JOINED, JOINED))
def test_no_living_secret_comes_through_one_line_with_any_separator(value, around):
    _alive = Secret(value)
    cleaned = redact(one_line(value.join(around)))
    shown = [form for form in (value, one_line(value)) if len(form) >= 4 and form in cleaned]
    assert shown == []


# --- What is shown in one line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
        ("❤\ufe0f\u200d🔥", "❤\ufe0f\u200d🔥"),
        ("می\u200cرود", "می\u200cرود"),
        ("\u200dname\u200c", "name"),
        ("two \u200d words\u200c", "two words"),
        ("a\u200d\u200db", "a b"),
        ("a\u200d\x1b[31m", "a [31m"),
        ("a\u200d\u202eb\u2066c", "a b c"),
        ("zero\u200bwidth", "zero width"),
        ("two\nlines\tof  text ", "two lines of text"),
    ],
)
def test_a_line_keeps_the_joiners_within_a_word_and_nothing_else_that_cannot_be_seen(text, line):
    assert one_line(text) == line


def test_a_secret_with_joiners_is_found_in_a_quotation_that_has_lost_them():
    _alive = Secret("pass\u200dword \u200c!")
    assert quote_foreign("no pass\u200dword \u200c! here") == "no *** here"


def test_a_quotation_keeps_no_joiners():
    assert quote_foreign("EAAB\u200dwzLixnj") == "EAAB wzLixnj"


# --- What somebody else wrote


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("Error validating application.", "Error validating application."),
        ("bad token 1234|AbCdEfGhIjKlMnOpQr!", "bad token ***!"),
        ("bad token abcdefghij0123456789", "bad token ***"),
        ("bad token abcdefghij012345678", "bad token abcdefghij012345678"),
        ("needs whatsapp_business_messaging", "needs whatsapp_business_messaging"),
        ("needs WHATSAPP_BUSINESS_MESSAGING", "needs ***"),
        ("two\r\nlines\tand \x1b[31mcolour", "two lines and [31mcolour"),
        ("  right\u202eto left  ", "right to left"),
        ("Malformed access token EAAB\x00wzLixnjYBO", "Malformed access token EAAB wzLixnjYBO"),
        ("", ""),
    ],
)
def test_a_quotation_is_one_line_without_what_could_be_a_token(text, quoted):
    assert quote_foreign(text) == quoted


@pytest.mark.parametrize(("length", "quoted"), [(5, "aaaaa"), (6, "aaaa…"), (4, "aaaa"), (0, "")])
def test_a_quotation_is_no_longer_than_its_limit(length, quoted):
    assert quote_foreign("a" * length, limit=5) == quoted


def test_a_quotation_is_at_most_200_characters_by_default():
    assert quote_foreign("a b " * 51) == "a b " * 49 + "a b…"


def test_a_quotation_is_cut_after_the_secret_is_out_of_it(secret):
    assert quote_foreign(f"no {VALUE}", limit=8) == "no ***"


def test_a_secret_is_found_in_a_quotation_that_folded_its_white_space():
    _alive = Secret("my  pass\nphrase")
    assert quote_foreign("not my  pass\nphrase, but my pass phrase") == "not ***, but ***"


PIECES = "aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0z"


@pytest.mark.parametrize("length", range(12, len(PIECES)))
@pytest.mark.parametrize("place", [0, 3, len(PIECES)])
def test_no_piece_of_12_characters_of_a_secret_is_quoted(length, place):
    alive = Secret(PIECES)
    start = min(place, len(PIECES) - length)
    quoted = quote_foreign(f"token ({PIECES[start : start + length]}) is bad")
    assert (quoted, bool(alive)) == ("token (***) is bad", True)


def test_a_megabyte_is_quoted_without_delay():
    _alive = [Secret(f"{number}-{PIECES}" * 10) for number in range(100)]
    since = monotonic()
    quoted = quote_foreign("other words " * 100_000)
    assert (len(quoted), monotonic() - since < 2) == (200, True)


def test_pieces_of_a_secret_are_masked_wherever_they_stand_in_a_word():
    _alive = Secret(PIECES)
    assert quote_foreign(f"«{PIECES[:13]}», …{PIECES[-12:]}!") == "«***», …***!"


@pytest.mark.parametrize("text", [f"({PIECES[:11]}) is bad", "some other words", "id 000000000000"])
def test_what_is_no_piece_of_a_secret_is_quoted(text):
    _alive = [Secret(PIECES), Secret(f"100000000000001|{PIECES}")]
    assert quote_foreign(text) == text


def test_the_host_of_an_address_is_no_piece_of_a_secret():
    _alive = [Secret("postgresql://renewer:pa55-w0rd-9@database.example/app"), Secret("pa55-w0rd-9")]
    assert quote_foreign("no host database.example, pa55-w0rd-9") == "no host database.example, ***"


# --- Log lines


def log_line(formatter, log, name="tests.redact"):
    """What the logger of this name writes through `formatter` when `log` is called with it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.getLogger(name)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        log(logger)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return stream.getvalue()


def caught(error):
    """The `exc_info` of `error`, raised."""
    try:
        raise error
    except type(error):
        return sys.exc_info()


def failing(error, cause=None):
    """A function that logs `error` with its traceback."""
    error.__cause__ = cause
    return lambda logger: logger.error("it failed: %s", error, exc_info=caught(error))


@pytest.mark.parametrize("formatter", [RedactingFormatter(), RedactingJsonFormatter()])
@pytest.mark.parametrize(
    "log",
    [
        lambda logger: logger.info(VALUE),
        lambda logger: logger.debug("token %s", VALUE),
        lambda logger: logger.debug("token %r", [VALUE]),
        lambda logger: logger.debug("token %(it)s", {"it": VALUE}),
        lambda logger: logger.debug("%s%s", VALUE[:9], VALUE[9:]),
        lambda logger: logger.debug("first line\n%s\nlast line", VALUE),
        lambda logger: logger.debug("%s", Secret(VALUE)),
        lambda logger: logger.debug('"GET /debug_token?input_token=%s HTTP/1.1"', quote_plus(VALUE)),
        lambda logger: logger.error("body %s", json.dumps({"error": {"message": f"bad {VALUE}"}})),
        lambda logger: logger.info("%s", ValueError(VALUE)),
        failing(ValueError(VALUE)),
        failing(ValueError(f"/oauth?client_secret={quote(VALUE)}&x=1")),
        failing(requests.ConnectionError(f"Max retries exceeded with url: /x?a={quote_plus(VALUE)}")),
        failing(RuntimeError("outer"), cause=KeyError(VALUE)),
    ],
)
def test_no_log_line_holds_a_secret(secret, formatter, log):
    line = log_line(formatter, log)
    assert [form for form in (VALUE, quote(VALUE), "staple") if form in line] == []


@pytest.mark.parametrize("formatter", [RedactingFormatter(), RedactingJsonFormatter()])
def test_what_was_never_wrapped_is_taken_out_of_tracebacks_too(formatter):
    line = log_line(formatter, failing(ValueError("GET /oauth?client_secret=unwrapped&fb_exchange_token=it")))
    assert ("client_secret=***&fb_exchange_token=***" in line, "unwrapped" in line) == (True, False)


@pytest.mark.parametrize("formatter", [RedactingFormatter(), RedactingJsonFormatter()])
def test_urllib3_at_debug_tells_no_secret_of_a_real_call(formatter):
    app, token = Secret("the app's secret"), Secret("EAAB+a/token|of=ours")

    def call(_logger):
        with GraphServer() as meta:
            params = {"client_secret": app.reveal(), "fb_exchange_token": token.reveal()}
            requests.get(f"{meta.url}/v26.0/oauth/access_token", params=params, timeout=5)

    line = log_line(formatter, call, name="urllib3")
    asked = "client_secret=***&fb_exchange_token=***"
    assert (asked in line, app.reveal() in line, quote_plus(token.reveal()) in line) == (True, False, False)


@pytest.mark.parametrize("formatter", [RedactingFormatter(), RedactingJsonFormatter()])
def test_the_traceback_of_a_real_failed_call_tells_no_secret(formatter):
    app = Secret("the app's secret")

    def call(logger):
        with GraphServer() as meta:
            url = meta.url
        try:
            requests.get(f"{url}/v26.0/oauth/access_token", params={"client_secret": app.reveal()}, timeout=5)
        except requests.ConnectionError:
            logger.exception("no answer")

    line = log_line(formatter, call)
    assert ("client_secret=***" in line, quote_plus(app.reveal()) in line) == (True, False)


def record(message="hello %s", *args, exc_info=None):
    made = logging.LogRecord("the.logger", logging.WARNING, "file.py", 7, message, args or ("you",), exc_info)
    made.created, made.msecs = 86400.5, 500.0
    return made


def test_a_line_for_people_has_the_time_in_utc_the_level_and_the_message():
    assert RedactingFormatter().format(record()) == "1970-01-02T00:00:00Z WARNING hello you"


def test_a_line_for_people_has_the_stack_without_secrets_if_it_was_asked_for(secret):
    asked = record()
    asked.stack_info = f"Stack (most recent call last):\n  {VALUE}"
    assert RedactingFormatter().format(asked).endswith("hello you\nStack (most recent call last):\n  ***")


def test_a_line_for_machines_is_one_json_object():
    line = RedactingJsonFormatter().format(record("two\nlines: %s", '"ñ"'))
    assert json.loads(line) == {
        "time": "1970-01-02T00:00:00Z",
        "level": "warning",
        "logger": "the.logger",
        "message": 'two\nlines: "ñ"',
    }


def test_a_line_for_machines_is_one_line_and_readable_in_any_language():
    line = RedactingJsonFormatter().format(record("dos\nlíneas %s"))
    assert ("\n" in line, "líneas" in line) == (False, True)


def test_a_line_for_machines_holds_the_traceback_apart(secret):
    line = RedactingJsonFormatter().format(record(exc_info=caught(ValueError(VALUE))))
    assert json.loads(line)["traceback"].splitlines()[-1] == "ValueError: ***"


def test_a_line_for_machines_stays_json_where_a_secret_holds_quotes():
    _alive = Secret('"quoted\\"')
    line = RedactingJsonFormatter().format(record("it is %s", '{"key": "\\"quoted\\\\\\""}'))
    assert json.loads(line)["message"] == 'it is {"key": "***"}'


def test_a_traceback_that_another_handler_left_on_the_record_is_cleaned_too(secret):
    shared = record(exc_info=caught(ValueError(VALUE)))
    logging.Formatter().format(shared)
    assert VALUE not in RedactingFormatter().format(shared)
