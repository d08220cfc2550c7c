# SPDX-License-Identifier: Apache-2.0
"""From load to replicas: the rules of the plan by hand-worked numbers, and properties of every plan."""

import itertools
import math
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.capacity import (
    MAX_REPLICAS,
    PlanPolicy,
    ReplicaBounds,
    Rounding,
    least_before,
    limit_change,
    plan_replicas,
    reactive_replicas,
    round_replicas,
)


def policy(
    target: float = 100,
    headroom: float = 1.0,
    *,
    minimum: int = 0,
    maximum: int = 0,
    up: float = 1e6,
    down: float = 100,
    prewarm: int = 0,
    rounding: Rounding = Rounding.CEIL,
) -> PlanPolicy:
    """A policy without limits except those that a test sets."""
    return PlanPolicy(target, headroom, ReplicaBounds(minimum, maximum), up, down, prewarm, rounding)


def plan(values: Any, by: PlanPolicy, previous: int | None = None) -> list[int]:
    return [int(count) for count in plan_replicas(np.asarray(values, dtype=np.float64), by, previous=previous)]


def test_first_example_of_the_contract() -> None:
    by = PlanPolicy(target_per_pod=100, headroom=1.2, prewarm_steps=2)

    assert plan([400, 500, 1000], by, previous=5) == [10, 12, 12]


def test_second_example_of_the_contract() -> None:
    by = PlanPolicy(target_per_pod=50, headroom=1.2, bounds=ReplicaBounds(min=1), prewarm_steps=0)

    assert plan([120, 130, 125, 140, 100], by, previous=2) == [3, 4, 3, 4, 3]


def test_defaults_are_those_of_the_contract() -> None:
    assert PlanPolicy() == PlanPolicy(200.0, 1.2, ReplicaBounds(2, 50), 2.0, 50.0, 2, Rounding.CEIL)


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        (Rounding.CEIL, [0, 1, 2, 2, 2, 3, 3]),
        (Rounding.ROUND, [0, 1, 1, 2, 2, 2, 3]),
        (Rounding.FLOOR, [0, 1, 1, 1, 2, 2, 2]),
    ],
)
def test_a_fraction_of_a_pod_is_rounded_as_configured(rounding: Rounding, expected: list[int]) -> None:
    assert plan([0, 100, 149, 150, 200, 201, 250], policy(rounding=rounding)) == expected


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("amount", [3.0, 3 * (1 + 0.9e-9), 3 * (1 - 0.9e-9), 0.1 + 0.2 + 2.7, 300 * 1.1 / 110])
def test_a_hair_from_a_whole_number_is_that_number(rounding: Rounding, amount: float) -> None:
    assert round_replicas(amount, rounding) == 3


def test_more_than_a_hair_is_a_fraction() -> None:
    assert round_replicas(3 * (1 + 2e-9)) == 4
    assert round_replicas(3 * (1 - 2e-9), Rounding.FLOOR) == 2


def test_a_need_a_hair_above_a_whole_number_asks_for_no_further_pod() -> None:
    assert 110 * 1.1 > 121  # in binary; the very reason for the rule

    assert plan([110], policy(target=1, headroom=1.1)) == [121]
    assert plan([330], policy(target=110 * (1 - 1e-10))) == [3]


def test_the_growth_limit_snaps_to_whole_numbers() -> None:
    assert 110 * 1.1 > 121

    assert limit_change(110, 500, policy(up=1.1)) == 121


def test_the_shrink_limit_snaps_to_whole_numbers() -> None:
    assert 10 * (1 - 90 / 100) < 1

    assert limit_change(10, 0, policy(down=90)) == 1


def test_the_floor_snaps_to_whole_numbers() -> None:
    assert reactive_replicas(110, 1.1, policy(target=1)) == 121


def test_the_plan_stays_in_its_bounds() -> None:
    assert plan([0, 100, 500, 10_000], policy(minimum=2, maximum=7)) == [2, 2, 5, 7]


def test_a_maximum_of_zero_is_none() -> None:
    assert plan([1e6], policy(maximum=0)) == [10_000]


def test_equal_bounds_fix_the_replicas() -> None:
    assert plan([0, 1e9], policy(minimum=4, maximum=4), previous=50) == [4, 4]


def test_bounds_hold_against_a_previous_plan_outside_them() -> None:
    assert plan([100, 100], policy(minimum=1, maximum=5, down=10), previous=100) == [5, 4]
    assert plan([5000, 5000], policy(minimum=10, up=2), previous=0) == [10, 20]


def test_the_first_step_is_not_limited_without_a_previous_plan() -> None:
    assert plan([10_000, 10_000], policy(up=1.5)) == [100, 100]
    assert plan([10_000, 100], policy(down=10)) == [100, 90]


def test_growth_is_limited_from_step_to_step() -> None:
    assert plan([10_000] * 5, policy(up=1.5), previous=4) == [6, 9, 14, 21, 32]


def test_growth_from_zero_and_from_one_reaches_the_factor_itself() -> None:
    assert plan([10_000] * 3, policy(up=2), previous=0) == [2, 4, 8]
    assert plan([10_000] * 3, policy(up=2), previous=1) == [2, 4, 8]
    assert plan([10_000] * 3, policy(up=1.1), previous=0) == [2, 3, 4]
    assert plan([10_000] * 3, policy(up=1.1), previous=1) == [2, 3, 4]
    assert plan([10_000], policy(up=2.5), previous=1) == [3]


def test_growth_begins_early_enough_for_the_need() -> None:
    assert plan([0, 0, 0, 0, 0, 2000, 2000], policy(up=2), previous=0) == [0, 2, 3, 5, 10, 20, 20]
    assert plan([100, 100, 100, 100, 800, 100], policy(up=2), previous=1) == [1, 1, 2, 4, 8, 1]
    assert plan([500, 100, 100, 1300], policy(up=1.5)) == [5, 6, 9, 13]


def test_growth_that_can_no_longer_be_in_time_is_as_fast_as_the_limit_allows() -> None:
    assert plan([0, 0, 2000, 2000, 2000, 2000], policy(up=2), previous=0) == [2, 4, 8, 16, 20, 20]


def test_the_plan_begins_to_grow_no_earlier_than_it_must() -> None:
    assert least_before(20, policy(up=2)) == 10
    assert least_before(21, policy(up=2)) == 11
    assert least_before(2, policy(up=2)) == 0
    assert least_before(3, policy(up=2)) == 2
    assert least_before(121, policy(up=1.1)) == 110  # 110 * 1.1 is 121 and a hair


def test_shrinking_is_limited_from_step_to_step() -> None:
    assert plan([0] * 6, policy(down=50), previous=13) == [6, 3, 1, 0, 0, 0]


def test_nothing_shrinks_at_zero_percent() -> None:
    assert plan([0, 500, 0], policy(down=0), previous=7) == [7, 7, 7]


def test_anything_may_shrink_at_a_hundred_percent() -> None:
    assert plan([5000, 0], policy(down=100), previous=40) == [50, 0]


def test_shrinking_from_zero_and_one() -> None:
    assert plan([0], policy(down=50), previous=0) == [0]
    assert plan([0], policy(down=50), previous=1) == [0]


def test_prewarm_covers_the_steps_ahead() -> None:
    values = [100, 200, 900, 300, 100]

    assert plan(values, policy(prewarm=0)) == [1, 2, 9, 3, 1]
    assert plan(values, policy(prewarm=1)) == [2, 9, 9, 3, 1]
    assert plan(values, policy(prewarm=2)) == [9, 9, 9, 3, 1]


def test_prewarm_beyond_the_horizon_covers_what_is_left() -> None:
    assert plan([300, 200, 900, 100], policy(prewarm=3)) == [9, 9, 9, 1]
    assert plan([300, 200, 900, 100], policy(prewarm=10**18)) == [9, 9, 9, 1]


def test_the_plan_is_not_shifted() -> None:
    assert plan([100, 100, 100, 800, 100], policy()) == [1, 1, 1, 8, 1]


def test_no_load_needs_no_pods() -> None:
    assert plan([0, 0], policy()) == [0, 0]
    assert plan([5e-324], policy(target=1e300)) == [0]


@pytest.mark.parametrize("previous", [None, 0, MAX_REPLICAS])
@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize(("load", "target"), [(1e308, 1e-308), (1e308, 5e-324), (1.7e308, 200.0), (3e9, 1.0)])
def test_a_plan_ends_where_kubernetes_counts_no_further(
    load: float, target: float, rounding: Rounding, previous: int | None
) -> None:
    by = policy(target, headroom=1e308, up=1e308, rounding=rounding)

    assert plan([load, load], by, previous) == [MAX_REPLICAS, MAX_REPLICAS]
    assert reactive_replicas(load, 1e308, by) == MAX_REPLICAS
    assert MAX_REPLICAS == 2**31 - 1


def test_huge_loads_end_at_the_maximum() -> None:
    assert plan([1e308], policy(5e-324, maximum=50)) == [50]


def test_an_empty_forecast_has_an_empty_plan() -> None:
    assert plan([], policy(), previous=3) == []


def test_the_floor_is_bound_but_not_limited_in_its_change() -> None:
    by = policy(minimum=2, maximum=20, up=1.1, down=0)

    assert reactive_replicas(0, 1.1, by) == 2
    assert reactive_replicas(900, 1.1, by) == 10  # 9.9 pods
    assert reactive_replicas(1e9, 1.1, by) == 20


def test_the_floor_is_rounded_up_however_the_plan_rounds() -> None:
    assert reactive_replicas(101, 1.0, policy(rounding=Rounding.FLOOR)) == 2


def test_the_plan_is_read_only() -> None:
    made = plan_replicas(np.array([1.0, 2.0]), policy(), previous=None)

    assert made.dtype == np.int64
    with pytest.raises(ValueError, match="read-only"):
        made[0] = 5


def test_the_shrink_limit_is_exact_in_percent() -> None:
    assert limit_change(10_000, 0, policy(down=1)) == 9900
    assert limit_change(10_000, 0, policy(down=0.5)) == 9950
    assert limit_change(10_000, 0, policy(down=99.99)) == 1


def test_a_need_of_next_to_nothing_snaps_to_nothing() -> None:
    assert round_replicas(0.9e-9) == 0
    assert round_replicas(1.5e-9) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"target_per_pod": 0.0},
        {"target_per_pod": -1.0},
        {"headroom": 0.99},
        {"up_max_factor": 1.0},
        {"down_max_pct": -0.1},
        {"down_max_pct": 100.1},
        {"prewarm_steps": -1},
    ],
    ids=str,
)
def test_a_policy_that_cannot_plan_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PlanPolicy(**wrong)


@pytest.mark.parametrize("name", ["target_per_pod", "headroom", "up_max_factor", "down_max_pct"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_policy_of_no_number_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        PlanPolicy(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("minimum", "maximum"), [(-1, 5), (0, -1), (6, 5)])
def test_bounds_out_of_order_are_refused(minimum: int, maximum: int) -> None:
    with pytest.raises(ValueError, match=r"minimum|min|max"):
        ReplicaBounds(minimum, maximum)


loads = st.floats(0, 1e6) | st.floats(0, allow_infinity=False, allow_nan=False)
forecasts = st.lists(loads, min_size=1, max_size=12)
bounds = st.tuples(st.integers(0, 100), st.integers(0, 100)).map(sorted).map(lambda b: ReplicaBounds(*b)) | st.builds(
    ReplicaBounds, st.integers(0, 100), st.just(0)
)
policies = st.builds(
    PlanPolicy,
    target_per_pod=st.floats(1e-3, 1e6),
    headroom=st.floats(1, 3),
    bounds=bounds,
    up_max_factor=st.floats(1.01, 10),
    down_max_pct=st.floats(0, 100),
    prewarm_steps=st.integers(0, 15),
    rounding=st.sampled_from(Rounding),
)
previous_replicas = st.none() | st.integers(0, 200)


@given(forecasts, policies, previous_replicas)
def test_every_plan_is_aligned_bound_and_read_only(values: list[float], by: PlanPolicy, previous: int | None) -> None:
    made = plan_replicas(np.array(values), by, previous=previous)

    assert made.shape == (len(values),)
    assert not made.flags.writeable
    assert made.min() >= by.bounds.min
    assert made.max() <= (by.bounds.max or MAX_REPLICAS)


@given(st.lists(st.tuples(loads, loads), min_size=1, max_size=12), policies)
def test_more_load_never_means_fewer_replicas(pairs: list[tuple[float, float]], by: PlanPolicy) -> None:
    less = plan([min(pair) for pair in pairs], by)
    more = plan([max(pair) for pair in pairs], by)

    assert all(a <= b for a, b in zip(less, more, strict=True))


@given(forecasts, policies, previous_replicas)
def test_neighbours_differ_by_no_more_than_the_limits(
    values: list[float], by: PlanPolicy, previous: int | None
) -> None:
    made = plan(values, by, previous)
    known = made if previous is None else [previous, *made]
    hair = 1 + 1e-8  # limits that are whole but for rounding

    for before, after in itertools.pairwise(known):
        maximum = max(math.ceil(before * by.up_max_factor * hair), math.ceil(by.up_max_factor), by.bounds.min)
        minimum = min(math.floor(before * (1 - by.down_max_pct / 100) / hair), by.bounds.max or MAX_REPLICAS)
        assert minimum <= after <= maximum


@given(forecasts, policies, previous_replicas)
def test_every_step_has_what_it_needs_unless_the_limit_came_too_late(
    values: list[float], by: PlanPolicy, previous: int | None
) -> None:
    made, needed = plan(values, by, previous), plan(values, attrs.evolve(by, up_max_factor=1e308, down_max_pct=100))
    fastest = previous  # from the plan before, as fast as the limit allows

    for replicas, need in zip(made, needed, strict=True):
        if fastest is not None:
            fastest = by.bounds.clamp(limit_change(fastest, MAX_REPLICAS, by))
        assert replicas >= (need if fastest is None else min(need, fastest))


@given(forecasts, policies)
def test_no_step_could_do_with_less_and_still_grow_in_time(values: list[float], by: PlanPolicy) -> None:
    by = attrs.evolve(by, down_max_pct=100)
    made, needed = plan(values, by), plan(values, attrs.evolve(by, up_max_factor=1e308))

    for (replicas, then), need in zip(itertools.pairwise(made), needed, strict=False):
        if replicas > need:
            assert limit_change(replicas - 1, MAX_REPLICAS, by) < then


@given(st.integers(0, MAX_REPLICAS), policies)
def test_from_the_fewest_replicas_before_one_step_reaches_those_desired(desired: int, by: PlanPolicy) -> None:
    least = least_before(desired, by)

    assert 0 <= least <= desired
    assert limit_change(least, desired, by) >= desired
    if least:
        assert limit_change(least - 1, desired, by) < desired


@given(forecasts, policies, previous_replicas)
def test_the_same_input_gives_the_same_plan(values: list[float], by: PlanPolicy, previous: int | None) -> None:
    assert plan(values, by, previous) == plan(values, by, previous)


@given(loads, policies)
def test_the_floor_covers_the_load_it_is_for(load: float, by: PlanPolicy) -> None:
    floor = reactive_replicas(load, 1.0, by)

    assert by.bounds.min <= floor <= (by.bounds.max or MAX_REPLICAS)
    if floor < (by.bounds.max or MAX_REPLICAS):
        assert floor * by.target_per_pod >= load * (1 - 1e-8) - 1e-8 * by.target_per_pod
