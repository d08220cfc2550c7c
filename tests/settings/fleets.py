# SPDX-License-Identifier: Apache-2.0
"""Configurations as files, and what is loaded from them."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from kedastral.errors import ConfigError
from kedastral.settings.commands import ForecasterSettings, RunSettings
from kedastral.settings.fleet import ConfiguredFleet, WorkloadSettings
from kedastral.settings.load import load

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "examples"
SOURCE = """
apiVersion: kedastral.io/v1alpha1
kind: DataSource
metadata:
  name: prom
spec:
  url: http://prometheus:9090
"""
POLICY = """
apiVersion: kedastral.io/v1alpha1
kind: ForecastPolicy
metadata:
  name: web
  namespace: shop
spec:
  query: up
"""


def policy(name: str = "web", namespace: str | None = None, **spec: str) -> str:
    """A ForecastPolicy; ``spec`` is given as text of a file."""
    where = f", namespace: {namespace}" if namespace else ""
    given = {"query": "up", "targetPerPod": "200"} | spec
    lines = "".join(f"\n  {key}: {text}" for key, text in given.items())
    return f"apiVersion: kedastral.io/v1alpha1\nkind: ForecastPolicy\nmetadata: {{name: {name}{where}}}\nspec:{lines}\n"


def source(name: str = "prom", more: str = "") -> str:
    """A DataSource; ``more`` are lines of its spec."""
    return (
        f"apiVersion: kedastral.io/v1alpha1\nkind: DataSource\nmetadata: {{name: {name}}}\n"
        f"spec:\n  url: http://{name}:9090\n{more}"
    )


def write(folder: Path, *documents: str, name: str = "config.yaml") -> Path:
    """A file with ``documents``."""
    path = folder / name
    path.write_text("\n---\n".join(documents), encoding="utf-8")
    return path


def load_fleet(
    path: Path, flags: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None
) -> ConfiguredFleet:
    """What `run` makes of the configuration at ``path``."""
    return load(RunSettings, {"--config": str(path), **(flags or {})}, env or {}).settings.fleet


def workload_of(
    flags: Mapping[str, str], env: Mapping[str, str], kind: type[RunSettings | ForecasterSettings] = RunSettings
) -> WorkloadSettings:
    """The one workload that flags and variables describe."""
    [workload] = load(kind, flags, env).settings.fleet.settings.workloads.values()
    return workload


def problems_with_lines(
    path: Path, flags: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """The problems for which the configuration at ``path`` is refused, without its folder."""
    with pytest.raises(ConfigError) as caught:
        load_fleet(path, flags, env)
    folder = path if path.is_dir() else path.parent
    return tuple(line.replace(f"{folder}/", "") for line in caught.value.problems)


def problems_of(
    path: Path, flags: Mapping[str, str] | None = None, env: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """The same without line numbers."""
    return tuple(without_line_numbers(line) for line in problems_with_lines(path, flags, env))


def without_line_numbers(text: str) -> str:
    """``text`` without the line numbers of documents."""
    return re.sub(r" \(line \d+\)", "", text)
