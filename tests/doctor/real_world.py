# SPDX-License-Identifier: Apache-2.0
"""Manifests as platform teams have them, with all that the doctor must say of each, and nothing else."""

import attrs


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

REAL_WORLD = (*OWNERS,)
