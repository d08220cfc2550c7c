# SPDX-License-Identifier: Apache-2.0
"""`warm_up`: what a model would have forecast of late, judged, so that its uncertainty is known from the first tick."""

import math
from collections.abc import Iterable, Iterator
from datetime import datetime

import attrs
import numpy as np

from kedastral.core.forecast import Forecast
from kedastral.core.planning.uncertainty import UncertaintyState, expect, observe
from kedastral.core.ports import Model, TrainableModel
from kedastral.core.series import Series
from kedastral.errors import ModelError

WARM_UP_STEPS = 360
"""Forecasts made at most, one a step: six hours of minutes."""
SEEN = 86400.0
"""Seconds of the past that judging looks at, beyond the window that is judged."""


def warm_up(
    model: Model,
    history: Series,
    steps: int,
    window: int,
    *,
    lead_steps: int | None = None,
    made_at: datetime | None = None,
    most: int = WARM_UP_STEPS,
) -> UncertaintyState:
    """The state after judging what ``model`` would have said in the last hours of ``history``.

    A `TrainableModel` learns on the way, as at ``made_at``, by default the end of the history, and raises ModelError
    where it cannot. Any other forecasts ``most`` times at most.
    """
    if not isinstance(model, TrainableModel):
        return judge_past(forecast_again(model, history, steps, most), history, window, lead_steps)
    learnt = model.learn(history, made_at or history.time_at(len(history) - 1), steps)
    return judge_past(learnt, history, window, lead_steps)


def judge_past(
    forecasts: Iterable[Forecast], history: Series, window: int, lead_steps: int | None = None
) -> UncertaintyState:
    """The state of one who has made ``forecasts``, oldest first, while ``history`` came in.

    ``window`` and ``lead_steps`` as in `kedastral.core.planning.uncertainty.expect`.
    """
    state, reach = UncertaintyState(), math.ceil(SEEN / history.step) + window
    for forecast in forecasts:
        seen = math.floor((forecast.made_at - history.start).total_seconds() / history.step + 1e-6) + 1
        past = _cut(history, max(seen - reach, 0), seen)
        if np.isfinite(past.values).any():
            state = expect(observe(state, past, window), past, forecast.values, window, lead_steps)
    return state


def forecast_again(model: Model, history: Series, steps: int, most: int) -> Iterator[Forecast]:
    """The forecasts at the last ``most`` steps of ``history``, each made from what came before it alone.

    A moment the model cannot forecast from is passed over. At least half of the history stays the model's.
    """
    for seen in range(max(len(history) - most, len(history) // 2, 1), len(history)):
        past = _cut(history, 0, seen)
        if not np.isfinite(past.values).any():
            continue
        try:
            yield model.forecast(past, past.time_at(seen - 1), steps)
        except ModelError:
            continue


def _cut(history: Series, first: int, last: int) -> Series:
    return attrs.evolve(history, start=history.time_at(first), values=history.values[first:last])
