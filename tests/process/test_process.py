# SPDX-License-Identifier: Apache-2.0
"""Whole processes: how they start, answer, stop on a signal, and fail."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest

from kedastral._proto import externalscaler_pb2 as pb
from tests.integration.conftest import free_port
from tests.waiting import PATIENCE, wait_for

from .raw_grpc import SERVICE, RawClient, frame
from .running import ANY_PORT, QUICK, ProcessInput, fetch
from .stand_in import StandIn, open_stand_in

pytestmark = pytest.mark.process

STOPS_WITHIN = 10.0
STOPS = [signal.SIGTERM, signal.SIGINT]
REF = pb.ScaledObjectRef(name="web", namespace="prod")
REQUEST = pb.GetMetricsRequest(scaledObjectRef=REF, metricName="desired_replicas")
LISTEN = {"--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT}


@pytest.fixture
def prometheus() -> Iterator[StandIn]:
    with open_stand_in() as server:
        yield server


def run(prometheus: StandIn, **env: str) -> ProcessInput:
    source = {"--workload": "shop", "--prom-url": prometheus.url, "--prom-query": "up", "--target-per-pod": "100"}
    return ProcessInput("run", {**LISTEN, **source, **QUICK}, env)


def ask(port: int, method: str, request: Any, kind: Any) -> Any:
    """One unary call by grpcio."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            SERVICE + method, request_serializer=type(request).SerializeToString, response_deserializer=kind.FromString
        )
        return call(request, timeout=PATIENCE, wait_for_ready=True)


def replicas(port: int) -> int:
    [value] = ask(port, "GetMetrics", REQUEST, pb.GetMetricsResponse).metricValues
    assert value.metricValue == value.metricValueFloat
    return int(value.metricValue)


def forecast(port: int) -> Any:
    """The snapshot, as soon as there is one."""
    path = "/forecast/current?workload=shop"
    wait_for(lambda: fetch(port, path).status == 200, "a forecast")
    return fetch(port, path).document


def test_run_answers_keda_and_shows_its_forecast(prometheus: StandIn) -> None:
    with run(prometheus, ON_STALE="ride-forecast") as process:
        grpc_port, http_port = process.ports("gRPC", "HTTP")
        document = forecast(http_port)
        assert len(document["values"]) == len(document["desiredReplicas"]) == 360
        assert document["values"][0] == pytest.approx(700)
        assert replicas(grpc_port) == 9  # 700 / 100 * 1.2
        assert ask(grpc_port, "IsActive", REF, pb.IsActiveResponse).result is True
        assert fetch(http_port, "/readyz").status == fetch(http_port, "/healthz").status == 200
        assert 'kedastral_desired_replicas{workload="shop"} 9.0' in fetch(http_port, "/metrics").body
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert {"ts", "level", "component", "msg"} <= set.intersection(*(set(event) for event in process.log))
        assert {event["level"] for event in process.log} == {"info"}


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_lets_begun_work_finish_and_ends_with_success(prometheus: StandIn, number: signal.Signals) -> None:
    with run(prometheus, ON_STALE="ride-forecast") as process:
        grpc_port, http_port = process.ports("gRPC", "HTTP")
        forecast(http_port)
        with RawClient(grpc_port) as client:
            watching = client.begin("StreamIsActive", frame(REF), end=True)
            client.until(lambda: bool(client.streams[watching].body))
            request = frame(REQUEST)
            unary = client.begin("GetMetrics", request[:-3])
            spec = client.begin("GetMetricSpec", frame(REF), end=True)
            client.until(lambda: client.streams[spec].ended)  # what was sent before it has arrived too

            began = time.monotonic()
            process.signal(number)
            client.until(lambda: client.streams[watching].ended)
            assert client.streams[watching].fields["grpc-status"] == "0"
            ready = fetch(http_port, "/readyz")
            assert (ready.status, ready.document) == (503, {"error": "shutting down"})
            assert fetch(http_port, "/forecast/current?workload=shop").status == 200
            assert not client.streams[unary].ended
            client.send(unary, request[-3:], end=True)
            client.until(lambda: client.streams[unary].ended)
            assert client.streams[unary].fields["grpc-status"] == "0"
            [answer] = client.streams[unary].messages(pb.GetMetricsResponse)
            assert [value.metricValue for value in answer.metricValues] == [9]
            assert process.wait() == 0
            assert time.monotonic() - began < STOPS_WITHIN
        assert process.log[-1]["msg"] == "stopped"
        assert {event["level"] for event in process.log} == {"info"}


def test_what_never_ends_is_cut_off_in_time(prometheus: StandIn) -> None:
    with run(prometheus) as process:
        grpc_port, http_port = process.ports("gRPC", "HTTP")
        with RawClient(grpc_port) as client, socket.create_connection(("127.0.0.1", http_port)) as idle:
            idle.sendall(b"GET /healthz HT")
            unary = client.begin("GetMetrics", frame(REQUEST)[:-3])
            spec = client.begin("GetMetricSpec", frame(REF), end=True)
            client.until(lambda: client.streams[spec].ended)
            began = time.monotonic()
            process.signal(signal.SIGTERM)
            client.until(lambda: client.streams[unary].ended or client.streams[unary].reset)
            assert client.streams[unary].fields.get("grpc-status") == "14"
            assert process.wait() == 0
            assert time.monotonic() - began < STOPS_WITHIN


@pytest.mark.parametrize("number", STOPS)
def test_a_second_signal_ends_it_at_once(prometheus: StandIn, number: signal.Signals) -> None:
    with run(prometheus) as process:
        (grpc_port,) = process.ports("gRPC")
        with RawClient(grpc_port) as client:
            client.begin("GetMetrics", frame(REQUEST)[:-3])
            spec = client.begin("GetMetricSpec", frame(REF), end=True)
            client.until(lambda: client.streams[spec].ended)
            process.signal(signal.SIGTERM)
            process.wait_for_log("stopping: got SIGTERM")
            began = time.monotonic()
            process.signal(number)
            assert process.wait() == 128 + number
            assert time.monotonic() - began < 3


def test_keda_is_answered_before_the_first_forecast_and_a_hanging_tick_is_abandoned(prometheus: StandIn) -> None:
    prometheus.silent.set()
    with run(prometheus, DEFAULT_MIN="3") as process:
        grpc_port, http_port = process.ports("gRPC", "HTTP")
        assert prometheus.asked.wait(PATIENCE)
        assert replicas(grpc_port) == 3
        assert ask(grpc_port, "IsActive", REF, pb.IsActiveResponse).result is False
        assert fetch(http_port, "/readyz").status == 200
        missing = fetch(http_port, "/forecast/current?workload=shop")
        assert (missing.status, missing.document) == (404, {"error": "snapshot not found"})
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert time.monotonic() - began < STOPS_WITHIN
        assert "Traceback" not in "".join(process.lines)


def test_a_source_that_fails_is_logged_and_tried_again(prometheus: StandIn) -> None:
    prometheus.load = float("nan")
    with run(prometheus) as process:
        (http_port,) = process.ports("HTTP")
        failure = process.wait_for_log("no new forecast")
        assert (failure["level"], failure["component"], failure["workload"]) == ("warn", "source", "shop")
        assert failure["err"]
        prometheus.load = 100.0
        assert forecast(http_port)["values"][0] == pytest.approx(100)
        process.wait_for_log("forecasts again")
        assert 'kedastral_errors_total{component="source",reason="no_load"}' in fetch(http_port, "/metrics").body


def test_forecaster_and_scaler_apart_answer_as_run_does(prometheus: StandIn) -> None:
    source = {"--workload": "shop", "--prom-url": prometheus.url, "--prom-query": "up", "--target-per-pod": "100"}
    with ProcessInput("forecaster", {"--listen": ANY_PORT, **source, **QUICK}) as forecaster:
        (forecaster_port,) = forecaster.ports("HTTP")
        forecast(forecaster_port)
        url = f"http://127.0.0.1:{forecaster_port}"
        flags = {"--listen": ANY_PORT, "--http-listen": ANY_PORT, "--forecaster-url": url, "--workload": "shop"}
        with ProcessInput("scaler", flags) as scaler, run(prometheus) as whole:
            grpc_port, http_port = scaler.ports("gRPC", "HTTP")
            whole_grpc_port, whole_http_port = whole.ports("gRPC", "HTTP")
            forecast(whole_http_port)
            # the first question waits a second for the forecaster, which a busy machine may take longer for
            wait_for(lambda: replicas(grpc_port) == 9, "the forecaster's plan")
            assert replicas(whole_grpc_port) == 9
            for port in (grpc_port, whole_grpc_port):
                assert ask(port, "IsActive", REF, pb.IsActiveResponse).result is True
            specs = [ask(p, "GetMetricSpec", REF, pb.GetMetricSpecResponse) for p in (grpc_port, whole_grpc_port)]
            assert specs[0] == specs[1]
            assert fetch(http_port, "/readyz").status == 200
            assert fetch(http_port, "/forecast/current?workload=shop").status == 404
            assert 'kedastral_desired_replicas{workload="shop"} 9.0' in fetch(http_port, "/metrics").body
            forecaster.signal(signal.SIGTERM)
            assert forecaster.wait() == 0
            assert replicas(grpc_port) == 9
            for process in (scaler, whole):
                process.signal(signal.SIGTERM)
                assert process.wait() == 0


@pytest.mark.parametrize(("flag", "env"), [("--http-listen", "FORECASTER_LISTEN"), ("--grpc-listen", "SCALER_LISTEN")])
def test_a_port_in_use_is_one_line_and_a_failed_exit(prometheus: StandIn, flag: str, env: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        source = {"--workload": "shop", "--prom-url": prometheus.url, "--prom-query": "up"}
        with ProcessInput("run", {**LISTEN, **source, flag: address}) as process:
            assert process.wait() == 1
            words = f"address already in use; set another address with {flag} or {env}"
            assert process.lines == [f"kedastral: cannot listen on {address}: {words}\n"]


@pytest.fixture
def full_pipe() -> Iterator[int]:
    """The writing end of a pipe that nobody reads, and that is full."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    yield writing
    os.close(reading)
    os.close(writing)


def test_while_nobody_reads_its_output_it_answers_and_ends_as_ever(prometheus: StandIn, full_pipe: int) -> None:
    http_port, grpc_port = free_port(), free_port()
    source = {"--workload": "shop", "--prom-url": prometheus.url, "--prom-query": "up", "--target-per-pod": "100"}
    listen = {"--http-listen": f"127.0.0.1:{http_port}", "--grpc-listen": f"127.0.0.1:{grpc_port}"}
    outputs = {"stdout": full_pipe, "stderr": full_pipe}
    with ProcessInput("run", {**listen, **source, **QUICK}, {"LOG_LEVEL": "debug"}, **outputs) as process:

        def answers() -> bool:
            with suppress(OSError):
                return fetch(http_port, "/forecast/current?workload=shop").status == 200
            return False

        wait_for(answers, "a forecast")
        assert replicas(grpc_port) == 9
        process.signal(signal.SIGHUP)
        assert "kedastral_log_lines_dropped_total 0.0" in fetch(http_port, "/metrics").body
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert time.monotonic() - began < STOPS_WITHIN


def test_hostile_text_reaches_the_log_as_one_line(prometheus: StandIn) -> None:
    with run(prometheus, LOG_LEVEL="debug") as process:
        (http_port,) = process.ports("HTTP")
        fetch(http_port, '/x%0a{"level":"error","msg":"forged"}%0d%0aend')
        process.wait_for_log("answered a request")
        assert not [event for event in process.log if event["msg"] == "forged"]
        process.signal(signal.SIGTERM)
        process.wait()
        for line in process.lines:
            json.loads(line)
