# SPDX-License-Identifier: Apache-2.0
"""`idleness_of`: whether a workload has any load, and how a plan may need no pod at all while it has none."""

import math
from enum import Enum

import numpy as np

from kedastral.core.capacity import DeadBand, PlanPolicy, plan_replicas
from kedastral.core.series import DAY, Floats, Ints, Series, fill_gaps, frozen_ints
from kedastral.core.steps import WHOLE_WITHIN

IDLE_SHARE = 0.1
"""As a share of one pod's load. An idle workload needs no pod in a step whose forecast is below this."""
IDLE_AFTER = 300.0
"""Seconds without any load before a workload can be idle."""
MIN_IDLE_STEPS = 3
"""The least number of steps without load, however long a step is: a single 0 may be a measurement error."""
MAX_IDLE_PERIODS_A_DAY = 4
"""How many idle periods a day, on average, may be as long as one for which the workload scales to zero."""


class Idleness(Enum):
    """Whether a workload has load, is idle, or has so little load that it would scale to zero and back all day."""

    BUSY = "busy"
    IDLE = "idle"
    SPARSE = "sparse"


def idleness_of(history: Series) -> Idleness:
    """Judge the current idle period, the time without any load up to the newest value, against those in the history.

    Count the idle periods that last as long as this one and at least `IDLE_AFTER`. If there are more than
    `MAX_IDLE_PERIODS_A_DAY` a day, the workload is sparse. If not, it is idle once the current one lasts `IDLE_AFTER`.
    In less than a quarter of a day one such period is allowed. One that began before the history counts as long.
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
    if as_long > max(MAX_IDLE_PERIODS_A_DAY * len(values) * history.step / DAY, 1.0):
        return Idleness.SPARSE
    return Idleness.IDLE if current >= least else Idleness.BUSY


def plan_with_idle_steps(
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
