# SPDX-License-Identifier: Apache-2.0
"""A late or noisy metrics pipeline: what policies see of the demand, while pods serve the real one."""

import math
from collections.abc import Callable

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.models import MODELS
from kedastral.models.baseline import Baseline
from kedastral.simulation.cluster import KedaTiming
from kedastral.simulation.policies import (
    FarEndOnly,
    ForecastSchedule,
    Kedastral,
    LastWeek,
    Reactive,
    ServiceLevelPolicy,
)
from kedastral.simulation.replay import Cluster, replay, replay_oracle
from kedastral.simulation.trial import MetricsPipeline, Policy, Trial
from tests.simulation.demands import START, TARGET, trial_of

PLAN = PlanPolicy(TARGET, bounds=ReplicaBounds(1, 400))
RAMP = [50.0] * 20 + [50.0 + 10 * n for n in range(40)] + [440.0] * 20


def seen_through(values: list[float], late: float = 0.0, noise: float = 0.0) -> Trial:
    return attrs.evolve(trial_of(values), pipeline=MetricsPipeline(late, noise))


def steered_auto() -> Policy:
    return ServiceLevelPolicy(MODELS["auto"].make(None), PLAN, ServiceLevelGoal(0.95), ForecastSchedule(window=7200.0))


POLICIES: dict[str, Callable[[], Policy]] = {
    "reactive": lambda: Reactive(TARGET),
    "last week": lambda: LastWeek(TARGET),
    "kedastral": lambda: Kedastral(Baseline(), PLAN),
    "far end": lambda: FarEndOnly(Baseline(), PLAN),
}


def test_late_points_are_gaps_at_the_end_of_the_history_up_to_now() -> None:
    view = seen_through([1, 2, 3, 4, 5, 6], late=120.0).view(now=300.0, ordered=1)
    history = view.history(240.0)
    np.testing.assert_array_equal(history.values, [2, 3, np.nan, np.nan])
    assert history.time_at(len(history) - 1) == view.at
    assert history.quality.settling == 120.0
    assert view.ended == 5


@pytest.mark.parametrize(("now", "seen"), [(60.0, 0), (75.0, 0), (90.0, 1), (120.0, 1), (149.0, 1), (150.0, 2)])
def test_a_step_is_seen_so_many_seconds_after_its_end(now: float, seen: int) -> None:
    assert len(seen_through([1, 2, 3], late=30.0).view(now, ordered=1).seen) == seen


def test_a_reactive_trigger_reads_the_newest_load_that_came() -> None:
    view = seen_through([10, 20, 30, 40], late=120.0).view(240.0, ordered=1)
    assert Reactive(TARGET).ask(view)[0].value == 20.0


@pytest.mark.parametrize("name", ["reactive", "last week", "far end"])
def test_nothing_seen_yet_holds_the_pods(name: str) -> None:
    outcome = replay(POLICIES[name](), seen_through([50.0] * 5, late=3600.0), Cluster(first=7))
    assert np.isnan(outcome.supply.recommended).all()
    assert set(outcome.supply.ordered) == {7.0}


def test_kedastral_answers_as_without_a_forecast_until_it_sees_something() -> None:
    for policy in (Kedastral(Baseline(), PLAN), steered_auto()):
        outcome = replay(policy, seen_through([50.0] * 5, late=3600.0), Cluster(first=7))
        assert set(outcome.supply.recommended) == {float(StalePolicy().default_min)}


def test_late_points_cost_a_plain_hpa_minutes_on_a_ramp() -> None:
    short = [replay(Reactive(TARGET), seen_through(RAMP, late)).violation_minutes for late in (0.0, 120.0, 240.0)]
    assert short == sorted(set(short))


def test_pods_and_violations_are_judged_by_the_load_itself() -> None:
    trial = seen_through(RAMP, late=120.0, noise=0.5)
    assert replay_oracle(trial) == replay_oracle(trial_of(RAMP))
    assert replay_oracle(trial).violation_minutes == 0
    assert trial.judged == trial_of(RAMP).judged


@pytest.mark.parametrize("name", POLICIES)
@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0, 300), min_size=24, max_size=24), st.integers(0, 20), st.sampled_from([30.0, 60.0, 170.0]))
def test_no_decision_depends_on_what_has_not_come_yet(name: str, values: list[float], last: int, late: float) -> None:
    # the same up to and with minute `last`: what comes after is first seen `late` seconds after the end of the next
    changed = values[: last + 1] + [300.0 - value for value in values[last + 1 :]]
    cluster = Cluster(timing=KedaTiming(sync_period=30.0, polling_interval=30.0))
    first, then = (replay(POLICIES[name](), seen_through(each, late), cluster).supply for each in (values, changed))
    same = math.ceil(last + 1 + late / 60)
    np.testing.assert_array_equal(then.recommended[:same], first.recommended[:same])
    np.testing.assert_array_equal(then.ordered[:same], first.ordered[:same])


def test_auto_sees_nothing_newer_and_follows_once_it_comes() -> None:
    steps, jump, late = 200, 190, 180.0
    steady = [200.0 + 20.0 * np.sin(n / 9) for n in range(steps)]
    jumping = [*steady[:jump], *[900.0] * (steps - jump)]
    outcomes = [
        replay(
            steered_auto(),
            attrs.evolve(seen_through(values, late), begin=180, judged_from=180),
            Cluster(first=40),
        ).supply.recommended
        for values in (steady, jumping)
    ]
    differs = np.flatnonzero(outcomes[0] != outcomes[1])
    assert 180 + differs[0] == jump + late / 60


def test_noise_has_mean_1_and_the_spread_that_was_asked_for() -> None:
    factors = MetricsPipeline(noise=0.2).measure(np.ones(200_000))
    assert factors.mean() == pytest.approx(1.0, abs=0.002)
    assert factors.std() == pytest.approx(0.2, rel=0.01)
    assert np.log(factors).std() == pytest.approx(np.sqrt(np.log(1.04)), rel=0.01)  # lognormal


def test_noise_is_the_same_for_all_policies_and_at_each_call() -> None:
    views = [seen_through(RAMP, noise=0.1).view(1800.0, ordered) for ordered in (1, 9)]
    np.testing.assert_array_equal(views[0].seen, views[1].seen)
    assert (views[0].seen != RAMP[:30]).all()
    assert not views[0].seen.flags.writeable


def test_an_enormous_noise_stays_finite() -> None:
    assert np.isfinite(MetricsPipeline(noise=1e300).measure(np.ones(1000))).all()


def test_without_a_delay_and_noise_the_demand_itself_is_seen_at_once() -> None:
    view = trial_of([3, 1, 4]).view(180.0, ordered=2)
    assert (view.start, view.seen.tolist(), view.unsettled, view.ordered) == (START, [3, 1, 4], 0, 2)
    assert view.history(120.0).quality.settling == 0


@pytest.mark.parametrize("wrong", [{"late": -1.0}, {"noise": -0.1}, {"late": float("nan")}, {"noise": float("nan")}])
def test_what_is_below_zero_or_no_number_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MetricsPipeline(**wrong)
