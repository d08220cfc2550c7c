# SPDX-License-Identifier: Apache-2.0
"""An export gives the same figures as the plain file, and a short history is replayed as far as it goes."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from kedastral.backtest.comparison import compare_policies, policies_to_compare
from kedastral.backtest.report import write_page
from kedastral.backtest.results import evaluate
from kedastral.backtest.workloads import Scenario, prepare_scenarios
from kedastral.settings.commands import BacktestSettings
from kedastral.settings.load import load
from tests.backtest.loads import SHORT, START, STEP, call, wave, write_csv

FITTING = {"--step": "10m", "--lead-time": "20m", "--horizon": "1h", "--sync-period": "10m", "--model": "baseline"}
WEIGHT = "the verdict has little weight, as the model has not seen a whole week"


def prepare(path: Path, **flags: str) -> Scenario:
    given = {f"--{name.replace('_', '-')}": text for name, text in flags.items()}
    ((scenario,), failed) = prepare_scenarios(
        load(BacktestSettings, {"--csv": str(path), **FITTING, **given}, {}).settings
    )
    assert not failed
    return scenario


def test_of_a_short_history_half_is_replayed_and_the_weight_of_the_verdict_is_said(tmp_path: Path) -> None:
    scenario = prepare(write_csv(tmp_path / "web.csv", wave(288)))
    assert (scenario.trial.begin, scenario.trial.judged_from) == (144, 173)
    assert scenario.remarks == (
        "2d in steps of 10m, column 'value'",
        f"only 2d of history, so the last half of it is replayed, 4h50m as warm-up, and 19h10m are judged; {WEIGHT}",
    )


@pytest.mark.parametrize("flags", [{"warm_up": "2h"}, {"evaluated": "0.3", "warm_up": "2h"}])
def test_shares_that_are_given_hold_for_a_short_history_too(tmp_path: Path, flags: dict[str, str]) -> None:
    scenario = prepare(write_csv(tmp_path / "web.csv", wave(288)), **flags)
    assert (scenario.trial.begin, scenario.trial.judged_from) == (288 - 86, 288 - 86 + 12)
    assert len(scenario.remarks) == 1


@pytest.mark.parametrize(
    ("header", "unit", "said", "sustains"),
    [
        ("value", "", (), "units of load"),
        ("value", " req/s", (), "req/s"),
        ("CPUUtilization", "", ("percentage",), "units of load"),
    ],
)
def test_the_report_names_the_unit_of_the_load_and_a_percentage_is_remarked(
    tmp_path: Path, header: str, unit: str, said: tuple[str, ...], sustains: str
) -> None:
    rows = [f"{START + timedelta(seconds=STEP * i):%Y-%m-%dT%H:%M:%SZ},{v:.3f}{unit}" for i, v in enumerate(wave(288))]
    (tmp_path / "web.csv").write_text("\n".join([f"time,{header}", *rows]))
    scenario = prepare(tmp_path / "web.csv", target_per_pod="100")
    assert [word in scenario.remarks[1] for word in said] == [True] * len(said)
    page = write_page(evaluate([compare_policies(scenario, policies_to_compare(1.2, swept=False))]))
    assert f"A pod sustains 100 {sustains} and serves" in " ".join(page.split())
    assert "the verdict has little weight, as the model has not seen a whole week" in page
    assert "judged steps were gaps" not in page


def test_the_report_says_how_much_of_what_was_judged_were_gaps(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "web.csv", wave(288))
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows[:-40], *rows[-30:]]))
    scenario = prepare(path)
    page = write_page(evaluate([compare_policies(scenario, policies_to_compare(1.2, swept=False))]))
    assert f"10 of {len(scenario.trial.judged)} judged steps were gaps, in which policies saw no load." in page


@pytest.mark.parametrize(("days", "is_short"), [(5.6, True), (5.7, False), (10.0, False)])
def test_what_is_short_is_less_than_a_verdict_needs(tmp_path: Path, days: float, is_short: bool) -> None:
    steps = round(days * 144)
    scenario = prepare(write_csv(tmp_path / "web.csv", wave(steps)))
    assert scenario.trial.begin == steps - round(steps * (0.5 if is_short else 0.3))
    assert len(scenario.remarks) == 1 + is_short


@pytest.mark.slow
def test_an_export_is_replayed_to_the_figures_of_the_plain_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    values = [round(value, 3) for value in wave(300)]
    rows = [f'"{START + timedelta(seconds=STEP * i):%Y-%m-%d %H:%M:%S}","{v} req/s",5' for i, v in enumerate(values)]
    (tmp_path / "grafana.csv").write_text("\n".join(['"Time","web","api"', *rows[::-1]]))
    write_csv(tmp_path / "plain.csv", values)
    figures = {}
    for name, flags in (("plain", ()), ("grafana", ("--column", "web"))):
        target = tmp_path / f"{name}.json"
        history = tmp_path / f"{name}.csv"
        ended = call(monkeypatch, "--csv", history, *SHORT, "--model", "baseline", *flags, "--json", target)
        assert ended.code == 0
        (figures[name],) = json.loads(target.read_text())["workloads"]
        del figures[name]["workload"]
    assert figures["grafana"] == figures["plain"]
    assert ended.err == (
        "kedastral: grafana: 2d2h in steps of 10m, newest first, times taken as UTC, column 'web' in req/s; "
        "--time-zone, --column, --time-column change it\n"
    )


def test_a_column_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "web.csv", wave(20))
    ended = call(monkeypatch, "--csv", path, "--column", "wep")
    assert (ended.code, ended.err) == (
        2,
        f"kedastral: {path}: --column must be one of its columns or series; got 'wep'; it has 'value'\n",
    )
