# SPDX-License-Identifier: Apache-2.0
"""What the model said at a moment of the replay, asked again; a model that remembers answers at once."""

import numpy as np

from kedastral.backtest.contest import Arena
from kedastral.core.forecast import Forecast
from kedastral.core.series import Floats
from kedastral.errors import ModelError
from kedastral.simulation.policy import View


def forecast_after(arena: Arena, ended: int) -> Forecast | None:
    """The forecast made when ``ended`` steps had ended, from these alone; None where the model had none."""
    demand, reading = arena.trial.demand, arena.rules.reading
    view = View(demand.start, demand.step, ended * demand.step, demand.values[:ended], 0)
    try:
        return arena.model.forecast(view.history(reading.window), view.at, round(reading.horizon / demand.step))
    except ModelError:
        return None


def lead_steps(arena: Arena) -> int:
    """Steps between the newest load that a forecast saw and the first step that pods ordered on it can serve."""
    return max(1, round(arena.rules.cluster.lead_time / arena.trial.demand.step))


def forecast_in_time(arena: Arena) -> Floats:
    """For each judged step what the last forecast said from which pods could still be ordered for it; NaN for none."""
    trial, ahead = arena.trial, lead_steps(arena) - 1
    said = np.full(len(trial.judged), np.nan)
    for i in range(len(said)):
        forecast = forecast_after(arena, trial.judged_from + i - ahead) if trial.judged_from + i > ahead else None
        if forecast is not None:
            said[i] = forecast.values[min(ahead, len(forecast.values) - 1)]
    return said
