# SPDX-License-Identifier: Apache-2.0
"""From zero and back over two nights: recipe "From zero" of docs/keda.md, its times shortened."""

import pytest

from tests.e2e.case import PROMPT, Case
from tests.e2e.load import DAY, Shape
from tests.e2e.recipes import documented, of_case

pytestmark = pytest.mark.e2e
PER_POD, HIGH = 50.0, 600.0
MORNINGS, DAYLIGHT = (140.0, 815.0), 90.0
LEAD, PREWARM, STEP = 60.0, 45.0, 15.0
SHORTER = {"pollingInterval: 30": "pollingInterval: 5", "cooldownPeriod: 300": "cooldownPeriod: 10"}
"""The times of the recipe. The five minutes without load that Kedastral waits for cannot be shortened, nor the ten
minutes after its start in which it uses their largest load."""


def test_from_zero_and_back_over_two_nights(case: Case) -> None:
    # the same every day: a workload that rests more often than a few times a day is never put to sleep
    days = [((at, 0.0), (at + 5, HIGH), (at + DAYLIGHT, HIGH), (at + DAYLIGHT + 5, 0.0)) for at in MORNINGS]
    case.start_load(batch=Shape([(0.0, 0.0), *(point for day in days for point in day)], period=DAY))
    flags = {
        **case.forecast_of("batch", PER_POD, LEAD),
        **PROMPT,
        "min": "0",
        "step": f"{STEP:g}s",
        "prewarm": f"{PREWARM:g}s",
        "up_max_factor": "100",  # by doubling, it would start four steps earlier
        "model": "seasonal-naive",  # four days of a minute and a half are too few for `auto` to learn from
    }
    kedastral = case.start_kedastral(**flags)
    kedastral.wait_for_forecast({"workload": "batch"})
    case.deploy("batch", replicas=0)
    text = of_case(documented()["From zero"], case)
    for long, short in SHORTER.items():
        assert long in text
        text = text.replace(long, short)
    assert case.apply(text) == []
    timeline = case.record("batch", PER_POD, title="From zero", told=lambda: kedastral.told({"workload": "batch"}))
    case.until(MORNINGS[-1] + DAYLIGHT / 2)

    for morning in MORNINGS:
        assert timeline.ready(morning - 1, morning)[-1] >= HIGH / PER_POD, "awake and Ready before the load"
        assert timeline.short_seconds(morning, morning + DAYLIGHT / 2) == 0
    due = MORNINGS[1] - LEAD - PREWARM - STEP
    assert timeline.replicas(due - 15, due - 5)[-1] == 0, "asleep in the second night until it is time"
