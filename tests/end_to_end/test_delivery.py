"""Alerts from the command to people: a Slack with Slack's limits, a mail server, and either of them down."""

from __future__ import annotations

import re

import pytest
from receivers import Reply, closed_port
from world import days

from whatsapp_tokens.database.errors import DatabaseLost
from whatsapp_tokens.database.writes import Writer

SECRETS = ("cccCCCddd123", "mail-pass-word")


@pytest.fixture(autouse=True)
def no_proxy(world):
    world.env["NO_PROXY"] = "127.0.0.1"


def line_to_tell_of(world, name="Bakery North", **columns):
    """A line of which nobody was told, and about which nobody will be asked: only the alert decides."""
    columns = {
        "token_status": "warning",
        "token_error": "not_extended: it expires when it did before",
        "token_expires_at": world.now + days(20),
        "last_token_refresh_at": world.now - days(1),
    } | columns
    return world.channel(name=name, **columns)


def told_at(world, channel):
    return world.rows.get(channel)["token_alerted_at"]


def texts(payload):
    """The texts of the cards and of the summary, as Slack shows them."""
    return [block["text"]["text"] for block in payload["blocks"] if block["type"] == "section"]


def down():
    """A mail server at which nobody listens."""
    return (
        f"mailto://sender:mail-pass-word@127.0.0.1:{closed_port()}"
        "?from=a@shop.example&to=b@shop.example&retry=0"
    )


def clean(result):
    return not any(secret in result.out + result.err for secret in SECRETS)


def test_every_target_is_told_once_and_the_next_run_is_silent(world, slack, mail):
    channel = line_to_tell_of(world)
    assert [world.run().code for _ in range(2)] == [0, 0]
    (payload,), ((receivers, message),) = slack.received, mail.mails
    assert payload["text"] == message["Subject"] == "1 WhatsApp line needs attention"
    assert receivers == ["ops@shop.example"]
    assert told_at(world, channel) is not None


def test_people_are_told_in_their_language_and_the_log_stays_in_ours(world, slack, mail):
    world.env |= {"ALERT_LANGUAGE": "es", "RECONNECT_URL": "https://app.example/{channel_id}"}
    channel = line_to_tell_of(world)
    slack.script = [Reply(410, "channel_is_archived")]
    result = world.run()
    ((_, message),) = mail.mails
    rich = message.get_body(("html",)).get_content()
    assert message["Subject"] == "1 línea de WhatsApp necesita atención"
    plain = message.get_body(("plain",)).get_content()
    link = f"https://app.example/{channel}"
    assert (f'Reconectar: <a href="{link}">{link}</a>' in rich, f"Reconectar: {link}" in plain) == (
        True,
        True,
    )
    assert "Meta respondió, pero no prolongó el token: it expires when it did before" in rich
    assert "an alert could not be delivered: Slack refused the alert: channel_is_archived" in result.err


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(400, "invalid_payload"),
        Reply(403, "action_prohibited"),
        Reply(404, "no_service"),
        Reply(410, "channel_is_archived"),
        Reply(200, "invalid_payload"),
        Reply(302, "", {"Location": "https://hooks.slack.com/services/elsewhere"}),
    ],
    ids=lambda refusal: f"{refusal.status}-{refusal.body}",
)
def test_what_slack_does_not_take_is_an_error_in_its_own_word_and_is_told_again(world, slack, refusal):
    channel = line_to_tell_of(world)
    slack.script = [refusal]
    result = world.run()
    said = f"Slack refused the alert: {refusal.body or 'no explanation'} (HTTP {refusal.status})"
    assert (result.code, said in result.err, clean(result)) == (1, True, True)
    assert told_at(world, channel) is None
    assert (world.run().code, len(slack.received)) == (0, 1)
    assert told_at(world, channel) is not None


def test_slack_is_waited_for_as_long_as_it_asks(world, slack):
    line_to_tell_of(world)
    slack.script = [Reply(429, "rate_limited", {"Retry-After": "0"}), Reply(429, "", {"Retry-After": "0"})]
    assert (world.run().code, len(slack.received)) == (0, 1)


@pytest.mark.parametrize("is_slack_down", [True, False])
def test_with_one_target_down_the_other_is_told_and_the_run_says_so_once(world, slack, mail, is_slack_down):
    channel = line_to_tell_of(world)
    if is_slack_down:
        slack.script = [Reply(403, "action_prohibited")]
    else:
        world.env["NOTIFY_URLS"] = down()
    first = world.run("-v")
    silent = "Slack refused the alert" if is_slack_down else "E-Mail did not take the alert"
    assert (first.code, silent in first.err, clean(first)) == (1, True, True)
    assert (len(slack.received), len(mail.mails)) == ((0, 1) if is_slack_down else (1, 0))
    assert told_at(world, channel) is not None
    assert (world.run().code, len(slack.received) + len(mail.mails)) == (0, 1)


def test_with_every_target_down_nothing_is_marked_as_told(world, slack):
    channel = line_to_tell_of(world)
    slack.script = [Reply(404, "no_service")]
    world.env["NOTIFY_URLS"] = f"{down()} {down()}"
    result = world.run()
    assert (result.code, result.err.count("could not be delivered")) == (1, 3)
    assert ("E-Mail (2) did not take" in result.err, clean(result)) == (True, True)
    assert told_at(world, channel) is None


def test_a_recovery_that_was_not_delivered_is_told_by_the_next_run(world, slack):
    warning = {"token_status": "warning", "token_error": "unavailable: x", "token_alerted_at": world.now}
    channel = world.channel(name="Garage", **warning)
    slack.script = [Reply(404, "no_service")]
    codes = [world.run().code for _ in range(3)]
    assert (codes, world.rows.get(channel)["token_status"], told_at(world, channel)) == (
        [1, 0, 0],
        "ok",
        None,
    )
    assert [payload["text"] for payload in slack.received] == ["1 WhatsApp line has recovered"]


def test_mail_alone_is_enough(world, mail):
    channel = line_to_tell_of(world)
    assert (world.run().code, len(mail.mails)) == (0, 1)
    assert told_at(world, channel) is not None


def test_a_run_that_stops_and_one_that_cannot_begin_alert_each_time(world, slack, mail):
    world.channel()
    world.meta.app_secret = "another"
    codes = [world.run().code for _ in range(2)]
    world.rows.run('ALTER TABLE "Channel" RENAME COLUMN token_alerted_at TO told')
    codes.append(world.run().code)
    assert codes == [3, 3, 2]
    stopped, could_not = "WhatsApp token renewal stopped early", "WhatsApp token renewal could not run"
    assert [payload["text"] for payload in slack.received] == [stopped, stopped, could_not]
    assert [message["Subject"] for _, message in mail.mails] == [stopped, stopped, could_not]
    assert "alembic upgrade head" in texts(slack.received[2])[0]


def test_a_dry_run_sends_no_alert(world, slack, mail):
    line_to_tell_of(world)
    world.run("--dry-run")
    assert (slack.paths, mail.mails) == ([], [])


def test_targets_may_stand_in_a_file(world, mail, tmp_path):
    line_to_tell_of(world)
    path = tmp_path / "targets"
    path.write_text(world.env.pop("NOTIFY_URLS") + "\n")
    world.env["NOTIFY_URLS_FILE"] = str(path)
    assert (world.run().code, len(mail.mails)) == (0, 1)


HOSTILE = [
    ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
    ("*bold* _it_ ~no~ `code`", "*bold* _it_ ~no~ `code`"),
    ("<!channel> <@U012AB3CD> &amp;", "&lt;!channel&gt; &lt;@U012AB3CD&gt; &amp;amp;"),
    ("::error::no", "::error::no"),
    ("two\nlines\r\n\x1b[31m", "two lines [31m"),
    ("مخبز الشمال \u202etxt", "مخبز الشمال txt"),
    ("x" * 300, "x" * 300),
]


def test_lines_of_any_name_are_told_of(world, slack, mail):
    world.env["RECONNECT_URL"] = "https://app.example/a?x='\"<>&id={channel_id}#ñ"
    for name, _ in HOSTILE:
        line_to_tell_of(world, name)
    line_to_tell_of(world, None)
    assert world.run().code == 0
    _, *cards = texts(slack.received[0])
    titles = [card.splitlines()[0] for card in cards]
    assert titles == [f"*{shown} ({number})*" for number, (_, shown) in enumerate(HOSTILE, 1)] + ["*8*"]
    buttons = [block["accessory"]["url"] for block in slack.received[0]["blocks"] if "accessory" in block]
    assert buttons[0] == "https://app.example/a?x='%22%3C%3E&id=1#%C3%B1"
    ((_, message),) = mail.mails
    rich = message.get_body(("html",)).get_content()
    assert set(re.findall(r"</?(\w+)", rich)) == {"p", "b", "br", "a"}


def names(payload):
    """The channels that a message to Slack names, in cards and lines."""
    return re.findall(r"^(?:\*|• )(Line \d+ \(\d+\))", "\n".join(texts(payload)), re.MULTILINE)


def test_of_a_long_list_every_channel_is_named_in_as_many_messages_as_that_takes(world, slack, mail):
    for number in range(357):
        line_to_tell_of(world, f"Line {number}")
    assert world.run().code == 0
    title, count = "357 WhatsApp lines need attention", len(slack.received)
    assert [payload["text"] for payload in slack.received] == [
        f"{title} ({number}/{count})" for number in range(1, count + 1)
    ]
    named = [name for payload in slack.received for name in names(payload)]
    assert (len(named), len(set(named))) == (357, 357)
    mailed = "".join(message.get_body(("html",)).get_content() for _, message in mail.mails)
    assert [name for name in named if name not in mailed] == []
    assert world.rows.scalar('SELECT count(*) FROM "Channel" WHERE token_alerted_at IS NULL') == 0


def test_beyond_five_hundred_the_rest_is_counted_and_it_is_said_where_to_look(world, slack):
    world.env["STATUS_PAGE_URL"] = "https://status.example/w.html"
    for number in range(520):
        line_to_tell_of(world, f"Line {number}")
    assert world.run().code == 0
    last = slack.received[-1]
    assert texts(last)[-2:] == [
        "… and 20 more: the status page (--report) shows all of them",
        "Status page",
    ]
    assert last["blocks"][-2]["accessory"]["url"] == "https://status.example/w.html"
    assert sum(len(names(payload)) for payload in slack.received) == 500


def test_channels_of_a_message_that_slack_refused_are_named_by_the_next_run(world, slack):
    for number in range(357):
        line_to_tell_of(world, f"Line {number}")
    slack.script = [Reply(200, "ok"), Reply(404, "no_service")]
    assert world.run().code == 1
    told = world.rows.scalar('SELECT count(*) FROM "Channel" WHERE token_alerted_at IS NOT NULL')
    assert world.run().code == 0
    named = [name for payload in slack.received for name in names(payload)]
    assert (0 < told < 357, len(named), len(set(named))) == (True, 357 - told, 357 - told)


def test_three_failures_and_a_recovery_are_one_message(world, slack):
    world.env["RECONNECT_URL"] = "https://app.example/reconnect?channel={channel_id}"
    ends = {"lives": 9.5}
    world.channel(
        world.token(**ends, error=(190, 460, "The password was changed.")),
        name="Bakery North",
        token_expires_at=world.now + days(9.5),
    )
    world.channel(
        world.token(**ends, exchange_same=True), name="Corner Shop", token_expires_at=world.now + days(9.5)
    )
    world.channel(
        world.token(lives=2.5, scopes=[]), name="Clinic East", token_expires_at=world.now + days(2.5)
    )
    warning = {"token_status": "warning", "token_error": "unavailable: x", "token_alerted_at": world.now}
    world.channel(name="Garage", **warning)
    assert world.run().code == 1
    (payload,) = slack.received
    assert payload["text"] == "3 WhatsApp lines need attention: 1 has stopped working"
    assert texts(payload)[0].endswith("Recovered: Garage (4).")
    assert len(texts(payload)) == 4


DEAD = (190, 460, "The password was changed.")


def test_a_failure_is_news_once_and_then_known(world, slack):
    channel = world.channel(world.token(error=DEAD), name="Garage")
    first, second, quiet = world.json(), world.json(), world.run("-q")
    assert [(one.code, one.entry(channel)["is_news"], one.counts["failed"]) for one in (first, second)] == [
        (1, True, 1),
        (0, False, 1),
    ]
    assert (second.counts["known"], len(slack.received)) == (1, 1)
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    assert "failed   Garage (1): reconnect_required, " in (shown := world.run().out)
    assert ("(known)\n" in shown, "Failed:  1 (1 known)" in shown) == (True, True)


def test_without_an_alert_target_every_failure_is_news(world):
    world.channel(world.token(error=DEAD))
    assert [world.run("-q").code for _ in range(2)] == [1, 1]


def test_a_known_failure_is_news_again_when_it_is_told_again(world, slack):
    channel = world.channel(world.token(error=DEAD, expires_at=None), token_expires_at=None)
    codes = [world.run().code for _ in range(2)]
    world.rows.run("UPDATE token_audit_log SET at = :at", at=world.rows._out(world.now - days(7)))
    world.rows.update(channel, token_alerted_at=world.now - days(7))
    again = world.json()
    assert ([*codes, again.code], again.entry(channel)["is_news"], len(slack.received)) == (
        [1, 0, 1],
        True,
        2,
    )
    assert (world.run().code, len(slack.received)) == (0, 2)


def test_people_are_alerted_after_one_503_of_slack_although_the_database_is_lost(world, slack, monkeypatch):
    def lost(*_args, **_options):
        raise DatabaseLost("the database cannot be reached: gone")

    world.channel()
    monkeypatch.setattr(Writer, "write", lost)
    slack.script = [Reply(503, "")]
    assert world.run().code == 3
    (payload,) = slack.received
    assert (payload["text"], "database_lost" in texts(payload)[0]) == (
        "WhatsApp token renewal stopped early",
        True,
    )
