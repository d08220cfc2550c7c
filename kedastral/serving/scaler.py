# SPDX-License-Identifier: Apache-2.0
"""`StaleLog`: one line when KEDA's answers about a workload begin to be stale, and one when they are fresh again."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import attrs
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from kedastral._proto.externalscaler_grpc import ExternalScalerBase
from kedastral._proto.externalscaler_pb2 import (
    GetMetricSpecResponse,
    GetMetricsRequest,
    GetMetricsResponse,
    IsActiveResponse,
    MetricSpec,
    MetricValue,
    ScaledObjectRef,
)
from kedastral.clock import WallClock
from kedastral.core.ports import SnapshotReader, WorkloadResolver
from kedastral.core.serving import Activity, Decision, StalePolicy, decide
from kedastral.core.snapshot import Mode
from kedastral.core.trigger import ObjectRef, describe_got, find_said, require_said_once, said_key
from kedastral.errors import BadTriggerError, RemoteError, TooManyWorkloadsError, UnknownWorkloadError
from kedastral.grpclib_trio import FinishedCall
from kedastral.serving.activity import ActivityNews, ActivityNotifier, Watched
from kedastral.serving.metrics import Metrics

MOST_REMEMBERED = 10_000
"""Workloads; beyond that the one that has been stale longest is forgotten, and would be told once more."""

log = logging.getLogger("kedastral.scaler")


@attrs.frozen
class StaleLog:
    """Remembers of each workload that is answered stale whether KEDA gets a number, and speaks when that changes."""

    _numbered: dict[str, bool] = attrs.field(factory=dict, init=False)

    def note(self, workload: str, decision: Decision, policy: StalePolicy) -> None:
        """Log what is new about ``decision``, an answer about ``workload`` by ``policy``."""
        if decision.stale:
            self._note_stale(workload, decision, policy)
        elif self._numbered.pop(workload, None) is not None:
            log.info("a fresh forecast again: KEDA is told %d", decision.replicas, extra={"workload": workload})

    def _note_stale(self, workload: str, decision: Decision, policy: StalePolicy) -> None:
        numbered = decision.replicas is not None
        if self._numbered.get(workload) is numbered:
            return
        self._numbered[workload] = numbered
        if len(self._numbered) > MOST_REMEMBERED:
            del self._numbered[next(iter(self._numbered))]
        told = str(decision.replicas) if numbered else "UNAVAILABLE, so that it holds"
        rule = Mode.OBSERVE if decision.mode is Mode.OBSERVE else policy.on_stale
        words = "no fresh forecast: KEDA is told %s (%s); %s"
        log.warning(words, told, rule, decision.reason, extra={"workload": workload})


# --- `Scaler`: what KEDA is told, decided from memory: how many replicas, active or not.


def read_activation(metadata: Mapping[str, str]) -> float:
    """The trigger's ``activation``: active above so many replicas. Raises BadTriggerError unless a number >= 0."""
    require_said_once(metadata, "activation")
    said = find_said(metadata, "activation")
    text = "0" if said is None else said.strip()
    try:
        activation = float(text)
    except ValueError:
        activation = -1.0
    if not 0 <= activation < float("inf"):
        key = said_key(metadata, "activation")
        raise BadTriggerError(f"metadata {key!r} must be a number of at least 0{describe_got(key, text, 40)}")
    return activation


@attrs.frozen
class Scaler:
    """Decides for every workload, at any moment, without waiting for anything."""

    reader: SnapshotReader
    clock: WallClock
    directory: WorkloadResolver

    async def find(self, ref: ObjectRef) -> str:
        """The workload a ScaledObject means, its snapshots at hand. Raises as `WorkloadResolver.find`."""
        return await self.directory.find(ref)

    def decide(self, workload: str) -> Decision:
        """What to tell KEDA about ``workload`` now."""
        self.directory.note_asked(workload)
        decision = decide(self.reader.get(workload), self.now(), self.policy_of(workload))
        failure = self.directory.failure_of(workload) if decision.stale else None
        if failure is None:
            return decision
        return attrs.evolve(decision, reason=f"{decision.reason}; {failure.words}")

    def policy_of(self, workload: str) -> StalePolicy:
        """What holds for ``workload`` when its forecast is stale."""
        return self.directory.policy_of(workload)

    def now(self) -> datetime:
        """The wall time that decisions are made at."""
        return self.clock.now()


# --- KEDA's ExternalScaler service: the five RPCs, each a decision of `Scaler` put into KEDA's messages.

METRIC_NAME = "desired_replicas"
METHODS = ("IsActive", "StreamIsActive", "GetMetricSpec", "StreamMetricSpec", "GetMetrics")
TARGET = 1
"""With AverageValue and a target of 1 the HPA wants exactly as many replicas as the metric says."""


class ExternalScaler(ExternalScalerBase):
    """Answers KEDA from memory. GetMetricSpec never fails; the others say why when they do."""

    def __init__(self, scaler: Scaler, metrics: Metrics) -> None:
        self.scaler = scaler
        self._metrics = metrics
        self._stale_log = StaleLog()
        for method in METHODS:  # so that an alert on what KEDA never asks finds a zero, not nothing
            metrics.scaler_requests.labels(method, Status.OK.name)
        self.board = ActivityNotifier(self._look)

    async def IsActive(self, stream: Stream[ScaledObjectRef, IsActiveResponse]) -> None:  # noqa: N802 - KEDA's name
        """Whether the plan wants more than ``activation`` replicas; never true on a stale plan under default-min."""
        ref = await _receive(stream)
        with _told_to_keda():
            activation = read_activation(ref.scalerMetadata)
            _, decision = await self._decide(ref)
        await stream.send_message(IsActiveResponse(result=decision.is_active(activation)))

    async def StreamIsActive(self, stream: Stream[ScaledObjectRef, IsActiveResponse]) -> None:  # noqa: N802
        """The state at once, then every change; silent while there is no plan to know it by."""
        ref = await _receive(stream)
        with _told_to_keda():
            activation = read_activation(ref.scalerMetadata)
            workload = await self.scaler.find(_object_of(ref))
        with self.board.watch(Watched(workload, activation, ref.namespace)) as state:
            news = ActivityNews(state)
            while True:
                await stream.send_message(IsActiveResponse(result=await news.next()))

    async def GetMetricSpec(self, stream: Stream[ScaledObjectRef, GetMetricSpecResponse]) -> None:  # noqa: N802
        """One metric, the same for every workload: a failure here would take the object's other triggers with it."""
        await _receive(stream)
        await stream.send_message(_metric_spec())

    async def StreamMetricSpec(self, stream: Stream[ScaledObjectRef, GetMetricSpecResponse]) -> None:  # noqa: N802
        """The specs at once; they never change, so the stream is then silent until it is closed."""
        await _receive(stream)
        await stream.send_message(_metric_spec())
        await trio.sleep_forever()

    async def GetMetrics(self, stream: Stream[GetMetricsRequest, GetMetricsResponse]) -> None:  # noqa: N802
        """Exactly one value (the HPA would sum several): the replicas wanted now."""
        request = await _receive(stream)
        with _told_to_keda():
            workload, decision = await self._decide(request.scaledObjectRef)
            replicas = _whole(decision)
        self._metrics.returned_replicas.labels(workload).set(replicas)
        value = MetricValue(metricName=METRIC_NAME, metricValue=replicas, metricValueFloat=float(replicas))
        await stream.send_message(GetMetricsResponse(metricValues=[value]))

    def count_call(self, call: FinishedCall) -> None:
        """Count and log one finished gRPC call."""
        method = call.method.rpartition("/")[2] if call.known else "unknown"
        self._metrics.scaler_requests.labels(method, call.status.name).inc()
        fields = {
            "method": call.method[:200],
            "status": call.status.name,
            "duration": round(call.duration, 6),
            "request_id": call.call_id,
        }
        log.debug("answered a call", extra=fields)

    async def _decide(self, ref: ScaledObjectRef) -> tuple[str, Decision]:
        workload = await self.scaler.find(_object_of(ref))
        decision = self.scaler.decide(workload)
        if decision.stale:
            self._metrics.stale_answers.inc()
        self._stale_log.note(workload, decision, self.scaler.policy_of(workload))
        _whole(decision)
        return workload, decision

    def _look(self, watched: Watched) -> Activity:
        workload = self.scaler.directory.still_meant(watched.workload, watched.namespace)
        return self.scaler.decide(workload).activity(watched.activation)


def _whole(decision: Decision) -> int:
    """The replicas decided; UNAVAILABLE where there are none, so that KEDA holds and its fallback counts."""
    if decision.replicas is None:
        raise GRPCError(Status.UNAVAILABLE, decision.reason)
    return decision.replicas


def _metric_spec() -> GetMetricSpecResponse:
    """Target 1 in both fields: KEDA before 2.17 knows only the integer one."""
    return GetMetricSpecResponse(
        metricSpecs=[MetricSpec(metricName=METRIC_NAME, targetSize=TARGET, targetSizeFloat=float(TARGET))]
    )


def _object_of(ref: ScaledObjectRef) -> ObjectRef:
    return ObjectRef(ref.name, ref.namespace, ref.scalerMetadata)


async def _receive(stream: Stream[Any, Any]) -> Any:
    message = await stream.recv_message()
    if message is None:
        raise GRPCError(Status.INTERNAL, "the call carried no request message")
    return message


@contextmanager
def _told_to_keda() -> Iterator[None]:
    """What a ScaledObject got wrong, as the gRPC status that SPEC 6 gives it."""
    try:
        yield
    except UnknownWorkloadError as error:
        raise GRPCError(Status.NOT_FOUND, str(error)) from error
    except BadTriggerError as error:
        raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
    except (RemoteError, TooManyWorkloadsError) as error:
        raise GRPCError(Status.RESOURCE_EXHAUSTED, str(error)) from error
