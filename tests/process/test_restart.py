# SPDX-License-Identifier: Apache-2.0
"""A process killed with SIGKILL, and the next one, which continues where it stopped."""

import signal
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from kedastral._proto import externalscaler_pb2 as pb
from kedastral.adapters.state_directory import stem_of
from kedastral.core.kept_state import KeptState
from kedastral.core.planning.snapshot import replicas_at
from kedastral.state_format import read_state
from kedastral.wire import read_time
from tests.waiting import PATIENCE, wait_for

from .raw_grpc import SERVICE
from .running import ANY_PORT, ProcessInput, fetch
from .stand_in import StandIn, open_stand_in

pytestmark = pytest.mark.process

STEP, WINDOW = 5.0, 3 * 3600.0
FLAGS = {
    "--http-listen": ANY_PORT, "--grpc-listen": ANY_PORT, "--workload": "shop", "--prom-query": "up",
    "--horizon": "2m", "--step": "5s", "--interval": "1s", "--lead-time": "10s", "--window": "3h", "--model": "auto",
    "--target-per-pod": "100", "--on-stale": "ride-forecast",
}  # fmt: skip
NEW = 900.0
"""The seconds of history that a quick restart may query: those since the last save, and those that may be late."""


@pytest.fixture
def prometheus() -> Iterator[StandIn]:
    with open_stand_in() as server:
        yield server


def run(prometheus: StandIn, folder: Path, **env: str) -> ProcessInput:
    return ProcessInput("run", {**FLAGS, "--prom-url": prometheus.url, "--state-dir": str(folder)}, env)


def shown(port: int) -> Any:
    """The snapshot over HTTP; None if there is none."""
    answer = fetch(port, "/forecast/current?workload=shop")
    return answer.document if answer.status == 200 else None


def follows_the_model(port: int) -> Any:
    """The snapshot, if its plan follows the model's forecast."""
    found = shown(port)
    return found if found and found["status"] == "ok" else None


def kept(folder: Path) -> KeptState | None:
    file = folder / f"{stem_of('shop')}.state"
    return read_state(file.read_bytes()) if file.exists() else None


def is_kept(folder: Path, document: Any) -> bool:
    state = kept(folder)
    return state is not None and state.snapshot.made_at == read_time(document["generatedAt"])


def kill(process: ProcessInput) -> None:
    process.signal(signal.SIGKILL)
    process.wait()


def replicas(port: int) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            f"{SERVICE}GetMetrics",
            request_serializer=pb.GetMetricsRequest.SerializeToString,
            response_deserializer=pb.GetMetricsResponse.FromString,
        )
        request = pb.GetMetricsRequest(scaledObjectRef=pb.ScaledObjectRef(name="web", namespace="prod"))
        return int(call(request, timeout=PATIENCE, wait_for_ready=True).metricValues[0].metricValue)


def test_a_killed_process_is_followed_by_one_that_goes_on(prometheus: StandIn, tmp_path: Path) -> None:
    with run(prometheus, tmp_path) as first:
        [port] = first.ports("HTTP")
        wait_for(lambda: (found := follows_the_model(port)) and found["steeringFactor"] != 1.1, "steering")
        prometheus.silent.set()
        prometheus.asked.clear()
        # by then no tick is left that was answered before the silence and would still publish
        assert prometheus.asked.wait(PATIENCE)
        before = wait_for(lambda: (found := shown(port)) and is_kept(tmp_path, found) and found, "it on the disk")
        kill(first)
    assert max(end - start for start, end in prometheus.ranges) == WINDOW - STEP
    state = kept(tmp_path)
    assert state is not None

    with run(prometheus, tmp_path) as second:  # Prometheus is still silent
        grpc_port, port = second.ports("gRPC", "HTTP")
        again = shown(port)
        assert {key: again[key] for key in before if key != "experts"} == {
            key: before[key] for key in before if key != "experts"
        }
        earliest = replicas_at(state.snapshot, datetime.now(UTC))
        assert replicas(grpc_port) in (earliest, replicas_at(state.snapshot, datetime.now(UTC)))
        kill(second)

    prometheus.silent.clear()
    prometheus.ranges.clear()
    with run(prometheus, tmp_path) as third:
        [port] = third.ports("HTTP")
        newer = wait_for(
            lambda: (found := shown(port)) and found["generatedAt"] > before["generatedAt"] and found, "a new forecast"
        )
        assert newer["budgetSpent"] == pytest.approx(before["budgetSpent"], abs=0.01)
        assert newer["steeringFactor"] == pytest.approx(before["steeringFactor"], rel=0.001)
        assert newer["status"] == "ok", "by its model at the first tick"
        assert max(end - start for start, end in prometheus.ranges) < NEW
        third.signal(signal.SIGTERM)
        assert third.wait() == 0


def test_a_damaged_file_costs_one_line_and_no_start(prometheus: StandIn, tmp_path: Path) -> None:
    for ending in ("state", "history"):
        (tmp_path / f"{stem_of('shop')}.{ending}").write_bytes(b"\0" * 100)
    with run(prometheus, tmp_path) as process:
        [port] = process.ports("HTTP")
        wait_for(lambda: shown(port), "a forecast")
        warned = [event["msg"] for event in process.log if event["component"] == "state"]
        assert len(warned) == 2
        assert all("cannot be used, and is now" in words for words in warned)
        wait_for(lambda: kept(tmp_path), "a new state")
    assert len(list(tmp_path.glob("*.unreadable"))) == 2


def test_two_processes_on_one_directory_are_one_too_many(prometheus: StandIn, tmp_path: Path) -> None:
    with run(prometheus, tmp_path) as first:
        first.ports("HTTP")
        with run(prometheus, tmp_path) as second:
            assert second.wait() == 2
            assert f"process {first.popen.pid}" in "".join(second.lines)
            assert "Traceback" not in "".join(second.lines)
    with run(prometheus, tmp_path) as third:
        third.ports("HTTP")


def test_a_directory_that_cannot_be_made_is_a_wrong_setting(prometheus: StandIn, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with run(prometheus, tmp_path / "file" / "below") as process:
        assert process.wait() == 2
        assert "--state-dir" in "".join(process.lines)
        assert "Traceback" not in "".join(process.lines)


def test_files_are_for_the_user_of_the_process_alone(prometheus: StandIn, tmp_path: Path) -> None:
    with run(prometheus, tmp_path):
        wait_for(lambda: kept(tmp_path), "a state")
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
