"""Anything at all, into every reader of what others write. Those of Meta's answers: `tests/meta/`.

Ciphertexts, keys, settings, old metrics files and error shapes are fuzzed beside their own tests.
"""

from __future__ import annotations

import socketserver
import threading
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meta_client import MetaClient, MetaConfig
from whatsapp_tokens.apprise_target import parse_addresses
from whatsapp_tokens.database.errors import BadUrl
from whatsapp_tokens.database.url import parse_url
from whatsapp_tokens.delivery import retry_after
from whatsapp_tokens.environment import BadSettings, read_environment
from whatsapp_tokens.meta.errors import MetaError
from whatsapp_tokens.redaction import Secret, one_line, quote_foreign, redact
from whatsapp_tokens.reports.labels import reconnect_link
from whatsapp_tokens.token_text import looks_like, why_no_token

ANY = st.text() | st.text(st.characters(codec=None), max_size=40)  # half of a character, too
HEAD = b"HTTP/1.1 200 OK\r\n"
HEADERS = (
    *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: x\r\n", b"a\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n", b"Date: yesterday\r\n"),
    *(b"Location: //\r\n", b"facebook-api-version: \xff\r\n", b"X-App-Usage: [1]\r\n"),
)
BODIES = (b'{"data": {"is_valid": true}}', b"5\r\nabcde\r\n0\r\n\r\n")


@given(st.sampled_from(["", "postgresql://", "sqlite:///", "postgres://app:p@h/"]), ANY)
def test_no_address_of_a_database_breaks_its_reader(start, text):
    with suppress(BadUrl):
        parse_url(start + text)


@given(st.sampled_from(["", "mailto://", "json://", "slack://", "tgram://"]), ANY)
@settings(max_examples=40)
def test_no_address_of_an_alert_breaks_its_reader(start, text):
    with suppress(ValueError):
        parse_addresses(start + text)


@given(content=st.binary(max_size=200) | st.text("A=b\"'\\\n#$ {}", max_size=60).map(str.encode))
def test_no_env_file_breaks_its_reader(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("env") / ".env"
    path.write_bytes(content)
    path.chmod(0o600)
    with suppress(BadSettings):
        read_environment({}, path)


@given(ANY, ANY)
def test_no_retry_after_breaks_its_reader(asked, date):
    assert (retry_after(asked, date) or 0) >= 0


@given(ANY)
def test_no_text_breaks_what_cleans_it(text):
    assert "\n" not in one_line(text)
    assert len(quote_foreign(text)) <= 200
    redact(text)


@given(ANY)
def test_no_decrypted_text_breaks_the_question_whether_it_is_a_token(text):
    why_no_token(text)
    looks_like(text)


@given(ANY | st.integers())
def test_any_id_gives_a_link_of_plain_characters(id_):
    link = reconnect_link("https://app.example/{channel_id}", id_)
    assert link.isascii()
    assert not set(' \n"<>') & set(link)


class Wire(socketserver.ThreadingTCPServer):
    """Reads a request and answers with the bytes that it is told."""

    daemon_threads = allow_reuse_address = True
    answer = b""

    class RequestHandlerClass(socketserver.BaseRequestHandler):
        def handle(self):
            with suppress(ConnectionError):
                self.request.recv(65536)
                self.request.sendall(self.server.answer)


@pytest.fixture(scope="module")
def wire():
    with Wire(("127.0.0.1", 0), Wire.RequestHandlerClass) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def client(wire):
    config = MetaConfig("1", Secret("s" * 8), "v26.0", f"http://127.0.0.1:{wire.server_address[1]}", 5, 0)
    opened = MetaClient(config, sleep=lambda _: None)
    yield opened
    opened.close()


@given(
    answer=st.binary(max_size=100)
    | st.builds(
        lambda headers, body: HEAD + b"".join(headers) + b"\r\n" + body,
        st.lists(
            st.sampled_from(
                [
                    *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: x\r\n"),
                    *(
                        b"Transfer-Encoding: chunked\r\n",
                        b"Content-Encoding: gzip\r\n",
                        b"Date: yesterday\r\n",
                    ),
                    *(
                        b"Location: //\r\n",
                        b"facebook-api-version: \xff\r\n",
                        b"X-App-Usage: [1]\r\n",
                        b"a\r\n",
                    ),
                ]
            ),
            max_size=4,
        ),
        st.binary(max_size=40)
        | st.sampled_from([b'{"data": {"is_valid": true}}', b"5\r\nabcde\r\n0\r\n\r\n"]),
    )
)
@settings(max_examples=150)
def test_no_bytes_on_the_wire_raise_anything_but_our_errors(wire, client, answer):
    wire.answer = answer
    for call in (client.inspect, lambda token: client.exchange(token, None)):
        with suppress(MetaError):
            call(Secret("EAAmadeup0123456789"))
