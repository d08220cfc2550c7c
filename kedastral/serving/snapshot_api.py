# SPDX-License-Identifier: Apache-2.0
"""The HTTP API: /forecast/current, the probes, /metrics and /openapi.json.

Every error is ``{"error": "..."}``, including the framework's own.
"""

import hashlib
import itertools
import logging
import uuid
from collections.abc import Callable, Iterator
from time import perf_counter

import attrs
import trio
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from quart import Response, g, request
from quart.wrappers.base import BaseRequestWebsocket
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException
from werkzeug.routing import MapAdapter

from kedastral.core.planning.snapshot import Snapshot
from kedastral.core.ports import SnapshotReader
from kedastral.serving.answers import answer_error, answer_json, answer_json_text, answer_unchanged, mark_stale
from kedastral.serving.explain_api import add_explain
from kedastral.serving.openapi import describe_api
from kedastral.serving.page_routes import add_page, is_page
from kedastral.serving.readiness import Readiness
from kedastral.serving.token_gate import TokenGate
from kedastral.serving.view import SnapshotView
from kedastral.serving.workloads_api import WorkloadsView, add_workloads
from kedastral.wire import dump_json, write_snapshot

log = logging.getLogger("kedastral.http")

REQUEST_ID_HEADER = "X-Request-Id"
MAX_REQUEST_ID_LENGTH = 128
MAX_WRITTEN_AT_ONCE = 20
"""The most workloads whose metrics are written on the event loop: a thousand take a second, and KEDA would wait."""
MAX_WAITING_SCRAPES = 32
"""The most requests for /metrics that may wait while one is answered; no honest client sends that many."""
PROBES = frozenset({"/healthz", "/readyz"})
"""Paths that need no token: the kubelet requests them."""


class _Application(QuartTrio):
    """Accepts any Host header, even one that is not a host name: Werkzeug would fail on it before any route."""

    def create_url_adapter(self, request: BaseRequestWebsocket | None) -> MapAdapter | None:
        if request is None:
            return super().create_url_adapter(None)
        return self.url_map.bind(
            "kedastral",
            # a websocket has the scheme "ws", which has no routes
            url_scheme=request.scheme,
            path_info=request.path,
            default_method=request.method,
        )


def create_app(
    view: SnapshotView,
    readiness: Readiness,
    registry: CollectorRegistry,
    *,
    serves_forecasts: bool = True,
    gate: TokenGate | None = None,
    workloads: WorkloadsView | None = None,
) -> QuartTrio:
    """The application; without ``serves_forecasts`` only the probes and the metrics. The probes never need a token.

    ``workloads`` is what the page shows besides the snapshots of ``view``.
    """
    app = _Application("kedastral", static_folder=None, template_folder="serving/page")
    app.url_map.merge_slashes = False  # a redirect would be an HTML page
    app.url_map.redirect_defaults = False
    app.config["PROPAGATE_EXCEPTIONS"] = False
    if serves_forecasts:
        _add_forecast(app, view)
        workloads = workloads or WorkloadsView(view)
        add_explain(app, view, workloads.failing)
        add_workloads(app, workloads, lambda: readiness.warnings)
        add_page(app)
    _add_probes(app, view, readiness)
    _add_metrics(app, view, registry)
    _add_document(app, with_token=gate is not None)
    _add_errors(app)
    _add_request_log(app)
    if gate is not None:
        _add_gate(app, gate)
    return app


def _add_forecast(app: QuartTrio, view: SnapshotView) -> None:
    tags = SnapshotTags()

    @app.get("/forecast/current", provide_automatic_options=False)
    async def show_forecast() -> Response:
        workload = request.args.get("workload", "").strip()
        if not workload:
            return answer_error(400, "the query parameter workload is required")
        snapshot = view.reader.get(workload)
        if snapshot is None:
            tags.forget(workload)
            return answer_error(404, "snapshot not found")
        tag, written = tags.find(snapshot)
        if request.if_none_match.contains_weak(tag):
            response = answer_unchanged()
        else:
            response = answer_json_text(200, written or dump_json(write_snapshot(snapshot)))
        response.set_etag(tag)
        return mark_stale(response, stale=view.is_stale(snapshot))


@attrs.define(eq=False)
class SnapshotTags:
    """The entity tags of snapshots (RFC 9110, 8.8.3): a client that has the newest one is not sent it again.

    Memory grows with the workloads that are requested and have a snapshot.
    """

    _newest: dict[str, tuple[Snapshot, str]] = attrs.field(factory=dict, init=False)

    def find(self, snapshot: Snapshot) -> tuple[str, str]:
        """The tag of ``snapshot``, its workload's newest, and its JSON if that had to be written for the tag.

        Tags are equal if the JSON is, whichever process wrote it.
        """
        tagged = self._newest.get(snapshot.workload)
        if tagged is not None and tagged[0] is snapshot:
            return tagged[1], ""
        written = dump_json(write_snapshot(snapshot))
        tag = hashlib.blake2b(written.encode(), digest_size=16).hexdigest()
        self._newest[snapshot.workload] = snapshot, tag
        return tag, written

    def forget(self, workload: str) -> None:
        """Note that ``workload`` has no snapshot."""
        self._newest.pop(workload, None)


def _add_probes(app: QuartTrio, view: SnapshotView, readiness: Readiness) -> None:
    @app.get("/healthz", provide_automatic_options=False)
    async def show_health() -> Response:
        return mark_stale(answer_json(200, {"status": "ok"}), stale=view.any_stale())

    @app.get("/readyz", provide_automatic_options=False)
    async def show_readiness() -> Response:
        obstacle = readiness.obstacle
        if obstacle:
            return answer_error(503, obstacle)
        warnings = {"warnings": readiness.warnings} if readiness.warnings else {}
        return answer_json(200, {"status": "ready", **warnings})


def _add_metrics(app: QuartTrio, view: SnapshotView, registry: CollectorRegistry) -> None:
    pages = _MetricsPages(view.reader, registry)

    @app.get("/metrics", provide_automatic_options=False)
    async def show_metrics() -> Response:
        encode, content_type = _choose_encoder(request.headers.get("Accept", ""))
        if pages.waiting >= MAX_WAITING_SCRAPES:
            response = answer_error(503, "too many requests for the metrics at once")
            response.headers["Connection"] = "close"
            return response
        return Response(await pages.write(encode, content_type), content_type=content_type)


def _add_document(app: QuartTrio, *, with_token: bool) -> None:
    """Add the route for the description of all earlier routes and of itself."""

    @app.get("/openapi.json", provide_automatic_options=False)
    async def show_document() -> Response:
        return Response(document, content_type="application/json")

    document = dump_json(describe_api([rule.rule for rule in app.url_map.iter_rules()], with_token=with_token)) + "\n"


@attrs.define(eq=False)
class _MetricsPages:
    """Writes the pages of /metrics one at a time. Requests that arrive while one is written share the next one.

    So any number of scrapers takes as much time as one, and as much memory as two.
    """

    _reader: SnapshotReader
    _registry: CollectorRegistry
    _one_at_a_time: trio.Lock = attrs.field(factory=trio.Lock, init=False)
    _one_thread: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False)
    _moments: Iterator[int] = attrs.field(factory=itertools.count, init=False)
    _shared: dict[str, tuple[int, bytes]] = attrs.field(factory=dict, init=False)
    """The newest page and when its writing began, by content type."""

    @property
    def waiting(self) -> int:
        """How many requests wait while a page is written."""
        return self._one_at_a_time.statistics().tasks_waiting

    async def write(self, encode: Callable[[CollectorRegistry], bytes], content_type: str) -> bytes:
        """A page that is no older than the call."""
        called = next(self._moments)
        async with self._one_at_a_time:
            began, page = self._shared.get(content_type, (-1, b""))
            if began < called:
                began = next(self._moments)
                page = await self._encode(encode)
                self._shared[content_type] = began, page
            if not self.waiting:
                self._shared.clear()
            return page

    async def _encode(self, encode: Callable[[CollectorRegistry], bytes]) -> bytes:
        if len(self._reader.newest()) <= MAX_WRITTEN_AT_ONCE:
            return encode(self._registry)
        return await trio.to_thread.run_sync(encode, self._registry, abandon_on_cancel=True, limiter=self._one_thread)


def _choose_encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """The format that the scraper asks for; plain text if its Accept header cannot be parsed."""
    try:
        return choose_encoder(accept)
    except (TypeError, ValueError, IndexError):  # prometheus-client fails on versions that are not numbers
        return choose_encoder("")


def _add_errors(app: QuartTrio) -> None:
    @app.errorhandler(HTTPException)
    async def show_http_error(error: HTTPException) -> Response:
        status = error.code or 500
        response = answer_error(status, (error.name or "error").lower())
        for name, value in error.get_headers():
            if name.lower() == "allow":
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    async def show_bug(error: Exception) -> Response:
        fields = {"request_id": g.get("request_id", "")}
        log.error("%s %s failed", request.method, request.path, extra=fields, exc_info=error)
        return answer_error(500, "internal error")


def _add_request_log(app: QuartTrio) -> None:
    @app.before_request
    async def begin() -> None:
        g.began = perf_counter()
        given = request.headers.get(REQUEST_ID_HEADER, "")
        usable = given.isascii() and given.isprintable() and 0 < len(given) <= MAX_REQUEST_ID_LENGTH
        g.request_id = given if usable else uuid.uuid4().hex

    @app.after_request
    async def finish(response: Response) -> Response:
        if "request_id" in g:
            response.headers[REQUEST_ID_HEADER] = g.request_id
            fields = {
                "method": request.method,
                "path": request.path,
                "status": response.status_code,
                "duration": round(perf_counter() - g.began, 6),
                "request_id": g.request_id,
            }
            log.debug("answered a request", extra=fields)
        return response


def _add_gate(app: QuartTrio, gate: TokenGate) -> None:
    @app.before_request
    async def refuse() -> Response | None:
        is_open = request.path in PROBES or is_page(request.path)
        refusal = None if is_open else gate.refuse(request.headers.get("Authorization"))
        if refusal is None:
            return None
        response = answer_error(refusal.status, refusal.words)
        if refusal.challenge is not None:
            response.headers["WWW-Authenticate"] = refusal.challenge
        return response
