# SPDX-License-Identifier: Apache-2.0
"""`kedastral demo`: draws a live table in a terminal, else a line every half hour of demo time; totals at the end."""

from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import trio
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kedastral.app import run_until_signal
from kedastral.core.serving import Snapshot
from kedastral.demo import REACTIVE_UTILISATION, SYNC_PERIOD, Demo, Deployment, open_demo
from kedastral.settings.declarations import DemoSettings

FRAMES_PER_SECOND = 6
LINE_EVERY = timedelta(minutes=30)
PAST, AHEAD = 60, 10
"""Columns of the chart for the past and for the forecast. Each is three minutes where the horizon is half an hour."""
COLUMN_SECONDS = 180.0
REACTIVE = f"reactive HPA at {REACTIVE_UTILISATION:.0%}"
BARS = " ▁▂▃▄▅▆▇█"


async def run_demo(settings: DemoSettings) -> None:
    """Run and draw the demo until its time is over or a signal arrives. Raises BindError."""
    console = Console()
    async with open_demo(settings) as demo:
        http, _ = demo.ports
        console.print(f"The page: http://localhost:{http}/", highlight=False)
        screen = _Screen(demo, settings)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_run_app, demo, nursery.cancel_scope)
            with console.status(f"{settings.forecast.model} is learning from the history of the demo's load …"):
                await demo.wait_for_forecast()
            if console.is_terminal:
                await _draw_live(console, demo, settings, screen)
            else:
                await _write_lines(console, demo, settings)
            demo.app.stopping.set()
    console.print(_make_summary(demo))


async def _run_app(demo: Demo, everything: trio.CancelScope) -> None:
    await run_until_signal(demo.app)
    everything.cancel()  # stopped by a signal: nothing is left to draw


async def _draw_live(console: Console, demo: Demo, settings: DemoSettings, screen: "_Screen") -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_refresh_forever, live, screen)
            await demo.compare(settings.pace.duration, screen.remember)
            nursery.cancel_scope.cancel()


async def _refresh_forever(live: Live, screen: "_Screen") -> None:
    while True:
        live.update(screen.render(), refresh=True)
        await trio.sleep(1 / FRAMES_PER_SECOND)


async def _write_lines(console: Console, demo: Demo, settings: DemoSettings) -> None:
    written: datetime | None = None
    told: str | None = None

    def write() -> None:
        nonlocal written, told
        moment, event = demo.comparison.moment, demo.comparison.event
        if event is not None and event != told:
            console.print(f"{moment:%a %H:%M}  begins: {event}", soft_wrap=True, highlight=False)
        told = event
        if written is None or moment - written >= LINE_EVERY:
            written = moment
            console.print(_line(demo), soft_wrap=True, highlight=False)

    await demo.compare(settings.pace.duration, write)


def _line(demo: Demo) -> str:
    now, ahead = demo.comparison, demo.forecast_at_lead()
    predictive, reactive = now.predictive, now.reactive
    return (
        f"{now.moment:%a %H:%M}  load {now.load_now:6.0f}  forecast {'-' if ahead is None else f'{ahead:.0f}':>6}  "
        f"kedastral {predictive.asked} asked {predictive.ready} ready {predictive.missing:.0f} not served  "
        f"reactive {reactive.asked} asked {reactive.ready} ready {reactive.missing:.0f} not served"
    )


class _Screen:
    """The live picture, with the last hours of loads and capacities for its chart."""

    def __init__(self, demo: Demo, settings: DemoSettings) -> None:
        self._demo = demo
        self._settings = settings
        self._loads: deque[float] = deque(maxlen=PAST)
        self._http_port, self._grpc_port = demo.ports
        self._capacity: tuple[deque[float], deque[float]] = (deque(maxlen=PAST), deque(maxlen=PAST))

    def remember(self) -> None:
        """Keep one column of the chart for every three minutes."""
        now = self._demo.comparison
        if round(now.at / SYNC_PERIOD) % round(COLUMN_SECONDS / SYNC_PERIOD) == 0:
            self._loads.append(now.load_now)
            for kept, one in zip(self._capacity, (now.predictive, now.reactive), strict=True):
                kept.append(one.ready * now.target_per_pod)

    def render(self) -> Group:
        """The whole picture, from the newest state."""
        demo, now = self._demo, self._demo.comparison
        snapshot = demo.snapshot()
        head = Text.assemble(
            (f" {now.moment:%A %H:%M} ", "bold reverse"),
            f"  {demo.clock.speed:g} times as fast as life · model {self._settings.forecast.model}",
            f" · lead time {demo.lead_time / 60:g} min",
        )
        if now.event is not None:
            head.append(f"\n {now.event}", "bold yellow")
        if snapshot is None:
            return Group(head, Text("waiting for the first forecast …"))
        return Group(head, self._chart(), self._table(), self._foot())

    def _chart(self) -> Panel:
        demo = self._demo
        ahead = _thin_out(demo.snapshot(), AHEAD)
        top = max(1.0, *self._loads, *ahead, *self._capacity[0], *self._capacity[1])
        rows = Table.grid(padding=(0, 1))
        rows.add_row("load │ forecast", _bars(self._loads, top, "cyan") + Text("│") + _bars(ahead, top, "bold yellow"))
        rows.add_row("Ready, kedastral", _bars(self._capacity[0], top, "green"))
        rows.add_row("Ready, reactive", _bars(self._capacity[1], top, "magenta"))
        return Panel(rows, title="load, and what the Ready pods can serve", title_align="left", border_style="dim")

    def _table(self) -> Table:
        demo, now = self._demo, self._demo.comparison
        ahead = demo.forecast_at_lead()
        table = Table("", "kedastral", REACTIVE, box=None, header_style="bold")
        for column in table.columns[1:]:
            column.justify = "right"
        table.add_row("load now", *[f"{now.load_now:,.0f}/s"] * 2)
        table.add_row("forecast at the lead", "-" if ahead is None else f"{ahead:,.0f}/s", "-")
        both = (now.predictive, now.reactive)
        table.add_row("replicas asked for", *("held" if f.asked is None else str(f.asked) for f in both))
        table.add_row("pods Ready", *(str(f.ready) for f in both))
        table.add_row("load not served now", *(_colour(f.missing, f"{f.missing:,.0f}/s") for f in both))
        for label, *cells in _totals(demo):
            table.add_row(label, *cells)
        return table

    def _foot(self) -> Text:
        where = f"curl 'http://localhost:{self._http_port}/forecast/current?workload={self._demo.workload}'"
        return Text(f" {where}\n gRPC on port {self._grpc_port} · Ctrl-C ends", style="dim")


def _totals(demo: Demo) -> list[tuple[str, str, str]]:
    now = demo.comparison
    demand = now.demand or 1.0
    rows: list[tuple[str, Callable[[Deployment], str]]] = [
        ("load not served so far", lambda one: f"{one.missed / demand:.2%}"),
        ("minutes short of pods", lambda one: f"{one.short_seconds / 60:,.0f}"),
        ("pod-hours", lambda one: f"{one.pod_seconds / 3600:,.0f}"),
    ]
    return [(label, show(now.predictive), show(now.reactive)) for label, show in rows]


def _make_summary(demo: Demo) -> Table:
    hours = demo.comparison.at / 3600
    table = Table("", "kedastral", REACTIVE, title=f"{hours:.1f} hours of the demo's time")
    for label, *cells in _totals(demo):
        table.add_row(label, *cells)
    return table


def _thin_out(snapshot: Snapshot | None, columns: int) -> list[float]:
    """The forecast in at most ``columns`` values."""
    if snapshot is None:
        return []
    values = snapshot.forecast.values
    return [float(value) for value in values[:: -(-len(values) // columns)]]


def _bars(values: Iterable[float], top: float, style: str) -> Text:
    levels = len(BARS) - 1
    return Text("".join(BARS[min(levels, round(value / top * levels))] for value in values), style=style)


def _colour(amount: float, text: str) -> Text:
    return Text(text, style="bold red" if amount > 0 else "green")
