# SPDX-License-Identifier: Apache-2.0
"""Three processes of `kedastral run` that share a Redis and twelve workloads, while one of them or Redis fails.

The stand-in for Prometheus sees who forecasts what, by the credentials: any other header would be another data source.
The load grows all the time, so that each answer shows how old its plan is. Meanwhile a client of grpcio asks all
three.
"""

import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
import grpc
import pytest

from kedastral._proto import externalscaler_pb2 as pb
from tests import redis_servers
from tests.redis_servers import RedisPlace, plain
from tests.waiting import wait_for

from .raw_grpc import SERVICE
from .running import ANY_PORT, ProcessInput
from .stand_in import StandIn, open_stand_in

pytestmark = [pytest.mark.process, pytest.mark.integration, pytest.mark.slow]

WORKLOADS = [f"w{number}" for number in range(12)]
INTERVAL, LEASE, STALE_AFTER = 4.0, 3.0, 16.0
"""A process without CPU time for a whole lease loses its membership, and its workloads move: with a short lease, the
division never settles on a busy machine."""
TARGET, HEADROOM, GROWTH = 100, 1.2, 10.0
SPREAD = 1.0
"""Seconds after which a pod looks for new snapshots of others, `kedastral.serving.shared_store.POLL_EVERY`."""
KEDA_WAITS = 3.0
"""KEDA's timeout of a call in seconds."""
PODS = ("a", "b", "c")
SETTLES_WITHIN = 150.0


@attrs.frozen
class Told:
    """A number that KEDA was told about a workload; ``at`` is on the monotonic clock."""

    at: float
    workload: str
    replicas: int


@attrs.define
class Pod:
    """One process, and what KEDA was told by it, or which calls failed."""

    name: str
    process: ProcessInput
    answers: list[Told] = attrs.field(factory=list)
    failures: list[tuple[float, str]] = attrs.field(factory=list)
    is_asked: bool = True

    def keep_asking(self) -> None:
        """Ask for each workload in turn, 50 times a second at most."""
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
                        [value] = call(pb.GetMetricsRequest(scaledObjectRef=ref), timeout=KEDA_WAITS).metricValues
                        self.answers.append(Told(time.monotonic(), workload, value.metricValue))
                    except grpc.RpcError as error:
                        self.failures.append((time.monotonic(), str(error.code())))
                    time.sleep(0.02)

    def division(self) -> list[str]:
        """What its log says about who shares the workloads, and when."""
        return [f"{event['ts']} {event['msg']}" for event in self.process.log if "share" in event["msg"]]


@attrs.define
class Fleet:
    """The processes, and which of them read which workload's load when."""

    prometheus: StandIn
    redis: RedisPlace
    pods: Mapping[str, Pod]

    def since(self, moment: float) -> dict[str, list[tuple[float, str]]]:
        """For each workload, who read its load when, from ``moment`` on."""
        found: dict[str, list[tuple[float, str]]] = {workload: [] for workload in WORKLOADS}
        for at, workload, pod in list(self.prometheus.readings):
            if at >= moment:
                found[workload].append((at, pod))
        return found

    def owners(self, moment: float) -> dict[str, set[str]]:
        return {workload: {pod for _, pod in readings} for workload, readings in self.since(moment).items()}

    def wait_until_settled(self, *pods: str) -> dict[str, str]:
        """Wait until one pod alone reads each workload for two intervals, with all ``pods`` in use; returns which."""

        def look() -> dict[str, str] | None:
            found = self.owners(time.monotonic() - 2 * INTERVAL)
            owners = {workload: pod for workload, readers in found.items() for pod in readers}
            alone = all(len(readers) == 1 for readers in found.values())
            return owners if alone and set(owners.values()) == set(pods) else None

        try:
            settled: dict[str, str] = wait_for(look, "one pod for each workload", SETTLES_WITHIN)
        except AssertionError as error:
            told = "\n".join(f"{pod.name}: {line}" for pod in self.pods.values() for line in pod.division())
            raise AssertionError(f"{error}; read by {self.owners(time.monotonic() - 2 * INTERVAL)}\n{told}") from None
        return settled

    def load_at(self, moment: float) -> float:
        """The load at ``moment`` of the monotonic clock."""
        return self.prometheus.load_at(time.time() - time.monotonic() + moment)


def write_policies(folder: Path) -> Path:
    spec = f"horizon: 60s, step: 1s, interval: {INTERVAL:g}s, leadTime: 10s, window: 30s, model: baseline, max: 500"
    documents = [
        "apiVersion: kedastral.io/v1alpha1\nkind: ForecastPolicy\n"
        f"metadata: {{name: {name}}}\n"
        f"spec: {{query: {name}, targetPerPod: {TARGET}, staleAfter: {STALE_AFTER:g}s, {spec}}}\n"
        for name in WORKLOADS
    ]
    path = folder / "policies.yaml"
    path.write_text("---\n".join(documents))
    return path


@contextmanager
def open_fleet(
    home: Path,
    open_redis: Callable[[Path], AbstractContextManager[RedisPlace]] = plain,
    on_stale: str = "ride-forecast",
) -> Iterator[Fleet]:
    with ExitStack() as stack:
        prometheus = stack.enter_context(open_stand_in())
        prometheus.growth = GROWTH
        redis = stack.enter_context(open_redis(home / "redis"))
        pods = {}
        for name in PODS:
            flags = {
                "--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT, "--config": str(write_policies(home)),
                "--prom-url": prometheus.url, "--redis-lease": f"{LEASE:g}s",
                "--on-stale": on_stale,
            }  # fmt: skip
            env = {**redis.env, "PROM_HEADER": f"Authorization: {name}"}
            pods[name] = Pod(name, stack.enter_context(ProcessInput("run", flags, env)))
        fleet = Fleet(prometheus, redis, pods)
        fleet.wait_until_settled(*PODS)
        asking = [threading.Thread(target=pod.keep_asking) for pod in pods.values()]
        for thread in asking:
            thread.start()
        try:
            wait_for(lambda: all(len(pod.answers) > 2 * len(WORKLOADS) for pod in pods.values()), "answers")
            yield fleet
        finally:
            for pod in pods.values():
                pod.is_asked = False
                pod.process.popen.send_signal(signal.SIGCONT)
            for thread in asking:
                thread.join()


def tell(words: str) -> None:
    """Print a measured time; docs/reliability.md quotes it."""
    sys.stdout.write(f"\n{words}\n")


@attrs.frozen
class Outage:
    """When the pods, or only ``pods``, could not share: their answers may then come from the previous plan."""

    begin: float
    end: float
    pods: Sequence[str] = PODS

    def covers(self, pod: str, moment: float) -> bool:
        return pod in self.pods and self.begin <= moment <= self.end


NOTHING = Outage(math.inf, math.inf)


def check_answers(fleet: Fleet, outage: Outage = NOTHING, *, may_fail: bool = False) -> float:
    """No number below the floor, none that goes back, none that differs between pods for longer than an interval.

    Calls fail only during the ``outage``, and only if they ``may_fail``. Returns the longest disagreement between pods
    outside of it, in seconds.
    """
    for pod in fleet.pods.values():
        assert pod.answers
        assert [one for one in pod.failures if not (may_fail and outage.covers(pod.name, one[0]))] == []
        newest: dict[str, int] = {}
        for told in pod.answers:
            assert told.replicas >= newest.get(told.workload, 0), f"{pod.name} went back: {told}"
            newest[told.workload] = told.replicas
            known_at = outage.begin if outage.covers(pod.name, told.at) else told.at
            floor = math.ceil(fleet.load_at(known_at - PLAN_AGE) / TARGET)
            most = math.ceil(fleet.load_at(told.at) * HEADROOM / TARGET) + 1
            assert floor <= told.replicas <= most, f"{pod.name}: {told}, at least {floor}, at most {most}"
    longest = max(longest_difference(fleet, workload, outage) for workload in WORKLOADS)
    assert longest <= INTERVAL + SPREAD
    return longest


PLAN_AGE = STALE_AFTER
"""The greatest age in seconds of the load behind an answer: a killed pod's workloads wait for its lease to end."""


def longest_difference(fleet: Fleet, workload: str, outage: Outage) -> float:
    """The longest time that pods gave different numbers for ``workload``, except during the ``outage``."""
    told = [(one.at, pod.name, one.replicas) for pod in fleet.pods.values() for one in pod.answers
            if one.workload == workload and not outage.covers(pod.name, one.at)]  # fmt: skip
    newest: dict[str, tuple[float, int]] = {}
    differs_since, longest = None, 0.0
    for at, name, replicas in sorted(told):
        newest[name] = (at, replicas)
        current = {number for seen, number in newest.values() if at - seen < SPREAD}
        if len(current) < 2:
            differs_since = None
            continue
        differs_since = at if differs_since is None else differs_since
        longest = max(longest, at - differs_since)
    return longest


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
        differed = check_answers(fleet, Outage(killed - 0.1, math.inf, ["a"]), may_fail=True)
        tell(f"the two others told different numbers for {differed:.1f} s at most")


def test_a_process_that_sleeps_longer_than_its_lease_writes_nothing_once_it_wakes(tmp_path: Path) -> None:
    with open_fleet(tmp_path) as fleet:
        before = fleet.wait_until_settled(*PODS)
        slept = time.monotonic()
        fleet.pods["b"].process.signal(signal.SIGSTOP)
        lost = [workload for workload, owner in before.items() if owner == "b"]
        wait_for(lambda: all(fleet.owners(slept + LEASE)[workload] - {"b"} for workload in lost), "others take over")
        fleet.pods["b"].process.signal(signal.SIGCONT)
        woke = time.monotonic()
        fleet.wait_until_settled(*PODS)
        settled = time.monotonic() - 2 * INTERVAL - woke
        tell(f"asleep for {woke - slept:.1f} s; one pod for each workload {max(settled, 0):.1f} s after it woke")
        check_answers(fleet, Outage(slept - 0.1, woke + KEDA_WAITS + 0.5, ["b"]), may_fail=True)


def test_while_redis_is_gone_each_goes_on_and_then_they_share_again(tmp_path: Path) -> None:
    with open_fleet(tmp_path, on_stale="error") as fleet:
        fleet.wait_until_settled(*PODS)
        [server] = fleet.redis.servers
        stopped = time.monotonic()
        server.stop()
        alone = stopped + LEASE + INTERVAL
        wait_for(lambda: all(len(pods) == len(PODS) for pods in fleet.owners(alone).values()), "each reads each",
                 SETTLES_WITHIN)  # fmt: skip
        took = max(min(at for at, pod in readings if pod == one)
                   for readings in fleet.since(alone).values() for one in PODS) - stopped  # fmt: skip
        tell(f"without Redis each process went on with everything after {took:.1f} s at most")
        longer = stopped + STALE_AFTER + INTERVAL  # by then there would be no answer for what a process left to others
        wait_for(lambda: all(len(pods) == len(PODS) for pods in fleet.owners(longer).values()), "they keep on",
                 SETTLES_WITHIN)  # fmt: skip
        server.start()
        check_shared_again(fleet, stopped)


def check_shared_again(fleet: Fleet, begin: float) -> None:
    """They divide the workloads again after an outage since ``begin``; all calls were answered correctly."""
    mended = time.monotonic()
    fleet.wait_until_settled(*PODS)
    tell(f"one pod for each workload {max(time.monotonic() - 2 * INTERVAL - mended, 0):.1f} s after the outage")
    check_answers(fleet, Outage(begin, time.monotonic()))


@pytest.mark.faults
def test_a_slow_redis_costs_no_answer(tmp_path: Path) -> None:
    with open_fleet(tmp_path, redis_servers.behind_a_slow_link) as fleet:
        began = time.monotonic()
        wait_for(lambda: min(map(len, fleet.since(began).values())) >= 5, "five ticks of each", SETTLES_WITHIN)
        fleet.wait_until_settled(*PODS)
        differed = check_answers(fleet)
        tell(f"with a Redis that answers after 0.4 s pods told different numbers for {differed:.1f} s at most")


@pytest.mark.faults
def test_while_redis_is_full_each_goes_on_and_then_they_share_again(tmp_path: Path) -> None:
    with open_fleet(tmp_path) as fleet:
        fleet.wait_until_settled(*PODS)
        [server] = fleet.redis.servers
        began = time.monotonic()
        server.say("CONFIG", "SET", "maxmemory", "1")
        alone = began + LEASE + INTERVAL
        wait_for(lambda: all(len(pods) == len(PODS) for pods in fleet.owners(alone).values()), "each reads each",
                 SETTLES_WITHIN)  # fmt: skip
        server.say("CONFIG", "SET", "maxmemory", "0")
        check_shared_again(fleet, began)


@pytest.mark.faults
def test_a_redis_that_is_restarted_empty_is_filled_again(tmp_path: Path) -> None:
    with open_fleet(tmp_path) as fleet:
        [server] = fleet.redis.servers
        began = time.monotonic()
        server.stop()
        server.start()
        wait_for(
            lambda: server.say("-n", "1", "ZCARD", "kedastral:index") == str(len(WORKLOADS)), "all are there again"
        )
        tell(f"a Redis that was restarted empty had all forecasts again after {time.monotonic() - began:.1f} s")
        check_shared_again(fleet, began)


@pytest.mark.faults
def test_a_replica_that_takes_over_is_followed(tmp_path: Path) -> None:
    with open_fleet(tmp_path, redis_servers.with_a_sentinel) as fleet:
        primary, replica, _ = fleet.redis.servers
        began = time.monotonic()
        primary.stop()
        wait_for(lambda: "role:master" in replica.say("INFO", "replication"), "the replica takes over")
        tell(f"the replica was the primary after {time.monotonic() - began:.1f} s")
        check_shared_again(fleet, began)
