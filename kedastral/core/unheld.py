# SPDX-License-Identifier: Apache-2.0
"""`Unheld`: a plan without what it merely holds, as the plans after it compare with it; numbers alone, to be stored."""

import math
from datetime import datetime

import attrs
import numpy as np

from kedastral.core.capacity import ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.series import EPOCH, Ints, frozen_ints

WITHIN = 1e-5
"""Of a step: epoch seconds as binary fractions are exact to a microsecond or so."""


@attrs.frozen
class Unheld:
    """``replicas`` wanted in each of the steps of ``step`` seconds that begin ``at`` (epoch seconds)."""

    at: float
    step: float
    replicas: tuple[int, ...]

    @classmethod
    def of(cls, made_at: datetime, step: float, replicas: Ints) -> "Unheld":
        """A plan made at ``made_at``."""
        return cls((made_at - EPOCH).total_seconds(), step, tuple(replicas.tolist()))

    def wanted_at(self, moment: datetime) -> int | None:
        """What is wanted Ready at ``moment`` itself; None where it lies outside the plan."""
        index = math.floor(self._steps_to(moment) + WITHIN)
        return self.replicas[index] if 0 <= index < len(self.replicas) else None

    def rest_for(self, forecast: Forecast, bounds: ReplicaBounds) -> Ints:
        """What is wanted during each step of ``forecast``: the larger where a step touches two of the plan's.

        Past its end nothing is wanted; all of it lies within ``bounds`` but for that.
        """
        begins = self._steps_to(forecast.made_at) + np.arange(len(forecast.values)) * forecast.step / self.step
        first = np.floor(begins + WITHIN).astype(int).clip(0)
        last = np.ceil(begins + forecast.step / self.step - WITHIN).astype(int).clip(0)
        touched = (self.replicas[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True))
        return frozen_ints(np.array([bounds.clamp(max(some)) if some else 0 for some in touched]))

    def _steps_to(self, moment: datetime) -> float:
        return ((moment - EPOCH).total_seconds() - self.at) / self.step
