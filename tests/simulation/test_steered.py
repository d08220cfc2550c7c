# SPDX-License-Identifier: Apache-2.0
"""The steered policy in the simulation: blind to the future, warmed up, and right about its own pods in hindsight."""

from collections.abc import Sequence
from datetime import datetime

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.planning.calibration import warm_up
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.series import Series
from kedastral.errors import ModelError
from kedastral.models.baseline import Baseline
from kedastral.simulation.policies import ForecastSchedule, ServiceLevelPolicy, Serving
from kedastral.simulation.replay import Cluster, replay
from kedastral.simulation.trial import View
from tests.simulation.demands import START, TARGET, LastValue, series_of, trial_of

PLAN, GOAL = PlanPolicy(TARGET, bounds=ReplicaBounds(1, 400)), ServiceLevelGoal(0.95)
SERVING = Serving(180.0)
CLUSTER = Cluster(lead_time=180.0)
READING = ForecastSchedule(window=7200.0, horizon=600.0)


class Moody:
    """Forecasts the last value, and fails while the load is 13."""

    name = "moody"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        if history.values[-1] == 13.0:
            raise ModelError("13 brings bad luck", reason="bad_luck")
        return LastValue().forecast(history, made_at, steps)


def fresh(model: object = None) -> ServiceLevelPolicy:
    return ServiceLevelPolicy(model or Baseline(), PLAN, GOAL, READING, SERVING)  # type: ignore[arg-type]


def test_the_minutes_it_finds_short_in_hindsight_are_those_of_the_cluster() -> None:
    rng = np.random.default_rng(1)
    demand = 200 * np.exp(rng.normal(0, 0.2, 2000))
    policy = fresh()
    outcome = replay(policy, trial_of(demand), CLUSTER)

    assert policy.state is not None
    steering = policy.state.steering
    assert 1990 < steering.minutes < 2000  # the first lead time cannot be judged
    short = outcome.supply.unserved[-int(steering.minutes) - 1 :] > 0
    # the newest minute has ended, and been judged, when the newest plan was made
    assert steering.minutes_short == pytest.approx(short.sum(), abs=1)
    assert 0.02 < steering.minutes_short / steering.minutes < 0.06


def test_it_is_warmed_up_on_what_the_first_tick_sees() -> None:
    rng = np.random.default_rng(2)
    demand = 200 * np.exp(rng.normal(0, 0.3, 120))
    policy = fresh()
    policy.ask(View(START, 60.0, 7200.0, demand, 20))

    assert policy.state is not None
    assert policy.state.uncertainty.model.windows > 40
    assert policy.state.uncertainty.model.margins[0] > 0.3


def test_warming_up_is_bounded_and_passes_over_failures_and_gaps() -> None:
    history = series_of([np.nan] * 30 + [10.0] * 20 + [13.0] * 5 + [10.0] * 20)

    assert warm_up(Moody(), history, 10, 3, max_forecasts=10).last.windows == 7  # three windows have not ended
    assert warm_up(Moody(), history, 10, 3).last.windows == 38 - 5 - 3
    assert warm_up(Moody(), series_of([np.nan] * 9), 10, 3).last.windows == 0


def test_where_a_model_fails_the_last_value_is_planned_for_once_what_the_model_said_has_passed() -> None:
    leads, serving = attrs.evolve(GOAL, min_history=0.0), Serving(180.0, stale=StalePolicy(60.0, OnStale.ERROR))
    policy = ServiceLevelPolicy(Moody(), PLAN, leads, READING, serving)
    seen = np.array([50.0, 50.0, *[13.0] * 20])
    values = [policy.ask(View(START, 60.0, 60.0 * n, seen[:n], 5))[0].value for n in range(1, len(seen) + 1)]

    minutes = round(READING.horizon / 60.0)
    assert len(set(values[1:minutes])) == 1
    last = values[-1]
    assert last is not None
    assert 2 <= last < 8


def test_without_any_measurement_the_old_plan_grows_stale() -> None:
    serving = Serving(180.0, stale=StalePolicy(60.0, OnStale.ERROR))
    policy = ServiceLevelPolicy(LastValue(), PLAN, GOAL, READING, serving)
    assert policy.ask(View(START, 60.0, 60.0, np.array([np.nan]), 5))[0].value is None


def test_between_ticks_the_plan_is_read_again() -> None:
    policy = fresh(LastValue())
    seen = np.array([50.0, 90.0])
    first = policy.ask(View(START, 60.0, 60.0, seen[:1], 5))
    state = policy.state

    assert policy.ask(View(START, 60.0, 90.0, seen[:1], 5)) == first
    assert policy.state is state


demands = st.lists(st.floats(0, 300), min_size=30, max_size=40)


def supply(values: Sequence[float], target: float = TARGET) -> tuple[list[float], list[float]]:
    policy = ServiceLevelPolicy(LastValue(), attrs.evolve(PLAN, target_per_pod=target), GOAL, READING, SERVING)
    outcome = replay(policy, trial_of(values, target), CLUSTER)
    return outcome.supply.recommended.tolist(), outcome.supply.ordered.tolist()


@settings(max_examples=25)
@given(demands, st.integers(1, 29), st.lists(st.floats(0, 300), min_size=40, max_size=40))
def test_no_decision_before_a_change_of_the_future_changes(values: list[float], last: int, others: list[float]) -> None:
    changed = values[: last + 1] + others[last + 1 : len(values)]
    (recommended, ordered), (recommended_then, ordered_then) = supply(values), supply(changed)

    assert recommended_then[: last + 1] == recommended[: last + 1]
    assert ordered_then[: last + 1] == ordered[: last + 1]


@settings(max_examples=25)
@given(demands, st.sampled_from([0.25, 2.0, 1024.0]))
def test_the_unit_of_the_load_does_not_matter(values: list[float], factor: float) -> None:
    plain, scaled = supply(values)[0], supply([value * factor for value in values], TARGET * factor)[0]

    assert np.abs(np.subtract(plain, scaled)).max() <= 1
