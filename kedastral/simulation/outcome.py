# SPDX-License-Identifier: Apache-2.0
"""`Outcome`: what happened under a policy, step by step and in figures."""

import attrs
import numpy as np

from kedastral.core.series import Floats, Series, frozen_floats, same_array


@attrs.frozen
class Supply:
    """The pods, step by step; each array has the shape of the demand.

    ``recommended[i]`` replicas were asked for at the end of step i (NaN: no answer), before KEDA and the HPA.
    ``ordered`` and ``ready`` pods were there during the step, a mean where the HPA syncs more than once in it.
    ``unserved`` is in units of the demand. ``changes`` counts the changes of the order within the step and at its end.
    """

    recommended: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    ordered: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    ready: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    unserved: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    changes: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))


@attrs.frozen
class Outcome:
    """One policy on one trial; ``demand`` is the part that was judged, and ``supply`` is aligned with it."""

    policy: str
    demand: Series
    target_per_pod: float
    supply: Supply

    @property
    def unserved_share(self) -> float:
        """sum(max(0, demand - capacity)) / sum(demand), 0..1; 0 where there was no demand."""
        total = float(self.demand.values.sum())
        return float(self.supply.unserved.sum()) / total if total > 0 else 0.0

    @property
    def violation_share(self) -> float:
        """The share of steps with demand above capacity, 0..1."""
        return float((self.supply.unserved > 0).mean())

    @property
    def violation_minutes(self) -> float:
        """The steps with demand above capacity, in minutes."""
        return float((self.supply.unserved > 0).sum()) * self._minutes

    @property
    def pod_minutes(self) -> float:
        """The cost: pods ordered, pending ones too, times minutes."""
        return float(self.supply.ordered.sum()) * self._minutes

    @property
    def pod_hours(self) -> float:
        """`pod_minutes` in hours."""
        return self.pod_minutes / 60

    @property
    def scale_events(self) -> int:
        """How often the number of pods ordered changed."""
        return int(self.supply.changes.sum())

    @property
    def over_provisioned(self) -> float:
        """Ready pods that the demand did not need, in pod-minutes."""
        return float(np.maximum(self.supply.ready - self._needed, 0).sum()) * self._minutes

    @property
    def under_provisioned(self) -> float:
        """Pods that were missing, in pod-minutes: the unserved load over the target per pod."""
        return float(self.supply.unserved.sum()) / self.target_per_pod * self._minutes

    def cost_against(self, oracle: "Outcome") -> float:
        """`pod_minutes` as a ratio to those of the oracle on the same trial; raises ValueError for another trial."""
        if self.demand != oracle.demand or self.target_per_pod != oracle.target_per_pod:
            raise ValueError(f"{self.policy} and {oracle.policy} were not put to the same trial")
        return self.pod_minutes / oracle.pod_minutes

    @property
    def _needed(self) -> Floats:
        return self.demand.values / self.target_per_pod

    @property
    def _minutes(self) -> float:
        return self.demand.step / 60
