# SPDX-License-Identifier: Apache-2.0
"""The features of the ridge: recent levels, spread, seasons and the clock, as differences of logs.

`Seasons` finds the same time of other days and hours in a `Signal`, also across daylight saving changes. An origin is
the step at which a forecast is made. Every feature is 0 if unknown, and all but those of the clock are 0 for a constant
load.
"""

from datetime import UTC, datetime, tzinfo

import attrs
import numpy as np

from kedastral.core.series import DAY, HOUR, MINUTE, Floats, Ints, median_without_gaps
from kedastral.models.auto.signal import Signal

MIN_SEASON_STEPS = 4
"""A period of fewer steps is too coarse to be a season."""
LEVEL = 5 * MINUTE
"""Seconds over which the level is averaged that everything is measured against; a single minute is mostly noise."""
SPANS = tuple(minutes * MINUTE for minutes in (1, 2, 3, 8, 12, 20, 30, 45, 60, 120, 240, 1440))
"""Seconds; the mean over each of them, minus the level, is a feature."""
LEAST_SCALE = 1e-3
"""The smallest scale by which a regression divides a feature. If the load is constant, or the same every hour, some
features are rounding errors: a slope fitted to them would be huge once the load does move."""
DAY_HARMONICS = (1, 2, 3, 4)
HOUR_HARMONICS = (1, 2, 3, 4, 6, 12)
"""Periods of an hour, half an hour, 20, 15, 10 and 5 minutes, as cron jobs have."""
DAYS_BACK = np.arange(1, 8)
HOURS_BACK = np.arange(1, 13)
COMPARED_PATH = np.array([0, 5, 10, 15, 20, 30, 45]) * MINUTE
"""Seconds before the origin at which the load of two days is compared, as means over three minutes."""
LEAST_DISTANCE = 1e-9
"""Squared differences of logs below this are rounding errors: the days count equally."""
SIMILARITY_RATE = 3.0
"""How sharply days are told apart: one at the mean distance of all weighs exp(-3) times as much as one without any."""


@attrs.frozen(eq=False)
class Seasons:
    """Finds the same time of day, week and hour in ``signal``, whose first step begins at ``begin`` (epoch seconds).

    ``offsets`` (n,) is the local zone's offset from UTC, in steps, for each step of the signal, so that 09:00 is
    compared with 09:00 across a change of the clock.
    """

    signal: Signal
    offsets: Ints
    begin: float

    def days_back(self, rows: Ints, days: Ints) -> Ints:
        """The index of the same local time ``days`` (m,) days before ``rows`` (r,): (r, m), negative if unknown."""
        back = np.rint(days * (DAY / self.signal.step)).astype(np.int64)
        lagged: Ints = rows[:, None] - back
        if self.offsets[0] == self.offsets[-1]:
            return lagged
        lagged += self.offsets[rows][:, None] - self.offsets[np.maximum(lagged, 0)]
        return lagged

    def hours_back(self, rows: Ints, hours: Ints) -> Ints:
        """The index ``hours`` (m,) hours before ``rows`` (r,): shape (r, m), negative if unknown."""
        lagged: Ints = rows[:, None] - np.rint(hours * (HOUR / self.signal.step)).astype(np.int64)
        return lagged

    def phase(self, rows: Ints, period: float) -> Floats:
        """The local time at the end of each step, as an angle 0..2 pi within ``period`` seconds."""
        seconds = self.begin + (rows + 1 + self.offsets[rows]) * self.signal.step
        angle: Floats = 2 * np.pi * np.mod(seconds, period) / period
        return angle

    def has(self, period: float) -> bool:
        """Whether a ``period`` in seconds has enough steps of the signal to be a season."""
        return period >= MIN_SEASON_STEPS * self.signal.step


def find_seasons(signal: Signal, zone: tzinfo) -> Seasons:
    """The seasons of ``signal`` by the clock of ``zone``."""
    begin = signal.end - len(signal) * signal.step
    return Seasons(signal, _offsets(signal, begin, zone), begin)


def _offsets(signal: Signal, begin: float, zone: tzinfo) -> Ints:
    if zone is UTC:
        return np.zeros(len(signal), dtype=np.int64)
    hours = np.arange(begin // HOUR, signal.end // HOUR + 1)
    seconds = [_offset_at(hour * HOUR, zone) for hour in hours]
    index = ((begin + np.arange(len(signal)) * signal.step) // HOUR - hours[0]).astype(np.int64)
    offsets: Ints = np.rint(np.array(seconds) / signal.step).astype(np.int64)[index]
    return offsets


def _offset_at(moment: float, zone: tzinfo) -> float:
    offset = datetime.fromtimestamp(moment, zone).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0


def compute_common_features(seasons: Seasons, rows: Ints) -> Floats:
    """The features of origins ``rows`` (r,) that are the same for every horizon, shape (r, k)."""
    signal = seasons.signal
    level = signal.trailing_mean(rows, signal.steps_in(LEVEL))
    spans = dict.fromkeys(signal.steps_in(span) for span in SPANS)
    columns = [signal.trailing_mean(rows, steps) - level for steps in spans if steps != signal.steps_in(LEVEL)]
    columns.append(_spread(signal, rows))
    columns += _against_days(seasons, rows, level)
    periods = [*(DAY / k for k in DAY_HARMONICS), *(HOUR / k for k in HOUR_HARMONICS)]
    columns += [f(seasons.phase(rows, period)) for period in periods if seasons.has(period) for f in (np.sin, np.cos)]
    return np.column_stack(columns)


def compute_horizon_features(seasons: Seasons, rows: Ints, ahead: Ints) -> Floats:
    """The features of origins ``rows`` (r,) for ``ahead`` (r,) steps later, shape (r, m).

    They show how the load continued from the same time of other days and hours.
    """
    signal = seasons.signal
    columns = []
    if seasons.has(DAY):
        days = seasons.days_back(rows, DAYS_BACK)
        fine, _ = compute_increments(signal, days, ahead, MINUTE)
        smooth, _ = compute_increments(signal, days, ahead, 3 * LEVEL)
        columns += [mean_known(fine), median_known(fine), mean_known(smooth), median_known(smooth)]
        columns += [np.nan_to_num(smooth[:, 0]), np.nan_to_num(smooth[:, 6])]  # yesterday, a week ago
        columns.append(mean_by_similarity(fine, _distances(signal, rows, days)))
    if seasons.has(HOUR):
        back = seasons.hours_back(rows, HOURS_BACK)
        back = np.where(back + ahead[:, None] <= rows[:, None], back, -1)  # what followed must be known at the origin
        hours, _ = compute_increments(signal, back, ahead, MINUTE)
        columns += [np.nan_to_num(hours[:, 0]), mean_known(hours[:, :6]), median_known(hours)]
    return np.column_stack(columns) if columns else np.zeros((len(rows), 0))


def count_features(step: float) -> int:
    """How many features of both kinds an origin has, for a signal with steps of ``step`` seconds."""
    rows, load = np.zeros(1, dtype=np.int64), np.zeros(1)
    known = np.ones(1, dtype=np.bool_)
    signal = Signal(0.0, step, 1.0, load, load, known, known, np.zeros(2), np.zeros(2))
    seasons = Seasons(signal, rows, -step)
    common, own = compute_common_features(seasons, rows), compute_horizon_features(seasons, rows, rows + 1)
    return int(common.shape[1] + own.shape[1])


def compute_increments(signal: Signal, lagged: Ints, ahead: Ints, span: float) -> tuple[Floats, Floats]:
    """How the load continued from ``lagged`` (r, m), and the level there; both (r, m).

    The first is the mean of the logs over ``span`` seconds around ``ahead`` (r,) steps later, minus the level. NaN if
    either is unknown or would lie after the newest step.
    """
    later = lagged + ahead[:, None]
    known = (lagged >= 0) & (later < len(signal))
    safe, safe_later = np.where(known, lagged, 0), np.where(known, later, 0)
    known &= signal.known[safe] & signal.known[safe_later]
    steps = signal.steps_in(span) // 2 * 2 + 1
    level = signal.trailing_mean(safe, signal.steps_in(LEVEL))
    logs = signal.centred_mean(safe_later, steps) if steps > 1 else signal.logs[safe_later]
    return np.where(known, logs - level, np.nan), np.where(known, level, np.nan)


def mean_known(values: Floats) -> Floats:
    """The mean of each row of ``values`` (r, m), ignoring NaN; 0 if all are NaN."""
    known = np.isfinite(values)
    means: Floats = np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    return means


def median_known(values: Floats) -> Floats:
    """The median of each row of ``values`` (r, m), ignoring NaN; 0 if all are NaN."""
    return np.nan_to_num(median_without_gaps(values.T))


def mean_by_similarity(values: Floats, distances: Floats) -> Floats:
    """The mean of each row of ``values`` (r, m), ignoring NaN; 0 if all are NaN. Small ``distances`` (r, m) weigh most.

    A kernel regression (Nadaraya, 1964; Watson, 1964) whose width is the mean distance of the known values of the row.
    """
    known = np.isfinite(values)
    sizes = np.where(known, distances, 0.0)
    width = np.maximum(sizes.sum(axis=1) / np.maximum(known.sum(axis=1), 1), LEAST_DISTANCE)
    weights = np.where(known, np.exp(-SIMILARITY_RATE * sizes / width[:, None]), 0.0)
    total = weights.sum(axis=1)
    means: Floats = (weights * np.where(known, values, 0.0)).sum(axis=1) / np.where(total > 0, total, 1.0)
    return means


def _distances(signal: Signal, rows: Ints, lagged: Ints) -> Floats:
    """How differently the load came to ``lagged`` (r, m) than to ``rows`` (r,): squared differences of logs, (r, m).

    Compared are the levels, and the paths of the last 45 minutes relative to them.
    """
    both = np.maximum(np.column_stack([rows, lagged]), 0)
    level = signal.trailing_mean(both, signal.steps_in(LEVEL))
    back = np.rint(COMPARED_PATH / signal.step).astype(np.int64)
    path = signal.trailing_mean(np.maximum(both[:, :, None] - back, 0), signal.steps_in(3 * MINUTE)) - level[:, :, None]
    distances: Floats = (level[:, 1:] - level[:, :1]) ** 2 + ((path[:, 1:] - path[:, :1]) ** 2).sum(axis=2)
    return distances


def _spread(signal: Signal, rows: Ints) -> Floats:
    """The standard deviation over half an hour."""
    steps = signal.steps_in(30 * MINUTE)
    variance = signal.trailing_mean_square(rows, steps) - signal.trailing_mean(rows, steps) ** 2
    return np.sqrt(np.maximum(variance, 0.0))


def _against_days(seasons: Seasons, rows: Ints, level: Floats) -> list[Floats]:
    """The level now minus the level yesterday and a week ago."""
    signal, columns = seasons.signal, []
    if not seasons.has(DAY):
        return []
    lagged = seasons.days_back(rows, np.array([1, 7]))
    for back in lagged.T:
        safe = np.maximum(back, 0)
        known = (back >= 0) & signal.known[safe]
        earlier = signal.trailing_mean(safe, signal.steps_in(LEVEL))
        columns.append(np.where(known, level - earlier, 0.0))
    return columns
