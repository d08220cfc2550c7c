# SPDX-License-Identifier: Apache-2.0
"""`PlanBasis`: the inputs of a snapshot's plan; `make_stages` recomputes the plan from them, number by number."""

import attrs
import numpy as np

from kedastral.core.capacity import PlanPolicy, ReplicaBounds, reactive_replicas
from kedastral.core.forecast import Forecast
from kedastral.core.planning.facts import LoadFacts
from kedastral.core.planning.idleness import plan_with_idle_steps
from kedastral.core.planning.service_level import PlanStages, SteeredBasis, plan_from
from kedastral.core.planning.stabilization import dead_band_of


@attrs.frozen
class HeadroomBasis:
    """The inputs, besides the forecast, of a plan that uses a fixed headroom and no uncertainty.

    ``reactive_headroom`` None turns the floor off. ``desired`` is how many replicas the previous plan needs Ready now,
    ``last_recommendation`` what it recommended to KEDA; both are None without a previous plan.
    """

    facts: LoadFacts
    policy: PlanPolicy
    reactive_headroom: float | None
    desired: int | None = None
    last_recommendation: int | None = None


PlanBasis = SteeredBasis | HeadroomBasis


def policy_of(basis: PlanBasis) -> PlanPolicy:
    """The policy that ``basis`` was planned with."""
    return basis.policy if isinstance(basis, HeadroomBasis) else basis.settings.policy


def with_policy(basis: PlanBasis, policy: PlanPolicy) -> PlanBasis:
    """``basis`` with another policy."""
    if isinstance(basis, HeadroomBasis):
        return attrs.evolve(basis, policy=policy)
    steering = attrs.evolve(basis.settings.steering, policy=policy)
    return attrs.evolve(basis, settings=attrs.evolve(basis.settings, steering=steering))


def without_maximum(basis: PlanBasis) -> PlanBasis:
    """``basis`` without a maximum number of replicas."""
    policy = policy_of(basis)
    return with_policy(basis, attrs.evolve(policy, bounds=ReplicaBounds(policy.bounds.min, 0)))


def make_stages(basis: PlanBasis, forecast: Forecast) -> PlanStages:
    """The plan computed from ``basis`` and ``forecast``."""
    if isinstance(basis, SteeredBasis):
        return plan_from(basis, forecast)[1]
    facts, policy = basis.facts, basis.policy
    dead_band = dead_band_of(basis.last_recommendation, policy, policy.headroom, noise=facts.noise, recent=facts.recent)
    values = np.asarray(forecast.values)
    replicas = plan_with_idle_steps(values, values, facts.idleness, policy, previous=basis.desired, dead_band=dead_band)
    floor = None
    if facts.newest is not None and basis.reactive_headroom is not None:
        floor = reactive_replicas(facts.for_floor, basis.reactive_headroom, policy, dead_band)
    return PlanStages(values, values, 1.0, policy, dead_band, replicas, floor, replicas, floor)
