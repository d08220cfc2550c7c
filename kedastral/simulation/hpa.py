# SPDX-License-Identifier: Apache-2.0
"""`Hpa`: the Horizontal Pod Autoscaler's decision, in the documented order and with the controller's arithmetic.

Sources: "Horizontal Pod Autoscaling" in the Kubernetes documentation (algorithm details; configurable scaling
behavior) and the controller's ``horizontal.go`` and ``replica_calculator.go``, for external metrics of type
AverageValue, which are what KEDA creates.

First comes `HpaBehavior`, which limits how an HPA scales each way (``spec.behavior``); then `Hpa` itself.
"""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import ClassVar

import attrs
from attrs.validators import deep_iterable, ge, gt, instance_of

from kedastral.core.capacity import ReplicaBounds, round_replicas
from kedastral.core.steps import WHOLE_WITHIN

_Dated = tuple[float, int]
UP_FACTOR, UP_LEAST = 2, 4
"""The limits of one scale-up without any behavior: ``scaleUpLimitFactor`` and ``scaleUpLimitMinimum``."""


class RateKind(StrEnum):
    """The unit of a rate policy, as spelled in ``spec.behavior``."""

    PERCENT = "Percent"
    PODS = "Pods"


class SelectPolicy(StrEnum):
    """Which of several rate policies applies: the largest change, the smallest, or no scaling that way at all."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


@attrs.frozen
class RatePolicy:
    """At most ``value`` pods, or ``value`` percent of the pods, within ``period`` seconds."""

    kind: RateKind
    value: int = attrs.field(validator=gt(0))
    period: float = attrs.field(validator=gt(0))


@attrs.frozen
class ScalingRules:
    """One direction of ``spec.behavior``.

    ``tolerance`` is a fraction: a ratio of load to target this close to 1 changes nothing. ``stabilization_window`` is
    in seconds. No ``policies`` means no rate limit (Kubernetes would fill in its defaults, `HpaBehavior.KUBERNETES`).
    With ``doubles``, one decision at most doubles the replicas, or reaches 4, as without any behavior.
    """

    tolerance: float = attrs.field(default=0.1, validator=ge(0))
    stabilization_window: float = attrs.field(default=0.0, validator=ge(0))
    policies: tuple[RatePolicy, ...] = attrs.field(default=(), validator=deep_iterable(instance_of(RatePolicy)))
    select: SelectPolicy = SelectPolicy.MAX
    doubles: bool = False

    @property
    def longest_period(self) -> float:
        """How many seconds a change counts against the rate limits."""
        return max((policy.period for policy in self.policies), default=0.0)


@attrs.frozen
class HpaBehavior:
    """Both directions of ``spec.behavior``; `KUBERNETES`, `ABSENT`, `UNLIMITED` and `DIRECT` are used."""

    up: ScalingRules = ScalingRules()
    down: ScalingRules = ScalingRules(stabilization_window=300.0)

    KUBERNETES: ClassVar["HpaBehavior"]
    """What Kubernetes fills in if some behavior is given: 10 % tolerance; up by 100 % or 4 pods per 15 s; down after
    300 s, by any number."""
    ABSENT: ClassVar["HpaBehavior"]
    """No ``spec.behavior`` at all: like `KUBERNETES`, but up to twice the pods, or to 4, at each decision."""
    UNLIMITED: ClassVar["HpaBehavior"]
    """10 % tolerance, scale-down after 300 s, no rate limit: the reactive HPA that policies are compared with."""
    DIRECT: ClassVar["HpaBehavior"]
    """No tolerance, windows or limits: the HPA orders what the trigger asks for."""


HpaBehavior.KUBERNETES = HpaBehavior(
    up=ScalingRules(policies=(RatePolicy(RateKind.PERCENT, 100, 15.0), RatePolicy(RateKind.PODS, 4, 15.0))),
    down=ScalingRules(stabilization_window=300.0, policies=(RatePolicy(RateKind.PERCENT, 100, 15.0),)),
)
HpaBehavior.ABSENT = HpaBehavior(up=ScalingRules(doubles=True))
HpaBehavior.UNLIMITED = HpaBehavior()
HpaBehavior.DIRECT = HpaBehavior(up=ScalingRules(tolerance=0.0), down=ScalingRules(tolerance=0.0))


@attrs.frozen
class HpaMetric:
    """One trigger's answer: the total load and the load that one pod should have, in the same unit.

    ``value`` is None if the trigger gave no answer.
    """

    value: float | None
    target: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))


class Hpa:
    """One autoscaler with its memory of past recommendations and scale events.

    ``bounds`` are those of the HPA's spec; KEDA never sets a minimum below 1.
    """

    def __init__(self, behavior: HpaBehavior, bounds: ReplicaBounds) -> None:
        self._behavior = behavior
        self._bounds = attrs.evolve(bounds, min=max(1, bounds.min))
        self._recommendations: deque[_Dated] | None = None
        self._ups: deque[_Dated] = deque()
        self._downs: deque[_Dated] = deque()

    def recommend(self, now: float, current: int, metrics: Sequence[HpaMetric]) -> int:
        """The replicas to have from ``now`` on (seconds; must not go back), with ``current`` replicas ordered so far.

        At 0 replicas the autoscaler is off and answers 0. Outside the bounds it goes to the bound at once; without a
        usable metric it holds. Otherwise: tolerance on each metric's ratio, ceil, the largest of all metrics,
        stabilization, rate policies, bounds.
        """
        if self._recommendations is None:  # the controller starts from the current replicas
            self._recommendations = deque([(now, current)])
        if current == 0:
            return 0
        wanted = self._bounds.clamp(current)
        if wanted == current:
            proposed = propose_replicas(metrics, current, self._behavior)
            if proposed is None:
                return current
            stabilized = self._stabilize(self._recommendations, now, current, proposed)
            wanted = self._bounds.clamp(self._limit_rate(now, current, stabilized))
        self._remember_change(now, wanted - current)
        return wanted

    def _stabilize(self, recommendations: deque[_Dated], now: float, current: int, proposed: int) -> int:
        """At most the lowest recommendation of the scale-up window, at least the highest of the scale-down window."""
        up, down = self._behavior.up.stabilization_window, self._behavior.down.stabilization_window
        _forget(recommendations, now - max(up, down))
        lowest = min(_within(recommendations, now - up), default=proposed)
        highest = max(_within(recommendations, now - down), default=proposed)
        recommendations.append((now, proposed))
        return min(max(current, min(lowest, proposed)), max(highest, proposed))

    def _limit_rate(self, now: float, current: int, wanted: int) -> int:
        if wanted == current:
            return wanted
        rules = self._behavior.up if wanted > current else self._behavior.down
        if rules.select is SelectPolicy.DISABLED:
            return current
        if rules.doubles:
            wanted = min(wanted, max(UP_FACTOR * current, UP_LEAST))
        if not rules.policies:
            return wanted
        if wanted > current:
            return min(wanted, max(current, self._furthest(rules, now, current, up=True)))
        return max(wanted, min(current, self._furthest(rules, now, current, up=False)))

    def _furthest(self, rules: ScalingRules, now: float, current: int, *, up: bool) -> int:
        """The furthest that one direction's policies allow from the replicas at the start of each policy's period."""
        limits = [
            _limit_of(policy, self._replicas_before(now - policy.period, current), up=up) for policy in rules.policies
        ]
        largest_change, smallest_change = (max, min) if up else (min, max)
        return largest_change(limits) if rules.select is SelectPolicy.MAX else smallest_change(limits)

    def _replicas_before(self, since: float, current: int) -> int:
        return current - sum(_within(self._ups, since)) + sum(_within(self._downs, since))

    def _remember_change(self, now: float, change: int) -> None:
        since = now - max(self._behavior.up.longest_period, self._behavior.down.longest_period)
        for events in (self._ups, self._downs):
            _forget(events, since)
        if change:
            (self._ups if change > 0 else self._downs).append((now, abs(change)))


def propose_replicas(metrics: Iterable[HpaMetric], current: int, behavior: HpaBehavior) -> int | None:
    """The replicas that the metrics ask for, before stabilization and rate limits; ``current`` > 0.

    Each metric's ratio is value / (target * current); within the tolerance it proposes ``current``, else
    ceil(value / target). The largest proposal wins. None, which holds the replicas, if no metric has a value, or if
    one has none and the others would scale down.
    """
    proposals: list[int] = []
    incomplete = False
    for metric in metrics:
        if metric.value is None:
            incomplete = True
        elif _is_tolerated(metric.value / (metric.target * current), behavior):
            proposals.append(current)
        else:
            proposals.append(ReplicaBounds(0, 0).clamp(round_replicas(metric.value / metric.target)))
    if not proposals or (incomplete and max(proposals) < current):
        return None
    return max(proposals)


def _is_tolerated(ratio: float, behavior: HpaBehavior) -> bool:
    # both ends included; the slack is for rounding, the controller itself computes in whole thousandths
    return 1 - behavior.down.tolerance - WHOLE_WITHIN <= ratio <= 1 + behavior.up.tolerance + WHOLE_WITHIN


def _limit_of(policy: RatePolicy, before: int, *, up: bool) -> int:
    """The furthest that one policy allows from ``before`` replicas; rounded up going up, truncated going down."""
    if policy.kind is RateKind.PODS:
        return before + policy.value if up else before - policy.value
    if up:
        return math.ceil(before * (1 + policy.value / 100))
    return int(before * (1 - policy.value / 100))


def _within(dated: Iterable[_Dated], since: float) -> Iterable[int]:
    """The amounts newer than ``since``; one exactly as old as the window no longer counts, as in the controller."""
    return (amount for at, amount in dated if at > since)


def _forget(dated: deque[_Dated], since: float) -> None:
    while dated and dated[0][0] <= since:
        dated.popleft()
