# SPDX-License-Identifier: Apache-2.0
"""A control plane from binaries: etcd, kube-apiserver, kube-controller-manager, kwok for the pods, and KEDA."""

import base64
import json
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import trustme
import yaml

from tests.e2e import resource_metrics
from tests.e2e.api import Api, Document, open_api
from tests.e2e.programs import Program, Programs, wait_for
from tests.e2e.resource_metrics import CpuUse
from tests.e2e.sandbox import OUTSIDE

NAMES = (
    "etcd", "kube-apiserver", "kube-controller-manager", "kwok", "keda", "keda-adapter", "keda-admission-webhooks"
)  # fmt: skip
CRDS, WEBHOOKS = "crd/bases", "webhooks/validation_webhooks.yaml"
NODE = "node-0"
API_URL = "https://127.0.0.1:6443"
ETCD_URL = "http://127.0.0.1:2379"
ADAPTER_PORT, WEBHOOK_PORT, METRICS_PORT = 7443, 9443, 8443
CONTROLLERS = (
    "deployment-controller", "replicaset-controller", "horizontal-pod-autoscaler-controller", "namespace-controller",
    "serviceaccount-controller", "garbage-collector-controller",
)  # fmt: skip
TIME_LAPSE = (
    "--horizontal-pod-autoscaler-sync-period=5s",  # 15 s by default
    "--horizontal-pod-autoscaler-downscale-stabilization=20s",  # 5 min by default; for objects without their own value
    "--horizontal-pod-autoscaler-cpu-initialization-period=10s",  # 5 min by default
)
READY_AFTER = "e2e.kedastral.io/ready-after"
"""The pods' annotation with the duration after which kwok makes them Ready."""


def keda_config(folder: Path) -> Path:
    """The folder ``config`` of KEDA's source, for the binaries in ``folder``."""
    return Path(os.environ.get("KEDASTRAL_E2E_KEDA_CONFIG", folder.parent / "src" / "keda" / "config"))


@contextmanager
def control_plane(folder: Path, programs: Programs, home: Path, cpu: CpuUse) -> Iterator[Api]:
    """Everything up and KEDA serving; ``home`` gets certificates and data, ``cpu`` is what the metrics server says.

    Needs a `Sandbox` around it.
    """
    pki = _Pki(home / "pki")
    kubeconfig = pki.write_kubeconfig(home / "kubeconfig")
    env = {"KUBECONFIG": str(kubeconfig)}
    running = [_start_etcd(folder, programs, home), *_start_kubernetes(folder, programs, pki, kubeconfig)]
    _wait_until_ready(pki, running)
    with open_api(programs, env) as api:
        running.append(_start_kwok(folder, programs, kubeconfig, home))
        for document in (*_node(), *_keda_objects(keda_config(folder), pki), *_metrics_server_objects(pki)):
            api.apply(document)
        wait_for(
            lambda: _serves_keda(api, keda_config(folder)), "KEDA's kinds are served"
        )  # it would exit if they were not
        running += _start_keda(folder, programs, pki, env)

        def serves() -> bool:
            for program in running:
                program.require_running()
            return api.find("/apis/external.metrics.k8s.io/v1beta1") is not None and _webhook_answers(pki)

        with resource_metrics.serve(cpu, api, (OUTSIDE, METRICS_PORT), pki.metrics):
            wait_for(lambda: _quietly(serves), "KEDA serves external metrics and its webhook answers", 120)
            yield api


def _serves_keda(api: Api, config: Path) -> bool:
    """Whether every kind that KEDA defines is served, which takes the API a while."""
    groups = [api.find(f"/apis/{group}/v1alpha1") or {"resources": []} for group in ("keda.sh", "eventing.keda.sh")]
    served = {one["name"] for group in groups for one in group["resources"]}
    return served >= {file.stem.rpartition("_")[2] for file in (config / CRDS).glob("*.yaml")}


def _quietly(look: "Any") -> bool:
    try:
        return bool(look())
    except (AssertionError, httpx.HTTPError) as error:
        if "has ended" in str(error):
            raise
        return False


class _Pki:
    """One CA for all, and a certificate for each."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._ca = trustme.CA()
        self.ca_pem = self._ca.cert_pem.bytes()
        self.ca = folder / "ca.crt"
        self.ca.write_bytes(self.ca_pem)
        names = ["kubernetes.default.svc", "localhost", "127.0.0.1", OUTSIDE]
        self.server = self.issue("apiserver", *names)
        self.admin = self.issue("admin", "admin.invalid", common_name="admin", organization="system:masters")
        self.front_proxy = self.issue("front-proxy", "proxy.invalid", common_name="front-proxy-client")
        self.metrics = self.issue("metrics", "metrics-server.kube-system.svc")
        services = ("keda-operator", "keda-metrics-apiserver", "keda-admission-webhooks")
        long = [f"{name}.keda.svc{end}" for name in services for end in ("", ".cluster.local")]
        self.keda = self.issue("keda", *long, "localhost", "127.0.0.1", common_name="keda").parent

    def issue(self, to: str, *names: str, common_name: str | None = None, organization: str | None = None) -> Path:
        """The certificate's path; its key and the CA are beside it, with the names of KEDA's Secret."""
        pair = self._ca.issue_cert(*names, common_name=common_name, organization_name=organization)
        folder = self.folder / to
        folder.mkdir()
        (folder / "ca.crt").write_bytes(self.ca_pem)
        (folder / "tls.key").write_bytes(pair.private_key_pem.bytes())
        (folder / "tls.crt").write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
        return folder / "tls.crt"

    def write_kubeconfig(self, path: Path) -> Path:
        """A kubeconfig of the administrator."""
        cluster = {"server": API_URL, "certificate-authority": str(self.ca)}
        user = {"client-certificate": str(self.admin), "client-key": str(self.admin.with_name("tls.key"))}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "e2e",
            "contexts": [{"name": "e2e", "context": {"cluster": "e2e", "user": "e2e"}}],
            "clusters": [{"name": "e2e", "cluster": cluster}],
            "users": [{"name": "e2e", "user": user}],
        }
        path.write_text(json.dumps(config))
        return path


def _start_etcd(folder: Path, programs: Programs, home: Path) -> Program:
    return programs.start(
        "etcd", folder / "etcd", "--data-dir", home / "etcd", "--unsafe-no-fsync", "--log-level=warn",
        f"--listen-client-urls={ETCD_URL}", f"--advertise-client-urls={ETCD_URL}",
        "--listen-peer-urls=http://127.0.0.1:2380",
    )  # fmt: skip


def _start_kubernetes(folder: Path, programs: Programs, pki: _Pki, kubeconfig: Path) -> Iterator[Program]:
    key = pki.server.with_name("tls.key")
    yield programs.start(
        "kube-apiserver", folder / "kube-apiserver", f"--etcd-servers={ETCD_URL}", "--secure-port=6443",
        f"--advertise-address={OUTSIDE}", "--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC",
        f"--client-ca-file={pki.ca}", f"--tls-cert-file={pki.server}", f"--tls-private-key-file={key}",
        "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        f"--requestheader-client-ca-file={pki.ca}", "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki.front_proxy}",
        f"--proxy-client-key-file={pki.front_proxy.with_name('tls.key')}",
        "--enable-aggregator-routing=true",  # without kube-proxy nobody serves a Service's address
    )  # fmt: skip
    yield programs.start(
        "kube-controller-manager", folder / "kube-controller-manager", f"--kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1", "--leader-elect=false", f"--service-account-private-key-file={key}",
        f"--root-ca-file={pki.ca}", f"--controllers={','.join(CONTROLLERS)}", *TIME_LAPSE,
    )  # fmt: skip


def _wait_until_ready(pki: _Pki, running: list[Program]) -> None:
    context = ssl.create_default_context(cafile=pki.ca)
    context.load_cert_chain(pki.admin, pki.admin.with_name("tls.key"))
    with httpx.Client(verify=context, trust_env=False) as client:

        def is_ready() -> bool:
            for program in running[:2]:  # the controller manager exits and is restarted until there is an API
                program.require_running()
            return client.get(f"{API_URL}/readyz").is_success

        wait_for(lambda: _quietly(is_ready), "kube-apiserver is ready", 90)
    if not running[2].runs:
        running[2].start()


def _start_kwok(folder: Path, programs: Programs, kubeconfig: Path, home: Path) -> Program:
    stages = home / "kwok.yaml"
    stages.write_text(yaml.safe_dump_all(_stages()))
    return programs.start(
        "kwok", folder / "kwok", f"--kubeconfig={kubeconfig}", f"--config={stages}", "--manage-all-nodes=true",
        "--cidr=10.98.0.0/16", f"--node-ip={OUTSIDE}", "--node-lease-duration-seconds=0",
    )  # fmt: skip


def _node() -> Iterator[Document]:
    room = {"cpu": "256", "memory": "512Gi", "pods": "1000"}
    yield {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE}},
        "status": {"capacity": room, "allocatable": room},
    }


def pod_template(app: str, ready_after: float) -> Document:
    """A pod of kwok that is Ready ``ready_after`` seconds after its creation."""
    metadata = {"labels": {"app": app}, "annotations": {READY_AFTER: f"{ready_after:g}s"}}
    container = {"name": "app", "image": "none", "resources": {"requests": {"cpu": "100m"}}}
    spec = {"nodeName": NODE, "terminationGracePeriodSeconds": 1, "containers": [container]}
    return {"metadata": metadata, "spec": spec}


def _stages() -> Iterator[Document]:
    """The stages of kwok: a pod is Running and Ready some time after its creation, and gone once it is deleted.

    kwok manages the pods of a node only once it manages the node itself.
    """
    yield _stage("Node", "ready", [_where(".status.phase")], {"next": {"statusTemplate": NODE_IS_READY}})
    ready = {
        "delay": {
            "durationMilliseconds": 1000,
            "durationFrom": {"expressionFrom": f'.metadata.annotations["{READY_AFTER}"]'},
        },
        "next": {"statusTemplate": POD_IS_READY},
    }
    yield _stage("Pod", "ready", [_where(".metadata.deletionTimestamp"), _where(".status.phase", "Pending")], ready)
    gone = {"next": {"finalizers": {"empty": True}, "delete": True}}
    yield _stage("Pod", "gone", [{"key": ".metadata.deletionTimestamp", "operator": "Exists"}], gone)


def _where(key: str, *values: str) -> Document:
    return (
        {"key": key, "operator": "In", "values": list(values)} if values else {"key": key, "operator": "DoesNotExist"}
    )


def _stage(kind: str, name: str, where: list[Document], what: Document) -> Document:
    selector = {"matchExpressions": where}
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": f"{kind.lower()}-{name}"},
        "spec": {"resourceRef": {"apiGroup": "v1", "kind": kind}, "selector": selector, **what},
    }


NODE_IS_READY = """\
phase: Running
addresses:
- type: InternalIP
  address: {{ NodeIP | Quote }}
conditions:
- type: Ready
  status: "True"
  lastHeartbeatTime: {{ Now | Quote }}
  lastTransitionTime: {{ Now | Quote }}
"""
POD_IS_READY = """\
{{ $now := Now }}
phase: Running
startTime: {{ $now | Quote }}
conditions:
{{ range $type := list "Initialized" "ContainersReady" "Ready" }}
- type: {{ $type }}
  status: "True"
  lastTransitionTime: {{ $now | Quote }}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  restartCount: 0
  state:
    running:
      startedAt: {{ $now | Quote }}
{{ end }}
"""


def _keda_objects(config: Path, pki: _Pki) -> Iterator[Document]:
    """KEDA's definitions, its webhooks, and the external metrics API, all from its own manifests."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "keda"}}
    for file in sorted((config / CRDS).glob("*.yaml")):
        yield from yaml.safe_load_all(file.read_text())
    authority = _base64(pki.ca_pem)
    for document in yaml.safe_load_all((config / WEBHOOKS).read_text()):
        for webhook in document["webhooks"]:
            path = webhook["clientConfig"].pop("service")["path"]
            webhook["clientConfig"] |= {"url": f"https://127.0.0.1:{WEBHOOK_PORT}{path}", "caBundle": authority}
            webhook["failurePolicy"] = "Fail"  # a webhook that is not called must not look like one that accepts
        yield document
    yield from _service("keda-metrics-apiserver", "keda", ADAPTER_PORT)
    for document in yaml.safe_load_all((config / "metrics-server" / "api_service.yaml").read_text()):
        document["spec"]["caBundle"] = authority
        yield document


def _metrics_server_objects(pki: _Pki) -> Iterator[Document]:
    yield from _service("metrics-server", "kube-system", METRICS_PORT)
    group, version = resource_metrics.VERSION.split("/")
    yield {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}"},
        "spec": {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"name": "metrics-server", "namespace": "kube-system"},
            "caBundle": _base64(pki.ca_pem),
        },
    }


def _service(name: str, namespace: str, target: int) -> Iterator[Document]:
    """A Service whose one endpoint is a port of ours."""
    metadata = {"name": name, "namespace": namespace}
    port = {"name": "https", "port": 443, "targetPort": target}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [port]}}
    yield {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": target, "protocol": "TCP"}],
        "endpoints": [{"addresses": [OUTSIDE], "conditions": {"ready": True}}],
    }


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _start_keda(folder: Path, programs: Programs, pki: _Pki, env: dict[str, str]) -> Iterator[Program]:
    env = {**env, "POD_NAMESPACE": "keda", "WATCH_NAMESPACE": "", "KEDA_CLUSTER_OBJECT_NAMESPACE": "keda"}
    logs = ["--zap-encoder=console", "--zap-time-encoding=rfc3339", "--zap-log-level=info"]
    probes = "--health-probe-bind-address=0"
    yield programs.start(
        "keda", folder / "keda", *logs, f"--cert-dir={pki.keda}", "--metrics-bind-address=127.0.0.1:18080", probes,
        "--metrics-service-bind-address=127.0.0.1:9666", env=env,
    )  # fmt: skip
    config = env["KUBECONFIG"]
    yield programs.start(
        "keda-adapter", folder / "keda-adapter", *logs, f"--secure-port={ADAPTER_PORT}", "--port=18082",
        "--metrics-service-address=127.0.0.1:9666", f"--cert-dir={pki.keda}", f"--client-ca-file={pki.ca}",
        f"--tls-cert-file={pki.keda / 'tls.crt'}", f"--tls-private-key-file={pki.keda / 'tls.key'}",
        f"--lister-kubeconfig={config}", f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}", env=env,
    )  # fmt: skip
    yield programs.start(
        "keda-admission-webhooks", folder / "keda-admission-webhooks", *logs, f"--cert-dir={pki.keda}",
        f"--port={WEBHOOK_PORT}", "--metrics-bind-address=127.0.0.1:18083", probes, env=env,
    )  # fmt: skip


def _webhook_answers(pki: _Pki) -> bool:
    answer = httpx.get(
        f"https://127.0.0.1:{WEBHOOK_PORT}/", verify=ssl.create_default_context(cafile=pki.ca), trust_env=False
    )
    return answer.status_code == 404
