# SPDX-License-Identifier: Apache-2.0
"""CustomResourceDefinitions of the documents, derived from the settings: the same keys, types, bounds and words."""

from collections.abc import Mapping
from typing import Any

from kedastral.settings.documents import place_in
from kedastral.settings.kinds import API_VERSION, POLICY, POLICY_KEYS, SECRET_KEYS, SOURCE, SOURCE_KEYS, Keys
from kedastral.settings.schema import Setting
from kedastral.settings.types import MAX_NAME_LENGTH, ReadChoice

Schema = dict[str, Any]

DURATION = r"^([0-9]+(\.[0-9]+)?(ms|[smhdw]))+$"
NAME = {"type": "string", "minLength": 1, "maxLength": MAX_NAME_LENGTH, "pattern": "^[^/]+$"}
PLURALS = {POLICY: "forecastpolicies", SOURCE: "datasources"}
SHORT = {POLICY: "fp", SOURCE: "kds"}
SCOPES = {POLICY: "Namespaced", SOURCE: "Cluster"}
ABOUT = {
    POLICY: "A workload that Kedastral forecasts: its load, and how it becomes replicas.",
    SOURCE: "A Prometheus that Kedastral may read, under the name that workloads refer to.",
}
COLUMNS: Mapping[str, tuple[tuple[str, str], ...]] = {
    POLICY: (("Data source", "dataSource"), ("Model", "model"), ("Lead time", "leadTime")),
    SOURCE: (("URL", "url"),),
}


def make_crd(kind: str) -> Schema:
    """The CustomResourceDefinition of ``kind``, as a tree that YAML can write."""
    group, version = API_VERSION.split("/")
    columns = [{"name": name, "type": "string", "jsonPath": f".spec.{key}"} for name, key in COLUMNS[kind]]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURALS[kind]}.{group}"},
        "spec": {
            "group": group,
            "names": {
                "kind": kind, "listKind": f"{kind}List", "plural": PLURALS[kind], "singular": kind.lower(),
                "shortNames": [SHORT[kind]],
            },
            "scope": SCOPES[kind],
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": _whole_schema(kind)},
                }
            ],
        },
    }  # fmt: skip


def _whole_schema(kind: str) -> Schema:
    return {
        "description": ABOUT[kind],
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": make_spec_schema(kind),
        },
    }


def make_spec_schema(kind: str) -> Schema:
    """What may stand below ``spec``."""
    return _policy_schema() if kind == POLICY else _source_schema()


def _policy_schema() -> Schema:
    own = {
        "workload": describe(NAME, "what the workload is called", "metadata.name"),
        "dataSource": describe(
            NAME, "name of the DataSource that the query is put to", "that of the flags, else the only one"
        ),
    }
    schema = _object_of(POLICY_KEYS)
    return {**schema, "properties": own | schema["properties"]}


def _source_schema() -> Schema:
    schema = _object_of(SOURCE_KEYS)
    auth = schema["properties"]["auth"]
    for path, setting in SECRET_KEYS.items():
        auth["properties"][path[-1]] = describe(NAME, f"variable of Kedastral's that holds {setting.meaning}", None)
    value = {"type": "string"}
    schema["properties"] |= {
        "headers": {
            "description": "Headers to send, such as a tenant; of the three values one.",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": describe({"type": "string", "minLength": 1}, "name of the header", None),
                    "value": describe(value, "its value, where that is no secret", None),
                    "valueEnv": describe(value, "variable of Kedastral's that holds the value", None),
                    "valueFile": describe(value, "file that holds the value, read with the configuration", None),
                },
            },
        },
        "queryParams": {
            "description": "Parameters to send with each query, by name, such as partial_response: 'false'.",
            "type": "object",
            "additionalProperties": value,
        },
        "allowedNamespaces": {
            "description": "Namespaces whose ScaledObjects may use it. Default: all.",
            "type": "array",
            "items": NAME,
        },
    }
    return schema


def _object_of(keys: Keys) -> Schema:
    properties: Schema = {}
    required = []
    for path, setting in keys.items():
        place = properties
        for part in path[:-1]:
            place = place.setdefault(part, {"type": "object", "properties": {}})["properties"]
        place[path[-1]] = describe(make_value_schema(setting), _words(setting, keys), setting.shown_default or None)
        if setting.required:
            required.append(path[0])
    return {"type": "object", "required": required, "properties": properties}


TYPES: Mapping[str, Schema] = {
    "integer": {"type": "integer", "format": "int64"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "duration": {"type": "string", "pattern": DURATION},
    "URL": {"type": "string", "pattern": "^https?://"},
}
"""By the kind of a setting; all others are text."""


def make_value_schema(setting: Setting) -> Schema:
    """What the value of one setting may be."""
    if isinstance(setting.read, ReadChoice):
        return {"type": "string", "enum": setting.read.words}
    schema = TYPES.get(setting.kind, {"type": "string", "minLength": 1})
    return {**schema, **(_bounds(setting) if setting.kind in ("integer", "number") else {})}


def _words(setting: Setting, keys: Keys) -> str:
    return place_in(POLICY).translate(setting.meaning) if keys is POLICY_KEYS else setting.meaning


def _bounds(setting: Setting) -> Schema:
    if setting.bounds is None:
        return {}
    schema: Schema = {"minimum": setting.bounds.low}
    if setting.bounds.open_low:
        schema["exclusiveMinimum"] = True
    if setting.bounds.high is not None:
        schema["maximum"] = setting.bounds.high
    return schema


def describe(schema: Schema, meaning: str, default: str | None) -> Schema:
    """``schema`` with words. The default is among them alone: the API server would write one into objects, for good."""
    words = f"{meaning[0].upper()}{meaning[1:]}."
    return {"description": f"{words} Default: {default}." if default else words, **schema}
