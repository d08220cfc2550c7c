# SPDX-License-Identifier: Apache-2.0
"""The plan that is kept while a model fails, when the settings change meanwhile."""

from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pytest

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.planning.planner import Workload, keep_plan, plan_step
from kedastral.core.planning.status import model_failed
from kedastral.core.series import Series
from kedastral.core.serving import Snapshot, replicas_at
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
    assert attrs.evolve(kept, replicas=before.replicas, status=before.status) == before


@pytest.mark.parametrize(
    ("bounds", "recommended"),
    [((2, 50), (12, 36)), ((2, 10), (10, 10)), ((20, 50), (20, 36)), ((40, 50), (40, 40)), ((2, 0), (12, 36))],
    ids=str,
)
def test_a_kept_plan_lies_within_the_bounds_of_today(bounds: tuple[int, int], recommended: tuple[int, int]) -> None:
    kept = keep_plan(with_bounds(*bounds), history_of(1000), plan(), FAILED)
    assert tuple(replicas_at(kept, NOW + timedelta(minutes=at)) for at in (0, 12)) == recommended


def test_the_floor_over_a_kept_plan_lies_within_the_bounds_of_today() -> None:
    before = plan(load=4000.0, later=100.0)
    assert before.floor == 44
    kept = keep_plan(with_bounds(2, 10), history_of(100), before, FAILED)
    assert kept.floor == 10


def test_a_kept_plan_is_read_as_far_ahead_as_the_lead_time_of_today() -> None:
    kept = keep_plan(attrs.evolve(WORKLOAD, lead_time=900.0), history_of(1000), plan(), FAILED)
    assert [replicas_at(one, NOW) for one in (plan(), kept)] == [12, 36]
