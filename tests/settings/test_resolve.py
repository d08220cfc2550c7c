# SPDX-License-Identifier: Apache-2.0
"""Where a setting comes from, and that no secret is ever shown."""

import re
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest

from kedastral.errors import ConfigError
from kedastral.settings.commands import DemoSettings, ForecasterSettings, RunSettings, ScalerSettings
from kedastral.settings.declarations import PlanSettings, PrometheusLogin
from kedastral.settings.effect import show
from kedastral.settings.load import load
from kedastral.settings.schema import NumberRange, Setting, above, at_least, between, settings_of
from tests.certificates import Authority
from tests.settings.fleets import workload_of

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "examples"
NEEDED = {
    "WORKLOAD": "shop",
    "PROM_URL": "http://prometheus:9090",
    "PROM_QUERY": "up",
    "FORECASTER_URL": "http://f:8081",
}


def test_a_flag_wins_over_a_variable_which_wins_over_the_default() -> None:
    by_default = load(RunSettings, {}, NEEDED)
    by_variable = load(RunSettings, {}, NEEDED | {"TARGET_PER_POD": "150"})
    by_flag = load(RunSettings, {"--target-per-pod": "170"}, NEEDED | {"TARGET_PER_POD": "150"})

    assert [loaded.values["target_per_pod"] for loaded in (by_default, by_variable, by_flag)] == [200, 150, 170]
    assert [loaded.origin_of("target_per_pod") for loaded in (by_default, by_variable, by_flag)] == [
        "default", "TARGET_PER_POD", "--target-per-pod",
    ]  # fmt: skip
    assert by_flag.values["target_per_pod"] == 170


def test_a_headroom_that_is_not_given_is_the_usual_one_for_models_that_are_not_steered() -> None:
    assert workload_of({}, NEEDED).plan.headroom is None
    assert workload_of({}, NEEDED).plan.policy(60).headroom == 1.2
    assert workload_of({"--headroom": "1.5"}, NEEDED).plan.policy(60).headroom == 1.5


TWO_OF_A_KIND = {
    "duration": ("2m", "3m"),
    "number": ("11", "12"),
    "integer": ("3", "4"),
    "boolean": ("true", "false"),
    "address": ("a:7777", "b:7777"),
    "header": ("X-A: a", "X-A: b"),
    "parameter": ("dedup=true", "dedup=false"),
    "URL": ("http://a", "http://b/c"),
    "Redis URL": ("redis://a", "redis://b/1"),
    "file": ("/dev/null", "/dev/zero"),
    "directory": ("/nowhere/a", "/nowhere/b"),
    "name": ("a", "b"),
    "PromQL": ("a", "b"),
    "secret": ("a", "b"),
    "time zone": ("Europe/Berlin", "Asia/Tokyo"),
    "names": ("a", "a,b"),
    "path": (str(EXAMPLES / "example-forecastpolicy.yaml"), str(EXAMPLES / "example-datasource.yaml")),
}
CHOICES = {
    "model": ("baseline", "http"),
    "rounding": ("round", "floor"),
    "on_stale": ("error", "ride-forecast"),
    "level": ("debug", "error"),
    "format": ("json", "text"),
    "service_level": ("0.995", "0.9"),
    "mode": ("observe", "scale"),
    "storage": ("redis", "redis"),
}
REDIS = {"STORAGE": "redis", "REDIS_URL": "rediss://r"}
COMPANIONS = {
    "horizon": {"LEAD_TIME": "1s"},
    "model": {"MODEL_URL": "http://model"},
    "username": {"PROM_PASSWORD": "pw"},
    "password": {"PROM_USERNAME": "joe"},
    "password_file": {"PROM_USERNAME": "joe"},
    "cert_file": {"PROM_KEY_FILE": "key"},
    "key_file": {"PROM_CERT_FILE": "cert"},
    "grpc_cert_file": {"GRPC_TLS_KEY_FILE": "key"},
    "grpc_key_file": {"GRPC_TLS_CERT_FILE": "cert"},
    "grpc_client_ca_file": {"GRPC_TLS_CERT_FILE": "cert", "GRPC_TLS_KEY_FILE": "key"},
    "http_cert_file": {"HTTP_TLS_KEY_FILE": "key"},
    "http_key_file": {"HTTP_TLS_CERT_FILE": "cert"},
    "storage": REDIS,
    "redis_url": REDIS,
    "redis_username": {**REDIS, "REDIS_PASSWORD": "pw"},
    "redis_password_file": REDIS,
    "redis_password": REDIS,
    "redis_prefix": REDIS,
    "redis_ttl": REDIS,
    "redis_lease": REDIS,
    "redis_ca_file": REDIS,
    "redis_cert_file": {**REDIS, "REDIS_KEY_FILE": "key"},
    "redis_key_file": {**REDIS, "REDIS_CERT_FILE": "cert"},
}
"""The other settings that a setting requires; ``cert`` and ``key`` stand for matching files."""


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """Two files with the same content, for each kind of file whose content is checked."""
    authority = Authority(tmp_path_factory.mktemp("tls"))
    files = authority.issue("shop")
    found = {}
    secret = authority.folder / "secret"
    secret.write_text("hush\n")
    for kind, path in {"cert": files.cert, "key": files.key, "ca": authority.file, "secret": secret}.items():
        assert path is not None
        found[kind] = (str(path), str(shutil.copy(path, authority.folder / f"other-{kind}.pem")))
    return found


@pytest.mark.parametrize("setting", settings_of(RunSettings), ids=lambda setting: setting.shown)
def test_every_setting_takes_flag_then_variable_then_default(
    setting: Setting, pems: dict[str, tuple[str, str]]
) -> None:
    one, other = CHOICES.get(setting.name) or TWO_OF_A_KIND[setting.kind]
    if found := re.search(r"(cert|key|ca)_file$", setting.name):
        one, other = pems[found[1]]
    elif re.search(r"(token|password)_file$", setting.name):
        one, other = pems["secret"]
    companions = {
        env: pems[text][0] if text in pems else text for env, text in COMPANIONS.get(setting.name, {}).items()
    }
    env = NEEDED | companions | {setting.env: one}

    by_variable = load(RunSettings, {}, env)
    assert by_variable.values[setting.name] == setting.read(one)
    assert by_variable.given[setting.name].origin == setting.env
    if setting.flag:
        by_flag = load(RunSettings, {setting.flag: other}, env)
        assert by_flag.values[setting.name] == setting.read(other)
        assert by_flag.given[setting.name].origin == setting.flag
    if not setting.required:
        by_default = load(RunSettings, {}, NEEDED)
        assert by_default.values[setting.name] == (None if setting.default is None else setting.read(setting.default))


def test_a_flag_that_is_right_hides_a_variable_that_is_wrong() -> None:
    assert workload_of({"--headroom": "1.7"}, NEEDED | {"HEADROOM": "nonsense"}).plan.headroom == 1.7


def test_variables_of_others_are_nobodys_business() -> None:
    others = {"PATH": "/bin", "HEADROOMS": "nonsense"}

    assert load(RunSettings, {}, NEEDED | others).settings == load(RunSettings, {}, NEEDED).settings


def test_a_default_of_the_demo_yields_to_a_variable() -> None:
    assert load(DemoSettings, {}, {}).settings.plan.target_per_pod == 100
    assert load(DemoSettings, {}, {"TARGET_PER_POD": "70"}).settings.plan.target_per_pod == 70


# secrets

SECRETS = {
    "PROM_TOKEN": "hush-token",
    "PROM_HEADER": "Authorization: Bearer hush-header\nX-Scope-OrgID: hush-tenant",
}


def login_of(flags: dict[str, str], env: dict[str, str]) -> PrometheusLogin:
    return load(RunSettings, flags, env).settings.fleet.settings.sources["default"].login


def everything_shown(error: BaseException | None) -> str:
    """The traceback of ``error`` and of everything that caused it."""
    if error is None:
        return ""
    return f"{error} {error!r}" + everything_shown(error.__cause__) + everything_shown(error.__context__)


def test_secrets_come_from_the_environment_alone() -> None:
    for kind in (RunSettings, ForecasterSettings):
        secret = [setting for setting in settings_of(kind) if setting.is_secret]
        assert [(setting.flag, setting.env) for setting in secret] == [
            (None, "HTTP_TOKEN"), (None, "REDIS_PASSWORD"), (None, "PROM_PASSWORD"), (None, "PROM_TOKEN"),
        ]  # fmt: skip
    login = login_of({}, NEEDED | {"PROM_USERNAME": "joe", "PROM_PASSWORD": "hush\n"})
    assert login.password is not None
    assert login.password.reveal() == "hush"


def test_settings_do_not_show_their_secrets() -> None:
    login = {"PROM_USERNAME": "joe", "PROM_PASSWORD": "hush-password"}
    for env in (SECRETS, login):
        loaded = load(RunSettings, {}, NEEDED | env)

        assert "hush" not in repr(loaded)
        assert "hush" not in str(loaded.settings)
        for setting in settings_of(RunSettings):
            assert "hush" not in show(setting, loaded.values[setting.name])


@pytest.mark.parametrize(
    "url",
    [
        "http://joe:hush@prometheus:9090",
        "http://joe:hush/hush@prometheus",
        "http://joe:hush@hush@prometheus",
        "http://joe:hush?hush#hush@prometheus",
        "http://joe:hush" + "x" * 300 + "@prometheus",
        "http://joe:hu\nhush@prometheus",
        "joe:hush@prometheus:9090",
        "ftp://joe:hush@prometheus",
        "http://hush@prometheus",
        "http://prometheus/?token=hush",
        "http://prometheus/#hush",
        "http://joe:hush@",
    ],
)
@pytest.mark.parametrize("name", ["PROM_URL", "MODEL_URL"])
def test_a_refused_url_does_not_show_its_secrets(name: str, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(RunSettings, {}, NEEDED | {name: url})

    assert "hush" not in everything_shown(caught.value)
    assert "***" in str(caught.value)


def test_a_url_given_for_another_setting_does_not_show_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        load(RunSettings, {"--http-listen": "http://joe:hush@prometheus"}, NEEDED)

    assert "got 'http://***@prometheus' from --http-listen" in str(caught.value)


def test_what_was_given_is_shown_as_it_was_where_nothing_is_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        load(RunSettings, {"--prom-url": "prom:9090", "--step": "1@2?3"}, NEEDED)

    assert "got 'prom:9090' from --prom-url" in str(caught.value)
    assert "got '1@2?3' from --step" in str(caught.value)


def test_what_was_given_is_cut_where_it_is_long() -> None:
    with pytest.raises(ConfigError) as caught:
        load(RunSettings, {"--step": "x" * 5000}, NEEDED)

    assert f"got '{'x' * 200}' from --step" in str(caught.value)


@pytest.mark.parametrize(
    "env",
    [
        {"PROM_HEADER": "hush hush"},
        {"PROM_HEADER": "X-A: hush\x00"},
        {"PROM_PASSWORD": "hush", "PROM_TOKEN": "hush"},
        {"PROM_TOKEN": "hush", "PROM_TOKEN_FILE": "/dev/null"},
    ],
)
def test_a_refused_secret_is_not_shown(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(RunSettings, {}, NEEDED | env)

    assert "hush" not in everything_shown(caught.value)


@pytest.mark.parametrize("name", ["Authorization", "authorization", "Cookie", "Proxy-Authorization", "X-API-Key"])
def test_a_header_that_carries_a_secret_must_not_be_a_flag(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(RunSettings, {"--prom-header": f"X-A: 1\n{name}: hush"}, NEEDED)

    assert caught.value.problems == (f"--prom-header must not carry a secret ({name}); give it with PROM_HEADER",)
    assert "hush" not in everything_shown(caught.value)
    assert login_of({}, NEEDED | {"PROM_HEADER": f"{name}: hush"}).headers == ((name, "hush"),)


def test_a_header_that_carries_none_may_be_a_flag() -> None:
    login = login_of({"--prom-header": "X-Scope-OrgID: tenant"}, NEEDED)

    assert login.headers == (("X-Scope-OrgID", "tenant"),)


# values made in code, and shown


def test_values_made_in_code_are_held_to_the_same() -> None:
    with pytest.raises(ValueError, match=r"headroom must be between 1 and 100, got 0\.5"):
        PlanSettings(headroom=0.5)
    with pytest.raises(ValueError, match=r"up_max_factor must be greater than 1, got nan"):
        attrs.evolve(PlanSettings(), up_max_factor=float("nan"))


def test_a_prewarm_that_was_not_given_may_be_longer_than_the_horizon() -> None:
    short = {"--horizon": "1m", "--step": "10s", "--lead-time": "30s"}
    assert workload_of(short, NEEDED).plan.prewarm == 120
    with pytest.raises(ConfigError, match=r"--prewarm must not be longer than the horizon \(1m\)"):
        load(RunSettings, short | {"--prewarm": "2m"}, NEEDED)


@pytest.mark.parametrize("bounds", [above(1), at_least(2), between(2, 3)])
def test_nan_passes_no_check(bounds: NumberRange) -> None:
    bounds.check(2.5)
    with pytest.raises(ValueError, match=r"greater than 1|at least 2|between 2 and 3"):
        bounds.check(float("nan"))


def test_settings_are_shown_as_a_user_would_write_them() -> None:
    loaded = load(RunSettings, {"--lead-time": "90s", "--target-per-pod": "1234567"}, NEEDED | SECRETS)
    shown = {setting.name: show(setting, loaded.values[setting.name]) for setting in settings_of(RunSettings)}

    assert shown["lead_time"] == "1m30s"
    assert shown["target_per_pod"] == "1234567"
    assert shown["reactive_floor"] == "true"
    assert shown["http_listen"] == ":8081"
    assert shown["rounding"] == "ceil"
    assert shown["window"] == "none"
    assert shown["token"] == "(hidden)"
    assert shown["headers"] == "Authorization, X-Scope-OrgID"


@pytest.mark.parametrize("kind", [RunSettings, ForecasterSettings, ScalerSettings, DemoSettings])
def test_what_is_shown_can_be_given_again(kind: type[Any]) -> None:
    loaded = load(kind, {}, NEEDED)
    again = {
        setting.env: show(setting, loaded.values[setting.name])
        for setting in settings_of(kind)
        if loaded.values[setting.name] not in (None, ())
    }

    assert load(kind, {}, again).settings == loaded.settings
