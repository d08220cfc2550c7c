# SPDX-License-Identifier: Apache-2.0
"""The ticker: beats on Trio's clock that never drift or overlap, and are skipped if missed; how to spread many."""

import hashlib
import math
from collections.abc import Awaitable, Callable

import attrs
import trio


@attrs.frozen
class Beats:
    """The beats of a ticker: every ``interval`` seconds from ``origin`` on, on Trio's clock. The first has number 0."""

    origin: float
    interval: float

    @classmethod
    def from_now(cls, interval: float, offset: float = 0.0) -> "Beats":
        """The first beat is ``offset`` seconds from now, so that many tickers need not beat together."""
        return cls(trio.current_time() + offset, interval)

    def time_of(self, number: int) -> float:
        """When the beat with ``number`` is."""
        return self.origin + number * self.interval

    def next_number(self) -> int:
        """The number of the next beat; at a beat, that of the one after it."""
        return math.floor((trio.current_time() - self.origin) / self.interval + 1e-9) + 1

    def next_after_now(self) -> float:
        """The time of the next beat; at a beat, that of the one after it."""
        return self.time_of(self.next_number())


async def run_ticker(
    tick: Callable[[], Awaitable[object]],
    beats: Beats,
    on_missed: Callable[[int], None] = lambda _count: None,
    *,
    until: trio.Event | None = None,
    on_lag: Callable[[float], None] = lambda _seconds: None,
) -> None:
    """Await ``tick()`` at once and then at each of ``beats``, until cancelled.

    Beats lie on a fixed grid, so a slow tick does not move later ones. While a tick runs no other begins; the beats it
    covers are skipped, and ``on_missed`` is told how many, even if it is cancelled. ``on_lag`` is told how many seconds
    after its beat each tick begins. Returns between two ticks once ``until`` is set. Whatever ``tick`` raises
    propagates.
    """

    async def tick_and_count(beat: int) -> int:
        """Run the tick of a beat; returns the next beat that is not over yet."""
        try:
            await tick()
        finally:
            due = beats.next_number()
            if due > beat + 1:
                on_missed(due - beat - 1)
        return max(due, beat + 1)

    beat = 0
    if trio.current_time() < beats.origin:
        beat = await tick_and_count(-1)
    while await _sleep_until(beats.time_of(beat), until):
        on_lag(max(trio.current_time() - beats.time_of(beat), 0.0))
        beat = await tick_and_count(beat)


async def _sleep_until(moment: float, until: trio.Event | None) -> bool:
    """Sleep; returns whether to go on. ``until`` ends the sleep early."""
    if until is None:
        await trio.sleep_until(moment)
        return True
    with trio.move_on_at(moment):
        await until.wait()
    return not until.is_set()


def spread(key: str) -> float:
    """Where in the interval ``key`` ticks, from 0 up to 1: the same in every process, and evenly spread over keys."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest()) / 2**48
