# SPDX-License-Identifier: Apache-2.0
"""`Ticks`: the service's tick, replayed: history -> forecast -> plan -> snapshot."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

import attrs
from attrs.validators import ge, gt

from kedastral.core.capacity import PlanPolicy
from kedastral.core.forecast import Forecast, fallback_forecast
from kedastral.core.planning.calibration import warm_up
from kedastral.core.planning.planner import Workload, keep_plan, plan_by_headroom, plan_by_service_level
from kedastral.core.planning.service_level import ServiceLevelSettings, ServiceLevelState
from kedastral.core.planning.status import model_failed
from kedastral.core.planning.uncertainty import UncertaintyState
from kedastral.core.ports import Model
from kedastral.core.series import Floats, Series, frozen_floats
from kedastral.core.serving import StalePolicy, decide, wanted_for
from kedastral.core.snapshot import Snapshot
from kedastral.errors import ModelError
from kedastral.simulation.hpa import HpaBehavior, HpaMetric
from kedastral.simulation.trial import View


@attrs.frozen
class ForecastSchedule:
    """What each tick reads and forecasts, in seconds: ``window`` of history, ``horizon`` ahead, every ``interval``."""

    window: float = attrs.field(default=1800.0, validator=gt(0))
    horizon: float = attrs.field(default=1800.0, validator=gt(0))
    interval: float = attrs.field(default=60.0, validator=gt(0))


@attrs.frozen
class Serving:
    """How a snapshot is read; ``lead_time`` in seconds, ``reactive_headroom`` None turns the floor off."""

    lead_time: float = attrs.field(default=300.0, validator=gt(0))
    reactive_headroom: float | None = 1.1
    stale: StalePolicy = attrs.field(factory=StalePolicy)

    def __attrs_post_init__(self) -> None:
        if self.reactive_headroom is not None and not self.reactive_headroom > 0:
            raise ValueError(f"reactive_headroom must be above 0, got {self.reactive_headroom}")


class Ticks:
    """The forecast loop of one workload, with the newest snapshot it made; the plan is the service's own."""

    def __init__(self, model: Model, plan: PlanPolicy, reading: ForecastSchedule, serving: Serving) -> None:
        self._model = model
        self._plan = plan
        self._reading = reading
        self._serving = serving
        self._next_tick = 0.0
        self._newest: Snapshot | None = None

    def newest(self, view: View) -> Snapshot | None:
        """The snapshot there is at ``view.now``, made now if a tick is due; a model that fails leaves the old one."""
        if view.now >= self._next_tick:
            self._next_tick = view.now + self._reading.interval
            self._newest = self._make_snapshot(view)
        return self._newest

    def _make_snapshot(self, view: View) -> Snapshot | None:
        history, steps = view.history(self._reading.window), round(self._reading.horizon / view.step)
        floor = self._serving.reactive_headroom
        workload = Workload("replay", "demand", steps, self._serving.lead_time, self._plan, floor)
        try:
            forecast = self._model.forecast(history, view.at, steps)
        except ModelError as error:  # as in the service: the next tick tries again, and the old plan grows stale
            return self._newest and keep_plan(workload, history, self._newest, model_failed(error))
        return plan_by_headroom(workload, history, forecast, self._newest)


# --- `Remembered`: a model that forecasts each moment once, for sweeps that replay one trial at many settings.

_Moment = tuple[datetime, float, int, datetime, int]


class Remembered:
    """The model's own forecasts, kept by the moment and the history's place in time.

    Right for as long as all histories are cut from one and the same demand: make one for each trial. What fails is
    not remembered.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._forecasts: dict[_Moment, Forecast] = {}

    @property
    def name(self) -> str:
        """The model's own."""
        return self._model.name

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.ports.Model.forecast`."""
        moment = (history.start, history.step, len(history), made_at, steps)
        if moment not in self._forecasts:
            self._forecasts[moment] = self._model.forecast(history, made_at, steps)
        return self._forecasts[moment]


# --- `Kedastral`: this product, through the very model, planner and serving rule that ``kedastral run`` uses.


class Kedastral:
    """Any model and settings; answers what the scaler would answer KEDA at that moment."""

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
        self._stale = serving.stale

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`; no value where the scaler would answer UNAVAILABLE."""
        replicas = decide(self._ticks.newest(view), view.at, self._stale).replicas
        return (HpaMetric(None if replicas is None else float(replicas)),)


# --- `ServiceLevelPolicy`: this product with uncertainty and steering: the very tick that ``kedastral run`` has for
# such a # model.


class ServiceLevelPolicy:
    """Any point forecaster; ``state`` can be looked at after a replay. The first tick warms up on what it can see."""

    behavior = HpaBehavior.DIRECT

    def __init__(
        self,
        model: Model,
        settings: ServiceLevelSettings,
        reading: ForecastSchedule = ForecastSchedule(),
        stale: StalePolicy = StalePolicy(),  # noqa: B008 - frozen
    ) -> None:
        self.name = f"steered-{model.name}"
        self._model = model
        self._settings = attrs.evolve(settings, interval=reading.interval)
        self._reading = reading
        self._stale = stale
        self._next_tick = 0.0
        self._newest: Snapshot | None = None
        self._learnt: UncertaintyState | None = None

    @property
    def state(self) -> ServiceLevelState | None:
        """What is carried from tick to tick; None before the first."""
        return (
            self._newest.service_level.state
            if self._newest is not None and self._newest.service_level is not None
            else None
        )

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`; no value where the scaler would answer UNAVAILABLE."""
        if view.now >= self._next_tick:
            self._next_tick = view.now + self._reading.interval
            history = view.history(self._reading.window)
            if history.newest is not None:
                self._newest = self._make_snapshot(history, view.at, round(self._reading.horizon / view.step))
        replicas = decide(self._newest, view.at, self._stale).replicas
        return (HpaMetric(None if replicas is None else float(replicas)),)

    def _make_snapshot(self, history: Series, at: datetime, steps: int) -> Snapshot:
        steering = self._settings.steering
        workload = Workload(
            "replay", "demand", steps, steering.lead_time, steering.policy, service_level=self._settings
        )
        try:
            forecast = self._forecast(history, at, steps)
        except ModelError as error:  # as in the service
            forecast = fallback_forecast(history, at, steps, model_failed(error))
        return plan_by_service_level(workload, history, forecast, self._newest, self._learnt)

    def _forecast(self, history: Series, at: datetime, steps: int) -> Forecast:
        if self._learnt is None:
            window, lead_steps = self._settings.window(history.step), self._settings.lead_steps(history.step)
            self._learnt = warm_up(self._model, history, steps, window, lead_steps=lead_steps, made_at=at)
        return self._model.forecast(history, at, steps)


# --- `FarEnd`: the plan read at now + lead only, without a floor: the v0.1 design, kept to show what the window is
# for.


class FarEnd:
    """Drops pods before the need has passed: what it reads is right for the end of the lead, not for until then."""

    def __init__(
        self,
        model: Model,
        plan: PlanPolicy,
        reading: ForecastSchedule = ForecastSchedule(),
        lead_time: float = 300.0,
        behavior: HpaBehavior = HpaBehavior.DIRECT,
    ) -> None:
        self.name = f"far-end-{model.name}"
        self.behavior = behavior
        self._ticks = Ticks(model, plan, reading, Serving(lead_time, reactive_headroom=None))
        self._lead_time = timedelta(seconds=lead_time)

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`."""
        replicas = wanted_for(self._ticks.newest(view), view.at + self._lead_time)
        return (HpaMetric(None if replicas is None else float(replicas)),)


# --- `Reactive`: what people have today, an HPA that keeps pods at a utilisation.


@attrs.frozen
class Reactive:
    """ceil(newest load / (target per pod * utilisation)), with the HPA's tolerance and scale-down stabilization."""

    target_per_pod: float = attrs.field(validator=gt(0))
    utilisation: float = attrs.field(default=0.8, validator=gt(0))
    behavior: HpaBehavior = HpaBehavior.UNLIMITED

    @property
    def name(self) -> str:
        """Says its utilisation."""
        return f"hpa-{self.utilisation * 100:g}"

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`."""
        return (HpaMetric(float(view.seen[-1]), self.target_per_pod * self.utilisation),)


# --- `LastWeek`: a plain Prometheus trigger that looks at the same half hour a week ago.


@attrs.frozen
class LastWeek:
    """``max_over_time(q[30m] offset 6d23h30m)``: the largest load of the 30 minutes that a week ago were to come.

    Gives no value, and so holds, until there is a week of history; `Together` with a `Reactive` covers that.
    """

    WEEK: ClassVar[float] = 7 * 86400.0
    RANGE: ClassVar[float] = 1800.0

    target_per_pod: float = attrs.field(validator=gt(0))
    utilisation: float = attrs.field(default=0.8, validator=gt(0))
    behavior: HpaBehavior = HpaBehavior.UNLIMITED

    @property
    def name(self) -> str:
        """Says its utilisation."""
        return f"last-week-{self.utilisation * 100:g}"

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`."""
        first = len(view.seen) - round(self.WEEK / view.step)
        ahead = view.seen[max(0, first) : max(0, first + max(1, round(self.RANGE / view.step)))]
        value = float(ahead.max()) if len(ahead) else None
        return (HpaMetric(value, self.target_per_pod * self.utilisation),)


# --- `Fixed`: no autoscaling at all.


@attrs.frozen
class Fixed:
    """Always the same replicas."""

    replicas: int = attrs.field(validator=ge(0))
    behavior: HpaBehavior = HpaBehavior.DIRECT

    @property
    def name(self) -> str:
        """Says how many."""
        return f"fixed-{self.replicas}"

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`."""
        return (HpaMetric(float(self.replicas)),)


# --- `Oracle`: the only policy that sees the future; what the others cost is told against it.


@attrs.frozen
class Oracle:
    """Orders for the largest demand of the next ``lead_steps`` steps: the cheapest that never leaves load unserved.

    A pod ordered later would not serve in time, and one given up earlier could not be had back in time. ``demand``
    has shape (n,), the whole of what is replayed.
    """

    demand: Floats = attrs.field(converter=frozen_floats, eq=False, repr=False)
    target_per_pod: float = attrs.field(validator=gt(0))
    lead_steps: int = attrs.field(validator=gt(0))
    name: str = "oracle"
    behavior: HpaBehavior = HpaBehavior.DIRECT

    def ask(self, view: View) -> Sequence[HpaMetric]:
        """See `kedastral.simulation.trial.Policy.ask`."""
        first = min(len(view.seen), len(self.demand) - 1)
        return (HpaMetric(float(self.demand[first : first + self.lead_steps].max()), self.target_per_pod),)
