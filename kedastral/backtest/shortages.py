# SPDX-License-Identifier: Apache-2.0
"""The worst minutes of a replay, one from each shortage, with the reason in words."""

from collections.abc import Iterator
from datetime import datetime

import attrs
import numpy as np

from kedastral.backtest.comparison import Scenario, forecast_after, lead_steps
from kedastral.core.capacity import round_replicas
from kedastral.settings.types import write_duration
from kedastral.simulation.replay import Outcome

WORST = 10
LOOK_BACK = 900.0
"""Seconds before a shortage in which a rise is looked for."""
RISE = 1.15
"""Load that grew by less than this is no rise."""


@attrs.frozen
class Shortage:
    """The worst step of one shortage. ``lasted`` is in seconds; ``unserved`` and ``load`` are of the worst step."""

    at: datetime
    lasted: float
    load: float
    ready: float
    unserved: float
    reason: str


def find_worst(arena: Scenario, outcome: Outcome, most: int = WORST) -> list[Shortage]:
    """The ``most`` worst shortages, by the load their worst step left unserved, the worst first."""
    spans = sorted(_spans(outcome), key=lambda span: -outcome.supply.unserved[span[0] : span[1]].max())
    return [_describe(arena, outcome, first, end) for first, end in spans[:most]]


def _spans(outcome: Outcome) -> Iterator[tuple[int, int]]:
    """Each run of steps in violation: its first step and the one after its last."""
    short = np.concatenate([[False], outcome.supply.unserved > 0, [False]])
    edges = np.flatnonzero(short[1:] != short[:-1])
    return ((int(first), int(end)) for first, end in edges.reshape(-1, 2))


def _describe(arena: Scenario, outcome: Outcome, first: int, end: int) -> Shortage:
    worst = first + int(np.argmax(outcome.supply.unserved[first:end]))
    return Shortage(
        at=outcome.demand.time_at(worst),
        lasted=(end - first) * outcome.demand.step,
        load=float(outcome.demand.values[worst]),
        ready=float(outcome.supply.ready[worst]),
        unserved=float(outcome.supply.unserved[worst]),
        reason=explain(arena, outcome, worst),
    )


def explain(arena: Scenario, outcome: Outcome, worst: int) -> str:
    """Why step ``worst`` of the judged part was short: what the load did, and what had been forecast."""
    most = arena.rules.plan.bounds.max
    if most and outcome.supply.ready[worst] >= most:
        return f"all {most} pods that --max allows were there"
    words = [_words_on_load(arena, outcome.demand.values[worst], worst), _words_on_forecast(arena, outcome, worst)]
    return "; ".join(word for word in words if word)


def _words_on_load(arena: Scenario, load: float, worst: int) -> str:
    demand, place = arena.trial.demand, arena.trial.judged_from + worst
    back = min(place, round(LOOK_BACK / demand.step))
    before = demand.values[place - back : place]
    if not len(before) or load <= 0:
        return ""
    for steps in range(1, back + 1):  # the shortest time in which it rose most of the way
        if load >= RISE * before[-steps] and before[-steps] <= 1.1 * before.min():
            return f"{_growth(before[-steps], load)} within {say_span(steps * demand.step)}"
    if load >= RISE * before.mean():
        return f"a peak of {show_load(load)} over a mean of {show_load(before.mean())}"
    return ""


def _growth(before: float, load: float) -> str:
    if before <= 0:
        return f"the load came from nothing to {show_load(load)}"
    ratio = load / before
    if 1.9 <= ratio < 2.2:
        return "the load doubled"
    if ratio >= 2.2:
        return f"the load grew {ratio:.1f} times"
    return f"the load rose by {ratio - 1:.0%}"


def _words_on_forecast(arena: Scenario, outcome: Outcome, worst: int) -> str:
    ahead, place = lead_steps(arena) - 1, arena.trial.judged_from + worst
    forecast = forecast_after(arena, place - ahead) if place > ahead else None
    if forecast is None:
        return "there was no forecast in time"
    said, came = float(forecast.values[min(ahead, len(forecast.values) - 1)]), float(outcome.demand.values[worst])
    earlier = say_span((ahead + 1) * outcome.demand.step)
    words = f"the forecast {earlier} earlier said {show_load(said)}, it came to {show_load(came)}"
    if arena.rules.calibrated or said * arena.rules.plan.headroom < came:
        return words  # what a calibrated forecast is multiplied by changes from minute to minute
    needed = round_replicas(came / outcome.target_per_pod)
    return f"{words}: enough with the headroom, but of {needed:.0f} pods {outcome.supply.ready[worst]:.0f} were ready"


def say_span(seconds: float) -> str:
    """A duration in words where it is a few minutes, as ``5 minutes``."""
    minutes = round(seconds / 60)
    if seconds != minutes * 60 or minutes > 90:
        return write_duration(seconds)
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def show_load(load: float) -> str:
    """A load as a person would write it: three digits at least, thousands apart."""
    if load >= 100:
        return f"{load:,.0f}"
    return f"{load:.3g}"
