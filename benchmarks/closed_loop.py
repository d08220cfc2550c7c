# SPDX-License-Identifier: Apache-2.0
"""Closed loop: what steering to a service level costs and keeps, on real traces, against a plain HPA.

``python -m benchmarks.closed_loop --traces DIR`` replays every ``NAME.csv.gz`` of a folder through the product's own
tick and prints the goals it is held against: how `auto` does, and how the last value and the baseline of version 0.1 do
in its place. The project carries no traces; without a folder it says so. ``--json`` keeps the figures, ``--figures
FILE`` prints them again, and ``--compare FILE`` sets them beside those of another version. A last table has the goals
of each source alone, which is the first word of a trace's name. The constants of the planner were chosen on all of the
open ones: nothing is tuned anew here. ``--step 5m`` averages finer traces first.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import attrs
import cattrs
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.closed_loop_goals import Goal, goals_of
from benchmarks.closed_loop_study import Foretold, Study, foretell, study, trial_of
from benchmarks.traces import Trace, TracesError, find_traces, read_trace, require_readable, source_of
from kedastral.core.model import Model
from kedastral.models import MODELS
from kedastral.settings.types import read_duration

J, T = TypeVar("J"), TypeVar("T")
WORSE = 0.01
"""A cost increase of more than this share of the oracle's cost is worse; less is noise."""
KEPT = 1.5
"""A level is not met if minutes short of pods exceed this many times the budget."""
COMPARED = ("auto", "last-value", "baseline")
"""The model that the goals are for, and those that it has to beat."""


@attrs.frozen
class Job:
    """One trace of the folder, and what to run on it; ``leads`` and ``step`` as in the options, in seconds."""

    path: Path
    models: tuple[str, ...]
    leads: tuple[float, ...]
    step: float
    cache: Path | None


def run_job(job: Job) -> list[Study]:
    """The studies of one trace, one for each model and lead time."""
    trace = read_trace(job.path, job.step)
    foretold = [forecast_all(trace, name, job.cache) for name in job.models]
    return [one for lead in job.leads for one in study(trace, foretold, lead)]


def forecast_all(trace: Trace, name: str, folder: Path | None) -> Foretold:
    """The model's forecasts at every minute of a trace; cached in ``folder``."""
    model, window = model_named(name)
    kept = None if folder is None else folder / f"{trace.name}-{trace.load.step:g}s-{name}.npy"
    return foretell(model, trial_of(trace), window, kept)


def model_named(name: str) -> tuple[Model, float]:
    """A fresh model and the history it wants, in seconds."""
    return MODELS[name].make(), MODELS[name].default_window


def run_all(run: Callable[[J], list[T]], jobs: Sequence[J], processes: int, console: Console) -> Iterator[T]:
    """What ``run`` gives for each of ``jobs``, one per trace, as it finishes, with a progress bar."""
    with Progress(console=console) as progress, ExitStack() as stack:
        bar = progress.add_task("traces", total=len(jobs))
        done: Iterator[list[T]] = map(run, jobs)
        if processes > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(processes))
            done = pool.imap(run, jobs)
        for results in done:
            progress.advance(bar)
            yield from results


def show(studies: Sequence[Study], goals: Mapping[str, Sequence[Goal]], console: Console) -> None:
    """The figures by trace, and the goals, with a column per model; the goals apply to the first."""
    columns = (
        "trace",
        "lead",
        "model",
        "level",
        "violation / budget",
        "cost / oracle",
        "events",
        "below q90, q95",
        "h",
    )
    table = Table(*columns)
    for one in studies:
        for level in one.levels:
            spent = level.point.violation / (1 - level.level)
            covered = ", ".join(f"{share:.3f}" for share in level.covered)
            down = " (stood down)" if level.stood_down else ""
            table.add_row(
                one.trace,
                f"{one.lead_time / 60:g} min",
                one.model,
                f"{level.level:g}",
                f"{spent:.2f}",
                f"{level.point.cost:.3f}",
                str(level.point.scale_events),
                covered,
                f"{level.factor:.2f}{down}",
            )
    console.print(table)
    ours, *others = goals
    table = Table("goal", "stated", ours, "met", *others)
    for goal, *theirs in zip(*goals.values(), strict=True):
        met = "" if not goal.stated else "yes" if goal.met else "no"
        table.add_row(goal.name, goal.stated, goal.shown, met, *(other.figure for other in theirs))
    console.print(table)
    show_by_source([one for one in studies if one.model == ours], console)


def show_by_source(studies: Sequence[Study], console: Console) -> None:
    """The goals of one model on the traces of each source alone; nothing if all come from the same one."""
    by_source = {
        source: [one for one in studies if source_of(one.trace) == source]
        for source in dict.fromkeys(source_of(one.trace) for one in studies)
    }
    if len(by_source) < 2:
        return
    named = {source: {goal.name: goal for goal in goals_by_lead(those)} for source, those in by_source.items()}
    table = Table("goal", "stated", *by_source)
    for goal in goals_by_lead(studies):
        found = [named[source].get(goal.name) for source in by_source]
        table.add_row(goal.name, goal.stated, *("-" if one is None else one.figure for one in found))
    console.print(table)


def goals_by_lead(studies: Sequence[Study]) -> list[Goal]:
    """The goals of one model at each lead time."""
    leads = sorted({one.lead_time for one in studies})
    return [goal for lead in leads for goal in goals_of([one for one in studies if one.lead_time == lead], lead)]


def read_studies(files: Sequence[Path]) -> list[Study]:
    """The studies that ``--json`` wrote; raises TracesError if one of ``files`` holds none."""
    return read_saved(files, "studies", Study)


def read_saved(files: Sequence[Path], key: str, kind: type[T]) -> list[T]:
    """What ``--json`` wrote under ``key``; raises TracesError if one of ``files`` holds nothing of this ``kind``."""
    saved: list[T] = []
    for file in files:
        try:
            saved += [cattrs.structure(one, kind) for one in json.loads(file.read_text())[key]]
        except (OSError, ValueError, KeyError, TypeError, cattrs.BaseValidationError) as wrong:
            raise TracesError(f"{file} holds no figures of --json: {wrong}") from wrong
    return saved


@attrs.frozen
class Change:
    """One level of one study in two versions, as (before, now): minutes short per budget, and cost per oracle's."""

    trace: str
    lead_time: float
    model: str
    level: float
    spent: tuple[float, float]
    cost: tuple[float, float]

    @property
    def is_worse(self) -> bool:
        """Whether the cost rose by more than noise, or the level was met and no longer is."""
        return self.cost[1] > self.cost[0] * (1 + WORSE) or self.spent[0] <= KEPT < self.spent[1]


def changes_since(earlier: Path, studies: Sequence[Study]) -> list[Change]:
    """Every level that ``earlier``, a file of ``--json``, also has; raises TracesError if it is not such a file."""
    try:
        document = json.loads(earlier.read_text())
        before = {
            (one["trace"], one["lead_time"], one["model"], level["level"]): (
                float(level["point"]["violation"]),
                float(level["point"]["cost"]),
            )
            for one in document["studies"]
            for level in one["levels"]
        }
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        raise TracesError(f"{earlier} holds no figures of --json: {wrong}") from wrong
    changes = []
    for one in studies:
        for level in one.levels:
            key = (one.trace, one.lead_time, one.model, level.level)
            if key in before:
                (violation, cost), budget = before[key], 1 - level.level
                spent = violation / budget, level.point.violation / budget
                changes.append(Change(*key, spent, (cost, level.point.cost)))
    return changes


def show_changes(changes: Sequence[Change], console: Console) -> None:
    """Both versions side by side."""
    columns = ("trace", "lead", "model", "level", "violation / budget before", "now", "cost before", "now", "", "worse")
    table = Table(*columns)
    for one in changes:
        table.add_row(
            one.trace,
            f"{one.lead_time / 60:g} min",
            one.model,
            f"{one.level:g}",
            *(f"{spent:.2f}" for spent in one.spent),
            *(f"{cost:.3f}" for cost in one.cost),
            f"{one.cost[1] / one.cost[0] - 1:+.1%}",
            "yes" if one.is_worse else "",
        )
    console.print(table)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.closed_loop", description=__doc__)
    parser.add_argument("--traces", type=Path, default=os.environ.get("KEDASTRAL_TRACES"), help="folder of *.csv.gz")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this trace alone (repeatable)")
    parser.add_argument("--model", action="append", choices=[*MODELS], help=f"repeatable ({', '.join(COMPARED)})")
    parser.add_argument("--step", type=read_duration, default=0.0, help="average finer traces to this step first")
    parser.add_argument("--lead", action="append", type=read_duration, help="lead time (repeatable; 5m)")
    parser.add_argument("--cache", type=Path, help="folder to keep forecasts in; yours to empty when a model changes")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", action="store_true", help="figures as JSON on standard output")
    parser.add_argument(
        "--figures",
        type=Path,
        action="append",
        metavar="FILE",
        help="print these, replay nothing (repeatable)",
    )
    parser.add_argument("--compare", type=Path, metavar="FILE", help="earlier figures of --json to stand beside")
    return parser.parse_args(arguments)


def replay_traces(options: argparse.Namespace, console: Console) -> list[Study]:
    """The studies of the chosen traces; raises TracesError if one cannot be read."""
    paths = find_traces(Path(options.traces) if options.traces else None)
    chosen = [path for path in paths if not options.only or path.name.removesuffix(".csv.gz") in options.only]
    require_readable(chosen, options.step)
    leads, models = tuple(options.lead or [300.0]), tuple(dict.fromkeys(options.model or COMPARED))
    if options.cache is not None:
        options.cache.mkdir(parents=True, exist_ok=True)
    jobs = [Job(path, models, leads, options.step, options.cache) for path in chosen]
    return list(run_all(run_job, jobs, options.jobs, console))


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 2 if there are no traces to read."""
    options = parse_arguments(arguments)
    console = Console(stderr=options.json, width=None if sys.stdout.isatty() else 140)
    try:
        if options.compare is not None:
            changes_since(options.compare, [])  # report a wrong file before the work, not after it
        studies = read_studies(options.figures) if options.figures else replay_traces(options, console)
    except TracesError as wrong:
        print(wrong, file=sys.stderr)
        return 2
    models = list(dict.fromkeys(one.model for one in studies))
    goals = {model: goals_by_lead([one for one in studies if one.model == model]) for model in models}
    if options.json:
        measured = {model: [attrs.asdict(goal) for goal in those] for model, those in goals.items()}
        print(json.dumps({"studies": [attrs.asdict(one) for one in studies], "goals": measured}))
    else:
        show(studies, goals, console)
    if options.compare is not None:
        show_changes(changes_since(options.compare, studies), console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
