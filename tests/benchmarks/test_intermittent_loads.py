# SPDX-License-Identifier: Apache-2.0
"""The made-up loads are what their names say, and the same each time."""

import io

import numpy as np
import pytest
from rich.console import Console

from benchmarks.intermittent_loads import DAY, DAYS, HOUR, JUDGED, PATTERNS, Judged, make_trace, table_of
from kedastral.core.series import Floats
from kedastral.simulation.curves import Point


def runs_of(load: Floats) -> list[tuple[int, int]]:
    """The first minute of each time with load, and its length."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], load > 0, [0]]).astype(int)))
    return [(int(begin), int(end - begin)) for begin, end in edges.reshape(-1, 2)]


@pytest.mark.parametrize("name", PATTERNS)
def test_a_load_is_the_same_each_time_and_at_zero_most_of_the_day(name: str) -> None:
    trace, again = make_trace(name), make_trace(name)

    assert (trace.load.values == again.load.values).all()
    assert (len(trace.load), trace.begin) == (DAYS * DAY, (DAYS - JUDGED) * DAY)
    assert 0.01 < (trace.load.values > 0).mean() < 0.5
    assert (trace.load.values[trace.begin :] > 0).any()


@pytest.mark.parametrize(
    ("name", "begins", "jitter", "length"),
    [
        ("two hours each night, at 03:15", 195, 0, 120),
        ("two hours each night, within ten minutes of 03:15", 195, 10, 120),
        ("an hour each night, within twenty minutes of 02:00", 120, 20, 60),
    ],
)
def test_a_batch_comes_every_night_as_punctually_as_said(name: str, begins: int, jitter: int, length: int) -> None:
    runs = runs_of(make_trace(name).load.values)
    late = [begin % DAY - begins for begin, _ in runs]

    assert len(runs) == DAYS
    assert {each for _, each in runs} == {length}
    assert max(map(abs, late)) <= jitter
    assert len(set(late)) > jitter / 2


def test_hours_of_work_are_those_of_weekdays() -> None:
    runs = runs_of(make_trace("ten hours on weekdays").load.values)

    assert len(runs) == 15
    assert {(begin % DAY, length) for begin, length in runs} == {(8 * HOUR, 10 * HOUR)}


def test_the_table_has_a_line_for_each_level_and_the_figures_of_the_hpa_beside_it() -> None:
    points = {0.99: Point(0.99, 1.17, 0.001, 0.0026), 0.999: Point(0.999, 1.5, 0.0, 0.001, 12)}
    out = io.StringIO()
    Console(file=out, width=140).print(table_of([Judged("batch", 300.0, points, Point(0.8, 1.2, 0.01, 0.005, 34))]))
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.getvalue().splitlines() if "│" in line]

    assert rows == [
        ["batch", "5 min", "0.99", "1.17", "0.26", "0", "1.20", "0.50", "34"],
        ["", "", "0.999", "1.50", "1.00", "12", "1.20", "5.00", "34"],
    ]
