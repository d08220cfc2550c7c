# SPDX-License-Identifier: Apache-2.0
"""The contract of every metric source, whatever its implementation."""

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest

from kedastral.adapters.synthetic import SyntheticLoad, SyntheticSource
from kedastral.core.ports import MetricSource
from kedastral.core.series import align_down
from tests.adapters.answers import END, STEP, Server, counting, source_of

POINTS = 30

SOURCES: dict[str, Callable[[], MetricSource]] = {
    "prometheus": lambda: source_of(Server(counting), points=POINTS),
    "prometheus in chunks": lambda: source_of(Server(counting), points=POINTS, points_per_request=7),
    "synthetic": lambda: SyntheticSource(SyntheticLoad(), POINTS * STEP, STEP),
}


@pytest.fixture(params=SOURCES.values(), ids=SOURCES)
def source(request: pytest.FixtureRequest) -> MetricSource:
    made: MetricSource = request.param()
    return made


def test_its_name_is_fit_to_be_a_label(source: MetricSource) -> None:
    assert source.name.isidentifier()


@pytest.mark.parametrize("late", [0.0, 0.001, 59.999])
async def test_the_history_is_a_window_on_the_grid_of_the_step_that_ends_now(source: MetricSource, late: float) -> None:
    now = END + timedelta(seconds=late)
    series = await source.history(now)
    assert len(series) == POINTS
    assert series.step == STEP
    assert series.time_at(POINTS - 1) == align_down(now, STEP)
    assert ((series.values >= 0) | np.isnan(series.values)).all()
    assert series.newest is not None
    assert not series.values.flags.writeable


async def test_the_same_question_has_the_same_answer(source: MetricSource) -> None:
    assert await source.history(END) == await source.history(END)


@pytest.mark.parametrize("minutes", [0.5, 1, 2, 3, 29, 30, 31, 100, 10_000, -1, -2, -29, -30, -100])
async def test_whatever_was_asked_before_the_answer_is_that_of_a_new_source(
    request: pytest.FixtureRequest, source: MetricSource, minutes: float
) -> None:
    another: MetricSource = SOURCES[request.node.callspec.id.partition("-")[0]]()
    await source.history(END)
    now = END + timedelta(minutes=minutes)
    assert await source.history(now) == await another.history(now)


async def test_histories_overlap_in_equal_values(source: MetricSource) -> None:
    first = await source.history(END)
    second = await source.history(END + timedelta(minutes=4))
    np.testing.assert_array_equal(first.values[4:], second.values[:-4])
