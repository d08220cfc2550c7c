# SPDX-License-Identifier: Apache-2.0
"""What a backtest makes of replays: nobody sees the future, the verdict follows the curves, reasons are in words."""

import functools
from collections.abc import Sequence
from datetime import UTC, datetime

import attrs
import numpy as np
import pytest

from kedastral.backtest.comparison import (
    HpaComparison,
    PolicyComparison,
    PolicyResult,
    Rules,
    Scenario,
    compare_policies,
    contestants,
    forecast_in_time,
    measure_accuracy,
    overall,
    standings_of,
)
from kedastral.backtest.shortages import explain, find_worst, say_span, show_load
from kedastral.backtest.verdict import Outlook, SloResult, choose_point, judge, outlook_of, show_percent, slo_result_of
from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.ports import Model
from kedastral.core.series import Series
from kedastral.models import MODELS
from kedastral.simulation.curves import Point
from kedastral.simulation.policies import Remembered
from kedastral.simulation.trial import Trial

START = datetime(2026, 3, 2, tzinfo=UTC)
RULES = Rules(PlanPolicy(headroom=1.2, bounds=ReplicaBounds(1, 400)))
POINT = Point(1.0, 1.2, 0.01, 0.02)
INF = float("inf")


@attrs.frozen
class LastValue:
    name = "last-value"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        return Forecast(made_at, history.step, np.full(steps, history.values[-1]))


def arena_of(values: Sequence[float], begin: int = 0, model: Model | None = None, rules: Rules = RULES) -> Scenario:
    trial = Trial(Series(START, 60.0, np.asarray(values, dtype=float)), 10.0, begin, begin)
    return Scenario("shop", trial, model or Remembered(MODELS["baseline"].make()), rules)


def noisy(seed: int, steps: int = 400) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.asarray(200 + 100 * np.sin(np.arange(steps) / 40) + draw.normal(0, 20, steps))


def test_whoever_takes_part_decides_alike_until_the_future_differs() -> None:
    stabilize = noisy(1)
    wild = stabilize.copy()
    wild[300:] = noisy(2)[300:] * 3
    held = [compare_policies(arena_of(values), contestants(1.2)) for values in (stabilize, wild)]
    for ours, theirs in zip(held[0].entries, held[1].entries, strict=True):
        for one, other in zip(ours.shown.supply.recommended[:299], theirs.shown.supply.recommended[:299], strict=True):
            assert one == other or (np.isnan(one) and np.isnan(other)), ours.contestant.name
    moved = [
        ours.contestant.name
        for ours, theirs in zip(held[0].entries, held[1].entries, strict=True)
        if not np.array_equal(ours.shown.supply.recommended, theirs.shown.supply.recommended, equal_nan=True)
    ]
    assert moved == ["kedastral", "hpa", "far-end", "last-week"]  # the test would notice


def test_a_forecast_in_time_knows_nothing_after_its_lead() -> None:
    stabilize = noisy(1)
    wild = stabilize.copy()
    wild[300:] *= 3
    said = [forecast_in_time(arena_of(values, begin=100)) for values in (stabilize, wild)]
    # pods for step 303 were ordered at the end of step 298 at the latest: lead 5, the newest load seen is 5 before
    assert np.array_equal(said[0][: 305 - 100 - 1], said[1][: 305 - 100 - 1])
    assert not np.array_equal(said[0], said[1])


def test_the_fixed_number_of_pods_comes_from_before_the_replay() -> None:
    contest = compare_policies(arena_of([100.0] * 50 + [1000.0] * 50, begin=50), contestants(1.2, swept=False))
    assert set(contest.entry("fixed").shown.supply.ordered.tolist()[6:]) == {10.0}  # once those of the start are gone


def test_all_settings_are_replayed_and_each_is_told() -> None:
    heard: list[float] = []
    everyone = contestants(1.25)
    contest = compare_policies(arena_of(noisy(1, 60)), everyone, heard.append)
    assert len(heard) == sum(len(one.settings) for one in everyone)
    assert [point.knob for point in contest.entry("kedastral").points][4:6] == [1.25, 1.3]


def test_accuracy_is_told_against_the_last_value() -> None:
    arena = arena_of(noisy(3), begin=60, model=LastValue())
    accuracy = measure_accuracy(arena)
    assert accuracy.ratio == pytest.approx(1.0)
    assert accuracy.ahead.tolist() == [60.0 * (i + 1) for i in range(30)]
    origins = range(60, 400 - 30 + 1, 30)
    values = arena.trial.demand.values
    by_hand = sum(abs(values[at + 4] - values[at - 1]) for at in origins) / sum(values[at + 4] for at in origins)
    assert accuracy.model[4] == pytest.approx(by_hand)


def test_nothing_is_said_of_accuracy_without_load() -> None:
    assert np.isnan(measure_accuracy(arena_of([0.0] * 200, begin=60)).ratio)


def test_a_load_that_doubles_is_the_reason_and_so_is_the_forecast() -> None:
    arena = arena_of([1205.0] * 60 + [1600.0, 2000.0, 2410.0, 2410.0] + [2410.0] * 40, begin=30, model=LastValue())
    outcome = compare_policies(arena, contestants(1.2, swept=False)).entry("kedastral").shown
    assert explain(arena, outcome, 62 - 30) == (
        "the load doubled within 3 minutes; the forecast 5 minutes earlier said 1,205, it came to 2,410"
    )


def test_pods_at_their_maximum_are_the_reason() -> None:
    rules = attrs.evolve(RULES, plan=attrs.evolve(RULES.plan, bounds=ReplicaBounds(1, 5)))
    rules = attrs.evolve(rules, cluster=attrs.evolve(rules.cluster, bounds=ReplicaBounds(1, 5)))
    arena = arena_of([100.0] * 60, begin=30, rules=rules)
    outcome = compare_policies(arena, contestants(1.2, swept=False)).entry("kedastral").shown
    assert {one.reason for one in find_worst(arena, outcome)} == {"all 5 pods that --max allows were there"}
    assert find_worst(arena, outcome)[0].lasted == 30 * 60


def test_the_worst_come_first_and_one_from_each_shortage() -> None:
    values = [100.0] * 200
    for at, height in ((40, 300.0), (80, 900.0), (81, 900.0), (120, 600.0)):
        values[at] = height
    arena = arena_of(values, begin=30, model=LastValue())
    outcome = compare_policies(arena, contestants(1.2, swept=False)).entry("kedastral").shown
    worst = find_worst(arena, outcome, most=2)
    assert [one.load for one in worst] == [900.0, 600.0]
    assert [one.lasted for one in worst] == [120.0, 60.0]


def test_numbers_and_spans_read_well() -> None:
    assert [show_load(load) for load in (2410.4, 99.44, 0.01234)] == ["2,410", "99.4", "0.0123"]
    assert [say_span(seconds) for seconds in (60, 180, 90, 7200)] == ["1 minute", "3 minutes", "1m30s", "2h"]


@pytest.mark.parametrize(
    ("unserved", "violation", "cost", "outlook"),
    [
        (0.5, 0.5, 0.9, Outlook.BETTER),
        (0.5, 1.2, 0.9, Outlook.EVEN),
        (0.95, 0.95, 0.99, Outlook.EVEN),
        (0.95, 0.95, 0.95, Outlook.BETTER),
        (1.0, 1.0, 1.0, Outlook.EVEN),
        (1.0, 1.0 + 9e-16, 0.9, Outlook.BETTER),  # what interpolation leaves of 1
        (1.0 - 3e-16, 1.0, 1.1, Outlook.WORSE),
        (1.05, 1.05, 1.02, Outlook.EVEN),
        (1.05, 1.05, 1.1, Outlook.WORSE),
        (1.3, 1.2, 1.0, Outlook.WORSE),
        (INF, INF, INF, Outlook.WORSE),
    ],
)
def test_the_outlook_follows_the_curves(unserved: float, violation: float, cost: float, outlook: Outlook) -> None:
    assert outlook_of(HpaComparison(unserved, violation, cost)) is outlook


def test_the_cheapest_setting_that_serves_as_well_is_recommended() -> None:
    points = [Point(1.0, 1.0, 0.02, 0.05), Point(1.2, 1.2, 0.01, 0.02), Point(1.5, 1.5, 0.0, 0.0)]
    assert choose_point(points, POINT).knob == 1.2
    assert choose_point(points, attrs.evolve(POINT, violation=0.01)).knob == 1.5
    assert choose_point(points[:2], attrs.evolve(POINT, violation=0.01)).knob == 1.2


@functools.cache
def enough_judged() -> PolicyComparison:
    """A thousand minutes, of which a promise of 0.99 allows ten to be short."""
    return compare_policies(arena_of(noisy(1, 1000)), contestants(1.2, swept=False))


def contest_with(
    kedastral: Sequence[Point], others: dict[str, Sequence[Point]]
) -> tuple[list[PolicyResult], PolicyComparison]:
    """A small contest whose points are replaced by ``kedastral``'s and ``others``."""
    contest = enough_judged()
    usual = [attrs.evolve(POINT, knob=0.8)]
    given = {"kedastral": kedastral, "hpa": usual, "last-week": usual, **others}
    entries = tuple(
        attrs.evolve(entry, points=tuple(given.get(entry.contestant.name, entry.points))) for entry in contest.entries
    )
    contest = attrs.evolve(contest, entries=entries)
    return standings_of(contest), contest


def test_an_hpa_that_does_as_well_is_said_to() -> None:
    standings, contest = contest_with([attrs.evolve(POINT, knob=1.2)], {})
    verdict = judge(standings, [contest])
    assert verdict.outlook is Outlook.EVEN
    assert verdict.words.startswith("A plain HPA at 80 % does as well here, compared at the same cost: ")
    assert verdict.advice.startswith("Nothing is gained by a change; should you run Kedastral all the same, take ")
    assert verdict.flags[:3] == ("--model baseline", "--headroom 1.2", "--lead-time 5m")


def test_what_is_better_is_recommended_with_its_flags() -> None:
    good = [Point(1.1, 1.1, 0.01, 0.02), Point(1.2, 1.2, 0.002, 0.004)]
    standings, contest = contest_with(good, {})
    verdict = judge(standings, [contest])
    assert verdict.outlook is Outlook.BETTER
    assert verdict.advice.startswith("Run Kedastral with --model baseline --headroom 1.1 --lead-time 5m --min 1 --max ")


def test_an_hpa_that_nobody_could_run_is_compared_at_a_lower_utilisation() -> None:
    hpa = [Point(0.5, 1.5, 0.01, 0.03), Point(0.6, 1.3, 0.05, 0.04), Point(0.8, 1.0, 0.1, 0.2)]
    ours = [Point(1.2, 1.0, 0.1, 0.1), Point(1.4, 1.2, 0.01, 0.01)]
    standings, contest = contest_with(ours, {"hpa": hpa})
    verdict = judge(standings, [contest])
    assert verdict.words.startswith(
        "A plain HPA at 80 % is short in 20.0% of the minutes here: neither it nor Kedastral at its pod-hours is "
        "usable at this target. Kedastral does better here than a plain HPA at 60 %, compared at the same "
        "cost: "
    )
    assert "HPA: 4.00%" in verdict.advice


def test_where_no_hpa_could_be_run_that_is_said_first() -> None:
    hpa = [Point(0.5, 1.5, 0.01, 0.06), Point(0.8, 1.0, 0.1, 0.2)]
    standings, contest = contest_with([Point(1.2, 1.0, 0.001, 0.01)], {"hpa": hpa})
    words = judge(standings, [contest]).words
    assert words.startswith(
        "A plain HPA at 80 % is short in 20.0% of the minutes here: it is not usable at this target. "
        "No lower utilisation is either; "
    )


def test_something_simpler_that_serves_far_better_is_remarked_on() -> None:
    fixed = [Point(1.0, 1.3, 0.001, 0.001)]
    standings, contest = contest_with([attrs.evolve(POINT, knob=1.2)], {"fixed": fixed})
    assert judge(standings, [contest]).remark == (
        "Look at a fixed number of pods too: at 1.08 times the pod-hours of the HPA at 80 % it falls short in 0.10% "
        "of the minutes, where Kedastral would in 2.00%."
    )


def test_what_is_cheaper_than_any_setting_of_kedastral_is_not_held_against_it() -> None:
    fixed = [Point(1.0, 1.0, 0.5, 0.5)]
    standings, contest = contest_with([attrs.evolve(POINT, knob=1.2)], {"fixed": fixed})
    assert judge(standings, [contest]).remark == ""


def judged_steered(minutes: int, ours: Sequence[Point], **marks: bool) -> tuple[list[PolicyResult], PolicyComparison]:
    """Kedastral steered to 0.995, with the points given for its levels, over some minutes."""
    rules = attrs.evolve(RULES, calibrated=True, service_level=0.995)
    arena = attrs.evolve(arena_of(noisy(1, minutes), model=LastValue(), rules=rules), **marks)
    held = compare_policies(arena, contestants(1.2, 0.995, swept=False))
    given = {"kedastral": ours, "hpa": [attrs.evolve(POINT, knob=0.8)]}
    entries = tuple(
        attrs.evolve(entry, points=tuple(given.get(entry.contestant.name, entry.points))) for entry in held.entries
    )
    contest = attrs.evolve(held, entries=entries)
    return standings_of(contest), contest


LEVELS = [Point(0.995, 0.9, 0.02, 0.03), Point(0.999, 1.3, 0.001, 0.001)]


def test_the_level_that_was_asked_for_is_advised_whatever_serves_best() -> None:
    standings, contest = judged_steered(2000, LEVELS)
    verdict = judge(standings, [contest])
    assert verdict.flags[1] == "--service-level 0.995"
    assert "To serve as that HPA does as it is set would take a service level of 0.999, at 1.08 times" in verdict.advice


def test_a_policy_of_files_is_advised_by_keys_and_a_made_up_pod_with_caution() -> None:
    standings, contest = judged_steered(2000, LEVELS, in_files=True, sized_by_peak=True)
    verdict = judge(standings, [contest])
    assert verdict.spec[:3] == ("model: last-value", "serviceLevel: 0.995", "leadTime: 5m")
    assert verdict.spec[-1] == "targetPerPod: 10"
    assert ", ".join(verdict.spec) + " in the spec of the ForecastPolicy" in verdict.advice
    assert "--service-level" not in verdict.advice
    assert verdict.advice.endswith("targetPerPod is from the load's peak, not measured on your pods.")


def test_what_is_too_little_to_tell_is_no_verdict() -> None:
    standings, contest = judged_steered(288, [Point(0.995, 1.1, 0.0001, 0.0002)])
    verdict = judge(standings, [contest])
    assert verdict.outlook is Outlook.TOO_LITTLE
    assert verdict.words.startswith(
        "Too little was judged to tell: in 4h48m a promise of 0.995 allows 1.4 minutes short, and for a verdict it "
        "must be 10, which takes 1d9h20m: 2 days of history with this --evaluated and --warm-up. As far as it goes, "
    )
    assert verdict.advice.startswith("Judge more of it before you decide; ")
    standings, contest = judged_steered(2000, [Point(0.995, 1.1, 0.0001, 0.0002)])
    assert judge(standings, [contest]).outlook is Outlook.BETTER


@pytest.mark.parametrize(
    ("cost", "said"),
    [
        (1.1, "Kedastral serves as well here as a plain HPA at 80 %, for fewer pod-hours: "),
        (1.3, "A plain HPA at 80 % serves as well here as Kedastral, for fewer pod-hours: "),
    ],
)
def test_what_serves_alike_is_told_apart_by_cost_alone(cost: float, said: str) -> None:
    standings, contest = contest_with([attrs.evolve(POINT, knob=1.2)], {})
    ours = attrs.evolve(standings[0], comparison=HpaComparison(1.001, 0.999, cost / 1.2))
    assert judge([ours, *standings[1:]], [contest]).words.startswith(said)


def test_a_promise_is_told_with_its_budget() -> None:
    promise = SloResult(0.995, 2880, 33)
    assert promise.words == "0.995 promised, 98.85 % reached: 33 of 2,880 minutes short, budget 14"
    assert not promise.is_kept
    assert SloResult(0.99, 1000, 10).is_kept
    assert show_percent(1 - 1e-6) == "99.99"
    _, contest = judged_steered(288, LEVELS)
    made = slo_result_of(contest)
    assert made == SloResult(0.995, 288, contest.entry("kedastral").shown.violation_minutes)
    assert slo_result_of(enough_judged()) is None


def test_over_workloads_ratios_are_geometric_means_and_hours_are_summed() -> None:
    first, _ = contest_with([Point(1.2, 1.2, 0.005, 0.01)], {})
    second, _ = contest_with([Point(1.2, 1.2, 0.02, 0.04)], {})
    both = overall([first, second])
    assert both[0].comparison.unserved == pytest.approx(1.0)  # sqrt(0.5 * 2)
    assert both[0].comparison.violation == pytest.approx(1.0)
    assert both[0].pod_hours == pytest.approx(2 * first[0].pod_hours)
