# SPDX-License-Identifier: Apache-2.0
"""The replay against hand-worked cases.

Unless stated otherwise, one pod sustains 10, and the lead time is 3 minutes, 2 of them pod start. The decision of
minute m is made at its end: more pods then serve from minute m + 3, fewer from m + 1.
"""

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.simulation.cluster import KedaTiming, PodFleet
from kedastral.simulation.hpa import HpaBehavior
from kedastral.simulation.policies import FarEndOnly, Fixed, ForecastSchedule, Kedastral, Reactive, Serving
from kedastral.simulation.replay import Cluster, Outcome, replay, replay_oracle
from kedastral.simulation.trial import Trial
from tests.simulation.demands import TARGET, Clairvoyant, series_of, trial_of

LEAD_3 = Cluster(lead_time=180.0)
NIMBLE = Reactive(TARGET, 1.0, HpaBehavior.DIRECT)
"""ceil(newest demand / 10), no tolerance, no stabilization: the policy that is easiest to follow by hand."""


def ordered(outcome: Outcome) -> list[float]:
    return outcome.supply.ordered.tolist()


def ready(outcome: Outcome) -> list[float]:
    return outcome.supply.ready.tolist()


def unserved(outcome: Outcome) -> list[float]:
    return outcome.supply.unserved.tolist()


def test_a_step_is_unserved_for_one_lead() -> None:
    # the 50 of minute 4 is seen at its end: 5 pods ordered, serving from minute 4 + 3 = 7
    outcome = replay(NIMBLE, trial_of([20, 20, 20, 20, 50, 50, 50, 50]), LEAD_3)
    assert outcome.supply.recommended.tolist() == [2, 2, 2, 2, 5, 5, 5, 5]
    assert ordered(outcome) == [2, 2, 2, 2, 2, 5, 5, 5]
    assert ready(outcome) == [2, 2, 2, 2, 2, 2, 2, 5]
    assert unserved(outcome) == [0, 0, 0, 0, 30, 30, 30, 0]
    assert outcome.unserved_share == pytest.approx(90 / 280)  # demand: 4 * 20 + 4 * 50
    assert outcome.violation_share == pytest.approx(3 / 8)
    assert outcome.violation_minutes == 3
    assert outcome.pod_minutes == 25  # 5 * 2 + 3 * 5
    assert outcome.pod_hours == pytest.approx(25 / 60)
    assert outcome.scale_events == 1


def test_the_oracle_orders_one_lead_ahead_of_the_step() -> None:
    # end of minute 1: the largest of minutes 2, 3, 4 is 50; ordered then, 5 pods serve from minute 4
    trial = trial_of([20, 20, 20, 20, 50, 50, 50, 50])
    oracle = replay_oracle(trial, LEAD_3)
    assert ordered(oracle) == [2, 2, 5, 5, 5, 5, 5, 5]
    assert ready(oracle) == [2, 2, 2, 2, 5, 5, 5, 5]
    assert (oracle.unserved_share, oracle.violation_share) == (0, 0)
    assert oracle.pod_minutes == 34
    assert replay(NIMBLE, trial, LEAD_3).cost_against(oracle) == pytest.approx(25 / 34)


def test_a_ramp_is_followed_one_lead_late() -> None:
    # 10 more each minute; ordered at the end of minute m: m + 1 pods, serving in minute m + 3: 3 pods too few
    outcome = replay(NIMBLE, trial_of([10, 20, 30, 40, 50, 60, 70]), LEAD_3)
    assert ready(outcome) == [1, 1, 1, 1, 2, 3, 4]
    assert unserved(outcome) == [0, 10, 20, 30, 30, 30, 30]
    assert outcome.unserved_share == pytest.approx(150 / 280)
    assert outcome.scale_events == 6


def test_a_spike_shorter_than_the_lead_is_only_paid_for() -> None:
    # minute 3 wants 6; at the end of minute 4 the 4 pending pods are taken back: one minute paid, none ever served
    outcome = replay(NIMBLE, trial_of([20, 20, 20, 60, 20, 20, 20, 20, 20]), LEAD_3)
    assert ordered(outcome) == [2, 2, 2, 2, 6, 2, 2, 2, 2]
    assert ready(outcome) == [2] * 9
    assert unserved(outcome) == [0, 0, 0, 40, 0, 0, 0, 0, 0]
    assert outcome.pod_minutes == 22
    assert outcome.scale_events == 2


def test_stabilization_keeps_the_pods_of_a_spike_for_five_minutes() -> None:
    # as above, with the HPA's 300 s: recommended 6 at 240 s, exactly 300 s old and gone at 540 s, the end of minute 8.
    # Ordered in minutes 4..8; started by minute 6, when the spike is long over.
    policy = Reactive(TARGET, 1.0, HpaBehavior.UNLIMITED)
    outcome = replay(policy, trial_of([20, 20, 20, 60, 20, 20, 20, 20, 20, 20]), LEAD_3)
    assert ordered(outcome) == [2, 2, 2, 2, 6, 6, 6, 6, 6, 2]
    assert ready(outcome) == [2, 2, 2, 2, 2, 2, 6, 6, 6, 2]


def test_scale_down_with_pending_pods() -> None:
    # end of minute 2: 7 ordered, 3 pending until minute 5; end of 3: 5, the 2 newest pending go;
    # end of 4: 2, the last pending one goes, and 2 that served
    outcome = replay(NIMBLE, trial_of([40, 40, 70, 50, 20, 20, 20]), LEAD_3)
    assert ordered(outcome) == [4, 4, 4, 7, 5, 2, 2]
    assert ready(outcome) == [4, 4, 4, 4, 4, 2, 2]
    assert unserved(outcome) == [0, 0, 30, 10, 0, 0, 0]
    assert outcome.unserved_share == pytest.approx(40 / 260)
    assert outcome.scale_events == 3


def test_tolerance_is_a_dead_band() -> None:
    # utilisation 50 %: 5 a pod. 4 pods at 20; 21 and 22 are ratios 1.05 and 1.10: nothing; 23 is 1.15: ceil(4.6) = 5.
    # Then at 5 pods, 25 in all: 23 is 0.92: nothing; 27.5 is 1.10: nothing; 28 is 1.12: ceil(5.6) = 6.
    policy = Reactive(TARGET, 0.5)
    outcome = replay(policy, trial_of([20, 21, 22, 23, 23, 27.5, 28, 28]), Cluster(lead_time=60.0, first=4))
    assert ordered(outcome) == [4, 4, 4, 4, 5, 5, 5, 6]


def test_without_pod_start_an_order_serves_in_the_next_minute() -> None:
    outcome = replay(NIMBLE, trial_of([10, 50, 50, 10, 10]), Cluster(lead_time=60.0))
    assert ready(outcome) == [1, 1, 5, 5, 1]
    assert unserved(outcome) == [0, 40, 0, 0, 0]


PLAN = PlanPolicy(
    TARGET, headroom=1.0, bounds=ReplicaBounds(1, 400), up_max_factor=10.0, down_max_pct=100.0, prewarm_steps=0
)
HALF_AN_HOUR = ForecastSchedule(window=600.0, horizon=600.0)
STEP_UP_AND_DOWN = [20.0] * 6 + [50.0] * 4 + [20.0] * 4


def test_kedastral_covers_the_whole_window() -> None:
    # read over [now, now + 3 min], both ends included: at the end of minute t over minutes t+1 .. t+4.
    # 5 pods from the end of minute 2 (t + 4 = 6) to the end of minute 8 (t + 1 = 9): in force in minutes 3 .. 9.
    # Ordered at the end of minute 2, they serve from minute 5.
    trial = trial_of(STEP_UP_AND_DOWN)
    policy = Kedastral(Clairvoyant(trial.demand), PLAN, HALF_AN_HOUR, Serving(180.0, None))
    outcome = replay(policy, trial, LEAD_3)
    assert ordered(outcome) == [2] * 3 + [5] * 7 + [2] * 4
    assert ready(outcome) == [2] * 5 + [5] * 5 + [2] * 4
    assert outcome.unserved_share == 0


def test_far_end_drops_pods_before_the_need_has_passed() -> None:
    # reads minute t + 4 only: 5 pods from the end of minute 2 to the end of minute 5, so in minutes 3 .. 6.
    # At the end of minute 6 it reads minute 10: 2 pods from minute 7, while 50 stay until minute 9
    trial = trial_of(STEP_UP_AND_DOWN)
    outcome = replay(FarEndOnly(Clairvoyant(trial.demand), PLAN, HALF_AN_HOUR, Serving(180.0)), trial, LEAD_3)
    assert ordered(outcome) == [2] * 3 + [5] * 4 + [2] * 7
    assert unserved(outcome) == [0] * 7 + [30] * 3 + [0] * 4


def test_kedastral_behind_a_real_hpa_is_held_by_its_stabilization() -> None:
    # as above, with KEDA's value read by an HPA of 300 s: the last 5 is recommended at the end of minute 8 (540 s), and
    # counts until the end of minute 12 (780 s), exactly 300 s old and gone at the end of minute 13
    trial = trial_of([*STEP_UP_AND_DOWN, 20.0, 20.0])
    policy = Kedastral(Clairvoyant(trial.demand), PLAN, HALF_AN_HOUR, Serving(180.0, None))
    outcome = replay(policy, trial, Cluster(lead_time=180.0, behavior=HpaBehavior.UNLIMITED))
    assert ordered(outcome) == [2] * 3 + [5] * 11 + [2] * 2


def test_syncs_within_a_step_are_averaged() -> None:
    # 50 pods wanted, Kubernetes' own pace: one decision a minute is not enough for it. The first decision is at 60 s,
    # when the first minute is known: 1 -> 5, at 75 s 10, at 90 s 20, at 105 s 40, at 120 s 50; pods start at once.
    # Minute 1 has 5, 10, 20, 40 pods for a quarter each: 18.75; of 500 are missing 450, 400, 300, 100: mean 312.5
    cluster = Cluster(lead_time=60.0, timing=KedaTiming.KUBERNETES, behavior=HpaBehavior.KUBERNETES, first=1)
    outcome = replay(Fixed(50), trial_of([500, 500, 500]), cluster)
    assert ready(outcome) == [1, 18.75, 50]
    assert ordered(outcome) == [1, 18.75, 50]
    assert unserved(outcome) == [490, 312.5, 0]
    assert outcome.scale_events == 5
    assert outcome.pod_minutes == 69.75


def test_only_the_judged_part_counts() -> None:
    demand = series_of([20, 20, 50, 50, 50, 50, 50])
    outcome = replay(NIMBLE, Trial(demand, TARGET, begin=1, judged_from=4), LEAD_3)
    assert outcome.demand == Trial(demand, TARGET, judged_from=4).judged
    assert outcome.demand.start == demand.time_at(4)
    assert unserved(outcome) == [30, 0, 0]  # the 50 of minute 2 is served from minute 5


def test_a_gap_and_the_lead_time_after_it_are_in_no_figure_of_any_policy() -> None:
    # minutes 3 to 5 carry 20, and the 50 of minute 6 is served from minute 6 + 3 = 9
    demand, gaps = series_of([20, 20, 20, 20, 20, 20, 50, 50, 50, 50, 60, 60]), (3, 4, 5)
    outcome, whole = (replay(NIMBLE, Trial(demand, TARGET, gap_steps=each), LEAD_3) for each in (gaps, ()))
    assert outcome.supply.recommended.tolist()[2:6] == [2, *[pytest.approx(np.nan, nan_ok=True)] * 3]  # no answer
    assert ordered(outcome) == ordered(whole)
    assert unserved(outcome) == [0, 0, 0, 0, 0, 0, 30, 30, 30, 0, 10, 10]
    assert outcome.shortages.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 10]
    assert (outcome.counted_minutes, outcome.violation_minutes, outcome.violation_share) == (6, 2, 2 / 6)
    assert outcome.unserved_share == 20 / (3 * 20 + 50 + 2 * 60)
    assert outcome.pod_minutes == sum(ordered(whole)[i] for i in (0, 1, 2, 9, 10, 11))
    assert (outcome.scale_events, whole.scale_events) == (1, 2)  # that of minute 6 does not count
    assert (whole.counted_minutes, whole.violation_minutes) == (12, 5)
    oracle = replay_oracle(Trial(demand, TARGET, gap_steps=gaps), LEAD_3)
    assert oracle.counted.tolist() == outcome.counted.tolist()
    assert outcome.cost_against(oracle) == outcome.pod_minutes / oracle.pod_minutes


def test_history_before_the_beginning_is_seen_but_not_replayed() -> None:
    # begins at minute 2 with the pods its demand needs
    outcome = replay(NIMBLE, Trial(series_of([90, 90, 20, 30]), TARGET, begin=2, judged_from=2), LEAD_3)
    assert ordered(outcome) == [2, 2]


def test_five_minute_steps() -> None:
    # one step is one lead: ordered at the end of a step, serving in the next
    outcome = replay(NIMBLE, trial_of([20, 50, 50], step=300.0))
    assert ready(outcome) == [2, 2, 5]
    assert outcome.pod_minutes == 45
    assert outcome.violation_minutes == 5


def test_timings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="whole number of HPA sync periods"):
        replay(NIMBLE, trial_of([1, 2]), Cluster(timing=KedaTiming(sync_period=25.0)))
    with pytest.raises(ValueError, match="whole number of HPA sync periods"):
        replay(NIMBLE, trial_of([1, 2]), Cluster(timing=KedaTiming(sync_period=120.0)))
    with pytest.raises(ValueError, match="at least one step"):
        replay(NIMBLE, trial_of([1, 2]), Cluster(lead_time=30.0))


def test_costs_of_different_trials_are_not_compared() -> None:
    with pytest.raises(ValueError, match="not put to the same trial"):
        replay(NIMBLE, trial_of([1, 2])).cost_against(replay(NIMBLE, trial_of([1, 3])))


def test_no_demand_is_all_served() -> None:
    outcome = replay(NIMBLE, trial_of([0, 0, 0]))
    assert (outcome.unserved_share, outcome.violation_share) == (0, 0)


demands = st.lists(st.floats(0, 200), min_size=2, max_size=60)


@settings(deadline=None)
@given(demands, st.integers(1, 8))
def test_the_oracle_serves_everything_at_no_more_than_any_constant_that_does(values: list[float], lead: int) -> None:
    # it begins with what its first leads need, as it could not order before
    cluster = Cluster(lead_time=60.0 * lead, first=20)
    oracle = replay_oracle(trial_of([200.0, *values]), cluster)
    assert oracle.violation_share == 0
    assert oracle.pod_minutes <= 20 * (len(values) + 1)


def test_the_oracle_serves_the_first_load_after_a_rest() -> None:
    # KEDA orders the first pod at the end of minute 7, the HPA the others at the end of minute 8: they serve from 11
    trial = trial_of([0] * 11 + [50] * 4)
    oracle = replay_oracle(trial, attrs.evolve(LEAD_3, bounds=ReplicaBounds(0, 10), first=0))
    assert ordered(oracle) == [0] * 8 + [1] + [5] * 6
    assert oracle.violation_share == 0


@settings(deadline=None)
@given(demands, st.integers(1, 8), st.integers(1, 12))
def test_the_oracle_serves_everything_whatever_the_rests(values: list[float], lead: int, rest: int) -> None:
    rested = [200.0, *(value for load in values for value in [load] * 2 + [0.0] * rest)]
    cluster = Cluster(lead_time=60.0 * lead, first=20, bounds=ReplicaBounds(0, 400))
    assert replay_oracle(trial_of(rested), cluster).violation_share == 0


@settings(deadline=None)
@given(demands, st.integers(1, 20))
def test_unserved_is_zero_exactly_when_capacity_suffices_everywhere(values: list[float], replicas: int) -> None:
    outcome = replay(Fixed(replicas), trial_of(values), Cluster(first=replicas))
    suffices = bool((np.asarray(values) <= replicas * TARGET).all())
    assert (outcome.unserved_share == 0) is suffices
    assert (outcome.violation_share == 0) is suffices


@settings(deadline=None)
@given(demands, st.integers(1, 20), st.integers(0, 5))
def test_more_pods_never_serve_less(values: list[float], replicas: int, more: int) -> None:
    few = replay(Fixed(replicas), trial_of(values), Cluster(first=1))
    many = replay(Fixed(replicas + more), trial_of(values), Cluster(first=1))
    assert (many.supply.unserved <= few.supply.unserved).all()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), max_size=40), st.integers(0, 6))
def test_larger_orders_never_have_fewer_ready(orders: list[tuple[int, int]], start: int) -> None:
    few, many = PodFleet(3, 60.0 * start), PodFleet(3, 60.0 * start)
    for minute, (replicas, more) in enumerate(orders):
        few.order(60.0 * minute, replicas)
        many.order(60.0 * minute, replicas + more)
        assert many.ready(60.0 * minute) >= few.ready(60.0 * minute)


@settings(deadline=None)
@given(demands, st.integers(1, 8))
def test_the_replay_agrees_with_a_formula(values: list[float], lead: int) -> None:
    # ordered: ceil of the demand before; ready: the fewest ordered of the last lead minutes (see the fleet's own test)
    outcome = replay(NIMBLE, trial_of(values), Cluster(lead_time=60.0 * lead))
    wanted = np.clip(np.ceil(np.asarray(values) / TARGET - 1e-9), 1, 400)
    expected = np.concatenate([[wanted[0]], wanted[:-1]])
    before = np.concatenate([np.full(lead - 1, wanted[0]), expected])
    fewest = [before[m : m + lead].min() for m in range(len(values))]
    assert ordered(outcome) == expected.tolist()
    assert ready(outcome) == fewest
