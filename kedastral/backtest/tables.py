# SPDX-License-Identifier: Apache-2.0
"""Writes results as the cells and captions of tables, the same in the terminal and in the report."""

import math
from collections.abc import Iterable

from kedastral.backtest.comparison import PolicyResult
from kedastral.backtest.results import BacktestResults, WorkloadResults
from kedastral.backtest.verdict import show_minutes, show_percent
from kedastral.settings.types import write_duration
from kedastral.simulation.trial import Trial

FIGURES = (
    "cost / oracle",
    "unserved %",
    "minutes short",
    "pod-hours",
    "scale events",
    "unserved x",
    "minutes x",
    "cost x",
)
"""The columns of every table, after the name of its row."""
Row = tuple[str, ...]
"""The name of a row, and a cell for each of `FIGURES`."""
AS_SET = "Each policy at its own setting; the verdict compares them at equal cost"
"""Belongs beside every table: two of its rows differ in cost and in service at once."""
FOOT = (
    "unserved x, minutes x: the policy at the pod-hours of the HPA at 80 %, as ratios to that HPA's figures; cost x: "
    "the pod-hours it needs to be short in no more minutes, as a ratio. Below 1 is better; - means that no setting "
    "gets there."
)
OF_EACH = "Kedastral on each workload, with its own settings"
"""The title of the table with one row for each workload."""
NOT_ALIKE = "The workloads have different settings, so there is no joint verdict: each has its own."


def describe_pipeline(trial: Trial) -> str:
    """What `--late` and `--noise` did to the load that policies saw; empty where they are not set."""
    pipeline = trial.pipeline
    if pipeline.is_perfect:
        return ""
    late = f"{write_duration(pipeline.late)} late" if pipeline.late else "at once"
    noise = f"with {pipeline.noise * 100:g} % of noise" if pipeline.noise else "without noise"
    return f"policies see the load {late} and {noise}; minutes short are those of the load itself"


def policy_rows(results: Iterable[PolicyResult]) -> list[Row]:
    """One row for each policy."""
    return [(result.policy.label, *_cells(result)) for result in results]


def rows_of_one(workload: WorkloadResults) -> list[Row]:
    """The table of one workload: every policy, and the oracle, which is not compared with the HPA."""
    oracle = workload.comparison.oracle
    cells = (
        "1.000",
        f"{oracle.unserved_share * 100:.3f}",
        f"{oracle.violation_minutes:,.0f}",
        f"{oracle.pod_hours:,.0f}",
        f"{oracle.scale_events:,}",
    )
    return [*policy_rows(workload.policies), ("oracle (sees the future)", *cells, "", "", "")]


def rows_of_each(results: BacktestResults) -> list[Row]:
    """The table of several workloads: Kedastral on each, and the reason for each that could not be replayed."""
    failed = [(f"{one.workload} was not replayed: {one.reason}", *("-" for _ in FIGURES)) for one in results.failed]
    return [*((_name_with_setting(one), *_cells(one.kedastral)) for one in results.workloads), *failed]


def _name_with_setting(workload: WorkloadResults) -> str:
    policy, slo = workload.kedastral.policy, workload.slo
    name = f"{workload.name}, {policy.knob} {policy.shown:g}"
    if slo is None:
        return name
    return f"{name}: {show_percent(slo.reached)} % reached, budget {show_minutes(slo.budget)} min"


def _cells(result: PolicyResult) -> Row:
    point, ratios = result.point, result.against_hpa
    return (
        f"{point.cost:.3f}",
        f"{point.unserved * 100:.3f}",
        f"{result.minutes:,.0f}",
        f"{result.pod_hours:,.0f}",
        f"{point.scale_events:,}",
        _show_ratio(ratios.unserved_at_equal_cost),
        _show_ratio(ratios.violation_at_equal_cost),
        _show_ratio(ratios.cost_at_equal_violation),
    )


def _show_ratio(ratio: float) -> str:
    """Two digits; a dash for what is out of reach."""
    return f"{ratio:.2f}" if math.isfinite(ratio) else "-"
