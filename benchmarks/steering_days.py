# SPDX-License-Identifier: Apache-2.0
"""Scripted days, and what steering does on them: ``python -m benchmarks.steering_days [--plot FILE]``.

The last value is the forecast, so that what is seen is the planner's own doing; 5 minutes of lead, service level 0.99.
The scripts are those of tests/core/test_service_level_days.py. ``--plot`` needs matplotlib (a development dependency).
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from kedastral.core.series import Floats
from tests.core.service_level_runs import DAY, TARGET, Run, drive

HOUR = 60


def noisy(load: float, minutes: int, seed: int = 1) -> Floats:
    """``load`` with 5 % of noise, the same every time."""
    return np.asarray(load * np.exp(np.random.default_rng(seed).normal(0, 0.05, minutes)))


def on_and_off(minutes: int) -> Floats:
    """Load for forty pods for two hours, then for two pods for the next two."""
    return noisy(20, minutes) * np.where(np.arange(minutes) // (2 * HOUR) % 2, 1.0, 20.0)


def scripted() -> Mapping[str, Floats]:
    """The load of each script by minute; NaN means not measured."""
    return {
        "three times the load in a minute": np.concatenate([noisy(100, DAY), noisy(300, DAY, 2)]),
        "a third of the load in a minute": np.concatenate([noisy(300, DAY), noisy(100, DAY, 2)]),
        "a quiet week at 1 %, and the return": np.concatenate(
            [noisy(200, DAY), noisy(2, 7 * DAY, 2), noisy(200, DAY, 3)]
        ),
        "a launch from zero": np.concatenate([np.zeros(DAY), noisy(300, DAY)]),
        "on and off every two hours": on_and_off(8 * DAY),
        "a day without measurements": np.concatenate([noisy(200, DAY), np.full(DAY, np.nan), noisy(200, DAY, 2)]),
    }


def table_of(runs: Mapping[str, Run]) -> Table:
    """One line for each script."""
    table = Table(title="scripted days, service level 0.99, lead time 5 min")
    table.add_column("script")
    for name in ("minutes", "short of pods", "in the worst hour", "h at the end", "lowest h", "highest h"):
        table.add_column(name, justify="right")
    for name, run in runs.items():
        worst = int(np.convolve(run.short, np.ones(HOUR))[: len(run.short)].max())
        factors = (run.factors[-1], run.factors.min(), run.factors.max())
        figures = (len(run.short), run.minutes_short(), worst)
        table.add_row(name, *map(str, figures), *(f"{factor:.3f}" for factor in factors))
    return table


def plot(loads: Mapping[str, Floats], runs: Mapping[str, Run], file: Path) -> None:
    """Load, pods and minutes short of pods, and h below, with a column for each script."""
    import matplotlib as mpl  # noqa: PLC0415 - a dev dependency
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context({"svg.hashsalt": "kedastral", "font.size": 8, "svg.fonttype": "none"}):
        figure = Figure(figsize=(9.6, 11), layout="constrained")
        figure.patch.set_facecolor("white")
        FigureCanvasSVG(figure)  # type: ignore[no-untyped-call]
        axes = figure.subplots(len(runs), 2, squeeze=False, width_ratios=(3, 2))
        for (above, below), (name, run) in zip(axes, runs.items(), strict=True):
            every = max(1, len(run.short) // 700)
            hours = np.arange(len(run.short)) / HOUR
            above.plot(hours[::every], loads[name][::every] / TARGET, color="#9aa5b1", lw=0.8, label="pods needed")
            above.step(hours[::every], run.served[::every], color="#0b6e99", lw=1.0, label="pods recommended")
            short = np.flatnonzero(run.short)
            above.plot(hours[short], np.zeros(len(short)), "|", color="#c0392b", ms=9, label="minute short of pods")
            above.set_title(f"{name}: {run.minutes_short()} of {len(run.short)} minutes short", loc="left")
            above.set_ylabel("pods")
            below.plot(hours[::every], run.factors[::every], color="#b8621b", lw=1.0)
            below.set_title("h", loc="left")
            below.set_ylim(0.85, 1.35)
        axes[0][0].legend(loc="upper left")
        for each in axes[-1]:
            each.set_xlabel("hours")
        figure.savefig(file, format="svg", metadata={"Date": None})


def main() -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steering_days", description=__doc__)
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write an SVG there")
    chosen = parser.parse_args()
    loads = scripted()
    runs = {name: drive(load) for name, load in loads.items()}
    Console(width=None if sys.stdout.isatty() else 110).print(table_of(runs))
    if chosen.plot is not None:
        plot(loads, runs, chosen.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
