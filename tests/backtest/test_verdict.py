# SPDX-License-Identifier: Apache-2.0
"""The verdict follows the curves and says what to run; shortages are explained in words."""

import functools
from collections.abc import Sequence

import attrs
import pytest

from kedastral.backtest.comparison import (
    PolicyComparison,
    PolicyResult,
    compare_policies,
    policies_to_compare,
    results_of,
)
from kedastral.backtest.decision import Outlook, advised_point, decide, find_remarkable
from kedastral.backtest.report import write_page
from kedastral.backtest.results import evaluate
from kedastral.backtest.shortages import explain, find_worst, show_load, show_span
from kedastral.backtest.tables import rows_of_all
from kedastral.backtest.verdict import (
    NamedSetting,
    Role,
    SloResult,
    judge,
    say_cost,
    say_service,
    show_percent,
    slo_result_of,
)
from kedastral.backtest.workloads import Scenario
from kedastral.core.capacity import ReplicaBounds
from kedastral.simulation.curves import Point
from tests.backtest.scenarios import POINT, SETTINGS, LastValue, comparison_with, enough_judged, noisy, scenario_of

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
    assert verdict.advice.startswith("A change gains little; if you run Kedastral all the same, use ")
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
        "An HPA at 80 % is short of pods in 200 of 1,000 minutes, which is too many: the comparison is with an HPA at "
        "60 %, the highest target that works. With 8 % fewer pod-hours than an HPA at 60 %, Kedastral at headroom 1.4 "
    )
    assert "with 10 minutes short (HPA: 40)" in verdict.advice
    assert verdict.named[0] == NamedSetting("hpa", 0.6, Role.COMPARED)


def test_the_verdict_says_first_that_no_hpa_is_usable() -> None:
    hpa = [Point(0.5, 1.5, 0.01, 0.06), Point(0.8, 1.0, 0.1, 0.2)]
    results, comparison = comparison_with([Point(1.2, 1.0, 0.001, 0.01)], {"hpa": hpa})
    words = judge(results, [comparison]).words
    assert words.startswith(
        "An HPA at 80 % is short of pods in 200 of 1,000 minutes, which is too many: the comparison is with an HPA at "
        "50 %; none works, so check the target per pod, the lead time and --max. "
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


@functools.cache
def replayed_steered(minutes: int, before: int) -> PolicyComparison:
    """Every policy at its own setting, Kedastral steered to 0.995, over some minutes after those ``before``."""
    settings = attrs.evolve(SETTINGS, calibrated=True, service_level=0.995)
    scenario = scenario_of(noisy(1, before + minutes), before, model=LastValue(), settings=settings)
    return compare_policies(scenario, policies_to_compare(1.2, 0.995, swept=False))


def judged_steered(
    minutes: int, ours: Sequence[Point], before: int = 0, **marks: bool
) -> tuple[list[PolicyResult], PolicyComparison]:
    """The same, with the given points for Kedastral's levels."""
    held = replayed_steered(minutes, before)
    given = {"kedastral": ours, "hpa": [attrs.evolve(POINT, knob=0.8)]}
    replayed = tuple(attrs.evolve(one, points=tuple(given.get(one.policy.name, one.points))) for one in held.replayed)
    comparison = attrs.evolve(held, replayed=replayed, scenario=attrs.evolve(held.scenario, **marks))
    return results_of(comparison), comparison


LEVELS = [Point(0.995, 0.9, 0.02, 0.03), Point(0.999, 1.3, 0.001, 0.001)]


def test_the_setting_that_serves_as_well_as_today_at_the_least_cost_is_advised() -> None:
    results, comparison = judged_steered(2000, LEVELS)
    verdict = judge(results, [comparison])
    assert verdict.flags[1] == "--service-level 0.999"
    assert verdict.advice.endswith(
        "On this history that takes 8 % more pod-hours than an HPA at 80 %, with 2 minutes short (HPA: 40) and 0.100 % "
        "of the load unserved (HPA: 1.000 %). The service level 0.995 in force takes 25 % fewer pod-hours, with 60 "
        "minutes short."
    )


def test_the_service_level_in_force_stays_where_another_is_no_cheaper() -> None:
    results, comparison = judged_steered(2000, [Point(0.9, 1.0, 0.0, 0.0), Point(0.995, 1.001, 0.0, 0.0)])
    assert judge(results, [comparison]).flags[1] == "--service-level 0.995"


def test_a_headroom_is_advised_where_steering_is_dearer() -> None:
    results, comparison = judged_steered(2000, [*LEVELS, Point(1.1, 1.1, 0.001, 0.001)])
    verdict = judge(results, [comparison])
    assert verdict.flags[1] == "--headroom 1.1"
    assert (
        "A fixed headroom beats steering here: the cheapest service level that serves as well, 0.999, takes 8 % more "
        "pod-hours than the HPA." in verdict.advice
    )
    results, comparison = judged_steered(2000, [*LEVELS[:1], Point(1.1, 1.1, 0.001, 0.001)])
    assert "beats steering here: no service level serves as well." in judge(results, [comparison]).advice


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


def test_without_a_setting_that_serves_as_well_the_service_level_stays() -> None:
    results, comparison = judged_steered(2000, LEVELS[:1])
    verdict = judge(results, [comparison])
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
        "verdict needs 10, which takes 1d9h20m: 2 days of history with this --evaluated and --warm-up. With 8 % "
        "fewer pod-hours than an HPA at 80 %, Kedastral at service level 0.995 "
    )
    assert verdict.advice.startswith("Judge more history before you decide; ")
    results, comparison = judged_steered(2000, [Point(0.995, 1.1, 0.0001, 0.0002)])
    assert judge(results, [comparison]).outlook is Outlook.BETTER


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
        ({0.98: 0.015, 0.99: 0.02, 0.995: 0.02}, f"{SETUP}0.995 cannot be met here, 0.98 can"),
        ({0.98: 0.03, 0.995: 0.02, 0.999: 0.009}, f"{SETUP}0.995 cannot be met here, 0.98 can"),
        ({0.98: 0.03, 0.995: 0.02, 1.2: 0.009}, f"{SETUP}0.995 cannot be met here, 0.98 can"),
        ({0.98: 0.03, 0.995: 0.021}, f"{SETUP}no level that was tried can be met here"),
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
    assert slo_after([attrs.evolve(one, violation=0.02) for one in same]).words.endswith(" met here, 0.98 can")


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


def test_the_reason_names_a_doubled_load_and_the_forecast() -> None:
    scenario = scenario_of(
        [1205.0] * 60 + [1600.0, 2000.0, 2410.0, 2410.0] + [2410.0] * 40, begin=30, model=LastValue()
    )
    outcome = compare_policies(scenario, policies_to_compare(1.2, swept=False)).kedastral.shown
    assert explain(scenario, outcome, 62 - 30) == (
        "the load doubled within 3 minutes; the forecast 5 minutes earlier was 1,205, the load was 2,410"
    )


def test_a_load_that_steps_up_within_a_minute_is_explained_by_that_minute() -> None:
    rest = [0.45, 2.1, 0.0, 1.6, 0.9, 2.4, 1.2, 0.7, 1.1, 2.6]
    scenario = scenario_of([*rest * 6, *[1.4, 600.0, 580.0, 660.0, 590.0], *[600.0] * 40], 30, model=LastValue())
    outcome = compare_policies(scenario, policies_to_compare(1.2, swept=False)).kedastral.shown
    words = "the load rose from 1 to 600 within 1 minute; the forecast 5 minutes earlier was "
    assert explain(scenario, outcome, 61 - 30).startswith(words)
    assert explain(scenario, outcome, 63 - 30).startswith(words)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.0, 600.0], "the load rose from nothing to 600 within 1 minute"),
        ([0.2, 600.0], "the load rose from nothing to 600 within 1 minute"),
        ([0.2, 9.0], "the load rose from 0.2 to 9 within 1 minute"),
        ([100.0, 400.0], "the load grew 4.0 times within 1 minute"),
        ([100.0, 108.0, 116.0, 124.0, 132.0, 140.0], "the load rose by 32 % within 4 minutes"),
    ],
)
def test_a_rise_is_the_shortest_time_in_which_the_load_went_most_of_the_way(values: list[float], said: str) -> None:
    scenario = scenario_of([values[0]] * 60 + values, 30, model=LastValue())
    outcome = compare_policies(scenario, policies_to_compare(1.2, swept=False)).kedastral.shown
    assert explain(scenario, outcome, 60 - 30 + len(values) - 1).startswith(f"{said}; ")


def test_pods_at_their_maximum_are_the_reason() -> None:
    settings = attrs.evolve(SETTINGS, plan=attrs.evolve(SETTINGS.plan, bounds=ReplicaBounds(1, 5)))
    settings = attrs.evolve(settings, cluster=attrs.evolve(settings.cluster, bounds=ReplicaBounds(1, 5)))
    scenario = scenario_of([100.0] * 60, begin=30, settings=settings)
    outcome = compare_policies(scenario, policies_to_compare(1.2, swept=False)).kedastral.shown
    assert {one.reason for one in find_worst(scenario, outcome)} == {"all 5 pods that --max allows were ready"}
    assert find_worst(scenario, outcome)[0].lasted_seconds == 30 * 60


def with_max(most: int, scenario: Scenario) -> PolicyComparison:
    """Every policy at its own setting, with at most so many pods."""
    bounds, settings = ReplicaBounds(1, most), scenario.settings
    settings = attrs.evolve(
        settings,
        plan=attrs.evolve(settings.plan, bounds=bounds),
        cluster=attrs.evolve(settings.cluster, bounds=bounds),
    )
    scenario = attrs.evolve(scenario, settings=settings)
    return compare_policies(scenario, policies_to_compare(1.2, swept=False))


def peaking(minutes: int, **marks: bool) -> Scenario:
    """A load of 375, which needs 38 pods, for some minutes of 1,000, and of 100 before and after."""
    scenario = scenario_of([100.0] * 500 + [375.0] * minutes + [100.0] * (500 - minutes), model=LastValue())
    return attrs.evolve(scenario, **marks)


def test_a_maximum_that_leaves_everyone_short_gives_no_verdict_and_no_advice_but_a_higher_one() -> None:
    comparison = with_max(12, peaking(30))
    verdict = judge(results_of(comparison), [comparison])
    assert verdict.outlook is Outlook.MAX_TOO_LOW
    assert verdict.words == ("--max 12 is too low: the peak needs 38 pods. No verdict; repeat with --max 48.")
    assert verdict.advice == "In 30 of 1,000 minutes the load needs more than 12 pods, so every policy was short."
    assert (verdict.flags, verdict.spec, verdict.remark) == ((), (), "")
    assert verdict.named == (NamedSetting("hpa", 0.8, Role.COMPARED),)
    settings = attrs.evolve(comparison.scenario.settings, service_level=0.9995)
    steered = attrs.evolve(comparison.scenario, settings=settings)
    slo = slo_result_of(attrs.evolve(judged_steered(2000, LEVELS)[1], scenario=steered, oracle=comparison.oracle))
    assert slo is not None
    assert slo.words.endswith("; with --max 12 0.9995 cannot be met here, 0.999 can")
    comparison = with_max(12, peaking(30, in_files=True))
    assert judge(results_of(comparison), [comparison]).words.startswith("max 12 is too low: ")


def test_a_maximum_that_is_too_low_for_less_than_the_error_budget_allows_is_raised_by_the_advice() -> None:
    comparison = with_max(12, peaking(10))
    verdict = judge(results_of(comparison), [comparison])
    assert verdict.outlook is not Outlook.MAX_TOO_LOW
    assert "--max 48" in verdict.flags
    comparison = with_max(0, peaking(100))
    assert judge(results_of(comparison), [comparison]).outlook is not Outlook.MAX_TOO_LOW


def test_one_workload_whose_maximum_is_too_low_leaves_no_joint_verdict() -> None:
    comparisons = [with_max(12, peaking(30)), with_max(12, peaking(5)), with_max(20, peaking(50))]
    results = evaluate(comparisons)
    assert results.verdict is not None
    assert results.verdict.outlook is Outlook.MAX_TOO_LOW
    assert results.verdict.words == "--max is too low for 2 of 3 workloads. No joint verdict."
    assert results.verdict.advice == "Repeat with --max 48 for shop, 48 for shop, a quarter above what each peak needs."
    outlooks = [one.verdict.outlook is Outlook.MAX_TOO_LOW for one in results.workloads]
    assert outlooks == [True, False, True]
    assert rows_of_all(results)
    assert "repeat with --max 48" in write_page(results)


def test_the_worst_come_first_and_one_from_each_shortage() -> None:
    values = [100.0] * 200
    for at, height in ((40, 300.0), (80, 900.0), (81, 900.0), (120, 600.0)):
        values[at] = height
    scenario = scenario_of(values, begin=30, model=LastValue())
    outcome = compare_policies(scenario, policies_to_compare(1.2, swept=False)).kedastral.shown
    worst = find_worst(scenario, outcome, most=2)
    assert [one.demand for one in worst] == [900.0, 600.0]
    assert [one.lasted_seconds for one in worst] == [120.0, 60.0]


def test_numbers_and_spans_read_well() -> None:
    assert [show_load(load) for load in (2410.4, 99.44, 0.01234)] == ["2,410", "99.4", "0.0123"]
    assert [show_span(seconds) for seconds in (60, 180, 90, 7200)] == ["1 minute", "3 minutes", "1m30s", "2h"]
