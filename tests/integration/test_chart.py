# SPDX-License-Identifier: Apache-2.0
"""The real helm renders the chart for a table of values: every object is one that Kubernetes and the operators know."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import kubernetes_validate
import pytest
import yaml

from docs import manifests
from docs.chart import CHART, RECIPES, settings_of_chart
from docs.helm import build_helm, can_build_helm, find_helm, run_go
from kedastral.errors import ConfigError
from kedastral.settings.commands import BY_COMMAND, RunSettings
from kedastral.settings.load import load
from kedastral.settings.schema import settings_of
from kedastral.settings.types import ReadChoice
from tests.docs import product
from tests.docs.pages import ROOT, blocks, read
from tests.e2e.recipes import documented

pytestmark = pytest.mark.integration

Yaml = dict[str, Any]
KUBERNETES = ("1.29", "1.35")
CRDS = {
    "keda.sh": ("github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases"),
    "monitoring.coreos.com": (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd",
    ),
    "cert-manager.io": ("github.com/cert-manager/cert-manager@v1.21.2", "deploy/crds"),
}
"""By API group: the Go module with its definitions, and where they are."""

PROMETHEUS = {"dataSources": {"prometheus": {"url": "http://prometheus:9090"}}}
FLEET = {
    **PROMETHEUS,
    "forecastPolicies": {
        "shop/web": {"query": "sum(rate(requests[1m]))", "targetPerPod": 200, "min": 3, "max": 20},
        "lonely": {"query": "vector(1)", "targetPerPod": 9, "onStale": "error", "serviceLevel": 0.995},
    },
}
ALL_MONITORING = {
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
}
TRIGGER = {"serverAddress": "http://prometheus:9090", "query": "sum(rate(requests[1m]))", "threshold": "167"}
RECIPE_OBJECTS = {
    f"by-{recipe}": {"recipe": recipe, "namespace": "shop", "workload": "web"}
    | ({"prometheus": TRIGGER} if recipe in ("reactive", "formula") else {})
    for recipe in RECIPES
}
CERTIFICATE = {"enabled": True, "issuerRef": {"name": "authority", "kind": "ClusterIssuer"}}
TLS = {"tls": {"enabled": True, "certificate": CERTIFICATE}, "secretSettings": {"httpToken": {"name": "t", "key": "k"}}}
POD = {
    "image": {"repository": "registry.example/kedastral", "digest": f"sha256:{'0' * 64}", "pullSecrets": ["registry"]},
    "extraEnv": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "prometheus", "key": "password"}}}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "priorityClassName": "system-cluster-critical",
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "shop"},
}
CASES: Mapping[str, Yaml] = {
    "defaults": {},
    "one workload": {"settings": {"workload": "web", "promUrl": "http://prometheus:9090", "promQuery": "vector(1)"}},
    "fleet": FLEET,
    "split": {**FLEET, "mode": "split", "forecaster": {"replicas": 1}, "scaler": {"settings": {"staleAfter": "3m"}}},
    "from ScaledObjects": {**PROMETHEUS, "settings": {"allowScaledobjectWorkloads": True}},
    "existing ConfigMap": {"existingConfigMap": "mine", "workloads": 1000},
    "redis": {**FLEET, "redis": {"url": "redis://redis:6379", "passwordSecret": "redis"}},
    "split with redis": {**FLEET, "mode": "split", "redis": {"url": "redis://redis:6379", "passwordSecret": "redis"}},
    "claim": {**FLEET, "replicas": 1, "state": {"kind": "claim", "storageClass": "fast"}},
    "emptyDir": {**FLEET, "state": {"kind": "emptyDir"}},
    "tls": {**FLEET, **TLS, "monitoring": ALL_MONITORING},
    "split with tls": {**FLEET, **TLS, "mode": "split", "monitoring": ALL_MONITORING, "scaledObjects": RECIPE_OBJECTS},
    "tls without certificates of clients": {**FLEET, "tls": {"enabled": True, "mutual": False, "http": False}},
    "monitoring": {**FLEET, "monitoring": ALL_MONITORING},
    "recipes": {**FLEET, "scaledObjects": RECIPE_OBJECTS},
    "nothing around": {
        **FLEET,
        **{key: {"enabled": False} for key in ("podDisruptionBudget", "networkPolicy", "topologySpread")},
        "serviceAccount": {"create": False},
        "monitoring": {"annotations": False},
    },
    "networks": {**FLEET, "mode": "split", "networkPolicy": {"httpFrom": [{"namespaceSelector": {}}]}},
    "headless": {**FLEET, "service": {"headless": True, "annotations": {"a": "b"}}},
    "definitions": {"crds": {"install": True}},
    "pod": {**FLEET, **POD},
    "names": {**FLEET, "nameOverride": "forecasts", "fullnameOverride": "x" * 80, "mode": "split"},
}
every_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="session")
def helm() -> str:
    """The program; built with Go if helm is not installed."""
    found = find_helm()
    if found is not None:
        return found
    require_go()
    try:
        return build_helm()
    except subprocess.CalledProcessError as error:
        return give_up(f"helm cannot be built: {error.stderr[-300:]}")


def require_go() -> None:
    """Go builds helm, and brings the definitions of the operators' kinds."""
    if not can_build_helm():
        give_up("neither helm nor Go is installed")


def give_up(why: str) -> NoReturn:
    """Skip, or fail if KEDASTRAL_REQUIRE_HELM is set: Go and its modules are not available everywhere."""
    (pytest.fail if os.environ.get("KEDASTRAL_REQUIRE_HELM") else pytest.skip)(why)


class RefusedError(Exception):
    """Helm's message about values that it refuses."""


@cache
def _render(helm: str, values: str) -> tuple[Yaml, ...]:
    words = [helm, "template", "kedastral", str(CHART), "--namespace", "kedastral", "--values", "-"]
    done = subprocess.run(words, input=values, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RefusedError(done.stderr)
    return tuple(document for document in yaml.safe_load_all(done.stdout) if document)


def render(helm: str, values: Yaml) -> list[Yaml]:
    """Every object that the chart makes of ``values``. Raises RefusedError."""
    return list(json.loads(json.dumps(_render(helm, json.dumps(values)))))


def only(objects: list[Yaml], kind: str, name: str | None = None) -> Yaml:
    [found] = [one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


def container_of(deployment: Yaml) -> Yaml:
    [found] = deployment["spec"]["template"]["spec"]["containers"]
    return dict(found)


def variables_of(deployment: Yaml) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in container_of(deployment)["env"]}


# objects


def test_helm_lint_finds_nothing(helm: str) -> None:
    done = subprocess.run([helm, "lint", "--strict", str(CHART)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@every_case
def test_every_object_is_one_that_its_api_knows(helm: str, case: str) -> None:
    objects = render(helm, CASES[case])
    seen = set()
    for one in objects:
        seen.add((one["kind"], one["metadata"]["name"], one["metadata"].get("namespace")))
        group = one["apiVersion"].rpartition("/")[0]
        if group in CRDS:
            definition_of(group, one["kind"], one["apiVersion"].rpartition("/")[2]).validate(one)
        elif one["kind"] != "CustomResourceDefinition":
            for version in KUBERNETES:
                kubernetes_validate.validate(one, version, strict=True)
    assert len(seen) == len(objects)


class _Definitions(yaml.CSafeLoader):
    """Reads a plain ``=``, an enum value of the Prometheus operator, as text."""


_Definitions.add_constructor("tag:yaml.org,2002:value", yaml.CSafeLoader.construct_yaml_str)


@cache
def definition_of(group: str, kind: str, version: str) -> jsonschema.Draft202012Validator:
    """The schema of a kind of KEDA's, of the Prometheus operator's or of cert-manager's, which refuses unknown keys."""
    require_go()
    module, folder = CRDS[group]
    try:
        place = Path(json.loads(run_go("mod", "download", "-json", module))["Dir"]) / folder
    except subprocess.CalledProcessError as error:
        give_up(f"{module} cannot be downloaded: {error.stderr[-300:]}{error.stdout[-300:]}")
    for file in place.glob(f"{group}_*.yaml"):
        definition = yaml.load(file.read_text(), _Definitions)
        if definition["spec"]["names"]["kind"] == kind:
            [schema] = [one["schema"] for one in definition["spec"]["versions"] if one["name"] == version]
            return jsonschema.Draft202012Validator(_closed(schema["openAPIV3Schema"]))
    raise AssertionError(f"{module} does not define {kind}")


def _closed(schema: Any) -> Any:
    """A definition's schema as JSON schema that refuses unknown keys, as the API server's strict validation does."""
    if not isinstance(schema, dict):
        return [_closed(one) for one in schema] if isinstance(schema, list) else schema
    made = {key: _closed(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in made:
        made.setdefault("additionalProperties", False)
    if made.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    if made.get("properties", {}).get("metadata") == {"type": "object"}:
        made["properties"] = {**made["properties"], "metadata": {"type": "object"}}
    return made


@every_case
def test_every_service_budget_and_policy_selects_the_pods(helm: str, case: str) -> None:
    objects = render(helm, CASES[case])
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in objects if one["kind"] == "Deployment"]
    for one in objects:
        spec = one.get("spec", {})
        match one["kind"]:
            case "Service":
                selector = spec["selector"]
            case "PodDisruptionBudget" | "Deployment" | "PodMonitor":
                selector = spec["selector"]["matchLabels"]
            case "NetworkPolicy":
                selector = spec["podSelector"]["matchLabels"]
            case _:
                continue
        assert sum(selector.items() <= labels.items() for labels in pods) == 1, one["metadata"]["name"]


@every_case
def test_every_pod_runs_without_rights(helm: str, case: str) -> None:
    for one in render(helm, CASES[case]):
        assert one["kind"] not in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
        if one["kind"] == "Deployment":
            pod, own = one["spec"]["template"]["spec"], container_of(one)["securityContext"]
            assert pod["securityContext"]["runAsNonRoot"] is True
            assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            assert pod["automountServiceAccountToken"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert not [mount for mount in container_of(one).get("volumeMounts", ()) if "subPath" in mount]


@every_case
def test_every_variable_is_a_setting_of_the_process_that_gets_it(helm: str, case: str) -> None:
    for one in render(helm, CASES[case]):
        if one["kind"] == "Deployment":
            command = container_of(one)["args"][0]
            assert variables_of(one).keys() <= product.variables_of(command) | {"PASSWORD"}


@every_case
def test_every_process_starts_with_the_variables_that_it_gets(helm: str, case: str, tmp_path: Path) -> None:
    """Their files do not exist here, but must be in a volume of the pod."""
    objects = render(helm, CASES[case])
    maps = [one for one in objects if one["kind"] == "ConfigMap" and one["metadata"]["name"].endswith("-config")]
    for name, text in (maps or [only(render(helm, FLEET), "ConfigMap")])[0]["data"].items():
        (tmp_path / name).write_text(text)
    for one in objects:
        if one["kind"] == "Deployment":
            container = container_of(one)
            flags = {"--config": str(tmp_path)} if "--config" in container["args"] else {}
            mounts = tuple(mount["mountPath"] for mount in container.get("volumeMounts", ()))
            problems = problems_of(BY_COMMAND[container["args"][0]], flags, variables_of(one))
            assert [each for each in problems if not is_in_a_volume(each, mounts) and not is_not_given(each)] == []


def problems_of(kind: type[Any], flags: Mapping[str, str], env: Mapping[str, str]) -> tuple[str, ...]:
    try:
        load(kind, flags, env)
    except ConfigError as error:
        return error.problems
    return ()


def is_in_a_volume(problem: str, mounts: tuple[str, ...]) -> bool:
    """Whether a file is only missing because no pod runs here."""
    path = re.search(r"\(No such file or directory\), got '([^']+)'", problem)
    return path is not None and path[1].startswith(mounts)


def is_not_given(problem: str) -> bool:
    """Whether the values of the case leave out what only the user knows."""
    return "is required" in problem


def test_every_setting_arrives_in_the_process_that_has_it(helm: str) -> None:
    samples = {
        "integer": 7, "number": 0.5, "boolean": False, "duration": "90s", "names": ["a", "b"], "URL": "http://x",
        "header": ["a: b", "c: d"], "parameter": ["a=b"],
    }  # fmt: skip
    every = {key: one for key, one in settings_of_chart().items() if not one.is_secret}
    given: dict[str, Any] = {}
    for key, one in every.items():
        value = one.read.words[-1] if isinstance(one.read, ReadChoice) else samples.get(one.kind, "x")
        low = one.bounds.low if one.bounds is not None else None
        given[key] = max(value, low + 1) if low is not None and isinstance(value, (int, float)) else value
    given["serviceLevel"], given["maxScaledobjectWorkloads"] = 0.9, 1_000_000
    for mode, commands in (("single", ["run"]), ("split", ["forecaster", "scaler"])):
        known = set().union(*map(product.variables_of, commands))
        usable = {key: value for key, value in given.items() if every[key].env in known}
        for deployment in render(helm, {"mode": mode, "settings": usable}):
            if deployment["kind"] == "Deployment":
                got = variables_of(deployment)
                wanted = {one.env for one in settings_of(BY_COMMAND[container_of(deployment)["args"][0]])}
                assert {every[key].env for key in usable} & wanted <= got.keys()
                if mode == "single":
                    assert got["PROM_HEADER"] == "a: b\nc: d"
                    assert got["SCALEDOBJECT_NAMESPACES"] == "a,b"
                    assert got["MAX_SCALEDOBJECT_WORKLOADS"] == "1000000"
                    assert got["REACTIVE_FLOOR"] == "false"


# how the product reads it


@pytest.mark.parametrize("case", ["fleet", "split", "redis", "emptyDir"])
def test_the_files_of_the_config_map_are_a_sound_fleet(helm: str, case: str, tmp_path: Path) -> None:
    for name, text in only(render(helm, CASES[case]), "ConfigMap")["data"].items():
        (tmp_path / name).write_text(text)
    fleet = load(RunSettings, {"--config": str(tmp_path)}, {}).settings.fleet
    assert not fleet.warnings
    assert {key: str(one.stale.on_stale) for key, one in fleet.settings.workloads.items()} == {
        "shop/web": "ride-forecast",
        "lonely": "error",
    }


@pytest.mark.parametrize("case", ["defaults", "one workload", "from ScaledObjects"])
def test_without_policies_the_last_plan_is_ridden_by_variable(helm: str, case: str) -> None:
    assert variables_of(only(render(helm, CASES[case]), "Deployment"))["ON_STALE"] == "ride-forecast"


@pytest.mark.parametrize("case", ["fleet", "existing ConfigMap"])
def test_no_variable_wins_over_policies(helm: str, case: str) -> None:
    assert variables_of(only(render(helm, CASES[case]), "Deployment")).keys() == {"LOG_FORMAT"}


def test_the_split_scaler_reads_the_redis_of_its_forecasters(helm: str) -> None:
    scaler = only(render(helm, CASES["split with redis"]), "Deployment", "kedastral-scaler")
    assert {"STORAGE": "redis", "REDIS_URL": "redis://redis:6379"}.items() <= variables_of(scaler).items()
    assert "FORECASTER_URL" not in variables_of(scaler)  # it reads one or the other


def test_the_split_scaler_finds_its_forecaster(helm: str) -> None:
    for case, scheme in (("split", "http"), ("split with tls", "https")):
        objects = render(helm, CASES[case])
        scaler = only(objects, "Deployment", "kedastral-scaler")
        service = only(objects, "Service", "kedastral-forecaster")
        [port] = service["spec"]["ports"]
        assert variables_of(scaler)["FORECASTER_URL"] == (
            f"{scheme}://{service['metadata']['name']}.kedastral.svc.cluster.local:{port['port']}"
        )
        assert variables_of(scaler)["ON_STALE"] == "ride-forecast"
        assert "--config" not in container_of(scaler)["args"]
        assert "--config" in container_of(only(objects, "Deployment", "kedastral-forecaster"))["args"]


@pytest.mark.parametrize(("workloads", "memory", "limit"), [(1, 128, 256), (100, 128, 384), (1000, 320, 1536)])
def test_the_memory_follows_the_number_of_workloads(helm: str, workloads: int, memory: int, limit: int) -> None:
    """docs/benchmarks.md: 89 MiB with 10 workloads, 106 with 100, 279 with 1,000, of a budget of 1,024."""
    resources = container_of(only(render(helm, {"workloads": workloads}), "Deployment"))["resources"]
    assert resources["requests"]["memory"] == f"{memory}Mi"
    assert resources["limits"] == {"memory": f"{limit}Mi"}


# what is refused


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"replica": 3}, "replica"),
        ({"settings": {"leadtime": "5m"}}, "leadtime"),
        ({"settings": {"leadTime": 5}}, "leadTime"),
        ({"settings": {"leadTime": "soon"}}, "leadTime"),
        ({"settings": {"targetPerPod": 0}}, "targetPerPod"),
        ({"settings": {"promToken": "secret"}}, "promToken"),
        ({"settings": {"scalerListen": ":1"}}, "scalerListen"),
        ({"mode": "both"}, "mode"),
        ({"replicas": "two"}, "replicas"),
        ({"onStale": "panic"}, "onStale"),
        ({"dataSources": {"prometheus": {}}}, "url"),
        ({"dataSources": {"prometheus": {"url": "prometheus:9090"}}}, "url"),
        ({"forecastPolicies": {"a/b/c": {"query": "x"}}}, "forecastPolicies"),
        ({"forecastPolicies": {"shop/web": {"query": "x", "headroom": 0.5}}}, "headroom"),
        ({"forecastPolicies": {"shop/web": {"query": "x", "qurey": "y"}}}, "qurey"),
        ({"scaledObjects": {"web": {"recipe": "magic"}}}, "recipe"),
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_unknown_or_of_the_wrong_type(helm: str, values: Yaml, words: str) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        render(helm, values)
    assert "schema" in str(refused.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({**FLEET, "settings": {"leadTime": "8m"}}, "settings.leadTime would win over every one of forecastPolicies"),
        ({**FLEET, "existingConfigMap": "mine"}, "existingConfigMap takes the place of"),
        ({"mode": "split", "settings": {"allowScaledobjectWorkloads": True}}, "no process of mode split has this"),
        ({"settings": {"forecasterCaFile": "/ca"}}, "no process of mode single has this setting"),
        ({"scaler": {"settings": {"staleAfter": "3m"}}}, "are for mode split"),
        ({"state": {"kind": "claim"}}, "is for one pod"),
        ({"tls": {"certificate": {"enabled": True}}}, "needs tls.enabled"),
        ({"tls": {"enabled": True, "certificate": {"enabled": True}}}, "needs the name of an issuer"),
        ({"scaledObjects": {"web": {"recipe": "reactive"}}}, "needs serverAddress, query and threshold"),
        ({"scaledObjects": {"web": {"min": 0}}}, "0 is for the recipe from-zero"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_that_would_not_do_what_they_say_are_refused(helm: str, values: Yaml, words: str) -> None:
    with pytest.raises(RefusedError) as refused:
        render(helm, values)
    assert words in str(refused.value)


# what else is made from it

TITLES = {
    "predicted": "Predicted",
    "cpu": "Predicted, and CPU as a net",
    "reactive": "Predicted and reactive",
    "from-zero": "From zero",
    "formula": "One formula",
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_recipe_is_the_one_of_the_page(helm: str, recipe: str) -> None:
    shown = yaml.safe_load(documented()[TITLES[recipe]])
    given = {"recipe": recipe, "workload": shown["metadata"]["name"]}
    for trigger in shown["spec"]["triggers"]:
        if trigger["type"] == "prometheus":
            given["prometheus"] = trigger["metadata"]
    made = only(render(helm, {"scaledObjects": {shown["metadata"]["name"]: given}}), "ScaledObject")
    assert made["spec"] == shown["spec"]


def test_the_bounds_of_a_scaled_object_are_those_of_its_policy(helm: str) -> None:
    made = only(render(helm, CASES["recipes"]), "ScaledObject", "by-predicted")["spec"]
    assert (made["minReplicaCount"], made["maxReplicaCount"]) == (3, 20)


def test_the_alerts_the_dashboard_and_the_definitions_are_those_of_the_repository(helm: str) -> None:
    objects = render(helm, {**CASES["monitoring"], "crds": {"install": True}})
    alerts = yaml.safe_load(read(ROOT / "deploy" / "prometheus" / "alerts.yaml"))
    assert only(objects, "PrometheusRule")["spec"] == alerts
    board = only(objects, "ConfigMap", "kedastral-dashboard")["data"]["kedastral.json"]
    assert json.loads(board) == json.loads(read(ROOT / "deploy" / "grafana" / "kedastral.json"))
    made = [one for one in objects if one["kind"] == "CustomResourceDefinition"]
    assert made == [yaml.safe_load(read(file)) for file in sorted((ROOT / "deploy" / "crds").glob("*.yaml"))]


def test_the_folders_of_deploy_are_made_from_the_chart(helm: str) -> None:
    made = manifests.write_manifests(helm)
    assert {path.parent.name for path in made} == {
        "examples", "production", "production-redis", "production-tls", "fleet",
    }  # fmt: skip
    for path, text in made.items():
        assert read(path) == text, f"{path}: run `make manifests`"


def test_the_values_that_the_page_shows_are_taken(helm: str) -> None:
    page = read(ROOT / "docs" / "install.md")
    shown = [yaml.safe_load(block.text) for block in blocks(page) if block.language == "yaml"]
    assert len(shown) >= 3
    for values in shown:
        assert only(render(helm, values), "Deployment")
    together = {key: value for values in shown for key, value in values.items()}
    made = only(render(helm, together), "ScaledObject")
    assert made["spec"]["triggers"][0]["metadata"]["workload"] == "web"


def test_the_notes_say_the_next_step(helm: str) -> None:
    def notes(values: Yaml) -> str:
        words = [helm, "install", "kedastral", str(CHART), "--dry-run=client", "--namespace", "kedastral", "-f", "-"]
        return subprocess.run(words, input=json.dumps(values), check=True, capture_output=True, text=True).stdout

    assert "say what to forecast" in notes({})
    told = notes(FLEET).partition("NOTES:")[2]
    [shown] = [block for block in told.split("\n\n") if "triggers:" in block]
    [trigger] = yaml.safe_load(shown)["triggers"]
    assert trigger["metadata"] == {"scalerAddress": "kedastral.kedastral.svc.cluster.local:8080", "workload": "lonely"}
    assert "kubectl get scaledobject" in notes({**FLEET, "scaledObjects": {"web": {}}})
    assert "https://localhost:8081" in notes(CASES["tls"])
    assert "http://localhost:8081" in notes(CASES["tls without certificates of clients"])
