# SPDX-License-Identifier: Apache-2.0
"""`TracedScaler`: KEDA's RPCs with a span for each unary call; the two streams stay open and have none."""

from collections.abc import Mapping

from grpclib.server import Stream

from kedastral._proto.externalscaler_pb2 import (
    GetMetricSpecResponse,
    GetMetricsRequest,
    GetMetricsResponse,
    IsActiveResponse,
    ScaledObjectRef,
)
from kedastral.core.serving import Decision
from kedastral.core.trigger import ObjectRef
from kedastral.serving.metrics import Metrics
from kedastral.serving.scaler import SERVICE, ExternalScaler, Request, Response, Scaler
from kedastral.tracing import Tracing


class TracedScaler(ExternalScaler):
    """`ExternalScaler` with spans of ``tracing``, children of the span that KEDA's ``traceparent`` names."""

    def __init__(self, scaler: Scaler, metrics: Metrics, tracing: Tracing) -> None:
        super().__init__(scaler, metrics)
        self._tracing = tracing

    async def IsActive(self, stream: Stream[ScaledObjectRef, IsActiveResponse]) -> None:  # noqa: N802 - KEDA's name
        """See `ExternalScaler.IsActive`."""
        with self._tracing.call(SERVICE, "IsActive", metadata_of(stream)):
            await super().IsActive(stream)

    async def GetMetricSpec(self, stream: Stream[ScaledObjectRef, GetMetricSpecResponse]) -> None:  # noqa: N802
        """See `ExternalScaler.GetMetricSpec`."""
        with self._tracing.call(SERVICE, "GetMetricSpec", metadata_of(stream)):
            await super().GetMetricSpec(stream)

    async def GetMetrics(self, stream: Stream[GetMetricsRequest, GetMetricsResponse]) -> None:  # noqa: N802
        """See `ExternalScaler.GetMetrics`."""
        with self._tracing.call(SERVICE, "GetMetrics", metadata_of(stream)):
            await super().GetMetrics(stream)

    async def _decide(self, ref: ObjectRef) -> tuple[str, Decision]:
        workload, decision = await super()._decide(ref)
        self._tracing.note({"kedastral.workload": workload, "kedastral.stale": decision.stale})
        if decision.replicas is not None:
            self._tracing.note({"kedastral.replicas": decision.replicas})
        return workload, decision


def metadata_of(stream: Stream[Request, Response]) -> Mapping[str, str]:
    """The call's headers that are text."""
    found = stream.metadata
    return {} if found is None else {key: value for key, value in found.items() if isinstance(value, str)}
