# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus with history from blocks, whose samples come by remote write, some late: what KEDA is told.

A snappy block may be all literals (https://github.com/google/snappy/blob/main/format_description.txt), and a
WriteRequest is nested messages (https://prometheus.io/docs/concepts/remote_write_spec/), so both are written by hand.
"""

import struct
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import attrs
import pytest
import trio

from kedastral.adapters.in_process import InProcessForecaster
from kedastral.adapters.prometheus.api import open_prometheus_client
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.clock import SystemClock
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.snapshot import replicas_at
from kedastral.models import MODELS
from kedastral.serving.store import MemoryStore
from kedastral.settings.declarations import PrometheusLogin
from kedastral.workloads.tick import ForecastLoop
from tests.integration.conftest import PrometheusServer, require_program, write_blocks

pytestmark = pytest.mark.integration

LAG = 4.0
RATE = 100.0
"""Load per second of each of the two pods."""
WITHIN = 60.0
HISTORY = 120
"""Seconds of history in blocks."""
RULES = """
groups:
  - name: slow
    interval: 5s
    rules:
      - record: pod:requests:rate8s
        expr: sum by (pod) (rate(requests_total{pod="prompt"}[8s]))
"""
POLICY = PlanPolicy(10.0, 1.0, ReplicaBounds(1, 100))


def counter(at: float) -> float:
    return at * RATE


def varint(number: int) -> bytes:
    more = bytearray()
    while number > 0x7F:
        more.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*more, number])


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def write_request(labels: Mapping[str, str], at: int, value: float) -> bytes:
    """A prometheus.WriteRequest of one sample at ``at`` (epoch seconds)."""
    named = [field(1, field(1, name.encode()) + field(2, text.encode())) for name, text in sorted(labels.items())]
    sample = b"\x09" + struct.pack("<d", value) + b"\x10" + varint(at * 1000)
    return field(1, b"".join(named) + field(2, sample))


def snappy(content: bytes) -> bytes:
    """A snappy block of literals, of at most 60 bytes each."""
    parts = [content[i : i + 60] for i in range(0, len(content), 60)]
    return varint(len(content)) + b"".join(bytes([len(part) - 1 << 2]) + part for part in parts)


@attrs.define
class RemoteWriter:
    """Writes a sample of each pod every second, those of pod ``late`` `LAG` seconds late; never back in time."""

    url: str
    since: int
    done: threading.Event = attrs.field(factory=threading.Event)
    refused: list[str] = attrs.field(factory=list)

    def run(self) -> None:
        written = {"prompt": self.since, "late": self.since}
        while not self.done.wait(0.1):
            for pod, lag in (("prompt", 0.0), ("late", LAG)):
                while written[pod] + 1 <= time.time() - lag:
                    written[pod] += 1
                    self.write(pod, written[pod])

    def write(self, pod: str, at: int) -> None:
        body = snappy(write_request({"__name__": "requests_total", "pod": pod}, at, counter(at)))
        headers = {"Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0"}
        request = urllib.request.Request(f"{self.url}/api/v1/write", body, headers)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            direct.open(request, timeout=WITHIN).close()
        except OSError as error:
            self.refused.append(str(error))


def backfill(home: Path, until: int) -> None:
    """Blocks with the history of both pods."""
    points = [(float(at), counter(at)) for at in range(until - HISTORY, until + 1)]
    write_blocks(home, {f'requests_total{{pod="{pod}"}}': points for pod in ("prompt", "late")})


@pytest.fixture
def remote_prometheus(tmp_path: Path) -> Iterator[PrometheusServer]:
    until = int(time.time()) - int(LAG)
    backfill(tmp_path, until)
    (tmp_path / "rules.yml").write_text(RULES)
    more = f"rule_files: ['{tmp_path / 'rules.yml'}']\n"
    server = PrometheusServer(
        require_program("prometheus"), tmp_path, None, "--web.enable-remote-write-receiver", more=more
    )
    server.start()
    writer = RemoteWriter(server.url, until)
    thread = threading.Thread(target=writer.run, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        writer.done.set()
        thread.join()
        server.stop()
    assert not writer.refused


async def tick_against(server: PrometheusServer, query: str, ticks: int) -> tuple[list[int], float, float]:
    """What KEDA is told after each of the ``ticks``, and the settling time and the observed load at the last."""
    clock, store, told = SystemClock(), MemoryStore(), list[int]()
    asked = RangeQuery(query, window=100.0, step=1.0, stale_after=20.0)
    deadline = time.monotonic() + WITHIN
    async with open_prometheus_client(server.url, PrometheusLogin()) as client:
        model = InProcessForecaster(MODELS["baseline"].make(), None)
        workload = Workload("shop", "rps", 30, 10.0, POLICY, 1.0)
        loop = ForecastLoop(workload, PrometheusSource(client, asked), model, store, clock)
        while len(told) < ticks:
            assert time.monotonic() < deadline, "not so many ticks in time"
            await loop.tick()
            snapshot = store.get("shop")
            assert snapshot is not None
            told.append(replicas_at(snapshot, datetime.now(UTC)))
            await trio.sleep(0.5)
    assert snapshot.observed is not None
    return told, snapshot.quality.settling, snapshot.observed.value


async def test_samples_that_remote_write_brings_late_are_waited_for(remote_prometheus: PrometheusServer) -> None:
    """If trusted at once, the newest points show little more than the prompt pod: 10 to 15 replicas instead of 20."""
    told, settling, observed = await tick_against(remote_prometheus, "sum(rate(requests_total[8s]))", 40)
    assert min(told) >= 19
    assert LAG / 2 <= settling <= 3 * LAG
    assert observed == pytest.approx(2 * RATE, rel=0.05)


async def test_a_recording_rule_that_is_evaluated_seldom_is_the_load(remote_prometheus: PrometheusServer) -> None:
    """Between evaluations its newest points repeat the last one."""
    deadline = time.monotonic() + WITHIN
    while not has_series(remote_prometheus, "pod:requests:rate8s%20offset%202s"):
        assert time.monotonic() < deadline, "the rule was not evaluated in time"
        await trio.sleep(0.2)
    told, _, observed = await tick_against(remote_prometheus, "sum(pod:requests:rate8s)", 20)
    assert observed == pytest.approx(RATE, rel=0.1)
    assert told[-1] in (10, 11)


def has_series(server: PrometheusServer, query: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"{server.url}/api/v1/query?query={query}", timeout=WITHIN) as answer:
        return b'"pod"' in answer.read()
