# SPDX-License-Identifier: Apache-2.0
"""Range queries: which points are requested, in chunks that the server accepts, and the cache that keeps them."""

import logging
import math
import re
from bisect import bisect_left
from collections.abc import Iterator
from datetime import datetime, timedelta

import attrs
import httpx
import numpy as np

from kedastral.adapters.prometheus.answer import Load, QueryResponse, find_twins, range_series, sum_load
from kedastral.adapters.prometheus.api import QUERY_SHOWN, PrometheusApi, QueryRequest, read_apart
from kedastral.adapters.prometheus.limits import NoSlotError, RequestLimits, TimeBudget
from kedastral.core.data_quality.lost_series import COUNTED
from kedastral.core.data_quality.settling import MAX_SETTLING, SettlingTime, find_partial_windows
from kedastral.core.history_cache import HistoryCache, Span
from kedastral.core.kept_state import SourceState
from kedastral.core.promql_text import read_duration, without_strings
from kedastral.core.series import (
    EPOCH,
    HOUR,
    DataQuality,
    Floats,
    Ints,
    Series,
    align_down,
    epoch_seconds,
    require_positive,
)
from kedastral.errors import NotServedError, SourceError
from kedastral.logs import named
from kedastral.text import one_line

POINTS_PER_REQUEST = 11_000
"""The most points that Prometheus returns for a series."""
OVERLAP_POINTS = 3
"""The fewest points that are read again at each tick, because samples may be late."""
LATE_SECONDS = HOUR
"""How long trailing points without a value are read again: a remote write may catch up."""
SMALL = 1_000
"""The most points of an urgent request; it is never split."""
BACKFILL_PATIENCE = 5.0
"""Seconds that a tick that already has the newest points waits for slots to read older ones."""
WHOLE_HISTORY_TIMEOUT = 60.0
"""Seconds for each chunk of `PrometheusHistory`, retries included; no tick waits for it."""

_ADDS_UP = re.compile(r"\b(?:rate|increase|sum_over_time|count_over_time)\s*\(")
_RANGE = re.compile(r"\[\s*([0-9a-z]+)\s*[\]:]")

log = logging.getLogger("kedastral.source")


def _require_text(_instance: object, attribute: "attrs.Attribute[str]", value: str) -> None:
    if not value.strip():
        raise ValueError(f"{attribute.name} must not be empty")


@attrs.frozen
class RangeQuery:
    """What is read: PromQL and, in seconds, the window, its step, and the age at which the newest value is too old."""

    query: str = attrs.field(validator=_require_text)
    window: float = attrs.field(validator=require_positive)
    step: float = attrs.field(validator=require_positive)
    stale_after: float = attrs.field(validator=require_positive)
    settle_after: float | None = None
    """Seconds after which a point no longer changes; None to learn this."""

    @property
    def range(self) -> float:
        """The longest range in the PromQL, in seconds, as in ``rate(x[5m])``; 0 without one.

        That of a recording rule is unknown. It is limited to `MAX_SETTLING`: nobody wants to be without the load for an
        hour after an outage.
        """
        query = without_strings(self.query)
        ranges = list(_RANGE.finditer(query))
        began = [found.start() for found in ranges]
        next_ones = {bisect_left(began, start.end()) for start in _ADDS_UP.finditer(query)}
        return min(max((read_duration(ranges[i][1]) for i in next_ones if i < len(ranges)), default=0.0), MAX_SETTLING)

    @property
    def shown(self) -> str:
        """The PromQL as logs may show it."""
        return one_line(self.query, QUERY_SHOWN)

    @property
    def points(self) -> int:
        """The points of the window: ``window / step``, at least one."""
        return max(1, int(self.window / self.step + 1e-9))

    @property
    def overlap(self) -> int:
        """How many of the newest points are read again at each tick: all that are not too old to forecast from."""
        return min(self.points, max(OVERLAP_POINTS, math.ceil(self.stale_after / self.step - 1e-9) + 1))

    @property
    def reread_at_most(self) -> int:
        """The most points that are read again at a tick: those that may still be late, and those before them."""
        return min(self.points, self.overlap + int(LATE_SECONDS / self.step))

    def without_partial_windows(self, values: Floats, settled: int = 0) -> Floats:
        """``values`` at steps of the query, with gaps for those whose range reaches into an outage.

        The first ``settled`` of them are no longer late: if they are missing at the end, that is an outage too. If
        nothing else is known, as for a new workload, they are kept: they are better than nothing.
        """
        width = math.ceil(self.range / self.step - 1e-9)
        whole = np.where(find_partial_windows(values, width, settled), np.nan, values)
        return whole if np.isfinite(whole).any() else values

    def grid(self, now: datetime) -> tuple[datetime, datetime]:
        """The first and last point of the window, which ends with the newest point <= ``now``."""
        end = align_down(now, self.step)
        return end - timedelta(seconds=(self.points - 1) * self.step), end

    def number_of(self, at: datetime) -> int:
        """The number of a point of the grid, counted from the epoch."""
        return (at - EPOCH) // timedelta(seconds=self.step)

    async def read(
        self, api: PrometheusApi, start: datetime, end: datetime, time: TimeBudget, *, urgent: bool
    ) -> "Reading":
        """The load at each point from ``start`` to ``end``, both on the grid: series summed, NaN for a gap.

        Raises like `PrometheusApi.ask`.
        """
        times = {"start": start.timestamp(), "end": end.timestamp(), "step": self.step}
        params = {"query": self.query, **{name: in_seconds(value) for name, value in times.items()}}
        request = QueryRequest("query_range", params)
        response = await api.ask(request, time, urgent=urgent)
        with api.reading(request, time):
            load = await read_apart(response.size, self._sum, response, start, end, api.notes.twins_reported)
        api.notes.note_load(load, request)
        return Reading(load.values, response.is_partial, load.counts)

    def _sum(self, response: QueryResponse, start: datetime, end: datetime, twins_reported: bool) -> Load:
        load = sum_load(range_series(response), start, end, self.step)
        return load if twins_reported else attrs.evolve(load, twins=find_twins(response))


@attrs.frozen
class Reading:
    """The values of the requested points, one each, NaN for a gap; ``is_partial`` if series may be missing.

    ``counts`` are the numbers of series that each value sums.
    """

    values: Floats
    is_partial: bool
    counts: Ints


@attrs.define(eq=False)
class CachedRange:
    """The window of ``query``, kept between ticks; read in chunks of at most ``points_per_request``, newest first.

    If a chunk fails, the next one is half as large, down to `SMALL`: it may have been too much for the server. The
    newest points are read again until they have settled. The points beside an outage are lower bounds too, for as long
    as the range of the query reaches into it; also those before an outage that has just begun. A partial answer
    replaces nothing: it is only a lower bound of the load, and its points are read again. If nothing is known yet, it
    is better than nothing.
    """

    query: RangeQuery
    points_per_request: int = attrs.field(validator=attrs.validators.ge(1))
    progress: float = attrs.field(default=0.0, init=False)
    """The share of the window that had been read at the last read; 1 is all of it."""
    _cache: HistoryCache = attrs.field(init=False)
    _chunk: int = attrs.field(init=False)
    _warned: bool = attrs.field(default=False, init=False)
    _settling: SettlingTime = attrs.field(init=False)
    _lower_bounds: Series | None = attrs.field(default=None, init=False)
    _watched_since: datetime | None = attrs.field(default=None, init=False)
    _counts: HistoryCache = attrs.field(init=False)

    @_settling.default
    def _settling_of_query(self) -> SettlingTime:
        return SettlingTime(self.query.step, self.query.settle_after)

    @_cache.default
    def _empty_cache(self) -> HistoryCache:
        return HistoryCache(self.query.points, self.query.overlap, int(LATE_SECONDS / self.query.step))

    @_counts.default
    def _no_counts(self) -> HistoryCache:
        return HistoryCache(min(self.query.points, math.ceil(COUNTED / self.query.step) + 1), 1)

    @_chunk.default
    def _largest_chunk(self) -> int:
        return self.points_per_request

    def kept(self) -> Series | None:
        """The newest contiguous points that have been read, to be stored; None if there are none."""
        span = self._cache.newest_span
        return None if span is None else Series(self._time_of(span.first), self.query.step, self._cache.newest_part())

    @property
    def state(self) -> SourceState:
        """What is known besides the points, to be stored."""
        span = self._counts.newest_span
        counts = None
        if span is not None:
            counts = Series(self._time_of(span.first), self.query.step, self._counts.newest_part())
        return SourceState(self._settling.state, self._watched_since, counts)

    def restore(self, state: SourceState | None, points: Series | None) -> None:
        """Continue from what `state` and `kept` returned; points at the end that may have changed are read again.

        So is a gap at the beginning: the server may have got older data since, by a backfill for example. It costs a
        request or two, and only where the server has less than the window.
        """
        if state is not None:
            self._settling.restore(state.settling)
            self._watched_since = state.watched_since
            _put_all(self._counts, state.counts, self.query)
        self._cache.overlap = self._reread
        first = None if points is None else points.first
        if points is not None and first is not None:
            gap = round((first.at - points.start).total_seconds() / points.step)
            points = Series(first.at, points.step, points.values[gap:])
        _put_all(self._cache, points, self.query)

    @property
    def _reread(self) -> int:
        """How many of the newest points are read again at the next tick."""
        return min(self.query.points, max(self.query.overlap, self._settling.reread))

    def _time_of(self, number: int) -> datetime:
        return EPOCH + number * timedelta(seconds=self.query.step)

    async def read(self, api: PrometheusApi, now: datetime, time: TimeBudget) -> Series:
        """Read what is new up to ``now``, and as much of the rest as time allows; returns the newest contiguous part.

        Points that have not settled are gaps. Points that were read are kept, however this ends. Raises like
        `PrometheusApi.ask` if the newest points cannot be read.
        """
        _, end = self.query.grid(now)
        kept = self._cache.newest_known(self.query.reread_at_most)
        self._cache.overlap = self._reread
        self._cache.move_to(self.query.number_of(end))
        await self._read_newest(api, end, time, now, kept)
        await self._read_older(api, end, time)
        read = self._cache.newest_part().astype(np.float64)
        first = self.query.number_of(end) - len(read) + 1
        values = self._settling.mask(first, read, epoch_seconds(now))
        settled = self._settling.count_settled(first, len(read), epoch_seconds(now))
        is_partial = self._lower_bounds is not None  # then the newest points are unknown, and not missing
        values = self.query.without_partial_windows(values, 0 if is_partial else settled)
        start = end - timedelta(seconds=(len(values) - 1) * self.query.step)
        self._watched_since = self._watched_since or now
        watched = (now - self._watched_since).total_seconds()
        bounds = self._lower_bounds
        at_least = None if bounds is None else bounds.newest
        unsettled = self._unsettled(start, read, values)
        quality = DataQuality(
            self._settling.seconds, at_least, watched, self._counts_until(end), bounds, unsettled, self.query.range
        )
        return Series(start, self.query.step, values, quality)

    def _unsettled(self, start: datetime, read: Floats, settled: Floats) -> Series | None:
        """The newest values that were ``read`` and are gaps in ``settled``, both of which begin at ``start``."""
        hidden = np.isnan(settled) & np.isfinite(read)
        known = np.flatnonzero(np.isfinite(settled))
        hidden[: known[-1] if len(known) else 0] = False
        if not hidden.any():
            return None
        first = int(hidden.argmax())
        begin = start + timedelta(seconds=first * self.query.step)
        return Series(begin, self.query.step, np.where(hidden, read, np.nan)[first:])

    async def _read_newest(
        self, api: PrometheusApi, end: datetime, time: TimeBudget, now: datetime, kept: tuple[Span, Floats] | None
    ) -> None:
        """Read the newest chunk; ``kept`` are the newest points that were known before."""
        span = self._cache.next_unread(self._chunk)
        if span is None:
            return
        reading = await self._read_span(api, span, end, time)
        self._lower_bounds = self._series_of(span, reading.values, end) if reading.is_partial else None
        self._counts.move_to(span.last)
        self._counts.put(span, np.where(reading.is_partial, np.nan, reading.counts))
        if not reading.is_partial:
            self._settling.observe(span.first, reading.values, epoch_seconds(now))
            self._cache.put(span, reading.values)
        elif kept is None:
            self._cache.put(span, reading.values)
        else:
            self._cache.put(span, np.full(len(span), np.nan))
            self._cache.put(*kept)
        self._note_progress(span)

    def _counts_until(self, end: datetime) -> Series:
        """How many series the newest points sum; NaN if unknown."""
        counts = self._counts.newest_part().astype(np.float64)
        return Series(end - timedelta(seconds=(len(counts) - 1) * self.query.step), self.query.step, counts)

    def _series_of(self, span: Span, values: Floats, end: datetime) -> Series:
        first, _ = self._times_of(span, end)
        return Series(first, self.query.step, values)

    def continued_by(self, gathered: Series) -> Series:
        """All that is cached of the window, with gaps filled from ``gathered``, which ends with the same point."""
        known = self._cache.known_part()
        if not len(known):
            return gathered
        size = max(len(known), len(gathered))
        values = np.full(size, np.nan)
        values[size - len(known) :] = known
        newest = values[size - len(gathered) :]
        np.copyto(newest, gathered.values, where=np.isnan(newest))
        return Series(gathered.time_at(len(gathered) - size), self.query.step, values)

    async def _read_older(self, api: PrometheusApi, end: datetime, time: TimeBudget) -> None:
        time.patience = BACKFILL_PATIENCE
        try:
            while self._cache.unread and time.left > time.total / 2:  # another chunk may take half of it
                await self._read_next(api, end, time)
        except NoSlotError:
            pass  # others are served first; the next tick continues
        except SourceError as error:
            if not self._warned:
                words = "only part of the history was read; the rest is retried in each cycle: %s"
                log.warning(words, error, extra=named(self.query.shown))
            self._warned = True
            return
        if not self._cache.unread:
            self._chunk, self._warned = self.points_per_request, False

    async def _read_next(self, api: PrometheusApi, end: datetime, time: TimeBudget) -> None:
        """Read the newest chunk that is missing in the cache, if any, into the cache."""
        span = self._cache.next_unread(self._chunk)
        if span is None:
            return
        reading = await self._read_span(api, span, end, time)
        if reading.is_partial:
            raise SourceError("the answer is partial: series may be missing", reason="partial")
        self._cache.put(span, reading.values)
        self._note_progress(span)

    async def _read_span(self, api: PrometheusApi, span: Span, end: datetime, time: TimeBudget) -> Reading:
        first, last = self._times_of(span, end)
        try:
            return await self.query.read(api, first, last, time, urgent=len(span) <= SMALL)
        except NotServedError:
            raise
        except SourceError as error:
            if len(span) > SMALL and error.reason not in ("unreachable", "credentials"):
                self._chunk = max(SMALL, len(span) // 2)
            raise

    def _note_progress(self, span: Span) -> None:
        self.progress = 1 - self._cache.unread / self._cache.window
        if len(span) == self._chunk:
            self._chunk = min(2 * self._chunk, self.points_per_request)

    def _times_of(self, span: Span, end: datetime) -> tuple[datetime, datetime]:
        newest = self.query.number_of(end)
        first, last = (end - timedelta(seconds=(newest - at) * self.query.step) for at in (span.first, span.last))
        return first, last


def _put_all(cache: HistoryCache, points: Series | None, query: RangeQuery) -> None:
    """Put ``points``, if they lie on the grid of ``query``, into an empty ``cache``."""
    if (
        points is None
        or not len(points)
        or points.step != query.step
        or align_down(points.start, query.step) != points.start
    ):
        return
    first = query.number_of(points.start)
    span = Span(first, first + len(points) - 1)
    cache.move_to(span.last)
    cache.put(span, points.values)


@attrs.frozen(eq=False)
class PrometheusHistory:
    """Reads the window of ``query`` at once, for a backtest; old history is fine, so ``stale_after`` is ignored.

    Each chunk has ``timeout`` seconds, retries included; ``limits`` are those of the data source.
    """

    client: httpx.AsyncClient
    query: RangeQuery
    points_per_request: int = attrs.field(default=POINTS_PER_REQUEST, validator=attrs.validators.ge(1))
    limits: RequestLimits = attrs.field(factory=RequestLimits)
    timeout: float = WHOLE_HISTORY_TIMEOUT

    async def read(self, now: datetime) -> Series:
        """The load of the window that ends at ``now``, with several series summed and gaps where there was none.

        Raises SourceError with a reason like `kedastral.adapters.prometheus.source.PrometheusSource.history`.
        """
        start, end = self.query.grid(now)
        api = PrometheusApi(self.client, self.limits)
        parts = [
            (await self.query.read(api, first, last, TimeBudget(self.timeout), urgent=False)).values
            for first, last in self._chunks(start, end)
        ]
        series = Series(start, self.query.step, self.query.without_partial_windows(np.concatenate(parts)))
        if series.newest is None:
            span = f"{start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}"
            raise api.no_load_error(f"from {span}", self.query.shown)
        return series

    def _chunks(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        step = timedelta(seconds=self.query.step)
        points = round((end - start) / step) + 1
        for first in range(0, points, self.points_per_request):
            yield start + first * step, start + (min(first + self.points_per_request, points) - 1) * step


def in_seconds(value: float) -> str:
    """Seconds as Prometheus accepts them, without an exponent."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
