# SPDX-License-Identifier: Apache-2.0
"""How long a backtest takes on synthetic load: ``python -m benchmarks.backtest_cost``.

Each policy is replayed at one setting of its knob, with `baseline`, in one process, including verdict, accuracy and
worst minutes. First comes one workload of 14 days, with the default rules (the last 30 % is replayed) and replayed
whole; then how time grows with days and workloads. CPU seconds are shown beside wall-clock seconds, which other
processes affect. ``--sweep``, which takes minutes, adds what the command does by default: `auto` and a service level,
each policy at all its settings, in one process and in one per core.
"""

import argparse
import resource
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from time import perf_counter, process_time

import attrs
import numpy as np

from benchmarks.figures import describe_machine
from kedastral.backtest.comparison import PlannedComparison, compare_policies, policies_to_compare
from kedastral.backtest.processes import compare_in_processes, usable_cores
from kedastral.backtest.results import evaluate
from kedastral.backtest.workloads import ReplaySettings, Scenario
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.series import Series
from kedastral.models import MODELS
from kedastral.simulation.policies import CachedModel, ForecastSchedule
from kedastral.simulation.trial import Scaling, scale_trace

DAY = 1440
BUDGET = 30.0
"""Seconds for one workload of 14 days in steps of a minute, each policy at one setting."""
HEADROOM, LEVEL = 1.2, 0.99


@attrs.frozen
class Case:
    """``workloads`` of ``days`` each; the share ``evaluated`` of them is replayed."""

    days: int
    workloads: int = 1
    evaluated: float = 1.0

    @property
    def replayed(self) -> float:
        """Replayed days, over all workloads."""
        return self.days * self.workloads * self.evaluated


CASES = (Case(14, evaluated=0.3), Case(14), Case(7), Case(3), Case(3, 2), Case(3, 4))


def made_up_load(days: int, seed: int) -> Series:
    """A daily wave with noise and a burst a day."""
    draw, minutes = np.random.default_rng(seed), np.arange(days * DAY)
    wave = 1000 + 700 * np.sin(2 * np.pi * minutes / DAY) + draw.normal(0, 60, len(minutes))
    bursts = np.where(minutes % DAY // 10 == draw.integers(0, DAY // 10), 1.8, 1.0)
    return Series(datetime(2026, 1, 5, tzinfo=UTC), 60.0, np.maximum(0.0, wave * bursts))


def make_scenario(load: Series, evaluated: float) -> Scenario:
    """The scenario that the command makes with `baseline`."""
    settings = ReplaySettings(PlanPolicy(headroom=HEADROOM, bounds=ReplicaBounds(1, 400)))
    trial = scale_trace(load, Scaling(evaluated=evaluated))
    return Scenario("made-up", trial, CachedModel(MODELS["baseline"].make()), settings)


def make_steered_scenario(load: Series) -> Scenario:
    """The scenario that the command makes by default, with `auto`."""
    plan = PlanPolicy(prewarm_steps=2, bounds=ReplicaBounds(1, 400))
    schedule = ForecastSchedule(window=14 * 86400.0)
    settings = ReplaySettings(plan, calibrated=True, service_level=LEVEL, schedule=schedule)
    return Scenario("made-up", scale_trace(load), CachedModel(MODELS["auto"].make()), settings)


@attrs.frozen
class Spent:
    """Wall-clock seconds and CPU seconds."""

    wall: float
    cpu: float


def time_case(case: Case) -> Spent:
    """The time of all policies, including the oracle."""
    scenarios = [make_scenario(made_up_load(case.days, seed), case.evaluated) for seed in range(case.workloads)]
    wall, cpu = perf_counter(), process_time()
    evaluate([compare_policies(scenario, policies_to_compare(HEADROOM, swept=False)) for scenario in scenarios])
    return Spent(perf_counter() - wall, process_time() - cpu)


def time_sweep(days: int, jobs: int) -> Spent:
    """The time of the replays of one workload in ``jobs`` processes."""
    scenario = make_steered_scenario(made_up_load(days, 0))
    planned = PlannedComparison(scenario, policies_to_compare(HEADROOM, LEVEL))
    wall, cpu = perf_counter(), _cpu_of_all()
    compare_in_processes([planned], jobs)
    return Spent(perf_counter() - wall, _cpu_of_all() - cpu)


def _cpu_of_all() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def write_table(times: Sequence[tuple[Case, Spent]]) -> str:
    """A Markdown table; its last column is constant if the cost is linear in days and workloads."""
    head = ("workloads", "days each", "replayed", "seconds", "CPU seconds", "CPU seconds a day replayed")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for case, spent in times:
        share, each = f"{case.evaluated * 100:g} %", spent.cpu / case.replayed
        lines.append(f"| {case.workloads} | {case.days} | {share} | {spent.wall:.1f} | {spent.cpu:.1f} | {each:.2f} |")
    return "\n".join(lines) + "\n"


def write_sweeps(times: Sequence[tuple[int, Spent]]) -> str:
    """A Markdown table with a row for each number of processes."""
    lines = ["| processes | seconds | CPU seconds |", "|---|---|---|"]
    lines += [f"| {jobs} | {spent.wall:.0f} | {spent.cpu:.0f} |" for jobs, spent in times]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep", action="store_true", help="the whole command by default, too")
    options = parser.parse_args()
    time_case(Case(2))  # warm up, so that the first row does not include imports
    times = [(case, time_case(case)) for case in CASES]
    machine = describe_machine("")
    print(f"load average {machine['load_average_1m']} on {machine['cores']} cores, Python {machine['python']}\n")
    print(write_table(times), end="")
    first = times[0][1].wall
    print(f"\nbudget: {BUDGET:g} s for the first row: {'met' if first < BUDGET else 'not met'}")
    if options.sweep:
        sweeps = [(jobs, time_sweep(14, jobs)) for jobs in sorted({1, usable_cores()})]
        print(f"\nauto, 14 days, each policy at all its settings\n\n{write_sweeps(sweeps)}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
