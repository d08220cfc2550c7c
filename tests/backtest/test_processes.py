# SPDX-License-Identifier: Apache-2.0
"""Replays in several processes: the same results as in one, every failure reported, nothing left behind."""

import errno
import os
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import attrs
import numpy as np
import pytest
import trio
import trio.testing

import kedastral
from kedastral.backtest.comparison import PlannedComparison, policies_to_compare
from kedastral.backtest.processes import (
    MOST_BY_DEFAULT,
    ReplayProcessError,
    _pass_on,
    _reported_of,
    compare_in_processes,
    default_jobs,
    parts_of,
    usable_cores,
)
from kedastral.core.forecast import Forecast
from kedastral.core.series import Series
from kedastral.errors import ConfigError
from kedastral.simulation.policies import CachedModel
from tests.backtest.scenarios import SETTINGS, LastValue, noisy, scenario_of

pytestmark = pytest.mark.slow

CALIBRATED = attrs.evolve(SETTINGS, calibrated=True, service_level=0.99)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@attrs.frozen
class Failing:
    """A model that ends the process as a bug or a lack of memory would."""

    kills: bool
    name = "failing"

    def forecast(self, _history: Series, _made_at: datetime, _steps: int) -> Forecast:
        if self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ZeroDivisionError("a bug of the model")


def _planned(seeds: Sequence[int], level: float | None = None) -> list[PlannedComparison]:
    settings = SETTINGS if level is None else CALIBRATED
    return [
        PlannedComparison(
            scenario_of(noisy(seed, 150), settings=settings), policies_to_compare(1.2, level, swept=False)
        )
        for seed in seeds
    ]


@pytest.mark.parametrize("level", [None, 0.99])
def test_several_processes_find_what_one_finds(level: float | None) -> None:
    alone = compare_in_processes(_planned([1, 2, 3], level), 1)
    shared = compare_in_processes(_planned([1, 2, 3], level), 2)
    for ours, theirs in zip(alone, shared, strict=True):
        assert ours.oracle == theirs.oracle
        assert [one.policy for one in ours.replayed] == [one.policy for one in theirs.replayed]
        assert [one.points for one in ours.replayed] == [one.points for one in theirs.replayed]
        assert [one.shown for one in ours.replayed] == [one.shown for one in theirs.replayed]
    assert alone[0].kedastral.points != alone[1].kedastral.points  # the test would notice


def test_the_forecasts_come_back_with_the_comparison() -> None:
    [comparison] = compare_in_processes(_planned([1]), 2)
    model = comparison.scenario.model
    assert isinstance(model, CachedModel)
    assert len(model._forecasts) >= 149  # or the report would make each of them again


def test_progress_is_told_until_all_is_done() -> None:
    heard: list[float] = []
    planned = _planned([1, 2])
    compare_in_processes(planned, 2, heard.append)
    assert sum(heard) == pytest.approx(sum(each.weight for each in planned))


def test_a_bug_in_a_process_is_told_as_it_is(folder: Path) -> None:
    planned = [PlannedComparison(scenario_of(noisy(1, 60), model=Failing(False)), policies_to_compare(1.2))]
    with pytest.raises(ReplayProcessError, match=r"Traceback(?s:.*)ZeroDivisionError: a bug of the model"):
        compare_in_processes(planned, 2)
    assert not list(folder.iterdir())


def test_a_process_that_was_killed_is_an_error_that_says_what_to_do(folder: Path) -> None:
    planned = [PlannedComparison(scenario_of(noisy(1, 60), model=Failing(True)), policies_to_compare(1.2))]
    with pytest.raises(ConfigError, match="--jobs must be smaller: a process was killed"):
        compare_in_processes(planned, 2)
    assert not list(folder.iterdir())


def test_a_short_replay_is_not_worth_a_process() -> None:
    assert default_jobs([_steered(8000)]) == min(usable_cores(), MOST_BY_DEFAULT)
    assert default_jobs(_planned([1, 2])) == 1


def _steered(steps: int) -> PlannedComparison:
    return PlannedComparison(scenario_of(np.full(steps, 9.0), model=LastValue()), policies_to_compare(1.2, 0.99))


def test_each_replay_but_the_first_is_in_one_part() -> None:
    planned = _steered(6000)
    parts = parts_of(planned)
    assert [number for part in parts for number in part] == list(range(1, len(planned.settings)))
    assert {len(part) for part in parts[:12]} == {1}, "a steered replay of four days is a part of its own"
    assert len(parts) < 24
    assert parts_of(_steered(60)) == [tuple(range(1, len(planned.settings)))]


@pytest.mark.parametrize("name", ["kedastral.py", "random.py", "typing.py"])
def test_the_processes_import_nothing_from_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_text("raise SystemExit('imported from the current directory')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(Path(kedastral.__file__).parents[1]), *filter(None, sys.path)])
    [comparison] = compare_in_processes(_planned([1]), 2)
    assert comparison.kedastral.points


async def test_what_else_a_process_prints_is_no_progress() -> None:
    ours, theirs = trio.testing.memory_stream_one_way_pair()
    heard: list[float] = []
    await ours.send_all(b"hello\ndone 0.5\ndo")
    await ours.send_all(b"ne 1.5\n2.0\ndone")
    await ours.aclose()
    await _pass_on(theirs, heard.append)
    assert sum(heard) == 2.0


def test_an_end_that_was_asked_for_is_told_before_what_it_made_fail() -> None:
    failed = ExceptionGroup("", [ReplayProcessError("killed")])
    assert isinstance(_reported_of(BaseExceptionGroup("", [failed, SystemExit(143)])), SystemExit)
    assert isinstance(_reported_of(failed), ReplayProcessError)
    told = _reported_of(ExceptionGroup("", [OSError(errno.EMFILE, "Too many open files")]))
    assert str(told) == "--jobs must be smaller here, or 1, which needs no other process; got: Too many open files"
