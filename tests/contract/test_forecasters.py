# SPDX-License-Identifier: Apache-2.0
"""The contract of every `Forecaster`, wherever it computes."""

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import attrs
import httpx
import pytest
import trio

from kedastral.adapters.http_model import HttpForecaster, open_model_client
from kedastral.adapters.in_process import InProcessForecaster
from kedastral.core.forecast import Forecast
from kedastral.core.ports import Forecaster
from kedastral.core.series import Series, fill_gaps
from kedastral.errors import ModelError

MADE_AT = datetime(2024, 1, 1, 12, tzinfo=UTC)
HISTORY = Series(MADE_AT - timedelta(minutes=3), 60.0, [math.nan, 5, math.nan])


@attrs.frozen
class LastValue:
    """The simplest model: the load stays; without history it fails like third-party code."""

    name = "last"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        last = fill_gaps(history.values)[-1]
        if math.isnan(last):
            raise LookupError("no history")
        return Forecast(made_at, history.step, [last] * steps)


async def last_value_over_http(request: httpx.Request) -> httpx.Response:
    await trio.lowlevel.checkpoint()
    question = json.loads(request.content)
    if not question["features"]:
        return httpx.Response(422, json={"error": "no history"})
    steps = question["horizonSeconds"] // question["stepSeconds"]
    return httpx.Response(200, json={"metric": "rps", "values": [question["features"][-1]["value"]] * steps})


@pytest.fixture(params=["in_process", "http"])
def forecaster(request: pytest.FixtureRequest) -> Iterator[Forecaster]:
    if request.param == "in_process":
        yield InProcessForecaster(LastValue())
    else:
        transport = httpx.MockTransport(last_value_over_http)
        yield HttpForecaster(open_model_client("http://model.example", transport=transport))


@pytest.mark.parametrize("steps", [1, 30])
async def test_the_forecast_has_the_steps_asked_for_from_when_it_was_made(forecaster: Forecaster, steps: int) -> None:
    made = await forecaster.forecast(HISTORY, MADE_AT, steps)
    assert (made.made_at, made.step, list(made.values)) == (MADE_AT, HISTORY.step, [5.0] * steps)


async def test_the_same_history_gives_the_same_forecast(forecaster: Forecaster) -> None:
    assert await forecaster.forecast(HISTORY, MADE_AT, 3) == await forecaster.forecast(HISTORY, MADE_AT, 3)


async def test_a_history_of_gaps_only_may_be_asked_and_fails_as_a_model_error(forecaster: Forecaster) -> None:
    with pytest.raises(ModelError) as caught:
        await forecaster.forecast(Series(MADE_AT, 60.0, [math.nan] * 3), MADE_AT, 3)
    assert caught.value.reason.replace("_", "").isalpha()
    assert "\n" not in str(caught.value)


async def test_a_cancelled_tick_is_left_at_once(forecaster: Forecaster) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await forecaster.forecast(HISTORY, MADE_AT, 3)
    assert scope.cancelled_caught


def test_a_forecaster_has_a_name_that_can_be_a_label(forecaster: Forecaster) -> None:
    assert forecaster.name.isidentifier()
