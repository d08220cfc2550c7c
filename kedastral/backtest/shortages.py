# SPDX-License-Identifier: Apache-2.0
"""Finds the worst shortages of a replay, and says why pods were missing."""

import math
from collections.abc import Iterator
from datetime import datetime

import attrs
import numpy as np

from kedastral.backtest.accuracy import forecast_after, lead_steps
from kedastral.backtest.workloads import Scenario
from kedastral.core.capacity import round_replicas
from kedastral.core.series import MINUTE
from kedastral.settings.types import write_duration
from kedastral.simulation.replay import Outcome

MAX_SHORTAGES = 10
LOOK_BACK = 900.0
"""How many seconds before a shortage to look for a rise."""
RISE = 1.15
"""The smallest ratio of two loads that counts as a rise."""
MOST = 0.8
"""The share of the way from the least load before a shortage to that in it which counts as the rise."""
NEAR_NOTHING = 10.0
"""From this ratio on a load rose from next to nothing: the ratio is then one to the noise of an idle load."""


@attrs.frozen
class Shortage:
    """The worst step of one shortage. ``demand``, ``ready`` pods and ``unserved`` load are those of that step."""

    timestamp: datetime
    lasted_seconds: float
    demand: float
    ready: float
    unserved: float
    reason: str


def find_worst(scenario: Scenario, outcome: Outcome, most: int = MAX_SHORTAGES) -> list[Shortage]:
    """The worst shortages, at most ``most``, by the unserved load of their worst step, the worst first."""
    spans = sorted(_spans(outcome), key=lambda span: -outcome.shortages[span[0] : span[1]].max())
    return [_describe(scenario, outcome, first, end) for first, end in spans[:most]]


def describe_left(scenario: Scenario, outcome: Outcome) -> str:
    """How many shortages an outcome of Kedastral leaves, how long they are, and how many are surprises.

    A surprise is one in whose worst step the load was clearly above the last forecast that was early enough. Empty if
    nothing is short.
    """
    spans, step = list(_spans(outcome)), outcome.demand.step
    if not spans:
        return ""
    surprises = [span for span in spans if _is_surprise(scenario, outcome, *span)]
    longest = show_span(max(end - first for first, end in spans) * step)
    above = f"with a load at least {(RISE - 1) * 100:.0f} % above the forecast of a lead time before"
    if len(spans) == 1:
        kind = f"a surprise, {above}" if surprises else "no surprise: the load was near the forecast"
        return f"Kedastral leaves one shortage of {longest}, {kind}."
    minutes = show_span(sum(end - first for first, end in surprises) * step)
    which = {0: "none is a surprise", len(spans): f"all are surprises, {above}"}
    some = f"{len(surprises)} of them, {minutes} in all, {'is a surprise' if len(surprises) == 1 else 'are surprises'}"
    return (
        f"Kedastral leaves {len(spans):,} shortages, the longest of {longest}; "
        f"{which.get(len(surprises), f'{some}, {above}')}."
    )


def _is_surprise(scenario: Scenario, outcome: Outcome, first: int, end: int) -> bool:
    worst = first + int(np.argmax(outcome.supply.unserved[first:end]))
    expected = _forecast_in_time(scenario, worst)
    return expected is not None and float(outcome.demand.values[worst]) >= RISE * expected


def _forecast_in_time(scenario: Scenario, step: int) -> float | None:
    """The load that the last forecast early enough to order pods expected at a judged step; None if there was none."""
    ahead, place = lead_steps(scenario) - 1, scenario.trial.judged_from + step
    forecast = forecast_after(scenario, place - ahead) if place > ahead else None
    return None if forecast is None else float(forecast.values[min(ahead, len(forecast.values) - 1)])


def _spans(outcome: Outcome) -> Iterator[tuple[int, int]]:
    """Each run of judged steps in violation: its first step and the one after its last."""
    short = np.concatenate([[False], outcome.shortages > 0, [False]])
    edges = np.flatnonzero(short[1:] != short[:-1])
    return ((int(first), int(end)) for first, end in edges.reshape(-1, 2))


def _describe(scenario: Scenario, outcome: Outcome, first: int, end: int) -> Shortage:
    worst = first + int(np.argmax(outcome.supply.unserved[first:end]))
    return Shortage(
        timestamp=outcome.demand.time_at(worst),
        lasted_seconds=(end - first) * outcome.demand.step,
        demand=float(outcome.demand.values[worst]),
        ready=float(outcome.supply.ready[worst]),
        unserved=float(outcome.supply.unserved[worst]),
        reason=explain(scenario, outcome, worst),
    )


def explain(scenario: Scenario, outcome: Outcome, worst: int) -> str:
    """Why step ``worst`` of the judged part was short of pods: how the load changed, and what the forecast was."""
    most = scenario.settings.plan.bounds.max
    if most and outcome.supply.ready[worst] >= most:
        return f"all {most} pods that --max allows were ready"
    parts = [_explain_load(scenario, outcome.demand.values[worst], worst), _explain_forecast(scenario, outcome, worst)]
    return "; ".join(part for part in parts if part)


def _explain_load(scenario: Scenario, load: float, worst: int) -> str:
    trial, demand, place = scenario.trial, scenario.trial.demand, scenario.trial.judged_from + worst
    back = min(place, round(LOOK_BACK / demand.step))
    values = np.where(trial.has_value, demand.values, np.nan)[place - back : place + 1]
    known = values[:-1][np.isfinite(values[:-1])]
    if not len(known) or load <= 0:
        return ""
    most = MOST * (load - known.min())
    for steps in range(1, back + 1):
        before, after = values[:-steps], values[steps:]
        rises = (after - before >= most) & (after >= RISE * before)  # none at a gap, which is NaN
        if rises.any():
            i = int(np.argmax(np.where(rises, after - before, -np.inf)))
            return f"{_growth(before[i], after[i])} within {show_span(steps * demand.step)}"
    if load >= RISE * known.mean():
        return f"a peak of {show_load(load)} over a mean of {show_load(known.mean())}"
    return ""


def _growth(before: float, after: float) -> str:
    ratio = after / before if before > 0 else math.inf
    if ratio > NEAR_NOTHING:
        start = f"{before:.0f}" if after >= 100 else show_load(before)
        return f"the load rose from {'nothing' if float(start) == 0 else start} to {show_load(after)}"
    if 1.9 <= ratio < 2.2:
        return "the load doubled"
    if ratio >= 2.2:
        return f"the load grew {ratio:.1f} times"
    return f"the load rose by {(ratio - 1) * 100:.0f} %"


def _explain_forecast(scenario: Scenario, outcome: Outcome, worst: int) -> str:
    expected = _forecast_in_time(scenario, worst)
    if expected is None:
        return "there was no forecast in time"
    actual = float(outcome.demand.values[worst])
    earlier = show_span(lead_steps(scenario) * outcome.demand.step)
    words = f"the forecast {earlier} earlier was {show_load(expected)}, the load was {show_load(actual)}"
    if scenario.settings.calibrated or expected * scenario.settings.plan.headroom < actual:
        return words  # the factor on a calibrated forecast changes from minute to minute
    needed = round_replicas(actual / outcome.target_per_pod)
    ready = outcome.supply.ready[worst]
    return f"{words}, which the headroom covers, but only {ready:.0f} of {needed:.0f} pods were ready"


def show_span(seconds: float) -> str:
    """A duration in words if it is a few whole minutes, as in ``5 minutes``."""
    minutes = round(seconds / MINUTE)
    if seconds != minutes * MINUTE or minutes > 90:
        return write_duration(seconds)
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def show_load(load: float) -> str:
    """A load with at least three digits, and a comma between thousands."""
    if load >= 100:
        return f"{load:,.0f}"
    return f"{load:.3g}"
