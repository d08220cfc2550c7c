# SPDX-License-Identifier: Apache-2.0
"""`Workload`: what is forecast and how it is planned; and `plan_by_headroom`, the plan of a fixed headroom."""

from collections.abc import Callable

import attrs

from kedastral.core.capacity import PlanPolicy, plan_replicas, reactive_replicas
from kedastral.core.forecast import Forecast
from kedastral.core.series import Series
from kedastral.core.serving import wanted_for
from kedastral.core.snapshot import Mode, Snapshot
from kedastral.core.steered import SteeredSettings, SteeredState, plan_steered


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
    observed, floor = history.newest, None
    if observed is not None and workload.reactive_headroom is not None:
        floor = reactive_replicas(observed.value, workload.reactive_headroom, workload.policy)
    return Snapshot(
        workload.name, workload.metric, forecast, replicas, workload.lead_time, observed, floor, mode=workload.mode
    )


def plan_by_service_level(
    workload: Workload,
    history: Series,
    forecast: Forecast,
    previous: Snapshot | None,
    begin: Callable[[], SteeredState],
) -> Snapshot:
    """The snapshot to publish after ``previous``, whose state it carries on; ``begin`` gives one where there is none.

    Raises ValueError where ``workload.steered`` is not set or the history holds no value.
    """
    if workload.steered is None:
        raise ValueError(f"{workload.name} is not steered to a service level")
    before = wanted_for(previous, forecast.made_at)
    carried = previous.steered.state if previous is not None and previous.steered is not None else begin()
    state, plan = plan_steered(carried, history, forecast, workload.steered, previous=before)
    return Snapshot(
        workload.name, workload.metric, forecast, plan.replicas, workload.lead_time, history.newest, plan.floor,
        steered=plan.report(state, workload.steered), mode=workload.mode,
    )  # fmt: skip
