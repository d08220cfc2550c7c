# SPDX-License-Identifier: Apache-2.0
"""`Explanation`: an answer to KEDA taken apart, stage by stage, from load to replicas.

Each stage says what it does to the number that comes from the stage before (`Effect`), so that the stages of an
`Explanation` lead to the answer. A stage after the rounding is a limit: it also says what the answer would be without
it.
"""

import sys
from datetime import datetime
from enum import StrEnum

import attrs

from kedastral.core.explanation.outage import Outage


class StageName(StrEnum):
    """The stages of an answer, in this order."""

    NEWEST_LOAD = "newest-load"
    AGE = "age"
    LEAD_TIME = "lead-time"
    FORECAST = "forecast"
    PREWARM = "prewarm"
    QUANTILE = "quantile"
    PEAK_REGRESSION = "peak-regression"
    STEERING = "steering-factor"
    LOAD_CAP = "load-cap"
    TARGET = "target-per-pod"
    HEADROOM = "headroom"
    REST = "rest"
    ROUNDING = "rounding"
    DEAD_BAND = "dead-band"
    MINIMUM = "min"
    MAXIMUM = "max"
    CHANGE_LIMITS = "change-limits"
    HOLD = "hold"
    FLOOR = "floor"
    RESUMPTION = "resumption"
    STALE = "stale-policy"
    MODE = "mode"


class Unit(StrEnum):
    """The unit of a stage's value."""

    LOAD = "load"
    SECONDS = "s"
    TIMES = "times"
    LOAD_PER_POD = "load per pod"
    PODS = "pods"


class Effect(StrEnum):
    """What a stage does with its own value to the number from the stage before; ``shown`` leaves it unchanged."""

    SHOWN = "shown"
    SETS = "sets"
    TIMES = "times"
    DIVIDES = "divides"
    ROUNDS = "rounds"
    AT_LEAST = "at-least"
    AT_MOST = "at-most"


@attrs.frozen
class Stage:
    """One stage: its own ``value``, its effect, and the ``result``; None means no number.

    ``without`` is the plan's answer if this stage alone were left out; for the stale policy and the mode it is what
    KEDA would be told. None if unknown.
    """

    name: StageName
    effect: Effect
    unit: Unit
    words: str
    value: float | None = None
    result: float | None = None
    without: int | None = None


@attrs.frozen
class Change:
    """What the plan will say from ``at`` on, if no newer forecast comes."""

    at: datetime
    replicas: int


@attrs.frozen
class PlannedStep:
    """One step of the plan, which begins ``at``: its ``load``, the pods that it alone needs, and the pods planned.

    ``upper`` is the upper quantile of the load. ``planned_for`` is the load that the step needs pods for: the quantile
    times the steering factor, up to the cap, or the load times a fixed headroom; None if the plan cannot be made again.
    Both may be below ``load``: the forecast may be too high most of the time, or past peaks may say less.
    """

    at: datetime
    load: float
    upper: float
    needed: int
    replicas: int
    planned_for: float | None = None


@attrs.frozen(kw_only=True)
class Explanation:
    """Why KEDA is told ``told`` (None: an error, so that it holds its replicas) at ``at``; ``sentence`` sums it up.

    ``planned`` is what the plan says, whatever KEDA is told. ``decided_by`` is the last stage that changed the number.
    ``next_change`` is that of the plan, None if its number stays the same to the end. ``largest_at`` is when the
    largest step within the lead time begins: the one that the stages are about. ``outage`` is set while there is no new
    forecast; to be said first.
    """

    workload: str
    at: datetime
    told: int | None = None
    planned: int
    stale: bool
    sentence: str
    decided_by: StageName
    next_change: Change | None = None
    largest_at: datetime
    stages: tuple[Stage, ...]
    plan: tuple[PlannedStep, ...]
    outage: Outage | None = None


LIMITS = frozenset(
    {
        StageName.LOAD_CAP,
        StageName.REST,
        StageName.DEAD_BAND,
        StageName.MINIMUM,
        StageName.MAXIMUM,
        StageName.CHANGE_LIMITS,
        StageName.HOLD,
        StageName.FLOOR,
        StageName.RESUMPTION,
        StageName.STALE,
        StageName.MODE,
    }
)


def apply(effect: Effect, number: float | None, value: float | None) -> float | None:
    """``number`` after ``effect``, never infinite; rounding is left out because it needs the plan's own rule."""
    match effect:
        case Effect.SETS:
            return value
        case Effect.TIMES:
            return None if number is None or value is None else min(number * value, sys.float_info.max)
        case Effect.DIVIDES:
            return None if number is None or value is None else min(number / value, sys.float_info.max)
        case Effect.AT_LEAST:
            return value if number is None else number if value is None else max(number, value)
        case Effect.AT_MOST:
            return number if number is None or value is None else min(number, value)
        case _:
            return number
