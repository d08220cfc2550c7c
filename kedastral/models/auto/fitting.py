# SPDX-License-Identifier: Apache-2.0
"""Fitting the ridges of one horizon on the past of a `Seasons`."""

from collections.abc import Sequence

import numpy as np

from kedastral.core.series import Floats, Ints
from kedastral.models.auto.features import LEVEL, common_features, horizon_features
from kedastral.models.auto.ridge import Ridge, fit_ridge
from kedastral.models.auto.seasons import HOUR, Seasons
from kedastral.models.auto.signal import DAY, Signal

HALF_LIVES = (7 * DAY, 1.5 * DAY)
"""Seconds after which the past counts half: a steady ridge, and one that follows what has changed lately."""
LEAST_HISTORY = 6 * HOUR
"""Of history before a ridge is fitted at all."""
MOST_ROWS = 5000
"""Rows of a fit: more cost time and forecast no better."""
VOLUME = 0.5
"""The power of the load that rows count by: errors at the peak cost more, errors at night still teach."""
FEWEST_ROWS = 60


def fit_horizon(
    seasons: Seasons, ahead: int, *, before: Sequence[Ridge] | None = None, held_out: int = 0, most: int = MOST_ROWS
) -> tuple[Ridge, ...] | None:
    """A ridge for each of `HALF_LIVES`, forecasting ``ahead`` steps, or None where the history is too short.

    The newest ``held_out`` steps are not seen. ``before`` are the ridges so far, ``most`` the number of rows.
    """
    rows = _origins(seasons, ahead, held_out, most)
    if rows is None:
        return None
    signal = seasons.signal
    features = np.hstack([common_features(seasons, rows), horizon_features(seasons, rows, np.full(len(rows), ahead))])
    level = level_of(signal, rows)
    target = signal.logs[rows + ahead] - level
    known = signal.known[rows] & signal.known[rows + ahead]
    ages = (rows[-1] - rows) * signal.step
    volume = np.exp(VOLUME * level)
    olds: Sequence[Ridge | None] = before or [None] * len(HALF_LIVES)
    weighed = [known * volume * 0.5 ** (ages / half_life) for half_life in HALF_LIVES]
    return tuple(fit_ridge(features, target, weight, old) for weight, old in zip(weighed, olds, strict=True))


def level_of(signal: Signal, rows: Ints) -> Floats:
    """The level that features and target are measured against: the mean of the logs over the last `LEVEL` seconds."""
    return signal.trailing(rows, signal.steps_in(LEVEL))


def _origins(seasons: Seasons, ahead: int, held_out: int, most: int) -> Ints | None:
    """Evenly spread origins whose future is known; the first half day has too little before it where there is more."""
    signal = seasons.signal
    last = len(signal) - 1 - held_out - ahead
    first = signal.steps_in(DAY / 2) if last * signal.step > 2 * DAY else 1
    if last * signal.step < LEAST_HISTORY - HOUR or last - first < FEWEST_ROWS:
        return None
    stride = -(-(last - first) // most)
    rows: Ints = np.arange(last, first, -stride)[::-1]
    return rows
