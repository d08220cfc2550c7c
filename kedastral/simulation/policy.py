# SPDX-License-Identifier: Apache-2.0
"""`Policy`: what is asked for replicas, and `View`: all it may know when it answers."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

import attrs

from kedastral.core.series import Floats, Series
from kedastral.simulation.hpa import HpaMetric
from kedastral.simulation.hpa_behavior import HpaBehavior


@attrs.frozen
class View:
    """What a policy sees at ``now``, seconds from ``start``: the demand of every step that has ended, nothing later.

    ``seen`` has shape (steps ended,), read-only: ``seen[i]`` is the demand over ``[i * step, (i + 1) * step)`` seconds.
    ``ordered`` are the pods asked for so far.
    """

    start: datetime
    step: float
    now: float
    seen: Floats
    ordered: int

    @property
    def at(self) -> datetime:
        """``now`` as wall time."""
        return self.start + timedelta(seconds=self.now)

    def history(self, window: float) -> Series:
        """The demand of the last ``window`` seconds, each value dated by the end of its step, as in Prometheus."""
        first = max(0, len(self.seen) - round(window / self.step))
        return Series(self.start + timedelta(seconds=(first + 1) * self.step), self.step, self.seen[first:])


class Policy(Protocol):
    """Answers what the HPA is fed with, as a KEDA trigger does; may keep state, so each replay makes its own."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def behavior(self) -> HpaBehavior:
        """The HPA it is deployed with, unless a replay says otherwise."""
        ...

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """One metric a trigger; a policy that knows replicas answers them with a target of 1.

        A metric without a value is a trigger that failed, which holds the replicas or keeps them from going down.
        """
        ...


@attrs.frozen
class Together:
    """Several triggers on one ScaledObject: the HPA takes the largest of what they ask for."""

    name: str
    policies: tuple[Policy, ...]
    behavior: HpaBehavior = HpaBehavior.UNLIMITED

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `Policy.ask`."""
        return [metric for policy in self.policies for metric in policy.ask(view)]
