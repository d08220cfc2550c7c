# SPDX-License-Identifier: Apache-2.0
"""A maximum that is too low leaves no verdict, and a higher one is advised."""

import attrs
import pytest

from kedastral.backtest.comparison import PolicyComparison, compare_policies, policies_to_compare, results_of
from kedastral.backtest.decision import Outlook
from kedastral.backtest.report import write_page
from kedastral.backtest.results import evaluate
from kedastral.backtest.slo import slo_result_of
from kedastral.backtest.tables import rows_of_all
from kedastral.backtest.verdict import NamedSetting, Role, judge
from kedastral.backtest.workloads import Scenario
from kedastral.core.capacity import ReplicaBounds
from tests.backtest.scenarios import LEVELS, LastValue, judged_steered, scenario_of

pytestmark = pytest.mark.slow


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
    assert slo.words.endswith("; with --max 12 Kedastral cannot keep 0.9995 here, only 0.999")
    comparison = with_max(12, peaking(30, in_files=True))
    assert judge(results_of(comparison), [comparison]).words.startswith("max 12 is too low: ")


def test_a_maximum_that_is_too_low_for_less_than_the_error_budget_allows_is_raised_by_the_advice() -> None:
    comparison = with_max(12, peaking(10))
    verdict = judge(results_of(comparison), [comparison])
    assert verdict.outlook is not Outlook.MAX_TOO_LOW
    assert "--max 48" in verdict.flags
    comparison = with_max(0, peaking(100))
    assert judge(results_of(comparison), [comparison]).outlook is not Outlook.MAX_TOO_LOW


def test_a_given_maximum_stays_unless_the_load_needs_more_pods_and_then_the_advice_says_why() -> None:
    for most in (39, 100, 0):
        comparison = with_max(most, peaking(10, gives_max=True))
        verdict = judge(results_of(comparison), [comparison])
        assert f"--max {most}" in verdict.flags
        assert "hence" not in verdict.advice
    comparison = with_max(100, peaking(10))
    assert "--max 57" in judge(results_of(comparison), [comparison]).flags  # 45 at a headroom of 1.2, and a quarter
    comparison = with_max(12, peaking(10, gives_max=True))
    verdict = judge(results_of(comparison), [comparison])
    assert "--max 48" in verdict.flags
    assert verdict.advice.endswith(
        " In 10 minutes the load needs more pods than --max 12 allows, up to 38: hence the higher one."
    )
    comparison = with_max(12, peaking(1, gives_max=True, in_files=True))
    verdict = judge(results_of(comparison), [comparison])
    assert "max: 48" in verdict.spec
    assert " In 1 minute the load needs more pods than max 12 allows, up to 38: hence " in verdict.advice


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
