# SPDX-License-Identifier: Apache-2.0
"""The cap on load: the peak of a week limits a plan, but never below the current load or against growth."""

from datetime import UTC, datetime

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.explanation.explain import explain
from kedastral.core.explanation.stages import StageName
from kedastral.core.forecast import Forecast
from kedastral.core.planning.load_cap import (
    CAP_MARGIN,
    MAX_CAP_RELAXATION,
    MAX_GROWTH,
    RELAXATION_GROWTH,
    cap_on_load,
    growth_of_days,
    next_relaxation,
)
from kedastral.core.planning.planner import Workload, plan_step
from kedastral.core.planning.service_level import (
    ServiceLevelGoal,
    ServiceLevelPlan,
    ServiceLevelSettings,
    ServiceLevelState,
    plan_for_service_level,
)
from kedastral.core.planning.stabilization import Recommendation
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.planning.steering import (
    SteeringSettings,
    SteeringState,
    StepOutcome,
    add_recommendation,
    apply_outcome,
    judge_steps,
)
from kedastral.core.planning.uncertainty import Calibration, UncertaintyState
from kedastral.core.series import DataQuality, Floats, Observation, Series

START = datetime(2026, 3, 2, tzinfo=UTC)
STEP, DAY = 900.0, 96
POLICY = PlanPolicy(10.0, bounds=ReplicaBounds(1, 400), up_max_factor=100.0, down_max_pct=100.0, prewarm_steps=0)
SETTINGS = ServiceLevelSettings(SteeringSettings(POLICY, 0.99, 1800.0, stale_after=3600.0), min_history=0.0)
CERTAIN = UncertaintyState(Calibration(thresholds=(0.0, 0.0)), Calibration(thresholds=(0.0, 0.0)))


def days(*largest: float) -> Series:
    """A history with a day for each of ``largest``, oldest first: that load at noon, and half of it otherwise."""
    values = np.repeat(np.array(largest) / 2, DAY)
    values[DAY // 2 :: DAY] *= 2
    return Series(START, STEP, values)


def plan_after(
    history: Series, ahead: float, steering: SteeringState, settings: ServiceLevelSettings = SETTINGS
) -> ServiceLevelPlan:
    made_at = history.time_at(len(history) - 1)
    forecast = Forecast(made_at, history.step, np.full(8, ahead))
    return plan_for_service_level(ServiceLevelState(CERTAIN, steering), history, forecast, settings)[1]


# -- the cap itself --


def test_the_cap_lies_a_tenth_above_the_largest_load_of_the_week() -> None:
    assert cap_on_load(days(900, *[100] * 6, 120)) == pytest.approx(120 * CAP_MARGIN)
    assert cap_on_load(days(*[100] * 7), relaxation=3.0) == pytest.approx(3 * 110)


def test_without_a_whole_week_there_is_no_cap() -> None:
    week = days(*[100] * 7)
    assert cap_on_load(week) is not None
    assert cap_on_load(attrs.evolve(week, values=week.values[1:])) is None
    assert cap_on_load(Series(START, STEP, np.zeros(0))) is None


@pytest.mark.parametrize(("unknown", "capped"), [(40, True), (60, False)])
def test_a_day_of_which_most_is_not_known_ends_the_cap(unknown: int, capped: bool) -> None:
    values = days(*[100] * 7).values.copy()
    values[3 * DAY : 3 * DAY + unknown] = np.nan
    assert (cap_on_load(Series(START, STEP, values)) is not None) == capped
    before = np.append(np.full(DAY, np.nan), days(*[100] * 7).values)
    assert cap_on_load(Series(START, STEP, before)) is not None, "a day of another week"


def test_steps_longer_than_a_day_are_days() -> None:
    assert cap_on_load(Series(START, 3 * 86400.0, np.full(7, 100.0))) == pytest.approx(110)


def test_days_that_outgrow_the_week_before_them_raise_the_cap_by_as_much() -> None:
    growing = days(*(100 * 1.1**day for day in range(14)))
    today = 100 * 1.1**13
    assert cap_on_load(growing) == pytest.approx(today * CAP_MARGIN * 1.1)


def test_one_spike_is_no_growth_and_shrinking_is_none_either() -> None:
    assert growth_of_days(np.array([100.0, 100, 400, *[100.0] * 11])) == 1.0
    assert growth_of_days(100 * 1.1 ** np.arange(14)) == 1.0
    assert growth_of_days(np.array([*[100.0] * 7, 50.0, 25.0, *[1.0] * 5])) == 1.0, "that was the week before"
    assert growth_of_days(np.array([100.0])) == 1.0
    assert growth_of_days(np.array([100.0, np.nan, 0.0])) == 1.0


def test_the_second_largest_growth_over_the_seven_days_before_counts() -> None:
    assert growth_of_days(np.array([200.0, *[100.0] * 5, 190.0, *[100.0] * 7])) == pytest.approx(200 / 190)
    assert growth_of_days(np.array([180.0, 120.0, 100.0])) == pytest.approx(1.2), "with fewer days of those there are"


def test_growth_is_believed_up_to_a_factor() -> None:
    assert growth_of_days(5.0 ** -np.arange(14)) == MAX_GROWTH


# -- the plan that is held --


def test_margin_and_factor_plan_for_no_more_than_the_cap() -> None:
    steering = SteeringState(2.0)
    held = plan_after(days(*[100] * 8), 300.0, steering)
    assert (held.replicas.tolist(), held.load_cap) == ([11] * 8, pytest.approx(110))
    assert plan_after(days(*[100] * 6), 300.0, steering).replicas.tolist() == [60] * 8
    assert plan_after(days(*[100] * 8), 300.0, attrs.evolve(steering, cap_relaxation=3.0)).replicas[0] == 33


def test_a_plan_below_the_cap_is_as_ever_and_says_nothing_of_it() -> None:
    plan = plan_after(days(*[100] * 8), 90.0, SteeringState(1.0))
    assert (plan.replicas.tolist(), plan.load_cap) == ([9] * 8, None)


@pytest.mark.parametrize(("ahead", "uncapped"), [(40.0, 22), (150.0, 30), (20.0, 22)])
def test_what_the_cap_holds_back_is_the_larger_of_what_the_plan_and_the_floor_would_have(
    ahead: float, uncapped: int
) -> None:
    values = days(*[100] * 8).values.copy()
    values[-1] = 100.0
    history = Series(START, STEP, values)
    loads = np.array([10.0, 10.0, ahead, 900.0, *[10.0] * 4])  # what lies beyond the window has its time
    forecast = Forecast(history.time_at(len(history) - 1), STEP, loads)
    state, plan = plan_for_service_level(ServiceLevelState(CERTAIN, SteeringState(2.0)), history, forecast, SETTINGS)
    assert state.steering.published[-1].uncapped == uncapped  # 100 * 2 / 0.95 is 21.05 pods, 150 * 2 is 30
    assert plan.load_cap == pytest.approx(110)


def test_under_a_fixed_headroom_there_is_no_cap() -> None:
    plan = plan_after(days(*[100] * 8), 300.0, SteeringState(2.0), attrs.evolve(SETTINGS, headroom=2.0))
    assert (plan.replicas.tolist(), plan.load_cap) == ([60] * 8, None)


def test_a_load_that_the_history_does_not_hold_yet_is_not_held_back_either() -> None:
    history = days(*[100] * 8)
    partial = DataQuality(at_least=Observation(history.time_at(len(history)), 1000.0))
    plan = plan_after(attrs.evolve(history, quality=partial), 3000.0, SteeringState(2.0))
    assert plan.load_cap == pytest.approx(1000 / 0.95)
    assert (plan.floor, plan.replicas[0]) == (106, 106)


@settings(max_examples=60, deadline=None)
@given(
    factor=st.floats(0.7, 2.0),
    relaxation=st.floats(1.0, MAX_CAP_RELAXATION),
    ahead=st.floats(0.0, 5e3),
    newest=st.floats(0.0, 3e3),
    week=st.floats(0.0, 1e3),
)
def test_what_the_newest_load_needs_is_never_held_back(
    factor: float, relaxation: float, ahead: float, newest: float, week: float
) -> None:
    history = days(*[week] * 8)
    history = attrs.evolve(history, values=np.concatenate([history.values[:-1], [newest]]))
    plan = plan_after(history, ahead, SteeringState(factor, cap_relaxation=relaxation))

    assert plan.floor is not None
    assert plan.floor >= min(newest / 10.0 - 1e-6, 400)


# -- how outcomes change it --


def test_one_jump_raises_the_cap_by_half_and_its_budget_takes_it_back() -> None:
    relaxation = 1.0
    for _ in range(5):
        relaxation = next_relaxation(relaxation, 1.0, 0.01, 300.0, higher_helps=True)
    assert relaxation == pytest.approx(RELAXATION_GROWTH, rel=0.01)
    for _ in range(500):
        relaxation = next_relaxation(relaxation, 1.0, 0.01, 300.0, higher_helps=False)
    assert relaxation == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("lead", [1.0, 60.0, 600.0])
def test_a_jump_is_short_for_a_lead_time_and_at_least_a_minute(lead: float) -> None:
    higher = next_relaxation(2.0, max(lead / 60, 1.0), 1e-9, lead, higher_helps=True)
    assert higher == pytest.approx(2.0 * RELAXATION_GROWTH)
    lower = next_relaxation(2.0, 1.0, 0.01, lead, higher_helps=False)
    assert lower == pytest.approx(2.0 * RELAXATION_GROWTH ** (-0.01 / max(lead / 60, 1.0)))


@given(st.lists(st.tuples(st.floats(0.1, 60), st.booleans())), st.floats(1e-4, 0.5))
def test_the_relaxation_keeps_its_bounds(steps: list[tuple[float, bool]], budget: float) -> None:
    relaxation = 1.0
    for minutes, helps in steps:
        relaxation = next_relaxation(relaxation, minutes, budget, 300.0, higher_helps=helps)
        assert 1.0 <= relaxation <= MAX_CAP_RELAXATION


@pytest.mark.parametrize(
    ("load", "ready", "uncapped", "raised"),
    [(90.0, 8, 9, True), (90.0, 8, 8, False), (90.0, 9, 12, False), (90.0, 8, 0, False)],
)
def test_only_minutes_that_the_cap_left_short_relax_it(load: float, ready: int, uncapped: int, raised: bool) -> None:
    outcome = StepOutcome(START.timestamp(), 1.0, load, ready, uncapped=uncapped)
    after = apply_outcome(SteeringState(1.0, cap_relaxation=2.0), outcome, SETTINGS.steering)
    assert (after.cap_relaxation > 2.0) == raised
    assert after.cap_relaxation != 2.0


def test_a_minute_is_judged_by_the_fewest_pods_that_there_would_have_been() -> None:
    zero = START.timestamp()
    recommended = tuple(
        Recommendation(zero + STEP * i, 8, uncapped) for i, uncapped in enumerate((20, 9, None, 20, 20))
    )
    history = Series(START, STEP, np.full(6, 85.0))
    state = SteeringState(1.0, zero + 4 * STEP, recommended, cap_relaxation=2.0)
    assert judge_steps(state, history, SETTINGS.steering).cap_relaxation > 2.0  # 20 and 20 would have been enough
    earlier = attrs.evolve(state, judged_until=zero + STEP)
    one = Series(START, STEP, np.full(3, 85.0))
    assert judge_steps(earlier, one, SETTINGS.steering).cap_relaxation > 2.0  # 20 and 9
    two = Series(START, STEP, np.full(4, 85.0))
    assert judge_steps(attrs.evolve(earlier, judged_until=zero + 2 * STEP), two, SETTINGS.steering).cap_relaxation < 2.0


def test_where_the_cap_kept_none_the_pods_that_were_recommended_count() -> None:
    zero = START.timestamp()
    recommended = (Recommendation(zero, 8, 20), Recommendation(zero + STEP, 9), Recommendation(zero + 2 * STEP, 9))
    state = SteeringState(1.0, zero + STEP, recommended, cap_relaxation=2.0)
    history = Series(START, STEP, np.full(3, 85.0))
    assert judge_steps(state, history, SETTINGS.steering).cap_relaxation > 2.0  # 20 and 9 would have been enough


def test_of_one_step_the_fewest_replicas_count_with_what_they_would_have_been() -> None:
    zero, steering = START.timestamp(), SETTINGS.steering
    state = add_recommendation(SteeringState(), zero, 9, STEP, steering, 30)
    state = add_recommendation(state, zero + 30, 8, STEP, steering, 20)
    state = add_recommendation(state, zero + 60, 9, STEP, steering)
    assert state.published == (Recommendation(zero, 8, 20),)


# -- days on end --


def minutes_short(loads: Floats, first: int, seed: int = 1) -> tuple[float, float]:
    """The share of steps short of pods from ``first`` on, and the mean of the pods, by a forecast off by 15 %."""
    rng, lead = np.random.default_rng(seed), 2
    known = Series(START, STEP, loads)
    state = ServiceLevelState()
    served = np.full(len(loads), 400)
    for i in range(first, len(loads) - 8):
        begin = max(0, i + 1 - 14 * DAY)
        history = Series(known.time_at(begin), STEP, loads[begin : i + 1])
        ahead = loads[i + 1 : i + 9] * np.exp(rng.normal(0, 0.15, 8))
        forecast = Forecast(history.time_at(len(history) - 1), STEP, ahead)
        state, _ = plan_for_service_level(state, history, forecast, SETTINGS)
        served[i] = state.last_recommendation or 0
    judged = range(first + DAY, len(loads) - 8)
    short = [loads[i] > served[i - lead : i].min() * 10.0 for i in judged]
    return float(np.mean(short)), float(served[first + DAY : -8].mean())


def daily(length: int, growth: float) -> Floats:
    at = np.arange(length * DAY) / DAY
    noise = np.exp(np.random.default_rng(2).normal(0, 0.03, len(at)))
    return np.asarray(100 * (1 + 0.6 * np.sin(2 * np.pi * (at - 0.3))) * growth**at * noise)


@pytest.mark.slow
@pytest.mark.parametrize("growth", [1.0, 1.1, 1.3 ** (1 / 7)], ids=["steady", "10 % a day", "30 % a week"])
def test_load_that_grows_is_short_in_no_more_minutes_than_the_budget(growth: float) -> None:
    short, _ = minutes_short(daily(20, growth), 14 * DAY)
    assert short <= 0.015


@pytest.mark.slow
def test_the_first_burst_is_short_for_its_jump_and_the_next_ones_find_their_pods() -> None:
    loads = daily(20, 1.0)
    loads[16 * DAY + 20 : 16 * DAY + 28] = 900.0
    loads[17 * DAY + 20 : 17 * DAY + 28] = 900.0
    once, _ = minutes_short(loads[: 17 * DAY], 14 * DAY)
    assert once * 2 * DAY <= 6  # a jump and a lead time, beside a budget of two
    both, _ = minutes_short(loads, 14 * DAY)
    assert both * 5 * DAY <= 12


def test_an_explanation_names_the_cap_and_what_there_would_be_without_it() -> None:
    history = days(*[100] * 8)
    workload = Workload(
        "shop", "rps", 8, 1800.0, POLICY, goal=ServiceLevelGoal(min_history=0.0), stale=StalePolicy(3600.0)
    )
    forecast = Forecast(history.time_at(len(history) - 1), STEP, np.full(8, 300.0))
    explanation = explain(plan_step(workload, history, forecast, None), forecast.made_at, workload.stale)
    assert (explanation.decided_by, explanation.told) == (StageName.LOAD_CAP, 11)
    assert "the cap on load decided" in explanation.sentence
    (held,) = [stage for stage in explanation.stages if stage.name is StageName.LOAD_CAP]
    assert held.without is not None
    assert held.without > 33
