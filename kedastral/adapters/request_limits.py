# SPDX-License-Identifier: Apache-2.0
"""`RequestLimits`: how hard one data source may be asked, by all who read from it together."""

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext

import attrs
import trio

HURRIED_IN_A_ROW = 7
"""Requests in a hurry that may overtake one that is not, so that however many there are, nobody waits for ever."""


def _require_places(_instance: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not value >= 1 or (value != math.inf and value != int(value)):
        raise ValueError(f"{attribute.name} must be a whole number of at least 1, got {value!r}")


def _require_above_zero(_instance: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name} must be above 0, got {value!r}")


@attrs.define(eq=False)
class _Pace:
    """Lets one task through every ``apart`` seconds: those in a hurry first, else in the order they came."""

    apart: float
    _next_at: float = -math.inf
    _taken: bool = False
    _hurried: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _patient: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _overtaken: int = 0

    @property
    def waiting(self) -> int:
        return len(self._hurried) + len(self._patient) + self._taken

    async def keep(self, *, hurried: bool) -> None:
        if self._taken:
            await (self._hurried if hurried else self._patient).park()  # woken as the one whose turn it is
        self._taken = True
        try:
            await trio.sleep_until(max(self._next_at, trio.current_time()))
            self._next_at = trio.current_time() + self.apart
        finally:
            self._hand_on()

    def _hand_on(self) -> None:
        if not self._patient:
            self._overtaken = 0
        if self._hurried and self._overtaken < HURRIED_IN_A_ROW:
            self._overtaken += bool(self._patient)
            self._hurried.unpark()
        elif self._patient:
            self._overtaken = 0
            self._patient.unpark()
        else:
            self._taken = False


@attrs.define(eq=False)
class RequestLimits:
    """At most ``max_concurrent`` requests at once, and one each ``1 / max_per_second`` seconds; never in bursts.

    One object for each data source, shared by all sources that read from it. The small requests of steady ticks are in
    a hurry; those of a backfill have half of the places at most, and are overtaken (`HURRIED_IN_A_ROW`). Otherwise
    first come, first served. Either limit may be infinite.
    """

    max_concurrent: float = attrs.field(default=math.inf, validator=_require_places)
    max_per_second: float = attrs.field(default=math.inf, validator=_require_above_zero)
    _all: trio.CapacityLimiter = attrs.field(init=False, repr=False)
    _patient: trio.CapacityLimiter = attrs.field(init=False, repr=False)
    _pace: _Pace = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        places = self.max_concurrent if math.isinf(self.max_concurrent) else int(self.max_concurrent)
        self._all, self._patient = trio.CapacityLimiter(places), trio.CapacityLimiter(max(1, places // 2))
        self._pace = _Pace(1 / self.max_per_second)

    @property
    def waiting(self) -> int:
        """How many wait for a place or for their turn."""
        places = sum(limiter.statistics().tasks_waiting for limiter in (self._all, self._patient))
        return places + self._pace.waiting

    @asynccontextmanager
    async def place(self, *, hurried: bool) -> AsyncIterator[None]:
        """One of the places, for a request with all its retries and until its answer is read; waits for it."""
        async with nullcontext() if hurried else self._patient, self._all:
            yield

    async def turn(self, *, hurried: bool) -> None:
        """Wait until one more request may be sent."""
        await self._pace.keep(hurried=hurried)


@attrs.define(eq=False)
class Allowance:
    """Seconds that may be spent on something, ``left`` of them; they can be stopped while something else counts."""

    left: float
    _scope: trio.CancelScope | None = attrs.field(default=None, init=False)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Spend them; raises trio.TooSlowError when none is left. Not to be nested."""
        with trio.fail_after(self.left) as self._scope:
            try:
                yield
            finally:
                self.left = max(self._scope.deadline - trio.current_time(), 0.0)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Spend none meanwhile, inside of `running`."""
        if self._scope is None:
            raise RuntimeError("what does not run cannot be stopped")
        left = self._scope.deadline - trio.current_time()
        self._scope.deadline = math.inf
        try:
            yield
        finally:
            self._scope.deadline = trio.current_time() + left
