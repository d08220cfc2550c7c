# SPDX-License-Identifier: Apache-2.0
"""Many workloads in one process on one core: ``make bench-scale``. A table, and JSON with ``--json FILE``.

For 10, 100 and 1,000 workloads of model auto, each with 14 days of minutes and an interval of 30 s: how long until all
are read and learnt, what a process of them needs of memory and of its core, and how quickly GetMetrics is answered over
one connection meanwhile, at 350 calls a second, while the metrics are scraped every 15 s; and once more while somebody
has the status page open. Prometheus is `benchmarks.load_server`; `kedastral run` is pinned to one core where `taskset`
is there, all else to the others.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from benchmarks.figures import describe_machine, percentile
from benchmarks.programs import answers, free_port, running

SIZES = (10, 100, 1000)
RATE = 350
"""Calls per second: about what KEDA and the HPA send for a thousand ScaledObjects."""
WINDOW_POINTS = 14 * 1440
INTERVAL = 30.0
SCRAPE_EVERY = 15.0
PAGE_EVERY = 5.0
"""Seconds between two requests of an open page: EVERY of kedastral/serving/page/page.js."""
LOOK_EVERY = 5.0
"""Seconds between two checks of the progress: writing the metrics of a thousand workloads is work too."""
BACKFILL_WITHIN = 600.0
RSS_BUDGET = 1024.0
P99_BUDGET_MS = 20.0
LIMITS = {"maxConcurrent": 8, "maxPerSecond": 50}
"""The defaults of a DataSource."""

console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)


@attrs.frozen
class Measured:
    """What was measured for a process with so many ``workloads``; seconds, MiB and milliseconds."""

    workloads: int
    first_forecasts: float
    backfilled: float
    learnt: float
    rss: float
    cpu_share: float
    ticks_expected: float
    ticks_done: float
    ticks_missed: float
    points_per_request: float
    most_at_once: int
    most_in_a_second: int
    calls: int
    p50_ms: float
    p99_ms: float
    worst_ms: float
    p99_with_page_ms: float
    page_ms: float


@attrs.frozen
class Site:
    """A running `kedastral run` and its stand-in."""

    pid: int
    http: int
    grpc: int
    server: int

    def scrape(self) -> dict[str, float]:
        """Sums over all labels of each of our metrics, and the number of its samples under ``name#``."""
        text = fetch_local(self.http, "/metrics").decode()
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
                sums[sample.name + "#"] = sums.get(sample.name + "#", 0.0) + 1
        return sums

    def stats(self) -> dict[str, int]:
        """The requests to the stand-in."""
        found: dict[str, int] = json.loads(fetch_local(self.server, "/stats"))
        return found

    def rss_mib(self) -> float:
        """The current resident memory."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cpu_seconds(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(size: int, steady: float) -> Measured:
    """Run ``size`` workloads until all models are fitted, then for ``steady`` seconds under calls."""
    with tempfile.TemporaryDirectory(prefix="kedastral-scale-") as folder, _running_site(Path(folder), size) as site:
        began = time.monotonic()
        first = _wait(lambda: site.scrape().get("kedastral_desired_replicas#", 0) >= size, began)
        backfilled = _wait(lambda: site.stats()["points"] >= size * WINDOW_POINTS, began)
        learnt = _wait(lambda: site.scrape().get("kedastral_standing_down", 0.0) == 0, began)
        time.sleep(INTERVAL)
        before, stats, cpu, at = site.scrape(), site.stats(), site.cpu_seconds(), time.monotonic()
        with _scraping(site):
            seconds = _call(site.grpc, size, round(RATE * steady))
        after, asked, elapsed = site.scrape(), site.stats(), time.monotonic() - at
        cpu_share = (site.cpu_seconds() - cpu) / elapsed
        with _scraping(site), _looking(site) as looks:
            with_page = sorted(_call(site.grpc, size, round(RATE * steady)))
        ordered = sorted(seconds)
        done = "kedastral_capacity_compute_seconds_count"
        requests = asked["requests"] - stats["requests"]
        return Measured(
            workloads=size,
            first_forecasts=first,
            backfilled=backfilled,
            learnt=learnt,
            rss=site.rss_mib(),
            cpu_share=cpu_share,
            ticks_expected=size * elapsed / INTERVAL,
            ticks_done=after[done] - before[done],
            ticks_missed=after["kedastral_ticks_missed_total"] - before["kedastral_ticks_missed_total"],
            points_per_request=(asked["points"] - stats["points"]) / max(1, requests),
            most_at_once=asked["most_at_once"],
            most_in_a_second=asked["most_in_a_second"],
            calls=len(ordered),
            p50_ms=percentile(ordered, 0.5) * 1000,
            p99_ms=percentile(ordered, 0.99) * 1000,
            worst_ms=ordered[-1] * 1000,
            p99_with_page_ms=percentile(with_page, 0.99) * 1000,
            page_ms=percentile(sorted(looks), 0.5) * 1000,
        )


@contextmanager
def _scraping(site: Site) -> Iterator[None]:
    """Scrape the metrics every `SCRAPE_EVERY` seconds, like Prometheus, while the block runs."""
    # not parsed: that would take a second on the core that the callers use
    with _repeating(SCRAPE_EVERY, lambda: fetch_local(site.http, "/metrics")):
        yield


@contextmanager
def _looking(site: Site) -> Iterator[list[float]]:
    """Keep the list and the page of one workload open while the block runs; yields the seconds that each list took."""
    took: list[float] = []

    def look() -> None:
        began = time.monotonic()
        fetch_local(site.http, "/api/workloads")
        took.append(time.monotonic() - began)
        fetch_local(site.http, f"/api/workloads/bench/{_name(0)}")

    look()
    with _repeating(PAGE_EVERY, look):
        yield took


@contextmanager
def _repeating(every: float, do: Callable[[], object]) -> Iterator[None]:
    """Call ``do`` every ``every`` seconds, in a thread, while the block runs."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(every):
            do()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def _running_site(home: Path, size: int) -> Iterator[Site]:
    server, http, grpc = free_port(), free_port(), free_port()
    (home / "fleet.yaml").write_text(write_fleet(size, server), encoding="utf-8")
    command = [
        sys.executable, "-m", "kedastral", "run", "--config", str(home / "fleet.yaml"), "--log-level", "warn",
        "--http-listen", f"127.0.0.1:{http}", "--grpc-listen", f"127.0.0.1:{grpc}",
    ]  # fmt: skip
    fallback_forecast = [*pinned("1-"), sys.executable, "-m", "benchmarks.load_server", str(server)]
    log = home / "kedastral.log"
    with (
        running(fallback_forecast, home / "server.log", lambda: answers(f"http://127.0.0.1:{server}/stats")),
        running([*pinned("0"), *command], log, lambda: answers(f"http://127.0.0.1:{http}/readyz")) as pid,
    ):
        yield Site(pid, http, grpc, server)
        said = log.read_text(errors="replace")
        if said.strip():
            console.print(f"[dim]it logged {len(said.splitlines())} lines, the first: {said.splitlines()[0][:200]}[/]")


def pinned(cores: str) -> list[str]:
    """The command prefix that pins a program to these cores, if there are at least two."""
    last = (os.cpu_count() or 1) - 1
    if shutil.which("taskset") is None or last < 1:
        return []
    return ["taskset", "-c", f"1-{last}" if cores == "1-" else cores]


def write_fleet(size: int, server: int, *, model: str = "auto", window: str = "14d") -> str:
    """The configuration of ``size`` workloads, which read from the stand-in on port ``server``."""
    documents: list[dict[str, Any]] = [
        {
            "apiVersion": "kedastral.io/v1alpha1",
            "kind": "DataSource",
            "metadata": {"name": "bench"},
            "spec": {"url": f"http://127.0.0.1:{server}", "limits": LIMITS},
        }
    ]
    documents += [
        {
            "apiVersion": "kedastral.io/v1alpha1",
            "kind": "ForecastPolicy",
            "metadata": {"name": _name(number), "namespace": "bench"},
            "spec": {"query": f'sum(load{{shop="{number}"}})', "model": model, "window": window, "targetPerPod": 50},
        }
        for number in range(size)
    ]
    return "\n---\n".join(json.dumps(document) for document in documents)  # JSON is YAML


def _name(number: int) -> str:
    return f"shop-{number:04d}"


def _call(port: int, size: int, calls: int) -> list[float]:
    """Seconds of each of ``calls`` calls, at `RATE`."""
    command = [
        *pinned("1-"),
        sys.executable,
        "-m",
        "benchmarks.grpc_client",
        "paced",
        str(port),
        str(RATE),
        str(calls),
    ]
    names = [f"bench/{_name(number)}" for number in range(size)]
    ended = subprocess.run(command, input="\n".join(names), check=True, stdout=subprocess.PIPE, text=True)
    seconds: list[float] = json.loads(ended.stdout)["seconds"]
    return seconds


def _wait(condition: Any, began: float) -> float:
    """Seconds from ``began`` until ``condition`` was true; fails after an hour."""
    while not condition():
        if time.monotonic() - began > 3600:
            raise RuntimeError("it does not come to an end")
        time.sleep(LOOK_EVERY)
    return time.monotonic() - began


def fetch_local(port: int, path: str) -> bytes:
    """The body of an HTTP response from this machine."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        body: bytes = answer.read()
    return body


def show(rows: list[Measured]) -> None:
    """The table, with the growth per workload, and the budgets."""
    table = Table(title="Many workloads in one process on one core", title_justify="left")
    table.add_column("")
    for row in rows:
        table.add_column(f"{row.workloads:,}", justify="right")
    table.add_column("budget at 1,000", justify="right")
    lines = [
        ("first forecast of all, s", lambda r: f"{r.first_forecasts:.0f}", ""),
        ("history of all read, s", lambda r: f"{r.backfilled:.0f}", f"{BACKFILL_WITHIN:.0f}"),
        ("all learnt, s", lambda r: f"{r.learnt:.0f}", ""),
        ("memory, MiB", lambda r: f"{r.rss:.0f}", f"{RSS_BUDGET:.0f}"),
        ("share of the core", lambda r: f"{r.cpu_share:.0%}", "100%"),
        ("ticks, of those due", lambda r: f"{r.ticks_done:.0f} of {r.ticks_expected:.0f}", "all"),
        ("beats missed", lambda r: f"{r.ticks_missed:.0f}", "0"),
        ("points per request", lambda r: f"{r.points_per_request:.1f}", ""),
        ("requests at once / in a second", lambda r: f"{r.most_at_once} / {r.most_in_a_second}", "8 / 50"),
        ("GetMetrics p50, ms", lambda r: f"{r.p50_ms:.1f}", ""),
        ("GetMetrics p99, ms", lambda r: f"{r.p99_ms:.1f}", f"{P99_BUDGET_MS:.0f}"),
        ("GetMetrics worst, ms", lambda r: f"{r.worst_ms:.1f}", ""),
        ("GetMetrics p99 with the page open, ms", lambda r: f"{r.p99_with_page_ms:.1f}", f"{P99_BUDGET_MS:.0f}"),
        ("the page's list, ms", lambda r: f"{r.page_ms:.0f}", ""),
    ]
    for words, write, budget in lines:
        table.add_row(words, *(write(row) for row in rows), budget)
    console.print(table)
    if len(rows) > 1:
        first, last = rows[0], rows[-1]
        more = last.workloads - first.workloads
        kib, cpu = (last.rss - first.rss) * 1024 / more, (last.cpu_share - first.cpu_share) / more
        console.print(
            f"Each workload more: {kib:.0f} KiB of memory, {cpu * INTERVAL * 1000:.1f} ms of the core a tick."
        )


def main() -> int:
    """The benchmark as a program; exit code 1 if a budget at 1,000 workloads is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="numbers of workloads")
    parser.add_argument("--seconds", type=float, default=60.0, help="of steady calls")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    rows = []
    for size in options.sizes:
        console.print(f"{size:,} workloads …")
        rows.append(measure(size, options.seconds))
    show(rows)
    if options.json:
        document = {"machine": describe_machine("stand-in"), "figures": [attrs.asdict(row) for row in rows]}
        options.json.write_text(json.dumps(document, indent=2), encoding="utf-8")
    last = rows[-1]
    met = (
        last.rss < RSS_BUDGET
        and max(last.p99_ms, last.p99_with_page_ms) < P99_BUDGET_MS
        and last.backfilled < BACKFILL_WITHIN
    )
    return 0 if met and not last.ticks_missed else 1


if __name__ == "__main__":
    sys.exit(main())
