# SPDX-License-Identifier: Apache-2.0
"""The benchmark of a tick's cost measures what it claims."""

import pytest

from benchmarks import tick_cost
from benchmarks.tick_cost import Life, measure, screening_ms
from kedastral.core.data_quality.outliers import ScreenedHistory, screen
from kedastral.core.series import Series


def test_what_a_workload_holds_is_its_history_and_not_much_more() -> None:
    cost = measure(60.0, 3, ticks=2, settling=2)

    history = 3 * 1440 * 8 / 1e6
    assert history < cost.held_mb < history + 0.3
    assert cost.peak_mb > 0
    assert 0 < cost.p50_ms <= cost.p95_ms


def test_every_tick_plans_an_interval_later_from_what_was_learnt() -> None:
    life = Life(60.0, 3)
    life.learn()
    life.read()
    life.tick()

    assert life.snapshot is not None
    assert life.snapshot.made_at == life.now
    assert life.snapshot.status.is_ok
    assert life.snapshot.service_level is not None
    assert life.snapshot.service_level.state.uncertainty.model.windows > 300


def test_telling_outliers_is_part_of_the_tick_and_timed_alone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def counting(history: Series) -> ScreenedHistory:
        screened = screen(history)
        told.append(0 if screened.outliers is None else screened.outliers.points)
        return screened

    monkeypatch.setattr(tick_cost, "screen", counting)
    life = Life(60.0, 3)
    life.learn()
    life.tick()
    assert told == [0]

    assert screening_ms(life.history, faulty=True, times=1) > 0
    assert told[1:] == [44]  # a hundredth of three days
