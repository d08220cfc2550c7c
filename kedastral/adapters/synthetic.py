# SPDX-License-Identifier: Apache-2.0
"""`SyntheticSource`: a computed but realistic load for the demo: a daily shape, noise, a campaign and a flash."""

import math
from collections import deque
from datetime import UTC, datetime
from typing import ClassVar

import attrs
import numpy as np

from kedastral.core.series import DAY, HOUR, MINUTE, Series, align_down, require_positive

CAMPAIGN_AT = 9.5
"""The hour at which the campaign begins, every day."""
FLASH = 12 * MINUTE
"""Seconds from the beginning to the end of the flash."""


@attrs.frozen
class SyntheticLoad:
    """Requests per second of a shop, a pure function of time: the same moment always has the same load.

    Every day has a quiet night, a morning rise and an evening peak; weekends are lighter. On top of that come a daily
    campaign that doubles the load within ten minutes at 09:30 and fades over an hour and a half; an unpredictable
    flash, at a different time each day (three times the load within two minutes, gone after twelve); and noise that
    differs from minute to minute.
    """

    peak: float = attrs.field(default=1500.0, validator=require_positive)
    noise: float = 0.04
    seed: int = 7

    def at(self, moment: datetime) -> float:
        """The load at ``moment``, in requests per second; > 0."""
        seconds = moment.timestamp()
        hour = seconds % DAY / HOUR
        weekend = 0.7 if moment.weekday() >= 5 else 1.0
        load = (
            self.peak
            * weekend
            * _daily_shape(hour)
            * _campaign(hour)
            * _flash(hour - self._flash_at(math.floor(seconds / DAY)))
        )
        return load * (1 + self.noise * self._noise_of(math.floor(seconds / MINUTE)))

    def event_at(self, moment: datetime) -> str | None:
        """What is special at ``moment``, in words; None if it is an ordinary day."""
        hour = moment.timestamp() % DAY / HOUR
        if self.is_flash_at(moment):
            return "a flash that nobody can foresee: three times the load for ten minutes"
        if 0 <= hour - CAMPAIGN_AT < 1.5:
            return "the daily campaign: twice the load in ten minutes, as history shows"
        return None

    def is_flash_at(self, moment: datetime) -> bool:
        """Whether the flash of the day is on at ``moment``: load that no history shows."""
        seconds = moment.timestamp()
        return 0 <= seconds % DAY / HOUR - self._flash_at(math.floor(seconds / DAY)) < FLASH / HOUR

    def _flash_at(self, day: int) -> float:
        """The hour, 11 to 19, at which the flash of a ``day`` (counted from the epoch) begins."""
        return float(np.random.default_rng((self.seed, day, 1)).uniform(11, 19))

    def _noise_of(self, minute: int) -> float:
        """Standard normal, clipped at three deviations; one generator per minute, so any minute can be computed."""
        drawn = np.random.default_rng((self.seed, minute)).standard_normal()
        return float(np.clip(drawn, -3, 3))


@attrs.define(eq=False)
class SyntheticSource:
    """A `kedastral.core.ports.MetricSource` over a `SyntheticLoad`, with history back to any time.

    ``window`` and ``step`` are in seconds, as for Prometheus. Computed values are kept while they are in the window.
    """

    name: ClassVar[str] = "synthetic"

    load: SyntheticLoad
    window: float = attrs.field(validator=require_positive)
    step: float = attrs.field(validator=require_positive)
    _known: deque[float] = attrs.field(factory=deque, init=False, repr=False)
    _ends: int = attrs.field(default=0, init=False, repr=False)

    async def history(self, now: datetime) -> Series:
        """See `kedastral.core.ports.MetricSource.history`; never fails."""
        points = max(1, int(self.window / self.step + 1e-9))
        newest = round(align_down(now, self.step).timestamp() / self.step)
        if not 0 <= newest - self._ends <= points:  # the first time, or far from the known values
            self._known.clear()
            self._ends = newest - points
        for place in range(self._ends + 1, newest + 1):
            self._known.append(self._measure(place))
        while len(self._known) > points:
            self._known.popleft()
        self._ends = newest
        return Series(datetime.fromtimestamp((newest - points + 1) * self.step, UTC), self.step, list(self._known))

    def _measure(self, place: int) -> float:
        """The value at ``place * step`` seconds: the load of the step that ended there, as rate() returns it."""
        return self.load.at(datetime.fromtimestamp((place - 0.5) * self.step, UTC))


def _daily_shape(hour: float) -> float:
    """From 0.25 at four in the morning to about 1 at eight in the evening, with a hump before noon."""
    slow = 0.6 - 0.35 * math.cos((hour - 4) / 24 * 2 * math.pi)
    return slow + 0.15 * _bump(hour, 11, 1.6) + 0.22 * _bump(hour, 20, 1.4)


def _campaign(hour: float) -> float:
    """Doubles within ten minutes from 09:30, then fades over an hour and a half."""
    since = (hour - CAMPAIGN_AT) * 60
    if since < 0:
        return 1.0
    return 1 + min(since / 10, 1.0) * math.exp(-max(since - 10, 0) / 45)


def _flash(hours: float) -> float:
    """Three times the load, ``hours`` after it began: up within two minutes, down again from the tenth on."""
    since = hours * 60
    up, down = min(max(since / 2, 0.0), 1.0), min(max((FLASH / MINUTE - since) / 2, 0.0), 1.0)
    return 1 + 2 * min(up, down)


def _bump(hour: float, middle: float, width: float) -> float:
    return math.exp(-(((hour - middle) / width) ** 2))
