# SPDX-License-Identifier: Apache-2.0
"""`Seasons`: where the same time of day, of week and of hour lies in a `Signal`, daylight saving included."""

from datetime import UTC, datetime, tzinfo

import attrs
import numpy as np

from kedastral.core.series import Floats, Ints
from kedastral.models.auto.signal import DAY, Signal

HOUR = 3600.0
DAYS = 14
"""How many days back a season is looked for: two weeks."""
LEAST_STEPS = 4
"""Steps a season must have to be one."""


@attrs.frozen(eq=False)
class Seasons:
    """Lags of a signal by whole local days and hours.

    ``offsets`` (n,) is the local zone's offset from UTC, in steps, for each step of the signal; so 09:00 is compared
    with 09:00 on both sides of a change of the clock.
    """

    signal: Signal
    offsets: Ints
    begin: float

    def days_back(self, rows: Ints, days: Ints) -> Ints:
        """The index of the same local time ``days`` (m,) days before ``rows`` (r,): (r, m), negative if unseen."""
        back = np.rint(days * (DAY / self.signal.step)).astype(np.int64)
        lagged: Ints = rows[:, None] - back
        if self.offsets[0] == self.offsets[-1]:
            return lagged
        lagged += self.offsets[rows][:, None] - self.offsets[np.maximum(lagged, 0)]
        return lagged

    def hours_back(self, rows: Ints, hours: Ints) -> Ints:
        """The index ``hours`` (m,) hours before ``rows`` (r,): shape (r, m), negative where unseen."""
        lagged: Ints = rows[:, None] - np.rint(hours * (HOUR / self.signal.step)).astype(np.int64)
        return lagged

    def phase(self, rows: Ints, period: float) -> Floats:
        """The local time of the end of each step as an angle 0..2 pi of ``period`` seconds."""
        seconds = self.begin + (rows + 1 + self.offsets[rows]) * self.signal.step
        angle: Floats = 2 * np.pi * np.mod(seconds, period) / period
        return angle

    def has(self, period: float) -> bool:
        """Whether ``period`` seconds are long enough, in steps of the signal, to be a season."""
        return period >= LEAST_STEPS * self.signal.step


def seasons_of(signal: Signal, zone: tzinfo) -> Seasons:
    """The seasons of ``signal`` by the clock of ``zone``."""
    begin = signal.end - len(signal) * signal.step
    return Seasons(signal, _offsets(signal, begin, zone), begin)


def _offsets(signal: Signal, begin: float, zone: tzinfo) -> Ints:
    if zone is UTC:
        return np.zeros(len(signal), dtype=np.int64)
    hours = np.arange(begin // HOUR, signal.end // HOUR + 1)
    moved = [_offset(hour * HOUR, zone) for hour in hours]
    index = ((begin + np.arange(len(signal)) * signal.step) // HOUR - hours[0]).astype(np.int64)
    offsets: Ints = np.rint(np.array(moved) / signal.step).astype(np.int64)[index]
    return offsets


def _offset(at: float, zone: tzinfo) -> float:
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0
