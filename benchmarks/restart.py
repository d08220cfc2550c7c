# SPDX-License-Identifier: Apache-2.0
"""A process that is killed, and how long the next one takes: ``make bench-restart``. A table, and JSON by ``--json``.

A fleet of model auto, each workload with 14 days of minutes and an interval of 30 s, runs with ``--state-dir`` until
all have learnt and all is saved. Then it is killed with SIGKILL and started again, once with what it kept and once
without, in one run. Steering factor and budget of every workload are compared before and after. Prometheus is
`benchmarks.load_server`; with ``taskset`` `kedastral run` has one core to itself.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from benchmarks.figures import describe_machine
from benchmarks.programs import answers, free_port, running
from benchmarks.scale import fetch_local, pinned, write_fleet

LOOK_EVERY = 2.0
"""Seconds between two polls; times are only known to this precision."""
GIVE_UP_AFTER = 3600.0
READY_WITHIN = 300.0
"""Seconds that a start may take; generous, because this is what is measured, also on a busy machine."""
STEERED = ("kedastral_steering_factor", "kedastral_budget_spent_ratio")

console = Console(stderr=True, width=None if sys.stderr.isatty() else 120)

Samples = dict[str, dict[str, float]]
"""Values by metric and workload; a metric without a workload label is under the empty name."""


@attrs.frozen
class Restarted:
    """What one start took: seconds since the start of the process, and the requests to Prometheus until the end."""

    answered: float
    """Until KEDA is told the number of a plan, for every workload."""
    planned: float
    """Until every workload has a new plan from its model."""
    requests: int
    points: int
    memory: float
    """MiB, at the end."""
    changed: int | None = None
    """Workloads whose steering factor or budget has changed; None if nothing was to be kept."""


@attrs.frozen
class Process:
    """A `kedastral run` started at ``began`` (monotonic seconds), and its ports."""

    pid: int
    http: int
    began: float

    def scrape(self) -> Samples:
        """The metrics."""
        found: Samples = {}
        for family in text_string_to_metric_families(fetch_local(self.http, "/metrics").decode()):
            for sample in family.samples:
                workload = sample.labels.get("workload", "")
                of_metric = found.setdefault(sample.name, {})
                of_metric[workload] = of_metric.get(workload, 0.0) + sample.value
        return found

    def wait(self, condition: Any) -> float:
        """Seconds from the start until ``condition`` of the metrics was true."""
        while True:
            seen = self.scrape()
            passed = time.monotonic() - self.began
            if condition(seen):
                return passed
            if passed > GIVE_UP_AFTER:
                raise RuntimeError("it does not come to an end")
            time.sleep(LOOK_EVERY)

    def follows_models(self, seen: Samples, size: int) -> bool:
        """Whether all of ``size`` workloads have a plan made since the start by their models."""
        ages, stand_ins = seen.get("kedastral_forecast_age_seconds", {}), seen.get("kedastral_standing_down", {})
        passed = time.monotonic() - self.began
        made = sum(1 for age in ages.values() if age < passed)
        return made >= size and len(stand_ins) >= size and not any(stand_ins.values())


@contextmanager
def started(home: Path, size: int, server: int, state: Path | None) -> Iterator[Process]:
    """`kedastral run`, as soon as HTTP answers."""
    http, grpc = free_port(), free_port()
    (home / "fleet.yaml").write_text(write_fleet(size, server), encoding="utf-8")
    command = [
        *pinned("0"), sys.executable, "-m", "kedastral", "run", "--config", str(home / "fleet.yaml"),
        "--log-level", "warn", "--on-stale", "ride-forecast",
        "--http-listen", f"127.0.0.1:{http}", "--grpc-listen", f"127.0.0.1:{grpc}",
    ]  # fmt: skip
    command += [] if state is None else ["--state-dir", str(state)]
    began = time.monotonic()
    with running(
        command, home / "kedastral.log", lambda: answers(f"http://127.0.0.1:{http}/readyz"), within=READY_WITHIN
    ) as pid:
        yield Process(pid, http, began)


def prepare(home: Path, size: int, server: int, state: Path) -> Samples:
    """Run a fleet until all models are fitted and all state is saved, and kill it; returns its last metrics."""
    with started(home, size, server, state) as process:
        process.wait(lambda seen: process.follows_models(seen, size))
        console.print(f"all learnt after {time.monotonic() - process.began:.0f} s")
        process.wait(lambda _: len(list(state.glob("*.history"))) >= size)
        time.sleep(60.0)  # two intervals, so that what was learnt last is also saved
        seen = process.scrape()
        os.kill(process.pid, signal.SIGKILL)
        return seen


def restart(home: Path, size: int, server: int, state: Path | None, before: Samples | None) -> Restarted:
    """Start the fleet again, and kill it once all plans follow their models."""
    asked = stats(server)
    with started(home, size, server, state) as process:
        answered = process.wait(lambda seen: len(seen.get("kedastral_desired_replicas", {})) >= size)
        first = process.scrape()
        planned = process.wait(lambda seen: process.follows_models(seen, size))
        now = stats(server)
        memory = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        os.kill(process.pid, signal.SIGKILL)
    changed = None if before is None else count_changed(before, first)
    return Restarted(
        answered, planned, now["requests"] - asked["requests"], now["points"] - asked["points"], memory, changed
    )


def count_changed(before: Samples, now: Samples) -> int:
    """Workloads whose steering differs by more than a few minutes' change: ticks go on between scrape and kill."""
    return sum(
        1
        for workload in before[STEERED[0]]
        if any(abs(now[name].get(workload, 0.0) - before[name][workload]) > 1e-3 for name in STEERED)
    )


def stats(server: int) -> dict[str, int]:
    """The requests to the stand-in so far."""
    found: dict[str, int] = json.loads(fetch_local(server, "/stats"))
    return found


def sizes_of(state: Path, ending: str) -> float:
    """The mean size of the files, in KiB."""
    sizes = [path.stat().st_size for path in state.glob(f"*.{ending}")]
    return sum(sizes) / max(len(sizes), 1) / 1024


def show(size: int, state: Path, kept: Restarted, anew: Restarted) -> None:
    """The table."""
    title = f"{size:,} workloads after kill -9, from the start of the next process"
    table = Table(title=title, title_justify="left")
    for head in ("", "with --state-dir", "without"):
        table.add_column(head, justify="right" if head else "left")
    same = f"{size - (kept.changed or 0):,} of {size:,}"
    for words, write in (
        ("KEDA is told what a plan says, of all, s", lambda r: f"{r.answered:.0f}"),
        ("all planned anew by their models, s", lambda r: f"{r.planned:.0f}"),
        ("requests to Prometheus until then", lambda r: f"{r.requests:,}"),
        ("points read until then", lambda r: f"{r.points:,}"),
        ("memory then, MiB", lambda r: f"{r.memory:.0f}"),
        ("steering factor and budget as before", lambda r: same if r is kept else "none"),
    ):
        table.add_row(words, write(kept), write(anew))
    console.print(table)
    console.print(f"A state takes {sizes_of(state, 'state'):.1f} KiB, a history {sizes_of(state, 'history'):.0f} KiB.")


def main() -> int:
    """The benchmark as a program; exit code 1 if any of the steering was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workloads", type=int, default=1000, help="how many")
    parser.add_argument("--json", type=Path, help="file for all figures")
    options = parser.parse_args()
    size, port = options.workloads, free_port()
    server = [*pinned("1-"), sys.executable, "-m", "benchmarks.load_server", str(port)]
    with tempfile.TemporaryDirectory(prefix="kedastral-restart-") as folder:
        home, state = Path(folder), Path(folder) / "state"
        with running(
            server, home / "server.log", lambda: answers(f"http://127.0.0.1:{port}/stats"), within=READY_WITHIN
        ):
            before = prepare(home, size, port, state)
            kept = restart(home, size, port, state, before)
            anew = restart(home, size, port, None, None)
        show(size, state, kept, anew)
    if options.json:
        figures = {"workloads": size, "kept": attrs.asdict(kept), "anew": attrs.asdict(anew)}
        document = {"machine": describe_machine("stand-in"), "figures": figures}
        options.json.write_text(json.dumps(document, indent=2), encoding="utf-8")
    return 1 if kept.changed else 0


if __name__ == "__main__":
    sys.exit(main())
