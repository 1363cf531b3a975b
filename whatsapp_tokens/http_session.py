"""HTTP sessions that can be trusted with secrets: what Meta's client and the notifiers have in common.

Every answer has to be there, with its headers and its body, once the timeout of its request has passed. What
`requests` calls a timeout is only the longest silence: with a byte now and then, a server keeps it for ever.
"""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from math import inf
from time import monotonic
from typing import Any, Final
from urllib.parse import urlencode

import requests
import urllib3
from requests.structures import CaseInsensitiveDict
from requests.utils import check_header_validity

from whatsapp_tokens.redaction import Secret


class TooSlow(Exception):
    """An answer had begun, and was not complete in time."""


class _Session(requests.Session):
    """A session that does not even look where a redirect points."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere: to prepare a redirect, requests reads its whole body and trips over odd addresses."""


def open_session(url: str, *, connections: int) -> requests.Session:
    """A session for one server, which looks at the environment once, here, and then never again.

    Proxies and a CA bundle are taken from the environment. `.netrc` is not read, because it could replace
    our credentials; no redirect is followed, no cookie kept, and TLS is always verified.
    """
    session = _Session()
    environment = session.merge_environment_settings(url, {}, None, None, None)
    session.trust_env = False
    session.proxies.update(environment["proxies"])
    session.verify = environment["verify"] or True  # a CA bundle named by the environment, never "off"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    # Answers are small: no compression, so no bombs. The name helps whoever reads the server's logs.
    session.headers.update({"Accept-Encoding": "identity", "User-Agent": "whatsapp-token-refresh"})
    adapter = _Adapter(pool_connections=1, pool_maxsize=connections)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; `body` is cut to what was to be read."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No complete answer came. `why` is the kind of error, without the address."""

    why: str


def post(url: Secret, *, timeout: float, read_bytes: int, **content: Any) -> Answer | NoAnswer:
    """Post to a secret address and read the first `read_bytes` of the answer.

    `content` is what `requests` takes: `json`, or `data` and `headers`.
    """
    try:
        with (
            open_session(url.reveal(), connections=1) as session,
            session.post(
                url.reveal(), timeout=timeout, allow_redirects=False, stream=True, **content
            ) as response,
        ):
            body = b""
            while len(body) < read_bytes and (chunk := response.raw.read1(read_bytes)):
                body += chunk
            return Answer(response.status_code, response.headers, body)
    except ERRORS as error:
        return NoAnswer(type(error).__name__)


# What may be raised while an answer is awaited or read. Their texts hold the URL, and so the secrets.
ERRORS: Final = (OSError, urllib3.exceptions.HTTPError, http.client.HTTPException, TooSlow)


class Address:
    """One URL that is asked again and again, with all about the request settled that is always the same.

    `Session.get` looks at cookies, hooks, redirects and the environment anew each time, which costs as much
    as the call itself.
    """

    def __init__(self, session: requests.Session, url: str) -> None:
        self._session = session
        self._settled = session.prepare_request(requests.Request("GET", url))

    def get(
        self, params: Mapping[str, str], headers: Mapping[str, bytes], *, timeout: tuple[float, float]
    ) -> requests.Response:
        """The answer, whose body is still to be read. `timeout`: seconds to connect, and for the answer.

        Raises `TooSlow`, as reading the body does, and what `Session.get` raises: their texts hold the URL.
        """
        request = requests.PreparedRequest()
        request.method = self._settled.method
        request.url = f"{self._settled.url}?{urlencode(params)}"
        sent: CaseInsensitiveDict[Any] = self._settled.headers.copy()
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


class _Drops(io.RawIOBase):
    """What comes from a socket, until `deadline`."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = deadline
        self._has_begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """As many bytes as are there. The first are waited for as long as the socket itself would."""
        if not self._has_begun:
            count = self._raw.readinto(buffer)
            self._has_begun = True
            return count
        left = self._deadline - monotonic()
        if left <= 0:
            raise TooSlow
        if left < inf:
            self._sock.settimeout(left)
        try:
            return self._raw.readinto(buffer)
        except TimeoutError:
            raise TooSlow from None

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Source:
    """A socket as `http.client` wants to read it."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._deadline = deadline

    def makefile(self, _mode: str) -> io.BufferedReader:
        """The only thing that a response asks of its socket."""
        return io.BufferedReader(_Drops(self._sock, self._deadline))


class _Punctual:
    """Lets a connection, or a proxy's answer to CONNECT, have no more time than its timeout in all."""

    timeout: float | None

    def response_class(self, sock: socket.socket, *args: Any, **how: Any) -> http.client.HTTPResponse:
        """What reads an answer: the time runs from here, where the request has been sent."""
        deadline = monotonic() + (inf if self.timeout is None else self.timeout)
        return http.client.HTTPResponse(_Source(sock, deadline), *args, **how)  # type: ignore[arg-type]


class _Connection(_Punctual, urllib3.connection.HTTPConnection):  # type: ignore[misc]
    """A connection whose answers come in time, or not at all."""


class _SecureConnection(_Punctual, urllib3.connection.HTTPSConnection):  # type: ignore[misc]
    """The same with TLS."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS: Final = {"http": _Pool, "https": _SecurePool}


class _Adapter(requests.adapters.HTTPAdapter):
    """Opens our kind of connections, to a server or to a proxy."""

    def init_poolmanager(self, *args: Any, **how: Any) -> None:
        super().init_poolmanager(*args, **how)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **how: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **how)
        if not proxy.lower().startswith("socks"):  # which has its own connections
            manager.pool_classes_by_scheme = _POOLS
        return manager
