# SPDX-License-Identifier: Apache-2.0
"""Limits on the requests to one data source: slots, requests per second, and the time budget of one read."""

import math
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import attrs
import trio

MIN_SLOW_SECONDS = 1.0
"""Seconds that any request may take before it can be made to give way."""
SLOW_FACTOR = 4.0
"""A request may have to give way after this many times the usual time, so none has to if all are slow."""
NEWEST_COUNTS = 0.1
"""Weight of the newest response in the usual time, an exponential mean."""
URGENT_IN_A_ROW = 7
"""How many urgent requests may overtake a waiting one that is not urgent, so that it does not wait forever."""


class NoSlotError(Exception):
    """No slot became free within the patience of a `TimeBudget`."""


@attrs.define(eq=False)
class TimeBudget:
    """The time that one read may take: ``total`` seconds for its requests, ``patience`` seconds waiting for slots.

    Sending, pauses between retries and reading the response count towards the requests. Waiting for the turn of a
    request counts towards neither. Must not be nested.
    """

    total: float
    patience: float = math.inf
    left: float = attrs.field(init=False)
    """The unspent seconds of ``total``."""
    _asking: trio.CancelScope | None = attrs.field(default=None, init=False)

    @left.default
    def _all_of_it(self) -> float:
        return self.total

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Spend what is ``left``; raises trio.TooSlowError when nothing is left."""
        with trio.fail_after(self.left) as scope:
            self._asking = scope
            try:
                yield
            finally:
                self._asking = None
                self.left = max(scope.deadline - trio.current_time(), 0.0)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Spend ``patience`` instead, inside `asking`; raises NoSlotError when it is over."""
        scope = self._asking
        left = math.inf if scope is None else scope.deadline - trio.current_time()
        if scope is not None:
            scope.deadline = math.inf
        try:
            with self.waiting():
                yield
        finally:
            if scope is not None:
                scope.deadline = trio.current_time() + left

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Spend ``patience``; raises NoSlotError when it is over."""
        with trio.move_on_after(self.patience) as scope:
            try:
                yield
            finally:
                self.patience = max(scope.deadline - trio.current_time(), 0.0)
        if scope.cancelled_caught:
            raise NoSlotError


@attrs.define(eq=False)
class _Pace:
    """Lets one request through every ``interval`` seconds: urgent ones first, otherwise in order of arrival."""

    interval: float
    _next_at: float = -math.inf
    _taken: bool = False
    _urgent: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _others: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    _overtaken: int = 0

    async def wait(self, *, urgent: bool) -> None:
        if self._taken:
            await (self._urgent if urgent else self._others).park()  # woken by `_pass_on` as the next one
        self._taken = True
        try:
            await trio.sleep_until(max(self._next_at, trio.current_time()))
            self._next_at = trio.current_time() + self.interval
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        if not self._others:
            self._overtaken = 0
        if self._urgent and self._overtaken < URGENT_IN_A_ROW:
            self._overtaken += bool(self._others)
            self._urgent.unpark()
        elif self._others:
            self._overtaken = 0
            self._others.unpark()
        else:
            self._taken = False


@attrs.define(eq=False)
class RequestSlot:
    """The right to have one request in flight; each attempt to send it needs a turn (`wait_for_turn`).

    Make the request inside ``with slot.scope``, which is cancelled if it has to give way.
    """

    _group: "_SlotGroup"
    _pace: _Pace
    _urgent: bool
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    sent_at: float | None = attrs.field(default=None, init=False)
    """When the current attempt was sent; None while it waits for its turn."""
    _spent: float = attrs.field(default=0.0, init=False)

    @property
    def seconds(self) -> float:
        """How long all attempts have taken so far, not counting the wait for turns."""
        return self._spent + (0.0 if self.sent_at is None else trio.current_time() - self.sent_at)

    async def wait_for_turn(self) -> None:
        """Wait until one more request may be sent."""
        with self.paused():
            await self._pace.wait(urgent=self._urgent)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count the time inside."""
        self._spent, self.sent_at = self.seconds, None
        self._group.set_deadlines()
        yield
        self.sent_at = trio.current_time()
        self._group.set_deadlines()


@attrs.define(eq=False)
class LargeAnswer:
    """The right to hold one large answer, taken by `admit` once the answer proves to be one.

    The wait for it counts like the wait for a slot: not as time of the request, only as patience.
    """

    _room: trio.CapacityLimiter
    _slot: RequestSlot
    _time: TimeBudget
    _is_admitted: bool = attrs.field(default=False, init=False)

    async def admit(self) -> None:
        """Wait for the right, unless it is held already. Raises NoSlotError if the patience runs out."""
        if self._is_admitted:
            return
        with self._slot.paused(), self._time.paused():
            await self._room.acquire_on_behalf_of(self)
        self._is_admitted = True

    def release(self) -> None:
        """Give the right back if it is held: the answer is no longer in memory."""
        if self._is_admitted:
            self._room.release_on_behalf_of(self)
            self._is_admitted = False


@attrs.define(eq=False)
class _SlotGroup:
    """``total`` slots, first come, first served. Unusually slow requests give way to those waiting."""

    total: float
    _free: trio.CapacityLimiter = attrs.field(init=False)
    _waiting: int = attrs.field(default=0, init=False)
    _preemptible: set[RequestSlot] = attrs.field(factory=set, init=False)
    _usual: float = attrs.field(default=0.0, init=False)

    @_free.default
    def _all_free(self) -> trio.CapacityLimiter:
        return trio.CapacityLimiter(self.total)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        try:
            self._free.acquire_nowait()
        except trio.WouldBlock:
            await self._wait()
        try:
            yield
        finally:
            self._free.release()

    @contextmanager
    def preempting(self, slot: RequestSlot) -> Iterator[None]:
        """Cancel the scope of ``slot`` if its request has to give way inside this block."""
        self._preemptible.add(slot)
        try:
            yield
        finally:
            self._preemptible.discard(slot)

    def note_answer(self, slot: RequestSlot) -> None:
        """Note that the request of ``slot`` was answered: its time updates the usual time."""
        self._usual += (slot.seconds - self._usual) * (NEWEST_COUNTS if self._usual else 1.0)
        self.set_deadlines()

    def set_deadlines(self) -> None:
        """Reset the deadline of each request; there is none while nobody waits."""
        longest = max(MIN_SLOW_SECONDS, SLOW_FACTOR * self._usual) if self._waiting else math.inf
        for slot in self._preemptible:
            slot.scope.deadline = math.inf if slot.sent_at is None else slot.sent_at + longest

    def resize(self, total: float) -> None:
        """Change the number of slots to ``total``; slots in use are kept."""
        self._free.total_tokens = total

    async def _wait(self) -> None:
        self._waiting += 1
        self.set_deadlines()
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
            self.set_deadlines()


def _require_slots(_instance: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not value >= 1 or (value != math.inf and value != int(value)):
        raise ValueError(f"{attribute.name} must be a whole number of at least 1, got {value!r}")


def _require_above_zero(_instance: object, attribute: "attrs.Attribute[float]", value: float) -> None:
    if not value > 0:
        raise ValueError(f"{attribute.name} must be above 0, got {value!r}")


@attrs.define(eq=False)
class RequestLimits:
    """At most ``max_concurrent`` requests at once, and one every ``1 / max_per_second`` seconds, without bursts.

    There is one object per data source, shared by all sources that read from it; either limit may be infinite. The
    small requests of regular ticks are urgent. Those of a backfill are not: they get at most half of the slots, and up
    to `URGENT_IN_A_ROW` urgent ones overtake each. Otherwise it is first come, first served.

    A request that takes unusually long while others wait has to give way: it is cancelled (`RequestSlot.scope`) and
    repeated in a `slow_slot`. A quarter of the slots is reserved for such requests while there are any. So each of them
    gets its turn, and others do not wait for them, however many there are.

    Only one answer at a time may be large (`large_answer`), so that memory does not grow with ``max_concurrent``.
    """

    max_concurrent: float = attrs.field(default=math.inf, validator=_require_slots)
    max_per_second: float = attrs.field(default=math.inf, validator=_require_above_zero)
    _all: _SlotGroup = attrs.field(init=False, repr=False)
    _usual: _SlotGroup = attrs.field(init=False, repr=False)
    _backfill: _SlotGroup = attrs.field(init=False, repr=False)
    _slow: _SlotGroup = attrs.field(init=False, repr=False)
    _slow_requests: int = attrs.field(default=0, init=False, repr=False)
    _pace: _Pace = attrs.field(init=False, repr=False)
    _room_for_large: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        total = self.max_concurrent
        self._all, self._usual = _SlotGroup(total), _SlotGroup(total)
        self._backfill, self._slow = _SlotGroup(_share(total, 2)), _SlotGroup(_share(total, 4))
        self._pace = _Pace(1 / self.max_per_second)

    @asynccontextmanager
    async def slot(self, time: TimeBudget, *, urgent: bool) -> AsyncIterator[RequestSlot]:
        """A slot for one request; if it has to give way, it must be repeated in a `slow_slot`.

        Raises NoSlotError if the patience of ``time`` runs out first.
        """
        group = self._usual if urgent else self._backfill
        slot = RequestSlot(group, self._pace, urgent)
        async with AsyncExitStack() as held:
            with time.waiting():
                if not urgent:
                    await held.enter_async_context(self._backfill.one())
                await held.enter_async_context(self._usual.one())
                await held.enter_async_context(self._all.one())
            with group.preempting(slot):
                yield slot
            if not slot.scope.cancelled_caught:
                group.note_answer(slot)

    @contextmanager
    def large_answer(self, slot: RequestSlot, time: TimeBudget) -> Iterator[LargeAnswer]:
        """A `LargeAnswer` for the request of ``slot``, given back at the end of the block."""
        answer = LargeAnswer(self._room_for_large, slot, time)
        try:
            yield answer
        finally:
            answer.release()

    @asynccontextmanager
    async def slow_slot(self, time: TimeBudget, *, urgent: bool) -> AsyncIterator[RequestSlot]:
        """A slot for a request that had to give way once, and need not again. Raises NoSlotError like `slot`."""
        self._slow_requests += 1
        self._usual.resize(max(1, self.max_concurrent - self._slow.total))
        try:
            async with AsyncExitStack() as held:
                with time.waiting():
                    await held.enter_async_context(self._slow.one())
                    if self.max_concurrent == 1:  # it cannot be reserved: all queue for it, slow ones one at a time
                        await held.enter_async_context(self._usual.one())
                    await held.enter_async_context(self._all.one())
                group = self._usual if urgent else self._backfill
                slot = RequestSlot(group, self._pace, urgent)
                yield slot
                group.note_answer(slot)
        finally:
            self._slow_requests -= 1
            if not self._slow_requests:
                self._usual.resize(self.max_concurrent)


def _share(total: float, part: int) -> float:
    return total if math.isinf(total) else max(1, total // part)
