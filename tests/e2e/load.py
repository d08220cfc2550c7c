# SPDX-License-Identifier: Apache-2.0
"""The load: a counter whose rate passes through given points, the same every hour or day, and its past."""

import bisect
import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import attrs

HOUR, DAY = 3600.0, 86400.0
PAST_DAYS = 4
PAST_STEP = 20
"""Seconds between two samples of the past; queries take a rate over a minute."""
SCRAPE = 2
SETUP = 20.0
"""Seconds: the length of the past."""
LABELS = 'instance="load",job="load"'
Point = tuple[float, float]


@attrs.frozen
class Shape:
    """Load by second of a ``period``: straight lines between ``points`` (second, load), level before and after them."""

    points: Sequence[Point]
    period: float = HOUR
    _corners: Sequence[Point] = attrs.field(init=False, repr=False)
    _areas: Sequence[float] = attrs.field(init=False, repr=False)
    """Requests in a period up to each corner."""

    @_corners.default
    def _close(self) -> Sequence[Point]:
        return [(0.0, self.points[0][1]), *self.points, (self.period, self.points[-1][1])]

    @_areas.default
    def _add_up(self) -> Sequence[float]:
        lines = itertools.pairwise(self._corners)
        return [0.0, *itertools.accumulate((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in lines)]

    def load(self, second: float) -> float:
        """The load at ``second``, which may be in any period, even an earlier one."""
        at = self._within(second)[1]
        (x0, y0), (x1, y1) = self._corners[self._line(at) :][:2]
        return y0 + (y1 - y0) * (at - x0) / (x1 - x0)

    def total(self, second: float) -> float:
        """All requests between second 0 and ``second``; negative before."""
        periods, at = self._within(second)
        line = self._line(at)
        begin, y0 = self._corners[line]
        return periods * self._areas[-1] + self._areas[line] + (at - begin) * (y0 + self.load(at)) / 2

    def _within(self, second: float) -> Point:
        """The complete periods, and the second within the current one."""
        periods = second // self.period
        return periods, second - periods * self.period

    def _line(self, at: float) -> int:
        """The last corner that is not after ``at``, of those that a line begins with."""
        return min(bisect.bisect_right(self._corners, at, key=lambda corner: corner[0]), len(self._corners) - 1) - 1


def rush(low: float, high: float, begin: float, end: float, ramp: float = 10.0) -> Shape:
    """``low``, but ``high`` from second ``begin`` until ``end``, each reached within ``ramp`` seconds."""
    return Shape([(begin, low), (begin + ramp, high), (end, high), (end + ramp, low)])


class Load:
    """``http_requests_total{app=...}`` of several apps over HTTP; second 0 of their shapes comes after `SETUP`.

    Until then Prometheus imports the past and starts, so that no scrape is missing between the past and its own.
    """

    def __init__(self, apps: Mapping[str, Shape]) -> None:
        self.began = time.time() + SETUP
        self._apps = dict(apps)
        self._replaced: dict[str, list[tuple[float, Shape]]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _answer_with(self.exposition))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def target(self) -> str:
        """The address for Prometheus."""
        host, port = self._server.server_address[:2]
        return f"{host!s}:{port}"

    @property
    def second(self) -> float:
        """Seconds since the start; negative before it."""
        return time.time() - self.began

    def at(self, app: str, second: float) -> float:
        """The load of ``app`` at ``second``, as far as it is known now."""
        return self._shape(app, second).load(second)

    def replace(self, app: str, load: float) -> None:
        """Change the load of ``app`` from now on, which nobody can foresee."""
        self._replaced.setdefault(app, []).append((self.second, Shape([(0.0, load)])))

    def past(self, app: str) -> Iterator[str]:
        """The days before the start in the OpenMetrics format."""
        for at in range(int(self.began) - PAST_DAYS * 86400, int(self.began), PAST_STEP):
            yield f'http_requests_total{{app="{app}",{LABELS}}} {self._count(app, at - self.began):.3f} {at}\n'

    def exposition(self) -> str:
        """All counters, now."""
        now = self.second
        lines = (f'http_requests_total{{app="{app}"}} {self._count(app, now):.3f}\n' for app in self._apps)
        return "# TYPE http_requests_total counter\n" + "".join(lines)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _shape(self, app: str, second: float) -> Shape:
        changes = self._replaced.get(app, [])
        at = bisect.bisect_right(changes, second, key=lambda change: change[0])
        return changes[at - 1][1] if at else self._apps[app]

    def _count(self, app: str, second: float) -> float:
        count, shape, since = self._apps[app].total(-PAST_DAYS * 86400.0) * -1, self._apps[app], 0.0
        for at, then in self._replaced.get(app, []):
            if at > second:
                break
            count += shape.total(at) - shape.total(since)
            shape, since = then, at
        return count + shape.total(second) - shape.total(since)


def _answer_with(exposition: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exposition().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            with suppress(OSError):  # a killed Prometheus waits for no answer
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    return Handler


def write_past(load: Load, apps: Sequence[str], data: Path) -> None:
    """Make Prometheus' blocks of the days before ``load`` began."""
    text = data.with_suffix(".om")
    with text.open("w") as file:
        file.write("# TYPE http_requests counter\n")
        for app in apps:
            file.writelines(load.past(app))
        file.write("# EOF\n")
    words = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(data)]
    subprocess.run(words, check=True, capture_output=True)
    text.unlink()


def prometheus_config(target: str) -> str:
    """Scrapes ``target`` under the labels of the past."""
    return f"""\
global:
  scrape_interval: {SCRAPE}s
  scrape_timeout: {SCRAPE}s
scrape_configs:
  - job_name: load
    static_configs:
      - targets: ["{target}"]
        labels:
          instance: load
"""
