"""HTTP for requests that carry secrets: used by Meta's client, Slack and the heartbeat.

A timeout limits the whole answer. That of `requests` limits only each silence, so a server that sends a byte
now and then could hold a run for ever.
"""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from time import monotonic
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import requests
import urllib3
from requests.structures import CaseInsensitiveDict
from requests.utils import check_header_validity

from whatsapp_tokens.http_environment import LocalFault, ca_bundle, local_fault, proxy_for
from whatsapp_tokens.redaction import Secret

PROBE_SECONDS: Final = 10


class _Session(requests.Session):
    """A session that ignores where a redirect points to."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Return None: to prepare a redirect, `requests` would read its whole body and parse its address."""


def open_session(url: str, *, connections: int) -> requests.Session:
    """Return a session for one server. Its proxy and CA bundle come from the environment, read once here.

    `.netrc` is not read, because it could replace our credentials. No redirect is followed, no cookie is
    kept, and TLS is always verified. Raise `LocalFault`.
    """
    session = _Session()
    session.trust_env = False
    if proxy := proxy_for(url):
        session.proxies[urlsplit(url).scheme] = proxy
    session.verify = ca_bundle()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    # Answers are small, so no compression, which could hide a huge one.
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "whatsapp-token-refresh"})
    adapter = _Adapter(pool_connections=1, pool_maxsize=connections)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer, with the beginning of its body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No complete answer came. `why` names the error, not the address; `is_local`: it is this machine's."""

    why: str
    is_local: bool = False


def post(url: Secret, *, timeout: float, read_bytes: int, **content: Any) -> Answer | NoAnswer:
    """Post to a secret address and read the first `read_bytes` of the answer.

    `content` is what `requests` takes: `json`, or `data` and `headers`.
    """
    return _request("POST", url.reveal(), timeout=timeout, read_bytes=read_bytes, **content)


def why_unreachable(url: str) -> str | None:
    """Ask the server of an address for its root only. Return why no answer came, or None.

    A mail server (`smtp://host:port`) is connected to, and told nothing.
    """
    parts = urlsplit(url)
    if parts.scheme == "smtp":
        try:
            socket.create_connection((parts.hostname or "", parts.port or 25), PROBE_SECONDS).close()
        except OSError as error:
            return error.strerror or type(error).__name__
        return None
    answer = _request("GET", origin(url), timeout=PROBE_SECONDS, read_bytes=0)
    return answer.why if isinstance(answer, NoAnswer) else None


def origin(url: str) -> str:
    """Return scheme, host and port of an address: the part that is no secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _request(method: str, url: str, *, read_bytes: int, **how: Any) -> Answer | NoAnswer:
    try:
        with (
            open_session(url, connections=1) as session,
            session.request(method, url, allow_redirects=False, stream=True, **how) as response,
        ):
            body = b""
            while len(body) < read_bytes and (chunk := response.raw.read1(read_bytes)):
                body += chunk
            return Answer(response.status_code, response.headers, body)
    except LocalFault as fault:
        return NoAnswer(str(fault), is_local=True)
    except ERRORS as error:
        ours = local_fault(error, url)
        return NoAnswer(str(ours), is_local=True) if ours else NoAnswer(type(error).__name__)


# What sending a request or reading its answer may raise. Their texts hold the URL, and so the secrets.
ERRORS: Final = (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException)


class Address:
    """A URL that is called many times, with the unchanging parts of its request prepared once.

    `Session.get` looks at cookies, hooks, redirects and the environment each time, which takes as much CPU as
    the call itself.
    """

    def __init__(self, session: requests.Session, url: str) -> None:
        self._session = session
        self._prepared = session.prepare_request(requests.Request("GET", url))

    def get(
        self, params: Mapping[str, str], headers: Mapping[str, bytes], *, timeout: tuple[float, float]
    ) -> requests.Response:
        """Return the answer, whose body is still to be read. Raise `ERRORS`, as reading the body does.

        `timeout`: seconds to connect, and seconds for the whole answer.
        """
        request = requests.PreparedRequest()
        request.method = self._prepared.method
        request.url = f"{self._prepared.url}?{urlencode(params)}"
        sent: CaseInsensitiveDict[Any] = self._prepared.headers.copy()
        for name, value in headers.items():
            check_header_validity((name.encode(), value))
            sent[name] = value
        request.headers = sent
        session = self._session
        return session.get_adapter(request.url).send(
            request,
            stream=True,
            timeout=timeout,
            verify=session.verify or True,
            cert=session.cert,
            proxies=session.proxies,
        )


class _UntilDeadline(io.RawIOBase):
    """The bytes from a socket. Raise `TimeoutError` once `seconds` have passed."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer whose head and body must arrive within the timeout of the socket, counted from now."""

    def __init__(self, sock: socket.socket, *args: Any, **how: Any) -> None:
        super().__init__(sock, *args, **how)
        seconds = sock.gettimeout()
        if seconds is not None:
            self.fp.close()
            self.fp = io.BufferedReader(_UntilDeadline(sock, seconds))


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _Response


class _SecureConnection(urllib3.connection.HTTPSConnection):
    response_class = _Response


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS: Final = {"http": _Pool, "https": _SecurePool}


class _Adapter(requests.adapters.HTTPAdapter):
    """Opens connections with `_Response`, to a server or to a proxy."""

    def init_poolmanager(self, *args: Any, **how: Any) -> None:
        super().init_poolmanager(*args, **how)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **how: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **how)
        if not proxy.lower().startswith("socks"):  # which has connections of its own
            manager.pool_classes_by_scheme = _POOLS
        return manager
