# SPDX-License-Identifier: Apache-2.0
"""The settings of each command, in the order of its --help."""

from collections.abc import Mapping
from typing import Any

import attrs

from kedastral.settings.declarations import (
    AskedProcess,
    BacktestOutput,
    BacktestPlan,
    BacktestProcesses,
    BacktestRules,
    BroughtWorkloads,
    ConfigFiles,
    DefaultWorkload,
    DemoPace,
    ExplainedProcess,
    FlagWorkload,
    ForecasterListener,
    ForecastSettings,
    FreshnessSettings,
    GrpcTls,
    HistorySettings,
    HttpAccess,
    LeadSettings,
    LogSettings,
    PlanSettings,
    PrometheusLogin,
    PrometheusSettings,
    RemoteAccess,
    RemoteSettings,
    RunListeners,
    ScaledObjectSettings,
    ScalerListeners,
    ServiceLevel,
    ServingSettings,
    StaleSettings,
    StateSettings,
    StorageSettings,
    WorkloadName,
)
from kedastral.settings.fleet import ConfiguredFleet
from kedastral.settings.schema import described_by, group


@attrs.frozen(kw_only=True)
class RunSettings:
    """`kedastral run`."""

    listeners: RunListeners = group(RunListeners)
    grpc_tls: GrpcTls = group(GrpcTls)
    http_access: HttpAccess = group(HttpAccess)
    storage: StorageSettings = group(StorageSettings)
    config: ConfigFiles = group(ConfigFiles)
    scaled_objects: ScaledObjectSettings = group(ScaledObjectSettings)
    fleet: ConfiguredFleet = described_by(
        FlagWorkload, PrometheusSettings, ForecastSettings, PlanSettings, ServiceLevel, ServingSettings, StaleSettings
    )
    kept: StateSettings = group(StateSettings)
    logs: LogSettings = group(LogSettings)


@attrs.frozen(kw_only=True)
class ForecasterSettings:
    """`kedastral forecaster`."""

    listeners: ForecasterListener = group(ForecasterListener)
    http_access: HttpAccess = group(HttpAccess)
    storage: StorageSettings = group(StorageSettings)
    config: ConfigFiles = group(ConfigFiles)
    fleet: ConfiguredFleet = described_by(
        FlagWorkload,
        PrometheusSettings,
        ForecastSettings,
        PlanSettings,
        ServiceLevel,
        ServingSettings,
        FreshnessSettings,
    )
    kept: StateSettings = group(StateSettings)
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
class ExplainSettings:
    """`kedastral explain`."""

    process: ExplainedProcess = group(ExplainedProcess)
    remote_access: RemoteAccess = group(RemoteAccess)


@attrs.frozen(kw_only=True)
class DoctorSettings:
    """`kedastral doctor`; ``fleet`` is what the Kedastral should forecast, if its settings are given."""

    process: AskedProcess = group(AskedProcess)
    remote_access: RemoteAccess = group(RemoteAccess)
    config: ConfigFiles = group(ConfigFiles)
    scaled_objects: BroughtWorkloads = group(BroughtWorkloads)
    fleet: ConfiguredFleet | None = described_by(
        FlagWorkload,
        PrometheusSettings,
        ForecastSettings,
        PlanSettings,
        ServiceLevel,
        ServingSettings,
        StaleSettings,
        optional=True,
    )


@attrs.frozen(kw_only=True)
class DemoSettings:
    """`kedastral demo`."""

    pace: DemoPace = group(DemoPace)
    listeners: RunListeners = group(RunListeners)
    name: WorkloadName = group(WorkloadName, workload="demo-shop")
    forecast: ForecastSettings = group(ForecastSettings)
    plan: PlanSettings = group(PlanSettings, target_per_pod="100")
    level: ServiceLevel = group(ServiceLevel)
    serving: ServingSettings = group(ServingSettings)
    stale: StaleSettings = group(StaleSettings, stale_after="15m")  # of the demo's time: two real seconds
    logs: LogSettings = group(LogSettings, level="warn")


@attrs.frozen(kw_only=True)
class BacktestSettings:
    """`kedastral backtest`; with ``fleet`` the workloads of files are replayed, with their own settings.

    ``by_default`` are the names of the settings that were not given.
    """

    fleet: ConfiguredFleet | None = described_by(optional=True)
    by_default: frozenset[str] = attrs.field(default=frozenset(), eq=False, repr=False)
    config: ConfigFiles = group(ConfigFiles)
    history: HistorySettings = group(HistorySettings)
    login: PrometheusLogin = group(PrometheusLogin)
    forecast: ForecastSettings = group(ForecastSettings)
    plan: BacktestPlan = group(BacktestPlan, min_replicas="1", max_replicas="400")  # the rules policies are judged by
    level: ServiceLevel = group(ServiceLevel)
    serving: LeadSettings = group(LeadSettings)
    stale: StaleSettings = group(StaleSettings)
    rules: BacktestRules = group(BacktestRules)
    processes: BacktestProcesses = group(BacktestProcesses)
    output: BacktestOutput = group(BacktestOutput)


BY_COMMAND: Mapping[str, type[Any]] = {
    "run": RunSettings,
    "forecaster": ForecasterSettings,
    "scaler": ScalerSettings,
    "explain": ExplainSettings,
    "doctor": DoctorSettings,
    "demo": DemoSettings,
    "backtest": BacktestSettings,
}
"""The settings of each command."""
