# SPDX-License-Identifier: Apache-2.0
"""Which forecast was made in time to order pods for a step: as the replayed pods start, whatever the lead time is."""

import attrs
import numpy as np
import pytest

from kedastral.backtest.accuracy import forecasts_in_time
from kedastral.backtest.shortages import explain
from kedastral.simulation.hpa import HpaBehavior
from kedastral.simulation.policies import Reactive
from kedastral.simulation.replay import Outcome, replay, replay_oracle
from tests.backtest.scenarios import SETTINGS, LastValue, scenario_of

JUMP = 30
LEADS = [(60.0, 1), (80.0, 2), (85.0, 2), (120.0, 2), (140.0, 3), (150.0, 3), (180.0, 3)]
"""Lead times in seconds, and how many minutes after a jump of the load the pods ordered by it serve."""


def replayed(lead_time: float) -> tuple[list[float], Outcome, Outcome]:
    """A load that jumps from 1 pod to 5: the forecasts in time for each minute, a reactive policy, and the oracle."""
    cluster = attrs.evolve(SETTINGS.cluster, lead_time=lead_time)
    settings = attrs.evolve(SETTINGS, cluster=cluster)
    scenario = scenario_of([10.0] * JUMP + [50.0] * 30, model=LastValue(), settings=settings)
    reactive = replay(Reactive(10.0, 1.0, HpaBehavior.DIRECT), scenario.trial, cluster)
    return forecasts_in_time(scenario).tolist(), reactive, replay_oracle(scenario.trial, cluster)


@pytest.mark.parametrize(("lead_time", "minutes"), LEADS)
def test_the_forecast_in_time_for_a_step_saw_the_load_whose_pods_serve_it(lead_time: float, minutes: int) -> None:
    forecasts, reactive, _ = replayed(lead_time)

    assert forecasts.index(50.0) == JUMP + minutes
    assert reactive.supply.ready.tolist().index(5.0) == JUMP + minutes


@pytest.mark.parametrize(("lead_time", "minutes"), LEADS)
def test_the_oracle_orders_as_early_as_the_pods_of_the_jump_need_and_no_earlier(lead_time: float, minutes: int) -> None:
    _, _, oracle = replayed(lead_time)

    assert not oracle.supply.unserved.any()
    assert np.flatnonzero(oracle.supply.ordered > 1)[0] == JUMP - (minutes - 1)


def test_a_shortage_is_explained_by_the_forecast_that_was_made_in_time() -> None:
    cluster = attrs.evolve(SETTINGS.cluster, lead_time=140.0)
    scenario = scenario_of(
        [10.0] * JUMP + [30.0] + [50.0] * 30, model=LastValue(), settings=attrs.evolve(SETTINGS, cluster=cluster)
    )
    reactive = replay(Reactive(10.0, 1.0, HpaBehavior.DIRECT), scenario.trial, cluster)

    words = explain(scenario, reactive, JUMP + 2)
    assert words.endswith("the forecast 3 minutes earlier was 10, the load was 50")
