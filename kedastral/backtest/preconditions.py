# SPDX-License-Identifier: Apache-2.0
"""Says whether a verdict can be given: enough history must have been judged, and the maximum must not be too low.

The error budget decides both. All policies are alike where the maximum leaves each of them short for longer than that,
so that to compare them says nothing.
"""

import math
from collections.abc import Sequence

from kedastral.backtest.comparison import PolicyComparison
from kedastral.backtest.to_run import with_spare
from kedastral.backtest.totals import judged_minutes
from kedastral.backtest.wording import name_max, show_minutes
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
MAX_NAMED = 10
"""The most workloads to name in a sentence."""


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


def is_max_too_low(comparison: PolicyComparison) -> bool:
    """Whether the maximum alone leaves every policy short for longer than the error budget allows."""
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
