# SPDX-License-Identifier: Apache-2.0
"""A running fleet adopts a configuration: in slices, completely or not at all, whatever others do meanwhile."""

from collections.abc import Callable, Iterable, Mapping

import attrs
import pytest
import trio

from kedastral import cooperative
from kedastral.errors import ConfigError
from kedastral.serving.metrics import Metrics
from kedastral.serving.store import MemoryStore
from kedastral.settings.fleet import WorkloadSettings
from kedastral.workloads.fleet import Changes, Fleet, reconcile
from kedastral.workloads.runner import WorkloadRunner

from .runners import StubBuilder, make_runner, make_settings, query_of

Make = Callable[[str, WorkloadRunner | None], WorkloadRunner]


@attrs.define
class Rig:
    """A fleet that does not tick; ``closed`` are the queries of closed runners, and of their successors."""

    fleet: Fleet = attrs.field(factory=lambda: Fleet(MemoryStore(), Metrics()))
    made: list[str] = attrs.field(factory=list)
    configured: list[str] = attrs.field(factory=list)
    closed: list[tuple[str, str | None]] = attrs.field(factory=list)

    def runner(self, key: str, query: str) -> WorkloadRunner:
        async def close(successor: WorkloadRunner | None) -> None:
            await trio.lowlevel.checkpoint()
            self.closed.append((query, query_of(successor)))

        return make_runner(make_settings(key, query), close=close)

    async def change(self, wanted: Mapping[str, str], before: Iterable[str] = (), make: Make | None = None) -> Changes:
        def make_one(settings: WorkloadSettings, before: WorkloadRunner | None) -> WorkloadRunner:
            if make is not None:
                return make(settings.key, before)
            self.made.append(settings.key)
            return self.runner(settings.key, settings.query)

        settings = {key: make_settings(key, query) for key, query in wanted.items()}
        return await reconcile(self.fleet, StubBuilder.of(make_one), settings, before, self.configured.append)

    @property
    def queries(self) -> dict[str, str]:
        return {key: runner.settings.query for key, runner in self.fleet.runners.items()}


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_equal_settings_leave_a_runner_as_it_is(rig: Rig) -> None:
    for key in ("a", "b", "brought"):
        rig.fleet.put(rig.runner(key, "same"))
    a, brought = rig.fleet.runners["a"], rig.fleet.runners["brought"]
    assert await rig.change({"a": "same", "c": "new"}, {"a", "b"}) == Changes(added=("c",), removed=("b",))
    assert rig.fleet.runners["a"] is a
    assert rig.fleet.runners["brought"] is brought
    assert rig.configured == ["a", "c"]
    assert await rig.change({"a": "other", "c": "new"}, {"a", "c"}) == Changes(changed=("a",))
    assert not await rig.change({"a": "other", "c": "new"}, {"a", "c"})
    assert rig.made == ["c", "a"]


async def test_what_cannot_be_made_changes_nothing_and_leaves_nothing_open(rig: Rig) -> None:
    for key in ("a", "b"):
        rig.fleet.put(rig.runner(key, "1"))

    def fail(key: str, _before: WorkloadRunner | None) -> WorkloadRunner:
        if key == "d":
            raise ConfigError(["d cannot be"])
        return rig.runner(key, f"new {key}")

    with pytest.raises(ConfigError, match="d cannot be"):
        await rig.change({"a": "2", "c": "1", "d": "1"}, {"a", "b"}, fail)
    assert rig.queries == {"a": "1", "b": "1"}
    assert rig.closed == [("new a", "1"), ("new c", None)]
    assert rig.configured == []


async def test_others_have_a_turn_before_all_is_made_and_before_each_that_is_put(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    monkeypatch.setattr(cooperative, "MAX_SLICE", 0.0)
    seen: list[tuple[int, int]] = []

    async def look() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            seen.append((len(rig.made), len(rig.fleet.runners)))

    nursery.start_soon(look)
    await rig.change(dict.fromkeys(map(str, range(50)), "1"))
    assert len({made for made, _ in seen}) > 20  # Trio picks at random who is first in each round
    assert len({runners for _, runners in seen}) > 20


async def test_whoever_is_quicker_with_a_key_is_followed_not_overlooked(
    rig: Rig,
) -> None:
    """A ScaledObject registers a workload after that of the files was made and before it is put in place."""
    befores: list[str | None] = []

    def make(key: str, before: WorkloadRunner | None) -> WorkloadRunner:
        befores.append(query_of(before))
        if key == "last":
            rig.fleet.put(rig.runner("first", "of a ScaledObject"))
        return rig.runner(key, f"{key} of files")

    wanted = {"first": "first of files", "last": "last of files"}
    changes = await rig.change(wanted, make=make)
    assert rig.queries == wanted
    assert befores == [None, None, "of a ScaledObject"]
    assert rig.closed == [("first of files", "of a ScaledObject")]
    assert changes == Changes(added=("last",), changed=("first",))


async def test_one_that_went_meanwhile_is_made_again(rig: Rig) -> None:
    rig.fleet.put(rig.runner("kept", "kept"))

    def make(key: str, _before: WorkloadRunner | None) -> WorkloadRunner:
        if key == "new":
            rig.fleet.remove("kept")  # it was a ScaledObject's, and KEDA no longer asked
        return rig.runner(key, key)

    assert await rig.change({"kept": "kept", "new": "new"}, make=make) == Changes(added=("kept", "new"))
    assert rig.queries == {"kept": "kept", "new": "new"}
