# SPDX-License-Identifier: Apache-2.0
"""The experts: last value, exponential means, what other days add to the level of now, and two ridges."""

from collections.abc import Sequence

import numpy as np

from kedastral.core.series import Floats, Ints
from kedastral.models.auto.features import (
    Seasons,
    common_features,
    horizon_features,
    increments,
    mean_known,
    median_known,
)
from kedastral.models.auto.ridge import HALF_LIVES, Ridge, level_of
from kedastral.models.auto.signal import DAY, MINUTE, Signal

PROFILES = (5 * MINUTE, 20 * MINUTE, 60 * MINUTE)
"""Spans of the level and of the smoothing of the daily profiles: quick to follow, or steady."""
SIMPLE = ("last-value", "means", "day-5m", "day-20m", "day-60m", "week")
NAMES = (*SIMPLE, *(f"ridge-{half_life / DAY:g}d" for half_life in HALF_LIVES))
SHORT, LONG, SHORT_SHARE = 5 * MINUTE, 30 * MINUTE, 0.7
"""The exponential means of the baseline model, without its hours: those forecast worse than the last value."""
MOST_GROWTH = 1.5
"""A ridge never forecasts more than this many times the largest load of the window."""

Ridges = Sequence[Ridge | None]
"""One for each of `HALF_LIVES`, of one horizon; None where it has not been fitted."""


def forecasts(seasons: Seasons, rows: Ints, knots: Sequence[int], ridges: Sequence[Ridges]) -> Floats:
    """The load at each of ``knots`` (k,) steps after each of ``rows`` (r,): shape (experts, k, r), experts as `NAMES`.

    ``ridges`` are those of each knot; those that have not been fitted forecast NaN.
    """
    origins, ahead = np.tile(rows, len(knots)), np.repeat(np.array(knots), len(rows))
    simple = _simple(seasons, origins, ahead).reshape(len(SIMPLE), len(knots), len(rows))
    learned = np.full((len(HALF_LIVES), len(knots), len(rows)), np.nan)
    if any(ridge for fitted in ridges for ridge in fitted):
        common = common_features(seasons, rows)
        special = horizon_features(seasons, origins, ahead).reshape(len(knots), len(rows), -1)
        for k, fitted in enumerate(ridges):
            learned[:, k] = _learned(seasons.signal, rows, np.hstack([common, special[k]]), fitted)
    return np.concatenate([simple, learned])


def _learned(signal: Signal, rows: Ints, features: Floats, ridges: Ridges) -> Floats:
    most = float(signal.logs.max()) + np.log(MOST_GROWTH)
    unknown = np.full(len(rows), np.nan)
    gains = np.stack([unknown if ridge is None else ridge.predict(features) for ridge in ridges])
    return signal.to_load(np.minimum(level_of(signal, rows) + gains, most))


def _simple(seasons: Seasons, rows: Ints, ahead: Ints) -> Floats:
    signal = seasons.signal
    answers = [signal.values[rows], _means(signal, rows)]
    answers += [signal.to_load(_by_days(seasons, rows, ahead, span)) for span in PROFILES]
    answers.append(signal.to_load(_by_weeks(seasons, rows, ahead)))
    return np.stack(answers)


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


def _by_days(seasons: Seasons, rows: Ints, ahead: Ints, span: float) -> Floats:
    signal = seasons.signal
    level = signal.trailing(rows, signal.steps_in(span))
    if not seasons.has(DAY):
        return level
    return level + median_known(_gain(signal, seasons.days_back(rows, np.arange(1, 8)), ahead, span))


def _by_weeks(seasons: Seasons, rows: Ints, ahead: Ints) -> Floats:
    signal, span = seasons.signal, PROFILES[1]
    level = signal.trailing(rows, signal.steps_in(span))
    if not seasons.has(DAY):
        return level
    return level + mean_known(_gain(signal, seasons.days_back(rows, np.array([7, 14])), ahead, span))


def _gain(signal: Signal, lagged: Ints, ahead: Ints, span: float) -> Floats:
    """How the load went on from ``lagged``, against the level over ``span`` there."""
    gained, level = increments(signal, lagged, ahead, span)
    safe = np.where(np.isfinite(level), lagged, 0)
    return gained + level - signal.trailing(safe, signal.steps_in(span))
