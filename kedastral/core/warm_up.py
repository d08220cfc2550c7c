# SPDX-License-Identifier: Apache-2.0
"""`warm_up`: a model's recent past, forecast again, so that its uncertainty is known from the first tick."""

import attrs
import numpy as np

from kedastral.core.ports import Model
from kedastral.core.series import Series
from kedastral.core.uncertainty import UncertaintyState, expect, observe
from kedastral.errors import ModelError

WARM_UP_STEPS = 360
"""Forecasts made at most, one a step: six hours of minutes, a few seconds of work for a model that takes 10 ms."""


def warm_up(model: Model, history: Series, steps: int, window: int, most: int = WARM_UP_STEPS) -> UncertaintyState:
    """The state after replaying the last ``most`` steps of ``history``, each forecast from what came before it alone.

    A moment the model cannot forecast from is passed over. At least half of the history stays the model's.
    """
    state = UncertaintyState()
    for seen in range(max(len(history) - most, len(history) // 2, 1), len(history)):
        past = attrs.evolve(history, values=history.values[:seen])
        if not np.isfinite(past.values).any():
            continue
        state = observe(state, past, window)
        try:
            forecast = model.forecast(past, past.time_at(seen - 1), steps)
        except ModelError:
            continue
        state = expect(state, past, forecast.values, window)
    return state
