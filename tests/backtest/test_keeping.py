# SPDX-License-Identifier: Apache-2.0
"""The verdict answers which policy keeps the service level in force for the fewest pod-hours."""

from collections.abc import Sequence

import attrs
import pytest

from kedastral.backtest.decision import Outlook, decide
from kedastral.backtest.keeping import cheapest_that_keeps, find_keeping
from kedastral.backtest.totals import JudgedPoints, summed_points
from kedastral.backtest.verdict import NamedSetting, Role, Verdict, VerdictWords
from kedastral.simulation.curves import Point
from tests.backtest.stored import StoredResults

MISSES = Point(0.8, 1.2, 0.01, 0.02)
"""An HPA at 80 % that misses 0.99: 200 of 10,000 minutes."""
KEEPS = Point(0.7, 1.4, 0.0, 0.005)
OURS = (Point(0.98, 1.0, 0.01, 0.015), Point(0.99, 1.1, 0.001, 0.008), Point(1.2, 1.3, 0.0, 0.0))
DEAR = (Point(1.0, 5.0, 0.0, 0.0),)


def stored(ours: Sequence[Point], level: float = 0.99, **others: Sequence[Point]) -> StoredResults:
    """A workload of 10,000 minutes whose oracle takes 1,000 pod-hours."""
    points = {"kedastral": ours, "hpa": (KEEPS, MISSES), "fixed": DEAR, **others}
    return StoredResults(
        10_000.0, 1000.0, {name.replace("_", "-"): tuple(of_one) for name, of_one in points.items()}, level
    )


def verdict_on(ours: Sequence[Point], level: float = 0.99, **others: Sequence[Point]) -> Verdict:
    return stored(ours, level, **others).write_verdict("FLAGS")


def test_kedastral_keeps_the_level_for_the_fewest_pod_hours() -> None:
    verdict = verdict_on(OURS)
    assert verdict.outlook is Outlook.BETTER
    assert verdict.words == (
        "Kedastral at service level 0.99 keeps 99 % of the minutes for the fewest pod-hours, 1,100: 21 % fewer than an "
        "HPA at 70 % (1,400). With 8 % fewer pod-hours than an HPA at 80 %, Kedastral at service level 0.99 would have "
        "cut the minutes short of pods by 60 % and the unserved load by 90 %."
    )
    assert verdict.advice == (
        "Run Kedastral with FLAGS. On this history that is short of pods in 80 minutes, with an error budget of 100, "
        "and leaves 0.100 % of the load unserved."
    )
    assert verdict.named == (
        NamedSetting("hpa", 0.8, Role.COMPARED),
        NamedSetting("kedastral", 0.99, Role.ADVISED),
        NamedSetting("kedastral", 0.99, Role.NEAR),
        NamedSetting("hpa", 0.7, Role.HPA_KEEPS),
        NamedSetting("hpa", 0.7, Role.BEST_WITHOUT),
    )


WEEK = Point(0.9, 1.0, 0.0, 0.01)
"""A trigger on last week's load beside an HPA at 90 %, which just keeps 0.99."""


def test_a_rival_that_keeps_the_level_for_less_is_advised_first() -> None:
    verdict = verdict_on(OURS, last_week=(MISSES, WEEK))
    assert verdict.outlook is Outlook.WORSE
    assert verdict.words.startswith(
        "A trigger on last week's load beside an HPA at 90 % keeps 99 % of the minutes for the fewest pod-hours, "
        "1,000: 9 % fewer than Kedastral at service level 0.99 (1,100) and 29 % fewer than an HPA at 70 % (1,400). "
    )
    assert verdict.advice == (
        "Take a trigger on last week's load beside an HPA at 90 %, which needs no forecast: 100 minutes short, with an "
        "error budget of 100. If you run Kedastral all the same, use FLAGS: 80 minutes short. The query of last "
        "week's load is max_over_time((QUERY)[30m:1m] offset 6d23h30m), and both triggers have a threshold of 90 % of "
        'what a pod sustains ("Last week\'s load" in docs/keda.md).'
    )
    assert NamedSetting("last-week", 0.9, Role.ADVISED) in verdict.named
    assert NamedSetting("kedastral", 0.99, Role.IF_KEDASTRAL) in verdict.named
    assert Role.BEST_WITHOUT not in {one.role for one in verdict.named}
    rows = [row[0] for row in stored(OURS, last_week=(MISSES, WEEK)).write_rows()]
    assert "last week + HPA at 90 % (advised)" in rows
    assert "kedastral, service level 0.99 (if Kedastral, beside the HPA)" in rows
    assert "HPA at 70 % (cheapest HPA that keeps the level)" in rows


def test_a_rival_that_is_hardly_dearer_is_preferred_and_its_cost_is_told() -> None:
    verdict = verdict_on(OURS, last_week=(MISSES, attrs.evolve(WEEK, cost=1.12)))
    assert verdict.outlook is Outlook.EVEN
    assert verdict.words.startswith(
        "Kedastral at service level 0.99 keeps 99 % of the minutes for the fewest pod-hours, "
    )
    assert verdict.advice.startswith(
        "Take a trigger on last week's load beside an HPA at 90 %, which needs no forecast and takes only 2 % more "
        "pod-hours: 100 minutes short, "
    )
    verdict = verdict_on(OURS, hpa=(attrs.evolve(MISSES, cost=1.1, violation=0.01),))
    assert verdict.words.startswith(
        "An HPA at 80 % keeps 99 % of the minutes for the fewest pod-hours, 1,100: about as many as Kedastral at "
        "service level 0.99 (1,100). "
    )
    assert verdict.advice.startswith("Stay with the HPA, since a change gains little: 100 minutes short, ")


def test_flat_load_is_told_where_a_fixed_number_of_pods_keeps_the_level_for_the_least() -> None:
    verdict = verdict_on(OURS, fixed=(Point(1.0, 1.05, 0.0, 0.0),))
    assert verdict.words.startswith(
        "The load is flat: a fixed number of pods (the past peak) keeps 99 % of the minutes for the fewest pod-hours, "
        "1,050: 5 % fewer than Kedastral at service level 0.99 (1,100) and 25 % fewer than an HPA at 70 % (1,400). "
    )


def test_no_hpa_target_keeps_the_level() -> None:
    verdict = verdict_on(OURS, hpa=(MISSES,))
    assert verdict.words.startswith(
        "Kedastral at service level 0.99 keeps 99 % of the minutes for the fewest pod-hours, 1,100: 78 % fewer than a "
        "fixed number of pods (the past peak) (5,000); no HPA target keeps it. "
    )
    verdict = verdict_on(OURS, hpa=(MISSES,), fixed=(attrs.evolve(MISSES, knob=1.0),))
    assert verdict.words.startswith(
        "Only Kedastral keeps 99 % of the minutes: at service level 0.99, for 1,100 pod-hours. "
    )
    assert verdict.outlook is Outlook.BETTER


MISSING = (Point(0.99, 1.1, 0.01, 0.012), Point(1.2, 1.3, 0.01, 0.011))


def test_kedastral_that_misses_the_level_is_not_advised_without_saying_so() -> None:
    verdict = verdict_on(MISSING)
    assert verdict.outlook is Outlook.WORSE
    assert verdict.words.startswith(
        "An HPA at 70 % keeps 99 % of the minutes for the fewest pod-hours, 1,400; no setting of Kedastral keeps it. "
    )
    assert verdict.advice == (
        "Take an HPA at 70 %, which needs no forecast: 50 minutes short, with an error budget of 100. If you run "
        "Kedastral all the same, use FLAGS: 120 minutes short, which misses 0.99."
    )


def test_a_level_that_only_far_too_many_pods_keep_is_left_to_the_reader() -> None:
    verdict = verdict_on(MISSING, hpa=(MISSES, attrs.evolve(KEEPS, knob=0.1, cost=9.0)))
    assert verdict.advice.startswith(
        "Take a fixed number of pods (the past peak) only if 0.99 is worth 4.2 times the pod-hours of an HPA at 80 %: "
        "0 minutes short, with an error budget of 100. If you run "
    )


def test_nothing_keeps_the_level() -> None:
    verdict = verdict_on(MISSING, hpa=(MISSES,), fixed=(attrs.evolve(MISSES, knob=1.0),))
    assert verdict.words.startswith(
        "No setting of any policy keeps 99 % of the minutes. With 8 % fewer pod-hours than "
    )
    assert "with 120 minutes short (HPA: 200; error budget: 100)" in verdict.advice


def test_with_a_headroom_the_comparison_is_with_the_hpa() -> None:
    compared = decide(attrs.evolve(stored([Point(1.2, 1.1, 0.001, 0.008)]), service_level=None).policies)
    assert compared.keeping is None
    assert not compared.is_by_level


def test_a_lower_level_that_happens_to_keep_a_higher_one_is_named_last() -> None:
    lower, higher = Point(0.98, 1.0, 0.0, 0.009), Point(0.995, 1.2, 0.0, 0.009)
    missed = Point(0.99, 1.1, 0.0, 0.02)
    assert cheapest_that_keeps([lower, missed, higher], 0.99) == higher
    assert cheapest_that_keeps([lower, missed], 0.99) == lower
    assert cheapest_that_keeps([missed], 0.99) is None
    headroom = Point(1.0, 1.1, 0.0, 0.0)
    assert cheapest_that_keeps([lower, missed, higher, headroom], 0.99) == headroom
    in_force = Point(0.99, 1.202, 0.0, 0.0)
    assert cheapest_that_keeps([lower, in_force, higher], 0.99) == in_force


def test_several_workloads_keep_a_level_by_the_sums_of_their_minutes_and_pod_hours() -> None:
    """A geometric mean would hide the one that is short: (0 and 4 % of the minutes) is 0.2 %."""
    small, large = stored(OURS), stored(OURS)
    small.points["hpa"] = (attrs.evolve(KEEPS, violation=0.0), attrs.evolve(MISSES, violation=0.0))
    large.points["hpa"] = (KEEPS, attrs.evolve(MISSES, violation=0.04))
    judged = [
        JudgedPoints(10_000.0, 10.0, small.points),
        JudgedPoints(10_000.0, 1000.0, large.points),
    ]
    policies = small.policies
    sums = summed_points(policies, judged)
    keeping = find_keeping(0.99, sums)
    assert keeping.hpa is not None
    assert keeping.hpa.knob == 0.7
    assert keeping.hpa.cost == pytest.approx(1.4)
    verdict = VerdictWords(decide(policies, sums), judged, steered=True).write(["FLAGS"])
    assert verdict.words.startswith(
        "Kedastral at service level 0.99 keeps 99 % of the minutes of 2 workloads for the fewest pod-hours, 1,111: "
        "21 % fewer than an HPA at 70 % (1,414). "
    )
    assert "is short of pods in 160 minutes, with an error budget of 200" in verdict.advice
