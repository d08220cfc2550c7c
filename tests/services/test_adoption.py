# SPDX-License-Identifier: Apache-2.0
"""Workloads that ScaledObjects bring: taken in, changed, refused, forgotten; on the virtual clock."""

from collections.abc import Mapping

import attrs
import pytest
import trio
from trio.testing import MockClock

from kedastral.core.serving import OnStale, StalePolicy
from kedastral.core.trigger import ObjectRef, find_said
from kedastral.errors import (
    BadTriggerError,
    ConfigError,
    QueryError,
    SourceError,
    TooManyWorkloadsError,
    UnknownWorkloadError,
)
from kedastral.serving.metrics import Metrics
from kedastral.serving.store import MemoryStore
from kedastral.workloads.fleet import Fleet, WorkloadRunner
from kedastral.workloads.scaledobject_workloads import FORGET_AFTER, SWEEP_EVERY, Adoption, FleetResolver

from .parts import make_snapshot, wall_clock


@attrs.frozen
class Said:
    """What metadata say of a workload."""

    key: str
    query: str
    source: str = "main"


def brings(metadata: Mapping[str, str]) -> bool:
    return "query" in metadata or "queryFromEnv" in metadata


def describes(metadata: Mapping[str, str]) -> bool:
    return "query" in metadata or "leadTime" in metadata


@attrs.define
class Rig:
    """A directory that takes in what ScaledObjects bring, and remembers what was read and made."""

    sources: set[str] = attrs.field(factory=lambda: {"main"})
    most: int = 3
    read: list[ObjectRef] = attrs.field(factory=list)
    made: list[tuple[Said, object]] = attrs.field(factory=list)
    fleet: Fleet = attrs.field(factory=lambda: Fleet(MemoryStore(), Metrics()))
    directory: FleetResolver = attrs.field(init=False)

    @directory.default
    def _make_directory(self) -> FleetResolver:
        return FleetResolver(self.fleet, brings, describes, Adoption(self.read_metadata, self.make, self.most))

    def read_metadata(self, ref: ObjectRef) -> Said:
        self.read.append(ref)
        source = ref.metadata.get("dataSource", "main")
        if source not in self.sources:
            raise ConfigError([f"dataSource must be one of the configured ones, got {source!r}", "and more"])
        return Said(f"{ref.namespace}/{ref.workload or ref.name}", str(find_said(ref.metadata, "query")), source)

    def make(self, said: Said, before: WorkloadRunner | None) -> WorkloadRunner:
        self.made.append((said, None if before is None else before.settings))
        return self.member(said.key, said)

    def member(self, key: str, settings: object) -> WorkloadRunner:
        async def tick() -> None:
            await trio.lowlevel.checkpoint()

        async def close(_successor: WorkloadRunner | None) -> None:
            await trio.lowlevel.checkpoint()

        return WorkloadRunner(key, settings, tick, 30.0, StalePolicy(7.0), close)

    async def ask(self, name: str = "web", namespace: str = "a", **metadata: str) -> str:
        return await self.directory.find(ObjectRef(name, namespace, metadata))


@pytest.fixture
async def rig(nursery: trio.Nursery) -> Rig:
    rig = Rig()
    await nursery.start(rig.fleet.run)
    await nursery.start(rig.directory.run)
    return rig


async def test_a_scaled_object_brings_its_workload_at_the_first_question(autojump_clock: MockClock, rig: Rig) -> None:
    assert await rig.ask(query="up") == "a/web"
    assert await rig.ask(query="up", workload="shop") == "a/shop"
    assert set(rig.fleet.members) == {"a/web", "a/shop"}
    assert rig.directory.policy_of("a/web") == StalePolicy(7.0)


async def test_the_same_metadata_are_read_once(autojump_clock: MockClock, rig: Rig) -> None:
    for _ in range(5):
        await rig.ask(query="up")
    assert len(rig.read) == len(rig.made) == 1


async def test_changed_metadata_change_the_workload(autojump_clock: MockClock, rig: Rig) -> None:
    await rig.ask(query="up")
    await rig.ask(query="down")
    assert rig.made[1] == (Said("a/web", "down"), Said("a/web", "up"))
    await rig.ask(query="down", activation="3")  # read again, but nothing of the workload has changed
    assert len(rig.made) == 2


async def test_what_nobody_asks_for_is_forgotten_after_an_hour_and_may_come_again(
    autojump_clock: MockClock, rig: Rig
) -> None:
    rig.fleet.put(rig.member("configured", 1))
    await rig.ask(query="up")
    await rig.ask(query="up", workload="busy")
    for _ in range(int(FORGET_AFTER / 30) - 1):
        await trio.sleep(30)
        assert "a/web" in rig.fleet.members
        await rig.ask(query="up", workload="busy")
    await trio.sleep(2 * SWEEP_EVERY)
    assert set(rig.fleet.members) == {"a/busy", "configured"}
    assert await rig.ask(query="up") == "a/web"


async def test_an_open_stream_keeps_its_workload(autojump_clock: MockClock, rig: Rig) -> None:
    await rig.ask(query="up")
    for _ in range(3 * int(FORGET_AFTER / 60)):
        await trio.sleep(60)
        rig.directory.note_asked("a/web")  # as each look at a watched stream does
    assert "a/web" in rig.fleet.members


async def test_of_a_workload_that_is_gone_nothing_is_said(autojump_clock: MockClock, rig: Rig) -> None:
    assert rig.directory.policy_of("a/gone").on_stale is OnStale.ERROR


@pytest.mark.parametrize("metadata", [{"query": "up"}, {"query": "up", "workload": "shop"}])
async def test_switched_off_a_query_is_refused_with_the_remedy(
    autojump_clock: MockClock, metadata: Mapping[str, str]
) -> None:
    rig = Rig()
    directory = FleetResolver(rig.fleet, brings, describes)
    rig.fleet.put(rig.member("pay", 1))
    rig.fleet.put(rig.member("cart", 1))
    with pytest.raises(BadTriggerError, match="--allow-scaledobject-workloads"):
        await directory.find(ObjectRef("web", "a", metadata))


@pytest.mark.parametrize("metadata", [{"query": "up"}, {"leadTime": "10m"}])
async def test_who_describes_a_workload_is_not_told_of_the_only_one_there_is(
    autojump_clock: MockClock, rig: Rig, metadata: Mapping[str, str]
) -> None:
    rig.fleet.put(rig.member("pay", 1))
    off = FleetResolver(rig.fleet, brings, describes)
    assert await off.find(ObjectRef("web", "a", {})) == "pay"
    with pytest.raises(BadTriggerError, match="--allow-scaledobject-workloads"):
        await off.find(ObjectRef("web", "a", metadata))


async def test_what_stands_beside_a_configured_name_is_not_read(autojump_clock: MockClock, rig: Rig) -> None:
    rig.fleet.put(rig.member("pay", 1))
    off = FleetResolver(rig.fleet, brings, describes)
    assert await off.find(ObjectRef("web", "a", {"workload": "pay", "query": "up", "leadTime": "10m"})) == "pay"
    assert await rig.ask(workload="pay", leadTime="10m") == "pay"
    assert not rig.read


async def test_metadata_that_cannot_be_used_are_refused_with_every_problem(autojump_clock: MockClock, rig: Rig) -> None:
    with pytest.raises(BadTriggerError, match=r"dataSource must be one of .* got 'other'; and more"):
        await rig.ask(query="up", dataSource="other")
    assert not rig.fleet.members
    await rig.ask(query="up")
    with pytest.raises(BadTriggerError):
        await rig.ask(query="up", dataSource="other")
    assert set(rig.fleet.members) == {"a/web"}  # the one before goes on


async def test_there_are_only_so_many(autojump_clock: MockClock, rig: Rig) -> None:
    for number in range(3):
        await rig.ask(f"web-{number}", query="up")
    with pytest.raises(TooManyWorkloadsError, match="3 workloads already"):
        await rig.ask("web-3", query="up")
    assert await rig.ask("web-1", query="other") == "a/web-1"


async def test_a_configured_workload_is_never_replaced(autojump_clock: MockClock, rig: Rig) -> None:
    rig.fleet.put(rig.member("a/shop", 1))
    with pytest.raises(BadTriggerError, match="is configured here already"):
        await rig.ask(query="up", workload="shop")
    assert await rig.ask(workload="shop") == "a/shop"


async def test_two_scaled_objects_share_a_workload_only_if_they_say_the_same(
    autojump_clock: MockClock, rig: Rig
) -> None:
    assert await rig.ask("web", query="up", workload="shop") == "a/shop"
    assert await rig.ask("api", query="up", workload="shop") == "a/shop"
    with pytest.raises(BadTriggerError, match="described otherwise by ScaledObject a/web"):
        await rig.ask("api", query="down", workload="shop")
    assert await rig.ask("api", "b", query="down", workload="shop") == "b/shop"


async def test_two_triggers_that_take_turns_are_told_to_name_their_workloads(
    autojump_clock: MockClock, rig: Rig
) -> None:
    await rig.ask(query="up")
    await rig.ask(query="down")
    with pytest.raises(BadTriggerError, match="several triggers of this ScaledObject"):
        await rig.ask(query="up")
    await trio.sleep(61)
    assert await rig.ask(query="up") == "a/web"  # a change of mind


async def test_the_default_is_the_only_configured_one(autojump_clock: MockClock, rig: Rig) -> None:
    await rig.ask(query="up")
    with pytest.raises(BadTriggerError, match="must name its workload"):
        await rig.ask("other")
    rig.fleet.put(rig.member("shop", 1))
    assert await rig.ask("other") == "shop"
    with pytest.raises(UnknownWorkloadError):
        await rig.ask("other", workload="nobody")


async def test_read_again_those_that_cannot_be_any_more_are_let_go(autojump_clock: MockClock, rig: Rig) -> None:
    rig.sources.add("spare")
    await rig.ask("web", query="up")
    await rig.ask("api", query="up", dataSource="spare")
    rig.sources.remove("spare")
    await rig.directory.read_again()
    assert set(rig.fleet.members) == {"a/web"}
    with pytest.raises(BadTriggerError):
        await rig.ask("api", query="up", dataSource="spare")


async def test_one_that_is_configured_from_now_on_is_handed_over(autojump_clock: MockClock, rig: Rig) -> None:
    await rig.ask(query="up")
    rig.directory.hand_over(["a/web", "a/other"])
    assert rig.directory.configured == {"a/web"}
    await trio.sleep(FORGET_AFTER + SWEEP_EVERY + 1)
    assert set(rig.fleet.members) == {"a/web"}
    with pytest.raises(BadTriggerError, match="is configured here already"):
        await rig.ask(query="up")


async def test_the_first_question_waits_a_moment_for_the_first_forecast(autojump_clock: MockClock, rig: Rig) -> None:
    async def publish_soon() -> None:
        await trio.sleep(0.3)
        await rig.fleet.store.put(make_snapshot(workload="a/web"))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish_soon)
        await rig.ask(query="up")
        assert 0.3 <= trio.current_time() - began < 0.4
        await rig.ask("slow", query="up")
        assert trio.current_time() - began == pytest.approx(1.3, abs=0.1)
        await rig.ask("slow", query="up")  # but not at every question
        assert trio.current_time() - began == pytest.approx(1.3, abs=0.1)


async def test_three_triggers_that_take_turns_are_found_out_too(autojump_clock: MockClock, rig: Rig) -> None:
    for query in ("a", "b", "c"):
        await rig.ask(query=query)
    for query in ("a", "b"):
        with pytest.raises(BadTriggerError, match="several triggers"):
            await rig.ask(query=query)


async def test_nobody_but_keda_keeps_a_workload(autojump_clock: MockClock, rig: Rig) -> None:
    await rig.ask(query="up")
    for _ in range(int(FORGET_AFTER / 60) + 3):
        await trio.sleep(60)
        rig.directory.policy_of("a/web")  # as a probe or a page of HTTP does
        await rig.directory.read_again()
    assert not rig.fleet.members


async def test_a_hundred_problems_are_told_in_few_words(autojump_clock: MockClock, rig: Rig) -> None:
    def refuse(_ref: ObjectRef) -> Said:
        raise ConfigError([f"key-{number} is unknown" + "!" * 1000 for number in range(100)])

    directory = FleetResolver(rig.fleet, brings, describes, Adoption(refuse, rig.make, 3))
    with pytest.raises(BadTriggerError, match="and 92 more") as caught:
        await directory.find(ObjectRef("web", "a", {"query": "up"}))
    assert len(str(caught.value)) < 3000


def refused(rig: Rig, key: str = "a/web") -> None:
    error = QueryError("at http://prom", reason="refused", refusal="HTTP 400: bad_data: parse error")
    rig.fleet.members[key].failed.note(error, wall_clock().now())


async def test_the_owner_is_told_that_a_changed_query_is_refused_though_the_one_before_gave_a_forecast(
    autojump_clock: MockClock, rig: Rig
) -> None:
    snapshot = make_snapshot(workload="a/web")
    await rig.fleet.store.put(snapshot)
    await rig.ask(query="up(")
    refused(rig)
    with pytest.raises(BadTriggerError, match="Prometheus refuses the query"):
        await rig.ask(query="up(")


async def test_the_owner_is_told_how_a_query_is_refused_until_there_is_a_forecast(
    autojump_clock: MockClock, rig: Rig
) -> None:
    await rig.ask(query="up(")
    refused(rig)
    with pytest.raises(BadTriggerError, match="Prometheus refuses the query: HTTP 400: bad_data: parse error"):
        await rig.ask(query="up(")
    await rig.fleet.store.put(make_snapshot(workload="a/web"))
    rig.fleet.members["a/web"].failed.note_success()
    refused(rig)
    assert await rig.ask(query="up(") == "a/web"  # a forecast is worth more than why there is no newer one


async def test_of_a_query_that_stood_in_a_variable_nothing_is_told_that_quotes_it(
    autojump_clock: MockClock, rig: Rig
) -> None:
    await rig.ask(queryFromEnv="up(")
    refused(rig)
    with pytest.raises(BadTriggerError, match=r"^its Prometheus refuses the request \(source: refused\)$"):
        await rig.ask(queryFromEnv="up(")
    failure = rig.directory.failure_of("a/web")
    assert failure is not None
    assert "parse error" not in failure.words


async def test_a_query_that_was_changed_is_not_blamed_for_the_one_before(autojump_clock: MockClock, rig: Rig) -> None:
    await rig.ask(query="up(")
    refused(rig)
    assert await rig.ask(query="up") == "a/web"


async def test_nobody_waits_for_the_first_forecast_of_what_has_failed(autojump_clock: MockClock, rig: Rig) -> None:
    began = trio.current_time()

    async def fail_soon() -> None:
        await trio.sleep(0.3)
        rig.fleet.members["a/web"].failed.note(SourceError("away", reason="unreachable"), wall_clock().now())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fail_soon)
        assert await rig.ask(query="up") == "a/web"
    assert 0.3 <= trio.current_time() - began < 0.4
    failure = rig.directory.failure_of("a/web")
    assert failure is not None
    assert failure.words == "its Prometheus cannot be reached (source: unreachable)"
    assert rig.fleet.failing() == {"a/web": failure}
    assert rig.directory.failure_of("a/gone") is None
