# SPDX-License-Identifier: Apache-2.0
"""Says whether the maximum of a workload is too low for a verdict, and which maximum to set."""

import math
from collections.abc import Sequence

from kedastral.backtest.comparison import PolicyComparison
from kedastral.backtest.error_budget import DEFAULT_LEVEL, judged_minutes

SPARE = 1.25
"""The advised --max, as a multiple of the most pods ordered at a step that counts."""
MAX_NAMED = 10
"""The most workloads to name in a sentence."""


def is_max_too_low(comparison: PolicyComparison) -> bool:
    """Whether the maximum alone leaves every policy short for longer than the error budget allows.

    All policies are then alike where it matters, and to compare them says nothing.
    """
    level = comparison.scenario.settings.service_level or DEFAULT_LEVEL
    return comparison.minutes_above_max > (1 - level) * judged_minutes([comparison]) + 1e-9


def explain_max_too_low(comparisons: Sequence[PolicyComparison]) -> tuple[str, str]:
    """What to say instead of a verdict and of advice: how far the maximum is too low, and which one to repeat with."""
    return _say_too_low(comparisons[0]) if len(comparisons) == 1 else _say_some_too_low(comparisons)


def _say_too_low(one: PolicyComparison) -> tuple[str, str]:
    most, needed, key = one.scenario.settings.cluster.bounds.max, one.pods_needed, name_max(one)
    above, judged, higher = one.minutes_above_max, judged_minutes([one]), with_spare(needed)
    return (
        f"{key} {most} is too low: the peak needs {needed:,} pods. No verdict; repeat with {key} {higher}.",
        f"In {above:,.0f} of {judged:,.0f} minutes the load needs more than {most} pods, so every policy was short.",
    )


def _say_some_too_low(comparisons: Sequence[PolicyComparison]) -> tuple[str, str]:
    limited, key = [one for one in comparisons if is_max_too_low(one)], name_max(comparisons[0])
    each = ", ".join(f"{with_spare(one.pods_needed)} for {one.scenario.name}" for one in limited[:MAX_NAMED])
    more = f" and a higher one for {len(limited) - MAX_NAMED} more" if len(limited) > MAX_NAMED else ""
    return (
        f"{key} is too low for {len(limited)} of {len(comparisons)} workloads. No joint verdict.",
        f"Repeat with {key} {each}{more}, a quarter above what each peak needs.",
    )


def explain_higher_max(comparisons: Sequence[PolicyComparison]) -> str:
    """Why the advice has a higher maximum; empty if none is in the way. With several workloads it has none."""
    one = comparisons[0]
    if len(comparisons) > 1 or not one.minutes_above_max:
        return ""
    most, above = f"{name_max(one)} {one.scenario.settings.cluster.bounds.max}", f"{one.minutes_above_max:,.0f}"
    minutes = "1 minute" if above == "1" else f"{above} minutes"
    return f"In {minutes} the load needs more pods than {most} allows, up to {one.pods_needed:,}: hence the higher one."


def name_max(comparison: PolicyComparison) -> str:
    """The maximum as a flag, or as its key in a ForecastPolicy's spec."""
    return "max" if comparison.scenario.in_files else "--max"


def with_spare(pods: float) -> int:
    """The maximum to set where ``pods`` were needed."""
    return math.ceil(pods * SPARE)
