# SPDX-License-Identifier: Apache-2.0
"""`Fixed`: no autoscaling at all."""

from collections.abc import Sequence

import attrs
from attrs.validators import ge

from kedastral.simulation.hpa import HpaMetric
from kedastral.simulation.hpa_behavior import HpaBehavior
from kedastral.simulation.policy import View


@attrs.frozen
class Fixed:
    """Always the same replicas."""

    replicas: int = attrs.field(validator=ge(0))
    behavior: HpaBehavior = HpaBehavior.DIRECT

    @property
    def name(self) -> str:
        """Says how many."""
        return f"fixed-{self.replicas}"

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.policy.Policy.ask`."""
        return (HpaMetric(float(self.replicas)),)
