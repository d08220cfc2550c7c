# SPDX-License-Identifier: Apache-2.0
"""The only module that reads wall-clock time; everything else gets a `WallClock`.

Two clocks run in the process: wall time, an aware UTC `datetime`, says which minute a forecast is for; Trio's clock
(``trio.current_time()``, monotonic) says how long to wait. They are never mixed.
"""

from datetime import UTC, datetime, timedelta
from typing import Protocol

import attrs
import trio


class WallClock(Protocol):
    """Provides the wall time and its speed."""

    @property
    def speed(self) -> float:
        """Seconds of wall time per second of Trio's clock."""
        ...

    def now(self) -> datetime:
        """The wall time, aware, in UTC."""
        ...


@attrs.frozen
class SystemClock:
    """The machine's own clock."""

    speed: float = attrs.field(default=1.0, init=False)

    def now(self) -> datetime:
        return datetime.now(UTC)


@attrs.define
class AcceleratedClock:
    """A wall clock tied to Trio's, ``speed`` times as fast, that shows ``start`` when Trio's clock shows ``origin``.

    With ``origin`` None it stands still at ``start`` until `begin`.

    With it a day passes in minutes in the demo; under Trio's virtual clock it makes wall time virtual too.
    """

    start: datetime
    speed: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    origin: float | None = attrs.field(factory=trio.current_time)

    def begin(self) -> None:
        """Start running now, from ``start``."""
        self.origin = trio.current_time()

    def now(self) -> datetime:
        if self.origin is None:
            return self.start
        return self.start + timedelta(seconds=(trio.current_time() - self.origin) * self.speed)
