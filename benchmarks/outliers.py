# SPDX-License-Identifier: Apache-2.0
"""What outliers cost with and without being left out, and how soon a jump that lasts is believed.

``python -m benchmarks.outliers --traces DIR`` replays the end of every ``NAME.csv.gz`` through the product's own tick:
as it is, and with 1 % of its points multiplied by 10 to a million, in runs of one to five points, as policies see it;
what has to be served stays the same. Then it lets the load jump and stay, and counts the minutes until the pods asked
for are enough. The project carries no traces; without a folder it says so.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.closed_loop_study import BOUNDS, HORIZON_STEPS, WINDOW, cluster_for
from benchmarks.traces import Trace, TracesError, find_traces, read_trace, require_readable
from kedastral.core.capacity import PlanPolicy
from kedastral.core.planning.service_level import ServiceLevelSettings, SteeringSettings
from kedastral.core.series import Floats, Series
from kedastral.core.serving import StalePolicy
from kedastral.models.auto import AutoModel
from kedastral.simulation.hpa import HpaBehavior, HpaMetric
from kedastral.simulation.policies import ForecastSchedule, ServiceLevelPolicy
from kedastral.simulation.replay import Outcome, replay
from kedastral.simulation.trial import Scaling, Trial, View, scale_trace

LEVEL, LEAD = 0.99, 300.0
"""The service level, and the lead time in seconds."""
SHARE = 0.01
"""Of the points that are planted outliers."""
RUNS = (1, 1, 2, 5)
"""Points of a planted run, each as likely; ``rate(x[5m])`` makes five of one bad scrape."""
SIZES = (1.0, 6.0)
"""Powers of ten between which the factor of a run lies, evenly."""
SHIFTS = (2.0, 5.0, 20.0)
"""Factors by which the load jumps, to stay."""
BEFORE, AFTER = 120, 30
"""Steps that are replayed before and after a jump."""


@attrs.frozen
class Garbled:
    """A policy that sees ``seen`` (n,) in the place of the demand."""

    policy: ServiceLevelPolicy
    seen: Floats = attrs.field(eq=False, repr=False)

    @property
    def name(self) -> str:
        """The policy's own."""
        return self.policy.name

    @property
    def behavior(self) -> HpaBehavior:
        """The policy's own."""
        return self.policy.behavior

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`."""
        return self.policy.ask(attrs.evolve(view, seen=self.seen[: len(view.seen)]))


@attrs.frozen
class Replayed:
    """One trace with and without outliers, each seen as it is and screened."""

    trace: str
    plain: Outcome
    plain_screened: Outcome
    garbled: Outcome
    garbled_screened: Outcome

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """In the order of the columns."""
        return self.plain, self.plain_screened, self.garbled, self.garbled_screened


def plant(loads: Floats, seed: int) -> Floats:
    """``loads`` with `SHARE` of the points multiplied, the same ones for the same ``seed``."""
    random, planted = np.random.default_rng(seed), loads.copy()
    chosen = np.zeros(len(loads), dtype=np.bool_)
    while chosen.sum() < SHARE * len(loads):
        width, factor = int(random.choice(RUNS)), 10 ** random.uniform(*SIZES)
        first = int(random.integers(0, len(loads) - width))
        planted[first : first + width] *= factor
        chosen[first : first + width] = True
    return planted


def policy_for(trial: Trial, *, screened: bool) -> ServiceLevelPolicy:
    """The product as it is by default, one tick a step."""
    step = trial.demand.step
    steering = SteeringSettings(PlanPolicy(trial.target_per_pod, bounds=BOUNDS), LEVEL, LEAD, stale_after=2 * step)
    reading = ForecastSchedule(window=WINDOW, horizon=HORIZON_STEPS * step, interval=step, screened=screened)
    # as old as the newest believed value may be: whether it is stale is for the source to say, which sees them all
    settings, stale = ServiceLevelSettings(steering), StalePolicy(stale_after=2 * step)
    return ServiceLevelPolicy(AutoModel(), settings, reading, stale)


def newest_days(trace: Trace, days: float) -> Trial:
    """The last ``days`` of a trace, judged after one more day of warm-up."""
    return scale_trace(trace.load, Scaling((days + 1) * 86400 / trace.load.step / len(trace.load)))


def replay_trace(trace: Trace, seed: int, days: float) -> Replayed:
    """All four replays of one trace."""
    trial = newest_days(trace, days)
    cluster, garbled = cluster_for(trial, LEAD), plant(trial.demand.values, seed)
    outcomes = [
        replay(Garbled(policy_for(trial, screened=screened), seen), trial, cluster)
        for seen in (trial.demand.values, garbled)
        for screened in (False, True)
    ]
    return Replayed(trace.name, *outcomes)


def steps_until_enough(trace: Trace, factor: float, *, screened: bool) -> int | None:
    """Steps from the first of a jump by ``factor`` until the pods asked for are enough for it; None if never."""
    whole = newest_days(trace, 1)
    at = (len(whole.demand) + whole.judged_from) // 2
    loads = whole.demand.values[: at + AFTER].copy()
    loads[at:] *= factor
    begin = at - BEFORE
    trial = Trial(Series(whole.demand.start, whole.demand.step, loads), whole.target_per_pod, begin, begin)
    outcome = replay(policy_for(trial, screened=screened), trial, cluster_for(trial, LEAD))
    enough = np.flatnonzero(outcome.supply.recommended[BEFORE:] * trial.target_per_pod >= loads[at:])
    return int(enough[0]) if len(enough) else None


def cost_table(replays: Sequence[Replayed]) -> Table:
    """Minutes short of pods as a share of the budget, and pods relative to the trace as it is."""
    table = Table(title=f"service level {LEVEL:g}, {SHARE:.0%} of the points planted: short / budget, pods")
    table.add_column("trace")
    for name in ("as it is", "screened", "with outliers", "and screened"):
        table.add_column(name, justify="right")
    for one in replays:
        figures = [
            (each.violation_share / (1 - LEVEL), each.pod_minutes / one.plain.pod_minutes) for each in one.outcomes
        ]
        table.add_row(one.trace, *(f"{short:.2f}  {pods:.3f}" for short, pods in figures))
    return table


def shift_table(traces: Sequence[Trace]) -> Table:
    """Minutes until a jump is followed, unscreened and screened."""
    table = Table(title="minutes from the first of a jump that lasts until enough pods are asked for: before, now")
    table.add_column("trace")
    for factor in SHIFTS:
        table.add_column(f"times {factor:g}", justify="right")
    for trace in traces:
        cells = []
        for factor in SHIFTS:
            found = [steps_until_enough(trace, factor, screened=screened) for screened in (False, True)]
            minutes = ["never" if one is None else f"{one * trace.load.step / 60:g}" for one in found]
            cells.append(", ".join(minutes))
        table.add_row(trace.name, *cells)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 2 where there are no traces to read."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outliers", description=__doc__)
    parser.add_argument("--traces", type=Path, default=os.environ.get("KEDASTRAL_TRACES"), help="folder of *.csv.gz")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this trace alone (repeatable)")
    parser.add_argument("--seed", type=int, default=1, help="of the planted outliers")
    parser.add_argument(
        "--days", type=float, default=3, help="how much of a trace is replayed and judged, at its end (3)"
    )
    parser.add_argument("--shifts-only", action="store_true", help="the jumps that last alone, which takes seconds")
    options = parser.parse_args(arguments)
    try:
        paths = find_traces(Path(options.traces) if options.traces else None)
        chosen = [path for path in paths if not options.only or path.name.removesuffix(".csv.gz") in options.only]
        require_readable(chosen)
    except TracesError as wrong:
        print(wrong, file=sys.stderr)
        return 2
    traces, console = [read_trace(path) for path in chosen], Console(width=None if sys.stdout.isatty() else 110)
    if not options.shifts_only:
        console.print(cost_table([replay_trace(trace, options.seed, options.days) for trace in traces]))
    console.print(shift_table(traces))
    return 0


if __name__ == "__main__":
    sys.exit(main())
