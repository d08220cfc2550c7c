# SPDX-License-Identifier: Apache-2.0
"""The activity board: each watched pair is looked at once, and every watcher hears of every change."""

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from kedastral.services.activity import LOOK_EVERY, ActivityBoard


class World:
    """What is active, and how often that was asked."""

    def __init__(self) -> None:
        self.active: dict[str, bool | None] = {}
        self.looks = 0

    def look(self, workload: str, activation: float) -> bool | None:
        del activation
        self.looks += 1
        return self.active.get(workload)


async def listen(board: ActivityBoard, workload: str, heard: list[bool]) -> None:
    told = None
    with board.watch(workload, 0) as state:
        while True:
            told = await state.differs_from(told)
            heard.append(told)


async def test_the_state_is_there_at_once() -> None:
    world = World()
    world.active["shop"] = False
    with ActivityBoard(world.look).watch("shop", 0) as state:
        assert await state.differs_from(None) is False


async def test_every_watcher_hears_every_change_once(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    world = World()
    board = ActivityBoard(world.look)
    await nursery.start(board.run)
    heard: list[list[bool]] = [[] for _ in range(100)]
    for one in heard:
        nursery.start_soon(listen, board, "shop", one)
    for state in (None, True, True, None, True, False, None, False, True):
        world.active["shop"] = state
        await trio.sleep(2 * LOOK_EVERY)
    assert heard == [[True, False, True]] * 100


async def test_a_pair_is_looked_at_once_however_many_watch_it(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    world = World()
    board = ActivityBoard(world.look)
    for _ in range(50):
        nursery.start_soon(listen, board, "shop", [])
    await wait_all_tasks_blocked()
    world.looks = 0
    board.look()
    assert world.looks == 1


async def test_activations_are_watched_apart() -> None:
    board = ActivityBoard(lambda _, activation: activation < 5)
    with board.watch("shop", 1) as low, board.watch("shop", 9) as high:
        assert (low.active, high.active) == (True, False)


async def test_what_nobody_watches_any_more_is_forgotten(autojump_clock: MockClock) -> None:
    world = World()
    board = ActivityBoard(world.look)
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
    board = ActivityBoard(world.look)
    await nursery.start(board.run)
    heard: list[bool] = []
    nursery.start_soon(listen, board, "shop", heard)
    await wait_all_tasks_blocked()
    with board.watch("shop", 0):
        pass
    world.active["shop"] = True
    await trio.sleep(2 * LOOK_EVERY)
    assert heard == [True]
