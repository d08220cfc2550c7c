# SPDX-License-Identifier: Apache-2.0
"""`Signal`: a history prepared for the model: on one grid, gaps filled, in a log scale of its own.

Everything the model learns is a difference of logs, so a load a thousand times larger gives the same weights.
"""

from datetime import datetime

import attrs
import numpy as np

from kedastral.core.series import DAY, MINUTE, Bools, Floats, Ints, Series

WINDOW = 14 * DAY
"""Seconds of history that are used. Two weeks hold each weekday twice; no gain from more has been measured."""
UNIT_OF_MEAN = 0.05
"""The unit of the log scale as a share of the mean load: below it, differences are noise and the scale is linear."""
UNIT_OF_PEAK = 1e-3
"""It is at least this share of the largest load: else a load that is nearly always 0 has an unbounded log scale."""
MAX_CARRIED = 5 * MINUTE
"""Seconds for which a forward-filled value counts as known, then as unknown. Missed scrapes are shorter."""


@attrs.frozen(eq=False)
class Signal:
    """The last 14 days before ``end`` (epoch seconds, the end of the newest step) in steps of ``step`` seconds.

    ``values`` (n,) are the load, gaps filled; ``logs`` (n,) are ``log(1 + values / unit)``;
    ``known`` (n,) is False once a gap has lasted longer than `MAX_CARRIED`; ``scorable`` (n,) also in all of a gap that
    has ended. The last element is the newest step.
    """

    end: float
    step: float
    unit: float
    values: Floats
    logs: Floats
    known: Bools
    scorable: Bools
    _sums: Floats = attrs.field(repr=False)
    _squares: Floats = attrs.field(repr=False)

    def __len__(self) -> int:
        return len(self.logs)

    def steps_in(self, span: float) -> int:
        """``span`` seconds in whole steps, at least one."""
        return max(1, round(span / self.step))

    def trailing_mean(self, rows: Ints, steps: int) -> Floats:
        """The mean of ``logs`` over the ``steps`` that end with each of ``rows``; fewer at the start of the history."""
        return self._mean(self._sums, rows - steps + 1, rows + 1)

    def trailing_mean_square(self, rows: Ints, steps: int) -> Floats:
        """The mean of the squared ``logs``, like `trailing_mean`."""
        return self._mean(self._squares, rows - steps + 1, rows + 1)

    def centred_mean(self, rows: Ints, steps: int) -> Floats:
        """The mean of ``logs`` over ``steps`` (odd) centred on each of ``rows``; fewer at both ends of the history."""
        return self._mean(self._sums, rows - steps // 2, rows + steps // 2 + 1)

    def to_load(self, logs: Floats) -> Floats:
        """``logs`` converted to load, never below zero."""
        return np.maximum(self.unit * np.expm1(logs), 0.0)

    def _mean(self, sums: Floats, begin: Ints, end: Ints) -> Floats:
        begin, end = np.maximum(begin, 0), np.minimum(end, len(self))
        means: Floats = (sums[end] - sums[begin]) / np.maximum(end - begin, 1)
        return means


def make_signal(history: Series, made_at: datetime) -> Signal | None:
    """``history`` up to ``made_at``, or None if its last 14 days hold no value.

    Steps finer than a minute are averaged to minutes that end where the history ends. If the history ends more than a
    step before ``made_at``, the rest is a gap.
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
    peak = float(carried.max())
    unit = max(UNIT_OF_MEAN * float((carried / peak).mean()), UNIT_OF_PEAK) * peak if peak > 0 else 1.0
    logs = np.log1p(carried / unit) if unit > 0 else np.zeros(len(carried))
    known = ages * step <= MAX_CARRIED
    scorable = known & ((ages == 0) | (np.arange(len(ages)) >= len(ages) - ages[-1]))
    sums, squares = _cumulate(logs), _cumulate(logs**2)
    return Signal(made_at.timestamp(), step, unit, carried, logs, known, scorable, sums, squares)


def _on_grid(history: Series) -> tuple[Floats, float]:
    """The history's last 14 days in minutes, or in its own steps if they are longer."""
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


def _cumulate(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])


def _ages(values: Floats) -> Ints:
    """How many steps ago the value used at each step was measured; -1 before the first."""
    at = np.arange(len(values))
    newest = np.maximum.accumulate(np.where(np.isfinite(values), at, -1))
    return np.where(newest >= 0, at - newest, -1)
