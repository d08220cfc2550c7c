# SPDX-License-Identifier: Apache-2.0
"""A whole process without file descriptors or CPU time, with full or hanging disks, and stopped at any moment."""

import os
import resource
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from kedastral.adapters.state_directory import stem_of
from tests.integration.conftest import free_port
from tests.process.running import ANY_PORT, QUICK, ProcessInput, fetch
from tests.process.stand_in import StandIn, open_stand_in
from tests.process.test_fleet import Keda
from tests.waiting import wait_for

pytestmark = [pytest.mark.process, pytest.mark.faults]

WANTED = 9
"""700 at 100 a pod and 1.2."""
STOPS_WITHIN = 10.0
POLICIES = ["ride-forecast", "error", "default-min"]
DEFAULT_MIN = 3
STALE_AFTER = "3s"
WITHOUT_DESCRIPTORS, WITHOUT_PROCESSOR = 6.0, 4.0
"""Duration of each fault in seconds: longer than `STALE_AFTER`, so that each policy takes effect."""


@pytest.fixture
def prometheus() -> Iterator[StandIn]:
    with open_stand_in() as server:
        yield server


def run(prometheus: StandIn, policy: str = "ride-forecast", stderr: int = -1, **more: str) -> ProcessInput:
    flags = {"--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT, "--workload": "shop", "--prom-url": prometheus.url}
    flags |= {"--prom-query": "up", "--target-per-pod": "100", "--on-stale": policy, "--stale-after": STALE_AFTER}
    env = {"DEFAULT_MIN": str(DEFAULT_MIN)}
    return ProcessInput("run", {**flags, **QUICK}, {**env, **more}, stderr=stderr)


def is_fresh(port: int) -> bool:
    answer = fetch(port, "/forecast/current?workload=shop")
    return answer.status == 200 and "x-kedastral-stale" not in answer.headers


@contextmanager
def asking(port: int) -> Iterator[set[int | str]]:
    """What GetMetrics says, four times a second, while the block runs: replicas or a status."""
    keda, told, done = Keda(port), set[int | str](), threading.Event()

    def ask() -> None:
        while not done.wait(0.25):
            try:
                told.add(keda.replicas(workload="shop"))
            except grpc.RpcError as error:
                told.add(str(error.code().name))

    thread = threading.Thread(target=ask)
    assert keda.replicas(workload="shop") == WANTED
    thread.start()
    try:
        yield told
    finally:
        done.set()
        thread.join()
        keda.channel.close()


ALLOWED: dict[str, set[int | str]] = {
    "ride-forecast": {WANTED},
    "error": {WANTED, "UNAVAILABLE"},
    "default-min": {WANTED, DEFAULT_MIN},
}


@pytest.mark.parametrize("policy", POLICIES)
def test_without_descriptors_keda_is_answered_by_the_policy_and_ticks_come_back(
    prometheus: StandIn, policy: str
) -> None:
    with run(prometheus, policy) as process:
        grpc_port, http_port = process.ports("gRPC", "HTTP")
        wait_for(lambda: is_fresh(http_port), "a forecast")
        with asking(grpc_port) as told:
            pid = process.popen.pid
            before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))  # every tick needs a new connection
            time.sleep(WITHOUT_DESCRIPTORS)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            wait_for(lambda: is_fresh(http_port), "a forecast again")
        assert told <= ALLOWED[policy]
        assert told >= ALLOWED[policy]
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_after_seconds_without_a_processor_it_goes_on_at_once(prometheus: StandIn, policy: str) -> None:
    with run(prometheus, policy) as process:
        grpc_port, http_port = process.ports("gRPC", "HTTP")
        wait_for(lambda: is_fresh(http_port), "a forecast")
        with asking(grpc_port) as told:
            for _ in range(2):
                process.signal(signal.SIGSTOP)
                time.sleep(WITHOUT_PROCESSOR)
                process.signal(signal.SIGCONT)
                wait_for(lambda: is_fresh(http_port), "a forecast again")
        assert told <= ALLOWED[policy]
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert "Traceback" not in "".join(process.lines)


def test_a_full_disk_under_its_log_costs_the_log_alone(prometheus: StandIn) -> None:
    with open_full() as full, run_on_ports(prometheus, full) as (process, grpc_port, http_port):
        wait_for(lambda: answers(http_port), "a forecast")
        with asking(grpc_port) as told:
            ticks = len(prometheus.readings) + 3
            wait_for(lambda: len(prometheus.readings) >= ticks, "three more ticks, each of which has lines for the log")
        assert told == {WANTED}
        process.signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_disk_that_hangs_under_its_state_costs_neither_answers_nor_the_end(
    prometheus: StandIn, tmp_path: Path
) -> None:
    state = tmp_path / f"{stem_of('shop')}.state"
    with run(prometheus, STATE_DIR=str(tmp_path)) as process:
        grpc_port, http_port = process.ports("gRPC", "HTTP")
        wait_for(lambda: is_fresh(http_port) and state.exists(), "a forecast that is kept")
        with asking(grpc_port) as told:
            wait_for(lambda: hang(state), "a moment between two saves")
            ticks = len(prometheus.readings) + 3
            wait_for(lambda: len(prometheus.readings) >= ticks, "three more ticks, the first of which is saved in vain")
        assert told == {WANTED}
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert time.monotonic() - began < STOPS_WITHIN
        log = "".join(process.lines)
        assert f"--state-dir {tmp_path} hangs" in log
        assert "Traceback" not in log


def hang(file: Path) -> bool:
    """Make the next write of ``file`` hang; returns whether that is possible now."""
    with suppress(FileExistsError):  # it is being written
        os.mkfifo(f"{file}.tmp")
        return True
    return False


@contextmanager
def open_full() -> Iterator[int]:
    full = os.open("/dev/full", os.O_WRONLY)
    yield full
    os.close(full)


@contextmanager
def run_on_ports(prometheus: StandIn, stderr: int) -> Iterator[tuple[ProcessInput, int, int]]:
    """A process whose log nobody reads, with the given gRPC and HTTP ports."""
    http_port, grpc_port = free_port(), free_port()
    flags = {"--http-listen": f"127.0.0.1:{http_port}", "--grpc-listen": f"127.0.0.1:{grpc_port}"}
    flags |= {"--workload": "shop", "--prom-url": prometheus.url, "--prom-query": "up", "--target-per-pod": "100"}
    with ProcessInput("run", {**flags, **QUICK}, stderr=stderr) as process:
        yield process, grpc_port, http_port


def answers(http_port: int) -> bool:
    with suppress(OSError):
        return is_fresh(http_port)
    return False


@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 3.0])
def test_sigterm_at_any_moment_of_the_start_ends_it_in_time(prometheus: StandIn, seconds: float) -> None:
    with run(prometheus) as process:
        time.sleep(seconds)
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait() in {0, -signal.SIGTERM}
        assert time.monotonic() - began < STOPS_WITHIN
        assert "Traceback" not in "".join(process.lines)


def test_sigterm_in_the_middle_of_a_tick_abandons_it(prometheus: StandIn) -> None:
    with run(prometheus) as process:
        (http_port,) = process.ports("HTTP")
        wait_for(lambda: is_fresh(http_port), "a forecast")
        prometheus.silent.set()
        prometheus.asked.clear()
        assert prometheus.asked.wait(10)
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert time.monotonic() - began < STOPS_WITHIN
        assert "Traceback" not in "".join(process.lines)
