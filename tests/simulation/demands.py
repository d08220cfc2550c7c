# SPDX-License-Identifier: Apache-2.0
"""Demand and models for the tests, small enough to follow by hand."""

from collections.abc import Sequence
from datetime import UTC, datetime

import attrs
import numpy as np

from kedastral.core.forecast import Forecast
from kedastral.core.series import Series
from kedastral.simulation.trial import Trial

START = datetime(2025, 3, 3, tzinfo=UTC)  # a Monday
TARGET = 10.0


def series_of(values: Sequence[float], step: float = 60.0) -> Series:
    return Series(START, step, np.asarray(values, dtype=float))


def trial_of(values: Sequence[float], target: float = TARGET, step: float = 60.0) -> Trial:
    return Trial(series_of(values, step), target)


@attrs.frozen
class LastValue:
    """A model that forecasts the newest value forever."""

    name = "last-value"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        newest = history.newest
        return Forecast(made_at, history.step, np.full(steps, 0.0 if newest is None else newest.value))


@attrs.frozen
class Clairvoyant:
    """A model that forecasts the real demand; after its end, the last value."""

    demand: Series
    name = "clairvoyant"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        first = round((made_at - self.demand.start).total_seconds() / self.demand.step)
        ahead = np.minimum(np.arange(first, first + steps), len(self.demand) - 1)
        return Forecast(made_at, self.demand.step, self.demand.values[ahead])
