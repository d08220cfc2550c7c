# SPDX-License-Identifier: Apache-2.0
"""The comparison of policies: no policy sees the future, every setting is replayed, errors and means are right."""

import numpy as np
import pytest

from kedastral.backtest.accuracy import forecasts_in_time, measure_accuracy
from kedastral.backtest.charts import charts_of
from kedastral.backtest.comparison import PlannedComparison, average_results, compare_policies, policies_to_compare
from kedastral.backtest.results import evaluate
from kedastral.simulation.curves import Point
from tests.backtest.scenarios import LastValue, comparison_with, noisy, scenario_of

pytestmark = pytest.mark.slow


def test_every_policy_decides_alike_until_the_loads_differ() -> None:
    calm = noisy(1)
    wild = calm.copy()
    wild[300:] = noisy(2)[300:] * 3
    held = [compare_policies(scenario_of(values), policies_to_compare(1.2)) for values in (calm, wild)]
    for ours, theirs in zip(held[0].replayed, held[1].replayed, strict=True):
        for one, other in zip(ours.shown.supply.recommended[:299], theirs.shown.supply.recommended[:299], strict=True):
            assert one == other or (np.isnan(one) and np.isnan(other)), ours.policy.name
    moved = [
        ours.policy.name
        for ours, theirs in zip(held[0].replayed, held[1].replayed, strict=True)
        if not np.array_equal(ours.shown.supply.recommended, theirs.shown.supply.recommended, equal_nan=True)
    ]
    assert moved == ["kedastral", "hpa", "far-end", "last-week"]  # the test would notice


def test_a_replay_that_was_never_short_draws_no_worst_minute() -> None:
    captions = []
    for values in (np.full(400, 500.0), noisy(1)):
        comparison = compare_policies(scenario_of(values), policies_to_compare(1.2, swept=False))
        [results] = evaluate([comparison]).workloads
        load = charts_of(comparison, results.policies, results.accuracy).load
        captions.append([chart.title.partition(",")[0] for chart in load])
    assert captions == [["All that was judged"], ["All that was judged", "Around the worst minute"]]


def test_a_forecast_in_time_sees_no_load_within_its_lead() -> None:
    calm = noisy(1)
    wild = calm.copy()
    wild[300:] *= 3
    said = [forecasts_in_time(scenario_of(values, begin=100)) for values in (calm, wild)]
    # pods for step 303 were ordered at the end of step 298 at the latest: lead 5, the newest load seen is 5 before
    assert np.array_equal(said[0][: 305 - 100 - 1], said[1][: 305 - 100 - 1])
    assert not np.array_equal(said[0], said[1])


def test_the_fixed_number_of_pods_comes_from_before_the_replay() -> None:
    comparison = compare_policies(
        scenario_of([100.0] * 50 + [1000.0] * 50, begin=50), policies_to_compare(1.2, swept=False)
    )
    assert set(comparison.find("fixed").shown.supply.ordered.tolist()[6:]) == {10.0}  # once those of the start are gone


def test_every_setting_is_replayed_and_reported() -> None:
    heard: list[float] = []
    planned = PlannedComparison(scenario_of(noisy(1, 60)), policies_to_compare(1.25))
    comparison = compare_policies(planned.scenario, planned.policies, heard.append)
    assert sum(heard) == pytest.approx(planned.weight)
    assert max(heard) < 1  # moves within a replay, from the first one on
    assert [point.knob for point in comparison.kedastral.points][4:6] == [1.25, 1.3]


def test_accuracy_is_relative_to_the_last_value() -> None:
    scenario = scenario_of(noisy(3), begin=60, model=LastValue())
    accuracy = measure_accuracy(scenario)
    assert accuracy.ratio == pytest.approx(1.0)
    assert accuracy.ahead.tolist() == [60.0 * (i + 1) for i in range(30)]
    origins = range(60, 400 - 30 + 1, 30)
    values = scenario.trial.demand.values
    by_hand = sum(abs(values[at + 4] - values[at - 1]) for at in origins) / sum(values[at + 4] for at in origins)
    assert accuracy.model[4] == pytest.approx(by_hand)


def test_accuracy_is_undefined_without_load() -> None:
    assert np.isnan(measure_accuracy(scenario_of([0.0] * 200, begin=60)).ratio)


def test_over_workloads_ratios_are_geometric_means_and_hours_are_summed() -> None:
    first, _ = comparison_with([Point(1.2, 1.2, 0.005, 0.01)], {})
    second, _ = comparison_with([Point(1.2, 1.2, 0.02, 0.04)], {})
    both = average_results([first, second])
    assert both[0].against_hpa.unserved_at_equal_cost == pytest.approx(1.0)  # sqrt(0.5 * 2)
    assert both[0].against_hpa.violation_at_equal_cost == pytest.approx(1.0)
    assert both[0].pod_hours == pytest.approx(2 * first[0].pod_hours)
