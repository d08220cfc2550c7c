# SPDX-License-Identifier: Apache-2.0
"""What the ridge sees at an origin: recent levels, spread, seasons and the clock, as differences of logs.

Every feature is 0 where nothing is known, and all but the clock's are 0 for a constant load.
"""

from datetime import UTC, datetime, tzinfo

import attrs
import numpy as np

from kedastral.core.series import Floats, Ints
from kedastral.models.auto.signal import DAY, MINUTE, Signal

# --- `Seasons`: where the same time of day, of week and of hour lies in a `Signal`, daylight saving included.

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


LEVEL = 5 * MINUTE
"""The span of the level that everything is measured against; a single minute is mostly noise."""
SPANS = tuple(minutes * MINUTE for minutes in (1, 2, 3, 8, 12, 20, 30, 45, 60, 120, 240, 1440))
DAILY = (1, 2, 3, 4)
HOURLY = (1, 2, 3, 4, 6, 12)
"""Harmonics of the hour: half hours, 20, 15, 10 and 5 minutes, where cron jobs sit."""
DAYS_BACK = np.arange(1, 8)
WEEK_BACK = np.array([7])
HOURS_BACK = np.arange(1, 13)


def common_features(seasons: Seasons, rows: Ints) -> Floats:
    """The features of origins ``rows`` (r,) that no horizon changes, shape (r, k)."""
    signal = seasons.signal
    level = signal.trailing(rows, signal.steps_in(LEVEL))
    spans = dict.fromkeys(signal.steps_in(span) for span in SPANS)
    columns = [signal.trailing(rows, steps) - level for steps in spans if steps != signal.steps_in(LEVEL)]
    columns.append(_spread(signal, rows))
    columns += _against_days(seasons, rows, level)
    columns += [f(seasons.phase(rows, DAY / k)) for k in DAILY if seasons.has(DAY / k) for f in (np.sin, np.cos)]
    columns += [f(seasons.phase(rows, HOUR / k)) for k in HOURLY if seasons.has(HOUR / k) for f in (np.sin, np.cos)]
    return np.column_stack(columns)


def horizon_features(seasons: Seasons, rows: Ints, ahead: Ints) -> Floats:
    """The features of origins ``rows`` (r,) for ``ahead`` (r,) steps later, shape (r, m): what came on other days."""
    signal = seasons.signal
    columns = []
    if seasons.has(DAY):
        days = seasons.days_back(rows, DAYS_BACK)
        fine, _ = increments(signal, days, ahead, MINUTE)
        smooth, _ = increments(signal, days, ahead, 3 * LEVEL)
        columns += [mean_known(fine), median_known(fine), mean_known(smooth), median_known(smooth)]
        columns += [np.nan_to_num(smooth[:, 0]), np.nan_to_num(smooth[:, 6])]
    if seasons.has(HOUR):
        back = seasons.hours_back(rows, HOURS_BACK)
        back = np.where(back + ahead[:, None] <= rows[:, None], back, -1)  # what went on from there is known by now
        hours, _ = increments(signal, back, ahead, MINUTE)
        columns += [np.nan_to_num(hours[:, 0]), mean_known(hours[:, :6]), median_known(hours)]
    return np.column_stack(columns) if columns else np.zeros((len(rows), 0))


def increments(signal: Signal, lagged: Ints, ahead: Ints, span: float) -> tuple[Floats, Floats]:
    """How the load went on from ``lagged`` (r, m): logs ``ahead`` (r,) steps later, over ``span`` s, less the level.

    Also the level there. NaN where either is unknown or would lie after the newest step.
    """
    then = lagged + ahead[:, None]
    seen = (lagged >= 0) & (then < len(signal))
    safe, safe_then = np.where(seen, lagged, 0), np.where(seen, then, 0)
    seen &= signal.known[safe] & signal.known[safe_then]
    steps = signal.steps_in(span) // 2 * 2 + 1
    level = signal.trailing(safe, signal.steps_in(LEVEL))
    later = signal.around(safe_then, steps) if steps > 1 else signal.logs[safe_then]
    return np.where(seen, later - level, np.nan), np.where(seen, level, np.nan)


def mean_known(values: Floats) -> Floats:
    """The mean of each row of ``values`` (r, m) without its NaN; 0 where there is nothing else."""
    known = np.isfinite(values)
    means: Floats = np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return means


def median_known(values: Floats) -> Floats:
    """The median of each row of ``values`` (r, m) without its NaN; 0 where there is nothing else."""
    ordered = np.sort(values, axis=1)  # NaN last
    count = np.isfinite(values).sum(axis=1)
    rows = np.arange(len(values))
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, values.shape[1] - 1)
    return np.where(count > 0, (ordered[rows, low] + ordered[rows, high]) / 2, 0.0)


def _spread(signal: Signal, rows: Ints) -> Floats:
    """The standard deviation over half an hour."""
    steps = signal.steps_in(30 * MINUTE)
    variance = signal.trailing_squares(rows, steps) - signal.trailing(rows, steps) ** 2
    return np.sqrt(np.maximum(variance, 0.0))


def _against_days(seasons: Seasons, rows: Ints, level: Floats) -> list[Floats]:
    """The level now less the level yesterday and a week ago."""
    signal, columns = seasons.signal, []
    if not seasons.has(DAY):
        return []
    lagged = seasons.days_back(rows, np.array([1, 7]))
    for back in lagged.T:
        safe = np.maximum(back, 0)
        known = (back >= 0) & signal.known[safe]
        then = signal.trailing(safe, signal.steps_in(LEVEL))
        columns.append(np.where(known, level - then, 0.0))
    return columns
