# SPDX-License-Identifier: Apache-2.0
"""What the Prometheus source remembers between ticks: values gathered one by one, and remarks already logged."""

import logging
from collections.abc import Sequence
from datetime import datetime

import attrs
import trio

from kedastral.adapters.http_client import one_line
from kedastral.adapters.prometheus_answer import Answer
from kedastral.adapters.prometheus_api import NotServedError
from kedastral.core.series import Series, series_from_points

RANGE_AGAIN_AFTER = 600.0
"""Seconds until range queries are tried again where they were never served."""
NOTICES_REMEMBERED = 100
NOTICES_PER_ANSWER = 10

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


@attrs.define
class Notices:
    """Logs what Prometheus remarks on an answer, each text once; remembers the newest texts only."""

    _seen: dict[tuple[int, str], None] = attrs.field(factory=dict)

    def log(self, answer: Answer) -> None:
        self._log(logging.WARNING, answer.warnings)
        self._log(logging.INFO, answer.infos)

    def _log(self, level: int, texts: Sequence[str]) -> None:
        for text in map(one_line, texts[:NOTICES_PER_ANSWER]):
            if (level, text) not in self._seen:
                log.log(level, "Prometheus remarks: %s", text)
            self._seen[level, text] = None
            if len(self._seen) > NOTICES_REMEMBERED:
                del self._seen[next(iter(self._seen))]
