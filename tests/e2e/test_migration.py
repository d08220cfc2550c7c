# SPDX-License-Identifier: Apache-2.0
"""The steps of docs/migrate.md, with its own objects: none moves a replica, nor does going back."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT, blocks, read
from tests.e2e.case import Case, Kedastral
from tests.e2e.load import Shape
from tests.e2e.programs import wait_for
from tests.e2e.recipes import of_case

pytestmark = pytest.mark.e2e
PAGE = ROOT / "docs" / "migrate.md"
LOAD, MORE = 2400.0, 3600.0
PODS = 15
"""What the old threshold asks for, and the plan with a headroom of 1.2."""
Yaml = dict[str, Any]


def shown(kind: str) -> Sequence[str]:
    """The page's blocks of YAML with an object of this kind."""
    return [block.text for block in blocks(read(PAGE)) if f"kind: {kind}" in block.text]


def in_case(text: str, case: Case, name: str = "web") -> str:
    """An object of the page in the namespace of ``case``, for Deployment ``name``."""
    document = yaml.safe_load(of_case(text, case))
    document["metadata"].pop("namespace")
    document["metadata"]["name"] = document["spec"]["scaleTargetRef"]["name"] = name
    hpa = document["spec"]["advanced"]["horizontalPodAutoscalerConfig"]
    hpa["name"] = hpa["name"].replace("web", name)
    return yaml.safe_dump(document)


def write_policy(case: Case, folder: Path, url: str, mode: str) -> None:
    """The files of step 1, with the lead time of this case, and a headroom instead of a service level."""
    documents = list(yaml.safe_load_all(shown("ForecastPolicy")[0]))
    source, policy = documents
    source["spec"]["url"] = url
    policy["metadata"]["namespace"] = case.namespace
    policy["spec"] |= {"mode": mode, "leadTime": "60s", "headroom": 1.2}
    folder.mkdir(exist_ok=True)
    (folder / "new").write_text(yaml.safe_dump_all(documents))
    (folder / "new").rename(folder / "workloads.yaml")


def hpas(case: Case) -> dict[str, list[str]]:
    """The metrics of each HPA of the namespace."""
    path = f"/apis/autoscaling/v2/namespaces/{case.namespace}/horizontalpodautoscalers"
    return {
        one["metadata"]["name"]: [
            metric.get("external", {}).get("metric", {}).get("name") or metric["resource"]["name"]
            for metric in one["spec"]["metrics"]
        ]
        for one in case.stage.api.get(path)["items"]
    }


def wait_until_told(case: Case, kedastral: Kedastral, number: int) -> None:
    asked = {"workload": f"{case.namespace}/web"}
    wait_for(lambda: kedastral.told(asked) == number, f"KEDA is told {number}")


def test_each_step_of_the_migration_and_back_moves_no_replica(case: Case) -> None:
    before, both, alone, _ = shown("ScaledObject")
    config = case.home / "config"
    prometheus = case.start_load(web=Shape([(0, LOAD)]))
    write_policy(case, config, prometheus.url, "observe")
    kedastral = case.start_kedastral(config=str(config))
    kedastral.wait_for_forecast({"workload": f"{case.namespace}/web"})
    for name in ("web", "twin"):
        case.deploy(name, replicas=PODS)
        case.apply(in_case(before, case, name))
        case.wait_until_ready(name)
    web = case.record("web", 200, title="migrated")
    twin = case.record("twin", 200, title="its twin, never touched", load="web")
    began = case.second

    def wait_for_metrics(*names: str) -> None:
        wait_for(lambda: hpas(case)["web-hpa"] == list(names), "KEDA has changed the HPA")
        case.until(case.second + 25)

    case.until(case.second + 15)
    case.mark("both triggers, observe")
    assert case.apply(in_case(both, case)) == []
    wait_for_metrics("s0-desired_replicas", "s1-prometheus")
    for mode, number in (("scale", PODS), ("observe", 0), ("scale", PODS)):
        case.mark(f"mode {mode}")
        write_policy(case, config, prometheus.url, mode)
        wait_until_told(case, kedastral, number)
        case.until(case.second + 15)
    case.mark("Kedastral alone")
    assert case.apply(in_case(alone, case)) == []
    wait_for_metrics("s0-desired_replicas")
    case.mark("back to both")
    case.apply(in_case(both, case))
    wait_for_metrics("s0-desired_replicas", "s1-prometheus")
    case.mark("Kedastral is killed, and more load comes")
    ended = case.second
    kedastral.program.kill()
    case.load.replace("web", MORE)
    case.until(case.second + 90)
    held = case.second
    case.mark("back to the old trigger")
    case.apply(in_case(before, case))
    wait_for_metrics("s0-prometheus")
    end = case.second
    assert set(web.replicas(began, ended)) == set(twin.replicas(began, ended)) == {PODS}
    assert set(web.replicas(ended, held)) == {PODS}, "KEDA holds, the old trigger or not"
    assert twin.replicas(held - 5, held)[-1] > PODS
    assert web.replicas(end - 5, end)[-1] > PODS, "going back needs no Kedastral"
    assert hpas(case).keys() == {"web-hpa", "twin-hpa"}


HPA = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  minReplicas: 2
  maxReplicas: 50
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}]
"""


def test_keda_takes_over_a_plain_hpa_and_gives_it_back(case: Case) -> None:
    if case.stage.cpu is None:
        pytest.skip("only where the metrics server is ours the pods can be made to use CPU")
    *_, over = shown("ScaledObject")
    config = case.home / "config"
    prometheus = case.start_load(web=Shape([(0, LOAD / 2)]))
    write_policy(case, config, prometheus.url, "observe")
    kedastral = case.start_kedastral(config=str(config))
    kedastral.wait_for_forecast({"workload": f"{case.namespace}/web"})
    case.stage.cpu.set(case.namespace, "web", 70)
    case.deploy("web", replicas=8)
    case.apply(HPA)
    web = case.record("web", 200)
    began = case.second
    case.until(case.second + 20)
    case.mark("KEDA takes the HPA over")
    assert case.apply(in_case(over, case)) == []
    wait_for(lambda: sorted(hpas(case)["web"]) == ["cpu", "s0-desired_replicas"], "the HPA is KEDA's")
    case.wait_until_ready("web")
    case.until(case.second + 25)
    case.mark("back")
    case.stage.api.delete(f"/apis/keda.sh/v1alpha1/namespaces/{case.namespace}/scaledobjects/web")
    case.until(case.second + 15)
    case.apply(HPA)
    case.until(case.second + 25)
    assert set(web.replicas(began, case.second)) == {8}
    assert hpas(case) == {"web": ["cpu"]}
