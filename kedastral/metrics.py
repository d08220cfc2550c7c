# SPDX-License-Identifier: Apache-2.0
"""Every metric but those of snapshots and failures: names, labels, meaning; docs/metrics.md lists them, tests check."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from time import perf_counter

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, PlatformCollector
from prometheus_client import ProcessCollector as _ProcessCollector

from kedastral import __version__
from kedastral.clock import WallClock
from kedastral.core.failure import Failure
from kedastral.core.ports import SnapshotReader
from kedastral.errors import WorkloadError
from kedastral.failure_metrics import FailureCollector
from kedastral.snapshot_metrics import SnapshotCollector

FAST_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, from a plan's tenths of a millisecond to the 10 s that a source may take at most."""


@attrs.frozen(eq=False)
class Metrics:
    """The metrics of one process; a registry of its own, so that two can live side by side in a test."""

    registry: CollectorRegistry = attrs.field(factory=lambda: CollectorRegistry(auto_describe=True))
    collect_seconds: Histogram = attrs.field(init=False)
    predict_seconds: Histogram = attrs.field(init=False)
    learn_seconds: Histogram = attrs.field(init=False)
    plan_seconds: Histogram = attrs.field(init=False)
    errors: Counter = attrs.field(init=False)
    ticks_missed: Counter = attrs.field(init=False)
    tick_lag_seconds: Histogram = attrs.field(init=False)
    reloads: Counter = attrs.field(init=False)
    reload_worked: Gauge = attrs.field(init=False)
    scaler_requests: Counter = attrs.field(init=False)
    stale_answers: Counter = attrs.field(init=False)
    returned_replicas: Gauge = attrs.field(init=False)

    @collect_seconds.default
    def _make_collect_seconds(self) -> Histogram:
        return self._histogram("kedastral_adapter_collect_seconds", "Time to read the load", "adapter")

    @predict_seconds.default
    def _make_predict_seconds(self) -> Histogram:
        return self._histogram("kedastral_model_predict_seconds", "Time to make a forecast", "model")

    @learn_seconds.default
    def _make_learn_seconds(self) -> Histogram:
        return self._histogram("kedastral_model_learn_seconds", "Time to learn from a history first", "model")

    @plan_seconds.default
    def _make_plan_seconds(self) -> Histogram:
        return self._histogram("kedastral_capacity_compute_seconds", "Time to plan replicas from a forecast")

    @errors.default
    def _make_errors(self) -> Counter:
        return self._counter(
            "kedastral_errors", "Failures of one workload, retried at its next tick", "component", "reason"
        )

    @ticks_missed.default
    def _make_ticks_missed(self) -> Counter:
        return self._counter("kedastral_ticks_missed", "Beats skipped because a tick took too long", "workload")

    @tick_lag_seconds.default
    def _make_tick_lag_seconds(self) -> Histogram:
        return self._histogram("kedastral_tick_lag_seconds", "How long after its beat a tick began")

    @reloads.default
    def _make_reloads(self) -> Counter:
        return self._counter("kedastral_config_reloads", "Times the configuration was read again", "result")

    @reload_worked.default
    def _make_reload_worked(self) -> Gauge:
        name, words = "kedastral_config_last_reload_successful", "Whether the configuration could be read the last time"
        gauge = Gauge(name, words, registry=self.registry)
        gauge.set(1)  # where there are no files, nothing is older than they are
        return gauge

    @scaler_requests.default
    def _make_scaler_requests(self) -> Counter:
        return self._counter("kedastral_scaler_requests", "gRPC calls answered", "method", "status")

    @stale_answers.default
    def _make_stale_answers(self) -> Counter:
        return self._counter("kedastral_scaler_snapshot_stale", "Answers given while the snapshot was missing or stale")

    @returned_replicas.default
    def _make_returned_replicas(self) -> Gauge:
        name, words = "kedastral_scaler_returned_replicas", "The last number of replicas given to KEDA"
        return Gauge(name, words, ("workload",), registry=self.registry)

    def __attrs_post_init__(self) -> None:
        _ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        build = Gauge(
            "kedastral_build_info", "Always 1; the label says what runs", ("version",), registry=self.registry
        )
        build.labels(__version__).set(1)

    def _histogram(self, name: str, words: str, *labels: str) -> Histogram:
        return Histogram(name, words, labels, buckets=FAST_BUCKETS, registry=self.registry)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(name, words, labels, registry=self.registry)

    def count_error(self, error: WorkloadError) -> None:
        """Count an expected failure under its component and reason."""
        self.errors.labels(error.component, error.reason).inc()

    def forget_workload(self, workload: str) -> None:
        """Show nothing more of ``workload``, which is gone."""
        for labelled in (self.ticks_missed, self.returned_replicas):
            with suppress(KeyError):  # older prometheus-clients mind what is not there
                labelled.remove(workload)

    def show_failures(self, look: Callable[[], Mapping[str, Failure]]) -> None:
        """Expose the workloads that fail, which ``look`` gives at each scrape."""
        self.registry.register(FailureCollector(look))

    def show_snapshots(self, reader: SnapshotReader, clock: WallClock) -> None:
        """Expose age and replicas of every snapshot that ``reader`` has, computed at each scrape."""
        self.registry.register(SnapshotCollector(reader, clock))


@contextmanager
def observe_seconds(observe: Callable[[float], None]) -> Iterator[None]:
    """Time the block, however it ends."""
    began = perf_counter()
    try:
        yield
    finally:
        observe(perf_counter() - began)
