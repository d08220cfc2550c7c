# SPDX-License-Identifier: Apache-2.0
"""`RequestSlots`: so many requests at a time, first come first served; one that is unusually slow gives way to who
waits."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import TypeVar

import attrs
import trio

TRIAL = 1.0
"""Seconds that any request may take before it has to give way."""
UNUSUAL = 4.0
"""And this many times what answers take usually: where the whole server is slow, nobody has to give way."""
NEWEST_COUNTS = 0.1
"""Share of the newest answer in what is usual."""

T = TypeVar("T")


@attrs.define(eq=False)
class PendingRequest:
    """One request that holds a place: how long it has been asking, waiting for its turns not counted."""

    take_turn: Callable[[], Awaitable[None]]
    on_change: Callable[[], None]
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    since: float | None = attrs.field(default=None, init=False)
    """When the attempt that is under way was sent."""
    _before: float = attrs.field(default=0.0, init=False)

    @property
    def seconds(self) -> float:
        """How long all attempts have taken so far."""
        return self._before + (0.0 if self.since is None else trio.current_time() - self.since)

    async def turn(self) -> None:
        """Wait until one more request may be sent."""
        self._before, self.since = self.seconds, None
        self.on_change()
        await self.take_turn()
        self.since = trio.current_time()
        self.on_change()


@attrs.define(eq=False)
class RequestSlots:
    """``total`` places. Those `on_trial` lose theirs while others wait, once they take unusually long."""

    total: float
    _free: trio.CapacityLimiter = attrs.field(init=False)
    _waiting: int = attrs.field(default=0, init=False)
    _on_trial: set[PendingRequest] = attrs.field(factory=set, init=False)
    _usual: float = attrs.field(default=0.0, init=False)

    @_free.default
    def _all_free(self) -> trio.CapacityLimiter:
        return trio.CapacityLimiter(self.total)

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return self._waiting

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """One of the places; waits for it."""
        try:
            self._free.acquire_nowait()
        except trio.WouldBlock:
            await self._wait()
        try:
            yield
        finally:
            self._free.release()

    @contextmanager
    def on_trial(self, asking: PendingRequest) -> Iterator[None]:
        """Cancel the scope of ``asking`` where it has to give way in here."""
        self._on_trial.add(asking)
        try:
            yield
        finally:
            self._on_trial.discard(asking)

    async def note(self, asking: PendingRequest, answer: Awaitable[T]) -> T:
        """The ``answer`` to ``asking``, which belongs to what is usual here."""
        answered = await answer
        self._usual += (asking.seconds - self._usual) * (NEWEST_COUNTS if self._usual else 1.0)
        self.look_again()
        return answered

    def look_again(self) -> None:
        """Say anew until when each of those on trial may ask: for ever while nobody waits."""
        most = max(TRIAL, UNUSUAL * self._usual) if self._waiting else math.inf
        for asking in self._on_trial:
            asking.scope.deadline = math.inf if asking.since is None else asking.since + most

    def resize(self, total: float) -> None:
        """Have ``total`` places from now on; whoever has one keeps it."""
        self._free.total_tokens = total

    async def _wait(self) -> None:
        self._waiting += 1
        self.look_again()
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
            self.look_again()


# --- `RequestLimits`: how hard one data source may be asked, by all who read from it together.

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


Turn = Callable[[], Awaitable[None]]
"""Waits until one more request may be sent."""


@attrs.define(eq=False)
class RequestLimits:
    """At most ``max_concurrent`` requests at once, and one each ``1 / max_per_second`` seconds; never in bursts.

    One object for each data source, shared by all sources that read from it. The small requests of steady ticks are in
    a hurry; those of a backfill have half of the places at most, and are overtaken (`HURRIED_IN_A_ROW`). Otherwise
    first come, first served. Either limit may be infinite.

    Who takes unusually long while others wait gives way, and queues for a quarter of the places, which are kept for
    such as long as there are any: they are all asked in their turn, and however many there are, they keep nobody else
    waiting.
    """

    max_concurrent: float = attrs.field(default=math.inf, validator=_require_places)
    max_per_second: float = attrs.field(default=math.inf, validator=_require_above_zero)
    _all: RequestSlots = attrs.field(init=False, repr=False)
    _open: RequestSlots = attrs.field(init=False, repr=False)
    _patient: RequestSlots = attrs.field(init=False, repr=False)
    _apart: RequestSlots = attrs.field(init=False, repr=False)
    _gave_way: int = attrs.field(default=0, init=False, repr=False)
    _pace: _Pace = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        total = self.max_concurrent
        self._all, self._open = RequestSlots(total), RequestSlots(total)
        self._patient, self._apart = RequestSlots(_share(total, 2)), RequestSlots(_share(total, 4))
        self._pace = _Pace(1 / self.max_per_second)

    @property
    def waiting(self) -> int:
        """How many wait for a place or for their turn."""
        return sum(one.waiting for one in (self._all, self._open, self._patient, self._apart, self._pace))

    async def ask(
        self, request: Callable[[Turn], Awaitable[T]], waiting: "TimeBudget | None" = None, *, hurried: bool
    ) -> T:
        """What ``request`` gives, once there is a place for it; it has to wait for its turn before each attempt.

        Where it has to give way it is cancelled, and made once more. Raises what it raises, and trio.TooSlowError when
        the seconds of ``waiting`` are over before there is a place.
        """
        waiting = waiting or TimeBudget(math.inf)
        places = self._open if hurried else self._patient
        asking = PendingRequest(partial(self._pace.keep, hurried=hurried), places.look_again)
        with waiting.running():
            async with nullcontext() if hurried else self._patient.one(), self._open.one(), self._all.one():
                with waiting.stopped(), places.on_trial(asking), asking.scope:
                    return await places.note(asking, request(asking.turn))
        with waiting.running():
            async with self._place_apart():
                with waiting.stopped():
                    again = attrs.evolve(asking)
                    return await places.note(again, request(again.turn))

    @asynccontextmanager
    async def _place_apart(self) -> AsyncIterator[None]:
        """One of the places that nobody else may have while this waits or asks."""
        self._gave_way += 1
        self._open.resize(max(1, self.max_concurrent - self._apart.total))
        only_one = self.max_concurrent == 1  # which cannot be kept: then all queue for it, one of these at a time
        try:
            async with self._apart.one(), self._open.one() if only_one else nullcontext(), self._all.one():
                yield
        finally:
            self._gave_way -= 1
            if not self._gave_way:
                self._open.resize(self.max_concurrent)


def _share(places: float, part: int) -> float:
    return places if math.isinf(places) else max(1, places // part)


@attrs.define(eq=False)
class TimeBudget:
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
