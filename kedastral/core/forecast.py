# SPDX-License-Identifier: Apache-2.0
"""`Forecast`: the load that a model expects, step by step."""

import math
from datetime import datetime
from typing import Any

import attrs
import numpy as np

from kedastral.core.forecast_status import OK, ForecastStatus
from kedastral.core.series import Floats, Series, frozen_floats, require_positive, require_utc, same_array


def _require_loads(_instance: object, attribute: "attrs.Attribute[Floats]", values: Floats) -> None:
    if not len(values):
        raise ValueError(f"{attribute.name} must not be empty")
    if not np.isfinite(values).all():
        raise ValueError(f"{attribute.name} must all be finite")
    if (values < 0).any():
        raise ValueError(f"{attribute.name} must all be >= 0")


@attrs.frozen
class ExpertView:
    """One expert of an ensemble at one horizon, ``ahead`` seconds: its weight 0..1 and its recent mean absolute error.

    ``error`` is relative to that of the last value at that horizon, None if nothing has been judged yet.
    """

    name: str
    ahead: float
    weight: float
    error: float | None


def _frozen_table(values: Any) -> Floats:
    """A read-only float64 copy of a table."""
    table = np.array(values, dtype=np.float64, copy=True, ndmin=2)
    table.flags.writeable = False
    return table


@attrs.frozen
class Experts:
    """The experts of an ensemble at each of its horizons.

    ``names`` (experts,); ``ahead`` (horizons,) in seconds; ``weights`` and ``errors`` (experts, horizons), as in
    `ExpertView`, NaN if nothing has been judged; other shapes raise ValueError. They are tables, not one object per
    expert, because garbage collection visits every object and each of a thousand workloads has a forecast.
    """

    names: tuple[str, ...]
    ahead: Floats = attrs.field(converter=frozen_floats, eq=attrs.cmp_using(eq=same_array))
    weights: Floats = attrs.field(converter=_frozen_table, eq=attrs.cmp_using(eq=same_array))
    errors: Floats = attrs.field(converter=_frozen_table, eq=attrs.cmp_using(eq=same_array))

    def __attrs_post_init__(self) -> None:
        shape = (len(self.names), len(self.ahead))
        if not self.weights.shape == self.errors.shape == shape or 0 in shape:
            raise ValueError(f"weights and errors must have shape {shape}, and must not be empty")

    def at(self, ahead: float) -> tuple[ExpertView, ...]:
        """Each expert at the horizon nearest to ``ahead`` seconds."""
        k = int(np.abs(self.ahead - ahead).argmin())
        return tuple(
            ExpertView(name, float(self.ahead[k]), float(weight), None if np.isnan(error) else float(error))
            for name, weight, error in zip(self.names, self.weights[:, k], self.errors[:, k], strict=True)
        )


@attrs.frozen
class Forecast:
    """``values[i]`` is the load expected over ``[made_at + i * step, made_at + (i + 1) * step)``.

    ``values`` has shape (horizon / step,); finite and >= 0, or the constructor raises ValueError. ``step`` is in
    seconds. ``experts`` are set if the model is an ensemble. If ``status`` is not ok, the forecast is the last value
    instead of the model's (`fallback_forecast`).
    """

    made_at: datetime = attrs.field(validator=require_utc)
    step: float = attrs.field(validator=require_positive)
    values: Floats = attrs.field(converter=frozen_floats, validator=_require_loads, eq=attrs.cmp_using(eq=same_array))
    experts: Experts | None = None
    status: ForecastStatus = OK

    @property
    def horizon(self) -> float:
        """How far the forecast reaches, in seconds."""
        return self.step * len(self.values)

    def index_at(self, ahead: float) -> int | None:
        """The step that is in progress ``ahead`` seconds after the forecast was made; None outside the forecast."""
        index = math.floor(ahead / self.step)
        return index if 0 <= index < len(self.values) else None

    def experts_at(self, ahead: float) -> tuple[ExpertView, ...]:
        """The experts at the horizon nearest to ``ahead`` seconds; empty if the model is not an ensemble."""
        return () if self.experts is None else self.experts.at(ahead)


def fallback_forecast(history: Series, made_at: datetime, steps: int, status: ForecastStatus) -> Forecast:
    """The newest value for every step, used while the model gives no forecast. Raises ValueError without a value."""
    newest = history.newest
    if newest is None:
        raise ValueError("the history has no value to forecast from")
    return Forecast(made_at, history.step, np.full(steps, newest.value), status=status)
