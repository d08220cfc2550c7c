# SPDX-License-Identifier: Apache-2.0
"""`what_if`: the plan under other settings, recomputed from the inputs that the snapshot keeps; pure."""

import attrs

from kedastral.core.capacity import ReplicaBounds
from kedastral.core.planning.basis import HeadroomBasis, PlanBasis, make_stages, policy_of
from kedastral.core.planning.planner import replicas_without_max
from kedastral.core.planning.service_level import SteeredBasis
from kedastral.core.planning.snapshot import Snapshot


@attrs.frozen
class OtherSettings:
    """Settings to try; None leaves one as it is. ``lead_time`` is in seconds."""

    lead_time: float | None = None
    target_per_pod: float | None = None
    service_level: float | None = None
    headroom: float | None = None
    min: int | None = None
    max: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to try."""
        return self == OtherSettings()

    def find_problems(self, snapshot: Snapshot) -> tuple[str, ...]:
        """Why these settings cannot be tried on the plan of ``snapshot``; empty if they can."""
        basis = snapshot.basis
        if basis is None:
            return ("this plan cannot be made again: it was not made by this process since its start",)
        found = []
        if self.lead_time is not None and not self.lead_time < snapshot.forecast.horizon:
            found.append(f"leadTime must be below the horizon of the forecast, {snapshot.forecast.horizon:g} s")
        if self.service_level is not None and self.headroom is not None:
            found.append("serviceLevel and headroom exclude each other")
        if self.service_level is not None and isinstance(basis, HeadroomBasis):
            found.append("serviceLevel needs the model auto; this plan has a fixed headroom")
        bounds = policy_of(basis).bounds
        low = bounds.min if self.min is None else self.min
        high = bounds.max if self.max is None else self.max
        if high and low > high:
            found.append(f"min ({low}) must not be above max ({high})")
        return tuple(found)


def what_if(snapshot: Snapshot, other: OtherSettings) -> Snapshot:
    """The snapshot as it would have been under ``other`` settings, from the same forecast and the same past.

    Limits that come from the past apply as they would after a change of settings: the dead band, the change limits and
    the hold. Idleness is only known if the minimum is already 0. Raises ValueError with the text of
    `OtherSettings.find_problems`.
    """
    basis, problems = snapshot.basis, other.find_problems(snapshot)
    if problems or basis is None:
        raise ValueError("; ".join(problems))
    changed, bounds = _with_settings(basis, other), _bounds_under(policy_of(basis).bounds, other)
    before = make_stages(basis, snapshot.forecast)
    stages, report = make_stages(changed, snapshot.forecast), snapshot.service_level
    if isinstance(changed, SteeredBasis) and report is not None:
        report = attrs.evolve(report, upper=stages.upper, factor=stages.factor, level=changed.settings.level)
    floor = stages.floor
    if floor is not None and snapshot.floor is not None and before.floor is not None and snapshot.floor > before.floor:
        floor = bounds.clamp(max(floor, snapshot.floor))  # kept while the data source gives partial answers
    resumption = snapshot.resumption
    if resumption is not None and resumption.served is not None:
        resumption = attrs.evolve(resumption, served=bounds.clamp(resumption.served))
    planned = attrs.evolve(
        snapshot,
        replicas=stages.replicas,
        floor=floor,
        lead_time=other.lead_time or snapshot.lead_time,
        service_level=report,
        resumption=resumption,
        basis=changed,
    )
    return attrs.evolve(planned, replicas_without_max=replicas_without_max(planned))


def _bounds_under(bounds: ReplicaBounds, other: OtherSettings) -> ReplicaBounds:
    return ReplicaBounds(bounds.min if other.min is None else other.min, bounds.max if other.max is None else other.max)


def _with_settings(basis: PlanBasis, other: OtherSettings) -> PlanBasis:
    policy = policy_of(basis)
    policy = attrs.evolve(
        policy,
        target_per_pod=other.target_per_pod or policy.target_per_pod,
        bounds=_bounds_under(policy.bounds, other),
    )
    if isinstance(basis, HeadroomBasis):
        return attrs.evolve(basis, policy=attrs.evolve(policy, headroom=other.headroom or policy.headroom))
    settings = basis.settings
    steering = attrs.evolve(
        settings.steering,
        policy=policy,
        lead_time=other.lead_time or settings.steering.lead_time,
        service_level=other.service_level or settings.steering.service_level,
    )
    headroom = settings.headroom if other.headroom is None else other.headroom
    if other.service_level is not None:
        headroom = None
    return attrs.evolve(basis, settings=attrs.evolve(settings, steering=steering, headroom=headroom))
