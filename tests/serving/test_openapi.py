# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document: it lists exactly the existing routes, and describes every answer."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import pytest
from quart_trio import QuartTrio
from trio.testing import MockClock

from kedastral import __version__
from kedastral.core.data_quality.findings import Findings
from kedastral.core.data_quality.lost_series import LostSeries
from kedastral.core.data_quality.outliers import Outliers
from kedastral.core.forecast_status import ForecastStatus, StatusCode
from kedastral.core.planning.stabilization import Resumption
from kedastral.core.planning.stale_policy import StalePolicy
from kedastral.core.series import Observation
from kedastral.errors import SourceError
from kedastral.serving.metrics import Metrics
from kedastral.serving.openapi import describe_api, template_of
from kedastral.serving.readiness import Readiness
from kedastral.serving.snapshot_api import SnapshotView, create_app
from kedastral.serving.store import MemoryStore
from kedastral.serving.token_gate import TokenGate
from kedastral.wire import snapshot_schema, write_snapshot
from tests.parts import START, make_snapshot, wall_clock

KINDS = {"string": str, "number": int | float, "integer": int, "boolean": bool, "array": list, "object": dict}


@attrs.define
class Site:
    """An application, and what its document says."""

    store: MemoryStore = attrs.field(factory=MemoryStore)
    readiness: Readiness = attrs.field(factory=lambda: Readiness.of(()))
    gate: TokenGate | None = None
    serves_forecasts: bool = True
    app: QuartTrio = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        view = SnapshotView(self.store, lambda _: StalePolicy(120.0), wall_clock())
        registry = Metrics().registry
        self.app = create_app(view, self.readiness, registry, serves_forecasts=self.serves_forecasts, gate=self.gate)

    async def ask(self, target: str, method: str = "GET", **headers: str) -> Any:
        return await self.app.test_client().open(target, method=method, headers=headers)

    async def document(self) -> Any:
        response = await self.ask("/openapi.json", Authorization="Bearer open")
        assert (response.status_code, response.content_type) == (200, "application/json")
        return json.loads(await response.get_data(as_text=True))


@pytest.mark.parametrize("serves_forecasts", [True, False])
async def test_it_lists_exactly_the_routes_and_their_methods(autojump_clock: MockClock, serves_forecasts: bool) -> None:
    site = Site(serves_forecasts=serves_forecasts)
    routes = {
        template_of(rule.rule): {str(method).lower() for method in rule.methods or ()}
        for rule in site.app.url_map.iter_rules()
    }
    listed = {path: set(operations) for path, operations in (await site.document())["paths"].items()}
    assert listed == routes
    assert ("/forecast/current" in listed) is serves_forecasts


async def test_it_says_what_it_is_about_and_every_operation_has_a_name_of_its_own(autojump_clock: MockClock) -> None:
    document = await Site().document()
    assert document["openapi"].startswith("3.1.")
    assert document["info"]["version"] == __version__
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)


def test_a_route_that_nobody_has_described_is_found_at_the_start() -> None:
    with pytest.raises(KeyError, match="/new"):
        describe_api(["/healthz", "/new"], with_token=False)


def refuse_to_read() -> str:
    raise SourceError("it is not there", reason="unreadable")


@pytest.mark.parametrize(
    ("target", "make_site", "status"),
    [
        ("/forecast/current?workload=shop", Site, 200),
        ("/forecast/current?workload=nobody", Site, 404),
        ("/forecast/current?workload=%20", Site, 400),
        ("/healthz", Site, 200),
        ("/readyz", Site, 200),
        ("/readyz", partial(Site, readiness=Readiness.of({"grpc"})), 503),
        ("/metrics", Site, 200),
        ("/openapi.json", Site, 200),
        ("/metrics", partial(Site, gate=TokenGate(lambda: "open")), 401),
        ("/forecast/current?workload=shop", partial(Site, gate=TokenGate(lambda: "open")), 401),
        ("/openapi.json", partial(Site, gate=TokenGate(lambda: "open")), 401),
        ("/metrics", partial(Site, gate=TokenGate(refuse_to_read)), 503),
        ("/healthz", partial(Site, gate=TokenGate(lambda: "open")), 200),
    ],
)
@pytest.mark.parametrize("method", ["get", "head"])
async def test_every_answer_is_described_with_its_headers_and_type(
    autojump_clock: MockClock, target: str, make_site: Callable[[], Site], status: int, method: str
) -> None:
    site = make_site()
    await site.store.put(make_snapshot())
    path = target.partition("?")[0]
    document = describe_api([path], with_token=site.gate is not None)
    described = as_json(document)["paths"][path][method]["responses"][str(status)]
    answer = await site.ask(target, method.upper())
    assert answer.status_code == status
    usual, given = {"content-type", "content-length"}, {name.lower() for name in answer.headers.keys()}  # noqa: SIM118
    promised = {name.lower() for name in described["headers"]}
    assert promised - {"x-kedastral-stale"} <= given <= promised | usual
    if method == "get":
        assert answer.content_type.partition(";")[0] in described["content"]


async def test_the_token_is_asked_for_where_the_document_says(autojump_clock: MockClock) -> None:
    site = Site(gate=TokenGate(lambda: "open"))
    document = await site.document()
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        response = await site.ask(path)
        assert bool(operations["get"]["security"]) is (response.status_code == 401), path
    assert "securitySchemes" not in (await Site().document())["components"]


def as_json(document: Any) -> Any:
    return json.loads(json.dumps(document))


def check(value: Any, schema: Mapping[str, Any], where: str) -> None:
    """Checks that a value fits our schema, and that the schema describes all of it."""
    kind = KINDS[schema["type"]]
    assert isinstance(value, kind), where
    assert not isinstance(value, bool) or kind is bool, where
    if isinstance(value, Mapping):
        assert set(schema["required"]) <= value.keys() <= schema["properties"].keys(), where
        for name, one in value.items():
            check(one, schema["properties"][name], f"{where}.{name}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for one in value:
            check(one, schema["items"], where)


def test_all_of_a_snapshot_is_described_by_its_schema() -> None:
    newest = Observation(START, 1.0)
    everything = attrs.evolve(
        make_snapshot(),
        resumption=Resumption(START, 3, 120.0),
        findings=Findings(Outliers(2, newest), LostSeries(1, 2, START), raw_counter=True),
        replicas_without_max=14,
        status=ForecastStatus(StatusCode.LEARNING, "it learns"),
        withheld=True,
        fingerprint="0f3a",
    )
    schema = as_json(snapshot_schema())
    for snapshot in (make_snapshot(), make_snapshot(floor=None), everything):
        check(write_snapshot(snapshot), schema, "snapshot")
    experts = schema["properties"]["experts"]["items"]
    assert experts["required"] == ["name", "aheadSeconds", "weight"]
    assert schema["properties"]["generatedAt"] == {"type": "string", "format": "date-time"}
