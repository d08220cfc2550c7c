# SPDX-License-Identifier: Apache-2.0
"""`Signal`: a history as the model sees it: one grid, gaps carried, outliers capped, in a log scale of its own.

Everything the model learns is a difference of logs, so a load a thousand times larger gives the same weights.
"""

from datetime import datetime

import attrs
import numpy as np
from numpy.typing import NDArray

from kedastral.core.series import Floats, Ints, Series

MINUTE = 60.0
DAY = 86400.0
WINDOW = 14 * DAY
"""Seconds of history that count. Two weeks hold each weekday twice; more gains nothing that has been measured."""
MEAN_SHARE = 0.05
"""Of the mean load: below it, differences are noise, and the log scale turns linear."""
PEAK_SHARE = 1e-3
"""Of the largest load: what keeps a load that is nearly always zero from having an unbounded log scale."""
OUTLIER = 10.0
"""A point beyond this many times the 99.9th percentile that no neighbour comes near is a fault of measuring."""
FRESH = 5 * MINUTE
"""A value is carried this long before its minute counts as unknown; scrapes are missed for less."""

Bools = NDArray[np.bool_]


@attrs.frozen(eq=False)
class Signal:
    """The last 14 days before ``end`` (epoch seconds, the end of the newest step) in steps of ``step`` seconds.

    ``values`` (n,) are the load, gaps carried and outliers capped; ``logs`` (n,) are ``log(1 + values / unit)``;
    ``known`` (n,) is False where a value has been carried for longer than `FRESH`. Index n - 1 is the newest step.
    """

    end: float
    step: float
    unit: float
    values: Floats
    logs: Floats
    known: Bools
    _sums: Floats = attrs.field(repr=False)
    _squares: Floats = attrs.field(repr=False)

    def __len__(self) -> int:
        return len(self.logs)

    def steps_in(self, span: float) -> int:
        """``span`` seconds in whole steps, at least one."""
        return max(1, round(span / self.step))

    def trailing(self, rows: Ints, steps: int) -> Floats:
        """The mean of ``logs`` over the ``steps`` that end with each of ``rows``; shorter where the history is."""
        return self._mean(self._sums, rows - steps + 1, rows + 1)

    def trailing_squares(self, rows: Ints, steps: int) -> Floats:
        """The mean of the squared ``logs``, as `trailing`."""
        return self._mean(self._squares, rows - steps + 1, rows + 1)

    def around(self, rows: Ints, steps: int) -> Floats:
        """The mean of ``logs`` over ``steps`` (odd) centred on each of ``rows``, cut at both ends of the history."""
        return self._mean(self._sums, rows - steps // 2, rows + steps // 2 + 1)

    def to_load(self, logs: Floats) -> Floats:
        """The inverse of the log scale; what lies below zero load is zero."""
        return np.maximum(self.unit * np.expm1(logs), 0.0)

    def _mean(self, sums: Floats, begin: Ints, end: Ints) -> Floats:
        begin, end = np.maximum(begin, 0), np.minimum(end, len(self))
        means: Floats = (sums[end] - sums[begin]) / np.maximum(end - begin, 1)
        return means


def signal_of(history: Series, made_at: datetime) -> Signal | None:
    """``history`` up to ``made_at``, or None where its last 14 days hold no value.

    Steps finer than a minute are averaged to minutes that end where the history ends. Where the history ends more
    than a step before ``made_at``, the rest is a gap.
    """
    values, step = _on_grid(history)
    ended = history.start.timestamp() + (len(history) - 1) * history.step
    missing = max(0, int(np.ceil((made_at.timestamp() - ended) / step - 1.5)))
    size = round(WINDOW / step)
    values = np.concatenate([values[-size:], np.full(min(missing, size), np.nan)])[-size:]
    ages = _ages(values)
    if not len(values) or ages[-1] < 0:
        return None
    first = int(np.argmax(ages >= 0))
    ages = ages[first:]
    carried = values[first:][np.arange(len(ages)) - ages]
    carried = cap_outliers(carried, ages == 0)
    peak = float(carried.max())
    unit = max(MEAN_SHARE * float((carried / peak).mean()), PEAK_SHARE) * peak if peak > 0 else 1.0
    logs = np.log1p(carried / unit) if unit > 0 else np.zeros(len(carried))
    known = ages * step <= FRESH
    return Signal(made_at.timestamp(), step, unit, carried, logs, known, _running(logs), _running(logs**2))


def cap_outliers(values: Floats, measured: Bools) -> Floats:
    """``values`` without lone points far beyond all others; a level that two neighbouring points agree on stays."""
    if len(values) < 3:
        return values
    usual = float(np.percentile(values[measured], 99.9, method="lower"))
    limit = OUTLIER * (usual if usual > 0 else float(values.max()))
    if values.max() <= limit:
        return values
    neighbour = np.maximum(np.append(values[1:], 0.0), np.insert(values[:-1], 0, 0.0))
    lone = (values > limit) & (neighbour < values / OUTLIER)
    return np.where(lone, np.maximum(neighbour, np.minimum(values, limit / OUTLIER)), values)


def _on_grid(history: Series) -> tuple[Floats, float]:
    """The history's last 14 days in minutes, or in its own steps where they are longer."""
    values = history.values[-round(WINDOW / history.step) :] if history.step < WINDOW else history.values
    values = np.where(values >= 0, values, np.nan)
    values[~np.isfinite(values)] = np.nan
    if history.step >= MINUTE:
        return values, history.step
    bins = ((np.arange(len(values))[::-1] + 0.5) * history.step // MINUTE).astype(np.int64)
    bins = bins.max(initial=0) - bins
    measured = np.isfinite(values)
    counts = np.bincount(bins, measured)
    sums = np.bincount(bins, np.where(measured, values, 0.0))
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan), MINUTE


def _running(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])


def _ages(values: Floats) -> Ints:
    """How many steps ago the value that counts at each step was measured; -1 before the first."""
    at = np.arange(len(values))
    newest = np.maximum.accumulate(np.where(np.isfinite(values), at, -1))
    return np.where(newest >= 0, at - newest, -1)
