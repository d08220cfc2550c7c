# SPDX-License-Identifier: Apache-2.0
"""Fewer scale events: noise changes nothing; a plan goes up at once, but down only in large steps and after a delay.

Each tick makes a new plan. Without stabilization, what KEDA is told would follow every small change of the forecast.
If the need differs from the last recommendation by no more than the noise of the load, nothing changes
(`dead_band_of`), under a fixed headroom as well. By service level, `stabilize` also compares the new recommendation
with the last one and with those of the last minutes, much as the HPA's stabilization window does. The newest plan is
read by wall clock until the next one, so a recommendation to keep must stay in the plan for longer than an interval
(`raise_plan`). Time in which nothing was planned, such as an outage of the data source, does not justify fewer pods and
does not count.

After a start or an outage the HPA's own window is empty, and it would follow a lower answer in one step. So the
replicas served before are held until a model's forecast has stood for as long as that window (`Resumption`).

The next plan is compared with the desired replicas before stabilization (`UnstabilizedPlan`). Otherwise the change
limits would apply to replicas that only stabilization had kept.
"""

import math
from collections.abc import Sequence
from datetime import datetime

import attrs
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from kedastral.core.capacity import DeadBand, PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.series import HOUR, NORMAL_MAD, Ints, Series, epoch_seconds, frozen_ints
from kedastral.core.steps import WHOLE_WITHIN

DOWN_TOLERANCE = 0.08
"""A plan lower than the last recommendation by no more than this share changes nothing: a third fewer scale events for
0.3 % more cost. A larger share would keep a steady load above its need for good: 0.12 would preserve the initial
steering factor."""
SMALL_FALL, SMALL_FALL_WINDOW = 0.11, HOUR
"""A fall by no more than this share stops at the maximum of the last ``SMALL_FALL_WINDOW`` seconds: most such falls of
a steady, noisy load are over within the hour. A fall that lasts is followed."""
DOWN_EXTRA = 0.04
"""A larger fall keeps this share more, in whole pods, up to the maximum of the longer window. Otherwise a step up
follows most falls within minutes."""
STABILIZATION_WINDOW = 300.0
"""Seconds for which plans must have recommended less before a scale down, and two intervals at least
(`stabilization_window`); the HPA's default. It saves 40 % of the scale events and costs nothing at the same service
level: load that returns within minutes still finds its pods."""
UP_EXTRA = 0.05
"""A plan that goes up gets this share more, in whole pods. It saves the next few small steps up, and adds nothing below
20 pods."""
NOISE_SPAN, NOISE_VALUES = 1800.0, 12
"""Seconds of load that its noise is measured over, and the fewest values needed."""
RATE_SMOOTHING = 3.0
"""A ``rate(x[5m])`` read each minute deviates from its trend by this many times what its second differences suggest."""
MAX_NOISE = 0.03
"""Noise is limited to this share of the load: keeping pods for the noise of bursts would cost too much."""
NOISE_UP, MAX_NOISE_UP = 3.0, 0.01
"""A need above the last recommendation by no more than this many standard deviations, and no more than this share of
the need, changes nothing. At most one percent of the need is missing, and a rise of 2 % is followed."""
NOISE_DOWN, NOISE_FALL = 1.0, 6.0
"""A need below the last recommendation changes nothing while the largest need of the last minutes is below it by no
more than the first number of standard deviations. A fall by more than the second is not noise: it is followed at
once."""
CONFIRMED_AFTER = 900.0
"""Seconds whose largest load counts as the need of the last minutes. With less, chance scales down too often."""
MISSED_TICKS = 2.0
"""With one tick missed, two plans are this many intervals apart."""
LATE_TICK = 0.5
"""How much later the next tick may be, in intervals: a real one never comes exactly at its time."""
STEP_TOLERANCE = 1e-5
"""As a share of a step: epoch seconds in floating point are exact to about a microsecond."""


@attrs.frozen
class Recommendation:
    """``replicas`` recommended at ``at`` (epoch seconds); the minimum if several fell into one step.

    ``uncapped`` is what it would be without the cap (`kedastral.core.planning.load_cap`), None if that changed nothing.
    """

    at: float
    replicas: int
    uncapped: int | None = None


@attrs.frozen
class Resumption:
    """A start, or the end of an outage, at ``since``. Nothing below ``served`` is recommended for a while.

    ``served`` is what KEDA was last told before; None if unknown. It is over once a model's forecast has stood for
    ``left`` more seconds, or as `continue_resumption` says.
    """

    since: datetime
    served: int | None = None
    left: float = STABILIZATION_WINDOW


def continue_resumption(
    resumption: Resumption, now: datetime, passed: float, horizon: float, *, stood: bool
) -> Resumption | None:
    """``resumption`` at ``now``, ``passed`` seconds after the previous plan; None once it is over.

    ``stood`` says whether the previous plan followed a model's forecast; otherwise its seconds do not count. But a
    model that always fails must not keep pods forever: after a ``horizon`` (seconds) it is over in any case.
    """
    left = resumption.left - passed if stood else resumption.left
    longest = max(horizon, STABILIZATION_WINDOW)
    if left <= 0 or (not stood and (now - resumption.since).total_seconds() > longest):
        return None
    return attrs.evolve(resumption, left=left)


@attrs.frozen
class UnstabilizedPlan:
    """The desired ``replicas`` before stabilization, for each of the steps of ``step`` seconds that begin at ``at``.

    ``at`` is in epoch seconds. Plain numbers, so that it can be stored.
    """

    at: float
    step: float
    replicas: tuple[int, ...]

    @classmethod
    def of(cls, made_at: datetime, step: float, replicas: Ints) -> "UnstabilizedPlan":
        """A plan made at ``made_at``."""
        return cls(epoch_seconds(made_at), step, tuple(replicas.tolist()))

    def desired_at(self, moment: datetime) -> int | None:
        """The replicas that must be Ready at ``moment``; None outside the plan."""
        index = math.floor(self._steps_to(moment) + STEP_TOLERANCE)
        return self.replicas[index] if 0 <= index < len(self.replicas) else None

    def remaining_for(self, forecast: Forecast, bounds: ReplicaBounds) -> Ints:
        """The desired replicas for each step of ``forecast``, within ``bounds``; 0 after the end of the plan.

        If a step overlaps two steps of the plan, the larger one counts.
        """
        begins = self._steps_to(forecast.made_at) + np.arange(len(forecast.values)) * forecast.step / self.step
        first = np.floor(begins + STEP_TOLERANCE).astype(int).clip(0)
        last = np.ceil(begins + forecast.step / self.step - STEP_TOLERANCE).astype(int).clip(0)
        overlaps = (self.replicas[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True))
        return frozen_ints(np.array([bounds.clamp(max(overlap)) if overlap else 0 for overlap in overlaps]))

    def _steps_to(self, moment: datetime) -> float:
        return (epoch_seconds(moment) - self.at) / self.step


@attrs.frozen
class PreviousPlan:
    """What the next plan needs to know about the previous one.

    ``desired`` is how many replicas must be Ready now, before stabilization; ``last_recommendation`` is what KEDA was
    last told. ``model_plan`` is the rest of the last plan that followed a model's forecast, for each step of the new
    plan; a plan that follows the last value instead does not go below it. ``served`` is what a `Resumption` holds, 0
    without one.
    """

    desired: int | None = None
    last_recommendation: int | None = None
    model_plan: Ints | None = None
    served: int = 0


@attrs.frozen
class StabilizedPlan:
    """A plan and its floor. At least ``minimum`` is recommended; 0 if the plan alone decides."""

    replicas: Ints
    floor: int | None
    minimum: int = 0


def recommendation_of(replicas: Ints, floor: int | None, lead_steps: int) -> int:
    """What a plan recommends when it is made, as `kedastral.core.planning.snapshot.replicas_at` reads it."""
    return max(int(replicas[:lead_steps].max()), floor or 0)


@np.errstate(over="ignore", invalid="ignore")  # the noise of a load too large for a float is unknown
def noise_of(history: Series) -> float:
    """The standard deviation of the newest load around its trend, as a share of its mean; 0 if unknown.

    It is the smaller of two robust estimates, each a median of absolute values: the deviation from a straight line,
    which a jump or a bend inflates, and the second differences, which are too small if a rate smooths the load.
    """
    recent = history.values[-max(math.ceil(NOISE_SPAN / history.step), NOISE_VALUES) :]
    known = np.flatnonzero(np.isfinite(recent))
    if len(known) < NOISE_VALUES:
        return 0.0
    values, times = recent[known], known - known.mean()
    mean = values.mean()
    from_line = np.abs(values - mean - times * (times @ values) / (times @ times))
    second_differences = np.abs(np.diff(values, 2)) * (
        RATE_SMOOTHING / math.sqrt(6)
    )  # white noise has second differences sqrt(6) times as large
    noise = NORMAL_MAD * min(np.median(from_line), np.median(second_differences))
    return float(noise / mean) if 0 < mean < math.inf and math.isfinite(noise) else 0.0


def recent_load(history: Series) -> float:
    """The largest load of the last `CONFIRMED_AFTER` seconds; 0 if none is known."""
    recent = history.values[-math.ceil(CONFIRMED_AFTER / history.step) :]
    return float(np.nan_to_num(recent).max(initial=0.0))


def dead_band_of(
    last_recommendation: int | None, policy: PlanPolicy, headroom: float, *, noise: float, recent: float
) -> DeadBand | None:
    """The dead band that keeps ``last_recommendation`` while the need differs from it by no more than noise.

    ``headroom`` multiplies ``recent``, the largest load of the last minutes (`recent_load`); ``noise`` comes from
    `noise_of`. None if nothing has been recommended yet.
    """
    if last_recommendation is None:
        return None
    noise = min(noise, MAX_NOISE)
    return DeadBand(
        policy.bounds.clamp(last_recommendation),
        up=min(NOISE_UP * noise, MAX_NOISE_UP),
        down=NOISE_DOWN * noise,
        fall=NOISE_FALL * noise,
        recent=recent / policy.target_per_pod * headroom,
    )


def stabilize(
    replicas: Ints,
    floor: int | None,
    last_recommendation: int | None,
    recommendations: Sequence[Recommendation],
    bounds: ReplicaBounds,
    interval: float,
) -> StabilizedPlan:
    """A plan and its floor with fewer scale events.

    ``recommendations`` are those of the last hour, before stabilization (`add_recommendations`); the last is that of
    this plan. ``interval`` is the time between two plans in seconds. Down: see `lowest_kept`. Up: at once, plus
    `UP_EXTRA`.
    """
    recommended = recommendations[-1].replicas
    if last_recommendation is None or recommended == last_recommendation:
        return StabilizedPlan(replicas, floor)
    if recommended < last_recommendation:
        lowest = lowest_kept(last_recommendation, recommendations, interval)
        return StabilizedPlan(replicas, floor, bounds.clamp(lowest))
    more = np.minimum(replicas + (replicas * UP_EXTRA).astype(np.int64), bounds.clamp(math.inf))
    if floor is not None and floor > last_recommendation:
        floor = bounds.clamp(floor + math.floor(floor * UP_EXTRA))
    return StabilizedPlan(frozen_ints(np.where(replicas > last_recommendation, more, replicas)), floor)


def lowest_kept(last_recommendation: int, recommendations: Sequence[Recommendation], interval: float) -> int:
    """The fewest replicas that ``last_recommendation`` may fall to now; the other arguments as in `stabilize`.

    A fall by more than `SMALL_FALL` goes to the maximum of the last minutes plus `DOWN_EXTRA`, any other to the maximum
    of the last hour. Falls within `DOWN_TOLERANCE` are not followed.
    """
    minutes = highest_within(recommendations, stabilization_window(interval))
    return _fall_to(last_recommendation, minutes, highest_within(recommendations, SMALL_FALL_WINDOW))


def _fall_to(last_recommendation: int, minutes: int, hour: int) -> int:
    """`lowest_kept`, given the most that was recommended in the last minutes and in the last hour."""
    if minutes < last_recommendation * (1 - SMALL_FALL):
        return min(minutes + math.floor(minutes * DOWN_EXTRA), hour)
    return hour if hour < last_recommendation * (1 - DOWN_TOLERANCE) else last_recommendation


def stabilization_window(interval: float) -> float:
    """Seconds for which plans must have recommended less before a scale down: a single plan never suffices."""
    return max(STABILIZATION_WINDOW, MISSED_TICKS * interval)


def highest_within(recommendations: Sequence[Recommendation], seconds: float) -> int:
    """The most replicas of the ``recommendations`` that are no older than ``seconds`` before the last of them."""
    after = recommendations[-1].at - seconds
    return max(entry.replicas for entry in recommendations if entry.at > after)


def longest_pause(interval: float) -> float:
    """Seconds between two plans up to which one missed tick explains the pause. In a longer one, nothing was known."""
    return (MISSED_TICKS + LATE_TICK) * interval


def steps_to_keep(step: float, interval: float) -> int:
    """How many steps a plan keeps its recommendation for in any case: until after the next tick, even if one fails."""
    return max(math.ceil(MISSED_TICKS * interval / step - WHOLE_WITHIN), 1)


def raise_plan(replicas: Ints, recommendation: int, lead_steps: int, steps: int) -> Ints:
    """``replicas`` raised so that for ``steps`` steps the serving rule reads at least ``recommendation``.

    The rule reads the maximum of ``lead_steps`` steps. The plan keeps its own values up to the last of the first
    ``lead_steps`` steps that is high enough; only the steps after that one are raised.
    """
    high_enough = np.flatnonzero(replicas[:lead_steps] >= recommendation)
    first = int(high_enough[-1]) + 1 if len(high_enough) else 0
    raised = replicas.copy()
    raised[first:steps] = np.maximum(raised[first:steps], recommendation)
    return frozen_ints(raised)


def project_falls(
    replicas: Ints,
    published: Ints,
    recommendation: int,
    recommendations: Sequence[Recommendation],
    lead_steps: int,
    step: float,
    interval: float,
) -> Ints:
    """``published`` raised to what later plans will keep, if all goes on as in ``replicas``, the plan of now.

    At each step the serving rule reads at least what `stabilize` would recommend then. So a fall that will not be
    followed is not announced, and one that will be is announced for its time. ``recommendation`` and
    ``recommendations`` are those of now, the last of these before stabilization; ``step`` is in seconds.
    """
    asked = sliding_window_view(np.pad(replicas, (0, lead_steps - 1)), lead_steps).max(axis=-1)
    if asked.min() >= recommendation:
        return frozen_ints(published)
    now = recommendations[-1].at + np.arange(len(asked)) * step
    at = np.concatenate([[entry.at for entry in recommendations], now[1:]])
    all_asked = np.concatenate([[entry.replicas for entry in recommendations], asked[1:]])

    def highest(seconds: float) -> list[int]:
        counts = (at > now[:, None] - seconds) & (at <= now[:, None])
        return [int(most) for most in np.where(counts, all_asked, 0).max(axis=1)]

    minutes, hour = highest(stabilization_window(max(interval, step))), highest(SMALL_FALL_WINDOW)
    raised, kept = published.copy(), recommendation
    for i, each in enumerate(asked.tolist()[1:], start=1):
        kept = each if each >= kept else _fall_to(kept, minutes[i], hour[i])
        if raised[i : i + lead_steps].max() < kept:
            raised[i] = kept
    return frozen_ints(raised)


def add_recommendations(
    recommendations: Sequence[Recommendation], at: float, interval: float, *replicas: int
) -> tuple[Recommendation, ...]:
    """``recommendations`` of the last `SMALL_FALL_WINDOW` seconds, and new ones of ``replicas`` at ``at``.

    Only their maxima are read, so entries that a later one has reached are dropped. Only time in which plans were made
    counts: a pause of more than one missed tick, or a clock set back, counts as one interval.
    """
    if recommendations:
        passed = at - recommendations[-1].at
        counted = passed if 0 < passed <= longest_pause(interval) else interval
        pause = at - recommendations[-1].at - counted
        recommendations = [Recommendation(entry.at + pause, entry.replicas) for entry in recommendations]
    known = [entry for entry in recommendations if at - SMALL_FALL_WINDOW < entry.at < at]
    kept: list[Recommendation] = []
    for entry in reversed([*known, *(Recommendation(at, each) for each in replicas)]):
        if not kept or entry.replicas > kept[-1].replicas:
            kept.append(entry)
    return tuple(reversed(kept))
