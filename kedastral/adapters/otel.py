# SPDX-License-Identifier: Apache-2.0
"""OpenTelemetry traces, exported over OTLP (HTTP) in a thread of the SDK; on if OTEL_* variables name an endpoint."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import attrs
import trio
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from kedastral import __version__
from kedastral.tracing import Attributes

FLUSH_SECONDS = 1.0
"""How long the end of the process waits for the collector; the process must stop within 10 s in all."""

log = logging.getLogger("kedastral.tracing")
_PROPAGATOR = TraceContextTextMapPropagator()


@attrs.frozen(eq=False)
class OtelTracing:
    """Spans of ``provider``, which decides what is sampled and where it is sent. See `kedastral.tracing.Tracing`."""

    provider: TracerProvider
    is_on: bool = attrs.field(default=True, init=False)
    _tracer: Tracer = attrs.field(init=False)

    @_tracer.default
    def _make_tracer(self) -> Tracer:
        return self.provider.get_tracer("kedastral", __version__)

    @contextmanager
    def span(self, name: str, attributes: Attributes) -> Iterator[None]:
        """See `Tracing.span`."""
        with self._tracer.start_as_current_span(name, attributes=attributes):
            yield

    @contextmanager
    def call(self, service: str, method: str, metadata: Mapping[str, str]) -> Iterator[None]:
        """See `Tracing.call`. Names and attributes are those of OpenTelemetry's conventions for RPCs."""
        # https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
        carrier = {key: metadata[key] for key in _PROPAGATOR.fields if key in metadata}
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
        with self._tracer.start_as_current_span(
            f"{service}/{method}", _PROPAGATOR.extract(carrier), SpanKind.SERVER, attributes
        ) as span:
            try:
                yield
            except GRPCError as error:
                span.set_attribute("rpc.grpc.status_code", error.status.value)
                raise
            span.set_attribute("rpc.grpc.status_code", Status.OK.value)

    def note(self, attributes: Attributes) -> None:
        """See `Tracing.note`."""
        trace.get_current_span().set_attributes(attributes)

    def note_failure(self, error: Exception) -> None:
        """See `Tracing.note_failure`."""
        span = trace.get_current_span()
        span.record_exception(error)
        span.set_status(StatusCode.ERROR, str(error))

    async def close(self) -> None:
        """See `Tracing.close`; later spans are dropped."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FLUSH_SECONDS):
            await trio.to_thread.run_sync(self.provider.shutdown, abandon_on_cancel=True)


def make_tracing() -> OtelTracing:
    """Tracing as configured by the OTEL_* variables: endpoint, headers, sampler, batches, resource attributes."""
    resource = Resource.create({"service.version": __version__})
    if str(resource.attributes["service.name"]).startswith("unknown_service"):  # the SDK's value if no name is given
        resource = resource.merge(Resource({"service.name": "kedastral"}))
    # its own exit handler would wait for a collector that is down
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    log.info("traces are exported by OpenTelemetry over OTLP")
    return OtelTracing(provider)
