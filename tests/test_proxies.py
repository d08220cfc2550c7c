# SPDX-License-Identifier: Apache-2.0
"""Proxies are found as Go programs find them.

The expected results come from golang.org/x/net v0.62.0, package http/httpproxy, ``FromEnvironment().ProxyFunc()``; the
cases are those of its own tests, and more.
"""

import importlib.machinery
import importlib.util

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.errors import ConfigError
from kedastral.proxies import read_proxies

EXCEPT = (
    "foobar.com, .barbaz.net, *.wildcard.io, 192.168.1.1, 192.168.1.2:81, 192.168.1.3:80, 10.0.0.0/30, "
    "2001:db8::52:0:1, [2001:db8::52:0:2]:443, [2001:db8::52:0:3]:80, 2002:db8:a::45/64"
)


def find(url: str, **environ: str) -> str | None:
    proxy = read_proxies(environ).find(httpx.URL(url))
    return None if proxy is None else proxy.url


def goes_direct(url: str, exempt: str) -> bool:
    return find(url, HTTP_PROXY="proxy", HTTPS_PROXY="proxy", NO_PROXY=exempt) is None


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("cache.corp.example.com:1234", "http://cache.corp.example.com:1234"),
        ("cache.corp.example.com", "http://cache.corp.example.com"),
        ("localhost", "http://localhost"),
        ("https://cache.corp.example.com", "https://cache.corp.example.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://joe:hush@[2001:db8::1]:8080", "http://joe:hush@[2001:db8::1]:8080"),
        ("", None),
    ],
)
def test_a_proxy_is_a_url_or_a_host(value: str, proxy: str | None) -> None:
    assert find("http://example.com", HTTP_PROXY=value) == proxy


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({"HTTP_PROXY": "h", "HTTPS_PROXY": "s"}, "http://insecure.tld/", "http://h"),
        ({"HTTP_PROXY": "h", "HTTPS_PROXY": "s"}, "https://secure.tld/", "http://s"),
        ({"HTTP_PROXY": "h", "HTTPS_PROXY": "https://s"}, "https://secure.tld/", "https://s"),
        ({"HTTP_PROXY": "h"}, "https://secure.tld/", None),
        ({"HTTPS_PROXY": "s"}, "http://insecure.tld/", None),
        ({}, "http://example.com", None),
        ({"http_proxy": "low", "HTTP_PROXY": "UP"}, "http://example.com", "http://UP"),
        ({"http_proxy": "low", "HTTP_PROXY": ""}, "http://example.com", "http://low"),
        ({"https_proxy": "low", "HTTPS_PROXY": "UP"}, "https://example.com", "http://UP"),
        ({"HTTP_PROXY": "p", "no_proxy": "example.com", "NO_PROXY": "a.com"}, "http://example.com", "http://p"),
        ({"HTTPS_PROXY": "https://s", "REQUEST_METHOD": "PUT"}, "https://secure.tld/", "https://s"),
    ],
)
def test_each_scheme_has_its_variable_and_upper_case_wins(environ: dict[str, str], url: str, proxy: str | None) -> None:
    assert find(url, **environ) == proxy


@pytest.mark.parametrize(
    ("host", "direct"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.0.0.2", True), ("[::1]", True), ("[::2]", False),
        ("[::ffff:127.0.0.1]", True),
        ("192.168.1.1", True), ("192.168.1.2", False), ("192.168.1.3", True), ("192.168.1.4", False),
        ("10.0.0.2", True), ("10.0.0.4", False), ("[::ffff:10.0.0.2]", True),
        ("[2001:db8::52:0:1]", True), ("[2001:db8::52:0:2]", False), ("[2001:db8::52:0:3]", True),
        ("[2002:db8:a::123]", True), ("[2002:db8:a:1::123]", False), ("[fe80::424b:c8be:1643:a1b6]", False),
        ("barbaz.net", False), ("www.barbaz.net", True), ("foobar.com", True), ("www.foobar.com", True),
        ("foofoobar.com", False), ("baz.com", False), ("localhost.net", False), ("local.localhost", False),
        ("barbarbaz.net", False), ("wildcard.io", False), ("nested.wildcard.io", True), ("awildcard.io", False),
    ],
)  # fmt: skip
def test_hosts_that_are_exempt_go_direct(host: str, direct: bool) -> None:
    assert goes_direct(f"http://{host}:80", EXCEPT) is direct
    assert goes_direct(f"http://{host}:80", "*")
    assert goes_direct(f"http://{host}:80", f"{EXCEPT}, *")


@pytest.mark.parametrize(
    ("exempt", "url", "direct"),
    [
        ("example.com", "http://example.com/", True),
        (".example.com", "http://example.com/", False),
        ("ample.com", "http://example.com/", False),
        ("example.com", "http://foo.example.com/", True),
        (".foo.com", "http://example.com/", False),
        ("EXAMPLE.com", "http://example.COM/", True),
        ("*example.com", "http://example.com/", False),
        (".示例.com", "http://www.示例.com", True),
        ("xn--fsq092h.com", "http://www.示例.com", True),
        ("示例.com", "http://www.xn--fsq092h.com", True),
        ("example.com:443", "https://example.com", True),
        ("example.com:443", "http://example.com", False),
        ("example.com:9090", "http://example.com:9090", True),
        ("example.com:", "http://example.com:9090", True),
        ("10.0.0.0/8", "http://10.9.8.7:9090", True),
        ("10.0.0.0/8", "http://11.0.0.1:9090", False),
        ("10.0.0.0/08", "http://10.9.8.7", True),
        ("0.0.0.0/0", "http://1.2.3.4", True),
        ("0.0.0.0/0", "http://[2001:db8::1]", False),
        ("fd00::/8", "http://[fd00::1]:9090", True),
        ("::/0", "http://1.2.3.4", False),
        ("::ffff:10.0.0.0/104", "http://10.9.8.7", True),
        ("::ffff:10.0.0.1", "http://10.0.0.1", True),
        ("10.0.0.1:9090", "http://10.0.0.1:9090", True),
        ("10.0.0.1:9090", "http://10.0.0.1:9091", False),
        (".svc,.cluster.local,10.96.0.0/12,fd00::/108", "http://prometheus.monitoring.svc:9090", True),
        (".svc,.cluster.local,10.96.0.0/12,fd00::/108", "http://prometheus.example.com:9090", False),
    ],
)
def test_an_exemption_is_a_name_an_address_or_a_network(exempt: str, url: str, direct: bool) -> None:
    assert goes_direct(url, exempt) is direct


@pytest.mark.parametrize(
    "entry",
    [
        "", ":1", "[]", "[]:80", "[::1", "::1]", ".", ".:80", "*.", "/8", "10.0.0.0/33", "10.0.0.0/8/8", "10/8",
        "10.0.0.0/255.0.0.0", "010.0.0.1", "fe80::1%eth0", "a b", "http://example.com", "[[example.com]:80",
        "example.com]:80", "example.com:80:90", "[example.com]b:80", "example.com:http", "example.com/", "\x00",
    ],
)  # fmt: skip
def test_a_malformed_exemption_is_passed_over(entry: str) -> None:
    for url in ("http://example.com", "http://10.0.0.1", "http://[fe80::1]"):
        assert not goes_direct(url, entry)
    assert goes_direct("http://good.example", f"{entry},good.example")


@given(st.text(max_size=60), st.sampled_from(["http://example.com", "https://10.0.0.1:9090", "http://[2001:db8::1]"]))
def test_any_text_is_a_list_of_exemptions(text: str, url: str) -> None:
    goes_direct(url, text)


@pytest.mark.parametrize(
    ("exempt", "url"),
    [
        ("[2001:db8::1]", "http://[2001:db8::1]:9090"),
        (".cluster.local", "http://prom.monitoring.svc.cluster.local.:9090"),
        ("prom.svc.", "http://prom.svc:9090"),
        ("", "http://LOCALHOST:9090"),
        ("", "http://localhost.:9090"),
    ],
)
def test_less_goes_through_a_proxy_than_in_go(exempt: str, url: str) -> None:
    assert goes_direct(url, exempt)


@pytest.mark.parametrize(
    ("environ", "url", "proxy"),
    [
        ({"ALL_PROXY": "a"}, "http://example.com", "http://a"),
        ({"all_proxy": "a"}, "https://example.com", "http://a"),
        ({"ALL_PROXY": "a", "HTTP_PROXY": "h"}, "http://example.com", "http://h"),
        ({"ALL_PROXY": "a", "HTTP_PROXY": "h"}, "https://example.com", "http://a"),
        ({"ALL_PROXY": "socks5://a", "NO_PROXY": "example.com"}, "http://example.com", None),
        ({"ALL_PROXY": "gopher://a"}, "http://localhost:9090", None),
        ({"ALL_PROXY": "a", "REQUEST_METHOD": "GET"}, "http://example.com", "http://a"),
    ],
)
def test_all_proxy_stands_in_where_a_scheme_has_none(environ: dict[str, str], url: str, proxy: str | None) -> None:
    assert find(url, **environ) == proxy


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("http://h:port", "it is not a URL"),
        ("h:65536", "its port is not valid"),
        ("http://joe:hush@", "it names no host"),
        ("gopher://joe:hush@h", "its scheme is none of http, https, socks5, socks5h"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_line_without_its_password(value: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        find("http://example.com", http_proxy=value)
    assert refused.value.problems == (f"http_proxy cannot be used: {why}; correct it, or exempt hosts by NO_PROXY",)


def test_a_socks_proxy_is_refused_in_a_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"^ALL_PROXY cannot be used: .* pip install socksio, or the extra"):
        find("http://example.com", ALL_PROXY="socks5://h:1080")


def test_a_socks_proxy_is_taken_where_the_extra_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: importlib.machinery.ModuleSpec("socksio", None))
    assert find("http://example.com", ALL_PROXY="socks5h://h:1080") == "socks5h://h:1080"


def test_a_header_named_proxy_cannot_choose_the_proxy_of_a_cgi_program() -> None:
    with pytest.raises(ConfigError, match=r"^HTTP_PROXY is not used in a CGI program"):
        find("http://example.com", HTTP_PROXY="http://10.1.2.3:8080", REQUEST_METHOD="GET")


def test_a_proxy_is_shown_without_its_password() -> None:
    proxy = read_proxies({"HTTPS_PROXY": "http://joe:hush@proxy.example:3128/path"}).find(httpx.URL("https://a.b"))
    assert proxy is not None
    assert proxy.shown == "http://proxy.example:3128"
    assert "hush" not in repr(proxy)
