# SPDX-License-Identifier: Apache-2.0
"""`UnstabilizedPlan`: a plan without what it merely holds, as the plans after it compare with it; numbers alone, to
be stored."""

import math
from collections.abc import Sequence
from datetime import datetime

import attrs
import numpy as np

from kedastral.core.capacity import WHOLE_WITHIN, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.series import EPOCH, Ints, frozen_ints

WITHIN = 1e-5
"""Of a step: epoch seconds as binary fractions are exact to a microsecond or so."""


@attrs.frozen
class Recommendation:
    """``replicas`` were recommended at ``at`` (epoch seconds); the fewest, where several answers fell into one step."""

    at: float
    replicas: int


@attrs.frozen
class UnstabilizedPlan:
    """``replicas`` wanted in each of the steps of ``step`` seconds that begin ``at`` (epoch seconds)."""

    at: float
    step: float
    replicas: tuple[int, ...]

    @classmethod
    def of(cls, made_at: datetime, step: float, replicas: Ints) -> "UnstabilizedPlan":
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
        lead_steps = (self.replicas[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True))
        return frozen_ints(np.array([bounds.clamp(max(some)) if some else 0 for some in lead_steps]))

    def _steps_to(self, moment: datetime) -> float:
        return ((moment - EPOCH).total_seconds() - self.at) / self.step


# --- Fewer scale events: what a plan comes to goes up at once, and down only by much, after a while, and for good.
# What is told is read from the newest plan by wall clock until the next one is there, so that what is held has to
# be held for longer than that. And time in which nothing was planned, an outage of the data source above all, is no
# evidence for fewer pods: it does not count.

DOWN_BAND = 0.08
"""A plan this little (relative) below what is served changes nothing: a third of the scale events for 0.3 % of cost."""
DOWN_AFTER = 300.0
"""Seconds for which less has to be wanted before it is served, the HPA's own window: 40 % of the scale events, and no
dearer at the same service level, since a need that comes back within minutes finds its pods."""
UP_EXTRA = 0.05
"""On the way up this much more, in whole pods: spares the next few steps up, and is nothing below 20 pods."""
BEATS = 2.0
"""Ticks this many intervals apart have missed a beat; with more between them nothing was known for a while."""


@attrs.frozen
class PreviousPlan:
    """What the plan before says, as another is made: ``wanted`` is Ready now, ``told`` what KEDA was told last.

    ``rest`` are replicas for each step of the new plan: what is left of the newest that a model's forecast led to. What
    stands in for a forecast takes none of it back.
    """

    wanted: int | None = None
    last_recommendation: int | None = None
    rest: Ints | None = None


@attrs.frozen
class StabilizedPlan:
    """A plan and its floor; ``held`` is what is served of it at the least, 0 where nothing is held."""

    replicas: Ints
    floor: int | None
    held: int = 0


def wanted_of(replicas: Ints, floor: int | None, lead_steps: int) -> int:
    """What is served of a plan the moment it is made, as `kedastral.core.serving.replicas_at` reads it."""
    return max(int(replicas[:lead_steps].max()), floor or 0)


def stabilize(
    replicas: Ints, floor: int | None, served: int | None, wanted: Sequence[Recommendation], bounds: ReplicaBounds
) -> StabilizedPlan:
    """A plan and its floor with fewer scale events: down by much and for good, or not at all; up a little further.

    ``wanted`` ends with what this plan comes to, ``served`` is what KEDA was told last.
    """
    now = wanted[-1].replicas
    if served is None or now == served:
        return StabilizedPlan(replicas, floor)
    if now < served:
        least = max(entry.replicas for entry in wanted)
        return StabilizedPlan(replicas, floor, bounds.clamp(served if least >= served * (1 - DOWN_BAND) else least))
    more = np.minimum(replicas + (replicas * UP_EXTRA).astype(np.int64), bounds.clamp(math.inf))
    if floor is not None and floor > served:
        floor = bounds.clamp(floor + math.floor(floor * UP_EXTRA))
    return StabilizedPlan(frozen_ints(np.where(replicas > served, more, replicas)), floor)


def steps_held(step: float, interval: float) -> int:
    """For how many steps a plan keeps what is served of it: `DOWN_AFTER`, and in any case until the next tick."""
    return max(math.ceil(max(DOWN_AFTER, BEATS * interval) / step - WHOLE_WITHIN), 1)


def hold(replicas: Ints, served: int, lead_steps: int, steps: int) -> Ints:
    """``replicas`` with which the serving rule reads no less than ``served`` for ``steps`` steps.

    It reads ``lead_steps`` steps at once. What it finds in them is left as it is; from the last step that is as high
    the rest is filled up, so that the largest of any window read in that time is never below.
    """
    enough = np.flatnonzero(replicas[:lead_steps] >= served)
    first = int(enough[-1]) + 1 if len(enough) else 0
    held = replicas.copy()
    held[first:steps] = np.maximum(held[first:steps], served)
    return frozen_ints(held)


def keep_wanted(
    wanted: Sequence[Recommendation], at: float, interval: float, *entries: int
) -> tuple[Recommendation, ...]:
    """``wanted`` of the last `DOWN_AFTER` seconds, with ``entries`` wanted ``at``; seconds in which plans were made.

    A pause of more than a missed beat, or a clock that was set back, counts as one interval.
    """
    if wanted:
        passed = at - wanted[-1].at
        passed = passed if 0 < passed <= BEATS * interval + WHOLE_WITHIN else interval
        late = at - wanted[-1].at - passed
        wanted = [Recommendation(entry.at + late, entry.replicas) for entry in wanted]
    kept = (entry for entry in wanted if at - DOWN_AFTER < entry.at < at)
    return (*kept, *(Recommendation(at, replicas) for replicas in entries))
