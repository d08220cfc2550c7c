# SPDX-License-Identifier: Apache-2.0
"""The alerts of deploy/prometheus ask only for metrics and labels that there are, and are those of docs/metrics.md."""

import re
from typing import Any

import pytest
import yaml

from tests.docs import product
from tests.docs.pages import ROOT, blocks, read

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
LABELS = {metric.name: set(metric.labels) for metric in product.metrics()}
OF_EVERY_SERIES = {"instance"}
"""What Prometheus adds to whatever it scrapes."""
FOR_ONE_WORKLOAD = {"KedastralNoForecast"}
"""Shown on the page alone: where there is no such workload it would never be silent."""


def rules_of(text: str) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}


RULES = rules_of(read(ALERTS))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_alert_asks_for_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    names = re.findall(r"kedastral_\w+", rule["expr"])
    assert names
    assert {*names, *re.findall(r"kedastral_\w+", rule["annotations"]["summary"])} <= LABELS.keys()
    there = set.intersection(*(LABELS[name] for name in names))
    assert set(re.findall(r"[{,]\s*(\w+)[=!]", rule["expr"])) <= there
    assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= there | OF_EVERY_SERIES


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_alert_waits_a_while_and_says_what_is_wrong(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+[mhd]", rule["for"])
    assert rule["annotations"]["summary"]


def test_the_alerts_are_those_of_the_page() -> None:
    [shown] = [block.text for block in blocks(read(ROOT / "docs" / "metrics.md")) if block.language == "yaml"]
    assert {name: rule for name, rule in rules_of(shown).items() if name not in FOR_ONE_WORKLOAD} == RULES


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_alert_says_how_urgent_it_is(rule: dict[str, Any]) -> None:
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_an_alert_of_a_metric_of_workloads_names_the_workload() -> None:
    for rule in RULES.values():
        names = re.findall(r"kedastral_\w+", rule["expr"])
        if all("workload" in LABELS[name] for name in names):
            assert "{{ $labels.workload }}" in rule["annotations"]["summary"]


def test_no_alert_is_about_a_workload_that_others_do_not_have() -> None:
    assert 'workload="' not in read(ALERTS)
