# SPDX-License-Identifier: Apache-2.0
"""`HttpForecaster`: a forecast from the user's own model over HTTP."""

from datetime import datetime

import attrs
import httpx
import trio

from kedastral.adapters.http import (
    PLAIN,
    AnswerEncodedError,
    AnswerTooLargeError,
    open_client,
    quote_error,
    read_bounded,
    refuse_page,
    shown_url,
    words_of,
)
from kedastral.core.forecast import Forecast
from kedastral.core.series import Series, require_positive
from kedastral.errors import ModelError
from kedastral.text import one_line
from kedastral.wire import read_predict_response, write_predict_request

ANSWER_LIMIT = 1024 * 1024
"""The most bytes of an answer."""


def open_model_client(url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client for the model at ``url`` (a path prefix is kept), to be closed or used in ``async with``.

    Raises ConfigError for a URL that cannot be used.
    """
    return open_client(url, transport=transport)


@attrs.frozen(eq=False)
class HttpForecaster:
    """A `kedastral.core.ports.Forecaster` that posts the history to ``predict`` below the client's base URL.

    ``timeout`` limits the whole exchange, in seconds. Nothing is retried: the next tick asks again.
    """

    name = "http"

    client: httpx.AsyncClient
    timeout: float = attrs.field(default=5.0, validator=require_positive)

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.ports.Forecaster.forecast`.

        Raises ModelError with reason unreachable, timeout, http_status (redirects included), too_large or bad_answer.
        """
        request = write_predict_request(history, made_at, steps)
        try:
            with trio.fail_after(self.timeout):
                body = await self._post(request)
        except trio.TooSlowError as error:
            raise self._error(f"no complete answer within {self.timeout:g} s", "timeout") from error
        except httpx.HTTPError as error:
            raise self._error(words_of(error), "unreachable") from error
        except httpx.InvalidURL as error:  # its own address was checked at the start; httpx reads that of a redirect
            raise self._error(f"a redirect to what is no URL: {one_line(str(error), 200)}", "http_status") from error
        except UnicodeError as error:  # a host name that DNS cannot express; httpx lets it through
            raise self._error(f"the host name cannot be looked up: {words_of(error)}", "unreachable") from error
        try:
            refuse_page(body)
            return Forecast(made_at, history.step, read_predict_response(body, steps))
        except Exception as error:
            raise self._error(f"the answer is not a forecast: {one_line(str(error), 200)}", "bad_answer") from error

    async def _post(self, request: bytes) -> bytes:
        headers = {**PLAIN, "Content-Type": "application/json"}
        try:
            async with self.client.stream(
                "POST", "predict", content=request, headers=headers, timeout=None, follow_redirects=False
            ) as response:
                if not response.is_success:
                    hint = ", and redirects are not followed" if response.is_redirect else ""
                    said = await quote_error(response, self.client)
                    raise self._error(f"HTTP {response.status_code}{hint}{said}", "http_status", response.status_code)
                return await read_bounded(response, ANSWER_LIMIT)
        except AnswerTooLargeError as error:
            raise self._error(str(error), "too_large") from error
        except AnswerEncodedError as error:
            raise self._error(str(error), "bad_answer") from error

    def _error(self, what: str, reason: str, status: int | None = None) -> ModelError:
        return ModelError(f"model at {shown_url(self.client.base_url)}: {what}", reason=reason, status=status)
