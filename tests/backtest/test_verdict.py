# SPDX-License-Identifier: Apache-2.0
"""The verdict follows the curves and says what to run."""

import attrs
import pytest

from kedastral.backtest.decision import Outlook, advised_point, decide, find_remarkable
from kedastral.backtest.verdict import NamedSetting, Role, judge
from kedastral.simulation.curves import Point
from tests.backtest.scenarios import LEVELS, POINT, comparison_with, judged_steered

pytestmark = pytest.mark.slow


def test_the_cheapest_setting_that_serves_as_well_is_advised() -> None:
    points = [Point(1.0, 1.0, 0.02, 0.05), Point(1.2, 1.2, 0.01, 0.02), Point(1.5, 1.5, 0.0, 0.0)]
    results, _ = comparison_with(points, {})
    assert advised_point(results[0], POINT).knob == 1.2
    assert advised_point(results[0], attrs.evolve(POINT, violation=0.01)).knob == 1.5
    results, _ = comparison_with(points[:2], {})
    assert advised_point(results[0], attrs.evolve(POINT, violation=0.01)).knob == 1.2


def test_the_verdict_says_when_an_hpa_does_as_well() -> None:
    results, comparison = comparison_with([attrs.evolve(POINT, knob=1.2)], {"fixed": DEAR})
    verdict = judge(results, [comparison])
    assert verdict.outlook is Outlook.EVEN
    assert verdict.words == (
        "At the same cost as an HPA at 80 %, Kedastral at headroom 1.2 would have served as well. Nothing simpler "
        "serves as well for less: no HPA at another target, no trigger on last week's load, no fixed number of pods."
    )
    assert verdict.advice.startswith(
        "Stay with the HPA: a change gains little; if you run Kedastral all the same, use "
    )
    assert verdict.named[:2] == (
        NamedSetting("hpa", 0.8, Role.COMPARED),
        NamedSetting("hpa", 0.8, Role.ADVISED),
    )
    assert NamedSetting("kedastral", 1.2, Role.IF_KEDASTRAL) in verdict.named
    assert verdict.flags[:3] == ("--model baseline", "--headroom 1.2", "--lead-time 5m")


def test_a_better_kedastral_is_recommended_with_its_flags() -> None:
    good = [Point(1.1, 1.1, 0.01, 0.02), Point(1.2, 1.2, 0.00005, 0.004)]
    results, comparison = comparison_with(good, {})
    verdict = judge(results, [comparison])
    assert verdict.outlook is Outlook.BETTER
    assert verdict.words.startswith(
        "At the same cost as an HPA at 80 %, Kedastral at headroom 1.2 would have cut the minutes short of pods by "
        "80 % and the unserved load by more than 99 %. For service no worse than that HPA's: 8 % fewer pod-hours, at "
        "headroom 1.1. "
    )
    assert verdict.advice.startswith("Run Kedastral with --model baseline --headroom 1.1 --lead-time 5m --min 1 --max ")


def test_an_unusable_hpa_is_replaced_by_one_at_a_lower_utilisation() -> None:
    hpa = [Point(0.5, 1.5, 0.01, 0.03), Point(0.6, 1.3, 0.05, 0.04), Point(0.8, 1.0, 0.1, 0.2)]
    ours = [Point(1.2, 1.0, 0.1, 0.1), Point(1.4, 1.2, 0.01, 0.01)]
    results, comparison = comparison_with(ours, {"hpa": hpa})
    verdict = judge(results, [comparison])
    assert verdict.words.startswith(
        "With 8 % fewer pod-hours than an HPA at 60 % (at 80 % it is short of pods in 200 of 1,000 minutes), Kedastral "
        "at headroom 1.4 "
    )
    assert "with 10 minutes short (HPA: 40)" in verdict.advice
    assert verdict.named[0] == NamedSetting("hpa", 0.6, Role.COMPARED)


def test_the_verdict_says_that_no_hpa_is_usable() -> None:
    hpa = [Point(0.5, 1.5, 0.01, 0.06), Point(0.8, 1.0, 0.1, 0.2)]
    results, comparison = comparison_with([Point(1.2, 1.0, 0.001, 0.01)], {"hpa": hpa})
    words = judge(results, [comparison]).words
    assert words.startswith(
        "With 33 % fewer pod-hours than an HPA at 50 % (at 80 % it is short of pods in 200 of 1,000 minutes), where no "
        "target works: check the target per pod, the lead time and --max, Kedastral at headroom 1.2 "
    )


def test_a_simpler_policy_that_serves_far_better_is_remarked_on() -> None:
    fixed = [Point(1.0, 1.1, 0.001, 0.001)]
    ours = [Point(1.1, 1.0, 0.01, 0.02), Point(1.2, 1.2, 0.005, 0.01)]
    results, comparison = comparison_with(ours, {"fixed": fixed, "last-week": [Point(0.8, 1.2, 0.0001, 0.0001)]})
    assert decide(results).outlook is Outlook.BETTER
    assert judge(results, [comparison]).remark == (
        "Worth a look: a fixed number of pods (the past peak) leaves at most half of what Kedastral leaves for as many "
        "pod-hours, with 1 minute short for 8 % fewer pod-hours than an HPA at 80 %."
    )


def test_a_policy_cheaper_than_any_setting_of_kedastral_is_not_remarked_on() -> None:
    results, _ = comparison_with([Point(1.2, 1.1, 0.001, 0.002)], {"fixed": [Point(1.0, 1.0, 0.0, 0.0)]})
    assert find_remarkable(results, results[0]) is None


def test_where_nothing_keeps_the_level_the_setting_that_serves_as_well_as_today_is_advised() -> None:
    ours = [Point(0.98, 1.1, 0.01, 0.015), Point(0.995, 1.5, 0.01, 0.012)]
    results, comparison = judged_steered(2000, ours)
    results = [one for one in results if one.policy.name in ("kedastral", "hpa")]
    verdict = judge(results, [comparison])
    assert " No setting of any policy keeps 99.5 % of the minutes. With " in verdict.words
    assert verdict.flags[1] == "--service-level 0.98"
    assert (
        "On this history that takes 8 % fewer pod-hours than an HPA at 80 %, with 30 minutes short (HPA: 40; error "
        "budget: 10) and 1.000 % of the load unserved (HPA: 1.000 %). It aims at less than the 0.995 in force, which "
        "nothing keeps. The service level 0.995 in force takes 25 % more pod-hours, with 24 minutes short. Kedastral "
        "leaves "
    ) in verdict.advice
    results, comparison = judged_steered(2000, LEVELS[:1])
    verdict = judge([one for one in results if one.policy.name in ("kedastral", "hpa")], [comparison])
    assert verdict.flags[1] == "--service-level 0.995"
    assert verdict.outlook is Outlook.WORSE
    assert "No setting of Kedastral serves as well as that HPA." in verdict.words
    assert verdict.advice.startswith("Stay with the HPA; ")


BETTER = [Point(1.1, 1.14, 0.005, 0.01), Point(1.2, 1.3, 0.002, 0.004)]
"""Kedastral's cheapest setting costs 0.95 times the HPA's pod-hours, and serves better."""


def test_another_target_of_the_hpa_that_is_cheaper_is_told() -> None:
    hpa = [attrs.evolve(POINT, knob=0.8), Point(0.95, 0.96, 0.005, 0.01)]
    results, comparison = comparison_with(BETTER, {"hpa": hpa})
    verdict = judge(results, [comparison])
    assert verdict.outlook is Outlook.WORSE
    assert verdict.words == (
        "With 5 % fewer pod-hours than an HPA at 80 %, Kedastral at headroom 1.1 would have cut the minutes short of "
        "pods by 50 % and the unserved load by 50 %. Without Kedastral, an HPA at 95 % serves as well for 20 % fewer "
        "pod-hours."
    )
    assert verdict.advice.startswith(
        "Take an HPA at 95 %, which needs no forecast; if you run Kedastral all the same, use --model baseline "
    )


def test_last_weeks_load_beside_the_hpa_is_a_rival_that_may_be_as_good() -> None:
    week = [attrs.evolve(POINT, knob=0.8), Point(0.9, 1.13, 0.005, 0.01)]
    results, comparison = comparison_with(BETTER, {"last-week": week})
    verdict = judge(results, [comparison])
    assert verdict.outlook is Outlook.EVEN
    assert "a trigger on last week's load beside an HPA at 90 % serves as well for 6 % fewer pod-hours" in verdict.words


def test_flat_load_needs_no_kedastral() -> None:
    fixed = [Point(1.0, 1.0, 0.0, 0.0)]
    results, comparison = comparison_with(BETTER, {"fixed": fixed})
    verdict = judge(results, [comparison])
    assert verdict.outlook is Outlook.WORSE
    assert verdict.words.startswith("The load is flat: you do not need Kedastral. ")
    assert verdict.words.endswith(
        " Without Kedastral, a fixed number of pods (the past peak) serves as well for 17 % fewer pod-hours."
    )
    assert verdict.remark == ""


def test_a_rival_that_is_dearer_changes_nothing() -> None:
    results, comparison = comparison_with(BETTER, {"fixed": [Point(1.0, 1.3, 0.0, 0.0)]})
    verdict = judge(results, [comparison])
    assert verdict.outlook is Outlook.BETTER
    assert "Without Kedastral" not in verdict.words


DEAR = [Point(1.0, 9.0, 0.0, 0.0)]
"""A fixed number of pods that nobody would pay for."""
STARTS = Point(0.8, 1.2, 0.06, 0.02)
"""An HPA that serves the starts of a batch too late."""
ALIKE = attrs.evolve(STARTS, knob=1.2)
WEEK_BEFORE = (Point(0.8, 1.8, 0.0, 0.0), Point(0.85, 1.6, 0.0, 0.0), Point(0.9, 1.5, 0.001, 0.003))


def test_the_only_policy_that_avoids_the_shortages_is_named_with_its_cost() -> None:
    hpa = [STARTS, attrs.evolve(STARTS, knob=0.85, cost=1.14), attrs.evolve(STARTS, knob=0.5, cost=1.9)]
    results, comparison = comparison_with(
        [Point(1.2, 1.3, 0.05, 0.02)], {"hpa": hpa, "last-week": WEEK_BEFORE, "fixed": DEAR}
    )
    verdict = judge(results, [comparison])
    assert verdict.advice.startswith("Take an HPA at 85 %, which needs no forecast; ")
    assert verdict.words.endswith(
        " Without Kedastral, an HPA at 85 % serves as well for 5 % fewer pod-hours. Only a trigger on last week's load "
        "beside an HPA at 85 % avoids the shortages: 0 minutes short instead of 20, for 33 % more pod-hours."
    )
    assert NamedSetting("last-week", 0.85, Role.ONLY) in verdict.named
    week = [attrs.evolve(WEEK_BEFORE[0], violation=0.03), WEEK_BEFORE[2]]
    results, comparison = comparison_with([ALIKE], {"hpa": [STARTS], "last-week": week, "fixed": DEAR})
    assert judge(results, [comparison]).words.endswith(
        "beside an HPA at 90 % avoids most shortages: 3 minutes short instead of 20, for 25 % more pod-hours."
    )


@pytest.mark.parametrize(
    ("ours", "hpa", "week"),
    [
        (Point(1.2, 1.3, 0.05, 0.01), STARTS, WEEK_BEFORE[0]),  # Kedastral avoids half of them, too
        (ALIKE, STARTS, attrs.evolve(WEEK_BEFORE[0], cost=2.5)),  # more than twice the pod-hours
        (ALIKE, STARTS, attrs.evolve(WEEK_BEFORE[0], violation=0.011)),  # more than half of the minutes
        (ALIKE, attrs.evolve(STARTS, violation=0.004), WEEK_BEFORE[0]),  # 4 of 1,000 minutes
        (ALIKE, STARTS, attrs.evolve(WEEK_BEFORE[0], unserved=0.07)),  # more of the load
    ],
)
def test_no_policy_is_named_as_the_only_one_for_too_little_or_too_dear(ours: Point, hpa: Point, week: Point) -> None:
    results, comparison = comparison_with([ours], {"hpa": [hpa], "last-week": [week], "fixed": DEAR})
    assert decide(results, minutes=1000).only is None
    assert " Only " not in judge(results, [comparison]).words


@pytest.mark.parametrize(("unserved", "matters"), [(0.004, False), (0.006, True)])
def test_no_policy_is_named_for_shortages_that_hardly_matter(unserved: float, matters: bool) -> None:
    hpa = attrs.evolve(STARTS, violation=0.004, unserved=unserved)
    results, _ = comparison_with([ALIKE], {"hpa": [hpa], "last-week": WEEK_BEFORE, "fixed": DEAR})
    assert (decide(results, minutes=10_000).only is not None) is matters


def test_advice_for_a_forecastpolicy_has_its_keys_and_a_caution_on_a_derived_target() -> None:
    results, comparison = judged_steered(2000, LEVELS, in_files=True, sized_by_peak=True)
    verdict = judge(results, [comparison])
    assert verdict.spec[:3] == ("model: last-value", "serviceLevel: 0.999", "leadTime: 5m")
    assert verdict.spec[-1] == "targetPerPod: 10"
    assert ", ".join(verdict.spec) + " in the spec of the ForecastPolicy" in verdict.advice
    assert "--service-level" not in verdict.advice
    assert verdict.advice.endswith("targetPerPod comes from the load's peak, not from a measurement on your pods.")


def test_too_little_history_gives_no_verdict() -> None:
    results, comparison = judged_steered(288, [Point(0.995, 1.1, 0.0001, 0.0002)])
    verdict = judge(results, [comparison])
    assert verdict.outlook is Outlook.TOO_LITTLE
    assert verdict.words.startswith(
        "Too little history was judged for a verdict: in 4h48m a service level of 0.995 allows 1.4 minutes short. A "
        "verdict needs 10, which takes 1d9h20m: 2 days of history with this --evaluated and --warm-up. Only Kedastral "
        "keeps 99.5 % of the minutes: at service level 0.995, for "
    )
    assert verdict.advice.startswith("Judge more history before you decide; ")
    results, comparison = judged_steered(2000, [Point(0.995, 1.1, 0.0001, 0.0002)])
    assert judge(results, [comparison]).outlook is Outlook.BETTER
