# SPDX-License-Identifier: Apache-2.0
"""The plan by service level: what it recommends, the peak hold, and when it follows the last value."""

import itertools
import json
from datetime import UTC, datetime, timedelta

import attrs
import cattrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast, fallback_forecast
from kedastral.core.forecast_status import OK, STANDING_DOWN, learning_from
from kedastral.core.planning.idleness import Idleness
from kedastral.core.planning.service_level import (
    ServiceLevelPlan,
    ServiceLevelSettings,
    ServiceLevelState,
    plan_for_service_level,
    plan_from,
)
from kedastral.core.planning.snapshot import Snapshot, replicas_at
from kedastral.core.planning.steering import SteeringSettings, SteeringState
from kedastral.core.planning.uncertainty import Calibration, UncertaintyState
from kedastral.core.series import Series

START = datetime(2026, 3, 2, tzinfo=UTC)
POLICY = PlanPolicy(10.0, bounds=ReplicaBounds(1, 400), up_max_factor=100.0, down_max_pct=100.0)
SETTINGS = ServiceLevelSettings(SteeringSettings(POLICY, 0.99, 300.0), min_history=0.0)
CERTAIN = UncertaintyState(Calibration(thresholds=(0.0, 0.0)), Calibration(thresholds=(0.0, 0.0), windows=1))
STEPS = 30


def tick(
    seen: list[float],
    ahead: list[float] | float,
    state: ServiceLevelState | None = None,
    settings: ServiceLevelSettings = SETTINGS,
) -> tuple[ServiceLevelState, ServiceLevelPlan]:
    history = Series(START, 60.0, np.array(seen))
    made_at = history.time_at(len(history) - 1)
    values = np.full(STEPS, ahead) if isinstance(ahead, float) else np.array(ahead)
    state = ServiceLevelState(CERTAIN) if state is None else state
    return plan_for_service_level(state, history, Forecast(made_at, 60.0, values), settings)


def test_load_and_factor_become_replicas() -> None:
    state, plan = tick([100.0] * 3, 200.0)

    assert plan.factor == 1.1
    assert plan.replicas.tolist() == [22] * STEPS
    assert plan.upper == pytest.approx([200.0] * STEPS)
    assert plan.floor == 12  # 100 / 10 * 1.1 / 0.95
    assert (state.last_recommendation, plan.status) == (22, OK)


def test_the_margin_of_the_first_quantile_is_added() -> None:
    state = ServiceLevelState(UncertaintyState(Calibration(fast_scale=0.2, slow_scale=0.2, thresholds=(1.0, 3.0))))
    _, plan = tick([100.0] * 3, 200.0, state)

    assert plan.upper == pytest.approx([300 * np.exp(0.2) - 100] * STEPS)  # the day's mean is 100


def test_a_strict_level_widens_the_margin_with_the_factor() -> None:
    settings = attrs.evolve(SETTINGS, steering=attrs.evolve(SETTINGS.steering, service_level=0.999))
    uncertainty = UncertaintyState(Calibration(fast_scale=0.2, slow_scale=0.2, thresholds=(1.0, 3.0)))
    _, plan = tick([100.0] * 3, 200.0, ServiceLevelState(uncertainty, SteeringState(1.5)), settings)

    assert plan.upper[0] == pytest.approx(300 * np.exp(0.2 * 1.5**2) - 100)
    _, plan = tick([100.0] * 3, 200.0, ServiceLevelState(uncertainty, SteeringState(0.8)), settings)
    assert plan.upper[0] == pytest.approx(300 * np.exp(0.2) - 100)


def test_the_window_is_the_steps_of_the_lead_time_and_the_prewarm_steps() -> None:
    ahead = [10.0] * 7 + [500.0] + [10.0] * 22
    assert SETTINGS.window(60.0) == 8

    assert tick([10.0], ahead)[0].last_recommendation == 55  # the last step of the window
    assert tick([10.0], [*ahead[:7], 10.0, 500.0, *ahead[9:]])[0].last_recommendation == 2


def test_the_floor_never_falls_below_what_the_newest_load_needs() -> None:
    state = ServiceLevelState(CERTAIN, SteeringState(0.7))
    _, plan = tick([400.0] * 30, 100.0, state)

    assert plan.factor == pytest.approx(0.7, rel=0.01)
    assert plan.floor == 40  # 30 by the factor alone, 0.7 / 0.95 of what serves the load


def test_a_floor_above_the_plan_is_what_is_recommended() -> None:
    state, plan = tick([400.0] * 30, 10.0)

    assert plan.floor == 47  # 400 / 10 * 1.1 / 0.95
    assert plan.replicas.max() < 47
    assert state.last_recommendation == state.steering.published[-1].replicas == 47


def test_a_fixed_headroom_multiplies_the_upper_quantile_and_keeps_its_floor() -> None:
    settings = attrs.evolve(SETTINGS, headroom=1.5, reactive_headroom=1.3)
    _, plan = tick([100.0] * 3, 90.0, settings=settings)

    assert (plan.factor, plan.replicas[0], plan.floor) == (1.5, 14, 13)


@pytest.mark.parametrize(("factor", "headroom", "at_max"), [(2.0, None, True), (1.5, None, False), (2.0, 1.5, False)])
def test_a_factor_at_its_maximum_is_reported_unless_the_headroom_is_fixed(
    factor: float, headroom: float | None, at_max: bool
) -> None:
    settings = attrs.evolve(SETTINGS, headroom=headroom)
    state, plan = tick([100.0] * 3, 90.0, ServiceLevelState(CERTAIN, SteeringState(factor)), settings)
    assert plan.report(state, settings).is_factor_at_max is at_max


def test_a_fixed_headroom_gets_no_feedback_but_its_budget_is_counted() -> None:
    settings = attrs.evolve(SETTINGS, headroom=1.0)
    state = ServiceLevelState(CERTAIN)
    for minute in range(1, 20):
        state, plan = tick([10.0] * 5 + [100.0] * minute, 10.0, state, settings)

    assert state.steering.factor is None
    assert plan.factor == 1.0
    assert state.steering.minutes > 0


def test_pods_of_a_recent_peak_are_kept() -> None:
    state_with_hold = ServiceLevelState(CERTAIN, SteeringState(1.0, peak_hold=3600.0))
    seen = [380.0, 380.0, *[10.0] * 30]

    state, plan = tick(seen, 10.0, state_with_hold)
    assert plan.floor == 40  # at 95 % of what they sustain
    assert plan.report(state, SETTINGS).peak_hold == pytest.approx(3600.0, rel=0.01)
    assert tick([*seen, *[10.0] * 30], 10.0, state_with_hold)[1].floor == 2
    state, plan = tick(seen, 10.0, ServiceLevelState(CERTAIN, SteeringState(1.0)))
    assert (plan.floor, plan.report(state, SETTINGS).peak_hold) == (2, None)


def test_the_dead_band_knows_what_the_load_of_the_last_minutes_needs_with_factor_and_floor() -> None:
    state = ServiceLevelState(CERTAIN, SteeringState(1.5), last_recommendation=30)
    _, plan = tick([200.0, *[100.0] * 14], 100.0, state)
    band = plan_from(plan.basis, Forecast(START, 60.0, np.full(STEPS, 100.0)))[1].dead_band
    assert band is not None
    assert band.recent == pytest.approx(20 * plan.factor / 0.95)
    noisy = attrs.evolve(plan.basis, facts=attrs.evolve(plan.basis.facts, noise=0.02, idleness=Idleness.BUSY))
    for load, planned in ((190.0, 30), (170.0, 26)):
        stages = plan_from(noisy, Forecast(START, 60.0, np.full(STEPS, load)))[1]
        assert stages.limited.tolist() == [planned] * STEPS, "it is kept for the noise of the load"


def test_without_a_floor_or_under_a_fixed_headroom_no_peak_is_kept() -> None:
    state_with_hold = ServiceLevelState(CERTAIN, SteeringState(1.0, peak_hold=3600.0))
    seen = [380.0, 380.0, *[10.0] * 30]

    assert tick(seen, 10.0, state_with_hold, attrs.evolve(SETTINGS, reactive_headroom=None))[1].floor is None
    state, plan = tick(seen, 10.0, state_with_hold, attrs.evolve(SETTINGS, headroom=1.0, reactive_headroom=1.0))
    assert plan.floor == 1
    assert plan.report(state, attrs.evolve(SETTINGS, headroom=1.0)).peak_hold is None


def test_without_a_floor_there_is_none() -> None:
    assert tick([100.0], 10.0, settings=attrs.evolve(SETTINGS, reactive_headroom=None))[1].floor is None


def test_a_model_that_loses_is_replaced_by_the_last_value_and_says_so() -> None:
    last = Calibration(thresholds=(0.0, 0.0), pinball_loss=0.1)
    loses = UncertaintyState(Calibration(thresholds=(0.0, 0.0), pinball_loss=0.2), last, (), True)
    state, plan = tick([100.0] * 3, 900.0, ServiceLevelState(loses))

    assert plan.status == STANDING_DOWN
    assert plan.upper == pytest.approx([100.0] * STEPS)
    assert state.uncertainty.pending[0].model.maximum == 900.0  # and is still judged


def test_a_history_of_gaps_alone_cannot_be_planned_from() -> None:
    with pytest.raises(ValueError, match="no history"):
        tick([np.nan], 10.0)


def test_the_state_can_be_stored() -> None:
    state, _ = tick([100.0] * 5, 200.0)
    again = cattrs.structure(json.loads(json.dumps(cattrs.unstructure(state))), ServiceLevelState)

    assert again == state


@given(
    st.lists(st.floats(0, 1e5), min_size=12, max_size=30),
    st.lists(st.floats(0, 1e5), min_size=STEPS, max_size=STEPS),
    st.floats(0.7, 2.0),
)
def test_the_last_recommendation_is_what_the_serving_rule_reads(
    seen: list[float], ahead: list[float], factor: float
) -> None:
    state = ServiceLevelState(steering=SteeringState(factor))
    for minute in range(10, len(seen)):
        state, plan = tick(seen[:minute], ahead, state)
        made_at = START + timedelta(minutes=minute - 1)
        forecast = Forecast(made_at, 60.0, np.array(ahead))
        snapshot = Snapshot("w", "m", forecast, plan.replicas, 300.0, None, plan.floor)

        assert state.last_recommendation == replicas_at(snapshot, made_at)
        assert POLICY.bounds.clamp(state.last_recommendation or 0) == state.last_recommendation


@given(st.lists(st.floats(0, 1e5), min_size=12, max_size=30), st.sampled_from([0.125, 2.0, 1024.0]))
def test_the_unit_of_the_load_does_not_matter(seen: list[float], factor: float) -> None:
    def served(scale: float) -> list[int | None]:
        settings = ServiceLevelSettings(SteeringSettings(attrs.evolve(POLICY, target_per_pod=8.0 * scale)))
        state, all_served = ServiceLevelState(), []
        for minute in range(1, len(seen)):
            history = [value * scale for value in seen[:minute]]
            state, _ = tick(history, history[-1], state, settings)
            all_served.append(state.last_recommendation)
        return all_served

    pairs = itertools.zip_longest(served(1.0), served(factor))
    assert all(a is not None and b is not None and abs(a - b) <= 1 for a, b in pairs)


@pytest.mark.parametrize(("minutes", "status"), [(1, "too-little-history"), (119, "too-little-history"), (120, "ok")])
def test_the_model_leads_from_two_hours_of_history_on(minutes: int, status: str) -> None:
    settings = attrs.evolve(SETTINGS, min_history=7200.0)
    _, plan = tick([np.nan] * 30 + [100.0] * minutes, 900.0, settings=settings)

    assert plan.status.code == status
    assert plan.replicas[0] == (99 if status == "ok" else 11)


def test_a_fallback_forecast_is_planned_with_the_last_values_margin_and_not_judged() -> None:
    history = Series(START, 60.0, np.full(200, 100.0))
    learning = learning_from(history)
    wide = attrs.evolve(CERTAIN, model=Calibration(thresholds=(9.0, 9.0)))
    made = fallback_forecast(history, history.time_at(199), STEPS, learning)
    state, plan = plan_for_service_level(ServiceLevelState(wide), history, made, SETTINGS)

    assert plan.status == learning
    assert plan.replicas.tolist() == [11] * STEPS
    assert state.uncertainty.pending == ()


@pytest.mark.parametrize(("spread", "least", "most"), [(0.005, 12, 13), (0.3, 18, 30)])
def test_while_the_model_learns_the_first_plan_has_the_margin_that_the_load_so_far_asks_for(
    spread: float, least: int, most: int
) -> None:
    noise = np.random.default_rng(4).normal(0, spread, 600)
    history = Series(START, 60.0, np.array([*(100 * np.exp(noise)), 100.0]))
    made = fallback_forecast(history, history.time_at(600), STEPS, learning_from(history))

    _, plan = plan_for_service_level(ServiceLevelState(), history, made, SETTINGS)

    assert least <= plan.replicas[0] <= most  # 15 whatever the load, with the initial margin
