# SPDX-License-Identifier: Apache-2.0
"""Draws the report's plots as PNG, each for light and for dark pages. Needs matplotlib (Agg, no window)."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure

from kedastral.backtest.comparison import Accuracy, PolicyComparison, PolicyResult, forecasts_in_time
from kedastral.core.series import Floats, Series
from kedastral.simulation.curves import Figure as Measure
from kedastral.simulation.curves import curve_of

WIDTH, DPI = 9.6, 130
ZOOM = 6 * 3600.0
"""Seconds around the worst minute that the second panel shows."""
MARKS = {"kedastral": "o", "hpa": "s", "far-end": "^", "last-week": "D", "fixed": "x"}


@attrs.frozen
class Theme:
    """The colours of a light or a dark page; ``lines`` by policy, which differ in lightness too."""

    ink: str
    faint: str
    load: str
    alarm: str
    lines: Mapping[str, str]


LIGHT = Theme(
    "#1f2933",
    "#d5dbe1",
    "#9aa5b1",
    "#c0392b",
    {"kedastral": "#0b6e99", "hpa": "#b8621b", "far-end": "#6d4fa3", "last-week": "#3b7d3b", "fixed": "#7b8794"},
)
DARK = Theme(
    "#d9e2ec",
    "#3a4653",
    "#627385",
    "#ff8a75",
    {"kedastral": "#5cc4f0", "hpa": "#f2a65a", "far-end": "#b79cf0", "last-week": "#83cf83", "fixed": "#9fb3c8"},
)
Draw = Callable[[Figure, Theme], None]


@attrs.frozen
class Plot:
    """One plot as PNG, for a light and for a dark page. ``alt`` describes it for readers who cannot see it."""

    alt: str
    light: bytes = attrs.field(repr=False)
    dark: bytes = attrs.field(repr=False)


def plot_load(comparison: PolicyComparison) -> Plot:
    """The judged load with the forecast made one lead time earlier: all, and the hours around the worst."""
    demand, forecasts = comparison.scenario.trial.judged, forecasts_in_time(comparison.scenario)
    worst = int(np.argmax(comparison.kedastral.shown.supply.unserved))
    half = round(ZOOM / 2 / demand.step)
    near = slice(max(0, worst - half), worst + half)

    def draw(figure: Figure, theme: Theme) -> None:
        whole, zoom = figure.subplots(2, 1)
        for axes, part in ((whole, slice(None)), (zoom, near)):
            times = _times(demand)[part]
            axes.fill_between(times, demand.values[part], color=theme.load, alpha=0.45, lw=0, label="load")
            colour = theme.lines["kedastral"]
            axes.plot(times, forecasts[part], color=colour, lw=0.9, label="forecast, one lead time earlier")
            _date(axes)
            axes.set_ylim(bottom=0)
        whole.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
        zoom.set_title("around the worst minute", loc="left")

    worst_at = f"{demand.time_at(worst):%Y-%m-%d %H:%M} UTC"
    return _plot(4.6, draw, f"The load over time with the forecast made one lead time earlier, and six hours of it "
                 f"around {worst_at}, the worst minute.")  # fmt: skip


def plot_replicas(comparison: PolicyComparison) -> Plot:
    """One panel for each policy: the pods needed, the pods ready, and the minutes with load unserved."""
    replayed = comparison.replayed

    def draw(figure: Figure, theme: Theme) -> None:
        for axes, one in zip(figure.subplots(len(replayed), 1, sharex=True, sharey=True), replayed, strict=True):
            outcome, name = one.shown, one.policy.name
            times = _times(outcome.demand)
            needed = np.ceil(outcome.demand.values / outcome.target_per_pod)
            axes.fill_between(times, needed, color=theme.load, alpha=0.45, lw=0, step="mid")
            axes.plot(times, outcome.supply.ready, color=theme.lines[name], lw=0.9, drawstyle="steps-mid")
            short = outcome.supply.unserved > 0
            if short.any():  # an empty line that is not clipped makes the layout leave room for it
                marks = np.zeros(int(short.sum()))
                axes.plot(times[short], marks, ls="", marker="|", ms=9, color=theme.alarm, clip_on=False)
            axes.set_title(one.policy.label, loc="left")
        axes.set_ylim(bottom=0)  # only after every line is drawn: it ends the scaling of the shared axis
        _date(axes)

    shown = ", ".join(one.policy.title for one in replayed)
    return _plot(1.45 * len(replayed) + 0.5, draw, f"Pods ready over time against the pods needed, one panel each for "
                 f"{shown}; minutes with load unserved are marked at the bottom.")  # fmt: skip


def plot_curves(results: tuple[PolicyResult, ...]) -> Plot:
    """Service against cost, one curve for each policy."""

    def draw(figure: Figure, theme: Theme) -> None:
        panels = zip(figure.subplots(1, 2), (Measure.VIOLATION, Measure.UNSERVED), strict=True)
        for axes, measure in panels:
            for result in results:
                _draw_curve(axes, result, measure, theme)
            axes.set_yscale("log")
            axes.set_xlabel("pod-hours, as a ratio to the oracle's")
            words = "minutes in violation" if measure is Measure.VIOLATION else "load unserved"
            axes.set_title(f"{words}, percent", loc="left")
            axes.set_xlim(0.9, min(3.0, max(point.cost for one in results for point in one.points) + 0.05))
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(results))

    names = ", ".join(result.policy.title for result in results)
    return _plot(4.1, draw, f"Minutes in violation and load unserved against cost, a curve each for {names}; further "
                 f"down and further left is better. The settings shown in the tables are the large marks.")  # fmt: skip


def plot_accuracy(accuracy: Accuracy) -> Plot:
    """The error of the forecast by how far it looked ahead."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        minutes = accuracy.ahead / 60
        axes.plot(minutes, accuracy.model * 100, color=theme.lines["kedastral"], marker="o", ms=3, label="the model")
        axes.plot(
            minutes, accuracy.last_value * 100, color=theme.lines["hpa"], ls="--", label="the last value repeated"
        )
        axes.set_xlabel("minutes ahead")
        axes.set_title("error of the forecast (WAPE), percent", loc="left")
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower right")

    return _plot(2.9, draw, "The forecast's error in percent of the load, by how many minutes it looked ahead, beside "
                 "that of repeating the last value.")  # fmt: skip


def _draw_curve(axes: Axes, result: PolicyResult, measure: Measure, theme: Theme) -> None:
    name = result.policy.name
    colour, mark = theme.lines[name], MARKS[name]
    curve = curve_of(result.points, measure)
    axes.plot(curve.costs, curve.figures * 100, color=colour, marker=mark, ms=4, lw=1.3, label=result.policy.title)
    shown = max(measure.of(result.point), measure.value) * 100
    axes.plot([result.point.cost], [shown], color=colour, marker=mark, ms=9, mew=2)


def _plot(height: float, draw: Draw, alt: str) -> Plot:
    return Plot(alt, *(_render(height, draw, theme) for theme in (LIGHT, DARK)))


def _render(height: float, draw: Draw, theme: Theme) -> bytes:
    with _style(theme):
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure, theme)
        target = io.BytesIO()
        figure.savefig(target, format="png", transparent=True, metadata={"Software": None})
    return target.getvalue()


@contextmanager
def _style(theme: Theme) -> Iterator[None]:
    settings: dict[Any, Any] = {
        "text.color": theme.ink,
        "axes.labelcolor": theme.ink,
        "axes.edgecolor": theme.faint,
        "axes.titlesize": 9.5,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": theme.faint,
        "grid.linewidth": 0.5,
        "xtick.color": theme.ink,
        "ytick.color": theme.ink,
        "font.size": 9,
        "legend.frameon": False,
    }
    with mpl.rc_context(settings):
        yield


def _times(series: Series) -> Floats:
    first = float(date2num(series.start))
    return first + np.arange(len(series)) * series.step / 86400


def _date(axes: Axes) -> None:
    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
