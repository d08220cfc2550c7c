# SPDX-License-Identifier: Apache-2.0
"""How wrong the forecasts were, by how far they looked ahead, beside simply repeating the last value."""

import attrs
import numpy as np

from kedastral.backtest.contest import Arena
from kedastral.backtest.foresight import forecast_after
from kedastral.core.series import Floats, frozen_floats

EVERY = 1800.0
"""Seconds between two origins."""
NEAR, FAR = 300.0, 900.0
"""The range, in seconds ahead, that one figure stands for."""


@attrs.frozen(eq=False)
class Accuracy:
    """WAPE, sum(|forecast - load|) / sum(load), of each step ahead, over origins every 30 minutes of the judged part.

    ``ahead`` in seconds to the end of the step; all of shape (steps,), NaN where there was no load to compare with.
    """

    ahead: Floats = attrs.field(converter=frozen_floats)
    model: Floats = attrs.field(converter=frozen_floats)
    last_value: Floats = attrs.field(converter=frozen_floats)

    @property
    def ratio(self) -> float:
        """The model's error 5 to 15 minutes ahead over that of the last value; NaN where nothing can be said."""
        near = (self.ahead >= NEAR) & (self.ahead <= FAR)
        ours, theirs = self.model[near], self.last_value[near]
        if not len(ours) or not np.isfinite(ours).all() or not theirs.sum() > 0:
            return float("nan")
        return float(ours.mean() / theirs.mean())


def measure_accuracy(arena: Arena) -> Accuracy:
    """The model's errors on the judged part of one workload."""
    demand, steps = arena.trial.demand, round(arena.rules.reading.horizon / arena.trial.demand.step)
    stride = max(1, round(EVERY / demand.step))
    errors, naive, loads = np.zeros(steps), np.zeros(steps), np.zeros(steps)
    for ended in range(max(1, arena.trial.judged_from), len(demand) - steps + 1, stride):
        forecast = forecast_after(arena, ended)
        if forecast is None:
            continue
        came = demand.values[ended : ended + steps]
        errors += np.abs(forecast.values - came)
        naive += np.abs(demand.values[ended - 1] - came)
        loads += came
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = [np.where(loads > 0, wrong / loads, np.nan) for wrong in (errors, naive)]
    return Accuracy(np.arange(1, steps + 1) * demand.step, *shares)
