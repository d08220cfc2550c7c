# SPDX-License-Identifier: Apache-2.0
"""The verdict as text on five loads, and that none of its figures contradicts the table.

The results in stored/ are numbers, not loads; `make verdicts` replays the loads to check them. constant is
4,000 without a break and spike is `SyntheticLoad`; ms_mongo_03 and worldcup98_group are open traces that are not part
of this repository.
"""

import math
import re
from datetime import timedelta
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kedastral.adapters.synthetic import SyntheticLoad
from kedastral.backtest.decision import Outlook, decide
from kedastral.backtest.tables import FIGURES
from kedastral.backtest.wording import show_percents
from kedastral.simulation.curves import Point
from tests.backtest.loads import START, call, write_csv
from tests.backtest.stored import StoredResults, read_compact

STORED = Path(__file__).parent / "stored"
NAMES = ("constant", "spike", "ms_mongo_03", "worldcup98_group")
FIGURE = re.compile(r"(?<![\w.])[\d,]*\.?\d+(?![\w.]*\d)")


def text_of(name: str) -> str:
    """The text below the table, one paragraph per line, without the flags."""
    verdict = read_compact(STORED / f"{name}.json").write_verdict("FLAGS")
    return "\n".join(filter(None, (f"{verdict.outlook}", verdict.words, verdict.advice, verdict.remark))) + "\n"


@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_reads_as_it_did(name: str) -> None:
    assert text_of(name) == (STORED / f"{name}.txt").read_text()


def figures_that_the_table_lacks(results: StoredResults) -> set[str]:
    """Every number of the verdict except settings; each must be in a row of the table."""
    verdict = results.write_verdict("FLAGS")
    rows = results.write_rows()
    text = " ".join((verdict.words, verdict.advice, verdict.remark))
    text = re.sub(r"(HPA at|target at|headroom|service level|as well,) [\d.]+( %)?", "", text)
    text = re.sub(r"\([\d.]+ times the past peak\)", "", text).replace("more than 99 %", "over -99 %")
    text = text.replace(f"of {results.minutes:,.0f} minutes)", "")
    text = re.sub(r"The query of last week's load is .*? of what a pod sustains", "", text)
    text = re.sub(r"keeps [\d.]+ % of the minutes|error budget(:| of) [\d.]+", "", text)
    text = re.sub(r"(keeps it,|which misses|only if|than the) 0\.\d+", "", text)
    named = {(one.policy, one.setting) for one in verdict.named}
    costs = [
        point.cost for policy, points in results.points.items() for point in points if (policy, point.knob) in named
    ]
    ratios = {show_percents(cost / other) for cost in costs for other in costs}
    found = re.findall(r"(\d+) % (?:fewer than |more pod-hours: )", text)
    text = re.sub(r"\d+ % (?=fewer than |more pod-hours: )", "", text) if ratios.issuperset(found) else text
    cells = {
        cell.strip("+-").removesuffix(" %").removesuffix(" times").removeprefix("over -")
        for row in rows
        for cell in row[1:]
    }
    return {found for found in FIGURE.findall(text) if found not in cells}


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_of_the_verdict_is_in_the_table(name: str) -> None:
    assert figures_that_the_table_lacks(read_compact(STORED / f"{name}.json")) == set()


def test_a_raw_counter_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load = SyntheticLoad()
    counted = accumulate(round(600 * load.at(START + timedelta(seconds=i * 600))) for i in range(432))
    ended = call(monkeypatch, "--csv", write_csv(tmp_path / "total.csv", counted))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "kedastral: total: the values only ever rise, from 391,121 to 2.64258e+08 in 71.8 hours: this looks like a raw "
        "counter and not like a load; take rate() of it, such as sum(rate(http_requests_total[1m]))\n"
    )


SHARES = st.sampled_from([0.0, 0.00005, 0.0002, 0.004, 0.03, 0.2])


def points_of(settings: tuple[float, ...]) -> st.SearchStrategy[tuple[Point, ...]]:
    one = st.tuples(st.floats(0.8, 3.0), SHARES, SHARES)
    return st.tuples(*(one.map(lambda drawn, knob=knob: Point(knob, *drawn)) for knob in settings))


RESULTS = st.fixed_dictionaries(
    {
        "kedastral": points_of((0.95, 0.99, 0.999, 1.0, 1.2)),
        "hpa": points_of((0.5, 0.8, 0.9)),
        "last-week": points_of((0.5, 0.8, 0.9)),
        "fixed": points_of((0.8, 1.0, 1.2)),
    }
)


@settings(max_examples=60, deadline=None)
@given(RESULTS)
def test_no_figure_of_any_verdict_contradicts_the_table(points: dict[str, tuple[Point, ...]]) -> None:
    results = StoredResults(20_000.0, 800.0, points)
    assert figures_that_the_table_lacks(results) == set()
    assert all(len(row) == 1 + len(FIGURES) for row in results.write_rows())


@settings(max_examples=100, deadline=None)
@given(RESULTS)
def test_what_is_advised_keeps_the_level_in_force_at_the_least_cost_or_says_that_it_does_not(
    points: dict[str, tuple[Point, ...]],
) -> None:
    results = StoredResults(20_000.0, 800.0, points)
    found, verdict = decide(results.policies), results.write_verdict("FLAGS")
    kept = {
        policy: min((one.cost for one in of_one if one.violation <= 0.01), default=math.inf)
        for policy, of_one in points.items()
    }
    aimed = [one.cost for one in points["kedastral"] if one.violation <= 0.01 and one.knob >= 0.99]
    kept["kedastral"] = min(aimed, default=kept["kedastral"])
    least = min(kept.values())
    if least == math.inf:
        assert verdict.words.startswith("No setting of any policy keeps 99 % of the minutes.")
        return
    assert found.take.point.violation <= 0.01
    ours, others = kept.pop("kedastral"), min(kept.values())
    if found.outlook is Outlook.BETTER:
        assert ours <= 0.97 * others
    elif found.outlook is Outlook.WORSE:
        assert ours == math.inf or others < ours
    if ours == math.inf:
        assert "; no setting of Kedastral keeps it" in verdict.words or "no setting of Kedastral and" in verdict.words
        assert "which misses 0.99" in verdict.advice
    else:
        assert found.advised.violation <= 0.01
        assert found.advised.knob >= 0.99 or all(
            one.violation > 0.01 for one in points["kedastral"] if one.knob >= 0.99
        )
    first = verdict.words.partition(".")[0]
    if found.take.policy == "kedastral":
        assert f"Kedastral at {'headroom' if found.advised.knob >= 1 else 'service level'}" in first or "Only" in first
    assert verdict.words.count(". ") <= 4


@settings(max_examples=60, deadline=None)
@given(RESULTS)
def test_what_is_advised_serves_no_worse_at_the_least_cost(points: dict[str, tuple[Point, ...]]) -> None:
    found = decide(StoredResults(20_000.0, 800.0, points, service_level=None).policies)
    if not found.serves_as_well:
        assert found.outlook is Outlook.WORSE
        return
    as_good = [
        one
        for one in points["kedastral"]
        if max(one.unserved, 1e-5) <= max(found.hpa.unserved, 1e-5)
        and max(one.violation, 1e-4) <= max(found.hpa.violation, 1e-4)
    ]
    assert found.advised.cost <= 1.005 * min(one.cost for one in as_good)
    if found.outlook is Outlook.BETTER:
        assert found.advised.cost <= found.hpa.cost * 1.011
