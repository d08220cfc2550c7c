# SPDX-License-Identifier: Apache-2.0
"""The page's server with workloads that the test controls: real HTTP, in its own thread, without forecasting."""

import math
import socket
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import attrs
import numpy as np
import trio

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.failures import Failure
from kedastral.core.forecast import Experts, Forecast
from kedastral.core.forecast_status import ForecastStatus
from kedastral.core.planning.planner import Workload, plan_step
from kedastral.core.planning.service_level import ServiceLevelGoal, ServiceLevelReport
from kedastral.core.planning.snapshot import Mode, Snapshot
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.planning.steering import DaySpent, SteeringSettings
from kedastral.core.series import Series, align_down
from kedastral.serving.http_server import HttpLimits, serve_http
from kedastral.serving.metrics import Metrics
from kedastral.serving.readiness import Readiness
from kedastral.serving.recent import RecentLoads
from kedastral.serving.snapshot_api import PROBES, create_app
from kedastral.serving.store import MemoryStore
from kedastral.serving.token_gate import TokenGate
from kedastral.serving.view import SnapshotView
from kedastral.serving.workloads_api import SettingInForce, WorkloadsView
from tests.integration.conftest import free_port

POLICY = PlanPolicy(200.0, 1.2, ReplicaBounds(2, 50))
STALE = StalePolicy(120.0, OnStale.RIDE_FORECAST)
HOSTILE = "<img src=x onerror=alert(1)>"
STEP = 60.0
NOW = datetime(2026, 3, 2, 9, 15, 4, tzinfo=UTC)
"""Near the top of `day`, where a burst needs more pods than any test allows."""


@attrs.frozen
class FrozenClock:
    """Always `NOW`: plans and pages depend on no real clock."""

    speed: float = 1.0

    def now(self) -> datetime:
        return NOW


def day(at: float, scale: float) -> float:
    """A load that rises and falls within four hours, with some ripple; ``at`` is in epoch seconds."""
    return scale * (1.3 + math.sin(2 * math.pi * at / 14400) + 0.08 * math.sin(at / 170) + 0.05 * math.sin(at / 61))


def plan_at(
    key: str,
    now: datetime,
    scale: float,
    previous: Snapshot | None = None,
    known: int = 8 * 60 + 1,
    gaps: Sequence[int] = (),
) -> tuple[Series, Snapshot]:
    """The history and the plan of one workload at ``now``.

    The last ``known`` minutes of the history have a value, but for ``gaps``, counted back from 0, the newest.
    """
    newest = align_down(now, STEP)
    start = newest - timedelta(hours=8)
    times = start.timestamp() + STEP * np.arange(8 * 60 + 1)
    loads = np.array([day(at, scale) for at in times])
    loads[: len(loads) - known] = np.nan
    loads[[-1 - gap for gap in gaps]] = np.nan
    history = Series(start, STEP, loads)
    ahead = now.timestamp() + STEP * np.arange(1, 31)  # a load is dated by the end of its step
    names = ("day-ahead", "trend", "last", "random-features")
    experts = Experts(names, [300.0], [[0.6], [0.3], [0.1], [0.0]], [[0.4], [0.7], [1.0], [math.nan]])
    forecast = Forecast(now, STEP, np.array([day(at, scale) for at in ahead]), experts)
    workload = Workload(key, "rps", 30, 300.0, POLICY, goal=ServiceLevelGoal())
    return history, plan_step(workload, history, forecast, previous, served=4)


@attrs.define
class LiveSite:
    """Served on a free port of the loopback; use it in a ``with``."""

    token: str | None = None
    port: int = attrs.field(factory=free_port, init=False)
    store: MemoryStore = attrs.field(factory=MemoryStore, init=False)
    recent: RecentLoads = attrs.field(init=False)
    failures: dict[str, Failure] = attrs.field(factory=dict, init=False)
    keys: list[str] = attrs.field(factory=list, init=False)
    policy: StalePolicy = STALE
    readiness: Readiness = attrs.field(factory=lambda: Readiness.of(()), init=False)
    _thread: threading.Thread | None = attrs.field(default=None, init=False)
    _stop: trio.Event | None = attrs.field(default=None, init=False)
    _trio: trio.lowlevel.TrioToken | None = attrs.field(default=None, init=False)
    _up: threading.Event = attrs.field(factory=threading.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self.recent = RecentLoads(lambda key: self.store.get(key) is not None, lambda _: self.policy)

    def __enter__(self) -> "LiveSite":
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._up.clear()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,), daemon=True)
        self._thread.start()
        assert self._up.wait(30)

    def stop(self) -> None:
        """End the process; its port stays reserved."""
        assert self._trio is not None
        assert self._stop is not None
        assert self._thread is not None
        if self._thread.is_alive():
            self._trio.run_sync_soon(self._stop.set)
            self._thread.join(30)

    def publish(
        self, key: str, now: datetime, scale: float, known: int = 8 * 60 + 1, gaps: Sequence[int] = ()
    ) -> Snapshot:
        """One tick of ``key``, from the test's thread; see `plan_at`."""
        history, snapshot = plan_at(key, now, scale, self.store.get(key), known, gaps)
        trio.from_thread.run(self.store.put, snapshot, trio_token=self._trio)
        self.recent.record(history, snapshot, now)
        return snapshot

    def fill(self, keys: Sequence[str], now: datetime) -> None:
        """Workloads that share one plan, so that a thousand of them are made quickly."""
        history, snapshot = plan_at("any", now, 300.0)

        async def put_all() -> None:
            for key in keys:
                one = attrs.evolve(snapshot, workload=key)
                await self.store.put(one)
                self.recent.record(history, one, now)

        trio.from_thread.run(put_all, trio_token=self._trio)

    def replace(self, key: str, **changes: ForecastStatus | ServiceLevelReport | Mode | int) -> None:
        """Change something of the newest snapshot of ``key``."""
        snapshot = self.store.get(key)
        assert snapshot is not None
        trio.from_thread.run(self.store.put, attrs.evolve(snapshot, **changes), trio_token=self._trio)

    def judge(self, key: str, minutes: float, short: float, at_max: float = 0.0) -> None:
        """Pretend that so many minutes of ``key`` were judged, ``short`` of them short of pods, some ``at_max``."""
        snapshot = self.store.get(key)
        assert snapshot is not None
        assert snapshot.service_level is not None
        report, day = snapshot.service_level, int(NOW.timestamp() // 86400)
        spent = (DaySpent(day - 20, minutes - minutes / 4, short, 0.0, at_max), DaySpent(day, minutes / 4, 0.0))
        steering = attrs.evolve(report.state.steering, spent=spent)
        share, state = steering.budget_spent(SteeringSettings(POLICY)), attrs.evolve(report.state, steering=steering)
        self.replace(key, service_level=attrs.evolve(report, state=state, budget_spent=share))

    def _settings(self, key: str) -> Sequence[SettingInForce]:
        return (
            SettingInForce("--lead-time", "5m", "default"),
            SettingInForce("--target-per-pod", "200", "policies.yaml, document 3"),
        )

    async def _serve(self) -> None:
        self._trio, self._stop = trio.lowlevel.current_trio_token(), trio.Event()
        listener = socket.create_server(("127.0.0.1", self.port))
        listener.setblocking(False)
        view = SnapshotView(self.store, lambda _: self.policy, FrozenClock())
        shown = WorkloadsView(view, self.recent, lambda: self.keys, lambda: self.failures, self._settings)
        token = self.token
        gate = None if token is None else TokenGate(lambda: token)
        app = create_app(view, self.readiness, Metrics().registry, gate=gate, workloads=shown)
        with listener:
            async with trio.open_nursery() as nursery:
                serve = partial(serve_http, limits=HttpLimits(), probes=PROBES)
                await nursery.start(serve, app, listener, self._stop)
                self._up.set()
