# SPDX-License-Identifier: Apache-2.0
"""The activity board: each watched pair is looked at once, and every watcher hears of every change."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from kedastral.core.serving import Activity
from kedastral.serving.activity import LOOK_EVERY, ActivityNews, ActivityNotifier, Watched

ACTIVE, INACTIVE, ASSUMED, HELD = Activity.ACTIVE, Activity.INACTIVE, Activity.ASSUMED, Activity.HELD


class World:
    """What is active, and how often that was asked."""

    def __init__(self) -> None:
        self.active: dict[str, Activity] = {}
        self.looks = 0

    def look(self, watched: Watched) -> Activity:
        self.looks += 1
        return self.active.get(watched.workload, HELD)


async def listen(board: ActivityNotifier, workload: str, heard: list[bool]) -> None:
    with board.watch(Watched(workload, 0)) as state:
        news = ActivityNews(state)
        while True:
            heard.append(await news.next())


async def test_the_state_is_there_at_once() -> None:
    world = World()
    world.active["shop"] = INACTIVE
    with ActivityNotifier(world.look).watch(Watched("shop", 0)) as state:
        assert await ActivityNews(state).next() is False


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ((HELD, ACTIVE, ACTIVE, HELD, ACTIVE, INACTIVE, HELD, INACTIVE, ACTIVE), [True, False, True]),
        ((ASSUMED, HELD, ASSUMED), []),
        ((ASSUMED, ACTIVE, ASSUMED, ACTIVE), [True, True]),
        ((INACTIVE, ASSUMED, INACTIVE, ASSUMED, ACTIVE), [False, True]),
        ((ACTIVE, ASSUMED, INACTIVE, ACTIVE), [True, False, True]),
        ((ACTIVE, ASSUMED, HELD, ACTIVE, HELD, ACTIVE), [True, True]),
    ],
)
async def test_every_watcher_hears_every_change_once_and_nothing_for_want_of_a_plan(
    autojump_clock: MockClock, nursery: trio.Nursery, states: tuple[Activity, ...], told: list[bool]
) -> None:
    world = World()
    board = ActivityNotifier(world.look)
    await nursery.start(board.run)
    heard: list[list[bool]] = [[] for _ in range(100)]
    for one in heard:
        nursery.start_soon(listen, board, "shop", one)
    for state in states:
        world.active["shop"] = state
        await trio.sleep(2 * LOOK_EVERY)
    assert heard == [told] * 100


async def test_a_pair_is_looked_at_once_however_many_watch_it(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    world = World()
    board = ActivityNotifier(world.look)
    for _ in range(50):
        nursery.start_soon(listen, board, "shop", [])
    await wait_all_tasks_blocked()
    world.looks = 0
    board.look()
    assert world.looks == 1


async def test_activations_are_watched_apart() -> None:
    board = ActivityNotifier(lambda watched: ACTIVE if watched.activation < 5 else INACTIVE)
    with board.watch(Watched("shop", 1)) as low, board.watch(Watched("shop", 9)) as high:
        assert (low.activity, high.activity) == (ACTIVE, INACTIVE)


async def test_what_nobody_watches_any_more_is_forgotten(autojump_clock: MockClock) -> None:
    world = World()
    board = ActivityNotifier(world.look)
    async with trio.open_nursery() as watchers:
        for n in range(10):
            watchers.start_soon(listen, board, f"w{n % 2}", [])
        await wait_all_tasks_blocked()
        watchers.cancel_scope.cancel()
    world.looks = 0
    board.look()
    assert world.looks == 0


async def test_one_watcher_leaving_keeps_the_others_informed(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    world = World()
    board = ActivityNotifier(world.look)
    await nursery.start(board.run)
    heard: list[bool] = []
    nursery.start_soon(listen, board, "shop", heard)
    await wait_all_tasks_blocked()
    with board.watch(Watched("shop", 0)):
        pass
    world.active["shop"] = ACTIVE
    await trio.sleep(2 * LOOK_EVERY)
    assert heard == [True]
