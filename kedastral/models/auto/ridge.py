# SPDX-License-Identifier: Apache-2.0
"""Ridge regression on absolute errors: weighted, penalised, and not moved by the few minutes that nothing foretold."""

import attrs
import numpy as np

from kedastral.core.series import Floats, Ints
from kedastral.models.auto.features import HOUR, LEVEL, Seasons, common_features, horizon_features
from kedastral.models.auto.signal import DAY, Signal

PENALTY = 10.0
"""On standardised features, against the number of rows; anything from 3 to 30 forecasts alike."""
ROBUST = 1.0
"""Residuals beyond this many typical ones count by their size, no longer by its square (Huber, 1964).

Low, since forecasts are judged by absolute errors, and load jumps more often than a normal law has it.
"""
FIRST_ROUNDS = 4
LATER_ROUNDS = 1
"""Solutions a fit takes: reweighting goes on from the weights before, so that refits need fewer."""
NORMAL = 1.4826
"""The standard deviation of a normal law over the median of its absolute values."""


@attrs.frozen(eq=False)
class Ridge:
    """``weights`` (k + 1,), the last one the constant."""

    weights: Floats

    def predict(self, features: Floats) -> Floats:
        """One value for each row of ``features`` (r, k)."""
        values: Floats = features @ self.weights[:-1] + self.weights[-1]
        return values


def fit_ridge(features: Floats, target: Floats, importance: Floats, before: Ridge | None = None) -> Ridge:
    """Fit ``target`` (r,) on ``features`` (r, k); rows count by ``importance`` (r,), >= 0.

    Ridge regression by the normal equations (Hoerl and Kennard, 1970), reweighted to Huber's loss (Holland and
    Welsch, 1977), from the weights of ``before`` on where there are any.
    """
    scale = np.sqrt(np.mean(features**2, axis=0))
    scale[scale < 1e-9] = np.inf
    design = np.column_stack([features / scale, np.ones(len(features))])
    scale = np.append(scale, 1.0)
    if before is None:
        weights, rounds = _solve(design, target, importance), FIRST_ROUNDS - 1
    else:
        weights, rounds = before.weights * np.where(np.isfinite(scale), scale, 0.0), LATER_ROUNDS
    for _ in range(rounds):
        weights = _solve(design, target, importance * _trust(target - design @ weights, importance))
    return Ridge(weights / scale)


def _trust(residuals: Floats, importance: Floats) -> Floats:
    """Huber's weight of each row, its typical residual being the median that the importances give."""
    sizes = np.abs(residuals)
    order = np.argsort(sizes)
    half = np.cumsum(importance[order])
    typical = NORMAL * float(sizes[order[np.searchsorted(half, half[-1] / 2)]])
    return np.minimum(1.0, ROBUST * typical / np.maximum(sizes, 1e-12)) if typical > 1e-12 else np.ones(len(sizes))


def _solve(design: Floats, target: Floats, importance: Floats) -> Floats:
    total = float(importance.sum())
    share = importance * (len(importance) / total) if total > 0 else importance
    weighted = design * share[:, None]
    gram: Floats = weighted.T @ design
    gram[np.diag_indices_from(gram)] += PENALTY
    return np.asarray(np.linalg.solve(gram, weighted.T @ target), dtype=np.float64)


# --- Fitting a ridge on the past: which rows, what they are to foretell, and how much each counts.

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
