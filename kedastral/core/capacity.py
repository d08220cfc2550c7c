# SPDX-License-Identifier: Apache-2.0
"""`plan_replicas`: turns the forecast load into the replicas that must be Ready, step by step."""

import math
from enum import Enum, StrEnum

import attrs
import numpy as np

from kedastral.core.series import DAY, Bools, Floats, Ints, Series, fill_gaps, frozen_ints

MAX_REPLICAS = 2**31 - 1
"""The maximum if none is configured: Kubernetes counts replicas in 32 bits."""

WHOLE_WITHIN = 1e-9
"""A result this close (relative) to a whole number counts as that number: 3.0000000001 pods are 3, not 4."""

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


FIRST_WATCH = 600.0
"""Seconds after a start in which low newest points are not trusted: they may not have settled, and a start often
coincides with the dip of a rollout."""
RECENT = 900.0
"""Seconds before now whose largest load sets the floor during `FIRST_WATCH`."""


def load_for_floor(history: Series) -> float:
    """The load that needs pods at once: the newest, just after a start the recent maximum; 0 if none is known."""
    if history.quality.watched >= FIRST_WATCH:
        return history.least_load
    recent = history.values[-math.ceil(RECENT / history.step) :]
    return max(float(np.nan_to_num(recent).max(initial=0.0)), history.least_load)


def steps_within(span: float, step: float) -> int:
    """The number of whole steps of ``step`` seconds in ``span`` seconds; 0 if a step is longer."""
    return math.floor(span / step + WHOLE_WITHIN)


def lead_steps_of(lead_time: float, step: float) -> int:
    """The number of steps that ``[now, now + lead_time]`` overlaps."""
    return steps_within(lead_time, step) + 1


def steps_to_serve(lead_time: float, step: float) -> int:
    """The number of steps from the one whose load orders pods to the first that these pods serve from its begin.

    The pods are ordered at the end of a step, and ``lead_time`` counts from its begin, so it is at least one step.
    """
    return max(1, math.ceil(lead_time / step - WHOLE_WITHIN))


IDLE_SHARE = 0.1
"""As a share of one pod's load. An idle workload needs no pod in a step whose forecast is below this."""
IDLE_AFTER = 300.0
"""Seconds without any load before a workload can be idle."""
MIN_IDLE_STEPS = 3
"""The least number of steps without load, however long a step is: a single 0 may be a measurement error."""
MAX_RESTS_A_DAY = 4
"""How many rests a day, on average, may be as long as one for which the workload scales to zero."""


class Idleness(Enum):
    """Whether a workload has load, is idle, or has so little load that it would scale to zero and back all day."""

    BUSY = "busy"
    IDLE = "idle"
    SPARSE = "sparse"


def idleness_of(history: Series) -> Idleness:
    """Judge the current rest, the time without any load up to the newest value, against the rests in the history.

    Count the rests that last as long as this one and at least `IDLE_AFTER`. If there are more than `MAX_RESTS_A_DAY` a
    day, the workload is sparse. If not, it is idle once the current rest lasts `IDLE_AFTER`. In less than a quarter of
    a day one such rest is allowed. A rest that began before the history counts as long.
    """
    known = np.flatnonzero(np.isfinite(history.values))
    if not len(known):
        return Idleness.BUSY
    values = fill_gaps(history.values[: known[-1] + 1])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], values == 0, [0]])))
    begins, ends = edges[::2], edges[1::2]
    lengths = ends - begins
    current = int(lengths[-1]) if len(lengths) and ends[-1] == len(values) else 0
    least = max(math.ceil(IDLE_AFTER / history.step - WHOLE_WITHIN), MIN_IDLE_STEPS)
    as_long = np.count_nonzero((lengths >= max(current, least)) | (begins == 0))
    if as_long > max(MAX_RESTS_A_DAY * len(values) * history.step / DAY, 1.0):
        return Idleness.SPARSE
    return Idleness.IDLE if current >= least else Idleness.BUSY


def plan_around_rests(
    needed: Floats,
    expected: Floats,
    idleness: Idleness,
    policy: PlanPolicy,
    *,
    previous: int | None,
    dead_band: DeadBand | None = None,
) -> Ints:
    """`plan_replicas` for the load ``needed``, for a workload that may have no pods at all.

    While it is idle, some steps need none (`without_idle_steps`). A sparse workload keeps one pod even if no load is
    expected.
    """
    if policy.bounds.min > 0:
        return plan_replicas(needed, policy, previous=previous, dead_band=dead_band)
    needed = without_idle_steps(needed, expected, idleness, policy)
    replicas = plan_replicas(needed, policy, previous=previous, dead_band=dead_band)
    return frozen_ints(np.maximum(replicas, 1)) if idleness is Idleness.SPARSE else replicas


def without_idle_steps(needed: Floats, expected: Floats, idleness: Idleness, policy: PlanPolicy) -> Floats:
    """The load ``needed``, set to 0 in the steps that need no pod while the workload is idle.

    Those are steps whose ``expected`` load is below `IDLE_SHARE` of a pod, if one pod would cover it with all margins.
    """
    if policy.bounds.min > 0 or idleness is not Idleness.IDLE:
        return needed
    one_is_enough = needed / policy.target_per_pod * policy.headroom <= 1
    return np.where((expected / policy.target_per_pod < IDLE_SHARE) & one_is_enough, 0.0, needed)
