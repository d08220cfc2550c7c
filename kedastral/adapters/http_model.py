# SPDX-License-Identifier: Apache-2.0
"""`HttpForecaster`: a forecast from the user's own model, asked over HTTP."""

import json
import math
from datetime import datetime
from typing import Any

import attrs
import httpx
import numpy as np
import trio

from kedastral.adapters.http_client import (
    PLAIN,
    AnswerEncodedError,
    AnswerTooLargeError,
    one_line,
    open_client,
    read_bounded,
    shown_url,
    words_of,
)
from kedastral.core.forecast import Forecast
from kedastral.core.series import Series, fill_gaps, require_positive
from kedastral.errors import ModelError

ANSWER_LIMIT = 1024 * 1024


def open_model_client(url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client for the model at ``url`` (a path prefix is kept), to be closed or used in ``async with``.

    Raises ConfigError for what is no URL.
    """
    return open_client(url, transport=transport)


@attrs.frozen(eq=False)
class HttpForecaster:
    """A `kedastral.core.ports.Forecaster` that posts the history to ``predict`` below the client's base URL.

    ``timeout`` bounds the whole exchange, in seconds. Nothing is retried: the next tick asks again.
    """

    name = "http"

    client: httpx.AsyncClient
    timeout: float = attrs.field(default=5.0, validator=require_positive)

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.ports.Forecaster.forecast`.

        Raises ModelError with reason unreachable, timeout, http_status (redirects included), too_large or bad_answer.
        """
        question = encode_question(history, made_at, steps)
        try:
            with trio.fail_after(self.timeout):
                status, body = await self._post(question)
        except trio.TooSlowError as error:
            raise self._error(f"no complete answer within {self.timeout:g} s", "timeout") from error
        except httpx.HTTPError as error:
            raise self._error(words_of(error), "unreachable") from error
        except UnicodeError as error:  # a host name that DNS cannot express; httpx lets it through
            raise self._error(f"the host name cannot be looked up: {words_of(error)}", "unreachable") from error
        if not 200 <= status < 300:
            hint = ", and redirects are not followed" if 300 <= status < 400 else ""
            raise self._error(f"HTTP {status}{hint}", "http_status")
        try:
            return Forecast(made_at, history.step, decode_answer(body, steps))
        except Exception as error:
            raise self._error(f"the answer is no forecast: {one_line(str(error), 200)}", "bad_answer") from error

    async def _post(self, question: bytes) -> tuple[int, bytes]:
        headers = {**PLAIN, "Content-Type": "application/json"}
        try:
            async with self.client.stream(
                "POST", "predict", content=question, headers=headers, timeout=None, follow_redirects=False
            ) as response:
                if not response.is_success:
                    return response.status_code, b""
                return response.status_code, await read_bounded(response, ANSWER_LIMIT)
        except AnswerTooLargeError as error:
            raise self._error(str(error), "too_large") from error
        except AnswerEncodedError as error:
            raise self._error(str(error), "bad_answer") from error

    def _error(self, what: str, reason: str) -> ModelError:
        return ModelError(f"model at {shown_url(self.client.base_url)}: {what}", reason=reason)


def encode_question(history: Series, made_at: datetime, steps: int) -> bytes:
    """The body of ``POST /predict``: one row per step, gaps filled forward, rows before the first value left out."""
    rows = [
        {"ts": _rfc3339(at), "value": float(value), "hour": at.hour, "dayOfWeek": at.weekday()}
        for at, value in ((history.time_at(index), value) for index, value in enumerate(fill_gaps(history.values)))
        if math.isfinite(value)
    ]
    question = {
        "now": _rfc3339(made_at),
        "horizonSeconds": _whole(steps * history.step),
        "stepSeconds": _whole(history.step),
        "features": rows,
    }
    return json.dumps(question, allow_nan=False).encode()


def decode_answer(body: bytes, steps: int) -> list[float]:
    """The ``steps`` numbers of ``{"metric": "...", "values": [...]}``; raises ValueError or worse.

    Whether they are loads, finite and >= 0, is for `Forecast` to say: Python's JSON reader knows NaN, and 1e999.
    ``metric`` is not needed, since we know what we asked for; other keys are left for later versions.
    """
    answer = json.loads(body)
    if not isinstance(answer, dict) or not isinstance(answer.get("values"), list):
        raise ValueError("it holds no list of values")
    if not isinstance(answer.get("metric", ""), str):
        raise ValueError("its metric is no text")
    values = answer["values"]
    if len(values) != steps:
        raise ValueError(f"it holds {len(values)} values where {steps} were asked for")
    return [_load(index, value) for index, value in enumerate(values)]


def _load(index: int, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"values[{index}] is no number")
    return float(value)


def _rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _whole(seconds: float) -> float:
    """A whole number is written without a fraction: some JSON readers want an integer there."""
    return int(seconds) if seconds == np.floor(seconds) else seconds
