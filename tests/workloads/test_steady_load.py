# SPDX-License-Identifier: Apache-2.0
"""What KEDA is told minute by minute, through the whole tick, for a load that is steady, rises, falls or jumps.

500 rps at 50 per pod and a headroom of 1.2 are exactly 12 pods: only noise decides between 12 and 13.
"""

from datetime import datetime, timedelta

import attrs
import numpy as np
import pytest

from kedastral.adapters.in_process import InProcessForecaster
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.model import Model
from kedastral.core.planning.planner import Workload
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.planning.snapshot import replicas_at
from kedastral.core.series import Floats, Ints, Series
from kedastral.models.baseline import Baseline
from kedastral.models.naive import LastValue
from kedastral.serving.store import MemoryStore
from kedastral.simulation.hpa import Hpa, HpaBehavior, HpaMetric, ScalingRules
from kedastral.workloads.tick import ForecastLoop
from tests.parts import START

POLICY = PlanPolicy(50.0, headroom=1.2, bounds=ReplicaBounds(1, 500))
BY_HEADROOM = Workload("shop", "rps", 30, 300.0, POLICY)
BY_SERVICE_LEVEL = attrs.evolve(BY_HEADROOM, goal=ServiceLevelGoal())
AUTO_BY_HEADROOM = attrs.evolve(BY_HEADROOM, goal=ServiceLevelGoal(headroom=1.2))
BEFORE = 120
"""Minutes of history at the first tick."""


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


async def told_by(loads: Floats, model: Model, workload: Workload) -> Ints:
    """What KEDA is told after each minute of ``loads``, except the first `BEFORE`."""
    shown = Shown(loads, BEFORE)
    loop = ForecastLoop(workload, shown, InProcessForecaster(model), MemoryStore(), shown)
    told = []
    for _ in range(BEFORE, len(loads)):
        await loop.tick()
        snapshot = loop.store.get("shop")
        assert snapshot is not None
        told.append(replicas_at(snapshot, shown.now()))
        shown.minutes += 1
    return np.array(told)


def steady(deviation: float, minutes: int, *, smoothed: int = 1, seed: int = 7) -> Floats:
    """500 rps with noise; ``smoothed`` over so many minutes, like a rate over a longer range."""
    noise = np.random.default_rng(seed).normal(0, deviation * smoothed**0.5, BEFORE + minutes + smoothed - 1)
    return np.asarray(500 * np.exp(np.convolve(noise, np.full(smoothed, 1 / smoothed), "valid")))


def changes(told: Ints) -> int:
    return int(np.count_nonzero(np.diff(told)))


# -- steady --


@pytest.mark.parametrize("deviation", [0.001, 0.003, 0.01, 0.03])
@pytest.mark.parametrize("smoothed", [1, 5], ids=["rate over 1m", "rate over 5m"])
@pytest.mark.parametrize("model", [LastValue(), Baseline()], ids=lambda model: model.name)
async def test_a_steady_load_at_a_whole_number_changes_at_most_once_in_hours(
    deviation: float, smoothed: int, model: Model
) -> None:
    told = await told_by(steady(deviation, 240, smoothed=smoothed), model, BY_HEADROOM)
    assert changes(told) <= 1
    assert set(told.tolist()) <= {12, 13}


@pytest.mark.parametrize("deviation", [0.001, 0.01])
async def test_so_it_does_where_headroom_takes_the_place_of_the_service_level(deviation: float) -> None:
    assert changes(await told_by(steady(deviation, 240), LastValue(), AUTO_BY_HEADROOM)) <= 1


@pytest.mark.parametrize("deviation", [0.001, 0.01, 0.03])
async def test_and_by_service_level_once_it_has_settled(deviation: float) -> None:
    told = await told_by(steady(deviation, 270), LastValue(), BY_SERVICE_LEVEL)
    assert changes(told[30:]) <= 1


@pytest.mark.parametrize("deviation", [0.001, 0.003])
async def test_calm_noise_that_rises_above_a_whole_number_takes_no_pod_more(deviation: float) -> None:
    loads = steady(deviation, 300)
    loads[: BEFORE + 10] *= 0.99
    assert set((await told_by(loads, LastValue(), BY_HEADROOM)).tolist()) == {12}


# -- changes that are not noise --


@pytest.mark.parametrize("deviation", [0.0, 0.001, 0.003, 0.01, 0.03])
@pytest.mark.parametrize("model", [LastValue(), Baseline()], ids=lambda model: model.name)
async def test_a_rise_to_two_percent_above_a_whole_number_is_followed_in_minutes(
    deviation: float, model: Model
) -> None:
    loads = steady(deviation, 90)
    loads[: BEFORE + 60] *= 0.98
    loads[BEFORE + 60 :] *= 1.02
    told = await told_by(loads, model, BY_HEADROOM)
    assert (told[66:] >= 13).all()


@pytest.mark.parametrize("deviation", [0.0, 0.001, 0.01, 0.03])
async def test_a_fall_is_followed_at_once_and_settles(deviation: float) -> None:
    loads = steady(deviation, 240)
    loads[: BEFORE + 60] *= 1.5
    told = await told_by(loads, LastValue(), BY_HEADROOM)
    assert told[55:60].min() >= 18
    assert told[62:].max() <= 14
    assert changes(told[75:]) <= 1


@pytest.mark.parametrize("model", [LastValue(), Baseline()], ids=lambda model: model.name)
async def test_without_noise_each_minute_has_the_replicas_it_needs(model: Model) -> None:
    loads = np.concatenate([np.full(BEFORE + 20, 495.0), np.full(60, 450.0)])
    told = await told_by(loads, model, BY_HEADROOM)
    assert (told[0], told[-1]) == (12, 11)


# -- a rush every twenty minutes --


def rushes(minutes: int) -> Floats:
    """500 rps, and 3000 from minute 4 to minute 11 of every 20, with ramps of a minute."""
    minute = np.arange(minutes) % 20
    return np.interp(minute, [3, 4, 11, 12], [500.0, 3000.0, 3000.0, 500.0])


@attrs.frozen
class Foresight:
    """A model that predicts the rushes."""

    name: str = "foresight"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        minute = round((made_at - START).total_seconds() / 60)
        return Forecast(made_at, history.step, rushes(minute + steps + 1)[minute + 1 :][:steps])


LEAD = 120.0
UNLIMITED = attrs.evolve(POLICY, up_max_factor=10.0, down_max_pct=100.0)
RUSHED = Workload("shop", "rps", 30, LEAD, UNLIMITED, goal=ServiceLevelGoal())


async def pods_over_rushes(window: float) -> Ints:
    """The pods per minute in the last of several rushes, behind an HPA with the given scale-down window."""
    told = await told_by(rushes(BEFORE + 101)[1:], Foresight(), RUSHED)
    hpa = Hpa(HpaBehavior(ScalingRules(0.0), ScalingRules(0.0, window)), POLICY.bounds)
    pods = [int(told[0])]
    for sync in range(4 * len(told)):
        pods.append(hpa.recommend(15.0 * sync, pods[-1], [HpaMetric(float(told[sync // 4]))]))
    return np.array(pods[1::4])[-20:]


async def test_what_a_rush_needed_is_told_for_five_minutes_after_it_and_no_longer() -> None:
    pods = await pods_over_rushes(0.0)
    needed, at_rest = pods.max(), pods.min()
    assert (pods[11:16] == needed).all()  # from minute 11 on, only 500 rps are ahead
    assert (pods[16:19] == at_rest).all()
    assert at_rest < needed / 5


@pytest.mark.parametrize(("window", "kept"), [(60.0, 6), (120.0, 7)])
async def test_the_window_of_the_hpa_comes_on_top(window: float, kept: int) -> None:
    pods = await pods_over_rushes(window)
    assert (pods[11 : 11 + kept] == pods.max()).all()
    assert pods[11 + kept] < pods.max() / 5


async def test_behind_an_hpa_of_five_minutes_the_next_rush_finds_all_pods() -> None:
    pods = await pods_over_rushes(300.0)
    assert pods.min() > 0.9 * pods.max()
