# SPDX-License-Identifier: Apache-2.0
"""The HPA against hand-worked cases of the algorithm that Kubernetes documents.

Source of the rules: kubernetes.io, "Horizontal Pod Autoscaling": "Algorithm details", "Configurable scaling behavior";
``pkg/controller/podautoscaler/horizontal.go`` and ``replica_calculator.go`` if the page does not say.
"""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.capacity import ReplicaBounds
from kedastral.simulation.hpa import (
    Hpa,
    HpaBehavior,
    HpaMetric,
    RateKind,
    RatePolicy,
    ScalingRules,
    SelectPolicy,
    propose_replicas,
)

BOUNDS = ReplicaBounds(1, 400)


def percent(value: int, period: float) -> RatePolicy:
    return RatePolicy(RateKind.PERCENT, value, period)


def pods(value: int, period: float) -> RatePolicy:
    return RatePolicy(RateKind.PODS, value, period)


def up(*policies: RatePolicy, select: SelectPolicy = SelectPolicy.MAX, window: float = 0.0) -> HpaBehavior:
    rules = ScalingRules(tolerance=0.0, policies=policies, select=select, stabilization_window=window)
    return HpaBehavior(up=rules, down=ScalingRules(tolerance=0.0))


def down(*policies: RatePolicy, select: SelectPolicy = SelectPolicy.MAX, window: float = 0.0) -> HpaBehavior:
    rules = ScalingRules(tolerance=0.0, policies=policies, select=select, stabilization_window=window)
    return HpaBehavior(up=ScalingRules(tolerance=0.0), down=rules)


def run(hpa: Hpa, current: int, wanted: list[float | None], every: float = 60.0) -> list[int]:
    """The orders when the trigger gives the ``wanted`` values (target 1) in turn."""
    ordered = []
    for i, value in enumerate(wanted):
        current = hpa.recommend(i * every, current, [HpaMetric(value)])
        ordered.append(current)
    return ordered


@pytest.mark.parametrize(
    ("value", "target", "current", "expected"),
    [
        # the documentation's own example, as an average: 200m used, 100m wanted -> twice the pods; 50m -> half
        (2 * 200, 100, 2, 4),
        (2 * 50, 100, 2, 1),
        # tolerance 0.1 on value / (target * current), both ends included
        (1100, 100, 10, 10),  # 1.100: tolerated
        (1101, 100, 10, 12),  # 1.101: ceil(11.01)
        (900, 100, 10, 10),  # 0.900: tolerated
        (899, 100, 10, 9),  # 0.899: ceil(8.99)
        (21, 1, 20, 20),  # 1.05: why 20 -> 21 never happens
        (23, 1, 20, 23),  # 1.15
        # the ratio is of all pods, the result is not: ceil(value / target), not ceil(ratio) * current
        (250, 100, 1, 3),
        (1, 100, 50, 1),
        (0, 100, 50, 0),
        # rounding is not load: (0.1 + 0.2) / 0.1 is 3.0000000000000004, and is 3
        (0.1 + 0.2, 0.1, 1, 3),
        (8.1, 0.9, 10, 10),  # nor a change: 8.1 / 9 is 0.8999999999999999, and is 0.9: tolerated
        (320, 100 * 0.8, 3, 4),  # utilisation 80 %: 320 / 80 = 4, ratio 320 / 240 = 1.33
    ],
)
def test_one_metric_is_tolerance_on_the_ratio_then_ceil(
    value: float, target: float, current: int, expected: int
) -> None:
    assert propose_replicas([HpaMetric(value, target)], current, HpaBehavior.UNLIMITED) == expected


def test_tolerances_differ_by_direction() -> None:
    behavior = HpaBehavior(up=ScalingRules(tolerance=0.0), down=ScalingRules(tolerance=0.3))
    assert propose_replicas([HpaMetric(10.1)], 10, behavior) == 11
    assert propose_replicas([HpaMetric(7.0)], 10, behavior) == 10
    assert propose_replicas([HpaMetric(6.9)], 10, behavior) == 7


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0, 15.0], 15),  # the largest of all
        ([5.0, None], None),  # 5 < 10: an unavailable metric blocks the way down
        ([15.0, None], 15),  # but not the way up
        ([10.5, None], 10),  # tolerated: stays
        ([None, None], None),  # no metric at all
        ([], None),
        ([0.0, 12.0], 12),  # value 0 leaves the decision to the others
    ],
)
def test_metrics_together(values: list[float | None], expected: int | None) -> None:
    assert propose_replicas([HpaMetric(value) for value in values], 10, HpaBehavior.UNLIMITED) == expected


def test_holds_without_a_metric_and_remembers_nothing_of_it() -> None:
    hpa = Hpa(down(window=300.0), BOUNDS)
    # 10 wanted at 0 s; held at 60..300 s; at 300 s the 10 of 0 s is exactly 300 s old and no longer counts: 4
    assert run(hpa, 10, [10.0, None, None, None, None, 4.0]) == [10, 10, 10, 10, 10, 4]


def test_is_switched_off_at_zero_replicas() -> None:
    assert Hpa(HpaBehavior.KUBERNETES, BOUNDS).recommend(0.0, 0, [HpaMetric(50.0)]) == 0


def test_goes_into_its_bounds_at_once_whatever_the_metrics() -> None:
    hpa = Hpa(HpaBehavior.KUBERNETES, ReplicaBounds(3, 20))
    assert hpa.recommend(0.0, 2, [HpaMetric(None)]) == 3
    assert hpa.recommend(15.0, 50, [HpaMetric(None)]) == 20


def test_bounds_come_last() -> None:
    hpa = Hpa(HpaBehavior.DIRECT, ReplicaBounds(3, 20))
    assert run(hpa, 5, [100.0, 0.0]) == [20, 3]


def test_never_goes_to_zero_by_itself() -> None:
    assert run(Hpa(HpaBehavior.DIRECT, ReplicaBounds(0, 0)), 5, [0.0]) == [1]


def test_direct_orders_what_the_trigger_says() -> None:
    assert run(Hpa(HpaBehavior.DIRECT, BOUNDS), 5, [6.0, 5.0, 50.0, 49.0, 1.0]) == [6, 5, 50, 49, 1]


class TestStabilization:
    def test_down_takes_the_largest_recommendation_of_the_window(self) -> None:
        # window 300 s, a decision a minute, so five decisions: the current one and the four before it
        # wanted  10  4  4  4  4  4   -> the 10 of 0 s is 300 s old at 300 s, and no longer newer than the window
        # largest 10 10 10 10 10  4
        assert run(Hpa(down(window=300.0), BOUNDS), 10, [10, 4, 4, 4, 4, 4]) == [10, 10, 10, 10, 10, 4]

    def test_down_goes_no_lower_than_anything_recommended_in_between(self) -> None:
        # wanted  10  4  7  4  4  4  4  4
        # largest 10 10 10 10 10  7  7  4   (7 of 120 s leaves the window at 420 s)
        wanted: list[float | None] = [10, 4, 7, 4, 4, 4, 4, 4]
        assert run(Hpa(down(window=300.0), BOUNDS), 10, wanted) == [10, 10, 10, 10, 10, 7, 7, 4]

    def test_begins_with_the_replicas_it_finds(self) -> None:
        # never recommended 8, but found them at 0 s: they hold until 300 s
        assert run(Hpa(down(window=300.0), BOUNDS), 8, [2, 2, 2, 2, 2, 2]) == [8, 8, 8, 8, 8, 2]

    def test_up_takes_the_smallest_recommendation_of_the_window(self) -> None:
        # window 120 s: at 60 s the 5 found at 0 s still counts, at 120 s no more, then min(8, 9) = 8
        assert run(Hpa(up(window=120.0), BOUNDS), 5, [5, 8, 9, 9]) == [5, 5, 8, 9]

    def test_both_at_once_hold_inside_the_window(self) -> None:
        rules = ScalingRules(tolerance=0.0, stabilization_window=180.0)
        # current 10. At 60 s: lowest of (10, 20) = 10, highest 20: 10 lies between, stays. At 120 s: 10..20, stays.
        # At 180 s the 10 of 0 s is gone: lowest of (20, 5, 8) = 5, highest 20: stays. At 240 s (5, 8, 8): 8.
        hpa = Hpa(HpaBehavior(up=rules, down=rules), BOUNDS)
        assert run(hpa, 10, [10, 20, 5, 8, 8]) == [10, 10, 10, 10, 8]

    def test_the_unstabilized_recommendation_is_remembered(self) -> None:
        # a tolerated ratio recommends the current replicas, so those hold the window too:
        # target 100: 1000 -> 10. 950: ratio 0.95 tolerated, recommends 10 at 60 s, which leaves at 360 s
        hpa = Hpa(HpaBehavior.UNLIMITED, BOUNDS)
        ordered, current = [], 10
        for i, load in enumerate([1000, 950, 400, 400, 400, 400, 400]):
            current = hpa.recommend(60.0 * i, current, [HpaMetric(load, 100.0)])
            ordered.append(current)
        assert ordered == [10, 10, 10, 10, 10, 10, 4]


class TestRates:
    def test_default_ramp_from_one_to_fifty_takes_75_seconds(self) -> None:
        # every 15 s max(+100 %, +4): 1 -> max(2, 5) = 5 -> max(10, 9) = 10 -> 20 -> 40 -> min(80, 50) = 50.
        # The change of 15 s ago is exactly as old as the period and counts no more, so each step starts afresh.
        # Five steps: the fifth is ordered 60 s after the first, 75 s after the load came if the sync was just missed.
        hpa = Hpa(HpaBehavior.KUBERNETES, BOUNDS)
        assert run(hpa, 1, [50.0] * 6, every=15.0) == [5, 10, 20, 40, 50, 50]

    def test_a_change_counts_for_its_period(self) -> None:
        # +4 per 60 s, a decision every 15 s. 10 -> 14 at 0 s; at 15, 30, 45 s the 4 added count: start 10, limit 14.
        # At 60 s they are 60 s old: start 14, limit 18.
        assert run(Hpa(up(pods(4, 60.0)), BOUNDS), 10, [30.0] * 6, every=15.0) == [14, 14, 14, 14, 18, 18]

    def test_pods_taken_away_in_the_period_may_come_back(self) -> None:
        # 10 -> 6 (down is not limited); up +1 per 60 s counts from the 10 of the period's start: limit 11
        assert run(Hpa(up(pods(1, 60.0)), BOUNDS), 10, [6.0, 30.0], every=15.0) == [6, 11]

    def test_the_larger_of_percent_and_pods(self) -> None:
        # start 10: 50 % -> 15, 4 pods -> 14
        assert run(Hpa(up(percent(50, 60.0), pods(4, 60.0)), BOUNDS), 10, [30.0]) == [15]

    def test_the_smaller_of_percent_and_pods(self) -> None:
        behavior = up(percent(50, 60.0), pods(4, 60.0), select=SelectPolicy.MIN)
        assert run(Hpa(behavior, BOUNDS), 10, [30.0]) == [14]

    def test_percent_up_is_rounded_up(self) -> None:
        # 10 % of 3 pods: 3 * 1.1 = 3.3 -> 4, else it would never grow
        assert run(Hpa(up(percent(10, 60.0)), BOUNDS), 3, [30.0]) == [4]

    def test_down_by_percent_is_cut(self) -> None:
        # 10 % of 15 pods: 15 * 0.9 = 13.5 -> 13
        assert run(Hpa(down(percent(10, 60.0)), BOUNDS), 15, [1.0]) == [13]

    def test_down_by_the_larger_change_is_the_lower_limit(self) -> None:
        # the documentation's example: 10 % or 4 pods per minute. 80 pods: 10 % = 8 a minute: 72, then 64.8 -> 64,
        # 57.6 -> 57, 51.3 -> 51, 45.9 -> 45, 40.5 -> 40, and from there 4 pods are as many or more: 36, 32
        behavior = down(pods(4, 60.0), percent(10, 60.0))
        assert run(Hpa(behavior, BOUNDS), 80, [1.0] * 8) == [72, 64, 57, 51, 45, 40, 36, 32]

    def test_down_by_the_smaller_change_is_the_higher_limit(self) -> None:
        # 5 pods or 10 %, the smaller: 80 -> max(75, 72) = 75 -> max(70, 67) = 70
        behavior = down(pods(5, 60.0), percent(10, 60.0), select=SelectPolicy.MIN)
        assert run(Hpa(behavior, BOUNDS), 80, [1.0, 1.0]) == [75, 70]

    def test_different_periods(self) -> None:
        # at most 5 pods in 60 s and at most 2 in 15 s (the smaller): 2 at 0 s, 4 at 15 s, then 60 s allow 5 in all
        behavior = up(pods(5, 60.0), pods(2, 15.0), select=SelectPolicy.MIN)
        assert run(Hpa(behavior, BOUNDS), 10, [30.0] * 5, every=15.0) == [12, 14, 15, 15, 17]

    def test_disabled_direction_never_moves(self) -> None:
        assert run(Hpa(down(select=SelectPolicy.DISABLED), BOUNDS), 10, [4.0, 12.0, 1.0]) == [10, 12, 12]

    def test_rates_limit_what_stabilization_left(self) -> None:
        # window 120 s and 1 pod per 60 s: held at 10 while the 10 of 0 s counts, then 9, 8
        assert run(Hpa(down(pods(1, 60.0), window=120.0), BOUNDS), 10, [10, 5, 5, 5]) == [10, 10, 9, 8]

    def test_a_limit_passed_by_hand_only_stops(self) -> None:
        # 10 -> 20 allowed (+100 % per 60 s). By hand to 15: the period began with 15 - 10 added = 5, limit 10: hold
        hpa = Hpa(up(percent(100, 60.0)), BOUNDS)
        assert hpa.recommend(0.0, 10, [HpaMetric(90.0)]) == 20
        assert hpa.recommend(15.0, 15, [HpaMetric(90.0)]) == 15
        # 20 -> 10 allowed (-50 % per 60 s). By hand to 5: it began with 5 + 10 taken = 15, limit 7: hold
        hpa = Hpa(down(percent(50, 60.0)), BOUNDS)
        assert hpa.recommend(0.0, 20, [HpaMetric(1.0)]) == 10
        assert hpa.recommend(15.0, 5, [HpaMetric(1.0)]) == 5

    def test_going_into_the_bounds_counts_as_a_change(self) -> None:
        # 1 -> 5 into the bounds at 0 s, +4 per 60 s: start 1, limit 5 until 60 s
        hpa = Hpa(up(pods(4, 60.0)), ReplicaBounds(5, 400))
        assert run(hpa, 1, [30.0] * 3, every=30.0) == [5, 5, 9]


@settings(deadline=None)
@given(st.lists(st.floats(0, 300), min_size=1, max_size=40), st.integers(1, 50))
def test_decisions_stay_in_bounds_and_grow_no_faster_than_allowed(wanted: list[float], current: int) -> None:
    hpa = Hpa(HpaBehavior.KUBERNETES, ReplicaBounds(1, 50))
    for i, value in enumerate(wanted):
        ordered = hpa.recommend(15.0 * i, current, [HpaMetric(value)])
        assert 1 <= ordered <= 50
        assert ordered <= max(2 * current, current + 4)
        current = ordered


@settings(deadline=None)
@given(st.lists(st.integers(1, 100), min_size=1, max_size=60), st.integers(1, 100))
def test_stabilized_is_the_largest_of_the_last_five_minutes(wanted: list[int], current: int) -> None:
    # with tolerance 0 and no window up, an independent formula: max of the last 5 (what was found counts at 0 s)
    ordered = run(Hpa(down(window=300.0), BOUNDS), current, [float(w) for w in wanted])
    found = [max(wanted[0], current), *wanted[1:]]
    assert ordered == [max(found[max(0, i - 4) : i + 1]) for i in range(len(wanted))]


@pytest.mark.parametrize("wrong", [{"tolerance": -0.1}, {"stabilization_window": -1.0}])
def test_impossible_rules_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be >= 0"):
        ScalingRules(**wrong)
    with pytest.raises(ValueError, match="must be > 0"):
        HpaMetric(1.0, 0.0)


def test_an_infinite_value_ends_at_the_maximum() -> None:
    assert run(Hpa(HpaBehavior.DIRECT, BOUNDS), 5, [math.inf]) == [400]


# --- a trigger in mode observe beside another one ---

OBSERVED = HpaMetric(0.0)  # what Kedastral answers in mode observe


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 400),
    st.sampled_from([HpaBehavior.KUBERNETES, HpaBehavior.UNLIMITED, HpaBehavior.DIRECT]),
)
def test_beside_a_trigger_that_answers_zero_the_other_one_decides_alone(
    answers: list[tuple[float, bool]], first: int, behavior: HpaBehavior
) -> None:
    """Even if the other one fails: then there is no scale-down, as there would be none without the first."""
    alone, beside = Hpa(behavior, BOUNDS), Hpa(behavior, BOUNDS)
    ordered_alone = ordered_beside = first
    for i, (load, answered) in enumerate(answers):
        reactive = HpaMetric(load if answered else None, 100.0)
        ordered_alone = alone.recommend(15.0 * i, ordered_alone, [reactive])
        ordered_beside = beside.recommend(15.0 * i, ordered_beside, [OBSERVED, reactive])
        assert ordered_beside == ordered_alone


def test_beside_a_trigger_that_fails_the_other_one_only_scales_up() -> None:
    """Why observe answers 0 and not an error."""
    failing, stabilize, busy = HpaMetric(None), HpaMetric(200.0, 100.0), HpaMetric(2000.0, 100.0)
    assert propose_replicas([stabilize], 10, HpaBehavior.DIRECT) == 2
    assert propose_replicas([OBSERVED, stabilize], 10, HpaBehavior.DIRECT) == 2
    assert propose_replicas([failing, stabilize], 10, HpaBehavior.DIRECT) is None
    assert propose_replicas([failing, busy], 10, HpaBehavior.DIRECT) == 20


def test_alone_a_trigger_that_answers_zero_scales_to_the_minimum() -> None:
    assert run(Hpa(HpaBehavior.DIRECT, BOUNDS), 10, [0.0]) == [BOUNDS.min]


def test_without_any_behavior_each_decision_doubles_the_pods_or_reaches_four() -> None:
    """Kubernetes 1.35 with KEDA 2.21 went from 2 pods to 4 and, one sync later, to 8."""
    assert run(Hpa(HpaBehavior.ABSENT, BOUNDS), 2, [9.0, 9.0, 9.0], every=5.0) == [4, 8, 9]
    assert run(Hpa(HpaBehavior.ABSENT, BOUNDS), 1, [9.0, 9.0], every=5.0) == [4, 8]
