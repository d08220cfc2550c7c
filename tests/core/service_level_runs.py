# SPDX-License-Identifier: Apache-2.0
"""Runs a workload tick by tick with a service level, with pods that take their lead time, for scripted days.

The pods are computed here from the plain rule, and not by the code under test.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import attrs
import numpy as np

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.planning.service_level import ServiceLevelSettings, ServiceLevelState, plan_for_service_level
from kedastral.core.planning.steering import SteeringSettings, factor_of
from kedastral.core.series import Floats, Ints, Series

START = datetime(2026, 3, 2, tzinfo=UTC)
TARGET = 10.0
DAY = 1440


@attrs.frozen
class Run:
    """What happened, minute by minute; ``served`` is the recommendation at the end of the minute."""

    short: Floats
    factors: Floats
    served: Ints
    state: ServiceLevelState

    def minutes_short(self, first: int = 0, last: int | None = None) -> int:
        """The minutes without enough pods in a part of the run."""
        return int(self.short[first:last].sum())


def drive(
    loads: Sequence[float], level: float = 0.99, lead: int = 5, max_replicas: int = 400, *, observing: bool = False
) -> Run:
    """Forecasts the last value, from the first minute on; NaN is a minute without data.

    A tick happens while the newest value is at most two minutes old, as the contract of the source says; the load
    of an unknown minute is the one before it.
    """
    policy = PlanPolicy(TARGET, bounds=ReplicaBounds(1, max_replicas))
    steering = SteeringSettings(policy, level, 60.0 * lead, observing=observing)
    settings = ServiceLevelSettings(steering)
    known = np.asarray(loads, dtype=float)
    real = Series(START, 60.0, known)
    state = ServiceLevelState()
    short, factors, served = np.zeros(len(known)), np.zeros(len(known)), np.ones(len(known), dtype=np.int64)
    load = 0.0
    for minute in range(len(known)):
        load = load if np.isnan(known[minute]) else float(known[minute])
        ready = served[max(0, minute - lead) : minute].min(initial=400)
        short[minute] = load > ready * TARGET + 1e-6
        first = max(0, minute + 1 - DAY)
        history = Series(real.time_at(first + 1), 60.0, known[first : minute + 1])
        served[minute] = served[minute - 1] if minute else 1
        if np.isfinite(history.values[-3:]).any():
            newest = history.newest
            assert newest is not None
            forecast = Forecast(real.time_at(minute + 1), 60.0, np.full(10, newest.value))
            state, _ = plan_for_service_level(state, history, forecast, settings)
            assert state.last_recommendation is not None
            served[minute] = state.last_recommendation
        factors[minute] = factor_of(state.steering, steering)
    return Run(short, factors, served, state)
