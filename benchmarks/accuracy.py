# SPDX-License-Identifier: Apache-2.0
"""How far off forecasts are, 5 to 15 minutes ahead: ``python -m benchmarks.accuracy --traces DIR``.

Every step of the end of each trace is an origin; a forecast sees what lies before it, at most 14 days. The error is the
WAPE, sum |forecast - load| / sum load, as a ratio to that of "it stays what it is". ``auto`` runs online, as in
production: one fresh instance a trace begins at the first origin and ticks every minute. Much load repeats by the hour,
so origins that are half an hour apart all see the same part of it: the ratio then depends on the minute at which they
begin. The table shows the least and the largest of these ratios, too.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import timedelta
from pathlib import Path

import attrs
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.peers import installed_peers
from benchmarks.traces import Trace, TracesError, UnreadableTracesError, find_traces, read_trace, require_readable
from kedastral.core.model import Model
from kedastral.core.series import Floats, Ints, Series
from kedastral.models import MODELS
from kedastral.models.auto import AutoModel
from kedastral.models.baseline import Baseline
from kedastral.models.naive import LastValue
from kedastral.settings.types import read_duration, write_duration

WINDOW = 14 * 86400.0
"""Seconds of history; the baseline has its own default, with which it is more accurate."""
HALF_HOUR = 1800.0
NEAREST, FURTHEST = 300.0, 900.0
"""The range of seconds ahead that counts; a step counts by its end."""
HORIZON = 30
"""Steps that every model forecasts, as in production."""
TICK = 60.0
AUTO, LAST, BASELINE, TREES = "auto", "last-value", "baseline", "lightgbm"
MISSING = 2

console = Console(stderr=True, width=None if sys.stderr.isatty() else 110)


@attrs.frozen
class Errors:
    """The errors of one model on one trace: ``absolute`` (origins,) is the sum of |forecast - load| at each origin."""

    model: str
    absolute: Floats


@attrs.frozen
class Judged:
    """One trace: the summed load at each origin, and the errors of each model at the same origins.

    ``phases`` (origins,) are the origins that are whole half hours apart: those of equal number.
    """

    trace: str
    load: Floats
    errors: Mapping[str, Errors]
    sampled: Sequence[int]
    peers: Mapping[str, Errors]
    phases: Ints

    def ratio(self, model: str, to: str = LAST) -> float:
        """The WAPE of ``model`` over that of ``to``."""
        return float(self.errors[model].absolute.sum() / self.errors[to].absolute.sum())

    def half_hourly_ratios(self, model: str) -> Floats:
        """`ratio` for each minute at which origins half an hour apart may begin (phases,)."""
        ours, last = (np.bincount(self.phases, self.errors[name].absolute) for name in (model, LAST))
        return np.asarray(ours / last, dtype=np.float64)

    def sampled_ratio(self, model: str) -> float:
        """The WAPE of ``model``, which may be a peer, over that of last value, at the peers' origins."""
        chosen = list(self.sampled)
        found = self.peers[model].absolute if model in self.peers else self.errors[model].absolute[chosen]
        return float(found.sum() / self.errors[LAST].absolute[chosen].sum())

    def peer_ratio(self, peer: str) -> float:
        """The WAPE of ``auto`` over that of ``peer``, at their common origins."""
        return self.sampled_ratio(AUTO) / self.sampled_ratio(peer)

    def wape(self, model: str) -> float:
        """sum |forecast - load| / sum load."""
        return float(self.errors[model].absolute.sum() / self.load.sum())


def judge_trace(file: Path, every: float, peer_origins: int) -> Judged:
    """Every model on the trace in ``file``, at origins ``every`` so many seconds; peers at a few of them."""
    trace = read_trace(file)
    origins = origins_of(trace, every)
    load = np.array([np.nansum(_ahead_of(trace, origin)) for origin in origins])
    online = judge_online(AutoModel(), trace, origins)
    plain = [judge(model, trace, origins) for model in (LastValue(), Baseline())]
    sampled = sorted(set(np.linspace(0, len(origins) - 1, peer_origins).astype(int).tolist()))
    chosen = [origins[i] for i in sampled]
    peers = {peer.name: judge(peer, trace, chosen) for peer in installed_peers()} if chosen else {}
    phases = (np.array(origins) - trace.begin) % max(1, round(HALF_HOUR / trace.load.step))
    return Judged(
        trace.name, load, {errors.model: errors for errors in (online, *plain)}, sampled, peers,
        np.unique(phases, return_inverse=True)[1],
    )  # fmt: skip


def origins_of(trace: Trace, every: float) -> Sequence[int]:
    """The indices of the first forecast steps: ``every`` so many seconds of the evaluated part."""
    steps = max(1, round(every / trace.load.step))
    return range(trace.begin, len(trace.load) - _last_step(trace), steps)


def require_origins(files: Iterable[Path]) -> None:
    """Raises UnreadableTracesError, with a line for each trace that leaves nothing to judge."""
    problems = []
    for file in files:
        trace = read_trace(file)
        if trace.load.step > FURTHEST:
            got = write_duration(trace.load.step)
            problems.append(f"{file}: its step must be at most {write_duration(FURTHEST)}; got {got}")
        elif not origins_of(trace, 0.0):
            problems.append(f"{file}: it must be longer, or nothing is left to judge; got {len(trace.load)} steps")
    if problems:
        raise UnreadableTracesError("\n".join(problems))


def judge(model: Model, trace: Trace, origins: Iterable[int]) -> Errors:
    """The errors of a model that keeps no state between forecasts."""
    return Errors(model.name, np.array([_error_at(model, trace, origin) for origin in origins]))


def judge_online(model: Model, trace: Trace, origins: Sequence[int]) -> Errors:
    """The errors of a model that forecasts every `TICK` seconds from the first origin on."""
    every = max(1, round(TICK / trace.load.step))
    wanted = set(origins)
    ticks = sorted(wanted.union(range(origins[0], origins[-1], every)))
    errors = [(_error_at(model, trace, tick), tick) for tick in ticks]
    return Errors(model.name, np.array([error for error, tick in errors if tick in wanted]))


def history_of(trace: Trace, origin: int, window: float) -> Series:
    """The ``window`` seconds known just before ``origin``."""
    first = max(0, origin - round(window / trace.load.step))
    return Series(trace.load.time_at(first), trace.load.step, trace.load.values[first:origin])


def _error_at(model: Model, trace: Trace, origin: int) -> float:
    made_at = trace.load.start + timedelta(seconds=origin * trace.load.step)
    kind = MODELS.get(model.name)
    window = WINDOW if kind is None else min(WINDOW, kind.default_window)
    made = model.forecast(history_of(trace, origin, window), made_at, HORIZON)
    first, last = _first_step(trace), _last_step(trace)
    return float(np.nansum(np.abs(made.values[first - 1 : last] - _ahead_of(trace, origin))))


def _ahead_of(trace: Trace, origin: int) -> Floats:
    return trace.load.values[origin + _first_step(trace) - 1 : origin + _last_step(trace)]


def _first_step(trace: Trace) -> int:
    return max(1, round(NEAREST / trace.load.step))


def _last_step(trace: Trace) -> int:
    return max(1, round(FURTHEST / trace.load.step))


def geometric_mean(values: Iterable[float]) -> float:
    """exp(mean(log(values)))."""
    return float(np.exp(np.mean(np.log(list(values)))))


def judge_all(files: Sequence[Path], every: float, peer_origins: int, jobs: int) -> list[Judged]:
    """Every trace, in ``jobs`` processes, with a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress, ProcessPoolExecutor(jobs) as pool:
        task = progress.add_task("traces", total=len(files))
        futures = [pool.submit(judge_trace, file, every, peer_origins) for file in files]
        for _ in as_completed(futures):
            progress.advance(task)
    return [future.result() for future in futures]


def table_of(results: Sequence[Judged]) -> Table:
    """One line per trace, and the geometric mean."""
    table = Table(title="WAPE 5 to 15 min ahead, as a ratio to last value")
    table.add_column("trace")
    for column in ("last value's WAPE", "auto", "each half hour", "baseline", "auto / the better of both"):
        table.add_column(column, justify="right")
    for judged in results:
        half_hourly = judged.half_hourly_ratios(AUTO)
        table.add_row(
            judged.trace, f"{judged.wape(LAST):.3f}", f"{judged.ratio(AUTO):.3f}",
            _range(half_hourly), f"{judged.ratio(BASELINE):.3f}", f"{against_the_better(judged):.3f}",
        )  # fmt: skip
    auto, baseline = (geometric_mean(judged.ratio(model) for judged in results) for model in (AUTO, BASELINE))
    worst = max(against_the_better(judged) for judged in results)
    table.add_section()
    means = (f"{auto:.3f}", _range(half_hourly_means(results)), f"{baseline:.3f}", f"{worst:.3f}")
    table.add_row("geometric mean; worst", "", *means)
    return table


def half_hourly_means(results: Sequence[Judged]) -> Floats:
    """The geometric mean over the traces for each minute at which origins half an hour apart may begin."""
    ratios = [judged.half_hourly_ratios(AUTO) for judged in results]
    phases = max(map(len, ratios))
    means = [geometric_mean(one[phase * len(one) // phases] for one in ratios) for phase in range(phases)]
    return np.array(means)


def _range(values: Floats) -> str:
    return f"{values.min():.3f} to {values.max():.3f}" if len(values) > 1 else ""


def peer_table_of(results: Sequence[Judged]) -> Table:
    """Every model at the peers' origins."""
    models = (AUTO, BASELINE, *results[0].peers)
    table = Table(title=f"The same at {len(results[0].sampled)} origins a trace, those of the peers")
    table.add_column("trace")
    for model in models:
        table.add_column(model, justify="right")
    for judged in results:
        table.add_row(judged.trace, *(f"{judged.sampled_ratio(model):.3f}" for model in models))
    table.add_section()
    means = [geometric_mean(judged.sampled_ratio(model) for judged in results) for model in models]
    table.add_row("geometric mean", *(f"{mean:.3f}" for mean in means))
    return table


@attrs.frozen
class Goal:
    """One line of the table of goals: at most ``stated``."""

    name: str
    stated: float
    measured: float
    detail: str = ""


def goals_of(results: Sequence[Judged]) -> list[Goal]:
    """The goals for `auto`; those against peers only if they were run."""
    worst = max(results, key=against_the_better)
    means = {peer: geometric_mean(judged.peer_ratio(peer) for judged in results) for peer in results[0].peers}
    goals = [
        Goal("WAPE / last value's", 0.63, geometric_mean(judged.ratio(AUTO) for judged in results)),
        Goal("/ the better of last value and baseline, worst trace", 1.02, against_the_better(worst), worst.trace),
    ]
    if TREES in means:
        goals.append(Goal("/ LightGBM's, the same origins", 1.0, means.pop(TREES)))
    if means:
        best = max(means, key=lambda peer: means[peer])
        goals.append(Goal("/ the best classical library's, the same origins", 0.8, means[best], best))
    return goals


def goal_table_of(goals: Sequence[Goal]) -> Table:
    """Each goal, what was measured, and whether it is met."""
    table = Table("goal", "at most", "measured", "met")
    for goal in goals:
        shown = f"{goal.measured:.3f}  {goal.detail}".strip()
        table.add_row(goal.name, f"{goal.stated:g}", shown, "yes" if goal.measured <= goal.stated else "no")
    return table


def against_the_better(judged: Judged) -> float:
    """The WAPE of ``auto`` over the smaller one of last value and baseline."""
    return judged.ratio(AUTO) / min(1.0, judged.ratio(BASELINE))


def as_json(results: Sequence[Judged]) -> str:
    """The figures of the table."""
    traces = {
        judged.trace: {
            "origins": len(judged.load),
            "wape": {name: judged.wape(name) for name in judged.errors},
            "autoOverPeers": {peer: judged.peer_ratio(peer) for peer in judged.peers},
            "peerOrigins": len(judged.sampled),
            "ratioToLastValue": {name: judged.ratio(name) for name in judged.errors},
            "halfHourlyRatios": judged.half_hourly_ratios(AUTO).tolist(),
        }
        for judged in results
    }
    means = {name: geometric_mean(judged.ratio(name) for judged in results) for name in results[0].errors}
    goals = [attrs.asdict(goal) for goal in goals_of(results)]
    figures = {"goals": goals, "geometricMean": means, "autoTickSeconds": TICK, "traces": traces}
    return json.dumps(figures, indent=2, allow_nan=False)


def main() -> int:
    """Exit code 0, or 2 if there are no traces, or some that cannot be judged."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    given = os.environ.get("KEDASTRAL_TRACES")
    parser.add_argument("--traces", type=Path, default=Path(given) if given else None, metavar="DIR")
    parser.add_argument(
        "--every", type=read_duration, default=0.0, metavar="DURATION", help="between origins; each step by default"
    )
    parser.add_argument("--peers", type=int, default=0, metavar="N", help="N origins of each trace for peers; 0: none")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes, 1 by default")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the figures there, too")
    chosen = parser.parse_args()
    try:
        files = find_traces(chosen.traces)
        require_readable(files)
        require_origins(files)
    except TracesError as error:
        print(error, file=sys.stderr)
        return MISSING
    results = judge_all(files, chosen.every, chosen.peers, chosen.jobs)
    output = Console(width=None if sys.stdout.isatty() else 110)
    output.print(table_of(results))
    if results[0].peers:
        output.print(peer_table_of(results))
    output.print(goal_table_of(goals_of(results)))
    if chosen.json is not None:
        chosen.json.write_text(as_json(results) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
