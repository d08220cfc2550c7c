# SPDX-License-Identifier: Apache-2.0
"""Traces: a tick and a call become spans, the caller's context is used, and without configuration they cost nothing."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import trio
from grpclib.const import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from trio.testing import MockClock

from kedastral._proto import externalscaler_pb2 as pb
from kedastral.adapters.otel import OtelTracing, make_tracing
from kedastral.compose import open_tracing
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.errors import SourceError
from kedastral.grpclib_trio import Server
from kedastral.serving.metrics import Metrics
from kedastral.serving.scaler import SERVICE, Scaler
from kedastral.serving.store import MemoryStore
from kedastral.serving.traced_scaler import TracedScaler
from kedastral.settings.declarations import ModelName
from kedastral.tracing import NO_TRACING
from kedastral.workloads.runner import RunnerBuilder, WorkloadRunner
from tests.grpclib_trio.peers import MemoryListener
from tests.keda_client import open_client
from tests.parts import FixedResolver, StubSource, make_history, make_snapshot, wall_clock
from tests.workloads.test_keeping import shop

# the example of https://www.w3.org/TR/trace-context/#examples-of-http-traceparent-headers
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


class Spans:
    """Tracing whose finished spans are kept."""

    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracing = OtelTracing(provider)

    @property
    def ended(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._kept.get_finished_spans()}


def build(spans: Spans, *readings: Any) -> WorkloadRunner:
    source = StubSource(list(readings))
    builder = RunnerBuilder(MemoryStore(), wall_clock(), Metrics(), open_source=lambda _: source, tracing=spans.tracing)
    return builder.build(shop(model=ModelName("baseline")))


async def test_a_tick_is_a_span_with_one_for_each_of_its_parts(autojump_clock: MockClock) -> None:
    spans = Spans()
    await build(spans, make_history(*[1.0] * 30)).tick_once()
    ended = spans.ended
    assert list(ended) == ["query", "forecast", "plan", "publish", "tick"]
    tick = ended["tick"]
    assert tick.attributes == {"kedastral.workload": "shop"}
    assert tick.parent is None
    for name in ("query", "forecast", "plan", "publish"):
        parent = ended[name].parent
        assert parent is not None
        assert parent.span_id == tick.context.span_id
    assert ended["query"].attributes == {"kedastral.source": "stub"}
    assert ended["forecast"].attributes == {"kedastral.model": "baseline"}
    assert ended["publish"].attributes == {"kedastral.status": "ok"}
    assert tick.status.status_code is StatusCode.UNSET


async def test_a_tick_that_fails_says_so_and_why(autojump_clock: MockClock) -> None:
    spans = Spans()
    await build(spans, SourceError("Prometheus is away", reason="unreachable")).tick_once()
    assert list(spans.ended) == ["query", "tick"]
    for span in spans.ended.values():
        assert span.status.status_code is StatusCode.ERROR
        assert "Prometheus is away" in str(span.status.description)
        assert [event.name for event in span.events] == ["exception"]


async def test_where_nothing_is_traced_the_tick_is_not_wrapped(autojump_clock: MockClock) -> None:
    source = StubSource([make_history(1.0)])
    runner = RunnerBuilder(MemoryStore(), wall_clock(), Metrics(), open_source=lambda _: source).build(
        shop(model=ModelName("baseline"))
    )
    assert runner.tick.__qualname__ == "GuardedTick.tick"
    assert NO_TRACING.span("a", {}) is NO_TRACING.call("b", "c", {})


async def call(spans: Spans, method: str, workload: str = "shop", **headers: str) -> Status:
    """The status of one call to a scaler that knows ``shop``."""
    store, clock = MemoryStore(), wall_clock()
    await store.put(make_snapshot([7] * 6))
    service = TracedScaler(
        Scaler(store, clock, FixedResolver(frozenset({"shop"}), StalePolicy(120.0))), Metrics(), spans.tracing
    )
    listener = MemoryListener()
    ref = pb.ScaledObjectRef(name="web", namespace="prod", scalerMetadata={"workload": workload})
    request = pb.GetMetricsRequest(scaledObjectRef=ref) if method == "GetMetrics" else ref
    server = Server([service], on_call=service.count_call)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: server.serve([listener], shutdown=trio.Event()))
        answer = await open_client(listener.connect()).call(method, request, **headers)
        nursery.cancel_scope.cancel()
    return answer.status


@pytest.mark.parametrize("method", ["GetMetrics", "IsActive"])
async def test_a_call_is_a_span_below_that_of_the_caller(autojump_clock: MockClock, method: str) -> None:
    spans = Spans()
    assert await call(spans, method, traceparent=TRACEPARENT) is Status.OK
    [span] = spans.ended.values()
    assert span.name == f"{SERVICE}/{method}"
    assert span.kind is SpanKind.SERVER
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert span.attributes == {
        "rpc.system": "grpc",
        "rpc.service": SERVICE,
        "rpc.method": method,
        "rpc.grpc.status_code": 0,
        "kedastral.workload": "shop",
        "kedastral.replicas": 7,
        "kedastral.stale": False,
    }


@pytest.mark.parametrize("traceparent", [None, "", "00-0-0-01", "x" * 5000])
async def test_without_a_context_that_can_be_read_a_call_begins_a_trace(
    autojump_clock: MockClock, traceparent: str | None
) -> None:
    spans = Spans()
    headers = {} if traceparent is None else {"traceparent": traceparent}
    assert await call(spans, "GetMetricSpec", **headers) is Status.OK
    [span] = spans.ended.values()
    assert span.parent is None


async def test_a_call_that_fails_has_its_status(autojump_clock: MockClock) -> None:
    spans = Spans()
    assert await call(spans, "GetMetrics", workload="nobody") is Status.NOT_FOUND
    [span] = spans.ended.values()
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == Status.NOT_FOUND.value
    assert span.status.status_code is StatusCode.ERROR


class _Collector(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, self.headers, body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        pass


@contextmanager
def open_collector() -> Iterator[tuple[str, list[tuple[str, Any, bytes]]]]:
    """The address of a collector, and what it receives."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    server.received = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.received  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_spans_arrive_at_a_collector_with_what_the_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_collector() as (url, received):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        tracing = make_tracing()
        with tracing.span("tick", {"kedastral.workload": "shop"}):
            pass
        await tracing.close()
    [(path, headers, body)] = received
    assert path == "/v1/traces"
    assert headers["x-tenant"] == "blue"
    [resource] = ExportTraceServiceRequest.FromString(body).resource_spans
    said = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert (said["service.name"], said["deployment.environment"]) == ("kedastral", "test")
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["tick"]


def test_the_name_of_the_service_may_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "kedastral-blue")
    tracing = make_tracing()
    assert tracing.provider.resource.attributes["service.name"] == "kedastral-blue"
    tracing.provider.shutdown()


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ""),
        ({"OTEL_SERVICE_NAME": "kedastral"}, ""),
        ({**ENDPOINT, "OTEL_SDK_DISABLED": "true"}, ""),
        ({**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "exports only http/protobuf, not grpc"),
    ],
)
def test_it_is_off_unless_the_variables_say_where_to(
    environ: dict[str, str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_tracing(environ) is NO_TRACING
    assert [record.levelno for record in caplog.records] == ([logging.WARNING] if said else [])
    assert said in caplog.text


def test_without_the_extra_the_process_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kedastral.adapters.otel", None)
    assert open_tracing(ENDPOINT) is NO_TRACING
    assert "kedastral[otel] is not installed" in caplog.text


def test_it_is_on_where_the_variables_say_where_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/v1/traces")
    tracing = open_tracing({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"})
    assert isinstance(tracing, OtelTracing)
    tracing.provider.shutdown()
