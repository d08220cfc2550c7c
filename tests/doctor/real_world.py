# SPDX-License-Identifier: Apache-2.0
"""Manifests as platform teams have them, with all that the doctor must say of each, and nothing else."""

import attrs

from tests.doctor.planted import SETTINGS

HPA = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  maxReplicas: 5
---"""


@attrs.frozen
class RealWorld:
    """``text`` is what is given to the doctor; ``found`` are the rules that speak, with the severity."""

    what: str
    text: str
    found: tuple[tuple[str, str], ...] = ()
    settings: str = ""


OURS = """
    - type: external
      metricType: AverageValue
      metadata: {scalerAddress: "kedastral.kedastral.svc.cluster.local:8080", workload: web}"""
CPU = """
    - type: cpu
      metricType: Utilization
      metadata: {value: "80"}"""
PROMETHEUS = """
    - type: prometheus
      metadata:
        serverAddress: http://prometheus.monitoring.svc:9090
        query: sum(rate(http_requests_total{app="web"}[1m]))
        threshold: "167\""""
CRON = """
    - type: cron
      metadata: {timezone: Europe/Berlin, start: 0 8 * * 1-5, end: 0 18 * * 1-5, desiredReplicas: "10"}"""
TOLERANT = """
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp: {tolerance: 0}
        scaleDown: {tolerance: 0, stabilizationWindowSeconds: 60}"""
FALLBACK = """
  fallback: {failureThreshold: 3, replicas: 6, behavior: currentReplicasIfHigher}"""


def scaled_object(triggers: str, spec: str = "", bounds: str = "", name: str = "web") -> str:
    """A ScaledObject with ``triggers``; ``spec`` are more of its lines, ``bounds`` its replica counts."""
    return f"""
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{name: {name}, namespace: shop}}
spec:
  scaleTargetRef: {{name: {name}}}{bounds or BOUNDS}{spec}
  triggers:{triggers}
"""


BOUNDS = """
  minReplicaCount: 2
  maxReplicaCount: 50"""

OWNERS = (
    RealWorld(
        "the HTTP add-on's external scaler",
        """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: frontend, namespace: shop}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: frontend}
  cooldownPeriod: 5
  triggers:
    - type: external-push
      metadata:
        scalerAddress: keda-http-add-on-external-scaler.keda:9090
        httpScaledObject: frontend
""",
    ),
    RealWorld(
        "an external scaler with a query, a window and a mode of its own",
        """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: orders, namespace: shop}
spec:
  scaleTargetRef: {name: orders}
  triggers:
    - type: external
      metricType: Value
      metadata:
        scalerAddress: otel-scaler.observability.svc:4318
        query: sum(orders_pending)
        window: 2m
        mode: max
        targetValue: "40"
""",
    ),
    RealWorld(
        "a scaler of the company, which needs no metadata",
        """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: mailer, namespace: shop}
spec:
  scaleTargetRef: {name: mailer}
  triggers:
    - type: external
      metricType: Value
      metadata: {scalerAddress: "queue-scaler.tools.svc.cluster.local:6000"}
""",
        (("metric-type-value", "warning"), ("no-workload", "info"), ("min-not-set", "info"), ("no-fallback", "info"),
         ("tolerance", "info")),
    ),
    RealWorld(
        "misspelt keys at an address that says nothing",
        scaled_object(
            """
    - type: external
      metadata: {scaleraddress: "predictor.scaling.svc:8080", worload: web, onstale: error}""",
            TOLERANT + FALLBACK,
        ),
        (("scaler-address", "error"), ("bad-metadata", "error"), ("bad-metadata", "error"), ("bad-metadata", "error"),
         ("bad-metadata", "error")),
    ),
    RealWorld(
        "another vendor's keys that only look a little like ours",
        scaled_object(
            """
    - type: external
      metadata: {scalerAddress: "jobs.tools.svc:8080", workloadName: web, targetPods: "5", maxReplicas: "9"}"""
        ),
    ),
    RealWorld(
        "our trigger beside another vendor's without metadata",
        scaled_object(
            OURS
            + """
    - type: external
      metricType: Value
      metadata: {scalerAddress: "queue-scaler.tools.svc.cluster.local:6000"}""",
            TOLERANT,
        ),
    ),
    RealWorld(
        "a Kedastral under another name, known by what else leads to it",
        scaled_object(
            """
    - type: external
      metricType: Value
      metadata: {scalerAddress: "predictor.scaling.svc:8080"}""",
            TOLERANT + FALLBACK,
        )
        + "---"
        + scaled_object(
            """
    - type: external
      metadata: {scalerAddress: "predictor.scaling.svc.cluster.local:8080", workload: cart}""",
            TOLERANT + FALLBACK,
            name="cart",
        ),
        (("metric-type-value", "error"), ("no-workload", "warning")),
    ),
    RealWorld(
        "a Kedastral under another name, known by its Service",
        """
apiVersion: v1
kind: Service
metadata:
  name: predictor
  namespace: scaling
  labels: {app.kubernetes.io/name: kedastral, app.kubernetes.io/component: autoscaler}
---"""
        + scaled_object(
            """
    - type: external
      metadata: {scalerAddress: "predictor.scaling.svc:8080", colour: green, shape: round}""",
            TOLERANT,
        ),
        (("ignored-metadata", "warning"), ("ignored-metadata", "warning"), ("no-workload", "warning"),
         ("no-fallback", "warning")),
    ),
    RealWorld(
        "a workload that the trigger describes, at an address that says nothing",
        scaled_object(
            """
    - type: external
      metricType: Value
      metadata: {scalerAddress: "predictor.scaling.svc:8080", query: "sum(rate(x[1m]))", targetPerPod: "50"}""",
            TOLERANT + FALLBACK,
        ),
        (("metric-type-value", "error"), ("fallback-never-begins", "warning")),
    ),
)  # fmt: skip

TARGETS = (
    RealWorld(
        "an Argo Rollout with its own sidecar, as helm template prints it",
        """
---
# Source: shop/charts/web/templates/rollout.yaml
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata:
  name: web
  namespace: shop
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      initContainers:
        - name: migrate
          image: migrate
        - name: proxy
          restartPolicy: Always
          image: proxy
      containers:
        - name: web
          image: web
          resources: {requests: {cpu: 500m}}
---

---
# Source: shop/charts/web/templates/scaledobject.yaml
"""
        + scaled_object(OURS + CPU, TOLERANT + FALLBACK).replace(
            "scaleTargetRef: {name: web}",
            "scaleTargetRef: {apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: web}",
        ),
        (("cpu-without-requests", "error"),),
    ),
    RealWorld(
        "a StatefulSet that starts its pods in parallel, and one that does not",
        """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: web, namespace: shop}
spec:
  podManagementPolicy: Parallel
  template: {spec: {containers: [{name: web}]}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: cart, namespace: shop}
spec:
  template: {spec: {containers: [{name: cart}]}}
---"""
        + (
            scaled_object(OURS, TOLERANT + FALLBACK) + "---" + scaled_object(OURS, TOLERANT + FALLBACK, name="cart")
        ).replace("scaleTargetRef: {", "scaleTargetRef: {kind: StatefulSet, "),
        (("one-by-one", "warning"),),
    ),
    RealWorld(
        "a Deployment that other files have, beside one of a near name that has an object of its own",
        """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {spec: {containers: [{name: web}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web3, namespace: staging}
spec: {template: {spec: {containers: [{name: web}]}}}
---"""
        + scaled_object(OURS, TOLERANT + FALLBACK)
        + "---"
        + scaled_object(OURS, TOLERANT + FALLBACK, name="web2"),
    ),
    RealWorld(
        "an Argo Rollout that refers to a Deployment",
        """
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: web, namespace: shop}
spec:
  workloadRef: {apiVersion: apps/v1, kind: Deployment, name: web}
---"""
        + scaled_object(OURS + CPU, TOLERANT + FALLBACK).replace(
            "scaleTargetRef: {name: web}",
            "scaleTargetRef: {apiVersion: argoproj.io/v1alpha1, kind: Rollout, name: web}",
        ),
    ),
    RealWorld(
        "a Rollout without its apiVersion",
        scaled_object(OURS, TOLERANT + FALLBACK).replace("{name: web}\n  min", "{kind: Rollout, name: web}\n  min"),
        (("no-target", "error"),),
    ),
    RealWorld(
        "a StatefulSet, and a Deployment of the same name with an HPA of its own",
        HPA
        + scaled_object(OURS, TOLERANT + FALLBACK).replace(
            "{name: web}\n  min", "{apiVersion: apps/v1, kind: StatefulSet, name: web}\n  min"
        ),
    ),
    RealWorld(
        "an HPA of the same Deployment, which still runs",
        HPA + scaled_object(OURS, TOLERANT + FALLBACK),
        (("two-on-one", "error"),),
    ),
    RealWorld(
        "an HPA that KEDA takes over",
        HPA
        + """
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: web
  namespace: shop
  annotations: {scaledobject.keda.sh/transfer-hpa-ownership: "true"}
spec:
  scaleTargetRef: {name: web}
  minReplicaCount: 2
  maxReplicaCount: 9
  fallback: {failureThreshold: 3, replicas: 6, behavior: currentReplicasIfHigher}
  advanced: {horizontalPodAutoscalerConfig: {name: web}}
  triggers:"""
        + OURS,
        (("slow-scale-in", "info"),),
    ),
    RealWorld(
        "KEDA's HPA of another name, without an owner, as a backup has it",
        """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: web
  namespace: shop
  labels: {app.kubernetes.io/managed-by: keda-operator, scaledobject.keda.sh/name: web}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  maxReplicas: 5
---"""
        + scaled_object(OURS, TOLERANT + FALLBACK),
    ),
    RealWorld(
        "a Deployment whose manifest sets replicas, in a kind: List",
        """
apiVersion: v1
kind: List
items:
  - apiVersion: apps/v1
    kind: Deployment
    metadata: {name: web, namespace: shop}
    spec:
      replicas: 3
      template: {spec: {containers: [{name: web}]}}
  - apiVersion: keda.sh/v1alpha1
    kind: ScaledObject
    metadata: {name: web, namespace: shop}
    spec:
      scaleTargetRef: {name: web}
      minReplicaCount: 2
      maxReplicaCount: 9
      fallback: {failureThreshold: 3, replicas: 6, behavior: currentReplicasIfHigher}
      triggers:
        - type: external
          metadata: {scalerAddress: "kedastral.kedastral.svc:8080", workload: web}
""",
        (("replicas-in-manifest", "warning"), ("slow-scale-in", "info")),
    ),
    RealWorld(
        "the same Deployment as kubectl get prints it",
        """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop, uid: 0d8b6f5e-0000-4000-8000-000000000000, resourceVersion: "812"}
spec:
  replicas: 3
  template: {spec: {containers: [{name: web}]}}
---"""
        + scaled_object(OURS, TOLERANT + FALLBACK),
    ),
    RealWorld(
        "no CPU request, but a LimitRange that fills it in",
        """
apiVersion: v1
kind: LimitRange
metadata: {name: defaults, namespace: shop}
spec:
  limits:
    - type: Container
      defaultRequest: {cpu: 100m}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {spec: {containers: [{name: web}]}}}
---"""
        + scaled_object(OURS + CPU, TOLERANT + FALLBACK),
    ),
    RealWorld(
        "cpu by AverageValue, with a sidecar that requests nothing",
        """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    spec:
      initContainers: [{name: proxy, restartPolicy: Always}]
      containers: [{name: web, resources: {requests: {cpu: 1}}}]
---"""
        + scaled_object(
            OURS
            + """
    - type: cpu
      metricType: AverageValue
      metadata: {value: 700m}""",
            TOLERANT + FALLBACK,
        ),
    ),
    RealWorld(
        "cpu by AverageValue, and a request of nothing",
        """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {spec: {containers: [{name: web, resources: {requests: {cpu: "0"}}}]}}}
---"""
        + scaled_object(
            OURS
            + """
    - type: cpu
      metricType: AverageValue
      metadata: {value: 700m}""",
            TOLERANT + FALLBACK,
        ),
        (("cpu-without-requests", "error"),),
    ),
)
TO_ZERO = """
  idleReplicaCount: 0
  minReplicaCount: 4
  maxReplicaCount: 50"""
FROM_ZERO = """
  minReplicaCount: 0
  maxReplicaCount: 50"""
PUSH = OURS.replace("type: external", "type: external-push")
PLANS_ZERO = SETTINGS.replace("min: 2", "min: 0")
DEFAULT_MIN = PLANS_ZERO.replace("ride-forecast", "default-min")
FORMULA = """
  advanced:
    scalingModifiers: {formula: "%s", target: "%s"}
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp: {tolerance: 0}
        scaleDown: {tolerance: 0, stabilizationWindowSeconds: 60}
  fallback: {failureThreshold: 6, replicas: 6, behavior: scalingModifiers}"""
PREDICTED = OURS.replace("type: external", "type: external\n      name: predicted")
RPS = PROMETHEUS.replace("type: prometheus", "type: prometheus\n      name: rps")
ZEROS = (
    RealWorld(
        "idle at 0, and at least 4 pods otherwise",
        scaled_object(PUSH, TOLERANT + FALLBACK + "\n  cooldownPeriod: 600\n  pollingInterval: 30", TO_ZERO),
        settings=PLANS_ZERO,
    ),
    RealWorld(
        "idle at 0, with everything that is wrong from zero",
        scaled_object(
            OURS,
            TOLERANT
            + "\n  cooldownPeriod: 5\n  pollingInterval: 120\n"
            + "  fallback: {failureThreshold: 3, replicas: 0, behavior: currentReplicasIfHigher}",
            TO_ZERO,
        ),
        (
            ("sleeps-while-stale", "error"),
            ("sleeps-without-stream", "warning"),
            ("fallback-replicas", "error"),
            ("slow-polling", "warning"),
            ("short-cooldown", "warning"),
        ),
        DEFAULT_MIN,
    ),
    RealWorld(
        "idle at 0, and a plan of at least 2 pods",
        scaled_object(PUSH, TOLERANT + FALLBACK, TO_ZERO),
        (("min-differs", "warning"),),
        SETTINGS,
    ),
    RealWorld(
        "idle at 0, and a trigger that is active only above the plan's least",
        scaled_object(PUSH.replace("workload: web", 'workload: web, activation: "2"'), TOLERANT + FALLBACK, TO_ZERO),
        settings=SETTINGS,
    ),
    RealWorld(
        "idleReplicaCount: 0 written beside minReplicaCount: 0, which KEDA takes",
        scaled_object(PUSH, TOLERANT + FALLBACK, FROM_ZERO + "\n  idleReplicaCount: 0"),
        settings=PLANS_ZERO,
    ),
    RealWorld(
        "from zero with cpu beside it, which keeps no pod",
        scaled_object(PUSH + CPU, TOLERANT + FALLBACK, FROM_ZERO),
        (("sleeps-while-stale", "error"),),
        DEFAULT_MIN,
    ),
    RealWorld(
        "from zero, in the hours of a cron trigger",
        scaled_object(PUSH + CRON, TOLERANT, FROM_ZERO),
        (("sleeps-while-stale", "error"), ("no-fallback", "warning")),
        DEFAULT_MIN,
    ),
    RealWorld(
        "from zero, with a prometheus trigger that holds while Prometheus is away",
        scaled_object(PUSH + PROMETHEUS, TOLERANT, FROM_ZERO),
        settings=DEFAULT_MIN,
    ),
    RealWorld(
        "to zero at night, forced to stay awake for now",
        scaled_object(PUSH, TOLERANT + FALLBACK, FROM_ZERO).replace(
            "namespace: shop}", 'namespace: shop, annotations: {autoscaling.keda.sh/force-activation: "true"}}'
        ),
        (("fallback-never-begins", "warning"),),
        DEFAULT_MIN,
    ),
    RealWorld(
        "observed from zero beside cpu alone",
        scaled_object(PUSH + CPU, TOLERANT + FALLBACK, FROM_ZERO),
        (("observe-alone", "error"),),
        PLANS_ZERO + "  mode: observe\n",
    ),
    RealWorld(
        "observed from zero beside a schedule, under default-min",
        scaled_object(PUSH + CRON, TOLERANT, FROM_ZERO),
        (("observe-alone", "warning"),),
        DEFAULT_MIN + "  mode: observe\n",
    ),
    RealWorld(
        "observed beside cpu, under default-min, with a fallback and without",
        scaled_object(OURS + CPU, TOLERANT) + "---" + scaled_object(OURS + CPU, TOLERANT + FALLBACK, name="cart"),
        (("observe-with-trigger", "info"), ("observe-with-trigger", "info")),
        SETTINGS.replace("ride-forecast", "default-min") + "  mode: observe\n",
    ),
    RealWorld(
        "observed beside the trigger that decides, with what matters once the plan does",
        scaled_object(
            OURS + PROMETHEUS.replace('"167"', '"100"'),
            FALLBACK
            + """
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp: {policies: [{type: Percent, value: 50, periodSeconds: 60}]}
        scaleDown: {stabilizationWindowSeconds: 0}""",
            "\n  minReplicaCount: 3\n  maxReplicaCount: 40",
        ),
        (
            ("observe-with-trigger", "warning"),
            ("slow-ramp", "warning"),
            ("max-below-plan", "warning"),
            ("min-differs", "info"),
            ("tolerance", "info"),
            ("scale-down", "info"),
            ("threshold-against-target", "info"),
        ),
        SETTINGS.replace("leadTime: 5m", "leadTime: 3m") + "  mode: observe\n",
    ),
    RealWorld(
        "observed beside a formula without the plan",
        scaled_object(PREDICTED + RPS, FORMULA % ("rps / 167", "1")),
        (("observe-with-trigger", "warning"), ("formula", "warning")),
        SETTINGS + "  mode: observe\n",
    ),
    RealWorld(
        "observed from zero beside a prometheus trigger",
        scaled_object(OURS + PROMETHEUS, TOLERANT + FALLBACK, FROM_ZERO),
        (("observe-with-trigger", "warning"), ("sleeps-without-stream", "info")),
        DEFAULT_MIN + "  mode: observe\n",
    ),
    RealWorld(
        "whole numbers with a point",
        scaled_object(OURS, TOLERANT + FALLBACK, "\n  minReplicaCount: 2.0\n  maxReplicaCount: 5e1"),
        settings=SETTINGS,
    ),
)
COMBINED = (
    RealWorld(
        "beside a schedule, with a fallback for us alone",
        scaled_object(OURS + CRON, TOLERANT + FALLBACK),
        settings=SETTINGS,
    ),
    RealWorld(
        "beside a schedule, without a fallback",
        scaled_object(OURS + CRON, TOLERANT),
        (("no-fallback", "warning"),),
        SETTINGS,
    ),
    RealWorld(
        "a fallback that keeps what runs, and a number that it does not read",
        scaled_object(OURS, TOLERANT + "\n  fallback: {failureThreshold: 3, replicas: 0, behavior: currentReplicas}"),
        settings=SETTINGS,
    ),
    RealWorld(
        "a fallback to all that there can be",
        scaled_object(OURS, TOLERANT + "\n  fallback: {failureThreshold: 3, replicas: 50}"),
        settings=SETTINGS,
    ),
    RealWorld(
        "a misspelt behavior of fallback",
        scaled_object(OURS, TOLERANT + FALLBACK.replace("IfHigher", "ifHigher")),
        (("fallback-replicas", "error"),),
        SETTINGS,
    ),
    RealWorld(
        "one formula with conditions, functions and a variable",
        scaled_object(
            PREDICTED.replace("AverageValue", "Value") + RPS,
            FORMULA % ("let net = (rps ?? 0) / 167; predicted != nil ? max(predicted, net) : ceil(net)", "1"),
        ),
        settings=SETTINGS,
    ),
    RealWorld(
        "a formula over a list, with the plan in requests",
        scaled_object(PREDICTED + RPS, FORMULA % ("max([(predicted ?? 0) * 200, rps ?? 0])", "200")),
        settings=SETTINGS,
    ),
    RealWorld(
        "a formula whose target divides the plan",
        scaled_object(PREDICTED + RPS, FORMULA % ("max(predicted ?? 0, rps ?? 0)", "200")),
        (("formula", "warning"),),
        SETTINGS,
    ),
    RealWorld(
        "a formula without the plan, with a trigger that has no name and cpu",
        scaled_object(
            OURS + RPS + CPU.replace("type: cpu", "type: cpu\n      name: load"),
            FORMULA % ("rps / 167 + load + predicted", "1.0"),
        ),
        (("formula", "error"),) * 4,
        SETTINGS,
    ),
    RealWorld(
        "cached answers, which make the polling count",
        scaled_object(
            OURS + PROMETHEUS.replace("type: prometheus", "type: prometheus\n      useCachedMetrics: true"),
            TOLERANT + "\n  pollingInterval: 15",
        ),
        settings=SETTINGS,
    ),
    RealWorld(
        "our own answers cached for two minutes",
        scaled_object(
            OURS.replace("type: external", "type: external\n      useCachedMetrics: true"),
            TOLERANT + FALLBACK + "\n  pollingInterval: 120",
        ),
        (("cached-metrics", "warning"),),
        SETTINGS,
    ),
    RealWorld(
        "cpu as before KEDA 2.18",
        scaled_object(
            OURS
            + """
    - type: cpu
      metadata: {type: Utilization, value: "80"}""",
            TOLERANT + FALLBACK,
        ),
        (("refused-trigger", "error"),),
        SETTINGS,
    ),
)


def authentication(name: str, *parameters: str) -> str:
    """A TriggerAuthentication with ``parameters`` from a Secret."""
    rows = "".join(f"\n    - {{parameter: {one}, name: {name}, key: {one}}}" for one in parameters)
    return f"""
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata: {{name: {name}, namespace: shop}}
spec:
  secretTargetRef:{rows}
---"""


TLS = (
    RealWorld(
        "mutual TLS by a ClusterTriggerAuthentication",
        scaled_object(
            OURS.replace("workload: web}", 'workload: web, enableTLS: "true"}')
            + "\n      authenticationRef: {name: kedastral, kind: ClusterTriggerAuthentication}",
            TOLERANT + FALLBACK,
        ),
        settings=SETTINGS,
    ),
    RealWorld(
        "an authentication with the names of Kafka's parameters, and one with half a pair",
        authentication("kedastral", "ca", "cert", "key")
        + authentication("half", "caCert", "tlsClientCert")
        + scaled_object(OURS + "\n      authenticationRef: {name: kedastral}", TOLERANT + FALLBACK)
        + "---"
        + scaled_object(OURS + "\n      authenticationRef: {name: half}", TOLERANT + FALLBACK, name="cart"),
        (("tls-metadata", "error"), ("tls-metadata", "error")),
    ),
    RealWorld(
        "an authentication from Vault that is shared with Prometheus, and one of another namespace",
        """
apiVersion: keda.sh/v1alpha1
kind: ClusterTriggerAuthentication
metadata: {name: kedastral}
spec:
  hashiCorpVault:
    address: https://vault
    secrets:
      - {parameter: caCert, key: ca, path: secret/kedastral}
      - {parameter: bearerToken, key: token, path: secret/prometheus}
---"""
        + authentication("tls", "username").replace("namespace: shop", "namespace: other")
        + scaled_object(
            OURS + "\n      authenticationRef: {name: kedastral, kind: ClusterTriggerAuthentication}",
            TOLERANT + FALLBACK,
        )
        + "---"
        + scaled_object(OURS + "\n      authenticationRef: {name: tls}", TOLERANT + FALLBACK, name="cart"),
    ),
    RealWorld(
        "certificates in the metadata, and no check of the server's",
        scaled_object(
            OURS.replace("workload: web}", 'workload: web, enableTLS: "on", unsafeSsl: "1", caCert: "-----BEGIN"}'),
            TOLERANT + FALLBACK,
        ),
        (("tls-metadata", "error"), ("tls-metadata", "error"), ("unsafe-tls", "warning")),
        SETTINGS,
    ),
    RealWorld(
        "a port-forward that was left in",
        scaled_object(OURS.replace("kedastral.kedastral.svc.cluster.local", "localhost"), TOLERANT + FALLBACK),
        (("scaler-address", "error"),),
        SETTINGS,
    ),
    RealWorld(
        "what belongs beside metadata, within them",
        scaled_object(
            """
    - type: external
      metadata:
        scalerAddress: kedastral.kedastral.svc:8080
        workload: web
        metricType: AverageValue""",
            TOLERANT + FALLBACK,
        ),
        (("ignored-metadata", "warning"),),
        SETTINGS,
    ),
)
REFUSED = (
    RealWorld(
        "a behavior that Kubernetes refuses",
        scaled_object(
            OURS,
            FALLBACK
            + """
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp:
          stabilizationWindowSeconds: 0
          selectPolicy: max
          tolerance: 0.001
          policies:
            - {type: Percent, value: 100, periodSeconds: 3600}
            - {type: Pod, value: 0, periodSeconds: 15}
        scaleDown: {tolerance: -1, stabilizationWindowSeconds: 7200}""",
        ),
        (("refused-behavior", "error"),) * 7,
        SETTINGS,
    ),
    RealWorld(
        "words of KEDA 1, and of the HPA",
        """
apiVersion: keda.k8s.io/v1alpha1
kind: ScaledObject
metadata: {name: web, namespace: shop, labels: {deploymentName: web}}
spec:
  scaleTargetRef: {deploymentName: web}
  minReplicas: 2
  maxReplicaCount: 9
  triggers:
    - type: external
      metadata: {scalerAddress: "kedastral.kedastral.svc:8080", workload: web}
""",
        (
            ("not-a-scaled-object", "error"),
            ("no-target", "error"),
            ("unknown-field", "error"),
            ("unknown-field", "error"),
            ("min-not-set", "warning"),
            ("no-fallback", "warning"),
            ("slow-scale-in", "info"),
        ),
    ),
    RealWorld(
        "misspelt keys and types of triggers",
        scaled_object(
            """
    - type: External
      metrictype: Value
      metadata: {scalerAddress: "kedastral.kedastral.svc:8080", workload: web}
      authenticationref: {name: kedastral}""",
            TOLERANT + FALLBACK,
        ),
        (("refused-trigger", "error"), ("unknown-field", "error"), ("unknown-field", "error")),
        SETTINGS,
    ),
    RealWorld(
        "a ScaledJob, and one of another scaler",
        """
apiVersion: keda.sh/v1alpha1
kind: ScaledJob
metadata: {name: etl, namespace: shop}
spec:
  jobTargetRef: {template: {spec: {containers: [{name: etl}]}}}
  triggers:
    - type: external
      metadata: {scalerAddress: "kedastral.kedastral.svc:8080", workload: etl}
---
apiVersion: keda.sh/v1alpha1
kind: ScaledJob
metadata: {name: mail, namespace: shop}
spec:
  jobTargetRef: {template: {spec: {containers: [{name: mail}]}}}
  triggers:
    - type: external
      metadata: {scalerAddress: "queue-scaler.tools:6000"}
""",
        (("scaled-job", "error"), ("scaled-job", "warning")),
    ),
)

REAL_WORLD = (*OWNERS, *TARGETS, *ZEROS, *COMBINED, *TLS, *REFUSED)
