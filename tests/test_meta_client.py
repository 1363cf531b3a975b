"""The client against a Meta on loopback: what it sends, believes, tries again, and keeps to itself."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import logging
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import quote, quote_plus

import pytest
import requests
import responses
from receivers import closed_port
from tls import certificate, tls_context

from meta_client import MAX_ANSWER_BYTES, MetaClient, MetaConfig
from sandbox.graph import APP_ID, APP_SECRET, Cut, Drip, GraphServer, Huge, Reply, Reset, Slow, graph_error
from whatsapp_tokens.http_environment import LocalFault
from whatsapp_tokens.meta import rate_limiter as limits
from whatsapp_tokens.meta.answers import Inspection
from whatsapp_tokens.meta.errors import (
    AppRejected,
    ForeignToken,
    MetaError,
    RateLimited,
    ReconnectRequired,
    Throttled,
    Unavailable,
    UnexpectedAnswer,
    UnreadableToken,
)
from whatsapp_tokens.meta.rate_limiter import RateLimiter
from whatsapp_tokens.redaction import RedactingFormatter, Secret, one_line
from whatsapp_tokens.signals import Interrupted

NOW = 1_800_000_000
DAY = 86400
TOKEN = "EAA-a-token-of-this-test"
VALID = {"app_id": APP_ID, "is_valid": True}
GOOD = {"access_token": "EAA-a-new-token", "token_type": "bearer", "expires_in": 60 * DAY}
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
LIMITED = graph_error(403, "Too many calls of this app", 4)
TRANSIENT = graph_error(400, "Not now", 2)


def at(seconds):
    return datetime.fromtimestamp(seconds, UTC)


def never_wait(seconds):
    pytest.fail(f"nobody should have waited {seconds} s")


class Clock:
    """A clock that only sleeping moves; `waits` are the sleeps. Each look at it takes `tick` seconds."""

    def __init__(self, tick=0.0):
        self.now = 1000.0
        self.tick = tick
        self.waits = []
        self.lock = threading.Lock()

    def __call__(self):
        with self.lock:
            self.now += self.tick
            return self.now

    def sleep(self, seconds):
        with self.lock:
            self.waits.append(seconds)
            self.now += seconds


class Wire:
    """A server of raw bytes: one connection at a time, one answer each, the last one again and again.

    An answer may be bytes, or an iterator of pieces that are sent until the caller hangs up. `asked` are the
    requests' heads.
    """

    def __init__(self, *answers, tls=None):
        self.answers = list(answers)
        self.asked = []
        self.tls = tls
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.socket.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):  # the caller may hang up at any time
                self.answer(connection)

    def answer(self, connection):
        connection.settimeout(10)
        with ExitStack() as stack:
            if self.tls:
                connection = stack.enter_context(self.tls.wrap_socket(connection, server_side=True))
            stream = stack.enter_context(connection.makefile("rb"))
            head = "".join(iter(lambda: stream.readline().decode("latin-1").strip("\r\n") + "\n", "\n"))
            self.asked.append(head)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            for piece in [answer] if isinstance(answer, bytes) else answer:
                connection.sendall(piece)


def http(body, *headers, status=200):
    """The bytes of an answer after which the connection is closed."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} So".encode(), b"Connection: close", *headers]
    if not any(line.lower().startswith((b"content-length", b"transfer-encoding")) for line in headers):
        lines.append(b"Content-Length: %d" % len(content))
    return b"\r\n".join([*lines, b"", content])


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def meta():
    with GraphServer(now=lambda: NOW) as server:
        yield server


@pytest.fixture
def clock(monkeypatch):
    fake = Clock()
    monkeypatch.setattr(limits, "monotonic", fake)
    return fake


@pytest.fixture
def connect():
    """Make clients that, unless told otherwise, neither try again nor wait."""
    clients = []

    def make(url, *, sleep=never_wait, **changes):
        config = {
            "app_id": APP_ID,
            "app_secret": Secret(APP_SECRET),
            "version": "v26.0",
            "url": url,
            "timeout": 10,
            "retries": 0,
            "rate_limit_wait": 0,
        }
        clients.append(MetaClient(MetaConfig(**(config | changes)), sleep=sleep))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def parrot():
    """A Meta that only says what it is told; shared, because starting one takes time."""
    with GraphServer() as server:
        yield server


@pytest.fixture
def inspected(parrot, connect):
    """What the client makes of an inspection with this body."""

    def inspect(body, status=200, **headers):
        parrot.script(None, Reply(status, body, headers))
        return connect(parrot.url).inspect(Secret(TOKEN))

    return inspect


@pytest.fixture
def exchanged(parrot, connect):
    """What the client makes of an exchange with this body."""

    def exchange(body, status=200, **headers):
        parrot.script(None, Reply(status, body, headers), forever=True)
        return connect(parrot.url).exchange(Secret(TOKEN), "USER")

    yield exchange
    parrot.script(None)


# What is sent


def test_an_inspection_is_a_get_with_the_app_token_as_bearer(meta, connect):
    connect(meta.url).inspect(Secret(meta.issue(TOKEN)))
    [seen] = meta.requests
    assert (seen.method, seen.path, seen.query, seen.headers["authorization"]) == (
        "GET",
        "/v26.0/debug_token",
        {"input_token": TOKEN},
        f"Bearer {APP_ID}|{APP_SECRET}",
    )


EXCHANGE = {
    "grant_type": "fb_exchange_token",
    "client_id": APP_ID,
    "client_secret": APP_SECRET,
    "fb_exchange_token": TOKEN,
}


@pytest.mark.parametrize(
    ("kind", "query"),
    [
        ("SYSTEM_USER", EXCHANGE | {"set_token_expires_in_60_days": "true"}),
        ("USER", EXCHANGE),
        ("PAGE", EXCHANGE),
        (None, EXCHANGE),
    ],
)
def test_an_exchange_is_a_get_and_only_system_users_get_the_flag(meta, connect, kind, query):
    connect(meta.url).exchange(Secret(meta.issue(TOKEN)), kind)
    [seen] = meta.requests
    assert (seen.method, seen.path, seen.query, seen.headers.get("authorization")) == (
        "GET",
        "/v26.0/oauth/access_token",
        query,
        None,
    )


def test_no_compression_is_asked_for(meta, connect):
    connect(meta.url).inspect(Secret(meta.issue()))
    assert meta.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("token", [*ODD_TOKENS.values(), " spaces around "], ids=repr)
@pytest.mark.parametrize("endpoint", ["inspect", "exchange"])
def test_a_token_of_any_shape_arrives_unchanged(meta, connect, endpoint, token):
    arguments = {"inspect": (Secret(token),), "exchange": (Secret(token), "USER")}[endpoint]
    meta.issue(token)
    getattr(connect(meta.url), endpoint)(*arguments)
    assert [seen.token for seen in meta.requests] == [token]


def test_an_app_secret_that_is_not_latin_is_wrong_rather_than_a_crash(meta, connect):
    with pytest.raises(AppRejected, match="META_APP_SECRET is wrong"):
        connect(meta.url, app_secret=Secret("pasted\u200bsecret")).inspect(Secret(TOKEN))


@pytest.mark.parametrize(("seconds", "expected"), [(30, (10.0, 30)), (2, (2, 2))])
def test_the_timeout_is_for_reading_and_connecting_gets_at_most_ten_seconds_of_it(connect, seconds, expected):
    wanted = {"timeout": expected, "stream": True, "verify": True}
    with responses.RequestsMock() as mock:
        mock.get(
            "https://meta.test/v26.0/oauth/access_token",
            json=GOOD,
            match=[responses.matchers.request_kwargs_matcher(wanted)],
        )
        answer = connect("https://meta.test", timeout=seconds).exchange(Secret(TOKEN), None)
    assert answer.token == Secret(GOOD["access_token"])


def test_one_connection_serves_many_calls_even_after_errors(meta, connect):
    client = connect(meta.url)
    token = Secret(meta.issue())
    meta.script(None, None, graph_error(400, "No such token", 190), None, Reply(500, "<html>"), None)
    for _ in range(5):
        with suppress(MetaError):
            client.inspect(token)
    assert [seen.connection for seen in meta.requests] == [1] * 5


def test_many_threads_can_share_one_client(meta, connect):
    client = connect(meta.url, connections=8)
    users = {meta.issue(user_id=str(number)): str(number) for number in range(40)}
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda token: client.inspect(Secret(token)).user_id, users))
    assert found == list(users.values())


def test_every_worker_keeps_a_connection(meta, connect):
    together = threading.Barrier(4, timeout=60)
    meta.on_request = lambda _: together.wait()
    client = connect(meta.url, connections=4)
    tokens = [Secret(meta.issue()) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(2):
            list(pool.map(client.inspect, tokens))
    assert sorted(seen.connection for seen in meta.requests) == [1, 1, 2, 2, 3, 3, 4, 4]


def test_a_cookie_is_never_sent_back(meta, connect):
    client = connect(meta.url)
    meta.script(None, Reply(200, {"data": VALID}, {"Set-Cookie": "sb=crumbs; Path=/"}), forever=True)
    for _ in range(2):
        client.inspect(Secret(TOKEN))
    assert ["cookie" in seen.headers for seen in meta.requests] == [False, False]


# What the environment may decide, and what not


def test_netrc_is_not_read(meta, connect, monkeypatch, tmp_path):
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login intruder password guess\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    token = Secret(meta.issue())
    client = connect(meta.url)
    client.inspect(token)
    client.exchange(token, "USER")
    sent = [seen.headers.get("authorization") for seen in meta.requests]
    assert sent == [f"Bearer {APP_ID}|{APP_SECRET}", None]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_named_by_the_environment_is_used(connect, monkeypatch, name):
    with Wire(http({"data": VALID})) as proxy:
        monkeypatch.setenv(name, proxy.url)
        connect("http://meta.test").inspect(Secret("EAA-plain"))
    [head] = proxy.asked
    assert head.splitlines()[0] == "GET http://meta.test/v26.0/debug_token?input_token=EAA-plain HTTP/1.1"


def test_no_proxy_is_honoured(meta, connect, monkeypatch):
    with Wire(http({})) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        connect(meta.url).inspect(Secret(meta.issue()))
    assert (proxy.asked, meta.count()) == ([], 1)


def test_the_environment_is_looked_at_only_when_the_client_is_made(meta, connect, monkeypatch):
    client = connect(meta.url)
    with Wire(http({})) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        client.inspect(Secret(meta.issue()))
    assert (proxy.asked, meta.count()) == ([], 1)


def test_a_proxy_that_refuses_a_tunnel_learns_nothing_and_its_password_stays_with_us(connect, monkeypatch):
    with Wire(http(b"<html>", status=407)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//us:proxy-password@"))
        with pytest.raises(
            LocalFault, match=r"^HTTPS_PROXY: the proxy does not let the call through$"
        ) as caught:
            connect("https://meta.test").inspect(Secret(TOKEN))
    [head] = proxy.asked
    assert head.startswith("CONNECT meta.test:443 ")
    assert leaks(head, TOKEN, APP_SECRET) == []
    assert leaks(everything_in(caught.value), TOKEN, APP_SECRET, "proxy-password") == []


@pytest.fixture(scope="session")
def bundle_file(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls_meta(bundle_file):
    """A Meta whose certificate no authority has signed."""
    with Wire(http({"data": VALID}), tls=tls_context(bundle_file)) as server:
        yield server


@pytest.mark.parametrize("bundle", [None, "", "/nowhere/at-all.pem"])
def test_an_unknown_certificate_is_refused_in_every_environment(tls_meta, connect, monkeypatch, bundle):
    if bundle is not None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    with pytest.raises(LocalFault, match="REQUESTS_CA_BUNDLE"):
        connect(tls_meta.url).inspect(Secret(TOKEN))
    assert tls_meta.asked == []


def test_a_proxy_that_is_not_there_is_asked_again_like_meta(connect, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"127.0.0.1:{closed_port()}")
    waits = []
    with pytest.raises(LocalFault, match="HTTPS_PROXY"):
        connect("https://meta.test", retries=3, sleep=waits.append).inspect(Secret(TOKEN))
    assert len(waits) == 3


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_ca_bundle_named_by_the_environment_is_trusted(tls_meta, connect, monkeypatch, bundle_file, name):
    monkeypatch.setenv(name, str(bundle_file))
    assert connect(tls_meta.url).inspect(Secret(TOKEN)) == NOTHING


# The whole way, with a Meta that behaves


def test_a_token_is_inspected_and_exchanged(meta, connect):
    client = connect(meta.url)
    token = Secret(meta.issue(user_id="42", issued_at=NOW - 50 * DAY, scopes=["a", "b"]))
    new = client.exchange(token, client.inspect(token).kind)
    assert (client.inspect(new.token), new.expires_in) == (
        Inspection(
            kind="SYSTEM_USER",
            user_id="42",
            expires_at=at(NOW + 60 * DAY),
            never_expires=False,
            data_access_expires_at=None,
            issued_at=at(NOW),
            scopes=frozenset("ab"),
            app_id=APP_ID,
        ),
        timedelta(days=60),
    )


@pytest.mark.parametrize("endpoint", ["inspect", "exchange"])
@pytest.mark.parametrize(
    ("fields", "changes", "error"),
    [
        ({"expires_at": NOW - DAY}, {}, ReconnectRequired),
        ({"valid": False}, {}, ReconnectRequired),
        ({"app_id": "200000000000002"}, {}, ForeignToken),
        ({}, {"app_secret": Secret("another-secret")}, AppRejected),
        ({}, {"app_id": "300000000000003"}, AppRejected),
        ({}, {"version": "v99.0"}, AppRejected),
        (None, {}, UnreadableToken),
    ],
)
def test_refusals_are_told_apart(meta, connect, endpoint, fields, changes, error):
    token = Secret(TOKEN if fields is None else meta.issue(**fields))
    client = connect(meta.url, **changes)
    with pytest.raises(MetaError) as caught:
        client.inspect(token) if endpoint == "inspect" else client.exchange(token, "USER")
    assert type(caught.value) is error


# What goes wrong on the wire


@pytest.mark.parametrize(
    "answer",
    [Reset(), Cut(after=0), Cut(after=20), Cut(status=400), Cut(status=500), Slow(60)],
    ids=repr,
)
def test_a_broken_connection_and_silence_are_unavailable(meta, connect, answer):
    token = Secret(meta.issue())
    meta.script(None, answer)
    with pytest.raises(Unavailable):
        connect(meta.url, timeout=0.3 if isinstance(answer, Slow) else 10).inspect(token)


def test_a_server_that_is_not_there_is_unavailable(meta, connect):
    meta.close()
    with pytest.raises(Unavailable, match=r"^no answer from Meta: ConnectionError$"):
        connect(meta.url).inspect(Secret(TOKEN))


def test_a_connection_that_is_not_made_in_time_is_unavailable(connect):
    url = "https://meta.test/v26.0/debug_token"
    with responses.RequestsMock() as mock:
        mock.get(url, body=requests.ConnectTimeout(f"{url}?input_token={TOKEN}"))
        with pytest.raises(Unavailable, match=r"^no answer from Meta: ConnectTimeout$"):
            connect("https://meta.test").inspect(Secret(TOKEN))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\r\n",
        b"SSH-2.0-other\r\n",
        b"HTTP/1.1 abc So\r\n\r\n",
        b"HTTP/1.1 200 So\r\nA: " + b"x" * 70_000,
        b"HTTP/1.1 200 So\r\n" + b"A: b\r\n" * 200 + b"\r\n",
        http(b"zz\r\n", b"Transfer-Encoding: chunked"),
        http(b"5\r\nab", b"Transfer-Encoding: chunked"),
        http(b"{}", b"Content-Length: 5"),
        http(b"{}", b"Content-Encoding: gzip"),
    ],
    ids=lambda answer: repr(answer[:40]),
)
def test_what_is_hardly_http_is_unavailable(connect, answer):
    with Wire(answer) as server, pytest.raises(Unavailable, match=r"^no answer from Meta: \w+$"):
        connect(server.url).inspect(Secret(TOKEN))


@pytest.mark.parametrize(
    "answer",
    [
        http(b'e\r\n{"data": {"is_\r\ne\r\nvalid": true}}\r\n0\r\n\r\n', b"Transfer-Encoding: chunked"),
        b'HTTP/1.0 200 So\r\n\r\n{"data": {"is_valid": true}}',
        http({"data": VALID}, b"Content-Length: many"),
        http(gzip.compress(b'{"data": {"is_valid": true}}'), b"Content-Encoding: gzip"),
        http({"data": VALID}, b"this is no header"),
    ],
    ids=["chunked", "until the end", "a length that is no number", "compressed", "a header that is none"],
)
def test_a_good_answer_in_an_unusual_wrapping_is_read(connect, answer):
    with Wire(answer) as server:
        assert replace(connect(server.url).inspect(Secret(TOKEN)), app_id=APP_ID) == NOTHING


@pytest.mark.parametrize("answer", [Drip(30), Drip(6000), Drip(30, head=True)], ids=repr)
def test_an_answer_that_drips_too_slowly_is_given_up(meta, connect, answer):
    token = Secret(meta.issue())
    meta.script(None, answer)
    with pytest.raises(Unavailable, match=r"^no answer from Meta: ReadTimeout(Error)?$"):
        connect(meta.url, timeout=0.5).inspect(token)


def test_an_answer_that_drips_for_ever_is_given_up(connect):
    pause = threading.Event().wait
    drops = (b" " for _ in itertools.count() if not pause(0.01))
    head = http(b"", b"Content-Length: 1000000")
    server = Wire(itertools.chain([head], drops))
    with server, pytest.raises(Unavailable, match=r"^no answer from Meta: ReadTimeout(Error)?$"):
        connect(server.url, timeout=0.3).inspect(Secret(TOKEN))


def test_an_answer_that_drips_in_time_is_read(meta, connect):
    token = Secret(meta.issue())
    meta.script(None, Drip(0.1))
    assert connect(meta.url).inspect(token).kind == "SYSTEM_USER"


@pytest.mark.parametrize("announced", [True, False])
def test_a_huge_answer_is_refused(meta, connect, announced):
    meta.script(None, Huge(64 * MAX_ANSWER_BYTES, announced=announced))
    with pytest.raises(UnexpectedAnswer, match=r"^an answer of more than 1 MiB$"):
        connect(meta.url).inspect(Secret(TOKEN))


def test_a_small_answer_that_unpacks_to_a_huge_one_is_refused(exchanged):
    with pytest.raises(UnexpectedAnswer, match=r"^an answer of more than 1 MiB$"):
        exchanged(gzip.compress(b" " * 64 * MAX_ANSWER_BYTES), **{"Content-Encoding": "gzip"})


def test_an_answer_of_just_the_greatest_size_is_read(exchanged):
    assert exchanged(json.dumps(GOOD).ljust(MAX_ANSWER_BYTES)).token == Secret(GOOD["access_token"])


def test_one_byte_more_is_refused(exchanged):
    with pytest.raises(UnexpectedAnswer, match=r"^an answer of more than 1 MiB$"):
        exchanged(json.dumps(GOOD).ljust(MAX_ANSWER_BYTES + 1))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(meta, connect, status):
    with GraphServer(now=lambda: NOW) as elsewhere:
        path = f"{elsewhere.url}/v26.0/debug_token?input_token={elsewhere.issue(TOKEN)}"
        meta.script(None, Reply(status, {"data": VALID}, {"Location": path}))
        with pytest.raises(UnexpectedAnswer, match=f"a redirect, which is never followed; HTTP: {status}"):
            connect(meta.url).inspect(Secret(TOKEN))
        assert elsewhere.requests == []


@pytest.mark.parametrize("location", [b"//[", b"http://[::1", b"\xff", b"?\x00", b""], ids=repr)
def test_where_a_redirect_points_is_not_even_looked_at(connect, location):
    answer = http(b"", b"Location: " + location, status=302)
    with Wire(answer) as server, pytest.raises(UnexpectedAnswer, match="redirect"):
        connect(server.url).inspect(Secret(TOKEN))


def test_a_redirect_with_a_huge_body_is_refused_too(connect):
    nonsense = itertools.repeat(b"x" * 65536)
    head = b"HTTP/1.1 302 So\r\nLocation: /elsewhere\r\n\r\n"
    server = Wire(itertools.chain([head], nonsense))
    with server, pytest.raises(UnexpectedAnswer, match=r"^an answer of more than 1 MiB$"):
        connect(server.url).inspect(Secret(TOKEN))


# Trying again


@pytest.mark.parametrize("answer", [TRANSIENT, Reply(503, ""), Reset(), Cut()])
def test_a_failure_of_metas_that_passes_is_waited_for(meta, connect, clock, answer):
    token = Secret(meta.issue())
    meta.script(None, answer, answer)
    client = connect(meta.url, retries=3, sleep=clock.sleep)
    assert (client.inspect(token).kind, meta.count(), len(clock.waits)) == ("SYSTEM_USER", 3, 2)


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_after_the_last_retry_it_is_unavailable(meta, connect, clock, retries):
    meta.script(None, TRANSIENT, forever=True)
    with pytest.raises(Unavailable, match=r"^Graph error: 2; Meta said: “Not now”$"):
        connect(meta.url, retries=retries, sleep=clock.sleep).exchange(Secret(TOKEN), "USER")
    assert (meta.count(), len(clock.waits)) == (retries + 1, retries)


def test_the_client_tells_how_long_the_first_wait_is(connect):
    assert connect("https://meta.test", retry_wait=2).retry_wait == 2


def test_the_wait_doubles_with_some_jitter(meta, connect, clock):
    meta.script(None, TRANSIENT, forever=True)
    with pytest.raises(Unavailable):
        connect(meta.url, retries=4, retry_wait=2, sleep=clock.sleep).inspect(Secret(TOKEN))
    jitter = [wait - base for wait, base in zip(clock.waits, (2, 4, 8, 16), strict=True)]
    assert [extra for extra in jitter if not 0 <= extra <= 1] == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (graph_error(400, "No such token", 190), ReconnectRequired),
        (graph_error(400, "Error validating application, really", 101), AppRejected),
        (graph_error(400, "This business calls too often", 80001), Throttled),
        (graph_error(400, "Odd", 506), UnexpectedAnswer),
        (Huge(2 * MAX_ANSWER_BYTES), UnexpectedAnswer),
    ],
)
def test_what_will_not_pass_is_not_tried_again(meta, connect, answer, error):
    meta.script(None, answer, forever=True)
    with pytest.raises(MetaError) as caught:
        connect(meta.url, retries=3).exchange(Secret(TOKEN), "USER")
    assert (type(caught.value), meta.count()) == (error, 1)


def interrupt(_):
    raise Interrupted


def test_a_stop_during_a_wait_goes_through(meta, connect):
    meta.script(None, TRANSIENT, forever=True)
    with pytest.raises(Interrupted):
        connect(meta.url, retries=3, sleep=interrupt).inspect(Secret(TOKEN))
    assert meta.count() == 1


def test_a_stop_during_a_pause_goes_through(meta, connect):
    meta.script(None, LIMITED, forever=True)
    with pytest.raises(Interrupted):
        connect(meta.url, rate_limit_wait=600, sleep=interrupt).inspect(Secret(TOKEN))
    assert meta.count() == 1


# The app's limit


def test_a_limited_call_is_made_again_after_a_pause(meta, connect, clock, caplog):
    token = Secret(meta.issue())
    meta.script(None, LIMITED)
    client = connect(meta.url, rate_limit_wait=600, sleep=clock.sleep)
    assert (client.inspect(token).kind, clock.waits) == ("SYSTEM_USER", [60])
    said = "Graph error: 4; Meta said: “Too many calls of this app”"
    assert [record.getMessage() for record in caplog.records if record.name == limits.__name__] == [
        f"Meta limits the app: every call waits for 60 s ({said})"
    ]


def test_pauses_double_and_end_when_the_budget_of_the_whole_run_is_spent(meta, connect, clock):
    meta.script(None, LIMITED, forever=True)
    client = connect(meta.url, rate_limit_wait=600, retries=3, sleep=clock.sleep)
    calls = []
    for _ in range(2):
        with pytest.raises(RateLimited):
            client.inspect(Secret(TOKEN))
        calls.append(meta.count())
    assert (clock.waits, calls) == ([60, 120, 240, 180], [9, 11])  # with questions about the app between them


def test_a_budget_of_nothing_is_spent_from_the_start(meta, connect):
    meta.script(None, LIMITED, forever=True)
    with pytest.raises(RateLimited):
        connect(meta.url, rate_limit_wait=0).inspect(Secret(TOKEN))
    assert (meta.count(), meta.count(token=TOKEN)) == (2, 1)


def test_a_limit_that_meets_one_token_while_others_get_through_is_its_own(meta, connect, clock):
    meta.script(TOKEN, LIMITED, forever=True)
    client = connect(meta.url, rate_limit_wait=600, retries=3, sleep=clock.sleep)
    with pytest.raises(Throttled, match=r"^Graph error: 4; Meta said: “Too many calls of this app”$"):
        client.inspect(Secret(TOKEN))
    assert (clock.waits, client.inspect(Secret(meta.issue())).kind) == ([60], "SYSTEM_USER")


def test_a_limit_that_meets_one_token_does_not_stop_a_run_without_a_budget_for_waiting(meta, connect):
    meta.script(TOKEN, LIMITED, forever=True)
    with pytest.raises(Throttled):
        connect(meta.url, rate_limit_wait=0).exchange(Secret(TOKEN), "USER")


def test_the_limit_of_a_question_about_the_app_is_the_apps(meta, connect):
    meta.script(None, LIMITED, None)
    with pytest.raises(RateLimited):
        connect(meta.url, rate_limit_wait=0).check_app()


# The time at Meta


@pytest.mark.parametrize("seconds", [0, -20 * DAY, 365 * DAY])
def test_the_time_at_meta_is_that_of_its_first_answer_and_goes_on(meta, connect, seconds):
    client = connect(meta.url)
    date = format_datetime(at(NOW + seconds), usegmt=True)
    before = client.time_at_meta()
    meta.script(None, Reply(200, {"data": VALID}, {"Date": date}), Reply(200, {"data": VALID}, {"Date": "x"}))
    for _ in range(2):
        client.inspect(Secret(TOKEN))
    assert before is None
    assert timedelta(0) <= client.time_at_meta() - at(NOW + seconds) < timedelta(seconds=60)


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 01 Dec 99999999999999999999 04:38:30 GMT"])
def test_an_answer_without_a_date_says_nothing_about_the_time(meta, connect, date):
    client = connect(meta.url)
    meta.script(None, Reply(200, {"data": VALID}, {"Date": date}))
    client.inspect(Secret(TOKEN))
    assert client.time_at_meta() is None


def business(*minutes):
    entries = [{"type": "pages", "estimated_time_to_regain_access": value} for value in minutes]
    return {"X-Business-Use-Case-Usage": json.dumps({"7": entries[:1], "8": entries[1:]})}


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "90"}, 90),
        ({"Retry-After": "5"}, 60),
        ({"Retry-After": "-5"}, 60),
        ({"Retry-After": "99999999"}, 600),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, 60),
        ({"Retry-After": "90"} | business(5), 90),
        (business(2), 120),
        (business(2, 3, 1), 180),
        (business("2"), 120),
        (business(None, 3), 180),
        (business(0), 60),
        (business(True), 60),
        (business(1.5), 60),
        (business(10**400), 60),
        (business(float("inf")), 60),
        (business(), 60),
        ({"X-Business-Use-Case-Usage": "{"}, 60),
        ({"X-Business-Use-Case-Usage": "[]"}, 60),
        ({"X-Business-Use-Case-Usage": '{"7": 5}'}, 60),
        ({"X-Business-Use-Case-Usage": '{"7": ["soon"]}'}, 60),
        ({"X-Business-Use-Case-Usage": "[" * 20_000}, 60),
        ({"X-App-Usage": '{"call_count": 100}'}, 60),
    ],
)
def test_a_pause_is_at_least_as_long_as_meta_asks_for(meta, connect, clock, headers, wait):
    token = Secret(meta.issue())
    meta.script(None, Reply(429, "", headers))
    connect(meta.url, rate_limit_wait=600, sleep=clock.sleep).inspect(token)
    assert clock.waits == [wait]


def test_a_limit_of_one_business_says_when_to_come_back(exchanged):
    reply = graph_error(400, "This business calls too often", 80001)
    with pytest.raises(Throttled) as caught:
        exchanged(reply.body, 400, **business(11))
    assert caught.value.retry_after == 660


def test_a_pause_is_for_everyone_who_comes_while_it_lasts(clock):
    gate = RateLimiter(600, clock.sleep)
    gate.enter()
    gate.pause(RateLimited("limited"), called_at=clock())
    clock.now += 20
    gate.enter()
    gate.enter()
    assert clock.waits == [40]


def test_whoever_called_before_a_pause_began_joins_it_instead_of_beginning_another(clock):
    gate = RateLimiter(600, clock.sleep)
    both_called_at = clock()
    clock.now += 5
    gate.pause(RateLimited("the first"), both_called_at)
    clock.now += 5
    gate.pause(RateLimited("the second"), both_called_at)
    gate.enter()
    assert clock.waits == [55]


def test_a_sleep_that_ends_too_early_is_continued(clock):
    gate = RateLimiter(600, lambda seconds: clock.sleep(min(seconds, 25)))
    gate.pause(RateLimited("limited"), called_at=clock())
    gate.enter()
    assert clock.waits == [25, 25, 10]


@pytest.mark.parametrize(("is_new", "waits"), [(True, []), (False, [60.0])])
def test_what_was_found_out_of_a_new_token_is_given_back_without_a_wait(meta, connect, is_new, waits):
    found = []
    client = connect(meta.url, rate_limit_wait=600, sleep=found.append)
    token = Secret(meta.issue())
    if is_new:
        token = client.exchange(token, None).token
    used = {"call_count": 100, "estimated_time_to_regain_access": 5}
    headers = {"X-Business-Use-Case-Usage": json.dumps({"7": [used]})}
    meta.script(token.reveal(), Reply(200, {"data": VALID}, headers))
    client.inspect(token)
    assert found == waits


def test_workers_that_are_limited_at_once_share_one_pause(meta, connect, monkeypatch, caplog):
    clock = Clock(tick=0.001)
    monkeypatch.setattr(limits, "monotonic", clock)
    tokens = [Secret(meta.issue()) for _ in range(4)]
    for token in tokens:
        meta.script(token.reveal(), LIMITED)
    together = threading.Barrier(len(tokens), timeout=60)
    first_round = iter(tokens)
    meta.on_request = lambda _: next(first_round, None) and together.wait()
    client = connect(meta.url, rate_limit_wait=600, sleep=clock.sleep)
    with ThreadPoolExecutor(len(tokens)) as pool:
        kinds = list(pool.map(lambda token: client.inspect(token).kind, tokens))
    pauses = [record for record in caplog.records if record.name == limits.__name__]
    assert (set(kinds), meta.count(), len(pauses)) == ({"SYSTEM_USER"}, 2 * len(tokens), 1)


# The version


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "meta_client"]


def test_a_version_that_has_ended_is_warned_of_once(meta, connect, caplog):
    meta.served_version = "v27.0"
    client = connect(meta.url)
    token = Secret(meta.issue())
    for _ in range(3):
        client.inspect(token)
    assert warnings_of(caplog) == [
        "Meta answers with v27.0, but META_GRAPH_VERSION is v26.0: that version has ended, set a newer one"
    ]


def test_a_version_that_is_not_out_yet_is_not_said_to_have_ended(meta, connect, caplog):
    meta.served_version = "v9.0"
    expected = "META_GRAPH_VERSION is v26.0: that version is not out yet, set an older one"
    connect(meta.url).inspect(Secret(meta.issue()))
    assert warnings_of(caplog) == [f"Meta answers with v9.0, but {expected}"]


def test_an_error_can_bring_the_version_too(meta, connect, caplog):
    meta.served_version = "v27.0"
    with pytest.raises(ReconnectRequired):
        connect(meta.url).inspect(Secret(TOKEN))
    assert len(warnings_of(caplog)) == 1


def test_what_calls_itself_a_version_is_quoted_with_care(connect, caplog):
    with Wire(http({"data": VALID}, b"facebook-api-version: v27.0\x1b[2J" + b"x" * 5000)) as server:
        connect(server.url).inspect(Secret(TOKEN))
    [warning] = warnings_of(caplog)
    assert warning.isprintable()
    assert len(warning) < 150


@pytest.mark.parametrize("header", [[], [b"facebook-api-version:"], [b"facebook-api-version: v26.0"]])
def test_the_same_version_or_none_is_no_reason_to_warn(connect, caplog, header):
    with Wire(http({"data": VALID}, *header)) as server:
        connect(server.url).inspect(Secret(TOKEN))
    assert warnings_of(caplog) == []


# Secrets


def everything_in(error):
    """All that an error, its causes and its contexts could print."""
    texts, errors, seen = [], [error], set()
    while errors:
        current = errors.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            texts += [str(current), repr(current), repr(current.args), repr(vars(current))]
            errors += [current.__cause__, current.__context__]
    return "\n".join(texts)


def leaks(text, *secrets):
    """Those of the secrets that can be read in the text, in any spelling."""
    found = []
    for secret in secrets:
        forms = (secret, one_line(secret), quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1])
        if any(form in text for form in forms):
            found.append(secret)
    return found


@pytest.fixture
def log():
    """All log lines of all libraries, at DEBUG, as our formatter writes them; and raw ones beside."""
    clean, raw = io.StringIO(), io.StringIO()
    handlers = [logging.StreamHandler(clean), logging.StreamHandler(raw)]
    handlers[0].setFormatter(RedactingFormatter())
    loggers = [logging.getLogger(), logging.getLogger("urllib3")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    for handler in handlers:
        loggers[0].addHandler(handler)
    yield lambda: (clean.getvalue(), raw.getvalue())
    for handler in handlers:
        loggers[0].removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def header(text):
    """A header's value that holds what it can of the text."""
    return text.encode("latin-1", "replace").decode("latin-1")


def echoes(token):
    """Answers that repeat the token and our credentials, or that make libraries repeat them."""
    ours = f"{APP_SECRET} {APP_ID}|{APP_SECRET}"
    said = f"Malformed access token {token} ({quote_plus(token)}) of {ours}"
    dead = {"is_valid": False, "error": {"code": 190, "subcode": 463, "message": said}}
    return {
        "a dead token": graph_error(401, said, 190, 463),
        "a dead token inspected": Reply(200, {"data": dead}),
        "a bare text": Reply(400, {"error": said}),
        "a refused app": graph_error(400, f"Error validating client secret {ours} {token}", 1),
        "a limit": graph_error(403, said, 4),
        "passing failure": graph_error(500, said, 1),
        "something unheard of": graph_error(400, said, 987),
        "a page": Reply(200, f"<html>{said}"),
        "broken JSON": Reply(200, json.dumps({"access_token": said})[:-1]),
        "broken JSON with 400": Reply(400, json.dumps({"error": {"message": said}})[:-1]),
        "too long a message": graph_error(400, f"{'word ' * 37}{said}", 190),
        "another app": Reply(200, {"data": VALID | {"app_id": token}}),
        "a redirect": Reply(302, "", {"Location": f"/?input_token={quote(token)}&s={quote(ours)}"}),
        "a version": Reply(200, {}, {"facebook-api-version": header(token)}),
        "a cookie": Reply(200, {}, {"Set-Cookie": f"t={quote(token)}; Path=/"}),
        "headers that break": Reply(200, {}, {"X-Odd": f"a\r\n{header(token)}"}),
        "a reset": Reset(),
        "a cut": Cut(),
        "silence": Slow(60),
        "too much": Huge(2 * MAX_ANSWER_BYTES),
    }


@pytest.mark.parametrize("shape", ODD_TOKENS)
@pytest.mark.parametrize("echo", echoes("x"))
def test_no_secret_shows_in_any_error_or_log_line(meta, connect, clock, log, shape, echo):
    token = Secret(ODD_TOKENS[shape])
    meta.issue(token.reveal())
    meta.script(None, echoes(token.reveal())[echo], forever=True)
    changes = {"timeout": 0.1} if echo == "silence" else {}
    client = connect(meta.url, retries=1, rate_limit_wait=60, sleep=clock.sleep, **changes)
    shown = []
    for call in (lambda: client.inspect(token), lambda: client.exchange(token, "SYSTEM_USER")):
        with pytest.raises(MetaError) as caught:
            call()
        shown.append(everything_in(caught.value))
    lines, _ = log()
    assert leaks("\n".join([*shown, lines]), token.reveal(), APP_SECRET, f"{APP_ID}|{APP_SECRET}") == []


@pytest.mark.parametrize("shape", ODD_TOKENS)
def test_what_urllib3_logs_holds_the_secrets_until_our_formatter_has_seen_it(meta, connect, log, shape):
    token = Secret(ODD_TOKENS[shape])
    meta.issue(token.reveal())
    connect(meta.url).exchange(token, "USER")
    assert [leaks(lines, token.reveal(), APP_SECRET) for lines in log()] == [[], [token.reveal(), APP_SECRET]]
