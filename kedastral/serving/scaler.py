# SPDX-License-Identifier: Apache-2.0
"""KEDA's External Scaler: `Scaler` decides how many replicas KEDA is told, `ExternalScaler` answers the five RPCs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import attrs
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.protocol import Peer
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
from kedastral.core.planning.snapshot import Mode
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.ports import SnapshotReader, WorkloadResolver
from kedastral.core.serving import Activity, Decision, decide, seconds_unchanged
from kedastral.core.trigger import ObjectRef, read_activation
from kedastral.errors import BadTriggerError, RemoteError, TooManyWorkloadsError, UnknownWorkloadError
from kedastral.grpclib_trio import FinishedCall
from kedastral.logs import RepeatLimit, of_many
from kedastral.serving.metrics import Metrics

METRIC_NAME = "desired_replicas"
SERVICE = "externalscaler.ExternalScaler"
METHODS = ("IsActive", "StreamIsActive", "GetMetricSpec", "StreamMetricSpec", "GetMetrics")
TIMED = ("IsActive", "GetMetricSpec", "GetMetrics")
"""The unary methods; a stream stays open for as long as KEDA likes."""
TARGET = 1
"""With AverageValue and a target of 1, the HPA wants exactly as many replicas as the metric says."""
MAX_SILENCE = 60.0
"""Seconds after which a silent stream checks its workload anyway: this keeps it alive, and the clock may be reset."""
MARGIN = 0.01
"""A stream checks this many seconds after the moment that it waits for."""
MAX_NAMESPACE = 63
"""The most characters of a namespace's name in Kubernetes."""
MAX_STALE_REMEMBERED = 10_000
"""How many workloads; beyond that, the one stale for longest is forgotten, and may be logged again."""
REPEAT_STALE_AFTER = 1800.0
"""Seconds after which a workload that is still stale is logged again: somebody who looks for the cause reads the last
hour of the log, and a split scaler has no other line about a workload whose name is misspelt."""

Request = TypeVar("Request")
Response = TypeVar("Response")
log = logging.getLogger("kedastral.scaler")


@attrs.frozen
class Scaler:
    """Decides what KEDA is told: `kedastral.core.serving.decide` for the newest snapshot, now. It never waits."""

    reader: SnapshotReader
    clock: WallClock
    resolver: WorkloadResolver

    async def find(self, ref: ObjectRef) -> str:
        """The key of the workload that a ScaledObject names. Raises like `WorkloadResolver.find`."""
        return await self.resolver.find(ref)

    def decide(self, workload: str) -> Decision:
        """What to tell KEDA about ``workload`` now."""
        self.resolver.keep_alive(workload)
        decision = decide(self.reader.get(workload), self.clock.now(), self.resolver.policy_of(workload))
        failure = self.resolver.failure_of(workload) if decision.stale else None
        if failure is None:
            return decision
        return attrs.evolve(decision, reason=f"{decision.reason}; {failure.words}")

    async def wait_for_change(self, workload: str, namespace: str) -> None:
        """Wait until the answer of `decide` may change, through a new snapshot or the passing of time.

        ``namespace`` is the ScaledObject's: a split scaler may find the workload there later.
        """
        policy = self.resolver.policy_of(workload)
        seconds = seconds_unchanged(self.reader.get(workload), self.clock.now(), policy) / self.clock.speed
        with trio.move_on_after(min(seconds + MARGIN, MAX_SILENCE)):
            await self.reader.wait_for_change(workload, f"{namespace}/{workload}")


class ExternalScaler(ExternalScalerBase):
    """KEDA's five RPCs, answered from memory. GetMetricSpec never fails; the others say why if they do."""

    def __init__(self, scaler: Scaler, metrics: Metrics) -> None:
        self.scaler = scaler
        self._metrics = metrics
        self._stale_log = StaleLog()
        self._stale_numbers = StaleNumberLog()
        for method in METHODS:  # so that alerts see a zero, not nothing, for calls that KEDA never makes
            metrics.scaler_requests.labels(method, Status.OK.name)
        self._seconds = {method: metrics.scaler_seconds.labels(method) for method in TIMED}

    async def IsActive(self, stream: Stream[ScaledObjectRef, IsActiveResponse]) -> None:  # noqa: N802 - KEDA's name
        """Whether the plan wants more than ``activation`` replicas; never true on a stale plan under default-min."""
        ref = await _receive(stream)
        with _errors_as_status():
            _, decision = await self._decide(_object_of(ref, stream.peer))
            activation = read_activation(ref.scalerMetadata)
        await stream.send_message(IsActiveResponse(result=decision.is_active(activation)))

    async def StreamIsActive(self, stream: Stream[ScaledObjectRef, IsActiveResponse]) -> None:  # noqa: N802
        """The state at once, then every change; silent while there is no plan to read it from.

        A silent stream is a suspended task: it wakes for a new snapshot, and when the plan's next step is due.
        """
        ref = await _receive(stream)
        with _errors_as_status():
            found = await self.scaler.find(_object_of(ref, stream.peer))
            activation = read_activation(ref.scalerMetadata)
        namespace = ref.namespace[:MAX_NAMESPACE]
        del ref  # there are thousands of these streams, and its metadata may be long
        updates = ActivityUpdates()
        while True:
            workload = self.scaler.resolver.current_key(found, namespace)
            active = updates.note(self.scaler.decide(workload).activity(activation))
            if active is not None:
                await stream.send_message(IsActiveResponse(result=active))
            else:  # just checked, with nothing awaited since
                await self.scaler.wait_for_change(workload, namespace)

    async def GetMetricSpec(self, stream: Stream[ScaledObjectRef, GetMetricSpecResponse]) -> None:  # noqa: N802
        """One metric, the same for every workload: a failure here would disable the object's other triggers too."""
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
        with _errors_as_status():
            workload, decision = await self._decide(_object_of(request.scaledObjectRef, stream.peer))
            replicas = _require_replicas(decision)
        self._metrics.returned_replicas.labels(workload).set(replicas)
        value = MetricValue(metricName=METRIC_NAME, metricValue=replicas, metricValueFloat=float(replicas))
        await stream.send_message(GetMetricsResponse(metricValues=[value]))

    def count_call(self, call: FinishedCall) -> None:
        """Count and log one finished gRPC call."""
        method = call.method.rpartition("/")[2] if call.known else "unknown"
        self._metrics.scaler_requests.labels(method, call.status.name).inc()
        if (seconds := self._seconds.get(method)) is not None:
            seconds.observe(call.duration)
        if not log.isEnabledFor(logging.DEBUG):
            return
        fields = {
            "method": call.method[:200],
            "status": call.status.name,
            "duration": round(call.duration, 6),
            "request_id": call.call_id,
        }
        log.debug("answered a call", extra=fields)

    async def _decide(self, ref: ObjectRef) -> tuple[str, Decision]:
        """The requested workload, and what to tell KEDA about it; counted and logged if stale."""
        workload = await self.scaler.find(ref)
        read_activation(ref.metadata)  # a bad one is an error of every method, whichever KEDA calls first
        decision = self.scaler.decide(workload)
        if decision.stale:
            self._metrics.stale_answers.inc()
        self._stale_log.note(workload, decision, self.scaler.resolver.policy_of(workload))
        self._stale_numbers.note(workload, decision)
        _require_replicas(decision)
        return workload, decision


@attrs.define
class ActivityUpdates:
    """What one StreamIsActive tells KEDA: the state, once there is a plan to read it from, and then every change."""

    _told: Activity | None = attrs.field(default=None, init=False)
    _assumed: bool = attrs.field(default=False, init=False)

    def note(self, activity: Activity) -> bool | None:
        """What to tell KEDA, now that ``activity`` is the state; None for nothing.

        Inactive is only sent if a plan says so, never because there is none. Active is sent again if IsActive has
        meanwhile answered inactive, by ``default-min``: the workload may be scaled to zero.
        """
        self._assumed |= activity is Activity.ASSUMED
        if activity in (Activity.ASSUMED, Activity.HELD):
            return None
        if activity is self._told and not (self._assumed and activity is Activity.ACTIVE):
            return None
        self._told, self._assumed = activity, False
        return activity is Activity.ACTIVE


@attrs.frozen
class StaleLog:
    """Logs when KEDA's answers about a workload become stale and when they are fresh again; every `REPEAT_STALE_AFTER`
    seconds in between."""

    _warnings: RepeatLimit = attrs.field(
        factory=lambda: RepeatLimit(REPEAT_STALE_AFTER, MAX_STALE_REMEMBERED), init=False
    )
    """By stale workload, and whether KEDA gets a number or UNAVAILABLE."""

    def note(self, workload: str, decision: Decision, policy: StalePolicy) -> None:
        """Log what has changed with ``decision``, an answer for ``workload`` by ``policy``."""
        if decision.stale or decision.replicas is None:
            self._note_stale(workload, decision, policy)
        elif self._warnings.forget((workload, True)) or self._warnings.forget((workload, False)):
            log.info("a fresh forecast again: KEDA is told %d", decision.replicas, extra=of_many(workload))

    def _note_stale(self, workload: str, decision: Decision, policy: StalePolicy) -> None:
        has_number = decision.replicas is not None
        self._warnings.forget((workload, not has_number))
        if not self._warnings.is_due((workload, has_number)):
            return
        told = str(decision.replicas) if has_number else "UNAVAILABLE, so that it holds"
        rule = Mode.OBSERVE if decision.mode is Mode.OBSERVE else policy.on_stale
        words = "no fresh forecast: KEDA is told %s (%s); %s"
        log.warning(words, told, rule, decision.reason, extra=of_many(workload))


@attrs.frozen
class StaleNumberLog:
    """Logs each change of the number that KEDA is told by an old plan, which it reads by wall clock."""

    _told: dict[str, int] = attrs.field(factory=dict, init=False)
    """By stale workload."""

    def note(self, workload: str, decision: Decision) -> None:
        """Log what has changed with ``decision``, an answer for ``workload``; `StaleLog` logs the first number."""
        before, now = self._told.pop(workload, None), decision.replicas
        if not decision.stale or now is None:
            return
        self._told[workload] = now
        if len(self._told) > MAX_STALE_REMEMBERED:
            del self._told[next(iter(self._told))]
        if before is not None and before != now:
            words = "replicas for KEDA %d -> %d, while there is no fresh forecast: %s"
            log.info(words, before, now, decision.reason, extra={"workload": workload})


def _require_replicas(decision: Decision) -> int:
    """The decided replicas; UNAVAILABLE if there are none, so that KEDA holds its replicas and its fallback applies."""
    if decision.replicas is None:
        raise GRPCError(Status.UNAVAILABLE, decision.reason)
    return decision.replicas


def _metric_spec() -> GetMetricSpecResponse:
    """Target 1 in both fields: KEDA before 2.17 only knows the integer field."""
    return GetMetricSpecResponse(
        metricSpecs=[MetricSpec(metricName=METRIC_NAME, targetSize=TARGET, targetSizeFloat=float(TARGET))]
    )


def _object_of(ref: ScaledObjectRef, peer: Peer) -> ObjectRef:
    return ObjectRef(ref.name, ref.namespace, ref.scalerMetadata, _name_of(peer))


def _name_of(peer: Peer) -> str:
    """Identifies the caller: the names in its verified client certificate, else its address without the port."""
    certificate, address = peer.cert(), peer.addr()
    if certificate:
        return f"certificate {certificate.get('subject')} {certificate.get('subjectAltName')}"
    return str(address[0]) if address else ""


async def _receive(stream: Stream[Request, Response]) -> Request:
    message = await stream.recv_message()
    if message is None:
        raise GRPCError(Status.INTERNAL, "the call carried no request message")
    return message


@contextmanager
def _errors_as_status() -> Iterator[None]:
    """Turn errors about a ScaledObject into the gRPC status that KEDA understands."""
    try:
        yield
    except UnknownWorkloadError as error:
        raise GRPCError(Status.NOT_FOUND, str(error)) from error
    except BadTriggerError as error:
        raise GRPCError(Status.INVALID_ARGUMENT, str(error)) from error
    except (RemoteError, TooManyWorkloadsError) as error:
        raise GRPCError(Status.RESOURCE_EXHAUSTED, str(error)) from error
