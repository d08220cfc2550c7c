# SPDX-License-Identifier: Apache-2.0
"""Workloads whose queries hang, beside a thousand whose queries work: who waits for whom, on the virtual clock."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import attrs
import httpx
import pytest
import trio
from trio.testing import MockClock

from kedastral.adapters.prometheus.limits import MIN_SLOW_SECONDS, RequestLimits, RequestSlot
from kedastral.adapters.prometheus.source import TIMEOUT
from kedastral.errors import SourceError
from kedastral.workloads.ticker import Beats, run_ticker, spread
from tests.adapters.answers import END, ask_within, counting, source_of

INTERVAL = 30.0
STALE_AFTER = 120.0
NEVER = math.inf


@attrs.define
class Site:
    """Workloads that tick every 30 s and ask one data source, which takes ``lasts(number, now)`` seconds to answer."""

    lasts: Callable[[int, float], float]
    limits: RequestLimits = attrs.field(factory=partial(RequestLimits, 8, 50))
    answered: dict[int, list[float]] = attrs.field(factory=dict)
    asked: int = 0
    at_once: int = 0
    most: int = 0

    async def run(self, total: int, seconds: float) -> None:
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for number in range(total):
                    self.answered[number] = []
                    tick = partial(self._tick, number)
                    nursery.start_soon(run_ticker, tick, Beats.from_now(INTERVAL, spread(str(number)) * INTERVAL))

    def longest_gap(self, numbers: range, begin: float, end: float) -> float:
        """The longest time between ``begin`` and ``end`` that one of these had to wait for its next answer."""
        gaps = []
        for number in numbers:
            times = [begin, *(at for at in self.answered[number] if begin < at <= end), end]
            gaps += [after - before for before, after in pairwise(times)]
        return max(gaps)

    async def _tick(self, number: int) -> None:
        async def request(slot: RequestSlot) -> None:
            await slot.wait_for_turn()
            self.asked += 1
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            try:
                lasts = self.lasts(number, trio.current_time())
                await trio.sleep(min(lasts, TIMEOUT))
            finally:
                self.at_once -= 1
            if lasts > TIMEOUT:
                raise SourceError("no answer", reason="timeout")

        try:
            await ask_within(self.limits, request)
        except SourceError:
            return
        self.answered[number].append(trio.current_time())


def never_between(begin: float, end: float, numbers: range) -> Callable[[int, float], float]:
    return lambda number, now: NEVER if number in numbers and begin <= now < end else 0.05


@pytest.mark.parametrize("slow", [1, 100, 400])
async def test_the_others_stay_fresh_and_the_slow_ones_are_back_soon_once_they_are_answered(
    autojump_clock: MockClock, slow: int
) -> None:
    site = Site(never_between(60, 240, range(slow)))
    await site.run(1000, 300)
    assert site.longest_gap(range(slow, 1000), 0, 300) < 90
    assert site.longest_gap(range(slow, 1000), 150, 300) < INTERVAL + 2
    assert site.longest_gap(range(slow), 240, 300) < 45
    assert site.most <= 8


async def test_the_first_tick_of_a_good_one_comes_soon_though_all_of_the_slow_ones_are_before_it(
    autojump_clock: MockClock,
) -> None:
    site = Site(never_between(0, NEVER, range(400)))
    await site.run(1000, 240)
    assert site.longest_gap(range(400, 1000), 0, 240) < 90
    assert site.longest_gap(range(400, 1000), 150, 240) < INTERVAL + 2


async def test_after_an_outage_of_the_whole_server_all_are_back_within_two_intervals(autojump_clock: MockClock) -> None:
    site = Site(never_between(60, 600, range(1000)))
    await site.run(1000, 700)
    assert site.longest_gap(range(1000), 600, 660) < 60
    assert site.longest_gap(range(1000), 660, 700) < INTERVAL + 2


@pytest.mark.parametrize("lasts", [1.5, 3.0])
async def test_where_the_whole_server_is_slow_nobody_has_to_give_way_for_long(
    autojump_clock: MockClock, lasts: float
) -> None:
    site = Site(lambda _number, _now: lasts)
    await site.run(200, 300)
    answers = sum(map(len, site.answered.values()))
    assert site.asked - answers < 40
    assert answers > 0.85 * 300 / lasts * 8


@pytest.mark.parametrize("places", [1, 2, 3])
async def test_however_few_places_there_are_the_others_stay_fresh(autojump_clock: MockClock, places: int) -> None:
    site = Site(never_between(60, 300, range(10)), RequestLimits(places, 50))
    await site.run(100, 400)
    assert site.longest_gap(range(10, 100), 0, 400) < 60
    assert site.longest_gap(range(10), 300, 400) < 60
    assert site.most <= places


class Crowd:
    """Requests that never end, and how many of them run at once."""

    def __init__(self, limits: RequestLimits) -> None:
        self.limits = limits
        self.asking = self.now = self.gave_way = 0

    async def ask(self) -> None:
        async def request(slot: RequestSlot) -> None:
            await slot.wait_for_turn()
            self.now += 1
            try:
                await trio.sleep(NEVER)
            except trio.Cancelled:
                self.gave_way += 1
                raise
            finally:
                self.now -= 1

        self.asking += 1
        try:
            await ask_within(self.limits, request)
        finally:
            self.asking -= 1


async def test_a_quarter_of_the_places_is_for_those_that_gave_way_as_long_as_there_are_any(
    autojump_clock: MockClock,
) -> None:
    limits = RequestLimits(max_concurrent=8)
    slow, others = Crowd(limits), Crowd(limits)
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as bad:
            for _ in range(20):
                bad.start_soon(slow.ask)
            await trio.sleep(4.5 * MIN_SLOW_SECONDS)
            assert (slow.gave_way, slow.now, slow.asking - slow.now) == (14, 8, 12), (
                "the last six have nobody behind them"
            )
            for _ in range(20):
                nursery.start_soon(others.ask)
            await trio.sleep(MIN_SLOW_SECONDS / 2)
            assert (slow.gave_way, slow.now, others.now) == (20, 2, 6)
            bad.cancel_scope.cancel()
        await trio.sleep(MIN_SLOW_SECONDS / 4)
        assert others.now == 8
        nursery.cancel_scope.cancel()
    assert (slow.asking, others.asking) == (0, 0)


async def test_nobody_gives_way_while_nobody_waits(autojump_clock: MockClock) -> None:
    limits = RequestLimits(max_concurrent=2)
    crowd = Crowd(limits)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd.ask)
        await trio.sleep(9 * MIN_SLOW_SECONDS)
        nursery.start_soon(crowd.ask)
        await trio.sleep(MIN_SLOW_SECONDS / 2)
        assert crowd.gave_way == 0
        nursery.start_soon(crowd.ask)
        await trio.sleep(MIN_SLOW_SECONDS / 4)
        assert crowd.gave_way == 1
        nursery.cancel_scope.cancel()


async def test_waiting_for_a_turn_is_no_reason_to_give_way(autojump_clock: MockClock) -> None:
    site = Site(lambda _number, _now: 0.05, RequestLimits(2, 0.2))
    await site.run(5, 60)
    assert site.asked == sum(map(len, site.answered.values()))


async def test_a_reading_that_gives_way_has_its_ten_seconds_in_all(autojump_clock: MockClock) -> None:
    """Through the whole source: hung queries are retried separately, and no longer keep the others waiting."""
    hangs = [True]

    async def answer(request: httpx.Request) -> httpx.Response:
        if "bad" in request.url.params["query"] and hangs[0]:
            await trio.sleep(NEVER)
        return counting(request)

    limits = RequestLimits(max_concurrent=2)
    bad = [source_of(answer, query=f"bad_{number}", limits=limits) for number in range(4)]
    good = source_of(answer, query="good", limits=limits)
    ended: list[float] = []

    async def fail(number: int) -> None:
        with pytest.raises(SourceError, match="no complete answer within 10 s"):
            await bad[number].history(END)
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(fail, number)
        await trio.sleep(0.1)
        await good.history(END)
        assert trio.current_time() <= 3 * MIN_SLOW_SECONDS
    assert ended == pytest.approx([10, 19, 28, 37], abs=3)
    hangs[0] = False
    for source in bad:
        await source.history(END)
    assert trio.current_time() == pytest.approx(ended[-1])
