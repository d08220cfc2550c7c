# SPDX-License-Identifier: Apache-2.0
"""`plan_replicas`: turns the forecast load into the replicas that must be Ready, step by step."""

import math
from enum import StrEnum

import attrs
import numpy as np

from kedastral.core.series import Bools, Floats, Ints, frozen_ints
from kedastral.core.steps import WHOLE_WITHIN

MAX_REPLICAS = 2**31 - 1
"""The maximum if none is configured: Kubernetes counts replicas in 32 bits."""

_FINITE = attrs.validators.lt(math.inf)


class Rounding(StrEnum):
    """How a fractional number of pods becomes a whole one; ``round`` rounds half up."""

    CEIL = "ceil"
    ROUND = "round"
    FLOOR = "floor"


@attrs.frozen
class ReplicaBounds:
    """The minimum and maximum number of replicas; ``max`` 0 means no maximum."""

    min: int = attrs.field(default=2, validator=attrs.validators.ge(0))
    max: int = attrs.field(default=50, validator=attrs.validators.ge(0))

    def __attrs_post_init__(self) -> None:
        if self.max and self.min > self.max:
            raise ValueError(f"the minimum ({self.min}) must not be above the maximum ({self.max})")

    def clamp(self, replicas: float) -> int:
        """``replicas``, a whole number or infinity, limited to the bounds."""
        return int(min(max(replicas, self.min), self.max or MAX_REPLICAS))


@attrs.frozen
class PlanPolicy:
    """How load becomes replicas; the settings of the planner.

    ``target_per_pod`` is in units of load, ``down_max_pct`` in percent (0..100), ``prewarm_steps`` in steps.
    """

    target_per_pod: float = attrs.field(default=200.0, validator=[attrs.validators.gt(0), _FINITE])
    headroom: float = attrs.field(default=1.2, validator=[attrs.validators.ge(1), _FINITE])
    bounds: ReplicaBounds = attrs.field(factory=ReplicaBounds)
    up_max_factor: float = attrs.field(default=2.0, validator=[attrs.validators.gt(1), _FINITE])
    down_max_pct: float = attrs.field(default=50.0, validator=[attrs.validators.ge(0), attrs.validators.le(100)])
    prewarm_steps: int = attrs.field(default=2, validator=attrs.validators.ge(0))
    rounding: Rounding = Rounding.CEIL


@attrs.frozen
class DeadBand:
    """Keeps the last recommended ``replicas`` while the need differs from them by no more than the load's noise.

    ``up``, ``down`` and ``fall`` are shares of the need. A need above the replicas keeps them if it exceeds them by no
    more than ``up``. A need below keeps them if it is lower by no more than ``fall``, and ``recent`` (pods), the
    largest need of the last minutes, is lower by no more than ``down``.
    """

    replicas: int
    up: float = 0.0
    down: float = 0.0
    fall: float = 0.0
    recent: float = 0.0

    def keeps(self, needs: Floats, rounding: Rounding = Rounding.CEIL) -> Bools:
        """Whether each of ``needs``, in pods before rounding, keeps the replicas; both of shape (n,)."""
        with np.errstate(over="ignore"):
            least = needs * (1 - self.up)
            most = np.minimum(needs * (1 + self.fall), np.maximum(needs, self.recent) * (1 + self.down))
        return (_round_all(least, rounding) <= self.replicas) & (_round_all(most, rounding) >= self.replicas)


def round_replicas(amount: float, rounding: Rounding = Rounding.CEIL) -> float:
    """``amount`` of pods as a whole number (a float, since it may be infinite); see `WHOLE_WITHIN`."""
    if not math.isfinite(amount):
        return amount
    nearest = math.floor(amount + 0.5)
    if abs(amount - nearest) <= WHOLE_WITHIN * max(1.0, abs(amount)):
        return float(nearest)
    match rounding:
        case Rounding.CEIL:
            return float(math.ceil(amount))
        case Rounding.FLOOR:
            return float(math.floor(amount))
        case Rounding.ROUND:
            return float(nearest)


def plan_replicas(
    values: Floats, policy: PlanPolicy, *, previous: int | None, dead_band: DeadBand | None = None
) -> Ints:
    """The replicas that must be Ready during each step of the forecast.

    ``values`` has shape (n,), finite and >= 0; ``previous`` is what the previous plan needs Ready now. If there is no
    such plan, it is None and the first step is not limited. Needs within ``dead_band`` keep its replicas. The result
    has shape (n,), read-only, aligned with ``values``: it is not shifted by any lead time. Takes O(n * prewarm_steps).

    Growth begins early enough that each step has what it needs. If ``previous`` is too small for that, the plan grows
    as fast as the limit allows, and has less than is needed until it has caught up.
    """
    desired = desired_replicas(values, policy, dead_band)
    _begin_growth_early(desired, policy)
    before = previous
    for i, replicas in enumerate(desired):
        if before is not None and replicas != before:
            replicas = policy.bounds.clamp(limit_change(before, replicas, policy))  # noqa: PLW2901 - the limited one
        before = desired[i] = replicas
    return frozen_ints(desired)


def limit_change(before: int, desired: int, policy: PlanPolicy) -> float:
    """``desired`` replicas, limited to the change from ``before`` that one step allows."""
    maximum = max(round_replicas(before * policy.up_max_factor), round_replicas(policy.up_max_factor))
    minimum = round_replicas(before * (1 - policy.down_max_pct / 100), Rounding.FLOOR)
    return min(max(desired, minimum), maximum)


def least_before(desired: int, policy: PlanPolicy) -> int:
    """The fewest replicas from which one step may grow to ``desired``."""
    least = max(math.floor((desired - 1) / policy.up_max_factor) - 1, 0)
    while limit_change(least, desired, policy) < desired:  # ends at ``desired``; a few rounds
        least += 1
    return least


def reactive_replicas(load: float, headroom: float, policy: PlanPolicy, dead_band: DeadBand | None = None) -> int:
    """The floor: the replicas that the newest ``load`` needs now, within the bounds, exempt from the change limits.

    A need within ``dead_band`` keeps its replicas. The floor always sustains the load, whatever headroom and band say.
    """
    pods = load / policy.target_per_pod
    if dead_band is not None and dead_band.keeps(np.array([pods * headroom])).all():
        return policy.bounds.clamp(max(dead_band.replicas, round_replicas(pods)))
    return policy.bounds.clamp(round_replicas(pods * max(headroom, 1.0)))


def desired_replicas(values: Floats, policy: PlanPolicy, dead_band: DeadBand | None) -> list[int]:
    """The replicas that each step needs, within the bounds, before the change limits; vectorised for speed."""
    with np.errstate(over="ignore"):  # a load too large for a float needs the maximum
        needs = _largest_ahead(values, policy.prewarm_steps) / policy.target_per_pod * policy.headroom
    whole = _round_all(needs, policy.rounding)
    if dead_band is not None:
        whole = np.where(dead_band.keeps(needs, policy.rounding), dead_band.replicas, whole)
    maximum = policy.bounds.max or MAX_REPLICAS
    bound: list[int] = np.minimum(np.maximum(whole, policy.bounds.min), maximum).astype(np.int64).tolist()
    return bound


def _begin_growth_early(desired: list[int], policy: PlanPolicy) -> None:
    """Raise each step enough that the next one can be reached within the growth limit."""
    for i in reversed(range(len(desired) - 1)):
        if desired[i + 1] > desired[i]:
            desired[i] = max(desired[i], least_before(desired[i + 1], policy))


def _round_all(amounts: Floats, rounding: Rounding) -> Floats:
    """`round_replicas` for many amounts."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity is NaN: never close, so infinity is rounded to itself
        nearest = np.floor(amounts + 0.5)
        near = np.abs(amounts - nearest) <= WHOLE_WITHIN * np.maximum(1.0, np.abs(amounts))
    match rounding:
        case Rounding.CEIL:
            rounded = np.ceil(amounts)
        case Rounding.FLOOR:
            rounded = np.floor(amounts)
        case Rounding.ROUND:
            rounded = nearest
    return np.where(near, nearest, rounded)


def _largest_ahead(values: Floats, steps: int) -> Floats:
    """For each i the maximum of values[i..i+steps], as far as the values reach."""
    largest = values.copy()
    reach = 1
    while reach <= steps and reach < len(values):  # windows of 1, 2, 4, ...: each combines two of the previous size
        width = min(reach, steps + 1 - reach)
        np.maximum(largest[:-width], largest[width:].copy(), out=largest[:-width])
        reach += width
    return largest
