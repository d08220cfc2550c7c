# SPDX-License-Identifier: Apache-2.0
"""Latencies and their budgets: ``make bench``. JSON on standard output, a table and progress on standard error.

Starts Prometheus and `kedastral run` on free loopback ports, and stops them. docs/benchmarks.md says how to read it.
"""

import http.client
import json
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter

import attrs
import trio
from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, describe_machine
from benchmarks.programs import (
    QUERY,
    WORKLOAD,
    MissingProgramError,
    find_program,
    prometheus_version,
    running_kedastral,
    running_prometheus,
)
from kedastral.adapters.in_process import InProcessForecaster
from kedastral.adapters.prometheus.api import open_prometheus_client
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.clock import SystemClock
from kedastral.core.capacity import PlanPolicy
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.ports import MetricSource
from kedastral.core.series import Series
from kedastral.models.auto import AutoModel
from kedastral.serving.store import MemoryStore
from kedastral.tracing import NO_TRACING
from kedastral.workloads.tick import ForecastLoop, Workload

TICK_MS, PROMETHEUS_MS, GET_METRICS_MS = 500.0, 300.0, 20.0
"""The budgets, each for a p95."""
STEP, POINTS = 60.0, 30
CALLS = 500
GRPC_CALLS = {1: 2000, 8: 4000, 64: 8000}
"""How many GetMetrics calls are timed, by the number of calls in flight."""
KEDA_RATE = 350
"""Calls per second: about what KEDA and the HPA send for a thousand ScaledObjects."""
KEDA_CALLS = 2000
MISSING = 2

console = Console(stderr=True, width=None if sys.stderr.isatty() else 110)


@attrs.frozen
class _Remembered:
    """A metric source that answers with a previously read series, so that only our own work is timed."""

    series: Series
    name: str = "remembered"

    async def history(self, now: datetime) -> Series:
        del now
        await trio.lowlevel.checkpoint()
        return self.series


def measure_all() -> Iterator[Figure]:
    """Every figure, one after the other. Raises MissingProgramError if Prometheus is not installed."""
    with tempfile.TemporaryDirectory(prefix="kedastral-bench-") as folder:
        home = Path(folder)
        with running_prometheus(home) as prometheus:
            yield from trio.run(_measure_ticks, prometheus)
            with running_kedastral(home, prometheus) as (http_port, grpc_port):
                yield _measure_http(http_port)
                for callers, calls in GRPC_CALLS.items():
                    yield _measure_grpc(f"GetMetrics, {callers} at once", "closed", grpc_port, callers, calls)
                yield _measure_grpc(f"GetMetrics, {KEDA_RATE} a second", "paced", grpc_port, KEDA_RATE, KEDA_CALLS)


async def _measure_ticks(prometheus: str) -> list[Figure]:
    async with open_prometheus_client(prometheus) as client:
        source = PrometheusSource(client, RangeQuery(QUERY, POINTS * STEP, STEP, stale_after=120))
        series = await source.history(datetime.now(UTC))
        if len(series) != POINTS or series.newest is None:
            raise RuntimeError(f"Prometheus gave {len(series)} points where {POINTS} were due")
        read = partial(_read_now, source)
        return [
            await _time("Prometheus range query, 30 points", read, PROMETHEUS_MS),
            await _time("tick, with that query", _make_loop(source).tick, TICK_MS),
            await _time("tick, history at hand", _make_loop(_Remembered(series)).tick, TICK_MS),
            await _time("the spans of a tick, tracing off", _open_spans, None),
        ]


async def _read_now(source: MetricSource) -> object:
    return await source.history(datetime.now(UTC))


async def _open_spans() -> None:
    for name in ("tick", "query", "forecast", "plan", "publish"):
        with NO_TRACING.span(name, {"kedastral.workload": WORKLOAD}):
            pass


def _make_loop(source: MetricSource) -> ForecastLoop:
    workload = Workload(WORKLOAD, "load", 30, 300.0, PlanPolicy(), goal=ServiceLevelGoal())
    forecaster = InProcessForecaster(AutoModel(), trio.CapacityLimiter(1))
    return ForecastLoop(workload, source, forecaster, MemoryStore(), SystemClock())


async def _time(name: str, call: Callable[[], Awaitable[object]], budget_ms: float | None) -> Figure:
    console.print(f"measuring: {name}")
    for _ in range(CALLS // 10):
        await call()
    seconds = []
    for _ in range(CALLS):
        began = perf_counter()
        await call()
        seconds.append(perf_counter() - began)
    return Figure(name, seconds, budget_ms)


def _measure_http(port: int) -> Figure:
    name = "GET /forecast/current"
    console.print(f"measuring: {name}")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    seconds = []
    for i in range(CALLS + CALLS // 10):
        began = perf_counter()
        connection.request("GET", f"/forecast/current?workload={WORKLOAD}")
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"/forecast/current answered {answer.status}")
        if i >= CALLS // 10:
            seconds.append(perf_counter() - began)
    connection.close()
    return Figure(name, seconds, None)


def _measure_grpc(name: str, way: str, *numbers: int) -> Figure:
    console.print(f"measuring: {name}")
    command = [sys.executable, "-m", "benchmarks.grpc_client", way, *map(str, numbers)]
    said = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=120)
    measured = json.loads(said.stdout)
    return Figure(name, measured["seconds"], GET_METRICS_MS, measured["elapsed"])


def _show(figures: list[Figure]) -> None:
    table = Table("what", "samples", "p50 ms", "p95 ms", "p99 ms", "budget p95", "met", "calls/s")
    for document in (figure.document() for figure in figures):
        met = {True: "yes", False: "no", None: "-"}[document["met"]]
        budget = "-" if document["budget_p95_ms"] is None else f"{document['budget_p95_ms']:g}"
        percentiles = [f"{document[key]:.2f}" for key in ("p50_ms", "p95_ms", "p99_ms")]
        rate = str(document.get("calls_per_second", "-"))
        table.add_row(document["name"], str(document["samples"]), *percentiles, budget, met, rate)
    console.print(table)


def main() -> int:
    """Measure, show, print; the exit code says whether measuring worked, not whether budgets were met."""
    try:
        machine = describe_machine(prometheus_version(find_program("prometheus")))
        figures = list(measure_all())
    except MissingProgramError as error:
        console.print(f"the benchmark cannot run: {error}")
        return MISSING
    _show(figures)
    document = {"machine": machine, "results": [figure.document() for figure in figures]}
    json.dump(document, sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
