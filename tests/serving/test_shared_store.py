# SPDX-License-Identifier: Apache-2.0
"""Processes that share snapshots: each answers from its memory, whatever happens to the storage between them."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import attrs
import pytest
import trio
from trio.testing import MockClock

from kedastral.clock import AcceleratedClock
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.ports import SharedWrite
from kedastral.errors import StoreError
from kedastral.serving.metrics import Metrics, StorageMetrics
from kedastral.serving.shared_store import (
    COMPARE_EVERY,
    FIRST_WAIT,
    MAX_BATCH,
    POLL_EVERY,
    RETRY_AT_MOST,
    ROLLING_UPDATE,
    SharedStore,
    Terms,
)
from tests.exchange import MemoryExchange
from tests.parts import START, make_snapshot, wall_clock

AWAY = StoreError("redis://r:6379 cannot be reached: connection refused", reason="unreachable")
ANY, OURS = Terms(), Terms("ours", 120.0)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@attrs.define
class Pod:
    """One process's store, and what it shows of itself."""

    store: SharedStore
    metrics: Metrics

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@asynccontextmanager
async def open_pod(
    exchange: MemoryExchange, *follows: str, token: Callable[[], int] = int, ready: bool = True, terms: Terms = ANY
) -> AsyncIterator[Pod]:
    metrics = Metrics()
    store = SharedStore(exchange, metrics, StorageMetrics(metrics.registry), exchange.clock, token, lambda _: terms)
    for name in follows or ("shop",):
        store.follow(name)
    async with trio.open_nursery() as nursery:
        if ready:
            await nursery.start(store.run)
        else:
            nursery.start_soon(store.run)
        yield Pod(store, metrics)
        nursery.cancel_scope.cancel()


@pytest.fixture
def exchange(autojump_clock: MockClock) -> MemoryExchange:
    """With a clock that stands at `START` until a test moves it."""
    return MemoryExchange()


async def poll() -> None:
    await trio.sleep(POLL_EVERY + 0.1)


async def test_what_one_pod_puts_the_other_serves(autojump_clock: MockClock) -> None:
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange) as one, open_pod(exchange) as two:
        snapshot = make_snapshot()
        assert await one.store.put(snapshot)
        await poll()
        assert two.store.get("shop") == snapshot
        assert dict(two.store.newest()) == {"shop": snapshot}
        newer = make_snapshot([9], made_at=at(1))
        await two.store.put(newer)
        await poll()
        assert one.store.get("shop") == newer


async def test_a_pod_finds_at_its_start_what_was_there(autojump_clock: MockClock) -> None:
    exchange = MemoryExchange(wall_clock())
    names = [f"w{number}" for number in range(3 * MAX_BATCH)]
    async with open_pod(exchange) as one:
        for name in names:
            await one.store.put(make_snapshot(workload=name))
        await poll()
    async with open_pod(exchange, *names) as two:
        assert two.store.newest().keys() == set(names)
        assert two.store.previous("w0") == make_snapshot(workload="w0")


async def test_only_what_is_followed_is_read_and_what_is_forgotten_no_more(autojump_clock: MockClock) -> None:
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange, "a", "b") as one, open_pod(exchange, "b") as two:
        for name in ("a", "b"):
            await one.store.put(make_snapshot(workload=name))
        await poll()
        assert two.store.newest().keys() == {"b"}
        two.store.forget("b")
        await one.store.put(make_snapshot(workload="b", made_at=at(1)))
        await poll()
        assert two.store.newest() == {}
        two.store.follow("a")
        two.store.follow("b")
        await poll()
        assert two.store.newest().keys() == {"a", "b"}


async def test_an_older_snapshot_of_another_pod_is_not_served(autojump_clock: MockClock) -> None:
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange) as one, open_pod(exchange) as two:
        await one.store.put(make_snapshot(made_at=at(0)))
        await poll()
        assert not await two.store.put(make_snapshot([7], made_at=at(-30)))
        assert two.store.get("shop") == make_snapshot()


async def test_a_snapshot_that_is_refused_gives_way_to_the_one_that_is_there(autojump_clock: MockClock) -> None:
    exchange = MemoryExchange(wall_clock())
    theirs = make_snapshot([8], made_at=at(0))
    async with open_pod(exchange, ready=False) as pod:
        await exchange.write([SharedWrite(theirs, 3)])
        assert await pod.store.put(make_snapshot([7], made_at=at(-30)))
        await poll()
        assert pod.store.get("shop") == theirs
        assert pod.sample("kedastral_storage_writes_total", outcome="fenced") == 1


async def test_each_snapshot_is_written_with_the_token_of_when_it_was_put(autojump_clock: MockClock) -> None:
    exchange, tokens = MemoryExchange(wall_clock()), iter([4, 5])
    async with open_pod(exchange, token=lambda: next(tokens)) as pod:
        exchange.fault = AWAY
        await pod.store.put(make_snapshot())
        await trio.sleep(1)
        await pod.store.put(make_snapshot(workload="pay"))
        exchange.fault = None
        await trio.sleep(RETRY_AT_MOST)
    assert {name: entry.token for name, entry in exchange.entries.items()} == {"shop": 4, "pay": 5}


async def test_while_the_exchange_is_away_memory_serves_and_only_the_newest_waits(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange) as one, open_pod(exchange) as two:
        await one.store.put(make_snapshot())
        await poll()
        caplog.clear()
        exchange.fault = AWAY
        for n in range(1, 41):
            await trio.sleep(30)
            await one.store.put(make_snapshot([n], made_at=at(30 * n)))
        assert one.store.get("shop") == make_snapshot([40], made_at=at(1200))
        assert two.store.get("shop") == make_snapshot()
        assert one.sample("kedastral_storage_pending_writes") == 1
        assert one.sample("kedastral_storage_up", operation="write") == 0
        assert one.sample("kedastral_storage_up", operation="read") == 0
        assert one.sample("kedastral_errors_total", component="store", reason="unreachable") == pytest.approx(
            480, abs=20
        )
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == 3, "one for reading in each pod, one for writing"
        exchange.fault = None
        await trio.sleep(RETRY_AT_MOST + POLL_EVERY)
        assert two.store.get("shop") == make_snapshot([40], made_at=at(1200))
        assert one.sample("kedastral_storage_pending_writes") == 0
        assert one.sample("kedastral_storage_up", operation="write") == 1
        again = [record for record in caplog.records if "works again" in record.message]
        assert len(again) == 3


async def test_an_exchange_that_was_not_asked_is_not_up(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange) as one:
        exchange.fault = AWAY
        await one.store.put(make_snapshot())
        await trio.sleep(30)
        one.store.forget("shop")
        assert one.sample("kedastral_storage_pending_writes") == 0
        await trio.sleep(30)
        assert one.sample("kedastral_storage_up", operation="write") == 0
        assert "the storage works again (write)" not in caplog.messages
        await one.store.put(make_snapshot([3]))
        await trio.sleep(30)
        assert one.sample("kedastral_storage_up", operation="write") == 0
        exchange.fault = None
        await trio.sleep(RETRY_AT_MOST + POLL_EVERY)
        assert one.sample("kedastral_storage_up", operation="write") == 1
        assert "the storage works again (write)" in caplog.messages


async def test_an_outage_of_writing_does_not_outlive_what_was_to_be_written(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange) as one:
        for _ in range(2):
            exchange.fault = AWAY
            await one.store.put(make_snapshot())
            await trio.sleep(30)
            one.store.forget("shop")
            exchange.fault = None
            await trio.sleep(RETRY_AT_MOST + POLL_EVERY)
            assert one.sample("kedastral_storage_up", operation="write") is None, "an alert would never end"
    assert caplog.messages.count("nothing waits for the storage anymore (write)") == 2
    assert sum("the storage fails (write)" in line for line in caplog.messages) == 2


async def test_what_is_put_and_forgotten_at_once_says_nothing_of_the_exchange(autojump_clock: MockClock) -> None:
    async with open_pod(MemoryExchange(wall_clock())) as one:
        await one.store.put(make_snapshot())
        one.store.forget("shop")
        await trio.sleep(30)
        assert one.sample("kedastral_storage_up", operation="write") is None


async def test_a_start_does_not_wait_long_for_an_exchange_that_is_away(autojump_clock: MockClock) -> None:
    exchange = MemoryExchange(wall_clock(), fault=AWAY)
    began = trio.current_time()
    async with open_pod(exchange) as pod:
        assert trio.current_time() - began == FIRST_WAIT
        assert await pod.store.put(make_snapshot())
        exchange.fault = None
        await trio.sleep(RETRY_AT_MOST)
        assert "shop" in exchange.entries


async def test_what_the_exchange_lost_is_written_again_with_the_next_tick(autojump_clock: MockClock) -> None:
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange) as one, open_pod(exchange) as two:
        await one.store.put(make_snapshot())
        await poll()
        exchange.lose_everything()
        await poll()
        assert two.store.get("shop") == make_snapshot()
        newer = make_snapshot([7], made_at=at(30))
        await one.store.put(newer)
        await poll()
        assert two.store.get("shop") == newer


async def test_a_change_that_the_exchange_did_not_tell_is_found_by_comparing(autojump_clock: MockClock) -> None:
    exchange = MemoryExchange(wall_clock(), moment=10)
    async with open_pod(exchange) as pod:
        await exchange.write([SharedWrite(make_snapshot(workload="other"))])
        await poll()
        exchange.moment = 5  # like a failover to a server whose clock is behind
        await exchange.write([SharedWrite(make_snapshot())])
        await poll()
        assert pod.store.get("shop") is None
        await trio.sleep(COMPARE_EVERY)
        assert pod.store.get("shop") == make_snapshot()


async def test_what_did_not_change_is_not_read_again(autojump_clock: MockClock) -> None:
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange) as pod:
        await exchange.write([SharedWrite(make_snapshot())])
        await poll()
        exchange.requests.clear()
        await trio.sleep(10 * COMPARE_EVERY)
        assert set(exchange.requests) == {"changes"}
        assert pod.store.get("shop") == make_snapshot()


async def test_a_tick_goes_on_from_its_own_snapshot_unless_another_pod_was_in_charge_for_long(
    autojump_clock: MockClock,
) -> None:
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange) as pod:
        own = make_snapshot([5])
        await pod.store.put(own)
        await poll()
        await exchange.write([SharedWrite(make_snapshot([6], made_at=at(15)))])
        await poll()
        assert pod.store.previous("shop") is own
        assert pod.store.get("shop") == make_snapshot([6], made_at=at(15))
        await trio.sleep(400)
        await exchange.write([SharedWrite(make_snapshot([7], made_at=at(400)))])
        await poll()
        assert pod.store.previous("shop") == make_snapshot([7], made_at=at(400))


async def test_the_own_one_is_revised_even_while_a_better_one_of_others_is_served(autojump_clock: MockClock) -> None:
    """After new settings the own one is foreign, so as a new one it would be refused. What others made stays theirs."""
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange, terms=Terms("old")) as pod:
        pod.store.follow("shop")
        await pod.store.put(ours(0, by="old"))
        await poll()
        pod.store.terms = lambda _: Terms("new")
        await exchange.write([SharedWrite(ours(5, 6, by="new"))])
        await poll()
        pod.store.revise("shop", lambda own: attrs.evolve(own, lead_time=77.0))
        assert pod.store.previous("shop") == attrs.evolve(ours(0, by="old"), lead_time=77.0)
        assert pod.store.get("shop") == ours(5, 6, by="new")
        await poll()
        assert exchange.entries["shop"].snapshot == ours(5, 6, by="new")
    async with open_pod(exchange) as other:
        other.store.follow("shop")
        await poll()
        other.store.revise("shop", lambda own: attrs.evolve(own, lead_time=77.0))
        assert other.store.previous("shop") == ours(5, 6, by="new")


async def test_after_a_clock_was_set_back_a_snapshot_from_the_future_gives_way(autojump_clock: MockClock) -> None:
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange) as one, open_pod(exchange) as two:
        await one.store.put(make_snapshot(made_at=at(3600)))
        await poll()
        after = make_snapshot([7], made_at=at(2))
        assert await two.store.put(after)
        await poll()
        assert one.store.get("shop") == after


# What does not meet the conditions.


def ours(seconds: float = 0.0, *replicas: int, by: str = "ours") -> Snapshot:
    return attrs.evolve(make_snapshot(replicas or (3,), made_at=at(seconds)), fingerprint=by)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.parametrize(("ahead", "stale_after"), [(50, 40), (3600, 120)])
async def test_one_from_the_future_replaces_no_good_one_and_is_told_once(
    autojump_clock: MockClock, ahead: float, stale_after: float, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange, terms=Terms(stale_after=stale_after)) as pod:
        await pod.store.put(ours(0))
        await poll()
        for _ in range(20):
            exchange.entries.clear()  # otherwise it would be refused there
            await exchange.write(
                [SharedWrite(make_snapshot([1], made_at=exchange.clock.now() + timedelta(seconds=ahead)))]
            )
            await poll()
            assert pod.store.get("shop") == ours(0)
            assert pod.store.is_passed_over("shop")
        [words] = warnings(caplog)
        assert "in the future and does not replace others" in words


async def test_a_pod_whose_own_clock_is_ahead_is_told_that_redis_keeps_nothing_of_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = MemoryExchange(wall_clock())
    await exchange.write([SharedWrite(make_snapshot())])
    async with open_pod(exchange, ready=False, terms=Terms(stale_after=40.0)) as pod:
        pod.store.clock = AcceleratedClock(at(50))
        for beat in range(5):
            assert await pod.store.put(make_snapshot([9], made_at=at(10 * beat + 50)))
            await trio.sleep(0.1)
        assert [words for words in warnings(caplog) if words.startswith("Redis refuses this pod's forecasts")]
        assert pod.sample("kedastral_storage_writes_total", outcome="ahead") == 5
    assert exchange.entries["shop"].snapshot == make_snapshot()


async def test_one_by_other_settings_is_served_until_there_is_one_by_its_own_and_warned_of_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    exchange = MemoryExchange(wall_clock())
    await exchange.write([SharedWrite(ours(0, 6, by="theirs"))])
    async with open_pod(exchange, terms=OURS) as pod:
        assert pod.store.get("shop") == ours(0, 6, by="theirs"), "as after an update: pods are pods"
        assert not pod.store.is_fit(ours(0, by="theirs"))
        assert warnings(caplog) == []
        assert await pod.store.put(ours(1, 12))
        await poll()
        for beat in range(1, 20):
            await trio.sleep(10)
            await exchange.write([SharedWrite(ours(10 * beat + 3, 6, by="theirs"))])
            await poll()
            assert pod.store.is_passed_over("shop")
            assert await pod.store.put(ours(10 * beat + 5, 12))
            assert pod.store.get("shop") == ours(10 * beat + 5, 12)
        [words] = warnings(caplog)
        assert "two fleets have the same --redis-prefix, or a rolling update" in words


async def test_pods_of_the_same_settings_share_though_others_write_there_too(autojump_clock: MockClock) -> None:
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange, terms=OURS) as one, open_pod(exchange, terms=OURS) as two:
        for beat in range(5):
            await one.store.put(ours(10 * beat, 12))
            await trio.sleep(5)
            await exchange.write([SharedWrite(ours(10 * beat + 5, 6, by="theirs"))])
            await trio.sleep(5)
            assert two.store.get("shop") == ours(10 * beat, 12)


async def test_in_an_update_one_by_other_settings_is_better_than_a_stale_one_and_later_it_is_not(
    autojump_clock: MockClock,
) -> None:
    exchange = MemoryExchange(wall_clock())
    async with open_pod(exchange, terms=OURS) as pod:
        own = ours(0, 12)
        await pod.store.put(own)
        for seconds in range(30, int(ROLLING_UPDATE), 30):
            await trio.sleep(trio_until(seconds))
            await exchange.write([SharedWrite(ours(seconds, 6, by="theirs"))])
            await poll()
            found = pod.store.get("shop")
            assert found is not None
            assert exchange.clock.now() - found.made_at < timedelta(seconds=OURS.stale_after + 2), "no answer is lost"
        await trio.sleep(trio_until(ROLLING_UPDATE + 100))
        again = ours(ROLLING_UPDATE + 100, 12)
        assert await pod.store.put(again)
        await trio.sleep(200)
        await exchange.write([SharedWrite(ours(ROLLING_UPDATE + 300, 6, by="theirs"))])
        await poll()
        assert pod.store.get("shop") == again, "the policy for stale forecasts decides"


def trio_until(seconds: float) -> float:
    """How long to sleep until ``seconds`` after the start of the virtual clock."""
    return max(seconds - trio.current_time(), 0.0)
