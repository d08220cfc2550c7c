# SPDX-License-Identifier: Apache-2.0
"""Pods that share workloads: one pod at a time forecasts each, even if pods join, leave, die, sleep or are cut off."""

import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial

import attrs
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from kedastral.clock import AcceleratedClock
from kedastral.core.ports import Found, Membership, SharedWrite, Written
from kedastral.errors import StoreError
from kedastral.serving.metrics import Metrics, StorageMetrics
from kedastral.serving.shared_store import SharedStore, Terms
from kedastral.workloads.division import GIVE_WAY_FOR, SLACK, Division, KnownWorkloads, Turn, rank_members, share_out
from kedastral.workloads.ticker import Beats, run_ticker, spread
from tests.exchange import MemoryExchange, MemoryRegistry
from tests.parts import make_snapshot, wall_clock

AWAY = StoreError("redis://r:6379 cannot be reached: connection refused", reason="unreachable")
INTERVAL, LEASE, STALE_AFTER = 30.0, 10.0, 120.0
NAMES = [f"w{number}" for number in range(60)]


# Which pod has which workload.


@pytest.mark.parametrize("count", [30, 300, 3000])
@pytest.mark.parametrize("pods", [1, 2, 3, 7])
def test_the_load_is_even_within_a_fifth(count: int, pods: int) -> None:
    names, members = [f"ns/w{number}" for number in range(count)], {f"pod-{number}" for number in range(pods)}
    owners = dict(share_out(names, members))
    assert owners.keys() == set(names)
    loads, mean = Counter(owners.values()), count / pods
    most = (1 + SLACK) * mean + 1
    assert all(load <= most for load in loads.values())
    assert all(abs(loads[member] - mean) <= max(0.2 * mean, 2) for member in members), loads


@given(st.sets(st.text(max_size=5), max_size=30), st.sets(st.text(min_size=1, max_size=3), min_size=1, max_size=5))
def test_everybody_computes_the_same_from_the_same(names: set[str], members: set[str]) -> None:
    assert dict(share_out(sorted(names), sorted(members))) == dict(
        share_out(sorted(names, reverse=True), sorted(members, reverse=True))
    )


def test_few_workloads_move_where_a_pod_comes_or_goes() -> None:
    names = [f"w{number}" for number in range(1000)]
    three = dict(share_out(names, {"a", "b", "c"}))
    two = dict(share_out(names, {"a", "b"}))
    moved = sum(three[name] != two[name] for name in names if three[name] != "c")
    assert moved < 100, "those that had a place keep it, but for a few"


def test_the_ranking_of_others_does_not_change_where_one_goes() -> None:
    for name in NAMES:
        ranked = [one for one in rank_members(name, {"a", "b", "c", "d"}) if one != "b"]
        assert ranked == rank_members(name, {"a", "c", "d"})


# Pods, on virtual time.


@attrs.define
class Cable:
    """The network between one pod and the others; nothing passes while it is ``cut``."""

    exchange: MemoryExchange
    registry: MemoryRegistry
    cut: bool = False

    async def write(self, writes: Sequence[SharedWrite]) -> Sequence[Written]:
        await self._pass()
        return await self.exchange.write(writes)

    async def read(self, stamps: Mapping[str, str]) -> Mapping[str, Found]:
        await self._pass()
        return await self.exchange.read(stamps)

    async def changes(self, since: int) -> Mapping[str, int]:
        await self._pass()
        return await self.exchange.changes(since)

    async def renew(self, member: str, lease: float, token: int) -> Membership:
        await self._pass()
        return await self.registry.renew(member, lease, token)

    async def leave(self, member: str) -> None:
        await self._pass()
        await self.registry.leave(member)

    async def _pass(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.cut:
            raise AWAY


@attrs.define
class Pod:
    """A running pod: its memory, its share, and how to end it."""

    name: str
    cable: Cable
    store: SharedStore
    division: Division
    nursery: trio.Nursery
    known: list[str]

    def kill(self) -> None:
        """Kill it as with SIGKILL: it does not sign off."""
        self.cable.cut = True
        self.nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """In order."""
        self.nursery.cancel_scope.cancel()


@attrs.define
class Site:
    """Pods with a shared exchange, and a record of who forecast what when; a tick takes ``tick_takes`` seconds."""

    nursery: trio.Nursery
    exchange: MemoryExchange = attrs.field(factory=MemoryExchange)
    registry: MemoryRegistry = attrs.field(factory=MemoryRegistry)
    ticks: list[tuple[float, str, str]] = attrs.field(factory=list)
    tick_takes: float = 0.5
    asks_after: float = 0.0
    """Seconds after its beat at which a tick asks for the load."""
    stale_after: float = STALE_AFTER
    broken: set[str] = attrs.field(factory=set)
    """Pods whose ticks fail."""

    async def start(
        self,
        name: str,
        known: Collection[str] = NAMES,
        from_scaledobjects: Collection[str] = (),
        settings: str = "",
        ahead: float = 0.0,
    ) -> Pod:
        """Start a pod with these ``settings``, whose clock is ``ahead`` by so many seconds."""
        cable = Cable(self.exchange, self.registry)
        metrics = Metrics()
        storage = StorageMetrics(metrics.registry)
        clock = AcceleratedClock(self.exchange.clock.now() + timedelta(seconds=ahead))
        terms = Terms(settings, self.stale_after)
        store = SharedStore(cable, metrics, storage, clock, terms=lambda _: terms)
        division = Division(cable, name, store, clock, metrics, storage, LEASE)
        pod = Pod(name, cable, store, division, self.nursery, list(known))
        store.token = division.token
        division.known = lambda: KnownWorkloads(pod.known, from_scaledobjects)
        for workload in (*known, *from_scaledobjects):
            store.follow(workload)
        await self.nursery.start(self._run, pod, (*known, *from_scaledobjects))
        return pod

    async def _run(
        self, pod: Pod, workloads: Sequence[str], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        async with trio.open_nursery() as pod.nursery:
            await pod.nursery.start(pod.store.run)
            await pod.nursery.start(pod.division.run)
            for workload in workloads:
                beats = Beats.from_now(INTERVAL, spread(workload) * INTERVAL)
                pod.nursery.start_soon(run_ticker, partial(self._tick, pod, workload, beats), beats)
            task_status.started()

    async def _tick(self, pod: Pod, workload: str, beats: Beats) -> None:
        turn = Turn(workload, INTERVAL, self.stale_after, beats.next_after_now())
        if not pod.division.is_mine(turn) and not await pod.division.wait_for_turn(turn):
            return
        await trio.sleep(self.asks_after)
        made_at = pod.store.clock.now()
        self.ticks.append((trio.current_time(), pod.name, workload))
        await trio.sleep(self.tick_takes)
        if pod.name not in self.broken:
            made, by = make_snapshot(workload=workload, made_at=made_at), pod.store.terms(workload).fingerprint
            await pod.store.put(attrs.evolve(made, fingerprint=by))
        pod.division.note(turn)

    def since(self, moment: float, until: float = float("inf")) -> dict[str, list[tuple[float, str]]]:
        """For each workload, who ticked when, from ``moment`` on."""
        found: dict[str, list[tuple[float, str]]] = {}
        for at, pod, workload in self.ticks:
            if moment <= at < until:
                found.setdefault(workload, []).append((at, pod))
        return found

    def longest_gap(self, moment: float) -> float:
        """The longest time from ``moment`` to now without a forecast of a workload."""
        now, found = trio.current_time(), self.since(moment)
        gaps = []
        for workload in NAMES:
            times = [moment, *(at for at, _ in found.get(workload, [])), now]
            gaps.append(max(b - a for a, b in itertools.pairwise(times)))
        return max(gaps)

    def longest_double(self, moment: float) -> float:
        """The longest time from ``moment`` on in which two pods took turns in forecasting a workload."""
        longest = 0.0
        for ticks in self.since(moment).values():
            lasts = 0.0
            for (first, one), (second, other), (third, again) in zip(ticks, ticks[1:], ticks[2:], strict=False):
                took_turns = one == again != other and third - first < 1.5 * INTERVAL
                lasts = lasts + third - second if took_turns else 0.0
                longest = max(longest, lasts)
        return longest


@pytest.fixture
async def site(autojump_clock: MockClock) -> AsyncIterator[Site]:
    async with trio.open_nursery() as nursery:
        yield Site(nursery, MemoryExchange(wall_clock()))
        nursery.cancel_scope.cancel()


def owners(site: Site, moment: float) -> dict[str, set[str]]:
    return {workload: {pod for _, pod in ticks} for workload, ticks in site.since(moment).items()}


async def test_each_workload_is_forecast_by_one_and_served_by_all(autojump_clock: MockClock, site: Site) -> None:
    pods = [await site.start(name) for name in "abc"]
    await trio.sleep(2 * INTERVAL)
    settled = trio.current_time()
    await trio.sleep(10 * INTERVAL)
    found = owners(site, settled)
    assert found.keys() == set(NAMES)
    assert all(len(pods) == 1 for pods in found.values())
    loads = Counter(pod for pods in found.values() for pod in pods)
    assert all(abs(load - 20) <= 4 for load in loads.values())
    assert site.longest_gap(settled) <= INTERVAL + 0.1
    for pod in pods:
        assert pod.store.newest().keys() == set(NAMES)
        assert all(one.age(site.exchange.clock.now()) <= INTERVAL + 3 for one in pod.store.newest().values())


async def test_a_killed_pod_is_replaced_within_two_intervals(autojump_clock: MockClock, site: Site) -> None:
    pods = [await site.start(name) for name in "abc"]
    await trio.sleep(5 * INTERVAL)
    pods[0].kill()
    killed = trio.current_time()
    await trio.sleep(2 * INTERVAL)
    lost = {workload for workload in NAMES if site.since(killed - 2 * INTERVAL, killed)[workload][-1][1] == "a"}
    assert lost
    assert all(workload in site.since(killed) for workload in lost)
    await trio.sleep(5 * INTERVAL)
    assert site.longest_gap(killed - 2 * INTERVAL) < 2 * INTERVAL
    assert site.longest_double(killed) <= INTERVAL
    assert {pod for pods in owners(site, killed + 2 * INTERVAL).values() for pod in pods} == {"b", "c"}


async def test_a_rolling_restart_loses_no_beat(autojump_clock: MockClock, site: Site) -> None:
    pods = [await site.start(name) for name in "abc"]
    await trio.sleep(5 * INTERVAL)
    began = trio.current_time()
    for old, new in zip(pods, "def", strict=True):
        await site.start(new)
        await trio.sleep(20)
        old.stop()
        await trio.sleep(20)
    await trio.sleep(5 * INTERVAL)
    assert site.longest_gap(began) <= INTERVAL + LEASE / 3 + 0.5, "what was due as a pod left is late by a renewal"
    assert site.longest_double(began) <= INTERVAL
    found = owners(site, began + 4 * INTERVAL + 40)
    assert all(len(pods) == 1 for pods in found.values())


async def test_a_pod_that_is_cut_off_stops_and_rides_its_plans_and_the_others_take_over(
    autojump_clock: MockClock, site: Site
) -> None:
    pods = [await site.start(name) for name in "abc"]
    await trio.sleep(5 * INTERVAL)
    cut = trio.current_time()
    pods[0].cable.cut = True
    await trio.sleep(0.9 * INTERVAL)  # the plans of the others are not nearly stale yet
    assert "a" not in {pod for pods in owners(site, cut + LEASE).values() for pod in pods}
    assert pods[0].store.newest().keys() == set(NAMES), "it answers for all"
    assert site.longest_gap(cut - INTERVAL) < 2 * INTERVAL
    pods[0].cable.cut = False
    healed = trio.current_time()
    await trio.sleep(5 * INTERVAL)
    found = owners(site, healed + INTERVAL)
    assert all(len(pods) == 1 for pods in found.values())
    assert {pod for pods in found.values() for pod in pods} == {"a", "b", "c"}
    assert site.longest_double(cut) <= INTERVAL


async def test_a_pod_that_stays_cut_off_goes_on_before_its_plans_are_stale(
    autojump_clock: MockClock, site: Site
) -> None:
    pods = [await site.start(name) for name in "ab"]
    await trio.sleep(5 * INTERVAL)
    pods[0].cable.cut = True
    for _ in range(20):
        await trio.sleep(INTERVAL)
        now = site.exchange.clock.now()
        assert all(snapshot.age(now) < STALE_AFTER for snapshot in pods[0].store.newest().values())
    mine = {workload for _, pod, workload in site.ticks[-200:] if pod == "a"}
    assert mine == set(NAMES), "what the other one has too: KEDA may ask for it here"


@pytest.mark.parametrize(("stale_after", "spare"), [(2.5, 0), (3, 0), (4, 1)], ids=str)
async def test_a_load_that_is_asked_for_a_moment_after_the_beat_lets_no_plan_go_stale(
    autojump_clock: MockClock, site: Site, stale_after: float, spare: float
) -> None:
    """By default there is an interval to spare for forecasts that are slow."""
    site.stale_after, site.asks_after = stale_after * INTERVAL, 0.02
    pods = [await site.start(name) for name in "ab"]
    await trio.sleep(5 * INTERVAL)
    for pod in pods:
        pod.cable.cut = True
    oldest = 0.0
    for _ in range(int(10 * INTERVAL)):
        await trio.sleep(1)
        now = site.exchange.clock.now()
        oldest = max(oldest, *(one.age(now) for pod in pods for one in pod.store.newest().values()))
    assert oldest < site.stale_after - spare * INTERVAL


async def test_where_the_registry_is_gone_for_all_each_goes_on_with_everything(
    autojump_clock: MockClock, site: Site
) -> None:
    pods = [await site.start(name) for name in "abc"]
    await trio.sleep(5 * INTERVAL)
    for pod in pods:
        pod.cable.cut = True
    await trio.sleep(STALE_AFTER)
    moment = trio.current_time()
    await trio.sleep(5 * INTERVAL)
    assert owners(site, moment) == {workload: {"a", "b", "c"} for workload in NAMES}
    assert site.longest_gap(moment) <= INTERVAL + 0.1
    for pod in pods:
        pod.cable.cut = False
    await trio.sleep(2 * INTERVAL)
    settled = trio.current_time()
    await trio.sleep(3 * INTERVAL)
    assert all(len(pods) == 1 for pods in owners(site, settled).values())


def of_the_division(caplog: pytest.LogCaptureFixture) -> Sequence[str]:
    return [record.getMessage() for record in caplog.records if record.name == "kedastral.division"]


async def test_a_pod_that_starts_without_a_registry_forecasts_everything(
    autojump_clock: MockClock, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.division")
    site.registry.fault = site.exchange.fault = AWAY
    await site.start("a")
    await trio.sleep(5 * INTERVAL)
    assert site.since(0).keys() == set(NAMES)
    assert site.longest_gap(INTERVAL) <= INTERVAL + 0.1
    [said] = of_the_division(caplog)
    assert said.startswith("no lease could be taken since the start: ")
    site.registry.fault = site.exchange.fault = None
    await trio.sleep(INTERVAL)
    assert of_the_division(caplog)[1] == "shares the workloads with the other pods"


async def test_what_a_lost_lease_means_is_said_once_and_when_it_is_over(
    autojump_clock: MockClock, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.start("a")
    await trio.sleep(INTERVAL)
    caplog.set_level(logging.INFO, "kedastral.division")
    caplog.clear()
    site.registry.fault = AWAY
    await trio.sleep(INTERVAL)
    [said] = of_the_division(caplog)
    assert said.startswith("the lease has ended and cannot be renewed: this pod serves the last plans")
    site.registry.fault = None
    await trio.sleep(INTERVAL)
    assert of_the_division(caplog)[1] == "shares the workloads with the other pods again"


async def test_a_pod_that_slept_cannot_write_what_it_was_about_to(autojump_clock: MockClock, site: Site) -> None:
    one, two = await site.start("a", ["w"]), await site.start("b", ["w"])
    await trio.sleep(3 * INTERVAL)
    [owner] = owners(site, 2 * INTERVAL)["w"]
    sleeper = one if owner == "a" else two
    late = make_snapshot([7], workload="w", made_at=site.exchange.clock.now())
    sleeper.cable.cut = True  # asleep: it renews nothing
    await trio.sleep(2 * INTERVAL)
    sleeper.cable.cut = False
    token = sleeper.division.token()
    assert token < site.exchange.entries["w"].token
    written = await site.exchange.write([SharedWrite(late, token)])
    assert written[0].outcome == "fenced"
    fresh = make_snapshot([7], workload="w", made_at=site.exchange.clock.now())
    written = await site.exchange.write([SharedWrite(fresh, token)])
    assert written[0].outcome == "fenced", "however new it is"
    assert 7 not in site.exchange.entries["w"].snapshot.replicas


async def test_a_workload_that_its_owner_does_not_know_is_forecast_by_a_pod_that_does(
    autojump_clock: MockClock, site: Site
) -> None:
    await site.start("a", NAMES)
    await site.start("b", NAMES[:30])  # its files are older
    await trio.sleep(8 * INTERVAL)
    moment = trio.current_time()
    await trio.sleep(5 * INTERVAL)
    assert owners(site, moment).keys() == set(NAMES)
    assert site.longest_gap(moment) <= (1 + GIVE_WAY_FOR) * INTERVAL + 0.1


async def test_a_workload_that_a_scaled_object_brought_to_one_pod_is_forecast_there_at_once(
    autojump_clock: MockClock, site: Site
) -> None:
    await site.start("a", [])
    await site.start("b", [], NAMES[:10])
    await trio.sleep(1)
    assert owners(site, 0) == {workload: {"b"} for workload in NAMES[:10]}


async def test_a_pod_that_cannot_forecast_gives_way_to_one_that_can(autojump_clock: MockClock, site: Site) -> None:
    await site.start("a")
    await site.start("b")
    site.broken.add("a")
    await trio.sleep(10 * INTERVAL)
    ages = [entry.snapshot.age(site.exchange.clock.now()) for entry in site.exchange.entries.values()]
    assert len(ages) == len(NAMES)
    assert max(ages) <= (1 + GIVE_WAY_FOR) * INTERVAL + 1


@pytest.mark.parametrize("later", [0.0, 0.3])
async def test_an_owner_that_forecasts_again_in_the_same_moment_is_given_way_to(
    autojump_clock: MockClock, site: Site, later: float
) -> None:
    """The pod that stood in for it overwrites at once what it writes."""
    await site.start("a")
    await trio.sleep(later)
    await site.start("b")
    for broken in ("a", "b"):
        site.broken.add(broken)
        await trio.sleep(8 * INTERVAL)
        site.broken.discard(broken)
        await trio.sleep(5 * INTERVAL)
        moment = trio.current_time()
        await trio.sleep(4 * INTERVAL)
        assert [one for one, pods in owners(site, moment).items() if len(pods) > 1] == []


@pytest.mark.parametrize("waits_for", ["another pod to go", "the next forecast to be due", "the owner to go first"])
async def test_a_runner_that_is_replaced_while_it_waits_for_its_turn_gets_none(
    autojump_clock: MockClock, site: Site, waits_for: str
) -> None:
    first = await site.start("a", [])
    other = next(
        name for name in (f"b{number}" for number in itertools.count()) if rank_members("w", {name, "a"})[0] == name
    )
    second, interval = await site.start(other, []), 10 * INTERVAL
    for pod in (first, second):
        pod.known.append("w")
        pod.division.reconsider()
    first.store.follow("w")
    await first.store.put(make_snapshot(workload="w", made_at=first.store.clock.now()))
    await trio.sleep(LEASE)
    turn = Turn("w", interval, 2 * interval, trio.current_time() + interval)
    assert not first.division.is_mine(turn)
    if waits_for == "the owner to go first":
        first.division._giving_way.add("w")
    came = []

    async def wait() -> None:
        came.append(await first.division.wait_for_turn(turn))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        if waits_for == "the next forecast to be due":
            second.kill()
        await trio.sleep(2 * LEASE)
        assert came == []
        turn.replaced.set()
        await trio.sleep(0.01)
        assert came == [False]


async def test_where_no_pod_can_forecast_the_others_try_seldom(autojump_clock: MockClock, site: Site) -> None:
    for name in "abc":
        await site.start(name)
        site.broken.add(name)
    await trio.sleep(5 * INTERVAL)
    moment = trio.current_time()
    await trio.sleep(40 * INTERVAL)
    for ticks in site.since(moment).values():
        by_pod = Counter(pod for _, pod in ticks)
        assert sum(by_pod.values()) <= 40 + 2 * 5


async def test_a_workload_that_is_added_is_forecast_within_a_moment(autojump_clock: MockClock, site: Site) -> None:
    pods = [await site.start(name, [*NAMES[:10]]) for name in "ab"]
    await trio.sleep(2 * INTERVAL)
    for pod in pods:
        pod.known.append("new")
        pod.store.follow("new")
        pod.division.reconsider()
    await trio.sleep(0.1)
    turn = Turn("new", INTERVAL, STALE_AFTER, trio.current_time() + INTERVAL)
    assert sum(pod.division.is_mine(turn) for pod in pods) == 1


# Pods that differ.


def oldest_own(pods: Sequence[Pod]) -> float:
    """The greatest age of what the pods serve, each by its own clock."""
    return max(one.age(pod.store.clock.now()) for pod in pods for one in pod.store.newest().values())


async def test_pods_of_two_fleets_each_serve_their_own_numbers(autojump_clock: MockClock, site: Site) -> None:
    pods = []
    for name in ("x1", "y1", "x2", "y2"):
        pods.append(await site.start(name, settings=name[0]))
        await trio.sleep(7)
    await trio.sleep(3 * INTERVAL)
    settled = trio.current_time()
    for _ in range(20):
        await trio.sleep(INTERVAL)
        for pod in pods:
            served = pod.store.newest()
            assert {one.fingerprint for one in served.values()} == {pod.name[0]}
            assert served.keys() == set(NAMES)
        assert oldest_own(pods) < 2.5 * INTERVAL
    later = [len(ticks) for ticks in site.since(settled).values()]
    assert max(later) <= 20 * 3, "each is forecast by hardly more than one pod of each fleet"


@pytest.mark.parametrize("pause", [40, 47])
async def test_a_rolling_update_with_other_settings_loses_no_answer(
    autojump_clock: MockClock, site: Site, pause: float
) -> None:
    """With a pause of 40 s all pods have their beats at the same moments."""
    pods = [await site.start(name, settings="x") for name in "abc"]
    await trio.sleep(5 * INTERVAL)

    async def watch() -> None:
        while True:
            await trio.sleep(1)
            for pod in pods:
                assert pod.store.newest().keys() == set(NAMES), "even a new one answers for all"
            assert oldest_own(pods) < STALE_AFTER

    async with trio.open_nursery() as watching:
        watching.start_soon(watch)
        for name in "def":
            pods.append(await site.start(name, settings="y"))
            await trio.sleep(pause)
            pods.pop(0).stop()
            await trio.sleep(20)
        await trio.sleep(5 * INTERVAL)
        watching.cancel_scope.cancel()
    for pod in pods:
        assert {one.fingerprint for one in pod.store.newest().values()} == {"y"}
    moment = trio.current_time()
    await trio.sleep(4 * INTERVAL)
    assert all(len(owner) == 1 for owner in owners(site, moment).values())


async def test_a_workload_of_a_scaled_object_that_was_edited_is_forecast_anew_by_the_pod_that_knows(
    autojump_clock: MockClock, site: Site
) -> None:
    old, new = await site.start("a", [], ["w"], settings="x"), await site.start("b", [], ["w"], settings="y")
    await trio.sleep(3 * INTERVAL)
    for _ in range(10):
        await trio.sleep(INTERVAL)
        for pod, settings in ((old, "x"), (new, "y")):
            served = pod.store.get("w")
            assert served is not None
            assert served.fingerprint == settings
            assert served.age(site.exchange.clock.now()) < 2.5 * INTERVAL


@pytest.mark.parametrize("ahead", [STALE_AFTER + 10, 3600.0])
async def test_what_a_pod_with_a_wrong_clock_forecasts_is_forecast_by_the_others_too(
    autojump_clock: MockClock, site: Site, ahead: float
) -> None:
    good = [await site.start(name) for name in "ab"]
    await trio.sleep(5 * INTERVAL)
    wrong = await site.start("c", ahead=ahead)
    for _ in range(int(10 * INTERVAL)):
        await trio.sleep(1)
        now = site.exchange.clock.now()
        for pod in good:
            assert all(abs(now - one.made_at).total_seconds() < STALE_AFTER for one in pod.store.newest().values())
    settled = trio.current_time()
    await trio.sleep(5 * INTERVAL)
    assert len({pod for pods in owners(site, settled).values() for pod in pods} - {wrong.name}) == 2
    ages = [one.snapshot.age(site.exchange.clock.now()) for one in site.exchange.entries.values()]
    assert max(ages) < 2.5 * INTERVAL
