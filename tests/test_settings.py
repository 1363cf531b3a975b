"""Settings are read strictly, all their problems are told at once, and no problem shows a value."""

from __future__ import annotations

import ast
import logging
import os
import re
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from crypto import KeyRing
from meta_client import MetaConfig
from models import TableMap
from whatsapp_tokens import settings as settings_module
from whatsapp_tokens.database.url import parse_url
from whatsapp_tokens.environment import BadSettings, read_environment
from whatsapp_tokens.redaction import RedactingFormatter, Secret, redact
from whatsapp_tokens.settings import Settings, read_database

ROOT = Path(__file__).resolve().parent.parent
KEY = "0123456789abcdef" * 4
OTHER_KEY = "fedcba9876543210" * 4
REQUIRED = {
    "DATABASE_URL": "postgresql://renewer:pa55-w0rd@db.example/app",
    "META_APP_ID": "100000000000001",
    "META_APP_SECRET": "the-app-secret",
    "TOKEN_ENCRYPTION_KEY": KEY,
}
WEBHOOK = "https://hooks.example/services/path-of-the-webhook"
HEARTBEAT = "https://hc.example/uuid-of-the-check"
MAIL = "mailto://sender:pa55-w0rd-of-mail@mail.example?to=ops@shop.example,boss@shop.example"
CHAT = "tgram://123456789:abcdefg_hijklmnop/987654321"
SECRETS = (
    "DATABASE_URL",
    "META_APP_SECRET",
    "TOKEN_ENCRYPTION_KEY",
    "SLACK_WEBHOOK_URL",
    "NOTIFY_URLS",
    "HEALTHCHECK_URL",
)
SECRET_FILES = {f"{name}_FILE" for name in SECRETS}
GIVEN = REQUIRED | {
    "SLACK_WEBHOOK_URL": WEBHOOK,
    "NOTIFY_URLS": f"{MAIL}, {CHAT}",
    "HEALTHCHECK_URL": HEARTBEAT,
}

MISSING = "it is missing; set it in the environment or in .env (see .env.example)"
EMPTY = "it is empty; give it a value (see .env.example)"
KEY_FORMS = "give 64 hex digits, base64 of 32 bytes, or sha256:any passphrase"
ADDRESS = "mailto://user:password@example.com"
APPRISE = "see https://appriseit.com/services/"
NOT_HTTPS = "it must be an address that begins with https://"
NOT_LOOPBACK = "plain http is accepted for a loopback address only; use https://"


def read(**changes):
    """The settings with these variables changed; None removes one."""
    return Settings.from_env({name: value for name, value in (GIVEN | changes).items() if value is not None})


def read_scopes():
    """The permissions that are required by default."""
    return Settings.from_env(REQUIRED).required_scopes


def problems(environment=None, **changes):
    """What is wrong with the settings."""
    changed = {name: value for name, value in (GIVEN | changes).items() if value is not None}
    with pytest.raises(BadSettings) as bad:
        Settings.from_env(changed if environment is None else environment)
    return bad.value.problems


# --- What the settings say


def test_the_required_variables_are_enough_and_the_rest_has_defaults():
    assert Settings.from_env(REQUIRED) == Settings(
        database=parse_url(REQUIRED["DATABASE_URL"]),
        secrets=tuple(Settings.from_env(REQUIRED).secrets),
        meta=MetaConfig(
            app_id="100000000000001",
            app_secret=Secret("the-app-secret"),
            version="v26.0",
            url="https://graph.facebook.com",
            timeout=30,
            retries=3,
            retry_wait=1,
            rate_limit_wait=600,
            connections=16,
        ),
        keys=KeyRing.parse(KEY),
        table=TableMap(),
        refresh_after=timedelta(days=45),
        refresh_before_expiry=timedelta(days=15),
        token_lifetime=timedelta(days=60),
        required_scopes=frozenset({"whatsapp_business_management", "whatsapp_business_messaging"}),
        workers=16,
        lease=timedelta(seconds=300),
        slack_webhook_url=None,
        notify_urls=(),
        reconnect_url=None,
        alert_language="en",
        healthcheck_url=None,
        status_page_url=None,
        metrics_file=None,
    )


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("TOKEN_ENCRYPTION_KEY", f"{OTHER_KEY}, {KEY}", "keys", KeyRing.parse(f"{OTHER_KEY},{KEY}")),
        ("REFRESH_AFTER_DAYS", "30", "refresh_after", timedelta(days=30)),
        ("REFRESH_BEFORE_EXPIRY_DAYS", "1", "refresh_before_expiry", timedelta(days=1)),
        ("TOKEN_LIFETIME_DAYS", "3650", "token_lifetime", timedelta(days=3650)),
        ("REQUIRED_SCOPES", "one, two three,,", "required_scopes", frozenset({"one", "two", "three"})),
        ("REQUIRED_SCOPES", " none ", "required_scopes", frozenset()),
        ("REQUIRED_SCOPES", "", "required_scopes", read_scopes()),
        ("STATUS_PAGE_URL", "https://x.example/wa.html", "status_page_url", "https://x.example/wa.html"),
        ("WORKERS", " 256 ", "workers", 256),
        ("LEASE_SECONDS", "86400", "lease", timedelta(days=1)),
        ("SLACK_WEBHOOK_URL", f" {WEBHOOK}\n", "slack_webhook_url", Secret(WEBHOOK)),
        ("SLACK_WEBHOOK_URL", " ", "slack_webhook_url", None),
        ("HEALTHCHECK_URL", f" {HEARTBEAT}\n", "healthcheck_url", Secret(HEARTBEAT)),
        ("METRICS_FILE", "/var/lib/x/tokens.prom", "metrics_file", Path("/var/lib/x/tokens.prom")),
        ("METRICS_FILE", " ", "metrics_file", None),
        ("NOTIFY_URLS", MAIL, "notify_urls", (Secret(MAIL),)),
        ("NOTIFY_URLS", f" {MAIL},{CHAT}, ", "notify_urls", (Secret(MAIL), Secret(CHAT))),
        (
            "NOTIFY_URLS",
            f"{CHAT} {MAIL}\n{CHAT}\n",
            "notify_urls",
            (Secret(CHAT), Secret(MAIL), Secret(CHAT)),
        ),
        ("NOTIFY_URLS", " ", "notify_urls", ()),
        (
            "RECONNECT_URL",
            "https://x.example/?c={channel_id}",
            "reconnect_url",
            "https://x.example/?c={channel_id}",
        ),
        (
            "RECONNECT_URL",
            "http://intranet/{channel_id}#top",
            "reconnect_url",
            "http://intranet/{channel_id}#top",
        ),
        ("RECONNECT_URL", "", "reconnect_url", None),
        ("ALERT_LANGUAGE", " ES ", "alert_language", "es"),
        ("ALERT_LANGUAGE", "", "alert_language", "en"),
    ],
)
def test_each_variable_sets_its_field(name, text, field, value):
    assert getattr(read(**{name: text}), field) == value


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("META_APP_ID", " 42 ", "app_id", "42"),
        ("META_APP_SECRET", " abc\n", "app_secret", Secret("abc")),
        ("META_GRAPH_VERSION", "v100.12", "version", "v100.12"),
        ("META_GRAPH_URL", "https://graph.example/base/", "url", "https://graph.example/base"),
        ("META_TIMEOUT_SECONDS", "0.01", "timeout", 0.01),
        ("META_RETRIES", "0", "retries", 0),
        ("META_RETRY_WAIT_SECONDS", "1e-1", "retry_wait", 0.1),
        ("RATE_LIMIT_WAIT_SECONDS", "0", "rate_limit_wait", 0),
        ("WORKERS", "1", "connections", 1),
    ],
)
def test_each_variable_about_meta_sets_its_field(name, text, field, value):
    assert getattr(read(**{name: text}).meta, field) == value


@pytest.mark.parametrize("text", ["", "  ", "\n"])
def test_an_optional_variable_that_is_blank_has_its_default(text):
    asked = [name for name in variables() if name not in REQUIRED and name not in SECRET_FILES]
    assert Settings.from_env(REQUIRED | dict.fromkeys(asked, text)) == Settings.from_env(REQUIRED)


def test_variables_of_others_are_ignored():
    assert read(PATH="/bin", WORKER="nonsense", workers="nonsense") == read()


def test_a_permission_that_meta_does_not_have_is_warned_of():
    misspelt = read(REQUIRED_SCOPES="whatsapp_business_mesaging,whatsapp_business_management")
    said = "it names permissions that are not known (whatsapp_business_mesaging); check the spelling"
    assert (misspelt.warnings, read().warnings) == ((f"REQUIRED_SCOPES: {said}",), ())


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_the_end_of_a_line_is_no_part_of_a_passphrase(ending):
    keys = read(TOKEN_ENCRYPTION_KEY=f"sha256:new{ending},sha256:old{ending}").keys
    assert keys == KeyRing.parse("sha256:new,sha256:old")


# --- What is wrong with them


@pytest.mark.parametrize(("text", "problem"), [(None, MISSING), ("", EMPTY), (" \t\n", EMPTY)])
@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_variable_must_be_there(name, text, problem):
    assert problems(**{name: text}) == [f"{name}: {problem}"]


WHOLE = {
    "REFRESH_AFTER_DAYS": (1, 3650),
    "REFRESH_BEFORE_EXPIRY_DAYS": (1, 3650),
    "TOKEN_LIFETIME_DAYS": (1, 3650),
    "WORKERS": (1, 256),
    "LEASE_SECONDS": (1, 86400),
    "META_RETRIES": (0, 100),
}
DECIMAL = {
    "META_TIMEOUT_SECONDS": (0.01, 3600),
    "META_RETRY_WAIT_SECONDS": (0, 3600),
    "RATE_LIMIT_WAIT_SECONDS": (0, 86400),
}


@pytest.mark.parametrize(
    ("name", "bounds", "text"),
    [
        (name, bounds, text)
        for name, bounds in (WHOLE | DECIMAL).items()
        for text in ("many", "nan", "inf", "-inf", "1e999", "-1", "-0.001", "1 2", "0x10", "1,5", "9" * 5000)
    ]
    + [(name, bounds, text) for name, bounds in WHOLE.items() for text in ("1.0", "1e1", "1.5")]
    + [(name, bounds, str(bounds[1] + 1)) for name, bounds in (WHOLE | DECIMAL).items()]
    + [(name, bounds, str(bounds[0] - 1)) for name, bounds in WHOLE.items()]
    + [("META_TIMEOUT_SECONDS", DECIMAL["META_TIMEOUT_SECONDS"], text) for text in ("0", "0.009")],
)
def test_a_number_out_of_range_or_none_at_all_is_refused_with_the_range(name, bounds, text):
    kind = "a whole number" if name in WHOLE else "a number"
    assert problems(**{name: text}) == [f"{name}: it must be {kind} from {bounds[0]} to {bounds[1]}"]


@pytest.mark.parametrize(("name", "bounds"), (WHOLE | DECIMAL).items())
def test_both_ends_of_a_range_are_in_it(name, bounds):
    assert [read(**{name: str(bound)}) != read() for bound in bounds] == [True, True]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("DATABASE_URL", "mysql://u:p@h/db", "it must begin with postgresql:// or sqlite:///"),
        ("DATABASE_URL", "db.example", "it must begin with postgresql:// or sqlite:///"),
        (
            "DATABASE_URL",
            "postgresql://u:p@h",
            "it names no database; write postgresql://user:password@host/database",
        ),
        ("DATABASE_URL", "sqlite://", "it names no file; write sqlite:///path or, absolute, sqlite:////path"),
        (
            "DATABASE_URL",
            "postgresql://u:p@h:port/db",
            "it is not a valid URL; special characters in the password must be %-encoded",
        ),
        ("META_APP_ID", "0123456789abcdef" * 2, "it must be the app's id, as the App Dashboard shows it"),
        ("META_APP_ID", "12 34", "it must be the app's id, as the App Dashboard shows it"),
        ("META_APP_ID", "12|34", "it must be the app's id, as the App Dashboard shows it"),
        ("META_APP_ID", "١٢٣", "it must be the app's id, as the App Dashboard shows it"),
        ("META_APP_SECRET", "two words", "it contains white space"),
        ("META_APP_SECRET", "two\nlines", "it contains white space"),
        ("META_APP_SECRET", "señal", "it contains characters that no app secret has"),
        ("META_APP_SECRET", "se\udcf1al", "it contains characters that no app secret has"),
        (
            "TOKEN_ENCRYPTION_KEY",
            "short",
            f"its 5 characters are neither hex nor base64; {KEY_FORMS}",
        ),
        ("TOKEN_ENCRYPTION_KEY", f"{KEY},", "key 2 of 2: it is empty"),
        ("TOKEN_ENCRYPTION_KEY", "sha256:", "nothing follows sha256:"),
        ("META_GRAPH_VERSION", "26.0", "it must look like v26.0"),
        ("META_GRAPH_VERSION", "v26", "it must look like v26.0"),
        ("META_GRAPH_VERSION", "v26.0/x", "it must look like v26.0"),
        ("META_GRAPH_URL", "graph.facebook.com", NOT_HTTPS),
        (
            "META_GRAPH_URL",
            "https://user@graph.example",
            "it must be a plain address such as https://graph.facebook.com",
        ),
        (
            "META_GRAPH_URL",
            "https://:pw@graph.example",
            "it must be a plain address such as https://graph.facebook.com",
        ),
        (
            "META_GRAPH_URL",
            "https://graph.example?x=1",
            "it must be a plain address such as https://graph.facebook.com",
        ),
        (
            "META_GRAPH_URL",
            "https://graph.example#x",
            "it must be a plain address such as https://graph.facebook.com",
        ),
        (
            "META_GRAPH_URL",
            "https://graph.example?",
            "it must be a plain address such as https://graph.facebook.com",
        ),
        ("ALERT_LANGUAGE", "fr", "it must be one of en, es, pt"),
        ("NOTIFY_URLS", "ops@shop.example", f"it must hold addresses such as {ADDRESS}; {APPRISE}"),
        ("NOTIFY_URLS", f"nonsense {MAIL}", f"it must hold addresses such as {ADDRESS}; {APPRISE}"),
        ("NOTIFY_URLS", "pigeon://shop.example", f"Apprise cannot make sense of it; {APPRISE}"),
        ("NOTIFY_URLS", "file:///etc/passwd", f"Apprise cannot make sense of it; {APPRISE}"),
        (
            "NOTIFY_URLS",
            f"pigeon://one {MAIL}&verify=no {CHAT}",
            (
                f"address 1 of 3: Apprise cannot make sense of it; {APPRISE}; address 2 of 3: certificates"
                " are always verified here; take verify=no out of it"
            ),
        ),
        *(
            ("REQUIRED_SCOPES", text, "it must be names of permissions with commas between them, or none")
            for text in (
                '"whatsapp_business_management,whatsapp_business_messaging"',
                "'whatsapp_business_messaging'",
                "whatsapp_business_management;whatsapp_business_messaging",
                '["whatsapp_business_messaging"]',
                "WHATSAPP_BUSINESS_MESSAGING",
                "whatsapp-business-messaging",
                "none,whatsapp_business_messaging",
                ",",
            )
        ),
        *(
            (name, f"https://x.example/{chr(0xDCE9)}", "it contains bytes that are not UTF-8")
            for name in ("RECONNECT_URL", "STATUS_PAGE_URL", "CHANNEL_TYPE", "METRICS_FILE", "WORKERS")
        ),
        *(
            (name, f"{GIVEN[name]}{chr(0xDCE9)}", "it contains bytes that are not UTF-8")
            for name in ("DATABASE_URL", "SLACK_WEBHOOK_URL", "HEALTHCHECK_URL", "NOTIFY_URLS")
        ),
        ("STATUS_PAGE_URL", "x.example", "it must be a link that begins with https://"),
        ("STATUS_PAGE_URL", "javascript:alert(1)", "it must be a link that begins with https://"),
        ("STATUS_PAGE_URL", "https://@/x", "it must be a link that begins with https://"),
        (
            "STATUS_PAGE_URL",
            "https://ops:pw@x.example/",
            "it must hold no user or password: people are shown this link",
        ),
        ("RECONNECT_URL", "x.example/{channel_id}", "it must be a link that begins with https://"),
        ("RECONNECT_URL", "ftp://x.example/", "it must be a link that begins with https://"),
        ("RECONNECT_URL", "javascript:alert(1)", "it must be a link that begins with https://"),
        ("RECONNECT_URL", "https:///path", "it must be a link that begins with https://"),
        ("RECONNECT_URL", "https://x.example/a b", "it must be a link that begins with https://"),
        ("RECONNECT_URL", "https://[x.example", "it must be a link that begins with https://"),
        ("RECONNECT_URL", "https://exa\u2100mple.com", "it must be a link that begins with https://"),
    ],
)
def test_a_malformed_value_is_refused_with_what_to_do(name, text, problem):
    assert problems(**{name: text}) == [f"{name}: {problem}"]


URLS = ("META_GRAPH_URL", "SLACK_WEBHOOK_URL", "HEALTHCHECK_URL")


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize(
    "text",
    [
        "hooks.example/x",
        "//hooks.example/x",
        "ftp://hooks.example/x",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "https:hooks.example",
        "https://hooks.example:0/x",
        "https://hooks.example:port/x",
        "https://hooks.example:99999/x",
        "https://[::1/x",
        "https://exa\u2100mple.com/x",
        "https://hooks.example/a b",
        "https://hooks.example/a\tb",
        "https://hooks.example\n.evil.example",
        "http://evil.example\\@127.0.0.1/x",
        "https://hooks.example\\x",
    ],
)
def test_secrets_are_sent_to_a_well_formed_address_only(name, text):
    assert problems(**{name: text}) == [f"{name}: {NOT_HTTPS}"]


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("host", ["*.example", ".example", "a..example", "x" * 64 + ".example", "exa_mple!"])
def test_a_host_that_cannot_be_looked_up_is_refused(name, host):
    assert problems(**{name: f"https://{host}/x"}) == [f"{name}: its host is no name that can be looked up"]


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "example.com",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "evil.example:127",
        "0.0.0.0",
        "[::]",
        "[fe80::1]",
        "128.0.0.1",
        "127.1",
        "2130706433",
        "user@evil.example",
        "127.0.0.1@evil.example",
        "127.0.0.1:80@evil.example",
    ],
)
def test_plain_http_to_another_machine_is_refused(name, host):
    assert problems(**{name: f"http://{host}/x"}) == [f"{name}: {NOT_LOOPBACK}"]


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1",
        "http://127.9.9.9:8080",
        "http://localhost:1",
        "http://LOCALHOST",
        "http://[::1]:8080/x",
        "HTTP://127.0.0.1",
        "https://10.0.0.1",
        "https://example.com:8443/x",
        "HTTPS://EXAMPLE.COM",
    ],
)
def test_https_to_anybody_and_plain_http_to_this_machine_are_accepted(name, address):
    accepted = read(**{name: address})
    urls = {
        "META_GRAPH_URL": accepted.meta.url,
        "SLACK_WEBHOOK_URL": accepted.slack_webhook_url.reveal(),
        "HEALTHCHECK_URL": accepted.healthcheck_url.reveal(),
    }
    assert urls[name] == address


def test_all_problems_are_told_at_once_in_a_line_each():
    broken = dict.fromkeys(variables(), "\u2100 nonsense")
    for name in SECRETS:
        del broken[f"{name}_FILE"]
    for name in ("CHANNEL_TABLE", "CHANNEL_TYPE", "METRICS_FILE"):  # any text names one
        del broken[name]
    told = problems(broken)
    assert sorted(line.partition(": ")[0] for line in told) == sorted(broken)


def test_nothing_set_at_all_is_one_problem_for_each_required_variable():
    assert problems({}) == [
        f"{name}: {MISSING}"
        for name in ("DATABASE_URL", "TOKEN_ENCRYPTION_KEY", "META_APP_ID", "META_APP_SECRET")
    ]


def test_the_error_says_all_its_problems():
    assert str(BadSettings(["A: x", "B: y"])) == "A: x; B: y"


# A value of each that is refused, and can be recognised in a problem. Those of X_FILE are secrets put there
# by mistake.
REFUSED = {
    "DATABASE_URL": "postgresql://leak1:leak2@leak3:leak4/leak5",
    "META_APP_ID": "leak leak",
    "META_APP_SECRET": "leak leak",
    "TOKEN_ENCRYPTION_KEY": "leak,sha256:leak",
    "SLACK_WEBHOOK_URL": "http://leak\u2100/leak",
    "HEALTHCHECK_URL": "http://leak/leak",
    "NOTIFY_URLS": "tgram://leak:leak/leak?to=leak, mailto://leak:leak@leak.example?verify=no&to=leak",
    "META_GRAPH_URL": "http://leak@leak/leak",
    "RECONNECT_URL": "https://leak\u2100/leak",
} | {f"{name}_FILE": "postgresql://leak:leak@leak/leak" for name in SECRETS}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_no_problem_shows_the_value(name):
    told = problems({**REQUIRED, name.removesuffix("_FILE"): "", name: REFUSED[name]})
    assert [(line.startswith(f"{name}: "), "leak" in line) for line in told] == [(True, False)]


def test_no_number_is_shown_in_a_problem():
    told = problems(**dict.fromkeys(WHOLE | DECIMAL, "leak"))
    assert [line for line in told if "leak" in line] == []


@hypothesis_settings(deadline=None)
@given(
    name=st.sampled_from([name for name in REFUSED if not name.endswith("_FILE")]),
    start=st.sampled_from(["", "postgresql://", "sqlite:///", "http://", "https://", "sha256:", "u:p@", "["]),
    text=st.text(max_size=20),
    end=st.sampled_from(["", "@h/db", ":port/db", "/db?schema=a&schema=b", "]", "/x", "\\"]),
)
def test_no_value_breaks_the_reading_or_is_repeated(name, start, text, end):
    try:
        read(**{name: f"{start}zq7{text}zq7{end}"})
    except BadSettings as bad:
        told = bad.problems
    else:
        told = [f"{name}: "]
    assert [(line.startswith(f"{name}: "), "zq7" in line) for line in told] == [(True, False)]


# --- Secrets


def test_settings_that_are_printed_show_no_secret():
    shown = read(
        DATABASE_URL="postgresql://renewer:pa55-w0rd@db.example/app?sslpassword=pa55-for-key",
        TOKEN_ENCRYPTION_KEY=f"{KEY},sha256:pass phrase",
    )
    leaks = ("pa55", "the-app-secret", "0123456789", "phrase", "path-of-the-webhook")
    assert [leak for leak in leaks if leak in repr(shown) + str(shown) + f"{shown}"] == []


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://renewer:p%40ss%2Fw0rd%21@db.example/app",
        "p@ss/w0rd!",
        "p%40ss%2Fw0rd%21",
        "key pa55",
        "the-app-secret",
        "100000000000001|the-app-secret",
        KEY,
        "sha256:pass phrase",
        f"{KEY}, sha256:pass phrase",
        "https://hooks.example/services/path-of-the-webhook?token=query-of-it",
        'https://hooks.example:443 "POST /services/path-of-the-webhook?token=query-of-it HTTP/1.1" 200 2',
        "?token=query-of-it",
        "m%40il-word",
        "m@il-word",
        "json://user:m%40il-word@x.example/",
        "/path/of/h1dden-room",
        "param-v4lue",
    ],
)
def test_while_settings_are_held_their_secrets_are_taken_out_of_every_text(text):
    _rejected = read(
        DATABASE_URL="postgresql://renewer:p%40ss%2Fw0rd%21@db.example/app?sslpassword=key%20pa55",
        TOKEN_ENCRYPTION_KEY=f"{KEY}, sha256:pass phrase",
        SLACK_WEBHOOK_URL="https://hooks.example/services/path-of-the-webhook?token=query-of-it",
        NOTIFY_URLS="json://user:m%40il-word@x.example/ jsons://x.example/path/of/h1dden-room?k=param-v4lue",
    )
    leaks = (
        "p@ss",
        "p%40ss",
        "w0rd",
        "pa55",
        "app-secret",
        "0123456789",
        "phrase",
        "path-of-the",
        "query-of-it",
        "il-word",
        "h1dden-room",
        "param-v4lue",
    )
    cleaned = redact(f"before {text} after")
    assert ([leak for leak in leaks if leak in cleaned], "***" in cleaned) == ([], True)


def test_what_stands_between_the_commas_of_an_address_is_not_held():
    _rejected = read(NOTIFY_URLS="mailto://u:m41lword@x.example/?to=a@shop.example,reconnect@shop.example")
    assert redact("reconnect@shop.example m41lword") == "reconnect@shop.example ***"


def test_a_database_without_a_password_and_no_addresses_hold_no_further_secret():
    held = Settings.from_env(REQUIRED | {"DATABASE_URL": "postgresql://db.example/app"}).secrets
    assert set(held) == {Secret("postgresql://db.example/app"), Secret("the-app-secret"), Secret(KEY)}


def test_a_log_line_that_prints_the_settings_holds_no_secret():
    record = logging.LogRecord("x", logging.DEBUG, "x.py", 1, "%s %r", (read(), read().database.url), None)
    line = RedactingFormatter().format(record)
    assert [
        secret for secret in ("pa55", "the-app-secret", KEY, "path-of-the-webhook") if secret in line
    ] == []


# --- Secrets in files


@pytest.fixture
def secret_file(tmp_path):
    def write(content):
        path = tmp_path / "secret"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_stand_in_a_file(name, ending, secret_file):
    assert read(**{name: None, f"{name}_FILE": secret_file(GIVEN[name] + ending)}) == read()


@pytest.mark.parametrize("name", SECRETS)
def test_a_file_may_begin_with_a_byte_order_mark(name, secret_file):
    assert read(**{name: None, f"{name}_FILE": secret_file(b"\xef\xbb\xbf" + GIVEN[name].encode())}) == read()


def test_white_space_at_the_end_of_a_passphrase_in_a_file_belongs_to_it(secret_file):
    path = secret_file("sha256:pass phrase \n")
    read_keys = read(TOKEN_ENCRYPTION_KEY=None, TOKEN_ENCRYPTION_KEY_FILE=path).keys
    assert read_keys == KeyRing.parse("sha256:pass phrase ")


@pytest.mark.parametrize("blank", ["", " "])
@pytest.mark.parametrize("name", SECRETS)
def test_a_variable_that_is_blank_leaves_it_to_the_file(name, blank, secret_file):
    assert read(**{name: blank, f"{name}_FILE": secret_file(GIVEN[name])}) == read()


@pytest.mark.parametrize("name", SECRETS)
def test_a_file_variable_that_is_empty_leaves_it_to_the_variable(name):
    assert read(**{f"{name}_FILE": ""}) == read()


@pytest.mark.parametrize("name", sorted(REQUIRED.keys() & set(SECRETS)))
def test_a_file_variable_that_is_empty_is_no_secret(name):
    assert problems(**{name: None, f"{name}_FILE": ""}) == [f"{name}: {MISSING}"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_is_given_twice_is_refused(name, secret_file):
    assert problems(**{f"{name}_FILE": secret_file(GIVEN[name])}) == [
        f"{name}: it is set, and {name}_FILE is too; keep one of them"
    ]


@pytest.mark.parametrize("content", ["", "\n", " \r\n\r\n"])
@pytest.mark.parametrize("name", SECRETS)
def test_an_empty_file_is_refused(name, content, secret_file):
    assert problems(**{name: None, f"{name}_FILE": secret_file(content)}) == [
        f"{name}_FILE: the file is empty"
    ]


@pytest.mark.parametrize("name", SECRETS)
def test_a_malformed_secret_in_a_file_is_refused_under_the_name_of_the_file_variable(name, secret_file):
    (told,) = problems(**{name: None, f"{name}_FILE": secret_file("zq7 zq7")})
    assert (told.startswith(f"{name}_FILE: it"), "zq7" in told) == (True, False)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("no/such/file", "No such file or directory"),
        (" ", "No such file or directory"),
        (str(ROOT), "Is a directory"),
        ("x" * 5000, "File name too long"),
        ("nul\0byte", "it is no path"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(name, path, error):
    assert problems(**{name: None, f"{name}_FILE": path}) == [
        f"{name}_FILE: the file that it names cannot be read ({error})"
    ]


@pytest.mark.parametrize("name", SECRETS)
def test_a_pipe_a_device_or_a_huge_file_is_refused_at_once(name, tmp_path):
    pipe, huge = tmp_path / "pipe", tmp_path / "huge"
    os.mkfifo(pipe)
    huge.touch()
    os.truncate(huge, 1 << 40)
    assert [problems(**{name: None, f"{name}_FILE": str(path)}) for path in (pipe, "/dev/zero", huge)] == [
        [f"{name}_FILE: the file that it names is not a regular file"],
        [f"{name}_FILE: the file that it names is not a regular file"],
        [f"{name}_FILE: the file that it names is larger than 64 KiB"],
    ]


@pytest.mark.parametrize("name", SECRETS)
def test_a_file_that_is_not_utf8_is_refused(name, secret_file):
    path = secret_file(f"{GIVEN[name]}ñ".encode("latin-1"))
    assert problems(**{name: None, f"{name}_FILE": path}) == [
        f"{name}_FILE: the file that it names cannot be read (it is not UTF-8 text)"
    ]


# --- The database alone, for migrations


def test_the_database_url_is_had_without_the_other_settings():
    assert read_database({"DATABASE_URL": "sqlite:///x.db"}) == (parse_url("sqlite:///x.db"), TableMap())


def test_the_database_url_of_a_migration_may_stand_in_a_file(secret_file):
    database, _ = read_database({"DATABASE_URL_FILE": secret_file("sqlite:///x.db\n")})
    assert database == parse_url("sqlite:///x.db")


@pytest.mark.parametrize(
    ("environment", "problem"),
    [({}, MISSING), ({"DATABASE_URL": "zq7"}, "it must begin with postgresql:// or sqlite:///")],
)
def test_a_migration_without_a_usable_database_url_is_told_so(environment, problem):
    with pytest.raises(BadSettings) as bad:
        read_database(environment)
    assert bad.value.problems == [f"DATABASE_URL: {problem}"]


# --- Under the real environment


def test_an_empty_variable_of_the_real_environment_hides_the_one_of_the_file(tmp_path):
    env_file = tmp_path / ".env"
    env_file.write_text("META_APP_SECRET=of-the-file\n")
    found, _ = read_environment({"META_APP_SECRET": ""}, env_file)
    assert problems(GIVEN | found) == [f"META_APP_SECRET: {EMPTY}"]


# --- .env.example


EXAMPLE = ROOT / ".env.example"


class Asked(dict):
    """An environment that remembers which variables were asked for."""

    def __init__(self, environment):
        super().__init__(environment)
        self.names = []

    def get(self, name, default=None):
        self.names.append(name)
        return super().get(name, default)


def variables():
    """The names of all variables that the settings read."""
    asked = Asked(REQUIRED)
    Settings.from_env(asked)
    return sorted(set(asked.names))


def example_lines():
    """What .env.example sets, and what it would set: name and value of each, in order."""
    return re.findall(r"^(?:# )?([A-Z][A-Z0-9_]*)=(.*)$", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_example_names_exactly_the_variables_that_are_read():
    assert sorted(name for name, _ in example_lines()) == variables()


def test_every_variable_is_asked_for_where_the_test_above_sees_it():
    source = ast.parse(Path(settings_module.__file__).read_text(encoding="utf-8"))
    named = {
        node.args[0].value
        for node in ast.walk(source)
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant)
        if re.fullmatch(r"[A-Z][A-Z0-9_]{2,}", str(node.args[0].value))
    }
    assert named == set(variables()) - SECRET_FILES


def test_the_example_sets_the_required_variables_first_and_to_nothing():
    assert list(dotenv_values(EXAMPLE, interpolate=False).items()) == [(name, "") for name in REQUIRED]


def test_the_example_as_it_is_lacks_the_required_variables_and_nothing_else():
    found, _ = read_environment({}, EXAMPLE)
    assert sorted(problems(found)) == sorted(f"{name}: {EMPTY}" for name in REQUIRED)


def test_the_optional_variables_of_the_example_show_the_defaults():
    shown = {name: text for name, text in example_lines() if name not in SECRET_FILES} | REQUIRED
    assert Settings.from_env(shown) == Settings.from_env(REQUIRED)


def test_no_optional_number_or_address_of_the_example_is_left_without_its_default():
    blank = {name for name, text in example_lines() if not text}
    assert blank == REQUIRED.keys() | {
        "CHANNEL_COLUMNS",
        "SLACK_WEBHOOK_URL",
        "NOTIFY_URLS",
        "RECONNECT_URL",
        "STATUS_PAGE_URL",
        "HEALTHCHECK_URL",
        "METRICS_FILE",
    }


def test_every_variable_of_the_example_is_explained_in_the_line_before_it():
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    unexplained = [
        line
        for before, line in pairwise(lines)
        if re.match(r"(# )?[A-Z][A-Z0-9_]*=", line) and not re.match(r"# [A-Z].*[^:]$", before)
    ]
    assert unexplained == []
