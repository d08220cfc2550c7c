# SPDX-License-Identifier: Apache-2.0
"""The policies that a replay compares; each answers the HPA as a KEDA trigger would.

Kedastral's policies use the model, planner and serving rule of ``kedastral run``: `Ticks` replays the tick,
`Kedastral` plans with a fixed headroom, `ServiceLevelPolicy` by uncertainty and service level, and `FarEndOnly` shows
why the serving rule reads a whole window. `CachedModel` makes each forecast once for a sweep over many settings.

The others: `Reactive`, an HPA on utilisation, which most people have today; `LastWeek`, a plain Prometheus trigger on
last week's load; `Fixed`, no autoscaling; and `Oracle`, the only one that sees the future, whose cost is the unit of
the others'.
"""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

import attrs
import numpy as np
from attrs.validators import ge, gt

from kedastral.core.capacity import PlanPolicy
from kedastral.core.data_quality.outliers import screen
from kedastral.core.data_quality.settling import stale_age
from kedastral.core.forecast import Forecast
from kedastral.core.forecast_status import model_failed
from kedastral.core.model import Model
from kedastral.core.planning.calibration import warm_up
from kedastral.core.planning.planner import Workload, plan_step, plan_step_without_model
from kedastral.core.planning.service_level import ServiceLevelGoal, ServiceLevelState
from kedastral.core.planning.snapshot import Snapshot, desired_at
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.series import DAY, Floats, Series, frozen_floats
from kedastral.core.serving import decide
from kedastral.errors import ModelError
from kedastral.simulation.hpa import HpaBehavior, HpaMetric
from kedastral.simulation.trial import BeatsAtSyncs, View


@attrs.frozen
class ForecastSchedule:
    """What each tick reads and forecasts, in seconds: ``window`` of history, ``horizon`` ahead, every ``interval``.

    If not ``screened``, every point counts as load, which shows what screening gains.
    """

    window: float = attrs.field(default=1800.0, validator=gt(0))
    horizon: float = attrs.field(default=1800.0, validator=gt(0))
    interval: float = attrs.field(default=60.0, validator=gt(0))
    screened: bool = True


@attrs.frozen
class Serving:
    """How a snapshot is read; ``lead_time`` in seconds, ``reactive_headroom`` None turns the floor off."""

    lead_time: float = attrs.field(default=300.0, validator=gt(0))
    reactive_headroom: float | None = 1.1
    stale: StalePolicy = attrs.field(factory=StalePolicy)

    def __attrs_post_init__(self) -> None:
        if self.reactive_headroom is not None and not self.reactive_headroom > 0:
            raise ValueError(f"reactive_headroom must be above 0, got {self.reactive_headroom}")


def read_history(view: View, schedule: ForecastSchedule, stale_after: float) -> Series | None:
    """The history that the tick at ``view.now`` forecasts from; None if its newest value is too old, or there is none.

    As in the service, a gap is a gap: nothing is forecast while the newest value is older than `stale_age`.
    """
    history = view.history(schedule.window)
    newest = history.newest
    if newest is None:
        return None
    if (view.at - newest.at).total_seconds() > stale_age(stale_after, view.step, view.late):
        return None
    return screen(history).history if schedule.screened else history


class Ticks:
    """The service's tick, replayed: history -> forecast -> plan -> snapshot; keeps the newest snapshot.

    ``goal`` None plans with the headroom of ``policy``. With a goal the first tick also judges the forecasts that the
    model would have made before, as the service does while it fits the model.
    """

    def __init__(
        self,
        model: Model,
        policy: PlanPolicy,
        schedule: ForecastSchedule,
        serving: Serving,
        goal: ServiceLevelGoal | None = None,
    ) -> None:
        self._model = model
        self._schedule = schedule
        self._workload = Workload(
            "replay", "demand", 1, serving.lead_time, policy, serving.reactive_headroom, goal, serving.stale,
            schedule.interval,
        )  # fmt: skip
        self._beats = BeatsAtSyncs(schedule.interval)
        self._learnt: UncertaintyState | None = None
        self.snapshot: Snapshot | None = None

    def newest(self, view: View) -> Snapshot | None:
        """The newest snapshot at ``view.now``; runs the tick first if it is due."""
        if self._beats.is_due(view.now):
            self.snapshot = self._make_snapshot(view)
        return self.snapshot

    def told(self, view: View) -> Sequence[HpaMetric]:
        """What the scaler would answer KEDA at ``view.now``; no value if that is UNAVAILABLE."""
        replicas = decide(self.newest(view), view.at, self._workload.stale).replicas
        return (HpaMetric(None if replicas is None else float(replicas)),)

    def _make_snapshot(self, view: View) -> Snapshot | None:
        history, at = read_history(view, self._schedule, self._workload.stale.stale_after), view.at
        if history is None or history.newest is None:
            return self.snapshot  # as in the service, it becomes stale
        workload = attrs.evolve(self._workload, steps=round(self._schedule.horizon / view.step))
        try:
            forecast = self._forecast(workload, history, at)
        except ModelError as error:  # as in the service: the next tick tries again
            status = model_failed(error)
            return plan_step_without_model(workload, history, at, status, self.snapshot, self._learnt)
        return plan_step(workload, history, forecast, self.snapshot, self._learnt)

    def _forecast(self, workload: Workload, history: Series, at: datetime) -> Forecast:
        settings, steps = workload.service_level, workload.steps
        if settings is not None and self._learnt is None:
            window, lead_steps = settings.window(history.step), settings.lead_steps(history.step)
            self._learnt = warm_up(self._model, history, steps, window, lead_steps=lead_steps, made_at=at)
        return self._model.forecast(history, at, steps)


_Moment = tuple[datetime, float, int, datetime, int]


class CachedModel:
    """A model that forecasts each moment once, for sweeps that replay one trial at many settings.

    The key is the moment and the time range of the history, so all histories must come from the same demand: make one
    instance per trial. Failures are not cached.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._forecasts: dict[_Moment, Forecast] = {}

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.model.Model.forecast`."""
        moment = (history.start, history.step, len(history), made_at, steps)
        if moment not in self._forecasts:
            self._forecasts[moment] = self._model.forecast(history, made_at, steps)
        return self._forecasts[moment]


class Kedastral:
    """Kedastral with any model and settings; answers what the scaler would answer KEDA at that moment."""

    def __init__(
        self,
        model: Model,
        plan: PlanPolicy,
        reading: ForecastSchedule = ForecastSchedule(),
        serving: Serving = Serving(),
        behavior: HpaBehavior = HpaBehavior.DIRECT,
    ) -> None:
        self.name = f"kedastral-{model.name}"
        self.behavior = behavior
        self._ticks = Ticks(model, plan, reading, serving)

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`."""
        return self._ticks.told(view)


class ServiceLevelPolicy:
    """Any point forecaster, planned by uncertainty and service level; ``state`` can be inspected after a replay."""

    behavior = HpaBehavior.DIRECT

    def __init__(
        self,
        model: Model,
        plan: PlanPolicy,
        goal: ServiceLevelGoal = ServiceLevelGoal(),  # noqa: B008 - frozen
        reading: ForecastSchedule = ForecastSchedule(),
        serving: Serving = Serving(),
    ) -> None:
        self.name = f"steered-{model.name}"
        self._ticks = Ticks(model, plan, reading, serving, goal)

    @property
    def state(self) -> ServiceLevelState | None:
        """The state carried from tick to tick; None before the first."""
        report = None if self._ticks.snapshot is None else self._ticks.snapshot.service_level
        return None if report is None else report.state

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`."""
        return self._ticks.told(view)


class FarEndOnly:
    """Reads the plan only at now + lead time, without a floor, to show why the whole lead window must be read.

    It drops pods too early, since it ignores what is needed before the end of the lead time.
    """

    def __init__(
        self,
        model: Model,
        plan: PlanPolicy,
        reading: ForecastSchedule = ForecastSchedule(),
        serving: Serving = Serving(),
        behavior: HpaBehavior = HpaBehavior.DIRECT,
    ) -> None:
        self.name = f"far-end-{model.name}"
        self.behavior = behavior
        self._ticks = Ticks(model, plan, reading, attrs.evolve(serving, reactive_headroom=None))
        self._lead_time = timedelta(seconds=serving.lead_time)

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`."""
        replicas = desired_at(self._ticks.newest(view), view.at + self._lead_time)
        return (HpaMetric(None if replicas is None else float(replicas)),)


@attrs.frozen
class Reactive:
    """ceil(newest load / (target per pod * utilisation)), with the HPA's tolerance and scale-down stabilization.

    In a gap it gives no value, so that the replicas stay.
    """

    target_per_pod: float = attrs.field(validator=gt(0))
    utilisation: float = attrs.field(default=0.8, validator=gt(0))
    behavior: HpaBehavior = HpaBehavior.UNLIMITED

    @property
    def name(self) -> str:
        """The name, with the utilisation."""
        return f"hpa-{self.utilisation * 100:g}"

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`."""
        newest = float(view.seen[-1]) if len(view.seen) else math.nan
        return (HpaMetric(newest if math.isfinite(newest) else None, self.target_per_pod * self.utilisation),)


@attrs.frozen
class LastWeek:
    """``max_over_time(q[30m] offset 6d23h30m)``: the largest load of the next 30 minutes, a week ago.

    It gives no value until there is a week of history, so that the replicas stay; a `Reactive` beside it covers that.
    Where all of that half hour is a gap, Prometheus answers with an empty list, which KEDA's trigger takes as 0
    (``ignoreNullValues``): without a value it would hold all pods for as long as the gap was.
    """

    WEEK: ClassVar[float] = 7 * DAY
    RANGE: ClassVar[float] = 1800.0

    target_per_pod: float = attrs.field(validator=gt(0))
    utilisation: float = attrs.field(default=0.8, validator=gt(0))
    behavior: HpaBehavior = HpaBehavior.UNLIMITED

    @property
    def name(self) -> str:
        """The name, with the utilisation."""
        return f"last-week-{self.utilisation * 100:g}"

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`."""
        first = view.ended - round(self.WEEK / view.step)
        ahead = view.seen[max(0, first) : max(0, first + max(1, round(self.RANGE / view.step)))]
        value = float(np.where(np.isfinite(ahead), ahead, 0.0).max()) if len(ahead) else None
        return (HpaMetric(value, self.target_per_pod * self.utilisation),)


@attrs.frozen
class Fixed:
    """Always the same number of replicas."""

    replicas: int = attrs.field(validator=ge(0))
    behavior: HpaBehavior = HpaBehavior.DIRECT

    @property
    def name(self) -> str:
        """The name, with the replicas."""
        return f"fixed-{self.replicas}"

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`."""
        return (HpaMetric(float(self.replicas)),)


@attrs.frozen
class Oracle:
    """Orders for the largest demand of the next ``lead_steps`` steps: the cheapest policy that leaves no load unserved.

    A pod ordered later would not serve in time, and one removed earlier could not be replaced in time. Before the first
    load after an idle time it has one pod for a step: KEDA orders the first one, and only then the HPA the others.
    ``demand`` is the whole demand of the trial, of shape (n,).
    """

    demand: Floats = attrs.field(converter=frozen_floats, eq=False, repr=False)
    target_per_pod: float = attrs.field(validator=gt(0))
    lead_steps: int = attrs.field(validator=gt(0))
    name: str = "oracle"
    behavior: HpaBehavior = HpaBehavior.DIRECT

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`."""
        first = min(view.ended, len(self.demand) - 1)
        lead, after = self.demand[first : first + self.lead_steps], self.demand[first + self.lead_steps :][:1]
        load = float(lead.max()) or min(float(after.max(initial=0.0)), self.target_per_pod)
        return (HpaMetric(load, self.target_per_pod),)
