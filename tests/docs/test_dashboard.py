# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboard asks only for metrics and labels that there are, and leaves no panel without an expression."""

import json
import re
from typing import Any

import pytest

from tests.docs import product
from tests.docs.pages import ROOT

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "kedastral.json").read_text(encoding="utf-8"))
OF_OTHERS = {'kube_deployment_status_replicas_ready{deployment=~"$deployment"}'}
"""What kube-state-metrics has, where there is one."""
LABELS = {bare.name: set(bare.labels) for bare in product.metrics()}


@pytest.mark.parametrize("panel", DASHBOARD["panels"], ids=lambda panel: str(panel["title"]))
def test_every_panel_queries_metrics_that_exist(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for target in panel["targets"]:
        if target["expr"] in OF_OTHERS:
            continue
        names = re.findall(r"kedastral_\w+", target["expr"])
        assert names
        assert set(names) <= LABELS.keys()
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        assert shown <= set.intersection(*(LABELS[name] for name in names))


def test_panels_lie_beside_each_other() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


def test_every_panel_is_of_the_workloads_that_were_chosen_and_all_are_those_without_a_forecast_too() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            assert 'workload=~"$workload"' in target["expr"] or target["expr"] in OF_OTHERS
    [workload] = [one for one in DASHBOARD["templating"]["list"] if one["name"] == "workload"]
    assert workload["allValue"] == ".*"


def test_every_variable_is_there() -> None:
    used = set(re.findall(r"\$(\w+)", " ".join(t["expr"] for panel in DASHBOARD["panels"] for t in panel["targets"])))
    assert used <= {one["name"] for one in DASHBOARD["templating"]["list"]}
