# SPDX-License-Identifier: Apache-2.0
"""The CustomResourceDefinitions accept and refuse the same documents as the loader."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml

from docs.crds import PLURALS
from kedastral.settings.documents import read_config_documents
from kedastral.settings.files import ConfigFile
from kedastral.settings.fleet import WorkloadSettings
from kedastral.settings.kinds import POLICY, SOURCE
from kedastral.settings.schema import settings_of
from tests.settings.fleets import EXAMPLES

CRDS = EXAMPLES.parent / "crds"
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "object": (dict,),
    "array": (list,),
}  # fmt: skip


def crd(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CRDS / f"{PLURALS[kind]}.yaml").read_text())
    return found


@cache
def schema(kind: str) -> dict[str, Any]:
    [version] = crd(kind)["spec"]["versions"]
    found: dict[str, Any] = version["schema"]["openAPIV3Schema"]
    return found


def faults(value: Any, rule: dict[str, Any], path: str = "") -> Iterator[str]:
    """Where ``value`` breaks ``rule``, by the part of OpenAPI that the definitions use; unknown keys are faults too."""
    wanted = TYPES[rule["type"]]
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        yield f"{path}: type"
    elif isinstance(value, dict):
        yield from faults_in_object(value, rule, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from faults(item, rule["items"], f"{path}[{index}]")
    elif isinstance(value, str):
        fits = rule.get("minLength", 0) <= len(value) <= rule.get("maxLength", len(value)) and re.search(
            rule.get("pattern", ""), value
        )
        if not fits or value not in rule.get("enum", [value]):
            yield f"{path}: text"
    elif not isinstance(value, bool):
        low, high = rule.get("minimum", value), rule.get("maximum", value)
        if not low <= value <= high or (rule.get("exclusiveMinimum") and value == low):
            yield f"{path}: bounds"


def faults_in_object(value: dict[str, Any], rule: dict[str, Any], path: str) -> Iterator[str]:
    known = rule.get("properties")
    yield from (f"{path}.{key}: missing" for key in rule.get("required", ()) if key not in value)
    for key, inner in value.items() if "additionalProperties" in rule else ():
        yield from faults(inner, rule["additionalProperties"], f"{path}.{key}")
    if known is not None:  # else anything is allowed there
        for key, inner in value.items():
            yield from faults(inner, known[key], f"{path}.{key}") if key in known else (f"{path}.{key}: unknown",)


@pytest.mark.parametrize("kind", [POLICY, SOURCE])
def test_a_definition_is_one_that_kubernetes_takes(kind: str) -> None:
    made = crd(kind)
    assert made["metadata"]["name"] == f"{made['spec']['names']['plural']}.{made['spec']['group']}"
    assert made["spec"]["scope"] == {POLICY: "Namespaced", SOURCE: "Cluster"}[kind]

    def walk(rule: dict[str, Any]) -> None:
        """Structural, as apiextensions/v1 wants it: a type everywhere, and no default that would be written back."""
        assert rule["type"] in TYPES
        assert "default" not in rule
        for inner in [*rule.get("properties", {}).values(), *([rule["items"]] if rule["type"] == "array" else [])]:
            walk(inner)

    walk(schema(kind))


@pytest.mark.parametrize("name", ["example-datasource.yaml", "example-forecastpolicy.yaml"])
def test_the_examples_fit_their_definitions(name: str) -> None:
    document = yaml.safe_load((EXAMPLES / name).read_text())
    assert list(faults(document, schema(document["kind"]))) == []


def test_every_setting_of_a_workload_is_in_its_definition() -> None:
    properties = schema(POLICY)["properties"]["spec"]["properties"]
    keys = {setting.key for setting in settings_of(WorkloadSettings)}
    assert properties.keys() == keys | {"query", "workload", "dataSource"}
    assert properties["min"] | {"description": ""} == {
        "description": "", "type": "integer", "format": "int64", "minimum": 0, "maximum": 2147483647,
    }  # fmt: skip
    assert properties["targetPerPod"]["exclusiveMinimum"] is True
    assert "spec.headroom" in properties["serviceLevel"]["description"]


VALUES: list[Any] = [
    0, 1, -1, 2, 5, 50, 1001, 2**31, 0.5, 0.99, 1.0, 1.5, 100.5, 1e300, True, False, "", " x", "5", "5.9", "5m", "90s",
    "0s", "1h", "1h30m", "5 m", "auto", "http", "ceil", "error", "UTC", "http://x:1", "ftp://x", "true", "web", "a/b",
    [], ["a"], [5], {}, {"a": 1}, {"name": "a"}, [{"name": "a", "value": "b"}], [{"name": "a", "value": 5}],
    [{"value": "b"}], "x" * 254, ["x" * 254],
]  # fmt: skip
LATER = (
    "must be a time zone", "file that can be read", "must name a variable", "an http:// or https:// URL",
    "greater than 0", "one of value, valueEnv", "must be a name, not empty", "must be text, not empty",
)  # fmt: skip
"""Problems that no schema can find, since they are outside of the document or in the meaning of a text."""


def set_at(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value


def paths_of(rule: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, inner in rule["properties"].items():
        if "properties" in inner:
            yield from paths_of(inner, (*prefix, key))
        yield (*prefix, key)


CASES = [
    (kind, path) for kind in (POLICY, SOURCE) for path in paths_of(schema(kind)["properties"]["spec"])
] + [(POLICY, ("unknown",)), (SOURCE, ("auth", "unknown"))]  # fmt: skip


@pytest.mark.parametrize(("kind", "path"), CASES, ids=lambda part: ".".join(part) if isinstance(part, tuple) else part)
def test_what_does_not_fit_the_definition_does_not_load_and_the_other_way_round(
    kind: str, path: tuple[str, ...]
) -> None:
    for value in VALUES:
        document: dict[str, Any] = {
            "apiVersion": "kedastral.io/v1alpha1",
            "kind": kind,
            "metadata": {"name": "web"},
            "spec": {"query": "up"} if kind == POLICY else {"url": "http://x"},
        }
        set_at(document["spec"], path, value)
        found = list(faults(document, schema(kind)))
        _, problems = read_config_documents([ConfigFile("it", yaml.safe_dump(document).encode())], {})
        if found:
            assert problems, found
        else:
            assert all(any(words in line for words in LATER) for line in problems), problems
