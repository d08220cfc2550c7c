# SPDX-License-Identifier: Apache-2.0
"""A real Redis that goes away, hangs, is full, starts empty, fails over or refuses: memory still serves."""

import logging
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
import trio

from kedastral.adapters.redis.members import RedisMembers
from kedastral.adapters.redis.snapshots import RedisSnapshots
from kedastral.clock import SystemClock
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.ports import SharedWrite, WriteOutcome
from kedastral.errors import StoreError
from kedastral.serving.metrics import Metrics, StorageMetrics
from kedastral.serving.shared_store import SharedStore
from tests.parts import make_snapshot
from tests.redis_servers import (
    RedisPlace,
    RedisServer,
    give_redis_time,
    plain,
    with_a_sentinel,
    with_a_user,
    with_tls,
)

pytestmark = pytest.mark.integration
PATIENCE = 30.0
BEGAN = datetime.now(UTC)


def made(seconds: float, *replicas: int) -> Snapshot:
    return make_snapshot(replicas or (1, 2, 3), made_at=BEGAN + timedelta(seconds=seconds))


@attrs.define
class Pod:
    """One process's store and its metrics."""

    store: SharedStore
    metrics: Metrics

    def errors(self, reason: str) -> float:
        labels = {"component": "store", "reason": reason}
        return self.metrics.registry.get_sample_value("kedastral_errors_total", labels) or 0.0

    def is_up(self, operation: str) -> bool:
        return self.metrics.registry.get_sample_value("kedastral_storage_up", {"operation": operation}) == 1


@pytest.fixture
def time_for_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    give_redis_time(monkeypatch)


@asynccontextmanager
async def open_pod(place: RedisPlace) -> AsyncIterator[Pod]:
    metrics, connection = Metrics(), place.connect()
    store = SharedStore(RedisSnapshots(connection), metrics, StorageMetrics(metrics.registry), SystemClock())
    store.follow("shop")
    async with trio.open_nursery() as nursery:
        await nursery.start(connection.run)
        await nursery.start(store.run)
        yield Pod(store, metrics)
        nursery.cancel_scope.cancel()


async def until(true: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not true():  # noqa: ASYNC110 - what is waited for happens in other programs
            await trio.sleep(0.02)


async def in_thread(block: Callable[[], object]) -> None:
    await trio.to_thread.run_sync(block)


async def test_a_redis_that_is_killed_is_missed_by_nobody_and_has_the_newest_once_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.storage")
    with plain(tmp_path) as place:
        [server] = place.servers
        async with open_pod(place) as one, open_pod(place) as two:
            await one.store.put(made(0))
            await until(lambda: two.store.get("shop") == made(0))
            await in_thread(server.stop)
            for n in range(1, 4):
                assert await one.store.put(made(n, n))
            await until(lambda: not (one.is_up("write") or one.is_up("read") or two.is_up("read")))
            assert one.store.get("shop") == made(3, 3)
            assert two.store.get("shop") == made(0)
            await in_thread(server.start)
            await until(lambda: two.store.get("shop") == made(3, 3))
            await until(lambda: one.is_up("write") and one.is_up("read"))
    lines = [record.message for record in caplog.records]
    assert sum("the storage fails" in line for line in lines) == 3
    assert sum("the storage works again" in line for line in lines) == 3
    assert one.errors("unreachable") > 0


async def test_a_redis_that_hangs_costs_no_answer_and_no_tick(tmp_path: Path) -> None:
    with plain(tmp_path) as place:
        [server] = place.servers
        async with open_pod(place) as one, open_pod(place) as two:
            await one.store.put(made(0))
            await until(lambda: one.is_up("write") and two.store.get("shop") == made(0))
            server.pause()
            assert await one.store.put(made(1, 9))
            assert one.is_up("write"), "it did not wait until Redis was given up"
            await until(lambda: not (one.is_up("write") or two.is_up("read")))
            assert one.store.get("shop") == made(1, 9)
            server.go_on()
            await until(lambda: two.store.get("shop") == made(1, 9))


async def test_a_full_redis_is_said_and_what_is_there_is_still_read(tmp_path: Path) -> None:
    with plain(tmp_path) as place:
        [server] = place.servers
        async with open_pod(place) as one:
            await one.store.put(made(0))
            await until(lambda: one.is_up("write"))
            server.say("CONFIG", "SET", "maxmemory", "1")
            await one.store.put(made(1, 9))
            await until(lambda: one.errors("full") > 0 and one.is_up("read"))
            async with open_pod(place) as two:
                assert two.store.get("shop") == made(0)
                server.say("CONFIG", "SET", "maxmemory", "0")
                await until(lambda: two.store.get("shop") == made(1, 9))


@pytest.mark.usefixtures("time_for_redis")
async def test_a_full_redis_takes_no_pod_for_the_only_one(tmp_path: Path) -> None:
    with plain(tmp_path) as place:
        [server] = place.servers
        connection = place.connect()
        members = RedisMembers(connection)
        async with trio.open_nursery() as nursery:
            await nursery.start(connection.run)
            await members.renew("gone", 0.1, 0)
            await trio.sleep(0.2)
            server.say("CONFIG", "SET", "maxmemory", "1")
            with pytest.raises(StoreError) as refused:
                await members.renew("here", 60, 0)
            assert refused.value.reason == "full"
            server.say("CONFIG", "SET", "maxmemory", "0")
            assert (await members.renew("here", 60, 0)).members == {"here"}
            nursery.cancel_scope.cancel()


async def test_a_replica_takes_over_within_seconds(tmp_path: Path) -> None:
    with with_a_sentinel(tmp_path) as place:
        primary: RedisServer = place.servers[0]
        async with open_pod(place) as one, open_pod(place) as two:
            await one.store.put(made(0))
            await until(lambda: two.store.get("shop") == made(0))
            await in_thread(primary.stop)
            await one.store.put(made(1, 9))
            await until(lambda: two.store.get("shop") == made(1, 9))


async def test_a_wrong_password_is_said_without_showing_any(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with with_a_user(tmp_path) as place:
        wrong = attrs.evolve(place, login={**place.login, "REDIS_PASSWORD": "shut-sesame"})
        async with open_pod(wrong) as pod:
            await until(lambda: pod.errors("credentials") > 0)
    said = [str(vars(record).get("err")) for record in caplog.records if record.name == "kedastral.storage"]
    assert any("refused the login: invalid username-password pair" in words for words in said)
    assert "sesame" not in caplog.text + " ".join(said)


async def test_a_password_file_is_read_again_for_each_connection(tmp_path: Path) -> None:
    with with_a_user(tmp_path) as place:
        [server] = place.servers
        file = tmp_path / "password"
        file.write_text("open-sesame\n")
        login = {"REDIS_USERNAME": "kedastral", "REDIS_PASSWORD_FILE": str(file)}
        async with open_pod(attrs.evolve(place, login=login)) as pod:
            await pod.store.put(made(0))
            await until(lambda: pod.is_up("write"))
            server.say("ACL", "SETUSER", "kedastral", "resetpass", ">new")
            server.say("CLIENT", "KILL", "USER", "kedastral")
            await pod.store.put(made(1))
            await until(lambda: not pod.is_up("write"))
            file.write_text("new\n")
            await until(lambda: pod.is_up("write"))


async def test_a_certificate_that_nobody_trusts_is_no_redis(tmp_path: Path) -> None:
    with with_tls(tmp_path) as place:
        ca = shutil.copy(place.login["REDIS_CERT_FILE"], tmp_path / "other.pem")
        login = {**place.login, "REDIS_CA_FILE": str(ca)}
        async with open_pod(attrs.evolve(place, login=login)) as pod:
            await until(lambda: pod.errors("unreachable") > 0)
            assert not pod.is_up("read")


def set_redis(server: RedisServer, *words: str) -> None:
    """Give a command to the database that the tests use."""
    server.say("-n", "1", *words)


NOT_TEXT = "\udcff"
"""As a program argument: a byte that is not UTF-8."""


@pytest.mark.usefixtures("time_for_redis")
@pytest.mark.parametrize(
    "planted",
    [
        ("SET", "kedastral:snapshot:bad", "of another program"),
        ("HSET", "kedastral:snapshot:bad", "at", "soon", "token", "high", "revision", "many", "snapshot", "{}"),
        ("HSET", "kedastral:snapshot:bad", "at", "1", "format", "1", "snapshot", NOT_TEXT),
        ("HSET", "kedastral:snapshot:bad", "at", "1", "format", "9" * 5000, "snapshot", "{}"),
        ("HSET", "kedastral:snapshot:bad", "at", "1"),
        ("ZADD", "kedastral:index", "inf", "bad"),
        ("ZADD", "kedastral:index", "1e17", "bad"),
        ("ZADD", "kedastral:index", "99", NOT_TEXT),
    ],
    ids=["another type", "no numbers", "no text", "a format of 5,000 digits", "half", "inf", "too late", "no name"],
)
async def test_what_is_wrong_with_one_workload_in_redis_touches_no_other(
    tmp_path: Path, planted: Sequence[str], caplog: pytest.LogCaptureFixture
) -> None:
    expected = WriteOutcome.REFUSED if planted[0] == "SET" else WriteOutcome.KEPT
    with plain(tmp_path) as place:
        connection = place.connect()
        async with trio.open_nursery() as nursery:
            await nursery.start(connection.run)
            exchange = RedisSnapshots(connection)
            set_redis(place.servers[0], *planted)
            await exchange.changes(0)
            for cycle in range(3):
                await exchange.read({"bad": "", "shop": ""})
                snapshots = [make_snapshot(workload=one, made_at=made(cycle).made_at) for one in ("bad", "shop")]
                bad, good = await exchange.write([SharedWrite(snapshot, 7) for snapshot in snapshots])
                assert (bad.outcome, good.outcome) == (expected, WriteOutcome.KEPT)
                found = await exchange.read({"bad": "", "shop": ""})
                assert found["shop"].snapshot.made_at == made(cycle).made_at
                assert ("bad" in found) == (expected is WriteOutcome.KEPT)
            moment = (await exchange.changes(0))["shop"]
            await exchange.write([SharedWrite(make_snapshot(workload="shop", made_at=made(9).made_at), 7)])
            assert (await exchange.changes(moment)).keys() == {"shop"}, "later than whatever was there"
            nursery.cancel_scope.cancel()
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == len(set(said)), "each thing once, not at each cycle"


@pytest.mark.usefixtures("time_for_redis")
@pytest.mark.parametrize(
    "planted",
    [("somebody", "soon"), (NOT_TEXT, "1e30"), ("", "inf"), ("", "many"), ("gone", "99999999999999")],
    ids=["no number", "no text", "an endless token", "no token", "a lease for ever"],
)
async def test_what_is_no_lease_makes_no_pod_and_ends_none(tmp_path: Path, planted: tuple[str, str]) -> None:
    with plain(tmp_path) as place:
        connection = place.connect()
        async with trio.open_nursery() as nursery:
            await nursery.start(connection.run)
            members = RedisMembers(connection)
            before = await members.renew("a", 10, 0)
            set_redis(place.servers[0], "HSET", "kedastral:members", *planted)
            both = await members.renew("b", 10, before.token)
            assert both.members == {"a", "b"}
            assert before.token < both.token < 2**53
            await members.leave("a")
            assert (await members.renew("b", 10, both.token)).members == {"b"}
            nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("time_for_redis")
async def test_a_key_of_another_type_is_named(tmp_path: Path) -> None:
    with plain(tmp_path) as place:
        connection = place.connect()
        set_redis(place.servers[0], "SET", "kedastral:members", "of another program")
        async with trio.open_nursery() as nursery:
            await nursery.start(connection.run)
            with pytest.raises(StoreError, match="the key 'kedastral:members' is of another type"):
                await RedisMembers(connection).renew("a", 10, 0)
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def answering(place: RedisPlace, answer: bytes) -> AsyncIterator[RedisPlace]:
    """``place`` behind a broken proxy that gives ``answer`` to each script."""
    [server] = place.servers

    async def talk(client: trio.SocketStream) -> None:
        upstream = await trio.open_tcp_stream("127.0.0.1", server.port)
        async with client, upstream, trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, upstream, client)
            async for request in client:
                await (client.send_all(answer) if b"EVAL" in request else upstream.send_all(request))
            nursery.cancel_scope.cancel()

    async def pass_on(upstream: trio.SocketStream, client: trio.SocketStream) -> None:
        async for data in upstream:
            await client.send_all(data)

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, talk, [listener])
        port = listener.socket.getsockname()[1]
        yield attrs.evolve(place, url=f"redis://127.0.0.1:{port}/1")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "answer",
    [
        b":abc\r\n",
        b"-ERR \xff\xfe\r\n",
        b"+\xff\xfe\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"*2\r\n$5\r\nworse\r\n$1\r\n1\r\n",
        b"*2\r\n:7\r\n*1\r\n$5\r\nother\r\n",
    ],
)
async def test_an_answer_that_is_not_of_redis_is_an_error_of_the_storage(tmp_path: Path, answer: bytes) -> None:
    with plain(tmp_path) as place:
        async with answering(place, answer) as broken, trio.open_nursery() as nursery:
            connection = broken.connect()
            await nursery.start(connection.run)
            with pytest.raises(StoreError):
                await RedisSnapshots(connection).write([SharedWrite(made(0), 7)])
            with pytest.raises(StoreError):
                await RedisMembers(connection).renew("a", 10, 0)
            nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("time_for_redis")
@pytest.mark.parametrize("answer", [b"*1\r\n$4\r\nshop\r\n", b"*2\r\n$4\r\nshop\r\n$4\r\nsoon\r\n"])
async def test_changes_at_no_moment_are_an_error_of_the_storage(tmp_path: Path, answer: bytes) -> None:
    with plain(tmp_path) as place:
        async with answering(place, answer) as broken, trio.open_nursery() as nursery:
            connection = broken.connect()
            await nursery.start(connection.run)
            with pytest.raises(StoreError, match="unexpected answer"):
                await RedisSnapshots(connection).changes(0)
            nursery.cancel_scope.cancel()
