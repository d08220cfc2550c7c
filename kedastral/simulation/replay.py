# SPDX-License-Identifier: Apache-2.0
"""`replay`: a policy put to a trial, step by step, with KEDA, the HPA and pods that take their time to start."""

import math

import attrs
import numpy as np
from attrs.validators import gt

from kedastral.core.capacity import WHOLE_WITHIN, ReplicaBounds, round_replicas
from kedastral.simulation.hpa_behavior import HpaBehavior
from kedastral.simulation.keda import Autoscaler, KedaTiming
from kedastral.simulation.outcome import Outcome, Supply
from kedastral.simulation.pods import PodFleet
from kedastral.simulation.policies.oracle import Oracle
from kedastral.simulation.policy import Policy, View
from kedastral.simulation.trial import Trial


@attrs.frozen
class Cluster:
    """What a policy runs in, the same for all that are compared.

    Pods ordered at the end of a step serve ``lead_time`` seconds after that step began: a lead of 5 minutes is 4 of pod
    start. ``behavior`` None leaves each policy the HPA it is deployed with. ``first`` pods are there at the beginning,
    None for as many as the first demand needs.
    """

    lead_time: float = attrs.field(default=300.0, validator=gt(0))
    bounds: ReplicaBounds = attrs.field(factory=lambda: ReplicaBounds(1, 400))
    timing: KedaTiming = attrs.field(factory=KedaTiming)
    behavior: HpaBehavior | None = None
    first: int | None = None


def replay(policy: Policy, trial: Trial, cluster: Cluster = Cluster()) -> Outcome:
    """What would have happened under ``policy``, a fresh one, judged on the part of the trial that counts.

    Raises ValueError where a step of the demand is no whole number of HPA syncs, or the lead is shorter than a step.
    """
    syncs = _syncs_per_step(trial, cluster)
    behavior = policy.behavior if cluster.behavior is None else cluster.behavior
    autoscaler = Autoscaler(policy, behavior, cluster.bounds, cluster.timing)
    fleet = PodFleet(_first_pods(trial, cluster), cluster.lead_time - trial.demand.step)
    recorded = np.zeros((len(trial.demand), 5))
    for step in range(trial.begin, len(trial.demand)):
        recorded[step] = _replay_step(step, trial, autoscaler, fleet, syncs)
    return Outcome(policy.name, trial.judged, trial.target_per_pod, Supply(*recorded[trial.judged_from :].T))


def replay_oracle(trial: Trial, cluster: Cluster = Cluster()) -> Outcome:
    """The outcome of the oracle, whatever HPA the others have."""
    lead_steps = math.ceil(cluster.lead_time / trial.demand.step - WHOLE_WITHIN)
    oracle = Oracle(trial.demand.values, trial.target_per_pod, lead_steps)
    return replay(oracle, trial, attrs.evolve(cluster, behavior=HpaBehavior.DIRECT))


def _replay_step(
    step: int, trial: Trial, autoscaler: Autoscaler, fleet: PodFleet, syncs: int
) -> tuple[float, float, float, float, float]:
    """One step of the demand: the pods serve, and the autoscaler decides at the end of each sync period.

    Returns what was recommended at its end, the mean of the pods ordered and ready and of the load unserved, and how
    often the order changed.
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
        ended = step + 1 if i == syncs else step
        if ended:
            view = View(demand.start, demand.step, now, demand.values[:ended], fleet.ordered)
            replicas = autoscaler.decide(view)
            changes += replicas != fleet.ordered
            fleet.order(now, replicas)
    return autoscaler.recommended, ordered / syncs, ready / syncs, unserved / syncs, changes


def shortfall(load: float, capacity: float) -> float:
    """The load above the capacity; noise of binary fractions is none."""
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
