# SPDX-License-Identifier: Apache-2.0
"""Every documented recipe, unchanged: accepted without a warning, Ready, and followed by the HPA."""

from pathlib import Path

import pytest
import yaml

from tests.e2e.case import Case, Kedastral, Told, external, scaled_object
from tests.e2e.load import Shape, rush
from tests.e2e.recipes import documented, examples

pytestmark = pytest.mark.e2e
RUSH, END = 200.0, 300.0
APPS: dict[str, Shape] = {
    "web": rush(300, 2400, RUSH, END),
    "checkout": rush(100, 600, RUSH, END),
    "batch": rush(0, 600, RUSH, END),
}
TOLERANCE = 1.1
"""The HPA's default, which some recipes keep."""
PER_POD = {"web": 200, "checkout": 50, "batch": 50}


def test_every_recipe_is_accepted_without_a_warning_and_followed(case: Case) -> None:
    prometheus = case.start_load("prometheus.monitoring", "prometheus.kedastral", **APPS)
    config = write_config(case.home / "config", prometheus.url)
    kedastral = case.start_kedastral(
        "kedastral", "kedastral.kedastral", config=str(config), allow_scaledobject_workloads="true"
    )
    kedastral.wait_for_forecast({"workload": "web"})
    recipes = {**documented(), **examples()}
    places = {title: f"{case.namespace}-{number}" for number, title in enumerate(recipes)}
    apps = {title: str(yaml.safe_load(text)["spec"]["scaleTargetRef"]["name"]) for title, text in recipes.items()}
    warnings = {}
    for title, text in recipes.items():
        app, place = apps[title], places[title]
        case.add_namespace(place)
        case.deploy(app, replicas=0 if app == "batch" else 2, namespace=place)
        warnings[title] = case.apply(text, place)
        case.record(app, PER_POD[app], title=title, namespace=place, told=told(kedastral, text, place))
    assert not any(warnings.values()), warnings
    for title in recipes:
        case.wait_until_ready(apps[title], places[title])
    case.until(END)
    for timeline in case.timelines:
        low = APPS[apps[timeline.name]].load(0) / PER_POD[apps[timeline.name]]
        assert (timeline.between(RUSH, END)[-1].number or 0) > low * 2, timeline.name
        least = min(sample.number or 0 for sample in timeline.between(END - 20, END))
        assert timeline.wanted(END - 5, END)[-1] * TOLERANCE >= least, timeline.name
    [alone] = [timeline for timeline in case.timelines if timeline.name == "Predicted"]
    assert alone.wanted(END - 5, END)[-1] in alone.told(END - 15, END), "to the pod"
    assert all(t.ready(RUSH - 1, RUSH)[0] >= 1 for t in case.timelines), "those from zero woke before the load"


def test_a_setting_without_effect_is_warned_of(case: Case) -> None:
    case.deploy("web")
    text = scaled_object("web", [external("nobody.invalid:8080")], pollingInterval=30, cooldownPeriod=300)
    said = " ".join(case.apply(text))
    assert "PollingInterval is configured but is not relevant" in said
    assert "CooldownPeriod is configured but is not relevant" in said


def told(kedastral: Kedastral, text: str, namespace: str) -> Told:
    """Calls Kedastral as KEDA does for the first trigger of the recipe ``text``."""
    document = yaml.safe_load(text)
    name, metadata = document["metadata"]["name"], document["spec"]["triggers"][0]["metadata"]
    return lambda: kedastral.told(metadata, name, namespace)


def write_config(folder: Path, url: str) -> Path:
    """The workloads that the recipes name, and the data source that one brings its own for."""
    documents = [{"kind": "DataSource", "metadata": {"name": "prometheus"}, "spec": {"url": url}}]
    for name, least in (("web", 2), ("batch", 0)):
        query = f'sum(rate(http_requests_total{{app="{name}"}}[1m]))'
        spec = {"query": query, "targetPerPod": PER_POD[name], "leadTime": "60s", "min": least}
        documents.append({"kind": "ForecastPolicy", "metadata": {"name": name}, "spec": spec})
    folder.mkdir()
    text = yaml.safe_dump_all([{"apiVersion": "kedastral.io/v1alpha1", **one} for one in documents])
    (folder / "workloads.yaml").write_text(text)
    return folder
