# SPDX-License-Identifier: Apache-2.0
"""`kedastral demo`: draws a live screen in a terminal, else prints a line per half hour of demo time; then totals."""

from collections import deque
from datetime import datetime, timedelta

import trio
from rich.console import Console, Group
from rich.live import Live

from kedastral.app import run_until_signal
from kedastral.cli.demo_screen import AHEAD, COLUMN_SECONDS, Column, DemoState, draw, draw_summary
from kedastral.core.planning.snapshot import Snapshot
from kedastral.demo import BEGIN, SYNC_PERIOD, Demo, Deployment, open_demo
from kedastral.settings.commands import DemoSettings
from kedastral.settings.types import write_duration

FRAMES_PER_SECOND = 6
LINE_EVERY = timedelta(minutes=30)
DEFAULT_PORT = 8081
"""The port that `kedastral explain` uses without ``--url``."""
KEPT_COLUMNS = 400
"""How many columns of the picture are kept: more than any terminal shows."""


async def run_demo(settings: DemoSettings) -> None:
    """Run and draw the demo until its time is over or a signal arrives. Raises BindError."""
    console = Console()
    async with open_demo(settings) as demo:
        http, grpc = demo.ports
        console.print(f"The page: http://localhost:{http}/   gRPC on port {grpc}", highlight=False)
        async with trio.open_nursery() as nursery:
            await nursery.start(_run_app, demo, nursery.cancel_scope)
            if console.is_terminal:
                await _draw_live(console, demo, settings)
            else:
                await _write_lines(console, demo, settings)
            demo.app.stopping.set()
    console.print(draw_summary(demo.comparison))


async def _run_app(demo: Demo, everything: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    await run_until_signal(demo.app, task_status=task_status)
    everything.cancel()  # stopped by a signal: nothing is left to draw


async def _draw_live(console: Console, demo: Demo, settings: DemoSettings) -> None:
    screen = _Screen(demo, settings)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_refresh_forever, live, screen)
            await demo.wait_for_forecast()
            screen.has_learned = True
            await demo.compare(settings.pace.duration, screen.remember)
            nursery.cancel_scope.cancel()


async def _refresh_forever(live: Live, screen: "_Screen") -> None:
    while True:
        live.update(screen.render(live.console.width, live.console.height), refresh=True)
        await trio.sleep(1 / FRAMES_PER_SECOND)


async def _write_lines(console: Console, demo: Demo, settings: DemoSettings) -> None:
    console.print(f"{settings.forecast.model} is learning from the history of the demo's load …", highlight=False)
    await demo.wait_for_forecast()
    written: datetime | None = None
    shown: str | None = None

    def write() -> None:
        nonlocal written, shown
        moment, event = demo.comparison.moment, demo.comparison.event
        if event is not None and event != shown:
            console.print(f"{moment:%a %H:%M}  begins: {event}", soft_wrap=True, highlight=False)
        shown = event
        if written is None or moment - written >= LINE_EVERY:
            written = moment
            console.print(_line(demo), soft_wrap=True, highlight=False)

    await demo.compare(settings.pace.duration, write)


def _line(demo: Demo) -> str:
    now, ahead = demo.comparison, demo.forecast_at_lead()
    return (
        f"{now.moment:%a %H:%M}  load {now.load_now:6.0f}  forecast {'-' if ahead is None else f'{ahead:.0f}':>6}  "
        f"kedastral {_state_of(now.predictive)}  reactive {_state_of(now.reactive)}"
    )


def _state_of(one: Deployment) -> str:
    """The pods now, and the minutes short since the start: a shortage seldom falls on the moment of a line."""
    return f"{one.asked} asked {one.ready} ready {one.short_seconds / 60:.0f} min short so far"


class _Screen:
    """The live screen, with the last hours of loads and capacities for its picture."""

    def __init__(self, demo: Demo, settings: DemoSettings) -> None:
        self._demo = demo
        self._began = trio.current_time()
        self.has_learned = False
        http, _ = demo.ports
        self._setup = (
            f"{demo.clock.speed:g} times as fast as life · model {settings.forecast.model} · "
            f"lead {write_duration(demo.lead_time)}"
        )
        url = "" if http == DEFAULT_PORT else f" --url http://localhost:{http}"
        self._where = f"kedastral explain {demo.workload}{url} · Ctrl-C ends"
        before = range(-KEPT_COLUMNS, 1)
        loads = [demo.comparison.load.at(BEGIN + timedelta(seconds=COLUMN_SECONDS * column)) for column in before]
        self._past = deque(map(Column, loads), maxlen=KEPT_COLUMNS)

    def remember(self) -> None:
        """Record one column of the picture for every three minutes."""
        now = self._demo.comparison
        if round(now.at / SYNC_PERIOD) % round(COLUMN_SECONDS / SYNC_PERIOD) == 0:
            ready = (one.ready * now.target_per_pod for one in (now.predictive, now.reactive))
            self._past.append(Column(now.load_now, *ready))

    def render(self, width: int, height: int) -> Group:
        """The whole screen, from the newest state."""
        demo = self._demo
        learning = None if self.has_learned else trio.current_time() - self._began
        state = DemoState(
            comparison=demo.comparison,
            past=self._past,
            forecast=_thin_out(demo.snapshot(), AHEAD) if self.has_learned else (),
            at_lead=demo.forecast_at_lead() if self.has_learned else None,
            setup=self._setup,
            where=self._where,
            learning_seconds=learning,
        )
        return draw(state, width, height)


def _thin_out(snapshot: Snapshot | None, columns: int) -> list[float]:
    """The forecast thinned to at most ``columns`` values."""
    if snapshot is None:
        return []
    values = snapshot.forecast.values
    return [float(value) for value in values[:: -(-len(values) // columns)]]
