# SPDX-License-Identifier: Apache-2.0
"""How traces become trials: the judged part, the load per pod, and the handling of gaps."""

from collections.abc import Sequence

import numpy as np
import pytest

from kedastral.simulation.trial import MetricsPipeline, Scaling, Trial, scale_trace
from tests.simulation.demands import START, series_of

HOUR = 3600.0


def test_the_last_share_is_replayed_and_all_but_its_first_day_judged() -> None:
    # 10 days of hours, 240: the last 30 % are 72, replayed from 168; judged from 168 + 24 = 192
    trial = scale_trace(series_of([1.0] * 240, HOUR))
    assert (trial.begin, trial.judged_from, len(trial.judged)) == (168, 192, 48)
    assert trial.judged.start == trial.demand.time_at(192)
    half = scale_trace(series_of([1.0] * 240, HOUR), Scaling(evaluated=0.5, warm_up=2 * 86400.0))
    assert (half.begin, half.judged_from) == (120, 168)


def test_a_pod_takes_the_99_9th_percentile_of_the_judged_part_over_40() -> None:
    # judged: 0 .. 1000, 1001 values; the percentile at rank 0.999 * 1000 = 999: 999. What came before does not count
    values = [1e9] * 24 + [float(v) for v in range(1001)]
    trial = scale_trace(series_of(values, HOUR), Scaling(evaluated=1.0))
    assert trial.judged_from == 24
    assert trial.target_per_pod == pytest.approx(999 / 40)
    assert scale_trace(series_of(values, HOUR), Scaling(1.0, peak_pods=200.0)).target_per_pod == pytest.approx(
        999 / 200
    )


def test_gaps_carry_the_last_value_and_leading_gaps_are_cut_off() -> None:
    nan = float("nan")
    trial = scale_trace(series_of([nan, nan, 1, nan, nan, 4, nan]), Scaling(1.0, warm_up=0.0))
    assert trial.demand.values.tolist() == [1, 1, 1, 4, 4]
    assert trial.demand.start == series_of([0]).time_at(2)
    assert trial.measured.tolist() == pytest.approx([1, nan, nan, 4, nan], nan_ok=True)


def test_the_size_of_a_pod_counts_no_gap() -> None:
    # the 99.9th percentile of 1 .. 100 is 1 + 0.999 * 99; if a gap after the 100 carried it, that would be 100
    loads = [float(v) for v in range(1, 101)]
    gappy_trace = series_of([*loads, *[float("nan")] * 50, 1.0])
    size = scale_trace(gappy_trace, Scaling(1.0, warm_up=0.0, peak_pods=1.0)).target_per_pod
    assert size == pytest.approx(float(np.percentile([*loads, 1.0], 99.9)))
    assert size < 100


def gappy(gaps: Sequence[int], judged_from: int = 0, late: float = 0.0) -> Trial:
    """Twelve minutes, of which these had no value."""
    return Trial(series_of([10.0] * 12), 1.0, 0, judged_from, tuple(gaps), MetricsPipeline(late=late))


def left_out(trial: Trial, lead_time: float = 180.0) -> list[int]:
    """The minutes that do not count, from the start of the demand."""
    return (np.flatnonzero(~trial.counted(lead_time)) + trial.judged_from).tolist()


@pytest.mark.parametrize("lead_time", [60.0, 180.0, 7200.0])
def test_without_gaps_every_judged_step_counts(lead_time: float) -> None:
    assert left_out(gappy(()), lead_time) == []
    assert len(gappy((), judged_from=5).counted(lead_time)) == 7


@pytest.mark.parametrize(
    ("gaps", "out"),
    [
        ((2, 3, 4, 5), [2, 3, 4, 5, 6, 7, 8]),  # pods ordered on the value of minute 6 serve from minute 9 on
        ((2,), [2, 5]),  # what served in minutes 3 and 4 was ordered on the values of minutes 0 and 1
        ((10, 11), [10, 11]),
        ((2, 5), [2, 5, 8]),
    ],
)
def test_a_gap_and_the_steps_whose_pods_had_to_be_ordered_in_it_do_not_count(gaps: list[int], out: list[int]) -> None:
    assert left_out(gappy(gaps)) == out


def test_a_gap_just_before_the_judged_part_leaves_its_first_steps_out() -> None:
    trial = gappy((3, 4, 5), judged_from=6)
    assert (trial.gaps, left_out(trial)) == (0, [6, 7, 8])


def test_metrics_that_come_late_prolong_what_a_gap_leaves_out() -> None:
    assert left_out(gappy((2, 3, 4, 5, 6), late=120.0)) == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert left_out(gappy((2, 3, 4), late=60.0), lead_time=90.0) == [2, 3, 4, 5, 6, 7]


def test_gaps_of_a_trace_are_counted_in_its_judged_part() -> None:
    nan = float("nan")
    trial = scale_trace(series_of([nan, 1, nan, 3, 4, nan, 6, nan]), Scaling(0.5, warm_up=0.0))
    assert (trial.gap_steps, trial.judged_from, trial.gaps) == ((1, 4, 6), 3, 2)
    assert trial.known.tolist() == [True, False, True, False]


def test_a_trace_that_is_nearly_always_zero_is_scaled_by_its_peak() -> None:
    # one value in 2,000: the 99.9th percentile is 0
    assert scale_trace(series_of([0.0] * 1999 + [80.0]), Scaling(1.0, warm_up=0.0)).target_per_pod == pytest.approx(2.0)


def test_traces_with_nothing_to_judge_are_refused() -> None:
    with pytest.raises(ValueError, match="leave nothing to judge"):
        scale_trace(series_of([1.0] * 60))
    with pytest.raises(ValueError, match="leave nothing to judge"):
        scale_trace(series_of([]), Scaling(warm_up=0.0))
    with pytest.raises(ValueError, match="0 throughout"):
        scale_trace(series_of([0.0] * 60), Scaling(warm_up=0.0))
    with pytest.raises(ValueError, match="0 throughout"):
        scale_trace(series_of([5.0, *[float("nan")] * 59]), Scaling(warm_up=0.0))


def test_impossible_trials_are_refused() -> None:
    for values in ([], [np.nan], [-1.0], [np.inf]):
        with pytest.raises(ValueError, match="demand must hold values"):
            Trial(series_of(values), 1.0)
    with pytest.raises(ValueError, match="judged_from"):
        Trial(series_of([1, 2]), 1.0, begin=1, judged_from=0)
    with pytest.raises(ValueError, match="judged_from"):
        Trial(series_of([1, 2]), 1.0, judged_from=2)
    assert Trial(series_of([1, 2]), 1.0).judged.start == START
