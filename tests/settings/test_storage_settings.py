# SPDX-License-Identifier: Apache-2.0
"""Where forecasts are kept: addresses of Redis, and settings that do not fit together, all reported at once."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from kedastral.errors import ConfigError
from kedastral.settings.commands import ForecasterSettings, RunSettings, ScalerSettings
from kedastral.settings.declarations import StorageKind
from kedastral.settings.load import load
from kedastral.settings.types import RedisAddress, RedisKind, read_redis_address
from kedastral.tls import TlsFiles
from tests.certificates import Authority

NEEDED = {"WORKLOAD": "shop", "PROM_URL": "http://p:9090", "PROM_QUERY": "up"}
HERE = {"STORAGE": "redis", "REDIS_URL": "redis://r"}


def problems_of(env: dict[str, str], kind: type[Any] = RunSettings, **flags: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(kind, {"--" + name.replace("_", "-"): text for name, text in flags.items()}, {**NEEDED, **env})
    return list(refused.value.problems)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("redis://r", RedisAddress(RedisKind.SERVER, (("r", 6379),))),
        ("redis://r:7000/3", RedisAddress(RedisKind.SERVER, (("r", 7000),), database=3)),
        ("redis://[::1]:7000", RedisAddress(RedisKind.SERVER, (("::1", 7000),))),
        ("rediss://r/", RedisAddress(RedisKind.SERVER, (("r", 6379),), tls=True)),
        ("unix:///run/redis.sock", RedisAddress(RedisKind.SOCKET, path="/run/redis.sock")),
        ("unix:///run/redis.sock?db=2", RedisAddress(RedisKind.SOCKET, path="/run/redis.sock", database=2)),
        (
            "redis+sentinel://a,b:7/mymaster",
            RedisAddress(RedisKind.SENTINEL, (("a", 26379), ("b", 7)), primary="mymaster"),
        ),
        (
            "rediss+sentinel://a/mymaster/4",
            RedisAddress(RedisKind.SENTINEL, (("a", 26379),), tls=True, database=4, primary="mymaster"),
        ),
        ("redis+cluster://a:1,b", RedisAddress(RedisKind.CLUSTER, (("a", 1), ("b", 6379)))),
        ("rediss+cluster://a", RedisAddress(RedisKind.CLUSTER, (("a", 6379),), tls=True)),
    ],
)
def test_addresses_of_redis_are_read_and_written(text: str, address: RedisAddress) -> None:
    assert read_redis_address(text) == address
    assert read_redis_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "", "r:6379", "http://r", "redis:/r", "redis://", "redis://r:0", "redis://r:x", "redis://r:70000", "redis://r/x",
        "redis://r/1/2", "redis://a,b", "redis://r?db=1", "redis://r#x", "redis+ring://r", "redis+cluster://a/1",
        "redis+sentinel://a", "redis+sentinel://a/", "redis+sentinel://a/m/x", "unix://run/redis.sock",
        "unix:///s?password=x", "redis:// r", "redis://r\n", "redis+cluster://a,,b",
    ],
)  # fmt: skip
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an address"):
        read_redis_address(text)


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    for text in ("redis://:hunter2@r", "redis://user:hunter2@r:6379/0", "unix://hunter2@/s"):
        [problem] = problems_of({"STORAGE": "redis"}, redis_url=text)
        assert "without user and password in it (they have settings of their own)" in problem
        assert "hunter2" not in problem


@pytest.mark.parametrize("kind", [RunSettings, ForecasterSettings])
def test_memory_is_the_default_and_redis_has_defaults_of_its_own(kind: type[Any]) -> None:
    assert load(kind, {}, NEEDED).settings.storage.storage is StorageKind.MEMORY
    found = load(kind, {}, {**NEEDED, **HERE}).settings.storage
    assert (found.storage, str(found.redis.redis_url)) == (StorageKind.REDIS, "redis://r:6379")
    assert (found.redis.redis_prefix, found.redis_ttl, found.redis.files) == ("kedastral", 86400, TlsFiles())


SCALER = {"FORECASTER_URL": "http://a:8081"}


@pytest.mark.parametrize(
    "text", ["http://a:8081,http://b:8081/x", "http://a:8081\n http://b:8081/x/ \n", "http://a:8081, http://b:8081/x,"]
)
def test_a_scaler_may_have_several_forecasters(text: str) -> None:
    remote = load(ScalerSettings, {}, {"FORECASTER_URL": text}).settings.remote
    assert remote.forecaster_url == ("http://a:8081", "http://b:8081/x")
    assert remote.storage is StorageKind.MEMORY


def test_a_scaler_may_read_redis_in_their_place() -> None:
    remote = load(ScalerSettings, {}, {**HERE, "REDIS_PREFIX": "x"}).settings.remote
    assert (remote.forecaster_url, remote.storage, remote.redis.redis_prefix) == (None, StorageKind.REDIS, "x")
    for env, problem in (
        ({}, "--forecaster-url is required; set it with --forecaster-url or FORECASTER_URL"),
        ({**HERE, **SCALER}, "--forecaster-url and --storage redis exclude each other; remove one"),
        ({"REDIS_URL": "redis://r"}, "--redis-url needs --storage redis; set that too, or remove this"),
        ({"FORECASTER_URL": "http://a,ftp://b"}, "--forecaster-url must be an http:// or https:// URL, got"),
    ):
        with pytest.raises(ConfigError) as refused:
            load(ScalerSettings, {}, env)
        assert any(one.startswith(problem) for one in refused.value.problems), refused.value.problems


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    empty, authority = tmp_path / "empty", Authority(tmp_path / "tls")
    empty.touch()
    cert = authority.issue("r").cert
    assert problems_of(
        {
            "STORAGE": "redis",
            "REDIS_USERNAME": "u",
            "REDIS_CERT_FILE": str(cert),
            "REDIS_PREFIX": "a b",
            "REDIS_TTL": "5s",
        }
    ) == [
        (
            "--redis-prefix must be 1 to 100 printable characters without spaces and braces, got 'a b' from "
            "REDIS_PREFIX; set it with --redis-prefix or REDIS_PREFIX"
        ),
        "--redis-ttl must be at least 60, got '5s' from REDIS_TTL; set it with --redis-ttl or REDIS_TTL",
        "--redis-cert-file and --redis-key-file go together; give both, or neither",
        "--redis-url is required by --storage redis; set it with --redis-url or REDIS_URL",
        "--redis-username needs a password; set --redis-password-file or REDIS_PASSWORD",
    ]
    [problem] = problems_of({**HERE, "REDIS_PASSWORD_FILE": str(empty)})
    assert problem.startswith(f"--redis-password-file cannot be used: {empty} is empty")
    [problem] = problems_of({**HERE, "REDIS_PASSWORD_FILE": str(cert), "REDIS_PASSWORD": "hunter2"})
    assert problem == "--redis-password-file and REDIS_PASSWORD exclude each other; remove one"
    [problem] = problems_of({**HERE, "REDIS_CA_FILE": str(authority.file)})
    assert problem.startswith("--redis-ca-file is not used, since --redis-url is not a rediss address; remove it")


def test_settings_of_redis_without_redis_are_refused(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("hunter2")
    given = {"REDIS_URL": "redis://r", "REDIS_PREFIX": "x", "REDIS_TTL": "1h", "REDIS_PASSWORD_FILE": str(password)}
    assert problems_of(given) == [
        f"--redis-{name} needs --storage redis; set that too, or remove this"
        for name in ("url", "password-file", "prefix", "ttl")
    ]


def test_redis_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "coredis" else find(name))
    assert load(RunSettings, {}, NEEDED).settings.storage.storage is StorageKind.MEMORY
    assert problems_of(HERE) == [
        "--storage redis needs the package coredis; install it with: pip install 'kedastral[redis]'"
    ]


def test_a_state_directory_beside_redis_is_warned_of(tmp_path: Path) -> None:
    env = {**NEEDED, **HERE, "STATE_DIR": str(tmp_path)}
    [warning] = [one for one in load(RunSettings, {}, env).warnings if "--state-dir" in one]
    assert "is not used, since --storage redis keeps the state of workloads there" in warning
    assert not [one for one in load(RunSettings, {}, {**NEEDED, "STATE_DIR": str(tmp_path)}).warnings if "redis" in one]
