# SPDX-License-Identifier: Apache-2.0
"""The deployment examples and the image match the product, and how it starts and stops."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from kedastral.app import MAX_STOP_SECONDS
from kedastral.core.planning.stale_policy import OnStale
from kedastral.serving.scaler import TARGET
from kedastral.settings.commands import BY_COMMAND, RunSettings
from kedastral.settings.kinds import QUERY, SOURCE_SETTINGS, WORKLOAD_SETTINGS
from kedastral.settings.load import load
from tests.docs import product
from tests.docs.dockerfile import instructions, last_stage
from tests.docs.pages import ROOT, bare, blocks, commands, read, tables

DEPLOY = ROOT / "deploy"
NO_OBJECTS = {DEPLOY / "prometheus", DEPLOY / "helm"}
"""Files of Prometheus and the chart, tested elsewhere: tests/docs/test_alerts.py, tests/integration/test_chart.py."""
FILES = sorted(
    file for file in (*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")) if NO_OBJECTS.isdisjoint(file.parents)
)
PROMISED_DRAIN = 10
PLAIN_PORTS = {"SCALER_LISTEN": 8080, "FORECASTER_LISTEN": 8081}
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
names = [str(file.relative_to(DEPLOY)) for file in FILES]
every_file = pytest.mark.parametrize("file", FILES, ids=names)


def documents(file: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(read(file)) if document]


def one(kind: str, file: str) -> dict[str, Any]:
    """The only document of a kind in a file of the examples."""
    (found,) = [document for document in documents(DEPLOY / "examples" / file) if document["kind"] == kind]
    return found


@pytest.fixture
def pod() -> dict[str, Any]:
    """The pod of Kedastral's Deployment."""
    spec: dict[str, Any] = one("Deployment", "deployment.yaml")["spec"]["template"]["spec"]
    return spec


@pytest.fixture
def container(pod: dict[str, Any]) -> dict[str, Any]:
    (only,) = pod["containers"]
    return dict(only)


@pytest.fixture
def scaled_object() -> dict[str, Any]:
    spec: dict[str, Any] = one("ScaledObject", "example-scaledobject.yaml")["spec"]
    return spec


def external_trigger(scaled_object: dict[str, Any]) -> dict[str, Any]:
    (found,) = [trigger for trigger in scaled_object["triggers"] if trigger["type"].startswith("external")]
    return dict(found)


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


# every file


def specs_of_workloads(node: Any) -> Iterator[tuple[Any, Any]]:
    """The stale policy of every ForecastPolicy, trigger and container in a document, with its owner."""
    match node:
        case {"kind": "ForecastPolicy", "spec": {"query": query, **rest}}:
            yield query, rest.get("onStale")
        case {"scalerAddress": str(), "query": query, **rest}:
            yield query, rest.get("onStale")
        case {"args": ["run"], "env": [*env]}:
            yield "run", next((one["value"] for one in env if one["name"] == "ON_STALE"), None)
        case {**entries}:
            for entry in entries.values():
                yield from specs_of_workloads(entry)
        case [*entries]:
            for entry in entries:
                yield from specs_of_workloads(entry)


def test_everything_that_is_shown_rides_on_without_a_fresh_forecast() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    shown = [block.text for page in pages for block in blocks(read(page)) if block.language == "yaml"]
    shown += [read(file) for file in (*DEPLOY.glob("examples/*.yaml"), *DEPLOY.glob("fleet/**/*.yaml"))]
    found = [one for text in shown for document in yaml.safe_load_all(text) for one in specs_of_workloads(document)]
    assert len(found) >= 7
    assert {on_stale for _, on_stale in found} == {OnStale.RIDE_FORECAST}, found
    runs = [words for page in pages for words in commands(read(page)) if words[:2] == ["kedastral", "run"]]
    assert runs
    for words in runs:
        assert "--config" in words or words[words.index("--on-stale") + 1] == OnStale.RIDE_FORECAST, words


@every_file
def test_files_parse_and_name_what_they_are(file: Path) -> None:
    found = documents(file)
    assert found
    for document in found:
        assert document["apiVersion"]
        assert document["kind"]


@every_file
def test_metric_type_value_appears_nowhere(file: Path) -> None:
    def types(node: Any) -> list[str]:
        if isinstance(node, dict):
            return [str(node[key]) for key in node if key == "metricType"] + [
                t for v in node.values() for t in types(v)
            ]
        return [t for item in node for t in types(item)] if isinstance(node, list) else []

    assert set(types(documents(file))) <= {"AverageValue"}


def test_kustomizations_name_files_that_exist() -> None:
    found = [file for file in FILES if file.name == "kustomization.yaml"]
    assert found
    for file in found:
        [kustomization] = documents(file)
        generated = [name for one in kustomization.get("configMapGenerator", ()) for name in one["files"]]
        for resource in (*kustomization["resources"], *generated):
            assert (file.parent / resource).exists(), resource
            assert (file.parent / resource).resolve() not in file.parents, "kustomize refuses a base around itself"


# the Deployment


def test_the_settings_of_the_deployment_exist_and_are_sound(container: dict[str, Any]) -> None:
    (command,) = container["args"]
    assert command == "run"
    given = variables(container)
    assert given.keys() <= product.variables_of(command)
    load(RunSettings, {}, given)


def test_the_deployments_ports_are_those_it_listens_on(container: dict[str, Any]) -> None:
    settings = load(RunSettings, {}, variables(container)).settings
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": settings.listeners.grpc_listen.port, "http": settings.listeners.http_listen.port}
    service = one("Service", "deployment.yaml")["spec"]["ports"]
    assert {port["port"]: port["targetPort"] for port in service} == {number: name for name, number in ports.items()}


def test_the_service_selects_the_pods() -> None:
    labels = one("Deployment", "deployment.yaml")["spec"]["template"]["metadata"]["labels"]
    assert one("Service", "deployment.yaml")["spec"]["selector"].items() <= labels.items()
    for document in documents(DEPLOY / "production" / "availability.yaml"):
        selector = document["spec"].get("selector") or document["spec"]["podSelector"]
        assert selector["matchLabels"].items() <= labels.items()


def test_the_network_policy_opens_the_ports_that_are_served() -> None:
    (policy,) = [d for d in documents(DEPLOY / "production" / "availability.yaml") if d["kind"] == "NetworkPolicy"]
    opened = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
    assert opened == set(PLAIN_PORTS.values())
    from_keda = [rule for rule in policy["spec"]["ingress"] if {"port": PLAIN_PORTS["SCALER_LISTEN"]} in rule["ports"]]
    assert all(rule.get("from") for rule in from_keda)


def test_scrape_annotations_point_at_the_metrics(container: dict[str, Any]) -> None:
    annotations = one("Deployment", "deployment.yaml")["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/path"] in product.endpoints()
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert int(annotations["prometheus.io/port"]) == ports["http"]


@pytest.mark.parametrize("probe", PROBES)
def test_probes_ask_an_endpoint_on_the_http_port(container: dict[str, Any], probe: str) -> None:
    asked = container[probe]["httpGet"]
    assert asked["port"] == "http"
    assert asked["path"] in product.endpoints()


def test_liveness_never_depends_on_readiness(container: dict[str, Any]) -> None:
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_grace_period_is_longer_than_the_drain(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert MAX_STOP_SECONDS <= PROMISED_DRAIN < pod["terminationGracePeriodSeconds"]
    assert "lifecycle" not in container, "a preStop hook takes time from the grace period: add it here"


def test_pods_run_with_no_privileges(pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == image_user()
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    own = container["securityContext"]
    assert own["readOnlyRootFilesystem"] is True
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}


def test_the_image_is_the_one_that_make_docker_builds(container: dict[str, Any]) -> None:
    from kedastral import __version__

    assert container["image"] == f"kedastral:{__version__}"
    assert "IMAGE ?= kedastral:$(VERSION)" in read(ROOT / "Makefile")


def test_no_scaler_is_gone_during_a_rollout() -> None:
    update = one("Deployment", "deployment.yaml")["spec"]["strategy"]["rollingUpdate"]
    assert update["maxUnavailable"] == 0


# the ScaledObject


def test_trigger_metadata_is_what_the_scaler_knows(scaled_object: dict[str, Any]) -> None:
    rows = next(table for table in tables(read(ROOT / "docs" / "keda.md")) if "key" in table[0])
    assert external_trigger(scaled_object)["metadata"].keys() <= {bare(row["key"]) for row in rows}


def test_the_trigger_asks_the_service_for_the_configured_workload(
    scaled_object: dict[str, Any], container: dict[str, Any]
) -> None:
    metadata = external_trigger(scaled_object)["metadata"]
    namespace = documents(DEPLOY / "examples" / "kustomization.yaml")[0]["namespace"]
    service = one("Service", "deployment.yaml")["metadata"]["name"]
    assert metadata["scalerAddress"] == f"{service}.{namespace}.svc.cluster.local:{PLAIN_PORTS['SCALER_LISTEN']}"
    assert metadata["workload"] == variables(container)["WORKLOAD"]


def test_no_trigger_that_asks_prometheus_shares_the_fallback(scaled_object: dict[str, Any]) -> None:
    assert [trigger["type"] for trigger in scaled_object["triggers"]] == ["external"]
    assert "fallback" in scaled_object


def test_bounds_are_the_same_on_both_sides(scaled_object: dict[str, Any], container: dict[str, Any]) -> None:
    given = variables(container)
    assert scaled_object["minReplicaCount"] == int(given["MIN_REPLICAS"]) > 0
    assert scaled_object["maxReplicaCount"] == int(given["MAX_REPLICAS"])


def test_the_fallback_can_begin_and_lies_within_the_bounds(
    scaled_object: dict[str, Any], container: dict[str, Any]
) -> None:
    assert variables(container)["ON_STALE"] in ("ride-forecast", "error"), "default-min never lets fallback begin"
    replicas = scaled_object["fallback"]["replicas"]
    assert scaled_object["minReplicaCount"] <= replicas <= scaled_object["maxReplicaCount"]


def test_the_hpa_takes_the_answer_at_its_word(scaled_object: dict[str, Any]) -> None:
    behavior = scaled_object["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleUp"]["tolerance"] == 0
    assert behavior["scaleDown"]["tolerance"] == 0
    assert external_trigger(scaled_object)["metricType"] == "AverageValue"
    assert TARGET == 1
    assert "HPAConfigurableTolerance" in read(DEPLOY / "examples" / "example-scaledobject.yaml")


def test_the_readme_shows_the_triggers_of_the_example(scaled_object: dict[str, Any]) -> None:
    [shown] = [yaml.safe_load(block.text) for block in blocks(read(ROOT / "README.md")) if block.language == "yaml"]
    without_names = [{k: v for k, v in trigger.items() if k != "name"} for trigger in scaled_object["triggers"]]
    assert shown["spec"]["triggers"] == without_names
    for key in ("minReplicaCount", "maxReplicaCount", "fallback"):
        assert shown["spec"][key] == scaled_object[key]


def test_the_trial_prometheus_is_where_the_examples_look(container: dict[str, Any]) -> None:
    service = one("Service", "prometheus-test-setup.yaml")
    namespace = documents(DEPLOY / "examples" / "kustomization.yaml")[0]["namespace"]
    port = service["spec"]["ports"][0]["port"]
    address = f"http://{service['metadata']['name']}.{namespace}.svc.cluster.local:{port}"
    assert variables(container)["PROM_URL"] == address
    yaml.safe_load(one("ConfigMap", "prometheus-test-setup.yaml")["data"]["prometheus.yml"])


def test_the_trial_prometheus_obeys_every_annotation_of_ours() -> None:
    [job] = yaml.safe_load(one("ConfigMap", "prometheus-test-setup.yaml")["data"]["prometheus.yml"])["scrape_configs"]
    obeyed = {label for rule in job["relabel_configs"] for label in rule["source_labels"]}
    with_tls = parts_of(DEPLOY / "production-tls" / "deployment.yaml", "Deployment")
    given = {
        annotation
        for deployment in (one("Deployment", "deployment.yaml"), with_tls)
        for annotation in deployment["spec"]["template"]["metadata"]["annotations"]
    }
    assert "prometheus.io/scheme" in given
    assert {f"__meta_kubernetes_pod_annotation_{re.sub(r'[^a-z]', '_', name)}" for name in given} <= obeyed


def test_the_values_that_are_yours_are_counted_and_the_lead_time_is_one() -> None:
    text = read(DEPLOY / "examples" / "deployment.yaml")
    yours = re.findall(r"name: (\w+)  # yours", text)
    assert {"WORKLOAD", "PROM_URL", "PROM_QUERY", "TARGET_PER_POD", "LEAD_TIME"} == set(yours)
    assert 'set the five values marked "yours"' in text


# the fleet

FLEET = DEPLOY / "fleet"


def parts_of(file: Path, kind: str) -> dict[str, Any]:
    [found] = [document for document in documents(file) if document["kind"] == kind]
    return found


def without(deployment: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The spec of a Deployment without its volumes and these keys of its container."""
    spec: dict[str, Any] = deployment["spec"]
    pod = spec["template"]["spec"]
    pod.pop("volumes", None)
    for key in ("volumeMounts", *keys):
        pod["containers"][0].pop(key, None)
    return spec


def test_the_fleet_is_production_but_for_what_it_is_told() -> None:
    files = [folder / "deployment.yaml" for folder in (DEPLOY / "production", FLEET)]
    services = [parts_of(file, "Service") for file in files]
    assert services[0] == services[1]
    specs = [without(parts_of(file, "Deployment"), "args", "env", "resources") for file in files]
    assert specs[0] == specs[1]
    assert specs[0]["replicas"] == 2
    assert documents(DEPLOY / "production" / "availability.yaml") == documents(FLEET / "availability.yaml")


def test_no_variable_of_the_fleet_wins_over_its_files() -> None:
    pod = parts_of(FLEET / "deployment.yaml", "Deployment")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    given = variables(container)
    assert given.keys() <= product.variables_of("run")
    assert not given.keys() & {setting.env for setting in (*WORKLOAD_SETTINGS, *SOURCE_SETTINGS, QUERY)}
    assert "WORKLOAD" not in given
    command, flag, folder = container["args"]
    [mount] = container["volumeMounts"]
    assert (command, flag, folder) == ("run", "--config", mount["mountPath"])
    assert "subPath" not in mount, "the kubelet does not update it"
    fleet = load(RunSettings, {"--config": str(FLEET / "config")}, given).settings.fleet
    assert not fleet.warnings
    assert len(fleet.settings.workloads) > 1
    assert {one.stale.on_stale for one in fleet.settings.workloads.values()} == {OnStale.RIDE_FORECAST}


def test_the_fleets_files_are_all_mounted_and_change_in_place() -> None:
    [kustomization] = documents(FLEET / "kustomization.yaml")
    [generator] = kustomization["configMapGenerator"]
    assert {f"config/{file.name}" for file in (FLEET / "config").iterdir()} == set(generator["files"])
    [volume] = parts_of(FLEET / "deployment.yaml", "Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volume["configMap"]["name"] == generator["name"]
    assert kustomization["generatorOptions"]["disableNameSuffixHash"], "another name is a rollout"


# TLS


@pytest.fixture
def tls_pod() -> dict[str, Any]:
    """The pod with TLS."""
    spec: dict[str, Any] = parts_of(DEPLOY / "production-tls" / "deployment.yaml", "Deployment")["spec"]["template"]
    assert spec["metadata"]["annotations"].pop("prometheus.io/scheme") == "https"
    return dict(spec["spec"])


def head_of(folder: str) -> str:
    """The comment at the top of a folder's deployment.yaml, as one line."""
    lines = re.findall(r"^# (.*)", read(DEPLOY / folder / "deployment.yaml").partition("---")[0], re.MULTILINE)
    return " ".join(lines)


def test_tls_files_lie_where_the_secret_is_mounted(tls_pod: dict[str, Any], container: dict[str, Any]) -> None:
    [own] = tls_pod["containers"]
    given = {name: value for name, value in variables(own).items() if name not in variables(container)}
    assert given.keys() <= product.variables_of("run")
    assert {"GRPC_TLS_CERT_FILE", "GRPC_TLS_KEY_FILE", "GRPC_TLS_CLIENT_CA_FILE"} <= given.keys()
    [mount] = own["volumeMounts"]
    assert "subPath" not in mount, "the kubelet does not update it"
    assert {Path(path).parent for path in given.values()} == {Path(mount["mountPath"])}
    assert {Path(path).name for path in given.values()} == {"tls.crt", "tls.key", "ca.crt"}
    [volume] = tls_pod["volumes"]
    assert volume["name"] == mount["name"]
    assert volume["secret"]["secretName"] in head_of("production-tls")


@pytest.mark.parametrize("probe", PROBES)
def test_probes_speak_tls_where_http_does(tls_pod: dict[str, Any], probe: str) -> None:
    [own] = tls_pod["containers"]
    assert own[probe]["httpGet"]["scheme"] == "HTTPS"


@pytest.mark.parametrize("folder", ["production-tls", "production-redis"])
def test_tls_and_redis_are_production_and_no_more(folder: str) -> None:
    plain, made = (parts_of(DEPLOY / name / "deployment.yaml", "Deployment") for name in ("production", folder))
    assert variables(made["spec"]["template"]["spec"]["containers"][0]).items() >= (
        variables(plain["spec"]["template"]["spec"]["containers"][0]).items()
    )
    made["spec"]["template"]["metadata"]["annotations"].pop("prometheus.io/scheme", None)
    for probe in PROBES:
        made["spec"]["template"]["spec"]["containers"][0][probe]["httpGet"].pop("scheme", None)
    assert without(made, "env") == without(plain, "env")
    assert documents(DEPLOY / folder / "availability.yaml") == documents(DEPLOY / "production" / "availability.yaml")


def test_the_service_says_that_it_speaks_tls() -> None:
    files = [DEPLOY / name / "deployment.yaml" for name in ("production", "production-tls")]
    plain, with_tls = (parts_of(file, "Service")["spec"]["ports"] for file in files)
    assert [port["port"] for port in with_tls] == [port["port"] for port in plain]
    assert {port["appProtocol"] for port in with_tls} == {"https"}


def recipe(kind: str) -> dict[str, Any]:
    """The block of docs/keda.md's section on TLS that has this key, or is of this kind."""
    section = read(ROOT / "docs" / "keda.md").partition("\n## TLS\n")[2]
    found = [yaml.safe_load(block.text) for block in blocks(section) if block.language == "yaml"]
    [only] = [document for document in found if document.get("kind") == kind or kind in document]
    return dict(only)


def test_keda_gets_its_side_of_tls_by_a_trigger_authentication() -> None:
    [authentication] = documents(DEPLOY / "production-tls" / "trigger-authentication.yaml")
    assert authentication == recipe("TriggerAuthentication")
    given = {entry["parameter"]: entry["key"] for entry in authentication["spec"]["secretTargetRef"]}
    assert given == {"caCert": "ca.crt", "tlsClientCert": "tls.crt", "tlsClientKey": "tls.key"}


def test_the_trigger_of_the_tls_recipe_is_the_examples_with_tls(scaled_object: dict[str, Any]) -> None:
    [trigger] = recipe("triggers")["triggers"]
    plain = {key: value for key, value in external_trigger(scaled_object).items() if key != "name"}
    assert trigger.pop("authenticationRef") == {"name": recipe("TriggerAuthentication")["metadata"]["name"]}
    assert trigger["metadata"].pop("enableTLS") == "true", "KEDA's metadata are strings"
    assert trigger == plain
    host = plain["metadata"]["scalerAddress"].partition(":")[0]
    assert host in head_of("production-tls")


# Redis


def test_the_password_of_redis_is_a_file_of_the_secret() -> None:
    pod = parts_of(DEPLOY / "production-redis" / "deployment.yaml", "Deployment")["spec"]["template"]["spec"]
    [own] = pod["containers"]
    given = variables(own)
    assert given["STORAGE"] == "redis"
    assert given.keys() <= product.variables_of("run")
    [mount], [volume] = own["volumeMounts"], pod["volumes"]
    assert volume["name"] == mount["name"]
    assert "subPath" not in mount, "the kubelet does not update it"
    file = Path(given["REDIS_PASSWORD_FILE"])
    assert file.parent == Path(mount["mountPath"])
    head = head_of("production-redis")
    assert f'Secret "{volume["secret"]["secretName"]}" in the namespace kedastral with the key "{file.name}"' in head
    assert "REDIS_URL" in head


# the image


def image_user() -> int:
    (user,) = last_stage("USER")
    return int(user.partition(":")[0])


def test_the_image_has_a_build_stage_and_a_slim_last_one() -> None:
    bases = [instruction.rest.split()[0] for instruction in instructions() if instruction.word == "FROM"]
    assert len(bases) == 2
    assert all("slim" in base for base in bases)


def test_the_image_runs_as_a_numeric_user_who_is_not_root() -> None:
    assert image_user() > 0


def test_the_image_starts_the_program_itself_so_that_it_gets_sigterm() -> None:
    (entry,) = last_stage("ENTRYPOINT")
    (arguments,) = last_stage("CMD")
    words = [*json.loads(entry), *json.loads(arguments)]
    assert words[0].endswith("/kedastral")
    assert words[1] == "run"
    assert not last_stage("STOPSIGNAL")


def test_the_image_exposes_the_ports_that_are_listened_on_by_default() -> None:
    (exposed,) = last_stage("EXPOSE")
    from kedastral.settings.schema import settings_of

    defaults = {
        setting.default for kind in BY_COMMAND.values() for setting in settings_of(kind) if setting.kind == "address"
    }
    assert {f":{port}" for port in exposed.split()} == defaults


def test_nothing_is_built_or_cached_in_the_last_stage() -> None:
    assert last_stage("COPY") == ["--from=build /app /app"]
    assert last_stage("RUN") == ["python -m pip uninstall --yes pip && rm -r /usr/local/lib/python3.13/ensurepip"]
    for instruction in instructions():
        if instruction.word == "RUN" and ("pip wheel" in instruction.rest or " install " in instruction.rest):
            assert "--no-cache-dir" in instruction.rest


def test_what_the_image_is_made_of_is_there_and_not_ignored() -> None:
    kept = {line[1:] for line in read(ROOT / ".dockerignore").splitlines() if line.startswith("!")}
    copied = {
        word.removeprefix("./")
        for instruction in instructions()
        if instruction.word == "COPY" and "--from" not in instruction.rest
        for word in instruction.rest.split()[:-1]
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_variables_of_the_image_are_not_settings_in_disguise() -> None:
    names = {word.partition("=")[0] for line in last_stage("ENV") for word in line.split()}
    assert all(name.startswith("PYTHON") or name in product.all_variables() for name in names)


def pins(name: str) -> dict[str, str]:
    """The requirement files that `make lock` writes: each package with its version; fails if a hash is missing."""
    found: dict[str, str] = {}
    text = re.sub(r"^\s*#.*\n", "", read(DEPLOY / "image" / name), flags=re.MULTILINE)
    for block in re.split(r"\n(?=[a-z0-9])", text):
        pin = re.match(r"(?P<package>[a-z0-9-]+)==(?P<version>\S+)", block)
        assert pin is not None, block
        assert "--hash=sha256:" in block, f"{pin['package']} has no hash"
        found[pin["package"]] = pin["version"]
    return found


def test_the_image_is_made_of_pinned_packages_that_the_project_allows() -> None:
    project = tomllib.loads(read(ROOT / "pyproject.toml"))
    locked = pins("requirements.txt")
    for wanted in map(Requirement, project["project"]["dependencies"]):
        assert wanted.specifier.contains(locked[wanted.name.lower().replace("_", "-")]), f"{wanted}: run `make lock`"
    (backend,) = map(Requirement, project["build-system"]["requires"])
    assert backend.specifier.contains(pins("build-requirements.txt")[backend.name])
    installs = [one.rest for one in instructions() if one.word == "RUN" and " install " in one.rest]
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)


def test_actions_are_pinned_to_commits() -> None:
    files = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
    uses = [action for file in files for action in re.findall(r"uses:\s*(\S+)", read(file))]
    assert len(uses) >= len(files)
    assert all(re.search(r"@[0-9a-f]{40}$", action) for action in uses)
