# SPDX-License-Identifier: Apache-2.0
"""Sweeps a policy over its knob into a monotone curve, and compares curves at equal cost and at equal violation.

Single points of two policies differ in both cost and service and cannot be compared; curves can.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum

import attrs
import numpy as np

from kedastral.core.series import Floats, frozen_floats, same_array
from kedastral.core.steps import WHOLE_WITHIN
from kedastral.simulation.replay import Cluster, Outcome, replay, replay_oracle
from kedastral.simulation.trial import Policy, Trial


class Figure(Enum):
    """The figure to compare; its value is the floor below which differences mean nothing."""

    UNSERVED = 1e-5  # 0.001 % of the demand
    VIOLATION = 1e-4  # 0.01 % of the minutes

    def of(self, point: "Point") -> float:
        """The figure of one point, a share 0..1, without the floor."""
        return point.unserved if self is Figure.UNSERVED else point.violation


@attrs.frozen
class Point:
    """One replay at one setting of the knob; ``cost`` is a ratio to the oracle's, the other figures are shares 0..1."""

    knob: float
    cost: float
    unserved: float
    violation: float
    scale_events: int = 0


@attrs.frozen
class Curve:
    """A figure against cost: ``costs`` rise, ``figures`` never do and are floored; both have shape (n,).

    Between points, the logarithm of the figure is linear in cost.
    """

    costs: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    figures: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))

    def __attrs_post_init__(self) -> None:
        if not len(self.costs) or len(self.costs) != len(self.figures):
            raise ValueError(f"{len(self.costs)} costs and {len(self.figures)} figures make no curve")
        if (np.diff(self.costs) <= 0).any() or (np.diff(self.figures) > 0).any() or not (self.figures > 0).all():
            raise ValueError("costs must rise; figures must never rise and be above 0")

    def figure_at(self, cost: float) -> float:
        """The figure at ``cost``: infinite below the cheapest point, and that of the dearest point beyond it."""
        if cost < self.costs[0]:
            return float("inf")
        return float(np.exp(np.interp(cost, self.costs, np.log(self.figures))))

    def cost_at(self, figure: float) -> float:
        """The lowest cost that reaches ``figure``; infinite if none does."""
        reached = self.figures <= figure * (1 + WHOLE_WITHIN)  # exp(log(x)) is x up to rounding
        if not reached.any():
            return float("inf")
        i = int(np.argmax(reached))
        if i == 0:
            return float(self.costs[0])
        below, above = np.log(self.figures[i]), np.log(self.figures[i - 1])
        share = min(1.0, (above - np.log(figure)) / (above - below))
        return float(self.costs[i - 1] + share * (self.costs[i] - self.costs[i - 1]))


def curve_of(points: Iterable[Point], figure: Figure) -> Curve:
    """The points as a curve, sorted by cost; none is worse than a cheaper one, since a budget need not be spent.

    Of points at the same cost the best is kept. Raises ValueError if there are none.
    """
    best: dict[float, float] = {}
    for point in sorted(points, key=lambda point: point.cost):
        so_far = min(best.values(), default=float("inf"))
        best[point.cost] = min(so_far, max(figure.of(point), figure.value))
    return Curve(list(best), list(best.values()))


def sweep(
    make: Callable[[Trial, float], Policy],
    knobs: Iterable[float],
    trial: Trial,
    cluster: Cluster,
) -> list[Point]:
    """One replay for each setting of the knob; ``make`` builds a new policy for the trial and the setting."""
    oracle = replay_oracle(trial, cluster)
    return [point_of(knob, replay(make(trial, knob), trial, cluster), oracle) for knob in knobs]


def point_of(knob: float, outcome: Outcome, oracle: Outcome) -> Point:
    """An outcome as a point of a curve."""
    return Point(
        knob,
        cost=outcome.cost_against(oracle),
        unserved=outcome.unserved_share,
        violation=outcome.violation_share,
        scale_events=outcome.scale_events,
    )


def ratio_at_cost(points: Sequence[Point], reference: Point, figure: Figure) -> float:
    """The figure of a sweep at the reference's cost, divided by the reference's, both floored; below 1 is better."""
    return curve_of(points, figure).figure_at(reference.cost) / max(figure.of(reference), figure.value)


def cost_ratio_at_figure(points: Sequence[Point], reference: Point, figure: Figure) -> float:
    """The cost at which a sweep reaches the reference's figure, divided by the reference's; below 1 is cheaper."""
    return curve_of(points, figure).cost_at(max(figure.of(reference), figure.value)) / reference.cost


def average_points(sweeps: Sequence[Sequence[Point]]) -> list[Point]:
    """The geometric mean of the sweeps of several traces, knob by knob; shares are floored, events rounded.

    Raises ValueError if the sweeps differ in their knobs.
    """
    if len({tuple(point.knob for point in points) for points in sweeps}) != 1:
        raise ValueError("all sweeps must have the same knobs")
    return [_average(points) for points in zip(*sweeps, strict=True)]


def geometric_mean(values: Iterable[float]) -> float:
    """exp(mean(log(values))); infinite if any value is. Raises ValueError for no values, or for one not above 0."""
    array = frozen_floats(list(values))
    if not len(array) or not (array > 0).all():
        raise ValueError("a geometric mean takes values above 0, at least one")
    return float(np.exp(np.log(array).mean()))


def _average(points: Sequence[Point]) -> Point:
    return Point(
        points[0].knob,
        cost=geometric_mean(point.cost for point in points),
        unserved=geometric_mean(max(point.unserved, Figure.UNSERVED.value) for point in points),
        violation=geometric_mean(max(point.violation, Figure.VIOLATION.value) for point in points),
        scale_events=round(geometric_mean(max(point.scale_events, 1) for point in points)),
    )
