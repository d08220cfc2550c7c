# SPDX-License-Identifier: Apache-2.0
"""One trace replayed with every policy: the forecaster steered to each service level, and the alternatives.

The levels, the rivals, their settings and the resulting curves are those of ``kedastral backtest``.

All replays use the product's own tick and the simulation's rules. A model forecasts once for each minute of a trace;
all policies, levels and sizes read the same forecasts.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import attrs
import numpy as np

from benchmarks.traces import Trace
from kedastral.backtest.comparison import HPA, RIVALS, STEERED_SETTINGS, goal_at, policies_to_compare
from kedastral.backtest.workloads import ReplaySettings, Scenario
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.data_quality.outliers import screen
from kedastral.core.forecast import Forecast
from kedastral.core.model import Model
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.planning.uncertainty import FIRST_WINDOWS
from kedastral.core.series import Floats, Series
from kedastral.core.steps import lead_steps_of
from kedastral.models import MODELS
from kedastral.settings.declarations import PlanSettings
from kedastral.simulation.cluster import KedaTiming
from kedastral.simulation.curves import Point, point_of
from kedastral.simulation.policies import ForecastSchedule, Reactive, ServiceLevelPolicy, Serving
from kedastral.simulation.replay import Cluster, Outcome, replay, replay_oracle
from kedastral.simulation.trial import Scaling, Trial, scale_trace

LEVELS = (0.99, 0.995, 0.999)
"""The levels that are checked; curves are made of all `STEERED_SETTINGS`."""
BOUNDS = ReplicaBounds(1, 400)
HORIZON_STEPS = 30
WINDOW = 14 * 86400.0
"""Seconds of history that outlier detection reads; planning itself only reads the last day."""


@attrs.frozen
class Foretold:
    """A model whose forecasts for one trace have already been made: row i follows ``demand.values[first + i]``."""

    name: str
    demand: Series
    first: int
    rows: Floats = attrs.field(eq=False, repr=False)

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.model.Model.forecast`."""
        row = round((made_at - self.demand.start).total_seconds() / self.demand.step) - 1 - self.first
        if row < 0:
            raise ValueError(f"no forecast was made for {made_at}")
        return Forecast(made_at, history.step, self.rows[row, :steps])


@attrs.frozen
class Level:
    """The result of one service level; ``covered`` are the shares below the calibrated quantiles on the last day."""

    level: float
    point: Point
    covered: tuple[float, ...]
    factor: float
    stood_down: bool


@attrs.frozen
class Study:
    """All that was measured for one model on one trace at one lead time; events at 200 pods as (steered, HPA-80).

    ``steered`` is the sweep of the service level and the headroom, ``rivals`` that of each of `RIVALS` by its name.
    """

    trace: str
    model: str
    step: float
    lead_time: float
    levels: tuple[Level, ...]
    steered: tuple[Point, ...]
    rivals: Mapping[str, tuple[Point, ...]]
    events_at_200: tuple[int, int]

    @property
    def hpa(self) -> tuple[Point, ...]:
        """The sweep of the plain HPA's target utilisation."""
        return self.rivals[HPA]


def foretell(model: Model, trial: Trial, window: float, cache: Path | None) -> Foretold:
    """``model``'s forecast for every replayed minute, and for those it warms up on; from ``cache`` if it is there."""
    demand = trial.demand
    first = max(trial.begin - FIRST_WINDOWS - 1, 0)
    if cache is not None and cache.exists():
        return Foretold(model.name, demand, first, np.load(cache))
    rows = np.empty((len(demand) - first, HORIZON_STEPS))
    kept = max(1, round(window / demand.step))
    for i in range(len(rows)):
        seen = first + i + 1
        begin = max(0, seen - kept)
        history = Series(demand.time_at(begin + 1), demand.step, trial.measured[begin:seen])
        rows[i] = model.forecast(screen(history).history, demand.time_at(seen), HORIZON_STEPS).values
    if cache is not None:
        np.save(cache, rows)
    return Foretold(model.name, demand, first, rows)


def trial_of(trace: Trace, peak_pods: float = 40.0) -> Trial:
    """The evaluated part of a trace, scaled to a size."""
    evaluated = 1 - trace.begin / len(trace.load)
    return scale_trace(trace.load, Scaling(evaluated=evaluated, peak_pods=peak_pods))


def study(trace: Trace, models: Sequence[Foretold], lead_time: float) -> list[Study]:
    """Each model and the HPA on one trace, with 40 pods at the peak, and some comparisons with 200."""
    trial, large = trial_of(trace), trial_of(trace, peak_pods=200.0)
    cluster = cluster_for(trial, lead_time)
    oracle = replay_oracle(trial, cluster)
    rivals = sweep_rivals(trial, cluster, oracle)
    events = replay(Reactive(large.target_per_pod, 0.8), large, cluster).scale_events
    return [
        Study(
            trace=trace.name,
            model=model.name,
            step=trial.demand.step,
            lead_time=lead_time,
            levels=tuple(one for one in levels if one.level in LEVELS),
            steered=tuple(one.point for one in levels),
            rivals=rivals,
            events_at_200=(replay(steered(0.99, model, large, lead_time), large, cluster).scale_events, events),
        )
        for model in models
        for levels in ([replay_level(level, model, trial, cluster, oracle) for level in STEERED_SETTINGS],)
    ]


def sweep_rivals(trial: Trial, cluster: Cluster, oracle: Outcome) -> dict[str, tuple[Point, ...]]:
    """The points of each of `RIVALS`, as in a backtest of this trial."""
    model = MODELS["last-value"].make()  # no rival uses it
    scenario = Scenario("rivals", trial, model, ReplaySettings(plan_for(trial), cluster=cluster))
    return {
        policy.name: tuple(
            point_of(knob, replay(policy.make(scenario, knob), trial, cluster), oracle) for knob in policy.settings
        )
        for policy in policies_to_compare(scenario.settings.plan.headroom)
        if policy.name in RIVALS
    }


def replay_level(level: float, model: Model, trial: Trial, cluster: Cluster, oracle: Outcome) -> Level:
    """One replay, steered to ``level``; values from 1 on are headrooms."""
    policy = steered(level, model, trial, cluster.lead_time)
    point = point_of(level, replay(policy, trial, cluster), oracle)
    if policy.state is None:
        raise RuntimeError("nothing was replayed")
    uncertainty, factor = policy.state.uncertainty, policy.state.steering.factor
    return Level(level, point, uncertainty.model.coverage, factor or 1.0, uncertainty.standing_down)


def steered(level: float, model: Model, trial: Trial, lead_time: float) -> ServiceLevelPolicy:
    """The product with one tick per step, steered to ``level``, which is one of `STEERED_SETTINGS`."""
    step, plan = trial.demand.step, plan_for(trial)
    steps = lead_steps_of(lead_time, step) + plan.prewarm_steps  # a replay that ticks every step never reads beyond
    reading = ForecastSchedule(window=WINDOW, horizon=steps * step, interval=step)
    serving = Serving(lead_time, stale=StalePolicy(stale_after=2 * step))
    return ServiceLevelPolicy(model, plan, goal_at(level), reading, serving)


def plan_for(trial: Trial) -> PlanPolicy:
    """The plan policy for a trial's pods, with the default prewarm."""
    prewarm_steps = PlanSettings().prewarm_at(trial.demand.step)
    return PlanPolicy(trial.target_per_pod, bounds=BOUNDS, prewarm_steps=prewarm_steps)


def cluster_for(trial: Trial, lead_time: float) -> Cluster:
    """A cluster with one decision per step; a lead is at least one step."""
    step = trial.demand.step
    return Cluster(max(lead_time, step), BOUNDS, KedaTiming(sync_period=step, polling_interval=step))
