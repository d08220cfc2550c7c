# SPDX-License-Identifier: Apache-2.0
"""Gaps in a history: policies see no load in them, as in production, and neither they nor what follows are judged."""

import csv
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import attrs
import numpy as np
import pytest

from kedastral.backtest.accuracy import forecast_after, forecasts_in_time, measure_accuracy
from kedastral.backtest.charts import charts_of
from kedastral.backtest.comparison import compare_policies, policies_to_compare
from kedastral.backtest.results import WorkloadResults, evaluate
from kedastral.backtest.shortages import explain
from kedastral.backtest.tables import describe_gaps, describe_stale
from kedastral.backtest.to_run import settings_to_run
from kedastral.backtest.workloads import Scenario
from kedastral.core.forecast import Forecast
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.series import Series
from kedastral.simulation.policies import ForecastSchedule, read_history
from kedastral.simulation.trial import View
from tests.backtest.loads import SHORT, call, wave, write_csv
from tests.backtest.scenarios import START, WEEK, LastValue, scenario_of

GAP = tuple(range(100, 160))


def after_a_gap(gap: tuple[int, ...] = GAP) -> Scenario:
    """A load that is ten times as high when a gap of an hour ends, and doubles for a while later."""
    values = np.full(400, 100.0)
    values[160:] = 1000.0
    values[300:] = 2000.0
    scenario = scenario_of(values, begin=50, model=LastValue())
    return attrs.evolve(scenario, trial=attrs.evolve(scenario.trial, gap_steps=gap))


@attrs.define
class Recording:
    """`LastValue` that remembers when it was asked."""

    asked: list[datetime] = attrs.field(factory=list)
    name: str = "recording"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        self.asked.append(made_at)
        return LastValue().forecast(history, made_at, steps)


def results_on(scenario: Scenario) -> WorkloadResults:
    (results,) = evaluate([compare_policies(scenario, policies_to_compare(1.2, swept=False))]).workloads
    return results


def test_the_jump_where_a_gap_ends_is_neither_a_shortage_nor_the_worst_minute() -> None:
    judged, as_load = results_on(after_a_gap()), results_on(after_a_gap(()))
    start = judged.comparison.scenario.trial.demand.time_at
    assert [one.timestamp for one in judged.worst] == [start(300)]
    assert [one.timestamp for one in as_load.worst] == [start(160), start(300)]
    load, worst = charts_of(judged.comparison, judged.policies, judged.accuracy).load
    assert worst.title.startswith(f"Around the worst minute, {start(300):%Y-%m-%d %H:%M}")
    assert [i + 50 for i, value in enumerate(load.lines[0]) if value is None] == list(GAP)
    for ours, theirs in zip(judged.policies, as_load.policies, strict=True):
        assert ours.minutes <= theirs.minutes
    assert [one.minutes for one in judged.policies[:2]] == [5, 5]


def test_no_policy_is_judged_on_more_minutes_than_another() -> None:
    comparison = results_on(after_a_gap()).comparison
    outcomes = [comparison.oracle, *(one.shown for one in comparison.replayed)]
    assert {outcome.counted_minutes for outcome in outcomes} == {350 - 65}
    assert comparison.minutes_not_judged == 65
    assert describe_gaps(comparison) == (
        "60 of 350 judged steps were gaps, in which policies saw no load. 65 of 350 minutes do not count: the gaps, "
        "and the steps whose pods had to be ordered in one"
    )


def test_a_gap_that_ends_where_judging_begins_is_named_too() -> None:
    comparison = results_on(after_a_gap(tuple(range(20, 50)))).comparison
    assert describe_gaps(comparison) == "5.0 of 350 minutes do not count: their pods had to be ordered in a gap before"
    assert describe_gaps(results_on(after_a_gap(())).comparison) == ""


def test_the_accuracy_of_forecasts_is_not_measured_on_values_that_were_never_there() -> None:
    scenario = after_a_gap()
    changed = scenario.trial.demand.values.copy()
    changed[list(GAP[:9])] = 7.0
    demand = attrs.evolve(scenario.trial.demand, values=changed)
    other = attrs.evolve(scenario, trial=attrs.evolve(scenario.trial, demand=demand))
    # the forecast made at minute 80 reaches to 109 and into the gap; the next is made at 110, with an equal last value
    usual, altered = (measure_accuracy(each) for each in (scenario, other))
    assert np.isfinite(usual.model).all()
    assert usual.model.tolist() == altered.model.tolist()
    assert usual.last_value.tolist() == altered.last_value.tolist()


def test_no_forecast_is_made_in_a_gap_once_the_newest_load_is_too_old() -> None:
    scenario = after_a_gap()
    # the newest load, that of minute 99, ends at 100; with a step and --stale-after it is fresh until 103
    made = [ended for ended in range(95, 165) if forecast_after(scenario, ended) is not None]
    assert made == [*range(95, 104), *range(161, 165)]
    forecast = forecast_after(scenario, 161)
    assert forecast is not None
    assert forecast.values[0] == 1000.0
    known = forecasts_in_time(scenario)
    assert np.flatnonzero(np.isnan(known)).tolist() == [i - 50 for i in range(108, 165)]


@pytest.mark.parametrize(("stale_after", "minutes"), [(120.0, range(3, 10)), (599.0, ()), (600.0, ())])
def test_one_missing_step_stops_forecasts_where_stale_after_is_shorter_than_a_step(
    stale_after: float, minutes: Sequence[int]
) -> None:
    """The newest value, of minute 50, may be ``stale_after`` and a step old; that of minute 60 is missing."""
    seen, schedule = np.array([100.0] * 5 + [np.nan]), ForecastSchedule(window=3600.0)
    views = [View(START, 600.0, 60.0 * (60 + minute), seen, 1) for minute in range(10)]
    missing = [minute for minute, view in enumerate(views) if read_history(view, schedule, stale_after) is None]
    assert missing == list(minutes)


@pytest.mark.parametrize(("stale_after", "gap", "told"), [(59.0, GAP, True), (60.0, GAP, False), (59.0, (), False)])
def test_a_stale_after_that_no_missing_step_fits_into_is_told_beside_the_gaps(
    stale_after: float, gap: tuple[int, ...], told: bool
) -> None:
    scenario = after_a_gap(gap)
    serving = attrs.evolve(scenario.settings.serving, stale=StalePolicy(stale_after))
    scenario = attrs.evolve(scenario, settings=attrs.evolve(scenario.settings, serving=serving))
    assert describe_stale(results_on(scenario).comparison) == told * (
        "--stale-after (59s) is shorter than a step of the history (1m), so that one missing step stops forecasts "
        "until the next, here as in run with such a step; from 1m on it does not"
    )


def test_far_end_only_has_the_forecasts_of_kedastral_in_a_gap_too() -> None:
    scenario = after_a_gap()
    stale = StalePolicy(1800.0, OnStale.RIDE_FORECAST)
    serving = attrs.evolve(scenario.settings.serving, stale=stale)
    scenario = attrs.evolve(scenario, settings=attrs.evolve(scenario.settings, serving=serving))
    asked = []
    for name in ("kedastral", "far-end"):
        model = Recording()
        policies = [one for one in policies_to_compare(1.2, swept=False) if one.name == name]
        compare_policies(attrs.evolve(scenario, model=model), policies)
        asked.append(model.asked)
    assert len(asked[0]) == 350 - 31  # for half an hour of the gap its beginning is in the window of 30 minutes
    assert asked[0] == asked[1]


def test_a_gap_a_week_ago_does_not_hold_the_pods_of_the_trigger_on_last_week() -> None:
    load = np.full(2 * WEEK, 100.0)
    load[WEEK + 1000 : WEEK + 1020] = 900.0
    scenario = scenario_of(load, begin=WEEK, model=LastValue())
    scenario = attrs.evolve(scenario, trial=attrs.evolve(scenario.trial, gap_steps=tuple(range(500, 5000))))
    policies = [one for one in policies_to_compare(1.2, swept=False) if one.name in ("hpa", "last-week")]
    hpa, last_week = (one.shown for one in compare_policies(scenario, policies).replayed)
    assert last_week.pod_hours == pytest.approx(hpa.pod_hours)


def test_the_load_that_a_gap_would_carry_counts_for_no_figure_of_the_past() -> None:
    values = np.full(400, 100.0)
    values[140:150] = 300.0  # a peak that no one knows the end of
    gap = tuple(range(141, 200))
    scenario = scenario_of(values, begin=200, model=LastValue())
    scenario = attrs.evolve(scenario, trial=attrs.evolve(scenario.trial, gap_steps=gap))
    assert scenario.past_peak == pytest.approx(np.percentile([*[100.0] * 140, 300.0], 99.9))


def test_the_advised_maximum_counts_no_pods_ordered_for_a_load_that_a_gap_carries() -> None:
    values = np.full(400, 100.0)
    values[99:160] = 300.0
    scenario = scenario_of(values, begin=50, model=LastValue())
    advised = {}
    for gap in ((), tuple(range(100, 160))):
        one = attrs.evolve(scenario, trial=attrs.evolve(scenario.trial, gap_steps=gap))
        comparison = compare_policies(one, policies_to_compare(1.2, swept=False))
        advised[len(gap)] = {flag: value for flag, _, value in settings_to_run(1.2, [comparison])}["--max"]
    # 100 and 300 at 10 a pod, with a headroom of 1.2: 12 and 36 pods, a quarter more
    assert advised == {0: "45", 60: "15"}


def test_a_shortage_is_explained_by_loads_that_were_measured() -> None:
    scenario = after_a_gap(tuple(range(291, 299)))
    values = scenario.trial.demand.values.copy()
    values[291:299] = 1.0  # whatever a gap carries
    demand = attrs.evolve(scenario.trial.demand, values=values)
    scenario = attrs.evolve(scenario, trial=attrs.evolve(scenario.trial, demand=demand))
    outcome = compare_policies(scenario, policies_to_compare(1.2, swept=False)).kedastral.shown
    assert explain(scenario, outcome, 300 - 50).startswith("the load doubled within 1 minute")


@pytest.mark.slow
def test_what_a_gap_leaves_out_is_in_no_output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    values: list[float | None] = list(wave(432))
    values[-60:-50] = [None] * 10
    figures, timeline, page = tmp_path / "figures.json", tmp_path / "timeline.csv", tmp_path / "report.html"
    flags = (*SHORT, "--service-level", "0.95", "--json", figures, "--timeline", timeline, "--report", page)
    ended = call(monkeypatch, "--csv", write_csv(tmp_path / "shop.csv", values), *flags)
    assert ended.code == 0
    (one,) = json.loads(figures.read_text())["workloads"]
    assert (one["gapSteps"], one["minutesNotJudged"], one["slo"]["minutesJudged"]) == (10, 120, 1180 - 120)
    assert "120 of 1,180 minutes do not count" in " ".join(ended.out.split())
    for text in (ended.out, page.read_text()):
        assert "--stale-after (2m) is shorter than a step of the history (10m)" in " ".join(text.split())
    with timeline.open() as file:
        rows = [row for row in csv.DictReader(file) if row["policy"] == "HPA at 80 %"]
    assert len(rows) == 118 - 12
    hpa = next(policy for policy in one["policies"] if policy["policy"] == "hpa")
    assert sum(float(row["ordered"]) for row in rows) / 6 == pytest.approx(hpa["podHours"])
    assert sum(float(row["unserved"]) > 0 for row in rows) * 10 == hpa["violationMinutes"]


@pytest.mark.slow
def test_a_history_of_which_gaps_leave_nothing_to_judge_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values: list[float | None] = list(wave(432))
    values[-121:] = [None if i % 6 in (0, 1, 2) else value for i, value in enumerate(values[-121:])]
    path = write_csv(tmp_path / "shop.csv", values)
    ended = call(monkeypatch, "--csv", path, *SHORT, "--lead-time", "30m")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.endswith(
        "shop: there must be load at judged steps whose pods could be ordered outside a gap; got none, with 58 of 118 "
        "steps missing\n"
    )
