# SPDX-License-Identifier: Apache-2.0
"""Manifests with one mistake each: a valid ScaledObject, the change to it, and the rule that must find it."""

import copy
from collections.abc import Callable
from typing import Any

import attrs
import yaml

Yaml = dict[str, Any]
Change = Callable[[Yaml], None]

SOUND = """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {name: web}
  minReplicaCount: 2
  maxReplicaCount: 50
  fallback: {failureThreshold: 3, replicas: 6, behavior: currentReplicasIfHigher}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp: {tolerance: 0}
        scaleDown: {tolerance: 0, stabilizationWindowSeconds: 60}
  triggers:
    - type: external
      metricType: AverageValue
      metadata:
        scalerAddress: kedastral.kedastral.svc.cluster.local:8080
        workload: web
"""
SETTINGS = """
apiVersion: kedastral.io/v1alpha1
kind: DataSource
metadata: {name: prometheus}
spec: {url: "http://prometheus:9090"}
---
apiVersion: kedastral.io/v1alpha1
kind: ForecastPolicy
metadata: {name: web, namespace: shop}
spec:
  query: sum(rate(http_requests_total{app="web"}[1m]))
  targetPerPod: 200
  leadTime: 5m
  serviceLevel: 0.99
  min: 2
  max: 50
  onStale: ride-forecast
"""
QUERY = 'sum(rate(http_requests_total{app="web"}[1m]))'
REACTIVE = {
    "type": "prometheus",
    "metricType": "AverageValue",
    "metadata": {"serverAddress": "http://prometheus:9090", "query": QUERY, "threshold": "167"},
}
DEPLOYMENT: Yaml = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {"spec": {"containers": [{"name": "web", "resources": {"requests": {"cpu": "1"}}}]}},
    },
}


def pod(name: str, seconds: int) -> Yaml:
    """A pod of the Deployment that took ``seconds`` to be Ready."""
    ready = f"2026-03-02T10:{seconds // 60:02d}:{seconds % 60:02d}Z"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"app": "web"},
            "creationTimestamp": "2026-03-02T10:00:00Z",
        },
        "status": {
            "containerStatuses": [{"restartCount": 0}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ready}],
        },
    }


@attrs.frozen
class Planted:
    """A mistake: ``change`` plants it in the ScaledObject, ``policy`` in the ForecastPolicy; ``beside`` are objects.

    With ``settings`` False the doctor does not get the Kedastral files.
    """

    rule: str
    what: str
    change: Change = lambda _: None
    policy: Change = lambda _: None
    beside: tuple[Yaml, ...] = ()
    settings: bool = True

    def manifests(self) -> str:
        """The input of the doctor."""
        document = yaml.safe_load(SOUND)
        self.change(document)
        return yaml.safe_dump_all([document, *self.beside])

    def config(self) -> str:
        """The Kedastral files."""
        source, policy = yaml.safe_load_all(SETTINGS)
        self.policy(policy["spec"])
        return yaml.safe_dump_all([source, policy])


def spec(**changes: Any) -> Change:
    """Set keys of ``spec``; None removes one."""

    def change(document: Yaml) -> None:
        for key, value in changes.items():
            document["spec"][key] = copy.deepcopy(value)
            if value is None:
                del document["spec"][key]

    return change


def trigger(**changes: Any) -> Change:
    """Set keys of the trigger."""
    return lambda document: document["spec"]["triggers"][0].update(changes)


def metadata(**changes: Any) -> Change:
    """Set keys of the trigger's metadata; None removes one."""

    def change(document: Yaml) -> None:
        given = document["spec"]["triggers"][0]["metadata"]
        given.update(changes)
        for key, value in changes.items():
            if value is None:
                del given[key]

    return change


def behavior(**changes: Any) -> Change:
    """Set keys of one direction of the HPA's behavior, ``scaleUp`` or ``scaleDown``."""

    def change(document: Yaml) -> None:
        given = document["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        for way, rules in changes.items():
            given[way].update(rules)

    return change


def policy(**changes: Any) -> Change:
    """Set the only policy of ``scaleUp``."""
    return behavior(scaleUp={"policies": [changes]})


def changed(document: Yaml, **changes: Any) -> Yaml:
    """The object with keys of its ``spec`` set."""
    return {**document, "spec": {**document["spec"], **changes}}


def within(key: str, **changes: Any) -> Change:
    """Set keys of a mapping below ``spec``."""
    return lambda document: document["spec"][key].update(copy.deepcopy(changes))


def fallback(**changes: Any) -> Change:
    """Set keys of ``fallback``; None removes one."""

    def change(document: Yaml) -> None:
        given = document["spec"]["fallback"]
        given.update(changes)
        for key, value in changes.items():
            if value is None:
                del given[key]

    return change


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(document: Yaml) -> None:
        for one in changes:
            one(document)

    return change


def beside(other: Yaml) -> Change:
    """Add a trigger."""
    return lambda document: document["spec"]["triggers"].append(copy.deepcopy(other))


def annotated(name: str, value: str) -> Change:
    """Set an annotation of KEDA's."""
    return lambda document: document["metadata"].update(annotations={f"autoscaling.keda.sh/{name}": value})


def says(status: str, reason: str) -> Change:
    """Set the condition Ready in its status."""
    condition = {"type": "Ready", "status": status, "reason": reason, "message": "never shown: hunter2"}
    return lambda document: document.update(status={"conditions": [condition]})


def named(name: str, kind: str = "ScaledObject", api: str = "keda.sh/v1alpha1", **changes: Any) -> Yaml:
    """Another object on the same Deployment."""
    document = yaml.safe_load(SOUND)
    document |= {"kind": kind, "apiVersion": api}
    document["metadata"]["name"] = name
    spec(**changes)(document)
    return dict(document)


def with_workload(**more: str) -> Change:
    """Metadata that describe the workload, with ``more``."""
    return metadata(workload=None, query=QUERY, targetPerPod="50", onStale="ride-forecast", **more)


CPU = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "90"}}
OLD_CPU = {"type": "cpu", "metadata": {"type": "Utilization", "value": "90"}}
FORMULA = {"formula": "max(a ?? 0, b ?? 0)", "target": "1", "metricType": "AverageValue"}
NAMED = {**REACTIVE, "name": "b"}
CRON = {
    "type": "cron",
    "metadata": {"timezone": "UTC", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "10"},
}


def planned(**changes: Any) -> Change:
    """One formula for Kedastral's trigger, ``a``, and another, ``b``; None removes a key of it."""
    modifiers = {key: value for key, value in {**FORMULA, **changes}.items() if value is not None}
    return both(
        within("advanced", scalingModifiers=modifiers),
        fallback(behavior="scalingModifiers"),
        trigger(name="a"),
    )


def falling_back(document: Yaml) -> None:
    """Set the condition Fallback in its status."""
    document["status"] = {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Fallback", "status": "True"}]}


IDLE = both(spec(idleReplicaCount=0), lambda document: document["spec"]["triggers"][0].update(type="external-push"))
ASLEEP = both(spec(minReplicaCount=0, cooldownPeriod=300, pollingInterval=30), trigger(type="external-push"))
SLEEPS = {"min": 0}
THRESHOLD_40 = {**REACTIVE, "metadata": {**REACTIVE["metadata"], "threshold": "40"}}  # type: ignore[dict-item]
THRESHOLD_400 = {**REACTIVE, "metadata": {**REACTIVE["metadata"], "threshold": "400"}}  # type: ignore[dict-item]


def naming(workload: str) -> Yaml:
    """A valid ScaledObject for ``workload``, which scales a Deployment of that name."""
    document: Yaml = yaml.safe_load(SOUND)
    document["metadata"]["name"] = document["spec"]["scaleTargetRef"]["name"] = workload
    document["spec"]["triggers"][0]["metadata"]["workload"] = workload
    return document


PLANTED = (
    Planted("not-a-scaled-object", "kind", lambda d: d.update(kind="Scaledobject")),
    Planted("not-a-scaled-object", "apiVersion of KEDA 1", lambda d: d.update(apiVersion="keda.k8s.io/v1alpha1")),
    Planted("not-a-scaled-object", "no apiVersion", lambda d: d.pop("apiVersion")),
    Planted("scaled-job", "beside a ScaledObject", beside=(named("jobs", "ScaledJob"),)),
    Planted("scaled-job", "alone, and misspelt", lambda d: d.update(kind="scaledJob")),
    Planted("metric-type-value", "Value", trigger(metricType="Value")),
    Planted("metric-type-value", "Utilization", trigger(metricType="Utilization")),
    Planted(
        "metric-type-value",
        "of a formula",
        both(
            spec(advanced={"scalingModifiers": {**FORMULA, "metricType": "Value"}}),
            fallback(behavior="scalingModifiers"),
            trigger(name="a"),
            beside(NAMED),
        ),
    ),
    Planted("scaler-address", "missing", metadata(scalerAddress=None)),
    Planted("scaler-address", "without a port", metadata(scalerAddress="kedastral.kedastral.svc")),
    Planted("scaler-address", "a URL", metadata(scalerAddress="http://kedastral.kedastral.svc:8080")),
    Planted("scaler-address", "port 80800", metadata(scalerAddress="kedastral:80800")),
    Planted("scaler-address", "from a variable", metadata(scalerAddress=None, scalerAddressFromEnv="ADDRESS")),
    Planted("scaler-address", "without a namespace", metadata(scalerAddress="kedastral:8080")),
    Planted("scaler-address", "localhost", metadata(scalerAddress="localhost:8080")),
    Planted("scaler-address", "the port of HTTP", metadata(scalerAddress="kedastral.kedastral.svc:8081")),
    Planted("unsafe-tls", "unsafeSsl", metadata(unsafeSsl="true")),
    Planted("tls-metadata", "a certificate in metadata", metadata(enableTLS="true", caCert="x")),
    Planted("tls-metadata", "a key of KEDA before 2.17", metadata(tlsCertFile="/certs/ca.crt")),
    Planted("tls-metadata", "no boolean", metadata(enableTLS="yes")),
    Planted("tls-metadata", "a boolean from a variable", metadata(unsafeSslFromEnv="UNSAFE")),
    Planted("refused-trigger", "type External", trigger(type="External")),
    Planted("refused-trigger", "type externalpush", trigger(type="externalpush")),
    Planted("refused-trigger", "no type", lambda d: d["spec"]["triggers"][0].pop("type")),
    Planted("refused-trigger", "two of one name", both(trigger(name="web"), beside({**CPU, "name": "web"}))),
    Planted("refused-trigger", "the metricType of cpu in metadata", beside(OLD_CPU)),
    Planted("refused-trigger", "cpu without metricType", beside({"type": "cpu", "metadata": {"value": "90"}})),
    Planted("refused-trigger", "cpu with Value", beside({**CPU, "metricType": "Value"})),
    Planted("refused-trigger", "a cached cpu", beside({**CPU, "useCachedMetrics": True})),
    Planted("cached-metrics", "ours", trigger(useCachedMetrics=True)),
    Planted("metadata-not-text", "nothing", lambda d: d["spec"]["triggers"][0]["metadata"].update(activation=None)),
    Planted("metadata-not-text", "a number", metadata(activation=0)),
    Planted("metadata-not-text", "a number in a trigger of KEDA's own", beside({**CPU, "metadata": {"value": 90}})),
    Planted("metadata-not-text", "the target of a formula", both(planned(target=1), beside(NAMED))),
    Planted("metadata-not-text", "a name", spec(scaleTargetRef={"name": 12})),
    Planted("bad-metadata", "activation", metadata(activation="-1")),
    Planted("bad-metadata", "a misspelt key", with_workload(leadTim="8m")),
    Planted("bad-metadata", "a value", with_workload(leadTime="soon")),
    Planted("bad-metadata", "one that is longer than the horizon", with_workload(leadTime="40m")),
    Planted("ignored-metadata", "beside a workload", metadata(leadTime="8m")),
    Planted("ignored-metadata", "unknown", metadata(colour="green")),
    Planted("unknown-workload", "misspelt", metadata(workload="wbe")),
    Planted("unknown-workload", "of another namespace", lambda d: d["metadata"].update(namespace="other")),
    Planted("unknown-workload", "the key of another namespace", metadata(workload="other/web")),
    Planted("no-workload", "no settings", metadata(workload=None), settings=False),
    Planted("no-workload", "an empty name", metadata(workload=" "), settings=False),
    Planted("no-workload", "beside a name", metadata(workload=None), beside=(naming("cart"),), settings=False),
    Planted(
        "no-workload",
        "beside several names",
        metadata(workload=None),
        beside=(naming("cart"), naming("mail")),
        settings=False,
    ),
    Planted("observe-alone", "observe", policy=lambda p: p.update(mode="observe")),
    Planted("observe-alone", "beside cron", beside(CRON), lambda p: p.update(mode="observe")),
    Planted(
        "observe-with-trigger",
        "beside prometheus, which has a fallback of its own",
        beside(REACTIVE),
        policy=lambda p: p.update(mode="observe"),
    ),
    Planted("bounds", "min above max", spec(minReplicaCount=6, maxReplicaCount=5), settings=False),
    Planted("bounds", "no pod at most", spec(maxReplicaCount=0), settings=False),
    Planted("bounds", "below zero", spec(minReplicaCount=-1), settings=False),
    Planted("bounds", "polling all the time", both(ASLEEP, spec(pollingInterval=0)), lambda p: p.update(SLEEPS)),
    Planted("bounds", "no room", both(spec(maxReplicaCount=2), fallback(replicas=2)), lambda p: p.update(max=2)),
    Planted("bounds", "idle", spec(idleReplicaCount=2)),
    Planted("idle-not-zero", "one", spec(idleReplicaCount=1)),
    Planted(
        "observe-alone", "beside cpu, from zero", both(ASLEEP, beside(CPU)), lambda p: p.update(SLEEPS, mode="observe")
    ),
    Planted("max-below-plan", "max", spec(maxReplicaCount=20)),
    Planted("max-below-plan", "KEDA's default", spec(maxReplicaCount=None), lambda p: p.update(max=200)),
    Planted("max-below-plan", "along with its workload", both(spec(maxReplicaCount=20), with_workload())),
    Planted("min-differs", "above", spec(minReplicaCount=4)),
    Planted("min-differs", "below", spec(minReplicaCount=1)),
    Planted("min-differs", "never idle", IDLE),
    Planted("min-not-set", "left out", spec(minReplicaCount=None)),
    Planted(
        "sleeps-while-stale",
        "default-min",
        both(ASLEEP, spec(fallback={"failureThreshold": 3, "replicas": 2, "behavior": "currentReplicasIfHigher"})),
        lambda p: p.update(SLEEPS, onStale="default-min"),
    ),
    Planted("sleeps-while-stale", "idle", IDLE, lambda p: p.update(SLEEPS, onStale="default-min")),
    Planted(
        "sleeps-while-stale",
        "beside cpu and cron",
        both(ASLEEP, beside(CPU), beside(CRON)),
        lambda p: p.update(SLEEPS, onStale="default-min"),
    ),
    Planted("sleeps-without-stream", "idle", both(IDLE, trigger(type="external")), lambda p: p.update(SLEEPS)),
    Planted("sleeps-without-stream", "external", both(ASLEEP, trigger(type="external")), lambda p: p.update(SLEEPS)),
    Planted(
        "formula-from-zero",
        "a formula",
        both(
            ASLEEP,
            spec(advanced={"scalingModifiers": FORMULA}),
            fallback(behavior="scalingModifiers"),
            trigger(name="a"),
            beside(NAMED),
        ),
        lambda p: p.update(SLEEPS),
    ),
    Planted("no-fallback", "none", spec(fallback=None)),
    Planted("no-fallback", "beside cpu", both(spec(fallback=None), beside(CPU))),
    Planted("fallback-never-begins", "default-min", policy=lambda p: p.update(onStale="default-min")),
    Planted("fallback-never-begins", "along with its workload", both(with_workload(), metadata(onStale="default-min"))),
    Planted("fallback-for-every-trigger", "prometheus", beside(REACTIVE)),
    Planted("fallback-replicas", "0", fallback(replicas=0)),
    Planted("fallback-replicas", "above the maximum", fallback(replicas=60)),
    Planted("fallback-replicas", "an unknown behavior", fallback(behavior="Static")),
    Planted("fallback-replicas", "negative", fallback(replicas=-1)),
    Planted(
        "fallback-replicas",
        "0, beside an idleReplicaCount",
        both(IDLE, fallback(replicas=0)),
        lambda p: p.update(SLEEPS),
    ),
    Planted("fallback-replicas", "no threshold", fallback(failureThreshold=None)),
    Planted("fallback-takes-pods", "by default", fallback(behavior=None)),
    Planted("fallback-takes-pods", "currentReplicasIfLower", fallback(behavior="currentReplicasIfLower")),
    Planted(
        "slow-ramp",
        "a pod a minute",
        behavior(scaleUp={"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}),
    ),
    Planted("slow-ramp", "a long window", behavior(scaleUp={"stabilizationWindowSeconds": 600})),
    Planted("slow-ramp", "never", behavior(scaleUp={"selectPolicy": "Disabled"})),
    Planted("slow-ramp", "for this lead time", policy=lambda p: p.update(leadTime="30s")),
    Planted("tolerance", "written", behavior(scaleUp={"tolerance": "0.1"})),
    Planted(
        "tolerance",
        "left out in a behavior",
        spec(
            advanced={"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}}
        ),
    ),
    Planted("scale-down", "no window", behavior(scaleDown={"stabilizationWindowSeconds": 0})),
    Planted("scale-down", "disabled", behavior(scaleDown={"selectPolicy": "Disabled"})),
    Planted("slow-scale-in", "half an hour", behavior(scaleDown={"stabilizationWindowSeconds": 1800})),
    Planted(
        "slow-scale-in",
        "a pod a minute, beside cpu and cron",
        both(
            behavior(scaleDown={"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}),
            beside(CPU),
            beside(CRON),
        ),
    ),
    Planted("pace-without-effect", "polling", spec(pollingInterval=10)),
    Planted("pace-without-effect", "cooldown", spec(cooldownPeriod=300)),
    Planted("pace-without-effect", "the first cooldown", spec(initialCooldownPeriod=60)),
    Planted("slow-polling", "polling", both(ASLEEP, spec(pollingInterval=300)), lambda p: p.update(SLEEPS)),
    Planted("short-cooldown", "cooldown", both(ASLEEP, spec(cooldownPeriod=5)), lambda p: p.update(SLEEPS)),
    *(
        Planted("formula", what, both(planned(**changes), beside(NAMED), *more))
        for what, changes, more in (
            ("no formula", {"formula": None}, (spec(fallback=None),)),
            ("no target", {"target": None}, ()),
            ("no number for a target", {"target": "one"}, ()),
            ("a target with a point", {"target": "1.0"}, ()),
            ("a target that divides the plan", {"target": "100"}, ()),
            ("a target that multiplies the plan", {"target": "0.5"}, (spec(fallback=None),)),
            ("an unknown name", {"formula": "max(a, c)"}, ()),
            ("without the plan", {"formula": "b / 167"}, ()),
            ("?? without fallback", {}, (spec(fallback=None),)),
            ("?? with another fallback", {}, (fallback(behavior="currentReplicasIfHigher"),)),
            ("no name", {}, (trigger(name=""),)),
        )
    ),
    Planted("formula", "fallback without one", fallback(behavior="scalingModifiers")),
    Planted("threshold-against-target", "low", both(spec(fallback=None), beside(THRESHOLD_40))),
    Planted("threshold-against-target", "high", both(spec(fallback=None), beside(THRESHOLD_400))),
    Planted(
        "cpu-without-requests",
        "cpu",
        beside(CPU),
        beside=({**DEPLOYMENT, "spec": {"template": {"spec": {"containers": [{"name": "web"}]}}}},),
    ),
    Planted("two-on-one", "a second ScaledObject", beside=(named("web-again"),)),
    Planted(
        "two-on-one",
        "an HPA",
        beside=(
            named(
                "web", "HorizontalPodAutoscaler", "autoscaling/v2", scaleTargetRef={"kind": "Deployment", "name": "web"}
            ),
        ),
    ),
    Planted("same-object-twice", "with other triggers", beside=(named("web", triggers=[REACTIVE]),)),
    Planted("no-target", "a Rollout without its API", spec(scaleTargetRef={"name": "web", "kind": "Rollout"})),
    Planted("no-target", "a DaemonSet", spec(scaleTargetRef={"name": "web", "kind": "DaemonSet"})),
    Planted("no-target", "in lower case", spec(scaleTargetRef={"name": "web", "kind": "deployment"})),
    Planted("no-target", "misspelt", spec(scaleTargetRef={"name": "wbe"}), beside=(DEPLOYMENT,)),
    Planted("replicas-in-manifest", "replicas", beside=(changed(DEPLOYMENT, replicas=3),)),
    Planted(
        "one-by-one",
        "a StatefulSet",
        spec(scaleTargetRef={"name": "web", "kind": "StatefulSet"}),
        beside=({**DEPLOYMENT, "kind": "StatefulSet"},),
    ),
    Planted(
        "no-target", "an API that is gone", spec(scaleTargetRef={"name": "web", "apiVersion": "extensions/v1beta1"})
    ),
    Planted("refused-behavior", "a policy in lower case", behavior(scaleUp={"selectPolicy": "max"})),
    Planted("refused-behavior", "a window of a day", behavior(scaleDown={"stabilizationWindowSeconds": 86400})),
    Planted("refused-behavior", "a number without quotes", behavior(scaleUp={"tolerance": 0.001})),
    Planted("refused-behavior", "per cent", behavior(scaleUp={"tolerance": "5%"})),
    Planted("refused-behavior", "a policy without a period", policy(type="Pods", value=90)),
    Planted(
        "refused-behavior",
        "a policy of no type",
        policy(type="pods", value=90, periodSeconds=15),
    ),
    Planted("no-target", "no name", spec(scaleTargetRef={})),
    Planted("unknown-field", "triggers beside spec", lambda d: d.update(triggers=d["spec"].pop("triggers"))),
    Planted("unknown-field", "trigger", lambda d: d["spec"].update(trigger=d["spec"].pop("triggers"))),
    Planted(
        "unknown-field", "indented too far", lambda d: d["spec"]["advanced"].update(triggers=d["spec"].pop("triggers"))
    ),
    Planted("unknown-field", "maxReplicas", spec(maxReplicas=50)),
    Planted(
        "unknown-field", "behaviour of the HPA", within("advanced", horizontalPodAutoscalerConfig={"behaviour": {}})
    ),
    Planted("unknown-field", "of fallback", fallback(behaviour="static")),
    Planted("unknown-field", "of scaleUp", behavior(scaleUp={"stabilisationWindowSeconds": 5})),
    Planted("unknown-field", "of a trigger", trigger(useCachedMetric=True)),
    Planted("unknown-field", "of authenticationRef", trigger(authenticationRef={"name": "tls", "namespace": "keda"})),
    Planted(
        "unknown-field",
        "of a policy",
        policy(type="Pods", value=90, periodSeconds=15, seconds=5),
    ),
    Planted("unknown-field", "of the target", spec(scaleTargetRef={"name": "web", "Kind": "StatefulSet"})),
    Planted("no-whole-number", "max", spec(maxReplicaCount="50")),
    Planted("no-whole-number", "failureThreshold", fallback(failureThreshold="3")),
    Planted("no-whole-number", "a window", behavior(scaleDown={"stabilizationWindowSeconds": "60"})),
    Planted(
        "no-whole-number",
        "of a policy",
        policy(type="Pods", value="90", periodSeconds=15),
    ),
    Planted("no-whole-number", "a half", spec(initialCooldownPeriod=1.5)),
    Planted("paused", "an annotation", annotated("paused", "true")),
    Planted("paused", "what is no boolean counts as true", annotated("paused", "")),
    Planted("paused", "at a number", annotated("paused-replicas", "3")),
    Planted("paused", "out", annotated("paused-scale-out", "1")),
    Planted("paused", "in", annotated("paused-scale-in", "yes")),
    Planted("keda-reports", "no trigger works", says("False", "TriggerError")),
    Planted("keda-reports", "its fallback is active", falling_back),
    Planted("keda-reports", "some triggers fail", says("Unknown", "PartialTriggerError")),
    Planted("slow-start", "pods", beside=(DEPLOYMENT, pod("a", 320), pod("b", 400), pod("c", 350))),
    Planted("slow-ramp", "with the start of the pods", beside=(DEPLOYMENT, pod("a", 280))),
    Planted("raw-counter", "no rate", policy=lambda p: p.update(query='sum(http_requests_total{app="web"})')),
    Planted("rate-of-sum", "rate of sum", policy=lambda p: p.update(query="rate(sum(http_requests_total)[1m:10s])")),
    Planted("counter-as-gauge", "deriv", policy=lambda p: p.update(query="sum(deriv(http_requests_total[1m]))")),
    Planted("zero-for-nothing", "or vector(0)", policy=lambda p: p.update(query=f"{QUERY} or vector(0)")),
    Planted(
        "zero-for-nothing",
        "in a sum",
        policy=lambda p: p.update(query="sum(rate(x[1m]) OR on () vector( 0.0 ))"),
    ),
    Planted("odd-setting", "a window", policy=lambda p: p.update(window="1h")),
)
"""Every mistake; more than one for most rules."""
