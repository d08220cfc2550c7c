# SPDX-License-Identifier: Apache-2.0
"""The goals of the closed loop: each computed from the studies of all traces at one lead time."""

import math
from collections.abc import Callable, Sequence

import attrs

from benchmarks.closed_loop_study import Level, Study
from kedastral.backtest.comparison import FIXED, HPA, LAST_WEEK, cost_as_good
from kedastral.simulation.curves import (
    Figure,
    Point,
    average_points,
    cost_ratio_at_figure,
    curve_of,
    geometric_mean,
    ratio_at_cost,
)

TITLES = {HPA: "an HPA", LAST_WEEK: "last week + HPA", FIXED: "a fixed number"}


@attrs.frozen
class Goal:
    """One line of the table; ``measured`` as shown, NaN if the traces cannot tell."""

    name: str
    stated: str
    measured: float
    met: bool
    detail: str = ""

    @property
    def figure(self) -> str:
        """The figure alone."""
        return "-" if math.isnan(self.measured) else f"{self.measured:.3f}"

    @property
    def shown(self) -> str:
        """The figure, and what explains it."""
        return f"{self.figure}  {self.detail}".strip()


def goals_of(studies: Sequence[Study], lead_time: float) -> list[Goal]:
    """The goals at one lead time; means over traces use only one-minute traces, if there are any."""
    minutes = [one for one in studies if one.step <= 60.0] or list(studies)
    lead = f"lead {lead_time / 60:g}: "
    goals = [_met(studies, 0.99, 1.0), _met(studies, 0.995, 1.0), _met(studies, 0.999, 0.9)]
    goals.append(_not_above(studies, 0.999))
    goals += _coverage(studies)
    goals += [_cost(minutes, 0.99, 0.88), _cost(minutes, 0.995, 0.86), _cost(minutes, 0.999, 0.72)]
    goals += [_cost_as_kept(minutes, level) for level in (0.99, 0.995, 0.999)]
    goals += [_at_equal_cost(minutes, Figure.UNSERVED, 0.35), _at_equal_cost(minutes, Figure.VIOLATION, 0.18)]
    goals += [_pods(minutes, 0.6, 0.8), _pods(minutes, 0.5, 0.7)]
    goals += [_events(minutes, "40 pods", _events_at_40), _events(minutes, "200 pods", lambda s: s.events_at_200)]
    goals += [_never_worse(minutes)]
    for level in (0.99, 0.995, 0.999):
        goals += [_beside_rival(studies, level, name) for name in (HPA, LAST_WEEK, FIXED)]
    return [attrs.evolve(goal, name=lead + goal.name) for goal in goals]


def at_level(one: Study, level: float) -> Level:
    """The replay steered to ``level``."""
    return next(entry for entry in one.levels if entry.level == level)


def hpa_at(one: Study, target: float) -> Point:
    """The HPA's replay at a target utilisation."""
    return next(point for point in one.hpa if point.knob == target)


def _spent(one: Study, level: float) -> float:
    return at_level(one, level).point.violation / (1 - level)


def _not_above(studies: Sequence[Study], level: float) -> Goal:
    above = [one.trace for one in studies if _spent(one, level) > 1.5]
    kept = 1 - len(above) / len(studies)
    return Goal(f"service level {level:g} kept", "traces at most at 1.5x", kept, kept >= 0.9, ", ".join(above))


def _met(studies: Sequence[Study], level: float, share: float) -> Goal:
    spent = {one.trace: _spent(one, level) for one in studies}
    missed = {name: value for name, value in spent.items() if not 0.5 <= value <= 1.5}
    kept = 1 - len(missed) / len(spent)
    detail = ", ".join(f"{name} {value:.2f}x" for name, value in missed.items())
    stated = f"{share:.0%} of traces within 0.5x..1.5x"
    return Goal(f"service level {level:g} met", stated, kept, kept >= share - 1e-9, detail)


def _coverage(studies: Sequence[Study]) -> list[Goal]:
    goals = []
    for i, quantile in enumerate((0.90, 0.95)):
        off = [at_level(one, 0.99).covered[i] - quantile for one in studies]
        mean, worst = abs(sum(off) / len(off)), max(map(abs, off))
        goals.append(
            Goal(
                f"coverage of the {quantile} quantile, mean off by",
                "<= 0.01, any trace 0.04",
                mean,
                mean <= 0.01 and worst <= 0.04,
                f"worst {worst:.3f}",
            )
        )
    return goals


def _best_hpa(one: Study, violation: float) -> float:
    """The cost of the best HPA target in hindsight that keeps ``violation``; the highest cost if none does."""
    cost = curve_of(one.hpa, Figure.VIOLATION).cost_at(max(violation, Figure.VIOLATION.value))
    return cost if math.isfinite(cost) else max(point.cost for point in one.hpa)


def _cost(studies: Sequence[Study], level: float, stated: float) -> Goal:
    ratios = [at_level(one, level).point.cost / _best_hpa(one, 1 - level) for one in studies]
    mean = geometric_mean(ratios)
    name, worst = f"cost at {level:g} / best HPA per trace in hindsight", max(ratios)
    met = mean <= stated and worst <= 1.02
    return Goal(name, f"<= {stated}, any trace 1.02", mean, met, f"worst {worst:.2f}")


def _cost_as_kept(studies: Sequence[Study], level: float) -> Goal:
    ratios = []
    for one in studies:
        point = at_level(one, level).point
        ratios.append(point.cost / _best_hpa(one, point.violation))
    mean = geometric_mean(ratios)
    return Goal(f"the same at {level:g}, HPA at the violation measured", "", mean, mean < 1, f"worst {max(ratios):.2f}")


def _at_equal_cost(studies: Sequence[Study], figure: Figure, stated: float) -> Goal:
    ratios = [ratio_at_cost(one.steered, hpa_at(one, 0.8), figure) for one in studies]
    known = [ratio for ratio in ratios if math.isfinite(ratio)]
    mean = geometric_mean(known) if known else math.nan
    detail = "" if len(known) == len(ratios) else f"{len(ratios) - len(known)} traces where no level is as cheap"
    return Goal(f"{figure.name.lower()} at HPA-80's cost", f"<= {stated}", mean, mean <= stated, detail)


def _pods(studies: Sequence[Study], target: float, stated: float) -> Goal:
    steered = average_points([one.steered for one in studies])
    reference = next(point for point in average_points([one.hpa for one in studies]) if point.knob == target)
    ratio = cost_ratio_at_figure(steered, reference, Figure.VIOLATION)
    return Goal(f"pod-hours at equal violation / HPA-{target:.0%}", f"<= {stated}", ratio, ratio <= stated)


def _beside_rival(studies: Sequence[Study], level: float, name: str) -> Goal:
    """The traces on which a rival, at its best setting, is as good in both figures for less cost."""
    ratios = {}
    for one in studies:
        point = at_level(one, level).point
        ratios[one.trace] = point.cost / cost_as_good(one.rivals[name], point)
    stated = 1.02 if name == HPA else 1.05
    dearer = {trace: ratio for trace, ratio in ratios.items() if ratio > stated}
    detail = ", ".join(f"{trace} {ratio:.2f}" for trace, ratio in dearer.items())
    title = f"cost at {level:g} / {TITLES[name]} that serves as well, traces above {stated:g}"
    return Goal(title, "0", float(len(dearer)), not dearer, detail)


def _events_at_40(one: Study) -> tuple[int, int]:
    return at_level(one, 0.99).point.scale_events, hpa_at(one, 0.8).scale_events


def _events(studies: Sequence[Study], size: str, events_of: Callable[[Study], tuple[int, int]]) -> Goal:
    ratios = [max(ours, 1) / max(theirs, 1) for ours, theirs in map(events_of, studies)]
    mean = geometric_mean(ratios)
    worst = max(ratios)
    met = mean <= 1.5 and worst <= 2.5
    return Goal(f"scale events / HPA-80's, {size}", "<= 1.5, any trace 2.5", mean, met, f"worst {worst:.2f}")


def _never_worse(studies: Sequence[Study]) -> Goal:
    ratios = {
        one.trace: max(ratio_at_cost(one.steered, hpa_at(one, 0.8), figure) for figure in Figure) for one in studies
    }
    worse = {name: ratio for name, ratio in ratios.items() if ratio > 1.05}
    detail = ", ".join(f"{name} {ratio:.2f}" for name, ratio in worse.items())
    return Goal("at HPA-80's cost, traces worse by over 5 %", "0", float(len(worse)), not worse, detail)
