# SPDX-License-Identifier: Apache-2.0
"""The shapes of the HTTP server's responses: JSON, errors, and the header for stale data."""

from collections.abc import Callable, Collection, Iterable
from itertools import islice

import attrs
import trio
from quart import Response

from kedastral.text import printable
from kedastral.wire import JsonValue, dump_json

STALE_HEADER = "X-Kedastral-Stale"


def answer_json(status: int, document: JsonValue) -> Response:
    """``document`` as JSON, one line."""
    return answer_json_text(status, dump_json(document))


def answer_json_text(status: int, text: str) -> Response:
    """``text``, which is already JSON."""
    return Response(text + "\n", status=status, content_type="application/json")


@attrs.frozen
class LongAnswers:
    """Writes long documents in one worker thread, so that KEDA is answered meanwhile.

    An explanation of 10,080 planned minutes takes a tenth of a second, of 60 two milliseconds.
    """

    _one_thread: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False)

    async def answer_json(self, make: Callable[[], JsonValue]) -> Response:
        """What ``make`` returns, as JSON with status 200; it must be pure, because it runs in the thread."""
        text = await trio.to_thread.run_sync(
            lambda: dump_json(make()), abandon_on_cancel=True, limiter=self._one_thread
        )
        return answer_json_text(200, text)


def answer_unchanged() -> Response:
    """304: the client already has it. There is no body, and so no headers about its length and type."""
    response = Response("", status=304)
    for name in ("Content-Length", "Content-Type"):
        response.headers.pop(name, None)
    return response


def answer_error(status: int, words: str) -> Response:
    """The one shape of all errors."""
    return answer_json(status, {"error": words})


def find_unknown(given: Iterable[str], known: Collection[str]) -> list[JsonValue]:
    """The query parameters that are not ``known``, five at most."""
    return [printable(name, 100) for name in islice((name for name in given if name not in known), 5)]


def mark_stale(response: Response, *, stale: bool) -> Response:
    """``response``, with the stale header if what it shows is stale."""
    if stale:
        response.headers[STALE_HEADER] = "true"
    return response
