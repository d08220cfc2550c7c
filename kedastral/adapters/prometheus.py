# SPDX-License-Identifier: Apache-2.0
"""`PrometheusSource`: the load of one workload, read from Prometheus as a regular series."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import attrs
import httpx
import numpy as np
import trio

from kedastral.adapters.http_client import one_line
from kedastral.adapters.prometheus_answer import Answer, instant_series, range_series, sum_series
from kedastral.adapters.prometheus_api import NotServedError, PrometheusApi, Question
from kedastral.adapters.prometheus_memory import InstantFallback, Notices
from kedastral.core.series import Series, align_down, require_positive
from kedastral.errors import SourceError

TIMEOUT = 10.0
"""Seconds for one reading of the history, whatever it takes: chunks, retries and the fallback included."""
POINTS_PER_REQUEST = 11_000
"""What Prometheus gives per series at most."""


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

    def grid(self, now: datetime) -> tuple[datetime, datetime]:
        """The first and the last of the ``window / step`` points (at least one) that end with the newest <= ``now``."""
        end = align_down(now, self.step)
        points = max(1, int(self.window / self.step + 1e-9))
        return end - timedelta(seconds=(points - 1) * self.step), end


@attrs.frozen(eq=False)
class PrometheusSource:
    """A `kedastral.core.ports.MetricSource` on the query API behind ``client`` (`open_prometheus_client`).

    Reads range queries, in chunks of ``points_per_request``; where the server has none, one instant value per tick.
    """

    name = "prometheus"

    client: httpx.AsyncClient
    asked: RangeQuery
    points_per_request: int = attrs.field(default=POINTS_PER_REQUEST, validator=attrs.validators.ge(1))
    _fallback: InstantFallback = attrs.field(factory=InstantFallback, init=False, repr=False)
    _notices: Notices = attrs.field(factory=Notices, init=False, repr=False)

    async def history(self, now: datetime) -> Series:
        """The window up to ``now``, several series summed; it may hold gaps, but not only gaps.

        All of it, chunks and retries included, has 10 s: a tick must not outlast its interval because a window is long.

        Raises SourceError with reason unreachable, timeout, http_status, refused, bad_answer, credentials, empty (no
        finite value) or stale (the newest is older than ``stale_after`` + step).
        """
        try:
            with trio.fail_after(TIMEOUT):
                series = await self._read(now)
        except trio.TooSlowError as error:
            question = self._range_question(*self.asked.grid(now))
            raise self._api.error(question, f"no complete answer within {TIMEOUT:g} s", "timeout") from error
        self._require_fresh(series, now)
        return series

    @property
    def _api(self) -> PrometheusApi:
        return PrometheusApi(self.client)

    async def _read(self, now: datetime) -> Series:
        start, end = self.asked.grid(now)
        if self._fallback.is_on():
            return await self._read_instant(start, end)
        try:
            series = await self._read_range(start, end)
        except NotServedError as error:
            series = await self._read_instant(start, end)
            self._fallback.turn_on(error)  # only now that the other query is served: a wrong URL serves neither
        else:
            self._fallback.turn_off()
        return series

    async def _read_range(self, start: datetime, end: datetime) -> Series:
        parts = [await self._read_chunk(first, last) for first, last in self._chunks(start, end)]
        return Series(start, self.asked.step, np.concatenate([part.values for part in parts]))

    async def _read_chunk(self, start: datetime, end: datetime) -> Series:
        question = self._range_question(start, end)
        answer = await self._ask(question)
        return await self._api.read_apart(
            question, lambda: sum_series(range_series(answer), start, end, self.asked.step), answer.size
        )

    async def _read_instant(self, start: datetime, end: datetime) -> Series:
        question = Question("query", {"query": self.asked.query, "time": _seconds(end.timestamp())})
        answer = await self._ask(question)
        value = self._api.read(question, lambda: _instant_value(answer, end, self.asked.step))
        return self._fallback.gather(value, start, end, self.asked.step)

    async def _ask(self, question: Question) -> Answer:
        answer = await self._api.ask(question)
        self._notices.log(answer)
        return answer

    def _range_question(self, start: datetime, end: datetime) -> Question:
        times = {"start": start.timestamp(), "end": end.timestamp(), "step": self.asked.step}
        return Question("query_range", {"query": self.asked.query, **{key: _seconds(at) for key, at in times.items()}})

    def _chunks(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        step = self.asked.step
        points = round((end - start).total_seconds() / step) + 1
        for first in range(0, points, self.points_per_request):
            last = min(first + self.points_per_request, points) - 1
            yield start + timedelta(seconds=first * step), start + timedelta(seconds=last * step)

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
                f"the newest value is of {when}, {age:.0f} s ago, where {oldest:g} s is the most; query: {query}",
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


def _seconds(value: float) -> str:
    """Seconds as Prometheus reads them, without an exponent."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
