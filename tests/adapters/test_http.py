# SPDX-License-Identifier: Apache-2.0
"""Messages of servers, and a client that cannot be created."""

import socket
import ssl

import httpx
import pytest

from kedastral.adapters.http import (
    BasicAuth,
    BearerAuth,
    SecretText,
    WebPageError,
    hide_secrets,
    open_client,
    refuse_page,
    shown_url,
    words_of,
    words_of_page,
)
from kedastral.errors import ConfigError
from kedastral.secrets import Secret


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:hush@h:9/p/?key=hush#hush", "http://h:9/p"),
        ("https://h", "https://h"),
    ],
)
def test_a_shown_url_has_neither_user_nor_query(url: str, shown: str) -> None:
    assert shown_url(httpx.URL(url)) == shown


def test_the_words_are_those_of_the_deepest_cause_that_has_any() -> None:
    group = ExceptionGroup(
        "all attempts failed", [OSError(111, "error connecting to ('127.0.0.1', 9): Connection refused")]
    )
    outer = httpx.ConnectError("")
    outer.__context__ = group
    outer.__suppress_context__ = True
    assert words_of(outer) == "connection refused"


def test_a_host_that_is_not_found_is_told_without_numbers() -> None:
    error = httpx.ConnectError("[Errno -2] Name or service not known")
    error.__cause__ = socket.gaierror(-2, "Name or service not known")
    assert words_of(error) == "its host name cannot be looked up (name or service not known)"


@pytest.mark.parametrize("host", ["prometheus.monitoring.svc", "prometheus.monitoring.svc.cluster.local"])
def test_a_service_that_is_not_found_may_be_asked_for_from_outside_its_cluster(host: str) -> None:
    error = httpx.ConnectError("", request=httpx.Request("GET", f"http://{host}:9090/api"))
    error.__cause__ = socket.gaierror(-2, "Name or service not known")
    assert words_of(error).endswith(
        "exists only inside its cluster: elsewhere use kubectl port-forward and http://localhost"
    )
    error.request = httpx.Request("GET", "http://www.svcs.example.com/")
    assert words_of(error) == "its host name cannot be looked up (name or service not known)"


def test_an_error_without_words_is_named() -> None:
    assert words_of(httpx.ReadError("")) == "ReadError"


def test_causes_that_go_round_in_a_circle_end() -> None:
    one, other = OSError("one"), OSError("other")
    one.__context__, other.__context__ = other, one
    assert words_of(one) == "other"


def test_a_malformed_request_is_not_quoted_since_it_may_hold_a_secret() -> None:
    assert "hush" not in words_of(httpx.LocalProtocolError("Illegal header value b'Bearer hush'"))


@pytest.mark.parametrize("proxy", ["http://h:port", "gopher://h"])
def test_a_proxy_that_cannot_be_used_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(ConfigError, match=r"^HTTP_PROXY cannot be used: "):
        open_client("http://prom.example")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("WRONG_VERSION_NUMBER", "it does not speak TLS"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "it refuses this client: certificate required"),
        ("UNSAFE_LEGACY_RENEGOTIATION_DISABLED", "TLS failed: unsafe legacy renegotiation disabled"),
        ("", "TLS failed: x"),
    ],
)
def test_failures_of_tls_are_told_without_codes(reason: str, words: str) -> None:
    cause = ssl.SSLError(1, "x")
    cause.reason = reason
    if not reason:
        cause.strerror = "x"
        cause.args = ("x",)
    outer = httpx.ConnectError("")
    outer.__cause__ = cause
    assert words_of(outer) == words


def test_a_certificate_that_is_refused_is_told_with_the_reason() -> None:
    cause = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] (_ssl.c:1006)")
    cause.verify_message = "certificate has expired"
    assert words_of(cause) == "its certificate is refused: certificate has expired"


LOGIN_PAGE = b"""
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><Title class="x">
  Sign&nbsp;in &amp; go on</title></head><body>...</body></html>"""


def test_a_login_page_is_named_by_its_title() -> None:
    with pytest.raises(WebPageError, match=r"^it is an HTML page \('Sign in & go on'\): is a login in front of it, or"):
        refuse_page(LOGIN_PAGE)
    assert words_of_page(LOGIN_PAGE) == "Sign in & go on"


def test_a_page_without_a_title_is_named_too() -> None:
    with pytest.raises(WebPageError, match=r"^it is an HTML page: is a login"):
        refuse_page(b"<html></html>")
    assert words_of_page(b"<html></html>") == ""


@pytest.mark.parametrize("body", [b"no org id\n", b'{"status": "error"}', b"", b"\xff\xfe"])
def test_what_is_no_html_is_told_as_it_is(body: bytes) -> None:
    refuse_page(body)
    assert words_of_page(body) == body.decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("auth", "headers", "said"),
    [
        (
            BearerAuth(SecretText("token", Secret("open-sesame"))),
            {},
            "bad token open-sesame, header Bearer open-sesame",
        ),
        (BasicAuth("joe", SecretText("password", Secret("open:sesame"))), {}, "joe:open:sesame, am9lOm9wZW46c2VzYW1l"),
        (None, {"X-Api-Key": "open-sesame"}, "no key 'open-sesame' for http://prom/?key=key-of-url"),
    ],
)
async def test_a_secret_that_a_page_quotes_is_hidden(
    auth: httpx.Auth | None, headers: dict[str, str], said: str
) -> None:
    echo = httpx.MockTransport(lambda _request: httpx.Response(401, text=said))
    url = "http://prom/?key=key-of-url"
    async with open_client(url, auth=auth, headers={**headers, "X-Scope-OrgID": "shop"}, transport=echo) as client:
        answer = await client.get("api")
        shown = hide_secrets(f"{answer.text} of tenant shop", client, answer.request)
    assert "(hidden)" in shown
    assert not any(secret in shown for secret in ("sesame", "am9lOm9wZW46c2VzYW1l", "key-of-url"))
    assert shown.endswith(" of tenant shop")
