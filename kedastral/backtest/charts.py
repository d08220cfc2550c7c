# SPDX-License-Identifier: Apache-2.0
"""Collects the numbers for the report's charts, which report.js draws with uPlot."""

import math
from collections.abc import Sequence

import attrs
import numpy as np

from kedastral.backtest.accuracy import Accuracy, forecasts_in_time
from kedastral.backtest.comparison import PolicyComparison, PolicyResult
from kedastral.backtest.decision import floored
from kedastral.core.series import HOUR, MINUTE, Floats
from kedastral.simulation.curves import Figure

ZOOM = 6 * HOUR
"""Seconds around the worst step that the second chart of the load shows."""

SHOWN_COSTS = (0.9, 3.0)
"""The range of pod-hours, as ratios to the oracle's: beyond it, more pods gain almost nothing."""
Numbers = list[float | None]
"""None is a gap."""


@attrs.frozen
class Chart:
    """One chart: ``kind`` says how report.js draws it, ``words`` describe it for readers who cannot see it.

    Each of ``lines`` has one value per point, and a name in ``names``. The points are at ``x``, or on the ``grid``: the
    first time in epoch seconds, and the seconds between points. ``shown`` is the range to show at first; ``marks`` is
    one marked point per line.
    """

    kind: str
    title: str
    words: str
    names: tuple[str, ...]
    lines: tuple[Numbers, ...]
    x: Numbers = attrs.field(factory=list)
    grid: tuple[float, float] | None = None
    shown: tuple[float, float] | None = None
    marks: tuple[tuple[float, float], ...] = ()


@attrs.frozen
class WorkloadCharts:
    """The charts of one workload, by section of the report."""

    load: tuple[Chart, ...]
    replicas: tuple[Chart, ...]
    curves: tuple[Chart, ...]
    accuracy: tuple[Chart, ...]


def charts_of(comparison: PolicyComparison, results: Sequence[PolicyResult], accuracy: Accuracy) -> WorkloadCharts:
    """All charts of one workload."""
    return WorkloadCharts(
        _load_charts(comparison), _replica_charts(comparison), _curve_charts(results), (_accuracy_chart(accuracy),)
    )


def _load_charts(comparison: PolicyComparison) -> tuple[Chart, ...]:
    """The judged load with the forecast made one lead time earlier: all of it, and the hours around the worst minute,
    if any minute was short of pods."""
    trial, grid = comparison.scenario.trial, _grid(comparison)
    demand = trial.judged
    lines = (_numbers(np.where(trial.known, demand.values, np.nan)), _numbers(forecasts_in_time(comparison.scenario)))
    names = ("load", "forecast, one lead time earlier")
    words = "The load over time with the forecast made one lead time earlier"
    whole = Chart("load", "All that was judged", f"{words}.", names, lines, grid=grid)
    unserved = comparison.kedastral.shown.shortages
    worst = int(np.argmax(unserved))
    if unserved[worst] <= 0:
        return (whole,)
    at, middle = f"{demand.time_at(worst):%Y-%m-%d %H:%M} UTC", grid[0] + worst * grid[1]
    near = max(grid[0], middle - ZOOM / 2), min(grid[0] + (len(demand) - 1) * grid[1], middle + ZOOM / 2)
    return (
        whole,
        Chart(
            "load",
            f"Around the worst minute, {at}",
            f"{words}, in the six hours around {at}.",
            names,
            lines,
            grid=grid,
            shown=near,
        ),
    )


def _replica_charts(comparison: PolicyComparison) -> tuple[Chart, ...]:
    """One chart for each policy: the pods needed, the pods ready, and the steps with unserved load."""
    names, charts, known = ("pods needed", "pods ready", "short of pods"), [], comparison.scenario.trial.known
    for one in comparison.replayed:
        outcome = one.shown
        needed = np.where(known, np.ceil(outcome.demand.values / outcome.target_per_pod), np.nan)
        short = np.where(outcome.shortages > 0, 0.0, np.nan)
        words = f"{one.policy.label}: pods ready over time, the pods needed, and the minutes short of pods."
        lines = (_numbers(needed), _numbers(outcome.supply.ready), _numbers(short))
        charts.append(Chart("replicas", one.policy.label, words, names, lines, grid=_grid(comparison)))
    return tuple(charts)


TITLES = {Figure.VIOLATION: "Minutes short of pods, percent", Figure.UNSERVED: "Load unserved, percent"}


def _curve_charts(results: Sequence[PolicyResult]) -> tuple[Chart, ...]:
    """Service against cost: a line for each policy, a point for each replay."""
    costs = sorted({point.cost for result in results for point in result.points})
    names, charts = tuple(result.policy.title for result in results), []
    for figure, title in TITLES.items():
        lines: list[Numbers] = []
        for result in results:
            at = {point.cost: floored(point, figure) * 100 for point in result.points}
            lines.append([at.get(cost) for cost in costs])
        marks = tuple((result.point.cost, floored(result.point, figure) * 100) for result in results)
        words = f"{title}, against pod-hours as a ratio to the oracle's, a line each for {', '.join(names)}."
        charts.append(Chart("curves", title, words, names, tuple(lines), x=[*costs], shown=SHOWN_COSTS, marks=marks))
    return tuple(charts)


def _accuracy_chart(accuracy: Accuracy) -> Chart:
    """The error of the forecast by how far ahead it was made."""
    return Chart(
        "accuracy",
        "Error of the forecast (WAPE), percent, by minutes ahead",
        "The forecast's error in percent of the load, by how many minutes it looked ahead, beside a naive forecast's.",
        ("the model", "naive forecast"),
        (_numbers(accuracy.model * 100), _numbers(accuracy.last_value * 100)),
        x=_numbers(accuracy.ahead / MINUTE),
    )


def _grid(comparison: PolicyComparison) -> tuple[float, float]:
    """The start of the first judged step in epoch seconds, and the step."""
    judged = comparison.scenario.trial.judged
    return judged.start.timestamp(), judged.step


def _numbers(values: Floats) -> Numbers:
    """The values with six digits, which is more than a screen shows."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values.tolist()]
