# SPDX-License-Identifier: Apache-2.0
"""Callers that impersonate other people's ScaledObjects, through the gRPC server: who is served, who is refused."""

import attrs
import pytest
import trio
import trio.testing
from grpclib.const import Status
from trio.testing import MockClock

from kedastral import trio_connections
from kedastral._proto import externalscaler_pb2 as pb
from kedastral.app import grpc_limits
from kedastral.grpclib_trio import Server
from kedastral.serving.metrics import Metrics
from kedastral.serving.scaler import ExternalScaler, Scaler
from kedastral.settings.declarations import ScaledObjectSettings
from kedastral.workloads.scaledobject_workloads import DISPUTED_FOR, EDIT_AFTER, HANDED_OVER_AFTER, FleetResolver
from tests.grpclib_trio.peers import MemoryListener
from tests.keda_client import open_client
from tests.parts import make_snapshot, wall_clock

from .test_scaledobject_workloads import CONFIGURED, Rig, StubReader

KEDA, SUCCESSOR, STRANGER = "10.0.0.1", "10.0.0.2", "10.9.9.9"


@attrs.define(eq=False)
class StreamFrom(trio.abc.Stream):
    """The server's end of a memory stream, from an address."""

    stream: trio.abc.Stream
    address: str

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.stream.aclose()


def address_of(stream: trio.abc.Stream) -> tuple[str, int] | None:
    return (stream.address, 40000) if isinstance(stream, StreamFrom) else None


@attrs.define
class Cluster:
    """A whole scaler, and callers with their own addresses."""

    listener: MemoryListener
    resolver: FleetResolver

    async def ask(
        self, query: str, caller: str = KEDA, name: str = "web", namespace: str = "pay"
    ) -> tuple[Status, str]:
        """The status and message of one GetMetrics on a new connection."""

        def pair() -> tuple[trio.abc.Stream, trio.abc.Stream]:
            ours, theirs = trio.testing.memory_stream_pair()
            return ours, StreamFrom(theirs, caller)

        ref = pb.ScaledObjectRef(name=name, namespace=namespace, scalerMetadata={"query": query})
        client = open_client(self.listener.connect(pair))
        await client.call("GetMetricSpec", pb.ScaledObjectRef())  # so that the client knows its send window
        answer = await client.call("GetMetrics", pb.GetMetricsRequest(scaledObjectRef=ref, metricName="x"))
        await client.stream.aclose()
        return answer.status, answer.message

    async def is_served(self, query: str, caller: str = KEDA, name: str = "web", namespace: str = "pay") -> bool:
        status, _ = await self.ask(query, caller, name, namespace)
        return status is Status.OK

    def query(self) -> str:
        """The query of the only workload."""
        [runner] = self.resolver.fleet.runners.values()
        return runner.settings.query


@pytest.fixture
async def cluster(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setattr(trio_connections, "_read_address", address_of)
    rig, rules = Rig(), ScaledObjectSettings()

    async def publish(key: str) -> None:
        await rig.fleet.store.put(make_snapshot(workload=key))

    rig.tick = publish
    resolver = FleetResolver(rig.fleet, rig.builder, StubReader(CONFIGURED, rules, say=rig.read_metadata))
    await nursery.start(rig.fleet.run)
    await nursery.start(resolver.run)
    service = ExternalScaler(Scaler(rig.fleet.store, wall_clock(), resolver), Metrics())
    listener = MemoryListener()
    server = Server([service], limits=grpc_limits(1000, None), on_call=service.count_call)
    nursery.start_soon(lambda: server.serve([listener], shutdown=trio.Event()))
    return Cluster(listener, resolver)


async def test_who_claims_anothers_object_with_a_changing_query_is_refused_and_the_victim_never(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    assert await cluster.is_served("up")
    for number in range(35):
        status, words = await cluster.ask(f"stolen_{number}", STRANGER)
        assert status is Status.INVALID_ARGUMENT
        assert "is already described differently by another caller" in words
        assert await cluster.is_served("up")
        await trio.sleep(15)
    assert cluster.query() == "up"


async def test_behind_the_victims_own_address_it_changes_nothing_either(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    assert await cluster.is_served("up")
    served = 0
    for number in range(35):
        served += await cluster.is_served(f"stolen_{number}")
        assert await cluster.is_served("up")
        assert cluster.query() == "up"
        await trio.sleep(15)
    assert served == DISPUTED_FOR / 15, "told of the victim's plan for as long as it may be an edit"


async def test_an_edit_takes_effect_within_a_minute_and_is_answered_meanwhile(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    assert await cluster.is_served("up")
    edited_at = trio.current_time()
    while cluster.query() != "sum(up)":
        assert await cluster.is_served("sum(up)")
        await trio.sleep(15)
    assert trio.current_time() - edited_at <= 60


async def test_a_stranger_who_lies_in_wait_gains_nothing_by_an_edit(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    assert await cluster.is_served("up")
    for second in range(0, 120, 5):
        assert not await cluster.is_served("stolen", STRANGER)
        assert second % 15 or await cluster.is_served("sum(up)")
        await trio.sleep(5)
    assert cluster.query() == "sum(up)"


async def test_a_stranger_who_repeats_the_old_description_does_not_hold_up_an_edit(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    assert await cluster.is_served("up")
    for _ in range(int(EDIT_AFTER / 5)):
        assert await cluster.is_served("up", STRANGER)
        await trio.sleep(5)
    assert await cluster.is_served("sum(up)")
    assert cluster.query() == "sum(up)"
    assert not await cluster.is_served("up", STRANGER)


async def test_another_caller_may_change_a_description_only_once_its_holder_has_been_silent_for_five_minutes(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    assert await cluster.is_served("up")
    await trio.sleep(HANDED_OVER_AFTER - 10)
    assert not await cluster.is_served("sum(up)", SUCCESSOR)
    assert await cluster.is_served("up", SUCCESSOR), "who says the same is served at once"
    await trio.sleep(11)
    assert await cluster.is_served("sum(up)", SUCCESSOR)
    assert cluster.query() == "sum(up)"


async def test_a_keda_that_was_restarted_elsewhere_takes_over_what_it_repeats(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    assert await cluster.is_served("up")
    for _ in range(int(HANDED_OVER_AFTER / 30) + 1):
        await trio.sleep(30)
        assert await cluster.is_served("up", SUCCESSOR)
    await trio.sleep(EDIT_AFTER)
    assert not await cluster.is_served("stolen", STRANGER)
    assert await cluster.is_served("sum(up)", SUCCESSOR)
    assert cluster.query() == "sum(up)"


async def test_of_certificates_the_names_count_and_not_the_address(
    autojump_clock: MockClock, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {"subject": ((("commonName", "keda-operator"),),), "subjectAltName": (("DNS", "keda"),)}
    monkeypatch.setattr(trio_connections.Peer, "cert", lambda _peer: names)
    assert await cluster.is_served("up")
    await trio.sleep(EDIT_AFTER)
    assert await cluster.is_served("sum(up)", SUCCESSOR)
    assert cluster.query() == "sum(up)"


async def test_a_namespace_may_take_a_quarter_of_the_places(autojump_clock: MockClock, cluster: Cluster) -> None:
    for number in range(250):
        assert await cluster.is_served("up", name=f"web-{number}")
    for number in range(250, 260):
        status, words = await cluster.ask("up", name=f"web-{number}")
        assert status is Status.RESOURCE_EXHAUSTED
        assert "namespace 'pay' already define 250 workloads" in words
    assert await cluster.is_served("up", namespace="shop")
    assert await cluster.is_served("up", name="web-0")
    assert len(cluster.resolver.fleet.runners) == 251


async def test_metadata_of_more_than_64_kib_are_refused_and_nothing_of_them_stays(
    autojump_clock: MockClock, cluster: Cluster
) -> None:
    status, words = await cluster.ask("x" * 65_536)
    assert status is Status.RESOURCE_EXHAUSTED
    assert "larger than the limit of 65536" in words
    assert not cluster.resolver.fleet.runners
    assert await cluster.is_served("x" * 60_000)
