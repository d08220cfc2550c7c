# SPDX-License-Identifier: Apache-2.0
"""The experts: last value, exponential means, the gain of other days added to the current level, and three ridges."""

from collections.abc import Sequence

import numpy as np

from kedastral.core.series import DAY, MINUTE, Floats, Ints
from kedastral.models.auto.features import (
    DAYS_BACK,
    Seasons,
    compute_common_features,
    compute_horizon_features,
    compute_increments,
    median_known,
)
from kedastral.models.auto.ridge import KINDS, Ridge, compute_level
from kedastral.models.auto.signal import Signal

PROFILES = (5 * MINUTE, 20 * MINUTE, 60 * MINUTE)
"""Seconds over which the level and the daily profiles are averaged: from quick to steady."""
WEEK_BACK = np.array([7])
"""Only one week: what followed two weeks ago lies before the history of 14 days."""
SIMPLE = ("last-value", "means", "day-5m", "day-20m", "day-60m", "week")
EXPERTS = (*SIMPLE, *(kind.name for kind in KINDS))
"""The names of all experts, in the order of every array of their forecasts."""
SHORT, LONG, SHORT_SHARE = 5 * MINUTE, 30 * MINUTE, 0.7
"""The exponential means of the baseline model without its hourly means, which are worse than the last value."""
MAX_GROWTH = 1.5
"""No expert forecasts more than this many times the largest load of the window. Gains are in logarithms: what a load of
nearly nothing rose to yesterday would make thousands of a load that began ten minutes early today."""

Ridges = Sequence[Ridge | None]
"""The ridges of one horizon, one for each of `KINDS`; None if not fitted."""


def predict_all(seasons: Seasons, rows: Ints, knots: Sequence[int], ridges: Sequence[Ridges]) -> Floats:
    """The load at each of ``knots`` (k,) steps after each of ``rows`` (r,), by each of `EXPERTS`: (experts, k, r).

    ``ridges`` are those of each knot; a ridge that is not fitted forecasts NaN.
    """
    origins, ahead = np.tile(rows, len(knots)), np.repeat(np.array(knots), len(rows))
    simple = _predict_simple(seasons, origins, ahead).reshape(len(SIMPLE), len(knots), len(rows))
    by_ridges = np.full((len(KINDS), len(knots), len(rows)), np.nan)
    if any(ridge for fitted in ridges for ridge in fitted):
        common = compute_common_features(seasons, rows)
        own = compute_horizon_features(seasons, origins, ahead).reshape(len(knots), len(rows), -1)
        for k, fitted in enumerate(ridges):
            by_ridges[:, k] = _predict_ridges(seasons.signal, rows, np.hstack([common, own[k]]), fitted)
    return np.concatenate([simple, by_ridges])


def _to_limited_load(signal: Signal, logs: Floats) -> Floats:
    """The load of ``logs``, at most `MAX_GROWTH` times the largest of the window."""
    return signal.to_load(np.minimum(logs, float(signal.logs.max()) + np.log(MAX_GROWTH)))


def _predict_ridges(signal: Signal, rows: Ints, features: Floats, ridges: Ridges) -> Floats:
    unknown = np.full(len(rows), np.nan)
    gains = np.stack([unknown if ridge is None else ridge.predict(features) for ridge in ridges])
    return _to_limited_load(signal, compute_level(signal, rows) + gains)


def _predict_simple(seasons: Seasons, rows: Ints, ahead: Ints) -> Floats:
    signal = seasons.signal
    loads = [signal.values[rows], _means(signal, rows)]
    loads += [_to_limited_load(signal, _by_days(seasons, rows, ahead, span, DAYS_BACK)) for span in PROFILES]
    loads.append(_to_limited_load(signal, _by_days(seasons, rows, ahead, PROFILES[1], WEEK_BACK)))
    return np.stack(loads)


def _means(signal: Signal, rows: Ints) -> Floats:
    """`kedastral.models.baseline` without its hours, for many origins at once."""
    back = np.arange(signal.steps_in(LONG))
    recent = signal.values[np.maximum(rows[:, None] - back[None, :], 0)]
    mean = np.zeros(len(rows))
    for span, share in ((SHORT, SHORT_SHARE), (LONG, 1 - SHORT_SHARE)):
        alpha = 2 / (max(1.0, span / signal.step) + 1)
        weights = alpha * (1 - alpha) ** back
        weights[-1] = (1 - alpha) ** back[-1]
        mean += share * (recent @ weights)
    rising = recent[:, : signal.steps_in(SHORT)].mean(axis=1) > recent.mean(axis=1)
    return np.where(rising, np.maximum(mean, recent[:, 0]), mean)


def _by_days(seasons: Seasons, rows: Ints, ahead: Ints, span: float, days: Ints) -> Floats:
    """The level over ``span`` seconds, plus the median gain of the ``days`` before."""
    signal = seasons.signal
    level = signal.trailing_mean(rows, signal.steps_in(span))
    if not seasons.has(DAY):
        return level
    return level + median_known(_gain(signal, seasons.days_back(rows, days), ahead, span))


def _gain(signal: Signal, lagged: Ints, ahead: Ints, span: float) -> Floats:
    """How the load continued from ``lagged`` (r, m), minus the level over ``span`` seconds there; NaN if unknown."""
    gained, level = compute_increments(signal, lagged, ahead, span)
    safe = np.where(np.isfinite(level), lagged, 0)
    return gained + level - signal.trailing_mean(safe, signal.steps_in(span))
