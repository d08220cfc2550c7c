# SPDX-License-Identifier: Apache-2.0
"""A model cannot crash the process, nor return a forecast that was not asked for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
import trio

from kedastral.adapters.in_process import InProcessForecaster
from kedastral.core.forecast import Forecast
from kedastral.core.series import Series
from kedastral.errors import ModelError

MADE_AT = datetime(2024, 1, 1, tzinfo=UTC)
HISTORY = Series(MADE_AT - timedelta(minutes=2), 60.0, [1, 2])


@attrs.frozen
class Stub:
    """Gives or raises what it was made with."""

    outcome: Any
    name = "stub"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome  # type: ignore[no-any-return]


async def raised_by(outcome: Any) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await InProcessForecaster(Stub(outcome)).forecast(HISTORY, MADE_AT, 3)
    return caught.value


async def test_the_forecast_and_the_name_are_the_models() -> None:
    made = Forecast(MADE_AT, 60.0, [1, 2, 3])
    forecaster = InProcessForecaster(Stub(made))
    assert await forecaster.forecast(HISTORY, MADE_AT, 3) is made
    assert forecaster.name == "stub"


@pytest.mark.parametrize("error", [ValueError("two\nlines"), ZeroDivisionError(), KeyError("x"), RecursionError()])
async def test_whatever_a_model_raises_is_a_model_error_with_its_cause(error: Exception) -> None:
    caught = await raised_by(error)
    assert caught.reason == "exception"
    assert caught.__cause__ is error
    assert f"model stub raised {type(error).__name__}" in str(caught)
    assert "\n" not in str(caught)


async def test_a_models_own_model_error_passes_unchanged() -> None:
    error = ModelError("no history", reason="no_history")
    assert await raised_by(error) is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
async def test_an_order_to_stop_is_no_model_error(error: BaseException) -> None:
    with pytest.raises(type(error)):
        await InProcessForecaster(Stub(error)).forecast(HISTORY, MADE_AT, 3)


@pytest.mark.parametrize(
    "outcome",
    [
        Forecast(MADE_AT, 60.0, [1, 2]),
        Forecast(MADE_AT, 60.0, [1, 2, 3, 4]),
        Forecast(MADE_AT, 30.0, [1, 2, 3]),
        Forecast(MADE_AT + timedelta(minutes=1), 60.0, [1, 2, 3]),
        [1, 2, 3],
        None,
    ],
)
async def test_a_forecast_other_than_the_one_asked_for_is_refused(outcome: Any) -> None:
    assert (await raised_by(outcome)).reason == "bad_answer"


async def test_a_cancelled_tick_asks_no_model() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await InProcessForecaster(Stub(AssertionError())).forecast(HISTORY, MADE_AT, 3)
    assert scope.cancelled_caught
