# SPDX-License-Identifier: Apache-2.0
"""`cap_on_load`: the largest load that a plan may cover, from the largest loads of the last two weeks; pure.

An unannounced jump widens the margin, and minutes short of pods raise the steering factor. Both multiply a forecast
that may already be high, and together they have ordered many times the pods that the largest load ever seen would need.
So a plan covers at most slightly more than the largest load of the last seven days, plus growth if the days are larger
than the week before them. The cap never applies to the current load. If the cap itself leaves minutes short of pods, it
is relaxed: outcomes steer it, as they do the peak hold (`kedastral.core.planning.steering`).
"""

import math

import numpy as np

from kedastral.core.series import DAY, MINUTE, Floats, Series

WEEK = 7
"""Days over which the largest load is taken. Fewer are unsafe: Monday is larger than the weekend."""
CAP_MARGIN = 1.1
"""How far a plan may exceed the largest load of the week. Between 1.0 and 1.2 the cost differs by one percent."""
MAX_GROWTH = 2.0
"""The largest week-over-week growth that the cap allows for."""
MAX_CAP_RELAXATION = 16.0
"""The largest factor by which outcomes relax the cap; at this value the cap has no effect."""
RELAXATION_GROWTH = 1.5
"""A jump that is short of pods for one lead time because of the cap raises the cap by this factor."""
MAX_LOG_CHANGE = 100.0
"""Far beyond the bounds of any feedback: a step of a day that was short of pods must not overflow."""
KNOWN_SHARE = 0.5
"""The share of each day's values that must be known, for every day of the week; with less there is no cap."""


def cap_on_load(history: Series, relaxation: float = 1.0) -> float | None:
    """The largest load to plan for, in units of load; None if less than a whole week is known.

    It is the largest load of the week times `CAP_MARGIN`, times `growth_of_days`, times ``relaxation``. The caller must
    make sure that the cap does not hold back the newest load.
    """
    days = _days_of(history)
    if len(days) < WEEK or (np.isfinite(days[:WEEK]).mean(axis=1) < KNOWN_SHARE).any():
        return None
    largest = np.fmax.reduce(days, axis=1)
    return float(largest[:WEEK].max()) * CAP_MARGIN * growth_of_days(largest) * relaxation


def capped(loads: Floats, cap: float | None) -> Floats:
    """``loads``, each limited to ``cap``."""
    return loads if cap is None else np.minimum(loads, cap)


def growth_of_days(largest: Floats) -> float:
    """How much each day of the last week exceeded the seven days before it: a factor from 1 to `MAX_GROWTH`.

    ``largest[i]`` is the largest load of the day that ended ``i`` days ago, NaN if unknown. The second largest ratio of
    the week counts: two days of growth are a trend, while one may be a spike.
    """
    ratios = [1.0, 1.0]
    for i in range(min(WEEK, len(largest) - 1)):
        before = float(np.fmax.reduce(largest[i + 1 : i + 1 + WEEK]))
        if before > 0:
            ratios.append(float(largest[i]) / before)
    return min(sorted(ratios)[-2], MAX_GROWTH)


def next_relaxation(relaxation: float, minutes: float, budget: float, lead_time: float, *, higher_helps: bool) -> float:
    """``relaxation`` after ``minutes``.

    ``higher_helps`` is set if those minutes were short of pods only because of the cap. ``budget`` is the share of
    minutes that may be short; ``lead_time`` is in seconds.
    """
    change = rate_for_a_jump(RELAXATION_GROWTH, lead_time) * minutes * (higher_helps - budget)
    return scale_within(relaxation, change, 1.0, MAX_CAP_RELAXATION)


def rate_for_a_jump(growth: float, lead_time: float) -> float:
    """How far the logarithm of a feedback value moves per minute short, so that one jump multiplies it by ``growth``.

    A jump is short of pods for one lead time (seconds), and for a minute at least.
    """
    return math.log(growth) / max(lead_time / MINUTE, 1.0)


def scale_within(value: float, log_change: float, lowest: float, highest: float) -> float:
    """``value`` times ``exp(log_change)``, within bounds: how all feedback moves."""
    return min(max(value * math.exp(min(log_change, MAX_LOG_CHANGE)), lowest), highest)


def _days_of(history: Series) -> Floats:
    """The values of up to two weeks, one row per whole day, newest first."""
    steps = max(1, round(DAY / history.step))
    count = min(len(history) // steps, 2 * WEEK)
    return history.values[len(history) - count * steps :].reshape(count, steps)[::-1]
