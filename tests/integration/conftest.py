# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus that scrapes itself every second, for tests that need a real one."""

import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.waiting import wait_for

REQUIRED = "KEDASTRAL_REQUIRE_INTEGRATION"
READY_WITHIN = 60.0
STOPPED_WITHIN = 10.0
BIND_ATTEMPTS = 10

CONFIG = """
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: prometheus
    static_configs:
      - targets: ["127.0.0.1:{target}"]
"""


def require_program(name: str) -> str:
    """The path of program ``name``; a test skips if it is not installed, or fails if that is forbidden."""
    path = shutil.which(name)
    if path is None and os.environ.get(REQUIRED):
        pytest.fail(f"{name} is not installed, and {REQUIRED} is set")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def free_port() -> int:
    """A port of 127.0.0.1 that is reserved for this process: the kernel gives it to nobody who asks for any free port.

    A socket that stays bound and never listens reserves it. Connections are refused until a program listens there; it
    can do so repeatedly if it sets SO_REUSEADDR, as servers do.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port = int(holder.getsockname()[1])
    holder.detach()  # open until this process ends
    return port


class PrometheusServer:
    """A Prometheus with its data in ``home``. `start` and `stop` block; from a test that runs Trio use a thread."""

    def __init__(self, program: str, home: Path, target: int | None = None, *flags: str, more: str = "") -> None:
        """It scrapes port ``target``, by default itself; ``more`` are lines of its configuration."""
        self._program = program
        self._flags = flags
        self._more = more
        self._target = target
        self._home = home
        self._port = 0
        self._running: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base URL; it stays the same over `stop` and `start` unless the port was taken meanwhile."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start on the same data and return when queries are served."""
        assert self._running is None, "it runs already"
        for _ in range(BIND_ATTEMPTS):
            self._port = self._port or free_port()
            self._running = self._launch()
            try:
                wait_for(lambda: self._has_ended() or self._is_ready(), "Prometheus is ready", READY_WITHIN)
            except BaseException:
                self.stop()
                raise
            if not self._has_ended():
                return
            self._running = None
            said = self._log.read_text()
            if "address already in use" not in said:
                raise AssertionError(f"Prometheus ended:\n{said}")
            self._port = 0
        raise AssertionError(f"no free port in {BIND_ATTEMPTS} attempts")

    def stop(self) -> None:
        """Terminate it, and kill it if it hangs; the data stay. Stopping twice is fine."""
        if self._running is None:
            return
        self._running.terminate()
        try:
            self._running.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()
        self._running = None

    @property
    def _log(self) -> Path:
        return self._home / "prometheus.log"

    def _launch(self) -> "subprocess.Popen[bytes]":
        config = self._home / "prometheus.yml"
        config.write_text(CONFIG.format(target=self._target or self._port) + self._more)
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [
                    self._program,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={self._home / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    *self._flags,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._home,
            )

    def _has_ended(self) -> bool:
        return self._running is None or self._running.poll() is not None

    def _is_ready(self) -> bool:
        # Who else listens on the port would answer too, but only ours says so in its log.
        if "Server is ready to receive web requests" not in self._log.read_text():
            return False
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with direct.open(f"{self.url}/-/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


@pytest.fixture
def prometheus_server(tmp_path: Path) -> Iterator[PrometheusServer]:
    """A running Prometheus, which is stopped whatever happens."""
    home = tmp_path / "prometheus"
    home.mkdir()
    server = PrometheusServer(require_program("prometheus"), home)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def write_blocks(home: Path, samples: Mapping[str, Iterable[tuple[float, float]]]) -> None:
    """Blocks below ``home`` of the gauges ``samples``: by series, such as ``load{pod="a"}``, epoch seconds and values.

    promtool makes them, so that a Prometheus that starts there has a history.
    """
    lines = [f"{series} {float(value)!r} {at:.0f}" for series, points in samples.items() for at, value in points]
    text = home / "samples.txt"
    text.write_text("\n".join([*lines, "# EOF", ""]))
    made = [require_program("promtool"), "tsdb", "create-blocks-from", "openmetrics", text, home / "data"]
    subprocess.run(made, check=True, capture_output=True, timeout=60)


@contextmanager
def prometheus_holding(home: Path, samples: Mapping[str, Iterable[tuple[float, float]]]) -> Iterator[PrometheusServer]:
    """A Prometheus in the new folder ``home`` that holds ``samples``, as `write_blocks` takes them."""
    home.mkdir()
    write_blocks(home, samples)
    server = PrometheusServer(require_program("prometheus"), home)
    try:
        server.start()
        yield server
    finally:
        server.stop()
