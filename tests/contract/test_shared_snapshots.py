# SPDX-License-Identifier: Apache-2.0
"""The contract of shared storage for snapshots and work: the twin in memory, and every kind of Redis."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta

import attrs
import pytest
import trio

from kedastral.adapters.redis.members import RedisMembers
from kedastral.adapters.redis.snapshots import RedisSnapshots
from kedastral.clock import SystemClock
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.ports import MemberRegistry, SharedWrite, SnapshotExchange, WriteOutcome
from tests import redis_servers
from tests.exchange import MemoryExchange, MemoryRegistry
from tests.parts import make_snapshot
from tests.redis_servers import RedisPlace

NOW = datetime.now(UTC)
real = [pytest.param(name, marks=pytest.mark.integration) for name in redis_servers.PLACES]


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module may be imported long before its tests run, and Redis uses the real time."""
    monkeypatch.setitem(globals(), "NOW", datetime.now(UTC))


@pytest.fixture(scope="module", params=["memory", *real])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisPlace | None]:
    if request.param == "memory":
        yield None
        return
    with redis_servers.PLACES[request.param](tmp_path_factory.mktemp(request.param)) as found:
        yield found


@pytest.fixture
async def registry(place: RedisPlace | None, request: pytest.FixtureRequest) -> AsyncIterator[MemberRegistry]:
    if place is None:
        yield MemoryRegistry()
        return
    connection = place.connect()
    async with trio.open_nursery() as nursery:
        await nursery.start(connection.run)
        yield RedisMembers(connection, f"kedastral:{request.node.name}".split("[")[0])
        nursery.cancel_scope.cancel()


@pytest.fixture
async def exchange(place: RedisPlace | None, request: pytest.FixtureRequest) -> AsyncIterator[SnapshotExchange]:
    if place is None:
        yield MemoryExchange(SystemClock())
        return
    connection = place.connect()
    async with trio.open_nursery() as nursery:
        await nursery.start(connection.run)
        yield RedisSnapshots(connection, f"kedastral:{request.node.name}".split("[")[0])
        nursery.cancel_scope.cancel()


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def made(seconds: float = 0.0, *replicas: int, workload: str = "shop") -> Snapshot:
    return make_snapshot(replicas or (1, 2, 3), made_at=at(seconds), workload=workload)


async def put(exchange: SnapshotExchange, snapshot: Snapshot, token: int = 0) -> WriteOutcome:
    [written] = await exchange.write([SharedWrite(snapshot, token)])
    return written.outcome


async def get(exchange: SnapshotExchange, workload: str = "shop") -> Snapshot | None:
    found = (await exchange.read({workload: ""})).get(workload)
    return None if found is None else found.snapshot


async def test_what_was_written_is_read_as_it_was(exchange: SnapshotExchange) -> None:
    snapshot = made(0.123456)
    assert await get(exchange) is None
    assert await put(exchange, snapshot) is WriteOutcome.KEPT
    assert await get(exchange) == snapshot


async def test_many_are_written_and_read_at_once(exchange: SnapshotExchange) -> None:
    names = ["a", "b/c", "a b", "✓", "{x}", "x" * 253, *(f"n{number}" for number in range(300))]
    written = await exchange.write([SharedWrite(made(workload=name)) for name in names])
    assert [one.outcome for one in written] == [WriteOutcome.KEPT] * len(names)
    found = await exchange.read(dict.fromkeys([*names, "nobody"], ""))
    assert {name: one.snapshot.workload for name, one in found.items()} == {name: name for name in names}
    assert (await exchange.changes(0)).keys() == set(names)


async def test_an_older_one_never_replaces_a_newer_one(exchange: SnapshotExchange) -> None:
    assert await put(exchange, made(-30, 5)) is WriteOutcome.KEPT
    for age in (31, 600, 90_000):
        assert await put(exchange, made(-age, 6)) is WriteOutcome.OLDER
    assert await get(exchange) == made(-30, 5)
    assert await put(exchange, made(-30, 7)) is WriteOutcome.KEPT, "of two made at the same moment the later counts"
    assert await get(exchange) == made(-30, 7)


async def test_one_from_the_future_is_replaced_since_a_clock_was_set_back(exchange: SnapshotExchange) -> None:
    await put(exchange, made(3600))
    assert await put(exchange, made(-10)) is WriteOutcome.KEPT
    assert await get(exchange) == made(-10)


@pytest.mark.parametrize(("ahead", "stale_after"), [(50, 40), (3600, 120)])
async def test_one_that_is_stale_since_it_comes_from_the_future_replaces_none_that_is_not(
    exchange: SnapshotExchange, ahead: float, stale_after: float
) -> None:
    name = f"shop-{ahead}"

    async def put_one(seconds: float) -> WriteOutcome:
        [written] = await exchange.write([SharedWrite(made(seconds, workload=name), 1, stale_after)])
        return written.outcome

    assert await put_one(ahead) is WriteOutcome.KEPT, "there is nothing better"
    assert await put_one(-10) is WriteOutcome.KEPT, "it is better"
    assert await put_one(ahead) is WriteOutcome.AHEAD
    assert await get(exchange, name) == made(-10, workload=name)
    assert await put_one(0) is WriteOutcome.KEPT
    assert await put_one(stale_after / 2) is WriteOutcome.KEPT, "clocks may differ by that much"


async def test_where_its_own_clock_is_behind_it_keeps_all(exchange: SnapshotExchange) -> None:
    for ahead in (100, 130, 160):
        [written] = await exchange.write([SharedWrite(made(ahead), 1, 120.0)])
        assert written.outcome is WriteOutcome.KEPT


async def test_whoever_has_been_replaced_cannot_write_any_more(exchange: SnapshotExchange) -> None:
    assert await put(exchange, made(-60), token=7) is WriteOutcome.KEPT
    assert await put(exchange, made(-30), token=8) is WriteOutcome.KEPT
    assert await put(exchange, made(0), token=7) is WriteOutcome.FENCED
    assert await get(exchange) == made(-30)
    assert await put(exchange, made(-10), token=8) is WriteOutcome.KEPT


async def test_a_reader_gets_only_what_it_has_not(exchange: SnapshotExchange) -> None:
    [written] = await exchange.write([SharedWrite(made(-30))])
    assert await exchange.read({"shop": written.stamp}) == {}
    [refused] = await exchange.write([SharedWrite(made(-60))])
    assert refused.stamp == written.stamp
    await put(exchange, made(-30, 9))
    found = (await exchange.read({"shop": written.stamp}))["shop"]
    assert found.snapshot == made(-30, 9)
    assert await exchange.read({"shop": found.stamp}) == {}


async def test_changes_tell_who_was_written_since(exchange: SnapshotExchange) -> None:
    await put(exchange, made(workload="a"))
    first = await exchange.changes(0)
    await put(exchange, made(workload="b"))
    await put(exchange, made(-60, workload="a"))  # refused, so no change
    second = await exchange.changes(first["a"])
    assert second.keys() == {"b"}
    assert second["b"] > first["a"]
    assert await exchange.changes(second["b"]) == {}
    assert (await exchange.changes(0)).keys() == {"a", "b"}


async def test_of_concurrent_writers_the_newest_wins(exchange: SnapshotExchange) -> None:
    async def write(writer: int) -> None:
        for n in range(20):
            await put(exchange, made(-100 + 4 * n + writer, writer + 1, n + 1))

    async with trio.open_nursery() as nursery:
        for writer in range(4):
            nursery.start_soon(write, writer)
    assert await get(exchange) == made(-100 + 4 * 19 + 3, 4, 20)


async def test_what_redis_keeps_expires(exchange: SnapshotExchange) -> None:
    if not isinstance(exchange, RedisSnapshots):
        return  # the twin keeps everything
    brief = attrs.evolve(exchange, ttl=0.2)
    await put(brief, made())
    with trio.fail_after(10):
        while await get(brief) is not None or await brief.changes(0):  # noqa: ASYNC110 - Redis tells nobody
            await trio.sleep(0.05)


# Membership.


async def test_who_renews_is_a_member_and_the_token_grows_with_each_change(registry: MemberRegistry) -> None:
    first = await registry.renew("a", 60, 0)
    assert first.members == {"a"}
    assert first.token > 0
    assert await registry.renew("a", 60, first.token) == first
    second = await registry.renew("b", 60, 0)
    assert second.members == {"a", "b"}
    assert second.token > first.token
    assert await registry.renew("a", 60, first.token) == second
    await registry.leave("b")
    await registry.leave("nobody")
    third = await registry.renew("a", 60, second.token)
    assert third.members == {"a"}
    assert third.token > second.token


async def test_whose_lease_has_ended_is_no_member_and_comes_back_with_a_new_token(registry: MemberRegistry) -> None:
    first = await registry.renew("sleeper", 0.1, 0)
    await registry.renew("other", 60, 0)
    await trio.sleep(0.2)
    found = await registry.renew("other", 60, 0)
    assert found.members == {"other"}
    again = await registry.renew("sleeper", 60, first.token)
    assert again.members == {"other", "sleeper"}
    assert again.token > found.token > first.token


async def test_the_token_is_never_below_what_a_pod_has_seen(registry: MemberRegistry) -> None:
    seen = (await registry.renew("a", 60, 0)).token + 10**9  # and then the registry lost it
    assert (await registry.renew("a", 60, seen)).token >= seen
    assert (await registry.renew("b", 60, 0)).token > seen
