# SPDX-License-Identifier: Apache-2.0
"""`Api`: the Kubernetes API over ``kubectl proxy``, which logs in; `ClusterView`: what cases read."""

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import httpx

from tests.e2e.programs import Programs, wait_for

Document = dict[str, Any]
"""A Kubernetes object, as JSON."""
SERVES = re.compile(r"Starting to serve on (\S+)")
WARNING = re.compile(r'299 - "((?:[^"\\]|\\.)*)"')
AGE = 0.5
"""Seconds for which `ClusterView` reuses what it read."""


class Api:
    """Reads, applies and deletes objects. Calls may come from several threads."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=15, trust_env=False)
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def find(self, path: str) -> Document | None:
        """The object at ``path``; None if there is none."""
        answer = self._client.get(path)
        return None if answer.status_code == 404 else _read(answer)

    def get(self, path: str) -> Document:
        """The object at ``path``, which must exist."""
        return _read(self._client.get(path))

    def apply(self, document: Mapping[str, Any], namespace: str = "") -> list[str]:
        """Apply one object, by default in its own namespace, and return the API's warnings; a refusal is an error."""
        path = self.path_of(document, namespace)
        headers = {"Content-Type": "application/apply-patch+yaml"}
        params = {"fieldManager": "e2e", "force": "true"}
        answer = self._client.patch(path, params=params, headers=headers, json=document)
        _read(answer)
        return WARNING.findall(answer.headers.get("Warning", ""))

    def patch(self, path: str, document: Mapping[str, Any]) -> Document:
        """Merge ``document`` into what is at ``path``."""
        return _read(self._client.patch(path, headers={"Content-Type": "application/merge-patch+json"}, json=document))

    def delete(self, path: str) -> None:
        """Delete what is at ``path``, if anything is."""
        if (answer := self._client.delete(path)).status_code != 404:
            _read(answer)

    def path_of(self, document: Mapping[str, Any], namespace: str = "") -> str:
        """The path of the object ``document``."""
        version = document["apiVersion"]
        plural, namespaced = self._kind(version, document["kind"])
        place = namespace or document["metadata"].get("namespace", "default")
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        folder = f"{root}/namespaces/{place}" if namespaced else root
        return f"{folder}/{plural}/{document['metadata']['name']}"

    def _kind(self, version: str, kind: str) -> tuple[str, bool]:
        if (version, kind) not in self._kinds:
            listed = self.get(f"/apis/{version}" if "/" in version else f"/api/{version}")["resources"]
            found = {one["kind"]: (one["name"], one["namespaced"]) for one in listed if "/" not in one["name"]}
            self._kinds |= {(version, name): what for name, what in found.items()}
        return self._kinds[version, kind]


def _read(answer: httpx.Response) -> Document:
    assert answer.is_success, f"{answer.request.method} {answer.request.url.path}: {answer.text}"
    document: Document = answer.json()
    return document


@contextmanager
def open_api(programs: Programs, env: Mapping[str, str] | None = None) -> Iterator[Api]:
    """The API of the cluster that KUBECONFIG, here or in ``env``, names."""
    proxy = programs.start("kubectl-proxy", "kubectl", "proxy", "--port=0", env=env)
    found = wait_for(lambda: SERVES.search(proxy.log.read_text()), "kubectl proxy serves")
    api = Api(f"http://{found[1]}")
    try:
        yield api
    finally:
        api.close()


@attrs.frozen
class Scale:
    """A Deployment at one moment: what its HPA wants (None without one), its pods, and its Ready pods."""

    wanted: int | None = None
    replicas: int = 0
    ready: int = 0


class ClusterView:
    """The Deployments and HPAs of all namespaces, read at most every `AGE` seconds for all callers."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._lock = threading.Lock()
        self._read_at = -AGE
        self._scales: dict[tuple[str, str], Scale] = {}

    def scale(self, namespace: str, name: str) -> Scale:
        """The Deployment ``name``, now."""
        with self._lock:
            if time.monotonic() - self._read_at >= AGE:
                self._scales = self._look()
                self._read_at = time.monotonic()
            return self._scales.get((namespace, name), Scale())

    def _look(self) -> dict[tuple[str, str], Scale]:
        wanted = {}
        for hpa in self._api.get("/apis/autoscaling/v2/horizontalpodautoscalers")["items"]:
            target = hpa["spec"]["scaleTargetRef"]["name"]
            wanted[hpa["metadata"]["namespace"], target] = hpa.get("status", {}).get("desiredReplicas")
        scales = {}
        for one in self._api.get("/apis/apps/v1/deployments")["items"]:
            key = one["metadata"]["namespace"], one["metadata"]["name"]
            scales[key] = Scale(wanted.get(key), one["spec"]["replicas"], one["status"].get("readyReplicas", 0))
        return scales
