# SPDX-License-Identifier: Apache-2.0
"""`ScaledObject`: how KEDA and the HPA react to a trigger's answers: polls, fallback, cooldown, replicas.

Based on KEDA's documentation ("Scaling Deployments", "Fallback", "External Scalers") and on the code of its scale
executor, fallback and scale handler (main, August 2026). The HPA is `kedastral.simulation.hpa`.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

import attrs

from kedastral.core.capacity import ReplicaBounds
from kedastral.simulation.hpa import Hpa, HpaBehavior, HpaMetric, ScalingRules


class FallbackBehavior(StrEnum):
    """The values of ``fallback.behavior`` that give a number."""

    STATIC = "static"
    CURRENT = "currentReplicas"
    CURRENT_IF_HIGHER = "currentReplicasIfHigher"
    CURRENT_IF_LOWER = "currentReplicasIfLower"


@attrs.frozen
class Fallback:
    """``spec.fallback``."""

    replicas: int = 6
    failure_threshold: int = 3
    behavior: FallbackBehavior = FallbackBehavior.CURRENT_IF_HIGHER

    def replicas_for(self, current: int) -> int:
        """The replicas that replace an answer, with ``current`` replicas."""
        match self.behavior:
            case FallbackBehavior.STATIC:
                return self.replicas
            case FallbackBehavior.CURRENT:
                return current
            case FallbackBehavior.CURRENT_IF_HIGHER:
                return max(current, self.replicas)
            case FallbackBehavior.CURRENT_IF_LOWER:
                return min(current, self.replicas)


@attrs.frozen
class TriggerAnswer:
    """The result of asking a trigger. ``value`` None: an error; ``reached`` False: not even the metric's name."""

    value: float | None = None
    active: bool = False
    target: float = 1.0
    reached: bool = True


RECOMMENDED = HpaBehavior(
    up=attrs.evolve(HpaBehavior.KUBERNETES.up, tolerance=0.0),
    down=attrs.evolve(HpaBehavior.KUBERNETES.down, tolerance=0.0),
)
"""The HPA's defaults except for the tolerance: what docs/keda.md recommends."""
PROMPT = HpaBehavior(up=RECOMMENDED.up, down=ScalingRules(tolerance=0.0))
"""Like `RECOMMENDED`, but scales down at once: nothing hides a wrong answer."""


@attrs.frozen
class ScaledObjectSpec:
    """``spec`` of a ScaledObject, times in seconds; the defaults are KEDA's except for ``bounds``."""

    bounds: ReplicaBounds = attrs.field(factory=lambda: ReplicaBounds(2, 50))
    fallback: Fallback | None = None
    polling_interval: float = 30.0
    cooldown: float = 300.0
    behavior: HpaBehavior = RECOMMENDED
    formula: Callable[[Sequence[float | None]], float | None] | None = None
    """The formula of scalingModifiers, with target 1 and ``fallback.behavior: scalingModifiers``."""


class ScaledObject:
    """One ScaledObject, its HPA and the replicas of its Deployment; ``changes`` are these by time, the first at 0."""

    def __init__(self, spec: ScaledObjectSpec, first: int) -> None:
        self.spec = spec
        self.changes: list[tuple[float, int]] = [(0.0, first)]
        self._hpa = Hpa(spec.behavior, spec.bounds)
        self._failures: dict[int, int] = {}
        self._last_active: float | None = None

    @property
    def replicas(self) -> int:
        """The current replicas of the Deployment."""
        return self.changes[-1][1]

    def poll(self, now: float, answers: Sequence[TriggerAnswer]) -> None:
        """KEDA's own scaling, between 0 and the HPA's range."""
        if self.spec.formula is not None:
            if self._compose(answers):
                self._note_active(now, failed=False)
            return
        given = [self._use_fallback(i, answer) for i, answer in enumerate(answers)]
        failed = any(value is None for value, _ in given)
        if any(in_fallback or answer.active for answer, (_, in_fallback) in zip(answers, given, strict=True)):
            self._note_active(now, failed=failed)
        elif not failed or (self.spec.fallback is not None and self.spec.fallback.replicas == 0):
            self._note_inactive(now)

    def push(self, now: float) -> None:
        """external-push has reported true."""
        self._note_active(now, failed=False)

    def sync(self, now: float, answers: Sequence[TriggerAnswer]) -> None:
        """One decision of the HPA.

        Before any external metric KEDA asks every trigger of the object for its spec: one that cannot be reached fails
        the others, those of type prometheus included.
        """
        if self.spec.formula is not None:
            self._set(now, self._hpa.recommend(now, self.replicas, [HpaMetric(self._compose(answers))]))
            return
        given = [self._use_fallback(i, answer)[0] for i, answer in enumerate(answers)]
        if not all(answer.reached for answer in answers):
            given = [None] * len(answers)
        metrics = [HpaMetric(value, answer.target) for value, answer in zip(given, answers, strict=True)]
        self._set(now, self._hpa.recommend(now, self.replicas, metrics))

    def _use_fallback(self, trigger: int, answer: TriggerAnswer) -> tuple[float | None, bool]:
        """The value that KEDA uses, and whether it is the fallback's; an unreached trigger does not count as failed."""
        if not answer.reached:
            return None, False
        if answer.value is not None:
            self._failures[trigger] = 0
            return answer.value, False
        self._failures[trigger] = self._failures.get(trigger, 0) + 1
        fallback = self.spec.fallback
        if fallback is None or self._failures[trigger] <= fallback.failure_threshold:
            return None, False
        return fallback.replicas_for(self.replicas) * answer.target, True

    def _compose(self, answers: Sequence[TriggerAnswer]) -> float | None:
        """The formula's value; a trigger that has failed beyond the threshold is nil. None is an error."""
        assert self.spec.formula is not None
        assert self.spec.fallback is not None
        for i, answer in enumerate(answers):
            if answer.reached:
                self._failures[i] = 0 if answer.value is not None else self._failures.get(i, 0) + 1
        threshold = self.spec.fallback.failure_threshold
        failed = [answer.value is None and self._failures.get(i, 0) <= threshold for i, answer in enumerate(answers)]
        return None if any(failed) else self.spec.formula([answer.value for answer in answers])

    def _note_active(self, now: float, *, failed: bool) -> None:
        if self.replicas == 0:
            self._set(now, max(1, self.spec.bounds.min))
        elif failed:  # some triggers are active and others failed: the cooldown is not extended
            return
        self._last_active = now

    def _note_inactive(self, now: float) -> None:
        cooled = self._last_active is None or self._last_active + self.spec.cooldown < now
        if self.spec.bounds.min == 0 and self.replicas > 0:
            if cooled:
                self._set(now, 0)
        elif self.replicas < self.spec.bounds.min:
            self._set(now, self.spec.bounds.min)

    def _set(self, now: float, replicas: int) -> None:
        if replicas != self.replicas:
            self.changes.append((now, replicas))
