# SPDX-License-Identifier: Apache-2.0
"""What a process forecasts, as values: its workloads and the data sources they read, however they were configured."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import attrs

from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.settings.declarations import (
    ForecastSettings,
    PlanSettings,
    PrometheusLogin,
    ServiceLevel,
    ServingSettings,
    SourceLimits,
    StaleSettings,
)
from kedastral.settings.rules import Finding
from kedastral.settings.schema import group
from kedastral.settings.types import HttpUrl, Name

DEFAULT_SOURCE = "default"
"""The data source that flags and the environment describe."""
BY_FLAGS = "flags and variables"


def key_of(workload: str, namespace: str | None = None) -> str:
    """The key of a workload everywhere: ``namespace/name``, or the name alone if it has no namespace."""
    return f"{namespace}/{workload}" if namespace else workload


@attrs.frozen(kw_only=True)
class WorkloadSettings:
    """One workload: what is forecast, from which source, and how it is planned and served.

    ``data_source`` is the name of one of the fleet's sources; ``origin`` says where it was configured. Every setting in
    one of the groups is a key of ForecastPolicy documents and of trigger metadata. ``by_default`` are the names of the
    settings that were not given; ``warnings`` are about odd settings of this workload alone.
    """

    workload: Name
    namespace: Name | None = None
    data_source: str = DEFAULT_SOURCE
    query: str
    origin: str = attrs.field(default=BY_FLAGS, eq=False)
    by_default: frozenset[str] = attrs.field(default=frozenset(), eq=False, repr=False)
    warnings: tuple[Finding, ...] = attrs.field(default=(), eq=False, repr=False)
    forecast: ForecastSettings = group(ForecastSettings)
    plan: PlanSettings = group(PlanSettings)
    level: ServiceLevel = group(ServiceLevel)
    serving: ServingSettings = group(ServingSettings)
    stale: StaleSettings = group(StaleSettings)

    @property
    def key(self) -> str:
        """See `key_of`."""
        return key_of(self.workload, self.namespace)

    def policy(self) -> StalePolicy:
        """What KEDA is told when the forecast is stale, and whether it is told the plan at all."""
        return attrs.evolve(self.stale.policy(), mode=self.serving.mode)


@attrs.frozen(kw_only=True)
class DataSourceSettings(SourceLimits):
    """One Prometheus: its address, its login, and how heavily it may be queried.

    ``timeout`` is for one request, in seconds. ``namespaces`` are those whose ScaledObjects may use it; None is all.
    """

    name: str = DEFAULT_SOURCE
    url: HttpUrl
    login: PrometheusLogin = attrs.field(factory=PrometheusLogin)
    namespaces: frozenset[str] | None = None
    origin: str = attrs.field(default=BY_FLAGS, eq=False)


def _frozen_sources(given: Mapping[str, DataSourceSettings]) -> Mapping[str, DataSourceSettings]:
    return MappingProxyType(dict(given))


def _frozen_workloads(given: Mapping[str, WorkloadSettings]) -> Mapping[str, WorkloadSettings]:
    return MappingProxyType(dict(given))


@attrs.frozen(kw_only=True)
class FleetSettings:
    """The whole fleet: sources by name, workloads by key. Every workload's data source is among the sources."""

    sources: Mapping[str, DataSourceSettings] = attrs.field(converter=_frozen_sources)
    workloads: Mapping[str, WorkloadSettings] = attrs.field(converter=_frozen_workloads)


@attrs.frozen(kw_only=True)
class ConfiguredFleet:
    """What a process forecasts, and how to read it again; ``shared_warnings`` are lines about settings of several
    workloads or of none.

    ``path`` leads to its files, if any. ``read_again`` returns what flags, variables and files currently say; it
    blocks, and raises ConfigError. ``workload_from_metadata`` returns the workload that a ScaledObject's trigger
    describes, given the ScaledObject's namespace and name and the metadata; it raises ConfigError with a message for
    the author of the metadata.
    """

    settings: FleetSettings
    shared_warnings: tuple[str, ...] = attrs.field(default=(), eq=False)
    path: Path | None = attrs.field(default=None, eq=False)
    read_again: "Callable[[], ConfiguredFleet]" = attrs.field(eq=False, repr=False)
    workload_from_metadata: Callable[[str, str, Mapping[str, str]], WorkloadSettings] = attrs.field(
        eq=False, repr=False
    )

    @property
    def warnings(self) -> tuple[str, ...]:
        """All lines about odd settings."""
        of_workloads = (found.line for one in self.settings.workloads.values() for found in one.warnings)
        return (*self.shared_warnings, *of_workloads)

    @property
    def warned(self) -> Mapping[str, tuple[str, Finding]]:
        """The workload and the finding of each line that is about a single one, by line."""
        return {found.line: (key, found) for key, one in self.settings.workloads.items() for found in one.warnings}
