# SPDX-License-Identifier: Apache-2.0
"""A cluster with KEDA that KUBECONFIG names: its pods reach programs of this machine by Services without selectors."""

import os
import socket
from collections.abc import Iterator

from tests.e2e.api import Api, Document

HOST = "KEDASTRAL_E2E_HOST"
"""The address at which pods reach this machine; by default the one from which it reaches the first node."""


class MachineNetwork:
    """Services of the cluster that lead to ports of this machine."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._host = os.environ.get(HOST) or _address_towards(api.get("/api/v1/nodes")["items"][0])

    def publish(self, port: int, *services: str) -> tuple[str, int]:
        """Make the Services; the program listens on all addresses, at a port that is free now."""
        local = _free_port()
        for service in services:
            name, namespace = service.split(".")
            for document in self._objects(name, namespace, port, local):
                self._api.apply(document)
        return "0.0.0.0", local

    def _objects(self, name: str, namespace: str, port: int, local: int) -> Iterator[Document]:
        yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        metadata = {"name": name, "namespace": namespace}
        ports = [{"name": "main", "port": port, "targetPort": local}]
        yield {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}}
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "main", "port": local, "protocol": "TCP"}],
            "endpoints": [{"addresses": [self._host], "conditions": {"ready": True}}],
        }


def _address_towards(node: Document) -> str:
    addresses = {one["type"]: one["address"] for one in node["status"]["addresses"]}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((addresses["InternalIP"], 9))
        return str(probe.getsockname()[0])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def pod_template(app: str, ready_after: float) -> Document:
    """A pod that does nothing, and is Ready after it has slept for ``ready_after`` seconds."""
    slept = {"name": "start", "image": "busybox:1.37", "command": ["sleep", f"{ready_after:g}"]}
    requests = {"requests": {"cpu": "1m", "memory": "4Mi"}}
    idle = {"name": "app", "image": "registry.k8s.io/pause:3.10", "resources": requests}
    spec = {"terminationGracePeriodSeconds": 1, "initContainers": [slept], "containers": [idle]}
    return {"metadata": {"labels": {"app": app}}, "spec": spec}
