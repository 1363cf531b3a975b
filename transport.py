"""HTTP sessions that can be trusted with secrets: what Meta's client and the notifiers have in common."""

from __future__ import annotations

from http.cookiejar import DefaultCookiePolicy

import requests


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
