"""Delivery to Slack, over real HTTP to a server that is as strict as Slack, and to several targets."""

from __future__ import annotations

import logging
import re
import traceback
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from receivers import PATH, Cut, Drip, DripHead, Hang, Reply, SlackServer, closed_port, running, wrong_with

import notify
from models import Channel
from notify import Card, Message, Slack, blocks, broadcast, escape, pages
from whatsapp_tokens import delivery
from whatsapp_tokens.delivery import DeliveryError, retry_after
from whatsapp_tokens.redaction import RedactingFormatter, Secret
from whatsapp_tokens.reports.labels import label
from whatsapp_tokens.signals import Stop

MESSAGE = Message("1 WhatsApp line needs attention", "Its token could not be renewed.", (Card("Bakery (1)"),))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server():
    with running(SlackServer()) as slack:
        yield slack


@pytest.fixture
def slept():
    """The seconds that were waited."""
    return []


@pytest.fixture
def slack(server, slept):
    return Slack(server.url, sleep=slept.append)


def refusal(slack, message=MESSAGE):
    """The error with which a delivery ends."""
    with pytest.raises(DeliveryError) as raised:
        slack.deliver(message)
    return raised.value


# Delivery


def test_a_message_arrives_as_header_summary_cards_and_footer(server, slack):
    link = "https://app.example/reconnect/12"
    cards = (
        Card("Bakery (12)", ("Dead since yesterday", "To do: reconnect"), link),
        Card("Corner Shop (13)"),
    )
    slack.deliver(Message("2 lines need attention", "Their tokens.", cards, more=3, footer="5 renewed"))
    assert server.received == [
        {
            "text": "2 lines need attention",
            "blocks": [
                {"type": "header", "text": {"type": "plain_text", "text": "2 lines need attention"}},
                {"type": "section", "text": {"type": "mrkdwn", "text": "Their tokens.", "verbatim": True}},
                {
                    "type": "section",
                    "text": {
                        "type": "mrkdwn",
                        "text": "*Bakery (12)*\nDead since yesterday\nTo do: reconnect",
                        "verbatim": True,
                    },
                    "accessory": {
                        "type": "button",
                        "text": {"type": "plain_text", "text": "Reconnect"},
                        "url": link,
                    },
                },
                {
                    "type": "section",
                    "text": {"type": "mrkdwn", "text": "*Corner Shop (13)*", "verbatim": True},
                },
                {"type": "section", "text": {"type": "mrkdwn", "text": "… and 3 more", "verbatim": True}},
                {
                    "type": "context",
                    "elements": [{"type": "mrkdwn", "text": "5 renewed", "verbatim": True}],
                },
            ],
        }
    ]


def test_a_message_without_cards_and_footer_is_a_header_and_a_summary(server, slack):
    slack.deliver(Message("1 line has recovered", "Nothing is to be done."))
    assert [block["type"] for block in server.received[0]["blocks"]] == ["header", "section"]


@pytest.mark.parametrize("said", ["ok", "ok\n"])
def test_slack_says_ok_and_nothing_more_is_asked(server, slack, slept, said):
    server.script = [Reply(200, said)]
    slack.deliver(MESSAGE)
    assert (server.paths, slept) == ([PATH], [])


# What Slack would take for markup


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain", "plain"),
        ("Fish & Chips", "Fish &amp; Chips"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("<!channel> <@U012AB3CD>", "&lt;!channel&gt; &lt;@U012AB3CD&gt;"),
        ("&amp;", "&amp;amp;"),
        ("\"quotes\" 'and' *bold* _it_ `code` ñ 🥐", "\"quotes\" 'and' *bold* _it_ `code` ñ 🥐"),
    ],
)
def test_three_characters_are_escaped_and_no_other(text, escaped):
    assert escape(text) == escaped


@pytest.mark.parametrize(
    ("name", "arrives"),
    [
        ("<script>alert(1)</script>", "*&lt;script&gt;alert(1)&lt;/script&gt; (1)*"),
        ("<!channel> is *bold*", "*&lt;!channel&gt; is *bold* (1)*"),
        ("two\nlines\r\nand \x1b[31mred", "*two lines and [31mred (1)*"),
        ("x" * 300, "*" + "x" * 300 + " (1)*"),
    ],
)
def test_a_channel_of_any_name_arrives(server, slack, name, arrives):
    slack.deliver(Message("title", "summary", (Card(label(Channel(1, name, ""))),)))
    assert server.received[0]["blocks"][2]["text"]["text"] == arrives


def test_every_text_of_a_message_is_escaped(server, slack):
    slack.deliver(Message("<t>", "<s>", (Card("<c>", ("<l>",)),), footer="<f>"))
    payload = server.received[0]
    header, summary, card, footer = payload["blocks"]
    assert (payload["text"], header["text"]["text"]) == ("&lt;t&gt;", "<t>")
    assert (summary["text"]["text"], card["text"]["text"], footer["elements"][0]["text"]) == (
        "&lt;s&gt;",
        "*&lt;c&gt;*\n&lt;l&gt;",
        "&lt;f&gt;",
    )


# Slack's limits


def sections(count, length=20):
    return tuple(Card(f"Line {number}".ljust(length, ".")) for number in range(count))


@pytest.mark.parametrize(
    ("message", "shown", "told"),
    [
        (Message("t", "s", sections(46), footer="f"), 46, None),
        (Message("t", "s", sections(47), footer="f"), 46, "… and 1 more"),
        (Message("t", "s", sections(312), footer="f"), 46, "… and 266 more"),
        (Message("t", "s", sections(45), more=267, footer="f"), 45, "… and 267 more"),
        (Message("t", "s", sections(46), more=1000, footer="f"), 46, "… and 1000 more"),
        (Message("t", "s", sections(46, 400), footer="f"), 22, "… and 24 more"),
        (Message("t", "s", sections(5, 9000), footer="f"), 3, "… and 2 more"),
    ],
)
def test_of_too_many_cards_the_first_are_shown_and_the_rest_counted(server, slack, message, shown, told):
    slack.deliver(message)
    texts = [block["text"]["text"] for block in server.received[0]["blocks"] if "text" in block]
    cards = [text for text in texts if text.startswith("*Line")]
    assert (len(cards), next((text for text in texts if text.startswith("…")), None)) == (shown, told)


def test_long_texts_are_cut_to_what_slack_accepts(server, slack):
    slack.deliver(Message("t" * 200, "s" * 4000, (Card("c", ("l" * 4000,)),), footer="f" * 4000))
    header, summary, card, footer = server.received[0]["blocks"]
    assert header["text"]["text"] == "t" * 149 + "…"
    assert summary["text"]["text"] == "s" * 2999 + "…"
    assert card["text"]["text"] == "*c*\n" + "l" * 2995 + "…"
    assert footer["elements"][0]["text"] == "f" * 2999 + "…"


class Room:
    """A target that has room for so many characters."""

    name = "room"

    def __init__(self, room):
        self.capacity = room


def shown_in(page):
    """The titles of the cards and the lines that Slack is sent of a page."""
    texts = [block["text"]["text"] for block in blocks(page)[2:] if block["type"] == "section"]
    return [line for text in texts for line in text.splitlines()[:1] if text.startswith("*")] + [
        line for text in texts for line in text.splitlines() if line.startswith("• ")
    ]


NAMES = st.text("a<&> é", max_size=300).map("x{}".format)
LISTS = st.builds(
    Message,
    st.just("t"),
    st.just("s"),
    st.lists(st.builds(Card, NAMES, st.tuples(NAMES, NAMES)), max_size=60).map(tuple),
    st.sampled_from([0, 7]),
    st.just("f"),
    lines=st.lists(NAMES, max_size=80).map(tuple),
    link=st.sampled_from([None, "https://status.example/"]),
    link_label=st.just("Status page"),
)


@given(LISTS, st.lists(st.sampled_from([10, 2000, 9000, 30000]).map(Room), max_size=3))
def test_pages_name_each_card_and_line_once_in_order_within_the_limits_of_slack(message, targets):
    split = pages(message, targets)
    assert [card for page in split for card in page.cards] == list(message.cards)
    assert [line for page in split for line in page.lines] == list(message.lines)
    for page in split:
        assert wrong_with({"text": page.title, "blocks": blocks(page)}) is None
        assert len(shown_in(page)) == len(page.cards) + len(page.lines)
    assert [page.more for page in split] == [0] * (len(split) - 1) + [message.more]


def test_a_short_message_is_one_page_and_the_pages_of_a_long_one_are_numbered():
    long = Message("t", "s", sections(30, 400), 5, "f", lines=("a", "b"), link="https://x.example/")
    first, second = pages(long, [Room(9000)])
    assert pages(MESSAGE, [Room(9000)]) == [MESSAGE]
    assert [(page.title, page.summary, page.more, page.footer, page.link) for page in (first, second)] == [
        ("t (1/2)", "s", 0, "", None),
        ("t (2/2)", "(2/2)", 5, "f", "https://x.example/"),
    ]


def test_lines_are_listed_behind_the_cards(server, slack):
    slack.deliver(Message("t", "s", (Card("c"),), lines=("one <1>", "two"), footer="f"))
    texts = [block["text"]["text"] for block in server.received[0]["blocks"] if "text" in block]
    assert texts == ["t", "s", "*c*", "• one &lt;1&gt;\n• two"]


@pytest.mark.parametrize("before", range(2993, 3000))
def test_an_escaped_character_is_not_cut_in_two(server, slack, before):
    slack.deliver(Message("t", "s" * before + "&" * 10))
    text = server.received[0]["blocks"][1]["text"]["text"]
    assert re.fullmatch(r"s+(&amp;)?…", text)


def test_a_link_that_is_too_long_for_a_button_is_left_out(server, slack):
    links = ["https://app.example/" + "x" * (length - 20) for length in (3000, 3001)]
    slack.deliver(Message("t", "s", tuple(Card("c", link=link) for link in links)))
    assert ["accessory" in block for block in server.received[0]["blocks"][2:]] == [True, False]


words = st.text(min_size=1, max_size=4000)
any_card = st.builds(
    Card,
    words,
    st.lists(words, max_size=4).map(tuple),
    st.none() | words.map(quote).map("https://app.example/".__add__),
)


@given(st.builds(Message, words, words, st.lists(any_card, max_size=60).map(tuple), st.integers(0), words))
def test_slack_would_accept_any_message(message):
    assert wrong_with({"text": escape(message.title), "blocks": blocks(message)}) is None


# Answers that are not ok


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "invalid_payload"),
        (403, "action_prohibited"),
        (404, "no_service"),
        (410, "channel_is_archived"),
        (200, "invalid_payload"),
    ],
)
def test_what_will_not_be_accepted_later_either_is_not_tried_again(server, slack, slept, status, said):
    server.script = [Reply(status, said)]
    error = refusal(slack)
    assert (str(error), error.permanent, slept) == (
        f"Slack refused the alert: {said} (HTTP {status})",
        True,
        [],
    )


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_an_outage_is_waited_out(server, slack, slept, status):
    server.script = [Reply(status, "rollup_error"), Reply(status, "<html>Bad Gateway</html>")]
    slack.deliver(MESSAGE)
    assert (len(server.received), slept) == (1, [1, 2])


def test_an_outage_that_lasts_is_an_error_that_may_pass(server, slack, slept):
    server.script = [Reply(503) for _ in range(3)]
    error = refusal(slack)
    assert (str(error), error.permanent, slept) == (
        "Slack refused the alert: no explanation (HTTP 503)",
        False,
        [1, 2],
    )


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        ("7", 7),
        ("0", 0),
        ("3600", 300),
        ("2.5", 2.5),
        ("9" * 400, 300),
        ("soon", 1),
        ("-5", 1),
        ("", 1),
        (None, 1),
    ],
)
def test_slack_is_given_the_time_that_it_asks_for_within_reason(server, slack, slept, asked, waited):
    headers = {} if asked is None else {"Retry-After": asked}
    server.script = [Reply(429, "rate_limited", headers)]
    slack.deliver(MESSAGE)
    assert (len(server.received), slept) == (1, [waited])


DATE = "Tue, 01 Dec 2026 04:37:00 GMT"


@pytest.mark.parametrize(
    ("asked", "date", "seconds"),
    [
        ("7", "", 7),
        (" 7 ", DATE, 7),
        ("2.5", "", 2.5),
        ("0", "", 0),
        ("Tue, 01 Dec 2026 04:38:30 GMT", DATE, 90),
        ("Tuesday, 01-Dec-26 04:37:05 GMT", DATE, 5),
        ("Tue, 01 Dec 2026 04:36:00 GMT", DATE, 0),
        ("Tue, 01 Dec 2026 04:38:30 GMT", "", None),
        ("Tue, 01 Dec 2026 04:38:30 GMT", "yesterday", None),
        ("Tue, 01 Dec 2026 04:38:30", DATE, None),
        ("Tue, 01 Dec 99999999999999999999 04:38:30 GMT", DATE, None),
        ("", "", None),
        ("-5", DATE, None),
        ("2.", DATE, None),
        ("1e9", DATE, None),
        ("٣", DATE, None),
        ("soon", DATE, None),
    ],
)
def test_a_time_to_wait_is_seconds_or_a_moment(asked, date, seconds):
    assert retry_after(asked, date) == seconds


def test_a_moment_that_slack_names_is_waited_for(server, slack, slept):
    headers = {"Date": DATE, "Retry-After": "Tue, 01 Dec 2026 04:38:30 GMT"}
    server.script = [Reply(429, "rate_limited", headers)]
    slack.deliver(MESSAGE)
    assert (len(server.received), slept) == (1, [90])


@pytest.mark.parametrize("answer", [Reply(503), Reply(429, "", {"Retry-After": "7"}), Cut()])
def test_nothing_is_tried_again_once_the_run_was_told_to_stop(server, answer):
    server.script = [answer] * 3
    stop = Stop()
    stop.set()
    slack = Slack(server.url, sleep=stop.sleep)
    assert (refusal(slack).permanent, len(server.paths)) == (False, 1)


def test_a_limit_that_lasts_is_an_error_that_may_pass(server, slack, slept):
    server.script = [Reply(429, "rate_limited", {"Retry-After": "5"}) for _ in range(3)]
    error = refusal(slack)
    assert (str(error), error.permanent, slept) == (
        "Slack refused the alert: rate_limited (HTTP 429)",
        False,
        [5, 5],
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server, slack, status):
    server.script = [Reply(status, "", {"Location": f"{server.url.reveal()}/elsewhere"})]
    error = refusal(slack)
    assert (server.paths, error.permanent) == ([PATH], True)


def test_an_address_that_slack_does_not_know_is_an_error_in_its_own_words(server):
    slack = Slack(Secret(server.url.reveal() + "x"), sleep=pytest.fail)
    assert str(refusal(slack)) == "Slack refused the alert: no_service (HTTP 404)"


def test_a_page_instead_of_a_word_is_quoted_in_one_short_line(server, slack):
    server.script = [Reply(404, "<html>\n<body>\x1b[31m" + "Not found. " * 100_000)]
    assert re.fullmatch(
        r"Slack refused the alert: <html> <body> .{150,190}… \(HTTP 404\)", str(refusal(slack))
    )


def test_an_answer_that_is_no_text_is_quoted_all_the_same(server, slack):
    server.script = [Reply(400, b"caf\xe9 closed")]
    assert str(refusal(slack)) == "Slack refused the alert: caf� closed (HTTP 400)"


# No answer


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(notify, "TIMEOUT_SECONDS", 0.1)


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (Hang, "ReadTimeout"),
        (Cut, "ProtocolError"),
        (Drip, "ReadTimeoutError"),
        (DripHead, "ReadTimeout"),
    ],
)
def test_an_answer_that_does_not_come_is_tried_for_again_and_then_an_error(
    server, slack, slept, impatient, answer, named
):
    server.script = [answer() for _ in range(3)]
    error = refusal(slack)
    assert (str(error), error.permanent, len(server.paths), slept) == (
        f"Slack did not answer ({named})",
        False,
        3,
        [1, 2],
    )


def test_what_hangs_once_may_go_through_the_next_time(server, slack, impatient):
    server.script = [Hang()]
    slack.deliver(MESSAGE)
    assert len(server.received) == 1


def test_an_address_without_a_server_is_an_error(slept):
    slack = Slack(Secret(f"http://127.0.0.1:{closed_port()}{PATH}"), sleep=slept.append)
    assert str(refusal(slack)) == "Slack did not answer (ConnectionError)"


@pytest.mark.parametrize("address", ["https://" + "x" * 70 + ".example", "https://exa mple"])
def test_an_address_that_is_none_is_an_error(slept, address):
    assert str(refusal(Slack(Secret(address + PATH), sleep=slept.append))).startswith(
        "Slack did not answer ("
    )


def test_certificates_that_cannot_be_found_are_an_error(monkeypatch, slept):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    slack = Slack(Secret(f"https://127.0.0.1:{closed_port()}{PATH}"), sleep=slept.append)
    assert (
        str(refusal(slack)) == "Slack did not answer (REQUESTS_CA_BUNDLE: there is no file /nowhere/ca.pem)"
    )


# The address is a secret


@pytest.fixture
def log():
    """All that is logged while a test runs, as the program writes it."""
    lines = []
    handler = logging.Handler()
    handler.setFormatter(RedactingFormatter())
    handler.emit = lambda record: lines.append(handler.format(record))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)


def everything_of(error):
    """All that somebody who gets hold of an error can read in it and in what hangs on it."""
    chain = [error]
    while following := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(following)
    found = [text for one in chain for text in (str(one), repr(one), repr(one.args), repr(vars(one)))]
    frames = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "\n".join([*found, *traceback.format_exception(error), *frames.format()])


@pytest.mark.parametrize(
    "answer",
    [
        Hang(),
        Cut(),
        Drip(),
        DripHead(),
        Reply(400, f"invalid_payload for {PATH}"),
        Reply(404, f"nothing at http://127.0.0.1{PATH} or https://hooks.slack.com{PATH}"),
        Reply(404, "x" * 170 + " " + PATH),
        Reply(302, "", {"Location": PATH}),
        Reply(503, PATH),
        None,
    ],
    ids=[
        "hangs",
        "cut",
        "drips",
        "drips-at-once",
        "path",
        "addresses",
        "at-the-end",
        "redirect",
        "outage",
        "nobody-there",
    ],
)
def test_the_address_is_in_no_error_and_no_log(server, slept, impatient, log, answer):
    path = Secret(PATH)  # the settings hold it apart, too, because libraries print it without its host
    slack = Slack(server.url, sleep=slept.append)
    if answer is None:
        slack = Slack(Secret(f"http://127.0.0.1:{closed_port()}{PATH}"), sleep=slept.append)
    server.script = [answer] * 3
    error = refusal(slack)
    text = "\n".join([everything_of(error), repr(slack), *log])
    assert "Slack" in text
    assert not any(part in text for part in (path.reveal(), *path.reveal().split("/")[2:]))


def test_no_error_of_a_library_hangs_on_ours(server, slack, impatient):
    server.script = [Hang() for _ in range(3)]
    error = refusal(slack)
    assert (error.__cause__, error.__context__) == (None, None)


# Several targets


class Recorder:
    """A target that remembers what it was given, and takes it or not."""

    def __init__(self, name, error=None):
        self.name = name
        self.error = error
        self.messages = []

    def deliver(self, message):
        self.messages.append(message)
        if self.error:
            raise self.error


def test_one_failing_target_does_not_stop_another(server, slack):
    server.script = [Reply(403, "action_prohibited")]
    broken = DeliveryError("mail server refused")
    targets = [slack, Recorder("mail", broken), Recorder("chat")]
    errors = broadcast(targets, MESSAGE)
    assert [str(error) for error in errors] == [
        "Slack refused the alert: action_prohibited (HTTP 403)",
        "mail server refused",
    ]
    assert targets[2].messages == [MESSAGE]


def test_a_message_that_every_target_took_gives_no_errors():
    targets = [Recorder("mail"), Recorder("chat")]
    assert broadcast(targets, MESSAGE) == []


def test_a_message_without_targets_gives_no_errors():
    assert broadcast([], MESSAGE) == []


def test_no_secret_that_got_into_a_message_gets_out():
    secret = Secret("correct-horse_battery|staple")
    value = secret.reveal()
    target = Recorder("mail")
    card = Card(f"Shop {value}", (f"lost {value}", "plain"), "https://app.example/1")
    broadcast([target], Message(f"t {value}", f"s {value}", (card,), 2, f"f {value}"))
    assert target.messages == [
        Message(
            "t ***", "s ***", (Card("Shop ***", ("lost ***", "plain"), "https://app.example/1"),), 2, "f ***"
        )
    ]


def test_the_retries_wait_longer_each_time(server, slack, slept, monkeypatch):
    monkeypatch.setattr(delivery, "TRIES", 8)
    slack = Slack(server.url, sleep=slept.append)
    server.script = [Reply(500) for _ in range(7)]
    slack.deliver(MESSAGE)
    assert all(before <= after for before, after in pairwise(slept))
    assert max(slept) == 30


def test_slack_says_who_it_is_and_not_where(slack):
    assert slack.name == "Slack"
