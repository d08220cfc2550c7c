# SPDX-License-Identifier: Apache-2.0
"""`Kedastral`: this product, through the very model, planner and serving rule that ``kedastral run`` uses."""

from collections.abc import Sequence

from kedastral.core.capacity import PlanPolicy
from kedastral.core.ports import Model
from kedastral.core.serving import decide
from kedastral.simulation.hpa import HpaMetric
from kedastral.simulation.hpa_behavior import HpaBehavior
from kedastral.simulation.policies.ticks import Reading, Serving, Ticks
from kedastral.simulation.policy import View


class Kedastral:
    """Any model and settings; answers what the scaler would answer KEDA at that moment."""

    def __init__(
        self,
        model: Model,
        plan: PlanPolicy,
        reading: Reading = Reading(),  # noqa: B008 - frozen
        serving: Serving = Serving(),  # noqa: B008 - frozen
        behavior: HpaBehavior = HpaBehavior.DIRECT,
    ) -> None:
        self.name = f"kedastral-{model.name}"
        self.behavior = behavior
        self._ticks = Ticks(model, plan, reading, serving)
        self._stale = serving.stale

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.policy.Policy.ask`; no value where the scaler would answer UNAVAILABLE."""
        replicas = decide(self._ticks.newest(view), view.at, self._stale).replicas
        return (HpaMetric(None if replicas is None else float(replicas)),)
