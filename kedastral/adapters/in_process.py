# SPDX-License-Identifier: Apache-2.0
"""`InProcessForecaster`: a model that runs in this process, behind the `kedastral.core.ports.Forecaster` port."""

from datetime import datetime

import attrs
import trio

from kedastral.core.forecast import Forecast
from kedastral.core.model import Model, TrainableModel
from kedastral.core.series import Series
from kedastral.errors import ModelError
from kedastral.text import one_line


@attrs.frozen
class InProcessForecaster:
    """Calls ``model`` on the event loop, or in a thread if that takes long.

    ``computing`` limits how many threads run at once; None means on the event loop.
    """

    model: Model
    computing: trio.CapacityLimiter | None = None

    @property
    def name(self) -> str:
        """The model's own name."""
        return self.model.name

    async def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.ports.Forecaster.forecast`.

        Raises ModelError: the model's own, with reason exception for anything else it raises, and bad_answer for a
        forecast other than the requested one. Whatever the model does, the process continues.
        """
        await trio.lowlevel.checkpoint()
        try:
            made: object = await self._ask(history, made_at, steps)
        except ModelError:
            raise
        except Exception as error:
            words = one_line(f"{type(error).__name__}: {error}")
            raise ModelError(f"model {self.name} raised {words}", reason="exception") from error
        if not isinstance(made, Forecast):
            raise self._misfit(f"a {type(made).__name__} instead of a Forecast")
        if (made.made_at, made.step, len(made.values)) != (made_at, history.step, steps):
            due = f"{steps} steps of {history.step:g} s from {made_at:%Y-%m-%dT%H:%M:%SZ}"
            got = f"{len(made.values)} of {made.step:g} s from {made.made_at:%Y-%m-%dT%H:%M:%SZ}"
            raise self._misfit(f"{got} instead of {due}")
        return made

    async def _ask(self, history: Series, made_at: datetime, steps: int) -> object:
        if self.computing is None:
            return self.model.forecast(history, made_at, steps)
        # abandoned when the process stops: it may have seconds of work left
        return await trio.to_thread.run_sync(
            self.model.forecast, history, made_at, steps, abandon_on_cancel=True, limiter=self.computing
        )

    def _misfit(self, what: str) -> ModelError:
        return ModelError(f"model {self.name} gave {what}", reason="bad_answer")


@attrs.frozen
class InferenceOnly:
    """A `kedastral.core.model.TrainableModel` that forecasts with its current fit, and never fits by itself."""

    model: TrainableModel

    @property
    def name(self) -> str:
        """The model's own name."""
        return self.model.name

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `TrainableModel.recall`."""
        return self.model.recall(history, made_at, steps)
