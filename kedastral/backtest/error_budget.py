# SPDX-License-Identifier: Apache-2.0
"""Says whether enough history was judged for a verdict, by the error budget that it leaves."""

import math
from collections.abc import Sequence

from kedastral.backtest.comparison import PolicyComparison
from kedastral.backtest.wording import show_minutes
from kedastral.core.series import DAY, MINUTE
from kedastral.settings.types import write_duration
from kedastral.simulation.policies import LastWeek
from kedastral.simulation.trial import Scaling

MIN_BUDGET = 10.0
"""The least error budget, in minutes over all that was judged, for a verdict.

A count of n independent minutes has a standard error of sqrt(n) (Poisson). For 10 minutes that is a third; with fewer,
a difference of a tenth means nothing. Short minutes cluster, so 10 is the minimum.
"""
USUAL = Scaling()
"""The default --evaluated and --warm-up."""
DEFAULT_LEVEL = 0.99
"""The service level to assume with a headroom: the default of --service-level."""


def judged_minutes(comparisons: Sequence[PolicyComparison]) -> float:
    """The judged minutes, summed over the workloads, without those that gaps leave out."""
    return sum(comparison.oracle.counted_minutes for comparison in comparisons)


def explain_too_little(comparisons: Sequence[PolicyComparison]) -> str:
    """Why too little was judged for a verdict, and how much history is needed; empty if there is enough."""
    level = comparisons[0].scenario.settings.service_level or DEFAULT_LEVEL
    judged, needed = judged_minutes(comparisons), MIN_BUDGET / (1 - level)
    if judged >= needed - 1e-6:
        return ""
    return (
        f"Too little history was judged for a verdict: in {write_duration(judged * MINUTE)} a service level of "
        f"{level:g} allows {show_minutes((1 - level) * judged)} minutes short. A verdict needs "
        f"{_say_needed(level, comparisons)}. "
    )


def explain_provisional(advised: float, comparisons: Sequence[PolicyComparison]) -> str:
    """Why a verdict that ``advised`` this setting is provisional, and what would make it firm; empty if it is firm.

    It is provisional if a workload has less than a week of history before the judged part, since the model has then
    seen no whole week, or if the advised service level has too small an error budget to tell whether it is kept.
    """
    judged, is_level = judged_minutes(comparisons), comparisons[0].kedastral.policy.is_level(advised)
    level = advised if is_level else comparisons[0].scenario.settings.service_level or DEFAULT_LEVEL
    budget, span = (1 - level) * judged, write_duration(judged * MINUTE)
    if not all(comparison.scenario.has_week for comparison in comparisons):
        days = math.ceil((LastWeek.WEEK - USUAL.warm_up) / (1 - USUAL.evaluated) / DAY)
        return (
            f"Provisional: only {span} were judged, in which a service level of {level:g} allows "
            f"{show_minutes(budget)} minutes short, and the model had seen no whole week before. A firm verdict needs "
            f"a week of history before the judged part: {days} days in all with the default --evaluated and --warm-up."
        )
    if not is_level or budget >= MIN_BUDGET - 1e-6:
        return ""
    return (
        f"Provisional: only {span} were judged, in which the advised service level of {level:g} allows "
        f"{show_minutes(budget)} minutes short. To tell whether it is kept needs {_say_needed(level, comparisons)}."
    )


def _say_needed(level: float, comparisons: Sequence[PolicyComparison]) -> str:
    """The least error budget, and the history that has it at this service level."""
    trial, needed = comparisons[0].scenario.trial, MIN_BUDGET / (1 - level)
    share, warm_up = 1 - trial.begin / len(trial.demand), (trial.judged_from - trial.begin) * trial.demand.step
    days = math.ceil((math.ceil(needed) * MINUTE / len(comparisons) + warm_up) / share / DAY)
    return (
        f"{MIN_BUDGET:g}, which takes {write_duration(math.ceil(round(needed, 6)) * MINUTE)}: {days} days of history "
        "with this --evaluated and --warm-up"
    )
