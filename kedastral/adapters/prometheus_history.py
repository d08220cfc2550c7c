# SPDX-License-Identifier: Apache-2.0
"""History from Prometheus: days of load in one go, in chunks that the server accepts."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import attrs
import httpx
import numpy as np

from kedastral.adapters.http_client import one_line
from kedastral.adapters.prometheus_memory import Notices
from kedastral.adapters.prometheus_range import POINTS_PER_REQUEST, RangeQuery
from kedastral.adapters.prometheus_reading import Reading
from kedastral.adapters.request_limits import RequestLimits
from kedastral.core.series import Floats, Series
from kedastral.errors import SourceError

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

        Raises SourceError with a reason as `kedastral.adapters.prometheus.PrometheusSource.history`.
        """
        start, end = self.asked.grid(now)
        notices = Notices()
        parts = [await self._read_chunk(first, last, notices) for first, last in self._chunks(start, end)]
        series = Series(start, self.asked.step, np.concatenate(parts))
        if series.newest is None:
            query = one_line(self.asked.query, 200)
            raise SourceError(
                f"Prometheus has no value from {start:%Y-%m-%dT%H:%MZ} to {end:%Y-%m-%dT%H:%MZ}; query: {query}",
                reason="empty",
            )
        return series

    async def _read_chunk(self, start: datetime, end: datetime, notices: Notices) -> Floats:
        question = self.asked.question(start, end)
        reading = Reading(self.client, self.limits, notices, self.timeout)
        return await reading.ask(question, lambda answer: self.asked.values(answer, start, end), hurried=False)

    def _chunks(self, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        step = timedelta(seconds=self.asked.step)
        points = round((end - start) / step) + 1
        for first in range(0, points, self.points_per_request):
            yield start + first * step, start + (min(first + self.points_per_request, points) - 1) * step
