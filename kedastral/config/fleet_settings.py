# SPDX-License-Identifier: Apache-2.0
"""What one process forecasts: its workloads and the data sources they read, however they were configured."""

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from kedastral.config.serving_settings import ServiceLevel, ServingSettings, StaleSettings
from kedastral.config.source_settings import PrometheusLogin
from kedastral.config.units import HttpUrl, Name
from kedastral.config.workload_settings import ForecastSettings, PlanSettings

DEFAULT_SOURCE = "default"
"""The data source that flags and the environment describe."""


def key_of(workload: str, namespace: str | None = None) -> str:
    """What a workload is known by everywhere: ``namespace/name``, or the name alone where it has no namespace."""
    return f"{namespace}/{workload}" if namespace else workload


@attrs.frozen(kw_only=True)
class WorkloadSettings:
    """One workload: what is forecast, from where, and how it is planned and served.

    ``data_source`` is the name of one of the fleet's sources.
    """

    workload: Name
    namespace: Name | None = None
    data_source: str = DEFAULT_SOURCE
    query: str
    forecast: ForecastSettings = attrs.field(factory=ForecastSettings)
    plan: PlanSettings = attrs.field(factory=PlanSettings)
    level: ServiceLevel = attrs.field(factory=ServiceLevel)
    serving: ServingSettings = attrs.field(factory=ServingSettings)
    stale: StaleSettings = attrs.field(factory=StaleSettings)

    @property
    def key(self) -> str:
        """See `key_of`."""
        return key_of(self.workload, self.namespace)


@attrs.frozen(kw_only=True)
class DataSourceSettings:
    """One Prometheus: where it is, how to log in, and how hard it may be asked.

    ``timeout`` bounds one request, in seconds. ``namespaces`` are those whose ScaledObjects may use it; None is all.
    """

    name: str = DEFAULT_SOURCE
    url: HttpUrl
    login: PrometheusLogin = attrs.field(factory=PrometheusLogin)
    timeout: float = 10.0
    max_concurrent: int = 8
    max_per_second: float = 50.0
    namespaces: frozenset[str] | None = None


def _frozen_sources(given: Mapping[str, DataSourceSettings]) -> Mapping[str, DataSourceSettings]:
    return MappingProxyType(dict(given))


def _frozen_workloads(given: Mapping[str, WorkloadSettings]) -> Mapping[str, WorkloadSettings]:
    return MappingProxyType(dict(given))


@attrs.frozen(kw_only=True)
class FleetSettings:
    """All of it: sources by name, workloads by key. Every workload's data source is among the sources."""

    sources: Mapping[str, DataSourceSettings] = attrs.field(converter=_frozen_sources)
    workloads: Mapping[str, WorkloadSettings] = attrs.field(converter=_frozen_workloads)
