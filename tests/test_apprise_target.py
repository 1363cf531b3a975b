"""Delivery by Apprise, to a real SMTP server and to a webhook over real HTTP."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from apprise import Apprise
from receivers import Cut, Drip, Hang, HookServer, MailServer, Reply, closed_port, running
from world import ROOT

from models import Channel
from notify import Card, Message, broadcast
from whatsapp_tokens import apprise_target
from whatsapp_tokens.apprise_secrets import secret_parts
from whatsapp_tokens.apprise_target import (
    AppriseTarget,
    as_html,
    as_text,
    open_targets,
    parse_addresses,
)
from whatsapp_tokens.delivery import DeliveryError
from whatsapp_tokens.redaction import Secret, redact
from whatsapp_tokens.reports.labels import label

LINK = "https://app.example/reconnect?channel=12&from=alert"
MESSAGE = Message(
    "2 WhatsApp lines need attention",
    "Their tokens could not be renewed.",
    (
        Card("Bakery & Sons (12)", ("Meta no longer accepts the token", "Ends on 10 Dec 2026"), LINK),
        Card("Corner Shop (13)", link_label="Reconectar"),
    ),
    310,
    "17 renewed · 2 failed",
)
TEXT = f"""Their tokens could not be renewed.

• Bakery & Sons (12)
  Meta no longer accepts the token
  Ends on 10 Dec 2026
  Reconnect: {LINK}

• Corner Shop (13)

… and 310 more

17 renewed · 2 failed"""
HTML = """<p>Their tokens could not be renewed.</p>
<p><b>Bakery &amp; Sons (12)</b><br>
Meta no longer accepts the token<br>
Ends on 10 Dec 2026<br>
Reconnect: <a href="{address}">{address}</a></p>
<p><b>Corner Shop (13)</b></p>
<p>… and 310 more</p>
<p>17 renewed · 2 failed</p>""".format(address=LINK.replace("&", "&amp;"))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(apprise_target, "RETRY_WAIT_SECONDS", 0.0)


@pytest.fixture
def mail():
    with MailServer() as server:
        yield server


@pytest.fixture
def hook():
    with running(HookServer()) as server:
        yield server


def going_on():
    """Nobody has told the run to stop."""
    return False


def deliver(address, message=MESSAGE, is_stopped=going_on):
    AppriseTarget(Secret(address), is_stopped).deliver(message)


def refusal(address, message=MESSAGE):
    """What is said of a delivery that fails."""
    with pytest.raises(DeliveryError) as raised:
        deliver(address, message)
    assert raised.value.__cause__ is raised.value.__context__ is None
    return str(raised.value)


def parts_of(message):
    """The text and the HTML of a mail."""
    plain, rich = (
        message.get_body((kind,)).get_content().replace("\r\n", "\n") for kind in ("plain", "html")
    )
    return plain, rich.rstrip("\n")


# What is delivered


def test_a_message_is_plain_text():
    assert as_text(MESSAGE) == TEXT


def test_a_message_is_html():
    assert as_html(MESSAGE) == HTML


def test_a_message_with_nothing_but_a_summary_is_one_paragraph():
    message = Message("t", "1 & 2")
    assert (as_text(message), as_html(message)) == ("1 & 2", "<p>1 &amp; 2</p>")


def test_a_mail_arrives_with_its_subject_as_html_and_as_text(mail):
    deliver(mail.address())
    ((receivers, message),) = mail.mails
    assert (receivers, message["Subject"], message["From"], message["To"]) == (
        ["ops@shop.example"],
        "2 WhatsApp lines need attention",
        "alerts@shop.example",
        "ops@shop.example",
    )
    plain, rich = parts_of(message)
    assert rich == HTML
    assert "Bakery & Sons (12)" in plain


@pytest.mark.parametrize(
    "link", [LINK, "https://app.example/?q=ñ'%22&amp=1#a_b*c", "https://a.example/" + "x" * 500]
)
def test_the_text_of_a_mail_holds_the_whole_link(mail, link):
    deliver(mail.address(), Message("title", "summary", (Card("c", link=link),)))
    ((_, message),) = mail.mails
    assert f"Reconnect: {link}\n" in parts_of(message)[0] + "\n"


def test_a_mail_is_plain_text_where_its_address_says_so(mail):
    deliver(mail.address(more="&format=text"))
    ((_, message),) = mail.mails
    assert (message.get_content_type(), message.get_content().replace("\r\n", "\n").rstrip()) == (
        "text/plain",
        TEXT,
    )


def test_a_webhook_gets_plain_text(hook):
    deliver(hook.address)
    assert hook.received == [("2 WhatsApp lines need attention", TEXT)]


@pytest.mark.parametrize(
    ("name", "as_markup"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("\"quotes' & *bold* <!channel>", "&quot;quotes&#x27; &amp; *bold* &lt;!channel&gt;"),
        ("Subject: x\r\nBcc: y@z.example", "Subject: x Bcc: y@z.example"),
        ("مخبز \u202eabc", "مخبز abc"),
        ("x" * 300, "x" * 300),
        ("ñ 🥐", "ñ 🥐"),
    ],
)
def test_a_channel_of_any_name_arrives_by_mail(mail, name, as_markup):
    deliver(mail.address(), Message("title", "summary", (Card(label(Channel(1, name, ""))),)))
    ((_, message),) = mail.mails
    assert f"<b>{as_markup} (1)</b>" in parts_of(message)[1]


def test_a_link_of_odd_characters_stays_in_its_attribute(mail):
    link = "https://app.example/?q=\"><script>alert(1)</script>&x=ñ'"
    deliver(mail.address(), Message("title", "summary", (Card("c", link=link),)))
    ((_, message),) = mail.mails
    escaped = "https://app.example/?q=&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;x=ñ&#x27;"
    assert f'Reconnect: <a href="{escaped}">{escaped}</a>' in parts_of(message)[1]


def test_a_title_of_two_lines_adds_no_header_to_a_mail(mail):
    deliver(mail.address(), replace(MESSAGE, title="title\r\nBcc: other@shop.example"))
    ((receivers, message),) = mail.mails
    assert (receivers, message["Bcc"], message["Subject"]) == (
        ["ops@shop.example"],
        None,
        "title Bcc: other@shop.example",
    )


# Room


def service(room, kind="text"):
    """What matters of a service: how long its texts may be, and whether it prefers HTML."""
    return SimpleNamespace(body_maxlen=room, resolve_format=lambda: SimpleNamespace(value=kind))


LONG = Message("t" * 8, "summary", tuple(Card(f"Line {number}".ljust(18, ".")) for number in range(9)), 303)


@pytest.mark.parametrize(
    ("room", "kind", "cards", "rest"),
    [
        (4000, "text", 9, "… and 303 more"),
        (133, "text", 4, "… and 308 more"),
        (43, "text", 0, "… and 312 more"),
        (40, "text", 0, "… and 312 more"),
        (4000, "html", 9, "… and 303 more"),
        (181, "html", 4, "… and 308 more"),
    ],
)
def test_a_service_gets_as_many_cards_as_fit_and_the_count_of_the_rest(room, kind, cards, rest):
    body, given = apprise_target._body(LONG, service(room, kind))
    assert (body.count("Line"), rest in body, given) == (cards, True, kind)
    assert len(body) + 10 <= room or cards == 0


def test_a_service_that_is_too_small_for_markup_gets_plain_text():
    message = Message("t", "<" * 100)
    assert apprise_target._body(message, service(200, "html")) == ("<" * 100, "text")


def test_apprise_cuts_what_is_too_long_even_without_cards(hook):
    deliver(hook.address, Message("t", "s" * 40_000))
    ((_, text),) = hook.received
    assert 30_000 < len(text) <= 32_768


# Several addresses


def test_one_target_that_is_down_does_not_keep_a_message_from_the_others(mail, hook):
    down = f"json://127.0.0.1:{closed_port()}/hook/of-the-alerts"
    targets = open_targets([Secret(one) for one in (down, mail.address(), hook.address)], going_on)
    errors = broadcast(targets, MESSAGE)
    assert (len(mail.mails), len(hook.received)) == (1, 1)
    assert [str(error) for error in errors] == [
        "JSON did not take the alert: A Connection error occurred sending JSON notification to 127.0.0.1."
    ]


def test_targets_are_called_by_their_service_and_never_by_their_address():
    addresses = parse_addresses(
        "mailto://u:pass-word@one.example, json://two.example mailtos://u:pass-word@three.example"
    )
    assert [target.name for target in open_targets(addresses, going_on)] == ["E-Mail", "JSON", "E-Mail (2)"]


def test_a_mail_to_several_is_not_sent_again_to_those_who_got_it(mail):
    mail.refused = {"boss@shop.example"}
    target = AppriseTarget(Secret(mail.address("ops@shop.example,boss@shop.example")), going_on)
    target._service.request_rate_per_sec = 0  # no pause between the tries
    with pytest.raises(DeliveryError, match=r'Sending email to "boss@shop\.example" failed'):
        target.deliver(MESSAGE)
    assert (mail.asked, [receivers for receivers, _ in mail.mails]) == (
        ["ops@shop.example", *["boss@shop.example"] * 3],
        [["ops@shop.example"]],
    )


# Failures


def test_an_outage_is_waited_out(hook):
    hook.script = [Reply(503), Reply(500)]
    deliver(hook.address)
    assert len(hook.received) == 1


@pytest.mark.parametrize("more", ["", "?optional=yes"])
def test_an_outage_that_lasts_is_an_error(hook, more):
    hook.script = [Reply(503)] * 3
    said = refusal(hook.address + more)
    assert said == (
        "JSON did not take the alert: Failed to send JSON POST notification:"
        " Servers are overloaded., error=503."
    )
    assert (len(hook.script), hook.received) == (0, [])


def test_how_often_it_is_tried_again_may_stand_in_the_address(hook):
    hook.script = [Reply(503)] * 3
    refusal(f"{hook.address}?retry=0")
    assert len(hook.script) == 2


@pytest.mark.parametrize("more", ["", "?retry=2"])
def test_nothing_is_tried_again_once_the_run_was_told_to_stop(hook, more):
    hook.script = [Reply(503)] * 3
    with pytest.raises(DeliveryError):
        deliver(hook.address + more, is_stopped=lambda: True)
    assert len(hook.script) == 2


def test_a_mail_server_that_is_down_is_an_error():
    address = f"mailto://127.0.0.1:{closed_port()}?from=a@shop.example&to=b@shop.example&retry=0"
    assert refusal(address) == (
        'E-Mail did not take the alert: Connection error while submitting email to "127.0.0.1"'
    )


@pytest.mark.parametrize("more", ["", "?redirect=yes"])
@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_is_not_followed(hook, status, more):
    with running(HookServer()) as elsewhere:
        location = elsewhere.address.replace("json://", "http://")
        hook.script = [Reply(status, "", {"Location": location})] * 3
        refusal(hook.address + more)
        assert (elsewhere.requests, hook.requests) == ([], [])


@pytest.mark.parametrize("answer", [Hang, Cut])
def test_an_answer_that_does_not_come_is_an_error(hook, answer):
    hook.script = [answer()]
    assert refusal(f"{hook.address}?retry=0&rto=0.2").startswith("JSON did not take the alert: ")


def test_not_even_an_answer_that_never_ends_keeps_the_run(hook, monkeypatch):
    monkeypatch.setattr(apprise_target, "DEADLINE_SECONDS", 0.3)
    hook.script = [Drip()]
    assert refusal(hook.address) == "JSON did not take the alert: no answer within 0.3 seconds"


def test_a_service_that_raises_is_an_error_without_its_words(hook, monkeypatch, capfd):
    def broken(*_args, **_options):
        raise RuntimeError(f"at {hook.address}")

    monkeypatch.setattr(Apprise, "notify", broken)
    assert (refusal(hook.address), capfd.readouterr()) == (
        "JSON did not take the alert: RuntimeError",
        ("", ""),
    )


# Secrets


@pytest.mark.parametrize("excepted", [None, "", "internal.example"])
def test_a_loopback_address_is_not_reached_through_a_proxy(hook, monkeypatch, excepted):
    monkeypatch.delenv("NO_PROXY")
    if excepted is not None:
        monkeypatch.setenv("NO_PROXY", excepted)
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    deliver(hook.address)
    assert (len(hook.requests), os.environ.get("NO_PROXY"), "no_proxy" in os.environ) == (1, excepted, False)


def test_nothing_is_read_from_netrc(hook, monkeypatch, tmp_path):
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login somebody password something")
    monkeypatch.setenv("NETRC", str(path))
    deliver(hook.address)
    ((headers, _),) = hook.requests
    assert ("Authorization" in headers, os.environ["NETRC"]) == (False, str(path))


@pytest.fixture
def logged():
    """All that reaches the program's own log while a test runs, down to the finest detail."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    root, noisy = logging.getLogger(), logging.getLogger("apprise")
    levels = root.level, noisy.level
    root.addHandler(handler)
    root.setLevel(1)
    noisy.setLevel(1)
    yield records
    root.removeHandler(handler)
    root.setLevel(levels[0])
    noisy.setLevel(levels[1])


def test_apprise_logs_nothing_where_we_do(hook, logged, capfd):
    hook.script = [Reply(503)] * 3
    refusal(hook.address.replace("127.0.0.1", "user:very-secret-word@127.0.0.1"))
    assert [record.name for record in logged if record.name.startswith("apprise")] == []
    assert capfd.readouterr() == ("", "")


def test_apprise_says_why_even_if_only_errors_are_logged(hook, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "level", logging.ERROR)
    hook.script = [Reply(404)] * 3
    assert refusal(hook.address).endswith("error=404.")


BOT, DISCORD, LONG_KEY = "123456789:AAF4-yYn0dkP", "JHMHI8qBe7bk2ZwO5U711o3dV_js", "a1" * 16


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        (f"tgram://{BOT}/987654321", {BOT, "AAF4-yYn0dkP"}),
        ("mailtos://whatsapp:p%40ss@smtp.shop.example:465/?to=ops24@shop.example&format=text", {"p@ss"}),
        ("mailto://user:reconnect@127.0.0.1:9/?from=alerts@shop.example&to=ops@shop.example", {"reconnect"}),
        ("json://hooks.shop.example/WhatsApp", set()),
        ("json://whatsapp:pw@hooks.shop.example/permission/messaging", set()),
        ("json://localhost:8080/a/hook-of-shop?x=param-value&:y=x7Tk29qPw3#general", {"x7Tk29qPw3"}),
        ("json://localhost/?+X-Api-Key=plain&+X-From=plain", {"plain"}),
        (f"json://localhost/hooks/{LONG_KEY}/tTbYxRkqWpLmNvCzSdFgHj", {LONG_KEY, "tTbYxRkqWpLmNvCzSdFgHj"}),
        ("json://localhost/whatsapp-reconnect-permission", set()),
        (
            "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
            {"T1JJ3T3L2", "A1BRTD4JD", "TIiajkdnlazkcOXrIdevi7FQ"},
        ),
        (f"discord://4174216298/{DISCORD}", {"4174216298", DISCORD}),
        (f"https://discord.com/api/webhooks/4174216298/{DISCORD}", {"4174216298", DISCORD}),
        (f"workflows://prod-12.westus.logic.azure.com:443/{LONG_KEY}/SIGNATURE", {LONG_KEY, "SIGNATURE"}),
        (f"twilio://AC{LONG_KEY}:{'b2' * 16}@15551234567/15557654321", {f"AC{LONG_KEY}", "b2" * 16}),
        ("ntfy://user:pass-word@ntfy.example/whatsapp?auth=token", {"pass-word"}),
        ("ntfys://ntfy.example/shop-x7Tk29q", {"shop-x7Tk29q"}),
        ("gchat://whatsapp/AIzaSyKEY7/tokenTOKEN7", {"AIzaSyKEY7", "tokenTOKEN7"}),
    ],
)
def test_what_is_secret_of_an_address_is_held_as_such_and_nothing_else(address, parts):
    rest = address.partition("://")[2]
    assert {part.reveal() for part in secret_parts(Secret(address))} == {address, rest, *parts}


@pytest.mark.parametrize(
    "address", ["ntfy://whatsapp", "json://app.example.com/", "json://127.0.0.1:80", "ntfy://[::1/topic"]
)
def test_a_bare_name_is_secret_only_with_its_kind_of_address(address):
    shown = redact_with(address, "https://app.example.com/reconnect http://127.0.0.1:80/ whatsapp_business")
    assert shown == "https://app.example.com/reconnect http://127.0.0.1:80/ whatsapp_business"


def redact_with(address, text):
    """A text as it is shown while the parts of an address are known."""
    held = [Secret(address), *secret_parts(Secret(address))]
    return redact(text) if held else ""


@pytest.mark.parametrize(
    "address",
    [
        "mailto://user:secretpw1@127.0.0.1:9/?from=alerts@example.com&to=ops@example.com",
        "json://hooks.example.com/WhatsApp",
        "json://whatsapp:secretpw1@hooks.example.com/attention",
        "ntfy://user:secretpw1@ntfy.example.com/whatsapp",
    ],
)
def test_an_alert_keeps_its_words_and_its_link_with_any_address(address):
    text = (
        "2 WhatsApp lines need attention: the permission whatsapp_business_messaging is missing."
        " Reconnect: https://app.example.com/reconnect?channel=2"
    )
    assert redact_with(address, text) == text


# Only where it is wanted


def loads_apprise(more):
    """Whether a start of the program with these settings imports Apprise."""
    code = (
        "import os, sys; from whatsapp_tokens.settings import Settings; import refresh_tokens;"
        "Settings.from_env(os.environ); print('apprise' in sys.modules)"
    )
    settings = {
        "DATABASE_URL": "sqlite:///x.sqlite3",
        "META_APP_ID": "1",
        "META_APP_SECRET": "s",
        "TOKEN_ENCRYPTION_KEY": "0" * 64,
    }
    environment = {"PATH": os.environ["PATH"]} | settings | more
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return (done.stdout.strip(), done.stderr)


def test_apprise_is_imported_only_where_there_is_an_address_for_it():
    assert loads_apprise({"SLACK_WEBHOOK_URL": "https://hooks.example/x"}) == ("False", "")
    assert loads_apprise({"NOTIFY_URLS": "json://hooks.example/x"}) == ("True", "")
