# SPDX-License-Identifier: Apache-2.0
"""Costs and changes of service read as plain English."""

import pytest

from kedastral.backtest.wording import say_cost, say_service
from kedastral.simulation.curves import Point


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1.0, "the same pod-hours as the HPA"),
        (0.9, "10 % fewer pod-hours than the HPA"),
        (1.1, "10 % more pod-hours than the HPA"),
        (2.5, "2.5 times the pod-hours of the HPA"),
    ],
)
def test_pod_hours_are_compared_in_plain_english(ratio: float, words: str) -> None:
    assert say_cost(ratio, "the HPA") == words
    assert say_cost(ratio) == words.rsplit(" ", 3)[0]


def test_only_changes_in_opposite_directions_are_contrasted() -> None:
    before = Point(0.8, 1.0, 0.01, 0.02)
    for unserved, violation, words in (
        (0.012, 0.05, "multiplied the minutes short of pods by 2.5 and raised the unserved load by 20 %"),
        (0.008, 0.05, "multiplied the minutes short of pods by 2.5 but cut the unserved load by 20 %"),
        (0.0, 0.0, "avoided all minutes short of pods and all unserved load"),
        (0.008, 0.0, "avoided all minutes short of pods and cut the unserved load by 20 %"),
        (0.012, 0.0, "avoided all minutes short of pods but raised the unserved load by 20 %"),
        (0.0, 0.05, "multiplied the minutes short of pods by 2.5 but avoided all unserved load"),
    ):
        assert say_service(Point(1.2, 1.0, unserved, violation), before) == words
