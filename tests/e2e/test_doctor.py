# SPDX-License-Identifier: Apache-2.0
"""`kedastral doctor --cluster` with a real API server and KEDA: findings as for files, limited by permissions."""

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
import yaml

from tests.doctor.planted import SOUND
from tests.e2e.case import Case
from tests.e2e.load import Shape
from tests.e2e.programs import wait_for

pytestmark = pytest.mark.e2e
KINDS = "scaledobject,hpa,deployment,statefulset,pod"
SECRET = "hunter2-s3cr3t"
BAD_TOKEN = "a.b.c"
PLACE = re.compile(r" \((the cluster|stdin:\d+)\)")
"""Where the other object of two was found."""


def test_the_doctor_finds_in_a_cluster_what_it_finds_in_what_kubectl_prints(case: Case) -> None:
    doctor = Doctor(case)
    plant(case)
    found = doctor.run(["--cluster"])
    assert found.rules == {
        "metric-type-value web", "max-below-plan low", "no-fallback alone", "min-not-set asleep", "paused halted",
        "paused up", "two-on-one mine", "no-target gone", "keda-reports gone", "keda-reports lost",
    }  # fmt: skip
    assert found.code == 1
    printed = kubectl("get", KINDS, "--namespace", case.namespace, "-o", "yaml", env=doctor.env)
    piped = doctor.run(["-"], printed)
    assert piped.sentences == {words for words in found.sentences if not words.startswith("no-target")}

    allow_only_scaled_objects(case)
    may_read = kubectl("create", "token", "reader", "--namespace", case.namespace, env=doctor.env).strip()
    reader = doctor.logged_in_with(may_read).run(["--cluster"])
    assert reader.rules == {
        *(one for one in found.rules if not one.startswith(("two-on-one", "no-target"))),
        "unreadable deployments of the cluster", "unreadable statefulsets of the cluster",
        "unreadable pods of the cluster", "unreadable horizontalpodautoscalers of the cluster",
    }  # fmt: skip
    assert any("cannot list resource" in words and "deployments" in words for words in reader.sentences)
    stranger = doctor.logged_in_with(BAD_TOKEN).run(["--cluster"])
    [words] = stranger.sentences
    assert words.endswith("does not accept the login of the kubeconfig (401)")
    nowhere = attrs.evolve(doctor, namespace="nowhere").run(["--cluster"])
    assert nowhere.rules == {"unreadable the cluster"}


def plant(case: Case) -> None:
    """A valid object, and one for each mistake that KEDA accepts, with its status from KEDA."""
    case.start_load(web=Shape([(0.0, 300.0)]))
    case.start_kedastral(**case.forecast_of("web", 200, 300))
    mistakes: Mapping[str, Any] = {
        "sound": {},
        "web": {"metricType": "Value"},
        "low": {"maxReplicaCount": 20},
        "alone": {"fallback": None},
        "asleep": {"minReplicaCount": None},
        "halted": {"annotations": {"autoscaling.keda.sh/paused": ""}},
        "up": {"annotations": {"autoscaling.keda.sh/paused-scale-in": "true"}},
        "shared": {},
        "gone": {},
        "lost": {"scalerAddress": "kedastral.nowhere.svc.cluster.local:8080"},
    }
    for name, changes in mistakes.items():
        if name != "gone":
            case.deploy(name, ready_after=1.0)
        case.apply(yaml.safe_dump(with_mistake(case, name, changes)))
    for name in mistakes:
        ready = "False" if name in ("gone", "lost") else "True"
        wait_for(lambda: case.condition(name, "Ready") == ready, f"KEDA says Ready: {ready} of {name}")  # noqa: B023
    case.apply(yaml.safe_dump(hpa_of("shared")))  # KEDA reports it only when it checks the object again
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"token": SECRET}}
    case.apply(yaml.safe_dump(secret))


def with_mistake(case: Case, name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A valid ScaledObject on Deployment ``name``, with ``changes`` where each key belongs."""
    document: dict[str, Any] = copy.deepcopy(yaml.safe_load(SOUND))
    document["metadata"] = {"name": name, "namespace": case.namespace}
    spec = document["spec"]
    [trigger] = spec["triggers"]
    spec["scaleTargetRef"] = {"name": name}
    trigger["metadata"] |= {"scalerAddress": case.scaler_address()}
    for key, value in changes.items():
        places = {"annotations": document["metadata"], "metricType": trigger, "scalerAddress": trigger["metadata"]}
        places.get(key, spec)[key] = value
    document["spec"] = {key: value for key, value in spec.items() if value is not None}
    return document


def hpa_of(name: str) -> dict[str, Any]:
    """An HPA created after KEDA's, which KEDA cannot refuse."""
    target = {"type": "Utilization", "averageUtilization": 80}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "mine"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "maxReplicas": 10,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def allow_only_scaled_objects(case: Case) -> None:
    """A ServiceAccount ``reader`` that may list ScaledObjects and nothing else."""
    rbac = "rbac.authorization.k8s.io"
    rule = {"apiGroups": ["keda.sh"], "resources": ["scaledobjects"], "verbs": ["list"]}
    who = {"kind": "ServiceAccount", "name": "reader", "namespace": case.namespace}
    role = {"apiGroup": rbac, "kind": "Role", "name": "reader"}
    for document in (
        {"apiVersion": "v1", "kind": "ServiceAccount"},
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "rules": [rule]},
        {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "subjects": [who], "roleRef": role},
    ):
        case.apply(yaml.safe_dump({**document, "metadata": {"name": "reader"}}))


def kubectl(*words: str, env: Mapping[str, str]) -> str:
    """What kubectl prints."""
    return subprocess.run(["kubectl", *words], env=env, check=True, capture_output=True, text=True).stdout


@attrs.frozen
class Findings:
    """What the doctor found: ``RULE NAME``, and the same with the sentence."""

    code: int
    rules: set[str]
    sentences: set[str]


@attrs.frozen
class Doctor:
    """``kedastral doctor``, of the case's namespace, with the case's workload as its settings."""

    case: Case
    namespace: str = attrs.field()
    env: Mapping[str, str] = attrs.field()

    @namespace.default
    def _own(self) -> str:
        return self.case.namespace

    @env.default
    def _as_administrator(self) -> Mapping[str, str]:
        return {**os.environ, "KUBECONFIG": self.case.stage.kubeconfig}

    def logged_in_with(self, token: str) -> "Doctor":
        """The same with a kubeconfig whose user has only ``token``."""
        config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json", env=self.env))
        config["users"][0]["user"] = {"token": token}
        path = self.case.home / "kubeconfig"
        path.write_text(json.dumps(config))
        return attrs.evolve(self, env={**self.env, "KUBECONFIG": str(path)})

    def run(self, words: list[str], given: str = "") -> Findings:
        """Run it, with ``given`` as its input."""
        command = [sys.executable, "-m", "kedastral", "doctor", *words, "--namespace", self.namespace]
        command += ["--workload", "web", "--target-per-pod", "200", "--min", "2", "--max", "50", "--prom-query", "x"]
        command += ["--prom-url", "http://127.0.0.1:9"]
        command += ["--on-stale", "ride-forecast", "--output", "json"]
        done = subprocess.run(command, env=self.env, input=given, check=False, capture_output=True, text=True)
        assert done.stdout, done.stderr
        assert SECRET not in done.stdout + done.stderr
        found = json.loads(done.stdout)["findings"]
        rules = {f"{one['rule']} {one['object']['name']}" for one in found}
        sentences = {f"{one['rule']} {one['object']['name']}: {PLACE.sub('', one['message'])}" for one in found}
        return Findings(done.returncode, rules, sentences)
