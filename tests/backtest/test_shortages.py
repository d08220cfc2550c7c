# SPDX-License-Identifier: Apache-2.0
"""The worst shortages are found, and explained in words."""

import attrs
import pytest

from kedastral.backtest.comparison import compare_policies, policies_to_compare
from kedastral.backtest.shortages import describe_left, explain, find_worst, show_load, show_span
from kedastral.core.capacity import ReplicaBounds
from tests.backtest.scenarios import SETTINGS, LastValue, scenario_of

pytestmark = pytest.mark.slow


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


def test_the_worst_come_first_and_one_from_each_shortage() -> None:
    values = [100.0] * 200
    for at, height in ((40, 300.0), (80, 900.0), (81, 900.0), (120, 600.0)):
        values[at] = height
    scenario = scenario_of(values, begin=30, model=LastValue())
    outcome = compare_policies(scenario, policies_to_compare(1.2, swept=False)).kedastral.shown
    worst = find_worst(scenario, outcome, most=2)
    assert [one.demand for one in worst] == [900.0, 600.0]
    assert [one.lasted_seconds for one in worst] == [120.0, 60.0]


def jumping(*heights: tuple[int, float]) -> str:
    """What is said of a load of 100 that jumps to some heights, each for two minutes."""
    values = [100.0] * 200
    for at, height in heights:
        values[at : at + 2] = [height] * 2
    scenario = scenario_of(values, begin=30, model=LastValue())
    outcome = compare_policies(scenario, policies_to_compare(1.0, swept=False)).kedastral.shown
    return describe_left(scenario, outcome)


def test_what_is_left_is_told_with_the_surprises_in_it() -> None:
    above = "with a load at least 15 % above the forecast of a lead time before."
    assert jumping() == ""
    assert jumping((40, 300.0)) == f"Kedastral leaves one shortage of 2 minutes, a surprise, {above}"
    assert jumping((40, 111.0)) == (
        "Kedastral leaves one shortage of 2 minutes, no surprise: the load was near the forecast."
    )
    some = "Kedastral leaves 3 shortages, the longest of 2 minutes; "
    assert jumping((40, 300.0), (80, 111.0), (120, 116.0)) == (
        f"{some}2 of them, 4 minutes in all, are surprises, {above}"
    )
    assert jumping((40, 111.0), (80, 111.0), (120, 116.0)) == (
        f"{some}1 of them, 2 minutes in all, is a surprise, {above}"
    )
    assert jumping((40, 111.0), (80, 111.0), (120, 111.0)) == f"{some}none is a surprise."
    assert jumping((40, 300.0), (42, 300.0), (80, 300.0)) == (
        f"Kedastral leaves 2 shortages, the longest of 4 minutes; all are surprises, {above}"
    )
    assert jumping((40, 300.0), (80, 300.0), (120, 300.0)) == f"{some}all are surprises, {above}"


def test_numbers_and_spans_read_well() -> None:
    assert [show_load(load) for load in (2410.4, 99.44, 0.01234)] == ["2,410", "99.4", "0.0123"]
    assert [show_span(seconds) for seconds in (60, 180, 90, 7200)] == ["1 minute", "3 minutes", "1m30s", "2h"]
