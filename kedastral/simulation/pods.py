# SPDX-License-Identifier: Apache-2.0
"""`PodFleet`: the pods of one workload; a new one serves only after it has started."""

from collections import deque


class PodFleet:
    """Pods ordered, of which some are ready and the others pending, oldest order first.

    A pod ordered at ``now`` is ready from ``now + start_seconds`` on. A scale-down acts at once and takes pending pods
    first, of these the newest first: they are what a ReplicaSet deletes first.
    """

    def __init__(self, ready: int, start_seconds: float) -> None:
        """``ready`` pods, all started. Raises ValueError where either is below 0."""
        if ready < 0 or start_seconds < 0:
            raise ValueError(f"ready pods ({ready}) and start_seconds ({start_seconds}) must be >= 0")
        self._start_seconds = start_seconds
        self._started = ready
        self._ordered = ready
        self._pending: deque[tuple[float, int]] = deque()  # ready time, number of pods

    @property
    def ordered(self) -> int:
        """All pods that were asked for and not taken back: what is paid for."""
        return self._ordered

    def ready(self, now: float) -> int:
        """The pods that serve at ``now`` (seconds; never goes back)."""
        while self._pending and self._pending[0][0] <= now:
            self._started += self._pending.popleft()[1]
        return self._started

    def pending(self, now: float) -> int:
        """The pods ordered that do not serve yet at ``now``."""
        return self._ordered - self.ready(now)

    def ready_times(self, now: float) -> tuple[float, ...]:
        """When each pod still pending at ``now`` will be ready, soonest first."""
        self.ready(now)
        return tuple(at for at, pods in self._pending for _ in range(pods))

    def order(self, now: float, replicas: int) -> None:
        """Scale to ``replicas`` pods at ``now``. Raises ValueError below 0."""
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
