# SPDX-License-Identifier: Apache-2.0
"""With less than a week before the judged part there is no trigger on last week's load, and no firm verdict."""

import json
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest

from kedastral.backtest.comparison import LAST_WEEK, RIVALS, PolicyComparison, compare_policies, policies_for
from kedastral.backtest.preconditions import explain_provisional
from kedastral.backtest.report import write_page
from kedastral.backtest.results import BacktestResults, evaluate
from kedastral.backtest.tables import describe_left_out
from kedastral.backtest.verdict import judge
from kedastral.simulation.curves import Point
from kedastral.simulation.hpa import HpaMetric
from kedastral.simulation.policies import LastWeek
from kedastral.simulation.replay import replay
from kedastral.simulation.trial import Scaling, View, scale_trace
from tests.backtest.loads import SHORT, call, wave, write_csv
from tests.backtest.scenarios import LastValue, comparison_with, noisy, scenario_of, series_in_steps
from tests.backtest.test_verdict import LEVELS, judged_steered

WEEK = 7 * 1440


def compared_on(steps: int, before: int) -> PolicyComparison:
    """Every policy that can be compared on ``steps`` minutes after those ``before``, at its own setting."""
    scenario = scenario_of(noisy(1, before + steps), before, model=LastValue())
    return compare_policies(scenario, [attrs.evolve(one, knobs=()) for one in policies_for(scenario)])


def names_of(before: int) -> list[str]:
    return [one.name for one in policies_for(scenario_of(noisy(1, before + 10), before))]


def test_last_weeks_load_is_a_rival_from_a_week_before_the_judged_part_on() -> None:
    assert LAST_WEEK in names_of(WEEK)
    assert LAST_WEEK in names_of(WEEK + 30)
    assert LAST_WEEK not in names_of(WEEK - 1)
    assert [name for name in names_of(0) if name in RIVALS] == ["hpa", "fixed"]


@pytest.mark.parametrize(("days", "compared"), [(4, False), (7.5, False), (8.5, False), (9, True), (14, True)])
def test_the_default_shares_leave_a_week_before_the_judged_part_of_nine_days(days: float, compared: bool) -> None:
    trial = scale_trace(series_in_steps(noisy(1, round(days * 144)), 600.0), Scaling())
    scenario = attrs.evolve(scenario_of([1.0] * 10), trial=trial)
    assert scenario.has_week is compared


def test_a_rival_that_is_compared_has_a_value_at_every_judged_step() -> None:
    seen: list[float | None] = []

    @attrs.frozen
    class Heard:
        name = "heard"
        behavior = LastWeek(10.0).behavior

        def ask(self, view: View) -> Sequence[HpaMetric]:
            asked = LastWeek(10.0).ask(view)
            if view.ended > WEEK:
                seen.extend(metric.value for metric in asked)
            return asked

    scenario = scenario_of(noisy(1, WEEK + 60), WEEK)
    replay(Heard(), scenario.trial)
    assert scenario.has_week
    assert len(seen) == 60
    assert None not in seen


def test_a_missing_rival_is_named_once_in_a_line_and_not_in_the_verdict() -> None:
    short, long = compared_on(1000, WEEK - 1440), compared_on(1000, WEEK)
    said = "last week + HPA is not compared: it needs a week of history before the judged part; got 6d"
    assert describe_left_out(short) == said
    assert describe_left_out(long) == ""
    for comparison, is_there in ((short, False), (long, True)):
        results = evaluate([comparison])
        assert results.verdict is not None
        assert (LAST_WEEK in [one.policy.name for one in results.policies]) is is_there
        assert (f"<p>{said}.</p>" in write_page(results)) is not is_there
        assert "trigger on last week" not in results.verdict.remark


def test_nothing_simpler_means_only_what_was_compared() -> None:
    good = [Point(1.1, 1.1, 0.01, 0.02), Point(1.2, 1.2, 0.00005, 0.004)]
    results, comparison = comparison_with(good, {})
    kept = tuple(one for one in comparison.replayed if one.policy.name != LAST_WEEK)
    words = judge(
        [one for one in results if one.policy.name != LAST_WEEK], [attrs.evolve(comparison, replayed=kept)]
    ).words
    assert words.endswith("Nothing simpler serves as well for less: no HPA at another target, no fixed number of pods.")


def test_workloads_with_and_without_a_week_have_a_joint_verdict_on_what_both_have() -> None:
    results: BacktestResults = evaluate([compared_on(1000, WEEK), compared_on(1000, 0)])
    assert [LAST_WEEK in [one.policy.name for one in each.policies] for each in results.workloads] == [True, False]
    assert [one.policy.name for one in results.policies] == ["kedastral", "hpa", "far-end", "fixed"]
    assert results.verdict is not None
    assert "last week" not in results.verdict.words
    assert results.verdict.provisional.startswith("Provisional: only 1d9h20m were judged, ")


def test_a_verdict_without_a_week_before_it_is_provisional_in_words_advice_and_colour() -> None:
    good = [Point(1.1, 1.1, 0.01, 0.02), Point(1.2, 1.2, 0.00005, 0.004)]
    results, firm = comparison_with(good, {})
    young = attrs.evolve(firm.scenario.trial, begin=WEEK - 1, judged_from=WEEK - 1)
    comparison = attrs.evolve(firm, scenario=attrs.evolve(firm.scenario, trial=young))
    verdict = judge(results, [comparison])
    assert verdict.outlook == "better"
    assert verdict.provisional == (
        "Provisional: only 16h40m were judged, in which a service level of 0.99 allows 10 minutes short, and the model "
        "had seen no whole week before. A firm verdict needs a week of history before the judged part: 9 days in all "
        "with the default --evaluated and --warm-up."
    )
    assert verdict.words.startswith(verdict.provisional + " At the same cost as an HPA at 80 %, ")
    assert verdict.advice.startswith("Try Kedastral with --model baseline --headroom 1.1 ")
    assert ", and judge more history before you rely on it. On this history " in verdict.advice
    assert judge(results, [firm]).provisional == ""
    assert judge(results, [firm]).advice.startswith("Run Kedastral with ")


def test_a_verdict_is_provisional_if_the_advised_level_has_no_budget_to_speak_of() -> None:
    results, comparison = judged_steered(2000, LEVELS, before=WEEK)
    verdict = judge(results, [comparison])
    assert verdict.flags[1] == "--service-level 0.999"
    assert verdict.provisional == (
        "Provisional: only 1d9h20m were judged, in which the advised service level of 0.999 allows 2.0 minutes short. "
        "To tell whether it is kept needs 10, which takes 6d22h40m: 42 days of history with this --evaluated and "
        "--warm-up."
    )
    assert verdict.words.startswith(verdict.provisional)
    assert explain_provisional(0.995, [comparison]) == ""  # ten minutes of 2,000
    assert explain_provisional(1.1, [comparison]) == ""  # a headroom promises no share of minutes


@pytest.mark.slow
def test_three_days_give_a_provisional_verdict_without_last_week_in_every_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    figures, report = tmp_path / "figures.json", tmp_path / "report.html"
    history = write_csv(tmp_path / "shop.csv", wave(432))
    ended = call(monkeypatch, "--csv", history, *SHORT, "--model", "baseline", "--json", figures, "--report", report)
    said = "it needs a week of history before the judged part; got 2d4h20m"
    words = " ".join(ended.out.split())
    assert ended.code == 0
    assert f"last week + HPA is not compared: {said} " in words
    assert "last week" not in words.replace("last week + HPA is not compared", "")
    document = json.loads(figures.read_text())
    (one,) = document["workloads"]
    assert one["leftOut"] == [{"policy": "last-week", "reason": said}]
    assert LAST_WEEK not in [policy["policy"] for policy in one["policies"]]
    assert document["verdict"]["provisional"].startswith("Provisional: only 19h40m were judged, ")
    assert document["verdict"]["provisional"] in words
    page = report.read_text()
    assert f'<section class="verdict {document["verdict"]["outlook"]} provisional"' in page
    assert "<h2>Provisional verdict</h2>" in page


@pytest.mark.slow
def test_nine_days_are_compared_with_last_weeks_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    history = write_csv(tmp_path / "shop.csv", wave(9 * 144))
    flags = ("--step", "10m", "--lead-time", "20m", "--horizon", "1h", "--sync-period", "10m", "--model", "baseline")
    ended = call(monkeypatch, "--csv", history, *flags, "--json", figures)
    assert ended.code == 0
    document = json.loads(figures.read_text())
    (one,) = document["workloads"]
    assert LAST_WEEK in [policy["policy"] for policy in one["policies"]]
    assert "leftOut" not in one
    assert next(each["scaleEvents"] for each in one["policies"] if each["policy"] == LAST_WEEK) > 0
    assert document["verdict"]["provisional"] == ""
