# SPDX-License-Identifier: Apache-2.0
"""All settings: their flags, variables and defaults, command by command, as in the contract."""

from typing import Any

import attrs
import pytest

from kedastral.core.capacity import PlanPolicy, ReplicaBounds, Rounding
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.settings.commands import DemoSettings, ForecasterSettings, RunSettings, ScalerSettings
from kedastral.settings.load import load
from kedastral.settings.schema import settings_of
from tests.settings.fleets import workload_of

NEEDED = {
    "WORKLOAD": "shop",
    "PROM_URL": "http://prometheus:9090",
    "PROM_QUERY": "up",
    "FORECASTER_URL": "http://f:8081",
}
COMMANDS: list[type[Any]] = [RunSettings, ForecasterSettings, ScalerSettings, DemoSettings]

Table = dict[tuple[str | None, str], str | None]

KEPT: Table = {("--state-dir", "STATE_DIR"): None}
LOGS: Table = {("--log-level", "LOG_LEVEL"): "info", ("--log-format", "LOG_FORMAT"): "text"}
STALE: Table = {
    ("--stale-after", "STALE_AFTER"): "2m",
    ("--on-stale", "ON_STALE"): "default-min",
    ("--default-min", "DEFAULT_MIN"): "2",
}
FORECASTING: Table = {
    ("--settle-after", "SETTLE_AFTER"): None,
    ("--metric", "METRIC"): "http_rps",
    ("--horizon", "HORIZON"): "30m",
    ("--step", "STEP"): "1m",
    ("--lead-time", "LEAD_TIME"): "5m",
    ("--interval", "INTERVAL"): "30s",
    ("--window", "WINDOW"): None,  # what the model wants
    ("--model", "MODEL"): "auto",
    ("--timezone", "TIMEZONE"): "UTC",
    ("--model-url", "MODEL_URL"): None,
    ("--model-timeout", "MODEL_TIMEOUT"): "5s",
    ("--target-per-pod", "TARGET_PER_POD"): "200",
    ("--headroom", "HEADROOM"): None,  # 1.2 for models that are not steered
    ("--service-level", "SERVICE_LEVEL"): "0.99",
    ("--min", "MIN_REPLICAS"): "2",
    ("--max", "MAX_REPLICAS"): "50",
    ("--up-max-factor", "UP_MAX_FACTOR"): "2.0",
    ("--down-max-pct", "DOWN_MAX_PCT"): "50",
    ("--prewarm", "PREWARM"): "2m",
    ("--prewarm-steps", "PREWARM_STEPS"): None,  # as many as --prewarm takes: 2 at a step of a minute
    ("--rounding", "ROUNDING"): "ceil",
    ("--reactive-floor", "REACTIVE_FLOOR"): "true",
    ("--reactive-headroom", "REACTIVE_HEADROOM"): "1.1",
    ("--mode", "MODE"): "scale",
}
PROMETHEUS: Table = {
    ("--prom-url", "PROM_URL"): None,
    ("--prom-query", "PROM_QUERY"): None,
    ("--prom-username", "PROM_USERNAME"): None,
    ("--prom-password-file", "PROM_PASSWORD_FILE"): None,
    (None, "PROM_PASSWORD"): None,
    ("--prom-token-file", "PROM_TOKEN_FILE"): None,
    (None, "PROM_TOKEN"): None,
    ("--prom-header", "PROM_HEADER"): "",
    ("--prom-query-param", "PROM_QUERY_PARAM"): "",
    ("--prom-ca-file", "PROM_CA_FILE"): None,
    ("--prom-cert-file", "PROM_CERT_FILE"): None,
    ("--prom-key-file", "PROM_KEY_FILE"): None,
}
REFLECTION: Table = {("--grpc-reflection", "GRPC_REFLECTION"): "false"}
GRPC_TLS: Table = {
    ("--grpc-tls-cert-file", "GRPC_TLS_CERT_FILE"): None,
    ("--grpc-tls-key-file", "GRPC_TLS_KEY_FILE"): None,
    ("--grpc-tls-client-ca-file", "GRPC_TLS_CLIENT_CA_FILE"): None,
}
HTTP_ACCESS: Table = {
    ("--http-tls-cert-file", "HTTP_TLS_CERT_FILE"): None,
    ("--http-tls-key-file", "HTTP_TLS_KEY_FILE"): None,
    ("--http-token-file", "HTTP_TOKEN_FILE"): None,
    (None, "HTTP_TOKEN"): None,
}
REMOTE_ACCESS: Table = {
    ("--forecaster-ca-file", "FORECASTER_CA_FILE"): None,
    ("--forecaster-cert-file", "FORECASTER_CERT_FILE"): None,
    ("--forecaster-key-file", "FORECASTER_KEY_FILE"): None,
    ("--forecaster-token-file", "FORECASTER_TOKEN_FILE"): None,
    (None, "FORECASTER_TOKEN"): None,
}
WORKLOAD: Table = {("--workload", "WORKLOAD"): None}
FILES: Table = {("--config", "KEDASTRAL_CONFIG"): None}
SCALED_OBJECTS: Table = {
    ("--allow-scaledobject-workloads", "ALLOW_SCALEDOBJECT_WORKLOADS"): "false",
    ("--max-scaledobject-workloads", "MAX_SCALEDOBJECT_WORKLOADS"): "1000",
    ("--max-scaledobject-workloads-per-namespace", "MAX_SCALEDOBJECT_WORKLOADS_PER_NAMESPACE"): "0",
    ("--scaledobject-namespaces", "SCALEDOBJECT_NAMESPACES"): "",
}
STORAGE: Table = {
    ("--storage", "STORAGE"): "memory",
    ("--redis-url", "REDIS_URL"): None,
    ("--redis-username", "REDIS_USERNAME"): None,
    ("--redis-password-file", "REDIS_PASSWORD_FILE"): None,
    (None, "REDIS_PASSWORD"): None,
    ("--redis-prefix", "REDIS_PREFIX"): "kedastral",
    ("--redis-ttl", "REDIS_TTL"): "1d",
    ("--redis-lease", "REDIS_LEASE"): "10s",
    ("--redis-ca-file", "REDIS_CA_FILE"): None,
    ("--redis-cert-file", "REDIS_CERT_FILE"): None,
    ("--redis-key-file", "REDIS_KEY_FILE"): None,
}
RUN: Table = {
    ("--http-listen", "FORECASTER_LISTEN"): ":8081",
    ("--grpc-listen", "SCALER_LISTEN"): ":8080",
    **(
        REFLECTION
        | GRPC_TLS
        | HTTP_ACCESS
        | STORAGE
        | FILES
        | SCALED_OBJECTS
        | WORKLOAD
        | FORECASTING
        | PROMETHEUS
        | STALE
        | KEPT
        | LOGS
    ),
}
FORECASTER: Table = {
    ("--listen", "FORECASTER_LISTEN"): ":8081",
    ("--stale-after", "STALE_AFTER"): "2m",
    **(HTTP_ACCESS | STORAGE | FILES | WORKLOAD | FORECASTING | PROMETHEUS | KEPT | LOGS),
}
SCALER: Table = {
    ("--listen", "SCALER_LISTEN"): ":8080",
    ("--http-listen", "SCALER_HTTP_LISTEN"): ":8082",
    ("--forecaster-url", "FORECASTER_URL"): None,
    **{where: default for where, default in STORAGE.items() if where[0] not in ("--redis-ttl", "--redis-lease")},
    **(REFLECTION | GRPC_TLS | HTTP_ACCESS | REMOTE_ACCESS | WORKLOAD | STALE | LOGS),
}


@pytest.mark.parametrize(
    ("kind", "table"), [(RunSettings, RUN), (ForecasterSettings, FORECASTER), (ScalerSettings, SCALER)]
)
def test_flags_variables_and_defaults_are_those_of_the_contract(kind: type[Any], table: Table) -> None:
    assert {(setting.flag, setting.env): setting.default for setting in settings_of(kind)} == table


def test_defaults_are_read_into_the_values_they_say() -> None:
    loaded = load(RunSettings, {}, NEEDED).settings

    assert (str(loaded.listeners.http_listen), str(loaded.listeners.grpc_listen)) == (":8081", ":8080")
    [workload] = loaded.fleet.settings.workloads.values()
    assert workload.workload == "shop"
    forecast = workload.forecast
    assert forecast.metric == "http_rps"
    spans: list[float] = [forecast.horizon, forecast.step, forecast.interval, forecast.model_timeout]
    assert spans == [1800, 60, 30, 5]
    assert [forecast.model, forecast.model_url] == ["auto", None]
    assert (forecast.steps, forecast.history_window) == (30, 1_209_600)
    assert workload.plan.policy(60) == PlanPolicy(200, 1.2, ReplicaBounds(2, 50), 2, 50, 2, Rounding.CEIL)
    serving = workload.serving
    assert [serving.lead_time, serving.reactive_headroom] == [300, 1.1]
    assert serving.reactive_floor is True
    assert workload.stale.policy() == StalePolicy(120, OnStale.DEFAULT_MIN, 2)
    assert (loaded.logs.level, loaded.logs.format) == ("info", "text")
    assert loaded.fleet.settings.sources["default"].login.headers == ()


@pytest.mark.parametrize(
    ("kind", "required"),
    [
        (RunSettings, {"WORKLOAD", "PROM_URL", "PROM_QUERY"}),
        (ForecasterSettings, {"WORKLOAD", "PROM_URL", "PROM_QUERY"}),
        (ScalerSettings, {"FORECASTER_URL"}),
        (DemoSettings, set()),
    ],
)
def test_only_what_cannot_be_guessed_is_required(kind: type[Any], required: set[str]) -> None:
    assert {setting.env for setting in settings_of(kind) if setting.required} == required
    assert isinstance(load(kind, {}, {env: NEEDED[env] for env in required}).settings, kind)


def test_the_planner_gets_what_was_set() -> None:
    flags = {
        "--target-per-pod": "70", "--headroom": "1.5", "--min": "1", "--max": "0", "--up-max-factor": "3",
        "--down-max-pct": "25", "--prewarm-steps": "4", "--rounding": "round",
    }  # fmt: skip

    policy = workload_of(flags, NEEDED).plan.policy(60)

    assert policy == PlanPolicy(70, 1.5, ReplicaBounds(1, 0), 3, 25, 4, Rounding.ROUND)


@pytest.mark.parametrize(
    ("flags", "step", "steps"),
    [
        ({}, 60, 2),
        ({}, 15, 8),
        ({}, 90, 1),
        ({}, 300, 0),
        ({"--prewarm": "0s"}, 60, 0),
        ({"--prewarm": "10m"}, 300, 2),
        ({"--prewarm-steps": "2"}, 300, 2),
        ({"--prewarm-steps": "0", "--prewarm": "10m"}, 60, 0),
    ],
    ids=str,
)
def test_a_plan_is_prewarmed_by_a_time_unless_steps_are_given(flags: dict[str, str], step: float, steps: int) -> None:
    assert workload_of(flags, NEEDED).plan.policy(step).prewarm_steps == steps


def test_the_serving_rule_gets_what_was_set() -> None:
    flags = {"--stale-after": "90s", "--on-stale": "ride-forecast", "--default-min": "7"}

    assert load(ScalerSettings, flags, NEEDED).settings.stale.policy() == StalePolicy(90, OnStale.RIDE_FORECAST, 7)


@pytest.mark.parametrize(
    ("flags", "window"),
    [
        ({}, 1_209_600),
        ({"--window": "7d"}, 604_800),
        ({"--model": "baseline"}, 1800),
        ({"--model": "http", "--model-url": "http://model"}, 1800),
        ({"--model": "baseline", "--step": "1h", "--horizon": "24h"}, 3600),  # never less than one step
    ],
    ids=str,
)
def test_the_window_is_what_the_model_wants_unless_told(flags: dict[str, str], window: float) -> None:
    assert workload_of(flags, NEEDED).forecast.history_window == window


@pytest.mark.parametrize(("horizon", "step", "steps"), [("30m", "1m", 30), ("3s", "100ms", 30), ("1h", "7s500ms", 480)])
def test_a_forecast_has_as_many_values_as_steps_fit_the_horizon(horizon: str, step: str, steps: int) -> None:
    flags = {"--horizon": horizon, "--step": step, "--lead-time": "1s", "--window": "1d"}

    assert workload_of(flags, NEEDED).forecast.steps == steps


def test_the_split_commands_use_their_own_listen_flags() -> None:
    forecaster = load(ForecasterSettings, {"--listen": ":1"}, NEEDED | {"SCALER_LISTEN": ":9"}).settings
    scaler = load(
        ScalerSettings, {"--listen": ":2", "--http-listen": ":3"}, NEEDED | {"FORECASTER_LISTEN": ":9"}
    ).settings
    by_env = load(ScalerSettings, {}, NEEDED | {"SCALER_LISTEN": ":4", "SCALER_HTTP_LISTEN": ":5"}).settings

    assert forecaster.listeners.http_listen.port == 1
    assert (scaler.listeners.grpc_listen.port, scaler.listeners.http_listen.port) == (2, 3)
    assert (by_env.listeners.grpc_listen.port, by_env.listeners.http_listen.port) == (4, 5)
    assert load(ForecasterSettings, {}, NEEDED | {"FORECASTER_LISTEN": ":6"}).settings.listeners.http_listen.port == 6


def test_the_split_scaler_may_have_a_default_workload() -> None:
    assert load(ScalerSettings, {}, {"FORECASTER_URL": "http://f"}).settings.name.workload is None
    assert load(ScalerSettings, {"--workload": "shop"}, NEEDED).settings.name.workload == "shop"


def test_the_demo_needs_nothing_and_differs_where_it_says() -> None:
    demo = load(DemoSettings, {}, {}).settings

    assert (demo.name.workload, demo.plan.target_per_pod, demo.logs.level) == ("demo-shop", 100, "warn")
    assert [demo.pace.speed, demo.pace.duration] == [480, 86_400]


@pytest.mark.parametrize("kind", COMMANDS)
def test_names_flags_and_variables_are_there_once(kind: type[Any]) -> None:
    known = settings_of(kind)

    for called in ("name", "flag", "env"):
        names = [getattr(setting, called) for setting in known if getattr(setting, called) is not None]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("kind", COMMANDS)
def test_every_setting_says_what_it_is_for(kind: type[Any]) -> None:
    for setting in settings_of(kind):
        assert len(setting.meaning) > 5
        assert setting.flag is None or setting.flag.startswith("--")
        assert setting.env == setting.env.upper()


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_setting_means_the_same_in_every_command(kind: type[Any]) -> None:
    in_run = {setting.env: setting for setting in settings_of(RunSettings)}

    for setting in settings_of(kind):
        if setting.env in in_run and setting.env != "WORKLOAD":
            assert setting.meaning == in_run[setting.env].meaning
            assert setting.kind == in_run[setting.env].kind


def test_settings_cannot_be_changed() -> None:
    workload = workload_of({}, NEEDED)

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        workload.plan.headroom = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"--service-level": "0.999"}, "10 min a week may be under-provisioned"),
        ({"--service-level": "0.9999"}, "1 min a week"),
        ({"--window": "90m"}, "is shorter than 2h, so that auto always falls back"),
    ],
)
def test_what_auto_cannot_keep_is_warned_of(flags: dict[str, str], words: str) -> None:
    [warning] = load(RunSettings, flags, NEEDED).warnings
    assert words in warning
    others = load(RunSettings, {**flags, "--model": "baseline"}, NEEDED).warnings
    assert not any(words in other for other in others)


PREWARMS_LESS = "--horizon is shorter than the lead time ({}) and --prewarm ({}) together"
RIDES_SHORTLY = "--horizon is only {} longer than the lead time ({}): without fresh data ride-forecast lasts no longer"
RIDE = {"--on-stale": "ride-forecast"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({}, ()),
        (RIDE, ()),
        ({**RIDE, "--lead-time": "25m"}, ()),
        ({"--lead-time": "28m"}, ()),
        ({**RIDE, "--lead-time": "26m"}, (RIDES_SHORTLY.format("4m", "26m"),)),
        ({"--lead-time": "29m"}, (PREWARMS_LESS.format("29m", "2m"),)),
        ({**RIDE, "--lead-time": "29m"}, (PREWARMS_LESS.format("29m", "2m"), RIDES_SHORTLY.format("1m", "29m"))),
        ({"--lead-time": "25m", "--prewarm-steps": "6"}, (PREWARMS_LESS.format("25m", "6m"),)),
        ({"--lead-time": "29m", "--prewarm-steps": "1"}, ()),
        ({**RIDE, "--lead-time": "29m", "--horizon": "45m"}, ()),
    ],
    ids=str,
)
def test_a_horizon_that_is_hardly_longer_than_the_lead_time_is_warned_of(
    flags: dict[str, str], words: tuple[str, ...]
) -> None:
    warnings = load(RunSettings, flags, NEEDED).warnings
    assert len(warnings) == len(words)
    assert all(warning.startswith(said) for warning, said in zip(warnings, words, strict=True)), warnings


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"--reactive-headroom": "1.5"}, "is not used, since auto steers the floor too"),
        ({"--reactive-headroom": "1.5", "--reactive-floor": "false"}, "is not used, since --reactive-floor is off"),
        ({"--reactive-headroom": "1.5", "--headroom": "1.3"}, ""),
        ({"--reactive-headroom": "1.5", "--model": "baseline"}, ""),
        ({"--service-level": "0.95", "--headroom": "1.3"}, "is not used, since --headroom is given"),
        ({"--service-level": "0.95", "--model": "baseline"}, "is not used, since baseline plans by --headroom"),
        ({"--service-level": "0.95"}, ""),
        ({"--model": "baseline"}, ""),
        ({"--headroom": "1.3"}, ""),
        ({"--model-url": "http://model:9000"}, "is not used, since --model is auto"),
        ({"--model-url": "http://model:9000", "--model": "http"}, ""),
    ],
    ids=str,
)
def test_a_setting_that_does_nothing_is_warned_of_where_somebody_gave_it(flags: dict[str, str], words: str) -> None:
    warnings = load(RunSettings, flags, NEEDED).warnings
    assert [words in warning and next(iter(flags)) in warning for warning in warnings] == ([True] if words else [])
