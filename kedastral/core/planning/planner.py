# SPDX-License-Identifier: Apache-2.0
"""`plan_step`: the planning step of one tick, the same for the running service and the simulation; pure.

A plan is made either by headroom, the forecast times a fixed factor, or by service level
(`kedastral.core.planning.service_level`).
"""

from datetime import datetime

import attrs

from kedastral.core.capacity import PlanPolicy, ReplicaBounds, reactive_replicas
from kedastral.core.forecast import Forecast, fallback_forecast
from kedastral.core.forecast_status import ForecastStatus
from kedastral.core.planning.basis import HeadroomBasis, make_stages, policy_of, without_maximum
from kedastral.core.planning.facts import load_for_floor, read_facts
from kedastral.core.planning.service_level import (
    ServiceLevelGoal,
    ServiceLevelSettings,
    ServiceLevelState,
    floor_for,
    plan_for_service_level,
)
from kedastral.core.planning.snapshot import Mode, Snapshot, desired_at, last_recommendation, replicas_at
from kedastral.core.planning.stabilization import (
    STABILIZATION_WINDOW,
    PreviousPlan,
    Resumption,
    UnstabilizedPlan,
    continue_resumption,
    longest_pause,
)
from kedastral.core.planning.stale_policy import StalePolicy, last_served
from kedastral.core.planning.steering import SteeringSettings
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.series import Series


@attrs.frozen
class Workload:
    """One workload's part of the settings: whatever planning needs to know of them comes from here.

    ``steps`` is the length of the forecast; ``lead_time`` is in seconds. With ``reactive_headroom`` None there is no
    floor; with ``goal`` None the plan uses the policy's fixed headroom, else it is made by service level. ``stale``
    says how long a plan is served if no newer one comes, and whether KEDA is told any. ``interval`` is the time between
    two ticks in seconds; None means one step. ``fingerprint`` identifies the settings that a plan depends on.
    """

    name: str
    metric: str
    steps: int
    lead_time: float
    policy: PlanPolicy
    reactive_headroom: float | None = 1.1
    goal: ServiceLevelGoal | None = None
    stale: StalePolicy = attrs.field(factory=StalePolicy)
    interval: float | None = None
    fingerprint: str = ""

    @property
    def mode(self) -> Mode:
        """In mode observe the plan is only shown, and KEDA is told 0."""
        return self.stale.mode or Mode.SCALE

    @property
    def service_level(self) -> ServiceLevelSettings | None:
        """The settings of a plan by service level; None if the plan uses the policy's fixed headroom."""
        goal = self.goal
        if goal is None:
            return None
        observing = self.mode is Mode.OBSERVE
        steering = SteeringSettings(
            self.policy, goal.service_level, self.lead_time, self.stale.stale_after, observing=observing
        )
        return ServiceLevelSettings(steering, goal.headroom, self.reactive_headroom, goal.min_history, self.interval)


def plan_step(
    workload: Workload,
    history: Series,
    forecast: Forecast,
    previous: Snapshot | None,
    learnt: UncertaintyState | None = None,
    served: int | None = None,
) -> Snapshot:
    """The snapshot to publish after ``previous``, whose state it carries on.

    ``learnt`` is the uncertainty found when the model was fitted; a plan by headroom does not use it. ``served`` is
    what KEDA was last told before a start, for when ``previous`` cannot say: there is none, or it was too old to be
    served when the process began. None if unknown. Raises ValueError if a plan by service level has no value in
    ``history`` to start from.
    """
    resumption = _resume(workload, forecast, previous, served)
    settings, before = workload.service_level, 0 if resumption is None else resumption.served or 0
    if settings is None:
        snapshot = _plan_by_headroom(workload, history, forecast, previous)
    else:
        snapshot = _plan_by_service_level(workload, settings, history, forecast, previous, learnt, before)
    is_partial = history.quality.at_least is not None
    withheld = (snapshot.status.awaits_model or is_partial) and (previous is None or previous.withheld)
    unknown = resumption is not None and resumption.served is None
    snapshot = attrs.evolve(
        snapshot, resumption=resumption, withheld=withheld and unknown, fingerprint=workload.fingerprint
    )
    snapshot = _keep_floor(snapshot, previous) if is_partial else snapshot
    return attrs.evolve(snapshot, replicas_without_max=replicas_without_max(snapshot))


def plan_step_without_model(
    workload: Workload,
    history: Series,
    made_at: datetime,
    status: ForecastStatus,
    previous: Snapshot | None,
    learnt: UncertaintyState | None = None,
    served: int | None = None,
) -> Snapshot | None:
    """`plan_step` for a tick whose model gave no forecast, for the reason in ``status``; None: publish nothing.

    By service level, the plan follows the last value with its own margin. By headroom, ``previous`` is kept and becomes
    stale, but its floor follows the load.
    """
    if workload.goal is None:
        return None if previous is None else keep_plan(workload, history, previous, status)
    forecast = fallback_forecast(history, made_at, workload.steps, status)
    return plan_step(workload, history, forecast, previous, learnt, served)


def keep_plan(workload: Workload, history: Series, previous: Snapshot, status: ForecastStatus) -> Snapshot:
    """``previous`` with a floor that rises with the newest load, for when there is no forecast.

    The forecast and its plan keep their values and their time, so that they become stale as usual. The floor needs no
    forecast. It does not fall: while an old plan is served, its last floor stays. The bounds and the lead time are
    those of ``workload``, whose settings may have changed since; the fingerprint stays that of the settings that the
    plan was made under. ``status`` says why there is no forecast.
    """
    bounds, floor = workload.policy.bounds, _floor_of(workload, history)
    if floor is not None and previous.floor is not None:
        floor = bounds.clamp(max(floor, previous.floor))
    return attrs.evolve(
        adopt_plan(workload, previous),
        observed=history.newest or previous.observed,
        floor=floor,
        status=status,
        quality=history.quality,
    )


def raise_floor(workload: Workload, history: Series, previous: Snapshot) -> Snapshot | None:
    """``previous`` with a floor that has risen to the lower bound at the end of ``history``; None if it has not.

    After an outage the first points of a ``rate()`` are too low, so that there is no new plan yet, but the load is at
    least that. Nothing else changes: the plan keeps its time.
    """
    unsettled, floor, settings = history.quality.unsettled, previous.floor, workload.service_level
    bound = None if unsettled is None else unsettled.newest
    if bound is None or floor is None or workload.reactive_headroom is None:
        return None
    if settings is None or previous.service_level is None:
        needed = reactive_replicas(bound.value, workload.reactive_headroom, workload.policy)
    else:
        needed = floor_for(bound.value, previous.service_level, settings)
    if needed <= floor:
        return None
    return attrs.evolve(previous, observed=bound, floor=needed, quality=history.quality)


def adopt_plan(workload: Workload, snapshot: Snapshot) -> Snapshot:
    """``snapshot``, made under former settings, with the metric, bounds, lead time and mode of ``workload``."""
    bounds, resumption, floor = workload.policy.bounds, snapshot.resumption, snapshot.floor
    wanted = snapshot.replicas_without_max
    if resumption is not None and resumption.served is not None:
        resumption = attrs.evolve(resumption, served=bounds.clamp(resumption.served))
    return attrs.evolve(
        snapshot,
        metric=workload.metric,
        replicas=[bounds.clamp(each) for each in snapshot.replicas.tolist()],
        lead_time=workload.lead_time,
        floor=None if floor is None or workload.reactive_headroom is None else bounds.clamp(floor),
        mode=workload.mode,
        resumption=resumption,
        replicas_without_max=None if wanted is None or bounds.clamp(wanted) == wanted else wanted,
    )


def replicas_without_max(snapshot: Snapshot) -> int | None:
    """What `replicas_at` the time of ``snapshot`` would be without the maximum; None if the maximum does not limit it.

    An HPA says so by its condition ScalingLimited, once the load has arrived.
    """
    basis, at = snapshot.basis, snapshot.made_at
    most = 0 if basis is None else policy_of(basis).bounds.max
    if basis is None or not most or replicas_at(snapshot, at) < most:
        return None
    stages = make_stages(without_maximum(basis), snapshot.forecast)
    wanted = replicas_at(attrs.evolve(snapshot, replicas=stages.replicas, floor=stages.floor), at)
    return wanted if wanted > most else None


def _resume(workload: Workload, forecast: Forecast, previous: Snapshot | None, served: int | None) -> Resumption | None:
    """The resumption in progress at the time of ``forecast``: begun now, or with an earlier plan."""
    now, bounds = forecast.made_at, workload.policy.bounds
    if previous is None:
        return Resumption(now, None if served is None else bounds.clamp(served))
    before, passed = previous.resumption, (now - previous.made_at).total_seconds()
    if abs(passed) > max(workload.stale.stale_after, longest_pause(workload.interval or forecast.step)):
        told = last_served(previous, now, workload.stale)
        served = served if told is None else told
        if not previous.withheld:  # an outage; one within a resumption does not lengthen it
            left = STABILIZATION_WINDOW if before is None else before.left
            return Resumption(now, None if served is None else bounds.clamp(served), left)
    if before is None:
        return None
    if before.served is not None:
        before = attrs.evolve(before, served=bounds.clamp(before.served))
    stood = not previous.status.awaits_model and previous.quality.at_least is None
    return continue_resumption(before, now, max(passed, 0.0), forecast.horizon, stood=stood)


def _plan_by_headroom(workload: Workload, history: Series, forecast: Forecast, previous: Snapshot | None) -> Snapshot:
    """The forecast times a fixed headroom, with a reactive floor."""
    desired = desired_at(previous, forecast.made_at)
    last = None if previous is None else last_recommendation(previous, forecast.made_at)
    basis = HeadroomBasis(
        read_facts(history, workload.policy.bounds), workload.policy, workload.reactive_headroom, desired, last
    )
    stages = make_stages(basis, forecast)
    return Snapshot(
        workload.name, workload.metric, forecast, stages.replicas, workload.lead_time, history.newest, stages.floor,
        mode=workload.mode, quality=history.quality, min_replicas=workload.policy.bounds.min, basis=basis,
    )  # fmt: skip


def _plan_by_service_level(
    workload: Workload,
    settings: ServiceLevelSettings,
    history: Series,
    forecast: Forecast,
    previous: Snapshot | None,
    learnt: UncertaintyState | None,
    served: int,
) -> Snapshot:
    """A plan by uncertainty. ``learnt`` replaces the uncertainty carried so far if it has judged more windows.

    ``served`` is the number of replicas that a resumption holds, 0 without one.
    """
    state = _state_after(previous)
    previous_plan = attrs.evolve(_previous_plan(state, previous, forecast, workload.policy.bounds), served=served)
    if learnt is not None and learnt.model.windows > state.uncertainty.model.windows:
        state = attrs.evolve(state, uncertainty=learnt)
    state, plan = plan_for_service_level(state, history, forecast, settings, previous_plan)
    return Snapshot(
        workload.name, workload.metric, forecast, plan.replicas, workload.lead_time, history.newest, plan.floor,
        service_level=plan.report(state, settings), mode=workload.mode, status=plan.status, quality=history.quality,
        min_replicas=workload.policy.bounds.min, basis=plan.basis,
    )  # fmt: skip


def _keep_floor(snapshot: Snapshot, previous: Snapshot | None) -> Snapshot:
    """``snapshot`` with a floor no lower than the previous one: a partial answer does not justify fewer pods."""
    if snapshot.floor is None or previous is None or previous.floor is None or previous.floor <= snapshot.floor:
        return snapshot
    return attrs.evolve(snapshot, floor=previous.floor)


def _state_after(previous: Snapshot | None) -> ServiceLevelState:
    """The state to continue from. A plan by headroom carries none; it counts as a plan that followed a model."""
    if previous is None:
        return ServiceLevelState()
    if previous.service_level is not None:
        return previous.service_level.state
    plan = UnstabilizedPlan.of(previous.made_at, previous.forecast.step, previous.replicas)
    return ServiceLevelState(unstabilized=plan, last_model_plan=plan)


def _previous_plan(
    state: ServiceLevelState, previous: Snapshot | None, forecast: Forecast, bounds: ReplicaBounds
) -> PreviousPlan:
    """What the previous plan says for the time of ``forecast``."""
    at = forecast.made_at
    return PreviousPlan(
        desired=None if state.unstabilized is None else state.unstabilized.desired_at(at),
        last_recommendation=None if previous is None else last_recommendation(previous, at),
        model_plan=None if state.last_model_plan is None else state.last_model_plan.remaining_for(forecast, bounds),
    )


def _floor_of(workload: Workload, history: Series) -> int | None:
    if history.newest is None or workload.reactive_headroom is None:
        return None
    return reactive_replicas(load_for_floor(history), workload.reactive_headroom, workload.policy)
