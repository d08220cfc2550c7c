# SPDX-License-Identifier: Apache-2.0
"""`find_period`: the period of a load that repeats more often than every six hours; pure.

Cron jobs, expiring caches and batches may come every 17 or 115 minutes, which the time of day cannot predict.
"""

import numpy as np

from kedastral.core.series import DAY, Floats, Series, fill_gaps

EDGE = 300.0
"""Seconds over which a rise is measured to find a period, at least two steps."""
MIN_PERIOD_STEPS = 4
MIN_PERIODS = 4
"""A day must hold at least this many cycles."""
MIN_CORRELATION, MIN_PROMINENCE = 0.4, 0.5
"""The least autocorrelation at a period, and how far it must exceed the lowest one at shorter lags."""
MULTIPLE_SHARE = 0.85
"""The shortest lag with this share of the largest autocorrelation is the period; longer ones are multiples of it."""


def find_period(history: Series) -> float | None:
    """The period of the last day in steps, if it is shorter than a quarter of a day; None without one.

    It is found in the rises and falls of the logarithm, so that neither the size of the load nor a change of its level
    matters. The autocorrelation is that of Box and Jenkins, unbiased.
    """
    edge = max(round(EDGE / history.step), 2)
    values = history.values[-round(DAY / history.step) - 2 * edge :]
    known = np.isfinite(values)
    if known.sum() < len(values) / 2 or len(values) < MIN_PERIODS * (MIN_PERIOD_STEPS + 2) + 2 * edge:
        return None
    mean = float(values[known].mean())
    if mean <= 0:
        return None
    filled = fill_gaps(values)
    logs = np.log(np.where(np.isnan(filled), values[np.argmax(known)], filled) + mean / 20)
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


def _refine(correlation: Floats, period: int) -> float:
    """``period`` refined to a fraction of a step by the peaks at its multiples."""
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
    size = 1 << (2 * count - 1).bit_length()  # a power of two is several times faster
    spectrum = np.fft.rfft(centred, size)
    products = np.fft.irfft(np.abs(spectrum) ** 2, size)[:lags]
    means: Floats = products / (count - np.arange(lags))
    return means / means[0] if means[0] > 1e-12 else np.zeros(lags)
