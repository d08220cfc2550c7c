# SPDX-License-Identifier: Apache-2.0
"""Processes of `kedastral run` that share a Redis: at its start one finds the forecasts of another."""

import re
import signal
from pathlib import Path
from typing import Any

import grpc
import pytest

from kedastral._proto import externalscaler_pb2 as pb
from tests.integration.conftest import free_port
from tests.keda_client import SERVICE
from tests.redis_servers import plain
from tests.waiting import PATIENCE, wait_for

from .running import ANY_PORT, HttpAnswer, ProcessInput, fetch
from .stand_in import open_stand_in

pytestmark = [pytest.mark.process, pytest.mark.integration]

FLAGS = {
    "--http-listen": ANY_PORT,
    "--grpc-listen": ANY_PORT,
    "--workload": "shop",
    "--prom-query": "up",
    "--step": "1s",
    "--interval": "1s",
    "--window": "30s",
    "--horizon": "10m",
    "--lead-time": "10s",
    "--model": "baseline",
}
NOW = "/forecast/current?workload=shop"
METRICS = "/metrics"
PLANNED, PLANNED_BY_HALF = 9, 17
"""The stand-in has a load of 700; with a headroom of 1.2 that is 9 pods at 100 a pod, and 17 at 50."""


def told(port: int) -> int:
    """What KEDA is told about the default workload."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_unary(
            f"{SERVICE}GetMetrics",
            request_serializer=pb.GetMetricsRequest.SerializeToString,
            response_deserializer=pb.GetMetricsResponse.FromString,
        )
        request = pb.GetMetricsRequest(scaledObjectRef=pb.ScaledObjectRef(name="web", namespace="prod"))
        [value] = call(request, timeout=PATIENCE, wait_for_ready=True).metricValues
        return int(value.metricValue)


def newest(port: int) -> HttpAnswer | None:
    answer = fetch(port, NOW)
    return answer if answer.status == 200 else None


def written(port: int) -> float:
    """The number of snapshots that Redis has accepted from a process."""
    page = fetch(port, METRICS).body
    found = re.search(r'^kedastral_storage_writes_total{outcome="kept"} (\S+)$', page, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_a_process_that_starts_while_prometheus_is_away_serves_what_another_left_in_redis(tmp_path: Path) -> None:
    with open_stand_in() as prometheus, plain(tmp_path) as redis:
        flags = {**FLAGS, "--prom-url": prometheus.url}
        with ProcessInput("run", flags, redis.env) as first:
            [port] = first.ports("HTTP")
            wait_for(lambda: newest(port), "a forecast")
            wait_for(lambda: written(port) >= 2, "two written")
            first.signal(signal.SIGKILL)
        prometheus.silent.set()
        with ProcessInput("run", flags, redis.env) as second:
            [port] = second.ports("HTTP")
            found = wait_for(lambda: newest(port), "the forecast of before").document
            assert len(found["desiredReplicas"]) == 600
            assert 'kedastral_storage_up{operation="read"} 1.0' in fetch(port, METRICS).body
            assert second.wait_for_log("forecasts are shared through Redis at redis://127.0.0.1")
            second.signal(signal.SIGTERM)
            assert second.wait() == 0


FOREIGN = "two fleets have the same --redis-prefix"


def test_two_fleets_with_one_prefix_each_tell_their_own_numbers(tmp_path: Path) -> None:
    with open_stand_in() as prometheus, plain(tmp_path) as redis:
        flags = {**FLAGS, "--prom-url": prometheus.url}
        with (
            ProcessInput("run", {**flags, "--target-per-pod": "100"}, redis.env) as one,
            ProcessInput("run", {**flags, "--target-per-pod": "50"}, redis.env) as other,
        ):
            ports = [process.ports("gRPC")[0] for process in (one, other)]
            # the one that holds the lease may never see what the other writes
            wait_for(lambda: any(FOREIGN in event["msg"] for process in (one, other) for event in process.log), FOREIGN)
            [http], forecasts = one.ports("HTTP"), set[str]()
            while len(forecasts) < 5:
                assert [told(port) for port in ports] == [PLANNED, PLANNED_BY_HALF]
                forecasts.add(fetch(http, NOW).document["generatedAt"])


def test_without_redis_a_process_forecasts_and_stops_as_ever(tmp_path: Path) -> None:
    with open_stand_in() as prometheus, plain(tmp_path) as redis:
        for server in redis.servers:
            server.stop()
        with ProcessInput("run", {**FLAGS, "--prom-url": prometheus.url}, redis.env) as process:
            [port] = process.ports("HTTP")
            wait_for(lambda: newest(port), "a forecast")
            for operation in ("read", "write"):
                process.wait_for_log(f"the storage fails ({operation})")
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
            said = [event["msg"] for event in process.log]
            assert sum("the storage fails" in words for words in said) == 2, "once for each"


def test_scalers_answer_from_the_forecaster_that_is_there_and_from_redis(tmp_path: Path) -> None:
    """One has two addresses, the first of them dead; the other reads Redis and needs no forecaster."""
    with open_stand_in() as prometheus, plain(tmp_path) as redis:
        source = {name: value for name, value in FLAGS.items() if not name.endswith("listen")}
        forecasts = {"--listen": ANY_PORT, **source, "--prom-url": prometheus.url, "--target-per-pod": "100"}
        answers = {"--listen": ANY_PORT, "--http-listen": ANY_PORT, "--workload": "shop", "--default-min": "1"}
        with ProcessInput("forecaster", forecasts, redis.env) as forecaster:
            [port] = forecaster.ports("HTTP")
            wait_for(lambda: newest(port), "a forecast")
            urls = f"http://127.0.0.1:{free_port()},http://127.0.0.1:{port}"
            with (
                ProcessInput("scaler", {**answers, "--forecaster-url": urls}) as by_http,
                ProcessInput("scaler", answers, redis.env) as by_redis,
            ):
                for scaler in (by_http, by_redis):
                    [grpc_port] = scaler.ports("gRPC")
                    wait_for(lambda port=grpc_port: told(port) == PLANNED, "the plan")
                    scaler.wait_for_log("--default-min (1) is below the workload's minimum (2)")
                by_http.wait_for_log("a forecaster fails; the others are asked")
                forecaster.signal(signal.SIGKILL)
                forecaster.wait()
                for scaler in (by_http, by_redis):
                    assert told(scaler.ports("gRPC")[0]) == PLANNED
                    scaler.signal(signal.SIGTERM)
                    assert scaler.wait() == 0
