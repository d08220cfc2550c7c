# SPDX-License-Identifier: Apache-2.0
"""`Keda`: asks the scaler over gRPC when KEDA would, and passes the answers to a `ScaledObject`."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs
import trio
from grpclib.const import Status

from kedastral._proto import externalscaler_pb2 as pb
from tests.grpclib_trio.peers import Answer, Client
from tests.keda_client import open_client

from .scaled_object import ScaledObject, TriggerAnswer

SYNC_PERIOD = 15.0
SYNC_BUDGET = 3.0
FIRST_SYNC, FIRST_POLL = 4.0, 7.0
"""Offset from the moments at which plans and their steps begin."""
RECONNECT_AFTER = 2.0
"""Seconds before a stream that ended is opened again; KEDA doubles them up to a minute after each error."""


class UnreachableError(Exception):
    """Nobody listens, or the connection was lost."""


class Trigger(Protocol):
    """One trigger of the ScaledObject."""

    async def ask(self, budget: float) -> TriggerAnswer:
        """Its answer now, within ``budget`` seconds."""
        ...


@attrs.frozen
class ReactiveTrigger:
    """A prometheus trigger on the load itself; ``load`` is None while Prometheus is down."""

    load: Callable[[], float | None]
    threshold: float

    async def ask(self, budget: float) -> TriggerAnswer:
        """See `Trigger.ask`."""
        del budget
        await trio.lowlevel.checkpoint()
        load = self.load()
        return TriggerAnswer(load, load is not None and load > 0, self.threshold)


@attrs.define
class ExternalTrigger:
    """A trigger of type external: GetMetricSpec, then GetMetrics and IsActive, each retried once at once."""

    connect: Callable[[], trio.abc.Stream]
    metadata: Mapping[str, str] = attrs.field(factory=lambda: {"workload": "shop"})
    said: list[tuple[float, float | str]] = attrs.field(factory=list, init=False)
    _client: Client | None = attrs.field(default=None, init=False)

    async def ask(self, budget: float) -> TriggerAnswer:
        """See `Trigger.ask`; all three calls and their retries have ``budget`` seconds together."""
        answer = TriggerAnswer(reached=False)
        with trio.move_on_after(budget):
            if await self._try(self._read_spec) is not None:
                answer = TriggerAnswer()
                answer = await self._try(self._read_metrics) or answer
        return answer

    async def _try(self, read: Callable[[], Any]) -> Any:
        for _ in range(2):
            try:
                return await read()
            except (UnreachableError, ValueError):
                continue
        return None

    async def _read_spec(self) -> float:
        [message] = (await self._call("GetMetricSpec", self._ref())).read(pb.GetMetricSpecResponse)
        [spec] = message.metricSpecs
        return float(spec.targetSizeFloat)

    async def _read_metrics(self) -> TriggerAnswer:
        request = pb.GetMetricsRequest(scaledObjectRef=self._ref(), metricName="desired_replicas")
        [metrics] = (await self._call("GetMetrics", request)).read(pb.GetMetricsResponse)
        [activity] = (await self._call("IsActive", self._ref())).read(pb.IsActiveResponse)
        value = float(sum(metric.metricValueFloat for metric in metrics.metricValues))
        self._note(value)
        return TriggerAnswer(value, bool(activity.result))

    async def _call(self, method: str, message: Any) -> Answer:
        try:
            self._client = self._client or open_client(self.connect())
            answer = await self._client.call(method, message)
        except (EOFError, trio.BrokenResourceError, UnreachableError) as error:
            self._client = None
            self._note("unreachable")
            raise UnreachableError from error
        except trio.Cancelled:
            self._client = None
            raise
        if answer.status is not Status.OK:
            self._note(answer.status.name)
            raise ValueError(answer.message)
        return answer

    def _ref(self) -> Any:
        return pb.ScaledObjectRef(name="web", namespace="prod", scalerMetadata=self.metadata)

    def _note(self, what: float | str) -> None:
        if not self.said or self.said[-1][1] != what:
            self.said.append((trio.current_time(), what))

    async def listen(self, woken: Callable[[], None]) -> None:
        """Hold StreamIsActive open, as external-push does; ``woken`` is called at each true."""
        while True:
            try:
                client = open_client(self.connect())
                stream = client.answers[client.start("StreamIsActive", self._ref())]
                await client.flush()
                heard = 0
                while not stream.ended and await client.read():
                    for message in stream.read(pb.IsActiveResponse)[heard:]:
                        heard += 1
                        if message.result:
                            woken()
            except UnreachableError:
                pass
            await trio.sleep(RECONNECT_AFTER)


@attrs.frozen
class Beat:
    """When something happens, and how long it may take, in seconds."""

    first: float
    every: float
    budget: float


@attrs.frozen
class Keda:
    """KEDA's loops around one ScaledObject, with separate ``triggers`` for the polls and for the HPA."""

    scaled: ScaledObject
    polled: Sequence[Trigger]
    synced: Sequence[Trigger]

    async def run(self) -> None:
        """Poll and sync until cancelled."""
        async with trio.open_nursery() as nursery:
            polling = Beat(FIRST_POLL, self.scaled.spec.polling_interval, math.inf)
            nursery.start_soon(self._keep, self.scaled.poll, self.polled, polling)
            nursery.start_soon(self._keep, self.scaled.sync, self.synced, Beat(FIRST_SYNC, SYNC_PERIOD, SYNC_BUDGET))

    async def _keep(self, decide: Any, triggers: Sequence[Trigger], timing: Beat) -> None:
        beat = trio.current_time() + timing.first
        while True:
            await trio.sleep_until(beat)
            answers: dict[int, TriggerAnswer] = {}

            async def ask(i: int, trigger: Trigger, into: dict[int, TriggerAnswer] = answers) -> None:
                into[i] = await trigger.ask(timing.budget)

            async with trio.open_nursery() as nursery:
                for i, trigger in enumerate(triggers):
                    nursery.start_soon(ask, i, trigger)
            decide(trio.current_time(), [answers[i] for i in range(len(triggers))])
            beat = max(beat + timing.every, trio.current_time())
