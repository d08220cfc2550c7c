# SPDX-License-Identifier: Apache-2.0
"""Every setting there is, by command: each command has one class here, made of groups of settings.

What a process forecasts is its ``fleet``: the workloads that flags, variables and files describe, each with settings
of its own. The groups beside it are what flags and variables say.

A setting says its flag, variable, default, meaning, and why that default. Those of a workload are in
`workload_settings` and `serving_settings`, of Prometheus in `source_settings`, of the process in `process_settings`,
of TLS in `tls_settings`, of a backtest alone in `backtest_settings`; docs/configuration.md shows the same as tables,
and a test keeps them equal.
"""

from typing import Any

import attrs

from kedastral.config.backtest_settings import (
    BacktestOutput,
    BacktestPlan,
    BacktestRules,
    HistorySettings,
)
from kedastral.config.fields import group
from kedastral.config.fleet import ConfiguredFleet
from kedastral.config.process_settings import (
    ConfigFiles,
    DemoPace,
    ForecasterListener,
    LogSettings,
    RemoteSettings,
    RunListeners,
    ScaledObjectSettings,
    ScalerListeners,
)
from kedastral.config.serving_settings import (
    FreshnessSettings,
    LeadSettings,
    ServiceLevel,
    ServingSettings,
    StaleSettings,
)
from kedastral.config.source_settings import PrometheusLogin, PrometheusSettings
from kedastral.config.tls_settings import GrpcTls, HttpAccess, RemoteAccess
from kedastral.config.workload_settings import (
    DefaultWorkload,
    FlagWorkload,
    ForecastSettings,
    PlanSettings,
    WorkloadName,
)


@attrs.frozen(kw_only=True)
class RunSettings:
    """`kedastral run`."""

    fleet: ConfiguredFleet
    listeners: RunListeners = group(RunListeners)
    grpc_tls: GrpcTls = group(GrpcTls)
    http_access: HttpAccess = group(HttpAccess)
    config: ConfigFiles = group(ConfigFiles)
    scaled_objects: ScaledObjectSettings = group(ScaledObjectSettings)
    name: FlagWorkload = group(FlagWorkload)
    prometheus: PrometheusSettings = group(PrometheusSettings)
    forecast: ForecastSettings = group(ForecastSettings)
    plan: PlanSettings = group(PlanSettings)
    level: ServiceLevel = group(ServiceLevel)
    serving: ServingSettings = group(ServingSettings)
    stale: StaleSettings = group(StaleSettings)
    logs: LogSettings = group(LogSettings)


@attrs.frozen(kw_only=True)
class ForecasterSettings:
    """`kedastral forecaster`."""

    fleet: ConfiguredFleet
    listeners: ForecasterListener = group(ForecasterListener)
    http_access: HttpAccess = group(HttpAccess)
    config: ConfigFiles = group(ConfigFiles)
    name: FlagWorkload = group(FlagWorkload)
    prometheus: PrometheusSettings = group(PrometheusSettings)
    forecast: ForecastSettings = group(ForecastSettings)
    plan: PlanSettings = group(PlanSettings)
    level: ServiceLevel = group(ServiceLevel)
    serving: ServingSettings = group(ServingSettings)
    stale: FreshnessSettings = group(FreshnessSettings)
    logs: LogSettings = group(LogSettings)


@attrs.frozen(kw_only=True)
class ScalerSettings:
    """`kedastral scaler`."""

    listeners: ScalerListeners = group(ScalerListeners)
    grpc_tls: GrpcTls = group(GrpcTls)
    http_access: HttpAccess = group(HttpAccess)
    remote: RemoteSettings = group(RemoteSettings)
    remote_access: RemoteAccess = group(RemoteAccess)
    name: DefaultWorkload = group(DefaultWorkload)
    stale: StaleSettings = group(StaleSettings)
    logs: LogSettings = group(LogSettings)


@attrs.frozen(kw_only=True)
class DemoSettings:
    """`kedastral demo`."""

    pace: DemoPace = group(DemoPace)
    listeners: RunListeners = group(RunListeners)
    name: WorkloadName = group(WorkloadName, workload="demo-shop")
    forecast: ForecastSettings = group(ForecastSettings, model="auto")  # its source has history from the start
    plan: PlanSettings = group(PlanSettings, target_per_pod="100")
    level: ServiceLevel = group(ServiceLevel)
    serving: ServingSettings = group(ServingSettings)
    stale: StaleSettings = group(StaleSettings, stale_after="15m")  # of the demo's time: two real seconds
    logs: LogSettings = group(LogSettings, level="warn")


@attrs.frozen(kw_only=True)
class BacktestSettings:
    """`kedastral backtest`; with ``fleet`` the workloads of files are replayed, by settings of their own."""

    fleet: ConfiguredFleet | None = None
    config: ConfigFiles = group(ConfigFiles)
    history: HistorySettings = group(HistorySettings)
    login: PrometheusLogin = group(PrometheusLogin)
    forecast: ForecastSettings = group(ForecastSettings)
    plan: BacktestPlan = group(BacktestPlan, min_replicas="1", max_replicas="400")  # the rules policies are judged by
    level: ServiceLevel = group(ServiceLevel)
    serving: LeadSettings = group(LeadSettings)
    stale: StaleSettings = group(StaleSettings)
    rules: BacktestRules = group(BacktestRules)
    output: BacktestOutput = group(BacktestOutput)


BY_COMMAND: dict[str, type[Any]] = {
    "run": RunSettings,
    "forecaster": ForecasterSettings,
    "scaler": ScalerSettings,
    "demo": DemoSettings,
    "backtest": BacktestSettings,
}
"""The settings of each command."""
