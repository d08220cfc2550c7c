# SPDX-License-Identifier: Apache-2.0
"""`warm_up`: calibrates a model on the forecasts it would have made recently, so that the first tick has margins."""

import math
from collections.abc import Iterable, Iterator
from datetime import datetime

import attrs
import numpy as np

from kedastral.core.forecast import Forecast
from kedastral.core.model import Model, TrainableModel
from kedastral.core.planning.peak_regression import predict_peaks
from kedastral.core.planning.uncertainty import (
    FIRST_WINDOWS,
    UncertaintyState,
    add_forecast,
    judge_windows,
    keep_regression,
)
from kedastral.core.series import DAY, Series
from kedastral.errors import ModelError

PAST_SECONDS = DAY
"""Seconds of history before a forecast that are needed to judge it: the offset of the logarithm needs a day."""


def warm_up(
    model: Model,
    history: Series,
    steps: int,
    window: int,
    *,
    lead_steps: int | None = None,
    made_at: datetime | None = None,
    max_forecasts: int = FIRST_WINDOWS,
) -> UncertaintyState:
    """The uncertainty of ``model`` as if it had forecast over the last hours of ``history``.

    This also fits a `TrainableModel`, as of ``made_at`` (by default the end of the history), and raises ModelError if
    it cannot be fitted. Any other model makes at most ``max_forecasts`` forecasts.
    """
    if not isinstance(model, TrainableModel):
        forecasts = rolling_forecasts(model, history, steps, max_forecasts)
        return calibrate_on(forecasts, history, window, lead_steps)
    past_forecasts = model.learn(history, made_at or history.time_at(len(history) - 1), steps)
    return calibrate_on(past_forecasts, history, window, lead_steps)


def calibrate_on(
    forecasts: Iterable[Forecast], history: Series, window: int, lead_steps: int | None = None
) -> UncertaintyState:
    """The state after ``forecasts``, oldest first, were made and judged as ``history`` came in.

    ``window`` and ``lead_steps`` as in `kedastral.core.planning.uncertainty.add_forecast`.
    """
    made, state = list(forecasts), UncertaintyState()
    ends = [math.floor((one.made_at - history.start).total_seconds() / history.step + 1e-6) + 1 for one in made]
    reach = math.ceil(PAST_SECONDS / history.step) + window
    if made:
        state = keep_regression(state, _cut(history, 0, ends[0]), window)
    predicted = _predict_windows(state, history, len(history) - min(ends, default=0) + 1)
    for forecast, end in zip(made, ends, strict=True):
        past = _cut(history, max(end - reach, 0), end)
        if np.isfinite(past.values).any():
            peak = predicted[end - len(history) - 1] if predicted is not None and end <= len(history) else None
            judged = judge_windows(state, past, window)
            state = add_forecast(judged, past, forecast.values, window, lead_steps, predicted_peak=peak)
    return state


def _predict_windows(state: UncertaintyState, history: Series, moments: int) -> list[float] | None:
    """The peaks predicted for the windows after the newest ``moments``, by the regression fitted before them."""
    regression = state.regressed.regression
    return None if regression is None else predict_peaks(regression, history, moments).tolist()


def rolling_forecasts(model: Model, history: Series, steps: int, max_forecasts: int) -> Iterator[Forecast]:
    """Forecasts from a rolling origin: the last ``max_forecasts`` steps of ``history``, each from the values before it.

    Steps at which the model cannot forecast are skipped. The model always sees at least half of the history.
    """
    for end in range(max(len(history) - max_forecasts, len(history) // 2, 1), len(history)):
        past = _cut(history, 0, end)
        if not np.isfinite(past.values).any():
            continue
        try:
            yield model.forecast(past, past.time_at(end - 1), steps)
        except ModelError:
            continue


def _cut(history: Series, first: int, last: int) -> Series:
    return attrs.evolve(history, start=history.time_at(first), values=history.values[first:last])
