# SPDX-License-Identifier: Apache-2.0
"""The contract of every store that keeps states and histories for the next process."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import numpy as np
import pytest
import trio

from kedastral.adapters.redis.states import RedisStates
from kedastral.adapters.state_directory import StateDirectory
from kedastral.clock import AcceleratedClock, SystemClock
from kedastral.core.kept_state import KeptHistory, KeptState
from kedastral.core.ports import StateStore
from kedastral.core.series import Observation
from kedastral.errors import StoreError
from tests import redis_servers
from tests.kept import MemoryStates, make_kept_history, make_kept_state
from tests.parts import START

NOW = datetime.now(UTC)
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


async def test_a_state_that_is_older_is_saved_or_refused_with_an_error(states: StateStore) -> None:
    newer, older = make_kept_state(told=2), make_kept_state(told=1, saved_at=START - timedelta(seconds=1))
    await states.save(newer)
    if isinstance(states, RedisStates):  # another pod may have saved the newer one
        with pytest.raises(StoreError, match="the state of shop was saved later already: another pod") as caught:
            await states.save(older)
        assert caught.value.reason == "older"
        assert await states.load("shop") == newer
    else:  # the clock was set back
        await states.save(older)
        assert await states.load("shop") == older


async def test_what_was_saved_by_a_clock_that_is_far_ahead_is_replaced(states: StateStore) -> None:
    for told, at in enumerate((NOW + timedelta(hours=6), NOW)):
        state = make_kept_state(told=told, saved_at=at)
        await states.save(state)
        assert await states.load("shop") == state


@pytest.mark.parametrize("states", [pytest.param("redis", marks=pytest.mark.integration)], indirect=True)
async def test_a_history_of_another_pod_is_replaced_unless_it_is_newer(states: RedisStates) -> None:
    for pod, (ahead, kept) in enumerate([(6 * 3600, True), (0, True), (-1, False), (1, True)]):
        clock = AcceleratedClock(NOW + timedelta(seconds=ahead), origin=None)
        history = make_kept_history(values=np.array([pod]))
        if kept:
            await attrs.evolve(states, clock=clock).save_history(history)
        else:
            with pytest.raises(StoreError, match="the history of shop was saved later already") as caught:
                await attrs.evolve(states, clock=clock).save_history(history)
            assert caught.value.reason == "older"
        found = await states.load_history("shop")
        assert found is not None
        assert (found == history) == kept


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


def set_back(folder: Path, moment: datetime) -> None:
    """Make the history of ``gone`` one of ``moment``, if ``folder`` has it: a directory goes by the times of files."""
    for file in folder.glob("gone-*.history"):
        os.utime(file, (moment.timestamp(), moment.timestamp()))


async def test_only_workloads_that_are_gone_for_long_are_removed(states: StateStore, tmp_path: Path) -> None:
    saved = {"gone": START - timedelta(days=8), "quiet": START - timedelta(days=8), "newly gone": START}
    for name, at in saved.items():
        await states.save(make_kept_state(name, saved_at=at))
        await states.save_history(make_kept_history(name))
    set_back(tmp_path, saved["gone"])
    gone = set() if isinstance(states, RedisStates) else {"gone"}  # in Redis they expire
    assert await states.remove_unsaved(START - timedelta(days=7), {"quiet"}) == len(gone)
    assert set(await states.load_all()) == saved.keys() - gone
    for name in saved:
        assert (await states.load(name) is None) == (name in gone)
        assert (await states.load_history(name) is None) == (name in gone)


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
        try:
            await states.save_history(make_kept_history(name, values=np.full(100, number)))
        except StoreError as error:
            if error.reason != "older" or not isinstance(states, RedisStates):  # a later one has overtaken it
                raise

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
