# SPDX-License-Identifier: Apache-2.0
"""What a backtest says of a level, beside what came afterwards: it sees nothing of it, and the counts add up."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import numpy as np
import pytest

from benchmarks.closed_loop_study import LEVELS
from benchmarks.out_of_sample import Comparison, main
from benchmarks.traces import history_of, read_trace

pytestmark = pytest.mark.slow

STEP = timedelta(minutes=15)
STEPS = 480
BEGIN = 336
"""The first step of the last 30 percent."""


def write_trace(folder: Path, jump: float) -> Path:
    """A daily wave; in the last 30 percent the load is multiplied by ``jump`` every few hours."""
    hours = np.arange(STEPS) / 4
    loads = 100 + 60 * np.sin(hours * np.pi / 12)
    loads[BEGIN:][np.arange(STEPS - BEGIN) % 13 == 0] *= jump
    start = datetime(2026, 3, 2, tzinfo=UTC)
    rows = [f"{(start + i * STEP).isoformat()},{load:.6}" for i, load in enumerate(loads)]
    folder.mkdir(parents=True, exist_ok=True)
    with gzip.open(folder / "wave.csv.gz", "wt") as text:
        text.write("\n".join(["timestamp,value", *rows]))
    return folder


def compare(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, float]]:
    assert main(["--traces", str(folder), "--lead", "30m", "--json"]) == 0
    compared: list[dict[str, float]] = json.loads(capsys.readouterr().out)["comparisons"]
    return compared


def test_the_history_ends_where_the_replay_begins_and_is_split_alike(tmp_path: Path) -> None:
    trace = read_trace(write_trace(tmp_path, 1.0) / "wave.csv.gz")
    history = history_of(trace)

    assert len(history.load) == trace.begin == BEGIN
    assert history.begin == BEGIN - round(BEGIN * 0.3)


def test_the_backtest_sees_nothing_of_what_comes_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calm = compare(write_trace(tmp_path / "calm", 1.0), capsys)
    jumpy = compare(write_trace(tmp_path / "jumpy", 5.0), capsys)

    assert [one["level"] for one in calm] == list(LEVELS)
    assert [one["before"] for one in calm] == [one["before"] for one in jumpy]
    assert jumpy[0]["after"] > calm[0]["after"]


def test_each_level_counts_once_by_what_was_said_and_what_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = [(0.5, 1.5), (1.0, 1.6), (1.1, 1.6), (1.1, 1.4), (1.2, 0.0)]
    saved = tmp_path / "figures.json"
    compared = [Comparison("wave", 300.0, 0.99, 10.0, before, after) for before, after in outcomes]
    saved.write_text(json.dumps({"comparisons": [attrs.asdict(one) for one in compared]}))

    assert main(["--figures", str(saved)]) == 0
    shown = capsys.readouterr().out
    (counts,) = [line for line in shown.splitlines() if "0.99" in line and "wave" not in line]
    assert [cell.strip() for cell in counts.split("│")[1:-1]] == ["5 min", "0.99", "1", "1", "1", "2"]


def test_a_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--traces", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"no traces: {tmp_path} holds no NAME.csv.gz\n"
