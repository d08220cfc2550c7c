# SPDX-License-Identifier: Apache-2.0
"""What a policy is put to: `Trial`, the demand to replay, and `Policy`, the interface that is asked during it.

A `Trial` says which part of the demand counts and how much of it one pod takes; `scale_trace` makes one of any trace. A
`Policy` answers from a `View`, which holds the demand up to now and nothing later.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

import attrs
import numpy as np
from attrs.validators import ge, gt

from kedastral.core.series import Floats, Series, fill_gaps
from kedastral.simulation.hpa import HpaBehavior, HpaMetric


def _require_demand(_instance: object, _attribute: "attrs.Attribute[Series]", demand: Series) -> None:
    if not len(demand) or not np.isfinite(demand.values).all() or (demand.values < 0).any():
        raise ValueError("demand must hold values, all finite and >= 0: fill its gaps first")


@attrs.frozen
class Trial:
    """``demand`` without gaps; replayed from index ``begin`` on, judged from index ``judged_from`` on.

    What lies before ``begin`` is history that policies see. ``target_per_pod`` is in units of the demand. ``gaps`` of
    the judged steps carry the value before them.
    """

    demand: Series = attrs.field(validator=_require_demand)
    target_per_pod: float = attrs.field(validator=gt(0))
    begin: int = attrs.field(default=0, validator=ge(0))
    judged_from: int = attrs.field(default=0, validator=ge(0))
    gaps: int = attrs.field(default=0, validator=ge(0))

    def __attrs_post_init__(self) -> None:
        if not self.begin <= self.judged_from < len(self.demand):
            raise ValueError(f"0 <= begin <= judged_from < {len(self.demand)} must hold")

    @property
    def judged(self) -> Series:
        """The part of the demand that counts."""
        return Series(self.demand.time_at(self.judged_from), self.demand.step, self.demand.values[self.judged_from :])


@attrs.frozen
class Scaling:
    """How a trace in any unit becomes a trial of any size.

    ``evaluated`` is the share of the trace, at its end, that is replayed; its first ``warm_up`` seconds are not judged.
    One pod takes the 99.9th percentile of the judged part / ``peak_pods``.
    """

    evaluated: float = attrs.field(default=0.3, validator=[gt(0), attrs.validators.le(1)])
    warm_up: float = attrs.field(default=86400.0, validator=ge(0))
    peak_pods: float = attrs.field(default=40.0, validator=gt(0))


def scale_trace(trace: Series, scaling: Scaling = Scaling()) -> Trial:
    """A trial on the end of ``trace``; gaps carry the last value, gaps before the first value are cut off.

    Raises ValueError where nothing is left to judge, or all of it is 0.
    """
    demand = _fill(trace)
    begin = len(demand) - round(len(demand) * scaling.evaluated)
    judged_from = begin + round(scaling.warm_up / demand.step)
    if judged_from >= len(demand):
        raise ValueError(f"{len(demand) - begin} steps leave nothing to judge after {scaling.warm_up:g} s of warm-up")
    peak = _peak_of(demand.values[judged_from:])
    if peak <= 0:
        raise ValueError("the judged part of the trace is 0 throughout")
    gaps = int(np.isnan(trace.values[len(trace) - len(demand) + judged_from :]).sum())
    return Trial(demand, peak / scaling.peak_pods, begin, judged_from, gaps)


def _fill(trace: Series) -> Series:
    carried = fill_gaps(trace.values)
    first = int(np.argmax(np.isfinite(carried))) if len(carried) else 0
    return Series(trace.time_at(first), trace.step, carried[first:])


def _peak_of(values: Floats) -> float:
    """The 99.9th percentile, or the largest value where that is 0."""
    return float(np.percentile(values, 99.9)) or float(values.max())


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
    """Answers the metrics that the HPA reads, as a KEDA trigger does; it may keep state: make one for each replay."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def behavior(self) -> HpaBehavior:
        """The HPA it is deployed with, unless a replay says otherwise."""
        ...

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """The metrics at ``view.now``, one a trigger; a policy that plans replicas gives them a target of 1.

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
