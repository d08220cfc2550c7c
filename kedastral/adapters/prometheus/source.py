# SPDX-License-Identifier: Apache-2.0
"""`PrometheusSource`: the history of one workload's load, read from Prometheus at each tick."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime

import attrs
import httpx
import trio

from kedastral.adapters.prometheus.answer import Load, QueryResponse, instant_series, sum_load
from kedastral.adapters.prometheus.api import PrometheusApi, QueryRequest, read_apart
from kedastral.adapters.prometheus.limits import RequestLimits, TimeBudget
from kedastral.adapters.prometheus.range_queries import (
    LATE_SECONDS,
    POINTS_PER_REQUEST,
    CachedRange,
    RangeQuery,
    in_seconds,
)
from kedastral.core.data_quality.settling import stale_age
from kedastral.core.kept_state import KeptHistory, SourceState
from kedastral.core.ports import LowerBoundError
from kedastral.core.series import DataQuality, Series, series_from_points
from kedastral.errors import NotServedError, SourceError
from kedastral.logs import named

TIMEOUT = 10.0
"""Seconds for one read of the history: all of its requests, including retries."""
RANGE_AGAIN_AFTER = 600.0
"""Seconds until range queries are tried again if they were never served."""

LONG_SETTLING = 300.0
"""Seconds; few pipelines lag by more than that."""
SEVERAL_SERVERS = "; do several servers with different data answer in turn? See --settle-after"

log = logging.getLogger("kedastral.source")


@attrs.define
class InstantFallback:
    """Instant values, one per tick, gathered into a short series while range queries are not served.

    If range queries were served before, they are tried again at each tick.
    """

    _range_again_at: float | None = None
    _range_worked_at: float | None = None
    _values: dict[float, float] = attrs.field(factory=dict)

    def is_on(self) -> bool:
        """Whether to request an instant value now, without trying a range query first."""
        return self._range_again_at is not None and trio.current_time() < self._range_again_at

    @property
    def is_in_use(self) -> bool:
        """Whether the newest read was of an instant value; needs no clock."""
        return self._range_again_at is not None

    def range_worked_within(self, seconds: float) -> bool:
        """Whether a range query was answered in the last ``seconds``."""
        return self._range_worked_at is not None and trio.current_time() < self._range_worked_at + seconds

    def turn_on(self, error: NotServedError, query: str) -> None:
        """Note that the range query for ``query`` was not served, but an instant query was."""
        if self._range_again_at is None:
            words = "range queries are not served, gathering one value per cycle instead: %s"
            log.warning(words, error, extra=named(query))
        self._range_again_at = trio.current_time() + (RANGE_AGAIN_AFTER if self._range_worked_at is None else 0.0)

    def turn_off(self) -> None:
        """Note that a range query was served."""
        self._range_again_at, self._range_worked_at = None, trio.current_time()

    @property
    def gathered(self) -> Mapping[float, float]:
        """The values so far, by time in epoch seconds."""
        return self._values

    def restore(self, points: Series) -> None:
        """Continue from values that were gathered before."""
        times = [points.time_at(index).timestamp() for index in range(len(points))]
        self._values = {at: value for at, value in zip(times, points.values.tolist(), strict=True) if value >= 0}

    def gather(self, value: float, start: datetime, end: datetime, step: float) -> Series:
        """The values gathered from ``start`` on, with ``value`` at ``end`` as the newest."""
        self._values[end.timestamp()] = value
        self._values = {at: kept for at, kept in self._values.items() if start.timestamp() <= at <= end.timestamp()}
        first = datetime.fromtimestamp(min(self._values), end.tzinfo)
        return series_from_points(self._values.items(), first, end, step)


@attrs.define(eq=False)
class QualityLog:
    """Logs how far the answers can be trusted: once, and again if that changes."""

    query: RangeQuery
    _settling: float = 0.0
    _partial: bool = False

    def note(self, quality: DataQuality) -> None:
        """Log what has changed in ``quality``; a settling time that changes by less than a step does not count."""
        query = self.query.shown
        if abs(quality.settling - self._settling) >= self.query.step:
            is_long = quality.settling > LONG_SETTLING
            log.log(
                logging.WARNING if is_long else logging.INFO,
                "points settle after %.0f s; younger ones only raise the floor%s; query: %s",
                quality.settling, SEVERAL_SERVERS if is_long else "", query, extra=named(query),
            )  # fmt: skip
            self._settling = quality.settling
        partial = quality.at_least is not None
        if partial and not self._partial:
            log.warning(
                "the answers are partial: series may be missing; they may raise the replicas, never lower them; "
                "query: %s",
                query,
                extra=named(query),
            )
        elif self._partial and not partial:
            log.info("the answers are complete again; query: %s", query, extra=named(query))
        self._partial = partial


@attrs.frozen(eq=False)
class PrometheusSource:
    """A `kedastral.core.ports.MetricSource` on the query API behind ``client`` (`open_prometheus_client`).

    Reads its window once, in chunks of ``points_per_request``, newest first. Afterwards it reads what is new, and an
    overlap for late samples. If the server has no range queries, it gathers one instant value per tick. If the server
    had them before, that is an error at first; if it lasts, instant values continue the history. ``limits`` are shared
    by the sources that read from the same server. A read has ``timeout`` seconds, not counting the wait for the limits.
    """

    name = "prometheus"

    client: httpx.AsyncClient
    query: RangeQuery
    points_per_request: int = attrs.field(default=POINTS_PER_REQUEST, validator=attrs.validators.ge(1))
    limits: RequestLimits = attrs.field(factory=RequestLimits)
    timeout: float = TIMEOUT
    _api: PrometheusApi = attrs.field(init=False, repr=False)
    _range: CachedRange = attrs.field(init=False, repr=False)
    _fallback: InstantFallback = attrs.field(factory=InstantFallback, init=False, repr=False)
    _quality: QualityLog = attrs.field(init=False, repr=False)

    @_api.default
    def _api_of_client(self) -> PrometheusApi:
        return PrometheusApi(self.client, self.limits)

    @_quality.default
    def _quality_of_query(self) -> QualityLog:
        return QualityLog(self.query)

    @_range.default
    def _empty_range(self) -> CachedRange:
        return CachedRange(self.query, self.points_per_request)

    @property
    def progress(self) -> float:
        """The share of the window that has been read, gaps included; below 1 the backfill is still running.

        Also 1 if there is no backfill, because range queries are not served.
        """
        return 1.0 if self._fallback.is_in_use else self._range.progress

    def kept_history(self) -> tuple[Series, bool] | None:
        """See `kedastral.core.ports.RestorableSource.kept_history`."""
        gathered = self._fallback.gathered
        if not self._fallback.is_in_use or not gathered:
            points = self._range.kept()
            return None if points is None else (points, False)
        first, last = (datetime.fromtimestamp(at, UTC) for at in (min(gathered), max(gathered)))
        return series_from_points(gathered.items(), first, last, self.query.step), True

    def kept_state(self) -> SourceState:
        """See `kedastral.core.ports.RestorableSource.kept_state`."""
        return self._range.state

    def restore(self, state: SourceState | None, history: KeptHistory | None) -> None:
        """See `kedastral.core.ports.RestorableSource.restore`."""
        points = None if history is None else Series(history.start, history.step, history.values)
        if points is not None and history is not None and history.instant:
            self._fallback.restore(points)
            points = None
        elif points is not None:
            self._fallback.turn_off()  # the server has range queries, whatever a proxy says at the start
        self._range.restore(state, points)

    async def history(self, now: datetime) -> Series:
        """The window up to ``now``, with several series summed; it may hold gaps, but not only gaps.

        Until the whole window has been read (`progress`), it is its newest contiguous part.

        Raises SourceError with reason unreachable, timeout, http_status, refused, bad_answer, credentials, empty (no
        series, or none in the newest answer while the newest value is too old), no_load (none with a finite value >= 0)
        or stale (the newest is older than ``stale_after`` + step).
        """
        start, end = self.query.grid(now)
        self._api.notes.begin(now)
        series = await self._read(now, start, end, TimeBudget(self.timeout))
        self._require_fresh(series, now)
        self._quality.note(series.quality)
        return series

    async def _read(self, now: datetime, start: datetime, end: datetime, time: TimeBudget) -> Series:
        if self._fallback.is_on():
            return await self._read_instant(start, end, time)
        try:
            series = await self._range.read(self._api, now, time)
        except NotServedError as error:
            if self._fallback.range_worked_within(self.query.stale_after / 2):
                raise  # most likely a proxy's mistake; the plan from the previous answer is not stale yet
            series = await self._read_instant(start, end, time)
            # only after the other query was served: a wrong URL serves neither
            self._fallback.turn_on(error, self.query.shown)
        else:
            self._fallback.turn_off()
        return series

    async def _read_instant(self, start: datetime, end: datetime, time: TimeBudget) -> Series:
        request = QueryRequest("query", {"query": self.query.query, "time": in_seconds(end.timestamp())})
        response = await self._api.ask(request, time, urgent=True)
        if response.is_partial:
            raise SourceError("the answer is partial: series may be missing", reason="partial")
        with self._api.reading(request, time):
            load = await read_apart(response.size, _sum_instant, response, end, self.query.step)
        self._api.notes.note_load(load, request)
        value = float(load.values[0])
        return self._range.continued_by(self._fallback.gather(value, start, end, self.query.step))

    def _require_fresh(self, series: Series, now: datetime) -> None:
        if series.newest is None:
            span = f"{series.start:%Y-%m-%dT%H:%M:%SZ} to {series.time_at(len(series) - 1):%Y-%m-%dT%H:%M:%SZ}"
            raise self._api.no_load_error(f"from {span}", self.query.shown)
        unsettled = series.quality.unsettled
        seen = (None if unsettled is None else unsettled.newest) or series.newest
        # by the server's clock, like its samples: if ours was set back, old load would look fresh
        age, seen_age = ((now - one.at).total_seconds() + self._api.notes.server_ahead for one in (series.newest, seen))
        settling = series.quality.settling
        reach = max(self.query.range, self.query.step) if self.query.range else 0.0
        bridged = 0.0 if unsettled is None else 2 * reach  # before a short outage, and after it
        fresh = stale_age(self.query.stale_after, self.query.step)
        oldest = stale_age(self.query.stale_after, self.query.step, settling)
        if series.quality.at_least is not None:
            if age > LATE_SECONDS:
                words = f"the answers have been partial for {age:.0f} s: series may be missing"
                raise SourceError(f"{words}; query: {self.query.shown}", reason="partial")
            return
        is_over = seen_age <= oldest  # an outage: there are values again
        if not is_over and self._api.notes.nothing_newest:
            when = f"{seen.at:%Y-%m-%dT%H:%M:%SZ}"
            words = f"the query matches nothing any more; the newest value it had, of {when}, is {seen_age:.0f} s old"
            raise SourceError(f"{words}{self._api.notes.clock_skew}; query: {self.query.shown}", reason="empty")
        if age > oldest + bridged or not is_over:
            newest, age = (series.newest, age) if is_over else (seen, seen_age)
            late = f" and the {settling:.0f} s in which points settle" if settling else ""
            if bridged and not settling:
                late = f"; those {'after' if is_over else 'before'} it rest on a range of {self.query.range:g} s that "
                late += "reaches into an outage"
            when = f"{newest.at:%Y-%m-%dT%H:%M:%SZ}"
            words = (
                f"the newest value, of {when}, is {age:.0f} s old, more than the {fresh:g} s of "
                f"--stale-after and a step{late}{self._api.notes.lag}; query: {self.query.shown}"
            )
            if is_over:
                raise LowerBoundError(words, reason="stale", history=series)
            raise SourceError(words, reason="stale")


def _sum_instant(response: QueryResponse, at: datetime, step: float) -> Load:
    """The sum of the answer's series, one value, NaN if absent.

    A server that ignores ``time`` answers for its own now, which is less than a step after ``at``: that counts too.
    """
    seconds = at.timestamp()
    placed = [
        [(seconds if seconds - step / 2 <= when < seconds + step else when, value) for when, value in points]
        for points in instant_series(response)
    ]
    return sum_load(placed, at, at, step)
