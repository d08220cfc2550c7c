# SPDX-License-Identifier: Apache-2.0
"""A real Redis that goes away, hangs, is full, starts empty, fails over or refuses: memory serves all the same."""

import logging
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
import trio

from kedastral.adapters.redis import RedisMembers, RedisSnapshots
from kedastral.clock import SystemClock
from kedastral.core.serving import Snapshot
from kedastral.errors import StoreError
from kedastral.serving.metrics import Metrics, StorageMetrics
from kedastral.serving.shared_store import SharedStore
from tests.parts import make_snapshot
from tests.redis_servers import RedisPlace, RedisServer, plain, with_a_sentinel, with_a_user, with_tls

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
    assert sum("cannot be reached" in line for line in lines) == 3
    assert sum("can be reached again" in line for line in lines) == 3
    assert one.errors("unreachable") > 0


async def test_a_redis_that_hangs_costs_no_answer_and_no_tick(tmp_path: Path) -> None:
    with plain(tmp_path) as place:
        [server] = place.servers
        async with open_pod(place) as one, open_pod(place) as two:
            await one.store.put(made(0))
            await until(lambda: two.store.get("shop") == made(0))
            server.pause()
            with trio.fail_after(0.5):
                assert await one.store.put(made(1, 9))
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
