# SPDX-License-Identifier: Apache-2.0
"""`Pair`: two workloads in virtual time, one of which has a fault, and what KEDA is told meanwhile."""

import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from email.utils import format_datetime

import attrs
import httpx
import trio
from grpclib.const import Status

from kedastral._proto import externalscaler_pb2 as pb
from kedastral.adapters.in_process import InProcessForecaster
from kedastral.adapters.prometheus.limits import RequestLimits
from kedastral.adapters.prometheus.range_queries import RangeQuery
from kedastral.adapters.prometheus.source import PrometheusSource
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.ports import Forecaster
from kedastral.core.series import Series
from kedastral.errors import StoreError, WorkloadError
from kedastral.grpclib_trio import Server
from kedastral.serving.metrics import Metrics
from kedastral.serving.scaler import ExternalScaler, Scaler
from kedastral.workloads.guarded_tick import GuardedTick
from kedastral.workloads.tick import ForecastLoop
from kedastral.workloads.ticker import Beats, run_ticker
from tests.adapters.answers import client_of, matrix
from tests.grpclib_trio.peers import MemoryListener
from tests.keda_client import open_client
from tests.loop.site import HORIZON, LEAD, STEP, TARGET, Foresight, RecordingStore, Wanted
from tests.parts import START, FixedResolver

BEGIN, PEAK_BEGIN, PEAK_END, END, OVER = 600.0, 1500.0, 1800.0, 2160.0, 2280.0
"""Seconds: the fault begins, a peak of the load begins and ends, the fault ends, and the test ends."""
INTERVAL = 60.0
STALE_AFTER, DEFAULT_MIN = 120.0, 3
FIRST, SPARSE = 540, 10
Told = int | str
"""Replicas, or the status without them."""
Fault = Callable[[httpx.Request], Awaitable[httpx.Response]]
"""What Prometheus does with a request of the workload that has the fault."""


def load(second: float) -> float:
    """400 until the fault begins; then little, except for a peak that was forecast."""
    if second < BEGIN:
        return 400.0
    return 900.0 if PEAK_BEGIN <= second < PEAK_END else 100.0


def is_faulty() -> bool:
    """Whether the fault is active now."""
    return BEGIN <= trio.current_time() < END


def answer_honestly(request: httpx.Request) -> httpx.Response:
    """The load at the requested times up to now, and the correct time."""
    response = matrix([(at, str(value)) for at, value in points_of(request)])(request)
    response.headers["Date"] = format_datetime(START + timedelta(seconds=trio.current_time()), usegmt=True)
    return response


def points_of(request: httpx.Request) -> list[tuple[float, float]]:
    """The points that Prometheus has for a range query: each is the load of the minute before it."""
    asked = request.url.params
    begin, step, origin = float(asked["start"]), float(asked["step"]), START.timestamp()
    last = min(float(asked["end"]), origin + trio.current_time())
    times = [begin + n * step for n in range(math.floor((last - begin) / step) + 1)]
    return [(at, load(at - origin - step / 2)) for at in times]


@attrs.frozen
class PairedPrometheus:
    """Answers both workloads; "shop" by ``fault`` while the fault is active."""

    fault: Fault | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        if self.fault is not None and is_faulty() and request.url.params["query"] == "shop":
            return await self.fault(request)
        return answer_honestly(request)


@attrs.frozen
class ShiftingClock:
    """Wall time that follows Trio's clock, and is ``seconds`` off while the fault is active."""

    seconds: float = 0.0
    speed: float = 1.0

    def now(self) -> datetime:
        """See `kedastral.clock.WallClock.now`."""
        return START + timedelta(seconds=trio.current_time() + (self.seconds if is_faulty() else 0.0))


@attrs.define
class FailingStore(RecordingStore):
    """Rejects plans of "shop" while the fault is active, if ``fails``."""

    fails: bool = False

    async def put(self, snapshot: Snapshot) -> bool:
        """See `kedastral.core.ports.SnapshotStore.put`."""
        if self.fails and is_faulty() and snapshot.workload == "shop":
            raise StoreError("the disk is full", reason="full")
        return await super().put(snapshot)


@attrs.frozen
class Seen:
    """What KEDA was told of both workloads under each policy, second by second, and what was published.

    It starts at `FIRST`; the other workload is sampled every `SPARSE` seconds.
    """

    told: dict[tuple[str, OnStale], dict[int, Told]]
    published: dict[str, list[tuple[float, Snapshot]]]
    errors: Sequence[str]

    def runs(self, policy: OnStale, workload: str = "shop") -> list[tuple[int, Told]]:
        """Each answer and the second in which it was first given."""
        found = list[tuple[int, Told]]()
        for second, what in self.told[workload, policy].items():
            if not found or found[-1][1] != what:
                found.append((second, what))
        return found

    def too_few(self, policy: OnStale) -> list[tuple[int, Told, int]]:
        """Each second in which "shop" got fewer than the last good plan, read by wall clock, or its floor asks for."""
        wanted, wrong = Wanted(self.published["shop"]), list[tuple[int, Told, int]]()
        for second, what in self.told["shop", policy].items():
            wish = wanted.at(second + 0.5)
            if wish is not None and isinstance(what, int) and what < wish:
                wrong.append((second, what, wish))
        return wrong

    def disturbed(self) -> list[tuple[float, object]]:
        """The effects of the fault on the other workload: a late or missing tick, or a wrong answer."""
        times = [at for at, _ in self.published["other"]]
        wrong: list[tuple[float, object]] = [
            (due, "no plan") for due in range(0, round(OVER), round(INTERVAL)) if not _has(times, due)
        ]
        for policy in OnStale:
            wanted = Wanted(self.published["other"])
            for second, what in self.told["other", policy].items():
                if what != (wish := wanted.at(second + 0.5)):
                    wrong.append((second, (policy, what, wish)))
        return wrong


def _has(times: Sequence[float], due: float) -> bool:
    return any(due <= at < due + 0.4 for at in times)


@attrs.frozen(kw_only=True)
class Pair:
    """Both workloads, from Prometheus to KEDA's answers; by default nothing is wrong."""

    prometheus: Fault | None = None
    forecaster: Forecaster | None = None
    """The forecaster of "shop" during the fault."""
    clock: ShiftingClock = attrs.field(factory=ShiftingClock)
    clock_is_faulty: bool = False
    """Both workloads share the clock: if it is wrong, the other one fails as well."""
    store_fails: bool = False

    async def play(self) -> Seen:
        """Let `OVER` seconds pass."""
        store = FailingStore(fails=self.store_fails)
        scalers = {policy: self._make_scaler(store, policy) for policy in OnStale}
        told: dict[tuple[str, OnStale], dict[int, Told]] = {(w, p): {} for w in ("shop", "other") for p in OnStale}
        errors: list[str] = []
        limits = RequestLimits(2, 50)
        listeners = {policy: MemoryListener() for policy in OnStale}
        async with client_of(PairedPrometheus(self.prometheus)) as client, trio.open_nursery() as nursery:
            for name in ("shop", "other"):
                query = RangeQuery(name, HORIZON, STEP, STALE_AFTER, settle_after=0.0)
                loop = self._make_loop(name, PrometheusSource(client, query, limits=limits), store)
                tick = GuardedTick(loop, _noting(errors) if name == "shop" or self.clock_is_faulty else _refuse)
                nursery.start_soon(run_ticker, tick.tick, Beats.from_now(INTERVAL))
            for policy, listener in listeners.items():
                service = ExternalScaler(scalers[policy], Metrics())
                nursery.start_soon(serve_scaler, service, listener)
            for second in range(FIRST, round(OVER)):
                await trio.sleep_until(second + 0.5)
                for (workload, policy), said in told.items():
                    if workload == "shop" or not second % SPARSE:
                        replicas = scalers[policy].decide(workload).replicas
                        said[second] = Status.UNAVAILABLE.name if replicas is None else replicas
                if second % 300 == 0:  # and this is what goes over the wire
                    for policy, listener in listeners.items():
                        assert await ask(listener) == told["shop", policy][second]
            nursery.cancel_scope.cancel()
        published = {w: [one for one in store.published if one[1].workload == w] for w in ("shop", "other")}
        return Seen(told, published, errors)

    def _make_scaler(self, store: FailingStore, policy: OnStale) -> Scaler:
        resolver = FixedResolver.of("shop", "other", policy=StalePolicy(STALE_AFTER, policy, DEFAULT_MIN))
        return Scaler(store, self.clock, resolver)

    def _make_loop(self, name: str, source: PrometheusSource, store: FailingStore) -> ForecastLoop:
        policy = PlanPolicy(TARGET, 1.2, ReplicaBounds(2, 50), up_max_factor=100.0, down_max_pct=100.0, prewarm_steps=0)
        healthy = InProcessForecaster(Foresight(load))
        return ForecastLoop(
            workload=Workload(name, "rps", round(HORIZON / STEP), LEAD, policy, 1.1),
            source=source,
            forecaster=healthy if self.forecaster is None or name != "shop" else Failing(healthy, self.forecaster),
            store=store,
            clock=self.clock,
        )


@attrs.frozen
class Failing:
    """A forecaster that ``faulty`` replaces while the fault is active."""

    healthy: Forecaster
    faulty: Forecaster
    name: str = "failing"

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.ports.Forecaster.forecast`."""
        return await (self.faulty if is_faulty() else self.healthy).forecast(history, made_at, steps)


async def ask(listener: MemoryListener) -> Told:
    """What GetMetrics says of "shop"."""
    ref = pb.ScaledObjectRef(name="web", namespace="prod", scalerMetadata={"workload": "shop"})
    request = pb.GetMetricsRequest(scaledObjectRef=ref, metricName="desired_replicas")
    answer = await open_client(listener.connect()).call("GetMetrics", request)
    if answer.status is not Status.OK:
        return str(answer.status.name)
    [value] = answer.read(pb.GetMetricsResponse)[0].metricValues
    return int(value.metricValue)


async def serve_scaler(service: ExternalScaler, listener: MemoryListener) -> None:
    """Serve ``service`` until cancelled."""
    await Server([service]).serve([listener], shutdown=trio.Event())


def _noting(errors: list[str]) -> Callable[[WorkloadError], None]:
    def note(error: WorkloadError) -> None:
        errors.append(f"{error.component}/{error.reason}")

    return note


def _refuse(error: WorkloadError) -> None:
    raise AssertionError("the other workload failed") from error
