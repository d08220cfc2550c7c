# SPDX-License-Identifier: Apache-2.0
"""What the Prometheus source remembers between ticks: values gathered one by one, and remarks already logged."""

import logging
from datetime import datetime

import attrs
import httpx
import trio

from kedastral.adapters.http import one_line
from kedastral.adapters.prometheus.answer import QueryResponse, instant_series, sum_series
from kedastral.adapters.prometheus.api import HistoryRequest, Question, WarningLog
from kedastral.adapters.prometheus.limits import RequestLimits
from kedastral.adapters.prometheus.range_queries import POINTS_PER_REQUEST, CachedRange, RangeQuery, in_seconds
from kedastral.core.series import Series, series_from_points
from kedastral.errors import NotServedError, SourceError

RANGE_AGAIN_AFTER = 600.0
"""Seconds until range queries are tried again where they were never served."""
log = logging.getLogger("kedastral.source")


@attrs.define
class InstantFallback:
    """Instant values gathered into a short series while range queries are not served.

    Where they were served before, they are tried again at each tick.
    """

    _range_again_at: float | None = None
    _range_worked_at: float | None = None
    _values: dict[float, float] = attrs.field(factory=dict)

    def is_on(self) -> bool:
        return self._range_again_at is not None and trio.current_time() < self._range_again_at

    @property
    def is_in_use(self) -> bool:
        """Whether the newest reading was of an instant value; needs no clock."""
        return self._range_again_at is not None

    def is_worth_waiting(self, seconds: float) -> bool:
        """Whether a range query was answered in the last ``seconds``: that one is not served is a passing mistake."""
        return self._range_worked_at is not None and trio.current_time() < self._range_worked_at + seconds

    def turn_on(self, error: NotServedError) -> None:
        if self._range_again_at is None:
            log.warning("range queries are not served, gathering one value per tick instead: %s", error)
        self._range_again_at = trio.current_time() + (RANGE_AGAIN_AFTER if self._range_worked_at is None else 0.0)

    def turn_off(self) -> None:
        self._range_again_at, self._range_worked_at = None, trio.current_time()

    def gather(self, value: float, start: datetime, end: datetime, step: float) -> Series:
        """What was gathered from ``start`` on, with ``value`` at ``end`` as the newest."""
        self._values[end.timestamp()] = value
        self._values = {at: kept for at, kept in self._values.items() if start.timestamp() <= at <= end.timestamp()}
        first = datetime.fromtimestamp(min(self._values), end.tzinfo)
        return series_from_points(self._values.items(), first, end, step)


# --- `PrometheusSource`: the load of one workload, read from Prometheus as a regular series.

__all__ = ["POINTS_PER_REQUEST", "TIMEOUT", "PrometheusSource", "RangeQuery"]

TIMEOUT = 10.0
"""Seconds for one reading of the history, whatever it takes: chunks, retries and the fallback included."""


@attrs.frozen(eq=False)
class PrometheusSource:
    """A `kedastral.core.ports.MetricSource` on the query API behind ``client`` (`open_prometheus_client`).

    Reads its window once, in chunks of ``points_per_request``, newest first; afterwards what is new, and an overlap for
    samples that came late. Where the server has no range queries, one instant value per tick; where it had them, that
    is an error at first, and what was read goes on with such values if it lasts. ``limits`` are shared by the sources
    that read from the same server; a reading has ``timeout`` seconds, waiting for its turn not counted.
    """

    name = "prometheus"

    client: httpx.AsyncClient
    asked: RangeQuery
    points_per_request: int = attrs.field(default=POINTS_PER_REQUEST, validator=attrs.validators.ge(1))
    limits: RequestLimits = attrs.field(factory=RequestLimits)
    timeout: float = TIMEOUT
    _range: CachedRange = attrs.field(init=False, repr=False)
    _fallback: InstantFallback = attrs.field(factory=InstantFallback, init=False, repr=False)
    _notices: WarningLog = attrs.field(factory=WarningLog, init=False, repr=False)

    @_range.default
    def _read_nothing_yet(self) -> CachedRange:
        return CachedRange(self.asked, self.points_per_request)

    @property
    def progress(self) -> float:
        """The share of the window that has been read, gaps included: below 1 the backfill goes on.

        1 as well where there is no backfill, because range queries are not served.
        """
        return 1.0 if self._fallback.is_in_use else self._range.progress

    async def history(self, now: datetime) -> Series:
        """The window up to ``now``, several series summed; it may hold gaps, but not only gaps.

        Until all of the window has been read (`progress`), its newest part, which has no hole.

        Raises SourceError with reason unreachable, timeout, http_status, refused, bad_answer, credentials, empty (no
        finite value) or stale (the newest is older than ``stale_after`` + step).
        """
        start, end = self.asked.grid(now)
        reading = HistoryRequest(self.client, self.limits, self._notices, self.timeout)
        series = await self._read(reading, start, end)
        self._require_fresh(series, now)
        return series

    async def _read(self, reading: HistoryRequest, start: datetime, end: datetime) -> Series:
        if self._fallback.is_on():
            return await self._read_instant(reading, start, end)
        try:
            series = await self._range.read(reading, end)
        except NotServedError as error:
            if self._fallback.is_worth_waiting(self.asked.stale_after / 2):
                raise  # a proxy's mistake, most likely; the plan made from the answer before is not stale yet
            series = await self._read_instant(reading, start, end)
            self._fallback.turn_on(error)  # only now that the other query is served: a wrong URL serves neither
        else:
            self._fallback.turn_off()
        return series

    async def _read_instant(self, reading: HistoryRequest, start: datetime, end: datetime) -> Series:
        question = Question("query", {"query": self.asked.query, "time": in_seconds(end.timestamp())})
        value = await reading.ask(question, lambda answer: _instant_value(answer, end, self.asked.step), hurried=True)
        return self._range.continued_by(self._fallback.gather(value, start, end, self.asked.step))

    def _require_fresh(self, series: Series, now: datetime) -> None:
        query = one_line(self.asked.query, 200)
        if series.newest is None:
            span = f"{series.start:%Y-%m-%dT%H:%M:%SZ} to {series.time_at(len(series) - 1):%Y-%m-%dT%H:%M:%SZ}"
            raise SourceError(
                f"no series, or none with a finite value >= 0, from {span}; query: {query}", reason="empty"
            )
        age = (now - series.newest.at).total_seconds()
        oldest = self.asked.stale_after + self.asked.step
        if age > oldest:
            when = f"{series.newest.at:%Y-%m-%dT%H:%M:%SZ}"
            raise SourceError(
                f"the newest value, of {when}, is {age:.0f} s old, more than the {oldest:g} s of --stale-after and a "
                f"step; query: {query}",
                reason="stale",
            )


def _instant_value(answer: QueryResponse, at: datetime, step: float) -> float:
    """The sum of the answer's series, NaN if absent.

    A server that knows no ``time`` answers for its own now, which is less than a step after ``at``: that counts too.
    """
    seconds = at.timestamp()
    placed = [
        [(seconds if seconds - step / 2 <= when < seconds + step else when, value) for when, value in points]
        for points in instant_series(answer)
    ]
    return float(sum_series(placed, at, at, step).values[0])
