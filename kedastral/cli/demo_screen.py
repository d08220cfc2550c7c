# SPDX-License-Identifier: Apache-2.0
"""What the demo shows: load and capacity in one picture, totals in a table, and at the end a conclusion in words.

Everything fits into 80 columns and 24 lines, including the address of the web page at the top; a larger terminal shows
a larger picture.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import attrs
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from kedastral.core.series import HOUR, MINUTE
from kedastral.demo import REACTIVE_UTILISATION, DemoComparison, Deployment

REACTIVE = f"reactive HPA at {REACTIVE_UTILISATION:.0%}"
COLUMN_SECONDS = 180.0
"""Seconds that a column of the picture stands for."""
AHEAD = 10
"""Columns for the forecast, half an hour."""
AXIS = 8
"""Columns for the numbers next to the picture, and the line that marks now."""
OTHER_LINES = 16
"""Lines that are not rows of the picture: the address, head, legend, axis, table and foot, and two to spare."""
LEAST_ROWS, MOST_ROWS = 4, 16
LEVELS = " ▁▂▃▄▅▆▇█"
LOAD, FORECAST, KEDASTRAL_LINE, REACTIVE_LINE = "cyan", "yellow", "bold green", "magenta"
SHORT_OF_BOTH, SHORT_OF_ONE = "▒", "▓"
"""Load beyond Kedastral's pods, and load beyond those of the reactive HPA alone."""


@attrs.frozen
class Column:
    """Three minutes: the load at their end, and what the Ready pods of both Deployments can serve; None: unknown."""

    load: float
    predictive: float | None = None
    reactive: float | None = None


@attrs.frozen
class DemoState:
    """All that is drawn. ``forecast`` has a value for each column ahead; ``at_lead`` is the load a lead time ahead.

    ``learning_seconds`` is how long the model has been learning, None once it has made a forecast.
    """

    comparison: DemoComparison
    past: Sequence[Column]
    forecast: Sequence[float]
    at_lead: float | None
    setup: str
    where: str
    learning_seconds: float | None = None


def draw(state: DemoState, width: int, height: int) -> Group:
    """The whole screen, for a terminal of ``width`` columns and ``height`` lines."""
    rows = max(LEAST_ROWS, min(MOST_ROWS, height - OTHER_LINES))
    parts: list[RenderableType] = [
        _head(state),
        *draw_picture(state, width, rows),
        _table(state),
        Text(f" {state.where}", style="dim"),
    ]
    return Group(*parts)


def _head(state: DemoState) -> Text:
    now = state.comparison
    head = Text.assemble((f" {now.moment:%A %H:%M} ", "bold reverse"), f"  {state.setup}\n ")
    if state.learning_seconds is not None:
        words = f"learning from the history … {state.learning_seconds:.0f} s; then the day begins"
        return head.append(words, "bold yellow")
    return head.append(now.event or "an ordinary time of the day", "bold yellow" if now.event else "dim")


# The picture.


def draw_picture(state: DemoState, width: int, rows: int) -> list[Text]:
    """Legend, ``rows`` lines of load under the two lines of capacity, and the axis of time."""
    past = list(state.past)[-(width - AXIS - AHEAD - 1) :]
    ahead = list(state.forecast)[:AHEAD]
    known = [number for one in past for number in (one.load, one.predictive, one.reactive) if number is not None]
    top = max(1.0, *known, *ahead)
    lines = [_legend()]
    for row in reversed(range(rows)):
        low, high = top * row / rows, top * (row + 1) / rows
        label = f"{high:>6,.0f} " if row in (rows - 1, rows // 2) else " " * 7
        line = Text(label, style="dim", no_wrap=True)
        for column in past:
            line.append(*_cell(column, low, high))
        line.append("│", "dim")
        for load in ahead:
            line.append(_level(load, low, high), FORECAST)
        lines.append(line)
    return [*lines, _axis(state.comparison.moment, len(past))]


def _cell(column: Column, low: float, high: float) -> tuple[str, str]:
    """The character of one cell: a capacity line if one passes through, else the load."""
    if column.load > low:
        middle = (low + min(high, column.load)) / 2
        if column.predictive is not None and middle > column.predictive:
            return SHORT_OF_BOTH, "bold red"
        if column.reactive is not None and middle > column.reactive:
            return SHORT_OF_ONE, REACTIVE_LINE
    if column.predictive is not None and low < column.predictive <= high:
        return "━", f"{KEDASTRAL_LINE} on {LOAD}" if column.load >= high else KEDASTRAL_LINE
    if column.reactive is not None and low < column.reactive <= high:
        return "┄", f"{REACTIVE_LINE} on {LOAD}" if column.load >= high else REACTIVE_LINE
    return _level(column.load, low, high), LOAD


def _level(load: float, low: float, high: float) -> str:
    """The part of a cell that the load fills, in eighths."""
    share = (load - low) / (high - low)
    return LEVELS[round(max(0.0, min(1.0, share)) * (len(LEVELS) - 1))]


def _legend() -> Text:
    return Text.assemble(
        " " * 7, ("█", LOAD), " load │ ", ("█", FORECAST), " forecast   Ready: ",
        ("━", KEDASTRAL_LINE), " kedastral ", ("┄", REACTIVE_LINE), " HPA   beyond: ",
        (SHORT_OF_BOTH, "bold red"), " ", (SHORT_OF_ONE, REACTIVE_LINE), " HPA only", no_wrap=True,
    )  # fmt: skip


def _axis(now: datetime, columns: int) -> Text:
    begin = now - timedelta(seconds=COLUMN_SECONDS * columns)
    end = now + timedelta(seconds=COLUMN_SECONDS * AHEAD)
    left, middle = f"{begin:%H:%M}", f"now {now:%H:%M}"
    space = max(1, columns - len(left) - len(middle) + 1)
    return Text(f"{'':7}{left}{' ' * space}{middle}{'':{AHEAD - 5}}{end:%H:%M}", style="dim", no_wrap=True)


# The table and the conclusion.


def _table(state: DemoState) -> Table:
    now = state.comparison
    both = (now.predictive, now.reactive)
    table = Table("", "kedastral", REACTIVE, box=None, header_style="bold", padding=(0, 1))
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("load now; forecast at the lead", *_loads(state))
    asked = (
        "-" if state.learning_seconds is not None else "held" if one.asked is None else str(one.asked) for one in both
    )
    table.add_row(
        "replicas asked for / pods Ready", *(f"{told} / {one.ready}" for told, one in zip(asked, both, strict=True))
    )
    table.add_row("load not served now", *(_colour(one.missing, f"{one.missing:,.0f}/s") for one in both))
    for label, *cells in totals(now):
        table.add_row(label, *cells)
    return table


def _loads(state: DemoState) -> tuple[str, str]:
    load = f"{state.comparison.load_now:,.0f}/s"
    return (load if state.at_lead is None else f"{load}; {state.at_lead:,.0f}/s"), load


def _colour(amount: float, text: str) -> Text:
    return Text(text, style="bold red" if amount > 0 else "green")


def totals(comparison: DemoComparison) -> list[tuple[str, str, str]]:
    """What both Deployments have done so far: a label and a figure for each."""
    demand = comparison.demand or 1.0
    rows: list[tuple[str, Callable[[Deployment], str]]] = [
        ("minutes short of pods, foreseeable", lambda one: f"{one.foreseeable_seconds / MINUTE:,.0f}"),
        ("minutes short of pods, by surprise", lambda one: f"{one.surprised_seconds / MINUTE:,.0f}"),
        ("load not served so far", lambda one: f"{one.missed / demand:.2%}"),
        ("pod-hours", lambda one: f"{one.pod_seconds / HOUR:,.0f}"),
    ]
    return [(label, show(comparison.predictive), show(comparison.reactive)) for label, show in rows]


def draw_summary(comparison: DemoComparison) -> Group:
    """The totals, and what they mean."""
    table = Table("", "kedastral", REACTIVE, title=f"{comparison.at / HOUR:.1f} hours of the demo's time")
    for label, *cells in totals(comparison):
        table.add_row(label, *cells)
    return Group(table, Text(conclude(comparison)))


def conclude(comparison: DemoComparison) -> str:
    """The comparison in words."""
    ours, theirs = comparison.predictive, comparison.reactive
    if comparison.at < HOUR:
        return "Less than an hour of the demo's time has passed: too little for a conclusion."
    foreseen = _compare_minutes(ours.foreseeable_seconds, theirs.foreseeable_seconds)
    words = [f"Rises that the history shows, such as the campaign: {foreseen}."]
    if ours.surprised_seconds or theirs.surprised_seconds:
        surprised = _compare_minutes(ours.surprised_seconds, theirs.surprised_seconds)
        words.append(f"The flash, which no history shows: {surprised}.")
    cost = ours.pod_seconds / theirs.pod_seconds - 1
    if abs(cost) < 0.005:
        words.append("Both used the same pod-hours.")
    else:
        words.append(f"Kedastral used {abs(cost):.0%} {'more' if cost > 0 else 'fewer'} pod-hours.")
    return " ".join(words)


def _compare_minutes(ours: float, theirs: float) -> str:
    mine, other = round(ours / MINUTE), round(theirs / MINUTE)
    if mine == other == 0:
        return "nobody was short of pods"
    return f"Kedastral was short of pods for {mine:,} min, the {REACTIVE} for {other:,} min"
