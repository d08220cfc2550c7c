# SPDX-License-Identifier: Apache-2.0
"""`baseline`: two exponential means, a small hour-of-day correction, and a ramp if the load rises.

Cheap, explainable, and the benchmark for other models. It has hardly any seasonality and lags every ramp:
docs/models.md says when that matters.
"""

import math
from datetime import datetime, timedelta

import attrs
import numpy as np

from kedastral.core.forecast import Forecast
from kedastral.core.series import DAY, HOUR, MINUTE, Floats, Series, fill_gaps
from kedastral.errors import ModelError

SHORT = 5 * MINUTE
LONG = 30 * MINUTE
SHORT_WEIGHT = 0.7
"""The weight of the short mean; the long one has the rest, and keeps a single odd minute from moving the forecast."""
HOUR_WEIGHT = 0.2
"""The weight of the hourly mean; small, since an unadjusted hourly mean alone is worse than the last value."""
MAX_GROWTH = 1.5
"""A rising forecast never exceeds this many times the last value."""


@attrs.frozen
class Baseline:
    """``0.7 * EMA(5 min) + 0.3 * EMA(30 min)``, blended with the hour of the day if that has been seen before.

    Takes O(n) in the length of the history.
    """

    name = "baseline"

    @np.errstate(over="ignore", invalid="ignore")  # a load too large for a float: Forecast rejects it
    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.model.Model.forecast`; raises ModelError if the history holds no value."""
        filled = fill_gaps(history.values)
        recent = filled[-_count_points(LONG, history.step) :]
        recent = recent[np.isfinite(recent)]
        if not len(recent):
            raise ModelError("there is no history to forecast from", reason="no_history")
        base = SHORT_WEIGHT * _ema(recent, SHORT, history.step) + (1 - SHORT_WEIGHT) * _ema(recent, LONG, history.step)
        values = _blend_hours(base, history, made_at, steps)
        if recent[-_count_points(SHORT, history.step) :].mean() > recent.mean():
            last = recent[-1]
            values = np.clip(np.maximum.accumulate(values), last, MAX_GROWTH * last)
        return Forecast(made_at, history.step, values)


def _count_points(span: float, step: float) -> int:
    return max(1, round(span / step))


def _ema(values: Floats, span: float, step: float) -> float:
    """The newest exponential mean of span n = max(1, span / step): alpha = 2 / (n + 1), starting with the first value.

    The recursion ``m += alpha * (x - m)``, unrolled into one weighted sum.
    """
    alpha = 2 / (max(1.0, span / step) + 1)
    weights = alpha * (1 - alpha) ** np.arange(len(values) - 1, -1, -1)
    weights[0] = (1 - alpha) ** (len(values) - 1)
    return float(weights @ values)


def _blend_hours(base: float, history: Series, made_at: datetime, steps: int) -> Floats:
    """The base for every step, blended with the mean of the step's hour (UTC) if that is known."""
    values = np.full(steps, base)
    means: dict[tuple[int, int], float | None] = {}
    hours = _HourMeans(history)
    for i in range(steps):
        at = made_at + timedelta(seconds=i * history.step)
        key = (at.hour, at.weekday())
        if key not in means:
            means[key] = hours.mean(*key)
        mean = means[key]
        if mean is not None:
            values[i] = (1 - HOUR_WEIGHT) * base + HOUR_WEIGHT * mean
    return values


class _HourMeans:
    """The mean load of an hour of the day (UTC), from days that had it."""

    def __init__(self, history: Series) -> None:
        known = np.isfinite(history.values)
        begins = np.flatnonzero(known) - 1  # a value is dated by the end of its step
        seconds = history.start.timestamp() + begins * history.step
        self._values = history.values[known]
        self._hours = np.floor(seconds / HOUR).astype(np.int64) % 24
        self._days = np.floor(seconds / DAY).astype(np.int64)

    def mean(self, hour: int, weekday: int) -> float | None:
        """The mean for this weekday (0 is Monday) if seen on two days, else for any day; None if seen on fewer."""
        in_hour = self._hours == hour
        if len(np.unique(self._days[in_hour])) < 2:
            return None
        same_weekday = in_hour & ((self._days + 3) % 7 == weekday)  # day 0 of the epoch was a Thursday
        chosen = same_weekday if len(np.unique(self._days[same_weekday])) >= 2 else in_hour
        mean = float(self._values[chosen].mean())
        return mean if math.isfinite(mean) else None
