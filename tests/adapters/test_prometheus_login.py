# SPDX-License-Identifier: Apache-2.0
"""Where requests go, how they log in, and that secrets are never shown."""

import base64
import math
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from trio.testing import MockClock

from kedastral.adapters.prometheus.api import PrometheusApi, QueryRequest, open_prometheus_client
from kedastral.adapters.prometheus.api import _tls_of as tls_of
from kedastral.adapters.prometheus.limits import TimeBudget
from kedastral.errors import ConfigError, SourceError
from kedastral.secrets import Secret
from kedastral.settings.declarations import PrometheusLogin
from kedastral.settings.types import Name, QueryParam
from kedastral.tls import RotatingContext
from tests.adapters.answers import Server, client_of, failure, matrix, reply

URL = "http://prom.example"
REQUEST = QueryRequest("query_range", {"query": "up"})


async def ask(client: httpx.AsyncClient) -> None:
    await PrometheusApi(client).ask(REQUEST, TimeBudget(math.inf), urgent=True)


async def asked(url: str = URL, **login: Any) -> httpx.Request:
    server = Server(matrix())
    async with client_of(server, url, PrometheusLogin(**login)) as client:
        await ask(client)
    return server.requests[0]


async def raised_by(**login: Any) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await asked(**login)
    return caught.value


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_query_parameters_are_sent_with_each_request_and_ours_win() -> None:
    params = (QueryParam("dedup", "true"), QueryParam("storeMatch[]", "a b"), QueryParam("storeMatch[]", "c"))
    request = await asked("http://prom.example/p", query_params=(*params, QueryParam("query", "theirs")))
    sent = request.url.params.multi_items()
    assert sorted(sent) == [("dedup", "true"), ("query", "up"), ("storeMatch[]", "a b"), ("storeMatch[]", "c")]


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://h", "http://h/api/v1/query_range?query=up"),
        ("http://h/", "http://h/api/v1/query_range?query=up"),
        ("https://h:9/prefix", "https://h:9/prefix/api/v1/query_range?query=up"),
        ("http://h/a/b%20c/", "http://h/a/b%20c/api/v1/query_range?query=up"),
        ("http://h/p?tenant=a#top", "http://h/p/api/v1/query_range?tenant=a&query=up"),
        ("http://[::1]:9090/p", "http://[::1]:9090/p/api/v1/query_range?query=up"),
    ],
)
async def test_a_prefix_and_parameters_of_the_base_url_are_kept(base: str, url: str) -> None:
    assert str((await asked(base)).url) == url


async def test_without_credentials_none_are_sent() -> None:
    assert "Authorization" not in (await asked()).headers


async def test_user_and_password_are_sent_as_basic_authentication() -> None:
    request = await asked(username="me", password=Secret("pä:ss"))
    assert request.headers["Authorization"] == basic("me", "pä:ss")


async def test_a_user_without_a_password_has_an_empty_one() -> None:
    assert (await asked(username="me")).headers["Authorization"] == basic("me", "")


async def test_user_and_password_of_the_url_are_used_and_leave_the_url() -> None:
    request = await asked("http://me:p%40ss@h/p")
    assert request.headers["Authorization"] == basic("me", "p@ss")
    assert str(request.url) == "http://h/p/api/v1/query_range?query=up"


async def test_a_token_is_sent_as_bearer() -> None:
    assert (await asked(token=Secret("abc.def"))).headers["Authorization"] == "Bearer abc.def"


async def test_headers_are_sent() -> None:
    assert (await asked(headers=(("X-Scope-OrgID", "t"),))).headers["X-Scope-OrgID"] == "t"


@pytest.mark.parametrize("kind", ["token", "password"])
async def test_a_secret_file_is_read_again_at_each_request(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "secret"
    login = PrometheusLogin(token_file=file)
    if kind == "password":
        login = PrometheusLogin(username=Name("me"), password_file=file)
    server = Server(matrix())
    async with client_of(server, login=login) as client:
        for text in ("one\n", "two\r\n", "three"):
            file.write_text(text)
            await ask(client)
    sent = [request.headers["Authorization"] for request in server.requests]
    expected = ["one", "two", "three"]
    assert sent == [f"Bearer {text}" if kind == "token" else basic("me", text) for text in expected]


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"", "is empty"), (b"\n", "is empty"), (b"\xff\xfe", "UTF-8"), (b"x" * 70_000, "64 KiB")],
)
async def test_a_secret_file_without_a_secret_is_a_source_error_naming_it(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    caught = await raised_by(token_file=file)
    assert caught.reason == "credentials"
    assert words in str(caught)
    assert str(file) in str(caught)


@pytest.mark.parametrize("token", ["two\nlines", "bell\a", "ü", "trailing "])
async def test_a_token_that_no_header_can_carry_is_an_error_that_does_not_show_it(tmp_path: Path, token: str) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    caught = await raised_by(token_file=file)
    assert caught.reason == "credentials"
    assert token not in str(caught)


@pytest.mark.parametrize("answer", [reply(401), reply(500), failure(httpx.ConnectError), reply(200, text="x")])
async def test_no_error_shows_a_secret(
    autojump_clock: MockClock, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    login = PrometheusLogin(token=Secret("hush3"), headers=(("X-Api-Key", "hush4"),))
    server = Server(answer)
    async with client_of(server, "http://urluser:hush1@h/p?key=hush2", login) as client:
        with pytest.raises(SourceError) as caught:
            await ask(client)
    assert server.requests[0].headers["Authorization"] == "Bearer hush3"
    assert "hush" not in str(caught.value)
    assert "urluser" not in str(caught.value)
    assert not [record for record in caplog.records if "hush" in record.getMessage() and record.name != "httpx"]


def test_no_repr_shows_a_secret() -> None:
    login = PrometheusLogin(
        username=Name("me"), password=Secret("hush2"), token=Secret("hush3"), headers=(("K", "hush4"),)
    )
    assert "hush" not in repr(login) + str(login) + f"{login.password} {login.token!r}"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"username": "a:b"}, "colon"),
        ({"ca_file": Path("/nonexistent/ca.pem")}, "CA file /nonexistent/ca.pem cannot be loaded: No such file"),
        ({"cert_file": Path("/nonexistent/cert.pem")}, "cert.pem cannot be loaded: No such file"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_a_line(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_prometheus_client(URL, PrometheusLogin(**fields))
    [line] = caught.value.problems
    assert words in line


@pytest.mark.parametrize(
    "url", ["http://[", "h:9090", "/x", "ftp://h", "http://", "http:///x", "http://h:port", "http://h/" + "x" * 70_000]
)
def test_what_is_no_url_is_refused_in_a_line(url: str) -> None:
    with pytest.raises(ConfigError, match="the URL cannot be used"):
        open_prometheus_client(url)


def test_a_file_that_holds_no_certificate_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.pem"
    file.write_text("no PEM")
    for login in (PrometheusLogin(ca_file=file), PrometheusLogin(cert_file=file)):
        with pytest.raises(ConfigError, match=r"x\.pem cannot be loaded"):
            open_prometheus_client(URL, login)


def test_a_key_that_wants_a_password_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    ours = trustme.CA().issue_cert("us@example.org")
    ours.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    plain = serialization.load_pem_private_key(ours.private_key_pem.bytes(), None)
    locked = serialization.BestAvailableEncryption(b"hush")
    (tmp_path / "key.pem").write_bytes(
        plain.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked)
    )
    login = PrometheusLogin(cert_file=tmp_path / "cert.pem", key_file=tmp_path / "key.pem")
    with pytest.raises(ConfigError, match=r"key\.pem cannot be loaded"):
        open_prometheus_client(URL, login)


def test_certificates_are_loaded(tmp_path: Path) -> None:
    authority = trustme.CA()
    ours = authority.issue_cert("us@example.org")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    ours.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    open_prometheus_client(URL, PrometheusLogin(ca_file=tmp_path / "ca.pem", cert_file=tmp_path / "both.pem"))


def test_rotated_certificates_are_taken_up(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    tls = tls_of(PrometheusLogin(ca_file=tmp_path / "ca.pem"))
    assert isinstance(tls, RotatingContext)  # tests/test_tls.py tests what that does
    assert tls_of(PrometheusLogin()) is None
