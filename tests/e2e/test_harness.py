# SPDX-License-Identifier: Apache-2.0
"""The parts of the harness that need no cluster: the load, the recipes, and the message if it cannot run."""

import csv
from pathlib import Path

import pytest

from tests.e2e import __main__ as command
from tests.e2e.api import Scale
from tests.e2e.load import Shape, rush
from tests.e2e.model import read_timeline
from tests.e2e.recipes import documented, examples
from tests.e2e.timeline import AWAY, Sample, Timeline, draw


def test_the_load_is_the_same_every_hour_and_its_counter_is_its_integral() -> None:
    shape = rush(300, 2400, 180, 320, ramp=10)
    assert [shape.load(second) for second in (0, 180, 185, 190, 320, 325, 330, 3599)] == [
        300, 300, 1350, 2400, 2400, 1350, 300, 300
    ]  # fmt: skip
    assert shape.load(-3600 + 200) == shape.load(200) == shape.load(7200 + 200)
    hour = 300 * 3600 + 2100 * 140
    assert shape.total(3600) == pytest.approx(hour)
    assert shape.total(-3600) == pytest.approx(-hour)
    assert shape.total(190) - shape.total(180) == pytest.approx(10 * 1350)
    assert Shape([(0.0, 5.0)]).total(7) == 35


def test_every_recipe_of_the_page_is_found_under_its_heading() -> None:
    assert {"Predicted", "Predicted and reactive", "From zero", "One formula"} < documented().keys()
    assert {"example-scaledobject.yaml", "scaledobject-with-workload.yaml"} == examples().keys()


def test_without_a_cluster_or_binaries_one_line_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KEDASTRAL_E2E_BIN", raising=False)
    assert command.main([]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "set KUBECONFIG to a cluster with KEDA, or KEDASTRAL_E2E_BIN to a folder" in line


def test_binaries_that_are_missing_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("KEDASTRAL_E2E_BIN", str(tmp_path))
    assert command.main([]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'etcd'} is no program" in line
    assert "KEDASTRAL_E2E_KEDA_CONFIG" in line


def timeline_of(*replicas: int) -> Timeline:
    samples = [Sample(float(n), 300.0, 3 if n else AWAY, Scale(r, r, r)) for n, r in enumerate(replicas)]
    return Timeline("web", 100.0, samples, [(1.0, "killed")])


def test_a_timeline_tells_where_pods_were_missing_and_where_they_fell() -> None:
    timeline = timeline_of(3, 2, 3, 1)
    assert timeline.short_seconds(0, 3) == 2
    assert timeline.falls(0, 3) == [(1.0, 3, 2), (3.0, 3, 1)]
    assert timeline.told(0, 1) == [AWAY, 3]


def test_a_sample_holds_until_the_next_but_not_for_long() -> None:
    timeline = timeline_of(3, 2, 3, 1)  # at 0, 1, 2 and 3 s
    assert timeline.ready(1.25, 1.75) == [2]
    assert timeline.ready(7, 7.5) == [1]
    with pytest.raises(AssertionError, match="web has no sample from 9 s to 10 s"):
        timeline.between(9, 10)


def test_a_timeline_becomes_a_table_and_a_picture(tmp_path: Path) -> None:
    timeline = timeline_of(3, 2)
    timeline.write(tmp_path)
    rows = list(csv.DictReader((tmp_path / "web.csv").read_text().splitlines()[1:]))
    assert [row["told"] for row in rows] == [AWAY, "3"]
    assert [row["mark"] for row in rows] == ["", "killed"]
    assert read_timeline(tmp_path / "web.csv") == timeline
    draw([timeline, timeline], tmp_path / "web.svg", "a case")
    assert "killed" in (tmp_path / "web.svg").read_text()
