# SPDX-License-Identifier: Apache-2.0
"""`HpaBehavior`: how fast and how willingly a Horizontal Pod Autoscaler scales, each way."""

from enum import StrEnum
from typing import ClassVar

import attrs
from attrs.validators import deep_iterable, ge, gt, instance_of


class RateKind(StrEnum):
    """What a rate policy counts in; the words of ``spec.behavior``."""

    PERCENT = "Percent"
    PODS = "Pods"


class SelectPolicy(StrEnum):
    """Which of several rate policies counts: the largest change, the smallest, or no scaling that way at all."""

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
    in seconds. No ``policies`` means no limit of rate (Kubernetes would put its defaults: `HpaBehavior.KUBERNETES`).
    """

    tolerance: float = attrs.field(default=0.1, validator=ge(0))
    stabilization_window: float = attrs.field(default=0.0, validator=ge(0))
    policies: tuple[RatePolicy, ...] = attrs.field(default=(), validator=deep_iterable(instance_of(RatePolicy)))
    select: SelectPolicy = SelectPolicy.MAX

    @property
    def longest_period(self) -> float:
        """For how long a change counts against the rate, in seconds."""
        return max((policy.period for policy in self.policies), default=0.0)


@attrs.frozen
class HpaBehavior:
    """Both directions of ``spec.behavior``; `KUBERNETES`, `UNLIMITED` and `DIRECT` are the ones in use here."""

    up: ScalingRules = ScalingRules()
    down: ScalingRules = ScalingRules(stabilization_window=300.0)

    KUBERNETES: ClassVar["HpaBehavior"]
    """What Kubernetes fills in: 10 % of tolerance; up by 100 % or 4 pods per 15 s; down after 300 s, by any number."""
    UNLIMITED: ClassVar["HpaBehavior"]
    """10 % of tolerance, scale-down after 300 s, no limit of rate: the reactive peer policies are judged against."""
    DIRECT: ClassVar["HpaBehavior"]
    """Tolerance 0, no windows, no limits: what the trigger says is what is ordered."""


HpaBehavior.KUBERNETES = HpaBehavior(
    up=ScalingRules(policies=(RatePolicy(RateKind.PERCENT, 100, 15.0), RatePolicy(RateKind.PODS, 4, 15.0))),
    down=ScalingRules(stabilization_window=300.0, policies=(RatePolicy(RateKind.PERCENT, 100, 15.0),)),
)
HpaBehavior.UNLIMITED = HpaBehavior()
HpaBehavior.DIRECT = HpaBehavior(up=ScalingRules(tolerance=0.0), down=ScalingRules(tolerance=0.0))
