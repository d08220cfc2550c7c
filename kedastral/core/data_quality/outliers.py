# SPDX-License-Identifier: Apache-2.0
"""Which points of a history are implausible as the load, and become gaps.

Outliers are jumps far beyond anything that the workload has sustained or shown at regular times. A counter reset, a
clock step or one bad scrape makes a few points many times too large; ``rate(x[5m])`` turns one bad scrape into five
minutes of them. The limit comes from the workload itself: the largest load that it sustained for longer than such a
fault lasts, or that a fiftieth of its points reach. A load that recurs at the same time of the hour, day or week is
plausible at any size. At the live end it is not yet known whether a jump lasts: it is accepted once it has lasted long
enough, and a larger jump has to last longer. Only points that are too large are removed: a dip does not order pods.
"""

import math

import attrs
import numpy as np

from kedastral.core.series import (
    DAY,
    HOUR,
    Bools,
    DataQuality,
    Floats,
    Ints,
    Observation,
    Series,
    largest_neighbours,
    smallest_neighbours,
)

LONGEST = 600.0
"""Seconds that a measurement fault lasts at most; a level sustained for longer was the load."""
FEWEST = 5
"""Points that a fault may produce even if steps are so long that `LONGEST` holds fewer."""
BEYOND = 2.0
"""A jump to more than this many times the plausible level, and the load just before, is implausible."""
BEYOND_EARLY = 10.0
"""`BEYOND` with less than `ENOUGH` of history, which has not shown the workload's range yet."""
ENOUGH = DAY
"""Seconds of history that show a workload's range."""
BELIEVED_AFTER = 120.0
"""Seconds that a jump at the live end must last after its first point; more would delay the pods of a flash crowd."""
FAR_BEYOND = 10.0
"""A jump to more than this many times the plausible level is mostly a fault: it must outlast `FAR_BELIEVED_AFTER`."""
FAR_BELIEVED_AFTER = 300.0
"""Seconds, and at least `BAD_SCRAPES` longer than the range of the query, as far as `DataQuality` knows it:
``rate(x[10m])`` shows a bad scrape for ten minutes."""
BAD_SCRAPES = 60.0
"""Seconds, and at least a step, for which bad scrapes follow one another."""
FAR_JUMP = 10.0
"""A jump to more than this many times the load before it must outlast `FAR_BELIEVED_AFTER` too. A fault multiplies the
current load: at night it reaches no more than a few times the day's load."""
JUMP, TIMES_JUMP = 3.0, 2.0
"""A jump to a known level must also outlast `BELIEVED_AFTER` if it exceeds `JUMP` times the load before it and
`TIMES_JUMP` times any jump that the workload has sustained or makes often."""
BEFORE = 5
"""Points before a jump that it is compared with."""
QUIET = 0.05
"""Share of the plausible level added to both sides of a jump: from almost nothing, any load is a jump."""
USUAL = 0.98
"""The quantile of all points that is plausible: bursts in more than the remaining share are normal for the workload."""
SEASONS = ((HOUR, 3, 2), (DAY, 3, 2), (7 * DAY, 1, 1))
"""Period in seconds; how many periods before and after are searched; in how many of them a spike must be found."""
ALIKE = 2.0
"""Two spikes are of similar size if neither is more than this many times the other."""


@attrs.frozen
class Outliers:
    """How many points of a history are outliers, and the newest of them."""

    points: int
    newest: Observation


@attrs.frozen
class ScreenedHistory:
    """A history in which outliers are gaps, and what they were; None if there were none."""

    history: Series
    outliers: Outliers | None = None


def screen(history: Series) -> ScreenedHistory:
    """``history`` with every outlier turned into a gap; unchanged if there are none. Linear in its length.

    Partial answers and unsettled points are screened in the same way: an implausible one is not a lower bound.
    """
    quality = _screen_bounds(history, history.quality)
    history = history if quality is history.quality else attrs.evolve(history, quality=quality)
    found = _find_outliers(history)
    if not len(found):
        return ScreenedHistory(history)
    values = history.values.copy()
    values[found] = np.nan
    newest = Observation(history.time_at(int(found[-1])), float(history.values[found[-1]]))
    return ScreenedHistory(attrs.evolve(history, values=values), Outliers(len(found), newest))


def _screen_bounds(history: Series, quality: DataQuality) -> DataQuality:
    if quality.lower_bounds is not None and quality.at_least is not None:
        nothing = Observation(quality.at_least.at, 0.0)
        newest = _plausible_bounds(history, quality.lower_bounds).newest
        quality = attrs.evolve(quality, at_least=newest or nothing)
    if quality.unsettled is not None:
        quality = attrs.evolve(quality, unsettled=_plausible_bounds(history, quality.unsettled))
    return quality


def _plausible_bounds(history: Series, bounds: Series) -> Series:
    """``bounds`` with a gap for each one that is implausible as a continuation of ``history``."""
    places = round((bounds.start - history.start).total_seconds() / history.step) + np.arange(len(bounds))
    inside = (places >= 0) & (places < len(history))
    values = history.values.copy()
    open_ends = places[inside][np.isnan(values[places[inside]])]
    values[open_ends] = bounds.values[open_ends - places[0]]
    outliers = _find_outliers(attrs.evolve(history, values=values)) - places[0]
    plausible = bounds.values.copy()
    plausible[outliers[outliers >= 0]] = np.nan
    return attrs.evolve(bounds, values=plausible)


def _find_outliers(history: Series) -> Ints:
    """The indexes of the outliers in ``history``."""
    known = np.flatnonzero(np.isfinite(history.values))
    with np.errstate(over="ignore"):  # a load too large for a float is implausible like any other
        return known[_implausible(history, known)]


@attrs.frozen(eq=False)
class _Points:
    """The points of a history that are not gaps: their ``places`` on its grid and ``loads``, both (n,)."""

    places: Ints
    loads: Floats
    step: float
    range: float

    @property
    def longest_fault(self) -> float:
        """Seconds for which bad scrapes show in a query with a range; 0 if it has none."""
        return self.range + max(BAD_SCRAPES, self.step) if self.range else 0.0

    def steps_in(self, seconds: float) -> int:
        return round(seconds / self.step)


def _implausible(history: Series, known: Ints) -> Bools:
    """Whether each of the ``known`` places of ``history`` is an outlier."""
    points = _Points(known, history.values[known], history.step, history.quality.range)
    found = np.zeros(len(known), dtype=np.bool_)
    if len(known) <= _longest(points):
        return found
    young = (int(known[-1]) - int(known[0]) + 1) * history.step < ENOUGH
    beyond = BEYOND_EARLY if young else BEYOND
    level = _plausible_level(points, beyond)
    sparse = level == 0
    if sparse:  # compare only with the points that have load, and tolerate more
        level = _quantile(points.loads[points.loads > 0]) * BEYOND_EARLY / beyond
    suspects = np.flatnonzero(points.loads > beyond * level)
    if len(suspects):
        suspects = suspects[~_is_regular(points, history.values, suspects)]
        found[suspects] = _judge(points, suspects, level, beyond)
    if found[-1]:
        _believe_what_lasts(points, found, level, beyond, young=young)
    elif not sparse:
        found[len(found) - _newest_jump(points, history.values, level, young=young) :] = True
    return found


def _newest_jump(points: _Points, values: Floats, level: float, *, young: bool) -> int:
    """How many points at the live end belong to a jump that is plausible in size but larger than this load's own."""
    newest = points.places[-1] - points.places[-_longest(points) :]
    wait = min(int((newest * points.step < BELIEVED_AFTER).sum()), len(points.loads) - BEFORE - _longest(points) - 1)
    loads = points.loads[-wait - BEFORE :] + QUIET * level
    jumps = [(float(loads[-n:].min() / loads[-n - BEFORE : -n].max()), n) for n in range(1, wait + 1)]
    furthest, size = max(jumps, default=(0.0, 0))
    if furthest <= (BEYOND_EARLY if young else JUMP) or _has_jumped(points, size, level, furthest / TIMES_JUMP):
        return 0
    regular = _is_regular(points, values, np.arange(len(points.loads) - size, len(points.loads)))
    return 0 if regular.any() else size


def _has_jumped(points: _Points, size: int, level: float, factor: float) -> bool:
    """Whether the load before its newest ``size`` points jumps by ``factor`` often, or ever sustained such a jump."""
    loads = points.loads[:-size] + QUIET * level
    often = len(loads) - 1 - int(USUAL * (len(loads) - 2))  # the smallest of this many jumps is the `USUAL` quantile
    if np.count_nonzero(loads[1:] >= factor * loads[:-1]) >= often:
        return True
    lasting = _longest(points) + 1
    after = smallest_neighbours(loads, lasting)[BEFORE:]
    before = largest_neighbours(loads, BEFORE)[: len(after)]
    return bool((after >= factor * before).any())


def _longest(points: _Points) -> int:
    """The most points that a fault produces."""
    return max(points.steps_in(max(LONGEST, points.longest_fault)), FEWEST)


def _plausible_level(points: _Points, beyond: float) -> float:
    """The largest load that was sustained for longer than a fault lasts, or that is usual; 0 if there hardly is any."""
    loads = points.loads
    lasting = float(smallest_neighbours(loads, _longest(points) + 1).max())
    if loads.max() <= beyond * lasting:
        return lasting
    return _quantile(loads, at_least=lasting)


def _quantile(loads: Floats, at_least: float = 0.0) -> float:
    """The `USUAL` quantile (an observed value), or ``at_least`` if that is larger or there are no loads; linear."""
    larger = loads[loads > at_least]
    place = int(USUAL * (len(loads) - 1)) - (len(loads) - len(larger))
    return float(np.partition(larger, place)[place]) if len(larger) and place >= 0 else at_least


def _is_regular(points: _Points, values: Floats, suspects: Ints) -> Bools:
    """Whether similar points lie a whole number of hours, days or weeks from each suspect, within a step."""
    seasons = [season for season in SEASONS if points.steps_in(season[0]) > 2 * _longest(points)]
    away = [
        (points.steps_in(period) * n, i)
        for i, (period, periods, _) in enumerate(seasons)
        for n in range(-periods, periods + 1)
        if n
    ]
    if not away:
        return np.zeros(len(suspects), dtype=np.bool_)
    lags, season = np.array(away).T
    size, last = points.loads[suspects, None], len(values) - 1
    then = points.places[suspects, None] + lags
    before, at, after = (values[np.minimum(np.maximum(then + apart, 0), last)] for apart in (-1, 0, 1))
    other = np.fmax(np.fmax(before, at), after)
    alike = (then >= 0) & (then <= last) & (other >= size / ALIKE) & (other <= size * ALIKE)
    counted = [alike[:, season == i].sum(axis=1) >= needed for i, (_, _, needed) in enumerate(seasons)]
    regular: Bools = np.any(counted, axis=0)
    return regular


def _judge(points: _Points, suspects: Ints, level: float, beyond: float) -> Bools:
    """Which ``suspects`` are more than ``beyond`` times what came before: a load may climb step by step.

    The first suspect of a run is compared with the load just before it, limited to between ``level`` and ``beyond``
    times ``level``. An accepted suspect becomes what the next one of its run is compared with.
    """
    loads = points.loads[suspects]
    begins = np.ones(len(suspects), dtype=np.bool_)
    begins[1:] = suspects[1:] != suspects[:-1] + 1
    runs, firsts = np.cumsum(begins) - 1, suspects[begins]
    just_before = np.where(firsts > 0, points.loads[firsts - 1], level)
    plausible = np.minimum(np.maximum(just_before, level), beyond * level)[runs]
    found: Bools = loads > beyond * plausible
    climbs = np.zeros(len(firsts), dtype=np.bool_)
    climbs[runs[~found]] = True
    highest, last = level, -1
    for i in np.flatnonzero(climbs[runs]):
        highest = float(plausible[i]) if runs[i] != last else highest
        last = int(runs[i])
        found[i] = loads[i] > beyond * highest
        highest = highest if found[i] else max(highest, float(loads[i]))
    return found


def _believe_what_lasts(points: _Points, found: Bools, level: float, beyond: float, *, young: bool) -> None:
    """Remove the jump at the end of ``found``, as far as it has lasted long enough for its size."""
    while found[-1]:
        accepted = np.flatnonzero(~found)
        first = int(accepted[-1]) + 1 if len(accepted) else 0
        shifted = float(points.loads[first:].min())
        leap = (shifted + QUIET * level) / (_load_before(points, accepted) + QUIET * level)
        far = not young and (shifted > FAR_BEYOND * level or leap > FAR_JUMP)
        lasted = (int(points.places[-1]) - int(points.places[first])) * points.step
        if lasted < (max(FAR_BELIEVED_AFTER, points.longest_fault) if far else BELIEVED_AFTER):
            return
        level = shifted
        found[first:] = _judge(points, np.arange(first, len(found)), level, beyond)


def _load_before(points: _Points, accepted: Ints) -> float:
    """The largest of the newest `BEFORE` points that are ``accepted``; infinite if there is none."""
    return float(points.loads[accepted[-BEFORE:]].max()) if len(accepted) else math.inf
