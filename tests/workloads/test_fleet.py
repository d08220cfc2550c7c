# SPDX-License-Identifier: Apache-2.0
"""The fleet: a ticker for each workload, spread, replaced and removed while it runs, on the virtual clock."""

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from kedastral.core.planning.snapshot import Snapshot
from kedastral.serving.metrics import Metrics
from kedastral.serving.store import MemoryStore
from kedastral.workloads.fleet import Fleet
from kedastral.workloads.keeping import StateKeeper
from kedastral.workloads.runner import WorkloadRunner
from kedastral.workloads.ticker import spread
from tests.kept import MemoryStates, make_kept_state
from tests.parts import START, make_snapshot, wall_clock

from .runners import make_runner, make_settings, query_of


@attrs.define
class Diary:
    """What happened in a fleet: ticks begun (key, query, time), and runners closed (key, query, the next query)."""

    ticked: list[tuple[str, str, float]] = attrs.field(factory=list)
    closed: list[tuple[str, str, str | None]] = attrs.field(factory=list)
    running: set[str] = attrs.field(factory=set)

    def of(self, key: str) -> list[float]:
        return [at for ticked, _, at in self.ticked if ticked == key]


@attrs.define
class Rig:
    """A fleet that records what happens."""

    diary: Diary = attrs.field(factory=Diary)
    store: MemoryStore = attrs.field(factory=MemoryStore)
    metrics: Metrics = attrs.field(factory=Metrics)
    closing: float = 0.0
    fleet: Fleet = attrs.field(init=False)

    @fleet.default
    def _make_fleet(self) -> Fleet:
        return Fleet(self.store, self.metrics)

    def runner(
        self, key: str, query: str = "up", *, interval: float = 30.0, lasts: float = 0.0, reads_unused: bool = False
    ) -> WorkloadRunner:
        async def tick() -> None:
            assert key not in self.diary.running, "two ticks of one workload at a time"
            self.diary.running.add(key)
            self.diary.ticked.append((key, query, trio.current_time()))
            try:
                await trio.sleep(lasts)
                await self.store.put(make_snapshot(workload=key))
            finally:
                self.diary.running.discard(key)

        async def close(successor: WorkloadRunner | None) -> None:
            await trio.sleep(self.closing)
            self.diary.closed.append((key, query, query_of(successor)))

        return make_runner(make_settings(key, query, interval=interval), tick, close, reads_unused=reads_unused)


@pytest.fixture
async def rig(nursery: trio.Nursery) -> Rig:
    rig = Rig()
    await nursery.start(rig.fleet.run)
    return rig


async def test_a_thousand_workloads_tick_each_interval_and_not_all_at_once(autojump_clock: MockClock, rig: Rig) -> None:
    began = trio.current_time()
    for number in range(1000):
        rig.fleet.put(rig.runner(f"shop-{number}"))
    await trio.sleep(305)
    times: dict[str, list[float]] = {}
    for key, _, at in rig.diary.ticked:
        times.setdefault(key, []).append(at)
    assert len(times) == 1000
    for key, ticked in times.items():
        assert ticked[0] == began  # the first at once
        offset = spread(key) * 30
        assert ticked[1:] == pytest.approx([began + offset + 30 * beat for beat in range(len(ticked) - 1)])
        assert len(ticked) in (11, 12)
    in_second = [0] * 305
    for _, _, at in rig.diary.ticked:
        in_second[int(at - began)] += 1
    assert max(in_second[1:]) < 70  # 33 on average


async def test_a_workload_alone_ticks_on_whole_intervals(autojump_clock: MockClock, rig: Rig) -> None:
    began = trio.current_time()
    rig.fleet.put(rig.runner("shop"))
    await trio.sleep(100)
    assert rig.diary.of("shop") == [began, began + 30, began + 60, began + 90]


async def test_a_slow_workload_delays_no_other(autojump_clock: MockClock, rig: Rig) -> None:
    rig.fleet.put(rig.runner("slow", lasts=1000.0))
    rig.fleet.put(rig.runner("quick"))
    await trio.sleep(301)
    assert len(rig.diary.of("slow")) == 1
    assert len(rig.diary.of("quick")) >= 10


async def test_what_is_there_before_the_run_ticks_as_soon_as_it_runs(autojump_clock: MockClock) -> None:
    rig = Rig()
    rig.fleet.put(rig.runner("shop"))
    rig.fleet.put(rig.runner("pay"))
    rig.fleet.remove("pay")
    async with trio.open_nursery() as nursery:
        await nursery.start(rig.fleet.run)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert [key for key, _, _ in rig.diary.ticked] == ["shop"]


async def test_a_successor_ticks_at_once_and_never_beside_its_predecessor(autojump_clock: MockClock, rig: Rig) -> None:
    began = trio.current_time()
    rig.fleet.put(rig.runner("shop", "old", lasts=10.0))
    await trio.sleep(3)
    rig.fleet.put(rig.runner("shop", "new"))
    await trio.sleep(20)
    assert rig.diary.ticked == [("shop", "old", began), ("shop", "new", began + 10)]
    assert rig.diary.closed == [("shop", "old", "new")]
    await trio.sleep(10)
    rig.fleet.put(rig.runner("shop", "newest"))
    await trio.sleep(0.5)
    assert rig.diary.ticked[-1] == ("shop", "newest", began + 33)


async def test_a_tick_that_reads_an_unused_history_is_given_up_and_the_successor_ticks_at_once(
    autojump_clock: MockClock, rig: Rig
) -> None:
    began = trio.current_time()
    rig.fleet.put(rig.runner("shop", "old", lasts=1000.0, reads_unused=True))
    await trio.sleep(65)
    rig.fleet.put(rig.runner("shop", "new", lasts=10.0))
    await trio.sleep(1)
    assert rig.diary.ticked == [("shop", "old", began), ("shop", "new", began + 65)]
    assert rig.diary.closed == [("shop", "old", "new")]
    assert rig.store.get("shop") is None
    assert missed(rig, "shop") == 2
    await trio.sleep(10)
    assert rig.store.get("shop") is not None
    rig.fleet.put(rig.runner("pay", lasts=1000.0, reads_unused=True))
    await trio.sleep(1)
    rig.fleet.remove("pay")
    await trio.sleep(1)
    assert rig.diary.closed[1:] == [("pay", "up", None)]


def missed(rig: Rig, key: str) -> float:
    return rig.metrics.registry.get_sample_value("kedastral_ticks_missed_total", {"workload": key}) or 0.0


async def test_whoever_is_replaced_before_it_ticked_is_closed_too(autojump_clock: MockClock, rig: Rig) -> None:
    rig.closing = 5.0
    rig.fleet.put(rig.runner("shop", "first", lasts=100.0))
    await trio.sleep(1)
    for query in ("second", "third"):
        rig.fleet.put(rig.runner("shop", query))
    await trio.sleep(101)  # the first is being closed
    rig.fleet.put(rig.runner("shop", "fourth"))
    await trio.sleep(20)
    assert rig.diary.closed == [
        ("shop", "first", "second"),
        ("shop", "second", "third"),
        ("shop", "third", "fourth"),
    ]
    assert [query for _, query, _ in rig.diary.ticked] == ["first", "fourth"]


async def test_a_successor_takes_over_from_the_runner_that_ticked_last_before_its_own_first_tick(
    autojump_clock: MockClock, rig: Rig
) -> None:
    def put(query: str, lasts: float = 0.0) -> None:
        def take_over(before: WorkloadRunner) -> None:
            assert not rig.diary.running, "it may still publish"
            taken.append((query, query_of(before), [ticked for _, ticked, _ in rig.diary.ticked]))

        rig.fleet.put(attrs.evolve(rig.runner("shop", query, lasts=lasts), take_over=take_over))

    taken: list[tuple[str, str | None, list[str]]] = []
    put("first", lasts=10.0)
    await trio.sleep(1)
    put("second")
    put("third")
    await trio.sleep(100)
    assert taken == [("third", "first", ["first"])]
    rig.fleet.remove("shop")
    put("fourth")
    await trio.sleep(1)
    assert [(query, before) for query, before, _ in taken[1:]] == [("fourth", "third")]
    rig.fleet.remove("shop")
    await trio.sleep(1)
    put("fifth")
    await trio.sleep(1)
    assert len(taken) == 2, "nothing is left to take over"


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "put", "remove"]), st.floats(0, 20), st.sampled_from([0.0, 15.0]), st.booleans()
        ),
        max_size=12,
    ),
    closing=st.sampled_from([0.0, 3.0]),
)
def test_whatever_comes_and_goes_everyone_is_closed_once_and_in_order(
    steps: list[tuple[str, float, float, bool]], closing: float
) -> None:
    rig = Rig()
    rig.closing = closing
    put: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number, (what, wait, lasts, reads_unused) in enumerate(steps):
                if number == 2:
                    await nursery.start(rig.fleet.run)
                if what == "put":
                    rig.fleet.put(rig.runner("shop", str(number), lasts=lasts, reads_unused=reads_unused))
                    put.append(str(number))
                elif "shop" in rig.fleet.runners:
                    rig.fleet.remove("shop")
                await trio.sleep(wait)
            if len(steps) <= 2:
                await nursery.start(rig.fleet.run)
            if "shop" in rig.fleet.runners:
                rig.fleet.remove("shop")
            await trio.sleep(100)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert [query for _, query, _ in rig.diary.closed] == put
    assert rig.store.get("shop") is None


async def test_what_is_removed_is_forgotten_at_once_and_after_its_tick(autojump_clock: MockClock, rig: Rig) -> None:
    rig.fleet.put(rig.runner("shop", lasts=10.0))
    await trio.sleep(35)
    assert rig.store.get("shop") is not None
    rig.metrics.returned_replicas.labels("shop").set(3)
    rig.fleet.remove("shop")  # in the middle of its second tick, which will still publish
    assert rig.store.get("shop") is None
    assert "shop" not in rig.fleet.runners
    await trio.sleep(6)
    assert rig.store.get("shop") is None
    assert rig.diary.closed == [("shop", "up", None)]
    samples = [sample for family in rig.metrics.registry.collect() for sample in family.samples]
    assert [sample.name for sample in samples if sample.labels.get("workload") == "shop"] == []
    await trio.sleep(100)
    assert len(rig.diary.of("shop")) == 2


async def test_one_that_comes_back_before_its_tick_has_ended_lives_on(autojump_clock: MockClock, rig: Rig) -> None:
    began = trio.current_time()
    rig.fleet.put(rig.runner("shop", "old", lasts=10.0))
    await trio.sleep(3)
    rig.fleet.remove("shop")
    rig.fleet.put(rig.runner("shop", "new"))
    await trio.sleep(50)
    assert rig.diary.ticked[:2] == [("shop", "old", began), ("shop", "new", began + 10)]
    assert len(rig.diary.ticked) == 3
    assert rig.store.get("shop") is not None


@pytest.mark.parametrize("away_for", [1.0, 5.0])
async def test_one_that_comes_back_continues_from_its_saved_state_though_its_tick_still_runs(
    autojump_clock: MockClock, nursery: trio.Nursery, away_for: float
) -> None:
    store, metrics, states = MemoryStore(), Metrics(), MemoryStates()
    fleet = Fleet(store, metrics, keeper=StateKeeper(states, store, wall_clock(), metrics))
    await states.save(make_kept_state())
    found: list[Snapshot | None] = []

    async def tick() -> None:
        found.append(store.previous("shop"))
        await trio.sleep(3)

    await nursery.start(fleet.run)
    fleet.put(make_runner(make_settings("shop", "old"), tick))
    await trio.sleep(1)
    fleet.remove("shop")
    await trio.sleep(away_for)
    fleet.put(make_runner(make_settings("shop", "new"), tick))
    await trio.sleep(5)
    assert [None if snapshot is None else snapshot.made_at for snapshot in found] == [START, START]


async def test_the_lag_of_every_beat_is_observed(autojump_clock: MockClock, rig: Rig) -> None:
    rig.fleet.put(rig.runner("shop"))
    await trio.sleep(100)
    [count] = [
        sample.value
        for family in rig.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "kedastral_tick_lag_seconds_count"
    ]
    assert count == 4


async def test_what_leaves_a_tick_leaves_the_fleet(autojump_clock: MockClock) -> None:
    rig = Rig()

    async def explode() -> None:
        raise ZeroDivisionError("a bug")

    rig.fleet.put(attrs.evolve(rig.runner("shop"), tick=explode))
    with pytest.RaisesGroup(ZeroDivisionError):
        await rig.fleet.run()


@given(st.text())
def test_a_place_in_the_interval_is_the_keys_alone(key: str) -> None:
    assert 0 <= spread(key) < 1
    assert spread(key) == spread(key)


def test_places_are_spread_evenly() -> None:
    counts = [0] * 10
    for number in range(10_000):
        counts[int(spread(f"team/shop-{number}") * 10)] += 1
    assert min(counts) > 850
    assert max(counts) < 1150
