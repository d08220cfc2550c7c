# SPDX-License-Identifier: Apache-2.0
"""Fitting a ridge on the past: which rows, what they are to foretell, and how much each counts."""

import attrs
import numpy as np

from kedastral.core.series import Floats, Ints
from kedastral.models.auto.features import LEVEL, common_features, horizon_features
from kedastral.models.auto.ridge import Ridge, fit_ridge
from kedastral.models.auto.seasons import HOUR, Seasons
from kedastral.models.auto.signal import DAY, Signal

HALF_LIVES = (7 * DAY, 1.5 * DAY)
"""Seconds after which the past counts half: a steady ridge, and one that follows what has changed lately."""
REACH = 3
"""Half-lives of the past that are fitted on; what lies before weighs too little to cost time."""
LEAST_HISTORY = 6 * HOUR
"""Of history before a ridge is fitted at all."""
MOST_ROWS = 2500
"""Rows of a fit: twice as many take twice the time and forecast no better."""
FEWEST_ROWS = 60
VOLUME = 0.5
"""The power of the load that rows count by: errors at the peak cost more, errors at night still teach."""
GOLDEN = 0.6180339887498949
"""Shifts each row within its stratum, so that rows see every minute of the hour: a stride of 5 would see twelve."""


@attrs.frozen
class Fit:
    """Which ridge: ``ahead`` steps, ``half_life`` seconds; the newest ``held_out`` steps are not seen."""

    ahead: int
    half_life: float
    held_out: int = 0
    most_rows: int = MOST_ROWS


def fit(seasons: Seasons, what: Fit, before: Ridge | None = None) -> Ridge | None:
    """The ridge, from the one ``before`` on where there is one; None where the history is too short."""
    signal = seasons.signal
    rows = _origins(signal, what)
    if rows is None:
        return None
    features = np.hstack(
        [common_features(seasons, rows), horizon_features(seasons, rows, np.full(len(rows), what.ahead))]
    )
    level = level_of(signal, rows)
    target = signal.logs[rows + what.ahead] - level
    known = signal.known[rows] & signal.known[rows + what.ahead]
    fade = 0.5 ** ((rows[-1] - rows) * signal.step / what.half_life)
    return fit_ridge(features, target, known * fade * np.exp(VOLUME * level), before)


def level_of(signal: Signal, rows: Ints) -> Floats:
    """The level that features and target are measured against: the mean of the logs over the last `LEVEL` seconds."""
    return signal.trailing(rows, signal.steps_in(LEVEL))


def _origins(signal: Signal, what: Fit) -> Ints | None:
    """Evenly spread origins whose future is known; the first half day has too little before it where there is more."""
    last = len(signal) - 1 - what.held_out - what.ahead
    if last * signal.step < LEAST_HISTORY - HOUR:
        return None
    first = signal.steps_in(DAY / 2) if last * signal.step > 2 * DAY else 1
    first = max(first, last - signal.steps_in(REACH * what.half_life))
    if last - first < FEWEST_ROWS:
        return None
    apart = max(1.0, (last - first) / what.most_rows)
    k = np.arange(int((last - first) / apart))
    shift = np.mod(k * GOLDEN, 1.0) if apart > 1 else 0.0
    rows: Ints = (last - np.floor(apart * (k + shift))).astype(np.int64)[::-1]
    return rows
