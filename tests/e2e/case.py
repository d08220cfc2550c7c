# SPDX-License-Identifier: Apache-2.0
"""`Case`: a namespace with its own load, Prometheus, Kedastral, Deployments and clock."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import attrs
import grpc
import httpx
import yaml

from kedastral._proto import externalscaler_pb2 as pb
from tests.e2e.api import Api, ClusterView, Document
from tests.e2e.load import Load, Shape, prometheus_config, write_past
from tests.e2e.programs import Programs, wait_for
from tests.e2e.resource_metrics import CpuUse
from tests.e2e.timeline import AWAY, Recorder, Sample, Timeline, draw

GRPC_PORT, HTTP_PORT, PROMETHEUS_PORT = 8080, 8081, 9090
QUERY = 'sum(rate(http_requests_total{{app="{app}"}}[1m]))'
SETTINGS = {"interval": "5s", "on_stale": "ride-forecast", "stale_after": "20s"}
"""The settings of every Kedastral here, unless the case sets others: changes are seen within seconds."""

PROMPT = {"headroom": "1.2"}
"""Scales down as soon as the need has passed, once Kedastral has run for ten minutes: before that the floor is the
largest load of the last minutes, while Prometheus answers. With a service level it takes five minutes more."""

Told = Callable[[], int | str | None]


def nobody() -> None:
    """The answer if Kedastral cannot be reached."""


class Network(Protocol):
    """Gives programs of this machine names by which KEDA finds them."""

    def publish(self, port: int, *services: str) -> tuple[str, int]:
        """Route ``port`` of each ``service.namespace`` to the returned address, where a program listens."""


@attrs.frozen
class Stage:
    """What all cases share: the cluster, the access to it, and the folder for results.

    ``pods`` makes a pod template from the app's name and the seconds until it is Ready. ``kubeconfig`` is the
    KUBECONFIG of kubectl. ``cpu`` is None if the cluster has its own metrics server.
    """

    api: Api
    view: ClusterView
    network: Network
    results: Path
    home: Path
    pods: Callable[[str, float], Document]
    kubeconfig: str
    cpu: CpuUse | None = None


class Prometheus:
    """A Prometheus with the past of a load; it can be killed, frozen and restarted."""

    def __init__(
        self, programs: Programs, home: Path, load: Load, apps: Sequence[str], listen: tuple[str, int]
    ) -> None:
        self.url = f"http://{listen[0]}:{listen[1]}"
        data, config = home / "prometheus", home / "prometheus.yml"
        write_past(load, apps, data)
        config.write_text(prometheus_config(load.target))
        words = [
            f"--config.file={config}",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address={listen[0]}:{listen[1]}",
        ]
        self.program = programs.add("prometheus", "prometheus", *words, "--log.level=warn")
        self.start()

    def start(self) -> None:
        """Start it, and return when it answers."""
        self.program.start()
        wait_for(lambda: self._asks("/-/ready"), "Prometheus is ready")

    def _asks(self, path: str) -> bool:
        self.program.require_running()
        try:
            return httpx.get(self.url + path, timeout=2, trust_env=False).is_success
        except httpx.TransportError:
            return False


class Kedastral:
    """``kedastral run``, called as KEDA calls it; settings are those of the command line, ``lead_time="60s"``."""

    def __init__(self, name: str, programs: Programs, listen: tuple[str, int], flags: Mapping[str, str]) -> None:
        host, port = self.listens = listen
        self._target = f"{host}:{port}"
        http = {"http-listen": f"{host}:{HTTP_PORT if port == GRPC_PORT else port + 1}"}
        given = {"grpc-listen": self._target, **http, **flags}
        words = [part for flag, value in given.items() for part in (f"--{flag.replace('_', '-')}", value)]
        self.http = f"http://{given['http-listen']}"
        self.program = programs.add(name, sys.executable, "-m", "kedastral", "run", *words)
        self._channel = grpc.insecure_channel(
            self._target,
            options=[
                ("grpc.initial_reconnect_backoff_ms", 500),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.enable_http_proxy", 0),
            ],
        )
        self._ask = self._channel.unary_unary(
            "/externalscaler.ExternalScaler/GetMetrics",
            request_serializer=pb.GetMetricsRequest.SerializeToString,
            response_deserializer=pb.GetMetricsResponse.FromString,
        )
        self.start()

    def start(self) -> None:
        """Start it; see `wait_for_forecast`."""
        self.program.start()

    def close(self) -> None:
        """Close the connection that `told` uses."""
        self._channel.close()

    def told(self, metadata: Mapping[str, str], name: str = "", namespace: str = "") -> int | str:
        """What KEDA would be told now: replicas, or the name of a status, or `AWAY`."""
        ref = pb.ScaledObjectRef(name=name, namespace=namespace, scalerMetadata=metadata)
        try:
            answer = self._ask(pb.GetMetricsRequest(scaledObjectRef=ref, metricName="desired_replicas"), timeout=1)
        except grpc.RpcError as error:
            code = error.code()
            gone = code is grpc.StatusCode.DEADLINE_EXCEEDED or "connect" in error.details().lower()
            return AWAY if gone else str(code.name)
        return int(answer.metricValues[0].metricValue)

    def wait_for_forecast(self, metadata: Mapping[str, str], namespace: str = "") -> None:
        """Wait until KEDA would be told a number."""

        def look() -> bool:
            self.program.require_running()
            return isinstance(self.told(metadata, namespace=namespace), int)

        wait_for(look, "Kedastral has a forecast", within=180.0)  # `auto` compares its models, in many cases at once


class Case:
    """One case. Its clock, ``second``, begins with its load; see `until`. Everything ends as the case does."""

    def __init__(self, name: str, stage: Stage, stack: ExitStack) -> None:
        self.name = name
        self.stage = stage
        self.namespace = f"e2e-{name}"
        self.home = stage.home / name
        """A folder for files that need not outlive the case."""
        self.home.mkdir()
        self.programs = stack.enter_context(Programs(stage.results / name))
        self._stack = stack
        self._load: Load | None = None
        self._prometheus: Prometheus | None = None
        self.timelines: list[Timeline] = []
        self._recorders: list[Recorder] = []
        self.add_namespace(self.namespace)

    # its own parts

    @property
    def load(self) -> Load:
        """The load; `start_load` comes first."""
        assert self._load is not None, "call start_load first"
        return self._load

    @property
    def second(self) -> float:
        """Seconds since the load began."""
        return self.load.second

    def start_load(self, *services: str, **apps: Shape) -> Prometheus:
        """Start the load of each app, now second 0, and a Prometheus with its past; also under ``services``."""
        self._load = Load(apps)
        self._stack.callback(self._load.close)
        listen = self._publish(PROMETHEUS_PORT, "prometheus", *services)
        self._prometheus = Prometheus(self.programs, self.home, self._load, list(apps), listen)
        return self._prometheus

    def start_kedastral(self, name: str = "kedastral", *services: str, **settings: str) -> Kedastral:
        """A Kedastral of this case, found by KEDA at `scaler_address`, and also under ``services``.

        `SETTINGS` and ``settings`` are its flags; `forecast_of` makes those of one workload. After a restart it still
        has its state.
        """
        state = self.home / f"{name}-state"
        state.mkdir()
        flags = {**SETTINGS, "state_dir": str(state), **settings}
        kedastral = Kedastral(name, self.programs, self._publish(GRPC_PORT, name, *services), flags)
        self._stack.callback(kedastral.close)
        return kedastral

    def forecast_of(self, app: str, target_per_pod: float, lead_time: float) -> dict[str, str]:
        """Settings of Kedastral for one workload: the load of ``app``, from this case's Prometheus."""
        assert self._prometheus is not None, "call start_load first"
        return {
            "workload": app,
            "prom_url": self._prometheus.url,
            "prom_query": QUERY.format(app=app),
            "target_per_pod": f"{target_per_pod:g}",
            "lead_time": f"{lead_time:g}s",
        }

    def scaler_address(self, name: str = "kedastral") -> str:
        """``scalerAddress`` of a Kedastral of this case."""
        return f"{name}.{self.namespace}.svc.cluster.local:{GRPC_PORT}"

    @property
    def prometheus_address(self) -> str:
        """``serverAddress`` of this case's Prometheus."""
        return f"http://prometheus.{self.namespace}.svc.cluster.local:{PROMETHEUS_PORT}"

    def _publish(self, port: int, own: str, *services: str) -> tuple[str, int]:
        return self.stage.network.publish(port, f"{own}.{self.namespace}", *services)

    def until(self, second: float) -> None:
        """Sleep until ``second`` of this case."""
        assert self.second < second, f"second {second:g} has passed: it is {self.second:.0f}"
        time.sleep(max(0.0, second - self.second))

    # the cluster

    def add_namespace(self, name: str) -> None:
        """Make a namespace, which is deleted with the case."""
        self.stage.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self._stack.callback(self.stage.api.delete, f"/api/v1/namespaces/{name}")

    def deploy(self, name: str, replicas: int = 2, ready_after: float = 15.0, namespace: str = "") -> None:
        """A Deployment whose pods are Ready ``ready_after`` seconds after their creation."""
        template = self.stage.pods(name, ready_after)
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
        document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
        place = namespace or self.namespace
        self.stage.api.apply(document, place)
        # the HPA owns replicas from now on: applying the field would reset it
        wait_for(lambda: self.stage.view.scale(place, name).replicas == replicas, f"{name} has {replicas} replicas")

    def apply(self, text: str, namespace: str = "") -> list[str]:
        """Apply every object of a YAML text; returns the warnings of the API and of KEDA."""
        documents = [document for document in yaml.safe_load_all(text) if document]
        return [warning for one in documents for warning in self.stage.api.apply(one, namespace or self.namespace)]

    def scaled_object(self, name: str, namespace: str = "") -> Document:
        """The ScaledObject as it is now."""
        path = f"/apis/keda.sh/v1alpha1/namespaces/{namespace or self.namespace}/scaledobjects/{name}"
        return self.stage.api.get(path)

    def wait_until_ready(self, name: str, namespace: str = "") -> None:
        """Wait until KEDA says that the ScaledObject is Ready."""
        wait_for(lambda: self.condition(name, "Ready", namespace) == "True", f"ScaledObject {name} is Ready")

    def condition(self, name: str, kind: str, namespace: str = "") -> str:
        """The status of a condition of a ScaledObject, such as Ready: ``True``, ``False`` or ``Unknown``."""
        found = self.scaled_object(name, namespace).get("status", {}).get("conditions", [])
        return next((str(one["status"]) for one in found if one["type"] == kind), "Unknown")

    def events(self, name: str, namespace: str = "") -> list[str]:
        """The messages of the events about object ``name``."""
        items = self.stage.api.get(f"/api/v1/namespaces/{namespace or self.namespace}/events")["items"]
        return [one["message"] for one in items if one["involvedObject"]["name"] == name]

    # what is recorded

    def record(
        self, app: str, needs: float, *, title: str = "", load: str = "", namespace: str = "", told: Told = nobody
    ) -> Timeline:
        """Record Deployment ``app`` from now on, under ``title``.

        ``needs`` is the ``load`` (of that app, by default the Deployment's name) that one pod sustains; ``told`` asks
        what KEDA is told about it.
        """
        timeline = Timeline(title or app, needs)
        place = namespace or self.namespace

        def look() -> Sample:
            second = self.second
            return Sample(second, self.load.at(load or app, second), told(), self.stage.view.scale(place, app))

        recorder = Recorder(timeline, look)
        self._stack.callback(recorder.close)
        self._recorders.append(recorder)
        self.timelines.append(timeline)
        return timeline

    def mark(self, words: str) -> None:
        """Mark this second in every timeline with ``words``."""
        for timeline in self.timelines:
            timeline.marks.append((self.second, words))

    def write(self) -> None:
        """Stop recording, so that what the timelines ask may end, and write them into the folder of results."""
        for recorder in self._recorders:
            recorder.close()
        folder = self.stage.results / self.name
        for timeline in self.timelines:
            timeline.write(folder)
        if any(timeline.samples for timeline in self.timelines):
            draw(self.timelines, folder / f"{self.name}.svg", self.name)


def scaled_object(app: str, triggers: Sequence[Mapping[str, Any]], **spec: Any) -> str:
    """A ScaledObject of Deployment ``app``, as YAML; ``spec`` are further keys of its spec."""
    return yaml.safe_dump(
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": app},
            "spec": {
                "scaleTargetRef": {"name": app},
                "minReplicaCount": 2,
                "maxReplicaCount": 50,
                **spec,
                "triggers": list(triggers),
            },
        }
    )


def external(address: str, **metadata: str) -> Document:
    """A trigger of type external that asks a Kedastral."""
    return {"type": "external", "metricType": "AverageValue", "metadata": {"scalerAddress": address, **metadata}}


def prometheus(address: str, app: str, threshold: float) -> Document:
    """A trigger of type prometheus that does what a plain HPA would."""
    metadata = {"serverAddress": address, "query": QUERY.format(app=app), "threshold": f"{threshold:g}"}
    return {"type": "prometheus", "metricType": "AverageValue", "metadata": metadata}
