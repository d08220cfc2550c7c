# SPDX-License-Identifier: Apache-2.0
"""`cap_on_load`: the most load that a plan may cover, from the largest loads of two weeks; pure.

A jump that nothing announced widens the margin, and minutes short of pods raise the safety factor. Both multiply a
forecast that may be high already, and together they have ordered many times the pods of the largest load there ever
was. So a plan covers at most somewhat more than the largest load of the last seven days, and more where the days have
been outgrowing the week before them. The load that is there is never held back. Where the cap itself leaves minutes
short of pods it is relaxed, steered by outcome as the peak hold is (`kedastral.core.planning.steering`).
"""

import math

import numpy as np

from kedastral.core.series import Floats, Series

WEEK = 7
"""Days whose largest load is looked at. A shorter time is unsafe: Monday is larger than the weekend."""
CAP_MARGIN = 1.1
"""How far a plan may go beyond the largest load of the week. With 1.0 to 1.2 the cost differs by a hundredth."""
MAX_GROWTH = 2.0
"""The most growth from one week to the next that is allowed for."""
MAX_CAP_RELAXATION = 16.0
"""The most that outcomes relax the cap by; there it has no effect."""
RELAXATION_GROWTH = 1.5
"""One jump, short of pods for a lead time because of the cap, raises the cap by this factor."""
KNOWN_SHARE = 0.5
"""The share of the values that must be known of each day of the week; with less there is no cap."""
DAY_SECONDS = 86400.0


def cap_on_load(history: Series, relaxation: float = 1.0) -> float | None:
    """The load above which nothing is planned, in units of load; None where a whole week is not known.

    It is the largest load of the week times `CAP_MARGIN`, times `growth_of_days`, times ``relaxation``. The caller sees
    to it that the newest load is not held back.
    """
    days = _days_of(history)
    if len(days) < WEEK or (np.isfinite(days[:WEEK]).mean(axis=1) < KNOWN_SHARE).any():
        return None
    largest = np.fmax.reduce(days, axis=1)
    return float(largest[:WEEK].max()) * CAP_MARGIN * growth_of_days(largest) * relaxation


def capped(loads: Floats, cap: float | None) -> Floats:
    """Each of ``loads`` up to ``cap``."""
    return loads if cap is None else np.minimum(loads, cap)


def growth_of_days(largest: Floats) -> float:
    """How far the days of the last week have outgrown the seven days before each, from 1 to `MAX_GROWTH`.

    ``largest[i]`` is the largest load of the day that ended ``i`` days ago, NaN where none is known. The second largest
    ratio of the week counts: two days of growth are a trend, and one may have been a spike.
    """
    ratios = [1.0, 1.0]
    for i in range(min(WEEK, len(largest) - 1)):
        before = float(np.fmax.reduce(largest[i + 1 : i + 1 + WEEK]))
        if before > 0:
            ratios.append(float(largest[i]) / before)
    return min(sorted(ratios)[-2], MAX_GROWTH)


def next_relaxation(relaxation: float, minutes: float, budget: float, lead_time: float, *, higher_helps: bool) -> float:
    """``relaxation`` after ``minutes``.

    ``higher_helps`` is set where they were short of pods that there would have been without the cap. ``budget`` is the
    share of minutes that may be short; ``lead_time`` is in seconds.
    """
    jump = max(lead_time / 60, 1.0)
    change = math.log(RELAXATION_GROWTH) * minutes / jump * (higher_helps - budget)
    return min(max(relaxation * math.exp(change), 1.0), MAX_CAP_RELAXATION)


def _days_of(history: Series) -> Floats:
    """The values of the last two weeks at most, a row for each whole day, the newest first."""
    steps = max(1, round(DAY_SECONDS / history.step))
    count = min(len(history) // steps, 2 * WEEK)
    return history.values[len(history) - count * steps :].reshape(count, steps)[::-1]
