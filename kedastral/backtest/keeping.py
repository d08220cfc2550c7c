# SPDX-License-Identifier: Apache-2.0
"""Finds the settings that keep a service level for the fewest pod-hours.

A level is kept if the minutes short are within its error budget: over several workloads, their sum within the sum of
the budgets.
"""

from collections.abc import Mapping, Sequence

import attrs

from kedastral.backtest.comparison import FIXED, HPA, KEDASTRAL, LAST_WEEK, ROUNDED, Rival
from kedastral.simulation.curves import Point

SIMPLEST_FIRST = (FIXED, HPA, LAST_WEEK)
"""The policies without Kedastral. Of those that are as cheap the simplest is named."""


@attrs.frozen
class Keeping:
    """The cheapest setting of each kind that keeps ``level``; None if no replayed one does.

    ``ours`` is one of Kedastral, ``steered`` one of its service levels, ``hpa`` one of the plain HPA, ``rival`` the
    best without Kedastral, which may be that HPA. The points have the sums of all workloads.
    """

    level: float
    ours: Point | None
    steered: Point | None
    hpa: Point | None
    rival: Rival | None

    @property
    def is_kept(self) -> bool:
        """Whether any policy keeps the level."""
        return self.ours is not None or self.rival is not None


def find_keeping(level: float, points: Mapping[str, Sequence[Point]]) -> Keeping:
    """The settings that keep ``level``; ``points`` are the replays by the name of the policy."""
    rivals = [
        Rival(name, min(kept, key=lambda point: point.cost))
        for name in SIMPLEST_FIRST
        if (kept := [point for point in points.get(name, ()) if keeps(point, level)])
    ]
    least = min((one.point.cost for one in rivals), default=0.0)
    return Keeping(
        level,
        cheapest_that_keeps(points[KEDASTRAL], level),
        cheapest_that_keeps([point for point in points[KEDASTRAL] if level <= point.knob < 1], level),
        next((one.point for one in rivals if one.policy == HPA), None),
        next((one for one in rivals if one.point.cost <= least * (1 + ROUNDED)), None),
    )


def keeps(point: Point, level: float) -> bool:
    """Whether the minutes short are within the error budget of ``level``."""
    return point.violation <= 1 - level + 1e-9


def cheapest_that_keeps(ours: Sequence[Point], level: float) -> Point | None:
    """The cheapest setting of Kedastral that keeps ``level``; of those as cheap, the level itself or another level.

    A lower level aims at more minutes short, whatever it reached on one history, so it comes last.
    """
    kept = [point for point in ours if keeps(point, level)]
    fit = [point for point in kept if point.knob >= level] or kept
    if not fit:
        return None
    least = min(point.cost for point in fit)
    as_cheap = [point for point in fit if point.cost <= least * (1 + ROUNDED)]
    levels = [point for point in as_cheap if point.knob < 1]
    return (
        next((point for point in levels if point.knob == level), None)
        or max(levels, key=lambda point: point.knob, default=None)
        or min(as_cheap, key=lambda point: point.cost)
    )
