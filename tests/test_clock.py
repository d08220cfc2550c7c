# SPDX-License-Identifier: Apache-2.0
"""The wall clocks: aware, in UTC, and the accelerated one tied to Trio's."""

from datetime import UTC, datetime, timedelta

import pytest
import trio
from trio.testing import MockClock

from kedastral.clock import AcceleratedClock, SystemClock

START = datetime(2026, 3, 1, tzinfo=UTC)


def test_the_machines_clock_is_aware_in_utc_and_runs_at_its_own_speed() -> None:
    clock = SystemClock()
    before = datetime.now(UTC)
    now = clock.now()
    assert before <= now <= datetime.now(UTC)
    assert now.tzinfo is UTC
    assert clock.speed == 1


async def test_a_day_passes_in_three_minutes(autojump_clock: MockClock) -> None:
    clock = AcceleratedClock(START, speed=480.0)
    assert clock.now() == START
    await trio.sleep(180)
    assert abs(clock.now() - START - timedelta(days=1)) < timedelta(milliseconds=1)


async def test_its_origin_may_lie_elsewhere(autojump_clock: MockClock) -> None:
    clock = AcceleratedClock(START, speed=2.0, origin=trio.current_time() - 10)
    assert clock.now() == START + timedelta(seconds=20)


async def test_it_stands_still_while_trios_clock_does(autojump_clock: MockClock) -> None:
    clock = AcceleratedClock(START, speed=480.0)
    for _ in range(100):
        await trio.lowlevel.checkpoint()
    assert clock.now() == START


async def test_it_may_stand_at_its_start_until_it_is_told_to_begin(autojump_clock: MockClock) -> None:
    clock = AcceleratedClock(START, speed=2.0, origin=None)
    await trio.sleep(100)
    assert clock.now() == START
    clock.begin()
    await trio.sleep(10)
    assert clock.now() == START + timedelta(seconds=20)


@pytest.mark.parametrize("speed", [0.0, -1.0])
async def test_a_clock_that_stands_or_runs_backwards_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        AcceleratedClock(START, speed)
