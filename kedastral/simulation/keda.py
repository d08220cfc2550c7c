# SPDX-License-Identifier: Apache-2.0
"""`Autoscaler`: KEDA's polling and the HPA's syncs between a policy and the pods."""

import math
from collections.abc import Sequence
from typing import ClassVar

import attrs
from attrs.validators import ge, gt

from kedastral.core.capacity import ReplicaBounds, round_replicas
from kedastral.simulation.hpa import Hpa, HpaMetric
from kedastral.simulation.hpa_behavior import HpaBehavior
from kedastral.simulation.policy import Policy, View


@attrs.frozen
class KedaTiming:
    """How often anything happens, in seconds; by default one decision a minute, the rules policies are judged by.

    The HPA decides every ``sync_period``. KEDA polls every ``polling_interval``: it then wakes a workload from zero,
    puts one that was inactive for ``cooldown`` to sleep, and, with ``cached_metrics`` (``useCachedMetrics``),
    refreshes the values that the HPA gets in between; without, each sync asks the trigger itself.
    """

    sync_period: float = attrs.field(default=60.0, validator=gt(0))
    polling_interval: float = attrs.field(default=60.0, validator=gt(0))
    cooldown: float = attrs.field(default=300.0, validator=ge(0))
    cached_metrics: bool = False

    KUBERNETES: ClassVar["KedaTiming"]
    """As installed: HPA syncs every 15 s, KEDA polls every 30 s."""


KedaTiming.KUBERNETES = KedaTiming(sync_period=15.0, polling_interval=30.0)


class Autoscaler:
    """One ScaledObject: asks its policy, decides as KEDA and the HPA do."""

    def __init__(self, policy: Policy, behavior: HpaBehavior, bounds: ReplicaBounds, timing: KedaTiming) -> None:
        self._policy = policy
        self._hpa = Hpa(behavior, bounds)
        self._may_sleep = bounds.fewest == 0
        self._timing = timing
        self._next_poll = -math.inf
        self._last_active = -math.inf
        self._metrics: Sequence[HpaMetric] = ()

    @property
    def recommended(self) -> float:
        """The replicas the policy last asked for, before KEDA and the HPA; NaN where it gave no value."""
        wanted = (round_replicas(metric.value / metric.target) for metric in self._metrics if metric.value is not None)
        return max(wanted, default=math.nan)

    def decide(self, view: View) -> int:
        """The replicas to have ordered from ``view.now`` on; to be called every ``sync_period``."""
        polled = view.now >= self._next_poll
        if polled:
            self._next_poll = view.now + self._timing.polling_interval
        if polled or not self._timing.cached_metrics:
            self._metrics = self._policy.ask(view)
        if polled and self._may_sleep:
            woken = self._wake_or_sleep(view.now, view.ordered)
            if woken is not None:
                return woken
        return self._hpa.recommend(view.now, view.ordered, self._metrics)

    def _wake_or_sleep(self, now: float, ordered: int) -> int | None:
        """KEDA's own scaling between 0 and 1, which no HPA does; None where it leaves the replicas alone."""
        if any(metric.value is not None and metric.value > 0 for metric in self._metrics):
            self._last_active = now
            return 1 if ordered == 0 else None
        failing = any(metric.value is None for metric in self._metrics)
        if ordered > 0 and not failing and self._last_active + self._timing.cooldown < now:
            return 0
        return None
