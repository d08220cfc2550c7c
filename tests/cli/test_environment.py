# SPDX-License-Identifier: Apache-2.0
"""Problems of the environment in a cluster: the start and `validate` report them alike, with all other problems."""

import importlib.util
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.cli.test_commands import call
from tests.settings.fleets import policy, source, write

SHOP = ("--workload", "shop", "--prom-url", "https://prometheus.example", "--prom-query", "up")
LOCAL = ("--workload", "shop", "--prom-url", "http://localhost:9090", "--prom-query", "up")
MODEL = (*LOCAL, "--model", "http", "--model-url", "https://model.example")

SOCKS = (
    "ALL_PROXY cannot be used: a SOCKS proxy needs the package socksio: pip install socksio, or the extra `socks` of "
    "Kedastral; correct it, or"
)
NO_URL = "HTTPS_PROXY cannot be used: it is not a URL; correct it, or exempt hosts by NO_PROXY"
NO_SCHEME = (
    "https_proxy cannot be used: its scheme is none of http, https, socks5, socks5h; correct it, or exempt hosts"
)
NO_FILE = "SSL_CERT_FILE cannot be used: /missing.pem: No such file or directory; correct it, or unset it"
NO_PEM = "SSL_CERT_FILE cannot be used: /dev/null: not a PEM file of the right kind; correct it, or unset it"
NO_FOLDER = "SSL_CERT_DIR cannot be used: /missing: No such file or directory; correct it, or unset it"


@pytest.fixture(autouse=True)
def no_socks_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that Kedastral is installed without the extra `socks`."""
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "socksio" else find_spec(name))


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "REQUEST_METHOD",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("run", SHOP),
        ("run", MODEL),
        ("run", ("--prom-url", "http://localhost:9090", "--allow-scaledobject-workloads", *MODEL[6:])),
        ("forecaster", SHOP),
        ("scaler", ("--forecaster-url", "https://forecaster.example")),
        ("backtest", SHOP[2:]),
    ],
)
@pytest.mark.parametrize(
    ("env", "lines"),
    [
        ({"ALL_PROXY": "socks5://joe:hush@p:1080"}, [SOCKS]),
        ({"HTTPS_PROXY": "joe:hush@p:port"}, [NO_URL]),
        ({"SSL_CERT_FILE": "/missing.pem"}, [NO_FILE]),
        (
            {"SSL_CERT_FILE": "/dev/null", "SSL_CERT_DIR": "/missing", "https_proxy": "gopher://joe:hush@p"},
            [NO_SCHEME, NO_PEM, NO_FOLDER],
        ),
    ],
)
def test_the_start_and_validate_say_the_same_a_line_each_beside_every_other_problem(
    monkeypatch: pytest.MonkeyPatch, command: str, flags: tuple[str, ...], env: dict[str, str], lines: list[str]
) -> None:
    said = []
    for words in ([command], ["validate", "--command", command]):
        outcome = call(
            monkeypatch, *words, *flags, "--lead-time" if command != "scaler" else "--stale-after", "x", env=env
        )
        assert outcome.code == 2
        assert "hush" not in outcome.err
        said.append(outcome.problems)
    assert said[0] == said[1]
    assert len(said[0]) == len(lines) + 1
    assert all(any(problem.startswith(line) for problem in said[0]) for line in lines)


def test_a_variable_that_is_wrong_for_many_addresses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fleet = write(
        tmp_path,
        source("one").replace("http://", "https://"),
        source("two").replace("http://", "https://"),
        policy("web", dataSource="one"),
        policy("api", dataSource="two"),
    )
    outcome = call(monkeypatch, "validate", "--config", str(fleet), env={"HTTPS_PROXY": "p:port"})
    assert outcome.problems == [NO_URL]


@pytest.mark.parametrize(
    "env",
    [
        {"NO_PROXY": "fd00::/8,[::1]"},
        {"ALL_PROXY": "socks5://p:1080", "NO_PROXY": "prometheus.example"},
        {"HTTP_PROXY": "gopher://p"},
    ],
)
def test_what_does_not_concern_the_address_is_no_problem(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    assert call(monkeypatch, "validate", *SHOP, env=env).code == 0


def test_authorities_are_needed_where_tls_is_spoken_and_no_ca_file_is_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing, authority = {"SSL_CERT_FILE": "/missing.pem"}, Authority(tmp_path)
    assert call(monkeypatch, "validate", *LOCAL, env=missing).code == 0
    assert call(monkeypatch, "validate", *SHOP, "--prom-ca-file", str(authority.file), env=missing).code == 0
    assert call(monkeypatch, "validate", *SHOP, env={"SSL_CERT_FILE": str(authority.file)}).code == 0
    through = {**missing, "HTTP_PROXY": "https://p"}
    plain = ("--workload", "shop", "--prom-url", "http://prometheus.example", "--prom-query", "up")
    assert call(monkeypatch, "validate", *plain, env=through).problems == [NO_FILE]


def test_validate_says_which_proxies_are_taken_without_a_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fleet = write(
        tmp_path, source("one"), source("two"), policy("web", dataSource="one"), policy("api", dataSource="two")
    )
    env = {"HTTP_PROXY": "http://joe:hush@p:3128", "https_proxy": "q:1"}
    outcome = call(monkeypatch, "validate", "--config", str(fleet), env=env)
    assert [line for line in outcome.out.splitlines() if "proxy" in line] == [
        "requests to http://one:9090 go through the proxy http://p:3128 of HTTP_PROXY",
        "requests to http://two:9090 go through the proxy http://p:3128 of HTTP_PROXY",
    ]
    assert "hush" not in outcome.out
    outcome = call(monkeypatch, "validate", *SHOP, env=env)
    assert "requests to https://prometheus.example go through the proxy http://q:1 of https_proxy" in outcome.out
    outcome = call(monkeypatch, "validate", *MODEL, env=env)
    assert "requests to https://model.example go through the proxy http://q:1 of https_proxy" in outcome.out
    assert "localhost go" not in outcome.out
    outcome = call(monkeypatch, "validate", *SHOP, env={**env, "NO_PROXY": "prometheus.example"})
    assert "proxy" not in outcome.out
