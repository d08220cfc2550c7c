# SPDX-License-Identifier: Apache-2.0
"""`replay`: runs a policy on a trial, step by step, with KEDA, the HPA and pods that take time to start.

The result is an `Outcome`: what happened in each step, and the figures of cost and service.
"""

from collections.abc import Callable

import attrs
import numpy as np
from attrs.validators import gt

from kedastral.core.capacity import ReplicaBounds, round_replicas
from kedastral.core.series import MINUTE, Bools, Floats, Series, frozen_floats, same_array
from kedastral.core.steps import WHOLE_WITHIN, steps_to_serve
from kedastral.simulation.cluster import Autoscaler, KedaTiming, PodFleet
from kedastral.simulation.hpa import HpaBehavior
from kedastral.simulation.policies import Oracle
from kedastral.simulation.trial import Policy, Trial


@attrs.frozen
class Supply:
    """The pods, step by step; each array has the shape of the demand.

    ``recommended[i]`` replicas were asked for at the end of step i (NaN: no answer), before KEDA and the HPA.
    ``ordered`` and ``ready`` are the pods during the step, averaged if the HPA syncs more than once in it.
    ``unserved`` is in units of the demand. ``changes`` counts changes of the ordered pods in the step and at its end.
    """

    recommended: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    ordered: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    ready: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    unserved: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    changes: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))


@attrs.frozen
class Outcome:
    """One policy on one trial; ``demand`` is the judged part, and ``supply`` is aligned with it.

    ``counted`` says which steps count in the figures, by default all: see `Trial.counted`.
    """

    policy: str
    demand: Series
    target_per_pod: float
    supply: Supply
    counted: Bools = attrs.field(eq=attrs.cmp_using(eq=same_array), repr=False)

    @counted.default
    def _all_steps(self) -> Bools:
        return np.ones(len(self.demand), dtype=bool)

    @property
    def unserved_share(self) -> float:
        """sum(max(0, demand - capacity)) / sum(demand), 0..1; 0 if there was no demand."""
        total = float(self._counted_of(self.demand.values).sum())
        return float(self._counted_of(self.supply.unserved).sum()) / total if total > 0 else 0.0

    @property
    def violation_share(self) -> float:
        """The share of steps with demand above capacity, 0..1."""
        return float((self._counted_of(self.supply.unserved) > 0).mean())

    @property
    def violation_minutes(self) -> float:
        """The steps with demand above capacity, in minutes."""
        return float((self.shortages > 0).sum()) * self._minutes

    @property
    def counted_minutes(self) -> float:
        """The steps that count, in minutes."""
        return int(self.counted.sum()) * self.demand.step / MINUTE

    @property
    def shortages(self) -> Floats:
        """The unserved load of each step, of the shape of the demand; 0 where a step does not count."""
        return np.where(self.counted, self.supply.unserved, 0.0)

    @property
    def pod_minutes(self) -> float:
        """The cost: ordered pods, including pending ones, times minutes."""
        return float(self._counted_of(self.supply.ordered).sum()) * self._minutes

    @property
    def pod_hours(self) -> float:
        """`pod_minutes` in hours."""
        return self.pod_minutes / 60

    @property
    def scale_events(self) -> int:
        """How often the number of ordered pods changed."""
        return int(self._counted_of(self.supply.changes).sum())

    def cost_against(self, oracle: "Outcome") -> float:
        """`pod_minutes` as a ratio to the oracle's on the same trial; raises ValueError for another trial."""
        if self.demand != oracle.demand or self.target_per_pod != oracle.target_per_pod:
            raise ValueError(f"{self.policy} and {oracle.policy} were not put to the same trial")
        return self.pod_minutes / oracle.pod_minutes

    def _counted_of(self, values: Floats) -> Floats:
        return values[self.counted]

    @property
    def _minutes(self) -> float:
        return self.demand.step / MINUTE


@attrs.frozen
class Cluster:
    """The cluster that a policy runs in, the same for all policies compared.

    Pods ordered at the end of a step serve ``lead_time`` seconds after that step began: in steps of a minute, a lead
    time of 5 minutes leaves 4 for the pod to start. With ``behavior`` None each policy has the HPA it is deployed with.
    There are ``first`` pods at the beginning, or, if None, as many as the first demand needs.
    """

    lead_time: float = attrs.field(default=300.0, validator=gt(0))
    bounds: ReplicaBounds = attrs.field(factory=lambda: ReplicaBounds(1, 400))
    timing: KedaTiming = attrs.field(factory=KedaTiming)
    behavior: HpaBehavior | None = None
    first: int | None = None


PARTS = 100
"""How many times a replay reports progress."""


def replay(
    policy: Policy, trial: Trial, cluster: Cluster = Cluster(), advance: Callable[[float], None] = lambda _: None
) -> Outcome:
    """What would have happened under ``policy``, which must be new, in the judged part of the trial.

    ``advance`` gets the share done since its last call, in sum 1. Raises ValueError if a step of the demand is not a
    whole number of HPA syncs, or the lead time is shorter than a step.
    """
    syncs = _syncs_per_step(trial, cluster)
    behavior = policy.behavior if cluster.behavior is None else cluster.behavior
    autoscaler = Autoscaler(policy, behavior, cluster.bounds, cluster.timing)
    fleet = PodFleet(_first_pods(trial, cluster), cluster.lead_time - trial.demand.step)
    recorded = np.zeros((len(trial.demand), 5))
    every = max(1, trial.replayed_steps // PARTS)
    done = trial.begin
    for step in range(trial.begin, len(trial.demand)):
        recorded[step] = _replay_step(step, trial, autoscaler, fleet, syncs)
        if step + 1 - done >= every or step + 1 == len(trial.demand):
            advance((step + 1 - done) / trial.replayed_steps)
            done = step + 1
    supply, counted = Supply(*recorded[trial.judged_from :].T), trial.counted(cluster.lead_time)
    return Outcome(policy.name, trial.judged, trial.target_per_pod, supply, counted)


def replay_oracle(trial: Trial, cluster: Cluster = Cluster()) -> Outcome:
    """The outcome of the oracle, which orders directly whatever HPA the others have."""
    lead_steps = steps_to_serve(cluster.lead_time, trial.demand.step)
    oracle = Oracle(trial.demand.values, trial.target_per_pod, lead_steps)
    return replay(oracle, trial, attrs.evolve(cluster, behavior=HpaBehavior.DIRECT))


def _replay_step(
    step: int, trial: Trial, autoscaler: Autoscaler, fleet: PodFleet, syncs: int
) -> tuple[float, float, float, float, float]:
    """One step of the demand: the pods serve, and the autoscaler decides at the end of each sync period.

    Returns the recommendation at its end, the means of the ordered pods, the ready pods and the unserved load, and how
    often the ordered pods changed.
    """
    demand = trial.demand
    load, sync = float(demand.values[step]), demand.step / syncs
    ordered = ready = unserved = 0.0
    changes = 0
    for i in range(1, syncs + 1):
        begin, now = step * demand.step + (i - 1) * sync, step * demand.step + i * sync
        serving = fleet.ready(begin)
        ordered += fleet.ordered
        ready += serving
        unserved += shortfall(load, serving * trial.target_per_pod)
        view = trial.view(now, fleet.ordered)
        if view.ended:
            replicas = autoscaler.decide(view)
            changes += replicas != fleet.ordered
            fleet.order(now, replicas)
    return autoscaler.recommended, ordered / syncs, ready / syncs, unserved / syncs, changes


def shortfall(load: float, capacity: float) -> float:
    """The load above the capacity; a difference within rounding is 0."""
    return load - capacity if load > capacity * (1 + WHOLE_WITHIN) else 0.0


def _syncs_per_step(trial: Trial, cluster: Cluster) -> int:
    step, sync = trial.demand.step, cluster.timing.sync_period
    syncs = round(step / sync)
    if syncs < 1 or abs(syncs * sync - step) > WHOLE_WITHIN * step:
        raise ValueError(f"a step of {step:g} s must be a whole number of HPA sync periods of {sync:g} s")
    if cluster.lead_time < step:
        raise ValueError(f"the lead time ({cluster.lead_time:g} s) must be at least one step ({step:g} s)")
    return syncs


def _first_pods(trial: Trial, cluster: Cluster) -> int:
    if cluster.first is not None:
        return cluster.first
    return cluster.bounds.clamp(round_replicas(float(trial.demand.values[trial.begin]) / trial.target_per_pod))
