# SPDX-License-Identifier: Apache-2.0
"""What each policy asks for, one view at a time."""

from datetime import datetime, timedelta

import numpy as np
import pytest

from kedastral.core.capacity import PlanPolicy, ReplicaBounds
from kedastral.core.forecast import Forecast
from kedastral.core.planning.stale_policy import OnStale, StalePolicy
from kedastral.core.series import Series
from kedastral.errors import ModelError
from kedastral.simulation.hpa import HpaMetric
from kedastral.simulation.policies import (
    CachedModel,
    FarEndOnly,
    Fixed,
    ForecastSchedule,
    Kedastral,
    LastWeek,
    Oracle,
    Reactive,
    Serving,
)
from kedastral.simulation.trial import BeatsAtSyncs, CombinedTriggers, Policy, View
from tests.simulation.demands import START, LastValue

MINUTE = 60.0
PLAN = PlanPolicy(10.0, headroom=1.0, bounds=ReplicaBounds(1, 400), up_max_factor=100.0, prewarm_steps=0)


def view_of(seen: list[float], now: float | None = None, ordered: int = 1) -> View:
    values = np.asarray(seen, dtype=float)
    return View(START, MINUTE, len(seen) * MINUTE if now is None else now, values, ordered)


def asked(policy: Policy, view: View) -> float | None:
    (metric,) = policy.ask(view)
    return metric.value


class Ramp:
    """Forecasts 10, 20, 30 ... whatever the history."""

    name = "ramp"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        return Forecast(made_at, history.step, 10.0 * np.arange(1, steps + 1))


class Failing:
    """Forecasts once, then fails."""

    name = "failing"

    def __init__(self) -> None:
        self.calls = 0

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        self.calls += 1
        if self.calls > 1:
            raise ModelError("no more", reason="exception")
        return LastValue().forecast(history, made_at, steps)


def test_view_dates_values_by_the_end_of_their_step() -> None:
    view = view_of([1, 2, 3, 4])
    assert view.at == START + timedelta(minutes=4)
    history = view.history(2 * MINUTE)
    assert history.values.tolist() == [3, 4]
    assert (history.start, history.step) == (START + timedelta(minutes=3), MINUTE)
    assert view.history(3600.0).values.tolist() == [1, 2, 3, 4]


def test_reactive_asks_for_the_newest_load_at_its_utilisation() -> None:
    assert Reactive(100.0, 0.8).ask(view_of([500, 240])) == (HpaMetric(240.0, 80.0),)
    assert Reactive(100.0, 0.8).name == "hpa-80"
    assert asked(Reactive(100.0), view_of([500, 240, np.nan])) is None


def test_fixed_asks_for_its_replicas() -> None:
    assert Fixed(7).ask(view_of([500])) == (HpaMetric(7.0, 1.0),)
    assert Fixed(7).name == "fixed-7"


def test_last_week_takes_the_largest_of_the_half_hour_to_come() -> None:
    # a week is 10,080 minutes. 10,100 minutes seen: the next is minute 10,100, a week before it minute 20:
    # the largest of minutes 20 .. 49
    seen = np.zeros(10_100)
    seen[[19, 20, 49, 50]] = [90.0, 30.0, 40.0, 80.0]
    assert LastWeek(100.0, 0.5).ask(view_of(seen.tolist())) == (HpaMetric(40.0, 50.0),)
    seen[21] = 70.0
    assert asked(LastWeek(100.0), view_of(seen.tolist())) == 70.0


def test_last_week_takes_what_is_known_beside_a_gap_and_0_in_one() -> None:
    seen = np.ones(7 * 1440)
    seen[:30] = np.nan
    assert asked(LastWeek(100.0), view_of(seen.tolist())) == 0.0
    seen[7] = 5.0
    assert asked(LastWeek(100.0), view_of(seen.tolist())) == 5.0


def test_last_week_knows_nothing_without_a_week_of_history() -> None:
    # after 10,050 minutes the half hour is minutes -30 .. -1: nothing; one minute later it holds minute 0
    seen = [5.0] + [9.0] * 10_049
    assert asked(LastWeek(100.0), view_of(seen)) is None
    assert asked(LastWeek(100.0), view_of([*seen, 9.0])) == 5.0


def test_together_asks_with_every_trigger() -> None:
    both = CombinedTriggers("both", (Reactive(100.0, 0.5), Fixed(3)))
    assert both.ask(view_of([240])) == [HpaMetric(240.0, 50.0), HpaMetric(3.0)]


def test_oracle_asks_for_the_largest_of_the_next_lead() -> None:
    oracle = Oracle([1, 2, 3, 9, 4, 5], 10.0, 2)
    assert [asked(oracle, view_of([0.0] * ended)) for ended in range(1, 7)] == [3, 9, 9, 5, 5, 5]


def test_kedastral_reads_the_window_and_the_floor() -> None:
    # plan 1, 2, 3, ...; over now .. now + 3 min, four steps: 4. The floor: 22 / 10 * 1.5 = 3.3 -> 4; of 38: 5.7 -> 6
    assert asked(Kedastral(Ramp(), PLAN, serving=Serving(180.0, None)), view_of([22])) == 4
    assert asked(Kedastral(Ramp(), PLAN, serving=Serving(180.0, 1.5)), view_of([22])) == 4
    assert asked(Kedastral(Ramp(), PLAN, serving=Serving(180.0, 1.5)), view_of([38])) == 6
    assert Kedastral(Ramp(), PLAN).name == "kedastral-ramp"


def test_far_end_reads_one_step_and_no_floor() -> None:
    assert (
        asked(FarEndOnly(Ramp(), PLAN, serving=Serving(180.0)), view_of([38])) == 4
    )  # the step that begins at now + 3 min
    assert FarEndOnly(Ramp(), PLAN).name == "far-end-ramp"


def test_far_end_beyond_its_plan_has_no_answer() -> None:
    assert (
        asked(FarEndOnly(Ramp(), PLAN, ForecastSchedule(horizon=180.0), serving=Serving(180.0)), view_of([38])) is None
    )


def test_between_two_ticks_the_old_plan_is_read_on() -> None:
    # a tick every 2 minutes; plan 1, 2, 3, ... of minute 1, read a minute later: steps 1 .. 4 of it, so 5
    policy = Kedastral(Ramp(), PLAN, ForecastSchedule(interval=120.0), Serving(180.0, None))
    assert [asked(policy, view_of([1.0] * ended)) for ended in (1, 2, 3)] == [4, 5, 4]


@pytest.mark.parametrize(
    ("interval", "minutes"),
    [
        (60.0, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (90.0, [1, 3, 4, 6, 7, 9]),  # due at 1, 2.5, 4, 5.5, 7, 8.5
        (30.0, [1, 2, 3, 4, 5, 6, 7, 8, 9]),  # two are due at a time: one tick
        (200.0, [1, 5, 8]),  # due at 1, 4.33, 7.67
    ],
)
def test_ticks_keep_to_their_interval_however_late_the_hpa_asks(interval: float, minutes: list[int]) -> None:
    policy = Kedastral(Ramp(), PLAN, ForecastSchedule(interval=interval), Serving(60.0, None))
    made = []
    for minute in range(1, 10):
        before = policy._ticks.snapshot
        asked(policy, view_of([1.0] * minute))
        made += [minute] if policy._ticks.snapshot is not before else []
    assert made == minutes


def test_a_step_that_no_float_holds_exactly_has_a_tick_each_time() -> None:
    beats = BeatsAtSyncs(0.1)
    assert all(beats.is_due((n + 1) * 0.1) for n in range(1000))
    assert not beats.is_due(100.05)


def test_change_limits_compare_with_what_the_last_plan_wanted_for_now() -> None:
    # at most doubled a step: the first plan is not limited at its first step: 10 / 10 = 1, 1, ...
    # then 80 wants 8, but the last plan wanted 1: max(1 * 2, 2) = 2, then 4, 8, 8: read over four steps: 8; over two: 4
    plan = PlanPolicy(10.0, headroom=1.0, bounds=ReplicaBounds(1, 400), prewarm_steps=0)
    wide, narrow = (Kedastral(LastValue(), plan, serving=Serving(lead, None)) for lead in (180.0, 60.0))
    assert [asked(wide, view_of([10.0])), asked(wide, view_of([10.0, 80.0]))] == [1, 8]
    assert [asked(narrow, view_of([10.0])), asked(narrow, view_of([10.0, 80.0]))] == [1, 4]


def test_a_failing_model_leaves_the_old_plan_until_it_is_stale() -> None:
    # made at minute 1 (60 s); not stale until it is older than 120 s
    for on_stale, answer in ((OnStale.DEFAULT_MIN, 2.0), (OnStale.ERROR, None), (OnStale.RIDE_FORECAST, 5.0)):
        policy = Kedastral(Failing(), PLAN, serving=Serving(180.0, None, StalePolicy(120.0, on_stale, 2)))
        answers = [asked(policy, view_of([50.0] * ended)) for ended in (1, 2, 3, 4)]
        assert answers == [5, 5, 5, answer]


def test_remembered_forecasts_once() -> None:
    model = CachedModel(Failing())
    history = view_of([50.0]).history(600.0)
    first = model.forecast(history, START, 3)
    assert model.forecast(history, START, 3) is first
    for other, steps in ((history, 4), (view_of([50.0, 60.0]).history(600.0), 3)):
        with pytest.raises(ModelError):  # another moment: asks the model again, which fails
            model.forecast(other, START, steps)
    assert model.name == "failing"


def test_impossible_floors_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Serving(reactive_headroom=0.0)
