# SPDX-License-Identifier: Apache-2.0
"""`LastWeek`: a plain Prometheus trigger that looks at the same half hour a week ago."""

from collections.abc import Sequence
from typing import ClassVar

import attrs
from attrs.validators import gt

from kedastral.simulation.hpa import HpaMetric
from kedastral.simulation.hpa_behavior import HpaBehavior
from kedastral.simulation.policy import View


@attrs.frozen
class LastWeek:
    """``max_over_time(q[30m] offset 6d23h30m)``: the largest load of the 30 minutes that a week ago were to come.

    Gives no value, and so holds, until there is a week of history; `Together` with a `Reactive` covers that.
    """

    WEEK: ClassVar[float] = 7 * 86400.0
    RANGE: ClassVar[float] = 1800.0

    target_per_pod: float = attrs.field(validator=gt(0))
    utilisation: float = attrs.field(default=0.8, validator=gt(0))
    behavior: HpaBehavior = HpaBehavior.UNLIMITED

    @property
    def name(self) -> str:
        """Says its utilisation."""
        return f"last-week-{self.utilisation * 100:g}"

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.policy.Policy.ask`."""
        first = len(view.seen) - round(self.WEEK / view.step)
        ahead = view.seen[max(0, first) : max(0, first + max(1, round(self.RANGE / view.step)))]
        value = float(ahead.max()) if len(ahead) else None
        return (HpaMetric(value, self.target_per_pod * self.utilisation),)
