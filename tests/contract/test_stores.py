# SPDX-License-Identifier: Apache-2.0
"""The contract of every store and every reader of snapshots, whatever its implementation."""

import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from kedastral.adapters.http import BearerAuth, SecretText
from kedastral.adapters.redis.snapshots import RedisSnapshots
from kedastral.core.planning.snapshot import Snapshot, replicas_at
from kedastral.core.planning.stabilization import Resumption
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.ports import SnapshotExchange, SnapshotReader, SnapshotStore
from kedastral.errors import RemoteError, StoreError
from kedastral.serving import asked
from kedastral.serving import remote as client_module
from kedastral.serving.asked import FIRST_WAIT
from kedastral.serving.metrics import Metrics, StorageMetrics
from kedastral.serving.readiness import Readiness
from kedastral.serving.remote import ANSWER_WITHIN, REFRESH_EVERY, RemoteSnapshots, SnapshotServer
from kedastral.serving.shared_store import POLL_EVERY, SharedSnapshots, SharedStore
from kedastral.serving.snapshot_api import SnapshotView, create_app
from kedastral.serving.store import MemoryStore
from tests import redis_servers
from tests.exchange import MemoryExchange
from tests.parts import START, make_snapshot, wall_clock


@asynccontextmanager
async def open_memory(_home: Path) -> AsyncIterator[SnapshotStore]:
    yield MemoryStore()


@asynccontextmanager
async def share(exchange: SnapshotExchange) -> AsyncIterator[SnapshotStore]:
    metrics = Metrics()
    store = SharedStore(exchange, metrics, StorageMetrics(metrics.registry), wall_clock())
    async with trio.open_nursery() as nursery:
        await nursery.start(store.run)
        yield store
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_shared(_home: Path) -> AsyncIterator[SnapshotStore]:
    async with share(MemoryExchange()) as store:
        yield store


@asynccontextmanager
async def open_in_redis(home: Path) -> AsyncIterator[SnapshotStore]:
    with redis_servers.plain(home) as place:
        connection = place.connect()
        async with trio.open_nursery() as nursery:
            await nursery.start(connection.run)
            async with share(RedisSnapshots(connection)) as store:
                yield store
            nursery.cancel_scope.cancel()


STORES = [
    pytest.param(open_memory, id="memory"),
    pytest.param(open_shared, id="shared"),
    pytest.param(open_in_redis, id="redis", marks=pytest.mark.integration),
]


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SnapshotStore]:
    async with request.param(tmp_path) as made:
        yield made


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


async def test_what_was_put_is_found(store: SnapshotStore) -> None:
    assert store.get("shop") is None
    assert dict(store.newest()) == {}
    snapshot = make_snapshot()
    assert await store.put(snapshot) is True
    await store.track("shop")
    assert store.get("shop") == snapshot
    assert dict(store.newest()) == {"shop": snapshot}
    assert store.get("SHOP") is None


async def test_what_is_revised_is_as_old_as_before_and_is_continued_from(store: SnapshotStore) -> None:
    def revise(snapshot: Snapshot) -> Snapshot:
        return attrs.evolve(snapshot, lead_time=snapshot.lead_time * 2)

    store.revise("shop", revise)
    assert store.get("shop") is None
    made = make_snapshot()
    await store.put(made)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.wait_for_change, "shop")
        await wait_all_tasks_blocked()
        store.revise("shop", revise)
    assert store.get("shop") == store.previous("shop") == revise(made)
    assert await store.put(made) is True


async def test_what_is_forgotten_is_gone_and_may_come_again(store: SnapshotStore) -> None:
    for name in ("shop", "pay"):
        await store.put(make_snapshot(workload=name))
    store.forget("shop")
    store.forget("nobody")
    assert store.get("shop") is None
    assert set(store.newest()) == {"pay"}
    assert await store.put(make_snapshot(workload="shop")) is True
    assert set(store.newest()) == {"pay", "shop"}


async def test_workloads_are_kept_apart(store: SnapshotStore) -> None:
    names = ["a", "b", "a/b", "a b", "✓", "a" * 1000]
    for name in names:
        await store.put(make_snapshot(workload=name))
    assert set(store.newest()) == set(names)
    assert all(found is not None and found.workload == name for name in names for found in [store.get(name)])


@pytest.mark.parametrize("name", ["", " ", "\t\n"])
async def test_a_snapshot_of_no_workload_is_refused(store: SnapshotStore, name: str) -> None:
    with pytest.raises(StoreError) as caught:
        await store.put(make_snapshot(workload=name))
    assert caught.value.reason == "no_workload"
    assert dict(store.newest()) == {}


async def test_an_older_snapshot_never_replaces_a_newer_one(store: SnapshotStore) -> None:
    newer, older = make_snapshot(made_at=at(30)), make_snapshot(made_at=at(0))
    assert await store.put(newer) is True
    assert await store.put(older) is False
    assert store.get("shop") is newer


async def test_after_the_clock_was_set_back_new_snapshots_are_kept(store: SnapshotStore) -> None:
    before, after = make_snapshot(made_at=at(60)), make_snapshot(made_at=at(-0.001))
    assert await store.put(before) is True
    assert await store.put(make_snapshot(made_at=at(0))) is False
    assert await store.put(after) is True
    assert store.get("shop") is after
    assert await store.put(make_snapshot(made_at=at(30))) is True


async def test_of_two_made_at_the_same_moment_the_later_put_counts(store: SnapshotStore) -> None:
    first, second = make_snapshot([1]), make_snapshot([2])
    assert await store.put(first)
    assert await store.put(second)
    assert store.get("shop") is second


async def test_the_newest_map_is_no_window_into_the_store(store: SnapshotStore) -> None:
    await store.put(make_snapshot())
    seen = store.newest()
    await store.put(make_snapshot(workload="other"))
    assert set(seen) == {"shop"}


async def test_concurrent_writers_and_readers_see_whole_snapshots_that_never_go_back(store: SnapshotStore) -> None:
    names = [f"w{n}" for n in range(10)]

    async def write(writer: int) -> None:
        for n in range(100):
            name = names[(writer + n) % len(names)]
            await store.put(make_snapshot([writer, n], made_at=at((writer + 50 * n) / 100), workload=name))

    async def read(reader: int) -> None:
        seen: dict[str, datetime] = {}
        for n in range(100):
            await trio.lowlevel.checkpoint()
            name = names[(reader + n) % len(names)]
            for found in (store.get(name), store.newest().get(name)):
                if found is None:
                    continue
                writer, count = found.replicas.tolist()
                assert (found.workload, found.made_at) == (name, at((writer + 50 * count) / 100))
                assert found.made_at >= seen.get(name, found.made_at)
                seen[name] = found.made_at

    async with trio.open_nursery() as nursery:
        for number in range(50):
            nursery.start_soon(write, number)
            nursery.start_soon(read, number)
    newest = dict.fromkeys(names, START)
    for writer, n in itertools.product(range(50), range(100)):
        name = names[(writer + n) % len(names)]
        newest[name] = max(newest[name], at((writer + 50 * n) / 100))
    assert {name: found.made_at for name, found in store.newest().items()} == newest


# --- readers: the stores themselves, and the split scaler's over HTTP ---


@attrs.define
class Forecaster:
    """A forecaster's snapshot server behind a transport, and how it misbehaves."""

    store: MemoryStore = attrs.field(factory=MemoryStore)
    asked: list[str] = attrs.field(factory=list)
    answer: Callable[[httpx.Request], Awaitable[httpx.Response]] | None = None
    transport: httpx.ASGITransport = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        view = SnapshotView(self.store, lambda _: StalePolicy(), wall_clock())
        self.transport = httpx.ASGITransport(create_app(view, Readiness.of(()), Metrics().registry))

    async def respond(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.params["workload"])
        if self.answer is not None:
            return await self.answer(request)
        return await self.transport.handle_async_request(request)


@attrs.define
class Remote:
    """A running remote reader, and the forecaster it reads."""

    forecaster: Forecaster
    reader: RemoteSnapshots
    metrics: Metrics

    @property
    def errors(self) -> dict[str, float]:
        """Failures counted, by reason."""
        return {
            sample.labels["reason"]: sample.value
            for family in self.metrics.errors.collect()
            for sample in family.samples
            if sample.name == "kedastral_errors_total"
        }


@pytest.fixture
async def remote(autojump_clock: MockClock) -> AsyncIterator[Remote]:
    forecaster, metrics = Forecaster(), Metrics()
    async with httpx.AsyncClient(
        transport=httpx.MockTransport(forecaster.respond), base_url="http://forecaster:8081/"
    ) as http:
        reader = RemoteSnapshots([SnapshotServer(http)], metrics, clock=wall_clock())
        async with trio.open_nursery() as nursery:
            await nursery.start(reader.run)
            yield Remote(forecaster, reader, metrics)
            nursery.cancel_scope.cancel()


Put = Callable[[Snapshot], Awaitable[object]]


@pytest.fixture(params=["memory", "shared", "asked of what is shared", "remote"])
async def reader_and_put(request: pytest.FixtureRequest, remote: Remote) -> AsyncIterator[tuple[SnapshotReader, Put]]:
    """A reader, and how a snapshot gets there; for ``shared``, another process writes it."""
    if request.param == "remote":
        yield remote.reader, remote.forecaster.store.put
    elif request.param == "memory":
        store = MemoryStore()
        yield store, store.put
    elif request.param == "asked of what is shared":
        exchange, metrics = MemoryExchange(), Metrics()
        store = SharedStore(exchange, metrics, StorageMetrics(metrics.registry), wall_clock())
        reader = SharedSnapshots(store)
        async with share(exchange) as writer, trio.open_nursery() as nursery:
            await nursery.start(reader.run)
            yield reader, writer.put
            nursery.cancel_scope.cancel()
    else:
        exchange = MemoryExchange()
        async with share(exchange) as reader:
            for name in ("shop", "pay", "other", "nobody"):
                reader.follow(name)
            async with share(exchange) as writer:
                yield reader, writer.put


async def test_a_reader_has_what_it_follows(
    autojump_clock: MockClock, reader_and_put: tuple[SnapshotReader, Put]
) -> None:
    reader, put = reader_and_put
    snapshot = make_snapshot(values=[1.5, 2, 3, 4, 5, 1 / 3])
    await put(snapshot)
    await reader.track("shop")
    await trio.sleep(POLL_EVERY + 0.1)
    assert reader.get("shop") == snapshot
    assert dict(reader.newest()) == {"shop": snapshot}


async def test_a_reader_has_nothing_where_there_is_nothing_and_says_so_at_once(
    autojump_clock: MockClock, reader_and_put: tuple[SnapshotReader, Put]
) -> None:
    reader, _ = reader_and_put
    began = trio.current_time()
    await reader.track("nobody")
    assert trio.current_time() == began
    assert reader.get("nobody") is None
    assert reader.get("never followed") is None
    assert dict(reader.newest()) == {}


async def test_a_reader_sees_newer_snapshots_within_seconds(
    autojump_clock: MockClock, reader_and_put: tuple[SnapshotReader, Put]
) -> None:
    reader, put = reader_and_put
    await reader.track("shop")
    for n in range(3):
        snapshot = make_snapshot([n], made_at=at(30 * n))
        await put(snapshot)
        await trio.sleep(REFRESH_EVERY + 0.1)
        assert reader.get("shop") == snapshot


async def wait_and_note(reader: SnapshotReader, workloads: tuple[str, ...], woken: list[float]) -> None:
    await reader.wait_for_change(*workloads)
    woken.append(trio.current_time())


@pytest.mark.parametrize("workloads", [("shop",), ("pay", "shop")])
async def test_a_reader_wakes_everybody_who_waits_for_a_change_once_and_nobody_for_another_workload(
    autojump_clock: MockClock,
    nursery: trio.Nursery,
    reader_and_put: tuple[SnapshotReader, Put],
    workloads: tuple[str, ...],
) -> None:
    reader, put = reader_and_put
    for name in ("shop", "pay", "other"):
        await reader.track(name)
    woken: list[float] = []
    for _ in range(3):
        nursery.start_soon(wait_and_note, reader, workloads, woken)
    await put(make_snapshot(workload="other"))
    await trio.sleep(3 * REFRESH_EVERY)
    assert woken == []
    await put(make_snapshot())
    await trio.sleep(REFRESH_EVERY + 0.1)
    assert len(woken) == 3
    nursery.start_soon(wait_and_note, reader, workloads, woken)
    await trio.sleep(3 * REFRESH_EVERY)
    assert len(woken) == 3, "what was there before the call is no change"
    await put(make_snapshot(made_at=at(30)))
    await trio.sleep(REFRESH_EVERY + 0.1)
    assert len(woken) == 4


async def test_whoever_waits_no_longer_leaves_nothing_behind(
    autojump_clock: MockClock, reader_and_put: tuple[SnapshotReader, Put]
) -> None:
    reader, _ = reader_and_put
    with trio.move_on_after(1):
        await reader.wait_for_change("shop", "pay")
    keeper = reader.store if isinstance(reader, SharedSnapshots) else reader
    assert isinstance(keeper, MemoryStore | SharedStore | RemoteSnapshots)
    assert not keeper._changes._waiting


async def test_a_store_tells_that_a_snapshot_was_forgotten(
    autojump_clock: MockClock, nursery: trio.Nursery, store: SnapshotStore
) -> None:
    await store.put(make_snapshot())
    woken: list[float] = []
    nursery.start_soon(wait_and_note, store, ("shop",), woken)
    await trio.sleep(1)
    store.forget("nobody")
    await trio.sleep(1)
    assert woken == []
    store.forget("shop")
    await trio.sleep(1)
    assert len(woken) == 1


async def test_a_missing_snapshot_is_no_failure(autojump_clock: MockClock, remote: Remote) -> None:
    await remote.reader.track("shop")
    await trio.sleep(3 * REFRESH_EVERY)
    assert remote.errors == {}


def refuse(error: Exception) -> Callable[[httpx.Request], Awaitable[httpx.Response]]:
    async def answer(_request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        raise error

    return answer


def say(status: int, body: bytes, **headers: str) -> Callable[[httpx.Request], Awaitable[httpx.Response]]:
    async def answer(_request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        return httpx.Response(status, content=body, headers=headers)

    return answer


async def hang(_request: httpx.Request) -> httpx.Response:
    await trio.sleep_forever()
    raise AssertionError


OTHER = b'{"workload":"other","metric":"m","generatedAt":"2026-03-01T12:00:00Z","stepSeconds":60,"horizonSeconds":60,'
FAILURES = {
    "connection refused": (refuse(httpx.ConnectError("Connection refused")), "unreachable"),
    "broken off": (refuse(httpx.RemoteProtocolError("peer closed")), "unreachable"),
    "an error status": (say(503, b'{"error":"shutting down"}'), "http_status"),
    "a redirect": (say(302, b"", location="http://elsewhere/"), "http_status"),
    "no JSON": (say(200, b"<html>"), "bad_answer"),
    "other JSON": (say(200, b"[1, 2]"), "bad_answer"),
    "null": (say(200, b"null"), "bad_answer"),
    "an empty object": (say(200, b"{}"), "bad_answer"),
    "no text": (say(200, b"\xff\xfe\x00"), "bad_answer"),
    "nothing": (say(200, b""), "bad_answer"),
    "another workload": (say(200, OTHER + b'"values":[1],"desiredReplicas":[1],"leadTimeSeconds":30}'), "bad_answer"),
    "too much": (say(200, b" " * (client_module.MAX_BYTES + 1)), "bad_answer"),
    "no answer": (hang, "timeout"),
}


@pytest.mark.parametrize(("answer", "reason"), FAILURES.values(), ids=FAILURES)
async def test_while_the_forecaster_fails_the_last_snapshot_stays_until_it_comes_back(
    autojump_clock: MockClock, remote: Remote, answer: Any, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kedastral.client")
    first, second = make_snapshot(), make_snapshot(made_at=at(30))
    await remote.forecaster.store.put(first)
    await remote.reader.track("shop")
    remote.forecaster.answer = answer
    await trio.sleep(10 * REFRESH_EVERY)
    assert remote.reader.get("shop") == first
    assert set(remote.errors) == {reason}
    assert remote.errors[reason] >= 4
    await remote.forecaster.store.put(second)
    remote.forecaster.answer = None
    await trio.sleep(REFRESH_EVERY + ANSWER_WITHIN + 0.1)
    assert remote.reader.get("shop") == second
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert vars(caplog.records[0])["workload"] == "shop"
    assert vars(caplog.records[0])["err"].startswith("the forecaster at http://forecaster:8081 ")


async def test_what_the_forecaster_says_to_an_error_status_is_shown(
    autojump_clock: MockClock, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    remote.forecaster.answer = say(503, b"upstream connect error\nat line 7")
    await remote.reader.track("shop")
    assert vars(caplog.records[0])["err"].endswith("answered 503; it says: upstream connect error")


async def test_a_login_in_front_of_the_forecaster_is_named(
    autojump_clock: MockClock, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    remote.forecaster.answer = say(200, b"<!DOCTYPE html><html><title>Sign in</title></html>")
    await remote.reader.track("shop")
    told = "gave an unreadable answer: it is an HTML page ('Sign in'): is a login in front of it"
    assert told in vars(caplog.records[0])["err"]


async def test_a_snapshot_that_the_forecaster_lost_stays_until_there_is_a_newer_one(
    autojump_clock: MockClock, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "kedastral.client")
    first, second = make_snapshot(), make_snapshot(made_at=at(60))
    await remote.forecaster.store.put(first)
    await remote.reader.track("shop")
    for answer in (refuse(httpx.ConnectError("restarting")), say(404, b'{"error":"snapshot not found"}')):
        remote.forecaster.answer = answer
        await trio.sleep(3 * REFRESH_EVERY)
        assert remote.reader.get("shop") == first
    remote.forecaster.answer = None
    await remote.forecaster.store.put(second)
    await trio.sleep(3 * REFRESH_EVERY)
    assert remote.reader.get("shop") == second
    assert [record.getMessage() for record in caplog.records] == [
        "cannot read the snapshot",
        "the forecaster is reachable, but has no forecast of shop yet",
        "the forecaster has a forecast of shop now",
    ]


async def test_a_hung_forecaster_delays_the_first_question_by_a_second_at_most(
    autojump_clock: MockClock, remote: Remote
) -> None:
    remote.forecaster.answer = hang
    began = trio.current_time()
    await remote.reader.track("shop")
    assert trio.current_time() - began <= FIRST_WAIT == 1.0
    began = trio.current_time()
    await remote.reader.track("shop")
    assert trio.current_time() == began


async def test_whoever_asks_during_the_first_read_waits_for_it_too(autojump_clock: MockClock, remote: Remote) -> None:
    snapshot = make_snapshot()

    async def slowly(_request: httpx.Request) -> httpx.Response:
        await trio.sleep(0.5)
        remote.forecaster.answer = None
        return await remote.forecaster.respond(_request)

    await remote.forecaster.store.put(snapshot)
    remote.forecaster.answer = slowly
    found: list[Snapshot | None] = []

    async def ask(after: float) -> None:
        await trio.sleep(after)
        await remote.reader.track("shop")
        found.append(remote.reader.get("shop"))

    async with trio.open_nursery() as nursery:
        for after in (0.0, 0.1, 0.2):
            nursery.start_soon(ask, after)
    assert found == [snapshot] * 3


async def test_a_first_question_that_was_given_up_does_not_hold_up_the_next(
    autojump_clock: MockClock, remote: Remote
) -> None:
    remote.forecaster.answer = hang
    with trio.move_on_after(0.2):
        await remote.reader.track("shop")
    began = trio.current_time()
    await remote.reader.track("shop")
    assert trio.current_time() == began


async def test_a_hung_forecaster_keeps_no_reader_from_another_workloads_snapshot(
    autojump_clock: MockClock, remote: Remote
) -> None:
    good = remote.forecaster.respond

    async def hang_for_some(request: httpx.Request) -> httpx.Response:
        if request.url.params["workload"] == "hung":
            await trio.sleep_forever()
        remote.forecaster.answer = None
        try:
            return await good(request)
        finally:
            remote.forecaster.answer = hang_for_some

    remote.forecaster.answer = hang_for_some
    await remote.reader.track("hung")
    await remote.reader.track("shop")
    snapshot = make_snapshot()
    await remote.forecaster.store.put(snapshot)
    await trio.sleep(REFRESH_EVERY + ANSWER_WITHIN + 0.1)
    assert remote.reader.get("shop") == snapshot


async def test_a_name_that_fits_in_no_url_is_a_failure_and_no_bug(autojump_clock: MockClock, remote: Remote) -> None:
    await remote.reader.track("x" * 100_000)
    await trio.sleep(2 * REFRESH_EVERY + 0.1)
    assert remote.errors["unreachable"] >= 2


async def test_what_nobody_asks_for_is_forgotten_and_what_is_asked_for_is_not(
    autojump_clock: MockClock, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "FORGET_AFTER", 60.0)
    for name in ("asked", "unasked"):
        await remote.forecaster.store.put(make_snapshot(workload=name))
        await remote.reader.track(name)
        remote.metrics.returned_replicas.labels(name).set(8)
    for _ in range(3):
        await trio.sleep(30)
        remote.reader.get("asked")
    assert set(remote.reader.newest()) == {"asked"}
    assert answered(remote.metrics) == {"asked"}
    remote.forecaster.asked.clear()
    await trio.sleep(REFRESH_EVERY)
    assert remote.forecaster.asked == ["asked"]


async def test_what_nobody_asks_for_is_forgotten_of_what_is_shared(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "FORGET_AFTER", 60.0)
    exchange, metrics = MemoryExchange(wall_clock()), Metrics()
    reader = SharedSnapshots(SharedStore(exchange, metrics, StorageMetrics(metrics.registry), wall_clock()))
    async with share(exchange) as writer, trio.open_nursery() as nursery:
        await nursery.start(reader.run)
        for name in ("asked", "unasked"):
            await writer.put(make_snapshot(workload=name))
            await reader.track(name)
            metrics.returned_replicas.labels(name).set(8)
        for _ in range(3):
            await trio.sleep(30)
            reader.get("asked")
        assert set(reader.newest()) == answered(metrics) == {"asked"}
        nursery.cancel_scope.cancel()


def answered(metrics: Metrics) -> set[str]:
    """The workloads whose last answer to KEDA is shown."""
    [family] = metrics.returned_replicas.collect()
    return {sample.labels["workload"] for sample in family.samples}


async def test_the_default_workload_is_read_unasked_and_never_forgotten(
    autojump_clock: MockClock, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "FORGET_AFTER", 60.0)
    forecaster = Forecaster()
    await forecaster.store.put(make_snapshot())
    transport = httpx.MockTransport(forecaster.respond)
    async with httpx.AsyncClient(transport=transport, base_url="http://forecaster/") as http:
        reader = RemoteSnapshots([SnapshotServer(http)], Metrics(), always=("shop",))
        await nursery.start(reader.run)
        await trio.sleep(REFRESH_EVERY * 1.5)
        forecaster.answer = hang
        for _ in range(20):
            assert set(reader.newest()) == {"shop"}
            await trio.sleep(REFRESH_EVERY)
        nursery.cancel_scope.cancel()


async def test_too_many_workloads_are_refused_and_known_ones_still_followed(
    autojump_clock: MockClock, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "MAX_WORKLOADS", 2)
    await remote.reader.track("a")
    await remote.reader.track("b")
    with pytest.raises(RemoteError) as caught:
        await remote.reader.track("c")
    assert caught.value.reason == "too_many_workloads"
    labels = {"component": "client", "reason": "too_many_workloads"}
    assert remote.metrics.registry.get_sample_value("kedastral_errors_total", labels) == 1
    await remote.reader.track("a")


async def test_a_forecaster_that_starts_anew_does_not_take_back_what_was_told(
    autojump_clock: MockClock, remote: Remote
) -> None:
    await remote.forecaster.store.put(make_snapshot([9] * 6))
    await remote.reader.track("shop")
    remote.forecaster.store.forget("shop")
    after = attrs.evolve(make_snapshot([3] * 6, made_at=at(10)), resumption=Resumption(at(10)), withheld=True)
    await remote.forecaster.store.put(after)
    for _ in range(3):
        await trio.sleep(REFRESH_EVERY * 1.5)
        found = remote.reader.get("shop")
        assert found == attrs.evolve(after, resumption=Resumption(at(10), 9), withheld=False)
        assert replicas_at(found, at(12)) == 9
    await trio.sleep(400)
    await remote.forecaster.store.put(make_snapshot([3] * 6, made_at=at(400)))  # it is over
    await trio.sleep(REFRESH_EVERY * 1.5)
    found = remote.reader.get("shop")
    assert found is not None
    assert replicas_at(found, at(400)) == 4


async def test_at_most_eight_requests_are_made_at_once(autojump_clock: MockClock, remote: Remote) -> None:
    running = most = 0

    async def count(_request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(0.1)
        running -= 1
        return httpx.Response(404)

    remote.forecaster.answer = count
    async with trio.open_nursery() as nursery:
        for n in range(50):
            nursery.start_soon(remote.reader.track, f"w{n}")
    await trio.sleep(3 * REFRESH_EVERY)
    assert most == client_module.MAX_CONCURRENT


async def test_of_two_forecasters_behind_one_address_the_newer_snapshot_stays(
    autojump_clock: MockClock, remote: Remote
) -> None:
    replicas = [MemoryStore(), MemoryStore()]
    for store, age in zip(replicas, (0, 300), strict=True):
        await store.put(make_snapshot([age], made_at=at(-age)))

    async def answer_in_turn(request: httpx.Request) -> httpx.Response:
        replicas.reverse()
        view = SnapshotView(replicas[0], lambda _: StalePolicy(), wall_clock())
        app = create_app(view, Readiness.of(()), Metrics().registry)
        return await httpx.ASGITransport(app).handle_async_request(request)

    remote.forecaster.answer = answer_in_turn
    await remote.reader.track("shop")
    seen = []
    for _ in range(6):
        await trio.sleep(REFRESH_EVERY + 0.1)
        snapshot = remote.reader.get("shop")
        assert snapshot is not None
        seen.append(snapshot.made_at)
    assert seen == [at(0)] * 6


async def test_after_the_clock_was_set_back_an_older_snapshot_replaces_one_from_the_future(
    autojump_clock: MockClock, remote: Remote
) -> None:
    await remote.forecaster.store.put(make_snapshot(made_at=at(3600)))
    await remote.reader.track("shop")
    after = make_snapshot([7], made_at=at(0))
    await remote.forecaster.store.put(after)
    await trio.sleep(REFRESH_EVERY + 0.1)
    assert remote.reader.get("shop") == after


async def test_names_that_nobody_forecasts_do_not_delay_the_others(
    autojump_clock: MockClock, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_ABSENT_PER_REFRESH", 20)

    async def answer_slowly(request: httpx.Request) -> httpx.Response:
        if request.url.params["workload"] != "shop":
            await trio.sleep(0.9)
            return httpx.Response(404)
        return await remote.forecaster.transport.handle_async_request(request)

    await remote.forecaster.store.put(make_snapshot())
    await remote.reader.track("shop")
    remote.forecaster.answer = answer_slowly
    async with trio.open_nursery() as nursery:
        for n in range(200):
            nursery.start_soon(remote.reader.track, f"unknown {n}")
    remote.forecaster.asked.clear()
    for n in range(1, 20):
        newer = make_snapshot(made_at=at(5 * n))
        await remote.forecaster.store.put(newer)
        await trio.sleep(REFRESH_EVERY + 1)
        assert remote.reader.get("shop") == newer
    others = [name for name in remote.forecaster.asked if name != "shop"]
    assert len(others) == len(set(others)) > 100, "each in its turn"


async def test_a_token_that_cannot_be_read_is_a_failure_of_that_look_alone(
    autojump_clock: MockClock, nursery: trio.Nursery, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = tmp_path / "token"
    forecaster, metrics = Forecaster(), Metrics()
    await forecaster.store.put(make_snapshot())
    auth = BearerAuth(SecretText("forecaster token", file=token))
    transport = httpx.MockTransport(forecaster.respond)
    async with httpx.AsyncClient(transport=transport, base_url="http://forecaster/", auth=auth) as http:
        reader = RemoteSnapshots([SnapshotServer(http)], metrics, always=("shop",))
        await nursery.start(reader.run)
        await trio.sleep(REFRESH_EVERY * 2.5)
        assert reader.get("shop") is None
        [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert vars(record)["reason"] == "credentials"
        assert vars(record)["err"] == f"the forecaster token file {token} cannot be read: No such file or directory"
        write_token(token)
        await trio.sleep(REFRESH_EVERY)
        assert reader.get("shop") is not None
        nursery.cancel_scope.cancel()


def write_token(path: Path) -> None:
    path.write_text("open-sesame")
