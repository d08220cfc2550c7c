# SPDX-License-Identifier: Apache-2.0
"""`kedastral backtest --late --noise`: the cost of a late or noisy metrics pipeline, and that the results say so."""

import json
from pathlib import Path
from typing import Any

import pytest

from kedastral.settings.commands import BacktestSettings
from kedastral.settings.schema import settings_of
from tests.backtest.loads import SHORT, call, wave, write_csv

pytestmark = pytest.mark.slow

BASELINE = ("--model", "baseline")


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in settings_of(BacktestSettings):
        monkeypatch.delenv(setting.env, raising=False)


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "shop.csv", wave(288))


def figures(monkeypatch: pytest.MonkeyPatch, history: Path, *flags: object) -> tuple[dict[str, Any], str]:
    target = history.with_name("figures.json")
    ended = call(monkeypatch, "--csv", history, *SHORT, *BASELINE, "--json", target, *flags)
    assert ended.code == 0
    (workload,) = json.loads(target.read_text())["workloads"]
    return workload, " ".join(ended.out.split())


def test_a_late_pipeline_costs_the_hpa_minutes_and_is_named_everywhere(
    monkeypatch: pytest.MonkeyPatch, history: Path
) -> None:
    report = history.with_name("report.html")
    usual, said_usually = figures(monkeypatch, history)
    late, said = figures(monkeypatch, history, "--late", "20m", "--noise", "0.05", "--report", report)
    words = "policies see the load 20m late and with 5 % of noise; minutes short are those of the load itself"
    assert words in said
    assert words in report.read_text()
    assert "late and" not in said_usually
    assert late["metricsPipeline"] == {"lateSeconds": 1200.0, "noise": 0.05}
    short = [
        next(one["violationMinutes"] for one in each["policies"] if one["policy"] == "hpa") for each in (usual, late)
    ]
    assert short[1] > short[0]
    assert late["oraclePodHours"] == usual["oraclePodHours"]


def test_with_both_at_zero_nothing_changes(monkeypatch: pytest.MonkeyPatch, history: Path) -> None:
    usual, said = figures(monkeypatch, history)
    assert "metricsPipeline" not in usual
    assert figures(monkeypatch, history, "--late", "0s", "--noise", "0") == (usual, said)


def test_results_repeat(monkeypatch: pytest.MonkeyPatch, history: Path) -> None:
    flags = ("--noise", "0.3")
    first, said = figures(monkeypatch, history, *flags)
    assert "policies see the load at once and with 30 % of noise" in said
    assert figures(monkeypatch, history, *flags)[0] == first


@pytest.mark.parametrize(
    ("flag", "value"),
    [("--late", "-1s"), ("--late", "soon"), ("--noise", "-0.1"), ("--noise", "nan"), ("--noise", "inf")],
)
def test_what_is_below_zero_or_no_number_is_refused(
    monkeypatch: pytest.MonkeyPatch, history: Path, flag: str, value: str
) -> None:
    ended = call(monkeypatch, "--csv", history, *SHORT, *BASELINE, f"{flag}={value}")
    assert ended.code == 2
    assert f"{flag} must be" in ended.err
    assert len(ended.err.strip().splitlines()) == 1
