# SPDX-License-Identifier: Apache-2.0
"""The tick of a workload that is steered to a service level: learned once, carried from snapshot to snapshot."""

import logging
from datetime import datetime, timedelta

import attrs
import numpy as np
import pytest
import trio
from trio.testing import MockClock

from kedastral.adapters.in_process import InProcessForecaster
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.forecast_status import OK, STANDING_DOWN, ForecastStatus, StatusCode
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.planning.snapshot import Snapshot, replicas_at
from kedastral.core.planning.steering import Account, DaySpent, SteeringState
from kedastral.core.planning.uncertainty import Calibration, UncertaintyState
from kedastral.core.ports import Forecaster
from kedastral.core.series import Series
from kedastral.errors import ModelError
from kedastral.models.auto import AutoModel
from kedastral.models.naive import LastValue
from kedastral.serving.metrics import Metrics
from kedastral.serving.recent import RecentLoads
from kedastral.serving.store import MemoryStore
from kedastral.wire import write_snapshot
from kedastral.workloads.guarded_tick import GuardedTick
from kedastral.workloads.tick import ForecastLoop, Planner
from tests.parts import wall_clock

POLICY = PlanPolicy(100.0, bounds=ReplicaBounds(1, 50))
WORKLOAD = Workload("shop", "rps", 30, 300.0, POLICY, goal=ServiceLevelGoal())


@attrs.define
class Source:
    """Half a day of noisy minutes up to the requested moment, ``scale`` times a load of 1,000."""

    minutes: int = 720
    scale: float = 1.0
    name: str = "stub"

    async def history(self, now: datetime) -> Series:
        values = 1000 * self.scale * np.exp(np.random.default_rng(3).normal(0, 0.05, self.minutes))
        return Series(now - timedelta(minutes=self.minutes - 1), 60.0, values)


def shown_by(loop: ForecastLoop, name: str, **labels: str) -> float | None:
    metrics = Metrics()
    metrics.show_snapshots(loop.store, loop.clock)
    return metrics.registry.get_sample_value(f"kedastral_{name}", {"workload": "shop", **labels})


@attrs.define
class Failing:
    """A forecaster that fails the given number of times, from its second forecast on."""

    times: int = 1
    asked: int = 0
    name: str = "failing"

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        self.asked += 1
        if 1 < self.asked <= 1 + self.times:
            raise ModelError("the model gave NaN", reason="bad_answer")
        return Forecast(made_at, history.step, np.full(steps, 2000.0))


def loop_with(
    learnt: UncertaintyState | None = None,
    workload: Workload = WORKLOAD,
    source: "Source | None" = None,
    forecaster: Forecaster | None = None,
) -> ForecastLoop:
    planner = Planner(lambda: learnt)
    forecaster = forecaster or InProcessForecaster(LastValue())
    return ForecastLoop(workload, source or Source(), forecaster, MemoryStore(), wall_clock(), planner)


async def test_what_was_learnt_is_where_the_state_begins_and_later_ticks_carry_on() -> None:
    loop = loop_with(UncertaintyState(Calibration(windows=50, slow_scale=0.7)))
    for _ in range(3):
        await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    assert snapshot.service_level is not None
    assert snapshot.service_level.state.uncertainty.model.slow_scale == 0.7
    assert snapshot.service_level.state.last_recommendation is not None
    assert (snapshot.service_level.level, snapshot.status) == (0.99, OK)


async def test_a_state_that_has_seen_more_than_was_learnt_is_kept() -> None:
    first = loop_with(UncertaintyState(Calibration(windows=50, slow_scale=0.7)))
    await first.tick()
    again = attrs.evolve(first, planner=Planner(lambda: UncertaintyState(Calibration(windows=9))))
    await again.tick()
    snapshot = again.store.get("shop")
    assert snapshot is not None
    assert snapshot.service_level is not None
    assert snapshot.service_level.state.uncertainty.model.slow_scale == 0.7


async def test_too_little_history_is_said_and_the_last_value_planned_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    loop = loop_with(source=Source(minutes=45), forecaster=Failing(0))
    for _ in range(2):
        await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    document = write_snapshot(snapshot)
    words = "not enough history: have 45 min, need 2 h"
    assert (document["status"], document["reason"]) == ("too-little-history", words)
    assert document["upperValues"][0] < 1500  # the forecast is 2000, the load about 1000
    assert [record.levelno for record in caplog.records if words in record.getMessage()] == [logging.INFO]
    assert shown_by(loop, "standing_down") == 1


async def test_a_model_that_fails_leaves_the_last_value_to_be_planned_for_and_the_reason_to_be_seen(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    loop = loop_with(forecaster=Failing(2))
    await loop.tick()
    for _ in range(2):
        with pytest.raises(ModelError):
            await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    assert snapshot.status == ForecastStatus(StatusCode.MODEL_FAILED, "the model failed: the model gave NaN")
    assert snapshot.floor is not None
    assert snapshot.forecast.values.max() < 1500
    assert len([record for record in caplog.records if "the model gave NaN" in record.getMessage()]) == 1

    await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    assert snapshot.status == OK
    assert "the forecast is what is planned for now" in caplog.text


async def test_what_keda_is_told_while_the_model_fails_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "kedastral.forecaster")
    source = Source()
    loop = attrs.evolve(loop_with(source=source, forecaster=Failing(9)), clock=wall_clock())
    tick = GuardedTick(loop, Metrics().count_error, answers_keda=True).tick
    for scale in (2.0, 2.0, 3.0):
        source.scale = scale
        await tick()
        await trio.sleep(60)
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    said = [words.partition(":")[0] for words in caplog.messages if words.startswith("replicas for KEDA")]
    assert said[-1].endswith(f" -> {replicas_at(snapshot, snapshot.made_at)}")
    assert snapshot.status.code is StatusCode.MODEL_FAILED


async def test_the_charts_go_on_while_the_model_fails(autojump_clock: MockClock) -> None:
    recents = RecentLoads(lambda _: True)
    loop = attrs.evolve(loop_with(forecaster=Failing(9)), clock=wall_clock(), remember=recents.record)
    await loop.tick()
    for _ in range(9):
        await trio.sleep(60)
        with pytest.raises(ModelError):
            await loop.tick()
    snapshot, recent = loop.store.get("shop"), recents.get("shop")
    assert snapshot is not None
    assert recent is not None
    now = loop.clock.now().timestamp()
    assert recent.start.timestamp() + (len(recent.loads) - 1) * recent.step == now
    assert recent.planned[-1] == replicas_at(snapshot, snapshot.made_at)
    assert recent.expected_at[-1] == now + snapshot.lead_time + recent.step, "dated by the end of its step"


@attrs.frozen
class Rising:
    """A forecaster that predicts a rise."""

    name: str = "rising"

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        return Forecast(made_at, history.step, np.linspace(1000.0, 3000.0, steps))


async def test_what_a_model_has_said_is_not_taken_back_while_the_last_value_stands_in() -> None:
    clock = wall_clock()
    begun = loop_with(forecaster=Rising())
    await begun.tick()
    good = begun.store.get("shop")
    assert good is not None
    assert good.replicas[25] > 2 * good.replicas[0]
    failure = ModelError("it broke", reason="exception")
    snapshot: Snapshot | None = good
    for minutes in range(1, 30):
        now = clock.now() + timedelta(minutes=minutes)
        history = await Source().history(now)
        snapshot = begun.planner.plan_without_model(begun.workload, history, now, failure, snapshot)
        assert snapshot is not None
        rest = good.replicas[minutes:]
        assert (snapshot.replicas[: len(rest)] >= rest).all()
        assert snapshot.replicas.max() == max(rest.max(), snapshot.replicas[0])  # and it grows no further by itself
        assert (snapshot.replicas[len(rest) + 5 :] < good.replicas[25]).all()  # for five minutes it is held


async def test_the_plan_covers_the_upper_quantile_times_the_factor() -> None:
    loop = loop_with()
    await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    assert snapshot.service_level is not None
    assert (snapshot.service_level.upper >= snapshot.forecast.values).all()
    needed = np.ceil(snapshot.service_level.upper * snapshot.service_level.factor / POLICY.target_per_pod)
    assert (snapshot.replicas >= np.minimum(needed, 50)).all()


async def test_an_explicit_headroom_takes_the_place_of_the_steering() -> None:
    fixed = attrs.evolve(WORKLOAD, goal=ServiceLevelGoal(headroom=1.3))
    loop = loop_with(workload=fixed)
    await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    assert snapshot.service_level is not None
    assert (snapshot.service_level.factor, snapshot.service_level.level) == (1.3, None)
    assert "serviceLevel" not in write_snapshot(snapshot)


async def test_standing_down_is_said_in_the_log_the_snapshot_and_the_metrics(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = loop_with(UncertaintyState(Calibration(windows=1), standing_down=True))
    await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    document = write_snapshot(snapshot)
    assert (document["status"], document["reason"]) == ("standing-down", STANDING_DOWN.reason)
    assert [record.levelno for record in caplog.records if STANDING_DOWN.reason in record.getMessage()] == [
        logging.WARNING
    ]
    assert shown_by(loop, "standing_down") == 1
    shown = {status: shown_by(loop, "forecast_status", status=status) for status in StatusCode}
    assert {status for status in StatusCode if shown[status] == 1} == {StatusCode.STANDING_DOWN}
    assert set(shown.values()) == {0, 1}


async def test_the_account_of_the_service_level_is_in_the_snapshot_and_the_metrics() -> None:
    loop = loop_with()
    await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    document = write_snapshot(snapshot)
    assert len(document["upperValues"]) == len(document["values"]) == 30
    assert (document["serviceLevel"], document["budgetSpent"], document["status"]) == (0.99, 0, "ok")
    shown = {
        name: shown_by(loop, name)
        for name in ("service_level_target", "budget_spent_ratio", "steering_at_cap", "standing_down")
    }
    assert shown == {"service_level_target": 0.99, "budget_spent_ratio": 0, "steering_at_cap": 0, "standing_down": 0}
    assert shown_by(loop, "steering_factor") == pytest.approx(1.1)
    assert "holdSeconds" not in document
    assert shown_by(loop, "steering_hold_seconds") == 0
    assert "seasonalQuantile" not in document
    assert shown_by(loop, "steering_seasonal_quantile") == 0


async def test_pods_that_are_held_say_for_how_long_and_for_how_many_days() -> None:
    loop = loop_with()
    await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    assert snapshot.service_level is not None
    steering = SteeringState(1.5, peak_hold=7200.0, seasonal_quantile=0.25)
    state = attrs.evolve(snapshot.service_level.state, steering=steering)
    await loop.store.put(attrs.evolve(snapshot, service_level=attrs.evolve(snapshot.service_level, state=state)))
    kept = loop.store.get("shop")
    assert kept is not None
    assert write_snapshot(kept)["holdSeconds"] == 7200
    assert shown_by(loop, "steering_hold_seconds") == 7200
    assert write_snapshot(kept)["seasonalQuantile"] == 0.25
    assert shown_by(loop, "steering_seasonal_quantile") == 0.25


async def test_a_plan_that_is_held_to_a_load_says_to_which() -> None:
    loop = loop_with()
    await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    assert snapshot.service_level is not None
    assert "loadCap" not in write_snapshot(snapshot)
    report = attrs.evolve(snapshot.service_level, load_cap=440.0)
    assert write_snapshot(attrs.evolve(snapshot, service_level=report))["loadCap"] == 440


async def test_what_was_there_and_what_was_needed_is_counted_in_hindsight() -> None:
    loop = loop_with()
    await loop.tick()
    account, spent = Account(needed=10.0, unserved=2.0, spare=4.0, short=7.0), (DaySpent(1, 90.0, 6.0, at_max=5.0),)
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    assert snapshot.service_level is not None
    state = attrs.evolve(snapshot.service_level.state, steering=SteeringState(account=account, spent=spent))
    await loop.store.put(attrs.evolve(snapshot, service_level=attrs.evolve(snapshot.service_level, state=state)))
    shown = [shown_by(loop, f"{what}_pod_seconds_total") for what in ("needed", "unserved", "spare")]
    assert shown == [600, 120, 240]
    names = ("short_minutes", "short_minutes_at_max", "short_seconds_total")
    assert [shown_by(loop, name) for name in names] == [6, 5, 420]


async def test_the_experts_at_the_lead_are_in_the_snapshot_and_the_metrics() -> None:
    loop = loop_with(forecaster=InProcessForecaster(AutoModel()))
    await loop.tick()
    snapshot = loop.store.get("shop")
    assert snapshot is not None
    experts = write_snapshot(snapshot)["experts"]
    assert {expert["aheadSeconds"] for expert in experts} == {300}
    assert {expert["name"] for expert in experts} >= {"last-value", "means", "day-5m", "ridge-7d"}
    assert sum(expert["weight"] for expert in experts) == pytest.approx(1)
    [last] = [expert for expert in experts if expert["name"] == "last-value"]
    assert last["error"] == 1
    assert shown_by(loop, "expert_weight_ratio", expert="last-value") == last["weight"]
    assert shown_by(loop, "expert_error_ratio", expert="last-value") == 1
