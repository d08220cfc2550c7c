# SPDX-License-Identifier: Apache-2.0
"""`plan_step`: the planning step of one tick, the same for the running service and the simulation; pure."""

from datetime import datetime

import attrs

from kedastral.core.capacity import (
    PlanPolicy,
    ReplicaBounds,
    drop_idle_need,
    is_idle,
    lead_steps_of,
    load_for_floor,
    plan_replicas,
    reactive_replicas,
)
from kedastral.core.forecast import Forecast, fallback_forecast
from kedastral.core.planning.service_level import ServiceLevelSettings, ServiceLevelState, plan_for_service_level
from kedastral.core.planning.stabilization import PreviousPlan, UnstabilizedPlan
from kedastral.core.planning.status import ForecastStatus
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.series import Series
from kedastral.core.serving import told_until, wanted_for
from kedastral.core.snapshot import Mode, Snapshot


@attrs.frozen
class Workload:
    """One workload's part of the settings.

    ``steps`` is the length of the forecast, ``lead_time`` in seconds; ``reactive_headroom`` None turns the floor off.
    ``service_level`` None plans with the policy's fixed headroom, else by uncertainty and service level. In ``mode``
    observe the plan is shown and KEDA is told 0.
    """

    name: str
    metric: str
    steps: int
    lead_time: float
    policy: PlanPolicy
    reactive_headroom: float | None = 1.1
    service_level: ServiceLevelSettings | None = None
    mode: Mode = Mode.SCALE


def plan_step(
    workload: Workload,
    history: Series,
    forecast: Forecast,
    previous: Snapshot | None,
    learnt: UncertaintyState | None = None,
) -> Snapshot:
    """The snapshot to publish after ``previous``, whose state it carries on: by service level where that is set.

    ``learnt`` is the uncertainty found as the model was fitted; a plan by headroom does not read it. Raises ValueError
    where a plan by service level has no value in ``history`` to start from.
    """
    if workload.service_level is None:
        snapshot = _plan_by_headroom(workload, history, forecast, previous)
    else:
        snapshot = _plan_by_service_level(workload, workload.service_level, history, forecast, previous, learnt)
    return _keep_floor(snapshot, previous) if history.quality.at_least is not None else snapshot


def plan_step_without_model(
    workload: Workload,
    history: Series,
    made_at: datetime,
    status: ForecastStatus,
    previous: Snapshot | None,
    learnt: UncertaintyState | None = None,
) -> Snapshot | None:
    """`plan_step` for a tick whose model gave no forecast, for the reason in ``status``; None: publish nothing.

    By service level, the last value is planned for, with its own margin. By headroom, ``previous`` is kept and grows
    stale, but its floor follows the load.
    """
    if workload.service_level is None:
        return None if previous is None else keep_plan(workload, history, previous, status)
    forecast = fallback_forecast(history, made_at, workload.steps, status)
    return plan_step(workload, history, forecast, previous, learnt)


def _plan_by_headroom(workload: Workload, history: Series, forecast: Forecast, previous: Snapshot | None) -> Snapshot:
    """The forecast times a fixed headroom, over a reactive floor."""
    before = wanted_for(previous, forecast.made_at)
    values = forecast.values
    if is_idle(history):
        window = lead_steps_of(workload.lead_time, forecast.step) + workload.policy.prewarm_steps
        values = drop_idle_need(values, values, workload.policy, window)
    replicas = plan_replicas(values, workload.policy, previous=before)
    return Snapshot(
        workload.name, workload.metric, forecast, replicas, workload.lead_time, history.newest,
        _floor_of(workload, history), mode=workload.mode, quality=history.quality,
    )  # fmt: skip


def _plan_by_service_level(
    workload: Workload,
    settings: ServiceLevelSettings,
    history: Series,
    forecast: Forecast,
    previous: Snapshot | None,
    learnt: UncertaintyState | None,
) -> Snapshot:
    """A plan by uncertainty; ``learnt`` counts where it has judged more windows than the state that is carried on."""
    carried = _carried_from(previous)
    before = _before(carried, previous, forecast, workload.policy.bounds)
    if learnt is not None and learnt.model.windows > carried.uncertainty.model.windows:
        carried = attrs.evolve(carried, uncertainty=learnt)
    state, plan = plan_for_service_level(carried, history, forecast, settings, before)
    return Snapshot(
        workload.name, workload.metric, forecast, plan.replicas, workload.lead_time, history.newest, plan.floor,
        service_level=plan.report(state, settings), mode=workload.mode, status=plan.status, quality=history.quality,
    )  # fmt: skip


def keep_plan(workload: Workload, history: Series, previous: Snapshot, status: ForecastStatus) -> Snapshot:
    """``previous`` with a floor that rises with the newest load, for where no forecast can be made.

    The forecast and its plan stay what they were and when they were made, so that they grow stale like any other; the
    floor needs no forecast. It does not fall: the last one stays while an old plan is read. Where the settings have
    changed since, the bounds and the lead time are those of ``workload``. ``status`` says what is wrong.
    """
    bounds, floor = workload.policy.bounds, _floor_of(workload, history)
    if floor is not None and previous.floor is not None:
        floor = bounds.clamp(max(floor, previous.floor))
    return attrs.evolve(
        previous,
        observed=history.newest or previous.observed,
        replicas=[bounds.clamp(each) for each in previous.replicas.tolist()],
        lead_time=workload.lead_time,
        floor=floor,
        status=status,
        mode=workload.mode,
        quality=history.quality,
    )


def _keep_floor(snapshot: Snapshot, previous: Snapshot | None) -> Snapshot:
    """``snapshot`` with a floor not below the previous one: a partial answer is no evidence for fewer pods."""
    if snapshot.floor is None or previous is None or previous.floor is None or previous.floor <= snapshot.floor:
        return snapshot
    return attrs.evolve(snapshot, floor=previous.floor)


def _floor_of(workload: Workload, history: Series) -> int | None:
    if history.newest is None or workload.reactive_headroom is None:
        return None
    return reactive_replicas(load_for_floor(history), workload.reactive_headroom, workload.policy)


def _carried_from(previous: Snapshot | None) -> ServiceLevelState:
    """The state that goes on; a plan by headroom, if that is what was there, is one a model has made."""
    if previous is None:
        return ServiceLevelState()
    if previous.service_level is not None:
        return previous.service_level.state
    plan = UnstabilizedPlan.of(previous.made_at, previous.forecast.step, previous.replicas)
    return ServiceLevelState(unstabilized=plan, last_model_plan=plan)


def _before(
    state: ServiceLevelState, previous: Snapshot | None, forecast: Forecast, bounds: ReplicaBounds
) -> PreviousPlan:
    """What the plan before says as ``forecast`` is planned, and what is left of what a model said."""
    at = forecast.made_at
    wanted = None if state.unstabilized is None else state.unstabilized.wanted_at(at)
    told = None if previous is None else told_until(previous, at)
    rest = None if state.last_model_plan is None else state.last_model_plan.rest_for(forecast, bounds)
    return PreviousPlan(wanted, told, rest)
