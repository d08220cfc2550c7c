# SPDX-License-Identifier: Apache-2.0
"""Three processes of `kedastral run` that share a Redis and twelve workloads, while one is killed or put to sleep.

Who forecasts what is seen at the stand-in for Prometheus, which knows each by a header. KEDA asks all three meanwhile.
"""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import grpc
import pytest

from kedastral._proto import externalscaler_pb2 as pb
from tests.redis_servers import RedisPlace, plain

from .raw_grpc import SERVICE
from .running import ANY_PORT, ProcessInput, wait_for
from .stand_in import StandIn, open_stand_in

pytestmark = [pytest.mark.process, pytest.mark.integration, pytest.mark.slow]

WORKLOADS = [f"w{number}" for number in range(12)]
INTERVAL, LEASE = 3.0, 2.0
TARGET, PLANNED = 100, 9
"""The load of each workload is 700 always, which times 1.2 wants 9 pods."""
PODS = ("a", "b", "c")


@attrs.define
class Pod:
    """One process, and what KEDA was told by it: when, of which workload, and the number."""

    name: str
    process: ProcessInput
    answers: list[tuple[float, str, int]] = attrs.field(factory=list)
    failures: list[tuple[float, str]] = attrs.field(factory=list)
    is_asked: bool = True

    def keep_asking(self) -> None:
        """Ask for each workload in turn, some thirty times a second."""
        [port] = self.process.ports("gRPC")
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary(
                f"{SERVICE}GetMetrics",
                request_serializer=pb.GetMetricsRequest.SerializeToString,
                response_deserializer=pb.GetMetricsResponse.FromString,
            )
            while self.is_asked:
                for workload in WORKLOADS:
                    ref = pb.ScaledObjectRef(name="so", namespace="ns", scalerMetadata={"workload": workload})
                    try:
                        [value] = call(pb.GetMetricsRequest(scaledObjectRef=ref), timeout=2).metricValues
                        self.answers.append((time.monotonic(), workload, value.metricValue))
                    except grpc.RpcError as error:
                        self.failures.append((time.monotonic(), str(error.code())))
                    time.sleep(0.03)


@attrs.define
class Fleet:
    """The processes, and who was seen to read which workload's load when."""

    prometheus: StandIn
    redis: RedisPlace
    pods: Mapping[str, Pod]

    def since(self, moment: float) -> dict[str, list[tuple[float, str]]]:
        """Of each workload who read its load when from ``moment`` on."""
        found: dict[str, list[tuple[float, str]]] = {workload: [] for workload in WORKLOADS}
        for at, workload, pod in list(self.prometheus.readings):
            if at >= moment:
                found[workload].append((at, pod))
        return found

    def owners(self, moment: float) -> dict[str, set[str]]:
        return {workload: {pod for _, pod in readings} for workload, readings in self.since(moment).items()}

    def wait_until_settled(self, *pods: str) -> dict[str, str]:
        """Wait until each workload has been read by one pod alone for two intervals, by all ``pods``; returns whose."""

        def look() -> dict[str, str] | None:
            found = self.owners(time.monotonic() - 2 * INTERVAL)
            owners = {workload: pod for workload, readers in found.items() for pod in readers}
            alone = all(len(readers) == 1 for readers in found.values())
            return owners if alone and set(owners.values()) == set(pods) else None

        settled: dict[str, str] = wait_for(look, "one pod for each workload")
        return settled


def write_policies(folder: Path) -> Path:
    spec = f"horizon: 60s, step: 1s, interval: {INTERVAL:g}s, leadTime: 10s, window: 30s, model: baseline"
    documents = [
        "apiVersion: kedastral.io/v1alpha1\nkind: ForecastPolicy\n"
        f"metadata: {{name: {name}}}\nspec: {{query: {name}, targetPerPod: {TARGET}, staleAfter: 12s, {spec}}}\n"
        for name in WORKLOADS
    ]
    path = folder / "policies.yaml"
    path.write_text("---\n".join(documents))
    return path


@contextmanager
def open_fleet(home: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        prometheus = stack.enter_context(open_stand_in())
        redis = stack.enter_context(plain(home / "redis"))
        pods = {}
        for name in PODS:
            flags = {
                "--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT, "--config": str(write_policies(home)),
                "--prom-url": prometheus.url, "--prom-header": f"X-Pod: {name}", "--redis-lease": f"{LEASE:g}s",
                "--on-stale": "ride-forecast",
            }  # fmt: skip
            pods[name] = Pod(name, stack.enter_context(ProcessInput("run", flags, redis.env)))
        fleet = Fleet(prometheus, redis, pods)
        fleet.wait_until_settled(*PODS)
        asking = [threading.Thread(target=pod.keep_asking) for pod in pods.values()]
        for thread in asking:
            thread.start()
        try:
            wait_for(lambda: all(len(pod.answers) > len(WORKLOADS) for pod in pods.values()), "answers")
            yield fleet
        finally:
            for pod in pods.values():
                pod.is_asked = False
                pod.process.popen.send_signal(signal.SIGCONT)
            for thread in asking:
                thread.join()


def tell(words: str) -> None:
    """Print a time that was measured; docs/reliability.md states it."""
    sys.stdout.write(f"\n{words}\n")


def check_answers(fleet: Fleet, but: Callable[[Pod, float], bool] = lambda _pod, _at: False) -> None:
    """No number but the planned one was told, and nothing failed ``but`` where that is to be expected."""
    for pod in fleet.pods.values():
        assert pod.answers
        assert {number for _, _, number in pod.answers} == {PLANNED}
        assert [failure for failure in pod.failures if not but(pod, failure[0])] == []


def test_a_process_that_is_killed_is_replaced_within_two_intervals(tmp_path: Path) -> None:
    with open_fleet(tmp_path) as fleet:
        before = fleet.wait_until_settled(*PODS)
        loads = {pod: sum(owner == pod for owner in before.values()) for pod in PODS}
        assert all(3 <= load <= 5 for load in loads.values()), loads
        killed = time.monotonic()
        fleet.pods["a"].process.signal(signal.SIGKILL)
        fleet.pods["a"].is_asked = False
        lost = [workload for workload, owner in before.items() if owner == "a"]
        wait_for(lambda: all(fleet.owners(killed)[workload] - {"a"} for workload in lost), "others read its workloads")
        took = max(min(at for at, pod in fleet.since(killed)[workload] if pod != "a") for workload in lost) - killed
        tell(f"of a killed process {len(lost)} workloads were forecast again after {took:.1f} s at most")
        assert took < 2 * INTERVAL
        fleet.wait_until_settled("b", "c")
        check_answers(fleet, but=lambda pod, _: pod.name == "a")


def test_a_process_that_sleeps_longer_than_its_lease_writes_nothing_once_it_wakes(tmp_path: Path) -> None:
    with open_fleet(tmp_path) as fleet:
        before = fleet.wait_until_settled(*PODS)
        slept = time.monotonic()
        fleet.pods["b"].process.signal(signal.SIGSTOP)
        lost = [workload for workload, owner in before.items() if owner == "b"]
        wait_for(lambda: all(fleet.owners(slept + LEASE)[workload] - {"b"} for workload in lost), "others take over")
        time.sleep(LEASE)
        fleet.pods["b"].process.signal(signal.SIGCONT)
        woke = time.monotonic()
        fleet.wait_until_settled(*PODS)
        settled = time.monotonic() - 2 * INTERVAL - woke
        tell(f"asleep for {woke - slept:.1f} s; one pod for each workload {max(settled, 0):.1f} s after it woke")
        check_answers(fleet, but=lambda pod, at: pod.name == "b" and slept < at < woke + 2.5)


def test_while_redis_is_gone_each_goes_on_and_then_they_share_again(tmp_path: Path) -> None:
    with open_fleet(tmp_path) as fleet:
        before = fleet.wait_until_settled(*PODS)
        [server] = fleet.redis.servers
        server.stop()
        time.sleep(4 * INTERVAL)
        alone = time.monotonic()
        time.sleep(2 * INTERVAL)
        found = fleet.owners(alone)
        assert all(pods <= {before[workload]} for workload, pods in found.items()), "what it held, and nothing else"
        assert any(found.values())
        server.start()
        fleet.wait_until_settled(*PODS)
        check_answers(fleet)
