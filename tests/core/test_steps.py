# SPDX-License-Identifier: Apache-2.0
"""Spans of time as whole steps, by hand-worked numbers."""

import pytest

from kedastral.core.steps import steps_to_serve


@pytest.mark.parametrize(
    ("lead_time", "step", "steps"),
    [
        (60, 60, 1),
        (61, 60, 2),
        (90, 60, 2),
        (120, 60, 2),
        (140, 60, 3),
        (20, 60, 1),
        (0.3, 0.1, 3),
        (180 * (1 + 1e-12), 60, 3),
    ],
)
def test_pods_serve_from_the_first_step_that_begins_once_they_are_ready(
    lead_time: float, step: float, steps: int
) -> None:
    assert steps_to_serve(lead_time, step) == steps
