# SPDX-License-Identifier: Apache-2.0
"""`recurring_peaks`: the load of peaks that come back, but not to the minute; pure.

A forecast of the mean smears a burst that comes a little earlier or later each time: it plans for too little when the
burst comes, and for too much around it. What the same time held in earlier cycles, as the median of the largest load a
few minutes around it, does not smear. A cycle is a period that the load of the last day shows by its autocorrelation,
such as an hour or 115 minutes, and a day otherwise. Most loads are better off without it, so
`kedastral.core.planning.uncertainty` decides by outcome whether a plan covers these peaks.
"""

import attrs
import numpy as np

from kedastral.core.series import Floats, Series, frozen_floats, same_array

MINUTE, DAY_SECONDS = 60.0, 86400.0
DAYS, KNOWN_DAYS = 7, 5
"""How many days are looked at for a cycle of a day, and how many of them must be known."""
CYCLES = 3
"""How many of the newest shorter cycles are looked at. Periods drift; five find less."""
DAY_TOLERANCE, CYCLE_TOLERANCE = 900.0, 120.0
"""By how many seconds a peak may come earlier or later than in the cycle before; at least a step for short cycles."""
EDGE = 300.0
"""Seconds over which a rise is measured to find a period, at least two steps."""
MIN_PERIOD_STEPS = 4
MIN_PERIODS = 4
"""A day must hold at least so many cycles."""
MIN_CORRELATION, MIN_PROMINENCE = 0.4, 0.5
"""The autocorrelation at a period, and how far it lies above its lowest value at shorter lags."""
MULTIPLE_SHARE = 0.85
"""The shortest lag with this share of the largest autocorrelation is the period; longer ones are multiples of it."""


@attrs.frozen
class RecurringPeaks:
    """The ``loads`` of peaks that come back each ``cycle`` seconds, one for each step; 0 where too little is known."""

    loads: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    cycle: float = DAY_SECONDS


def recurring_peaks(history: Series, steps: int) -> RecurringPeaks:
    """The recurring peaks at each of ``steps`` steps after ``history``; steps of less than a minute are taken together.

    The cost is that of a day of minutes, however fine the steps are.
    """
    block = max(1, round(MINUTE / history.step))
    minutes = _blocks_of(history, block)
    if not len(minutes):
        return RecurringPeaks(np.zeros(steps))
    period, ahead = find_period(minutes), -(-steps // block)
    if period is None:
        cycle = DAY_SECONDS
        loads = _median_of_peaks(minutes, ahead, cycle / minutes.step, DAY_TOLERANCE, (DAYS, KNOWN_DAYS))
    else:
        cycle = period * minutes.step
        loads = _median_of_peaks(minutes, ahead, period, CYCLE_TOLERANCE, (CYCLES, CYCLES))
    return RecurringPeaks(np.repeat(loads, block)[:steps], cycle)


def find_period(history: Series) -> float | None:
    """The period of the last day in steps, where it is shorter than a quarter of a day; None without one.

    It is looked for in the rises and falls of the logarithm, so that neither the size of the load nor a change of its
    level matters. The autocorrelation is that of Box and Jenkins, unbiased.
    """
    edge = max(round(EDGE / history.step), 2)
    values = history.values[-round(DAY_SECONDS / history.step) - 2 * edge :]
    known = np.isfinite(values)
    if known.sum() < len(values) / 2 or len(values) < MIN_PERIODS * (MIN_PERIOD_STEPS + 2) + 2 * edge:
        return None
    mean = float(values[known].mean())
    if mean <= 0:
        return None
    logs = np.log(_carry(values) + mean / 20)
    sums = np.concatenate([[0.0], np.cumsum(logs)])
    means = (sums[edge:] - sums[:-edge]) / edge
    correlation = _autocorrelate(means[edge:] - means[:-edge])
    lags = np.arange(MIN_PERIOD_STEPS, len(correlation) - 1)
    if not len(lags):
        return None
    lowest = np.minimum.accumulate(correlation)[lags]
    here = correlation[lags]
    is_peak = (here >= correlation[lags - 1]) & (here > correlation[lags + 1])
    periods = lags[is_peak & (here >= MIN_CORRELATION) & (here - lowest >= MIN_PROMINENCE)]
    if not len(periods):
        return None
    period = int(periods[correlation[periods] >= MULTIPLE_SHARE * correlation[periods].max()][0])
    return _refine(correlation, period)


def _blocks_of(history: Series, block: int) -> Series:
    """The largest value of each ``block`` steps, the last of which end with ``history``."""
    if block == 1:
        return history
    count = min(len(history) // block, round((DAYS + 1) * DAY_SECONDS / history.step / block))
    values = history.values[len(history) - count * block :].reshape(count, block)
    start = history.time_at(len(history) - (count - 1) * block - 1) if count else history.start
    return Series(start, history.step * block, np.fmax.reduce(values, axis=1))


def _refine(correlation: Floats, period: int) -> float:
    """``period`` by the peaks at its multiples, which tell it to a fraction of a step."""
    refined = float(period)
    for multiple in range(2, MIN_PERIODS + 1):
        around = np.arange(round(refined * multiple) - 1, round(refined * multiple) + 2)
        if around[-1] >= len(correlation):
            break
        refined = float(around[np.argmax(correlation[around])]) / multiple
    return refined


def _autocorrelate(values: Floats) -> Floats:
    """The autocorrelation of ``values`` (n,) at lags 0 to n / `MIN_PERIODS`; 0 for a constant."""
    count, lags = len(values), len(values) // MIN_PERIODS + 1
    centred = values - values.mean()
    size = 1 << (2 * count - 1).bit_length()  # a power of two is several times as fast
    spectrum = np.fft.rfft(centred, size)
    products = np.fft.irfft(np.abs(spectrum) ** 2, size)[:lags]
    means: Floats = products / (count - np.arange(lags))
    return means / means[0] if means[0] > 1e-12 else np.zeros(lags)


def _median_of_peaks(history: Series, steps: int, period: float, tolerance: float, cycles: tuple[int, int]) -> Floats:
    """For each step, the median over the newest ``cycles[0]`` cycles of the largest load ``tolerance`` seconds around.

    0 where fewer than ``cycles[1]`` of them are known.
    """
    wanted, needed = cycles
    around = max(round(tolerance / history.step), 1)
    ahead = np.arange(steps)
    first = np.maximum(np.ceil((ahead + 1 + around) / period - 1e-9), 1)  # all around it has been seen
    back = np.rint((first[:, None] + np.arange(wanted)) * period).astype(np.int64)
    at = len(history) + ahead[:, None] - back
    rows = at[:, :, None] + np.arange(-around, around + 1)
    values = np.where(rows >= 0, history.values[np.maximum(rows, 0)], np.nan)
    largest = np.where(at >= around, np.fmax.reduce(values, axis=2), np.nan)
    return _median_known(largest, needed)


def _median_known(values: Floats, needed: int) -> Floats:
    """The median of each row of ``values`` without its NaN; 0 where fewer than ``needed`` are left."""
    ordered, count = np.sort(values, axis=1), np.isfinite(values).sum(axis=1)  # NaN comes last
    rows, low = np.arange(len(values)), np.maximum(count - 1, 0) // 2
    high = np.minimum(count // 2, values.shape[1] - 1)
    medians: Floats = np.where(count >= needed, (ordered[rows, low] + ordered[rows, high]) / 2, 0.0)
    return medians


def _carry(values: Floats) -> Floats:
    """``values`` with each gap filled by the value before it, and those at the beginning by the first."""
    at = np.where(np.isfinite(values), np.arange(len(values)), -1)
    newest = np.maximum.accumulate(at)
    return values[np.where(newest >= 0, newest, int(np.argmax(at >= 0)))]
