# SPDX-License-Identifier: Apache-2.0
"""What covering the window and the reactive floor do: ``python -m benchmarks.serving_rule --traces DIR``.

The same forecasts (`baseline`) and the same plan, read four ways, on every one-minute trace of a folder, against a
plain HPA at 80 %, at its cost. docs/backtest.md shows the table and says how to read it.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs
from rich.console import Console
from rich.progress import track

from kedastral.adapters.csv import read_csv_history
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.series import Series
from kedastral.models import MODELS
from kedastral.simulation.curves import Figure, Point, geometric_mean, point_of, ratio_at_cost, sweep
from kedastral.simulation.hpa import HpaBehavior
from kedastral.simulation.policies import CachedModel, FarEndOnly, Kedastral, Reactive, Serving
from kedastral.simulation.replay import Cluster, replay, replay_oracle
from kedastral.simulation.trial import CombinedTriggers, Policy, Scaling, Trial, scale_trace

HEADROOMS = (0.8, 0.95, 1.1, 1.25, 1.45, 1.8)
"""Coarse, and also below 1, which the setting does not allow: else some curves would begin above the HPA's cost."""
UTILISATION = 0.8
BOUNDS = ReplicaBounds(1, 400)
FLOOR = 1.1
"""The floor's own headroom, `--reactive-headroom`, which stays fixed while the plan's headroom is swept."""
GROWING = 1 / 0.95
"""The floor's headroom as a multiple of the plan's headroom, in the row where the floor grows with the plan."""
MINUTE = 60.0
WORLD_CUP_SHARE = 0.5
"""The share of the World Cup trace, at its end, that is replayed: its matches are there. Of others, the last 30 %."""
MISSING = 2

console = Console(stderr=True, width=None if sys.stderr.isatty() else 110)


@attrs.frozen
class Reader:
    """One way to read the plan: the whole lead window or only its end, with or without the floor."""

    name: str
    window: bool
    floor: bool
    grows: bool = False

    def make(self, model: CachedModel, trial: Trial, headroom: float) -> Policy:
        """The policy at a headroom, however small: pods sized 1 / headroom with headroom 1 stand in for it."""
        plan = PlanPolicy(trial.target_per_pod / headroom, 1.0, BOUNDS)
        floor = (GROWING if self.grows else FLOOR / headroom) if self.floor else None  # relative to these pods
        if self.window:
            return Kedastral(model, plan, serving=Serving(reactive_headroom=floor))
        far_end = FarEndOnly(model, plan)
        if not self.floor:
            return far_end
        reactive = Reactive(trial.target_per_pod, 1 / FLOOR)
        return CombinedTriggers("far-end-and-floor", (far_end, reactive), behavior=HpaBehavior.DIRECT)


READERS = (
    Reader("far end of the lead only", window=False, floor=False),
    Reader("the whole window", window=True, floor=False),
    Reader("far end, and the floor", window=False, floor=True),
    Reader("window and floor: v0.1 as built", window=True, floor=True),
    Reader("window, and a floor at headroom / 0.95", window=True, floor=True, grows=True),
)


@attrs.frozen
class TraceResult:
    """One trace: the HPA's point, and each reader's sweep by its name."""

    name: str
    reference: Point
    sweeps: Mapping[str, Sequence[Point]]


def measure(name: str, trace: Series) -> TraceResult:
    """Every reader over every headroom on one trace."""
    evaluated = WORLD_CUP_SHARE if name.startswith("worldcup") else Scaling().evaluated
    trial, cluster = scale_trace(trace, Scaling(evaluated=evaluated)), Cluster(bounds=BOUNDS)
    model = CachedModel(MODELS["baseline"].make())
    hpa = replay(Reactive(trial.target_per_pod, UTILISATION), trial, cluster)
    reference = point_of(UTILISATION, hpa, replay_oracle(trial, cluster))
    sweeps = {reader.name: sweep(partial(_make, reader, model), HEADROOMS, trial, cluster) for reader in READERS}
    return TraceResult(name, reference, sweeps)


def _make(reader: Reader, model: CachedModel, trial: Trial, headroom: float) -> Policy:
    return reader.make(model, trial, headroom)


def write_table(results: Sequence[TraceResult]) -> str:
    """Geometric means over the traces as Markdown, followed by one row per trace."""
    lines = [
        f"{len(results)} one-minute traces, lead 5 minutes, at the cost of an HPA at 80 %",
        "",
        "| the plan is read | unserved, as a ratio to the HPA's | minutes in violation |",
        "|---|---|---|",
    ]
    for reader in READERS:
        unserved, violation = (geometric_mean(_ratios(results, reader, figure)) for figure in Figure)
        lines.append(f"| {reader.name} | {unserved:.2f} | {violation:.2f} |")
    lines += ["", "| trace (unserved / minutes) | " + " | ".join(reader.name for reader in READERS) + " |"]
    lines.append("|---" * (len(READERS) + 1) + "|")
    lines += [f"| {result.name} | " + " | ".join(_cells(result)) + " |" for result in results]
    return "\n".join(lines) + "\n"


def _ratios(results: Sequence[TraceResult], reader: Reader, figure: Figure) -> list[float]:
    return [ratio_at_cost(result.sweeps[reader.name], result.reference, figure) for result in results]


def _cells(result: TraceResult) -> Iterator[str]:
    ratio: Callable[..., float] = partial(ratio_at_cost, reference=result.reference)
    for reader in READERS:
        points = result.sweeps[reader.name]
        yield f"{ratio(points, figure=Figure.UNSERVED):.2f} / {ratio(points, figure=Figure.VIOLATION):.2f}"


def find_traces(folder: Path) -> Iterator[tuple[str, Series]]:
    """The one-minute traces of a folder, by name."""
    for path in sorted([*folder.glob("*.csv"), *folder.glob("*.csv.gz")]):
        trace = read_csv_history(path)
        if trace.step == MINUTE:
            yield path.name.partition(".csv")[0], trace


def main() -> int:
    """The table to standard output, progress to standard error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving_rule", description=__doc__)
    parser.add_argument("--traces", type=Path, default=os.environ.get("KEDASTRAL_TRACES"))
    folder = parser.parse_args().traces
    if folder is None or not Path(folder).is_dir():
        console.print(f"no folder of traces: give one with --traces or KEDASTRAL_TRACES; got {folder}")
        return MISSING
    traces = list(find_traces(Path(folder)))
    if not traces:
        console.print(f"{folder} holds no one-minute trace (timestamp,value as .csv or .csv.gz)")
        return MISSING
    results = [measure(name, trace) for name, trace in track(traces, "replaying", console=console)]
    print(write_table(results), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
