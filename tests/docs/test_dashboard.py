# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboard is the output of docs/dashboard.py, and uses only existing metrics and labels."""

import re
from typing import Any

import pytest

from docs import dashboard
from tests.docs import product
from tests.docs.pages import read

MADE = dashboard.make_dashboard()
PANELS = [panel for panel in MADE["panels"] if panel["type"] not in ("row", "text")]
OF_OTHERS = re.compile(r"kube_deployment_\w+|process_\w+")
"""The metrics of kube-state-metrics, if installed, and of the Python client of Prometheus."""
LABELS = {bare.name: set(bare.labels) for bare in product.metrics()}
OF_EVERY_SERIES = {"instance"}
titled = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))


def metrics_of(expr: str) -> set[str]:
    """The metrics that an expression names; a histogram's parts count as the histogram."""
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"kedastral_\w+", expr)}


def test_the_file_is_what_the_generator_writes() -> None:
    assert read(dashboard.FILE) == dashboard.render(), "run `make docs`"


@titled
def test_every_panel_queries_metrics_that_exist(panel: dict[str, Any]) -> None:
    assert panel["description"]
    for target in panel["targets"]:
        expr = target["expr"]
        assert metrics_of(expr) <= LABELS.keys()
        assert metrics_of(expr) or OF_OTHERS.search(expr)


@titled
def test_the_words_of_a_line_name_labels_that_its_expression_keeps(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        expr, shown = target["expr"], set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        kept = [set(found.split(", ")) for found in re.findall(r"by \(([\w, ]+)\)", expr)]
        there = set.union(OF_EVERY_SERIES, *(LABELS[name] for name in metrics_of(expr)))
        if not OF_OTHERS.search(expr):
            assert shown <= set.intersection(there, *kept)


def test_every_metric_is_in_a_panel() -> None:
    asked = {name for panel in PANELS for target in panel["targets"] for name in metrics_of(target["expr"])}
    assert asked == LABELS.keys()


def test_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in MADE["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= dashboard.WIDTH
        columns, rows = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        cells = {(x, y) for x in columns for y in rows}
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in MADE["panels"]}) == len(MADE["panels"])


@pytest.mark.parametrize(
    ("row", "matcher"), [(dashboard.OVERVIEW, dashboard.EVERY), (dashboard.WORKLOAD, dashboard.ONE)]
)
def test_a_panel_of_workloads_is_of_those_that_were_chosen(row: dashboard.Row, matcher: str) -> None:
    for panel in row.panels:
        for query in panel.queries:
            for name, selector in re.findall(r"(kedastral_\w+)(?:\{(.*?)\})?", query.expr):
                assert "workload" not in LABELS[name] or selector == matcher


def test_every_variable_is_there_and_used() -> None:
    names = {one["name"] for one in MADE["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", str({**MADE, "templating": None})))
    assert {name for name in used if not name.startswith("__")} == names


def test_namespaces_are_cut_from_the_keys_of_workloads() -> None:
    [namespace] = [one for one in MADE["templating"]["list"] if one["name"] == "namespace"]
    pattern = re.sub(r"\(\?<", "(?P<", namespace["regex"].strip("/")).replace("\\/", "/")
    found = re.match(pattern, "shop/web")
    assert found is not None
    assert (found["text"], found["value"]) == ("shop", "shop/")
    assert re.match(pattern, "web") is None


def test_the_page_and_the_runbooks_are_linked() -> None:
    assert {link["url"] for link in MADE["links"]} >= {"$page/", f"{dashboard.SITE}/runbooks/"}


def test_no_two_columns_of_a_table_have_a_name() -> None:
    for panel in PANELS:
        for step in panel.get("transformations", ()):
            shown = list(step["options"].get("renameByName", {}).values())
            assert len(set(shown)) == len(shown)
