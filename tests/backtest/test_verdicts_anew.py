# SPDX-License-Identifier: Apache-2.0
"""`make verdicts`: the four loads of the stored results replayed again. Open traces are read from KEDASTRAL_TRACES.

`make verdicts VERDICTS=write` stores new results and texts, for an intended change of the planner.
"""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from kedastral.adapters.synthetic import SyntheticLoad
from tests.backtest.loads import START, call, write_csv
from tests.backtest.stored import compact, read_results
from tests.backtest.test_verdict_texts import NAMES, STORED, text_of

TRACES = os.environ.get("KEDASTRAL_TRACES")
WRITES = os.environ.get("VERDICTS") == "write"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TRACES, reason="KEDASTRAL_TRACES must be a folder of open traces: make verdicts"),
]
HOW = ("--step", "5m", "--evaluated", "0.1", "--warm-up", "6h")
"""A day or two of each, so that a run takes only minutes."""
FORTNIGHT = 14 * 1440


def load_of(name: str, tmp_path: Path) -> Path:
    """The history of one load as a file."""
    made = {"constant": lambda: iter([4000.0] * FORTNIGHT), "spike": spike}
    if name in made:
        return write_csv(tmp_path / f"{name}.csv", made[name](), 60.0)
    assert TRACES is not None
    return Path(TRACES) / f"{name}.csv.gz"


def spike() -> Iterator[float]:
    """A campaign at 09:30 every day, and a flash that nobody can foresee."""
    load = SyntheticLoad()
    return (load.at(START + timedelta(seconds=(i + 0.5) * 60)) for i in range(FORTNIGHT))


@pytest.mark.parametrize("name", NAMES)
def test_a_replay_gives_the_results_that_are_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    target = tmp_path / "figures.json"
    ended = call(monkeypatch, "--csv", load_of(name, tmp_path), *HOW, "--json", target)
    assert ended.code == 0
    document = json.loads(target.read_text())
    if WRITES:
        (STORED / f"{name}.json").write_text(compact(read_results(document)))
        (STORED / f"{name}.txt").write_text(text_of(name))
    assert compact(read_results(document)) == (STORED / f"{name}.json").read_text()
    words = " ".join(ended.out.split())
    outlook, *paragraphs = (STORED / f"{name}.txt").read_text().splitlines()
    assert document["verdict"]["outlook"] == outlook
    flags = " ".join(document["verdict"]["flags"])
    assert all(paragraph.replace("FLAGS", flags) in words for paragraph in paragraphs[:1])
