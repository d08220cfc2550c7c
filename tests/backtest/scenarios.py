# SPDX-License-Identifier: Apache-2.0
"""Small scenarios and comparisons for the tests."""

import functools
from collections.abc import Sequence
from datetime import UTC, datetime

import attrs
import numpy as np

from kedastral.backtest.comparison import (
    PolicyComparison,
    PolicyResult,
    compare_policies,
    policies_to_compare,
    results_of,
)
from kedastral.backtest.workloads import ReplaySettings, Scenario
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.model import Model
from kedastral.core.series import Series
from kedastral.models import MODELS
from kedastral.simulation.curves import Point
from kedastral.simulation.policies import CachedModel
from kedastral.simulation.trial import Trial

START = datetime(2026, 3, 2, tzinfo=UTC)
SETTINGS = ReplaySettings(PlanPolicy(headroom=1.2, bounds=ReplicaBounds(1, 400)))
POINT = Point(1.0, 1.2, 0.01, 0.02)
LEVELS = [Point(0.995, 0.9, 0.02, 0.03), Point(0.999, 1.3, 0.001, 0.001)]
"""Kedastral at two service levels: the lower one serves worse than `POINT`, the higher one better."""


@attrs.frozen
class LastValue:
    name = "last-value"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        newest = history.newest
        assert newest is not None
        return Forecast(made_at, history.step, np.full(steps, newest.value))


def scenario_of(
    values: Sequence[float], begin: int = 0, model: Model | None = None, settings: ReplaySettings = SETTINGS
) -> Scenario:
    trial = Trial(series_in_steps(values, 60.0), 10.0, begin, begin)
    return Scenario("shop", trial, model or CachedModel(MODELS["baseline"].make()), settings)


def series_in_steps(values: Sequence[float], step: float) -> Series:
    return Series(START, step, np.asarray(values, dtype=float))


def noisy(seed: int, steps: int = 400) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.asarray(200 + 100 * np.sin(np.arange(steps) / 40) + draw.normal(0, 20, steps))


WEEK = 7 * 1440


@functools.cache
def enough_judged() -> PolicyComparison:
    """A thousand minutes after a week, of which a service level of 0.99 allows ten to be short."""
    scenario = scenario_of(noisy(1, WEEK + 1000), begin=WEEK)
    return compare_policies(scenario, policies_to_compare(1.2, swept=False))


def comparison_with(
    kedastral: Sequence[Point], others: dict[str, Sequence[Point]]
) -> tuple[list[PolicyResult], PolicyComparison]:
    """A small comparison whose points are replaced by ``kedastral``'s and ``others``."""
    comparison = enough_judged()
    usual = [attrs.evolve(POINT, knob=0.8)]
    given = {"kedastral": kedastral, "hpa": usual, "last-week": usual, **others}
    replayed = tuple(
        attrs.evolve(one, points=tuple(given.get(one.policy.name, one.points))) for one in comparison.replayed
    )
    comparison = attrs.evolve(comparison, replayed=replayed)
    return results_of(comparison), comparison


@functools.cache
def replayed_steered(minutes: int, before: int) -> PolicyComparison:
    """Every policy at its own setting, Kedastral steered to 0.995, over some minutes after those ``before``."""
    settings = attrs.evolve(SETTINGS, calibrated=True, service_level=0.995)
    scenario = scenario_of(noisy(1, before + minutes), before, model=LastValue(), settings=settings)
    return compare_policies(scenario, policies_to_compare(1.2, 0.995, swept=False))


def judged_steered(
    minutes: int, ours: Sequence[Point], before: int = 0, **marks: bool
) -> tuple[list[PolicyResult], PolicyComparison]:
    """The same, with the given points for Kedastral's levels."""
    held = replayed_steered(minutes, before)
    given = {"kedastral": ours, "hpa": [attrs.evolve(POINT, knob=0.8)]}
    replayed = tuple(attrs.evolve(one, points=tuple(given.get(one.policy.name, one.points))) for one in held.replayed)
    comparison = attrs.evolve(held, replayed=replayed, scenario=attrs.evolve(held.scenario, **marks))
    return results_of(comparison), comparison
