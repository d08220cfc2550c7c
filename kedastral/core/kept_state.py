# SPDX-License-Identifier: Apache-2.0
"""What a restart must not lose of a workload, and how much of it still holds under other settings; pure.

`SettingsChange` applies to a restart and a reload alike.

`KeptState` is small and saved at each tick. `KeptHistory` is large, changes little, and is saved rarely.
docs/operations.md has a table of what `adapt_state` keeps and drops.
"""

from collections.abc import Mapping
from datetime import datetime

import attrs
import numpy as np
from numpy.typing import NDArray

from kedastral.core.data_quality.findings import NOTHING_ODD
from kedastral.core.data_quality.settling import SettlingState
from kedastral.core.planning.planner import Workload, adopt_plan
from kedastral.core.planning.service_level import ServiceLevelState
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stabilization import Resumption
from kedastral.core.planning.steering import SteeringState, keep_steering
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.series import Floats, Series, require_positive, require_utc, same_array
from kedastral.core.trigger import ObjectRef

Loads = NDArray[np.float32]
"""Loads, oldest first; NaN for a gap."""


def _frozen_loads(values: Loads) -> Loads:
    array = np.array(values, dtype=np.float32, ndmin=1)
    if array.ndim != 1:
        raise ValueError(f"values must be one-dimensional, got {array.ndim} dimensions")
    array.flags.writeable = False
    return array


@attrs.frozen(kw_only=True)
class StateBasis:
    """The settings that a state was made under, as far as its meaning depends on them.

    ``source`` identifies the data source without its secrets. ``model`` includes the address of an HTTP model. Times
    are in seconds.
    """

    source: str
    query: str
    step: float
    settle_after: float | None
    model: str
    timezone: str
    lead_time: float
    prewarm_steps: int
    target_per_pod: float
    headroom: float | None
    service_level: float

    @property
    def load(self) -> tuple[str, str]:
        """Identifies the load."""
        return self.source, self.query

    @property
    def history(self) -> tuple[str, str, float]:
        """Identifies the load and its grid."""
        return *self.load, self.step

    @property
    def forecaster(self) -> tuple[str, str, str, str]:
        """Identifies the load, the model and its time zone."""
        return *self.load, self.model, self.timezone

    def same_settling(self, other: "StateBasis") -> bool:
        """Whether what was learnt about late samples still holds."""
        return (self.history, self.settle_after) == (other.history, other.settle_after)

    def same_calibration(self, other: "StateBasis") -> bool:
        """Whether forecast errors are comparable: from the same model, over windows of the same length."""
        ours = (self.forecaster, self.step, self.lead_time, self.prewarm_steps)
        return ours == (other.forecaster, other.step, other.lead_time, other.prewarm_steps)

    def same_steering(self, other: "StateBasis") -> bool:
        """Whether the steering factor, the peak hold and the cap on load still apply."""
        ours = (self.forecaster, self.lead_time, self.headroom, self.service_level)
        return ours == (other.forecaster, other.lead_time, other.headroom, other.service_level)

    def same_plans(self, other: "StateBasis") -> bool:
        """Whether an earlier plan would also be made now."""
        ours = (self.forecaster, self.target_per_pod, self.headroom)
        return ours == (other.forecaster, other.target_per_pod, other.headroom)


@attrs.frozen
class SourceState:
    """What a metric source knows about its query besides the history.

    ``settling`` is what was learnt about late samples, ``watched_since`` when that began. ``counts`` says how many
    series each of the newest points sums.
    """

    settling: SettlingState = attrs.field(factory=SettlingState)
    watched_since: datetime | None = None
    counts: Series | None = None


@attrs.frozen(kw_only=True)
class KeptState:
    """Everything about a workload except its history, as of ``saved_at``.

    ``snapshot`` carries the steering, the budget, the plans that are held, and what was served before. ``told`` is what
    KEDA was last told, None if nothing. ``told_lately`` is what KEDA was told recently, in mode observe what was
    planned, oldest first, for `kedastral.core.data_quality.lost_series.SeriesWatch`. ``trigger`` is the ScaledObject
    that defined the workload, None for one from the configuration.
    """

    workload: str
    saved_at: datetime = attrs.field(validator=require_utc)
    basis: StateBasis
    snapshot: Snapshot
    told: int | None = None
    source: SourceState | None = None
    told_lately: tuple[tuple[datetime, int], ...] = ()
    trigger: ObjectRef | None = None


@attrs.frozen(kw_only=True, eq=False)
class KeptModel:
    """What a model has learnt, as `kedastral.core.model.RestorableModel.memory` gives it.

    ``forecaster`` is `StateBasis.forecaster`. ``version`` is that of Kedastral: another one may read it differently.
    """

    forecaster: tuple[str, ...]
    version: str
    memory: Mapping[str, Floats]


@attrs.frozen(kw_only=True)
class KeptHistory:
    """The points of a workload's history that have been read, with no unread points in between.

    ``values[i]`` (float32, read-only, NaN for a gap) was observed at ``start + i * step`` seconds. ``source`` and
    ``query`` as in `StateBasis`. ``instant`` is set if the points were gathered one by one, because the data source
    serves no range queries. ``model`` is what the model has learnt from it, None if unknown.
    """

    workload: str
    source: str
    query: str
    start: datetime = attrs.field(validator=require_utc)
    step: float = attrs.field(validator=require_positive)
    values: Loads = attrs.field(converter=_frozen_loads, eq=attrs.cmp_using(eq=same_array))
    instant: bool = False
    model: KeptModel | None = attrs.field(default=None, eq=False)

    def fits(self, basis: StateBasis) -> bool:
        """Whether this is the history of a workload with ``basis``."""
        return (self.source, self.query, self.step) == basis.history


@attrs.frozen
class SettingsChange:
    """A change of settings ``at`` a moment, by a restart or while the process runs.

    They were as in ``before``, and are now as in ``now`` and ``workload``. ``told`` is what KEDA was last told from a
    plan, None if nothing.
    """

    before: StateBasis
    now: StateBasis
    workload: Workload
    told: int | None
    at: datetime

    def adapt(self, snapshot: Snapshot) -> Snapshot:
        """``snapshot`` as the next plan continues from it: without what would mean something else now.

        Its plan stays. Where the plans held so far are dropped, KEDA is told no less than before until a forecast has
        stood, as after an outage: otherwise a plan by the last value could take pods while the model still learns.
        """
        snapshot, report, told = adopt_plan(self.workload, snapshot), snapshot.service_level, self.told
        if report is not None:
            kept = _adapt_service_level(report.state, self.before, self.now)
            snapshot = attrs.evolve(snapshot, service_level=attrs.evolve(report, state=kept))
            if told is not None and not self.now.same_plans(self.before):
                told = self.workload.policy.bounds.clamp(told)
                snapshot = attrs.evolve(snapshot, resumption=Resumption(self.at, told))
        if self.now.history != self.before.history:
            snapshot = attrs.evolve(snapshot, findings=NOTHING_ODD)
        return snapshot


def starts_afresh(before: StateBasis, now: StateBasis, *, same_source: bool, same_model: bool) -> list[str]:
    """What starts afresh under ``now``, as docs/operations.md names it.

    ``same_source`` and ``same_model`` say whether source and model are the same objects: a reload may replace them,
    although their state would still mean the same.
    """
    found = {
        "history": not same_source or now.history != before.history,
        "model": not same_model or (now.forecaster, now.step) != (before.forecaster, before.step),
        "late samples": not same_source or not now.same_settling(before),
        "errors of the forecast": not now.same_calibration(before),
        "factor and hold": not now.same_steering(before),
        "error budget": now.load != before.load,
        "held plans": not now.same_plans(before),
    }
    return [name for name, is_new in found.items() if is_new]


def adapt_state(state: KeptState, basis: StateBasis, workload: Workload) -> KeptState:
    """``state`` adapted to the current settings, ``basis`` and ``workload``.

    Anything that would mean something else now is dropped. What KEDA is told stays, because replicas mean the same
    under any settings: it is limited to the new bounds, and read with the new lead time and mode.
    """
    change = SettingsChange(state.basis, basis, workload, state.told, state.saved_at)
    snapshot = change.adapt(state.snapshot)
    told = None if state.told is None else workload.policy.bounds.clamp(state.told)
    source = state.source if basis.same_settling(state.basis) else None
    lately = state.told_lately if basis.history == state.basis.history else ()
    return attrs.evolve(state, basis=basis, snapshot=snapshot, told=told, source=source, told_lately=lately)


def _adapt_service_level(state: ServiceLevelState, before: StateBasis, now: StateBasis) -> ServiceLevelState:
    steering = state.steering if now.load == before.load else SteeringState()
    if not now.same_steering(before):
        steering = keep_steering(steering, SteeringState())
    kept = attrs.evolve(state, steering=steering)
    if not now.same_calibration(before):
        kept = attrs.evolve(kept, uncertainty=UncertaintyState())
    if not now.same_plans(before):
        kept = attrs.evolve(kept, before_stabilization=(), unstabilized=None, last_model_plan=None)
    return kept
