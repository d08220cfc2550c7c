# SPDX-License-Identifier: Apache-2.0
"""The contract of every store that keeps states and histories for the next process."""

from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import attrs
import numpy as np
import pytest
import trio

from kedastral.adapters.redis.states import RedisStates
from kedastral.adapters.state_directory import StateDirectory
from kedastral.clock import SystemClock
from kedastral.core.kept_state import KeptHistory, KeptState
from kedastral.core.ports import StateStore
from kedastral.core.series import Observation
from kedastral.errors import StoreError
from kedastral.serving.store import MemoryStates
from tests import redis_servers
from tests.kept import make_kept_history, make_kept_state
from tests.parts import START

AWKWARD_NAMES = [
    "a",
    "A",
    "a/b",
    "a b",
    "a_b",
    "..",
    ".",
    "../../etc/passwd",
    "✓",
    "\n",
    "a\0b",
    "x" * 5000,
    "-",
    "\udc80",
]


def open_memory(_path: Path, _stack: ExitStack) -> StateStore:
    return MemoryStates()


def open_directory(path: Path, stack: ExitStack) -> StateStore:
    directory = StateDirectory.open(path)
    stack.callback(directory.close)
    return directory


OPEN: dict[str, Callable[[Path, ExitStack], StateStore]] = {"memory": open_memory, "directory": open_directory}
"""Opens each implementation that needs no connection."""


@pytest.fixture(params=[*OPEN, pytest.param("redis", marks=pytest.mark.integration)])
async def states(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StateStore]:
    if request.param == "redis":
        with redis_servers.plain(tmp_path) as place:
            connection = place.connect()
            async with trio.open_nursery() as nursery:
                await nursery.start(connection.run)
                yield RedisStates(connection, SystemClock())
                nursery.cancel_scope.cancel()
        return
    with ExitStack() as stack:
        yield OPEN[request.param](tmp_path, stack)


async def test_what_was_saved_is_loaded(states: StateStore) -> None:
    assert await states.load("shop") is None
    assert await states.load_history("shop") is None
    assert dict(await states.load_all()) == {}
    state, history = make_kept_state(), make_kept_history()
    assert await states.save(state) > 0
    assert await states.save_history(history) > 0
    assert await states.load("shop") == state
    assert await states.load_history("shop") == history
    assert dict(await states.load_all()) == {"shop": state}


async def test_state_and_history_are_apart(states: StateStore) -> None:
    await states.save_history(make_kept_history())
    assert await states.load("shop") is None
    assert dict(await states.load_all()) == {}


async def test_a_later_one_takes_the_place_of_the_one_before(states: StateStore) -> None:
    for told in (1, 2):
        await states.save(make_kept_state(told=told))
        await states.save_history(make_kept_history(values=np.full(told, told)))
    found, history = await states.load("shop"), await states.load_history("shop")
    assert found is not None
    assert found.told == 2
    assert history is not None
    assert history.values.tolist() == [2, 2]


async def test_workloads_are_kept_apart_whatever_they_are_called(states: StateStore) -> None:
    for number, name in enumerate(AWKWARD_NAMES):
        await states.save(make_kept_state(name, told=number))
        await states.save_history(make_kept_history(name, values=np.array([number])))
    assert {name: one.told for name, one in (await states.load_all()).items()} == {
        name: number for number, name in enumerate(AWKWARD_NAMES)
    }
    for number, name in enumerate(AWKWARD_NAMES):
        found, history = await states.load(name), await states.load_history(name)
        assert (found and found.workload, found and found.told) == (name, number)
        assert (history and history.workload, history and history.values.tolist()) == (name, [number])


async def test_what_is_removed_is_gone_and_may_come_again(states: StateStore) -> None:
    for name in ("shop", "pay"):
        await states.save(make_kept_state(name))
        await states.save_history(make_kept_history(name))
    await states.remove("shop")
    await states.remove("nobody")
    assert await states.load("shop") is None
    assert await states.load_history("shop") is None
    assert set(await states.load_all()) == {"pay"}
    assert await states.load_history("pay") is not None
    await states.save(make_kept_state("shop"))
    assert set(await states.load_all()) == {"pay", "shop"}


async def test_only_workloads_that_are_gone_for_long_are_removed(states: StateStore) -> None:
    for name, age in {"gone": 8, "quiet": 8, "newly gone": 6}.items():
        await states.save(attrs.evolve(make_kept_state(name), saved_at=START - timedelta(days=age)))
        await states.save_history(make_kept_history(name))
    assert await states.remove_unsaved(START - timedelta(days=7), {"quiet"}) in (0, 1), "0 where entries expire"
    assert {"quiet", "newly gone"} <= set(await states.load_all())
    assert await states.load_history("quiet") is not None


async def test_a_state_that_cannot_be_written_down_is_an_error_and_leaves_the_one_before(states: StateStore) -> None:
    state = make_kept_state()
    await states.save(state)
    impossible = attrs.evolve(state, snapshot=attrs.evolve(state.snapshot, observed=Observation(START, float("nan"))))
    with pytest.raises(StoreError) as caught:
        await states.save(impossible)
    assert caught.value.reason == "bad_state"
    assert await states.load("shop") == state


async def test_saves_and_loads_at_once_see_whole_states(states: StateStore) -> None:
    names = [f"w{n}" for n in range(4)]

    async def save(name: str, number: int) -> None:
        await states.save(make_kept_state(name, told=number))
        await states.save_history(make_kept_history(name, values=np.full(100, number)))

    async def load(name: str) -> None:
        found: KeptState | None = await states.load(name)
        history: KeptHistory | None = await states.load_history(name)
        assert found is None or found.workload == name
        assert history is None or len(set(history.values.tolist())) == 1

    async with trio.open_nursery() as nursery:
        for number in range(10):
            for name in names:
                nursery.start_soon(save, name, number)
                nursery.start_soon(load, name)
    assert set(await states.load_all()) == set(names)
