# SPDX-License-Identifier: Apache-2.0
"""Processes of `kedastral run` that share a Redis: one finds at its start what another has forecast."""

import signal
from pathlib import Path

import pytest

from tests.redis_servers import plain

from .running import ANY_PORT, Answer, ProcessInput, fetch, wait_for
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


def newest(port: int) -> Answer | None:
    answer = fetch(port, NOW)
    return answer if answer.status == 200 else None


def test_a_process_that_starts_while_prometheus_is_away_serves_what_another_left_in_redis(tmp_path: Path) -> None:
    with open_stand_in() as prometheus, plain(tmp_path) as redis:
        flags = {**FLAGS, "--prom-url": prometheus.url}
        with ProcessInput("run", flags, redis.env) as first:
            [port] = first.ports("HTTP")
            wait_for(lambda: newest(port), "a forecast")
            wait_for(lambda: 'outcome="kept"} 2.0' in fetch(port, METRICS).body, "two written")
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


def test_without_redis_a_process_forecasts_and_stops_as_ever(tmp_path: Path) -> None:
    with open_stand_in() as prometheus, plain(tmp_path) as redis:
        for server in redis.servers:
            server.stop()
        with ProcessInput("run", {**FLAGS, "--prom-url": prometheus.url}, redis.env) as process:
            [port] = process.ports("HTTP")
            wait_for(lambda: newest(port), "a forecast")
            for operation in ("read", "write"):
                process.wait_for_log(f"the storage cannot be reached ({operation})")
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
            said = [event["msg"] for event in process.log]
            assert sum("the storage cannot be reached" in words for words in said) == 2, "once for each"
