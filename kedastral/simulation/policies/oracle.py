# SPDX-License-Identifier: Apache-2.0
"""`Oracle`: the only policy that sees the future; what the others cost is told against it."""

from collections.abc import Sequence

import attrs
from attrs.validators import gt

from kedastral.core.series import Floats, frozen_floats
from kedastral.simulation.hpa import HpaMetric
from kedastral.simulation.hpa_behavior import HpaBehavior
from kedastral.simulation.policy import View


@attrs.frozen
class Oracle:
    """Orders for the largest demand of the next ``lead_steps`` steps: the cheapest that never leaves load unserved.

    A pod ordered later would not serve in time, and one given up earlier could not be had back in time. ``demand``
    has shape (n,), the whole of what is replayed.
    """

    demand: Floats = attrs.field(converter=frozen_floats, eq=False, repr=False)
    target_per_pod: float = attrs.field(validator=gt(0))
    lead_steps: int = attrs.field(validator=gt(0))
    name: str = "oracle"
    behavior: HpaBehavior = HpaBehavior.DIRECT

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.policy.Policy.ask`."""
        first = min(len(view.seen), len(self.demand) - 1)
        return (HpaMetric(float(self.demand[first : first + self.lead_steps].max()), self.target_per_pod),)
