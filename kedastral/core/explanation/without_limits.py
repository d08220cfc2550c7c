# SPDX-License-Identifier: Apache-2.0
"""What the answer would be without each of its limits, from the inputs that the snapshot keeps; pure."""

from collections.abc import Iterator, Mapping
from datetime import datetime

import attrs

from kedastral.core.capacity import ReplicaBounds
from kedastral.core.explanation.stages import StageName
from kedastral.core.planning.basis import PlanBasis, make_stages, policy_of, with_policy, without_maximum
from kedastral.core.planning.service_level import PlanStages
from kedastral.core.planning.snapshot import Mode, Snapshot, lead_window, replicas_at
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.serving import decide

NO_LIMIT = 1e12
"""A growth factor that limits nothing."""
LONG = 1e12
"""Seconds after which nothing is stale."""


@attrs.frozen
class Variant:
    """A ``snapshot`` without one of its limits, with the ``stages`` of its plan, None if that cannot be made again."""

    snapshot: Snapshot
    stages: PlanStages | None


def leave_out_each(snapshot: Snapshot, stages: PlanStages | None) -> dict[StageName, Variant]:
    """The snapshot without each limit of its plan; without ``stages`` only what needs no new plan is left out."""
    found = {
        StageName.FLOOR: Variant(attrs.evolve(snapshot, floor=None), stages),
        StageName.RESUMPTION: Variant(attrs.evolve(snapshot, resumption=None), stages),
    }
    if stages is None or snapshot.basis is None:
        return found
    unheld = attrs.evolve(snapshot, replicas=stages.limited, floor=stages.needed_floor)
    found[StageName.HOLD] = Variant(unheld, stages)
    for name, basis in _variants(snapshot.basis):
        other = make_stages(basis, snapshot.forecast)
        planned = attrs.evolve(snapshot, replicas=other.replicas, floor=other.floor, basis=basis)
        found[name] = Variant(planned, other)
    return found


def without_each_limit(
    snapshot: Snapshot, now: datetime, variants: Mapping[StageName, Variant], policy: StalePolicy
) -> dict[StageName, int | None]:
    """The answer without each limit, if it can be computed; ``variants`` are those of `leave_out_each`."""
    first, _ = lead_window(snapshot, now)
    at_once = max(int(snapshot.replicas[first]), snapshot.floor or 0, snapshot.served_before)
    return {
        **{name: replicas_at(variant.snapshot, now) for name, variant in variants.items()},
        StageName.LEAD_TIME: at_once,
        StageName.STALE: decide(snapshot, now, attrs.evolve(policy, stale_after=LONG)).replicas,
        StageName.MODE: decide(snapshot, now, attrs.evolve(policy, mode=Mode.SCALE)).replicas,
    }


def _variants(basis: PlanBasis) -> Iterator[tuple[StageName, PlanBasis]]:
    policy = policy_of(basis)
    bounds = policy.bounds
    quiet = attrs.evolve(basis.facts, noise=0.0, recent=0.0)
    yield StageName.DEAD_BAND, attrs.evolve(basis, facts=quiet)
    yield StageName.PEAK_REGRESSION, attrs.evolve(basis, facts=attrs.evolve(basis.facts, predicted_peak=None))
    yield StageName.LOAD_CAP, attrs.evolve(basis, facts=attrs.evolve(basis.facts, cap=None))
    yield StageName.MINIMUM, with_policy(basis, attrs.evolve(policy, bounds=ReplicaBounds(0, bounds.max)))
    yield StageName.MAXIMUM, without_maximum(basis)
    free = attrs.evolve(policy, up_max_factor=NO_LIMIT, down_max_pct=100.0)
    yield StageName.CHANGE_LIMITS, with_policy(basis, free)
    yield StageName.PREWARM, with_policy(basis, attrs.evolve(policy, prewarm_steps=0))
