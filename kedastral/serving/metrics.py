# SPDX-License-Identifier: Apache-2.0
"""Every metric of Kedastral: those that the code counts and times, then those computed at each scrape.

docs/metrics.md lists them all, and a test compares the two.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from time import perf_counter

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, PlatformCollector
from prometheus_client import ProcessCollector as _ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from kedastral import __version__
from kedastral.clock import WallClock
from kedastral.cooperative import call_in_trio, in_worker_thread, with_pauses
from kedastral.core.failures import Failure
from kedastral.core.forecast_status import StatusCode
from kedastral.core.planning.service_level import ServiceLevelReport
from kedastral.core.planning.snapshot import Snapshot, replicas_at
from kedastral.core.ports import SnapshotReader, WriteOutcome
from kedastral.errors import WorkloadError
from kedastral.logs import count_dropped_lines

FAST_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, from tenths of a millisecond for a plan to the 10 s that a source may take at most."""


@attrs.frozen(eq=False)
class Metrics:
    """The metrics of one process, with their own registry, so that a test can have two side by side."""

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
    scaler_seconds: Histogram = attrs.field(init=False)
    stale_answers: Counter = attrs.field(init=False)
    returned_replicas: Gauge = attrs.field(init=False)
    saved: Counter = attrs.field(init=False)
    saved_bytes: Counter = attrs.field(init=False)
    unsaved_states: Gauge = attrs.field(init=False)
    lost_states: Counter = attrs.field(init=False)

    @collect_seconds.default
    def _make_collect_seconds(self) -> Histogram:
        return self._histogram("kedastral_adapter_collect_seconds", "Time to read the load", "adapter")

    @predict_seconds.default
    def _make_predict_seconds(self) -> Histogram:
        return self._histogram("kedastral_model_predict_seconds", "Time to make a forecast", "model")

    @learn_seconds.default
    def _make_learn_seconds(self) -> Histogram:
        return self._histogram(
            "kedastral_model_learn_seconds", "Time to learn from a history, or the margin of a new lead time", "model"
        )

    @plan_seconds.default
    def _make_plan_seconds(self) -> Histogram:
        return self._histogram("kedastral_capacity_compute_seconds", "Time to plan replicas from a forecast")

    @errors.default
    def _make_errors(self) -> Counter:
        return self._counter(
            "kedastral_errors", "Failures of one workload, retried in its next cycle", "component", "reason"
        )

    @ticks_missed.default
    def _make_ticks_missed(self) -> Counter:
        return self._counter(
            "kedastral_ticks_missed", "Cycles skipped because the previous one took too long", "workload"
        )

    @tick_lag_seconds.default
    def _make_tick_lag_seconds(self) -> Histogram:
        return self._histogram("kedastral_tick_lag_seconds", "How late a cycle began")

    @reloads.default
    def _make_reloads(self) -> Counter:
        return self._counter("kedastral_config_reloads", "Times the configuration was read again", "result")

    @reload_worked.default
    def _make_reload_worked(self) -> Gauge:
        name, words = (
            "kedastral_config_last_reload_successful",
            "1 if the configuration could be read the last time, else 0",
        )
        gauge = Gauge(name, words, registry=self.registry)
        gauge.set(1)  # without files, nothing is outdated
        return gauge

    @scaler_requests.default
    def _make_scaler_requests(self) -> Counter:
        return self._counter("kedastral_scaler_requests", "gRPC calls answered", "method", "status")

    @scaler_seconds.default
    def _make_scaler_seconds(self) -> Histogram:
        return self._histogram(
            "kedastral_scaler_request_seconds", "Time to answer a gRPC call, streams excluded", "method"
        )

    @stale_answers.default
    def _make_stale_answers(self) -> Counter:
        return self._counter("kedastral_scaler_snapshot_stale", "Answers given while the snapshot was missing or stale")

    @returned_replicas.default
    def _make_returned_replicas(self) -> Gauge:
        name, words = (
            "kedastral_scaler_returned_replicas",
            "Replicas that KEDA was last told; unchanged while it gets an error or does not ask",
        )
        return Gauge(name, words, ("workload",), registry=self.registry)

    @saved.default
    def _make_saved(self) -> Counter:
        return self._counter("kedastral_kept_saves", "Times a workload's state or history was saved", "kind")

    @saved_bytes.default
    def _make_saved_bytes(self) -> Counter:
        return self._counter("kedastral_kept_bytes", "Bytes written to save states and histories", "kind")

    @unsaved_states.default
    def _make_unsaved_states(self) -> Gauge:
        words = "Workloads whose newest state has not been saved yet"
        return Gauge("kedastral_unsaved_states", words, registry=self.registry)

    @lost_states.default
    def _make_lost_states(self) -> Counter:
        words = "Times another pod took over a workload before its newest state was saved"
        return self._counter("kedastral_lost_states", words)

    def __attrs_post_init__(self) -> None:
        _ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(LogCollector())
        build = Gauge(
            "kedastral_build_info", "Always 1; the label says what runs", ("version",), registry=self.registry
        )
        build.labels(__version__).set(1)

    def _histogram(self, name: str, words: str, *labels: str) -> Histogram:
        return Histogram(name, words, labels, buckets=FAST_BUCKETS, registry=self.registry)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(name, words, labels, registry=self.registry)

    def count_error(self, error: WorkloadError) -> None:
        """Count an expected failure, and what followed, each under its component and reason."""
        for one in error.chain:
            self.errors.labels(one.component, one.reason).inc()

    def forget_workload(self, workload: str) -> None:
        """Stop showing ``workload``, which is gone."""
        for labelled in (self.ticks_missed, self.returned_replicas):
            with suppress(KeyError):  # older prometheus-clients raise if the labels are absent
                labelled.remove(workload)

    def show_failures(self, failing: Callable[[], Mapping[str, Failure]]) -> None:
        """Expose the failing workloads, which ``failing`` returns at each scrape."""
        self.registry.register(FailureCollector(failing))

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


class LogCollector(Collector):
    """Shows how many log lines were dropped."""

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        words = "Log lines dropped because earlier lines were not read in time or could not be written"
        yield CounterMetricFamily("kedastral_log_lines_dropped", words, value=count_dropped_lines())


@attrs.frozen(eq=False)
class FailureCollector(Collector):
    """Shows the workloads that fail at the scrape, from ``failing``: few, or all of them if a Prometheus is down."""

    failing: Callable[[], Mapping[str, Failure]]

    def describe(self) -> Iterable[Metric]:
        """See `Collector.describe`."""
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        family = self._family()
        for workload, failure in call_in_trio(self.failing).items():
            for one in failure.chain:
                family.add_metric((workload, one.component, one.reason), 1.0)
        return [family]

    @staticmethod
    def _family() -> GaugeMetricFamily:
        words = "1 while the newest cycle of a workload gave no forecast; absent for the others"
        return GaugeMetricFamily("kedastral_workload_failing", words, labels=("workload", "component", "reason"))


@attrs.frozen(eq=False)
class StorageMetrics:
    """The metrics of a process that shares its snapshots, in the registry of its other metrics."""

    registry: CollectorRegistry
    up: Gauge = attrs.field(init=False)
    pending: Gauge = attrs.field(init=False)
    writes: Counter = attrs.field(init=False)
    pods: Gauge = attrs.field(init=False)
    held: Gauge = attrs.field(init=False)

    @up.default
    def _make_up(self) -> Gauge:
        words = "1 if the storage answered the newest request, else 0"
        return Gauge("kedastral_storage_up", words, ("operation",), registry=self.registry)

    @pending.default
    def _make_pending(self) -> Gauge:
        words = "Forecasts that are not in the storage yet, at most one for each workload"
        return Gauge("kedastral_storage_pending_writes", words, registry=self.registry)

    @writes.default
    def _make_writes(self) -> Counter:
        words = "Forecasts that the storage kept or refused"
        return Counter("kedastral_storage_writes", words, ("outcome",), registry=self.registry)

    @pods.default
    def _make_pods(self) -> Gauge:
        words = "Pods that share the workloads, as far as this one knows; 0 while its lease has ended"
        return Gauge("kedastral_pods", words, registry=self.registry)

    @held.default
    def _make_held(self) -> Gauge:
        words = "Shared workloads that this pod forecasts"
        return Gauge("kedastral_workloads_held", words, registry=self.registry)

    def __attrs_post_init__(self) -> None:
        for outcome in WriteOutcome:
            self.writes.labels(outcome)


Value = tuple[str, tuple[str, ...], float]
"""The name of a metric, its labels after the workload's, and the value."""

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "kedastral_forecast_age_seconds": ("Age of the newest forecast", ()),
    "kedastral_desired_replicas": (
        "Replicas planned now, lead time and floor included; KEDA may be told another number",
        (),
    ),
    "kedastral_observed_load": ("The newest load that the newest forecast used", ()),
    "kedastral_settling_seconds": ("Age after which points of the query no longer change", ()),
    "kedastral_partial_answer": ("1 while the newest answer of the data source is partial, else 0", ()),
    "kedastral_outlier_points": ("Points of the history that the newest forecast left out as measurement faults", ()),
    "kedastral_raw_counter": ("1 while the query seems to return a raw counter and no load, else 0", ()),
    "kedastral_replicas_without_max": ("Replicas that the plan would ask for without --max; absent if no more", ()),
    "kedastral_lost_series": ("Series that disappeared from the sum with their load while the pods stayed", ()),
    "kedastral_forecast_load": ("Load that is forecast for now + lead time, as it will be measured then", ()),
    "kedastral_upper_load": ("Load that pods are planned for where kedastral_forecast_load is forecast", ()),
    "kedastral_forecast_status": ("1 for the status of the forecast, 0 for the others", ("status",)),
    "kedastral_steering_factor": ("Factor on the upper quantile, steered to meet the service level", ()),
    "kedastral_service_level_target": ("Share of minutes that must have enough pods", ()),
    "kedastral_budget_spent_ratio": (
        "Share of the error budget that is spent, over four weeks",
        (),
    ),
    "kedastral_short_minutes": ("Under-provisioned minutes, judged in hindsight, over four weeks", ()),
    "kedastral_short_minutes_at_max": ("Those of them in which --max allowed no more pods", ()),
    "kedastral_steering_at_cap": ("1 while the factor is at its maximum, else 0", ()),
    "kedastral_steering_hold_seconds": ("How long the pods of a past peak are kept", ()),
    "kedastral_steering_seasonal_quantile": (
        "The share of the last days whose load at this time gets its pods ahead",
        (),
    ),
    "kedastral_standing_down": ("1 while the plan falls back from the model's forecast to a naive one, else 0", ()),
    "kedastral_quantile_coverage_ratio": (
        "Share of windows whose maximum stayed below the upper quantile, recently",
        (),
    ),
    "kedastral_forecast_loss_ratio": ("Loss of the upper quantile relative to that of a naive forecast, recently", ()),
    "kedastral_lead_error_ratio": ("Error a lead time ahead relative to that of a naive forecast, recently", ()),
    "kedastral_expert_weight_ratio": ("How much an expert counts in the forecast a lead time ahead", ("expert",)),
    "kedastral_expert_error_ratio": (
        "Error of an expert a lead time ahead relative to that of a naive forecast, recently",
        ("expert",),
    ),
}
"""Help text and labels besides ``workload``; from `kedastral_steering_factor` on only if a service level is steered."""

COUNTERS = {
    "kedastral_needed_pod_seconds": "Pods that the load needed, judged in hindsight",
    "kedastral_unserved_pod_seconds": "Pods that the load needed but that were missing, judged in hindsight",
    "kedastral_spare_pod_seconds": "Ready pods that the load did not need, judged in hindsight",
    "kedastral_short_seconds": "Time short of pods, judged in hindsight",
}
"""They start with the process, or with what a store kept of it."""


@attrs.frozen(eq=False)
class SnapshotCollector(Collector):
    """Shows every snapshot that ``reader`` has, at the time of ``clock``."""

    reader: SnapshotReader
    clock: WallClock

    def describe(self) -> Iterable[Metric]:
        """See `Collector.describe`."""
        return _families().values()

    def collect(self) -> Iterable[Metric]:
        """See `Collector.collect`."""
        families, in_thread = _families(), in_worker_thread()
        snapshots, now = call_in_trio(self._read)
        for workload, snapshot in with_pauses(snapshots.items()) if in_thread else snapshots.items():
            for name, labels, value in _values(snapshot, now):
                families[name].add_metric((workload, *labels), value)
        if in_thread:
            for family in families.values():
                family.samples = _PausingSamples(family.samples)
        return families.values()

    def _read(self) -> tuple[Mapping[str, Snapshot], datetime]:
        return self.reader.newest(), self.clock.now()


class _PausingSamples(list[Sample]):
    """Samples that prometheus-client writes with pauses, so that KEDA is answered in between."""

    def __iter__(self) -> Iterator[Sample]:
        return with_pauses(super().__iter__())


def _families() -> dict[str, GaugeMetricFamily | CounterMetricFamily]:
    families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
        name: GaugeMetricFamily(name, words, labels=("workload", *labels)) for name, (words, labels) in GAUGES.items()
    }
    families.update({name: CounterMetricFamily(name, words, labels=("workload",)) for name, words in COUNTERS.items()})
    return families


def _values(snapshot: Snapshot, now: datetime) -> Iterator[Value]:
    outliers, lost = snapshot.findings.outliers, snapshot.findings.lost_series
    yield "kedastral_forecast_age_seconds", (), snapshot.age(now)
    yield "kedastral_desired_replicas", (), replicas_at(snapshot, now)
    if snapshot.observed is not None:
        yield "kedastral_observed_load", (), snapshot.observed.value
    yield "kedastral_settling_seconds", (), snapshot.quality.settling
    yield "kedastral_partial_answer", (), float(snapshot.quality.at_least is not None)
    yield "kedastral_outlier_points", (), float(outliers.points if outliers else 0)
    yield "kedastral_raw_counter", (), float(snapshot.findings.raw_counter)
    if snapshot.replicas_without_max is not None:
        yield "kedastral_replicas_without_max", (), snapshot.replicas_without_max
    yield "kedastral_lost_series", (), float(lost.lost if lost else 0)
    ahead = _step_measured_at(snapshot, now + timedelta(seconds=snapshot.lead_time))
    if ahead is not None:
        yield "kedastral_forecast_load", (), float(snapshot.forecast.values[ahead])
        if snapshot.service_level is not None:
            yield "kedastral_upper_load", (), _load_planned_for(snapshot.service_level, ahead)
    for status in StatusCode:
        yield "kedastral_forecast_status", (status,), float(snapshot.status.code is status)
    if snapshot.service_level is not None:
        yield "kedastral_standing_down", (), float(not snapshot.status.is_ok)
        yield from _service_level_values(snapshot.service_level)
    for expert in snapshot.forecast.experts_at(snapshot.lead_time):
        yield "kedastral_expert_weight_ratio", (expert.name,), expert.weight
        if expert.error is not None:
            yield "kedastral_expert_error_ratio", (expert.name,), expert.error


def _step_measured_at(snapshot: Snapshot, moment: datetime) -> int | None:
    """The step whose load will be the newest measured one at ``moment``: the last that has ended, or the first step."""
    forecast, ahead = snapshot.forecast, (moment - snapshot.made_at).total_seconds()
    return forecast.index_at(ahead if ahead < forecast.step else ahead - forecast.step)


def _load_planned_for(report: ServiceLevelReport, step: int) -> float:
    """The load that pods are planned for in a step: the raised upper quantile, but no more than the cap on load."""
    raised = float(report.upper[step]) * report.factor
    return raised if report.load_cap is None else min(raised, report.load_cap)


def _service_level_values(report: ServiceLevelReport) -> Iterator[Value]:
    model, last = report.state.uncertainty.model, report.state.uncertainty.last
    steering = report.state.steering
    yield "kedastral_steering_factor", (), report.factor
    if report.level is not None:
        yield "kedastral_service_level_target", (), report.level
    yield "kedastral_budget_spent_ratio", (), report.budget_spent
    yield "kedastral_short_minutes", (), steering.minutes_short
    yield "kedastral_short_minutes_at_max", (), steering.minutes_at_max
    yield "kedastral_steering_at_cap", (), float(report.is_factor_at_max)
    yield "kedastral_steering_hold_seconds", (), report.peak_hold or 0.0
    yield "kedastral_steering_seasonal_quantile", (), report.seasonal_quantile or 0.0
    yield "kedastral_quantile_coverage_ratio", (), model.coverage[0]
    if last.pinball_loss > 0:
        yield "kedastral_forecast_loss_ratio", (), model.pinball_loss / last.pinball_loss
    if last.lead_error > 0:
        yield "kedastral_lead_error_ratio", (), model.lead_error / last.lead_error
    yield "kedastral_needed_pod_seconds", (), steering.account.needed * 60
    yield "kedastral_unserved_pod_seconds", (), steering.account.unserved * 60
    yield "kedastral_spare_pod_seconds", (), steering.account.spare * 60
    yield "kedastral_short_seconds", (), steering.account.short * 60
