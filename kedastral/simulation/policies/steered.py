# SPDX-License-Identifier: Apache-2.0
"""`Steered`: this product with uncertainty and steering: the very tick that ``kedastral run`` has for such a model."""

from collections.abc import Sequence
from contextlib import suppress

from kedastral.core.ports import Model
from kedastral.core.serving import StalePolicy, decide, wanted_for
from kedastral.core.snapshot import Snapshot
from kedastral.core.steered import SteeredSettings, SteeredState, plan_steered
from kedastral.core.warm_up import warm_up
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
        self.state: SteeredState | None = None
        self._model = model
        self._settings = settings
        self._reading = reading
        self._stale = stale
        self._next_tick = 0.0
        self._newest: Snapshot | None = None

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.policy.Policy.ask`; no value where the scaler would answer UNAVAILABLE."""
        if view.now >= self._next_tick:
            self._next_tick = view.now + self._reading.interval
            with suppress(ModelError):  # as in the service: the next tick tries again, and the old one grows stale
                self._newest = self._make_snapshot(view)
        replicas = decide(self._newest, view.at, self._stale).replicas
        return (HpaMetric(None if replicas is None else float(replicas)),)

    def _make_snapshot(self, view: View) -> Snapshot:
        history, at = view.history(self._reading.window), view.at
        steps = round(self._reading.horizon / view.step)
        if self.state is None:
            window = self._settings.window(view.step)
            self.state = SteeredState(warm_up(self._model, history, steps, window, made_at=at))
        forecast = self._model.forecast(history, at, steps)
        previous = wanted_for(self._newest, at)
        self.state, plan = plan_steered(self.state, history, forecast, self._settings, previous=previous)
        lead_time = self._settings.steering.lead_time
        return Snapshot("replay", "demand", forecast, plan.replicas, lead_time, history.newest, plan.floor)
