# SPDX-License-Identifier: Apache-2.0
"""The plot of the scripted days can be drawn again, and is the same each time."""

from pathlib import Path

from benchmarks.steering_days import plot, scripted
from tests.core.service_level_runs import drive


def test_the_plot_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    name, load = next(iter(scripted().items()))
    runs = {name: drive(load[:200])}
    for file in ("one.svg", "two.svg"):
        plot({name: load[:200]}, runs, tmp_path / file)

    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert name in (tmp_path / "one.svg").read_text()
