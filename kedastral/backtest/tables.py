# SPDX-License-Identifier: Apache-2.0
"""Writes results as table cells and captions, the same in the terminal and in the report."""

from collections.abc import Iterable, Sequence

from kedastral.backtest.comparison import FIXED, HPA, KEDASTRAL, PolicyComparison, PolicyResult
from kedastral.backtest.results import BacktestResults, WorkloadResults
from kedastral.backtest.totals import JudgedPoints, Totals, judged_points, totals_of
from kedastral.backtest.verdict import NamedSetting, Role, is_steered
from kedastral.backtest.wording import (
    change_of,
    name_knob,
    name_share,
    show_change,
    show_minutes,
    show_percent,
    show_unserved,
)
from kedastral.core.data_quality.settling import outlasts_a_missing_value
from kedastral.core.series import MINUTE
from kedastral.settings.types import write_duration
from kedastral.simulation.curves import Figure, Point
from kedastral.simulation.trial import Trial

FIGURES = (
    "pod-hours",
    "vs HPA",
    "minutes short",
    "vs HPA",
    "unserved %",
    "vs HPA",
    "scale events",
    "pod-hours / oracle",
)
"""The columns of every table, after the name of its row."""
Row = tuple[str, ...]
"""The name of a row, and a cell for each of `FIGURES`."""
AS_SET = "One replay a row; every figure of the verdict is that of a row"
"""The caption of every table."""
FOOT = (
    "vs HPA: the difference to the row 'compared with', the plain HPA at its usual target. Minutes short: with more "
    "load than the ready pods sustain. Unserved: load for which there was no pod. The oracle sees the future and "
    "orders what will be needed."
)
OF_EACH = "Kedastral on each workload, with its own settings"
"""The title of the table with one row for each workload."""
NOT_ALIKE = "The workloads have different settings, so there is no joint verdict: each has its own."


def describe_pipeline(trial: Trial) -> str:
    """What `--late` and `--noise` did to the load that policies saw; empty if neither is set."""
    pipeline = trial.pipeline
    if pipeline.is_perfect:
        return ""
    late = f"{write_duration(pipeline.late)} late" if pipeline.late else "at once"
    noise = f"with {pipeline.noise * 100:g} % of noise" if pipeline.noise else "without noise"
    return f"policies see the load {late} and {noise}; minutes short are those of the load itself"


def describe_gaps(comparison: PolicyComparison) -> str:
    """How much of the judged part gaps leave out; empty if there is none."""
    judged, gaps, left_out = comparison.oracle.demand, comparison.scenario.trial.gaps, comparison.minutes_not_judged
    if not left_out:
        return ""
    minutes = f"{show_minutes(left_out)} of {len(judged) * judged.step / MINUTE:,.0f} minutes do not count"
    if not gaps:
        return f"{minutes}: their pods had to be ordered in a gap before"
    return (
        f"{gaps:,} of {len(judged):,} judged steps were gaps, in which policies saw no load. {minutes}: the gaps, and "
        "the steps whose pods had to be ordered in one"
    )


def describe_stale(comparison: PolicyComparison) -> str:
    """Whether a single missing step already stops forecasts; empty if not, or if no judged step is missing."""
    trial, stale_after = comparison.scenario.trial, comparison.scenario.settings.serving.stale.stale_after
    if not trial.gaps or outlasts_a_missing_value(stale_after, trial.demand.step):
        return ""
    step = write_duration(trial.demand.step)
    return (
        f"--stale-after ({write_duration(stale_after)}) is shorter than a step of the history ({step}), so that one "
        f"missing step stops forecasts until the next, here as in run with such a step; from {step} on it does not"
    )


def describe_left_out(comparison: PolicyComparison) -> str:
    """Which policy is not compared, and why; empty if none is left out."""
    reason = comparison.left_out
    return f"last week + HPA is not compared: {reason}" if reason else ""


def policy_rows(
    policies: Sequence[PolicyResult], named: Sequence[NamedSetting], judged: Sequence[JudgedPoints]
) -> list[Row]:
    """A row for each policy at its own setting, and one for each other setting that the verdict names."""
    hpa = _reference(policies, named)
    rows: list[Row] = []
    for result in policies:
        roles = _roles_of(result.policy.name, named)
        for setting in sorted({result.policy.shown, *roles}, key=lambda one: (one != result.policy.shown, one)):
            label = result.policy.label if setting == result.policy.shown else _label(result, setting, policies)
            role = f" ({', '.join(roles[setting])})" if setting in roles else ""
            point = next(point for point in result.points if point.knob == setting)
            rows.append((label + role, *_cells(point, totals_of(judged, result.policy.name, setting), hpa)))
    return rows


def rows_of_one(workload: WorkloadResults) -> list[Row]:
    """The table of one workload: every policy, and the oracle."""
    oracle = workload.comparison.oracle
    point = Point(1.0, 1.0, oracle.unserved_share, oracle.violation_share, oracle.scale_events)
    totals = Totals(oracle.pod_hours, oracle.violation_minutes)
    named = workload.verdict.named
    rows = policy_rows(workload.policies, named, [judged_points(workload.comparison)])
    return [*rows, ("oracle (sees the future)", *_cells(point, totals, _reference(workload.policies, named)))]


def rows_of_all(results: BacktestResults) -> list[Row]:
    """The table of several workloads together. There must be a joint verdict."""
    assert results.verdict is not None  # noqa: S101 - only called with one
    judged = [judged_points(one.comparison) for one in results.workloads]
    return policy_rows(results.policies, results.verdict.named, judged)


def rows_of_each(results: BacktestResults) -> list[Row]:
    """The table of several workloads: Kedastral on each, and the reason for each that could not be replayed."""
    failed = [(f"{one.workload} was not replayed: {one.reason}", *("-" for _ in FIGURES)) for one in results.failed]
    return [*map(_row_of_each, results.workloads), *failed]


def _row_of_each(workload: WorkloadResults) -> Row:
    policy, slo = workload.kedastral.policy, workload.slo
    name = f"{workload.name}, {policy.knob} {policy.shown:g}"
    if slo is not None:
        name = f"{name}: {show_percent(slo.reached)} % reached, error budget {show_minutes(slo.budget)} min"
    totals = totals_of([judged_points(workload.comparison)], KEDASTRAL, policy.shown)
    return (name, *_cells(workload.kedastral.point, totals, _reference(workload.policies, workload.verdict.named)))


def _reference(policies: Iterable[PolicyResult], named: Sequence[NamedSetting]) -> Point:
    """The point of the plain HPA that all are compared with."""
    setting = next(one.setting for one in named if one.role is Role.COMPARED)
    hpa = next(result for result in policies if result.policy.name == HPA)
    return next(point for point in hpa.points if point.knob == setting)


def _roles_of(policy: str, named: Sequence[NamedSetting]) -> dict[float, list[str]]:
    roles: dict[float, list[str]] = {}
    for one in named:
        if one.policy == policy:
            roles.setdefault(one.setting, []).append(one.role)
    return roles


def _label(result: PolicyResult, setting: float, policies: Sequence[PolicyResult]) -> str:
    """The label of a policy at a setting other than its own."""
    policy = result.policy
    if policy.name == KEDASTRAL:
        return f"{policy.title}, {name_knob(setting, steered=is_steered(policies))} {setting:g}"
    if policy.name == FIXED:
        return f"{policy.title} at {name_share(setting)}"
    return f"{policy.title} at {setting * 100:g} %"


def _cells(point: Point, totals: Totals, hpa: Point) -> Row:
    violation, unserved = (show_change(change_of(point, hpa, one)) for one in (Figure.VIOLATION, Figure.UNSERVED))
    return (
        f"{totals.pod_hours:,.0f}",
        show_change(point.cost / hpa.cost),
        f"{totals.minutes:,.0f}",
        violation,
        show_unserved(point),
        unserved,
        f"{point.scale_events:,}",
        f"{point.cost:.3f}",
    )
