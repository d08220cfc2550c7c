# SPDX-License-Identifier: Apache-2.0
"""`seasonal_peak`: the load of the same time on other days, as a quantile that outcomes steer; pure.

A batch that starts at two in the morning, give or take half an hour, is no surprise, yet a forecast is a mean: it
smears the start, and no factor on it covers the whole batch. The pods for the load at that time on other days do, and
they are kept ahead of it. That is dear, so outcomes decide how many of the days count, as they steer the peak hold
(`kedastral.core.planning.steering`): the quantile is 0, and has no effect, unless starts use the whole error budget.
"""

import math

import numpy as np

from kedastral.core.series import DAY, MINUTE, Series
from kedastral.core.steps import WHOLE_WITHIN

SEASONAL_DAYS = 7
"""How many days back to look: a week has every kind of day."""
LEAST_DAYS = 4
"""With fewer days, what happened at this time of day may have been a single event."""
SEASONAL_TOLERANCE = 30 * MINUTE
"""How much earlier or later than on other days a load may come."""
LEAST_QUANTILE = 0.03
"""Below this the quantile has no effect. A single late start whose minutes the error budget allows stays below it."""
SEASONAL_RATE = 0.15
"""How far the error budget of one day, spent on loads that other days had at this time, raises the quantile. A day
without such minutes lowers it as far: then a week turns it from the largest of the days to nothing."""


def seasonal_peak(history: Series, end: int, ahead: int, quantile: float) -> float:
    """A quantile (0..1), over the last days, of the largest load around this time of day; 0 if unknown.

    It is that of the ``ahead`` steps that follow the first ``end`` steps of ``history``, `SEASONAL_TOLERANCE` earlier
    or later: the smallest load that at least this share of the days did not exceed; 0 below `LEAST_QUANTILE`.
    """
    if quantile < LEAST_QUANTILE:
        return 0.0
    day, around = round(DAY / history.step), round(SEASONAL_TOLERANCE / history.step)
    peaks = []
    for begin in range(end - day, end - SEASONAL_DAYS * day - 1, -day):
        values = history.values[max(begin - around, 0) : max(min(begin + ahead + around, end), 0)]
        if np.isfinite(values).any():
            peaks.append(float(np.nanmax(values)))
    if len(peaks) < LEAST_DAYS:
        return 0.0
    return sorted(peaks)[math.ceil(quantile * len(peaks) - WHOLE_WITHIN) - 1]


def next_seasonal_quantile(quantile: float, minutes: float, budget: float, *, higher_helps: bool) -> float:
    """``quantile`` after ``minutes``.

    ``higher_helps`` is set if those minutes were short of pods that other days needed at this time. ``budget`` is the
    share of minutes that may be short.
    """
    change = SEASONAL_RATE * minutes * MINUTE / DAY * (higher_helps / budget - 1)
    return min(max(quantile + change, 0.0), 1.0)
