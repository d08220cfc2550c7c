# SPDX-License-Identifier: Apache-2.0
"""Decides how Kedastral compares with the alternatives, from the replayed settings.

Every figure of the `ComparedSettings` is that of one replayed setting, and is in the table. Only `outlook_of`
interpolates, to tell worse from even.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import attrs

from kedastral.backtest.comparison import (
    FIXED,
    HPA,
    KEDASTRAL,
    LEVEL_KNOB,
    RIVALS,
    ROUNDED,
    PolicyResult,
    Rival,
    cheapest_as_good,
    cost_as_good,
    serves_as,
)
from kedastral.backtest.keeping import Keeping, find_keeping, keeps
from kedastral.simulation.curves import Figure, Point

CLEARLY = 0.9
"""At the same cost, a ratio of service up to this is clearly better."""
CHEAPER = 0.97
"""The same for the cost of equal service, where every percent is money."""
SAME_COST = 0.01
"""Costs this close to each other count as the same."""
USABLE = 0.05
"""The largest share of minutes short that anyone would accept."""
FLAT = 1.15
"""The load is flat if a fixed number of pods costs at most this many times the oracle's pod-hours."""
FAR_BETTER = 0.5
"""A simpler policy is worth a remark if its shortages are at most this share of Kedastral's at the same cost."""

MATTERS = 0.005
"""From this share of the minutes or of the load on, a shortage is worth many more pods to some."""
MANY_MINUTES = 5.0
"""The fewest minutes that a dearer policy must avoid to be named."""
AFFORDABLE = 2.0
"""The most pod-hours that a dearer policy may take to be named, as a ratio to the status quo's."""
AS_FEW = 0.05
"""Minutes short that differ by no more than this share of those to avoid are as few: the cheaper setting is named."""


class Outlook(StrEnum):
    """How Kedastral compares with the plain HPA and the other alternatives."""

    BETTER = "better"
    EVEN = "even"
    WORSE = "worse"
    TOO_LITTLE = "too-little"
    """Too little history was judged to tell."""
    MAX_TOO_LOW = "max-too-low"
    """The maximum leaves every policy short of pods for longer than the error budget allows."""


@attrs.frozen
class ComparedSettings:
    """The replayed settings that a verdict compares, and the ``outlook`` that follows from them.

    ``hpa`` is the status quo: the plain HPA at its usual target, or at the highest usable one. ``near`` is the setting
    of Kedastral to set beside it at about its cost, ``advised`` the one to run, ``in_force`` the given one. ``rival``
    is the cheapest setting without Kedastral that keeps the service level in force, or ``hpa`` if none does. Without
    such a level, or if nothing keeps it, it is the cheapest that serves as well as ``hpa``, or ``hpa`` itself. If
    ``advised`` is a headroom instead of a service level, ``level`` is the cheapest service level as good.
    ``remarkable`` is a simpler setting that serves far better than Kedastral for its cost. ``only`` is that of the only
    policy that avoids most of the shortages of the setting to `take`. ``keeping`` says what keeps the level in force,
    if there is one.
    """

    outlook: Outlook
    usual: Point
    hpa: Point
    near: Point
    advised: Point
    in_force: Point
    rival: Rival
    is_flat: bool = False
    level: Point | None = None
    remarkable: Rival | None = None
    only: Rival | None = None
    keeping: Keeping | None = None

    @property
    def is_by_level(self) -> bool:
        """Whether the service level in force decides: there is one, and a setting that keeps it."""
        return self.keeping is not None and self.keeping.is_kept

    @property
    def take(self) -> Rival:
        """The setting to run, with Kedastral or without."""
        if self.outlook is Outlook.BETTER:
            return Rival(KEDASTRAL, self.advised)
        return self.rival if self.is_by_level or self.has_cheaper_rival else Rival(HPA, self.hpa)

    @property
    def is_too_dear(self) -> bool:
        """Whether the service level takes more pod-hours than most would pay, as Kedastral cannot keep it."""
        if self.keeping is None or self.keeping.ours is not None:
            return False
        return self.is_by_level and self.rival.point.cost > AFFORDABLE * self.hpa.cost

    @property
    def serves_as_well(self) -> bool:
        """Whether the advised setting serves at least as well as the status quo."""
        return serves_as(self.advised, self.hpa)

    @property
    def has_cheaper_rival(self) -> bool:
        """Whether a setting without Kedastral serves as well as the status quo for less."""
        return self.rival.point.cost < self.hpa.cost * (1 - ROUNDED)


def decide(
    results: Sequence[PolicyResult],
    sums: Mapping[str, Sequence[Point]] | None = None,
    *,
    enough: bool = True,
    minutes: float = math.inf,
) -> ComparedSettings:
    """The settings to compare, from the ``results`` of every policy.

    ``sums`` are their points with the sums of several workloads. ``minutes`` were judged, and ``enough`` says whether
    they are enough for a verdict.
    """
    ours = next(result for result in results if result.policy.name == KEDASTRAL)
    usual = next(result for result in results if result.policy.name == HPA)
    hpa = choose_hpa(usual.points, usual.point)
    keeping = None
    sums = sums or {one.policy.name: one.points for one in results}
    if ours.policy.is_level(ours.policy.shown):
        keeping = find_keeping(ours.policy.shown, sums)
    if keeping is not None and keeping.is_kept:
        compared = _decide_by_level(results, keeping, hpa, enough=enough)
        remark = compared.remarkable  # it must keep the level, too
        if remark is not None and not keeps(_at(sums[remark.policy], remark.point.knob), keeping.level):
            compared = attrs.evolve(compared, remarkable=None)
    else:
        compared = attrs.evolve(_decide_by_hpa(results, hpa, enough=enough), keeping=keeping)
    return attrs.evolve(compared, only=find_only(results, compared.take.point, hpa, minutes)) if enough else compared


def _decide_by_level(
    results: Sequence[PolicyResult], keeping: Keeping, hpa: Point, *, enough: bool
) -> ComparedSettings:
    """The settings to compare where the question is what keeps the service level in force for the fewest pod-hours."""
    ours = next(result for result in results if result.policy.name == KEDASTRAL)
    usual = next(result for result in results if result.policy.name == HPA)
    outlook = outlook_by_level(keeping) if enough else Outlook.TOO_LITTLE
    advised = ours.point if keeping.ours is None else _at(ours.points, keeping.ours.knob)
    rival, level = Rival(HPA, hpa), None
    if keeping.rival is not None:
        points = next(result.points for result in results if result.policy.name == keeping.rival.policy)
        rival = Rival(keeping.rival.policy, _at(points, keeping.rival.point.knob))
    if advised.knob >= 1 and keeping.steered is not None:
        level = _at(ours.points, keeping.steered.knob)
    return ComparedSettings(
        outlook,
        usual.point,
        hpa,
        nearest_in_cost([one for one in ours.points if one.knob >= keeping.level], hpa),
        advised,
        ours.point,
        rival,
        is_flat=rival.policy == FIXED and rival.point.cost <= FLAT,
        level=level,
        remarkable=find_remarkable(results, ours) if outlook is Outlook.BETTER else None,
        keeping=keeping,
    )


def outlook_by_level(keeping: Keeping) -> Outlook:
    """Whether Kedastral keeps the level for clearly fewer pod-hours than anything else, or for clearly more."""
    ours, rival = keeping.ours, keeping.rival
    if rival is None or (ours is not None and ours.cost <= CHEAPER * rival.point.cost):
        return Outlook.BETTER
    return Outlook.WORSE if ours is None or rival.point.cost <= CHEAPER * ours.cost else Outlook.EVEN


def _decide_by_hpa(results: Sequence[PolicyResult], hpa: Point, *, enough: bool) -> ComparedSettings:
    """The settings to compare where the question is what serves as well as the plain HPA of today."""
    ours = next(result for result in results if result.policy.name == KEDASTRAL)
    usual = next(result for result in results if result.policy.name == HPA)
    advised, near, rival = advised_point(ours, hpa), nearest_in_cost(ours.points, hpa), find_rival(results, hpa)
    outlook = Outlook.TOO_LITTLE
    if enough:
        outlook = outlook_of(ours.points, advised, near, rival, hpa, _points_of_rivals(results))
    is_better = outlook is Outlook.BETTER
    flat = None if is_better else find_flat(results, rival, hpa)
    return ComparedSettings(
        outlook,
        usual.point,
        hpa,
        near,
        advised,
        ours.point,
        flat or rival,
        is_flat=flat is not None,
        level=_cheapest_level(ours, advised, hpa),
        remarkable=find_remarkable(results, ours) if is_better else None,
    )


def choose_hpa(points: Sequence[Point], usual: Point) -> Point:
    """The setting of the HPA to compare with: the ``usual`` one, or the highest usable utilisation.

    If none is usable, it is the one with the fewest minutes short.
    """
    if usual.violation <= USABLE:
        return usual
    fit = [point for point in points if point.violation <= USABLE]
    return max(fit, key=lambda point: point.knob) if fit else min(points, key=lambda point: point.violation)


def advised_point(ours: PolicyResult, hpa: Point) -> Point:
    """The cheapest setting that serves at least as well as the status quo; at equal cost the one in force, else the
    highest service level.

    If none serves as well, a policy with service levels keeps the one in force; otherwise it is the headroom with the
    fewest minutes short.
    """
    cheapest = cheapest_as_good(ours.points, hpa)
    if cheapest is None:
        return ours.point if ours.policy.knob == LEVEL_KNOB else min(ours.points, key=_service)
    as_cheap = [point for point in ours.points if serves_as(point, hpa) and point.cost <= cheapest.cost * (1 + ROUNDED)]
    if ours.point in as_cheap:
        return ours.point
    levels = [point for point in as_cheap if point.knob < 1]
    return max(levels, key=lambda point: point.knob) if levels else cheapest


def nearest_in_cost(points: Sequence[Point], hpa: Point) -> Point:
    """The setting that costs the same as ``hpa`` and of these serves best; if there is none, the nearest in cost.

    If a cheaper setting serves as well, it is that one.
    """
    same = [point for point in points if abs(point.cost / hpa.cost - 1) <= SAME_COST]
    near = min(same, key=_service) if same else min(points, key=lambda point: abs(point.cost - hpa.cost))
    return cheapest_as_good(points, near) or near


def find_rival(results: Sequence[PolicyResult], hpa: Point) -> Rival:
    """The cheapest setting without Kedastral that serves as well as ``hpa``; ``hpa`` itself if none is cheaper."""
    found = [
        Rival(result.policy.name, point)
        for result in results
        if result.policy.name in RIVALS and (point := cheapest_as_good(result.points, hpa)) is not None
    ]
    rival = min(found, key=lambda one: one.point.cost)
    return rival if rival.point.cost < hpa.cost * (1 - ROUNDED) else Rival(HPA, hpa)


def find_flat(results: Sequence[PolicyResult], rival: Rival, hpa: Point) -> Rival | None:
    """The fixed number of pods that serves as well as ``hpa``, if the load is flat: it costs hardly more than need be.

    It must also be about as cheap as the ``rival``, and cheaper than ``hpa``.
    """
    fixed = next((result.points for result in results if result.policy.name == FIXED), ())
    point = cheapest_as_good(fixed, hpa)
    if point is None or point.cost > FLAT or point.cost >= hpa.cost * (1 - ROUNDED):
        return None
    return Rival(FIXED, point) if point.cost * CHEAPER <= rival.point.cost else None


def outlook_of(
    ours: Sequence[Point], advised: Point, near: Point, rival: Rival, hpa: Point, others: Sequence[Point]
) -> Outlook:
    """Whether Kedastral is better than the best alternative, whose settings are ``others``.

    Better means as good as ``hpa`` for clearly less than any rival, or, at no more than the cost of ``hpa``, clearly
    better than ``hpa`` and any rival at that cost. Worse means as good only for clearly more, or never; here the cost
    is interpolated between replayed settings, since the next setting may be much dearer than necessary.
    """
    if not serves_as(advised, hpa):
        return Outlook.WORSE
    if advised.cost <= CHEAPER * rival.point.cost:
        return Outlook.BETTER
    affordable = [hpa, *(point for point in others if point.cost <= hpa.cost * (1 + SAME_COST))]
    if near.cost <= hpa.cost * (1 + SAME_COST) and all(_is_clearly_better(near, other) for other in affordable):
        return Outlook.BETTER
    return Outlook.WORSE if rival.point.cost <= CHEAPER * cost_as_good(ours, hpa) else Outlook.EVEN


def find_remarkable(results: Sequence[PolicyResult], ours: PolicyResult) -> Rival | None:
    """The cheapest setting of a simpler policy with at most half of Kedastral's shortages at no higher cost.

    It is compared with Kedastral's next dearer setting, so that the distance between settings does not decide.
    """
    found = [
        Rival(result.policy.name, point)
        for result in results
        if result.policy.name in RIVALS
        for point in result.points
        if (beside := next_dearer(ours.points, point)) is not None
        and all(floored(point, figure) <= FAR_BETTER * floored(beside, figure) for figure in Figure)
    ]
    return min(found, key=lambda one: one.point.cost, default=None)


def find_only(results: Sequence[PolicyResult], take: Point, hpa: Point, minutes: float) -> Rival | None:
    """The only policy with at most half of the minutes short of ``take``, if those matter, and if it is no Kedastral.

    It may cost up to twice as much as ``hpa``, and so may the others, none of which avoids half of these minutes.
    """
    if max(take.violation, take.unserved) < MATTERS:
        return None
    most = min(FAR_BETTER * take.violation, take.violation - MANY_MINUTES / minutes)
    found = [
        Rival(result.policy.name, min(fit, key=lambda point: point.violation))
        for result in results
        if result.policy.name in {KEDASTRAL, *RIVALS}
        and (fit := [one for one in result.points if one.violation <= most and one.cost <= AFFORDABLE * hpa.cost])
    ]
    if len(found) != 1 or found[0].policy == KEDASTRAL or found[0].point.unserved > take.unserved:
        return None
    best = found[0]
    points = next(result.points for result in results if result.policy.name == best.policy)
    as_few = [one for one in points if one.violation <= best.point.violation + AS_FEW * take.violation]
    return Rival(best.policy, min(as_few, key=lambda point: point.cost))


def next_dearer(points: Sequence[Point], other: Point) -> Point | None:
    """The best-serving setting among those that cost no more than the next one above ``other``.

    None if ``other`` is cheaper than all: nothing is known about Kedastral at its cost.
    """
    if other.cost < min(point.cost for point in points):
        return None
    above = min((point.cost for point in points if point.cost >= other.cost), default=other.cost)
    return min((point for point in points if point.cost <= above), key=_service)


def floored(point: Point, figure: Figure) -> float:
    """A figure of a point, no smaller than its floor."""
    return max(figure.of(point), figure.value)


def _service(point: Point) -> tuple[float, float, float]:
    return floored(point, Figure.VIOLATION), floored(point, Figure.UNSERVED), point.cost


def _is_clearly_better(point: Point, other: Point) -> bool:
    return all(floored(point, figure) <= CLEARLY * floored(other, figure) for figure in Figure)


def _at(points: Sequence[Point], setting: float) -> Point:
    return next(point for point in points if point.knob == setting)


def _cheapest_level(ours: PolicyResult, advised: Point, hpa: Point) -> Point | None:
    if ours.policy.knob != LEVEL_KNOB or advised.knob < 1:
        return None
    return cheapest_as_good([point for point in ours.points if point.knob < 1], hpa)


def _points_of_rivals(results: Sequence[PolicyResult]) -> list[Point]:
    def points() -> Iterator[Point]:
        for result in results:
            if result.policy.name in RIVALS:
                yield from result.points

    return list(points())
