# SPDX-License-Identifier: Apache-2.0
"""What to run: the settings as flags, or as keys of a ForecastPolicy where the workload came from files."""

import math
from collections.abc import Sequence

from kedastral.backtest.contest import Contest
from kedastral.config.units import write_duration

SPARE = 1.25
"""--max above the most pods the replay ever had."""
CAUTION = "from the load's peak, not measured on your pods"
"""Of a target per pod that nobody gave."""

Setting = tuple[str, str, str]
"""A flag, the key of a ForecastPolicy's spec for the same, and its value."""


def settings_to_run(knob: float, contests: Sequence[Contest]) -> list[Setting]:
    """The settings of Kedastral at one setting of its knob; those of the pods for one workload only."""
    arena = contests[0].arena
    rules, name = arena.rules, contests[0].entry("kedastral").contestant.knob
    settings = [
        ("--model", "model", arena.model.name),
        (f"--{name.replace(' ', '-')}", {"service level": "serviceLevel"}.get(name, name), f"{knob:g}"),
        ("--lead-time", "leadTime", write_duration(rules.serving.lead_time)),
    ]
    if len(contests) > 1:  # pods differ from workload to workload
        return settings
    peak = float(contests[0].point_at(knob).supply.ordered.max())
    return [
        *settings,
        ("--min", "min", f"{rules.plan.bounds.fewest}"),
        ("--max", "max", f"{math.ceil(peak * SPARE)}"),
        ("--target-per-pod", "targetPerPod", f"{arena.trial.target_per_pod:.6g}"),
    ]


def as_flags(settings: Sequence[Setting]) -> list[str]:
    """For `kedastral run` without files."""
    return [f"{flag} {value}" for flag, _, value in settings]


def as_spec(settings: Sequence[Setting]) -> list[str]:
    """For the ``spec`` of a ForecastPolicy, a line each."""
    return [f"{key}: {value}" for _, key, value in settings]


def caution_on(contests: Sequence[Contest]) -> str:
    """What is to be said of the target per pod among the settings, if anything."""
    if len(contests) > 1 or not contests[0].arena.sized_by_peak:
        return ""
    target = "targetPerPod" if contests[0].arena.in_files else "--target-per-pod"
    return f"{target} is {CAUTION}"
