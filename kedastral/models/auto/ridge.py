# SPDX-License-Identifier: Apache-2.0
"""Ridge regression, and how the model fits it to the past.

`fit_ridge` is the regression itself: weighted, penalised, and robust against a few unpredictable minutes. `fit_horizon`
chooses the training set for one horizon: which past steps are its rows, what their target is, and their weights.
"""

import attrs
import numpy as np

from kedastral.core.series import Floats, Ints
from kedastral.models.auto.features import LEVEL, Seasons, compute_common_features, compute_horizon_features
from kedastral.models.auto.signal import DAY, HOUR, Signal

# ---- the regression

PENALTY = 10.0
"""Ridge penalty on standardised features; rows count 1 each. From 3 to 30 the forecasts are alike."""
LEAST_SCALE = 1e-3
"""The smallest root mean square by which a feature is divided. If the load is constant, or the same every hour, some
features are rounding errors: a slope fitted to them would be huge once the load does move."""
RANGE_MARGIN = 0.5
"""How far beyond its range in the fit a feature still counts, as a share of that range. The rows of a fit are a sample,
so the next hours go a little beyond it. Without the margin, load that switches on and off is forecast up to 0.8 %
worse."""
HUBER_THRESHOLD = 1.0
"""Residuals beyond this many typical ones count linearly instead of squared (Huber, 1964).

It is low, since forecasts are judged by absolute errors, and load jumps more often than under a normal distribution.
"""
COLD_START_ROUNDS = 4
WARM_START_ROUNDS = 1
"""Iterations of a fit: a refit starts from the earlier coefficients and so needs fewer."""
NORMAL_MAD = 1.4826
"""The standard deviation of a normal distribution over its median absolute deviation."""


@attrs.frozen(eq=False)
class Ridge:
    """``coefficients`` (k + 1,), the intercept last; features count from ``lowest`` (k,) to ``highest`` (k,)."""

    coefficients: Floats
    lowest: Floats
    highest: Floats

    @property
    def flat(self) -> Floats:
        """All of it in one array (3 k + 1,), to be stored."""
        return np.concatenate([self.coefficients, self.lowest, self.highest])

    @classmethod
    def from_flat(cls, values: Floats) -> "Ridge":
        """The ridge whose `flat` was ``values``. Raises ValueError where that is none."""
        count, rest = divmod(len(values) - 1, 3)
        if rest or count < 0:
            raise ValueError(f"{len(values)} values are no ridge")
        return cls(*np.split(values, [count + 1, 2 * count + 1]))

    def predict(self, features: Floats) -> Floats:
        """One value for each row of ``features`` (r, k).

        A feature beyond its range counts as the end of the range: the fit says nothing about what lies far beyond.
        """
        known = features.clip(self.lowest, self.highest)
        values: Floats = known @ self.coefficients[:-1] + self.coefficients[-1]
        return values


def fit_ridge(features: Floats, target: Floats, sample_weight: Floats, warm_start: Ridge | None = None) -> Ridge:
    """Fit ``target`` (r,) on ``features`` (r, k), with ``sample_weight`` (r,) >= 0.

    Ridge regression by the normal equations (Hoerl and Kennard, 1970), reweighted for Huber's loss (Holland and
    Welsch, 1977), starting from the coefficients of ``warm_start`` if given.
    """
    scale = np.maximum(np.sqrt(np.mean(features**2, axis=0)), LEAST_SCALE)
    design = np.column_stack([features / scale, np.ones(len(features))])
    scale = np.append(scale, 1.0)
    if warm_start is None:
        coefficients, rounds = _solve(design, target, sample_weight), COLD_START_ROUNDS - 1
    else:
        coefficients = warm_start.coefficients * scale
        rounds = WARM_START_ROUNDS
    for _ in range(rounds):
        huber = _huber_weights(target - design @ coefficients, sample_weight)
        coefficients = _solve(design, target, sample_weight * huber)
    seen = features[sample_weight > 0] if sample_weight.any() else features
    lowest, highest = seen.min(axis=0), seen.max(axis=0)
    margin = RANGE_MARGIN * (highest - lowest)
    return Ridge(coefficients / scale, lowest - margin, highest + margin)


def _huber_weights(residuals: Floats, sample_weight: Floats) -> Floats:
    """Huber's weight of each row; the typical residual is the weighted median, scaled as for normal residuals."""
    sizes = np.abs(residuals)
    order = np.argsort(sizes)
    cumulated = np.cumsum(sample_weight[order])
    typical = NORMAL_MAD * float(sizes[order[np.searchsorted(cumulated, cumulated[-1] / 2)]])
    if typical <= 1e-12:
        return np.ones(len(sizes))
    return np.minimum(1.0, HUBER_THRESHOLD * typical / np.maximum(sizes, 1e-12))


def _solve(design: Floats, target: Floats, sample_weight: Floats) -> Floats:
    total = float(sample_weight.sum())
    share = sample_weight * (len(sample_weight) / total) if total > 0 else sample_weight
    weighted = design * share[:, None]
    gram: Floats = weighted.T @ design
    gram[np.diag_indices_from(gram)] += PENALTY
    return np.asarray(np.linalg.solve(gram, weighted.T @ target), dtype=np.float64)


# ---- the training set

HALF_LIVES = (7 * DAY, 1.5 * DAY)
"""Half-lives in seconds of the weight of the past: a steady ridge, and one that follows recent changes."""
MAX_HALF_LIVES = 3
"""How many half-lives of the past are fitted on; earlier data weigh too little to be worth the time."""
MIN_HISTORY = 6 * HOUR
"""Seconds; shorter histories are not fitted at all."""
MAX_ROWS = 2500
"""Rows of a fit: twice as many take twice the time and are no more accurate."""
MIN_ROWS = 60
LOAD_POWER = 0.5
"""Rows are weighted by the load to this power: errors at the peak cost more, but nights still count."""
GOLDEN_RATIO = 0.6180339887498949
"""Shifts each row within its stratum, so that the rows cover every minute of the hour: a plain stride of 5 minutes
would cover only twelve."""


@attrs.frozen
class FitSettings:
    """A ridge for ``ahead`` steps with a memory of ``half_life`` seconds, without the newest ``held_out`` steps."""

    ahead: int
    half_life: float
    held_out: int = 0
    max_rows: int = MAX_ROWS


def fit_horizon(seasons: Seasons, settings: FitSettings, warm_start: Ridge | None = None) -> Ridge | None:
    """The ridge for one horizon, fitted on the past of ``seasons``; None if the history is too short.

    Its target is the log of the load ``ahead`` steps later, minus the level at the origin.
    """
    signal = seasons.signal
    rows = _choose_origins(signal, settings)
    if rows is None:
        return None
    common = compute_common_features(seasons, rows)
    features = np.hstack([common, compute_horizon_features(seasons, rows, np.full(len(rows), settings.ahead))])
    level = compute_level(signal, rows)
    target = signal.logs[rows + settings.ahead] - level
    known = signal.known[rows] & signal.known[rows + settings.ahead]
    fade = 0.5 ** ((rows[-1] - rows) * signal.step / settings.half_life)
    return fit_ridge(features, target, known * fade * np.exp(LOAD_POWER * level), warm_start)


def compute_level(signal: Signal, rows: Ints) -> Floats:
    """The level that features and target are measured against: the mean of the logs over the last `LEVEL` seconds."""
    return signal.trailing_mean(rows, signal.steps_in(LEVEL))


def _choose_origins(signal: Signal, settings: FitSettings) -> Ints | None:
    """Evenly spaced origins whose future is known; None if there are too few.

    Longer histories skip the first half day: there is too little history before it.
    """
    last = len(signal) - 1 - settings.held_out - settings.ahead
    if last * signal.step < MIN_HISTORY - HOUR:
        return None
    first = signal.steps_in(DAY / 2) if last * signal.step > 2 * DAY else 1
    first = max(first, last - signal.steps_in(MAX_HALF_LIVES * settings.half_life))
    if last - first < MIN_ROWS:
        return None
    stride = max(1.0, (last - first) / settings.max_rows)
    k = np.arange(int((last - first) / stride))
    shift = np.mod(k * GOLDEN_RATIO, 1.0) if stride > 1 else 0.0
    rows: Ints = (last - np.floor(stride * (k + shift))).astype(np.int64)[::-1]
    return rows
