# SPDX-License-Identifier: Apache-2.0
"""Ridge regression, and how the model fits it to the past.

`fit_ridge` is the regression itself: weighted, penalised, and robust against a few unpredictable minutes; with random
features it is nonlinear. `fit_horizon` chooses the training set for one horizon: which past steps are its rows, what
their target is, and their weights. `KINDS` are the regressions that the model has for each horizon.
"""

from collections.abc import Iterator

import attrs
import numpy as np

from kedastral.core.series import DAY, HOUR, MINUTE, NORMAL_MAD, Floats, Ints
from kedastral.models.auto.features import (
    LEAST_SCALE,
    LEVEL,
    Seasons,
    compute_common_features,
    compute_horizon_features,
    count_features,
)
from kedastral.models.auto.random_features import COUNT, RandomFeatures, Singles
from kedastral.models.auto.signal import Signal

# ---- the regression

PENALTY = 10.0
"""Ridge penalty on standardised features; rows count 1 each. From 3 to 30 the forecasts are alike."""
RANGE_MARGIN = 0.5
"""How far beyond its range in the fit a feature still counts, as a share of that range. The rows of a fit are a sample,
so the next hours go a little beyond it. Without the margin, load that switches on and off is forecast up to 0.8 %
worse."""
HUBER_THRESHOLD = 0.3
"""Residuals beyond this many typical ones count linearly instead of squared (Huber, 1964).

It is low, since forecasts are judged by absolute errors, and load jumps more often than under a normal distribution.
With 0.1 the error would be another 0.7 % smaller, but one round of a refit would follow changes less.
"""
COLD_START_ROUNDS = 4
WARM_START_ROUNDS = 1
"""Iterations of a fit: a refit starts from the earlier ridge and so needs fewer."""


BLOCK = 250
"""Rows whose random features are held at once; all of them would take several megabytes."""


@attrs.frozen(eq=False)
class Ridge:
    """``coefficients`` (k + 1,), the intercept last; features count from ``lowest`` (k,) to ``highest`` (k,).

    With ``random`` features there are also coefficients of these, before the intercept.
    """

    coefficients: Floats
    lowest: Floats
    highest: Floats
    random: RandomFeatures | None = None

    @property
    def flat(self) -> Floats:
        """All of it in one array, to be stored: (3 k + 1,), with random features (5 k + COUNT + 1,)."""
        more = () if self.random is None else (self.random.center, self.random.scale)
        return np.concatenate([self.coefficients, self.lowest, self.highest, *more])

    @classmethod
    def from_flat(cls, values: Floats, *, is_random: bool = False) -> "Ridge":
        """The ridge whose `flat` was ``values``. Raises ValueError where that is none."""
        own, parts = (COUNT + 1, 5) if is_random else (1, 3)
        count, left = divmod(len(values) - own, parts)
        if left or count < 0:
            raise ValueError(f"{len(values)} values are no ridge")
        coefficients, lowest, highest, *rest = np.split(values, own + count * np.arange(1, parts))
        return cls(coefficients, lowest, highest, RandomFeatures(*rest) if is_random else None)

    def predict(self, features: Floats) -> Floats:
        """One value for each row of ``features`` (r, k).

        A feature beyond its range counts as the end of the range: the fit says nothing about what lies far beyond.
        """
        known, count = features.clip(self.lowest, self.highest), len(self.lowest)
        values: Floats = known @ self.coefficients[:count] + self.coefficients[-1]
        if self.random is not None:
            for block in _blocks_of(len(known), BLOCK):
                values[block] += self.random.transform(known[block]) @ self.coefficients[count:-1]
        return values


def fit_ridge(
    features: Floats,
    target: Floats,
    sample_weight: Floats,
    warm_start: Ridge | None = None,
    *,
    is_random: bool = False,
) -> Ridge:
    """Fit ``target`` (r,) on ``features`` (r, k), with ``sample_weight`` (r,) >= 0; with random features if asked.

    Ridge regression by the normal equations (Hoerl and Kennard, 1970), reweighted for Huber's loss (Holland and
    Welsch, 1977), starting from the residuals of ``warm_start`` if given, which may be one without random features.
    """
    scale = np.maximum(np.sqrt(np.mean(features**2, axis=0)), LEAST_SCALE)
    design = _Design(features, scale, RandomFeatures.fitted(features) if is_random else None)
    if warm_start is None:
        coefficients = design.solve(target, sample_weight)
        residuals, rounds = target - design.predict(coefficients), COLD_START_ROUNDS - 1
    else:
        residuals, rounds = target - warm_start.predict(features), WARM_START_ROUNDS
    for left in reversed(range(rounds)):
        coefficients = design.solve(target, sample_weight * _huber_weights(residuals, sample_weight))
        residuals = target - design.predict(coefficients) if left else residuals
    coefficients[: len(scale)] /= scale
    seen = features if sample_weight.all() or not sample_weight.any() else features[sample_weight > 0]
    lowest, highest = seen.min(axis=0), seen.max(axis=0)
    margin = RANGE_MARGIN * (highest - lowest)
    return Ridge(coefficients, lowest - margin, highest + margin, design.random)


@attrs.frozen
class _Design:
    """The matrix that a ridge is fitted on: ``features`` (r, k) over ``scale`` (k,), ``random`` features, and ones."""

    features: Floats
    scale: Floats
    random: RandomFeatures | None

    @property
    def width(self) -> int:
        return len(self.scale) + 1 + (0 if self.random is None else COUNT)

    def predict(self, coefficients: Floats) -> Floats:
        return np.concatenate([rows @ coefficients.astype(rows.dtype) for _, rows in self._blocks()])

    def solve(self, target: Floats, sample_weight: Floats) -> Floats:
        """The coefficients of the weighted ridge regression of ``target`` (r,)."""
        total = float(sample_weight.sum())
        share = sample_weight * (len(sample_weight) / total) if total > 0 else sample_weight
        gram, moment = np.zeros((self.width, self.width)), np.zeros(self.width)
        for block, rows in self._blocks():
            weighted = rows * share[block, None].astype(rows.dtype)
            gram += weighted.T @ rows
            moment += weighted.T @ target[block].astype(rows.dtype)
        gram[np.diag_indices_from(gram)] += PENALTY
        return np.asarray(np.linalg.solve(gram, moment), dtype=np.float64)

    def _blocks(self) -> "Iterator[tuple[slice, Floats | Singles]]":
        if self.random is None:
            yield slice(None), np.column_stack([self.features / self.scale, np.ones(len(self.features))])
            return
        for block in _blocks_of(len(self.features), BLOCK):
            features = self.features[block]
            rows = np.ones((len(features), self.width), dtype=np.float32)
            rows[:, : len(self.scale)] = features / self.scale
            rows[:, len(self.scale) : -1] = self.random.transform(features)
            yield block, rows


def _blocks_of(rows: int, size: int) -> list[slice]:
    return [slice(first, first + size) for first in range(0, rows, size)]


def _huber_weights(residuals: Floats, sample_weight: Floats) -> Floats:
    """Huber's weight of each row; the typical residual is the weighted median, scaled as for normal residuals."""
    sizes = np.abs(residuals)
    order = np.argsort(sizes)
    cumulated = np.cumsum(sample_weight[order])
    typical = NORMAL_MAD * float(sizes[order[np.searchsorted(cumulated, cumulated[-1] / 2)]])
    if typical <= 1e-12:
        return np.ones(len(sizes))
    return np.minimum(1.0, HUBER_THRESHOLD * typical / np.maximum(sizes, 1e-12))


# ---- the training set

MAX_HALF_LIVES = 3
"""How many half-lives of the past are fitted on; earlier data weigh too little to be worth the time."""
MIN_HISTORY = 5 * HOUR
"""Seconds of history with a known future; shorter histories are not fitted at all."""
MAX_ROWS = 2500
"""Rows of a fit: twice as many take twice the time and are hardly more accurate, even with random features."""
MIN_ROWS = 60
ROWS_AT_ONCE = 1000
"""Rows whose features are computed at once, so that what they are computed from takes little memory."""
LOAD_POWER = 0.5
"""Rows are weighted by the load to this power: errors at the peak cost more, but nights still count."""
GOLDEN_RATIO = 0.6180339887498949
"""Shifts each row within its stratum, so that the rows cover every minute of the hour: a plain stride of 5 minutes
would cover only twelve."""


@attrs.frozen
class RidgeKind:
    """A regression that the model fits for each horizon: the weight of the past halves every ``half_life`` seconds.

    A fit waits until ``distance`` seconds after any other fit of the workload. One costs several times as much as the
    rest of a tick, and in a process with a thousand workloads that started together all are due at once.
    """

    name: str
    half_life: float
    is_random: bool = False
    distance: float = 3 * MINUTE


KINDS = (
    RidgeKind("ridge-7d", 7 * DAY),
    RidgeKind("ridge-1.5d", 1.5 * DAY),
    # four times as expensive: at a third of this distance the p99 of GetMetrics was over its budget
    RidgeKind("random-features", 7 * DAY, is_random=True, distance=12 * MINUTE),
)
"""A steady ridge, one that follows recent changes, and a nonlinear one, in the order of their first fits."""


@attrs.frozen
class FitSettings:
    """A ridge of ``kind`` for ``ahead`` steps, without the newest ``held_out`` steps, on at most ``max_rows`` rows."""

    ahead: int
    kind: RidgeKind
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
    features = np.empty((len(rows), count_features(signal.step)))
    for block in _blocks_of(len(rows), ROWS_AT_ONCE):
        features[block] = _compute_features(seasons, rows[block], settings.ahead)
    level = compute_level(signal, rows)
    target = signal.logs[rows + settings.ahead] - level
    known = signal.known[rows] & signal.known[rows + settings.ahead]
    fade = 0.5 ** ((rows[-1] - rows) * signal.step / settings.kind.half_life)
    weight = known * fade * np.exp(LOAD_POWER * level)
    return fit_ridge(features, target, weight, warm_start, is_random=settings.kind.is_random)


def _compute_features(seasons: Seasons, rows: Ints, ahead: int) -> Floats:
    common = compute_common_features(seasons, rows)
    return np.hstack([common, compute_horizon_features(seasons, rows, np.full(len(rows), ahead))])


def compute_level(signal: Signal, rows: Ints) -> Floats:
    """The level that features and target are measured against: the mean of the logs over the last `LEVEL` seconds."""
    return signal.trailing_mean(rows, signal.steps_in(LEVEL))


def _choose_origins(signal: Signal, settings: FitSettings) -> Ints | None:
    """Evenly spaced origins whose future is known; None if there are too few.

    Longer histories skip the first half day: there is too little history before it.
    """
    last = len(signal) - 1 - settings.held_out - settings.ahead
    if last * signal.step < MIN_HISTORY:
        return None
    first = signal.steps_in(DAY / 2) if last * signal.step > 2 * DAY else 1
    first = max(first, last - signal.steps_in(MAX_HALF_LIVES * settings.kind.half_life))
    if last - first < MIN_ROWS:
        return None
    stride = max(1.0, (last - first) / settings.max_rows)
    k = np.arange(int((last - first) / stride))
    shift = np.mod(k * GOLDEN_RATIO, 1.0) if stride > 1 else 0.0
    rows: Ints = (last - np.floor(stride * (k + shift))).astype(np.int64)[::-1]
    return rows
