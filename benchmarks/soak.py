# SPDX-License-Identifier: Apache-2.0
"""`kedastral run` under load with faults at random: ``make soak``. Exit code 0: nothing grew and nothing slowed.

``python -m benchmarks.soak [SECONDS] [--seed N] [--workloads N] [--plot FILE]``. Fifty workloads read a Prometheus that
spoils one answer in five and is away now and then; meanwhile KEDA calls (GetMetrics, StreamIsActive that come and go),
HTTP readers fetch every endpoint, and SIGHUPs come. The seed, which is printed, chooses the
faults; their order is that in which questions come.
"""

import argparse
import asyncio
import gc
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import grpc
import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.figures import percentile
from benchmarks.grpc_client import METHOD, make_request
from benchmarks.programs import answers, free_port, running
from kedastral._proto.externalscaler_pb2 import GetMetricsRequest, GetMetricsResponse, IsActiveResponse, ScaledObjectRef

SECONDS = 600.0
WARM_UP = 0.3
"""The share of the time in which caches fill; memory does not count during it."""
RSS_SLOPE_LIMIT = 1.0
"""MiB per minute."""
P99_RATIO_LIMIT = 1.5
"""The p99 of GetMetrics in the last quarter relative to the first quarter after `SETTLED` seconds."""
SETTLED = 15.0
SAMPLE_EVERY = 1.0
CALLS_PER_SECOND = 40.0
SPOILT = 0.2
"""The share of corrupted answers."""
LEAST_REPLICAS = 2
OWN = [("grpc.use_local_subchannel_pool", 1)]
"""A separate connection for each channel."""

SOURCE = """\
apiVersion: kedastral.io/v1alpha1
kind: DataSource
metadata: {{name: main}}
spec: {{url: 'http://127.0.0.1:{port}'}}
"""
POLICY = """\
---
apiVersion: kedastral.io/v1alpha1
kind: ForecastPolicy
metadata: {{name: w{number}, namespace: soak}}
spec: {{query: load{number}, targetPerPod: 100, min: 2, horizon: 10m, step: 10s, interval: 5s, leadTime: 60s,
  window: 30m, staleAfter: 15s, onStale: {on_stale}, model: baseline, headroom: 1.2}}
"""
TCP_STATES = {"01": "established", "08": "closed by the peer", "0A": "listening"}
ON_STALE = ("ride-forecast", "error", "default-min")
console = Console(width=None if sys.stdout.isatty() else 120)


@attrs.define
class FaultyPrometheus:
    """Answers range queries with a wave; randomly corrupts answers, and is down for some seconds now and then."""

    chance: random.Random
    spoils: bool = False
    done: dict[str, int] = attrs.field(factory=dict)
    away_until: float = 0.0

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it ends."""
        try:
            while request := await reader.readuntil(b"\r\n\r\n"):
                asked = parse_qs(urlsplit(request.split(b" ", 2)[1].decode()).query)
                if not await self._answer(asked, writer):
                    break
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            pass  # the end of the soak
        finally:
            writer.close()

    async def _answer(self, asked: dict[str, list[str]], writer: asyncio.StreamWriter) -> bool:
        """Write an answer; returns whether the connection stays open."""
        fault = self._choose()
        self.done[fault] = self.done.get(fault, 0) + 1
        good = write_range(asked)
        if fault == "reset":
            writer.transport.abort()
            return False
        if fault == "hang":
            await asyncio.sleep(12)
            return False
        if fault == "drip":
            with suppress(ConnectionError):
                writer.write(head(200, len(good)))
                for at in range(12):
                    writer.write(good[at : at + 1])
                    await writer.drain()
                    await asyncio.sleep(1)
            return False
        if fault == "cut":
            writer.write(head(200, len(good)) + good[: len(good) // 2])
            return False
        status, body = SPOILT_ANSWERS.get(fault, (200, good))
        writer.write(head(status, len(body)) + body)
        return True

    def _choose(self) -> str:
        now = time.monotonic()
        if now < self.away_until:
            return "reset"
        if not self.spoils:
            return "none"
        if self.chance.random() < 0.0005:
            self.away_until = now + self.chance.uniform(5, 45)
        return self.chance.choice(FAULTS) if self.chance.random() < SPOILT else "none"


SPOILT_ANSWERS: dict[str, tuple[int, bytes]] = {
    "400": (400, b'{"status":"error","errorType":"bad_data","error":"no"}'),
    "429": (429, b"slow down"),
    "500": (500, b"<html>oops</html>"),
    "503": (503, b""),
    "html": (200, b"<!doctype html><title>Sign in</title>"),
    "half": (200, b'{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"val'),
    "empty": (200, b'{"status":"success","data":{"resultType":"matrix","result":[]}}'),
    "types": (200, b'{"status":"success","data":{"resultType":"matrix","result":{"a":[1]}}}'),
    "large": (200, b'{"status":"success","data":{"resultType":"matrix","result":[' + b"[]," * 2**20 + b"[]]}}"),
}
FAULTS = ("reset", "hang", "drip", "cut", *SPOILT_ANSWERS)


def head(status: int, length: int) -> bytes:
    """The head of an HTTP answer."""
    return f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n".encode()


def write_range(asked: dict[str, list[str]]) -> bytes:
    """A wave with a period of an hour, at each requested step."""
    start, end, step = (float(asked.get(name, ["0"])[0]) for name in ("start", "end", "step"))
    times = start + step * np.arange(int((end - start) / (step or 1)) + 1)
    points = [[at, f"{500 + 300 * np.sin(at / 573):.3f}"] for at in times.tolist()]
    result = [{"metric": {}, "values": points}]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}}).encode()


@attrs.define
class Record:
    """What was measured, by time since the start in seconds."""

    began: float = attrs.field(factory=time.monotonic)
    memory: list[tuple[float, float]] = attrs.field(factory=list)
    """MiB."""
    descriptors: list[tuple[float, int]] = attrs.field(factory=list)
    threads: list[tuple[float, int]] = attrs.field(factory=list)
    calls: list[tuple[float, float]] = attrs.field(factory=list)
    """Milliseconds of each GetMetrics."""
    statuses: dict[str, int] = attrs.field(factory=dict)
    pages: dict[str, int] = attrs.field(factory=dict)
    wrong: list[str] = attrs.field(factory=list)
    sockets: dict[str, int] = attrs.field(factory=dict)
    """Sockets open at the end, by peer and state."""
    hangups: int = 0
    streams: int = 0

    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.began

    def count(self, kind: dict[str, int], what: str) -> None:
        """Count one more of ``what``."""
        kind[what] = kind.get(what, 0) + 1


@attrs.frozen
class Target:
    """The process under test, and how it is reached."""

    pid: int
    http: int
    grpc: int
    workloads: Sequence[str]

    def sample(self, record: Record) -> None:
        """Record memory, descriptors and threads."""
        proc, now = Path(f"/proc/{self.pid}"), record.now()
        fields = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        record.memory.append((now, int(fields["VmRSS"].split()[0]) / 1024))
        record.threads.append((now, int(fields["Threads"])))
        record.descriptors.append((now, len(list((proc / "fd").iterdir()))))


def list_sockets(target: Target, prometheus: int) -> dict[str, int]:
    """How many TCP sockets the process has, by peer and kernel state."""
    names, links = {target.http: "HTTP", target.grpc: "gRPC", prometheus: "Prometheus"}, set[str]()
    for one in Path(f"/proc/{target.pid}/fd").iterdir():
        with suppress(OSError):
            links.add(str(one.readlink()))
    found: dict[str, int] = {}
    for line in Path(f"/proc/{target.pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if f"socket:[{fields[9]}]" in links:
            ports = [int(address.rpartition(":")[2], 16) for address in fields[1:3]]
            who = next((names[port] for port in ports if port in names), "others")
            name = f"{who}, {TCP_STATES.get(fields[3], fields[3])}"
            found[name] = found.get(name, 0) + 1
    return found


async def sample(target: Target, record: Record) -> None:
    """Sample the process repeatedly."""
    while True:
        target.sample(record)
        await asyncio.sleep(SAMPLE_EVERY)


Client = Callable[[Target, Record, random.Random], Awaitable[None]]
"""Uses one connection, and closes it."""


async def come_and_go(client: Client, target: Target, record: Record, chance: random.Random) -> None:
    """Run ``client`` repeatedly."""
    while True:
        await client(target, record, chance)
        close_left_channels()


def close_left_channels() -> None:
    """Collect garbage: a closed grpc.aio channel is in reference cycles, which keep its connection open."""
    gc.collect()


async def call(target: Target, record: Record, chance: random.Random) -> None:
    """GetMetrics for one workload after the other, at `CALLS_PER_SECOND`."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{target.grpc}", options=OWN) as channel:
        ask = channel.unary_unary(
            METHOD,
            request_serializer=GetMetricsRequest.SerializeToString,
            response_deserializer=GetMetricsResponse.FromString,
        )
        for _ in range(chance.randrange(200, 600)):
            await ask_once(ask, chance.choice(target.workloads), record)
            await asyncio.sleep(1 / CALLS_PER_SECOND)


async def ask_once(ask: Any, workload: str, record: Record) -> None:
    """One timed call; a number below the minimum is wrong, and so is a status that KEDA must never see."""
    began = time.monotonic()
    try:
        [value] = (await ask(make_request(workload), timeout=30)).metricValues
    except grpc.aio.AioRpcError as error:
        status = str(error.code().name)
        if status != "UNAVAILABLE":
            record.wrong.append(f"GetMetrics of {workload}: {status} {error.details()}")
    else:
        status = "OK"
        if value.metricValue < LEAST_REPLICAS:
            record.wrong.append(f"GetMetrics of {workload}: {value.metricValue}")
    record.calls.append((record.now(), (time.monotonic() - began) * 1000))
    record.count(record.statuses, status)


async def watch(target: Target, record: Record, chance: random.Random) -> None:
    """StreamIsActive for some seconds; each stream is dropped without notice."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{target.grpc}", options=OWN) as channel:
        stream = channel.unary_stream(
            METHOD.replace("GetMetrics", "StreamIsActive"),
            request_serializer=ScaledObjectRef.SerializeToString,
            response_deserializer=IsActiveResponse.FromString,
        )
        calls = [stream(make_request(one).scaledObjectRef) for one in chance.sample(list(target.workloads), 5)]
        record.streams += len(calls)
        await asyncio.sleep(chance.uniform(1, 10))
        for one in calls:
            one.cancel()


async def fetch(target: Target, record: Record, chance: random.Random) -> None:
    """Random endpoints, including missing pages."""
    base = f"http://127.0.0.1:{target.http}"
    async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=30) as client:
        for _ in range(chance.randrange(1, 100)):
            known = f"/forecast/current?workload={chance.choice(target.workloads)}"
            nobody = "/forecast/current?workload=nobody"
            path = chance.choice((known, known, nobody, "/healthz", "/readyz", "/metrics", "/openapi.json", "/nowhere"))
            answer = await client.get(path)
            record.count(record.pages, str(answer.status_code))
            if answer.status_code >= 500:
                record.wrong.append(f"{path}: {answer.status_code}")
            await asyncio.sleep(0.2)


async def hang_up(target: Target, record: Record, chance: random.Random) -> None:
    """Send SIGHUP after a while."""
    await asyncio.sleep(chance.uniform(1, 20))
    os.kill(target.pid, signal.SIGHUP)
    record.hangups += 1


@asynccontextmanager
async def disturbing(target: Target, record: Record, chance: random.Random) -> AsyncIterator[None]:
    """All the load on ``target`` while the block runs."""
    clients: tuple[Client, ...] = (call, watch, watch, fetch, fetch, hang_up)
    tasks = [
        asyncio.create_task(come_and_go(client, target, record, random.Random(chance.random()))) for client in clients
    ]
    try:
        yield
    finally:
        broken = [task.exception() for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    if broken:
        raise RuntimeError(f"a client gave up: {broken}")


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """MiB per minute: the slope of the least-squares line through ``samples`` of (seconds, MiB)."""
    times, values = np.array(samples).T
    return float(np.polyfit(times / 60, values, 1)[0])


@attrs.frozen
class Check:
    """One condition: the measured figure, and the most that it may be."""

    name: str
    found: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the condition holds."""
        return self.found <= self.limit


def check(record: Record, seconds: float, before: tuple[int, int], after: tuple[int, int]) -> list[Check]:
    """All conditions; ``before`` and ``after`` are descriptors and threads without clients."""
    busy = [(at, mib) for at, mib in record.memory if WARM_UP * seconds <= at <= seconds]
    quarter = (seconds - SETTLED) / 4
    first = sorted(ms for at, ms in record.calls if SETTLED <= at < SETTLED + quarter)
    last = sorted(ms for at, ms in record.calls if at >= seconds - quarter)
    return [
        Check("RSS slope after warm-up, MiB a minute", slope(busy), RSS_SLOPE_LIMIT),
        Check(
            "p99 of the last quarter / of the first", percentile(last, 0.99) / percentile(first, 0.99), P99_RATIO_LIMIT
        ),
        Check("descriptors more than before", after[0] - before[0], 0),
        Check("threads more than before", after[1] - before[1], 0),
        Check("wrong answers", len(record.wrong), 0),
    ]


def show(record: Record, checks: Sequence[Check], prometheus: FaultyPrometheus, seconds: float) -> None:
    """The table."""
    table = Table("what", "found", "at most", "holds")
    for one in checks:
        table.add_row(one.name, f"{one.found:.2f}", f"{one.limit:g}", "yes" if one.holds else "NO")
    console.print(table)
    milliseconds = sorted(ms for _, ms in record.calls)
    mib = [value for _, value in record.memory]
    times = f"p50 {percentile(milliseconds, 0.5):.1f} ms, p99 {percentile(milliseconds, 0.99):.1f} ms"
    console.print(f"{seconds:.0f} s: {len(milliseconds)} GetMetrics {record.statuses}, {times}")
    console.print(f"{record.streams} streams, {record.hangups} SIGHUPs, HTTP {record.pages}")
    console.print(f"RSS {mib[0]:.0f} MiB at first, {max(mib):.0f} at most, {mib[-1]:.0f} at last")
    console.print(f"open at last: {dict(sorted(record.sockets.items()))}")
    console.print(f"Prometheus' answers: {dict(sorted(prometheus.done.items()))}")
    for words in record.wrong[:10]:
        console.print(f"wrong: {words}")


def draw(record: Record, file: Path, title: str) -> None:
    """Memory and latencies by time, as SVG."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415 - a dev dependency
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasSVG(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    above.set_title(title)
    above.plot(*zip(*record.memory, strict=True))
    above.set_ylabel("RSS, MiB")
    below.plot(*zip(*record.calls, strict=True), ".", markersize=1)
    below.set_yscale("log")
    below.set_ylabel("GetMetrics, ms")
    below.set_xlabel("seconds")
    figure.savefig(file)


async def settle(target: Target, record: Record, before: tuple[int, int] | None = None) -> tuple[int, int]:
    """Descriptors and threads without clients: the most within 20 s, or the first that do not exceed ``before``."""
    seen: list[tuple[int, int]] = []
    for _ in range(20 if before is None else 60):
        await asyncio.sleep(1)
        close_left_channels()
        target.sample(record)
        seen.append((record.descriptors[-1][1], record.threads[-1][1]))
        if before is not None and seen[-1][0] <= before[0] and seen[-1][1] <= before[1]:
            return seen[-1]
    return seen[-1] if before is not None else (max(one[0] for one in seen), max(one[1] for one in seen))


async def soak(target: Target, prometheus: FaultyPrometheus, port: int, seconds: float) -> tuple[Record, list[Check]]:
    """Load ``target`` for ``seconds`` while ``prometheus``, on ``port``, corrupts answers; the record and checks."""
    async with await asyncio.start_server(prometheus.talk, "127.0.0.1", port):
        before = await settle(target, Record())
        record, prometheus.spoils = Record(), True
        sampling = asyncio.create_task(sample(target, record))
        async with disturbing(target, record, prometheus.chance):
            await asyncio.sleep(seconds)
        sampling.cancel()
        prometheus.spoils, prometheus.away_until = False, 0.0
        after = await settle(target, record, before)
        record.sockets = list_sockets(target, port)
    return record, check(record, seconds, before, after)


def run(seconds: float, seed: int, workloads: int, plot: Path) -> bool:
    """Run the soak; returns whether all checks passed."""
    http, scaler, port = free_port(), free_port(), free_port()
    prometheus = FaultyPrometheus(random.Random(seed))
    gc.freeze()  # existing objects stay: collecting them would delay timed calls
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        policies = [POLICY.format(number=n, on_stale=ON_STALE[n % len(ON_STALE)]) for n in range(workloads)]
        (home / "fleet.yaml").write_text("".join([SOURCE.format(port=port), *policies]), encoding="utf-8")
        command = [sys.executable, "-m", "kedastral", "run", "--config", str(home / "fleet.yaml")]
        command += ["--http-listen", f"127.0.0.1:{http}", "--grpc-listen", f"127.0.0.1:{scaler}"]
        with running(command, home / "log", lambda: answers(f"http://127.0.0.1:{http}/readyz")) as pid:
            target = Target(pid, http, scaler, [f"soak/w{n}" for n in range(workloads)])
            record, checks = asyncio.run(soak(target, prometheus, port, seconds))
        record.wrong += [line for line in (home / "log").read_text().splitlines() if "Traceback" in line]
    show(record, checks, prometheus, seconds)
    draw(record, plot, f"soak: {workloads} workloads, seed {seed}")
    return all(one.holds for one in checks) and not record.wrong


def main() -> int:
    """Exit code 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=SECONDS)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--workloads", type=int, default=50)
    parser.add_argument("--plot", type=Path, default=Path("soak.svg"))
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    console.print(f"seed {seed}")
    return 0 if run(options.seconds, seed, options.workloads, options.plot) else 1


if __name__ == "__main__":
    sys.exit(main())
