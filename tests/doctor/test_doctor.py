# SPDX-License-Identifier: Apache-2.0
"""`kedastral doctor`: each mistake is found by its rule, valid objects have no findings, and no secret is shown."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kedastral.cli.doctor import RULES
from kedastral.doctor.diagnosis import DoctorRule, Severity
from kedastral.doctor.pace_rules import fall_time, ramp_time
from kedastral.simulation.hpa import HpaBehavior, RateKind, RatePolicy, ScalingRules
from tests.cli.test_commands import Outcome, call
from tests.docs.pages import PAGES, ROOT, anchors, blocks, read
from tests.doctor.planted import (
    CPU,
    CRON,
    DEPLOYMENT,
    PLANTED,
    REACTIVE,
    SETTINGS,
    SOUND,
    THRESHOLD_40,
    Planted,
    naming,
    pod,
    with_workload,
)

EVERY_RULE = {rule.name: rule for rule in RULES}
ASKED_ONLY = {
    "scaler-unreachable", "query-failed", "no-series", "doubled-series", "short-range", "max-below-load",
    "gauge-as-counter", "late-samples", "short-history", "slow-rule", "kedastral-reports", "unreadable", "repeated-key",
}  # fmt: skip
"""Rules that need a live server, or a text that no tool would write."""


def diagnose(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[Outcome, list[dict[str, Any]]]:
    outcome = call(monkeypatch, "doctor", *words, "--output", "json")
    assert outcome.code in (0, 1), outcome
    return outcome, json.loads(outcome.out)["findings"]


def write(folder: Path, manifests: str, config: str = SETTINGS) -> tuple[str, str]:
    (folder / "web.yaml").write_text(manifests)
    (folder / "kedastral.yaml").write_text(config)
    return str(folder / "web.yaml"), str(folder / "kedastral.yaml")


@pytest.mark.parametrize("one", PLANTED, ids=[f"{one.rule}: {one.what}" for one in PLANTED])
def test_a_planted_mistake_is_found_and_nothing_else(
    one: Planted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifests, config = write(tmp_path, one.manifests(), one.config())
    level = ("--level", "info") if EVERY_RULE[one.rule].severity is Severity.INFO else ()
    outcome, found = diagnose(monkeypatch, manifests, *(("--config", config) if one.settings else ()), *level)
    assert {each["rule"] for each in found} == {one.rule}, found
    assert outcome.code == (1 if any(each["severity"] == "error" for each in found) else 0)
    assert all(each["message"] and each["remedy"] and each["object"]["name"] for each in found)


def test_a_trigger_that_names_no_workload_means_that_of_its_deployment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = ["wob", "web", "bew"]
    config = yaml.safe_dump_all([*source_and_policies(known)])
    object_ = yaml.safe_load(SOUND)
    del object_["spec"]["triggers"][0]["metadata"]["workload"]
    for target, hint in (("web", "; did you mean shop/web?"), ("other", "")):
        object_["metadata"]["name"] = "scaler"
        object_["spec"]["scaleTargetRef"]["name"] = target
        manifests, path = write(tmp_path, yaml.safe_dump(object_), config)
        _, found = diagnose(monkeypatch, manifests, "--config", path)
        words = [one["message"] for one in found if one["rule"] == "unknown-workload"]
        assert words == [f"trigger 1 (external): the trigger must name its workload: set metadata 'workload'{hint}"]


def test_without_settings_a_trigger_that_names_no_workload_says_what_to_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    object_ = yaml.safe_load(SOUND)
    del object_["spec"]["triggers"][0]["metadata"]["workload"]
    object_["metadata"]["name"] = "scaler"
    for others, severity, more in (
        ((), "warning", ""),
        (("cart",), "warning", ""),
        (("cart", "mail"), "error", ", and other triggers for the same address name shop/cart, shop/mail"),
    ):
        manifests, _ = write(tmp_path, yaml.safe_dump_all([object_, *map(naming, others)]))
        _, [found] = diagnose(monkeypatch, manifests)
        assert (found["rule"], found["severity"]) == ("no-workload", severity)
        assert found["message"] == f"trigger 1 (external) names no workload{more}"
        assert found["remedy"].startswith("write workload: web in the trigger's metadata"), (
            "as its Deployment is called"
        )
    manifests, path = write(tmp_path, yaml.safe_dump(object_))
    assert diagnose(monkeypatch, manifests, "--config", path)[1] == [], "it is the only one that is configured"


def test_a_bare_address_that_nothing_connects_with_kedastral_is_not_asked_for_a_workload(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    object_, cart = yaml.safe_load(SOUND), naming("cart")
    object_["spec"]["triggers"][0]["metadata"] = {"scalerAddress": "queue-scaler.tools:6000"}
    for address, rules in (("kedastral.kedastral:8080", []), ("queue-scaler.tools:6000", ["no-workload"])):
        cart["spec"]["triggers"][0]["metadata"]["scalerAddress"] = address
        manifests, _ = write(tmp_path, yaml.safe_dump_all([object_, cart]))
        _, found = diagnose(monkeypatch, manifests)
        assert [one["rule"] for one in found] == rules


@pytest.mark.parametrize(
    ("names", "severity"),
    [
        (("web", "web"), "warning"),
        (("a/web", "web"), "warning"),
        (("a/web", "b/web"), "error"),
        (("web", "mail"), "error"),
        (("a/web", "mail"), "error"),
    ],
)
def test_a_bare_name_in_several_namespaces_may_be_one_workload(
    names: tuple[str, ...], severity: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    objects = [yaml.safe_load(SOUND)]
    del objects[0]["spec"]["triggers"][0]["metadata"]["workload"]
    for namespace, name in zip("ab", names, strict=True):
        objects.append(naming("cart"))
        objects[-1]["metadata"]["namespace"] = namespace
        objects[-1]["spec"]["triggers"][0]["metadata"]["workload"] = name
    manifests, _ = write(tmp_path, yaml.safe_dump_all(objects))
    _, [found] = diagnose(monkeypatch, manifests)
    assert (found["rule"], found["severity"]) == ("no-workload", severity)


def source_and_policies(names: list[str]) -> list[Any]:
    """The settings of the tests, with a policy for each name."""
    first, policy = yaml.safe_load_all(SETTINGS)
    return [first, *({**policy, "metadata": {**policy["metadata"], "name": name}} for name in names)]


@pytest.mark.parametrize(
    "query",
    ["sum(x) or vector(1)", 'sum(x{path="a or vector(0)"})', "sum(x) or sum(y)", "vector(0) + x"],
)
def test_what_else_stands_in_for_a_gap_is_left_alone(
    query: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, policy = yaml.safe_load_all(SETTINGS)
    config = SETTINGS.replace(policy["spec"]["query"], json.dumps(query))
    assert diagnose(monkeypatch, "--config", write(tmp_path, SOUND, config)[1])[1] == []


def test_every_rule_has_a_planted_mistake_or_one_that_is_asked_for() -> None:
    assert len(PLANTED) >= 30
    assert {one.rule for one in PLANTED} | ASKED_ONLY == EVERY_RULE.keys()


def test_what_is_sound_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifests, config = write(tmp_path, yaml.safe_dump_all([yaml.safe_load(SOUND), DEPLOYMENT, pod("a", 60)]))
    outcome, found = diagnose(monkeypatch, manifests, "--config", config, "--level", "info")
    assert (outcome.code, found) == (0, [])


# the project's own examples


def examples() -> dict[str, str]:
    """Every file of deploy/ but templates of charts, and every YAML block of the documentation."""
    files = [file for file in sorted((ROOT / "deploy").rglob("*.y*ml")) if "templates" not in file.parts]
    found = {str(file.relative_to(ROOT)): read(file) for file in files}
    for page in PAGES:
        for number, block in enumerate(blocks(read(page))):
            if block.language in ("yaml", "yml"):
                found[f"{page.relative_to(ROOT)} {number}"] = block.text
    return found


EXAMPLES = examples()
NO_OBJECT = "kedastral: -: must hold at least one object of Kubernetes\n"


@pytest.mark.parametrize("place", EXAMPLES)
def test_nothing_is_said_about_an_example(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(EXAMPLES[place].encode())))
    if not re.search(r"^kind: ", EXAMPLES[place], re.MULTILINE):
        assert call(monkeypatch, "doctor", "-").err == NO_OBJECT
        return
    outcome, found = diagnose(monkeypatch, "-")
    assert (outcome.code, found) == (0, [])


def test_nothing_is_said_about_all_examples_together_with_their_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    deploy = ROOT / "deploy"
    assert diagnose(monkeypatch, str(deploy))[1] == []
    settings = ("--config", str(deploy / "fleet" / "config"), "--namespace", "shop")
    assert diagnose(monkeypatch, str(deploy / "examples"), str(deploy / "fleet"), *settings)[1] == []


# secrets

SECRET = "hunter2-s3cr3t"
SECRETIVE = f"""
apiVersion: v1
kind: Secret
metadata: {{name: prometheus, namespace: shop}}
stringData: {{token: {SECRET}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: shop}}
spec:
  template:
    spec:
      containers:
        - name: web
          env: [{{name: TOKEN, value: {SECRET}}}]
          args: ["--password={SECRET}"]
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{name: web, namespace: shop, annotations: {{token: {SECRET}}}}}
spec:
  scaleTargetRef: {{name: web}}
  {SECRET}: 1
  fallback: {{failureThreshold: 3, replicas: 6, behavior: {SECRET}}}
  triggers:
    - type: external
      metricType: {SECRET}
      metadata:
        scalerAddress: user:{SECRET}@http://kedastral
        workload: unknown
        leadTime: {SECRET}
        password: {SECRET}
        {SECRET}: x
        activation: {SECRET}
    - type: external
      metadata:
        scalerAddress: kedastral:8080
        query: sum(rate(x{{token="{SECRET}"}}[1m]))
        targetPerPodFromEnv: {SECRET}
        modelUrl: http://user:{SECRET}@model
        onStale: https://user:{SECRET}@where
        leadTime: "{SECRET}; {SECRET}"
    - type: prometheus
      metadata:
        serverAddress: http://user:{SECRET}@prometheus:9090
        query: sum(rate(x{{token="{SECRET}"}}[1m]))
        threshold: "1"
        authModes: {SECRET}
    - type: {SECRET}
      metadata: {{bearerToken: {SECRET}}}
    - type: cpu
      metadata: {{value: "90"}}
---
apiVersion: {SECRET}
kind: ScaledObject
metadata: {{name: cart, namespace: shop, annotations: {{autoscaling.keda.sh/paused: {SECRET}}}}}
spec:
  scaleTargetRef: {{name: cart, kind: {SECRET}}}
  fallback: {{failureThreshold: {SECRET}, replicas: {SECRET}, behavior: static {SECRET}}}
  advanced:
    {SECRET}: 1
    scalingModifiers: {{formula: "{SECRET} + '{SECRET}'", target: "{SECRET}", metricType: {SECRET}}}
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp: {{selectPolicy: {SECRET}, tolerance: {SECRET}, policies: [{{type: {SECRET}, {SECRET}: 1}}]}}
  triggers:
    - type: external {SECRET}
      name: {SECRET}
      metricType: {SECRET}
      {SECRET}: 1
      authenticationRef: {{name: {SECRET}, kind: {SECRET}}}
      metadata:
        scalerAddress: kedastral:8080
        enableTLS: {SECRET}
        caCert: {SECRET}
        metricType: {SECRET}
        {SECRET}: 5
    - type: cpu
      name: {SECRET}
      metricType: {SECRET}
      metadata: {{type: {SECRET}}}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{name: mail, namespace: shop}}
spec:
  scaleTargetRef: {{name: mail}}
  {SECRET}:
    trigger:
      - type: external
        metadata: {{scalerAddress: "kedastral.kedastral:8080", workload: mail}}
"""


@pytest.mark.parametrize("output", ["table", "json", "sarif"])
def test_no_secret_is_ever_printed(output: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = SETTINGS.replace("http://prometheus:9090", f"http://user:{SECRET}@prometheus:9090")
    manifests, policies = write(tmp_path, SECRETIVE, SETTINGS)
    monkeypatch.setenv("PROM_TOKEN", SECRET)
    outcome = call(monkeypatch, "doctor", manifests, "--config", policies, "--output", output, "--level", "info")
    assert outcome.code == 1
    assert "metric-type-value" in outcome.out
    assert "ignored-metadata" in outcome.out
    assert SECRET not in outcome.out + outcome.err
    (tmp_path / "kedastral.yaml").write_text(config)
    refused = call(monkeypatch, "doctor", manifests, "--config", policies, "--output", output)
    assert SECRET not in refused.out + refused.err


# input


def test_a_list_of_kubectl_in_yaml_or_json_is_read_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    document = yaml.safe_load(SOUND)
    document["spec"]["triggers"][0]["metricType"] = "Value"
    listed = {"apiVersion": "v1", "kind": "List", "items": [document, DEPLOYMENT]}
    for text in (yaml.safe_dump(listed), json.dumps(listed)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        outcome, found = diagnose(monkeypatch, "-")
        assert outcome.code == 1
        assert [(one["rule"], one["file"], one["object"]["name"]) for one in found] == [
            ("metric-type-value", "stdin", "web")
        ]


def test_a_finding_names_the_file_and_the_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifests, _ = write(tmp_path, SOUND.replace("AverageValue", "Value"))
    _, [found] = diagnose(monkeypatch, manifests)
    assert (found["file"], found["line"]) == (manifests, 1 + SOUND[: SOUND.index("- type")].count("\n"))
    assert found["help"] == "docs/doctor.md#metric-type-value"


def test_what_is_no_yaml_is_an_error_and_the_rest_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path, SOUND.replace("AverageValue", "Value"))
    (tmp_path / "chart.yaml").write_text("spec: {{ .Values.spec }}\n  a: b")
    outcome, found = diagnose(monkeypatch, str(tmp_path))
    assert outcome.code == 1
    assert {one["rule"] for one in found} == {"unreadable", "metric-type-value"}


@pytest.mark.parametrize("text", ["", "# nothing\n---\n", "kind: List\nitems: []\n", "replicas: 3\n"])
def test_nothing_to_look_at_is_no_sound_manifest(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifests, config = write(tmp_path, text)
    outcome = call(monkeypatch, "doctor", manifests)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == f"kedastral: {manifests}: must hold at least one object of Kubernetes\n"
    assert call(monkeypatch, "doctor", manifests, "--config", config).code == 0


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_manifest_in_utf_16_is_read_as_kubectl_reads_it(
    encoding: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    file = tmp_path / "web.yaml"
    file.write_bytes((mark + SOUND.replace("AverageValue", "Value")).encode(encoding))
    assert [one["rule"] for one in diagnose(monkeypatch, str(file))[1]] == ["metric-type-value"]
    file.write_bytes(file.read_bytes()[:-1])
    [found] = diagnose(monkeypatch, str(file))[1]
    assert (found["rule"], found["message"]) == (
        "unreadable",
        "must be UTF-8 or UTF-16 text; it is truncated, or not text",
    )


def test_a_key_that_is_there_twice_is_said_with_its_line_and_the_last_one_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = SOUND.replace("maxReplicaCount: 50", "maxReplicaCount: 50\n  maxReplicaCount: 20")
    text = text.replace("workload: web", "workload: other\n        workload: web")
    manifests, config = write(tmp_path, text)
    found = diagnose(monkeypatch, manifests, "--config", config)[1]
    last = 1 + text[: text.index("maxReplicaCount: 20")].count("\n")
    assert [(one["rule"], one["message"], one["line"] == last) for one in found] == [
        ("max-below-plan", "maxReplicaCount is 20, and shop/web plans up to 50", False),
        ("repeated-key", "spec.maxReplicaCount appears more than once, and the last one counts", True),
        ("repeated-key", "spec.triggers.metadata.workload appears more than once, and the last one counts", False),
    ]


def test_keys_that_aliases_bring_a_billion_times_are_looked_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bomb = "".join(f"x{i}: &x{i} [{', '.join([f'*x{i - 1}'] * 10)}]\n" for i in range(1, 12))
    manifests, _ = write(tmp_path, f"x0: &x0 {{k: 0, k: 1}}\n{bomb}{SOUND}")
    [found] = diagnose(monkeypatch, manifests)[1]
    assert found["message"] == "x0.k appears more than once, and the last one counts".replace("x0", "(a key)")


def test_what_an_unknown_key_should_be_is_said_with_its_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifests, _ = write(tmp_path, SOUND.replace("      behavior:\n", "      behaviour:\n"))
    [found] = [one for one in diagnose(monkeypatch, manifests)[1] if one["rule"] == "unknown-field"]
    assert found["message"] == (
        "spec.advanced.horizontalPodAutoscalerConfig.behaviour is unknown; did you mean behavior?"
    )
    assert found["line"] == 1 + SOUND[: SOUND.index("behavior:\n")].count("\n")


def test_a_scaled_job_without_our_trigger_and_whole_numbers_of_any_kind_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = SOUND.replace("ScaledObject", "ScaledJob").replace("external", "cron").replace("fallback: {", "f: {")
    text = SOUND.replace("maxReplicaCount: 50", "maxReplicaCount: 50.0\n  idleReplicaCount: null")
    manifests, _ = write(tmp_path, f"{job}---{text}")
    assert diagnose(monkeypatch, manifests)[1] == []


UTILIZATION = "Utilization, which KEDA refuses for an external trigger"
MERGED = """
x-trigger: &base
  type: external
  metricType: AverageValue
  metadata: &metadata {scalerAddress: "kedastral.kedastral.svc:8080", workload: shop/web}
x-value: &value {metricType: Value, type: other}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {name: web}
  minReplicaCount: 2
  triggers:
    - <<: *base
      metricType: Utilization
      metadata:
        <<: *metadata
        unsafeSsl: "true"
    - <<: [*base, *value]
    - <<: {type: external, metricType: Value, metadata: *metadata}
"""


def test_merge_keys_bring_what_they_name_as_kubectl_reads_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifests, _ = write(tmp_path, MERGED)
    found = {(one["rule"], one["message"]) for one in diagnose(monkeypatch, manifests)[1]}
    assert found == {
        (
            "metric-type-value",
            "trigger 1 (external) has metricType Utilization, which KEDA refuses for an external trigger",
        ),
        ("unsafe-tls", "trigger 1 (external) verifies no certificate"),
        ("metric-type-value", "trigger 3 (external) has metricType Value"),
        ("no-fallback", "there is no fallback for when Kedastral answers with errors"),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {<<: word}", "must merge a mapping, or a list of mappings (line 1)"),
        (
            f"a: &a {{{', '.join(f'k{i}: 0' for i in range(1100))}}}\nb:\n" + "- {<<: *a}\n" * 1000,
            "must merge at most 1000000 keys; split it",
        ),
    ],
    ids=["no mapping", "too many"],
)
def test_merge_keys_that_cannot_be_followed_are_said(
    text: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifests, _ = write(tmp_path, text)
    _, [found] = diagnose(monkeypatch, manifests)
    assert (found["rule"], found["message"]) == ("unreadable", said)


def test_templates_of_a_chart_and_hidden_folders_are_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    templates = tmp_path / "chart" / "templates"
    templates.mkdir(parents=True)
    (tmp_path / "chart" / "Chart.yaml").write_text("name: web")
    (templates / "web.yaml").write_text("spec: {{ .Values.spec }}\n  a: b")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.yaml").write_text("{{")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "web.yml").write_text(SOUND)
    assert diagnose(monkeypatch, str(tmp_path))[1] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give manifests"),
        (("nowhere.yaml",), "nowhere.yaml: cannot be read (no such file or directory)"),
        (("--nonsense", "x"), "--nonsense is an unknown flag"),
        (("--output", "xml", "x"), "'xml' is not one of"),
        (("x", "--check-queries"), "--check-queries needs a Prometheus"),
        (("x", "--lead-time", "soon", "--workload", "w"), "--lead-time must be"),
    ],
)
def test_wrong_use_ends_with_2(words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = call(monkeypatch, "doctor", *words)
    assert outcome.code == 2
    assert said in outcome.err


def test_the_cluster_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    outcome = call(monkeypatch, "doctor", "--cluster")
    assert (outcome.code, "kedastral[kubernetes]" in outcome.err) == (2, True)


# output


def test_the_table_is_for_people(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    manifests, config = write(tmp_path, SOUND.replace("AverageValue", "Value").replace("maxReplicaCount: 50", ""))
    outcome = call(monkeypatch, "doctor", manifests, "--config", config)
    assert outcome.code == 1
    assert "trigger 1 (external) has metricType Value" in outcome.out
    assert "write metricType: AverageValue" in outcome.out
    assert "docs/doctor.md#metric-type-value" in outcome.out
    assert outcome.out.splitlines()[-1] == "Looked at 1 object, 1 trigger of Kedastral, 1 workload: 1 error."
    sound, _ = write(tmp_path, SOUND)
    assert call(monkeypatch, "doctor", sound).out.splitlines() == [
        "Looked at 1 object, 1 trigger of Kedastral, 0 workloads: nothing found.",
        "Not checked: whether Kedastral has the workload shop/web, and the settings; give --config or --url.",
    ]
    many, _ = write(tmp_path, yaml.safe_dump_all([naming(f"w{i}") for i in range(7)]))
    assert "the workloads shop/w0, shop/w1, shop/w2, shop/w3, shop/w4 and 2 others, and the settings; give " in (
        call(monkeypatch, "doctor", many).out
    )


def test_warnings_alone_end_with_0_and_infos_are_shown_on_demand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    document = yaml.safe_load(SOUND)
    del document["spec"]["advanced"], document["spec"]["fallback"]
    manifests, _ = write(tmp_path, yaml.safe_dump(document))
    outcome, found = diagnose(monkeypatch, manifests)
    assert (outcome.code, [one["rule"] for one in found]) == (0, ["no-fallback"])
    _, more = diagnose(monkeypatch, manifests, "--level", "info")
    assert [(one["rule"], one["severity"]) for one in more] == [
        ("no-fallback", "warning"), ("tolerance", "info"), ("slow-scale-in", "info")
    ]  # fmt: skip
    assert diagnose(monkeypatch, manifests, "--level", "error")[1] == []


def test_sarif_has_what_version_2_1_0_requires(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # https://docs.oasis-open.org/sarif/sarif/v2.1.0/: 3.13, 3.14, 3.18, 3.19, 3.27, 3.28, 3.29, 3.49
    manifests, config = write(tmp_path, SOUND.replace("AverageValue", "Value").replace("minReplicaCount: 2", ""))
    outcome = call(monkeypatch, "doctor", manifests, "--config", config, "--output", "sarif")
    log = json.loads(outcome.out)
    assert (log["version"], len(log["runs"])) == ("2.1.0", 1)
    driver, results = log["runs"][0]["tool"]["driver"], log["runs"][0]["results"]
    assert driver["name"]
    assert [rule["id"] for rule in driver["rules"]] == [rule.name for rule in RULES]
    for rule in driver["rules"]:
        assert rule["shortDescription"]["text"]
        assert rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
    assert {one["ruleId"] for one in results} == {"metric-type-value", "min-not-set"}
    for one in results:
        assert driver["rules"][one["ruleIndex"]]["id"] == one["ruleId"]
        assert one["level"] in ("note", "warning", "error")
        assert one["message"]["text"]
        place = one["locations"][0]["physicalLocation"]
        assert place["artifactLocation"]["uri"] == f"file://{manifests}"
        assert place["region"]["startLine"] >= 1


# the ramp, by the HPA's own rules


def slowly(value: int, period: float, window: float = 0.0, tolerance: float = 0.0) -> HpaBehavior:
    rules = ScalingRules(tolerance, window, (RatePolicy(RateKind.PODS, value, period),))
    return HpaBehavior(rules, ScalingRules())


@pytest.mark.parametrize(
    ("behavior", "first", "last", "seconds"),
    [
        (HpaBehavior.ABSENT, 10, 40, 30.0),  # 20 at the first sync, 40 at the second
        (HpaBehavior.KUBERNETES, 1, 50, 75.0),  # 5, 10, 20, 40, 50
        (slowly(6, 15.0), 10, 40, 75.0),  # five times 6
        (slowly(4, 60.0), 10, 18, 75.0),  # 14 at 15 s, 18 a period later
        (slowly(100, 15.0, 120.0), 10, 40, 120.0),  # the smallest recommendation of two minutes counts
        (slowly(4, 15.0, tolerance=0.1), 13, 50, 135.0),  # 49 at the ninth sync, and there it stays
        (slowly(1, 1800.0), 1, 10, None),
    ],
)
def test_the_ramp_is_as_the_hpas_rules_make_it(
    behavior: HpaBehavior, first: int, last: int, seconds: float | None
) -> None:
    assert ramp_time(behavior, first, last) == seconds


def test_a_slow_ramp_is_said_in_pods_and_seconds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    policies = "scaleUp: {tolerance: 0, policies: [{type: Pods, value: 6, periodSeconds: 45}]}"
    text = SOUND.replace("scaleUp: {tolerance: 0}", policies).replace("maxReplicaCount: 50", "maxReplicaCount: 40")
    manifests, config = write(tmp_path, text, SETTINGS.replace("max: 50", "max: 40"))
    _, [found] = diagnose(monkeypatch, manifests, "--config", config)
    assert (found["rule"], found["severity"]) == ("slow-ramp", "warning")
    assert found["message"] == "scaling from 10 to 40 pods takes 195 s of your 300 s"


# several files


def test_two_files_with_the_same_object_are_told_unless_one_is_what_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    new, old = tmp_path / "shop" / "new.yaml", tmp_path / "shop" / "old.yaml"
    elsewhere = tmp_path / "staging" / "new.yaml"
    for file in (new, old, elsewhere):
        file.parent.mkdir(exist_ok=True)
        file.write_text(SOUND)
    before = yaml.safe_load(SOUND)
    before["spec"]["triggers"] = [REACTIVE]
    old.write_text(yaml.safe_dump(before))
    words = f"{new}:2 has it, too: of both only the one that is applied last stays"

    def said(*paths: Path | str) -> list[tuple[str, str, str]]:
        _, found = diagnose(monkeypatch, *map(str, paths), "--level", "info")
        return [(one["severity"], one["message"], one["file"]) for one in found if one["rule"] == "same-object-twice"]

    assert said(tmp_path / "shop") == [("warning", words, str(old))]
    assert said(new, elsewhere) == [("info", words, str(elsewhere))]
    elsewhere.write_text(SOUND.replace("namespace: shop", "namespace: staging"))
    assert said(new, elsewhere) == []
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(old.read_bytes())))
    assert said(new, "-") == [], "kubectl get prints what runs now"
    elsewhere.write_text(yaml.safe_dump(before))
    old.unlink()
    new.write_text(yaml.safe_dump(before))
    assert said(tmp_path) == [], "neither is scaled by Kedastral"


# mode observe


def observed(policy: str = SETTINGS) -> str:
    return policy + "  mode: observe\n"


def test_what_stops_while_kedastral_is_away_is_said_before_a_trigger_is_observed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for triggers, severity, what in (
        ((REACTIVE,), "warning", "trigger 2 (prometheus) no longer scales"),
        ((REACTIVE, CRON, CPU), "warning", "trigger 2 (prometheus) and trigger 3 (cron) no longer scale"),
        ((CPU,), "info", "trigger 2 (cpu) no longer scales in"),
    ):
        object_ = yaml.safe_load(SOUND)
        object_["spec"]["triggers"] += triggers
        manifests, config = write(tmp_path, yaml.safe_dump(object_), observed())
        outcome, found = diagnose(monkeypatch, manifests, "--config", config, "--level", "info")
        [said] = [one for one in found if one["rule"] == "observe-with-trigger"]
        words = f"shop/web is in mode observe, and while Kedastral cannot be reached {what}"
        assert (outcome.code, said["severity"], said["message"]) == (0, severity, words)
        assert said["remedy"].startswith("observe without a trigger first: remove it, and leave mode: observe in the ")
        _, found = diagnose(monkeypatch, manifests, "--config", write(tmp_path, yaml.safe_dump(object_))[1])
        assert "observe-with-trigger" not in {one["rule"] for one in found}, "in mode scale the plan is worth that"


def test_what_the_plan_does_not_do_yet_is_a_step_milder_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    object_ = yaml.safe_load(SOUND)
    object_["spec"]["triggers"].append(THRESHOLD_40)
    behavior = object_["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    behavior["scaleUp"]["stabilizationWindowSeconds"] = 600
    manifests, config = write(tmp_path, yaml.safe_dump(object_), observed())
    outcome, found = diagnose(monkeypatch, manifests, "--config", config, "--level", "info")
    said = {one["rule"]: one for one in found}
    assert outcome.code == 0, "to observe harms nobody, and fails no pipeline"
    assert said["slow-ramp"]["message"] == (
        "scaling from 13 to 50 pods takes 615 s of your 300 s, which matters once the mode is scale"
    )
    assert said["threshold-against-target"]["remedy"] == (
        "set threshold to about 166.7 then; until then this trigger decides alone"
    )
    assert diagnose(monkeypatch, manifests, "--config", write(tmp_path, yaml.safe_dump(object_))[1])[0].code == 1


@pytest.mark.parametrize(
    ("triggers", "least", "said"),
    [
        ((CRON,), 2, "outside of the hours of cron it goes to its minimum of 2"),
        ((CRON,), 0, "outside of the hours of cron it goes to zero"),
        ((CRON, CPU), 2, None),
        ((CRON, CPU), 0, "outside of the hours of cron cpu alone keeps no pod from being scaled to zero"),
        ((CRON, REACTIVE), 0, None),
    ],
)
def test_a_schedule_beside_what_is_observed_reads_no_load(
    triggers: tuple[Any, ...], least: int, said: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    object_ = yaml.safe_load(SOUND)
    object_["spec"]["triggers"] += triggers
    object_["spec"]["minReplicaCount"] = least
    manifests, config = write(tmp_path, yaml.safe_dump(object_), observed())
    outcome, found = diagnose(monkeypatch, manifests, "--config", config)
    told = [(one["severity"], one["message"]) for one in found if one["rule"] == "observe-alone"]
    assert told == ([("warning", f"shop/web is in mode observe, and {said}")] if said else [])
    assert outcome.code == 0


def test_a_workload_that_its_trigger_describes_needs_a_policy_to_be_observed_without_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    object_ = yaml.safe_load(SOUND)
    object_["spec"]["triggers"].append(REACTIVE)
    with_workload(mode="observe")(object_)
    _, found = diagnose(monkeypatch, write(tmp_path, yaml.safe_dump(object_))[0])
    [said] = [one for one in found if one["rule"] == "observe-with-trigger"]
    assert "describe the workload in a ForecastPolicy" in said["remedy"]


@pytest.mark.parametrize(
    ("down", "seconds"),
    [
        (ScalingRules(stabilization_window=60.0), 60.0),
        (HpaBehavior.ABSENT.down, 300.0),
        (ScalingRules(0.0, 0.0, (RatePolicy(RateKind.PODS, 2, 120.0),)), 2175.0),  # 37 pods: 19 times 120 s
        (ScalingRules(0.0, 600.0, (RatePolicy(RateKind.PODS, 2, 120.0),)), 2760.0),
        (ScalingRules(0.0, 600.0, (RatePolicy(RateKind.PODS, 1, 600.0),)), None),
        (ScalingRules(2.0), 0.0),  # within the tolerance
    ],
)
def test_the_way_down_is_as_the_hpas_rules_make_it(down: ScalingRules, seconds: float | None) -> None:
    assert fall_time(HpaBehavior(ScalingRules(), down), 50, 13) == seconds


def test_a_slow_scale_in_is_an_info_where_the_plan_has_waited_already(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policies = "policies: [{type: Pods, value: 2, periodSeconds: 120}]"
    text = SOUND.replace("stabilizationWindowSeconds: 60}", f"stabilizationWindowSeconds: 600, {policies}}}")
    manifests, config = write(tmp_path, text)
    asked = (manifests, "--config", config, "--level", "info")
    outcome, [found] = diagnose(monkeypatch, *asked)
    assert (outcome.code, found["rule"], found["severity"]) == (0, "slow-scale-in", "info")
    assert found["message"] == (
        "scaling in from 50 to 13 pods takes the HPA 2760 s, on top of the plan's own five minutes"
    )
    write(tmp_path, text, SETTINGS.replace("serviceLevel: 0.99", "model: baseline"))
    assert diagnose(monkeypatch, *asked)[1] == [], "its plan does not wait"
    object_ = yaml.safe_load(text)
    object_["spec"]["triggers"].append(REACTIVE)
    del object_["spec"]["fallback"]
    write(tmp_path, yaml.safe_dump(object_))
    assert diagnose(monkeypatch, *asked)[1] == [], "the load itself does not wait"


# the manual


def test_every_rule_has_its_section_in_the_manual() -> None:
    page = read(ROOT / "docs" / "doctor.md")
    assert {rule.name for rule in RULES} <= anchors(page)
    assert len(EVERY_RULE) == len(RULES)
    assert {rule.severity for rule in RULES} <= set(Severity)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_words_of_a_rule_are_not_torn_at_a_hyphen(rule: DoctorRule) -> None:
    assert re.findall(r"[a-z]- [a-z]", f"{rule.title} {rule.why} {rule.remedy}") == []
