# SPDX-License-Identifier: Apache-2.0
"""`Site`: a running Kedastral, ticks and gRPC server, in virtual time; its parts can fail and return."""

import itertools
import math
from collections.abc import Callable
from datetime import datetime, timedelta

import attrs
import trio

from kedastral.adapters.in_process import InProcessForecaster
from kedastral.clock import AcceleratedClock
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.series import Series
from kedastral.errors import ModelError, SourceError
from kedastral.grpclib_trio import Server
from kedastral.serving.metrics import Metrics
from kedastral.serving.scaler import ExternalScaler, Scaler
from kedastral.serving.store import MemoryStore
from kedastral.workloads.guarded_tick import GuardedTick
from kedastral.workloads.tick import ForecastLoop
from kedastral.workloads.ticker import Beats, run_ticker
from tests.grpclib_trio.peers import MemoryListener
from tests.parts import START, FixedResolver, wall_clock

from .keda import UnreachableError

STEP, HORIZON, LEAD, INTERVAL = 60.0, 1800.0, 300.0, 30.0
TARGET = 100.0
Load = Callable[[float], float]
"""The load by seconds since the start."""
Span = tuple[float, float]


def within(spans: tuple[Span, ...], moment: float) -> bool:
    """Whether ``moment`` is in one of ``spans``, excluding their ends."""
    return any(begin <= moment < end for begin, end in spans)


@attrs.frozen
class Outages:
    """When each part is away, in seconds since the start."""

    prometheus: tuple[Span, ...] = ()
    model: tuple[Span, ...] = ()
    kedastral: tuple[Span, ...] = ()


@attrs.frozen
class LoadSource:
    """Prometheus with half an hour of the load by the minute, or away."""

    load: Load
    away: tuple[Span, ...] = ()
    name: str = "loop"

    async def history(self, now: datetime) -> Series:
        """See `kedastral.core.ports.MetricSource.history`."""
        await trio.lowlevel.checkpoint()
        seconds = (now - START).total_seconds()
        if within(self.away, seconds):
            raise SourceError("Prometheus is away", reason="unreachable")
        newest = math.floor(seconds / STEP)
        ends = range(newest - 29, newest + 1)
        return Series(START + timedelta(seconds=ends[0] * STEP), STEP, [self.load((end - 0.5) * STEP) for end in ends])


@attrs.frozen
class Foresight:
    """A model that knows the load, so that the tests are about KEDA's answers and not the model; it may also fail."""

    load: Load
    away: tuple[Span, ...] = ()
    name: str = "foresight"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.model.Model.forecast`."""
        seconds = (made_at - START).total_seconds()
        if within(self.away, seconds):
            raise ModelError("the model is away", reason="unreachable")
        return Forecast(made_at, history.step, [self.load(seconds + (i + 0.5) * STEP) for i in range(steps)])


@attrs.define
class RecordingStore(MemoryStore):
    """Records every published plan, and when."""

    published: list[tuple[float, Snapshot]] = attrs.field(factory=list, init=False)

    async def put(self, snapshot: Snapshot) -> bool:
        """See `kedastral.core.ports.SnapshotStore.put`."""
        kept = await super().put(snapshot)
        if kept:
            self.published.append((trio.current_time(), snapshot))
        return kept

    def lose(self) -> None:
        """Forget everything, like a process that restarts."""
        self._snapshots.clear()


@attrs.define(eq=False)
class Site:
    """One workload, "shop", from its load to KEDA's answers."""

    load: Load
    policy: StalePolicy
    outages: Outages = attrs.field(factory=Outages)
    bounds: ReplicaBounds = attrs.field(factory=lambda: ReplicaBounds(2, 50))
    clock: AcceleratedClock = attrs.field(factory=wall_clock, init=False)
    store: RecordingStore = attrs.field(factory=RecordingStore, init=False)
    listener: MemoryListener | None = attrs.field(default=None, init=False)
    service: ExternalScaler = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        scaler = Scaler(self.store, self.clock, FixedResolver.of("shop", policy=self.policy))
        self.service = ExternalScaler(scaler, Metrics())

    def connect(self) -> trio.abc.Stream:
        """A new connection to the gRPC server; raises UnreachableError while there is none."""
        if self.listener is None or self.listener.closed:
            raise UnreachableError
        return self.listener.connect()

    async def run(self) -> None:
        """Tick and serve until cancelled; nothing happens while Kedastral is away."""
        ends = sorted({0.0, math.inf, *(moment for span in self.outages.kedastral for moment in span)})
        for begin, end in itertools.pairwise(ends):
            with trio.move_on_at(end):
                if within(self.outages.kedastral, begin):
                    await trio.sleep_forever()
                await self._live()

    async def _live(self) -> None:
        self.store.lose()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve)
            nursery.start_soon(run_ticker, self.make_tick().tick, Beats.from_now(INTERVAL))

    async def _serve(self) -> None:
        listener = self.listener = MemoryListener()
        server = Server([self.service], on_call=self.service.count_call)
        try:
            await server.serve([listener], shutdown=trio.Event())
        finally:
            self.listener = None

    def make_tick(self) -> GuardedTick:
        """The workload's tick."""
        policy = PlanPolicy(TARGET, 1.2, self.bounds, up_max_factor=100.0, down_max_pct=100.0, prewarm_steps=0)
        loop = ForecastLoop(
            workload=Workload(
                "shop", "rps", round(HORIZON / STEP), LEAD, policy, 1.1, stale=self.policy, interval=INTERVAL
            ),
            source=LoadSource(self.load, self.outages.prometheus),
            forecaster=InProcessForecaster(Foresight(self.load, self.outages.model)),
            store=self.store,
            clock=self.clock,
        )
        return GuardedTick(loop, lambda _: None)


@attrs.define
class Wanted:
    """The last good plan, read by wall clock, second by second and in order; reimplemented here on purpose."""

    published: list[tuple[float, Snapshot]]
    _next: int = attrs.field(default=0, init=False)
    _plan: list[int] = attrs.field(factory=list, init=False)

    def at(self, second: float) -> int | None:
        """The replicas it asks for; None without a plan, or if it no longer covers the lead time."""
        while self._next < len(self.published) and self.published[self._next][0] <= second:
            self._plan = self.published[self._next][1].replicas.tolist()
            self._next += 1
        if not self._next:
            return None
        snapshot = self.published[self._next - 1][1]
        age = second - (snapshot.made_at - START).total_seconds()
        first, last = int(age // STEP), int((age + LEAD) // STEP)
        return max(*self._plan[first : last + 1], snapshot.floor or 0) if last < len(self._plan) else None
