# SPDX-License-Identifier: Apache-2.0
"""A running fleet changes over to what is wanted: in pieces, whole or not at all, whatever others do meanwhile."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs
import pytest
import trio

from kedastral.core.serving import StalePolicy
from kedastral.errors import ConfigError
from kedastral.serving.metrics import Metrics
from kedastral.serving.store import MemoryStore
from kedastral.workloads import fleet as changeover
from kedastral.workloads.fleet import Changes, Fleet, WorkloadRunner, has_settings, reconcile


@attrs.define
class Rig:
    """A fleet that does not tick; ``closed`` are the settings of members given back, with those of who comes after."""

    fleet: Fleet = attrs.field(factory=lambda: Fleet(MemoryStore(), Metrics()))
    made: list[str] = attrs.field(factory=list)
    settled: list[str] = attrs.field(factory=list)
    closed: list[tuple[object, object]] = attrs.field(factory=list)

    def member(self, key: str, settings: object) -> WorkloadRunner:
        async def close(successor: WorkloadRunner | None) -> None:
            await trio.lowlevel.checkpoint()
            self.closed.append((settings, None if successor is None else successor.settings))

        return WorkloadRunner(key, settings, trio.lowlevel.checkpoint, 30.0, StalePolicy(), close)

    async def change(
        self, wanted: Mapping[str, Any], among: Iterable[str] = (), make: Callable[..., WorkloadRunner] | None = None
    ) -> Changes:
        def make_one(key: str, _before: WorkloadRunner | None) -> WorkloadRunner:
            self.made.append(key)
            return self.member(key, wanted[key])

        return await reconcile(self.fleet, wanted, make or make_one, among, has_settings, self.settled.append)

    @property
    def settings(self) -> dict[str, object]:
        return {key: member.settings for key, member in self.fleet.members.items()}


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_equal_settings_leave_a_member_as_it_is(rig: Rig) -> None:
    for key in ("a", "b", "brought"):
        rig.fleet.put(rig.member(key, "same"))
    a, brought = rig.fleet.members["a"], rig.fleet.members["brought"]
    assert await rig.change({"a": "same", "c": "new"}, {"a", "b"}) == Changes(added=("c",), removed=("b",))
    assert rig.fleet.members["a"] is a
    assert rig.fleet.members["brought"] is brought
    assert rig.settled == ["a", "c"]
    assert await rig.change({"a": "other", "c": "new"}, {"a", "c"}) == Changes(changed=("a",))
    assert not await rig.change({"a": "other", "c": "new"}, {"a", "c"})
    assert rig.made == ["c", "a"]


async def test_what_cannot_be_made_changes_nothing_and_leaves_nothing_open(rig: Rig) -> None:
    for key in ("a", "b"):
        rig.fleet.put(rig.member(key, 1))

    def fail(key: str, _before: WorkloadRunner | None) -> WorkloadRunner:
        if key == "d":
            raise ConfigError(["d cannot be"])
        return rig.member(key, f"new {key}")

    with pytest.raises(ConfigError, match="d cannot be"):
        await rig.change({"a": 2, "c": 1, "d": 1}, {"a", "b"}, fail)
    assert rig.settings == {"a": 1, "b": 1}
    assert rig.closed == [("new a", 1), ("new c", None)]
    assert rig.settled == []


async def test_others_have_a_turn_before_all_is_made_and_before_each_that_is_put(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery
) -> None:
    monkeypatch.setattr(changeover, "AT_ONCE", 0.0)
    seen: list[tuple[int, int]] = []

    async def look() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            seen.append((len(rig.made), len(rig.fleet.members)))

    nursery.start_soon(look)
    await rig.change(dict.fromkeys(map(str, range(50)), 1))
    assert len({made for made, _ in seen}) > 20  # Trio decides by lot who is first in each round
    assert len({members for _, members in seen}) > 20


async def test_whoever_is_quicker_with_a_key_is_followed_not_overlooked(
    rig: Rig,
) -> None:
    """A ScaledObject brings a workload after the files' own was made, and before it is put."""
    befores: list[object] = []

    def make(key: str, before: WorkloadRunner | None) -> WorkloadRunner:
        befores.append(None if before is None else before.settings)
        if key == "last":
            rig.fleet.put(rig.member("first", "of a ScaledObject"))
        return rig.member(key, f"{key} of files")

    wanted = {"first": "first of files", "last": "last of files"}
    changes = await rig.change(wanted, make=make)
    assert rig.settings == wanted
    assert befores == [None, None, "of a ScaledObject"]
    assert rig.closed == [("first of files", "of a ScaledObject")]
    assert changes == Changes(added=("last",), changed=("first",))


async def test_one_that_went_meanwhile_is_made_again(rig: Rig) -> None:
    rig.fleet.put(rig.member("kept", "kept"))

    def make(key: str, _before: WorkloadRunner | None) -> WorkloadRunner:
        if key == "new":
            rig.fleet.remove("kept")  # it was a ScaledObject's, and KEDA no longer asked
        return rig.member(key, key)

    assert await rig.change({"kept": "kept", "new": "new"}, make=make) == Changes(added=("kept", "new"))
    assert rig.settings == {"kept": "kept", "new": "new"}
