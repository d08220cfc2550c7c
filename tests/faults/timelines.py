# SPDX-License-Identifier: Apache-2.0
"""What KEDA must be told: each answer, and the first second (and a half) in which it is given."""

from collections.abc import Mapping, Sequence

from grpclib.const import Status

from kedastral.core.planning.stale_policy import OnStale

from .pair import BEGIN, DEFAULT_MIN, END, FIRST, HORIZON, LEAD, PEAK_BEGIN, PEAK_END, STALE_AFTER, Told

Points = list[tuple[float, float]]
Timeline = Sequence[tuple[int, Told]]

FLOOR, PEAK, MEASURED, AFTER = 5, 11, 10, 2
"""400 measured last, at 100 a pod and 1.1; 900 expected, at 100 and 1.2; 900 measured; 100 expected after it."""
HELD = Status.UNAVAILABLE.name
SHOWN_FROM = LAST = FIRST
"""The start of the timelines, and the last tick before the fault."""
FRESH_UNTIL, COVERED_UNTIL = round(LAST + STALE_AFTER), round(LAST + HORIZON - LEAD)
PEAK_FROM, PEAK_UNTIL = round(PEAK_BEGIN - LEAD), round(PEAK_END)
FAULT, BACK = round(BEGIN), round(END)

LOST: Mapping[OnStale, Timeline] = {
    OnStale.RIDE_FORECAST: [
        (SHOWN_FROM, FLOOR),
        (PEAK_FROM, PEAK),
        (PEAK_UNTIL, FLOOR),
        (COVERED_UNTIL, HELD),
        (BACK, AFTER),
    ],
    OnStale.ERROR: [(SHOWN_FROM, FLOOR), (FRESH_UNTIL, HELD), (BACK, AFTER)],
    OnStale.DEFAULT_MIN: [(SHOWN_FROM, FLOOR), (FRESH_UNTIL, DEFAULT_MIN), (BACK, AFTER)],
}
"""No new plan: the last plan and its floor by wall clock, until it is stale or no longer covers the lead time."""


UNDISTURBED: Timeline = [
    (SHOWN_FROM, FLOOR),
    (FAULT + 60, AFTER),
    (PEAK_FROM, PEAK),
    (PEAK_UNTIL, MEASURED),
    (PEAK_UNTIL + 60, AFTER),
]
"""As without a fault, under every policy: the plan, and the floor, which follows the load a minute later."""
MODEL_LOST: Mapping[OnStale, Timeline] = {
    OnStale.RIDE_FORECAST: [
        (SHOWN_FROM, FLOOR),
        (PEAK_FROM, PEAK),
        (PEAK_UNTIL, MEASURED),
        (COVERED_UNTIL, HELD),
        (BACK, AFTER),
    ],
    OnStale.ERROR: LOST[OnStale.ERROR],
    OnStale.DEFAULT_MIN: LOST[OnStale.DEFAULT_MIN],
}
"""As without a plan, except for the floor: it rises with the measured load, and does not fall."""
CLOCK_OFF: Mapping[OnStale, Timeline] = {
    OnStale.RIDE_FORECAST: [(SHOWN_FROM, FLOOR), (FAULT, HELD), (BACK, AFTER)],
    OnStale.ERROR: [(SHOWN_FROM, FLOOR), (FAULT, HELD), (BACK, AFTER)],
    OnStale.DEFAULT_MIN: [(SHOWN_FROM, FLOOR), (FAULT, DEFAULT_MIN), (BACK, AFTER)],
}
"""With the clock an hour ahead, the plan is an hour old at once, and Prometheus has no data that new. With the clock an
hour back, the plan is from the future, and the data are an hour old by the Date of the answers.
"""
