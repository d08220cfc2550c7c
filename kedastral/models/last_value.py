# SPDX-License-Identifier: Apache-2.0
"""`last-value`: the load stays what it is. The yardstick that every other model has to beat."""

from datetime import datetime

import attrs
import numpy as np

from kedastral.core.forecast import Forecast
from kedastral.core.series import Series
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
