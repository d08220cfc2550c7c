# SPDX-License-Identifier: Apache-2.0
"""Warming up: the forecasts a model would have made are judged as if it had been running."""

from datetime import UTC, datetime, timedelta

import attrs
import numpy as np
import pytest

from kedastral.core.forecast import Forecast
from kedastral.core.model import TrainableModel
from kedastral.core.planning.calibration import calibrate_on, rolling_forecasts, warm_up
from kedastral.core.planning.peak_regression import predict_peaks
from kedastral.core.series import Floats, Series
from kedastral.errors import ModelError, NotFittedError
from kedastral.models import MODELS
from kedastral.models.auto import AutoModel
from kedastral.models.naive import LastValue

NOW = datetime(2026, 3, 9, 8, 17, 3, 250_000, tzinfo=UTC)
STEPS, WINDOW = 30, 8


def history_of(values: Floats, step: float = 60.0) -> Series:
    return Series(NOW - timedelta(seconds=(len(values) - 0.5) * step), step, values)


def noisy(minutes: int) -> Floats:
    t = np.arange(minutes)
    noise = np.exp(0.1 * np.random.default_rng(5).standard_normal(minutes))
    return np.asarray((200 - 100 * np.cos(2 * np.pi * t / 1440)) * noise)


def test_past_forecasts_do_not_know_the_load_they_forecast() -> None:
    load = noisy(3 * 1440)
    changed = load.copy()
    changed[-60:] *= 3

    before = AutoModel().learn(history_of(load), NOW, STEPS)
    after = AutoModel().learn(history_of(changed), NOW, STEPS)

    early = [f for f in before if f.made_at < NOW - timedelta(minutes=61)]
    assert len(early) > 250
    for one, other in zip(early, after, strict=False):
        assert one.made_at == other.made_at
        # the scale of the logarithm, from the mean of the whole history, is all that may differ
        assert one.values == pytest.approx(other.values, rel=0.02)


@pytest.mark.parametrize("step", [10.0, 60.0, 300.0])
def test_fitting_calibrates_like_rolling_forecasts(step: float) -> None:
    history = history_of(noisy(round(3 * 86400 / step)), step)
    model = AutoModel()

    fitted = warm_up(model, history, STEPS, WINDOW, made_at=NOW)
    rolled = calibrate_on(rolling_forecasts(AutoModel(), history, STEPS, 200), history, WINDOW)

    assert isinstance(model, TrainableModel)
    assert fitted.model.windows > 50
    assert fitted.model.margins[0] == pytest.approx(rolled.model.margins[0], rel=0.5)
    assert fitted.last.margins[0] == pytest.approx(rolled.last.margins[0], rel=0.5)


def test_a_model_recalls_what_it_was_fitted_to_and_must_be_fitted_first() -> None:
    history, model = history_of(noisy(1440)), AutoModel()

    with pytest.raises(NotFittedError):
        model.recall(history, NOW, STEPS)
    model.learn(history, NOW, STEPS)

    assert model.recall(history, NOW, STEPS) == AutoModel().forecast(history, NOW, STEPS)
    with pytest.raises(NotFittedError):
        model.recall(history_of(noisy(1440)[::-1]), NOW, STEPS)


@pytest.mark.parametrize("values", [np.array([]), np.full(50, np.nan)])
def test_nothing_can_be_learnt_from_nothing(values: Floats) -> None:
    with pytest.raises(ModelError):
        warm_up(AutoModel(), history_of(values), STEPS, WINDOW, made_at=NOW)
    assert warm_up(LastValue(), history_of(values), STEPS, WINDOW).last.windows == 0


@attrs.frozen
class Doubling:
    """A model that forecasts twice the newest value, and fails if that is 7."""

    name: str = "doubling"

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        newest = history.newest
        assert newest is not None
        if newest.value == 7:
            raise ModelError("seven", reason="exception")
        return Forecast(made_at, history.step, np.full(steps, 2 * newest.value))


def rolled(values: Floats, most: int) -> dict[int, float]:
    """The forecast made at each index of ``values``."""
    history = history_of(np.asarray(values, dtype=float))
    made = list(rolling_forecasts(Doubling(), history, 3, most))
    assert all((one.step, len(one.values)) == (60.0, 3) for one in made)
    places = [round((one.made_at - history.start).total_seconds() / 60) for one in made]
    return dict(zip(places, (float(one.values[0]) for one in made), strict=True))


def test_past_forecasts_are_made_from_the_values_before_each_of_the_last_steps() -> None:
    assert rolled(np.arange(10.0, 20.0), 3) == {6: 32.0, 7: 34.0, 8: 36.0}
    assert list(rolled(np.arange(10.0, 20.0), 99)) == [4, 5, 6, 7, 8], "half of it is left to the model"
    assert rolled(np.array([1.0, 7.0, 3.0, 7.0, 5.0, 6.0]), 99) == {2: 6.0, 4: 10.0}, "where the model can"
    assert rolled(np.array([np.nan] * 6 + [4.0, 5.0, 6.0, np.nan]), 99) == {6: 8.0, 7: 10.0, 8: 12.0}
    assert rolled(np.array([5.0]), 99) == {}


def test_by_default_a_model_is_fitted_as_at_the_end_of_its_history() -> None:
    history = history_of(noisy(1440)[::5], 300.0)
    end = history.time_at(len(history) - 1)
    assert warm_up(AutoModel(), history, 6, 3) == warm_up(AutoModel(), history, 6, 3, made_at=end)
    assert warm_up(AutoModel(), history, 6, 3) != warm_up(
        AutoModel(), history, 6, 3, made_at=end + timedelta(seconds=900)
    )


def test_each_forecast_is_tried_beside_what_the_regression_says_of_the_same_window() -> None:
    history = history_of(noisy(2 * 1440))
    size = len(history)
    moments = [size - 1000, *range(size - 6, size - 1), size + 1]
    made = [Forecast(history.time_at(moment), 60.0, np.full(STEPS, 200.0)) for moment in moments]
    state = calibrate_on(made, history, WINDOW)
    regression = state.regressed.regression
    assert regression is not None
    assert regression.fitted_at == history.time_at(size - 1000).timestamp()
    said = [None if each.regressed is None else each.regressed.maximum for each in state.pending]
    expected = predict_peaks(regression, history, 6).tolist()
    assert said[:-1] == pytest.approx(expected[:-1])
    assert said[-1] is None, "that lies after the history"


def test_a_history_that_ends_before_now_is_judged_where_it_was_measured() -> None:
    load = noisy(1440)
    history = Series(NOW - timedelta(minutes=1440 + 3), 60.0, load)  # three minutes late

    state = warm_up(AutoModel(), history, STEPS, WINDOW, made_at=NOW)

    assert state.model.windows > 300
    assert 0.02 < state.model.margins[0] < 0.5


def test_only_models_that_keep_their_fit_are_trainable() -> None:
    assert [name for name, kind in MODELS.items() if isinstance(kind.make(), TrainableModel)] == ["auto"]
