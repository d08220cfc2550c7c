# SPDX-License-Identifier: Apache-2.0
"""`Model`: what a forecast model in this process must do, and what more it may do."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from kedastral.core.forecast import Forecast
from kedastral.core.series import Floats, Series


class Model(Protocol):
    """A forecast model in this process. It is pure: the same input gives the same output."""

    @property
    def name(self) -> str:
        """The name by which it is configured."""
        ...

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """The load over the ``steps`` steps of ``history.step`` seconds that begin at ``made_at``.

        ``history`` may hold gaps, even only gaps. Raises `kedastral.errors.ModelError` if no forecast can be made.
        """
        ...


@runtime_checkable
class TrainableModel(Model, Protocol):
    """A model that is fitted to a history once, slowly, and then forecasts quickly as the history grows."""

    def recall(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """Like `forecast`, but raises `kedastral.errors.NotFittedError` if the model must be fitted first."""
        ...

    def learn(self, history: Series, made_at: datetime, steps: int) -> Sequence[Forecast]:
        """Fit the model; returns the forecasts it would have made in the last hours, one per step, oldest first.

        Each is made without the load that it forecasts. Raises `kedastral.errors.ModelError` like `forecast`.
        """
        ...


@runtime_checkable
class RestorableModel(TrainableModel, Protocol):
    """A model whose fit can be kept, so that the next process need not fit it again."""

    def memory(self) -> Mapping[str, Floats] | None:
        """All that the model has learnt, as one-dimensional arrays; None if it has not been fitted."""
        ...

    def restore(self, memory: Mapping[str, Floats]) -> None:
        """Continue from what `memory` returned in the same version. Raises ValueError if it is from another model."""
        ...
