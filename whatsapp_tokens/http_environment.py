"""The proxies and CA certificates that this machine's environment names, and what is wrong with them.

A fault of this machine concerns every call, so it is a `LocalFault` and never a channel's failure.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import requests
import urllib3

CA_VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
OPENSSL_VARIABLE: Final = "SSL_CERT_FILE"
_DATE_CODES: Final = (9, 10)  # OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED


class LocalFault(Exception):
    """The call fails because of this machine. The text names the variable or the path at fault."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.rstrip(".").lower() == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def proxy_for(url: str) -> str | None:
    """Return the URL of the proxy for `url`, or None. A loopback address has none. Raise `LocalFault`."""
    parts = urlsplit(url)
    if is_loopback(parts.hostname or ""):
        return None
    proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
    if not proxy:
        return None
    name = _proxy_variable(parts.scheme)
    if "://" not in proxy and not re.match(r"\w+:/", proxy):
        proxy = f"http://{proxy}"
    try:
        parsed = urllib3.util.parse_url(proxy)
        usable = parsed.host and parsed.port != 0 and not re.search(r"\s", proxy)
    except urllib3.exceptions.LocationParseError:
        usable = False
    if not usable or parsed.scheme not in {"http", "https", "socks4", "socks4a", "socks5", "socks5h"}:
        raise LocalFault(f"{name}: it must be a proxy's address such as http://host:port")
    if parsed.scheme.startswith("socks") and importlib.util.find_spec("socks") is None:
        raise LocalFault(f"{name}: a SOCKS proxy needs PySocks; run: pip install pysocks")
    return proxy


def _proxy_variable(scheme: str) -> str:
    """Return the name of the variable that gives the proxy for a scheme."""
    names = (f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY")
    return next((name for name in names if os.environ.get(name)), names[1])


def ca_bundle() -> str | bool:
    """Return the file or folder of CA certificates to use, True for the usual one. Raise `LocalFault`.

    A variable that names no file is a fault even if it is not used: for http, or by OpenSSL only.
    """
    given = {name: os.environ[name] for name in (*CA_VARIABLES, OPENSSL_VARIABLE) if os.environ.get(name)}
    for name, text in given.items():
        if not Path(text).exists():
            raise LocalFault(f"{name}: there is no file {text}")
        if Path(text).is_file():
            _load_certificates(text, f"{name}: {text}")
    if chosen := next((given[name] for name in CA_VARIABLES if name in given), None):
        return chosen
    usual = requests.utils.DEFAULT_CA_BUNDLE_PATH
    if not Path(usual).is_file():
        raise LocalFault(f"the CA certificates of certifi are missing: {usual}")
    return True


def _load_certificates(path: str, what: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except OSError as error:  # an `SSLError` is one, too
        reason = "it holds no CA certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise LocalFault(f"{what}: {reason}") from None


def local_fault(error: BaseException, url: str) -> LocalFault | None:
    """Return the fault of this machine that made a call to `url` fail; None if it is not this machine's."""
    parts = urlsplit(url)
    if isinstance(error, requests.exceptions.ProxyError):
        name = _proxy_variable(parts.scheme)
        return LocalFault(f"{name}: the proxy does not let the call through", retryable=True)
    refusal = _refused_certificate(error)
    if refusal is None:
        return None
    advice = (
        "set this machine's clock"
        if refusal.verify_code in _DATE_CODES
        else f"name the file of its CA in {CA_VARIABLES[0]}"
    )
    said = refusal.verify_message.rstrip(".")
    return LocalFault(f"the certificate of {parts.hostname} is not trusted here ({said}); {advice}")


def _refused_certificate(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """Return the refusal of a certificate that an error was raised for."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause
