# SPDX-License-Identifier: Apache-2.0
"""The limits of a data source: how many at once, how many a second, and who goes first."""

import math
from itertools import pairwise
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from kedastral.adapters.prometheus.limits import (
    MIN_SLOW_SECONDS,
    URGENT_IN_A_ROW,
    NoSlotError,
    RequestLimits,
    RequestSlot,
    TimeBudget,
)
from tests.adapters.answers import ask_within


class Queue:
    """Tasks that query one data source, and the order and times in which they were let through."""

    def __init__(self, limits: RequestLimits, lasting: float = 0.0) -> None:
        self.limits = limits
        self.lasting = lasting
        self.asking = self.now = self.most = 0
        self.order: list[str] = []
        self.times: list[float] = []

    async def ask(self, name: str, urgent: bool = True) -> None:
        async def request(slot: RequestSlot) -> None:
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await slot.wait_for_turn()
                self.order.append(name)
                self.times.append(trio.current_time())
                await trio.sleep(self.lasting)
            finally:
                self.now -= 1

        self.asking += 1
        try:
            await ask_within(self.limits, request, urgent=urgent)
        finally:
            self.asking -= 1


@pytest.mark.parametrize("places", [1, 3, 8])
async def test_no_more_than_so_many_at_once_and_none_is_forgotten(autojump_clock: MockClock, places: int) -> None:
    queue = Queue(RequestLimits(max_concurrent=places), lasting=0.5)
    async with trio.open_nursery() as nursery:
        for index in range(20):
            nursery.start_soon(queue.ask, str(index), index % 3 > 0)
    assert queue.most == places
    assert len(queue.order) == 20


async def test_so_many_a_second_and_never_in_bursts(autojump_clock: MockClock) -> None:
    queue = Queue(RequestLimits(max_per_second=10))
    await trio.sleep(100)
    async with trio.open_nursery() as nursery:
        for index in range(31):
            nursery.start_soon(queue.ask, str(index))
    gaps = [after - before for before, after in pairwise(queue.times)]
    assert gaps == pytest.approx([0.1] * 30)
    assert queue.times[0] == pytest.approx(queue.times[-1] - 3)


async def test_first_come_first_served(autojump_clock: MockClock) -> None:
    queue = Queue(RequestLimits(max_concurrent=2, max_per_second=5), lasting=0.5)
    async with trio.open_nursery() as nursery:
        for index in range(12):
            nursery.start_soon(queue.ask, f"{index:02}")
            await wait_all_tasks_blocked()
    assert queue.order == sorted(queue.order)


async def test_a_small_request_overtakes_the_backfill_of_a_starting_fleet(autojump_clock: MockClock) -> None:
    queue = Queue(RequestLimits(max_concurrent=8, max_per_second=2))
    async with trio.open_nursery() as nursery:
        for index in range(100):
            nursery.start_soon(queue.ask, f"backfill {index}", False)
        await trio.sleep(5.2)
        began, before = trio.current_time(), len(queue.order)
        await queue.ask("steady")
        assert trio.current_time() - began <= 2 / 2
        assert len(queue.order) - before <= 2
        nursery.cancel_scope.cancel()


async def test_the_backfill_leaves_places_for_others(autojump_clock: MockClock) -> None:
    queue = Queue(RequestLimits(max_concurrent=8), lasting=1000.0)
    async with trio.open_nursery() as nursery:
        for index in range(20):
            nursery.start_soon(queue.ask, f"backfill {index}", False)
        await trio.sleep(MIN_SLOW_SECONDS / 2)
        assert queue.now == 4
        with trio.fail_after(1):
            await ask_within(queue.limits, RequestSlot.wait_for_turn)
        nursery.cancel_scope.cancel()


async def test_however_many_are_in_a_hurry_the_backfill_is_not_starved(autojump_clock: MockClock) -> None:
    queue = Queue(RequestLimits(max_per_second=1))

    async def hurry_again_and_again(name: str) -> None:
        while True:
            await queue.ask(name)

    async with trio.open_nursery() as nursery:
        for index in range(20):
            nursery.start_soon(hurry_again_and_again, f"steady {index}")
        await trio.sleep(10)
        await queue.ask("backfill", False)
        overtaken = queue.order[11:].index("backfill")
        nursery.cancel_scope.cancel()
    assert URGENT_IN_A_ROW - 1 <= overtaken <= URGENT_IN_A_ROW + 1


@given(
    tasks=st.lists(st.tuples(st.booleans(), st.floats(0, 5), st.floats(0, 3)), max_size=30),
    places=st.integers(1, 5),
    rate=st.floats(0.5, 100),
    lasting=st.sampled_from([0.3, 2.0]),
)
def test_whoever_gives_up_takes_nothing_along(
    tasks: list[tuple[bool, float, float]], places: int, rate: float, lasting: float
) -> None:
    queue = Queue(RequestLimits(places, rate), lasting)

    async def give_up(urgent: bool, begin: float, patience: float) -> None:
        await trio.sleep(begin)
        with trio.move_on_after(patience):
            await queue.ask("x", urgent)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for task in tasks:
                nursery.start_soon(give_up, *task)
        assert queue.asking == 0
        with trio.fail_after(1 / rate + lasting + 0.1):
            await queue.ask("last", False)
        await fill(queue.limits, places)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert queue.most <= places
    assert all(b - a >= 1 / rate - 1e-9 for a, b in pairwise(queue.times))


async def fill(limits: RequestLimits, places: int) -> None:
    """Use all slots at once."""
    here = 0

    async def request(_slot: RequestSlot) -> None:
        nonlocal here
        here += 1
        await trio.sleep(MIN_SLOW_SECONDS / 10)
        assert here == places

    async with trio.open_nursery() as nursery:
        for _ in range(places):
            nursery.start_soon(ask_within, limits, request)


async def test_without_numbers_nobody_waits(autojump_clock: MockClock) -> None:
    queue = Queue(RequestLimits())
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for index in range(100):
            nursery.start_soon(queue.ask, str(index), bool(index % 2))
    assert trio.current_time() == began


@pytest.mark.parametrize(
    "wrong",
    [
        *({"max_concurrent": number} for number in (0, 1.5, math.nan)),
        *({"max_per_second": number} for number in (0.0, -1.0, math.nan)),
    ],
)
def test_limits_that_let_nobody_through_cannot_be_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RequestLimits(**wrong)


async def test_the_time_of_requests_and_the_patience_are_spent_apart(autojump_clock: MockClock) -> None:
    time = TimeBudget(10.0, patience=3.0)
    with time.asking():
        await trio.sleep(4)
    await trio.sleep(1000)
    with time.waiting():
        await trio.sleep(2)
    with time.asking():
        await trio.sleep(1)
    assert (time.left, time.patience) == pytest.approx((5, 1))
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError), time.asking():
        await trio.sleep(100)
    assert trio.current_time() - began == pytest.approx(5)
    with pytest.raises(NoSlotError), time.waiting():
        await trio.sleep(100)
    assert trio.current_time() - began == pytest.approx(6)
    assert (time.left, time.patience) == (0, 0)


async def test_whoever_finds_no_slot_in_time_goes_without(autojump_clock: MockClock) -> None:
    limits = RequestLimits(max_concurrent=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Queue(limits, lasting=100.0).ask, "first")
        await trio.sleep(0.1)
        with pytest.raises(NoSlotError):
            async with limits.slot(TimeBudget(10.0, patience=0.5), urgent=True):
                raise AssertionError
        assert trio.current_time() == pytest.approx(0.6)
        nursery.cancel_scope.cancel()
