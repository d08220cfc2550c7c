# SPDX-License-Identifier: Apache-2.0
"""The hold: how long the pods of a load that has gone are kept, where no factor on a forecast would have been enough.

Load that is on or off for hours, with nothing to announce it, is not met by multiplying a forecast: the load before a
jump says nothing of its size. The largest load of late does. For how long it does is steered as h is (see
`kedastral.core.steering`): minutes short by more than h could have mended, and a longer hold could, lengthen the hold;
all others shorten it, in the ratio at which such minutes alone spend the whole budget. It is at its shortest, and
without any effect, wherever h is enough, or where what comes has not been seen before.
"""

import math

import numpy as np

from kedastral.core.series import Series

SHORTEST_HOLD, LONGEST_HOLD = 300.0, 86400.0
"""The bounds of the hold, in seconds. At the shortest it is not used: less has to be wanted for as long anyway before
it is served. A day at most: what is on at some hours and off at others is so once a day."""
LENGTHENS = 10.0
"""One jump, short of pods for a lead time, makes the hold this many times as long, so that two reach from minutes to
hours: at 0.995 a day has a budget of seven minutes, hardly more. 10 to 60 do alike; twice as long comes too late."""


def next_hold(hold: float, minutes: float, budget: float, lead_time: float, *, returned: bool) -> float:
    """``hold`` after ``minutes`` that were, or were not, short of pods that a longer hold would have kept.

    ``budget`` is the share of minutes that may be short. Once a jump is paid for, its lengthening is gone.
    """
    jump = max(lead_time / 60, 1.0)
    change = math.log(LENGTHENS) * minutes / jump * (returned - budget)
    return min(max(hold * math.exp(change), SHORTEST_HOLD), LONGEST_HOLD)


def held_load(history: Series, hold: float) -> float:
    """The largest load of the last ``hold`` seconds, in units of load; 0 where nothing is held.

    It has to have lasted for two values: one alone may be a mistake of the measurement, and would be held for hours.
    """
    if hold <= SHORTEST_HOLD:
        return 0.0
    recent = history.values[-math.floor(hold / history.step + 1e-9) - 1 :]
    lasting = np.minimum(recent[1:], recent[:-1])
    return float(np.nanmax(lasting, initial=0.0)) if np.isfinite(lasting).any() else 0.0
