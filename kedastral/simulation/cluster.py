# SPDX-License-Identifier: Apache-2.0
"""The cluster around a policy: pods that take time to start, and KEDA and the HPA between policy and pods.

`PodFleet` is the pods of one workload: a new pod serves only after it has started. `Autoscaler` is one ScaledObject: it
asks the policy when KEDA would poll, and decides when the HPA would.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import ClassVar

import attrs
from attrs.validators import ge, gt

from kedastral.core.capacity import ReplicaBounds, round_replicas
from kedastral.simulation.hpa import Hpa, HpaBehavior, HpaMetric
from kedastral.simulation.trial import BeatsAtSyncs, Policy, View


class PodFleet:
    """The ordered pods: some are ready, the others pending.

    A pod ordered at ``now`` is ready from ``now + start_seconds`` on. A scale-down acts at once and removes pending
    pods first, the newest of them first, as a ReplicaSet does.
    """

    def __init__(self, ready: int, start_seconds: float) -> None:
        """``ready`` pods, all started. Raises ValueError if either is below 0."""
        if ready < 0 or start_seconds < 0:
            raise ValueError(f"ready pods ({ready}) and start_seconds ({start_seconds}) must be >= 0")
        self._start_seconds = start_seconds
        self._started = ready
        self._ordered = ready
        self._pending: deque[tuple[float, int]] = deque()  # ready time, number of pods

    @property
    def ordered(self) -> int:
        """All pods, ready or pending; all are paid for."""
        return self._ordered

    def ready(self, now: float) -> int:
        """The pods that serve at ``now`` (seconds; must not go back)."""
        while self._pending and self._pending[0][0] <= now:
            self._started += self._pending.popleft()[1]
        return self._started

    def pending(self, now: float) -> int:
        """The ordered pods that do not serve yet at ``now``."""
        return self._ordered - self.ready(now)

    def order(self, now: float, replicas: int) -> None:
        """Scale to ``replicas`` pods at ``now``. Raises ValueError if they are below 0."""
        if replicas < 0:
            raise ValueError(f"replicas must be >= 0, got {replicas}")
        self.ready(now)
        if replicas > self._ordered:
            self._pending.append((now + self._start_seconds, replicas - self._ordered))
        surplus = self._ordered - replicas
        while surplus > 0 and self._pending:
            at, pods = self._pending.pop()
            if pods > surplus:
                self._pending.append((at, pods - surplus))
            surplus -= min(pods, surplus)
        self._started -= max(surplus, 0)
        self._ordered = replicas


@attrs.frozen
class KedaTiming:
    """How often KEDA and the HPA act, in seconds; the default is once a minute, as in comparisons of policies.

    The HPA decides every ``sync_period``. KEDA polls every ``polling_interval``: it then scales a workload from
    zero, or to zero after ``cooldown`` without activity. With ``cached_metrics`` (``useCachedMetrics``) it also
    refreshes the values that the HPA gets until the next poll; without, each sync asks the trigger.
    """

    sync_period: float = attrs.field(default=60.0, validator=gt(0))
    polling_interval: float = attrs.field(default=60.0, validator=gt(0))
    cooldown: float = attrs.field(default=300.0, validator=ge(0))
    cached_metrics: bool = False

    KUBERNETES: ClassVar["KedaTiming"]
    """The defaults: HPA syncs every 15 s, KEDA polls every 30 s."""


KedaTiming.KUBERNETES = KedaTiming(sync_period=15.0, polling_interval=30.0)


class Autoscaler:
    """One ScaledObject: asks its policy and decides as KEDA and the HPA do."""

    def __init__(self, policy: Policy, behavior: HpaBehavior, bounds: ReplicaBounds, timing: KedaTiming) -> None:
        self._policy = policy
        self._hpa = Hpa(behavior, bounds)
        self._may_sleep = bounds.min == 0
        self._timing = timing
        self._polls = BeatsAtSyncs(timing.polling_interval)
        self._last_active = -math.inf
        self._metrics: Sequence[HpaMetric] = ()

    @property
    def recommended(self) -> float:
        """The replicas the policy last asked for, before KEDA and the HPA; NaN if it gave no value."""
        recommended = (
            round_replicas(metric.value / metric.target) for metric in self._metrics if metric.value is not None
        )
        return max(recommended, default=math.nan)

    def decide(self, view: View) -> int:
        """The replicas to order at ``view.now``; call it every ``sync_period``."""
        polled = self._polls.is_due(view.now)
        if polled or not self._timing.cached_metrics:
            self._metrics = self._policy.ask(view)
        if polled and self._may_sleep:
            woken = self._wake_or_sleep(view.now, view.ordered)
            if woken is not None:
                return woken
        return self._hpa.recommend(view.now, view.ordered, self._metrics)

    def _wake_or_sleep(self, now: float, ordered: int) -> int | None:
        """KEDA's own scaling between 0 and 1, which the HPA does not do; None if it leaves the replicas alone."""
        if any(metric.value is not None and metric.value > 0 for metric in self._metrics):
            self._last_active = now
            return 1 if ordered == 0 else None
        failing = any(metric.value is None for metric in self._metrics)
        if ordered > 0 and not failing and self._last_active + self._timing.cooldown < now:
            return 0
        return None
