# SPDX-License-Identifier: Apache-2.0
"""`kedastral run` with a real Prometheus: it forecasts, KEDA reads replicas, and it survives an outage."""

import signal
import time
from typing import Any

import grpc
import pytest

from kedastral._proto import externalscaler_pb2 as pb
from tests.integration.conftest import PrometheusServer
from tests.process.raw_grpc import SERVICE
from tests.process.running import ANY_PORT, HttpAnswer, ProcessInput, fetch
from tests.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.process]

FLAGS = {
    "--http-listen": ANY_PORT,
    "--grpc-listen": ANY_PORT,
    "--workload": "prometheus",
    "--prom-query": "sum(rate(prometheus_http_requests_total[1m]))",
    "--step": "1s",
    "--interval": "1s",
    "--window": "30s",
    "--horizon": "60s",
    "--lead-time": "10s",
    "--stale-after": "5s",
    "--target-per-pod": "0.1",
    "--default-min": "3",
    "--min": "4",
}
NOW = "/forecast/current?workload=prometheus"


def newest(port: int) -> HttpAnswer | None:
    """The snapshot while it is fresh."""
    answer = fetch(port, NOW)
    return answer if answer.status == 200 and "x-kedastral-stale" not in answer.headers else None


def forecast_of_load(port: int) -> dict[str, Any] | None:
    """The fresh snapshot, once it forecasts more than zero."""
    answer = newest(port)
    return answer.document if answer is not None and max(answer.document["values"]) > 0 else None


def ask_replicas(channel: grpc.Channel) -> int:
    call: Any = channel.unary_unary(
        SERVICE + "GetMetrics",
        request_serializer=pb.GetMetricsRequest.SerializeToString,
        response_deserializer=pb.GetMetricsResponse.FromString,
    )
    [value] = call(pb.GetMetricsRequest(metricName="desired_replicas"), timeout=PATIENCE).metricValues
    assert value.metricValue == value.metricValueFloat
    return int(value.metricValue)


def test_it_forecasts_from_prometheus_and_outlives_its_restart(prometheus_server: PrometheusServer) -> None:
    with ProcessInput("run", {**FLAGS, "--prom-url": prometheus_server.url}) as kedastral:
        grpc_port, http_port = kedastral.ports("gRPC", "HTTP")
        # the first forecasts may be zero: the only load is the queries to Prometheus itself
        first = wait_for(lambda: forecast_of_load(http_port), "a forecast of a load")
        assert len(first["values"]) == len(first["desiredReplicas"]) == 60
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            assert wait_for(lambda: ask_replicas(channel) >= 4, "replicas from the plan")

            prometheus_server.stop()
            assert kedastral.wait_for_log("no new forecast")["component"] == "source"
            wait_for(lambda: fetch(http_port, NOW).headers.get("x-kedastral-stale") == "true", "a stale forecast")
            assert ask_replicas(channel) == 3
            assert fetch(http_port, "/readyz").status == 200

            prometheus_server.start()
            again = wait_for(lambda: newest(http_port), "a forecast after the restart").document
            assert again["generatedAt"] > first["generatedAt"]
            assert wait_for(lambda: ask_replicas(channel) >= 4, "replicas from the new plan")
            kedastral.wait_for_log("forecasts again")
        began = time.monotonic()
        kedastral.signal(signal.SIGTERM)
        assert kedastral.wait() == 0
        assert time.monotonic() - began < 10
        assert "Traceback" not in "".join(kedastral.lines)
