# SPDX-License-Identifier: Apache-2.0
"""How measurement faults affect the replicas that KEDA is told, through the whole tick, minute by minute."""

import logging
from datetime import datetime, timedelta

import attrs
import numpy as np
import pytest

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.planning.calibration import warm_up
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.planning.snapshot import Snapshot, replicas_at
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.series import Floats, Series
from kedastral.errors import NotFittedError
from kedastral.models.auto import AutoModel
from kedastral.serving.metrics import Metrics
from kedastral.serving.store import MemoryStore
from kedastral.wire import dump_json, read_snapshot, write_snapshot
from kedastral.workloads.tick import ForecastLoop, Planner
from tests.parts import START

DAY = 1440
LEAD = 300.0
POLICY = PlanPolicy(100.0, bounds=ReplicaBounds(1, 500))
WORKLOAD = Workload("shop", "rps", 30, LEAD, POLICY, goal=ServiceLevelGoal(), interval=60.0)


USUAL = 26
"""The most replicas for `steady` without any outlier."""


def steady(minutes: int = 2 * DAY) -> Floats:
    """About 1800 with 3 % noise, for which 22 pods are enough."""
    return np.asarray(1800 * np.exp(np.random.default_rng(5).normal(0, 0.03, minutes)))


@attrs.define
class Shown:
    """The clock of the tick, and a source with the ``loads`` up to now, one a minute."""

    loads: Floats
    minutes: int
    name: str = "shown"

    def now(self) -> datetime:
        return START + timedelta(minutes=self.minutes)

    async def history(self, now: datetime) -> Series:
        return Series(START + timedelta(minutes=1), 60.0, self.loads[: self.minutes])


@attrs.define
class Learning:
    """`auto` that trains when it has to, like the service, but immediately."""

    model: AutoModel = attrs.field(factory=AutoModel)
    state: UncertaintyState | None = None
    name: str = "auto"

    def learnt(self) -> UncertaintyState | None:
        return self.state

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        try:
            return self.model.recall(history, made_at, steps)
        except NotFittedError:
            settings = WORKLOAD.service_level
            assert settings is not None
            window, lead_steps = settings.window(60.0), settings.lead_steps(60.0)
            self.state = warm_up(self.model, history, steps, window, lead_steps=lead_steps, made_at=made_at)
            return self.model.recall(history, made_at, steps)


def loop_over(loads: Floats, begin: int) -> tuple[ForecastLoop, Shown]:
    """A workload that starts when ``begin`` minutes have been measured."""
    shown, forecaster = Shown(loads, begin), Learning()
    planner = Planner(forecaster.learnt)
    return ForecastLoop(WORKLOAD, shown, forecaster, MemoryStore(), shown, planner), shown


async def told_by(loads: Floats, ticks: int) -> list[int]:
    """What KEDA is told after each of the last ``ticks`` minutes of ``loads``."""
    loop, shown = loop_over(loads, len(loads) - ticks + 1)
    told = []
    for _ in range(ticks):
        await loop.tick()
        told.append(replicas_at(newest_of(loop), shown.now()))
        shown.minutes += 1
    return told


def newest_of(loop: ForecastLoop) -> Snapshot:
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    return snapshot


@pytest.mark.parametrize(
    ("ago", "points", "factor"),
    [(60, 1, 1e9), (3, 2, 1e3), (6, 5, 1e9), (30, 5, 20), (200, 10, 50)],
    ids=["an hour ago", "a counter reset", "rate over 5 min", "times 20", "ten points"],
)
async def test_outliers_before_the_start_ask_for_no_pod(ago: int, points: int, factor: float) -> None:
    loads = steady()
    loads[len(loads) - ago :][:points] *= factor
    assert max(await told_by(loads, 1)) <= USUAL


@pytest.mark.parametrize(("points", "factor"), [(1, 20.0), (2, 1e3), (5, 1e9)])
async def test_outliers_that_come_while_it_runs_ask_for_no_pod_then_or_later(points: int, factor: float) -> None:
    loads = steady(2 * DAY + 20)
    loads[2 * DAY + 5 : 2 * DAY + 5 + points] *= factor
    told = await told_by(loads, 20)
    assert max(told) <= USUAL
    assert min(told) >= 19


async def test_one_outlier_in_a_hundred_asks_for_hardly_any_more_pods() -> None:
    loads, random = steady(2 * DAY + 100), np.random.default_rng(6)
    chosen = random.random(len(loads)) < 0.01
    loads[chosen] *= 10 ** random.uniform(1, 6, chosen.sum())
    pods, usual = sum(await told_by(loads, 100)), sum(await told_by(steady(len(loads)), 100))
    assert pods <= 1.03 * usual


@pytest.mark.parametrize(("factor", "minutes"), [(2.0, 2), (5.0, 3), (20.0, 6)])
async def test_a_load_that_jumps_and_stays_is_believed_within_minutes(factor: float, minutes: int) -> None:
    loads = steady(2 * DAY + 20)
    loads[2 * DAY :] *= factor
    told = await told_by(loads, 21)  # the first before the jump
    enough = loads[2 * DAY :] / POLICY.target_per_pod
    assert told[0] < 30
    assert (np.array(told[minutes:]) >= np.minimum(enough[minutes - 1 :], POLICY.bounds.max)).all()


async def test_a_jump_is_over_soon_after_it_turns_out_to_have_been_none() -> None:
    loads = steady(2 * DAY + 40)
    loads[2 * DAY + 5 : 2 * DAY + 13] *= 6  # eight minutes: longer than the wait, shorter than what is kept
    told = await told_by(loads, 40)
    assert max(told[:7]) <= USUAL
    assert max(told) > 80
    assert max(told[-10:]) <= USUAL + 8  # the margin of those minutes fades


async def test_what_is_left_out_is_in_the_snapshot_the_metrics_and_once_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loads = steady(2 * DAY + 4)
    loop, shown = loop_over(loads, 2 * DAY)
    await loop.tick()
    assert newest_of(loop).findings.outliers is None
    assert caplog.records == []
    loads[[2 * DAY, 2 * DAY + 2]] = 1e9, 2e9
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            shown.minutes += 1
            await loop.tick()
    outliers = newest_of(loop).findings.outliers
    assert outliers is not None
    assert (outliers.points, outliers.newest.value) == (2, 2e9)
    [line] = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert line.startswith("values far beyond all that this workload does are left out")
    assert line.endswith("1 in all, the newest 1e+09 at 2026-03-03T12:01:00Z")
    document = write_snapshot(newest_of(loop))
    assert (document["outlierPoints"], document["newestOutlierValue"]) == (2, 2e9)
    assert document["newestOutlierAt"] == "2026-03-03T12:03:00Z"
    assert document["observedValue"] < 2500
    assert read_snapshot(dump_json(document)).findings.outliers == outliers
    metrics = Metrics()
    metrics.show_snapshots(loop.store, shown)
    assert metrics.registry.get_sample_value("kedastral_outlier_points", {"workload": "shop"}) == 2


async def test_outliers_do_not_have_the_model_learn_anew() -> None:
    loads = steady(2 * DAY + 40)
    loads[2 * DAY + 5 : 2 * DAY + 14] *= 1e4  # accepted after six minutes, and reverted when the load is as before
    loop, shown = loop_over(loads, 2 * DAY)
    await loop.tick()
    forecaster = loop.forecaster
    assert isinstance(forecaster, Learning)
    first = forecaster.state
    for _ in range(39):
        shown.minutes += 1
        await loop.tick()
    assert forecaster.state is first
