# SPDX-License-Identifier: Apache-2.0
"""`Ticks`: the service's tick, replayed: history -> forecast -> plan -> snapshot."""

import attrs
from attrs.validators import gt

from kedastral.core.capacity import PlanPolicy
from kedastral.core.ports import Model
from kedastral.core.serving import StalePolicy
from kedastral.core.snapshot import Snapshot
from kedastral.core.standing import model_failed
from kedastral.core.workload import Workload, keep_plan, plan_by_headroom
from kedastral.errors import ModelError
from kedastral.simulation.policy import View


@attrs.frozen
class Reading:
    """What each tick reads and forecasts, in seconds: ``window`` of history, ``horizon`` ahead, every ``interval``."""

    window: float = attrs.field(default=1800.0, validator=gt(0))
    horizon: float = attrs.field(default=1800.0, validator=gt(0))
    interval: float = attrs.field(default=60.0, validator=gt(0))


@attrs.frozen
class Serving:
    """How a snapshot is read; ``lead_time`` in seconds, ``reactive_headroom`` None turns the floor off."""

    lead_time: float = attrs.field(default=300.0, validator=gt(0))
    reactive_headroom: float | None = 1.1
    stale: StalePolicy = attrs.field(factory=StalePolicy)

    def __attrs_post_init__(self) -> None:
        if self.reactive_headroom is not None and not self.reactive_headroom > 0:
            raise ValueError(f"reactive_headroom must be above 0, got {self.reactive_headroom}")


class Ticks:
    """The forecast loop of one workload, with the newest snapshot it made; the plan is the service's own."""

    def __init__(self, model: Model, plan: PlanPolicy, reading: Reading, serving: Serving) -> None:
        self._model = model
        self._plan = plan
        self._reading = reading
        self._serving = serving
        self._next_tick = 0.0
        self._newest: Snapshot | None = None

    def newest(self, view: View) -> Snapshot | None:
        """The snapshot there is at ``view.now``, made now if a tick is due; a model that fails leaves the old one."""
        if view.now >= self._next_tick:
            self._next_tick = view.now + self._reading.interval
            self._newest = self._make_snapshot(view)
        return self._newest

    def _make_snapshot(self, view: View) -> Snapshot | None:
        history, steps = view.history(self._reading.window), round(self._reading.horizon / view.step)
        floor = self._serving.reactive_headroom
        workload = Workload("replay", "demand", steps, self._serving.lead_time, self._plan, floor)
        try:
            forecast = self._model.forecast(history, view.at, steps)
        except ModelError as error:  # as in the service: the next tick tries again, and the old plan grows stale
            return self._newest and keep_plan(workload, history, self._newest, model_failed(error))
        return plan_by_headroom(workload, history, forecast, self._newest)
