# SPDX-License-Identifier: Apache-2.0
"""`last-value`: the load stays what it is. The yardstick that every other model has to beat."""

from datetime import datetime

import attrs
import numpy as np

from kedastral.core.forecast import Forecast
from kedastral.core.series import Series, fill_gaps
from kedastral.errors import ModelError


@attrs.frozen
class LastValue:
    """The newest value that is no gap, for every step."""

    name = "last-value"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.ports.Model.forecast`; raises ModelError where the history holds no value."""
        newest = history.newest
        if newest is None:
            raise ModelError("there is no history to forecast from", reason="no_history")
        return Forecast(made_at, history.step, np.full(steps, newest.value))


# --- `seasonal-naive`: what the load was at the same time a week ago, or a day ago where a week has not been seen.
# For load that follows the calendar and nothing else; it does not look at what the load is now.

DAY = 86400.0
SEASONS = (7 * DAY, DAY)
"""Seconds, the first that is in the history counts. UTC throughout: a change of the clock is not followed."""


@attrs.frozen
class SeasonalNaive:
    """One season back, gaps carried; where no season has been seen, the last value."""

    name = "seasonal-naive"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.ports.Model.forecast`; raises ModelError where the history holds no value."""
        carried = fill_gaps(history.values)
        if not len(carried) or not np.isfinite(carried[-1]):
            raise ModelError("there is no history to forecast from", reason="no_history")
        values = np.full(steps, np.nan)
        # the first step of the forecast follows the last of the history, also where made_at lies within a step
        begins = max(len(carried), round((made_at - history.start).total_seconds() / history.step))
        for season in SEASONS:
            back = round(season / history.step)
            if back < 1:
                continue
            then = begins + np.arange(steps) % back - back
            seen = (then >= 0) & (then < len(carried)) & np.isnan(values)
            values[seen] = carried[then[seen]]
        return Forecast(made_at, history.step, np.where(np.isnan(values), carried[-1], values))
