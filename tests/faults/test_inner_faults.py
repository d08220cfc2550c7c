# SPDX-License-Identifier: Apache-2.0
"""A model, a store or a wall clock that fails, and what KEDA is told meanwhile, second by second, under each policy."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime

import attrs
import httpx
import pytest
import trio
from trio.testing import MockClock

from kedastral.adapters.http_model import HttpForecaster, open_model_client
from kedastral.adapters.in_process import InProcessForecaster
from kedastral.core.forecast import Forecast
from kedastral.core.planning.stale_policy import OnStale
from kedastral.core.ports import Forecaster
from kedastral.core.series import Series
from kedastral.errors import ModelError
from tests.adapters.answers import Reply, failure, reply
from tests.parts import START

from .pair import Pair, ShiftingClock
from .timelines import CLOCK_OFF, LOST, MODEL_LOST


@attrs.frozen
class BadModel:
    """A model in this process; ``say`` makes its values or failure."""

    say: Callable[[int], Sequence[float]]
    name: str = "bad"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.model.Model.forecast`."""
        return Forecast(made_at, history.step, list(self.say(steps)))


def in_process(say: Callable[[int], Sequence[float]]) -> Forecaster:
    return InProcessForecaster(BadModel(say))


def over_http(say: Reply) -> Forecaster:
    return HttpForecaster(open_model_client("http://model.example", transport=httpx.MockTransport(say)))


def never_answering() -> Forecaster:
    async def hang(_request: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError

    client = open_model_client("http://model.example", transport=httpx.MockTransport(hang))
    return HttpForecaster(client)


def divide(steps: int) -> Sequence[float]:
    return [1 / 0] * steps


MODELS: dict[str, Callable[[], Forecaster]] = {
    "raises": lambda: in_process(divide),
    "gives NaN": lambda: in_process(lambda steps: [math.nan] * steps),
    "gives infinities": lambda: in_process(lambda steps: [math.inf] * steps),
    "gives negative values": lambda: in_process(lambda steps: [-1.0] * steps),
    "gives too few values": lambda: in_process(lambda steps: [1.0] * (steps - 1)),
    "gives too many values": lambda: in_process(lambda steps: [1.0] * (steps + 1)),
    "never answers over HTTP": never_answering,
    "refuses over HTTP": lambda: over_http(failure(httpx.ConnectError)),
    "answers 500": lambda: over_http(reply(500)),
    "answers HTML": lambda: over_http(reply(text="<!doctype html>")),
    "answers NaN": lambda: over_http(reply(text='{"values": [' + "NaN," * 29 + "NaN]}")),
    "answers one value": lambda: over_http(reply(json={"values": [1]})),
}


@pytest.mark.parametrize("fault", MODELS)
async def test_without_a_model_the_floor_still_rises_with_the_load(autojump_clock: MockClock, fault: str) -> None:
    seen = await Pair(forecaster=MODELS[fault]()).play()
    assert {error.partition("/")[0] for error in seen.errors} == {"model"}
    for policy in OnStale:
        assert seen.runs(policy) == MODEL_LOST[policy]
    assert seen.disturbed() == []
    assert seen.too_few(OnStale.RIDE_FORECAST) == seen.too_few(OnStale.ERROR) == []


async def test_a_store_that_takes_no_plan_is_as_no_plan(autojump_clock: MockClock) -> None:
    seen = await Pair(store_fails=True).play()
    assert set(seen.errors) == {"store/full"}
    for policy in OnStale:
        assert seen.runs(policy) == LOST[policy]
    assert seen.disturbed() == []
    assert seen.too_few(OnStale.RIDE_FORECAST) == seen.too_few(OnStale.ERROR) == []


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
async def test_with_a_wall_clock_an_hour_off_nothing_is_planned_until_it_is_right(
    autojump_clock: MockClock, seconds: float
) -> None:
    seen = await Pair(clock=ShiftingClock(seconds), clock_is_faulty=True).play()
    for policy in OnStale:
        assert seen.runs(policy) == CLOCK_OFF[policy]
    assert seen.too_few(OnStale.RIDE_FORECAST) == seen.too_few(OnStale.ERROR) == []


async def test_work_that_dies_in_its_thread_leaves_the_thread_to_the_next() -> None:
    one_thread, history = trio.CapacityLimiter(1), Series(START, 60.0, [400.0] * 30)
    for _ in range(3):
        with pytest.raises(ModelError, match="ZeroDivisionError"):
            await InProcessForecaster(BadModel(divide), one_thread).forecast(history, START, 5)
    made = await InProcessForecaster(BadModel(lambda steps: [7.0] * steps), one_thread).forecast(history, START, 5)
    assert made.values.tolist() == [7.0] * 5
    assert one_thread.borrowed_tokens == 0
