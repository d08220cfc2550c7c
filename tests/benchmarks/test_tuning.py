# SPDX-License-Identifier: Apache-2.0
"""Constants are chosen without the source that they are tested on, and are restored afterwards."""

import ast
import importlib
from pathlib import Path

import pytest

import kedastral
from benchmarks.closed_loop_study import LEVELS
from benchmarks.tuning import ALTERNATIVES, TODAY, Choice, Constant, Replayed, changed, choose, hold_out, main, score_of
from kedastral.simulation.curves import Point

RATE = Choice("FACTOR_RATE", 0.01)


def replayed(trace: str, cost: float, *choices: Choice, spent: float = 1.0) -> Replayed:
    points = tuple(Point(level, cost, 0.0, spent * (1 - level)) for level in LEVELS)
    return Replayed(trace, 300.0, choices or (TODAY,), points)


@pytest.mark.parametrize("constant", ALTERNATIVES, ids=lambda constant: constant.name)
def test_a_constant_is_read_where_it_is_changed_and_nowhere_else(constant: Constant) -> None:
    module = importlib.import_module(constant.module)
    today = getattr(module, constant.name)
    assert min(constant.values) < today < max(constant.values)
    for path in Path(kedastral.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert constant.name not in {each.name for each in node.names}, path


def test_constants_are_as_before_afterwards() -> None:
    module = importlib.import_module(ALTERNATIVES[0].module)
    before = module.FACTOR_RATE
    context = changed((RATE, TODAY))
    with pytest.raises(KeyError), context:
        raise KeyError(module.FACTOR_RATE)
    assert before == module.FACTOR_RATE
    with changed((RATE,)):
        assert module.FACTOR_RATE == 0.01


def test_fewer_pods_and_fewer_minutes_short_both_count() -> None:
    assert replayed("a_1", 1.1).score < replayed("a_1", 1.2).score
    assert replayed("a_1", 1.1, spent=0.5).score < replayed("a_1", 1.1).score
    assert replayed("a_1", 1.1, spent=0.1).score == replayed("a_1", 1.1, spent=0.0).score, "chance, no merit"


def test_a_source_has_no_part_in_the_choice_that_it_is_held_against() -> None:
    replays = [
        *(replayed(name, 1.5) for name in ("a_1", "a_2", "b_1", "c_1")),
        *(replayed(name, 0.5, RATE) for name in ("a_1", "a_2")),
        *(replayed(name, 1.6, RATE) for name in ("b_1", "c_1")),
    ]
    assert choose(replays, "") == (RATE,)
    assert choose(replays, "a") == ()
    assert choose(replays, "b") == (RATE,)
    gains = {held.source: held.gain for held in hold_out(replays)}
    assert gains == {"a": pytest.approx(0.0), "b": pytest.approx(1.6 / 1.5 - 1), "c": pytest.approx(1.6 / 1.5 - 1)}


def test_each_source_counts_alike_however_many_traces_it_has() -> None:
    replays = [replayed("a_1", 1.0), replayed("a_2", 1.0), replayed("b_1", 4.0)]
    assert score_of(replays, (TODAY,)) == pytest.approx(score_of([replayed("c_1", 2.0)], (TODAY,)))


def test_what_saves_next_to_nothing_is_not_chosen() -> None:
    assert choose([replayed("a_1", 1.0), replayed("a_1", 0.999, RATE)], "") == ()


def test_without_traces_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--traces", str(tmp_path)]) == 2
    assert "no traces" in capsys.readouterr().err
    (tmp_path / "other.json").write_text("{}")
    assert main(["--figures", str(tmp_path / "other.json")]) == 2
    assert "holds no figures" in capsys.readouterr().err
