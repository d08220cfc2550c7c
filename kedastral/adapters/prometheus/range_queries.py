# SPDX-License-Identifier: Apache-2.0
"""Range queries: what is read over which window, and `CachedRange`, which reads each point of it once."""

import logging
import math
from collections.abc import Iterator
from datetime import datetime, timedelta

import attrs
import httpx
import numpy as np
import trio

from kedastral.adapters.http import one_line
from kedastral.adapters.prometheus.answer import QueryResponse, range_series, sum_series
from kedastral.adapters.prometheus.api import HistoryRequest, Question, WarningLog
from kedastral.adapters.prometheus.limits import RequestLimits, TimeBudget
from kedastral.core.history_cache import HistoryCache, Stretch
from kedastral.core.series import EPOCH, Floats, Series, align_down, require_positive
from kedastral.errors import NotServedError, SourceError

POINTS_PER_REQUEST = 11_000
"""What Prometheus gives per series at most."""
OVERLAP_POINTS = 3
"""Points that are read again at each tick, at the least: samples may come late."""
LATE_SECONDS = 3600.0
"""How long points without a value are read again while there is none after them: a remote write catches up."""
SMALL = 1_000
"""Points of a request that may be made in a hurry, and that is never divided."""
BACKFILL_PATIENCE = 5.0
"""Seconds that one tick waits for others while it has something to forecast from already."""

log = logging.getLogger("kedastral.source")


def _require_text(_instance: object, attribute: "attrs.Attribute[str]", value: str) -> None:
    if not value.strip():
        raise ValueError(f"{attribute.name} must not be empty")


@attrs.frozen
class RangeQuery:
    """What is read: PromQL, and in seconds the window, its step, and the age at which the newest value is too old."""

    query: str = attrs.field(validator=_require_text)
    window: float = attrs.field(validator=require_positive)
    step: float = attrs.field(validator=require_positive)
    stale_after: float = attrs.field(validator=require_positive)

    @property
    def points(self) -> int:
        """The points of the window: ``window / step``, at least one."""
        return max(1, int(self.window / self.step + 1e-9))

    @property
    def overlap(self) -> int:
        """The newest points that are read again at each tick: all that are not too old to forecast from."""
        return min(self.points, max(OVERLAP_POINTS, math.ceil(self.stale_after / self.step - 1e-9) + 1))

    def grid(self, now: datetime) -> tuple[datetime, datetime]:
        """The first and the last of the window's points, which end with the newest <= ``now``."""
        end = align_down(now, self.step)
        return end - timedelta(seconds=(self.points - 1) * self.step), end

    def number_of(self, at: datetime) -> int:
        """The number of a point of the grid, counted from the epoch."""
        return (at - EPOCH) // timedelta(seconds=self.step)

    def question(self, start: datetime, end: datetime) -> Question:
        """The request for the points from ``start`` to ``end``, both on the grid."""
        times = {"start": start.timestamp(), "end": end.timestamp(), "step": self.step}
        return Question("query_range", {"query": self.query, **{key: in_seconds(at) for key, at in times.items()}})

    def values(self, answer: QueryResponse, start: datetime, end: datetime) -> Floats:
        """The answer to that, its series summed: one value for each point, NaN for a gap. Raises ValueError."""
        return sum_series(range_series(answer), start, end, self.step).values


@attrs.define(eq=False)
class CachedRange:
    """The window of ``asked``, kept between ticks; read in chunks of ``points_per_request`` at most, newest first."""

    asked: RangeQuery
    points_per_request: int = attrs.field(validator=attrs.validators.ge(1))
    progress: float = attrs.field(default=0.0, init=False)
    """The share of the window that had been read when anything was read last; 1 is all of it."""
    _kept: HistoryCache = attrs.field(init=False)
    _chunk: int = attrs.field(init=False)
    _told: bool = attrs.field(default=False, init=False)

    @_kept.default
    def _keep_nothing_yet(self) -> HistoryCache:
        return HistoryCache(self.asked.points, self.asked.overlap, int(LATE_SECONDS / self.asked.step))

    @_chunk.default
    def _largest_chunk(self) -> int:
        return self.points_per_request

    async def read(self, reading: HistoryRequest, end: datetime) -> Series:
        """What is new up to ``end``, and as much of the rest as there is time for: the newest part without a hole.

        Whatever was read stays, however this ends. Raises as `HistoryRequest.ask` where the newest points cannot be
        read.
        """
        self._kept.move_to(self.asked.number_of(end))
        await self._read_next(reading, end, TimeBudget(math.inf))
        await self._read_older(reading, end)
        values = self._kept.newest_part()
        return Series(end - timedelta(seconds=(len(values) - 1) * self.asked.step), self.asked.step, values)

    def continued_by(self, gathered: Series) -> Series:
        """All that is kept of the window, and where it has no value ``gathered``, which ends with the same point."""
        known = self._kept.known_part()
        if not len(known):
            return gathered
        size = max(len(known), len(gathered))
        values = np.full(size, np.nan)
        values[size - len(known) :] = known
        newest = values[size - len(gathered) :]
        np.copyto(newest, gathered.values, where=np.isnan(newest))
        return Series(gathered.time_at(len(gathered) - size), self.asked.step, values)

    async def _read_older(self, reading: HistoryRequest, end: datetime) -> None:
        waiting = TimeBudget(BACKFILL_PATIENCE)
        try:
            while self._kept.unread and reading.has_time:
                await self._read_next(reading, end, waiting)
        except trio.TooSlowError:
            pass  # others are served first; the next tick goes on
        except SourceError as error:
            if not self._told:
                log.warning("the history is read in part, the rest is tried again at each tick: %s", error)
            self._told = True
            return
        if not self._kept.unread:
            self._chunk, self._told = self.points_per_request, False

    async def _read_next(self, reading: HistoryRequest, end: datetime, waiting: TimeBudget) -> None:
        stretch = self._kept.next_unread(self._chunk)
        if stretch is None:
            return
        start, last = self._times(stretch, end)
        question = self.asked.question(start, last)
        try:
            values = await reading.ask(
                question, lambda answer: self.asked.values(answer, start, last), waiting, hurried=len(stretch) <= SMALL
            )
        except NotServedError:
            raise
        except SourceError as error:
            if len(stretch) > SMALL and error.reason not in ("unreachable", "credentials"):
                self._chunk = max(SMALL, len(stretch) // 2)  # it may have been too much for the server, or for 10 s
            raise
        self._kept.lay(stretch, values)
        self.progress = 1 - self._kept.unread / self._kept.window
        if len(stretch) == self._chunk:
            self._chunk = min(2 * self._chunk, self.points_per_request)

    def _times(self, stretch: Stretch, end: datetime) -> tuple[datetime, datetime]:
        newest = self.asked.number_of(end)
        first, last = (end - timedelta(seconds=(newest - at) * self.asked.step) for at in (stretch.first, stretch.last))
        return first, last


def in_seconds(value: float) -> str:
    """Seconds as Prometheus reads them, without an exponent."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


# --- History from Prometheus: days of load in one go, in chunks that the server accepts.

TIMEOUT = 60.0
"""Seconds for each chunk, retries included; nobody waits for a tick here."""


@attrs.frozen(eq=False)
class PrometheusHistory:
    """Reads ``asked.window`` seconds at once; its ``stale_after`` plays no part: old history is history.

    Each chunk has ``timeout`` seconds, retries included; ``limits`` are those of the data source.
    """

    client: httpx.AsyncClient
    asked: RangeQuery
    points_per_request: int = attrs.field(default=POINTS_PER_REQUEST, validator=attrs.validators.ge(1))
    limits: RequestLimits = attrs.field(factory=RequestLimits)
    timeout: float = TIMEOUT

    async def read(self, now: datetime) -> Series:
        """The load of the window that ends at ``now``, several series summed, with gaps where there was none.

        Raises SourceError with a reason as `kedastral.adapters.prometheus.source.PrometheusSource.history`.
        """
        start, end = self.asked.grid(now)
        notices = WarningLog()
        parts = [await self._read_chunk(first, last, notices) for first, last in self._chunks(start, end)]
        series = Series(start, self.asked.step, np.concatenate(parts))
        if series.newest is None:
            query = one_line(self.asked.query, 200)
            raise SourceError(
                f"Prometheus has no value from {start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}; query: {query}",
                reason="empty",
            )
        return series

    async def _read_chunk(self, start: datetime, end: datetime, notices: WarningLog) -> Floats:
        question = self.asked.question(start, end)
        reading = HistoryRequest(self.client, self.limits, notices, self.timeout)
        return await reading.ask(question, lambda answer: self.asked.values(answer, start, end), hurried=False)

    def _chunks(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        step = timedelta(seconds=self.asked.step)
        points = round((end - start) / step) + 1
        for first in range(0, points, self.points_per_request):
            yield start + first * step, start + (min(first + self.points_per_request, points) - 1) * step
