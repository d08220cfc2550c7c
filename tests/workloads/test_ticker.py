# SPDX-License-Identifier: Apache-2.0
"""The ticker's beats on the virtual clock: on the grid, one at a time, skipped when missed."""

import itertools
from collections.abc import Iterable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from kedastral.workloads.ticker import Beats, run_ticker


class Recorder:
    """A tick of given length that records when each one began and ended."""

    def __init__(self, lengths: Iterable[float], *, beats: int) -> None:
        self.began: list[float] = []
        self.ended: list[float] = []
        self.missed: list[int] = []
        self.missed_before: list[int] = []
        self._lengths = iter(lengths)
        self._beats = beats
        self.done = trio.Event()

    async def tick(self) -> None:
        self.began.append(trio.current_time())
        self.missed_before.append(sum(self.missed))
        await trio.sleep(next(self._lengths))
        self.ended.append(trio.current_time())
        if len(self.ended) == self._beats:
            self.done.set()


async def run_for(recorder: Recorder, interval: float) -> float:
    """Run until the recorder has all its beats; returns the start time."""
    async with trio.open_nursery() as nursery:
        origin = trio.current_time()
        nursery.start_soon(run_ticker, recorder.tick, Beats.from_now(interval), recorder.missed.append)
        await recorder.done.wait()
        nursery.cancel_scope.cancel()
    return origin


@pytest.mark.parametrize("interval", [0.1, 1 / 3, 30.0, 0.007])
@pytest.mark.parametrize("lengths", [[0.0], [0.9], [0.0, 0.3, 0.99, 0.5]], ids=["instant", "long", "varying"])
async def test_a_thousand_beats_do_not_drift(autojump_clock: MockClock, interval: float, lengths: list[float]) -> None:
    recorder = Recorder(itertools.cycle(interval * length for length in lengths), beats=1000)
    origin = await run_for(recorder, interval)
    assert recorder.began == pytest.approx([origin + interval * beat for beat in range(1000)], rel=0, abs=1e-6)
    assert recorder.missed == []


async def test_a_clock_far_from_zero_loses_no_beat(mock_clock: MockClock) -> None:
    mock_clock.jump(12_345_678.9)
    mock_clock.autojump_threshold = 0
    recorder = Recorder(itertools.repeat(0.0), beats=1000)
    origin = await run_for(recorder, 0.1)
    assert recorder.began == pytest.approx([origin + 0.1 * beat for beat in range(1000)], rel=0, abs=1e-6)
    assert recorder.missed == []


async def test_the_first_beat_is_at_once(autojump_clock: MockClock) -> None:
    recorder = Recorder([0.0], beats=1)
    origin = await run_for(recorder, 3600)
    assert recorder.began == [origin]


async def test_beats_missed_during_a_long_tick_are_skipped_and_counted(
    autojump_clock: MockClock,
) -> None:
    recorder = Recorder([0, 35, 0, 5, 10.5, 0], beats=6)
    origin = await run_for(recorder, 10)
    # the tick of 10 s lasts till 45 s, that of 70 s till 80.5 s
    assert [at - origin for at in recorder.began] == [0, 10, 50, 60, 70, 90]
    assert recorder.missed == [3, 1]


async def test_beats_missed_before_the_grid_began_or_by_a_tick_that_was_cancelled_count_too(
    autojump_clock: MockClock,
) -> None:
    missed: list[int] = []
    lengths = iter([27, 1000])

    async def tick() -> None:
        await trio.sleep(next(lengths))

    with trio.move_on_after(62):
        await run_ticker(tick, Beats.from_now(10, 5), missed.append)
    # the first tick covers the beats at 5, 15 and 25 s; that of 35 s, cancelled at 62 s, those at 45 and 55 s
    assert missed == [3, 2]


async def test_missed_beats_need_not_be_counted(autojump_clock: MockClock) -> None:
    recorder = Recorder([25, 0], beats=2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_ticker, recorder.tick, Beats.from_now(10))
        await recorder.done.wait()
        nursery.cancel_scope.cancel()
    assert [at - recorder.began[0] for at in recorder.began] == [0, 30]


@given(
    lengths=st.lists(st.floats(0, 100), min_size=1, max_size=20),
    interval=st.sampled_from([0.1, 1 / 7, 1.0, 17.3, 30.0]),
)
def test_ticks_never_overlap_and_stay_on_the_grid(lengths: list[float], interval: float) -> None:
    async def main() -> None:
        recorder = Recorder(lengths, beats=len(lengths))
        origin = await run_for(recorder, interval)
        beats = [(at - origin) / interval for at in recorder.began]
        assert beats == pytest.approx([round(beat) for beat in beats], rel=0, abs=1e-6)
        assert all(ended <= began for ended, began in zip(recorder.ended, recorder.began[1:], strict=False))
        assert [round(beat) for beat in beats] == [n + missed for n, missed in enumerate(recorder.missed_before)]

    trio.run(main, clock=MockClock(autojump_threshold=0))


@pytest.mark.parametrize("raises_at", [0, 3])
async def test_an_exception_leaves(autojump_clock: MockClock, raises_at: int) -> None:
    ticks = itertools.count()

    async def tick() -> None:
        await trio.lowlevel.checkpoint()
        if next(ticks) == raises_at:
            raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        await run_ticker(tick, Beats.from_now(10))
    assert next(ticks) == raises_at + 1


@pytest.mark.parametrize("moment", [5.0, 12.0], ids=["between ticks", "within a tick"])
async def test_it_ends_when_cancelled(autojump_clock: MockClock, moment: float) -> None:
    recorder = Recorder(itertools.repeat(4.0), beats=100)
    with trio.move_on_after(moment) as scope:
        await run_ticker(recorder.tick, Beats.from_now(10))
    assert scope.cancelled_caught
    assert len(recorder.began) == 1 + (moment > 10)
    assert len(recorder.ended) == 1


@pytest.mark.parametrize(("now", "number"), [(0.0, 0), (5.0, 1), (14.9, 1), (15.0, 2), (1e6, 99_999 + 1)])
async def test_the_next_beat_is_never_the_one_that_is_now(mock_clock: MockClock, now: float, number: int) -> None:
    beats = Beats.from_now(10, 5)
    mock_clock.jump(now)
    assert beats.next_number() == number
    assert beats.next_after_now() == beats.time_of(number) > trio.current_time()
