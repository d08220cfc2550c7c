# SPDX-License-Identifier: Apache-2.0
"""A metrics server for a cluster without one: the CPU usage of pods that the cases set."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.e2e.api import Api, Document

ROOT = "/apis/metrics.k8s.io/v1beta1"
VERSION = "metrics.k8s.io/v1beta1"
RESOURCES = {
    "kind": "APIResourceList",
    "apiVersion": "v1",
    "groupVersion": VERSION,
    "resources": [
        {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}
    ],
}


class CpuUse:
    """How much of its request each pod of a Deployment uses, in percent, by namespace and app; 1 unless set."""

    def __init__(self) -> None:
        self._percents: dict[tuple[str, str], float] = {}

    def set(self, namespace: str, app: str, percent: float) -> None:
        """From now on each pod of ``app`` uses ``percent`` of its request of 100m."""
        self._percents[namespace, app] = percent

    def answer(self, api: Api, path: str) -> Document:
        """What the metrics server says to a GET of ``path``, which lists pods of a namespace or is the API's root."""
        url = urlsplit(path)
        if not url.path.startswith(f"{ROOT}/namespaces/"):
            return RESOURCES
        namespace = url.path.split("/")[5]
        selector = parse_qs(url.query).get("labelSelector", [""])[0]
        pods = api.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector={selector}")["items"]
        return {"kind": "PodMetricsList", "apiVersion": VERSION, "items": [self._metrics_of(pod) for pod in pods]}

    def _metrics_of(self, pod: Document) -> Document:
        metadata = pod["metadata"]
        percent = self._percents.get((metadata["namespace"], metadata["labels"]["app"]), 1.0)
        kept = {key: metadata[key] for key in ("name", "namespace", "labels")}
        usage = {"cpu": f"{percent:.0f}m", "memory": "1Mi"}
        return {
            "metadata": kept,
            "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "window": "15s",
            "containers": [{"name": "app", "usage": usage}],
        }


@contextmanager
def serve(use: CpuUse, api: Api, address: tuple[str, int], certificate: Path) -> Iterator[None]:
    """Serve ``use`` with TLS until the ``with`` is left; the key lies beside the certificate."""
    server = ThreadingHTTPServer(address, _answer_with(lambda path: use.answer(api, path)))
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("tls.key"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer_with(answer: Callable[[str], Document]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    return Handler
