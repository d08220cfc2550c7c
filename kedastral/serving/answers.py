# SPDX-License-Identifier: Apache-2.0
"""The shapes of the HTTP server's answers: JSON, errors, and the header of what is stale."""

from quart import Response

from kedastral.wire import JsonValue, dump_json

STALE_HEADER = "X-Kedastral-Stale"


def answer_json(status: int, document: JsonValue) -> Response:
    """``document`` as JSON, one line."""
    return Response(dump_json(document) + "\n", status=status, content_type="application/json")


def answer_error(status: int, words: str) -> Response:
    """The one shape that errors have."""
    return answer_json(status, {"error": words})


def mark_stale(response: Response, *, stale: bool) -> Response:
    """``response``, with the header where what it shows is stale."""
    if stale:
        response.headers[STALE_HEADER] = "true"
    return response
