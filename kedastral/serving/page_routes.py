# SPDX-License-Identifier: Apache-2.0
"""The web page: templates without data, which scripts fill from the HTTP API with the reader's own token."""

from collections.abc import Mapping
from importlib.resources import files

from quart import Response, render_template
from quart_trio import QuartTrio

from kedastral import __version__
from kedastral.serving.answers import answer_error

ASSETS: Mapping[str, str] = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "uPlot.iife.min.js": "text/javascript; charset=utf-8",
    "uPlot.min.css": "text/css; charset=utf-8",
}
"""The files that the page may load, and their types. Vendored, unchanged: uPlot 1.6.32 (uPlot.LICENSE)."""
OPEN_PREFIXES = ("/workloads/", "/assets/")
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def is_page(path: str) -> bool:
    """Whether ``path`` is part of the page, which contains no data itself and needs no token."""
    return path == "/" or path.startswith(OPEN_PREFIXES)


def add_page(app: QuartTrio) -> None:
    """Add the routes to ``app``."""
    folder = files("kedastral.serving") / "page"
    contents = {name: (folder / name).read_bytes() for name in ASSETS}

    @app.get("/", provide_automatic_options=False)
    async def show_list() -> Response:
        return _answer(await render_template("workloads.html", version=__version__))

    @app.get("/workloads/<path:workload>", provide_automatic_options=False)
    async def show_page(workload: str) -> Response:
        return _answer(await render_template("workload.html", version=__version__, workload=workload))

    @app.get("/assets/<name>", provide_automatic_options=False)
    async def show_asset(name: str) -> Response:
        if name not in contents:
            return answer_error(404, "not found")
        response = Response(contents[name], content_type=ASSETS[name])
        response.headers["Cache-Control"] = "max-age=86400"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response


def _answer(page: str) -> Response:
    response = Response(page, content_type="text/html; charset=utf-8")
    response.headers.update(SECURITY_HEADERS)
    return response
