# SPDX-License-Identifier: Apache-2.0
"""Workloads without any load at night: they have no pods then, wake up in time, and do not wake up for nothing.

Whole nights go through the replayed tick, KEDA and the HPA. The model knows the demand if the planner is under test;
`auto` learns it if the model matters.
"""

from collections.abc import Callable

import attrs
import numpy as np
import pytest

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.model import Model
from kedastral.core.planning.idleness import MAX_IDLE_PERIODS_A_DAY
from kedastral.core.planning.service_level import ServiceLevelGoal
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.series import Floats
from kedastral.core.serving import Activity, decide
from kedastral.models import MODELS
from kedastral.simulation.cluster import KedaTiming
from kedastral.simulation.policies import ForecastSchedule, Kedastral, Reactive, ServiceLevelPolicy, Serving, Ticks
from kedastral.simulation.replay import Cluster, Outcome, replay
from kedastral.simulation.trial import Policy, Trial
from tests.simulation.demands import Clairvoyant, series_of

HOUR = 3600.0
TARGET = 100.0
BOUNDS = ReplicaBounds(0, 50)
OPENS, CLOSES = 8.0, 19.0
"""The hours with load: the nights are 13 hours long."""
PREWARM = 2
COOLDOWN = 300.0
"""Seconds, as in the recipe "From zero"."""
MakePolicy = Callable[[Model, float, float], Policy]
"""A policy by its model, lead time and step."""


def opening_hours(
    begin: float, end: float, step: float, opens: float = OPENS, closes: float = CLOSES, seed: int | None = None
) -> Floats:
    """The demand from hour ``begin`` to hour ``end``: a noisy day of up to 20 pods, and exactly 0 at night."""
    hours = (np.arange(round(begin * HOUR / step), round(end * HOUR / step)) * step / HOUR) % 24
    shape = 0.15 + np.clip(np.sin(np.pi * (hours - opens) / (closes - opens)), 0, None)
    noise = np.exp(0.05 * np.random.default_rng(round(begin) if seed is None else seed).standard_normal(len(hours)))
    return np.where((hours >= opens) & (hours < closes), 17 * TARGET * shape * noise, 0.0)


def trial_of(demand: Floats, step: float, begin_hours: float = 2.0) -> Trial:
    """A trial of ``demand`` after so many hours of history."""
    first = round(begin_hours * HOUR / step)
    return Trial(series_of(demand, step), TARGET, first, first)


def by_headroom(model: Model, lead: float, step: float) -> Policy:
    plan = PlanPolicy(TARGET, 1.2, BOUNDS, prewarm_steps=PREWARM)
    return Kedastral(model, plan, ForecastSchedule(max(1800.0, 6 * step), 3600.0), Serving(lead))


def by_service_level(model: Model, lead: float, step: float) -> Policy:
    plan, goal = PlanPolicy(TARGET, 1.0, BOUNDS, prewarm_steps=PREWARM), ServiceLevelGoal(min_history=HOUR)
    return ServiceLevelPolicy(model, plan, goal, ForecastSchedule(max(4 * HOUR, 24 * step), 3600.0), Serving(lead))


def cluster_of(lead: float, step: float) -> Cluster:
    """KEDA polls at each sync, since a stream reports changes at once."""
    sync = min(step, 60.0)
    return Cluster(max(lead, step), BOUNDS, KedaTiming(sync, sync, COOLDOWN))


@attrs.frozen
class Night:
    """One night of an outcome, in seconds: its length, that without pods, and when pods go and come back."""

    length: float
    at_zero: float
    asleep_after: float
    awake_before: float
    changes: int
    short_mornings: int

    @classmethod
    def of(cls, outcome: Outcome) -> "Night":
        """The night of an outcome that was judged from some hours before it to some time after."""
        step, empty = outcome.demand.step, np.flatnonzero(outcome.demand.values == 0)
        first, last = empty[0], empty[-1] + 1
        asleep = outcome.supply.ordered == 0
        zeros = np.flatnonzero(asleep)
        return cls(
            len(empty) * step,
            np.count_nonzero(asleep[first:last]) * step,
            (zeros[0] - first) * step,
            (last - zeros[-1] - 1) * step,
            np.count_nonzero(np.diff(asleep)),
            np.count_nonzero(outcome.supply.unserved[last:]),
        )


def play(policy: Policy, trial: Trial, lead: float) -> Outcome:
    return replay(policy, trial, cluster_of(lead, trial.demand.step))


@pytest.mark.parametrize(
    ("plan", "lead", "step"),
    [
        (by_headroom, 300.0, 15.0),
        (by_headroom, 300.0, 60.0),
        (by_headroom, 900.0, 60.0),
        (by_headroom, 600.0, 300.0),
        (by_service_level, 300.0, 60.0),
        (by_service_level, 900.0, 300.0),
    ],
)
def test_a_night_without_load_is_a_night_without_pods(plan: MakePolicy, lead: float, step: float) -> None:
    demand = series_of(opening_hours(16, 35, step), step)
    trial = trial_of(opening_hours(16, 32.5, step), step, 2.5)
    night = Night.of(play(plan(Clairvoyant(demand), lead, step), trial, lead))
    waits = max(300.0, 3 * step) + 180.0 + COOLDOWN + 2 * max(step, 60.0)  # idle, stabilization, cooldown, ticks
    wakes = lead + (PREWARM + 2) * step + 60.0  # one step more for the limit on growth
    assert night.asleep_after <= waits
    assert lead <= night.awake_before <= wakes
    assert night.at_zero >= night.length - waits - wakes
    assert night.changes == 2, "it falls asleep once and wakes up once"
    assert night.short_mornings == 0


def test_a_night_has_nearly_as_few_pods_as_with_a_trigger_that_wakes_nothing_in_time() -> None:
    """With KEDA's own trigger, a workload sleeps 99 % of the night and is late each morning."""
    demand = series_of(opening_hours(16, 35, 60.0), 60.0)
    trial = trial_of(opening_hours(16, 32.5, 60.0), 60.0, 2.5)
    ours = Night.of(play(by_service_level(Clairvoyant(demand), 300.0, 60.0), trial, 300.0))
    theirs = Night.of(play(Reactive(TARGET, 0.8), trial, 300.0))
    assert theirs.at_zero / theirs.length > 0.99
    assert ours.at_zero / ours.length > 0.97
    assert theirs.short_mornings >= 5
    assert ours.short_mornings == 0


def night_of_auto(begin: float, end: float, seed: int | None = None) -> Night:
    """The night of a workload steered by `auto`, judged from hour ``begin`` to hour ``end``."""
    trial = trial_of(opening_hours(0, end, 60.0, seed=seed), 60.0, begin)
    plan, schedule = PlanPolicy(TARGET, 1.0, BOUNDS), ForecastSchedule(14 * 24 * HOUR, 1800.0)
    policy = ServiceLevelPolicy(MODELS["auto"].make(), plan, reading=schedule)
    return Night.of(play(policy, trial, 300.0))


def test_auto_learns_when_the_night_begins_and_ends() -> None:
    evening, morning = night_of_auto(4 * 24 + 18.6, 4 * 24 + 19.4), night_of_auto(5 * 24 + 7.4, 5 * 24 + 8.2)
    assert evening.asleep_after <= 15 * 60.0
    assert 300.0 <= morning.awake_before <= 300.0 + 10 * 60.0
    assert evening.changes == morning.changes == 1


def test_auto_is_short_of_pods_for_less_of_a_morning_than_a_trigger_that_wakes_nothing_in_time() -> None:
    """On the mean of some mornings: whether the first minutes get two pods or three is decided by a last digit."""
    mornings = [night_of_auto(5 * 24 + 7.4, 5 * 24 + 8.2, seed).short_mornings for seed in range(8)]
    assert sum(mornings) / len(mornings) <= 3.5


def test_keda_is_told_that_it_is_active_as_the_plan_says() -> None:
    """With ``activation`` 0, as the recipe from zero has it: inactive is told with 0, active with 1 or more."""
    demand = series_of(opening_hours(16, 35, 60.0), 60.0)
    trial = trial_of(opening_hours(16, 32.5, 60.0), 60.0, 2.5)
    ticks = Ticks(Clairvoyant(demand), PlanPolicy(TARGET, 1.2, BOUNDS), ForecastSchedule(), Serving(300.0))
    active = []
    for minute in range(trial.begin, len(trial.demand)):
        view = trial.view((minute + 1) * 60.0, 0)
        decision = decide(ticks.newest(view), view.at, StalePolicy())
        assert decision.replicas is not None
        assert decision.activity(0.0) is (Activity.ACTIVE if decision.replicas > 0 else Activity.INACTIVE)
        active.append(decision.is_active(0.0))
    changes = np.flatnonzero(np.diff(np.array(active, int)))
    assert len(changes) == 2
    opens = round((32 - 16 - 2.5) * 60)
    assert opens - 9 <= changes[1] + 1 <= opens - 5, "a lead time before the load, and the prewarm steps"


def requests(hours: float, every: float, seed: int | None = None) -> Floats:
    """The load per minute: 1 with a request, ``every`` so many minutes or, with a ``seed``, at random."""
    minutes, at = round(hours * 60), 0.0
    load, random = np.zeros(minutes), np.random.default_rng(seed)
    while at < minutes:
        load[int(at)] = 1.0
        at += every if seed is None else random.exponential(every)
    return load


def changes_of(demand: Floats, history: float, begin: float) -> int:
    """How often the workload falls asleep or wakes up from hour ``begin`` on, seen with ``history`` seconds."""
    plan = PlanPolicy(TARGET, 1.2, BOUNDS, prewarm_steps=PREWARM)
    policy = Kedastral(Clairvoyant(series_of(demand)), plan, ForecastSchedule(history), Serving(300.0))
    cluster = attrs.evolve(cluster_of(300.0, 60.0), first=1)
    ordered = replay(policy, trial_of(demand, 60.0, begin), cluster).supply.ordered
    return np.count_nonzero(np.diff(ordered == 0))


@pytest.mark.parametrize("every", [10.0, 20.0, 45.0, 120.0])
def test_a_request_now_and_then_keeps_a_workload_awake(every: float) -> None:
    assert changes_of(requests(36, every), 24 * HOUR, 24.5) == 0


def test_a_workload_with_three_requests_a_day_sleeps_in_between() -> None:
    assert 4 <= changes_of(requests(48, 480.0), 24 * HOUR, 24.5) <= 2 * 3


@pytest.mark.parametrize("every", [5.0, 30.0, 100.0, 300.0])
def test_whenever_requests_come_it_falls_asleep_a_few_times_a_day_at_most(every: float) -> None:
    assert changes_of(requests(48, every, seed=1), 24 * HOUR, 24.0) <= 2 * (MAX_IDLE_PERIODS_A_DAY + 1)


@pytest.mark.parametrize(("every", "most"), [(8.0, 0), (20.0, 0), (29.0, 0), (50.0, 2 * 9)])
def test_half_an_hour_of_history_is_enough_not_to_be_woken_by_the_minute(every: float, most: int) -> None:
    assert changes_of(requests(10, every), 1800.0, 3.0) <= most
