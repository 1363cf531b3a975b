"""Proxies and CA certificates come from the environment, and what is wrong with them names its variable."""

from __future__ import annotations

import importlib.util

import pytest

from whatsapp_tokens.http_environment import LocalFault
from whatsapp_tokens.http_session import open_session

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Nothing of the machine's own proxies and certificates."""
    for name in PROXIES + BUNDLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("variables", "proxy"),
    [
        ({"HTTPS_PROXY": "proxy.example:3128"}, "http://proxy.example:3128"),
        ({"https_proxy": "http://me:p%40ss@proxy.example"}, "http://me:p%40ss@proxy.example"),
        ({"ALL_PROXY": "https://proxy.example:8443/"}, "https://proxy.example:8443/"),
        ({"HTTPS_PROXY": "[::1]:3128"}, "http://[::1]:3128"),
        ({"HTTPS_PROXY": "proxy"}, "http://proxy"),
        ({"HTTP_PROXY": "http:/wrong"}, None),
        ({"HTTPS_PROXY": ""}, None),
    ],
)
def test_a_proxy_is_taken_as_people_write_it(environment, variables, proxy):
    for name, value in variables.items():
        environment.setenv(name, value)
    with open_session("https://graph.example/", connections=1) as session:
        assert session.proxies.get("https") == proxy


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "value",
    [
        *(
            "http:/proxy.example:3128",
            "http://proxy.example:port",
            "proxy.example:99999",
            "http://",
            "http://:80",
        ),
        *("ftp://proxy.example:21", "https://proxy.example:0", "http://[::1", "two words"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_a_fault_that_names_its_variable(environment, name, value):
    environment.setenv(name, value)
    with pytest.raises(LocalFault) as raised:
        open_session("https://graph.example/", connections=1)
    assert str(raised.value) == f"{name}: it must be a proxy's address such as http://host:port"


def test_a_socks_proxy_without_its_library_is_a_fault_that_says_what_to_install(environment):
    environment.setenv("ALL_PROXY", "socks5h://proxy.example:1080")
    environment.setattr(importlib.util, "find_spec", {"socks": None}.get)
    with pytest.raises(LocalFault) as raised:
        open_session("https://graph.example/", connections=1)
    assert str(raised.value) == "ALL_PROXY: a SOCKS proxy needs PySocks; run: pip install pysocks"


LOOPBACK = ["127.0.0.1", "127.9.9.9", "localhost", "LOCALHOST.", "[::1]", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize("host", LOOPBACK)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_loopback_address_is_never_reached_through_a_proxy(environment, scheme, host):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        environment.setenv(name, "http://proxy.example:3128")
    with open_session(f"{scheme}://{host}:8080/services", connections=1) as session:
        assert dict(session.proxies) == {}


@pytest.mark.parametrize("name", BUNDLES)
def test_no_value_of_a_variable_turns_the_verification_off(environment, name):
    environment.setenv(name, "")
    with open_session("https://graph.example/", connections=1) as session:
        assert session.verify is True


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("value", ["/etc/own-ca.pem", "0", "false", "False", " "])
def test_a_bundle_that_does_not_exist_is_a_fault_that_names_both(environment, name, value):
    environment.setenv(name, value)
    for url in ("https://graph.example/", "http://127.0.0.1/"):
        with pytest.raises(LocalFault) as raised:
            open_session(url, connections=1)
        assert str(raised.value) == f"{name}: there is no file {value}"


def test_a_bundle_without_certificates_is_a_fault(environment, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("nothing to see here")
    environment.setenv("REQUESTS_CA_BUNDLE", str(path))
    with pytest.raises(LocalFault) as raised:
        open_session("https://graph.example/", connections=1)
    assert str(raised.value) == f"REQUESTS_CA_BUNDLE: {path}: it holds no CA certificates"
