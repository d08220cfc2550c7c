# SPDX-License-Identifier: Apache-2.0
"""The last plan from a model stays while its forecast is not used, unless the model stands down."""

from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pytest

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast, fallback_forecast
from kedastral.core.forecast_status import StatusCode, learning_from, model_failed
from kedastral.core.planning.planner import Workload, plan_step
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.uncertainty import Calibration, UncertaintyState
from kedastral.core.series import DataQuality, Observation, Series

START = datetime(2026, 3, 2, tzinfo=UTC)
POLICY = PlanPolicy(100.0, bounds=ReplicaBounds(2, 50))
WORKLOAD = Workload("shop", "rps", 30, 300.0, POLICY, goal=ServiceLevelGoal())
RISE = 12
"""The step from which on the first forecast is six times the load."""
LOSES = UncertaintyState(Calibration(windows=10**6), standing_down=True)


@attrs.define
class Ticks:
    """A workload of 500 requests per second whose model predicts the rise to 3000, until it is asked again."""

    minute: int = 0
    snapshot: Snapshot | None = None

    def plan(self, kind: StatusCode, load: float = 500.0, *, partial: bool = False) -> Snapshot:
        """The plan of one minute, in which the forecast stands as ``kind`` says, and is of the last value but once."""
        quality = DataQuality(at_least=Observation(START, 1.0)) if partial else DataQuality()
        made_at = START + timedelta(minutes=self.minute)
        points = 60 if kind is StatusCode.TOO_LITTLE_HISTORY else 200
        history = Series(made_at - timedelta(minutes=points - 1), 60.0, np.full(points, load), quality)
        values = np.full(30, load)
        values[RISE:] *= 1 if self.minute else 6
        forecast = Forecast(made_at, 60.0, values)
        if kind is StatusCode.LEARNING:
            forecast = fallback_forecast(history, made_at, 30, learning_from(history))
        if kind is StatusCode.MODEL_FAILED:
            forecast = fallback_forecast(history, made_at, 30, model_failed(ValueError("it broke")))
        learnt = LOSES if kind is StatusCode.STANDING_DOWN else None
        self.snapshot = plan_step(WORKLOAD, history, forecast, self.snapshot, learnt)
        assert self.snapshot.status.code is kind
        self.minute += 1
        return self.snapshot


NOT_USED = [StatusCode.TOO_LITTLE_HISTORY, StatusCode.LEARNING, StatusCode.MODEL_FAILED]


@pytest.mark.parametrize("first", NOT_USED)
@pytest.mark.parametrize("then", NOT_USED)
def test_the_last_model_plan_stays_whatever_the_next_plans_follow(first: StatusCode, then: StatusCode) -> None:
    ticks = Ticks()
    model_plan = ticks.plan(StatusCode.OK).replicas
    assert model_plan[RISE] > 3 * model_plan[0]
    for minute in range(1, 30):
        plan = ticks.plan(first if minute % 2 else then).replicas
        assert (plan[: 30 - minute] >= model_plan[minute:]).all()
        assert (plan[30 - minute + 5 :] < model_plan[RISE]).all()  # and no longer than five minutes after it ends


def test_a_forecast_that_is_used_again_replaces_the_last_model_plan() -> None:
    ticks = Ticks()
    ticks.plan(StatusCode.OK)
    ticks.plan(StatusCode.TOO_LITTLE_HISTORY)
    low = ticks.plan(StatusCode.OK).replicas.max()
    assert ticks.plan(StatusCode.MODEL_FAILED).replicas.max() == low < 20


def test_a_model_that_stands_down_loses_its_last_plan_for_good() -> None:
    ticks = Ticks()
    ticks.plan(StatusCode.OK)
    low = ticks.plan(StatusCode.STANDING_DOWN).replicas.max()
    assert low < 20
    for kind in NOT_USED:
        assert ticks.plan(kind).replicas.max() == low


@pytest.mark.parametrize("not_used", [StatusCode.TOO_LITTLE_HISTORY, StatusCode.STANDING_DOWN])
def test_a_plan_that_followed_the_last_value_is_no_model_plan(not_used: StatusCode) -> None:
    ticks = Ticks(minute=1)
    high = ticks.plan(not_used, load=3000.0).replicas.max()
    for _ in range(7):
        plan = ticks.plan(StatusCode.MODEL_FAILED)
    assert plan.replicas.max() < high / 3


@pytest.mark.parametrize("partial", [True, False])
def test_a_forecast_made_from_half_an_answer_replaces_no_model_plan(partial: bool) -> None:
    ticks = Ticks()
    model_plan = ticks.plan(StatusCode.OK).replicas
    plan = ticks.plan(StatusCode.OK, partial=partial).replicas
    assert (plan[RISE - 1] >= model_plan[RISE]) == partial


@pytest.mark.parametrize("not_used", NOT_USED)
def test_the_last_model_plan_holds_back_no_load_that_it_did_not_expect(not_used: StatusCode) -> None:
    ticks = Ticks()
    model_plan = ticks.plan(StatusCode.OK).replicas
    plan = ticks.plan(not_used, load=2000.0).replicas
    assert model_plan[1] < 10
    assert plan[1 : RISE - 1].min() >= 20
    assert plan[RISE - 1] >= model_plan[RISE] > 20
