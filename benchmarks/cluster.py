# SPDX-License-Identifier: Apache-2.0
"""Several processes that share a Redis and their workloads: ``make bench-cluster``. A table, and JSON by ``--json``.

For 1, 2 and 3 processes and 300 to 3,000 workloads, with a real ``redis-server``: how many ticks a second there are and
how many of those due, what Redis and Prometheus are asked, what a process needs of memory and processor, and how long
it takes until a process that is killed with SIGKILL has been replaced for each of its workloads. The workloads are of
model ``baseline``, so that nothing is trained: what a model costs is measured by `benchmarks.scale`. Prometheus is
`benchmarks.load_server`. All processes share the machine's cores.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from benchmarks.figures import describe_machine
from benchmarks.programs import answers, find_program, free_port, running
from benchmarks.scale import fetch_local, write_fleet

PROCESSES, SIZES = (1, 2, 3), (300, 1000, 3000)
INTERVAL, LEASE = 30.0, 10.0
READY_WITHIN = 600.0
LOOK_EVERY = 0.5
TICKS, MISSED, HELD = (
    "kedastral_capacity_compute_seconds_count", "kedastral_ticks_missed_total", "kedastral_workloads_held",
)  # fmt: skip

console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)


@attrs.frozen
class Shared:
    """What was measured for one fleet; rates are per second. ``took_over`` is None for a single process."""

    processes: int
    workloads: int
    ticks: float
    share_of_due: float
    missed: float
    redis_commands: float
    redis_bytes_in: float
    redis_bytes_out: float
    redis_memory: float
    """MiB."""
    requests: float
    """Requests to Prometheus."""
    memory: float
    """MiB of the largest process."""
    processor: float
    """Cores used by all processes together."""
    uneven: float
    """The largest share of the workloads, relative to an equal one."""
    took_over: float | None


@attrs.frozen
class Server:
    """A redis-server on ``port``."""

    port: int

    def ask(self, *words: str) -> str:
        """The output of redis-cli."""
        command = [find_program("redis-cli"), "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    def info(self) -> Mapping[str, float]:
        """The numbers of INFO."""
        lines = (line.partition(":") for line in self.ask("INFO").splitlines())
        return {name: float(value) for name, _, value in lines if value.replace(".", "", 1).isdigit()}

    def commands(self) -> float:
        """Commands so far, without those inside scripts, which INFO counts too."""
        calls = {}
        for line in self.ask("INFO", "commandstats").splitlines():
            name, _, rest = line.partition(":")
            calls[name.removeprefix("cmdstat_")] = float(rest.partition("calls=")[2].partition(",")[0] or 0)
        return calls.get("evalsha", 0.0) + calls.get("eval", 0.0)

    def written(self) -> Mapping[str, float]:
        """When each workload was last written, in seconds by Redis' clock."""
        words = self.ask("ZRANGE", "kedastral:index", "0", "-1", "WITHSCORES").split()
        return {name: float(score) / 1e6 for name, score in zip(words[::2], words[1::2], strict=True)}


@attrs.frozen
class Member:
    """A `kedastral run` of the fleet."""

    pid: int
    http: int

    def scrape(self) -> dict[str, float]:
        """Sums over all labels of the samples."""
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(fetch_local(self.http, "/metrics").decode()):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def memory(self) -> float:
        """Resident memory in MiB."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def processor_seconds(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Totals:
    """The counts at one moment, over all processes."""

    at: float
    ticks: float
    missed: float
    commands: float
    bytes_in: float
    bytes_out: float
    requests: float
    processor: float


@attrs.frozen
class Fleet:
    """The processes, their Redis and their stand-in for Prometheus."""

    size: int
    members: Sequence[Member]
    redis: Server
    server: int

    def count(self) -> Totals:
        """The current totals."""
        scraped, info = [one.scrape() for one in self.members], self.redis.info()
        return Totals(
            time.monotonic(),
            sum(one[TICKS] for one in scraped),
            sum(one.get(MISSED, 0.0) for one in scraped),
            self.redis.commands(),
            info["total_net_input_bytes"],
            info["total_net_output_bytes"],
            json.loads(fetch_local(self.server, "/stats"))["requests"],
            sum(one.processor_seconds() for one in self.members),
        )

    def held(self) -> list[float]:
        """How many workloads each process forecasts; a single process shares nothing and has them all."""
        return [one.scrape().get(HELD, 0.0) for one in self.members]

    def is_settled(self) -> bool:
        """Whether each workload has been written, and the shares add up."""
        return len(self.redis.written()) >= self.size and sum(self.held()) == self.size

    def kill_one(self) -> float:
        """Kill the first process; returns the seconds until a living process has written every workload."""
        killed = time.time()
        os.kill(self.members[0].pid, signal.SIGKILL)
        wait_until(lambda: min(self.redis.written().values()) > killed, "all are forecast again")
        return time.time() - killed


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Raises RuntimeError if ``what`` does not happen within `READY_WITHIN` seconds."""
    deadline = time.monotonic() + READY_WITHIN
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what}: not within {READY_WITHIN:g} s")
        time.sleep(LOOK_EVERY)


def measure(processes: int, size: int, seconds: float) -> Shared:
    """Run a fleet until it has settled, measure it for ``seconds``, and kill one of several processes."""
    with (
        tempfile.TemporaryDirectory(prefix="kedastral-cluster-") as folder,
        open_fleet(Path(folder), processes, size) as fleet,
    ):
        wait_until(fleet.is_settled, "each workload has one process")
        time.sleep(INTERVAL)  # let it catch up on what was late at the start
        before = fleet.count()
        time.sleep(seconds)
        after, held = fleet.count(), fleet.held()
        passed = after.at - before.at
        memory, info = max(one.memory() for one in fleet.members), fleet.redis.info()
        took_over = fleet.kill_one() if processes > 1 else None
    return Shared(
        processes,
        size,
        (after.ticks - before.ticks) / passed,
        (after.ticks - before.ticks) / (size * passed / INTERVAL),
        after.missed - before.missed,
        (after.commands - before.commands) / passed,
        (after.bytes_in - before.bytes_in) / passed,
        (after.bytes_out - before.bytes_out) / passed,
        info["used_memory"] / 2**20,
        (after.requests - before.requests) / passed,
        memory,
        (after.processor - before.processor) / passed,
        max(held) * processes / size,
        took_over,
    )


@contextmanager
def open_fleet(home: Path, processes: int, size: int) -> Iterator[Fleet]:
    """``processes`` processes that share ``size`` workloads, as soon as each answers over HTTP."""
    with ExitStack() as stack:
        server, redis = free_port(), Server(free_port())
        command = [sys.executable, "-m", "benchmarks.load_server", str(server)]
        url = f"http://127.0.0.1:{server}/stats"
        stack.enter_context(running(command, home / "server.log", lambda: answers(url), within=READY_WITHIN))
        command = [find_program("redis-server"), "--port", str(redis.port), "--bind", "127.0.0.1", "--save", ""]
        stack.enter_context(running(command, home / "redis.log", lambda: is_up(redis), within=READY_WITHIN))
        config = home / "fleet.yaml"
        config.write_text(write_fleet(size, server, model="baseline", window="30m"), encoding="utf-8")
        members = [stack.enter_context(open_member(home, number, config, redis)) for number in range(processes)]
        yield Fleet(size, members, redis, server)


@contextmanager
def open_member(home: Path, number: int, config: Path, redis: Server) -> Iterator[Member]:
    """One process of the fleet."""
    http, grpc = free_port(), free_port()
    command = [
        sys.executable, "-m", "kedastral", "run", "--config", str(config), "--log-level", "warn", "--storage", "redis",
        "--redis-url", f"redis://127.0.0.1:{redis.port}", "--redis-lease", f"{LEASE:g}s",
        "--http-listen", f"127.0.0.1:{http}", "--grpc-listen", f"127.0.0.1:{grpc}",
    ]  # fmt: skip
    log, ready = home / f"kedastral-{number}.log", f"http://127.0.0.1:{http}/readyz"
    with running(command, log, lambda: answers(ready), within=READY_WITHIN) as pid:
        yield Member(pid, http)


def is_up(redis: Server) -> bool:
    """Whether Redis answers."""
    try:
        return redis.ask("PING").strip() == "PONG"
    except subprocess.CalledProcessError:
        return False


def show(rows: Sequence[Shared]) -> None:
    """The table."""
    table = Table(title=f"Processes that share workloads, one tick each {INTERVAL:g} s", title_justify="left")
    table.add_column("processes / workloads")
    for one in rows:
        table.add_column(f"{one.processes} / {one.workloads:,}", justify="right")
    lines: Sequence[tuple[str, Callable[[Shared], str]]] = [
        ("ticks a second", lambda r: f"{r.ticks:.1f}"),
        ("of those due", lambda r: f"{r.share_of_due:.0%}"),
        ("beats missed", lambda r: f"{r.missed:.0f}"),
        ("scripts a second at Redis", lambda r: f"{r.redis_commands:.0f}"),
        ("KB a second to Redis / from it", lambda r: f"{r.redis_bytes_in / 1000:.0f} / {r.redis_bytes_out / 1000:.0f}"),
        ("memory of Redis, MiB", lambda r: f"{r.redis_memory:.1f}"),
        ("requests a second to Prometheus", lambda r: f"{r.requests:.1f}"),
        ("memory of a process, MiB", lambda r: f"{r.memory:.0f}"),
        ("cores, all processes together", lambda r: f"{r.processor:.2f}"),
        ("largest share, to an equal one", lambda r: f"{r.uneven:.2f}"),
        ("all forecast again after kill -9, s", lambda r: "" if r.took_over is None else f"{r.took_over:.1f}"),
    ]
    for words, write in lines:
        table.add_row(words, *(write(row) for row in rows))
    console.print(table)


def main() -> int:
    """The benchmark as a program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=list(PROCESSES), help="how many processes")
    parser.add_argument("--workloads", type=int, nargs="+", default=list(SIZES), help="how many workloads")
    parser.add_argument("--seconds", type=float, default=2 * INTERVAL, help="to look at each fleet once it has settled")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    if shutil.which("redis-server") is None:
        console.print("redis-server is not installed; on Debian: apt-get install redis-server")
        return 2
    rows = []
    for size in options.workloads:
        for processes in options.processes:
            rows.append(measure(processes, size, options.seconds))
            console.print(attrs.asdict(rows[-1]))
    show(rows)
    if options.json:
        document = {"machine": describe_machine("stand-in"), "figures": [attrs.asdict(row) for row in rows]}
        options.json.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
