# SPDX-License-Identifier: Apache-2.0
"""The programs that a benchmark needs: a Prometheus with an hour of load, and `kedastral run`."""

import math
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

READY_WITHIN = 30.0
QUERY = "sum(bench_load)"
WORKLOAD = "bench"
SERIES = 4


class MissingProgramError(Exception):
    """A program that the benchmark needs is not installed."""


def find_program(name: str) -> str:
    """The path of the program ``name``; raises MissingProgramError."""
    path = shutil.which(name)
    if path is None:
        raise MissingProgramError(f"{name} is not installed; on Debian: apt-get install prometheus")
    return path


def prometheus_version(program: str) -> str:
    """The version, such as ``2.42.0``."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d[\w.]*)", said.stdout + said.stderr)
    return found[1] if found else "unknown"


@contextmanager
def running_prometheus(home: Path) -> Iterator[str]:
    """The base URL of a Prometheus that holds `SERIES` series of load, from an hour ago until ten minutes from now."""
    program, tool = find_program("prometheus"), find_program("promtool")
    _write_load(home / "load.txt", time.time())
    data, config = home / "data", home / "prometheus.yml"
    command = [tool, "tsdb", "create-blocks-from", "openmetrics", str(home / "load.txt"), str(data)]
    subprocess.run(command, check=True, capture_output=True)
    config.write_text("global: {scrape_interval: 1m}\n", encoding="utf-8")
    port = free_port()
    command = [
        program, f"--config.file={config}", f"--storage.tsdb.path={data}", f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with running(command, home / "prometheus.log", lambda: answers(f"http://127.0.0.1:{port}/-/ready")):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def running_kedastral(home: Path, prometheus: str) -> Iterator[tuple[int, int]]:
    """The HTTP and gRPC ports of a `kedastral run` that has its first forecast."""
    http, grpc = free_port(), free_port()
    command = [
        sys.executable, "-m", "kedastral", "run",
        "--http-listen", f"127.0.0.1:{http}", "--grpc-listen", f"127.0.0.1:{grpc}",
        "--workload", WORKLOAD, "--prom-url", prometheus, "--prom-query", QUERY,
    ]  # fmt: skip
    url = f"http://127.0.0.1:{http}/forecast/current?workload={WORKLOAD}"
    with running(command, home / "kedastral.log", lambda: answers(url)):
        yield http, grpc


def free_port() -> int:
    """A port of 127.0.0.1 that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: list[str], log: Path, is_ready: Callable[[], bool], *, within: float = READY_WITHIN
) -> Iterator[int]:
    """Run ``command`` with its output in ``log``; yields its process id once it is ready, and stops it at the end.

    It must be ready within ``within`` seconds.
    """
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + within
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} did not start:\n{log.read_text(errors='replace')}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def answers(url: str) -> bool:
    """Whether ``url`` answers."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _write_load(file: Path, now: float) -> None:
    lines = ["# TYPE bench_load gauge"]
    for series in range(SERIES):
        for at in range(int(now) - 3600, int(now) + 600, 15):
            value = 500 + 300 * math.sin(at / 1800 + series)
            lines.append(f'bench_load{{pod="{series}"}} {value:.3f} {at}')
    file.write_text("\n".join([*lines, "# EOF", ""]), encoding="utf-8")
