# SPDX-License-Identifier: Apache-2.0
"""`Steered`: this product with uncertainty and steering: the very tick that ``kedastral run`` has for such a model."""

from collections.abc import Sequence
from datetime import datetime

import attrs

from kedastral.core.forecast import Forecast, stand_in
from kedastral.core.ports import Model
from kedastral.core.series import Series
from kedastral.core.serving import StalePolicy, decide
from kedastral.core.snapshot import Snapshot
from kedastral.core.standing import model_failed
from kedastral.core.steered import SteeredSettings, SteeredState
from kedastral.core.uncertainty import UncertaintyState
from kedastral.core.warm_up import warm_up
from kedastral.core.workload import Workload, plan_by_service_level
from kedastral.errors import ModelError
from kedastral.simulation.hpa import HpaMetric
from kedastral.simulation.hpa_behavior import HpaBehavior
from kedastral.simulation.policies.ticks import Reading
from kedastral.simulation.policy import View


class Steered:
    """Any point forecaster; ``state`` can be looked at after a replay. The first tick warms up on what it can see."""

    behavior = HpaBehavior.DIRECT

    def __init__(
        self,
        model: Model,
        settings: SteeredSettings,
        reading: Reading = Reading(),  # noqa: B008 - frozen
        stale: StalePolicy = StalePolicy(),  # noqa: B008 - frozen
    ) -> None:
        self.name = f"steered-{model.name}"
        self._model = model
        self._settings = attrs.evolve(settings, interval=reading.interval)
        self._reading = reading
        self._stale = stale
        self._next_tick = 0.0
        self._newest: Snapshot | None = None
        self._learnt: UncertaintyState | None = None

    @property
    def state(self) -> SteeredState | None:
        """What is carried from tick to tick; None before the first."""
        return self._newest.steered.state if self._newest is not None and self._newest.steered is not None else None

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.policy.Policy.ask`; no value where the scaler would answer UNAVAILABLE."""
        if view.now >= self._next_tick:
            self._next_tick = view.now + self._reading.interval
            history = view.history(self._reading.window)
            if history.newest is not None:
                self._newest = self._make_snapshot(history, view.at, round(self._reading.horizon / view.step))
        replicas = decide(self._newest, view.at, self._stale).replicas
        return (HpaMetric(None if replicas is None else float(replicas)),)

    def _make_snapshot(self, history: Series, at: datetime, steps: int) -> Snapshot:
        steering = self._settings.steering
        workload = Workload("replay", "demand", steps, steering.lead_time, steering.policy, steered=self._settings)
        try:
            forecast = self._forecast(history, at, steps)
        except ModelError as error:  # as in the service
            forecast = stand_in(history, at, steps, model_failed(error))
        return plan_by_service_level(workload, history, forecast, self._newest, self._learnt)

    def _forecast(self, history: Series, at: datetime, steps: int) -> Forecast:
        if self._learnt is None:
            window, touched = self._settings.window(history.step), self._settings.touched(history.step)
            self._learnt = warm_up(self._model, history, steps, window, touched=touched, made_at=at)
        return self._model.forecast(history, at, steps)
