# SPDX-License-Identifier: Apache-2.0
"""The demo: `run` on an embedded source and a fast clock, and two simulated Deployments to compare.

The forecast, the plan and the answer to KEDA come from the parts of `kedastral run` itself. Only the load and the
cluster are simulated: the HPA with Kubernetes' defaults, and pods that take time to start. Both Deployments have the
same HPA and the same start-up; one is scaled by Kedastral, the other by a reactive metric.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

import attrs
import trio

from kedastral.adapters.synthetic import SyntheticLoad, SyntheticSource
from kedastral.app import App
from kedastral.clock import AcceleratedClock
from kedastral.compose import Common, demo_fleet, make_forecasting, make_run_app
from kedastral.core.capacity import ReplicaBounds
from kedastral.core.forecast_status import StatusCode
from kedastral.core.planning.snapshot import Snapshot, desired_at
from kedastral.serving.listening import port_of
from kedastral.serving.scaler import Scaler
from kedastral.settings.commands import DemoSettings
from kedastral.simulation.cluster import PodFleet
from kedastral.simulation.hpa import Hpa, HpaBehavior, HpaMetric
from kedastral.workloads.fleet import Fleet

BEGIN = datetime(2026, 3, 2, 8, 45, tzinfo=UTC)
"""A Monday morning, 45 minutes before the campaign, so that the first minute shows a rise. Fixed, so that everyone sees
the same day."""
SYNC_PERIOD = 15.0
"""Seconds between two decisions of the HPA, as in Kubernetes."""
CONTROL_DELAY = 60.0
"""Seconds of the lead time that KEDA, the HPA and the scheduler use; the rest is the pod's own start."""
MEASURED_BEFORE = timedelta(seconds=30)
"""How old a reactive metric is: ``rate(...[1m])`` is the load of half a minute ago."""
REACTIVE_UTILISATION = 0.8
"""The target of the reactive HPA: 80 %, the usual setting."""


@attrs.define
class Deployment:
    """One Deployment under its HPA, and how well it has served the load so far.

    ``short_seconds`` had too few pods; ``surprised_seconds`` of them were during a flash, which nobody can foresee.
    """

    hpa: Hpa
    pods: PodFleet
    asked: int | None = None
    ready: int = 0
    missing: float = 0.0
    missed: float = 0.0
    short_seconds: float = 0.0
    surprised_seconds: float = 0.0
    pod_seconds: float = 0.0

    def sync(self, at: float, metric: HpaMetric) -> None:
        """Let the HPA decide by ``metric`` at ``at`` seconds."""
        self.pods.order(at, self.hpa.recommend(at, self.pods.ordered, [metric]))

    @property
    def foreseeable_seconds(self) -> float:
        """The seconds with too few pods that the history could have predicted."""
        return self.short_seconds - self.surprised_seconds

    def serve(self, at: float, load: float, target_per_pod: float, seconds: float, *, is_flash: bool) -> None:
        """Serve ``load`` for ``seconds`` with the pods that are Ready at ``at``, and add up the shortage."""
        self.ready = self.pods.ready(at)
        self.missing = max(0.0, load - self.ready * target_per_pod)
        self.missed += self.missing * seconds
        if self.missing > 0:
            self.short_seconds += seconds
            self.surprised_seconds += seconds if is_flash else 0.0
        self.pod_seconds += self.pods.ordered * seconds


@attrs.define
class DemoComparison:
    """Both Deployments, simulated from one HPA sync to the next by `advance`; loads in requests per second."""

    load: SyntheticLoad
    target_per_pod: float
    predictive: Deployment
    reactive: Deployment
    at: float = 0.0
    load_now: float = 0.0
    demand: float = 0.0

    @classmethod
    def begin(cls, load: SyntheticLoad, settings: DemoSettings) -> "DemoComparison":
        """Both Deployments with the pods that the initial load needs."""
        plan = settings.plan.policy(settings.forecast.step)
        start_seconds = max(settings.serving.lead_time - CONTROL_DELAY, settings.serving.lead_time / 2)
        enough = plan.bounds.clamp(-(-load.at(BEGIN) // (plan.target_per_pod * REACTIVE_UTILISATION)))

        bounds = ReplicaBounds(max(1, plan.bounds.min), plan.bounds.max)

        def deployment(behavior: HpaBehavior) -> Deployment:
            return Deployment(Hpa(behavior, bounds), PodFleet(enough, start_seconds), ready=enough)

        tolerant = HpaBehavior.KUBERNETES
        exact = attrs.evolve(
            tolerant, up=attrs.evolve(tolerant.up, tolerance=0.0), down=attrs.evolve(tolerant.down, tolerance=0.0)
        )
        return cls(load, plan.target_per_pod, deployment(exact), deployment(tolerant), load_now=load.at(BEGIN))

    def advance(self, replicas: int | None) -> None:
        """Simulate one sync of both HPAs: KEDA is given ``replicas``, None for an error that makes the HPA hold."""
        moment = BEGIN + timedelta(seconds=self.at)
        self.load_now = self.load.at(moment)
        measured = self.load.at(moment - MEASURED_BEFORE)
        self.demand += self.load_now * SYNC_PERIOD
        target = self.target_per_pod * REACTIVE_UTILISATION
        self.predictive.asked, self.reactive.asked = replicas, int(-(-measured // target))
        self.predictive.sync(self.at, HpaMetric(None if replicas is None else float(replicas)))
        self.reactive.sync(self.at, HpaMetric(measured, target))
        for one in (self.predictive, self.reactive):
            one.serve(self.at, self.load_now, self.target_per_pod, SYNC_PERIOD, is_flash=self.load.is_flash_at(moment))
        self.at += SYNC_PERIOD

    @property
    def event(self) -> str | None:
        """What was special at the newest sync; None for an ordinary day."""
        return self.load.event_at(self.moment)

    @property
    def moment(self) -> datetime:
        """The time of the newest sync."""
        return BEGIN + timedelta(seconds=max(0.0, self.at - SYNC_PERIOD))


@attrs.frozen
class Demo:
    """The running demo: the app of `run`, its clock, and the comparison."""

    app: App
    fleet: Fleet
    scaler: Scaler
    clock: AcceleratedClock
    comparison: DemoComparison
    workload: str
    lead_time: float

    @property
    def ports(self) -> tuple[int, int]:
        """The ports of HTTP and gRPC; read them before `App.run` takes over the sockets."""
        assert self.app.grpc is not None  # noqa: S101 - made with a scaler
        return port_of(self.app.http.listener), port_of(self.app.grpc.listener)

    def snapshot(self) -> Snapshot | None:
        """The newest snapshot, as served over HTTP."""
        return self.scaler.reader.get(self.workload)

    def replicas_for_keda(self) -> int | None:
        """The replicas that KEDA would be given right now; None for an error."""
        return self.scaler.decide(self.workload).replicas

    def forecast_at_lead(self) -> float | None:
        """The load expected one lead time from now."""
        snapshot = self.snapshot()
        at = self.clock.now() + timedelta(seconds=self.lead_time)
        if snapshot is None or desired_at(snapshot, at) is None:
            return None
        index = int((at - snapshot.made_at).total_seconds() / snapshot.forecast.step)
        return float(snapshot.forecast.values[min(index, len(snapshot.forecast.values) - 1)])

    async def wait_for_forecast(self) -> None:
        """Wait for the app's first forecast, which may take a second, and only then start the clock."""
        while self._is_learning():
            await self.fleet.store.wait_for_change(self.workload)
        self.clock.begin()

    def _is_learning(self) -> bool:
        snapshot = self.snapshot()
        return snapshot is None or snapshot.status.code is StatusCode.LEARNING

    async def compare(self, duration: float, on_sync: Callable[[], None]) -> None:
        """Advance the comparison with the clock for ``duration`` seconds of its time, then return."""
        began = trio.current_time() if self.clock.origin is None else self.clock.origin
        while self.comparison.at < duration:
            await trio.sleep_until(began + self.comparison.at / self.clock.speed)
            self.comparison.advance(self.replicas_for_keda())
            on_sync()


@asynccontextmanager
async def open_demo(settings: DemoSettings) -> AsyncIterator[Demo]:
    """Make the demo's parts. Raises BindError, ConfigError."""
    async with AsyncExitStack() as stack:
        load = SyntheticLoad(peak=15 * settings.plan.target_per_pod)
        clock = AcceleratedClock(BEGIN, settings.pace.speed, origin=None)  # stopped until the first forecast is made
        source = SyntheticSource(load, settings.forecast.history_window, settings.forecast.step)
        common = Common(clock, stack)
        forecasting = make_forecasting(demo_fleet(settings), common, lambda _: source)
        app = make_run_app(settings, forecasting, common)
        if app.grpc is None:
            raise AssertionError("the single process always has a scaler")
        comparison = DemoComparison.begin(load, settings)
        scaler, serving = app.grpc.service.scaler, settings.serving
        yield Demo(app, forecasting.fleet, scaler, clock, comparison, settings.name.workload, serving.lead_time)
