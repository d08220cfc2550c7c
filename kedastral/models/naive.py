# SPDX-License-Identifier: Apache-2.0
"""`last-value` and `seasonal-naive`: the two simplest models, which every other model has to beat.

`last-value` forecasts that the load stays as it is. `seasonal-naive` repeats the load of the same time a week ago, or a
day ago if the history is shorter than a week: it only suits load that follows the calendar, since it ignores the
current load.
"""

from datetime import datetime

import attrs
import numpy as np

from kedastral.core.forecast import Forecast
from kedastral.core.series import DAY, Series, fill_gaps
from kedastral.errors import ModelError

SEASONS = (7 * DAY, DAY)
"""Seconds; the first season that the history covers is used. In UTC: daylight saving time is ignored."""


@attrs.frozen
class LastValue:
    """The newest value that is not a gap, for every step."""

    name = "last-value"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.model.Model.forecast`; raises ModelError if the history holds no value."""
        newest = history.newest
        if newest is None:
            raise ModelError("there is no history to forecast from", reason="no_history")
        return Forecast(made_at, history.step, np.full(steps, newest.value))


@attrs.frozen
class SeasonalNaive:
    """The value one season back, gaps forward-filled; the last value if the history covers no season."""

    name = "seasonal-naive"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.model.Model.forecast`; raises ModelError if the history holds no value."""
        filled = fill_gaps(history.values)
        if not len(filled) or not np.isfinite(filled[-1]):
            raise ModelError("there is no history to forecast from", reason="no_history")
        values = np.full(steps, np.nan)
        # the first step of the forecast follows the last of the history, even if made_at lies within a step
        first = max(len(filled), round((made_at - history.start).total_seconds() / history.step))
        for season in SEASONS:
            lag = round(season / history.step)
            if lag < 1:
                continue
            earlier = first + np.arange(steps) % lag - lag
            known = (earlier >= 0) & (earlier < len(filled)) & np.isnan(values)
            values[known] = filled[earlier[known]]
        return Forecast(made_at, history.step, np.where(np.isnan(values), filled[-1], values))
