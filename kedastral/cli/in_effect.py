# SPDX-License-Identifier: Apache-2.0
"""What `validate` shows of a setting that nobody gave and whose default follows from others."""

from typing import Any

from kedastral.config.fields import Setting
from kedastral.config.loading import show
from kedastral.config.units import write_duration, write_value
from kedastral.config.workload_settings import DEFAULT_HEADROOM, ForecastSettings
from kedastral.models import MODELS


def show_in_effect(setting: Setting, settings: Any, value: Any) -> str:
    """The value of ``setting`` in ``settings``, a settings class; where it is none, what holds instead."""
    forecast: ForecastSettings | None = getattr(settings, "forecast", None)
    if value is None and forecast is not None and setting.name == "headroom":
        return show_headroom(str(forecast.model), value)
    if value is None and forecast is not None and setting.name == "window":
        return f"{write_duration(forecast.history_window)} (what {forecast.model} wants)"
    return show(setting, value)


def show_headroom(model: str, headroom: float | None) -> str:
    """The headroom that a model's forecasts are planned with."""
    if headroom is not None:
        return write_value(headroom)
    steered = model in MODELS and MODELS[model].steered
    return "none (steered to the service level)" if steered else write_value(DEFAULT_HEADROOM)
