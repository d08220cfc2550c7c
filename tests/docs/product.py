# SPDX-License-Identifier: Apache-2.0
"""What the product has, from its own code: settings, flags, metrics, endpoints, RPCs, reasons of errors."""

import ast
from collections.abc import Iterator

import attrs
import click
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from kedastral._proto.externalscaler_grpc import ExternalScalerBase
from kedastral.cli.main import cli
from kedastral.clock import SystemClock
from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.serving.metrics import Metrics, StorageMetrics
from kedastral.serving.openapi import template_of
from kedastral.serving.readiness import Readiness
from kedastral.serving.snapshot_api import SnapshotView, create_app
from kedastral.settings.commands import BY_COMMAND
from kedastral.settings.schema import settings_of
from tests.docs.pages import ROOT


@attrs.frozen
class Metric:
    """A metric as it is exposed."""

    name: str
    kind: str
    labels: tuple[str, ...]


class NoSnapshots:
    """A reader without a snapshot; a store would need Trio's clock, which runs only inside Trio."""

    def get(self, workload: str) -> None:
        del workload

    def newest(self) -> dict[str, Snapshot]:
        return {}

    async def track(self, workload: str) -> None:
        del workload

    async def wait_for_change(self, *workloads: str) -> None:
        raise NotImplementedError


def flags_of(command: str) -> set[str]:
    """Every flag of a subcommand, ``--help`` included."""
    found = cli.commands[command]
    flags = {flag for parameter in found.params if isinstance(parameter, click.Option) for flag in parameter.opts}
    return flags | {"--help", "-h"}


def all_flags() -> set[str]:
    """The flags of all commands, and those of the program itself."""
    return {flag for command in cli.commands for flag in flags_of(command)} | {"--version"}


def all_variables() -> set[str]:
    """Every environment variable that is a setting."""
    return {setting.env for kind in BY_COMMAND.values() for setting in settings_of(kind)}


def variables_of(command: str) -> set[str]:
    """The environment variables of one command."""
    return {setting.env for setting in settings_of(BY_COMMAND[command])}


def metrics() -> set[Metric]:
    """Every metric of ours, without those of the Python client library."""
    metrics = Metrics()
    metrics.show_snapshots(NoSnapshots(), SystemClock())
    metrics.show_failures(dict)
    StorageMetrics(metrics.registry)
    return set(_metrics_in(metrics.registry))


def _metrics_in(registry: CollectorRegistry) -> Iterator[Metric]:
    for collector in registry._collector_to_names:
        of_all = collector._labelnames if isinstance(collector, MetricWrapperBase) else None
        for family in collector.collect():
            if family.name.startswith("kedastral_"):
                labels = of_all if of_all is not None else family._labelnames  # type: ignore[attr-defined]
                name = family.name + ("_total" if family.type == "counter" else "")
                yield Metric(name, family.type, tuple(labels))


def endpoints(*, serves_forecasts: bool = True) -> set[str]:
    """The paths that the HTTP server answers."""
    view = SnapshotView(NoSnapshots(), lambda _: StalePolicy(), SystemClock())
    app = create_app(view, Readiness.of(()), CollectorRegistry(), serves_forecasts=serves_forecasts)
    return {template_of(rule.rule) for rule in app.url_map.iter_rules()}


def rpcs() -> set[str]:
    """The RPCs of KEDA's contract."""
    return {name for name in vars(ExternalScalerBase) if not name.startswith("_")}


COMPONENTS = {"SourceError": "source", "ModelError": "model", "StoreError": "store", "RemoteError": "client"}


def literal_reasons() -> set[tuple[str, str]]:
    """Component and reason of every error that is raised with both as literals."""
    found = set()
    for file in (ROOT / "kedastral").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in COMPONENTS:
                for keyword in node.keywords:
                    if keyword.arg == "reason" and isinstance(keyword.value, ast.Constant):
                        found.add((COMPONENTS[node.func.id], str(keyword.value.value)))
    return found
