# SPDX-License-Identifier: Apache-2.0
"""What one tick of ``auto`` costs, on one core: ``python -m benchmarks.tick_cost``. JSON with ``--json``.

Outliers, forecast and plan from a history in memory, as `kedastral run` makes them at every tick; no Prometheus, no
network. Time is the thread's own CPU time, of telling outliers also alone: of the history as it is, and with 1 % of its
points a thousand times too large. Held is what a workload keeps between two ticks: history, model and plan. The peak
is what one tick takes beyond that while it runs. Both as tracemalloc counts them.
"""

import argparse
import gc
import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
from rich.console import Console
from rich.table import Table

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.data_quality.outliers import ScreenedHistory, screen
from kedastral.core.planning.calibration import warm_up
from kedastral.core.planning.planner import Workload, plan_step
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.series import Floats, Series
from kedastral.models.auto import AutoModel

NOW = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
STEPS, INTERVAL = 30, 30.0
"""The number of forecast steps, and seconds between two ticks: the defaults."""
SETTLING, TICKS = 120, 720
"""Ticks of the hour in which the ridges are refitted one by one, and of the timed six hours, in which each is refitted
once more."""
WEIGHED = 20
"""How many ticks are measured for memory, which is slow."""
SCREENINGS, FAULT = 50, 1000.0
"""How often outlier detection is timed on its own, and the factor of planted outliers."""
TICK_MS, SCREEN_MS, HELD_MB, PEAK_MB = 10.0, 1.0, 0.7, 8.0
"""The budgets at 14 days of minutes."""
MB = 1e6
CASES = ((60.0, 7), (60.0, 14), (60.0, 28), (60.0, 56), (10.0, 14), (1.0, 14))
"""Step in seconds, and days of history."""


@attrs.frozen
class Cost:
    """For one kind of history: milliseconds of the ``first`` fit, of ticks and of outliers; megabytes held and peak.

    ``screen`` are the 95th percentiles of outlier detection alone, for a history without any and for one with 1 %.
    """

    step: float
    days: int
    first_ms: float
    p50_ms: float
    p95_ms: float
    screen_ms: float
    screen_faulty_ms: float
    held_mb: float
    peak_mb: float


class Life:
    """One workload that ticks at the default interval on its own load."""

    def __init__(self, step: float, days: int) -> None:
        self.step, self.points, self.at = step, round(days * 86400 / step), 0
        policy = PlanPolicy(100.0, bounds=ReplicaBounds(2, 50))
        self.workload = Workload("w", "m", STEPS, 300.0, policy, goal=ServiceLevelGoal(), interval=INTERVAL)
        self.model, self.snapshot = AutoModel(), None  # type: AutoModel, Snapshot | None
        self.history = self._read()

    def learn(self) -> None:
        """The first fit, and the first tick."""
        steered = self.workload.service_level
        assert steered is not None
        window, lead_steps = steered.window(self.step), steered.lead_steps(self.step)
        learnt = warm_up(self.model, self.history, STEPS, window, lead_steps=lead_steps, made_at=self.now)
        forecast = self.model.recall(self.history, self.now, STEPS)
        self.snapshot = plan_step(self.workload, self.history, forecast, None, learnt)

    def read(self) -> None:
        """Read the history one interval later."""
        self.at += 1
        self.history = self._read()

    def tick(self) -> None:
        """Remove outliers, forecast and plan."""
        history = screen(self.history).history
        forecast = self.model.recall(history, self.now, STEPS)
        self.snapshot = plan_step(self.workload, history, forecast, self.snapshot)

    @property
    def now(self) -> datetime:
        """The time of the tick."""
        return NOW + timedelta(seconds=self.at * INTERVAL)

    def _read(self) -> Series:
        end = self.now - (self.now - NOW) % timedelta(seconds=self.step)  # steps lie on a grid; ticks may be in between
        start = end - timedelta(seconds=(self.points - 1) * self.step)
        return Series(start, self.step, load_at(start.timestamp() + np.arange(self.points) * self.step))


def load_at(seconds: Floats) -> Floats:
    """A daily and a weekly cycle, an hourly job, and deterministic noise."""
    day, week = 2 * np.pi * seconds / 86400, 2 * np.pi * seconds / 604800
    noise = np.sin(seconds * 12.9898) * 43758.5453
    jobs = np.where(np.mod(seconds, 3600) < 300, 200.0, 0.0)
    load: Floats = (1000 - 500 * np.cos(day) - 100 * np.cos(week) + jobs) * (0.95 + 0.1 * (noise - np.floor(noise)))
    return load


def measure(step: float, days: int, ticks: int = TICKS, settling: int = SETTLING) -> Cost:
    """Run the first fit and ``ticks`` ticks twice: once for time, once for memory."""
    life = Life(step, days)
    first = _timed(life.learn)
    spent = []
    for _ in range(settling + ticks):
        life.read()
        spent.append(_timed(life.tick))
    p50, p95 = np.percentile(spent[settling:], [50, 95])
    held, peak = _bytes_of(step, days, min(ticks, WEIGHED))
    screened = [screening_ms(life.history, faulty=faulty) for faulty in (False, True)]
    return Cost(step, days, first * 1e3, float(p50) * 1e3, float(p95) * 1e3, *screened, held / MB, peak / MB)


def screening_ms(history: Series, *, faulty: bool, times: int = SCREENINGS) -> float:
    """The 95th percentile of detecting the outliers of ``history``, with 1 % of its points planted if ``faulty``."""
    values = history.values.copy()
    if faulty:
        values[::100] *= FAULT
    seen = attrs.evolve(history, values=values)
    return float(np.percentile([_timed(lambda: screen(seen)) for _ in range(times)], 95)) * 1e3


def _bytes_of(step: float, days: int, ticks: int) -> tuple[int, int]:
    Life(3600.0, 2).learn()  # what is loaded once does not belong to a workload
    gc.collect()
    tracemalloc.start()
    try:
        life = Life(step, days)
        life.learn()
        peak = 0
        for _ in range(ticks):
            life.read()
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            life.tick()
            peak = max(peak, tracemalloc.get_traced_memory()[1] - before)
        gc.collect()
        return tracemalloc.get_traced_memory()[0], peak
    finally:
        tracemalloc.stop()


def _timed(work: Callable[[], ScreenedHistory | None]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def table_of(costs: list[Cost]) -> Table:
    """One line for each kind of history."""
    budget = f"{TICK_MS:g} ms ({SCREEN_MS:g} of them for outliers), {HELD_MB:g} MB, {PEAK_MB:g} MB"
    table = Table(title=f"one tick of auto; budget at 14 d of minutes: {budget}")
    table.add_column("history")
    for name in (
        "first learning ms",
        "tick p50 ms",
        "p95 ms",
        "outliers p95 ms",
        "with 1 %",
        "held MB",
        "more in a tick MB",
    ):
        table.add_column(name, justify="right")
    for one in costs:
        figures = (one.first_ms, one.p50_ms, one.p95_ms, one.screen_ms, one.screen_faulty_ms, one.held_mb, one.peak_mb)
        table.add_row(f"{one.days} d of {one.step:g} s", *(f"{figure:.2f}" for figure in figures))
    return table


def main() -> int:
    """Exit code 0, or 1 if 14 days of minutes exceed a budget."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tick_cost", description=__doc__)
    parser.add_argument("--json", action="store_true", help="figures on standard output instead of a table")
    parser.add_argument("--minutes-only", action="store_true", help="leave out steps finer than a minute")
    chosen = parser.parse_args()
    costs = [measure(step, days) for step, days in CASES if step >= 60 or not chosen.minutes_only]
    if chosen.json:
        print(json.dumps([attrs.asdict(cost) for cost in costs], indent=2, allow_nan=False))
    else:
        Console(width=None if sys.stdout.isatty() else 110).print(table_of(costs))
    [usual] = [cost for cost in costs if (cost.step, cost.days) == (60.0, 14)]
    screening = max(usual.screen_ms, usual.screen_faulty_ms)
    return int(usual.p95_ms > TICK_MS or screening > SCREEN_MS or usual.held_mb > HELD_MB or usual.peak_mb > PEAK_MB)


if __name__ == "__main__":
    sys.exit(main())
