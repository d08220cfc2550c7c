# SPDX-License-Identifier: Apache-2.0
"""Lists the settings of Kedastral that a verdict names, as flags and as keys of a ForecastPolicy."""

import math
from collections.abc import Sequence

from kedastral.backtest.comparison import PolicyComparison
from kedastral.backtest.wording import knob_names, name_max
from kedastral.settings.types import write_duration
from kedastral.simulation.replay import Outcome

SPARE = 1.25
"""The advised --max, as a multiple of the most pods ordered at a step that counts."""
Setting = tuple[str, str, str]
"""A flag, the same setting's key in a ForecastPolicy's spec, and its value."""


def settings_to_run(
    knob: float, comparisons: Sequence[PolicyComparison], outcome: Outcome | None = None
) -> list[Setting]:
    """The settings of Kedastral at one setting of its knob, of which ``outcome`` is the replay if there is one yet.

    With several workloads, those about pods are left out.
    """
    scenario = comparisons[0].scenario
    flag, key = knob_names(is_level=comparisons[0].kedastral.policy.is_level(knob))
    settings = [
        ("--model", "model", scenario.model.name),
        (flag, key, f"{knob:g}"),
        ("--lead-time", "leadTime", write_duration(scenario.settings.serving.lead_time)),
    ]
    if len(comparisons) > 1:  # pods differ from workload to workload
        return settings
    return [
        *settings,
        ("--min", "min", f"{scenario.settings.plan.bounds.min}"),
        ("--max", "max", f"{_max_to_run(comparisons[0], outcome or comparisons[0].replay_kedastral(knob))}"),
        ("--target-per-pod", "targetPerPod", f"{scenario.trial.target_per_pod:.6g}"),
    ]


def _max_to_run(comparison: PolicyComparison, outcome: Outcome) -> int:
    """A given maximum, unless the load needs more pods; else a quarter more than were ordered or needed."""
    limited = comparison.minutes_above_max > 0
    if comparison.scenario.gives_max and not limited:
        return comparison.scenario.settings.plan.bounds.max
    peak = float(outcome.supply.ordered[outcome.counted].max())
    return with_spare(max(peak, comparison.pods_needed) if limited else peak)


def as_flags(settings: Sequence[Setting]) -> list[str]:
    """The settings as flags for `kedastral run` without files."""
    return [f"{flag} {value}" for flag, _, value in settings]


def as_spec(settings: Sequence[Setting]) -> list[str]:
    """The settings as lines for the ``spec`` of a ForecastPolicy."""
    return [f"{key}: {value}" for _, key, value in settings]


def caution_on(comparisons: Sequence[PolicyComparison]) -> str:
    """A warning if the target per pod was derived from the load; empty otherwise."""
    if len(comparisons) > 1 or not comparisons[0].scenario.sized_by_peak:
        return ""
    target = "targetPerPod" if comparisons[0].scenario.in_files else "--target-per-pod"
    return f"{target} comes from the load's peak, not from a measurement on your pods"


def explain_higher_max(comparisons: Sequence[PolicyComparison]) -> str:
    """Why the advice has a higher maximum; empty if none is in the way. With several workloads it has none."""
    one = comparisons[0]
    if len(comparisons) > 1 or not one.minutes_above_max:
        return ""
    most, above = f"{name_max(one)} {one.scenario.settings.cluster.bounds.max}", f"{one.minutes_above_max:,.0f}"
    minutes = "1 minute" if above == "1" else f"{above} minutes"
    return f"In {minutes} the load needs more pods than {most} allows, up to {one.pods_needed:,}: hence the higher one."


def with_spare(pods: float) -> int:
    """The maximum to set where ``pods`` were needed."""
    return math.ceil(pods * SPARE)
