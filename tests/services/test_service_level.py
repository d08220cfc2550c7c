# SPDX-License-Identifier: Apache-2.0
"""The tick of a workload that is steered to a service level: warmed up once, carried on from snapshot to snapshot."""

import logging
from datetime import timedelta

import attrs
import numpy as np
import pytest

from kedastral.adapters.in_process import InProcessForecaster
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.series import Series
from kedastral.core.steered import STANDS_DOWN, SteeredSettings
from kedastral.core.steering import SteeringSettings
from kedastral.core.uncertainty import UncertaintyState
from kedastral.core.workload import Workload
from kedastral.metrics import Metrics
from kedastral.models.last_value import LastValue
from kedastral.services.forecaster import ForecastLoop, ServiceLevelPlanner
from kedastral.storage.memory import MemoryStore
from kedastral.wire import write_snapshot
from tests.services.parts import wall_clock

POLICY = PlanPolicy(100.0, bounds=ReplicaBounds(1, 50))
WORKLOAD = Workload("shop", "rps", 30, 300.0, POLICY, steered=SteeredSettings(SteeringSettings(POLICY)))


@attrs.define
class Source:
    """Half a day of noisy minutes up to the moment asked for."""

    name: str = "stub"

    async def history(self, now):  # type: ignore[no-untyped-def]
        values = 1000 * np.exp(np.random.default_rng(3).normal(0, 0.05, 720))
        return Series(now - timedelta(minutes=719), 60.0, values)


@attrs.define
class WarmUp:
    """Counts how often the uncertainty is learnt from the past."""

    state: UncertaintyState = attrs.field(factory=UncertaintyState)
    times: int = 0

    def __call__(self, history: Series) -> UncertaintyState:
        self.times += 1
        return self.state


def loop_with(warm_up: WarmUp, workload: Workload = WORKLOAD) -> ForecastLoop:
    planner = ServiceLevelPlanner(workload, warm_up)
    return ForecastLoop(workload, Source(), InProcessForecaster(LastValue()), MemoryStore(), wall_clock(), planner)


async def test_the_first_tick_learns_from_the_past_and_later_ones_carry_on() -> None:
    warm_up = WarmUp()
    loop = loop_with(warm_up)
    for _ in range(3):
        await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    assert snapshot.steered is not None
    assert warm_up.times == 1
    assert snapshot.steered.state.served is not None
    assert (snapshot.steered.service_level, snapshot.steered.status) == (0.99, "ok")


async def test_the_plan_covers_the_upper_quantile_times_the_factor() -> None:
    loop = loop_with(WarmUp())
    await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    assert snapshot.steered is not None
    assert (snapshot.steered.upper >= snapshot.forecast.values).all()
    needed = np.ceil(snapshot.steered.upper * snapshot.steered.factor / POLICY.target_per_pod)
    assert (snapshot.replicas >= np.minimum(needed, 50)).all()


async def test_an_explicit_headroom_takes_the_place_of_the_steering() -> None:
    fixed = attrs.evolve(WORKLOAD, steered=SteeredSettings(SteeringSettings(POLICY), headroom=1.3))
    loop = loop_with(WarmUp(), fixed)
    await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    assert snapshot.steered is not None
    assert (snapshot.steered.factor, snapshot.steered.service_level) == (1.3, None)
    assert "serviceLevel" not in write_snapshot(snapshot)


async def test_standing_down_is_said_in_the_log_the_snapshot_and_the_metrics(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = loop_with(WarmUp(UncertaintyState(standing_down=True)))
    await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    document = write_snapshot(snapshot)
    assert (document["status"], document["reason"]) == ("standing-down", STANDS_DOWN)
    assert [record.levelno for record in caplog.records if STANDS_DOWN in record.getMessage()] == [logging.WARNING]
    metrics = Metrics()
    metrics.show_snapshots(loop.store, loop.clock)
    assert metrics.registry.get_sample_value("kedastral_standing_down", {"workload": "shop"}) == 1


async def test_the_account_of_the_service_level_is_in_the_snapshot_and_the_metrics() -> None:
    loop = loop_with(WarmUp())
    await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    document = write_snapshot(snapshot)
    assert len(document["upperValues"]) == len(document["values"]) == 30
    assert (document["serviceLevel"], document["budgetSpent"], document["status"]) == (0.99, 0, "ok")
    metrics = Metrics()
    metrics.show_snapshots(loop.store, loop.clock)
    shown = {
        name: metrics.registry.get_sample_value(f"kedastral_{name}", {"workload": "shop"})
        for name in ("service_level_target", "budget_spent_ratio", "steering_at_cap", "standing_down")
    }
    assert shown == {"service_level_target": 0.99, "budget_spent_ratio": 0, "steering_at_cap": 0, "standing_down": 0}
    assert metrics.registry.get_sample_value("kedastral_steering_factor", {"workload": "shop"}) == pytest.approx(1.1)
