# SPDX-License-Identifier: Apache-2.0
"""Sums over the workloads of a verdict: the minutes judged, and what any replayed setting takes and leaves short."""

from collections.abc import Mapping, Sequence

import attrs

from kedastral.backtest.comparison import PolicyComparison, PolicyResult
from kedastral.simulation.curves import Point


@attrs.frozen
class Totals:
    """The pod-hours and the minutes with too few pods of one setting, summed over the workloads."""

    pod_hours: float
    minutes: float


@attrs.frozen
class JudgedPoints:
    """The points of one workload by the name of the policy, the minutes judged, and the oracle's pod-hours."""

    minutes: float
    oracle_pod_hours: float
    points: Mapping[str, Sequence[Point]]


def judged_minutes(comparisons: Sequence[PolicyComparison]) -> float:
    """The judged minutes, summed over the workloads, without those that gaps leave out."""
    return sum(comparison.oracle.counted_minutes for comparison in comparisons)


def judged_points(comparison: PolicyComparison) -> JudgedPoints:
    """The replays of a comparison, as numbers only."""
    points = {one.policy.name: one.points for one in comparison.replayed}
    return JudgedPoints(judged_minutes([comparison]), comparison.oracle.pod_hours, points)


def totals_of(judged: Sequence[JudgedPoints], policy: str, setting: float) -> Totals:
    """The totals of one setting. Raises StopIteration if it was not replayed."""
    hours = minutes = 0.0
    for one in judged:
        point = next(point for point in one.points[policy] if point.knob == setting)
        hours += point.cost * one.oracle_pod_hours
        minutes += point.violation * one.minutes
    return Totals(hours, minutes)


def summed_points(results: Sequence[PolicyResult], judged: Sequence[JudgedPoints]) -> dict[str, tuple[Point, ...]]:
    """The points of ``results``, with the cost and the share of minutes short of the sums over all workloads."""
    oracle, minutes = sum(one.oracle_pod_hours for one in judged), sum(one.minutes for one in judged)

    def summed(policy: str, point: Point) -> Point:
        totals = totals_of(judged, policy, point.knob)
        return attrs.evolve(point, cost=totals.pod_hours / oracle, violation=totals.minutes / minutes)

    return {one.policy.name: tuple(summed(one.policy.name, point) for point in one.points) for one in results}
