# SPDX-License-Identifier: Apache-2.0
"""The plan that is kept while a model fails, and how a plan continues the previous one."""

from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.explanation.explain import explain
from kedastral.core.explanation.stages import StageName
from kedastral.core.forecast import Forecast
from kedastral.core.forecast_status import model_failed
from kedastral.core.planning.planner import (
    Workload,
    adopt_plan,
    keep_plan,
    plan_step,
    plan_step_without_model,
    raise_floor,
)
from kedastral.core.planning.service_level import ServiceLevelGoal, SteeredBasis
from kedastral.core.planning.snapshot import Mode, Snapshot, replicas_at
from kedastral.core.planning.stabilization import UnstabilizedPlan
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.series import DataQuality, Observation, Series
from kedastral.errors import ModelError

NOW = datetime(2026, 3, 2, tzinfo=UTC)
POLICY = PlanPolicy(target_per_pod=100, headroom=1.2, bounds=ReplicaBounds(2, 50))
WORKLOAD = Workload("shop", "http_rps", 30, 300.0, POLICY)
FAILED = model_failed(ModelError("no idea", reason="bad_answer"))


def history_of(load: float) -> Series:
    return Series(NOW - timedelta(minutes=9), 60.0, np.full(10, load))


def plan(*, load: float = 1000.0, later: float = 3000.0) -> Snapshot:
    """36 for a load of 3000, which is forecast ten minutes ahead."""
    values = np.where(np.arange(30) < 10, load, later)
    return plan_step(WORKLOAD, history_of(load), Forecast(NOW, 60.0, values), None)


def with_bounds(min_replicas: int, max_replicas: int) -> Workload:
    return attrs.evolve(WORKLOAD, policy=attrs.evolve(POLICY, bounds=ReplicaBounds(min_replicas, max_replicas)))


def test_a_kept_plan_is_the_plan_as_it_was() -> None:
    before = plan()
    kept = keep_plan(WORKLOAD, history_of(1000), before, FAILED)
    assert kept.replicas.tolist() == before.replicas.tolist()
    assert kept.status == FAILED
    assert attrs.evolve(kept, replicas=before.replicas, status=before.status) == before


@pytest.mark.parametrize(
    ("bounds", "recommended"),
    [((2, 50), (12, 36)), ((2, 10), (10, 10)), ((20, 50), (20, 36)), ((40, 50), (40, 40)), ((2, 0), (12, 36))],
    ids=str,
)
def test_a_kept_plan_lies_within_the_bounds_of_today(bounds: tuple[int, int], recommended: tuple[int, int]) -> None:
    kept = keep_plan(with_bounds(*bounds), history_of(1000), plan(), FAILED)
    assert tuple(replicas_at(kept, NOW + timedelta(minutes=at)) for at in (0, 12)) == recommended


def test_a_kept_plan_shows_the_newest_load_and_a_floor_that_rises_with_it() -> None:
    before = plan(load=2000.0)
    assert before.floor == 22
    for load, floor in ((1000.0, 22), (3000.0, 33)):
        kept = keep_plan(WORKLOAD, history_of(load), before, FAILED)
        assert (kept.observed, kept.floor) == (Observation(NOW, load), floor)
    unknown = keep_plan(WORKLOAD, history_of(np.nan), before, FAILED)
    assert unknown.observed == before.observed
    first = keep_plan(WORKLOAD, history_of(3000.0), attrs.evolve(before, floor=None), FAILED)
    assert first.floor == 33
    off = attrs.evolve(WORKLOAD, reactive_headroom=None)
    assert keep_plan(off, history_of(3000.0), before, FAILED).floor is None


def bounded_by(load: float) -> Series:
    """Ten minutes without a whole value, at the end of which the load is at least ``load``."""
    seen = Series(NOW + timedelta(minutes=8), 60.0, [load / 2, load])
    return Series(NOW, 60.0, np.full(10, np.nan), DataQuality(unsettled=seen))


def test_a_lower_bound_of_the_load_raises_the_floor_and_nothing_else() -> None:
    before = plan(load=2000.0)
    assert before.floor == 22
    assert raise_floor(WORKLOAD, bounded_by(1000.0), before) is None, "it does not fall"
    assert raise_floor(WORKLOAD, history_of(9000.0), before) is None, "no lower bound"
    raised = raise_floor(WORKLOAD, bounded_by(3000.0), before)
    assert raised is not None
    assert (raised.floor, raised.observed) == (33, Observation(NOW + timedelta(minutes=9), 3000.0))
    assert attrs.evolve(raised, floor=before.floor, observed=before.observed, quality=before.quality) == before
    [words] = [one.words for one in explain(raised, NOW, StalePolicy()).stages if one.name is StageName.FLOOR]
    assert words == "what the load since this plan, at least 3,000, needs at once"
    at_most = raise_floor(with_bounds(2, 30), bounded_by(3000.0), before)
    assert at_most is not None
    assert at_most.floor == 30
    assert raise_floor(attrs.evolve(WORKLOAD, reactive_headroom=None), bounded_by(3000.0), before) is None
    assert raise_floor(WORKLOAD, bounded_by(3000.0), attrs.evolve(before, floor=None)) is None


@pytest.mark.parametrize(
    ("headroom", "cap", "floor"), [(None, None, 48), (1.5, None, 45), (None, 3300.0, 33), (None, 100.0, 32)]
)
def test_a_lower_bound_counts_with_the_factor_of_the_plan_up_to_the_cap(
    headroom: float | None, cap: float | None, floor: int
) -> None:
    policy = attrs.evolve(POLICY, bounds=ReplicaBounds(2, 100))
    goal = ServiceLevelGoal(headroom=headroom)
    workload = attrs.evolve(WORKLOAD, policy=policy, reactive_headroom=1.5, goal=goal)
    before = plan_step(workload, history_of(1000.0), Forecast(NOW, 60.0, np.full(30, 1000.0)), None)
    assert before.service_level is not None
    report = attrs.evolve(before.service_level, factor=1.5, load_cap=cap)
    raised = raise_floor(workload, bounded_by(3000.0), attrs.evolve(before, service_level=report))
    assert raised is not None
    assert raised.floor == floor


def test_the_floor_over_a_kept_plan_lies_within_the_bounds_of_today() -> None:
    before = plan(load=4000.0, later=100.0)
    assert before.floor == 44
    kept = keep_plan(with_bounds(2, 10), history_of(100), before, FAILED)
    assert kept.floor == 10


def test_half_an_answer_brings_no_floor_where_it_is_off() -> None:
    later = NOW + timedelta(minutes=1)
    history = attrs.evolve(history_of(1.0), quality=DataQuality(at_least=Observation(later, 1.0)))
    off = attrs.evolve(WORKLOAD, reactive_headroom=None)
    assert plan_step(off, history, Forecast(later, 60.0, np.full(30, 1.0)), plan()).floor is None


@pytest.mark.parametrize(("load", "partial", "floor"), [(1000, True, 44), (1000, False, 11), (9000, True, 50)])
def test_half_an_answer_lowers_no_floor(load: float, partial: bool, floor: int) -> None:
    later = NOW + timedelta(minutes=1)
    quality = DataQuality(at_least=Observation(later, 1.0)) if partial else DataQuality()
    history = attrs.evolve(history_of(load), start=NOW - timedelta(minutes=8), quality=quality)
    made = plan_step(WORKLOAD, history, Forecast(later, 60.0, np.full(30, 100.0)), plan(load=4000.0))
    assert made.floor == floor
    assert plan_step(WORKLOAD, history, Forecast(later, 60.0, np.full(30, 100.0)), None).floor == min(load // 90, 50)


# -- from one plan to the next --

STEERED = attrs.evolve(WORKLOAD, goal=ServiceLevelGoal(min_history=0.0))
both = pytest.mark.parametrize("workload", [WORKLOAD, STEERED], ids=["headroom", "service level"])


@both
def test_a_plan_says_the_least_that_any_plan_of_its_workload_wants(workload: Workload) -> None:
    made = plan_step(workload, history_of(1000), Forecast(NOW, 60.0, np.full(30, 1000.0)), None)
    assert made.min_replicas == 2
    observed = attrs.evolve(workload, stale=StalePolicy(mode=Mode.OBSERVE))
    assert plan_step(observed, history_of(1000), Forecast(NOW, 60.0, np.full(30, 1.0)), None).mode is Mode.OBSERVE


def test_what_keda_has_read_since_the_last_plan_does_not_fall_at_once() -> None:
    """A plan that rises within the lead time of a late tick: its own recommendation does not include that."""
    values = np.where(np.arange(30) == 6, 3000.0, 1000.0)
    policy = attrs.evolve(POLICY, prewarm_steps=0, up_max_factor=10.0)
    workload = attrs.evolve(STEERED, policy=policy)
    before = plan_step(workload, history_of(1000), Forecast(NOW, 60.0, values), None)
    at = NOW + timedelta(seconds=90)
    read = replicas_at(before, at - timedelta(microseconds=1))
    assert read > 2 * replicas_at(before, NOW)
    made = plan_step(workload, history_of(1000), Forecast(at, 60.0, np.full(30, 1000.0)), before)
    assert replicas_at(made, at) >= read


def test_a_plan_by_service_level_goes_on_from_one_by_headroom() -> None:
    before, at = plan(), NOW + timedelta(minutes=9)
    basis = plan_step(STEERED, history_of(1000), Forecast(at, 60.0, np.full(30, 1000.0)), before).basis
    assert isinstance(basis, SteeredBasis)
    assert basis.previous.desired == before.replicas[9]
    assert basis.state.last_model_plan == UnstabilizedPlan.of(NOW, 60.0, before.replicas)


def test_without_a_forecast_a_plan_by_headroom_is_kept_and_one_by_service_level_follows_the_last_value() -> None:
    history, before, at = history_of(1000), plan(), NOW + timedelta(minutes=1)
    assert plan_step_without_model(WORKLOAD, history, at, FAILED, None) is None
    kept = plan_step_without_model(WORKLOAD, history, at, FAILED, before)
    assert kept == keep_plan(WORKLOAD, history, before, FAILED)
    naive = plan_step_without_model(STEERED, history, at, FAILED, None, served=7)
    assert naive is not None
    assert (naive.status, naive.made_at, naive.served_before) == (FAILED, at, 7)
    assert naive.forecast.values.tolist() == [1000.0] * 30


def test_a_plan_has_the_fingerprint_of_the_settings_that_it_was_made_under() -> None:
    """A kept plan keeps it: its numbers mean what they meant under these."""
    history, at = history_of(1000), NOW + timedelta(minutes=1)
    forecast = Forecast(NOW, 60.0, np.full(30, 1000.0))
    by_headroom, steered = (attrs.evolve(each, fingerprint="old") for each in (WORKLOAD, STEERED))
    before = plan_step(by_headroom, history, forecast, None)
    assert before.fingerprint == plan_step(steered, history, forecast, before).fingerprint == "old"
    kept, made = (
        plan_step_without_model(attrs.evolve(each, fingerprint="new"), history, at, FAILED, before)
        for each in (by_headroom, steered)
    )
    assert kept is not None
    assert made is not None
    assert (kept.fingerprint, made.fingerprint) == ("old", "new")


def test_a_plan_without_a_floor_is_adopted_without_one() -> None:
    assert adopt_plan(WORKLOAD, attrs.evolve(plan(), floor=None)).floor is None


def test_a_kept_plan_is_read_as_far_ahead_as_the_lead_time_of_today() -> None:
    kept = keep_plan(attrs.evolve(WORKLOAD, lead_time=900.0), history_of(1000), plan(), FAILED)
    assert [replicas_at(one, NOW) for one in (plan(), kept)] == [12, 36]


@pytest.mark.parametrize(
    ("load", "later", "max_replicas", "wanted"),
    [(1000.0, 1000.0, 12, None), (1000.0, 1000.0, 11, 12), (1000.0, 1000.0, 0, None), (1000.0, 3000.0, 13, None)],
    ids=["just enough", "one too few", "no maximum", "not within the lead time"],
)
def test_a_plan_that_its_maximum_limits_says_what_it_would_ask_for(
    load: float, later: float, max_replicas: int, wanted: int | None
) -> None:
    forecast = Forecast(NOW, 60.0, np.where(np.arange(30) < 10, load, later))
    made = plan_step(with_bounds(2, max_replicas), history_of(load), forecast, None)
    assert made.replicas_without_max == wanted


def test_the_floor_alone_can_be_what_the_maximum_limits() -> None:
    """The forecast of 500 needs 6 replicas, the measured load of 2000 needs 22."""
    made = plan_step(with_bounds(2, 8), history_of(2000.0), Forecast(NOW, 60.0, np.full(30, 500.0)), None)
    assert (replicas_at(made, NOW), made.replicas_without_max) == (8, 22)


@pytest.mark.parametrize(("max_replicas", "wanted"), [(11, 12), (12, None), (0, None)])
def test_a_plan_adopted_under_a_larger_maximum_is_not_limited_by_it(max_replicas: int, wanted: int | None) -> None:
    flat = Forecast(NOW, 60.0, np.full(30, 1000.0))
    made = plan_step(with_bounds(2, 10), history_of(1000.0), flat, None)
    assert adopt_plan(with_bounds(2, max_replicas), made).replicas_without_max == wanted


@given(
    st.lists(st.floats(0, 5000), min_size=30, max_size=30), st.integers(2, 40), st.booleans(), st.floats(0, 5000)
)  # fmt: skip
def test_a_limited_plan_and_its_explanation_agree(
    values: list[float], max_replicas: int, steered: bool, load: float
) -> None:
    workload = attrs.evolve(with_bounds(2, max_replicas), goal=ServiceLevelGoal() if steered else None)
    made = plan_step(workload, history_of(load), Forecast(NOW, 60.0, np.array(values)), None)
    explained = explain(made, NOW, StalePolicy())
    without = next(stage.without for stage in explained.stages if stage.name is StageName.MAXIMUM)
    assert without is not None
    assert made.replicas_without_max == (without if without > max_replicas else None)
    if made.replicas_without_max is not None:
        assert explained.planned == max_replicas
