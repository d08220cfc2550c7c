# SPDX-License-Identifier: Apache-2.0
"""Curves: interpolation by hand, and properties of every curve."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.simulation.curves import (
    Curve,
    Figure,
    Point,
    average_points,
    cost_ratio_at_figure,
    curve_of,
    geometric_mean,
    ratio_at_cost,
    sweep,
)
from kedastral.simulation.policies import Fixed
from kedastral.simulation.replay import Cluster
from tests.simulation.demands import trial_of


def point(cost: float, unserved: float, violation: float = 0.5, knob: float = 0.0) -> Point:
    return Point(knob, cost, unserved, violation)


def test_linear_in_cost_and_logarithmic_in_the_figure() -> None:
    # from 0.1 at cost 1 to 0.001 at cost 2: halfway 10^-2; a quarter of the way 10^-1.5
    curve = Curve([1.0, 2.0], [0.1, 0.001])
    assert curve.figure_at(1.5) == pytest.approx(0.01)
    assert curve.figure_at(1.25) == pytest.approx(10**-1.5)
    assert curve.cost_at(0.01) == pytest.approx(1.5)
    assert curve.cost_at(10**-1.5) == pytest.approx(1.25)


def test_the_ends_of_a_curve() -> None:
    curve = Curve([1.0, 2.0], [0.1, 0.001])
    assert curve.figure_at(0.99) == math.inf  # no replay was that cheap
    assert curve.figure_at(3.0) == pytest.approx(0.001)  # it need not spend more
    assert curve.cost_at(0.5) == 1.0
    assert curve.cost_at(0.0009) == math.inf  # no replay was that good


def test_made_monotone_and_floored() -> None:
    # by cost: 0.1, 0.2 (worse, though dearer: 0.1), 0.01, 0 (floored to 0.001 %)
    curve = curve_of([point(3, 0.01), point(1, 0.1), point(2, 0.2), point(4, 0.0)], Figure.UNSERVED)
    assert curve == Curve([1, 2, 3, 4], [0.1, 0.1, 0.01, 1e-5])
    assert curve.cost_at(0.1) == 1.0
    assert curve_of([point(1, 0.1, 0.0)], Figure.VIOLATION) == Curve([1], [1e-4])


def test_of_points_at_one_cost_the_best_counts() -> None:
    assert curve_of([point(1, 0.1), point(1, 0.01), point(1, 0.05)], Figure.UNSERVED) == Curve([1], [0.01])


def test_ratios_at_the_cost_and_at_the_figure_of_a_reference() -> None:
    # at cost 1.5 the sweep has 0.01, the reference 0.04: 0.25. It reaches 0.04 at
    # share = log(0.1 / 0.04) / log(100) = 0.19897 of the way from 1 to 2: 1.19897, against 1.5
    points = [point(1, 0.1), point(2, 0.001)]
    reference = point(1.5, 0.04)
    assert ratio_at_cost(points, reference, Figure.UNSERVED) == pytest.approx(0.25)
    assert cost_ratio_at_figure(points, reference, Figure.UNSERVED) == pytest.approx(1.19897 / 1.5, rel=1e-5)


def test_differences_below_the_floor_mean_nothing() -> None:
    assert ratio_at_cost([point(1, 0.0)], point(1, 1e-6), Figure.UNSERVED) == pytest.approx(1.0)


def test_sweeps_average_knob_by_knob() -> None:
    one = [Point(1.0, 1.0, 0.1, 0.0, 4), Point(2.0, 2.0, 0.01, 0.0, 9)]
    other = [Point(1.0, 4.0, 0.001, 0.0, 1), Point(2.0, 8.0, 0.0, 0.04, 0)]
    first, second = average_points([one, other])
    assert first == Point(1.0, pytest.approx(2.0), pytest.approx(0.01), pytest.approx(1e-4), 2)
    # the roots of 0.01 times the floor 0.00001, and of the floor 0.0001 times 0.04
    assert second == Point(2.0, pytest.approx(4.0), pytest.approx(10**-3.5), pytest.approx(0.002), 3)
    with pytest.raises(ValueError, match="same knobs"):
        average_points([one, other[:1]])


def test_geometric_mean() -> None:
    assert geometric_mean([0.5, 2.0, 8.0]) == pytest.approx(2.0)
    assert geometric_mean([1.0, math.inf]) == math.inf
    for wrong in ([], [1.0, 0.0]):
        with pytest.raises(ValueError, match="above 0"):
            geometric_mean(wrong)


def test_a_sweep_replays_once_for_each_setting() -> None:
    # demand 20, 20, 20, 50 at 10 a pod, lead 1 minute; the oracle: 2, 2, 2, 5 pods = 11.
    # Fixed 2: 8 pod-minutes, 30 of 110 unserved, 1 of 4 minutes. Fixed 5 (begins with 2): 2 + 15 = 17, all served.
    points = sweep(lambda _, knob: Fixed(int(knob)), [2, 5], trial_of([20, 20, 20, 50]), Cluster(lead_time=60.0))
    assert points == [
        Point(2, pytest.approx(8 / 11), pytest.approx(30 / 110), 0.25, 0),
        Point(5, pytest.approx(17 / 11), 0.0, 0.0, 1),
    ]


@pytest.mark.parametrize(("costs", "figures"), [([], []), ([1.0], [0.1, 0.1]), ([2, 1], [0.2, 0.1]), ([1], [0.0])])
def test_what_is_no_curve_is_refused(costs: list[float], figures: list[float]) -> None:
    with pytest.raises(ValueError, match=r"curve|rise"):
        Curve(costs, figures)


points_strategy = st.lists(
    st.builds(Point, st.just(0.0), st.floats(0.5, 5), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12
)


@settings(deadline=None)
@given(points_strategy, st.floats(0, 1))
def test_a_curve_against_itself_is_even(points: list[Point], share: float) -> None:
    curve = curve_of(points, Figure.UNSERVED)
    cost = float(curve.costs[0] + share * (curve.costs[-1] - curve.costs[0]))
    reference = point(cost, curve.figure_at(cost))
    assert ratio_at_cost(points, reference, Figure.UNSERVED) == pytest.approx(1.0)
    assert cost_ratio_at_figure(points, reference, Figure.UNSERVED) <= 1 + 1e-6  # cheaper only along a plateau


@settings(deadline=None)
@given(points_strategy, st.floats(0.5, 5), st.floats(0, 2))
def test_more_cost_is_never_worse(points: list[Point], cost: float, more: float) -> None:
    curve = curve_of(points, Figure.VIOLATION)
    assert curve.figure_at(cost + more) <= curve.figure_at(cost)


@settings(deadline=None)
@given(points_strategy, st.floats(1e-5, 1))
def test_the_cost_of_a_figure_reaches_it(points: list[Point], figure: float) -> None:
    curve = curve_of(points, Figure.UNSERVED)
    cost = curve.cost_at(figure)
    if math.isfinite(cost):
        assert curve.figure_at(cost) <= figure * (1 + 1e-6)
