# SPDX-License-Identifier: Apache-2.0
"""Tuning: constants of the planner, chosen anew with each source of traces left out and held against that source.

``python -m benchmarks.tuning --traces DIR`` replays every trace with each of `ALTERNATIVES`, one constant changed at a
time. For each source the constants are chosen that do best on all other sources, and its own traces are replayed with
them. What the tables of `benchmarks.closed_loop` owe to having been chosen on the same traces is the difference.
``--json`` keeps the figures, and ``--figures FILE`` prints them again.
"""

import argparse
import importlib
import json
import math
import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.closed_loop import forecast_all, read_saved
from benchmarks.closed_loop_study import LEVELS, cluster_for, replay_level, trial_of
from benchmarks.traces import TracesError, find_traces, read_trace, require_readable, source_of
from kedastral.settings.types import read_duration
from kedastral.simulation.curves import Point
from kedastral.simulation.replay import replay_oracle

PLANNING = "kedastral.core.planning"
PRICE = 0.06
"""The price of minutes short, in pods: halving them costs 4 % more pods, about the median over the open traces."""
LEAST_SPENT = 0.25
"""As a share of the budget: having fewer minutes short than this is chance, not merit."""
WORTH = 0.002
"""A constant is changed only if that saves more than this; less is noise."""
MODEL = "auto"


@attrs.frozen
class Constant:
    """A constant of a module, and the other ``values`` that it might have."""

    module: str
    name: str
    values: tuple[float, ...]


ALTERNATIVES = (
    Constant(f"{PLANNING}.steering", "FACTOR_RATE", (0.010, 0.022)),
    Constant(f"{PLANNING}.uncertainty", "REGRESSION_POWER", (4.0, 16.0)),
    Constant(f"{PLANNING}.service_level", "FLOOR_UTILISATION", (0.90, 1.0)),
    Constant(f"{PLANNING}.load_cap", "CAP_MARGIN", (1.0, 1.25)),
    Constant(f"{PLANNING}.stabilization", "DOWN_EXTRA", (0.0, 0.08)),
)
"""The constants with the most effect on pods, and one value on each side of the current one."""


@attrs.frozen
class Choice:
    """``value`` for the constant ``name``; None leaves everything as it is."""

    name: str = ""
    value: float | None = None

    def __str__(self) -> str:
        return "today" if self.value is None else f"{self.name} {self.value:g}"


TODAY = Choice()


@attrs.frozen
class Replayed:
    """The results of one trace at each of `LEVELS` with some constants changed."""

    trace: str
    lead_time: float
    choices: tuple[Choice, ...]
    points: tuple[Point, ...]

    @property
    def score(self) -> float:
        """The mean log of pods, plus minutes short at their `PRICE`: lower is better."""
        return sum(
            math.log(point.cost) + PRICE * math.log(max(point.violation / (1 - point.knob), LEAST_SPENT))
            for point in self.points
        ) / len(self.points)


@attrs.frozen
class Job:
    """One trace with some constants changed."""

    path: Path
    lead_time: float
    step: float
    choices: tuple[Choice, ...]
    cache: Path | None


def run_job(job: Job) -> Replayed:
    """The replays of one job."""
    trace = read_trace(job.path, job.step)
    trial, model = trial_of(trace), forecast_all(trace, MODEL, job.cache)
    cluster = cluster_for(trial, job.lead_time)
    oracle = replay_oracle(trial, cluster)
    with changed(job.choices):
        points = tuple(replay_level(level, model, trial, cluster, oracle).point for level in LEVELS)
    return Replayed(trace.name, job.lead_time, job.choices, points)


@contextmanager
def changed(choices: Iterable[Choice]) -> Iterator[None]:
    """Set the constants of `ALTERNATIVES` to ``choices``, and restore them afterwards."""
    modules = {one.name: importlib.import_module(one.module) for one in ALTERNATIVES}
    chosen = [choice for choice in choices if choice.value is not None]
    before = {choice.name: getattr(modules[choice.name], choice.name) for choice in chosen}
    try:
        for choice in chosen:
            setattr(modules[choice.name], choice.name, choice.value)
        yield
    finally:
        for name, value in before.items():
            setattr(modules[name], name, value)


def choose(replays: Sequence[Replayed], left_out: str) -> tuple[Choice, ...]:
    """For each constant the value that does best on the traces of all sources but ``left_out``; only changed ones.

    Each source counts equally, however many traces it has. Constants are chosen one at a time.
    """
    chosen = []
    for constant in ALTERNATIVES:
        choices = [TODAY, *(Choice(constant.name, value) for value in constant.values)]
        scores = {choice: score_of(replays, (choice,), left_out) for choice in choices}
        best = min(choices, key=lambda choice: scores[choice])
        if scores[best] < scores[TODAY] - WORTH:
            chosen.append(best)
    return tuple(chosen)


def score_of(replays: Sequence[Replayed], choices: tuple[Choice, ...], left_out: str = "") -> float:
    """The mean over sources of their traces' mean score, without ``left_out``; infinite if there are none."""
    by_source: dict[str, list[float]] = {}
    for one in replays:
        if one.choices == choices and source_of(one.trace) != left_out:
            by_source.setdefault(source_of(one.trace), []).append(one.score)
    means = [sum(scores) / len(scores) for scores in by_source.values()]
    return sum(means) / len(means) if means else math.inf


@attrs.frozen
class HeldOut:
    """A source, the constants chosen without it, and its traces with the current and with the chosen constants."""

    source: str
    choices: tuple[Choice, ...]
    today: tuple[Replayed, ...]
    chosen: tuple[Replayed, ...]

    @property
    def gain(self) -> float:
        """By what share the current constants beat those chosen without this source; below 0 if they are worse."""
        scores = [sum(one.score for one in those) / len(those) for those in (self.today, self.chosen)]
        return math.exp(scores[1] - scores[0]) - 1


def hold_out(replays: Sequence[Replayed]) -> list[HeldOut]:
    """Each source with the constants chosen without it, if ``replays`` includes that."""
    held = []
    for source in dict.fromkeys(source_of(one.trace) for one in replays):
        choices = choose(replays, source)
        ours = [one for one in replays if source_of(one.trace) == source]
        today = tuple(one for one in ours if one.choices == (TODAY,))
        chosen = tuple(one for one in ours if one.choices == (choices or (TODAY,)))
        if today and len(chosen) == len(today):
            held.append(HeldOut(source, choices, today, chosen))
    return held


def show(replays: Sequence[Replayed], console: Console) -> None:
    """Show how each alternative does on all traces, and each source with the constants chosen without it."""
    columns = ("constants", "pods, with minutes short at their price", "pods", *(f"{level:g} kept" for level in LEVELS))
    table = Table(*columns)
    today = score_of(replays, (TODAY,))
    for choices in dict.fromkeys(one.choices for one in replays if len(one.choices) == 1):
        those = [one for one in replays if one.choices == choices]
        change = score_of(replays, choices) - today
        table.add_row(str(choices[0]), f"{math.exp(change) - 1:+.1%}", *summary(those))
    console.print(table)
    kept = [f"{level:g}" for level in LEVELS]
    table = Table("source left out", "chosen without it", "today's are better by", "constants", "pods", *kept)
    for one in hold_out(replays):
        words = ", ".join(map(str, one.choices)) or "the same"
        table.add_row(one.source, words, f"{one.gain:+.1%}", "today's", *summary(one.today))
        table.add_row("", "", "", "chosen without it", *summary(one.chosen))
    console.print(table)


def summary(replays: Sequence[Replayed]) -> list[str]:
    """The geometric mean of pods over the oracle's, and how many of the traces meet each of `LEVELS`."""
    costs = [math.log(point.cost) for one in replays for point in one.points]
    kept = [sum(one.points[i].violation <= 1.5 * (1 - level) for one in replays) for i, level in enumerate(LEVELS)]
    return [f"{math.exp(sum(costs) / len(costs)):.3f}", *(f"{count} of {len(replays)}" for count in kept)]


def run_all(jobs: Sequence[Job], processes: int, console: Console) -> list[Replayed]:
    """Every replay, with a progress bar."""
    if processes == 1:
        return [run_job(job) for job in track(jobs, "replays", console=console)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        return list(track(pool.imap(run_job, jobs), "replays", total=len(jobs), console=console))


def replay_all(options: argparse.Namespace, console: Console) -> list[Replayed]:
    """Each trace with each alternative, and then with the constants chosen without its source."""
    paths = find_traces(Path(options.traces) if options.traces else None)
    chosen = [path for path in paths if not options.only or path.name.removesuffix(".csv.gz") in options.only]
    require_readable(chosen, options.step)
    if options.cache is not None:
        options.cache.mkdir(parents=True, exist_ok=True)

    def job(path: Path, choices: tuple[Choice, ...]) -> Job:
        return Job(path, options.lead, options.step, choices, options.cache)

    single = [TODAY, *(Choice(one.name, value) for one in ALTERNATIVES for value in one.values)]
    replays = run_all([job(path, (choice,)) for path in chosen for choice in single], options.jobs, console)
    missing = []
    for path in chosen:
        choices = choose(replays, source_of(path.name))
        if len(choices) > 1:  # replays with at most one change already exist
            missing.append(job(path, choices))
    return [*replays, *run_all(missing, options.jobs, console)]


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__)
    parser.add_argument("--traces", type=Path, default=os.environ.get("KEDASTRAL_TRACES"), help="folder of *.csv.gz")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this trace alone (repeatable)")
    parser.add_argument("--step", type=read_duration, default=0.0, help="average finer traces to this step first")
    parser.add_argument("--lead", type=read_duration, default=300.0, help="lead time (5m)")
    parser.add_argument("--cache", type=Path, help="folder to keep forecasts in; yours to empty when a model changes")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", action="store_true", help="figures as JSON on standard output")
    parser.add_argument("--figures", type=Path, action="append", metavar="FILE", help="print these (repeatable)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 2 if there are no traces to read."""
    options = parse_arguments(arguments)
    console = Console(stderr=options.json, width=None if sys.stdout.isatty() else 140)
    try:
        replays = read_saved(options.figures, "replays", Replayed) if options.figures else replay_all(options, console)
    except TracesError as wrong:
        print(wrong, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps({"replays": [attrs.asdict(one) for one in replays]}))
    else:
        show(replays, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
