# SPDX-License-Identifier: Apache-2.0
"""Collects the results of a backtest, and writes them as JSON and as a CSV timeline."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

import attrs
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override

from kedastral.backtest.accuracy import Accuracy, measure_accuracy
from kedastral.backtest.comparison import (
    KEDASTRAL,
    LAST_WEEK,
    HpaComparison,
    PolicyComparison,
    PolicyResult,
    average_results,
    results_of,
)
from kedastral.backtest.shortages import Shortage, find_worst
from kedastral.backtest.slo import SloResult, slo_result_of
from kedastral.backtest.verdict import Verdict, judge
from kedastral.backtest.workloads import FailedWorkload
from kedastral.simulation.curves import Point
from kedastral.simulation.replay import Outcome
from kedastral.simulation.trial import MetricsPipeline
from kedastral.wire import camel_case, write_time


@attrs.frozen
class WorkloadResults:
    """One workload: each policy's result, the verdict, the accuracy of the forecasts and the worst shortages.

    ``slo`` is the result of the service level; None with a headroom.
    """

    comparison: PolicyComparison = attrs.field(repr=False)
    policies: tuple[PolicyResult, ...]
    verdict: Verdict
    accuracy: Accuracy
    worst: tuple[Shortage, ...]
    slo: SloResult | None = None

    @property
    def name(self) -> str:
        """The workload's name."""
        return self.comparison.scenario.name

    @property
    def kedastral(self) -> PolicyResult:
        """The result of Kedastral, at the settings given."""
        return next(result for result in self.policies if result.policy.name == KEDASTRAL)


@attrs.frozen
class BacktestResults:
    """Each workload, and all of them together. If their settings differ, ``policies`` is empty and ``verdict`` None.

    ``failed`` has the workloads that could not be replayed.
    """

    workloads: tuple[WorkloadResults, ...]
    policies: tuple[PolicyResult, ...]
    verdict: Verdict | None
    failed: tuple[FailedWorkload, ...] = ()


def evaluate(comparisons: Sequence[PolicyComparison], failed: Sequence[FailedWorkload] = ()) -> BacktestResults:
    """The results of one or more workloads; ``failed`` has those without results."""
    workloads = tuple(_evaluate_workload(comparison) for comparison in comparisons)
    if len(workloads) == 1:
        return BacktestResults(workloads, workloads[0].policies, workloads[0].verdict, tuple(failed))
    if not _are_alike(comparisons):
        return BacktestResults(workloads, (), None, tuple(failed))
    shared = set.intersection(*({one.policy.name for one in workload.policies} for workload in workloads))
    together = tuple(
        average_results([[one for one in each.policies if one.policy.name in shared] for each in workloads])
    )
    return BacktestResults(workloads, together, judge(together, comparisons), tuple(failed))


def _are_alike(comparisons: Sequence[PolicyComparison]) -> bool:
    """Whether one verdict can cover all: the same policies and settings, the same model and lead time.

    A trigger on last week's load may be missing where the history is too short for it.
    """
    settings = {
        (
            tuple(one.policy for one in comparison.replayed if one.policy.name != LAST_WEEK),
            comparison.scenario.model.name,
            comparison.scenario.settings.serving.lead_time,
        )
        for comparison in comparisons
    }
    return len(settings) == 1


def _evaluate_workload(comparison: PolicyComparison) -> WorkloadResults:
    results = results_of(comparison)
    return WorkloadResults(
        comparison,
        tuple(results),
        judge(results, [comparison]),
        measure_accuracy(comparison.scenario),
        tuple(find_worst(comparison.scenario, comparison.kedastral.shown)),
        slo_result_of(comparison),
    )


TIMELINE = ("timestamp", "policy", "demand", "recommended", "ordered", "ready", "unserved", "workload")


def write_timeline(results: BacktestResults) -> str:
    """One row for each step that counts, policy and workload, at the setting that the tables show, with the oracle."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(TIMELINE)
    for workload in results.workloads:
        for one in workload.comparison.replayed:
            writer.writerows(_timeline_rows(one.shown, one.policy.short_label, workload.name))
        writer.writerows(_timeline_rows(workload.comparison.oracle, "oracle", workload.name))
    return text.getvalue()


def _timeline_rows(outcome: Outcome, policy: str, workload: str) -> Iterator[list[str]]:
    supply = outcome.supply
    arrays = (outcome.demand.values, supply.recommended, supply.ordered, supply.ready, supply.unserved)
    for i, values in enumerate(zip(*(array.tolist() for array in arrays), strict=True)):
        if outcome.counted[i]:
            yield [write_time(outcome.demand.time_at(i)), policy, *map(_write_number, values), workload]


def _write_number(value: float) -> str:
    """The shortest text that reads back as the same number; empty for NaN."""
    return "" if math.isnan(value) else repr(value).removesuffix(".0")


@attrs.frozen(kw_only=True)
class _PolicyDocument:
    policy: str
    knob: str
    setting: float
    cost_against_oracle: float
    unserved: float
    violation: float
    violation_minutes: float
    pod_hours: float
    scale_events: int
    against_hpa80: HpaComparison
    curve: tuple[Point, ...]


@attrs.frozen(kw_only=True)
class _SloDocument:
    service_level: float
    reached: float
    kept: bool
    minutes_short: float
    minutes_judged: float
    budget_minutes: float
    highest_level_kept: float | None


@attrs.frozen(kw_only=True)
class _HorizonDocument:
    ahead_seconds: float
    wape: float
    wape_of_last_value: float


@attrs.frozen(kw_only=True)
class _AccuracyDocument:
    wape_against_last_value: float
    horizons: tuple[_HorizonDocument, ...]


@attrs.frozen(kw_only=True)
class _PipelineDocument:
    late_seconds: float
    noise: float


@attrs.frozen(kw_only=True)
class _LeftOutDocument:
    policy: str
    reason: str


@attrs.frozen(kw_only=True)
class _WorkloadDocument:
    workload: str
    judged_from: datetime
    judged_until: datetime
    step_seconds: float
    target_per_pod: float
    lead_time_seconds: float
    min_replicas: int
    max_replicas: int
    oracle_pod_hours: float
    metrics_pipeline: _PipelineDocument | None = None
    gap_steps: int = 0
    minutes_not_judged: float = 0.0
    left_out: tuple[_LeftOutDocument, ...] = ()
    verdict: Verdict
    slo: _SloDocument | None
    policies: tuple[_PolicyDocument, ...]
    accuracy: _AccuracyDocument
    worst: tuple[Shortage, ...]


@attrs.frozen(kw_only=True)
class _BacktestDocument:
    """The JSON document: its fields in order, written in camelCase. NaN and infinity become null."""

    verdict: Verdict | None
    policies: tuple[_PolicyDocument, ...]
    workloads: tuple[_WorkloadDocument, ...]
    failed: tuple[FailedWorkload, ...]


def write_json(results: BacktestResults) -> str:
    """Every figure; null if there is none, such as a ratio out of reach or a joint verdict on unlike workloads."""
    document = _BacktestDocument(
        verdict=results.verdict,
        policies=tuple(map(_policy_document, results.policies)),
        workloads=tuple(map(_workload_document, results.workloads)),
        failed=results.failed,
    )
    return json.dumps(_converter.unstructure(document), indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def _workload_document(workload: WorkloadResults) -> _WorkloadDocument:
    comparison = workload.comparison
    trial, settings = comparison.scenario.trial, comparison.scenario.settings
    return _WorkloadDocument(
        workload=workload.name,
        judged_from=trial.judged.start,
        judged_until=trial.judged.time_at(len(trial.judged)),
        step_seconds=trial.demand.step,
        target_per_pod=trial.target_per_pod,
        lead_time_seconds=settings.cluster.lead_time,
        min_replicas=settings.plan.bounds.min,
        max_replicas=settings.plan.bounds.max,
        oracle_pod_hours=comparison.oracle.pod_hours,
        metrics_pipeline=_pipeline_document(trial.pipeline),
        gap_steps=trial.gaps,
        minutes_not_judged=comparison.minutes_not_judged,
        left_out=(_LeftOutDocument(policy=LAST_WEEK, reason=reason),) if (reason := comparison.left_out) else (),
        verdict=workload.verdict,
        slo=None if workload.slo is None else _slo_document(workload.slo),
        policies=tuple(map(_policy_document, workload.policies)),
        accuracy=_accuracy_document(workload.accuracy),
        worst=workload.worst,
    )


def _pipeline_document(pipeline: MetricsPipeline) -> _PipelineDocument | None:
    return None if pipeline.is_perfect else _PipelineDocument(late_seconds=pipeline.late, noise=pipeline.noise)


def _policy_document(result: PolicyResult) -> _PolicyDocument:
    return _PolicyDocument(
        policy=result.policy.name,
        knob=result.policy.knob,
        setting=result.policy.shown,
        cost_against_oracle=result.point.cost,
        unserved=result.point.unserved,
        violation=result.point.violation,
        violation_minutes=result.minutes,
        pod_hours=result.pod_hours,
        scale_events=result.point.scale_events,
        against_hpa80=result.against_hpa,
        curve=result.points,
    )


def _slo_document(slo: SloResult) -> _SloDocument:
    return _SloDocument(
        service_level=slo.level,
        reached=slo.reached,
        kept=slo.is_kept,
        minutes_short=slo.short,
        minutes_judged=slo.judged,
        budget_minutes=slo.budget,
        highest_level_kept=slo.highest_kept,
    )


def _accuracy_document(accuracy: Accuracy) -> _AccuracyDocument:
    by_step = zip(accuracy.ahead.tolist(), accuracy.model.tolist(), accuracy.last_value.tolist(), strict=True)
    horizons = (
        _HorizonDocument(ahead_seconds=ahead, wape=ours, wape_of_last_value=naive) for ahead, ours, naive in by_step
    )
    return _AccuracyDocument(wape_against_last_value=accuracy.ratio, horizons=tuple(horizons))


def _make_converter() -> Converter:
    converter = Converter()

    def write_camel_case(document: type[attrs.AttrsInstance]) -> Callable[[attrs.AttrsInstance], dict[str, Any]]:
        write = make_dict_unstructure_fn(document, converter, _cattrs_omit_if_default=document is _WorkloadDocument)
        return lambda value: {camel_case(name): item for name, item in write(value).items()}

    converter.register_unstructure_hook_factory(attrs.has, write_camel_case)
    converter.register_unstructure_hook(
        Point,
        make_dict_unstructure_fn(
            Point,
            converter,
            knob=override(rename="setting"),
            cost=override(rename="costAgainstOracle"),
            scale_events=override(omit=True),
        ),
    )
    converter.register_unstructure_hook(datetime, write_time)
    converter.register_unstructure_hook(float, lambda value: value if math.isfinite(value) else None)
    return converter


_converter = _make_converter()
