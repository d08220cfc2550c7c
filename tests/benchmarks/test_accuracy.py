# SPDX-License-Identifier: Apache-2.0
"""The accuracy benchmark on a small synthetic trace: it runs end to end, and computes its goals as documented."""

import gzip
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import numpy as np
import pytest

from benchmarks import closed_loop
from benchmarks.accuracy import Errors, Judged, goals_of, half_hourly_means, main
from benchmarks.traces import read_trace

STEP = timedelta(minutes=5)


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    hours = np.arange(600) / 12
    loads = 100 + 60 * np.sin(hours * np.pi / 12) + rng.normal(0, 5, len(hours))
    start = datetime(2026, 3, 2, tzinfo=UTC)
    rows = [f"{(start + i * STEP).isoformat()},{load:.6}" for i, load in enumerate(loads)]
    with gzip.open(tmp_path / "wave.csv.gz", "wt") as text:
        text.write("\n".join(["timestamp,value", *rows]))
    return tmp_path


def test_a_folder_of_traces_is_judged(
    traces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = traces / "figures.json"
    monkeypatch.setattr(sys, "argv", ["accuracy", "--traces", str(traces), "--every", "4h", "--json", str(file)])
    assert main() == 0

    figures = json.loads(file.read_text())
    assert figures["traces"]["wave"]["origins"] == 4
    assert figures["geometricMean"]["last-value"] == 1
    shown = capsys.readouterr().out
    assert "wave" in shown
    assert "WAPE / last value's" in shown


def write_trace(path: Path, *rows: str) -> None:
    with gzip.open(path, "wt") as text:
        text.write("\n".join(["timestamp,value", *rows]))


def test_epoch_seconds_are_read_as_iso_times_are(tmp_path: Path) -> None:
    start = datetime(2026, 3, 2, tzinfo=UTC)
    write_trace(tmp_path / "iso.csv.gz", *(f"{(start + i * STEP).isoformat()},{i}" for i in range(10)))
    write_trace(tmp_path / "epoch.csv.gz", *(f"{(start + i * STEP).timestamp():.0f},{i}" for i in range(10)))
    iso, epoch = (read_trace(tmp_path / name).load for name in ("iso.csv.gz", "epoch.csv.gz"))
    assert (iso.start, iso.step, iso.values.tolist()) == (epoch.start, epoch.step, epoch.values.tolist())


def test_traces_that_cannot_be_read_are_a_line_each(
    traces: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trace(traces / "a.csv.gz", "yesterday,1", "today,2")
    (traces / "b.csv.gz").write_bytes(b"\x1f\x8bnot gzip")
    for program in (main, lambda: closed_loop.main(["--traces", str(traces)])):
        monkeypatch.setattr(sys, "argv", ["accuracy", "--traces", str(traces)])
        assert program() == 2
        first, second = capsys.readouterr().err.splitlines()
        assert "a.csv.gz, line 2: a time must be ISO 8601, " in first
        assert "got 'yesterday'" in first
        assert "b.csv.gz: must be a file that can be read" in second


def test_traces_with_nothing_to_judge_are_a_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_trace(tmp_path / "hours.csv.gz", *(f"{i * 3600},1" for i in range(500)))
    write_trace(tmp_path / "short.csv.gz", "0,1", "60,2")
    monkeypatch.setattr(sys, "argv", ["accuracy", "--traces", str(tmp_path)])
    assert main() == 2
    first, second = capsys.readouterr().err.splitlines()
    assert "its step must be at most 15m; got 1h" in first
    assert "nothing is left to judge; got 2 steps" in second


def judged(trace: str, auto: float, baseline: float, *, lightgbm: float, theta: float, holt: float) -> Judged:
    """Two origins; the peers have only the second, and the first is ten times as large."""
    both = np.array([10.0, 1.0])
    mine = {name: Errors(name, both * error) for name, error in (("auto", auto), ("baseline", baseline))}
    peers = {"lightgbm": lightgbm, "theta": theta, "holt": holt}
    return Judged(
        trace,
        both * 100,
        {**mine, "last-value": Errors("last-value", both)},
        [1],
        {name: Errors(name, np.array([error])) for name, error in peers.items()},
        np.array([0, 1]),
    )


def test_the_goals_are_worked_out_as_stated() -> None:
    results = [
        judged("calm", 0.4, 0.8, lightgbm=0.5, theta=0.8, holt=0.5),
        judged("wild", 0.9, 0.6, lightgbm=0.9, theta=0.9, holt=2.0),
    ]
    measured = {goal.name: (goal.measured, goal.detail) for goal in goals_of(results)}

    assert measured["WAPE / last value's"][0] == pytest.approx(0.6)
    assert measured["/ the better of last value and baseline, worst trace"] == (pytest.approx(1.5), "wild")
    assert measured["/ LightGBM's, the same origins"][0] == pytest.approx(0.8**0.5)
    # theta's errors have the smaller mean, sqrt(0.72) against holt's 1
    assert measured["/ the best classical library's, the same origins"] == (
        pytest.approx((0.36 / 0.72) ** 0.5),
        "theta",
    )


def test_origins_half_an_hour_apart_are_also_judged_by_themselves() -> None:
    """Errors of 1 and 4 at the first minute of the half-hour, 3 and 0 at the second; last value's are 10, 10, 5, 5."""
    last, auto = (np.array(errors) for errors in ([10.0, 5.0, 10.0, 5.0], [1.0, 3.0, 4.0, 0.0]))
    errors = {name: Errors(name, each) for name, each in (("auto", auto), ("last-value", last))}
    one = Judged("minutes", last * 10, errors, [], {}, np.array([0, 1, 0, 1]))
    assert one.half_hourly_ratios("auto").tolist() == pytest.approx([0.25, 0.3])
    assert one.ratio("auto") == pytest.approx(8 / 30)
    steps = attrs.evolve(one, phases=np.array([0, 0, 0, 0]))
    assert half_hourly_means([one, steps]).tolist() == pytest.approx([(0.25 * 8 / 30) ** 0.5, (0.3 * 8 / 30) ** 0.5])


def test_without_traces_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["accuracy", "--traces", str(tmp_path)])
    assert main() == 2
    assert "no traces" in capsys.readouterr().err
