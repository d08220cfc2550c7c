# SPDX-License-Identifier: Apache-2.0
"""`Trial`, the demand to replay, and `Policy`, the interface of what is replayed on it.

A `Trial` says which part of the demand is judged and how much one pod sustains; `scale_trace` makes one from any trace.
Policies see the demand through its `MetricsPipeline`, which may be late or noisy. A `Policy` answers from a `View`,
which holds the demand up to now and nothing later.
"""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

import attrs
import numpy as np
from attrs.validators import ge, gt

from kedastral.core.series import COMPLETE, DAY, Bools, DataQuality, Floats, Series, fill_gaps, frozen_floats
from kedastral.core.steps import WHOLE_WITHIN, steps_to_serve
from kedastral.simulation.hpa import HpaBehavior, HpaMetric


def _require_demand(_instance: object, _attribute: "attrs.Attribute[Series]", demand: Series) -> None:
    if not len(demand) or not np.isfinite(demand.values).all() or (demand.values < 0).any():
        raise ValueError("demand must hold values, all finite and >= 0: fill its gaps first")


@attrs.frozen
class MetricsPipeline:
    """Delay and noise between the demand and what policies see of it; pods serve the demand itself.

    A policy sees the demand of a step ``late`` seconds after the step has ended. ``noise`` is the relative standard
    deviation of the measurement.
    """

    late: float = attrs.field(default=0.0, validator=ge(0))
    noise: float = attrs.field(default=0.0, validator=ge(0))

    @property
    def is_perfect(self) -> bool:
        """Whether policies see the demand at once and without noise."""
        return self.late == 0 and self.noise == 0

    def measure(self, demand: Floats) -> Floats:
        """``demand`` times lognormal noise of mean 1, the same on each call.

        ``exp(s z - s^2 / 2)`` with standard normal z has mean 1 and the relative variance ``exp(s^2) - 1``.
        """
        if self.noise == 0:
            return demand
        sigma = math.sqrt(2 * math.log(math.hypot(1.0, self.noise)))
        drawn = np.random.default_rng(NOISE_SEED).standard_normal(len(demand))
        return demand * np.exp(sigma * drawn - sigma**2 / 2)


NOISE_SEED = 11
"""Fixed, so that a backtest is reproducible and all policies see the same noise."""


@attrs.frozen
class Trial:
    """``demand`` without gaps; replayed from index ``begin`` on, judged from index ``judged_from`` on.

    Policies see the demand before ``begin`` as history. ``target_per_pod`` is in units of the demand. ``gap_steps`` are
    the indices of steps that had no value; the pods serve the one before, since something must come; see `counted`.
    ``measured`` is what policies see of the demand, in the same shape: NaN in a gap.
    """

    demand: Series = attrs.field(validator=_require_demand)
    target_per_pod: float = attrs.field(validator=gt(0))
    begin: int = attrs.field(default=0, validator=ge(0))
    judged_from: int = attrs.field(default=0, validator=ge(0))
    gap_steps: tuple[int, ...] = attrs.field(default=(), repr=False)
    pipeline: MetricsPipeline = MetricsPipeline()
    measured: Floats = attrs.field(init=False, eq=False, repr=False)

    @measured.default
    def _measured_by_pipeline(self) -> Floats:
        return frozen_floats(np.where(self.has_value, self.pipeline.measure(self.demand.values), np.nan))

    def __attrs_post_init__(self) -> None:
        if not self.begin <= self.judged_from < len(self.demand):
            raise ValueError(f"0 <= begin <= judged_from < {len(self.demand)} must hold")

    @property
    def judged(self) -> Series:
        """The judged part of the demand."""
        return Series(self.demand.time_at(self.judged_from), self.demand.step, self.demand.values[self.judged_from :])

    @property
    def replayed_steps(self) -> int:
        """How many steps are replayed, judged or not."""
        return len(self.demand) - self.begin

    @property
    def gaps(self) -> int:
        """How many judged steps had no value."""
        return sum(step >= self.judged_from for step in self.gap_steps)

    @property
    def known(self) -> Bools:
        """Which judged steps had a value, of shape (judged steps,)."""
        return self.has_value[self.judged_from :]

    def counted(self, lead_time: float) -> Bools:
        """Which judged steps count in the figures, of shape (judged steps,); all of them without gaps.

        A step counts if it had a value, and so had the newest step that a policy could see when it was time to order
        pods for it. So a gap is left out, and as many steps after it as the lead time and the delay of the metrics
        take, unless the gap was shorter: then the steps just after it were planned for before it began.
        """
        known, step = self.has_value, self.demand.step
        before = steps_to_serve(lead_time, step) + math.ceil(self.pipeline.late / step - WHOLE_WITHIN)
        informed = np.ones(len(known), dtype=bool)
        informed[before:] = known[: max(0, len(known) - before)]
        return (known & informed)[self.judged_from :]

    @property
    def has_value(self) -> Bools:
        """Which steps of the demand had a value, of its shape."""
        known = np.ones(len(self.demand), dtype=bool)
        known[list(self.gap_steps)] = False
        return known

    def view(self, now: float, ordered: int) -> "View":
        """What policies may know ``now`` seconds from the start of the demand, with ``ordered`` pods."""
        step = self.demand.step
        ended, settled = (math.floor(max(at, 0.0) / step + WHOLE_WITHIN) for at in (now, now - self.pipeline.late))
        return View(self.demand.start, step, now, self.measured[:settled], ordered, ended - settled, self.pipeline.late)


@attrs.frozen
class Scaling:
    """How to make a trial of any size from a trace in any unit.

    ``evaluated`` is the share of the trace, at its end, that is replayed; its first ``warm_up`` seconds are not judged.
    One pod sustains the 99.9th percentile of the judged part, divided by ``peak_pods``.
    """

    evaluated: float = attrs.field(default=0.3, validator=[gt(0), attrs.validators.le(1)])
    warm_up: float = attrs.field(default=DAY, validator=ge(0))
    peak_pods: float = attrs.field(default=40.0, validator=gt(0))


def scale_trace(trace: Series, scaling: Scaling = Scaling()) -> Trial:
    """A trial on the end of ``trace``; gaps before the first value are cut off.

    The size of a pod comes from the values alone, without the gaps. Raises ValueError if nothing is left to judge, or
    all of it is 0 or missing.
    """
    demand = _fill(trace)
    begin = len(demand) - round(len(demand) * scaling.evaluated)
    judged_from = begin + round(scaling.warm_up / demand.step)
    if judged_from >= len(demand):
        raise ValueError(f"{len(demand) - begin} steps leave nothing to judge after {scaling.warm_up:g} s of warm-up")
    given = trace.values[len(trace) - len(demand) :]
    judged = given[judged_from:]
    peak = _peak_of(judged[np.isfinite(judged)])
    if peak <= 0:
        raise ValueError("the judged part of the trace is 0 throughout")
    return Trial(demand, peak / scaling.peak_pods, begin, judged_from, tuple(np.flatnonzero(np.isnan(given)).tolist()))


def _fill(trace: Series) -> Series:
    carried = fill_gaps(trace.values)
    first = int(np.argmax(np.isfinite(carried))) if len(carried) else 0
    return Series(trace.time_at(first), trace.step, carried[first:])


def _peak_of(values: Floats) -> float:
    """The 99.9th percentile, or the largest value if that is 0; 0 without values."""
    if not len(values):
        return 0.0
    return float(np.percentile(values, 99.9)) or float(values.max())


@attrs.frozen
class View:
    """What a policy sees at ``now``, in seconds from ``start``: the demand of steps that have ended, nothing later.

    ``seen`` has shape (steps,), read-only: ``seen[i]`` is the demand over ``[i * step, (i + 1) * step)`` seconds; NaN
    is a gap. ``ordered`` is the current number of pods ordered. The newest ``unsettled`` of the ended steps are not
    seen yet, since the metrics pipeline is ``late`` seconds behind.
    """

    start: datetime
    step: float
    now: float
    seen: Floats
    ordered: int
    unsettled: int = 0
    late: float = 0.0

    @property
    def ended(self) -> int:
        """The number of steps that have ended, seen or not."""
        return len(self.seen) + self.unsettled

    @property
    def at(self) -> datetime:
        """``now`` as wall time."""
        return self.start + timedelta(seconds=self.now)

    def history(self, window: float) -> Series:
        """The demand of the last ``window`` seconds, each value dated by the end of its step, as in Prometheus.

        Steps that are not seen yet are gaps at the end, as in the service once it has learned their settling time.
        """
        first = max(0, self.ended - round(window / self.step))
        gaps = np.full(min(self.unsettled, self.ended - first), np.nan)
        values = np.concatenate([self.seen[first:], gaps]) if len(gaps) else self.seen[first:]
        quality = DataQuality(settling=self.late) if self.late else COMPLETE
        return Series(self.start + timedelta(seconds=(first + 1) * self.step), self.step, values, quality)


@attrs.define
class BeatsAtSyncs:
    """Which syncs of a replay have a beat: every ``interval`` seconds from the first sync on, as in the service.

    Beats lie on a fixed grid: one that is noticed late, at the next sync, does not move those after it.
    """

    interval: float
    _first: float | None = attrs.field(default=None, init=False)
    _over: int = attrs.field(default=-1, init=False)

    def is_due(self, now: float) -> bool:
        """Whether there was a beat since the last call; ``now`` is in seconds and must not go back."""
        if self._first is None:
            self._first = now
        newest = math.floor((now - self._first) / self.interval + WHOLE_WITHIN)
        before, self._over = self._over, max(newest, self._over)
        return newest > before


class Policy(Protocol):
    """Answers with the metrics that the HPA reads, like a KEDA trigger. It may keep state: make one for each replay."""

    @property
    def name(self) -> str:
        """The name in reports."""
        ...

    @property
    def behavior(self) -> HpaBehavior:
        """The HPA it is deployed with, unless a replay says otherwise."""
        ...

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """The metrics at ``view.now``, one per trigger; a policy that plans replicas gives them a target of 1.

        A metric without a value is a failed trigger: the replicas stay, or at least do not go down.
        """
        ...


@attrs.frozen
class CombinedTriggers:
    """Several triggers on one ScaledObject: the HPA takes the largest of what they ask for."""

    name: str
    policies: tuple[Policy, ...]
    behavior: HpaBehavior = HpaBehavior.UNLIMITED

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `Policy.ask`."""
        return [metric for policy in self.policies for metric in policy.ask(view)]
