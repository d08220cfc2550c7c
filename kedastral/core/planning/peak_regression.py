# SPDX-License-Identifier: Apache-2.0
"""`PeakRegression`: the upper quantile of the largest load in the window ahead, by quantile regression; pure.

A forecast raised by a margin treats all moments alike. But how far the load may exceed the forecast varies: before a
cron job, at the time of yesterday's burst, in a noisy hour. So the quantile itself is regressed on the recent load and
on the load at the same time of other days and hours. It needs no forecast. Outcomes decide its weight against the
forecast with its margin (`kedastral.core.planning.uncertainty`).
"""

import math
from collections.abc import Sequence

import attrs
import numpy as np
from attrs.validators import ge, gt

from kedastral.core.planning.period import find_period
from kedastral.core.series import (
    DAY,
    EPOCH,
    HOUR,
    MINUTE,
    Floats,
    Ints,
    Series,
    epoch_seconds,
    fill_gaps,
    largest_neighbours,
    median_without_gaps,
    require_positive,
)

QUANTILE = 0.95
"""The share of windows that stay below. From 0.90 to 0.97 plans cost the same: calibration corrects the rest."""
LEVEL = 5 * MINUTE
"""Seconds of load whose mean is the level, against which all other features are measured."""
MEANS = tuple(minutes * MINUTE for minutes in (2, 10, 15, 30, 60, 120, 360))
LARGEST = tuple(minutes * MINUTE for minutes in (15, 60, 180))
ROUGHNESS = tuple(minutes * MINUTE for minutes in (10, 30, 120))
"""Seconds over which the means, the largest load and the mean change from step to step are features."""
DAYS, EACH_DAY = tuple(range(1, 8)), (1, 2, 3, 7)
"""How many days back: those whose windows are summarised together, and those that are features of their own."""
DAY_TOLERANCE = 15 * MINUTE
"""How much earlier or later a peak may come than on other days."""
HOURS, CYCLES = (1, 2, 3), 3
CYCLE_TOLERANCE = 2 * MINUTE
"""How much earlier or later a peak may come than in the last `CYCLES` cycles, if the load has a period."""
DAY_HARMONICS, HOUR_HARMONICS = (1, 2), (1, 2, 3)
REACH = 7 * DAY + max(MEANS)
"""Seconds of history that the features of one moment look back."""
MIN_HISTORY = DAY
"""Seconds of history needed for a fit: with less, no time of day has occurred before."""
HALF_LIFE = 7 * DAY
"""Half-life in seconds of the weight of a row in the fit. 3 to 30 days work equally well."""
FIT_SPAN = 8 * HALF_LIFE
"""Seconds of history that a fit samples rows from. Older rows would weigh nothing and crowd out those that count."""
MAX_ROWS, MIN_ROWS = 3000, 120
LEAST_SPREAD = 0.003
"""The smallest standard deviation by which a feature is divided. If a load is the same every hour, its roughness hardly
varies: a slope fitted to its last digits would be huge, and a single gap could predict a peak of 0."""
PENALTY = 10.0
"""Ridge penalty on the standardised coefficients; rows count 1 each. From 3 to 30 plans cost the same."""
ROUNDS = 8
"""Iterations of the weighted least squares: with six to ten the plans are alike."""
LEAST_RESIDUAL = 0.02
"""As a share of the typical deviation: smaller residuals are raised to this, so that no weight is infinite."""
LEAST_DEVIATION = 1e-6
"""Targets closer to the median than this do not count for the typical deviation. A load that is idle for more than half
of the day would else have none, and its idle rows would outweigh all that tell when it starts."""
MAX_FEATURE = 3.0
"""Differences of logarithms are clipped here, at a factor of twenty, so that nothing is extrapolated further."""
LEAST_KNOWN = 0.25
"""The share of rows in which a feature must be known to be used. Just after a workload turns a week old, only a few
rows know the same time of last week, and a slope fitted to them would be extrapolated to the whole day."""
FIT_INTERVAL = 6 * HOUR
"""Seconds between two fits."""


FEATURES = 1 + len(MEANS) + len(LARGEST) + len(ROUGHNESS) + 2 * len(EACH_DAY) + 3 + 2 + 1 + 1
FEATURES += 2 * (len(DAY_HARMONICS) + len(HOUR_HARMONICS))
"""The number of features that `features_of` returns."""


def _require_bounds(_instance: object, _attribute: object, value: tuple[float, ...]) -> None:
    if len(value) != FEATURES or not all(map(math.isfinite, value)):
        raise ValueError(f"a regression has {FEATURES} features with a finite bound each; got {len(value)}")


def _require_coefficients(_instance: object, _attribute: object, value: tuple[float, ...]) -> None:
    if len(value) != FEATURES + 1 or not all(map(math.isfinite, value)):
        raise ValueError(f"a regression has {FEATURES + 1} coefficients, all finite; got {len(value)}")


@attrs.frozen
class PeakRegression:
    """A fit at ``fitted_at`` (epoch seconds) for windows of ``window`` seconds on steps of ``step`` seconds.

    ``coefficients`` belong to the features of `features_of`; the last one is the intercept. ``lowest`` and ``highest``
    are the range of each feature in the fit. ``offset``, in units of load, is added before taking a logarithm.
    ``period`` is that of the load in seconds, 0 if it has none. Plain numbers, so that it can be stored.
    """

    fitted_at: float
    step: float = attrs.field(validator=require_positive)
    window: float = attrs.field(validator=require_positive)
    offset: float = attrs.field(validator=gt(0))
    coefficients: tuple[float, ...] = attrs.field(validator=_require_coefficients)
    period: float = attrs.field(default=0.0, validator=ge(0))
    lowest: tuple[float, ...] = attrs.field(default=(-MAX_FEATURE,) * FEATURES, validator=_require_bounds)
    highest: tuple[float, ...] = attrs.field(default=(MAX_FEATURE,) * FEATURES, validator=_require_bounds)

    @property
    def window_steps(self) -> int:
        """The length of the windows in steps."""
        return round(self.window / self.step)

    def holds_for(self, history: Series, window: int) -> bool:
        """Whether it was fitted for windows of ``window`` steps and is recent enough; the clock may have been set back.

        It does not hold for less than `MIN_HISTORY` of ``history``, as after a change of the settings.
        """
        same = (self.step, self.window_steps) == (history.step, window)
        known = len(history) * history.step >= MIN_HISTORY
        return same and known and 0 <= _end_of(history) - self.fitted_at < FIT_INTERVAL


def fit_peak_regression(history: Series, window: int, offset: float) -> PeakRegression | None:
    """The regression of the largest load in ``window`` steps, on at most `MAX_ROWS` moments of ``history``."""
    past, ahead = _Past.of(history, offset), _blocks_in(window, history.step)
    rows = _choose_rows(past, ahead)
    if rows is None:
        return None
    period, level = past.find_period(), past.mean(rows, LEVEL)
    target = past.largest(rows + 1, ahead) - level
    fade = 0.5 ** ((rows[-1] - rows) * past.step / HALF_LIFE)
    known = np.isfinite(target)
    features = features_of(past, rows, ahead, period)[known]
    features[:, np.isfinite(features).mean(axis=0) < LEAST_KNOWN] = 0.0
    coefficients = fit_quantile(np.nan_to_num(features), target[known], fade[known])
    return PeakRegression(
        _end_of(history),
        history.step,
        window * history.step,
        offset,
        tuple(coefficients.tolist()),
        period,
        tuple(np.nan_to_num(np.fmin.reduce(features)).tolist()),
        tuple(np.nan_to_num(np.fmax.reduce(features)).tolist()),
    )


def predict_peaks(regression: PeakRegression, history: Series, moments: int) -> Floats:
    """The quantile of the largest load in the windows that follow the newest ``moments`` steps of ``history``.

    Shape (moments,), oldest first, in units of load. In a moment unlike all of the fit, each feature counts as the
    nearest value that the fit has seen: the slopes say nothing of what lies beyond.
    """
    reach = math.ceil((REACH + regression.window) / history.step) + moments
    past = _Past.of(history, regression.offset, reach)
    ahead = _blocks_in(regression.window_steps, history.step)
    back = np.unique(np.ceil(np.arange(moments) / _block_of(history.step)).astype(np.int64))
    rows = np.maximum(len(past.logs) - 1 - back, 0)
    coefficients = np.array(regression.coefficients)
    known = features_of(past, rows, ahead, regression.period).clip(regression.lowest, regression.highest)
    features = np.nan_to_num(known)
    above = np.minimum(features @ coefficients[:-1] + coefficients[-1], MAX_FEATURE)
    peaks = np.maximum(np.exp(past.mean(rows, LEVEL) + above) - regression.offset, 0.0)
    latest = np.ceil(np.arange(moments)[::-1] / _block_of(history.step)).astype(np.int64)
    predicted: Floats = peaks[latest]
    return predicted


def fit_quantile(features: Floats, target: Floats, weights: Floats) -> Floats:
    """The coefficients (k + 1,), the intercept last, of the `QUANTILE` of ``target`` (r,) given ``features`` (r, k).

    Linear quantile regression (Koenker and Bassett, "Regression Quantiles", 1978) with a ridge penalty, by repeated
    weighted least squares (Hunter and Lange, "Quantile Regression via an MM Algorithm", 2000). ``weights`` (r,) >= 0.
    """
    scale = np.maximum(features.std(axis=0), LEAST_SPREAD)
    centre = features.mean(axis=0)
    design = np.column_stack([(features - centre) / scale, np.ones(len(features))])
    deviations = np.abs(target - np.median(target))
    known = deviations[deviations > LEAST_DEVIATION]
    typical = (float(np.median(known)) if len(known) else 0.0) + LEAST_DEVIATION
    coefficients = _solve(design, target, weights)
    above = (target - design @ coefficients)[weights > 0]
    coefficients[-1] += np.quantile(above, QUANTILE)  # start near the quantile: it is far from the mean
    for _ in range(ROUNDS):
        residuals = target - design @ coefficients
        slopes = np.where(residuals > 0, QUANTILE, 1 - QUANTILE)
        sizes = np.maximum(np.abs(residuals) / typical, LEAST_RESIDUAL)
        coefficients = _solve(design, target, weights * slopes / sizes)
    slopes = coefficients[:-1] / scale
    return np.append(slopes, coefficients[-1] - float(slopes @ centre))


def features_of(past: "_Past", rows: Ints, ahead: int, period: float) -> Floats:
    """The features (r, k) of the moments ``rows`` (r,), for a window of ``ahead`` steps and a ``period`` in seconds.

    All but the time features are differences of logarithms; NaN if unknown.
    """
    level = past.mean(rows, LEVEL)
    differences = [
        past.logs[rows] - level,
        *(past.means(rows, MEANS) - level),
        *(past.largest(rows + 1 - past.steps_in(span), past.steps_in(span)) - level for span in LARGEST),
        *past.roughness(rows, ROUGHNESS),
        *_features_of_days(past, rows, ahead, level),
        *_features_of_hours(past, rows, ahead, level),
        _feature_of_cycles(past, rows, ahead, period) - level,
        level - past.floor,
    ]
    known = np.column_stack(differences).clip(-MAX_FEATURE, MAX_FEATURE)
    periods = [*(DAY / k for k in DAY_HARMONICS), *(HOUR / k for k in HOUR_HARMONICS)]
    angles = past.phases(rows, periods)
    return np.column_stack([known, np.sin(angles), np.cos(angles)])


def _features_of_days(past: "_Past", rows: Ints, ahead: int, level: Floats) -> list[Floats]:
    """How large the load became at the same time of other days, relative to the level then and the level now."""
    then = rows - past.steps_in(DAY) * np.array(DAYS)[:, None]
    around = past.steps_in(DAY_TOLERANCE)
    largest = past.largest_after(then, ahead, rows)
    wider = past.largest_after(then - around, ahead + 2 * around, rows)
    each = np.array(EACH_DAY) - 1
    levels = past.mean(then[each], LEVEL)
    medians = median_without_gaps(largest) - level, median_without_gaps(wider) - level
    return [*(largest[each] - levels), *(levels - level), *medians, np.fmax.reduce(largest) - level]


def _features_of_hours(past: "_Past", rows: Ints, ahead: int, level: Floats) -> list[Floats]:
    """How large the load became at the same minute of the previous hours."""
    largest = past.largest_after(rows - past.steps_in(HOUR) * np.array(HOURS)[:, None], ahead, rows)
    return [median_without_gaps(largest) - level, np.fmax.reduce(largest) - level]


def _feature_of_cycles(past: "_Past", rows: Ints, ahead: int, period: float) -> Floats:
    """How large the load became at the same point of the previous cycles; NaN for a load without a period."""
    if period <= 0:
        return np.full(len(rows), np.nan)
    around, cycle = past.steps_in(CYCLE_TOLERANCE), period / past.step
    first = max(math.ceil((ahead + around) / cycle), 1)  # far enough back for the window to have ended
    back = np.rint((first + np.arange(CYCLES)) * cycle).astype(np.int64)
    return median_without_gaps(past.largest_after(rows - back[:, None] - around, ahead + 2 * around, rows))


@attrs.frozen(eq=False)
class _Past:
    """The past on a grid of at least a minute: ``logs`` (n,) of load plus offset; ``floor`` is that of no load.

    ``sums`` and ``changes`` (n + 1,) are cumulative sums of the logs and of their absolute changes from step to step.
    ``begin`` is the time of the first step in epoch seconds.
    """

    logs: Floats
    sums: Floats
    changes: Floats
    step: float
    begin: float
    floor: float

    @classmethod
    def of(cls, history: Series, offset: float, reach: int | None = None) -> "_Past":
        """The newest ``reach`` steps of ``history``, all by default; ``offset`` must be above 0.

        Of several steps within a minute the largest load counts. The past begins with the first value: before it, a
        workload younger than the window of history was absent, not at load 0.
        """
        blocks = _block_of(history.step)
        count = min(len(history), len(history) if reach is None else reach) // blocks
        values = np.fmax.reduce(history.values[len(history) - count * blocks :].reshape(count, blocks), axis=1)
        known = np.isfinite(values)
        if not known.all():
            values = np.nan_to_num(fill_gaps(values[int(known.argmax()) :]))
        logs = np.log(values + offset)
        step = history.step * blocks
        changes = np.concatenate([np.zeros(min(len(logs), 1)), np.abs(logs[1:] - logs[:-1])])
        begin = _end_of(history) - (len(logs) - 1) * step
        return cls(logs, _cumulated(logs), _cumulated(changes), step, begin, math.log(offset))

    def find_period(self) -> float:
        """The period of the load in seconds, 0 if it has none; see `kedastral.core.planning.period`."""
        loads = np.exp(self.logs) - math.exp(self.floor)
        period = find_period(Series(EPOCH, self.step, loads))
        return 0.0 if period is None else period * self.step

    def steps_in(self, seconds: float) -> int:
        """The steps in ``seconds``, at least one."""
        return max(1, round(seconds / self.step))

    def mean(self, rows: Ints, span: float) -> Floats:
        """The mean log of the ``span`` seconds up to each of ``rows``; NaN before the past."""
        return _means_of(self.sums, rows, np.array(self.steps_in(span)))

    def means(self, rows: Ints, spans: Sequence[float]) -> Floats:
        """`mean` over each of ``spans`` (k,): (k, r)."""
        return _means_of(self.sums, rows, np.array([[self.steps_in(span)] for span in spans]))

    def roughness(self, rows: Ints, spans: Sequence[float]) -> Floats:
        """The mean absolute change from step to step within each of ``spans`` (k,): (k, r)."""
        return _means_of(self.changes, rows, np.array([[self.steps_in(span)] for span in spans]))

    def largest(self, first: Ints, count: int) -> Floats:
        """The largest log of the ``count`` steps from each of ``first`` on; NaN unless all are known."""
        known = (first >= 0) & (first + count <= len(self.logs))
        if not known.any():
            return np.full(first.shape, np.nan)
        safe = np.where(known, first, 0)
        if first.size * count < len(self.logs):
            largest = self.logs[safe[..., None] + np.arange(count)].max(axis=-1)
        else:
            largest = largest_neighbours(self.logs, count)[safe]
        return np.where(known, largest, np.nan)

    def largest_after(self, moments: Ints, count: int, rows: Ints) -> Floats:
        """The largest log of the ``count`` steps after ``moments``; NaN if they have not ended by ``rows``."""
        return np.where(moments + count <= rows, self.largest(moments + 1, count), np.nan)

    def phases(self, rows: Ints, periods: Sequence[float]) -> Floats:
        """The time of each of ``rows`` as an angle within each of ``periods`` (k,) seconds, in UTC: (r, k)."""
        seconds, lengths = (self.begin + rows * self.step)[:, None], np.array(periods)
        angles: Floats = 2 * np.pi * np.mod(seconds, lengths) / lengths
        return angles


def _choose_rows(past: _Past, ahead: int) -> Ints | None:
    """Evenly spaced moments whose window has ended; None if there are too few.

    The first half day is left out: it has too little history before it.
    """
    last = len(past.logs) - 1 - ahead
    first = max(past.steps_in(DAY / 2), last - past.steps_in(FIT_SPAN))
    if len(past.logs) * past.step < MIN_HISTORY or last - first < MIN_ROWS:
        return None
    return np.unique(np.linspace(first, last, min(MAX_ROWS, last - first + 1)).round().astype(np.int64))


def _block_of(step: float) -> int:
    """How many steps are merged into one."""
    return max(1, round(MINUTE / step))


def _blocks_in(window: int, step: float) -> int:
    return math.ceil(window / _block_of(step))


def _means_of(sums: Floats, rows: Ints, counts: Ints) -> Floats:
    """The means of the ``counts`` values up to ``rows``, from cumulative ``sums``; of fewer at the beginning."""
    end = np.maximum(rows + 1, 1)
    first = np.maximum(end - counts, 0)
    return np.where(rows >= 0, (sums[end] - sums[first]) / (end - first), np.nan)


def _cumulated(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])


def _solve(design: Floats, target: Floats, weights: Floats) -> Floats:
    weighted = design * (weights * (len(weights) / weights.sum()))[:, None]
    gram: Floats = weighted.T @ design
    gram[np.diag_indices(len(gram) - 1)] += PENALTY
    return np.asarray(np.linalg.solve(gram, weighted.T @ target), dtype=np.float64)


def _end_of(history: Series) -> float:
    return epoch_seconds(history.time_at(len(history) - 1))
