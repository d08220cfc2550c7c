# SPDX-License-Identifier: Apache-2.0
"""external-push: the stream that wakes a workload in time, and what thousands of silent streams cost."""

import sys
from collections.abc import AsyncIterator

import attrs
import pytest
import trio
from grpclib.const import Status
from grpclib.server import Stream
from trio.testing import MockClock, wait_all_tasks_blocked

from kedastral._proto import externalscaler_pb2 as pb
from kedastral.clock import WallClock
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.grpclib_trio import Server
from kedastral.serving.metrics import Metrics
from kedastral.serving.scaler import MARGIN, ExternalScaler, Scaler
from kedastral.serving.store import MemoryStore
from tests.grpclib_trio.peers import Answer, Client, MemoryListener
from tests.keda_client import open_client
from tests.parts import FixedResolver, make_snapshot, wall_clock

OBJECTS = 1000
STREAMS = 2 * OBJECTS
LEAD = 300.0


@attrs.define
class Site:
    """A running scaler, and the one connection that KEDA has to it."""

    store: MemoryStore
    service: ExternalScaler
    client: Client
    clock: WallClock
    shutdown: trio.Event
    stopped: trio.Event

    def open(self, method: str, workload: str = "shop", **metadata: str) -> Answer:
        """A stream of a ScaledObject's external-push trigger."""
        ref = pb.ScaledObjectRef(name="web", namespace="prod", scalerMetadata={"workload": workload, **metadata})
        return self.client.answers[self.client.start(method, ref)]

    async def read(self) -> None:
        """Read whatever comes, as KEDA does."""
        while await self.client.read():
            pass


@attrs.define(eq=False)
class StepCount(trio.abc.Instrument):
    """How often any task was run."""

    steps: int = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        del task
        self.steps += 1


@pytest.fixture
async def site(autojump_clock: MockClock, nursery: trio.Nursery) -> AsyncIterator[Site]:
    store, clock, listener, shutdown, stopped = (
        MemoryStore(),
        wall_clock(),
        MemoryListener(),
        trio.Event(),
        trio.Event(),
    )
    names = ("shop", *(f"w{n}" for n in range(OBJECTS)))
    service = ExternalScaler(Scaler(store, clock, FixedResolver.of(*names, policy=StalePolicy(3600))), Metrics())
    server = Server([service], on_call=service.count_call)

    async def serve() -> None:
        await server.serve([listener], shutdown=shutdown, grace=5.0)
        stopped.set()

    nursery.start_soon(serve)
    yield Site(store, service, open_client(listener.connect()), clock, shutdown, stopped)
    nursery.cancel_scope.cancel()


def said(stream: Answer) -> list[bool]:
    return [message.result for message in stream.read(pb.IsActiveResponse)]


async def test_a_silent_stream_keeps_nothing_of_its_request(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[pb.ScaledObjectRef] = []

    async def receive(stream: Stream[pb.ScaledObjectRef, pb.IsActiveResponse]) -> pb.ScaledObjectRef:
        message = await stream.recv_message()
        assert message is not None
        requests.append(message)
        return message

    monkeypatch.setattr("kedastral.serving.scaler._receive", receive)
    site.open("StreamIsActive", query="x" * 50_000)
    await site.client.flush()
    await wait_all_tasks_blocked()
    [request] = requests
    assert sys.getrefcount(request) == 3  # by the list, by its name here, and by the argument of this call


async def test_true_comes_a_lead_time_before_a_need_from_zero_and_false_once_it_has_passed(
    autojump_clock: MockClock, site: Site, nursery: trio.Nursery
) -> None:
    plan = [0] * 10 + [5] * 10 + [0] * 20  # needed from 600 s to 1,200 s
    await site.store.put(make_snapshot(plan, lead=LEAD, floor=0))
    stream = site.open("StreamIsActive")
    await site.client.flush()
    nursery.start_soon(site.read)
    for moment, expected in (
        (600 - LEAD - 0.5, [False]),
        (600 - LEAD + 2 * MARGIN, [False, True]),
        (1200 - 0.5, [False, True]),
        (1200 + 2 * MARGIN, [False, True, False]),
    ):
        await trio.sleep_until(moment)
        await wait_all_tasks_blocked()
        assert said(stream) == expected, moment


async def test_the_activation_is_a_threshold_of_the_need_that_the_lead_reaches(
    autojump_clock: MockClock, site: Site, nursery: trio.Nursery
) -> None:
    await site.store.put(make_snapshot([0] * 10 + [3] + [4] * 10, lead=LEAD, floor=0))
    stream = site.open("StreamIsActive", activation="3")
    await site.client.flush()
    nursery.start_soon(site.read)
    for moment, expected in ((660 - LEAD - 0.5, [False]), (660 - LEAD + 2 * MARGIN, [False, True])):
        await trio.sleep_until(moment)
        await wait_all_tasks_blocked()
        assert said(stream) == expected, moment


async def open_all(site: Site) -> list[Answer]:
    """Two streams of each of thousands of ScaledObjects on one connection, each with its first answer."""
    for n in range(OBJECTS):
        await site.store.put(make_snapshot([0] * 60, workload=f"w{n}", lead=LEAD, floor=0))
    streams = []
    for n in range(OBJECTS):
        streams.append(site.open("StreamIsActive", f"w{n}"))
        streams.append(site.open("StreamMetricSpec", f"w{n}"))
        if n % 100 == 99:
            await site.client.until(lambda: all(stream.body for stream in streams[-200:]))
    assert all(said(stream) == [False] for stream in streams[::2])
    return streams


async def test_thousands_of_silent_streams_run_nothing_a_change_wakes_one_of_them_and_all_end_with_ok(
    autojump_clock: MockClock, site: Site, nursery: trio.Nursery
) -> None:
    streams = await open_all(site)
    nursery.start_soon(site.read)
    await wait_all_tasks_blocked()
    count = StepCount()
    trio.lowlevel.add_instrument(count)
    await trio.sleep(50)
    assert count.steps < STREAMS / 10, "before the plan's next step nothing runs"
    count.steps = 0
    await trio.sleep(600)
    assert count.steps < 25 * OBJECTS, "each stream of an activity wakes once for each step of the plan"

    await site.store.put(make_snapshot([1] * 60, workload="w7", made_at=site.clock.now(), floor=0))
    count.steps = 0
    await trio.sleep(2 * MARGIN)
    assert count.steps < 40
    trio.lowlevel.remove_instrument(count)
    assert [n for n in range(OBJECTS) if said(streams[2 * n]) != [False]] == [7]
    assert said(streams[14]) == [False, True]

    site.shutdown.set()
    await site.stopped.wait()
    await wait_all_tasks_blocked()
    assert len(streams) == STREAMS
    assert {stream.status for stream in streams} == {Status.OK}
    assert all(stream.reset is None for stream in streams)
