# SPDX-License-Identifier: Apache-2.0
"""How traces become trials: the judged part, the load per pod, and the handling of gaps."""

import numpy as np
import pytest

from kedastral.simulation.trial import Scaling, Trial, scale_trace
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


def test_impossible_trials_are_refused() -> None:
    for values in ([], [np.nan], [-1.0], [np.inf]):
        with pytest.raises(ValueError, match="demand must hold values"):
            Trial(series_of(values), 1.0)
    with pytest.raises(ValueError, match="judged_from"):
        Trial(series_of([1, 2]), 1.0, begin=1, judged_from=0)
    with pytest.raises(ValueError, match="judged_from"):
        Trial(series_of([1, 2]), 1.0, judged_from=2)
    assert Trial(series_of([1, 2]), 1.0).judged.start == START
