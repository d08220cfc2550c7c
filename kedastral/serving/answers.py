# SPDX-License-Identifier: Apache-2.0
"""The shapes of the HTTP server's responses: JSON, errors, and the header for stale data."""

from quart import Response

from kedastral.wire import JsonValue, dump_json

STALE_HEADER = "X-Kedastral-Stale"


def answer_json(status: int, document: JsonValue) -> Response:
    """``document`` as JSON, one line."""
    return answer_json_text(status, dump_json(document))


def answer_json_text(status: int, text: str) -> Response:
    """``text``, which is already JSON."""
    return Response(text + "\n", status=status, content_type="application/json")


def answer_unchanged() -> Response:
    """304: the client already has it. There is no body, and so no headers about its length and type."""
    response = Response("", status=304)
    for name in ("Content-Length", "Content-Type"):
        response.headers.pop(name, None)
    return response


def answer_error(status: int, words: str) -> Response:
    """The one shape of all errors."""
    return answer_json(status, {"error": words})


def mark_stale(response: Response, *, stale: bool) -> Response:
    """``response``, with the stale header if what it shows is stale."""
    if stale:
        response.headers[STALE_HEADER] = "true"
    return response
