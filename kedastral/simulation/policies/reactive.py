# SPDX-License-Identifier: Apache-2.0
"""`Reactive`: what people have today, an HPA that keeps pods at a utilisation."""

from collections.abc import Sequence

import attrs
from attrs.validators import gt

from kedastral.simulation.hpa import HpaMetric
from kedastral.simulation.hpa_behavior import HpaBehavior
from kedastral.simulation.policy import View


@attrs.frozen
class Reactive:
    """ceil(newest load / (target per pod * utilisation)), with the HPA's tolerance and scale-down stabilization."""

    target_per_pod: float = attrs.field(validator=gt(0))
    utilisation: float = attrs.field(default=0.8, validator=gt(0))
    behavior: HpaBehavior = HpaBehavior.UNLIMITED

    @property
    def name(self) -> str:
        """Says its utilisation."""
        return f"hpa-{self.utilisation * 100:g}"

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.policy.Policy.ask`."""
        return (HpaMetric(float(view.seen[-1]), self.target_per_pod * self.utilisation),)
