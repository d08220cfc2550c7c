# SPDX-License-Identifier: Apache-2.0
"""`Places`: so many requests at a time, first come first served; one that is unusually slow gives way to who waits."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
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
class Asking:
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
class Places:
    """``total`` places. Those `on_trial` lose theirs while others wait, once they take unusually long."""

    total: float
    _free: trio.CapacityLimiter = attrs.field(init=False)
    _waiting: int = attrs.field(default=0, init=False)
    _on_trial: set[Asking] = attrs.field(factory=set, init=False)
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
    def on_trial(self, asking: Asking) -> Iterator[None]:
        """Cancel the scope of ``asking`` where it has to give way in here."""
        self._on_trial.add(asking)
        try:
            yield
        finally:
            self._on_trial.discard(asking)

    async def note(self, asking: Asking, answer: Awaitable[T]) -> T:
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
