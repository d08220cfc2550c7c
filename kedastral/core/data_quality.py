# SPDX-License-Identifier: Apache-2.0
"""Which points of a history can be trusted as the load: those that have settled, and those that are plausible.

`SettlingTime` learns how long the newest points of a query keep changing, by reading them again. With ``rate(x[5m])``
and samples that arrive two minutes late (remote write, a federated or sidecar-fed store), the newest points are too low
at first and rise as samples come in. A point that still changes is not the load yet.

Outliers are jumps far beyond anything that the workload has sustained or shown at regular times. A counter reset, a
clock step or one bad scrape makes a few points many times too large; ``rate(x[5m])`` turns one bad scrape into five
minutes of them. The limit comes from the workload itself: the largest load that it sustained for longer than such a
fault lasts, or that a fiftieth of its points reach. A load that recurs at the same time of the hour, day or week is
plausible at any size. At the live end it is not yet known whether a jump lasts: it is accepted once it has lasted long
enough, and a larger jump has to last longer. Only points that are too large are removed: a dip does not order pods.

`find_partial_windows` finds the points next to an outage. There ``rate(x[5m])`` is too low: it divides by five minutes
but has seen fewer.

`SeriesWatch` finds series that disappear from the sum, with their load, while the pods stay. This is only reported.

`find_counter` finds a query that returns a raw counter, which only ever rises. This too is only reported.
"""

import math
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import attrs
import numpy as np
from numpy.typing import NDArray

from kedastral.core.series import (
    EPOCH,
    DataQuality,
    Floats,
    Ints,
    Observation,
    Series,
    largest_neighbours,
    require_positive,
    smallest_neighbours,
)

Bools = NDArray[np.bool_]

MAX_SETTLING = 600.0
"""Seconds. A point that changes for longer than this is corrected, not late; waiting for it would cost too much."""
MIN_REREAD = 360.0
"""Seconds: slightly more than five minutes, the largest lag that a remote write or a sidecar commonly has."""
CHANGED = 0.02
"""The least relative change that counts: a smaller one is a fraction of a pod and not worth waiting for."""
JUDGED = 30
"""The number of points in the estimate: half an hour with one-minute steps. A past lag is forgotten in that time."""
QUANTILE = 0.9
"""The quantile of the ages at the last change. Three late points of thirty move it, so it follows a growing lag."""
FEWEST_REPLACED = 4
"""The least number of points that must all differ before a reading counts as coming from another server."""
CATCH_UP = 3
"""If one reading fills this many more gaps than steps have passed, the pipeline is catching up after an outage. This is
not its lag."""


@attrs.define
class _Point:
    """The newest reading of one point, and its ages when it was first read and when it last changed."""

    value: float
    first_age: float
    changed_age: float = 0.0


@attrs.frozen
class SettlingPoint:
    """One point as last read: its ``value`` (None for a gap), and ages in seconds as in `_Point`."""

    number: int
    value: float | None
    first_age: float
    changed_age: float


@attrs.frozen
class SettlingState:
    """What `SettlingTime` has learnt, as plain numbers that can be stored; ``read_at`` is in epoch seconds."""

    points: tuple[SettlingPoint, ...] = ()
    seconds: float = 0.0
    read_at: float | None = None


@attrs.define(eq=False)
class SettlingTime:
    """The settling time of one query with points ``step`` seconds apart; ``fixed`` seconds replace the learnt value.

    Memory and time per reading are O(`MAX_SETTLING` / step), whatever the window.
    """

    step: float = attrs.field(validator=require_positive)
    fixed: float | None = None
    _points: dict[int, _Point] = attrs.field(factory=dict, init=False)
    _seconds: float = attrs.field(default=0.0, init=False)
    _read_at: float = attrs.field(default=-math.inf, init=False)

    @property
    def seconds(self) -> float:
        """The age from which a point counts as load; 0 until a point has been seen to change."""
        return self._seconds if self.fixed is None else self.fixed

    @property
    def reread(self) -> int:
        """How many of the newest points to read again, so that a lag twice as long as the known one is noticed.

        While the lag is learnt, at least those of `MIN_REREAD`: if a series suddenly lagged by more than is read again,
        nobody would notice.
        """
        if self.fixed is not None:
            return math.ceil(min(self.fixed, MAX_SETTLING) / self.step) + 1
        return math.ceil(min(max(2 * self.seconds, MIN_REREAD), MAX_SETTLING) / self.step) + 1

    @property
    def state(self) -> SettlingState:
        """All that has been learnt, to be stored."""
        points = (
            SettlingPoint(number, None if math.isnan(one.value) else one.value, one.first_age, one.changed_age)
            for number, one in sorted(self._points.items())
        )
        return SettlingState(tuple(points), self._seconds, self._read_at if math.isfinite(self._read_at) else None)

    def restore(self, state: SettlingState) -> None:
        """Continue from ``state``."""
        self._points = {
            one.number: _Point(math.nan if one.value is None else one.value, one.first_age, one.changed_age)
            for one in state.points
        }
        self._seconds = state.seconds
        self._read_at = -math.inf if state.read_at is None else state.read_at

    def observe(self, first: int, values: Floats, now: float) -> None:
        """Compare a reading with the previous ones.

        ``values[i]`` is the value of point ``first + i``, dated ``(first + i) * step`` (epoch seconds), NaN for a gap;
        ``now`` is when it was read (epoch seconds). Late samples only change points up to a certain age. If every point
        differs, whatever its age, the reading comes from another server or the query failed, and it is not used.
        """
        oldest = math.ceil((now - MAX_SETTLING) / self.step)
        read = {first + i: float(value) for i, value in enumerate(values) if first + i >= oldest}
        filled = [n for n, value in read.items() if n in self._points and _is_filled(self._points[n].value, value)]
        catches_up = len(filled) > CATCH_UP + (now - self._read_at) / self.step
        again = [number for number in read if number in self._points]
        replaced = len(again) >= FEWEST_REPLACED and all(_differs(self._points[n].value, read[n]) for n in again)
        self._read_at = now
        for number, value in read.items():
            is_late = not replaced and not (catches_up and number in filled)
            self._note(number, value, now - number * self.step, counts=is_late)
        self._forget()
        self._seconds = self._estimate(now)

    def mask(self, first: int, values: Floats, now: float) -> Floats:
        """``values`` of the points from number ``first`` on; those not settled at ``now`` become gaps."""
        ages = now - (first + np.arange(len(values))) * self.step
        return np.where(ages < self.seconds - 1e-6, np.nan, values)

    def _note(self, number: int, value: float, age: float, *, counts: bool) -> None:
        point = self._points.get(number)
        if point is None:
            self._points[number] = _Point(value, age)
            return
        if counts and _differs(point.value, value):
            point.changed_age = age
        point.value = value

    def _forget(self) -> None:
        """Drop all but the points that may still change and `JUDGED` older ones."""
        kept = JUDGED + math.ceil(MAX_SETTLING / self.step)
        for number in sorted(self._points)[:-kept]:
            del self._points[number]

    def _estimate(self, now: float) -> float:
        ages = list(self._last_changes(now))[-JUDGED:]
        return float(np.quantile(ages, QUANTILE, method="higher")) if ages else 0.0

    def _last_changes(self, now: float) -> Iterator[float]:
        """The ages at the last change, oldest first, of the points whose last change is known well enough.

        A young point may still change, so it only counts if it changed later than the estimate allows. A point that was
        old when first read may have changed before.
        """
        for number, point in sorted(self._points.items()):
            settled = now - number * self.step >= self._seconds
            seen_young = point.first_age <= max(self._seconds, 2 * self.step)
            if point.changed_age > self._seconds or (settled and seen_young):
                yield point.changed_age


def _is_filled(before: float, value: float) -> bool:
    return math.isnan(before) and not math.isnan(value)


def _differs(before: float, value: float) -> bool:
    if math.isnan(before) or math.isnan(value):
        return math.isnan(before) != math.isnan(value)
    return abs(value - before) > CHANGED * max(before, value)


def stale_age(stale_after: float, step: float, settling: float = 0.0) -> float:
    """The age in seconds from which the newest value of a history is too old to forecast from.

    A point may be up to a ``step`` old when it is read, and those that are still ``settling`` are gaps.
    """
    return stale_after + step + settling


def find_partial_windows(values: Floats, width: int) -> Bools:
    """Which ``values`` were computed over a range of ``width`` steps that reaches into a gap, so that they are too low.

    Those are the ``width`` points before and after each gap. Missing points at the end may not be an outage, so the
    points before them stay. The gaps themselves are not marked. Linear in the length.
    """
    known = np.flatnonzero(np.isfinite(values))
    if width <= 0 or not len(known):
        return np.zeros(len(values), dtype=np.bool_)
    missing = np.isnan(values)
    missing[known[-1] :] = False
    before = np.concatenate([[0], np.cumsum(missing)])
    places = np.arange(len(values))
    near = before[np.minimum(places + width + 1, len(values))] > before[np.maximum(places - width, 0)]
    partial: Bools = near & ~np.isnan(values)
    return partial


LONGEST = 600.0
"""Seconds that a measurement fault lasts at most; a level sustained for longer was the load."""
FEWEST = 5
"""Points that a fault may produce even if steps are so long that `LONGEST` holds fewer."""
BEYOND = 2.0
"""A jump to more than this many times the plausible level, and the load just before, is implausible."""
BEYOND_EARLY = 10.0
"""`BEYOND` with less than `ENOUGH` of history, which has not shown the workload's range yet."""
ENOUGH = 86400.0
"""Seconds of history that show a workload's range."""
BELIEVED_AFTER = 120.0
"""Seconds that a jump at the live end must last after its first point; more would delay the pods of a flash crowd."""
FAR_BEYOND = 10.0
"""A jump to more than this many times the plausible level is mostly a fault: it must outlast `FAR_BELIEVED_AFTER`."""
FAR_BELIEVED_AFTER = 300.0
"""Seconds; ``rate(x[5m])`` shows a bad scrape for that long."""
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
DAY, HOUR = 86400.0, 3600.0
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

    def steps_in(self, seconds: float) -> int:
        return round(seconds / self.step)


def _implausible(history: Series, known: Ints) -> Bools:
    """Whether each of the ``known`` places of ``history`` is an outlier."""
    points = _Points(known, history.values[known], history.step)
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
    return max(points.steps_in(LONGEST), FEWEST)


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
        if lasted < (FAR_BELIEVED_AFTER if far else BELIEVED_AFTER):
            return
        level = shifted
        found[first:] = _judge(points, np.arange(first, len(found)), level, beyond)


def _load_before(points: _Points, accepted: Ints) -> float:
    """The largest of the newest `BEFORE` points that are ``accepted``; infinite if there is none."""
    return float(points.loads[accepted[-BEFORE:]].max()) if len(accepted) else math.inf


SHARE_LEFT = 2 / 3
"""Of the series, and of their load: at least a third must be gone."""
FEWEST_SERIES = 3
"""How many series there must have been: with fewer, a single one is a third or more."""
LOST_FOR = 120.0
"""Seconds, and at least `FEWEST_LOST` points, for which they must be gone: pods that just restart are back by then."""
FEWEST_LOST = 2
REFERENCE = 900.0
"""Seconds before the loss whose median is the reference: a rolling update doubles the series for less than half."""
TOLD_FOR = 1800.0
"""Seconds within which pods follow what KEDA was told: the HPA's stabilization, and pods finishing their work."""
FORGOTTEN_AFTER = 3600.0
"""Seconds after which the remaining series count as complete."""
PAUSE = 300.0
"""Seconds without a tick after which it is unknown what KEDA was told."""
COUNTED = 2400.0
"""Seconds of counts that `SeriesWatch` reads: lag, loss and reference."""


@attrs.frozen
class LostSeries:
    """How many series have been ``lost`` from the sum ``since`` a time, with their load, and how many were ``left``."""

    lost: int
    left: int
    since: datetime


@attrs.define(eq=False)
class SeriesWatch:
    """Finds series that disappear with their load while the pods stay: the data source may miss part of the load.

    It knows what KEDA was told. A scale down by Kedastral removes as many series, and does not count as a loss.
    """

    lost: LostSeries | None = attrs.field(default=None, init=False)
    _told: list[tuple[datetime, int]] = attrs.field(factory=list, init=False)

    @property
    def told(self) -> tuple[tuple[datetime, int], ...]:
        """What KEDA was told recently, oldest first, to be stored."""
        return tuple(self._told)

    def restore(self, lost: LostSeries | None, told: Sequence[tuple[datetime, int]]) -> None:
        """Continue from earlier values of `lost` and `told`."""
        self.lost, self._told = lost, list(told)

    def observe(self, history: Series, told: int | None, now: datetime) -> LostSeries | None:
        """What is lost as of ``history``; ``told`` is what KEDA is told at ``now``, None if unknown."""
        if told is None or (self._told and not 0 <= (now - self._told[-1][0]).total_seconds() <= PAUSE):
            self._told.clear()
        if told is not None:
            self._told.append((now, told))
        oldest = now - timedelta(seconds=TOLD_FOR + COUNTED)
        self._told = [one for one in self._told if one[0] >= oldest]
        counts = history.quality.counts
        if counts is not None and history.quality.at_least is None:
            self.lost = self._after(_CountedLoad.of(history, counts), now)
        return self.lost

    def _after(self, counted: "_CountedLoad", now: datetime) -> LostSeries | None:
        lost = self.lost
        if lost is None or not len(counted.counts):
            return self._newly_lost(counted)
        is_back = counted.counts[-1] > SHARE_LEFT * (lost.lost + lost.left)
        return None if is_back or (now - lost.since).total_seconds() > FORGOTTEN_AFTER else lost

    def _newly_lost(self, counted: "_CountedLoad") -> LostSeries | None:
        gone = max(FEWEST_LOST, math.floor(LOST_FOR / counted.step + 1e-9) + 1)
        if len(counted.counts) <= gone:
            return None
        first = counted.times[-gone]
        reference = (counted.times < first) & (counted.times >= first - max(REFERENCE, FEWEST_LOST * counted.step))
        if not reference.any():
            return None
        before, load = np.median(counted.counts[reference]), np.median(counted.loads[reference])
        left, since = counted.counts[-gone:].max(), EPOCH + timedelta(seconds=float(first))
        if before < FEWEST_SERIES or counted.loads[-gone:].max() > SHARE_LEFT * load:
            return None
        if left > SHARE_LEFT * before * self._share_told(since):
            return None
        return LostSeries(round(float(before - left)), round(float(left)), since)

    def _share_told(self, until: datetime) -> float:
        """The share that the largest fall of what KEDA was told left, within `TOLD_FOR` before ``until``.

        0 if less than `REFERENCE` of it is known.
        """
        told = [one for one in self._told if timedelta(0) <= until - one[0] <= timedelta(seconds=TOLD_FOR)]
        if not told or (until - told[0][0]).total_seconds() < REFERENCE:
            return 0.0
        replicas = np.array([each for _, each in told], dtype=np.float64)
        return float((replicas / np.maximum(np.maximum.accumulate(replicas), 1.0)).min())


@attrs.frozen(eq=False)
class _CountedLoad:
    """The newest loads whose number of series is known: ``times`` in epoch seconds, all of shape (n,)."""

    times: Floats
    loads: Floats
    counts: Floats
    step: float

    @classmethod
    def of(cls, history: Series, counts: Series) -> "_CountedLoad":
        """From the points that are in both, which share one grid."""
        apart = round((counts.start - history.start).total_seconds() / history.step)
        places = np.arange(len(counts)) + apart
        inside = (places >= 0) & (places < len(history))
        loads = np.where(inside, history.values[np.clip(places, 0, len(history) - 1)], np.nan)
        times = (history.start - EPOCH).total_seconds() + places.astype(np.float64) * history.step
        known = np.isfinite(loads) & np.isfinite(counts.values)
        return cls(times[known], loads[known], counts.values[known], counts.step)


COUNTED_FOR = 3600.0
"""The least seconds of history needed to recognise a counter; a load seldom rises for that long without a break."""
FEWEST_COUNTED = 30
"""The least number of points in it."""
NEVER_FALLS = 0.995
"""The least share of the differences that are not falls; resets are not counted."""
RESET_TO = 0.1
"""A fall to less than this share of the previous value is a reset: the counting process restarted."""
MAX_RESETS = 5
RISING = 0.2
"""The least share of the differences that are rises: a level set by hand rises only now and then. A large, slow counter
may stand still in between, because values are kept in 32 bits."""
GROWTH = 20.0
"""A counter's rises must add up to at least this many times its falls, not counting resets."""
FALLING = 0.3
"""The share of the changes from which falls show that this is no counter, whatever its name."""
LOOK_AGAIN = 600.0
"""Seconds between two checks of a workload's history."""


@attrs.frozen
class RawCounter:
    """A series that only ever rises, from ``first`` to ``last`` in ``seconds``, except for ``resets``."""

    first: float
    last: float
    seconds: float
    resets: int

    @property
    def words(self) -> str:
        """What was seen, and the remedy."""
        resets = f", but for {self.resets} resets" if self.resets > 1 else ", but for a reset" if self.resets else ""
        return (
            f"the values only ever rise, from {self.first:,.6g} to {self.last:,.6g} in {self.seconds / 3600:,.3g} hours"
            f"{resets}: this looks like a raw counter and not like a load; take rate() of it, such as "
            "sum(rate(http_requests_total[1m]))"
        )


def find_counter(history: Series) -> RawCounter | None:
    """The evidence that ``history`` is a raw counter; None if it may be a load. Linear in its length.

    A load has noise and falls at night, even a growing one. A counter, or a sum of counters, only falls on a reset.
    """
    known = np.flatnonzero(np.isfinite(history.values))
    if len(known) < FEWEST_COUNTED or (known[-1] - known[0]) * history.step < COUNTED_FOR:
        return None
    values = history.values[known]
    differences = np.diff(values)
    fell = differences < 0
    reset = fell & (values[1:] < RESET_TO * values[:-1])
    resets, risen = int(reset.sum()), float(differences[differences > 0].sum())
    fallen = -float(differences[fell & ~reset].sum())
    never_falls = int((fell & ~reset).sum()) <= (1 - NEVER_FALLS) * len(differences)
    rises = int((differences > 0).sum()) >= RISING * len(differences)
    if not never_falls or not rises or resets > MAX_RESETS or risen < GROWTH * fallen:
        return None
    return RawCounter(float(values[0]), float(values[-1]), float(known[-1] - known[0]) * history.step, resets)


def falls_often(history: Series) -> bool:
    """Whether ``history`` cannot be a raw counter, whatever its name: a gauge may be called ``jobs_waiting_total``."""
    differences = np.diff(history.values[np.isfinite(history.values)])
    changes = int((differences != 0).sum())
    return changes >= FEWEST_COUNTED and int((differences < 0).sum()) >= FALLING * changes


@attrs.define(eq=False)
class CounterWatch:
    """Reports a raw counter once; until then it checks every `LOOK_AGAIN` seconds. One ``is_told`` is known already."""

    is_told: bool = False
    _looked_at: datetime | None = attrs.field(default=None, init=False)

    def observe(self, history: Series, now: datetime) -> RawCounter | None:
        """The raw counter in ``history``, if it has just been found."""
        long_ago = self._looked_at is None or abs((now - self._looked_at).total_seconds()) >= LOOK_AGAIN
        if self.is_told or not long_ago:
            return None
        self._looked_at = now
        counter = find_counter(history)
        self.is_told = counter is not None
        return counter
