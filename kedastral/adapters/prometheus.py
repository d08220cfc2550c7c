# SPDX-License-Identifier: Apache-2.0
"""`PrometheusSource`: the load of one workload, read from Prometheus as a regular series."""

from datetime import datetime

import attrs
import httpx

from kedastral.adapters.http_client import one_line
from kedastral.adapters.prometheus_answer import Answer, instant_series, sum_series
from kedastral.adapters.prometheus_api import NotServedError, Question
from kedastral.adapters.prometheus_memory import InstantFallback, Notices
from kedastral.adapters.prometheus_range import POINTS_PER_REQUEST, KeptRange, RangeQuery, in_seconds
from kedastral.adapters.prometheus_reading import Reading
from kedastral.adapters.request_limits import RequestLimits
from kedastral.core.series import Series
from kedastral.errors import SourceError

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
    _range: KeptRange = attrs.field(init=False, repr=False)
    _fallback: InstantFallback = attrs.field(factory=InstantFallback, init=False, repr=False)
    _notices: Notices = attrs.field(factory=Notices, init=False, repr=False)

    @_range.default
    def _read_nothing_yet(self) -> KeptRange:
        return KeptRange(self.asked, self.points_per_request)

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
        reading = Reading(self.client, self.limits, self._notices, self.timeout)
        series = await self._read(reading, start, end)
        self._require_fresh(series, now)
        return series

    async def _read(self, reading: Reading, start: datetime, end: datetime) -> Series:
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

    async def _read_instant(self, reading: Reading, start: datetime, end: datetime) -> Series:
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


def _instant_value(answer: Answer, at: datetime, step: float) -> float:
    """The sum of the answer's series, NaN if absent.

    A server that knows no ``time`` answers for its own now, which is less than a step after ``at``: that counts too.
    """
    seconds = at.timestamp()
    placed = [
        [(seconds if seconds - step / 2 <= when < seconds + step else when, value) for when, value in points]
        for points in instant_series(answer)
    ]
    return float(sum_series(placed, at, at, step).values[0])
