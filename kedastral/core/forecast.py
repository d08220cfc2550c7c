# SPDX-License-Identifier: Apache-2.0
"""`Forecast`: what a model says the load will be."""

from datetime import datetime

import attrs
import numpy as np

from kedastral.core.series import Floats, frozen_floats, require_positive, require_utc, same_array


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

    ``error`` is relative to that of the last value at that horizon, None where nothing has been judged yet.
    """

    name: str
    ahead: float
    weight: float
    error: float | None


@attrs.frozen
class Forecast:
    """``values[i]`` is the load expected over ``[made_at + i * step, made_at + (i + 1) * step)``.

    ``values`` has shape (horizon / step,); finite and >= 0, or the constructor raises ValueError. ``step`` is in
    seconds. ``experts`` says whose forecast it is, where a model is made of several.
    """

    made_at: datetime = attrs.field(validator=require_utc)
    step: float = attrs.field(validator=require_positive)
    values: Floats = attrs.field(converter=frozen_floats, validator=_require_loads, eq=attrs.cmp_using(eq=same_array))
    experts: tuple[ExpertView, ...] = ()

    @property
    def horizon(self) -> float:
        """How far the forecast reaches, in seconds."""
        return self.step * len(self.values)
