# SPDX-License-Identifier: Apache-2.0
"""`Remembered`: a model that forecasts each moment once, for sweeps that replay one trial at many settings."""

from datetime import datetime

from kedastral.core.forecast import Forecast
from kedastral.core.ports import Model
from kedastral.core.series import Series

_Moment = tuple[datetime, float, int, datetime, int]


class Remembered:
    """The model's own forecasts, kept by the moment and the history's place in time.

    Right for as long as all histories are cut from one and the same demand: make one for each trial. What fails is
    not remembered.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._forecasts: dict[_Moment, Forecast] = {}

    @property
    def name(self) -> str:
        """The model's own."""
        return self._model.name

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.ports.Model.forecast`."""
        moment = (history.start, history.step, len(history), made_at, steps)
        if moment not in self._forecasts:
            self._forecasts[moment] = self._model.forecast(history, made_at, steps)
        return self._forecasts[moment]
