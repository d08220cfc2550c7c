# SPDX-License-Identifier: Apache-2.0
"""`SnapshotCollector`: what the newest snapshots say of themselves, as metrics computed at each scrape."""

import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kedastral.clock import WallClock
from kedastral.core.ports import SnapshotReader
from kedastral.core.serving import replicas_at
from kedastral.core.snapshot import Snapshot
from kedastral.core.standing import Status
from kedastral.core.steered import SteeredReport
from kedastral.scrape_thread import in_worker_thread, look_from_here

AT_ONCE, REST = 20, 0.001
"""Workloads looked at, and samples written, before a rest, and its seconds: KEDA's calls are answered while a thousand
workloads are shown."""

Sample = tuple[str, tuple[str, ...], float]
"""The name of a metric, its labels after the workload's, and the value."""

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "kedastral_forecast_age_seconds": ("Age of the newest forecast", ()),
    "kedastral_desired_replicas": ("Replicas wanted now, by the plan", ()),
    "kedastral_observed_load": ("The newest load that the newest forecast saw", ()),
    "kedastral_forecast_load": ("Load that is forecast for now + lead time", ()),
    "kedastral_forecast_status": ("1 for the status that the forecast has, 0 for the others", ("status",)),
    "kedastral_steering_factor": ("Factor on the upper quantile that the service level is steered with", ()),
    "kedastral_service_level_target": ("Share of minutes that is to have enough pods", ()),
    "kedastral_budget_spent_ratio": (
        "Share of the minutes that may be short of pods that is spent, over four weeks",
        (),
    ),
    "kedastral_short_minutes": ("Minutes judged short of pods in hindsight, over four weeks", ()),
    "kedastral_steering_at_cap": ("1 while the factor is as high as it goes, else 0", ()),
    "kedastral_steering_hold_seconds": ("How long the pods of a load that has gone are kept", ()),
    "kedastral_standing_down": ("1 while something else than the model's forecast is planned for, else 0", ()),
    "kedastral_quantile_coverage_ratio": (
        "Share of windows whose maximum stayed below the upper quantile, of late",
        (),
    ),
    "kedastral_forecast_loss_ratio": ("Loss of the upper quantile relative to that of the last value, of late", ()),
    "kedastral_lead_error_ratio": ("Error a lead time ahead relative to that of the last value, of late", ()),
    "kedastral_expert_weight_ratio": ("How much an expert counts in the forecast a lead time ahead", ("expert",)),
    "kedastral_expert_error_ratio": (
        "Error of an expert a lead time ahead relative to that of the last value, of late",
        ("expert",),
    ),
}
"""Words and labels beside ``workload``; from `kedastral_steering_factor` on only where a service level is steered."""

COUNTERS = {
    "kedastral_needed_pod_seconds": "Pods that the load needed, judged in hindsight",
    "kedastral_unserved_pod_seconds": "Pods that the load needed and were not there, judged in hindsight",
    "kedastral_spare_pod_seconds": "Pods that were there and the load did not need, judged in hindsight",
}
"""They begin with the process, or with what a store kept of it."""


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
        families, apart = _families(), in_worker_thread()
        snapshots, now = look_from_here(self._look)
        for number, (workload, snapshot) in enumerate(snapshots.items()):
            if apart and number % AT_ONCE == 0:
                time.sleep(REST)
            for name, labels, value in _samples(snapshot, now):
                families[name].add_metric((workload, *labels), value)
        if apart:
            for family in families.values():
                family.samples = _Unhurried(family.samples)
        return families.values()

    def _look(self) -> tuple[Mapping[str, Snapshot], datetime]:
        return self.reader.newest(), self.clock.now()


class _Unhurried(list[Any]):
    """Samples that leave the interpreter to the event loop again and again while they are written."""

    def __iter__(self) -> Iterator[Any]:
        for number, sample in enumerate(super().__iter__()):
            if number % AT_ONCE == 0:
                time.sleep(REST)
            yield sample


def _families() -> dict[str, GaugeMetricFamily | CounterMetricFamily]:
    families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {
        name: GaugeMetricFamily(name, words, labels=("workload", *labels)) for name, (words, labels) in GAUGES.items()
    }
    families.update({name: CounterMetricFamily(name, words, labels=("workload",)) for name, words in COUNTERS.items()})
    return families


def _samples(snapshot: Snapshot, now: datetime) -> Iterator[Sample]:
    yield "kedastral_forecast_age_seconds", (), snapshot.age(now)
    yield "kedastral_desired_replicas", (), replicas_at(snapshot, now)
    if snapshot.observed is not None:
        yield "kedastral_observed_load", (), snapshot.observed.value
    ahead = snapshot.forecast.value_at((now - snapshot.made_at).total_seconds() + snapshot.lead_time)
    if ahead is not None:
        yield "kedastral_forecast_load", (), ahead
    for status in Status:
        yield "kedastral_forecast_status", (status,), float(snapshot.standing.status is status)
    if snapshot.steered is not None:
        yield "kedastral_standing_down", (), float(not snapshot.standing.is_ok)
        yield from _steered_samples(snapshot.steered)
    for expert in snapshot.forecast.experts_at(snapshot.lead_time):
        yield "kedastral_expert_weight_ratio", (expert.name,), expert.weight
        if expert.error is not None:
            yield "kedastral_expert_error_ratio", (expert.name,), expert.error


def _steered_samples(steered: SteeredReport) -> Iterator[Sample]:
    model, last = steered.state.uncertainty.model, steered.state.uncertainty.last
    steering = steered.state.steering
    yield "kedastral_steering_factor", (), steered.factor
    if steered.service_level is not None:
        yield "kedastral_service_level_target", (), steered.service_level
    yield "kedastral_budget_spent_ratio", (), steered.budget_spent
    yield "kedastral_short_minutes", (), steering.minutes_short
    yield "kedastral_steering_at_cap", (), float(steered.at_cap)
    yield "kedastral_steering_hold_seconds", (), steered.hold or 0.0
    yield "kedastral_quantile_coverage_ratio", (), model.covered[0]
    if last.loss > 0:
        yield "kedastral_forecast_loss_ratio", (), model.loss / last.loss
    if last.error > 0:
        yield "kedastral_lead_error_ratio", (), model.error / last.error
    yield "kedastral_needed_pod_seconds", (), steering.account.needed * 60
    yield "kedastral_unserved_pod_seconds", (), steering.account.unserved * 60
    yield "kedastral_spare_pod_seconds", (), steering.account.spare * 60
