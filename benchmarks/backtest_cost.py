# SPDX-License-Identifier: Apache-2.0
"""What a backtest costs in time: ``python -m benchmarks.backtest_cost``. Made-up minutes, one core, `baseline`.

All policies are replayed at one setting of their knob each; verdict, accuracy and worst minutes are found.
First one workload of 14 days, by the default rules (the last 30 % is replayed) and replayed whole; then how time grows
with days and with workloads. CPU seconds are told beside those of the clock: the latter count the neighbours too.
"""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from time import perf_counter, process_time

import attrs
import numpy as np

from benchmarks.figures import describe_machine
from kedastral.backtest.comparison import compare_policies, policies_to_compare
from kedastral.backtest.results import evaluate
from kedastral.backtest.workloads import ReplaySettings, Scenario
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.series import Series
from kedastral.models import MODELS
from kedastral.simulation.policies import CachedModel
from kedastral.simulation.trial import Scaling, scale_trace

DAY = 1440
BUDGET = 30.0
"""Seconds for 14 days of minutes of one workload, all policies at one knob each."""
HEADROOM = 1.2


@attrs.frozen
class Case:
    """``workloads`` of ``days`` each, of which the share ``evaluated`` is replayed."""

    days: int
    workloads: int = 1
    evaluated: float = 1.0

    @property
    def replayed(self) -> float:
        """Days that are replayed, over all workloads."""
        return self.days * self.workloads * self.evaluated


CASES = (Case(14, evaluated=0.3), Case(14), Case(7), Case(3), Case(3, 2), Case(3, 4))


def made_up_load(days: int, seed: int) -> Series:
    """A daily wave with noise and a burst a day."""
    draw, minutes = np.random.default_rng(seed), np.arange(days * DAY)
    wave = 1000 + 700 * np.sin(2 * np.pi * minutes / DAY) + draw.normal(0, 60, len(minutes))
    bursts = np.where(minutes % DAY // 10 == draw.integers(0, DAY // 10), 1.8, 1.0)
    return Series(datetime(2026, 1, 5, tzinfo=UTC), 60.0, np.maximum(0.0, wave * bursts))


def make_scenario(load: Series, evaluated: float) -> Scenario:
    """As the command makes it, with its defaults."""
    settings = ReplaySettings(PlanPolicy(headroom=HEADROOM, bounds=ReplicaBounds(1, 400)))
    trial = scale_trace(load, Scaling(evaluated=evaluated))
    return Scenario("made-up", trial, CachedModel(MODELS["baseline"].make()), settings)


@attrs.frozen
class Spent:
    """Seconds of the clock and of the processor."""

    wall: float
    cpu: float


def time_case(case: Case) -> Spent:
    """What all policies take, the oracle included."""
    scenarios = [make_scenario(made_up_load(case.days, seed), case.evaluated) for seed in range(case.workloads)]
    wall, cpu = perf_counter(), process_time()
    evaluate([compare_policies(scenario, policies_to_compare(HEADROOM, swept=False)) for scenario in scenarios])
    return Spent(perf_counter() - wall, process_time() - cpu)


def write_table(times: Sequence[tuple[Case, Spent]]) -> str:
    """Markdown; the last column stays where it is as days and workloads grow, if cost is linear in both."""
    head = ("workloads", "days each", "replayed", "seconds", "CPU seconds", "CPU seconds a day replayed")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for case, spent in times:
        share, each = f"{case.evaluated * 100:g} %", spent.cpu / case.replayed
        lines.append(f"| {case.workloads} | {case.days} | {share} | {spent.wall:.1f} | {spent.cpu:.1f} | {each:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """The table to standard output."""
    time_case(Case(2))  # warm, so that the first row pays for no import
    times = [(case, time_case(case)) for case in CASES]
    machine = describe_machine("")
    print(f"load average {machine['load_average_1m']} on {machine['cores']} cores, Python {machine['python']}\n")
    print(write_table(times), end="")
    first = times[0][1].wall
    print(f"\nbudget: {BUDGET:g} s for the first row: {'met' if first < BUDGET else 'not met'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
