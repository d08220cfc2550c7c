# SPDX-License-Identifier: Apache-2.0
"""What one process forecasts: its workloads and the data sources they read, however they were configured."""

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from kedastral.config.fields import above, between, group, setting
from kedastral.config.serving_settings import ServiceLevel, ServingSettings, StaleSettings
from kedastral.config.source_settings import PrometheusLogin
from kedastral.config.units import HttpUrl, Name, Seconds, read_duration, read_integer, read_number
from kedastral.config.workload_settings import ForecastSettings, PlanSettings
from kedastral.core.serving import StalePolicy

DEFAULT_SOURCE = "default"
"""The data source that flags and the environment describe."""
BY_FLAGS = "flags and variables"


def key_of(workload: str, namespace: str | None = None) -> str:
    """What a workload is known by everywhere: ``namespace/name``, or the name alone where it has no namespace."""
    return f"{namespace}/{workload}" if namespace else workload


@attrs.frozen(kw_only=True)
class WorkloadSettings:
    """One workload: what is forecast, from where, and how it is planned and served.

    ``data_source`` is the name of one of the fleet's sources; ``origin`` says where it was configured. A setting in
    one of the groups is a key of ForecastPolicy documents and of trigger metadata, without more ado. ``by_default``
    are the names of those that nobody gave; ``oddities`` are lines about what is odd in metadata it was read from.
    """

    workload: Name
    namespace: Name | None = None
    data_source: str = DEFAULT_SOURCE
    query: str
    origin: str = attrs.field(default=BY_FLAGS, eq=False)
    by_default: frozenset[str] = attrs.field(default=frozenset(), eq=False, repr=False)
    oddities: tuple[str, ...] = attrs.field(default=(), eq=False, repr=False)
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
        """What KEDA is told when the forecast is stale, and whether it is told what is planned at all."""
        return attrs.evolve(self.stale.policy(), mode=self.serving.mode)


@attrs.frozen(kw_only=True, slots=False)  # of two bases only one may have slots
class SourceLimits:
    """How hard a data source may be asked. These have no flags; in their place stands the path in a document."""

    timeout: Seconds = setting(
        "timeout",
        "",
        read_duration,
        "how long one request may take, its retries included",
        default="10s",
        check=above(0),
        kind="duration",
    )
    max_concurrent: int = setting(
        "limits.maxConcurrent",
        "",
        read_integer,
        "most requests at a time",
        default="8",
        check=between(1, 1000),
        kind="integer",
    )
    max_per_second: float = setting(
        "limits.maxPerSecond",
        "",
        read_number,
        "most requests a second, on average",
        default="50",
        check=between(0.01, 10_000),
        kind="number",
    )


@attrs.frozen(kw_only=True)
class DataSourceSettings(SourceLimits):
    """One Prometheus: where it is, how to log in, and how hard it may be asked.

    ``timeout`` bounds one request, in seconds. ``namespaces`` are those whose ScaledObjects may use it; None is all.
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
    """All of it: sources by name, workloads by key. Every workload's data source is among the sources."""

    sources: Mapping[str, DataSourceSettings] = attrs.field(converter=_frozen_sources)
    workloads: Mapping[str, WorkloadSettings] = attrs.field(converter=_frozen_workloads)
