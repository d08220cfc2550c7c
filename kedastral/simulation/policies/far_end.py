# SPDX-License-Identifier: Apache-2.0
"""`FarEnd`: the plan read at now + lead only, without a floor: the v0.1 design, kept to show what the window is for."""

from collections.abc import Sequence
from datetime import timedelta

from kedastral.core.capacity import PlanPolicy
from kedastral.core.ports import Model
from kedastral.core.serving import wanted_for
from kedastral.simulation.hpa import HpaMetric
from kedastral.simulation.hpa_behavior import HpaBehavior
from kedastral.simulation.policies.ticks import Reading, Serving, Ticks
from kedastral.simulation.policy import View


class FarEnd:
    """Drops pods before the need has passed: what it reads is right for the end of the lead, not for until then."""

    def __init__(
        self,
        model: Model,
        plan: PlanPolicy,
        reading: Reading = Reading(),  # noqa: B008 - frozen
        lead_time: float = 300.0,
        behavior: HpaBehavior = HpaBehavior.DIRECT,
    ) -> None:
        self.name = f"far-end-{model.name}"
        self.behavior = behavior
        self._ticks = Ticks(model, plan, reading, Serving(lead_time, reactive_headroom=None))
        self._lead_time = timedelta(seconds=lead_time)

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.policy.Policy.ask`."""
        replicas = wanted_for(self._ticks.newest(view), view.at + self._lead_time)
        return (HpaMetric(None if replicas is None else float(replicas)),)
