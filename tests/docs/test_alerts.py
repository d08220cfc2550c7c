# SPDX-License-Identifier: Apache-2.0
"""The alerts of deploy/prometheus use only existing metrics and labels, and each has its runbook."""

import re
from typing import Any

import pytest
import yaml

from docs.dashboard import SITE
from tests.docs import product
from tests.docs.pages import ROOT, commands, links, prose, read, tables

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yaml"
LABELS = {metric.name: set(metric.labels) for metric in product.metrics()}
OF_EVERY_SERIES = {"instance"}
"""The labels that Prometheus adds to every series."""
RUNBOOKS = ROOT / "docs" / "runbooks"
SECTIONS = ["Meaning", "Impact", "Check", "Remedy"]


def rules_of(text: str) -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}


RULES = rules_of(read(ALERTS))


def metrics_of(expr: str) -> set[str]:
    """The metrics that an expression names; a histogram's buckets count as the histogram."""
    return {name.removesuffix("_bucket") for name in re.findall(r"kedastral_\w+", expr)}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_alert_asks_for_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    names = metrics_of(rule["expr"])
    assert names
    assert {*names, *re.findall(r"kedastral_\w+", rule["annotations"]["summary"])} <= LABELS.keys()
    there = set.intersection(*(LABELS[name] for name in names))
    assert set(re.findall(r"[{,]\s*(\w+)[=!]", rule["expr"])) <= there
    named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert named <= there | OF_EVERY_SERIES
    for kept in re.findall(r"by \(([\w, ]+)\)", rule["expr"]):
        assert named <= set(kept.split(", "))


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_alert_waits_a_while_and_says_what_is_wrong(rule: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+[mhd]", rule["for"])
    assert rule["annotations"]["summary"]


@pytest.mark.parametrize("name", RULES)
def test_every_alert_links_its_runbook_which_says_the_same(name: str) -> None:
    rule, page = RULES[name], read(RUNBOOKS / f"{name}.md")
    assert rule["annotations"]["runbook_url"] == f"{SITE}/runbooks/{name}/"
    assert page.startswith(f"# {name}\n\nSeverity: {rule['labels']['severity']}, after {rule['for']}.\n")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == SECTIONS
    assert len(list(commands(page))) >= 1


def test_the_list_of_runbooks_is_that_of_the_alerts() -> None:
    [rows] = tables(read(RUNBOOKS / "README.md"))
    assert [links(row["alert"]) for row in rows] == [[f"{name}.md"] for name in RULES]
    assert [row["severity"] for row in rows] == [rule["labels"]["severity"] for rule in RULES.values()]
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {*RULES, "README"}


@pytest.mark.parametrize("name", RULES)
def test_a_runbook_names_settings_and_metrics_that_exist(name: str) -> None:
    page = read(RUNBOOKS / f"{name}.md")
    assert set(re.findall(r"`(--[\w-]+)", prose(page))) <= product.all_flags()


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_every_alert_says_how_urgent_it_is(rule: dict[str, Any]) -> None:
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in ("critical", "warning", "info")


def test_an_alert_of_a_metric_of_workloads_names_the_workload() -> None:
    for rule in RULES.values():
        names = metrics_of(rule["expr"])
        if all("workload" in LABELS[name] for name in names) and "by (instance)" not in rule["expr"]:
            assert "{{ $labels.workload }}" in rule["annotations"]["summary"]


def test_no_alert_is_about_a_workload_that_others_do_not_have() -> None:
    assert 'workload="' not in read(ALERTS)
