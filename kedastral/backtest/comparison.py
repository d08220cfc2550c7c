# SPDX-License-Identifier: Apache-2.0
"""Curves compared with the plain HPA: at its cost, and at its violation; for one workload and over several."""

from collections.abc import Iterable, Sequence

import attrs

from kedastral.backtest.contest import Contest, Contestant
from kedastral.simulation.curves import (
    Figure,
    Point,
    average_points,
    cost_ratio_at_figure,
    geometric_mean,
    ratio_at_cost,
)

REFERENCE = "hpa"


@attrs.frozen
class Comparison:
    """A policy's curve against the HPA at 80 %, as ratios; below 1 is better, infinite where the curve does not reach.

    ``unserved`` and ``violation`` at the HPA's cost; ``cost`` at its minutes in violation.
    """

    unserved: float
    violation: float
    cost: float


@attrs.frozen
class Standing:
    """One contestant over one workload or all: the point shown, its sweep and how it compares.

    ``pod_hours`` and ``minutes`` (in violation) are sums over the workloads.
    """

    contestant: Contestant
    point: Point
    points: tuple[Point, ...]
    pod_hours: float
    minutes: float
    comparison: Comparison


def compare(points: Sequence[Point], reference: Point) -> Comparison:
    """One sweep against one point."""
    return Comparison(
        ratio_at_cost(points, reference, Figure.UNSERVED),
        ratio_at_cost(points, reference, Figure.VIOLATION),
        cost_ratio_at_figure(points, reference, Figure.VIOLATION),
    )


def standings_of(contest: Contest) -> list[Standing]:
    """Everybody's standing on one workload."""
    reference = contest.entry(REFERENCE).point
    return [
        Standing(
            entry.contestant,
            entry.point,
            entry.points,
            entry.shown.pod_hours,
            entry.shown.violation_minutes,
            compare(entry.points, reference),
        )
        for entry in contest.entries
    ]


def overall(several: Sequence[Sequence[Standing]]) -> list[Standing]:
    """Over workloads: geometric means, at equal cost of each workload's ratio, at equal violation of the mean curves.

    Hours and minutes are summed.
    """
    swept = [average_points([standing.points for standing in of_one]) for of_one in zip(*several, strict=True)]
    everyone = [standing.contestant for standing in several[0]]
    place = next(i for i, contestant in enumerate(everyone) if contestant.name == REFERENCE)
    reference = _shown(everyone[place], swept[place])
    return [
        _merge(of_one, tuple(points), reference)
        for of_one, points in zip(zip(*several, strict=True), swept, strict=True)
    ]


def _merge(of_one: Sequence[Standing], points: tuple[Point, ...], reference: Point) -> Standing:
    contestant = of_one[0].contestant
    comparison = Comparison(
        _mean_ratio(standing.comparison.unserved for standing in of_one),
        _mean_ratio(standing.comparison.violation for standing in of_one),
        cost_ratio_at_figure(points, reference, Figure.VIOLATION),
    )
    return Standing(
        contestant,
        _shown(contestant, points),
        points,
        sum(standing.pod_hours for standing in of_one),
        sum(standing.minutes for standing in of_one),
        comparison,
    )


def _shown(contestant: Contestant, points: Sequence[Point]) -> Point:
    return next(point for point in points if point.knob == contestant.shown)


def _mean_ratio(ratios: Iterable[float]) -> float:
    return geometric_mean(ratios)
