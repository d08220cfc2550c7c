# SPDX-License-Identifier: Apache-2.0
"""Spans of time as whole steps, and `WHOLE_WITHIN`, the tolerance within which a number counts as whole."""

import math

WHOLE_WITHIN = 1e-9
"""A result this close (relative) to a whole number counts as that number: 3.0000000001 pods are 3, not 4."""


def steps_within(span: float, step: float) -> int:
    """The number of whole steps of ``step`` seconds in ``span`` seconds; 0 if a step is longer."""
    return math.floor(span / step + WHOLE_WITHIN)


def lead_steps_of(lead_time: float, step: float) -> int:
    """The number of steps that ``[now, now + lead_time]`` overlaps."""
    return steps_within(lead_time, step) + 1


def steps_to_serve(lead_time: float, step: float) -> int:
    """The number of steps from the one whose load orders pods to the first that these pods serve from its begin.

    The pods are ordered at the end of a step, and ``lead_time`` counts from its begin, so it is at least one step.
    """
    return max(1, math.ceil(lead_time / step - WHOLE_WITHIN))
