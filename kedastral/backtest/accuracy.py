# SPDX-License-Identifier: Apache-2.0
"""The forecasts that a backtest's model makes on one workload, and their error beside that of the last value."""

import attrs
import numpy as np

from kedastral.backtest.workloads import Scenario
from kedastral.core.forecast import Forecast
from kedastral.core.series import Floats, frozen_floats
from kedastral.core.steps import steps_to_serve
from kedastral.errors import ModelError
from kedastral.simulation.policies import read_history


def forecast_after(scenario: Scenario, ended: int) -> Forecast | None:
    """The forecast made when ``ended`` steps had ended, from these alone; None if there was none, as in a long gap.

    It asks the model again, which is cheap if that caches its forecasts.
    """
    demand, schedule = scenario.trial.demand, scenario.settings.schedule
    view = scenario.trial.view(ended * demand.step, ordered=0)
    history = read_history(view, schedule, scenario.settings.serving.stale.stale_after)
    if history is None:
        return None
    try:
        return scenario.model.forecast(history, view.at, round(schedule.horizon / demand.step))
    except ModelError:
        return None


def lead_steps(scenario: Scenario) -> int:
    """Steps from the newest load that a forecast saw to the first step that pods ordered by it can serve."""
    return steps_to_serve(scenario.settings.cluster.lead_time, scenario.trial.demand.step)


def forecasts_in_time(scenario: Scenario) -> Floats:
    """For each judged step, the last forecast that was early enough to order pods for it; NaN if there was none."""
    trial, ahead = scenario.trial, lead_steps(scenario) - 1
    loads = np.full(len(trial.judged), np.nan)
    for i in range(len(loads)):
        place = trial.judged_from + i
        forecast = forecast_after(scenario, place - ahead) if place > ahead else None
        if forecast is not None:
            loads[i] = forecast.values[min(ahead, len(forecast.values) - 1)]
    return loads


ORIGIN_INTERVAL = 1800.0
"""Seconds between forecasts whose accuracy is measured."""
NEAR, FAR = 300.0, 900.0
"""The range, in seconds ahead, that `Accuracy.ratio` covers."""


@attrs.frozen(eq=False)
class Accuracy:
    """The error of each step ahead as WAPE, sum(|forecast - load|) / sum(load), over a forecast every 30 minutes.

    ``ahead`` is in seconds to the end of the step; ``last_value`` is the error of repeating the last value. All have
    shape (steps,); the errors are NaN without load.
    """

    ahead: Floats = attrs.field(converter=frozen_floats)
    model: Floats = attrs.field(converter=frozen_floats)
    last_value: Floats = attrs.field(converter=frozen_floats)

    @property
    def ratio(self) -> float:
        """The model's error 5 to 15 minutes ahead, divided by that of the last value; NaN if undefined."""
        near = (self.ahead >= NEAR) & (self.ahead <= FAR)
        ours, theirs = self.model[near], self.last_value[near]
        if not len(ours) or not np.isfinite(ours).all() or not theirs.sum() > 0:
            return float("nan")
        return float(ours.mean() / theirs.mean())


def measure_accuracy(scenario: Scenario) -> Accuracy:
    """The model's errors on the judged part of one workload, at the steps that had a value."""
    trial = scenario.trial
    demand, steps = scenario.trial.demand, round(scenario.settings.schedule.horizon / scenario.trial.demand.step)
    stride = max(1, round(ORIGIN_INTERVAL / demand.step))
    errors, naive, loads = np.zeros(steps), np.zeros(steps), np.zeros(steps)
    known = np.concatenate([np.ones(trial.judged_from, dtype=bool), trial.known])
    for ended in range(max(1, trial.judged_from), len(demand) - steps + 1, stride):
        forecast = forecast_after(scenario, ended)
        if forecast is None:
            continue
        came, counts = demand.values[ended : ended + steps], known[ended : ended + steps]
        seen = trial.view(ended * demand.step, ordered=0).seen
        newest = seen[np.flatnonzero(np.isfinite(seen))[-1]]
        errors += np.where(counts, np.abs(forecast.values - came), 0.0)
        naive += np.where(counts, np.abs(newest - came), 0.0)
        loads += np.where(counts, came, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = [np.where(loads > 0, wrong / loads, np.nan) for wrong in (errors, naive)]
    return Accuracy(np.arange(1, steps + 1) * demand.step, *shares)
