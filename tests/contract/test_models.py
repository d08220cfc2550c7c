# SPDX-License-Identifier: Apache-2.0
"""One suite for every model that computes in the process: a valid forecast or a ModelError, and nothing else."""

import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kedastral.core.forecast import Forecast
from kedastral.core.model import Model
from kedastral.core.series import Floats, Series
from kedastral.errors import ModelError
from kedastral.models import MODELS

AT = datetime(2026, 3, 9, 8, 17, 3, 250_000, tzinfo=UTC)
NAN = math.nan
DAY = 1440

every_model = pytest.mark.parametrize("name", MODELS)


def day_of_load(minutes: int) -> Floats:
    """A load with a daily rise and fall, and a little reproducible noise."""
    t = np.arange(minutes)
    load: Floats = 200 - 100 * np.cos(2 * np.pi * t / DAY) + 5 * np.sin(t * 1.7) + 3 * np.sin(t * 0.31)
    return load


def with_values(values: Floats, where: slice | int, value: float) -> Floats:
    changed = values.copy()
    changed[where] = value
    return changed


HISTORIES: dict[str, tuple[float, Floats]] = {
    "half an hour": (60, day_of_load(30)),
    "three days": (60, day_of_load(3 * DAY)),
    "one point": (60, np.array([42.0])),
    "two points": (60, np.array([42.0, 43.0])),
    "all zero": (60, np.zeros(300)),
    "a constant": (60, np.full(300, 17.3)),
    "gaps at the end": (60, with_values(day_of_load(300), slice(-40, None), NAN)),
    "gaps at the start": (60, with_values(day_of_load(300), slice(0, 280), NAN)),
    "one value among gaps": (60, with_values(np.full(300, NAN), 7, 5.0)),
    "half a day missing": (60, with_values(day_of_load(3 * DAY), slice(DAY, DAY + DAY // 2), NAN)),
    "one point a million times the rest": (60, with_values(day_of_load(2 * DAY), 2000, 2e8)),
    "the newest point a million times the rest": (60, with_values(day_of_load(60), -1, 2e8)),
    "a step up": (60, np.repeat([100.0, 1000.0], 150)),
    "a step down to nothing": (60, np.repeat([1000.0, 0.0], 150)),
    "a drop to nothing on a ramp": (60, np.append(np.linspace(1, 100, 60), 0.0)),
    "tiny loads": (60, day_of_load(300) * 1e-300),
    "huge loads": (60, day_of_load(300) * 1e290),
    "seconds": (1, day_of_load(2 * 3600)),
    "five minutes": (300, day_of_load(14 * 288)),
    "an hour": (3600, day_of_load(14 * 24)),
    "an odd step": (97, day_of_load(500)),
    "a day of seconds": (1, day_of_load(86400)),
    "400 days": (300, day_of_load(400 * 288)),
    "three times the level since a minute": (60, np.append(day_of_load(3 * DAY), 3 * day_of_load(DAY)[:1])),
    "a third of the level since ten minutes": (60, np.append(day_of_load(3 * DAY), day_of_load(DAY)[:10] / 3)),
}

WITHOUT_VALUES: dict[str, tuple[float, Floats]] = {
    "empty": (60, np.array([])),
    "one gap": (60, np.array([NAN])),
    "all gaps": (60, np.full(300, NAN)),
}


def series(step: float, values: Floats) -> Series:
    """A history whose newest point is less than a step before `AT`, off the forecast's grid."""
    return Series(AT - timedelta(seconds=(len(values) - 0.5) * step), step, values)


def forecast(model: Model, history: Series, steps: int = 30) -> Forecast | None:
    """A checked forecast, or None for a ModelError; any other exception fails the test."""
    try:
        made = model.forecast(history, AT, steps)
    except ModelError:
        return None
    assert isinstance(made, Forecast)
    assert made.made_at == AT
    assert made.step == history.step
    assert made.values.shape == (steps,)
    assert np.isfinite(made.values).all()
    assert (made.values >= 0).all()
    return made


@every_model
def test_a_model_knows_the_name_it_is_chosen_by(name: str) -> None:
    assert MODELS[name].make().name == name
    assert MODELS[name].default_window > 0


@every_model
@pytest.mark.parametrize("kind", HISTORIES)
@pytest.mark.parametrize("steps", [1, 30, 90])
def test_every_history_gives_a_valid_forecast_or_a_model_error(name: str, kind: str, steps: int) -> None:
    forecast(MODELS[name].make(), series(*HISTORIES[kind]), steps)


@every_model
@pytest.mark.parametrize("kind", ["half an hour", "three days", "half a day missing", "seconds", "five minutes"])
def test_an_ordinary_history_gives_a_forecast(name: str, kind: str) -> None:
    assert forecast(MODELS[name].make(), series(*HISTORIES[kind])) is not None


@every_model
@pytest.mark.parametrize("kind", WITHOUT_VALUES)
def test_a_history_without_values_is_a_model_error(name: str, kind: str) -> None:
    assert forecast(MODELS[name].make(), series(*WITHOUT_VALUES[kind])) is None


@every_model
@pytest.mark.parametrize("kind", HISTORIES)
def test_the_same_input_gives_the_same_output(name: str, kind: str) -> None:
    model, history = MODELS[name].make(), series(*HISTORIES[kind])

    first = forecast(model, history)
    forecast(model, series(*HISTORIES["three days"]))  # what a model saw of another load changes nothing

    assert forecast(model, history) == first
    assert forecast(MODELS[name].make(), history) == first


@every_model
def test_a_model_leaves_its_history_alone(name: str) -> None:
    history = series(*HISTORIES["half a day missing"])
    before = history.values.copy()

    forecast(MODELS[name].make(), history)

    np.testing.assert_array_equal(history.values, before)


@every_model
def test_no_load_at_all_is_forecast_to_stay(name: str) -> None:
    made = forecast(MODELS[name].make(), series(*HISTORIES["all zero"]))

    assert made is None or made.values.max() < 1e-6


@every_model
@given(
    values=st.lists(st.floats(0, 1e12) | st.just(NAN), max_size=150),
    step=st.sampled_from([1.0, 60.0, 300.0, 3600.0]),
    steps=st.integers(1, 60),
)
def test_any_history_gives_a_valid_forecast_or_a_model_error(
    name: str, values: list[float], step: float, steps: int
) -> None:
    forecast(MODELS[name].make(), series(step, np.array(values, dtype=np.float64)), steps)
