# SPDX-License-Identifier: Apache-2.0
"""Turns rows with arbitrary times into a series: sorted, without duplicates, jitter snapped to the grid; pure."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import attrs
import numpy as np

from kedastral.adapters.exports.problems import FileProblems
from kedastral.core.series import EPOCH, Floats, Ints, Series

MAX_STEPS = 5_000_000
"""The most steps of the series, gaps included: almost ten years of minutes."""
TOLERANCE = 0.001
"""Seconds by which the distance of two rows may differ from a whole number of steps without counting as jitter."""
COMMON = 0.5
"""More than this share of the distances must be equal to the millisecond; otherwise times jitter."""
MAX_JITTER = 0.25
"""The most by which the distance of two rows may differ from whole steps, as a share of a step."""
MAX_IRREGULAR = 0.05
"""Share of the rows that may be further off, because a scrape was delayed or a target restarted."""
ROUND_STEPS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600)
"""Usual intervals of scrapes and exports, in seconds."""
ROUND_WITHIN = 0.05
"""The share by which the median distance of jittering rows may differ from a round step and still count as it."""
FOLLOWS = 0.1
"""How fast the grid follows drifting rows: the share of each deviation."""
THOUSANDTHS = (1e6, 4.2e6)
"""Where times between 2001 and 2100 lie if their seconds were divided by 1,000: in January and February 1970."""
TURNS = 0.75
"""How far the grid may drift before a place is skipped or used twice, as a share of a step."""


@attrs.frozen
class Row:
    """One row of an export: its line, its time in seconds since 1970, and its load, NaN for a gap."""

    line: int
    at: float
    value: float


@attrs.frozen
class Laid:
    """A series, and what was done to the rows for it; ``jitter`` is in seconds."""

    series: Series
    newest_first: bool = False
    unordered: int = 0
    duplicates: int = 0
    jitter: float = 0.0
    shared: int = 0


def lay_on_grid(rows: Sequence[Row], problems: FileProblems) -> Laid:
    """The series of ``rows``, in any order. Its step is the most common distance; places without a row are gaps.

    Raises ConfigError with what makes that impossible, and with all existing ``problems``.
    """
    if len(rows) < 2:
        problems.raise_any()
        raise problems.refuse(None, "it must hold at least two rows with a time and a value", str(len(rows)))
    if not any(math.isfinite(row.value) for row in rows):
        problems.raise_any()
        raise problems.refuse(None, "it must hold at least one value", "only gaps")
    newest_first = rows[0].at > rows[-1].at
    directed = list(reversed(rows)) if newest_first else list(rows)
    ahead = np.maximum.accumulate([row.at for row in directed])
    unordered = int(np.count_nonzero(np.array([row.at for row in directed[1:]]) < ahead[:-1]))
    kept = _without_duplicates(sorted(directed, key=lambda row: row.at), problems)
    problems.raise_any()
    if len(kept) < 2:
        raise problems.refuse(None, "it must hold at least two different times", "one")
    times, values = np.array([row.at for row in kept]), np.array([row.value for row in kept])
    step = _find_step(np.diff(times))
    _require_grid(kept, times, step, problems)
    start, places = float(times[0]), np.rint((times - times[0]) / step).astype(np.int64)
    off = times - start - places * step
    jitters = bool((np.abs(off) > TOLERANCE).any())
    if jitters:
        start, places, off = _follow(times, step)
    if places.max() - places.min() >= MAX_STEPS:
        got = f"{places.max() - places.min() + 1} steps of {step:g} s"
        raise problems.refuse(None, f"it must span at most {MAX_STEPS} steps, gaps included", got)
    series, shared = _fill(start, step, places, values)
    jitter = float(np.quantile(np.abs(off), 0.99)) if jitters else 0.0
    return Laid(series, newest_first, unordered, len(rows) - len(kept), jitter, shared)


def _without_duplicates(rows: Sequence[Row], problems: FileProblems) -> list[Row]:
    """One row for each time; identical and empty duplicates are dropped."""
    kept: list[Row] = []
    for row in rows:
        if not kept or row.at > kept[-1].at:
            kept.append(row)
            continue
        same = kept[-1]
        if math.isnan(same.value):
            kept[-1] = row
        elif not math.isnan(row.value) and row.value != same.value:
            must = (
                "one time must have one value; export one series, choose it with --column, or name the --time-zone if "
                "an hour comes twice as the clocks go back"
            )
            if THOUSANDTHS[0] <= row.at < THOUSANDTHS[1]:
                must = "times must be seconds or milliseconds since 1970; these look like seconds divided by 1,000"
            problems.add(max(row.line, same.line), must, f"{same.value:g} and {row.value:g} for {_show(row.at)}")
    return kept


def _show(at: float) -> str:
    return f"{EPOCH + timedelta(seconds=at):%Y-%m-%d %H:%M:%S} UTC"


def _find_step(distances: Floats) -> float:
    """The most common distance, to the millisecond; if times jitter, so that none is common, a round one."""
    counted = Counter(np.maximum(1, np.rint(distances / TOLERANCE)).astype(np.int64).tolist())
    most = max(counted.values())
    common = float(min(distance for distance, times_seen in counted.items() if times_seen == most)) * TOLERANCE
    middle = float(np.median(distances))
    if most > COMMON * len(distances) or (most > 1 and common < middle / 2):
        return common
    nearest = min(ROUND_STEPS, key=lambda step: abs(step - middle))
    if abs(nearest - middle) <= ROUND_WITHIN * nearest:
        return float(nearest)
    return common if most > 1 else middle


def _require_grid(rows: Sequence[Row], times: Floats, step: float, problems: FileProblems) -> None:
    distances = np.diff(times)
    off = np.abs(distances - np.maximum(1, np.rint(distances / step)) * step) > MAX_JITTER * step
    if np.count_nonzero(off) > MAX_IRREGULAR * len(off):
        i = int(np.argmax(off))
        must = f"rows must be about whole steps ({step:g} s) apart; export them with one fixed step"
        raise problems.refuse(rows[i + 1].line, must, f"{distances[i]:g} s after the row before")


def _follow(times: Floats, step: float) -> tuple[float, Ints, Floats]:
    """Start, places and deviations on whole multiples of ``step``, following rows that drift or shift.

    ``drift`` is the current distance of the rows from the grid. A row goes to the place nearest to it after correcting
    for the drift, so that jitter midway between two places does not leave one empty and fill the other twice.
    """
    origin = round(float(times[0]) / step) * step
    drift = float(times[0]) - origin
    places, off = np.empty(len(times), dtype=np.int64), np.empty(len(times))
    for i, at in enumerate((times - origin).tolist()):
        place = round((at - drift) / step)
        deviation = at - drift - place * step
        places[i], off[i] = place, deviation
        drift += deviation if abs(deviation) > MAX_JITTER * step else FOLLOWS * deviation
        if abs(drift) > TURNS * step:
            drift -= math.copysign(step, drift)
    return origin, places, off


def _fill(start: float, step: float, places: Ints, values: Floats) -> tuple[Series, int]:
    """The series, and how many rows had to share a place; these are averaged."""
    start += float(places.min()) * step
    places = places - places.min()
    known = np.isfinite(values)
    size = int(places.max()) + 1
    sums = np.bincount(places[known], np.where(known, values, 0.0)[known], size)
    counts = np.bincount(places[known], minlength=size)
    series = np.full(size, np.nan)
    np.divide(sums, counts, out=series, where=counts > 0)
    return Series(EPOCH + timedelta(seconds=start), step, series), len(places) - len(np.unique(places))
