# SPDX-License-Identifier: Apache-2.0
"""A service level is reported with its error budget, and with the level or setting that would be better."""

from collections.abc import Sequence

import attrs
import pytest

from kedastral.backtest.slo import SloResult, slo_result_of
from kedastral.backtest.wording import show_percent
from kedastral.simulation.curves import Point
from tests.backtest.scenarios import LEVELS, enough_judged, judged_steered

pytestmark = pytest.mark.slow


def test_a_service_level_is_reported_with_its_budget() -> None:
    slo = SloResult(0.995, 2880, 33)
    assert slo.words == "service level 0.995: 98.85 % reached; 33 of 2,880 minutes short, error budget 14"
    assert not slo.is_kept
    assert SloResult(0.99, 1000, 10).is_kept
    assert show_percent(1 - 1e-6) == "99.99"
    _, comparison = judged_steered(288, LEVELS)
    made = slo_result_of(comparison)
    assert made is not None
    assert (made.level, made.judged, made.short) == (0.995, 288, comparison.kedastral.shown.violation_minutes)
    assert slo_result_of(enough_judged()) is None


SETUP = "; with steps of 1m and a lead time of 5m "


def slo_after(ours: Sequence[Point], **marks: bool) -> SloResult:
    """The result at the service level 0.995 in 2,880 minutes, with these points of Kedastral."""
    _, comparison = judged_steered(2000, ours, **marks)
    slo = slo_result_of(comparison)
    assert slo is not None
    return attrs.evolve(slo, judged=2880.0, short=2880 * next(one.violation for one in ours if one.knob == 0.995))


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({0.98: 0.015, 0.99: 0.02, 0.995: 0.02}, f"{SETUP}Kedastral cannot keep 0.995 here, only 0.98"),
        ({0.98: 0.03, 0.995: 0.02, 0.999: 0.009}, f"{SETUP}Kedastral cannot keep 0.995 here, only 0.98"),
        ({0.98: 0.03, 0.995: 0.02, 1.2: 0.009}, f"{SETUP}Kedastral cannot keep 0.995 here, only 0.98"),
        ({0.98: 0.03, 0.995: 0.021}, f"{SETUP}Kedastral can keep no level that was tried"),
        ({0.995: 0.02}, ""),
        ({0.98: 0.01, 0.995: 0.002}, ""),
    ],
)
def test_a_level_that_cannot_be_kept_names_the_one_that_can(shares: dict[float, float], said: str) -> None:
    slo = slo_after([Point(knob, 1.0, share, share) for knob, share in shares.items()])
    assert slo.words.partition(", error budget 14")[2] == said


def test_a_level_that_another_setting_reaches_is_not_called_impossible() -> None:
    missed = Point(0.995, 1.0, 0.1, 15.1 / 2880)
    slo = slo_after([missed, Point(0.999, 1.01, 0.1, 0.004), Point(1.0, 1.005, 0.1, 0.0)])
    assert slo.words.endswith(
        "; 0.995 was missed by 1 minute; --service-level 0.999 would have reached it (99.6 %), for 1 % more pod-hours"
    )
    assert slo.highest_kept == 0.999
    missed = Point(0.995, 1.0, 0.1, 0.02)
    ours = [missed, Point(0.999, 1.1, 0.1, 0.01), Point(1.1, 2.5, 0.1, 0.002)]
    reached = "would have reached it (99.8 %), for 2.5 times the pod-hours"
    assert slo_after(ours).words.endswith(f"; 0.995 was missed by 44 minutes; --headroom 1.1 {reached}")
    assert slo_after(ours, in_files=True).words.endswith(f"; headroom: 1.1 {reached}")


def test_levels_that_give_the_same_result_as_the_one_that_is_kept_are_told() -> None:
    same = [Point(level, 1.0, 0.1, 0.002) for level in (0.98, 0.99, 0.995)]
    other = Point(0.999, 1.0, 0.1, 0.001)
    assert slo_after([*same, other]).words.endswith("; levels from 0.98 to 0.995 give the same result here")
    assert slo_after([attrs.evolve(one, violation=0.02) for one in same]).words.endswith(" keep 0.995 here, only 0.98")


@pytest.mark.parametrize(
    ("ours", "stricter", "said"),
    [
        (
            Point(0.995, 1.6, 0.05, 0.004),
            Point(0.999, 4.1, 0.05, 0.004),
            "2.6 times the pod-hours for no fewer minutes short",
        ),
        (
            Point(0.995, 1.0, 0.05, 0.004),
            Point(0.999, 1.6, 0.04, 0.0038),
            "60 % more pod-hours for hardly fewer minutes short and 20 % less unserved load",
        ),
        (Point(0.995, 1.0, 0.05, 0.004), Point(0.999, 1.3, 0.05, 0.004), ""),
        (Point(0.995, 1.0, 0.05, 0.004), Point(0.999, 1.6, 0.05, 0.002), ""),
        (Point(0.995, 1.0, 0.05, 0.004), Point(0.999, 1.6, 0.02, 0.004), ""),
    ],
)
def test_a_stricter_level_that_takes_far_more_for_no_better_service_is_told(
    ours: Point, stricter: Point, said: str
) -> None:
    words = slo_after([ours, stricter]).words.partition(", error budget 14")[2]
    assert words == (f"; 0.999 would take {said}" if said else "")
