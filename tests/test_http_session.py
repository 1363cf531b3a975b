"""What a session that carries secrets takes from the environment, and what it never does."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic, sleep

import pytest
import requests
from receivers import closed_port
from tls import certificate, tls_context

from whatsapp_tokens.http_session import NoAnswer, open_session, origin, post, why_unreachable
from whatsapp_tokens.redaction import Secret

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Nothing of the machine's own proxies and certificates."""
    for name in PROXIES + BUNDLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


class Handler(BaseHTTPRequestHandler):
    """Sends everybody somewhere else, with a cookie."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.connections.add(self.client_address)
        self.server.paths.append(self.path)
        self.server.seen.append(dict(self.headers))
        self.send_response(302)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Set-Cookie", "session=1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen = []
        self.paths = []
        self.connections = set()

    def handle_error(self, *_):
        pass  # a client that goes away is what some tests are about


@contextmanager
def serving(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server():
    with serving(Server()) as running:
        yield running


def url_of(server):
    return f"http://127.0.0.1:{server.server_port}/"


@pytest.fixture
def session(server):
    with open_session(url_of(server), connections=2) as opened:
        yield opened


def test_a_redirect_is_not_followed_by_default(session, server):
    assert (session.get(url_of(server)).status_code, len(server.seen)) == (302, 1)


def test_it_is_not_even_looked_where_a_redirect_points(session, server):
    answer = session.get(url_of(server), allow_redirects=False)
    assert (answer.is_redirect, answer.next) == (True, None)


def test_no_cookie_is_kept(session, server):
    for _ in range(2):
        session.get(url_of(server))
    assert (list(session.cookies), ["Cookie" in headers for headers in server.seen]) == ([], [False, False])


def test_netrc_is_not_read(environment, tmp_path, session, server):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password something\n")
    environment.setenv("NETRC", str(netrc))
    session.get(url_of(server))
    assert "Authorization" not in server.seen[0]


def test_the_server_is_told_who_asks_and_to_compress_nothing(session, server):
    session.get(url_of(server))
    sent = server.seen[0]
    assert (sent["User-Agent"], sent["Accept-Encoding"]) == ("whatsapp-token-refresh", "identity")


def test_the_environment_is_not_looked_at_again(environment, session, server):
    environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert (session.trust_env, session.get(url_of(server)).status_code) == (False, 302)


def test_a_proxy_is_taken_from_the_environment(environment):
    environment.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    with open_session("https://graph.example/", connections=1) as session:
        assert session.proxies["https"] == "http://proxy.example:3128"


def test_a_proxy_is_not_used_for_a_server_that_is_excepted(environment):
    environment.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    environment.setenv("NO_PROXY", "graph.example")
    with open_session("https://graph.example/", connections=1) as session:
        assert dict(session.proxies) == {}


def test_a_secret_that_is_posted_to_loopback_does_not_go_to_the_proxy(environment, server):
    with serving(Server()) as proxy:
        environment.setenv("HTTP_PROXY", url_of(proxy))
        answer = post(Secret(url_of(server)), timeout=5, read_bytes=0, data=b"x")
        assert (answer.status, proxy.seen) == (501, [])


def test_certificates_are_verified_if_the_environment_says_nothing():
    with open_session("https://graph.example/", connections=1) as session:
        assert session.verify is True


@pytest.fixture
def bundle(tmp_path):
    return certificate(tmp_path)


def secured(server, path):
    """The server with TLS."""
    server.socket = tls_context(path).wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    return server


@pytest.fixture
def tls_server(bundle):
    with serving(secured(Server(), bundle)) as server:
        yield server


def secure_url_of(server):
    return f"https://127.0.0.1:{server.server_port}/"


@pytest.mark.parametrize("value", [None, ""])
def test_a_server_with_an_untrusted_certificate_is_sent_nothing(environment, tls_server, value):
    if value is not None:
        environment.setenv("REQUESTS_CA_BUNDLE", value)
        environment.setenv("CURL_CA_BUNDLE", value)
    url = secure_url_of(tls_server)
    with open_session(url, connections=1) as session, pytest.raises(requests.exceptions.SSLError):
        session.get(url)
    assert tls_server.seen == []


def test_a_server_is_trusted_that_the_named_bundle_vouches_for(environment, tls_server, bundle):
    environment.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    url = secure_url_of(tls_server)
    with open_session(url, connections=1) as session:
        assert session.get(url).status_code == 302


def test_a_certificate_of_an_unknown_ca_is_a_fault_of_this_machine(tls_server):
    answer = post(Secret(secure_url_of(tls_server)), timeout=5, read_bytes=0)
    assert (answer, tls_server.seen) == (
        NoAnswer(
            "the certificate of 127.0.0.1 is not trusted here (self-signed certificate); "
            "name the file of its CA in REQUESTS_CA_BUNDLE",
            is_local=True,
        ),
        [],
    )


def test_a_certificate_that_has_expired_may_be_a_fault_of_this_machines_clock(environment, tmp_path):
    path = certificate(tmp_path, lives=timedelta(days=-1))
    environment.setenv("REQUESTS_CA_BUNDLE", str(path))
    with serving(secured(Server(), path)) as server:
        answer = post(Secret(secure_url_of(server)), timeout=5, read_bytes=0)
    assert answer.why == (
        "the certificate of 127.0.0.1 is not trusted here (certificate has expired); set this machine's clock"
    )


def test_a_proxy_that_is_not_there_is_a_fault_that_names_its_variable(environment):
    environment.setenv("HTTPS_PROXY", f"127.0.0.1:{closed_port()}")
    answer = post(Secret("https://hooks.example/services/T0/B0/x"), timeout=5, read_bytes=0)
    assert answer == NoAnswer("HTTPS_PROXY: the proxy does not let the call through", is_local=True)


def test_a_server_is_reached_without_its_path(server):
    why = why_unreachable(f"{url_of(server)}services/secret?key=secret")
    assert (why, server.paths) == (None, ["/"])


def test_a_server_that_is_not_there_is_not_reached():
    assert why_unreachable(f"http://127.0.0.1:{closed_port()}/x") == "ConnectionError"


def test_of_an_address_only_the_server_is_shown():
    assert origin("https://me:secret@hooks.example:8443/services/T0?x=1#y") == "https://hooks.example:8443"


# Time


TIMEOUT = 0.4


class Dripper:
    """Answers each request with `begin`, and then a byte now and then until it is closed.

    A CONNECT is answered with `tunnel` first. With a certificate it speaks TLS, behind a CONNECT if there is
    one.
    """

    def __init__(self, begin, tunnel=None, context=None):
        self.begin = begin
        self.tunnel = tunnel
        self.context = context
        self.closing = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def serve(self):
        with suppress(OSError):
            while True:
                threading.Thread(target=self.answer, args=self.socket.accept()[:1], daemon=True).start()

    def answer(self, connection):
        with suppress(OSError), ExitStack() as stack:
            stack.enter_context(connection)
            if self.tunnel is not None:
                connection.recv(65536)
                connection.sendall(self.tunnel)
            if self.context and (self.tunnel is None or self.tunnel.endswith(b"\r\n\r\n")):
                connection = stack.enter_context(self.context.wrap_socket(connection, server_side=True))
                connection.recv(65536)
            elif self.tunnel is None:
                connection.recv(65536)
            connection.sendall(self.begin)
            while not self.closing.wait(0.02):
                connection.sendall(b"a")


HEAD, BODY = b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n"
OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"


def slowness(url):
    """Whether an answer that never ends is a timeout, and whether it took too long to say so."""
    since = monotonic()
    with open_session(url, connections=1) as session, pytest.raises(requests.RequestException) as raised:
        session.get(url, timeout=TIMEOUT)
    return "timed out" in str(raised.value), monotonic() - since < TIMEOUT + 10


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 2", HEAD, BODY, CHUNKS])
def test_an_answer_that_never_ends_is_given_up_in_time(begin):
    with Dripper(begin) as server:
        assert slowness(f"http://127.0.0.1:{server.port}/") == (True, True)


@pytest.fixture
def context(bundle, environment):
    """TLS as a server that is trusted speaks it."""
    environment.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    return tls_context(bundle)


@pytest.mark.parametrize("begin", [HEAD, BODY])
def test_an_answer_over_tls_that_never_ends_is_given_up_in_time(context, begin):
    with Dripper(begin, context=context) as server:
        assert slowness(f"https://127.0.0.1:{server.port}/") == (True, True)


@pytest.mark.parametrize("begin", [HEAD, BODY])
def test_an_answer_that_a_proxy_passes_on_and_never_ends_is_given_up_in_time(environment, begin):
    with Dripper(begin) as proxy:
        environment.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert slowness("http://meta.example/") == (True, True)


@pytest.mark.parametrize(("begin", "tunnel"), [(b"", HEAD), (HEAD, OPEN), (BODY, OPEN)])
def test_what_never_ends_in_the_tunnel_of_a_proxy_is_given_up_in_time(environment, context, begin, tunnel):
    with Dripper(begin, tunnel, context) as proxy:
        environment.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert slowness("https://meta.example:1/") == (True, True)


def test_the_time_of_each_request_is_its_own_on_a_connection_that_is_kept(session, server):
    answered = []
    for _ in range(4):
        answered.append(session.get(url_of(server), timeout=1).status_code)
        sleep(0.3)
    assert (answered, len(server.connections)) == ([302] * 4, 1)


def test_an_answer_without_a_deadline_may_take_its_time(session, server):
    assert session.get(url_of(server)).status_code == 302
