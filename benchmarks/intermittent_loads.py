# SPDX-License-Identifier: Apache-2.0
"""Made-up loads that are at zero for most of the day: ``python -m benchmarks.intermittent_loads --jobs 2``.

Batches at night, hours of work, bursts at random: 21 days of minutes, of which the last nine are judged, with 40 pods
at the peak and the forecasts of `auto`. A line for each service level has the cost relative to perfect foresight and
the share of the error budget that was spent, and the same for an HPA at 80 %. The loads are the same every time.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import attrs
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.closed_loop import model_named, run_all
from benchmarks.closed_loop_study import LEVELS, cluster_for, foretell, replay_level, trial_of
from benchmarks.traces import Trace
from kedastral.core.series import Floats, Series
from kedastral.settings.types import read_duration
from kedastral.simulation.curves import Point, point_of
from kedastral.simulation.policies import Reactive
from kedastral.simulation.replay import replay, replay_oracle

HOUR, DAY = 60, 1440
"""In minutes, the step of these loads."""
DAYS, JUDGED = 21, 9
START = datetime(2026, 3, 2, tzinfo=UTC)
"""A Monday."""
HPA_UTILISATION = 0.8
NOISE = 0.05

Pattern = Callable[[np.random.Generator], Floats]
"""Makes the load by minute, 1.0 while it is on."""


def batches(*daily: tuple[float, int, int]) -> Pattern:
    """Batches every day: each begins at an hour, is late by up to so many minutes or early, and lasts so many."""

    def make(rng: np.random.Generator) -> Floats:
        load = np.zeros(DAYS * DAY)
        for day in range(DAYS):
            for hour, jitter, length in daily:
                begin = day * DAY + round(hour * HOUR) + int(rng.integers(-jitter, jitter + 1))
                load[begin : begin + length] += 1.0
        return load

    return make


def bursts(times: int, length: int) -> Pattern:
    """Bursts of ``length`` minutes, ``times`` a day on the mean, at random."""

    def make(rng: np.random.Generator) -> Floats:
        begins = rng.random(DAYS * DAY) < times / DAY
        return np.convolve(begins, np.ones(length))[: DAYS * DAY].clip(0.0, 1.0)

    return make


def on_and_off(on: int, off: int) -> Pattern:
    """On and off in turn, each for a time from the exponential distribution, with these means in minutes."""

    def make(rng: np.random.Generator) -> Floats:
        load, at = np.zeros(DAYS * DAY), 0
        while at < len(load):
            at += max(1, round(rng.exponential(off)))
            length = max(1, round(rng.exponential(on)))
            load[at : at + length] = 1.0
            at += length
        return load

    return make


def working_hours(begin: int, end: int) -> Pattern:
    """Load on weekdays between two hours."""

    def make(_rng: np.random.Generator) -> Floats:
        minute = np.arange(DAYS * DAY)
        hour, weekday = minute % DAY / HOUR, minute // DAY % 7
        return ((hour >= begin) & (hour < end) & (weekday < 5)).astype(float)

    return make


PATTERNS: Mapping[str, Pattern] = {
    "two hours each night, at 03:15": batches((3.25, 0, 120)),
    "two hours each night, within ten minutes of 03:15": batches((3.25, 10, 120)),
    "an hour each night, within twenty minutes of 02:00": batches((2.0, 20, 60)),
    "two batches each night, within 20 and 40 minutes of a time": batches((1.0, 20, 90), (4.0, 40, 60)),
    "ten hours on weekdays": working_hours(8, 18),
    "half an hour at random, three times a day": bursts(3, 30),
    "six minutes at random, four times a day": bursts(4, 6),
    "on for an hour, off for two and a half, at random": on_and_off(60, 150),
}


@attrs.frozen
class Job:
    """One load of `PATTERNS`, and the lead times in seconds."""

    name: str
    leads: tuple[float, ...]


@attrs.frozen
class Judged:
    """How one load was served at one lead time, in seconds: by service level, and by the HPA."""

    name: str
    lead_time: float
    steered: Mapping[float, Point]
    hpa: Point


def make_trace(name: str) -> Trace:
    """The load of this name, with noise while it is on."""
    seed = [*PATTERNS].index(name)
    shape = PATTERNS[name](np.random.default_rng(seed))
    noise = np.exp(np.random.default_rng(seed + 100).normal(0, NOISE, len(shape)))
    return Trace(name, Series(START, 60.0, shape * noise), (DAYS - JUDGED) * DAY)


def judge(job: Job) -> list[Judged]:
    """The replays of one load."""
    trial = trial_of(make_trace(job.name))
    model, window = model_named("auto")
    foretold = foretell(model, trial, window, cache=None)
    found = []
    for lead in job.leads:
        cluster = cluster_for(trial, lead)
        oracle = replay_oracle(trial, cluster)
        steered = {level: replay_level(level, foretold, trial, cluster, oracle).point for level in LEVELS}
        hpa = replay(Reactive(trial.target_per_pod, HPA_UTILISATION), trial, cluster)
        found.append(Judged(job.name, lead, steered, point_of(HPA_UTILISATION, hpa, oracle)))
    return found


def table_of(judged: Sequence[Judged]) -> Table:
    """A line for each load, lead time and level."""
    table = Table(title="made-up loads; cost relative to perfect foresight, share of the error budget")
    for name in ("load", "lead time", "level"):
        table.add_column(name)
    for name in ("cost", "share", "scale events", "HPA at 80 %: cost", "share", "scale events"):
        table.add_column(name, justify="right")
    for one in judged:
        for number, (level, point) in enumerate(one.steered.items()):
            load = one.name if not number else ""
            own, other = (_figures(each, level) for each in (point, one.hpa))
            table.add_row(load, f"{one.lead_time / 60:g} min" if not number else "", f"{level:g}", *own, *other)
    return table


def _figures(point: Point, level: float) -> tuple[str, str, str]:
    return f"{point.cost:.2f}", f"{point.violation / (1 - level):.2f}", str(point.scale_events)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intermittent_loads", description=__doc__)
    parser.add_argument("--only", action="append", choices=[*PATTERNS], metavar="LOAD", help="repeatable")
    parser.add_argument("--lead", action="append", type=read_duration, help="lead time (repeatable; 5m)")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--json", action="store_true", help="figures as JSON on standard output")
    options = parser.parse_args(arguments)
    console = Console(stderr=options.json, width=None if sys.stdout.isatty() else 140)
    jobs = [Job(name, tuple(options.lead or [300.0])) for name in options.only or PATTERNS]
    judged = list(run_all(judge, jobs, options.jobs, console))
    if options.json:
        print(json.dumps([attrs.asdict(one) for one in judged]))
    else:
        console.print(table_of(judged))
    return 0


if __name__ == "__main__":
    sys.exit(main())
