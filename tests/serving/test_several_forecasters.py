# SPDX-License-Identifier: Apache-2.0
"""A split scaler with several forecasters: who is asked, what is sent again, and that it never goes back."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import datetime, timedelta

import attrs
import httpx
import pytest
import trio
from trio.testing import MockClock

from kedastral.clock import AcceleratedClock
from kedastral.core.planning.snapshot import Mode, Snapshot
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.serving import decide
from kedastral.serving.asked import MinimumLog
from kedastral.serving.metrics import Metrics
from kedastral.serving.readiness import Readiness
from kedastral.serving.remote import ANSWER_WITHIN, AVOID_FOR, OLD, REFRESH_EVERY, RemoteSnapshots, SnapshotServer
from kedastral.serving.snapshot_api import SnapshotView, create_app
from kedastral.serving.store import MemoryStore
from tests.parts import START, make_snapshot

STALE_AFTER = 120.0


def made(seconds: float, *replicas: int) -> Snapshot:
    return make_snapshot(replicas or (3,), made_at=START + timedelta(seconds=seconds))


@attrs.define
class Pod:
    """A forecaster: its snapshots, whether it answers, and the statuses that it gave."""

    clock: AcceleratedClock
    store: MemoryStore = attrs.field(factory=MemoryStore)
    fault: Exception | float | None = None
    """The error it raises, or how long it does not answer."""
    given: list[int] = attrs.field(factory=list)
    transport: httpx.ASGITransport = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        view = SnapshotView(self.store, lambda _: StalePolicy(STALE_AFTER), self.clock)
        self.transport = httpx.ASGITransport(create_app(view, Readiness.of(()), Metrics().registry))

    async def respond(self, request: httpx.Request) -> httpx.Response:
        if isinstance(self.fault, Exception):
            self.given.append(0)
            raise self.fault
        if self.fault is not None:
            self.given.append(0)
            await trio.sleep(self.fault)
        response = await self.transport.handle_async_request(request)
        self.given.append(response.status_code)
        return response


@attrs.define
class Site:
    """Two forecasters, a scaler's reader of both, and the clock of all three."""

    clock: AcceleratedClock
    first: Pod
    second: Pod
    reader: RemoteSnapshots
    metrics: Metrics

    def made_at(self) -> datetime | None:
        snapshot = self.reader.get("shop")
        return None if snapshot is None else snapshot.made_at


@pytest.fixture
async def site(autojump_clock: MockClock) -> AsyncIterator[Site]:
    clock, metrics = AcceleratedClock(START, origin=0.0), Metrics()
    pods = [Pod(clock), Pod(clock)]
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        servers = []
        for name, pod in zip("ab", pods, strict=True):
            client = httpx.AsyncClient(transport=httpx.MockTransport(pod.respond), base_url=f"http://{name}/")
            servers.append(SnapshotServer(await stack.enter_async_context(client)))
        reader = RemoteSnapshots(servers, metrics, clock=clock, policy=StalePolicy(STALE_AFTER))
        await nursery.start(reader.run)
        yield Site(clock, *pods, reader, metrics)
        nursery.cancel_scope.cancel()


async def pass_beats(count: float = 1) -> None:
    await trio.sleep(count * REFRESH_EVERY + 0.1)


async def test_one_is_asked_while_its_snapshots_are_fresh_and_sends_each_once(
    autojump_clock: MockClock, site: Site
) -> None:
    await site.first.store.put(made(0))
    await site.second.store.put(made(0))
    await site.reader.track("shop")
    await pass_beats(4)
    await site.first.store.put(made(20))
    await pass_beats(3)
    assert site.made_at() == START + timedelta(seconds=20)
    assert [status for status in site.first.given if status == 200] == [200, 200]
    assert set(site.first.given) == {200, 304}
    assert site.second.given == []


@pytest.mark.parametrize("fault", [httpx.ConnectError("refused"), 3600.0], ids=["refuses", "hangs"])
async def test_where_one_fails_the_next_is_asked_and_stays_the_one_to_ask(
    autojump_clock: MockClock, site: Site, fault: Exception | float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kedastral.client")
    await site.first.store.put(made(0))
    await site.reader.track("shop")
    site.first.fault = fault
    await site.second.store.put(made(10))
    await trio.sleep(REFRESH_EVERY + ANSWER_WITHIN + 0.1)
    assert site.made_at() == START + timedelta(seconds=10)
    site.first.given.clear()
    for n in range(2, 9):
        await site.second.store.put(made(10 * n))
        await pass_beats(2)
        assert site.made_at() == START + timedelta(seconds=10 * n)
    assert site.first.given == []
    assert [record.getMessage() for record in caplog.records] == ["a forecaster fails; the others are asked"]


async def test_where_none_has_a_workload_that_one_has_it_is_found(autojump_clock: MockClock, site: Site) -> None:
    await site.second.store.put(made(0))
    await site.reader.track("shop")
    assert site.made_at() == START
    assert site.first.given == [404]


async def test_where_the_snapshot_of_one_grows_old_the_newest_of_all_counts(
    autojump_clock: MockClock, site: Site
) -> None:
    await site.first.store.put(made(0))
    await site.second.store.put(made(-30))
    await site.reader.track("shop")
    await trio.sleep(STALE_AFTER * OLD - 10)
    assert site.second.given == []
    await trio.sleep(20)
    assert site.second.given
    assert site.made_at() == START, "an older one never replaces a newer one"
    await site.second.store.put(made(70, 9))
    await pass_beats(1)
    assert site.made_at() == START + timedelta(seconds=70)


async def test_it_never_goes_back_however_forecasters_come_and_go(autojump_clock: MockClock, site: Site) -> None:
    pods, seen = [site.first, site.second], list[datetime]()
    await site.reader.track("shop")
    for n in range(30):
        await pods[n % 2].store.put(made(10 * n - (15 if n % 3 else 0)))
        pods[n % 2].fault = httpx.ConnectError("gone") if n % 5 == 0 else None
        await trio.sleep(10)
        found = site.made_at()
        if found is not None:
            seen.append(found)
    assert len(seen) >= 28
    assert seen == sorted(seen)
    assert seen[-1] > START + timedelta(seconds=200)


@pytest.mark.parametrize("ahead", [STALE_AFTER + 10, 3600])
async def test_a_snapshot_from_the_future_replaces_none_and_the_other_forecaster_is_asked(
    autojump_clock: MockClock, site: Site, ahead: float, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("shop", "pay"):
        await site.first.store.put(make_snapshot(workload=name))
        await site.reader.track(name)
    for beat in range(1, 30):
        for name in ("shop", "pay"):
            wrong = make_snapshot([1], workload=name, made_at=site.clock.now() + timedelta(seconds=ahead))
            await site.first.store.put(wrong)
            await site.second.store.put(make_snapshot(workload=name, made_at=site.clock.now()))
        await pass_beats(2)
        found = site.reader.get("shop")
        assert found is not None
        assert decide(found, site.clock.now(), StalePolicy(STALE_AFTER)).replicas == 8, f"after {beat} beats"
    [record] = caplog.records
    assert "the forecaster at http://a gives forecasts from" in record.getMessage()


async def test_where_there_is_nothing_but_a_snapshot_from_the_future_it_gives_way_to_an_older_one(
    autojump_clock: MockClock, site: Site
) -> None:
    site.reader.policy = StalePolicy(40.0)
    await site.first.store.put(made(50))
    await site.reader.track("shop")
    assert site.made_at() == START + timedelta(seconds=50), "it says what is wrong"
    await site.second.store.put(made(0))
    await pass_beats(1)
    assert site.made_at() == START


async def test_while_all_fail_the_last_snapshot_goes_stale_by_the_scalers_own_clock(
    autojump_clock: MockClock, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.first.store.put(made(0))
    await site.reader.track("shop")
    site.first.fault = site.second.fault = httpx.ConnectError("refused")
    policy = StalePolicy(STALE_AFTER, OnStale.ERROR)
    await trio.sleep(STALE_AFTER - 1)
    assert decide(site.reader.get("shop"), site.clock.now(), policy).replicas == 4
    await trio.sleep(2)
    assert decide(site.reader.get("shop"), site.clock.now(), policy).replicas is None
    [record] = [one for one in caplog.records if one.getMessage() == "cannot read the snapshot"]
    assert "http://a " in vars(record)["err"]
    assert "http://b " in vars(record)["err"]


async def test_one_that_failed_is_asked_last_for_a_while(autojump_clock: MockClock, site: Site) -> None:
    site.first.fault = 3600.0
    await site.second.store.put(made(0))
    await site.reader.track("shop")
    await trio.sleep(REFRESH_EVERY + ANSWER_WITHIN + 0.1)
    began = trio.current_time()
    for number in range(20):
        await site.second.store.put(make_snapshot(workload=f"w{number}"))
        await site.reader.track(f"w{number}")
        assert site.reader.get(f"w{number}") is not None
    assert trio.current_time() - began < 0.1
    await trio.sleep(AVOID_FOR)
    site.first.fault = None
    await site.first.store.put(make_snapshot(workload="late"))
    await site.reader.track("late")
    assert site.reader.get("late") is not None


@pytest.mark.parametrize("tag", ["", '"' + "x" * 300 + '"', '"é"'], ids=["none", "long", "not ASCII"])
async def test_a_tag_that_cannot_be_sent_back_is_not(autojump_clock: MockClock, tag: str) -> None:
    asked: list[str | None] = []
    pod = Pod(AcceleratedClock(START, origin=0.0))
    await pod.store.put(made(0))

    async def respond(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("If-None-Match"))
        found = await pod.respond(request)
        headers = [("ETag", tag.encode())] if tag else []
        return httpx.Response(200, content=await found.aread(), headers=headers)

    async with httpx.AsyncClient(transport=httpx.MockTransport(respond), base_url="http://a/") as client:
        server = SnapshotServer(client)
        for _ in range(2):
            found = await server.read("shop", "")
            assert found is not None
            assert found.snapshot == made(0)
            assert found.tag == ""
    assert asked == [None, None]


async def test_a_304_that_nobody_asked_for_is_a_failure(autojump_clock: MockClock) -> None:
    def respond(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(304)

    metrics = Metrics()
    async with httpx.AsyncClient(transport=httpx.MockTransport(respond), base_url="http://a/") as client:
        reader = RemoteSnapshots([SnapshotServer(client)], metrics)
        await reader.track("shop")
    assert reader.get("shop") is None
    labels = {"component": "client", "reason": "http_status"}
    assert metrics.registry.get_sample_value("kedastral_errors_total", labels) == 1


@pytest.mark.parametrize(
    ("policy", "change", "warned"),
    [
        (StalePolicy(), {"min_replicas": 5}, True),
        (StalePolicy(default_min=5), {"min_replicas": 5}, False),
        (StalePolicy(), {"min_replicas": None}, False),
        (StalePolicy(on_stale=OnStale.ERROR), {"min_replicas": 5}, False),
        (StalePolicy(), {"min_replicas": 5, "mode": Mode.OBSERVE}, False),
    ],
)
def test_a_default_min_below_the_minimum_of_the_workload_is_warned_of_once(
    policy: StalePolicy, change: dict[str, int | Mode | None], warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    log = MinimumLog(policy)
    for seconds in range(3):
        log.note(attrs.evolve(made(seconds), **change))  # type: ignore[arg-type]
    words = "--default-min (2) is below the workload's minimum (5): a stale forecast asks for fewer than any plan"
    assert [record.getMessage() for record in caplog.records] == [words] * warned
    log.note(attrs.evolve(made(4), min_replicas=policy.default_min))
    log.note(attrs.evolve(made(5), **change))  # type: ignore[arg-type]
    assert len(caplog.records) == 2 * warned, "it was mended, and is wrong again"
