# SPDX-License-Identifier: Apache-2.0
"""Out of sample: whether a service level that a backtest finds kept, or missed, is kept, or missed, afterwards.

``python -m benchmarks.out_of_sample --traces DIR`` splits every trace where `benchmarks.closed_loop` begins to replay
it. A backtest of what lies before, which sees nothing later, says which levels are kept; then the rest is replayed.
So this measures how far the service level in a verdict can be trusted, and how many misses it announces. ``--json``
keeps the figures, and ``--figures FILE`` prints them again.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import attrs
from rich.console import Console
from rich.table import Table

from benchmarks.closed_loop import KEPT, forecast_all, read_saved, run_all
from benchmarks.closed_loop_study import LEVELS, cluster_for, replay_level, trial_of
from benchmarks.traces import Trace, TracesError, find_traces, history_of, read_trace, require_readable
from kedastral.settings.types import read_duration
from kedastral.simulation.replay import replay_oracle

MODEL = "auto"
ANNOUNCED = 1.0
"""A backtest calls a level missed if minutes short of pods exceed this many times the budget."""


@attrs.frozen
class Comparison:
    """One level of one trace: minutes short over the error budget, in the backtest ``before`` and ``after`` it.

    ``lead_time`` is in seconds; ``budget`` is that of the backtest, in minutes.
    """

    trace: str
    lead_time: float
    level: float
    budget: float
    before: float
    after: float

    @property
    def is_announced(self) -> bool:
        """Whether the backtest says that the level is missed."""
        return self.before > ANNOUNCED + 1e-9

    @property
    def is_kept(self) -> bool:
        """Whether the level was kept afterwards, as the goals of the closed loop count it."""
        return self.after <= KEPT


@attrs.frozen
class Job:
    """One trace, and what to run on it; ``leads`` and ``step`` as in the options, in seconds."""

    path: Path
    leads: tuple[float, ...]
    step: float
    cache: Path | None


def run_job(job: Job) -> list[Comparison]:
    """Both parts of one trace at every lead time and level."""
    trace = read_trace(job.path, job.step)
    before, after = (spend(part, job.leads, job.cache) for part in (history_of(trace), trace))
    judged = trial_of(history_of(trace)).judged
    minutes = len(judged) * judged.step / 60
    return [
        Comparison(trace.name, lead, level, (1 - level) * minutes, before[lead, level], after[lead, level])
        for lead in job.leads
        for level in LEVELS
    ]


def spend(trace: Trace, leads: Sequence[float], cache: Path | None) -> dict[tuple[float, float], float]:
    """Minutes short over the error budget, by lead time and level."""
    foretold, trial = forecast_all(trace, MODEL, cache), trial_of(trace)
    spent = {}
    for lead in leads:
        cluster = cluster_for(trial, lead)
        oracle = replay_oracle(trial, cluster)
        for level in LEVELS:
            spent[lead, level] = replay_level(level, foretold, trial, cluster, oracle).point.violation / (1 - level)
    return spent


def show(compared: Sequence[Comparison], console: Console) -> None:
    """Each level of each trace, and how often the backtest was right."""
    table = Table("trace", "lead", "level", "budget", "spent before", "after", "backtest says", "afterwards")
    for one in compared:
        table.add_row(
            one.trace,
            show_lead(one.lead_time),
            f"{one.level:g}",
            f"{one.budget:.0f} min",
            f"{one.before:.2f}",
            f"{one.after:.2f}",
            "missed" if one.is_announced else "kept",
            "kept" if one.is_kept else "missed",
        )
    console.print(table)
    console.print(summarise(compared))


def summarise(compared: Sequence[Comparison]) -> Table:
    """How many levels were kept or missed, by what the backtest said before."""
    table = Table("lead", "level", "said kept: kept", "said kept: missed", "said missed: missed", "said missed: kept")
    for lead, level in sorted({(one.lead_time, one.level) for one in compared}):
        those = [one for one in compared if (one.lead_time, one.level) == (lead, level)]
        counts = (
            sum((one.is_announced, one.is_kept) == outcome for one in those)
            for outcome in ((False, True), (False, False), (True, False), (True, True))
        )
        table.add_row(show_lead(lead), f"{level:g}", *map(str, counts))
    return table


def show_lead(seconds: float) -> str:
    """A lead time in minutes."""
    return f"{seconds / 60:g} min"


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.out_of_sample", description=__doc__)
    parser.add_argument("--traces", type=Path, default=os.environ.get("KEDASTRAL_TRACES"), help="folder of *.csv.gz")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this trace alone (repeatable)")
    parser.add_argument("--step", type=read_duration, default=0.0, help="average finer traces to this step first")
    parser.add_argument("--lead", action="append", type=read_duration, help="lead time (repeatable; 5m)")
    parser.add_argument("--cache", type=Path, help="folder to keep forecasts in; yours to empty when a model changes")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", action="store_true", help="figures as JSON on standard output")
    parser.add_argument(
        "--figures", type=Path, action="append", metavar="FILE", help="print these, replay nothing (repeatable)"
    )
    return parser.parse_args(arguments)


def compare_traces(options: argparse.Namespace, console: Console) -> list[Comparison]:
    """The comparisons of the chosen traces; raises TracesError if one cannot be read."""
    paths = find_traces(Path(options.traces) if options.traces else None)
    chosen = [path for path in paths if not options.only or path.name.removesuffix(".csv.gz") in options.only]
    require_readable(chosen, options.step)
    if options.cache is not None:
        options.cache.mkdir(parents=True, exist_ok=True)
    leads = tuple(options.lead or [300.0])
    jobs = [Job(path, leads, options.step, options.cache) for path in chosen]
    return list(run_all(run_job, jobs, options.jobs, console))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 2 if there are no traces to read."""
    options = parse_arguments(arguments)
    console = Console(stderr=options.json, width=None if sys.stdout.isatty() else 140)
    try:
        compared = (
            read_saved(options.figures, "comparisons", Comparison)
            if options.figures
            else compare_traces(options, console)
        )
    except TracesError as wrong:
        print(wrong, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"comparisons": [attrs.asdict(one) for one in compared]}))
    else:
        show(compared, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
