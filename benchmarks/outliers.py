# SPDX-License-Identifier: Apache-2.0
"""What a bad metrics pipeline costs, outliers and lag together, and how soon a jump that lasts is believed.

``python -m benchmarks.outliers --traces DIR`` replays the end of every ``NAME.csv.gz`` through the product's own tick:
as it is, and as policies see it two minutes late with 1 % of its points multiplied by 10 to a million, in runs of one
to five minutes; what has to be served stays the same. ``--unscreened`` adds both as they were without leaving outliers
out. ``--shifts`` lets the load jump and stay instead, and counts the minutes until the pods asked for are enough. The
project carries no traces; without a folder it says so.
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

from benchmarks.closed_loop_study import BOUNDS, HORIZON_STEPS, WINDOW, cluster_for, plan_for
from benchmarks.traces import Trace, TracesError, find_traces, read_trace, require_readable
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.series import Floats, Series
from kedastral.models.auto import AutoModel
from kedastral.simulation.hpa import HpaBehavior, HpaMetric
from kedastral.simulation.policies import ForecastSchedule, ServiceLevelPolicy, Serving
from kedastral.simulation.replay import Outcome, replay
from kedastral.simulation.trial import MetricsPipeline, Scaling, Trial, View, scale_trace

LEVEL, LEAD = 0.99, 300.0
"""The service level, and the lead time in seconds."""
KEPT = 1.5
"""The service level counts as met if minutes short of pods are at most this many times the budget."""
SHARE = 0.01
"""The share of points that are planted outliers."""
RUNS = (1, 1, 2, 5)
"""Minutes of a planted run, equally likely, and at least one point; ``rate(x[5m])`` turns a bad scrape into five."""
SIZES = (1.0, 6.0)
"""Powers of ten between which the factor of a run is uniformly distributed."""
LATE = 120.0
"""Seconds by which the metrics lag."""
SHIFTS = (2.0, 5.0, 20.0)
"""Factors by which the load jumps permanently."""
CROWD = 3.0
"""How many times the largest load of the previous two weeks a jump to an unprecedented level reaches."""
BEFORE, AFTER = 120, 30
"""Steps that are replayed before and after a jump."""


@attrs.frozen
class Garbled:
    """A policy that sees ``seen`` (n,) instead of the demand."""

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
    """One trace as it is and through a bad pipeline; ``unscreened`` are the same two with every point trusted."""

    trace: str
    clean: Outcome
    planted: Outcome
    unscreened: tuple[Outcome, ...] = ()

    @property
    def more_pods(self) -> float:
        """The extra pods that the pipeline costs, relative to those of the trace as it is."""
        return self.planted.pod_minutes / self.clean.pod_minutes - 1


def minutes_of(outcome: Outcome) -> float:
    """How many minutes of the replay were judged."""
    return len(outcome.demand) * outcome.demand.step / 60


def says_kept(outcome: Outcome) -> str:
    """Whether the service level is met, as `benchmarks.closed_loop` counts it."""
    return "yes" if budget_spent(outcome) <= KEPT else "no"


def budget_spent(outcome: Outcome) -> float:
    """Minutes short of pods as a share of those that the service level allows."""
    return outcome.violation_share / (1 - LEVEL)


def plant(loads: Floats, seed: int, step: float = 60.0) -> Floats:
    """``loads`` with `SHARE` of the points multiplied, the same for the same ``seed``; ``step`` in seconds."""
    random, planted = np.random.default_rng(seed), loads.copy()
    chosen = np.zeros(len(loads), dtype=np.bool_)
    while chosen.sum() < SHARE * len(loads):
        width = max(1, round(int(random.choice(RUNS)) * 60 / step))
        factor = 10 ** random.uniform(*SIZES)
        first = int(random.integers(0, len(loads) - width))
        planted[first : first + width] *= factor
        chosen[first : first + width] = True
    return planted


def policy_for(trial: Trial, *, screened: bool = True) -> ServiceLevelPolicy:
    """The product with its defaults, one tick per step."""
    step = trial.demand.step
    # the greatest age of the newest trusted value: the source, which sees all values, decides what is stale
    oldest = trial.pipeline.late + 2 * step
    reading = ForecastSchedule(window=WINDOW, horizon=HORIZON_STEPS * step, interval=step, screened=screened)
    serving = Serving(LEAD, stale=StalePolicy(stale_after=oldest))
    return ServiceLevelPolicy(AutoModel(), plan_for(trial), ServiceLevelGoal(LEVEL), reading, serving)


def newest_days(trace: Trace, days: float) -> Trial:
    """The last ``days`` of a trace, judged after one more day of warm-up."""
    return scale_trace(trace.load, Scaling((days + 1) * 86400 / trace.load.step / len(trace.load)))


def replay_trace(trace: Trace, seed: int, days: float, *, unscreened: bool = False) -> Replayed:
    """Both replays of one trace, or all four."""
    trial = newest_days(trace, days)
    seen = attrs.evolve(trial, pipeline=MetricsPipeline(late=LATE))
    cluster, garbled = cluster_for(trial, LEAD), plant(trial.demand.values, seed, trial.demand.step)
    outcomes = [
        outcome
        for screened in ([True, False] if unscreened else [True])
        for outcome in (
            replay(policy_for(trial, screened=screened), trial, cluster),
            replay(Garbled(policy_for(seen, screened=screened), garbled), seen, cluster),
        )
    ]
    clean, planted, *others = outcomes
    return Replayed(trace.name, clean, planted, tuple(others))


def minutes_until_enough(trace: Trace, factor: float | None, *, screened: bool) -> float | None:
    """Minutes from the start of a permanent jump until the requested pods are enough for it; None if they never are.

    The load jumps by ``factor`` or, if that is None, to `CROWD` times the largest load so far.
    """
    whole = newest_days(trace, 1)
    at = (len(whole.demand) + whole.judged_from) // 2
    loads = whole.demand.values[: at + AFTER].copy()
    if factor is None:
        loads[at:] = CROWD * loads[max(at - round(WINDOW / whole.demand.step), 0) : at].max()
    else:
        loads[at:] *= factor
    begin = at - BEFORE
    target = max(whole.target_per_pod, 2 * float(loads.max()) / BOUNDS.max)
    trial = Trial(Series(whole.demand.start, whole.demand.step, loads), target, begin, begin)
    outcome = replay(policy_for(trial, screened=screened), trial, cluster_for(trial, LEAD))
    enough = np.flatnonzero(outcome.supply.recommended[BEFORE:] * target >= loads[at:])
    return int(enough[0]) * whole.demand.step / 60 if len(enough) else None


def cost_table(replays: Sequence[Replayed]) -> Table:
    """Pods and minutes short for each trace, as it is and through the bad pipeline."""
    table = Table(
        title=f"service level {LEVEL:g}; planted: {SHARE:.0%} outliers, {LATE / 60:g} min late; violations / budget"
    )
    table.add_column("trace")
    unscreened = any(one.unscreened for one in replays)
    extra = ("unscreened: clean", "planted") if unscreened else ()
    for name in ("pods clean", "planted", "change", "violations clean", "planted", "promise kept", *extra):
        table.add_column(name, justify="right")
    for one in replays:
        table.add_row(
            one.trace,
            *(f"{each.pod_minutes / minutes_of(each):.2f}" for each in (one.clean, one.planted)),
            f"{one.more_pods:+.1%}",
            *(f"{budget_spent(each):.2f}" for each in (one.clean, one.planted)),
            f"{says_kept(one.clean)}, {says_kept(one.planted)}",
            *(f"{each.pod_minutes / one.clean.pod_minutes:.3f}" for each in one.unscreened),
        )
    return table


def shift_table(traces: Sequence[Trace]) -> Table:
    """Minutes until a jump is followed, with every point trusted and with screening."""
    table = Table(title="minutes from the first of a jump that lasts until enough pods are asked for: unscreened, now")
    table.add_column("trace")
    shifts = (*SHIFTS, None)
    for factor in shifts:
        table.add_column(f"to {CROWD:g} times the largest" if factor is None else f"times {factor:g}", justify="right")
    for trace in traces:
        cells = []
        for factor in shifts:
            minutes = [minutes_until_enough(trace, factor, screened=screened) for screened in (False, True)]
            cells.append(", ".join("never" if one is None else f"{one:g}" for one in minutes))
        table.add_row(trace.name, *cells)
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 2 if there are no traces to read."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outliers", description=__doc__)
    parser.add_argument("--traces", type=Path, default=os.environ.get("KEDASTRAL_TRACES"), help="folder of *.csv.gz")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this trace alone (repeatable)")
    parser.add_argument("--seed", type=int, default=1, help="of the planted outliers")
    parser.add_argument(
        "--days", type=float, default=3, help="how much of a trace is replayed and judged, at its end (3)"
    )
    parser.add_argument("--unscreened", action="store_true", help="the same with every point believed as well")
    parser.add_argument("--shifts", action="store_true", help="the jumps that last instead, which takes seconds")
    options = parser.parse_args(arguments)
    try:
        paths = find_traces(Path(options.traces) if options.traces else None)
        chosen = [path for path in paths if not options.only or path.name.removesuffix(".csv.gz") in options.only]
        require_readable(chosen)
    except TracesError as wrong:
        print(wrong, file=sys.stderr)
        return 2
    traces, console = [read_trace(path) for path in chosen], Console(width=None if sys.stdout.isatty() else 110)
    if options.shifts:
        console.print(shift_table(traces))
        return 0
    replays = []
    for trace in traces:  # each result is printed as soon as it is known: all traces take hours
        replays.append(replay_trace(trace, options.seed, options.days, unscreened=options.unscreened))
        console.print(cost_table(replays[-1:]))
    if len(replays) > 1:
        console.print(cost_table(replays))
    return 0


if __name__ == "__main__":
    sys.exit(main())
