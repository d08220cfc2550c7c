# SPDX-License-Identifier: Apache-2.0
"""`Workload`: what is forecast and how it is planned; and `plan_by_headroom`, the plan of a fixed headroom."""

import attrs

from kedastral.core.capacity import PlanPolicy, plan_replicas, reactive_replicas
from kedastral.core.forecast import Forecast
from kedastral.core.series import Series
from kedastral.core.serving import rest_of, wanted_for
from kedastral.core.snapshot import Mode, Snapshot
from kedastral.core.standing import Standing
from kedastral.core.steered import SteeredSettings, SteeredState, plan_steered
from kedastral.core.uncertainty import UncertaintyState


@attrs.frozen
class Workload:
    """One workload's part of the settings.

    ``steps`` is the length of the forecast, ``lead_time`` in seconds; ``reactive_headroom`` None turns the floor off.
    ``steered`` None plans with the policy's fixed headroom, else by uncertainty and service level. In ``mode`` observe
    the plan is shown and KEDA is told 0.
    """

    name: str
    metric: str
    steps: int
    lead_time: float
    policy: PlanPolicy
    reactive_headroom: float | None = 1.1
    steered: SteeredSettings | None = None
    mode: Mode = Mode.SCALE


def plan_by_headroom(workload: Workload, history: Series, forecast: Forecast, previous: Snapshot | None) -> Snapshot:
    """The snapshot to publish after ``previous``: the forecast times a fixed headroom, over a reactive floor."""
    before = wanted_for(previous, forecast.made_at)
    replicas = plan_replicas(forecast.values, workload.policy, previous=before)
    return Snapshot(
        workload.name, workload.metric, forecast, replicas, workload.lead_time, history.newest,
        _floor_of(workload, history), mode=workload.mode,
    )  # fmt: skip


def _floor_of(workload: Workload, history: Series) -> int | None:
    observed = history.newest
    if observed is None or workload.reactive_headroom is None:
        return None
    return reactive_replicas(observed.value, workload.reactive_headroom, workload.policy)


def keep_plan(workload: Workload, history: Series, previous: Snapshot, standing: Standing) -> Snapshot:
    """``previous`` with a floor that rises with the newest load, for where no forecast can be made.

    The forecast and its plan stay what they were and when they were made, so that they grow stale like any other; the
    floor needs no forecast. It does not fall: the last one stays while an old plan is read. ``standing`` says what is
    wrong.
    """
    observed = history.newest or previous.observed
    floor = _floor_of(workload, history)
    if floor is not None and previous.floor is not None:
        floor = max(floor, previous.floor)
    return attrs.evolve(previous, observed=observed, floor=floor, standing=standing, mode=workload.mode)


def plan_by_service_level(
    workload: Workload,
    history: Series,
    forecast: Forecast,
    previous: Snapshot | None,
    learnt: UncertaintyState | None = None,
) -> Snapshot:
    """The snapshot to publish after ``previous``, whose state it carries on.

    ``learnt`` is the uncertainty that the model's past tells of; it counts where it has seen more than the state has.
    Raises ValueError where ``workload.steered`` is not set or the history holds no value.
    """
    if workload.steered is None:
        raise ValueError(f"{workload.name} is not steered to a service level")
    before = wanted_for(previous, forecast.made_at)
    carried = previous.steered.state if previous is not None and previous.steered is not None else SteeredState()
    if learnt is not None and learnt.model.windows > carried.uncertainty.model.windows:
        carried = attrs.evolve(carried, uncertainty=learnt)
    least = None
    if previous is not None and not forecast.standing.is_ok:  # what stands in takes back nothing that a model has said
        least = rest_of(previous, forecast, workload.policy.bounds)
    state, plan = plan_steered(carried, history, forecast, workload.steered, previous=before, least=least)
    return Snapshot(
        workload.name, workload.metric, forecast, plan.replicas, workload.lead_time, history.newest, plan.floor,
        steered=plan.report(state, workload.steered), mode=workload.mode, standing=plan.standing,
    )  # fmt: skip
