# SPDX-License-Identifier: Apache-2.0
"""The figures of a policy as the cells of a table, the same in the terminal and in the report."""

import math

from kedastral.backtest.comparison import Standing
from kedastral.backtest.contest import Contestant
from kedastral.backtest.promise import show_minutes, show_percent
from kedastral.backtest.results import WorkloadResults
from kedastral.backtest.subjects import Failed
from kedastral.simulation.outcome import Outcome

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
AS_SET = "Each policy as it is set; the verdict compares at the same cost"
"""What must be said beside every table: two rows differ in cost and in service at once."""
FOOT = (
    "unserved x, minutes x: at the pod-hours of the HPA at 80 %, as ratios to its own; cost x: the pod-hours it takes "
    "to be short in as few minutes. Below 1 is better; - means that no setting gets there."
)


OF_EACH = "Kedastral on each workload, at that one's own settings"
"""What the table is called that has a row for each workload."""
NOT_ALIKE = "The workloads differ in their settings: there is no verdict on all of them together, each has its own."


def policy_name(contestant: Contestant) -> str:
    """The policy and its setting, as people would say it."""
    shown = contestant.shown
    return {
        "kedastral": f"kedastral, {contestant.knob} {shown:g}",
        "hpa": f"HPA at {shown * 100:g} %",
        "far-end": f"far end only, headroom {shown:g}",
        "last-week": f"last week + HPA at {shown * 100:g} %",
        "fixed": "fixed at the past peak",
    }.get(contestant.name, f"{contestant.name} {shown:g}")


def short_name(contestant: Contestant) -> str:
    """The policy as the tables call it, without its headroom or service level."""
    return policy_name(contestant).partition(",")[0]


def workload_name(workload: WorkloadResults) -> str:
    """The workload, Kedastral's setting there, and what came of the promise if that is one."""
    ours, promise = workload.ours, workload.promise
    setting = f"{workload.name}, {ours.contestant.knob} {ours.contestant.shown:g}"
    if promise is None:
        return setting
    return f"{setting}: {show_percent(promise.reached)} % reached, budget {show_minutes(promise.budget)} min"


def failed_row(failed: Failed) -> tuple[str, ...]:
    """The row of a workload that was not replayed: the reason, and no figure."""
    return (f"{failed.name} was not replayed: {failed.reason}", *("-" for _ in FIGURES))


def standing_cells(standing: Standing) -> tuple[str, ...]:
    """One cell for each of `FIGURES`."""
    point, comparison = standing.point, standing.comparison
    return (
        f"{point.cost:.3f}",
        f"{point.unserved * 100:.3f}",
        f"{standing.minutes:,.0f}",
        f"{standing.pod_hours:,.0f}",
        f"{point.scale_events:,}",
        *(show_ratio(ratio) for ratio in (comparison.unserved, comparison.violation, comparison.cost)),
    )


def oracle_cells(oracle: Outcome) -> tuple[str, ...]:
    """The same for the oracle, which is compared with nobody."""
    unserved, minutes = oracle.unserved_share * 100, oracle.violation_minutes
    return (
        "1.000",
        f"{unserved:.3f}",
        f"{minutes:,.0f}",
        f"{oracle.pod_hours:,.0f}",
        f"{oracle.scale_events:,}",
        "",
        "",
        "",
    )


def show_ratio(ratio: float) -> str:
    """Two digits; a dash for what is out of reach."""
    return f"{ratio:.2f}" if math.isfinite(ratio) else "-"
