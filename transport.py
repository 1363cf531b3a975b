"""HTTP sessions that can be trusted with secrets: what Meta's client and the notifiers have in common."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any
from urllib.parse import urlencode

import requests
from requests.structures import CaseInsensitiveDict
from requests.utils import check_header_validity


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
    adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=connections)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


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
        """The answer, whose body is still to be read. `timeout`: seconds to connect, and of silence.

        Raises what `Session.get` raises; the texts of these errors hold the URL.
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
