# SPDX-License-Identifier: Apache-2.0
"""Saved states and histories for tests, and `MemoryStates`, which keeps them in memory."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

import attrs
import numpy as np
import trio

from kedastral.core.data_quality.findings import Findings
from kedastral.core.data_quality.lost_series import LostSeries
from kedastral.core.data_quality.outliers import Outliers
from kedastral.core.data_quality.settling import SettlingPoint, SettlingState
from kedastral.core.kept_state import KeptHistory, KeptState, SourceState, StateBasis
from kedastral.core.planning.peak_regression import FEATURES, PeakRegression
from kedastral.core.planning.service_level import ServiceLevelReport, ServiceLevelState
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stabilization import Recommendation, Resumption, UnstabilizedPlan
from kedastral.core.planning.steering import Account, DaySpent, SteeringState
from kedastral.core.planning.uncertainty import (
    Calibration,
    IntervalForecast,
    PendingWindow,
    RegressionTrial,
    UncertaintyState,
)
from kedastral.core.series import DataQuality, Floats, Observation, Series
from kedastral.core.trigger import ObjectRef
from kedastral.errors import StoreError
from kedastral.state_format import StateFormatError, read_history, read_state, write_history, write_state
from tests.parts import START, make_snapshot

BASIS = StateBasis(
    source="http://prometheus:9090", query="sum(rate(requests[2m]))", step=60.0, settle_after=None, model="auto",
    timezone="UTC", lead_time=180.0, prewarm_steps=2, target_per_pod=100.0, headroom=None, service_level=0.99,
)  # fmt: skip
NOON = START.timestamp()

INTERVAL = IntervalForecast(500.0, (600.0, 650.5), 480.25)
REGRESSED = IntervalForecast(700.0, (750.0, 800.5), 480.25)
REGRESSION = PeakRegression(
    NOON - 10800, 60.0, 480.0, 250.5, (0.0,) * FEATURES + (0.25,), 6900.0, (-0.5,) * FEATURES, (0.75,) * FEATURES
)
STATE = ServiceLevelState(
    uncertainty=UncertaintyState(
        model=Calibration(0.1, 0.2, (1.5, 1.75), (0.91, 0.96), 0.01, 77, 3.5),
        last=Calibration(windows=77, pinball_loss=0.02),
        pending=(PendingWindow(NOON, 3, INTERVAL, INTERVAL, REGRESSED),),
        standing_down=True,
        regressed=RegressionTrial(REGRESSION, Calibration(windows=300, pinball_loss=0.04), 2.5, 3.75),
    ),
    steering=SteeringState(
        factor=1.2345678901234567,
        peak_hold=3600.0,
        bridged_at=NOON - 7200,
        seasonal_quantile=0.25,
        judged_until=NOON - 60,
        published=(Recommendation(NOON - 60, 7), Recommendation(NOON - 30, 8)),
        spent=(DaySpent(20512, 720.0, 1.5, 300.0, 1.25, 360.0),),
        account=Account(100.5, 0.25, 20.0, 2.5),
    ),
    last_recommendation=8,
    before_stabilization=(Recommendation(NOON - 30, 6),),
    unstabilized=UnstabilizedPlan(NOON, 60.0, (3, 5, 8)),
    last_model_plan=UnstabilizedPlan(NOON, 60.0, (3, 5, 9)),
)


def make_steered_snapshot(workload: str = "shop") -> Snapshot:
    """A snapshot with every optional part."""
    made = make_snapshot(workload=workload)
    return attrs.evolve(
        made,
        service_level=ServiceLevelReport(made.forecast.values * 1.25, STATE.steering.factor, 0.99, 0.3, STATE),
        findings=Findings(
            Outliers(3, Observation(START - timedelta(hours=1), 1e9)),
            LostSeries(4, 2, START - timedelta(minutes=5)),
            raw_counter=True,
        ),
        replicas_without_max=14,
        resumption=Resumption(START - timedelta(minutes=2), 9, 120.0),
        quality=DataQuality(settling=120.0),
    )


def make_kept_state(workload: str = "shop", told: int | None = 8, saved_at: datetime = START) -> KeptState:
    """A state with every optional part."""
    settling = SettlingState(
        (SettlingPoint(29_537_880, 5.5, 0.0, 90.0), SettlingPoint(29_537_881, None, 30, 0)), 90.0, NOON
    )
    counts = Series(START - timedelta(minutes=2), 60.0, [np.nan, 4.0, 6.0])
    return KeptState(
        workload=workload,
        saved_at=saved_at,
        basis=BASIS,
        snapshot=make_steered_snapshot(workload),
        told=told,
        source=SourceState(settling, START - timedelta(hours=3), counts),
        told_lately=((START - timedelta(seconds=30), 7), (START, 8)),
        trigger=ObjectRef("shop", "default", {"workload": workload, "query": "up"}, "10.1.2.3"),
    )


def make_kept_history(workload: str = "shop", values: Floats | None = None) -> KeptHistory:
    """Some minutes of load, including a gap."""
    loads = np.array([1.5, np.nan, 3.25, 0.0]) if values is None else values
    start = START - timedelta(minutes=len(loads))
    return KeptHistory(workload=workload, source=BASIS.source, query=BASIS.query, start=start, step=60.0, values=loads)


@attrs.define(eq=False)
class MemoryStates:
    """A `kedastral.core.ports.StateStore` of one process, of the bytes that a file or a database would hold."""

    _states: dict[str, tuple[datetime, bytes]] = attrs.field(factory=dict, init=False)
    _histories: dict[str, bytes] = attrs.field(factory=dict, init=False)
    unreadable: int = attrs.field(default=0, init=False)

    async def load_all(self) -> Mapping[str, KeptState]:
        await trio.lowlevel.checkpoint()
        return {workload: read_state(data) for workload, (_, data) in self._states.items()}

    async def load(self, workload: str) -> KeptState | None:
        await trio.lowlevel.checkpoint()
        found = self._states.get(workload)
        return None if found is None else read_state(found[1])

    async def save(self, state: KeptState) -> int:
        await trio.lowlevel.checkpoint()
        try:
            data = write_state(state)
        except StateFormatError as error:
            raise StoreError(f"the state cannot be saved: {error}", reason="bad_state") from error
        self._states[state.workload] = (state.saved_at, data)
        return len(data)

    async def load_history(self, workload: str) -> KeptHistory | None:
        await trio.lowlevel.checkpoint()
        found = self._histories.get(workload)
        return None if found is None else read_history(found)

    async def save_history(self, history: KeptHistory) -> int:
        await trio.lowlevel.checkpoint()
        self._histories[history.workload] = data = write_history(history)
        return len(data)

    async def remove(self, workload: str) -> None:
        await trio.lowlevel.checkpoint()
        self._states.pop(workload, None)
        self._histories.pop(workload, None)

    async def remove_unsaved(self, since: datetime, current: Collection[str]) -> int:
        gone = [name for name, (at, _) in self._states.items() if at < since and name not in current]
        for workload in gone:
            await self.remove(workload)
        return len(gone)
