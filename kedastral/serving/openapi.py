# SPDX-License-Identifier: Apache-2.0
"""`describe_api` makes the OpenAPI document of the HTTP server from its routes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus

import attrs

from kedastral import __version__
from kedastral.wire import JsonValue, explanation_schema, snapshot_schema

OPENAPI_VERSION = "3.1.0"
JSON = "application/json"
TEXT: Mapping[str, JsonValue] = {"type": "string"}
STALE: Mapping[str, JsonValue] = {
    "X-Kedastral-Stale": {
        "description": "true where the forecast is older than --stale-after, else absent",
        "schema": {"type": "string", "const": "true"},
    }
}
REQUEST_ID: Mapping[str, JsonValue] = {
    "X-Request-Id": {"description": "that of the request, or a new one; as in the log", "schema": TEXT}
}
REQUEST_ID_PARAMETER: Mapping[str, JsonValue] = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "at most 128 printable ASCII characters; another one is replaced",
    "schema": TEXT,
}
TAG_PARAMETER: Mapping[str, JsonValue] = {
    "name": "If-None-Match",
    "in": "header",
    "description": "tags of what the client has, as given in ETag",
    "schema": TEXT,
}
TAG: Mapping[str, JsonValue] = {
    "ETag": {"description": "the same as long as the forecast is; for If-None-Match", "schema": TEXT}
}
CHALLENGE: Mapping[str, JsonValue] = {"WWW-Authenticate": {"schema": TEXT}}


@attrs.frozen
class Answer:
    """The response for one status: its description, bodies by content type, and headers."""

    words: str
    contents: Mapping[str, JsonValue]
    headers: Mapping[str, JsonValue] = attrs.field(factory=dict)

    def describe(self, *, with_body: bool) -> JsonValue:
        """OpenAPI's Response Object."""
        contents: JsonValue = {kind: {"schema": schema} for kind, schema in self.contents.items()}
        described: dict[str, JsonValue] = {"description": self.words, "headers": {**REQUEST_ID, **self.headers}}
        return {**described, "content": contents} if with_body and self.contents else described


def _error(words: str, headers: Mapping[str, JsonValue] | None = None) -> Answer:
    return Answer(words, {JSON: {"$ref": "#/components/schemas/Error"}}, headers or {})


def _status(word: str, **more: JsonValue) -> Mapping[str, JsonValue]:
    properties: Mapping[str, JsonValue] = {"status": {"type": "string", "const": word}, **more}
    return {JSON: {"type": "object", "required": ["status"], "properties": properties}}


@attrs.frozen
class Endpoint:
    """The responses of one path, by status; ``required`` and ``optional`` are its query parameters."""

    summary: str
    answers: Mapping[HTTPStatus, Answer]
    required: Mapping[str, str] = attrs.field(factory=dict)
    optional: Mapping[str, str] = attrs.field(factory=dict)
    is_conditional: bool = False
    """Whether it respects If-None-Match."""
    is_probe: bool = False
    is_page: bool = False
    """Whether it is part of the web page, which needs no token."""


NOT_HTTP = _error("the request is not HTTP/1.1")
NO_PARAMETERS = _error("there are no query parameters here, or the request is not HTTP/1.1")
UNAVAILABLE = _error("too many requests at once, or the token file cannot be read")
TOKEN_WANTED = _error("the bearer token is missing or wrong", CHALLENGE)
PAGE: Mapping[str, JsonValue] = {"text/html": TEXT}
PATH_PARAMETERS: Mapping[str, str] = {"workload": "the key: namespace/name, or the name alone", "name": "its name"}
EXPLANATION: JsonValue = {"$ref": "#/components/schemas/Explanation"}
EXPLAINED: JsonValue = {
    "allOf": [EXPLANATION],
    "properties": {"whatIf": EXPLANATION, "ignored": {"type": "array", "items": TEXT, "minItems": 1}},
}
TRIED: Mapping[str, str] = {
    "leadTime": "the lead time to try, written as in the setting: 300s or 5m",
    "targetPerPod": "the target per pod to try",
    "serviceLevel": "the service level to try; not together with headroom",
    "headroom": "the headroom to try; not together with serviceLevel",
    "min": "the fewest replicas to try",
    "max": "the most replicas to try; 0 means no maximum",
}
WORKLOADS: JsonValue = {
    "type": "object",
    "required": ["at", "workloads"],
    "properties": {"warnings": {"type": "array", "items": TEXT, "minItems": 1}},
}
ENDPOINTS: Mapping[str, Endpoint] = {
    "/forecast/current": Endpoint(
        "The newest forecast of a workload, and the plan made from it",
        {
            HTTPStatus.OK: Answer("the snapshot", {JSON: {"$ref": "#/components/schemas/Snapshot"}}, {**TAG, **STALE}),
            HTTPStatus.NOT_MODIFIED: Answer("the snapshot has the tag that If-None-Match gives", {}, {**TAG, **STALE}),
            HTTPStatus.BAD_REQUEST: _error("no workload was given, or the request is not HTTP/1.1"),
            HTTPStatus.NOT_FOUND: _error("there is no snapshot of that workload, or none yet"),
        },
        {"workload": "the key: namespace/name, or the name alone if it has no namespace"},
        is_conditional=True,
    ),
    "/explain": Endpoint(
        "Why KEDA is told what it is told, and what it would be told under other settings",
        {
            HTTPStatus.OK: Answer("the explanation", {JSON: EXPLAINED}, STALE),
            HTTPStatus.BAD_REQUEST: _error(
                "no workload was given, a setting or a parameter is wrong, or the request is not HTTP/1.1"
            ),
            HTTPStatus.NOT_FOUND: _error("there is no snapshot of that workload, or none yet"),
        },
        {"workload": "the key: namespace/name, or the name alone if it has no namespace"},
        TRIED,
    ),
    "/healthz": Endpoint(
        "Whether the process is alive", {HTTPStatus.OK: Answer("it does", _status("ok"), STALE)}, is_probe=True
    ),
    "/readyz": Endpoint(
        "Whether every server is up and shutdown has not begun",
        {
            HTTPStatus.OK: Answer("ready", _status("ready", warnings={"type": "array", "items": TEXT})),
            HTTPStatus.SERVICE_UNAVAILABLE: _error("starting, or shutting down"),
        },
        is_probe=True,
    ),
    "/metrics": Endpoint(
        "Metrics for Prometheus",
        {HTTPStatus.OK: Answer("the metrics", {"text/plain": TEXT, "application/openmetrics-text": TEXT})},
    ),
    "/api/workloads": Endpoint(
        "All workloads, those that need attention first",
        {HTTPStatus.OK: Answer("the list", {JSON: WORKLOADS}), HTTPStatus.BAD_REQUEST: NO_PARAMETERS},
    ),
    "/api/workloads/{workload}": Endpoint(
        "Everything that the page of one workload shows",
        {
            HTTPStatus.OK: Answer("the workload", {JSON: {"type": "object", "required": ["workload", "state"]}}, STALE),
            HTTPStatus.BAD_REQUEST: NO_PARAMETERS,
            HTTPStatus.NOT_FOUND: _error("there is no such workload"),
        },
    ),
    "/": Endpoint("The page: all workloads", {HTTPStatus.OK: Answer("the page", PAGE)}, is_page=True),
    "/workloads/{workload}": Endpoint(
        "The page of one workload",
        {HTTPStatus.OK: Answer("the page", PAGE), HTTPStatus.NOT_FOUND: _error("no workload has such a name")},
        is_page=True,
    ),
    "/assets/{name}": Endpoint(
        "A file of the page",
        {
            HTTPStatus.OK: Answer("the file", {"text/css": TEXT, "text/javascript": TEXT, "image/svg+xml": TEXT}),
            HTTPStatus.NOT_FOUND: _error("there is no such file"),
        },
        is_page=True,
    ),
    "/openapi.json": Endpoint("This document", {HTTPStatus.OK: Answer("this document", {JSON: {"type": "object"}})}),
}
"""Every path that the server may have."""


def describe_api(paths: Iterable[str], *, with_token: bool) -> Mapping[str, JsonValue]:
    """The document about ``paths``, which are among `ENDPOINTS`; ``with_token`` if a bearer token is required."""
    components: dict[str, JsonValue] = {
        "schemas": {
            "Snapshot": snapshot_schema(),
            "Explanation": explanation_schema(),
            "Error": {"type": "object", "required": ["error"], "properties": {"error": TEXT}},
        }
    }
    if with_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": OPENAPI_VERSION,
        "info": {"title": "Kedastral", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": {
            path: _describe_path(path, ENDPOINTS[path], with_token=with_token)
            for path in sorted(map(template_of, paths))
        },
        "components": components,
    }


def template_of(rule: str) -> str:
    """``/workloads/<path:workload>`` as OpenAPI writes it: ``/workloads/{workload}``."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def _describe_path(path: str, endpoint: Endpoint, *, with_token: bool) -> JsonValue:
    answers = {HTTPStatus.BAD_REQUEST: NOT_HTTP, HTTPStatus.SERVICE_UNAVAILABLE: UNAVAILABLE, **endpoint.answers}
    is_guarded = with_token and not endpoint.is_probe and not endpoint.is_page
    if is_guarded:
        answers[HTTPStatus.UNAUTHORIZED] = TOKEN_WANTED
    if endpoint.is_probe and HTTPStatus.SERVICE_UNAVAILABLE not in endpoint.answers:
        del answers[HTTPStatus.SERVICE_UNAVAILABLE]
    security: Sequence[JsonValue] = [{"token": []}] if is_guarded else []
    name = re.sub(r"\W+", "_", path).strip("_") or "page"
    return {
        method: {
            "operationId": f"{method}_{name}",
            "summary": endpoint.summary,
            "parameters": [
                *(_describe_part(name) for name in re.findall(r"{(\w+)}", path)),
                *(_describe_parameter(name, words, required=True) for name, words in endpoint.required.items()),
                *(_describe_parameter(name, words, required=False) for name, words in endpoint.optional.items()),
                *([TAG_PARAMETER] if endpoint.is_conditional else []),
                REQUEST_ID_PARAMETER,
            ],
            "security": security,
            "responses": {
                str(status.value): answers[status].describe(with_body=method == "get") for status in sorted(answers)
            },
        }
        for method in ("get", "head")
    }


def _describe_part(name: str) -> JsonValue:
    schema: Mapping[str, JsonValue] = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "description": PATH_PARAMETERS[name], "schema": schema}


def _describe_parameter(name: str, words: str, *, required: bool) -> JsonValue:
    schema: Mapping[str, JsonValue] = {"type": "string", "pattern": r"\S"} if required else TEXT
    return {"name": name, "in": "query", "required": required, "description": words, "schema": schema}
