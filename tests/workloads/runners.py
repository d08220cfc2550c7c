# SPDX-License-Identifier: Apache-2.0
"""Runners of workloads that do nothing, or what a test says; their settings differ only in the query."""

from collections.abc import Awaitable, Callable

import attrs
import trio

from kedastral.adapters.prometheus.source import RangeQuery
from kedastral.serving.metrics import Metrics
from kedastral.serving.store import MemoryStore
from kedastral.settings.declarations import ForecastSettings, StaleSettings
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.types import Name
from kedastral.workloads.planning_settings import workload_of
from kedastral.workloads.runner import ForecasterIdentity, RunnerBuilder, RunnerParts, SourceIdentity, WorkloadRunner
from tests.parts import StubForecaster, StubSource, wall_clock


def make_settings(key: str, query: str = "up", *, interval: float = 30.0) -> WorkloadSettings:
    """Settings of the workload with ``key``."""
    namespace, _, name = key.rpartition("/")
    return WorkloadSettings(
        workload=Name(name),
        namespace=Name(namespace) if namespace else None,
        query=query,
        forecast=ForecastSettings(interval=interval),
        stale=StaleSettings(stale_after=7.0),
    )


def query_of(runner: WorkloadRunner | None) -> str | None:
    """What distinguishes the runners of one workload; None without a runner."""
    return None if runner is None else runner.settings.query


async def close_nothing(_successor: WorkloadRunner | None) -> None:
    await trio.lowlevel.checkpoint()


def make_runner(
    settings: WorkloadSettings,
    tick: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    close: Callable[[WorkloadRunner | None], Awaitable[None]] = close_nothing,
    *,
    reads_unused: bool = False,
) -> WorkloadRunner:
    """A runner of ``settings`` that does what the test says."""
    identity, forecast = SourceIdentity(None, RangeQuery(settings.query, 60.0, 60.0, 60.0)), settings.forecast
    parts = RunnerParts(
        identity,
        StubSource([]),
        ForecasterIdentity(forecast.model, None, forecast.model_timeout, forecast.timezone, identity),
        StubForecaster(lambda steps: [0.0] * steps),
    )
    return WorkloadRunner(settings, workload_of(settings, None), parts, tick, close, lambda _successor: reads_unused)


@attrs.frozen(eq=False)
class StubBuilder(RunnerBuilder):
    """Builds runners with ``make``, and records their settings and the previous queries."""

    make: Callable[[WorkloadSettings, WorkloadRunner | None], WorkloadRunner] = attrs.field(kw_only=True)
    built: list[tuple[WorkloadSettings, str | None]] = attrs.field(factory=list)

    def build(self, settings: WorkloadSettings, before: WorkloadRunner | None = None) -> WorkloadRunner:
        self.built.append((settings, query_of(before)))
        return self.make(settings, before)

    @classmethod
    def of(cls, make: Callable[[WorkloadSettings, WorkloadRunner | None], WorkloadRunner]) -> "StubBuilder":
        return cls(MemoryStore(), wall_clock(), Metrics(), make=make)
