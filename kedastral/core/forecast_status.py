# SPDX-License-Identifier: Apache-2.0
"""`ForecastStatus`: whether a workload's plan follows the model's forecast, and if not, why, in plain words.

Every snapshot carries one. Why ticks fail is in `kedastral.core.failures`.
"""

from datetime import timedelta
from enum import StrEnum

import attrs

from kedastral.core.series import Series


class StatusCode(StrEnum):
    """The state of a workload's forecast; unless it is ``ok``, the plan follows something else."""

    OK = "ok"
    LEARNING = "learning"
    TOO_LITTLE_HISTORY = "too-little-history"
    STANDING_DOWN = "standing-down"
    MODEL_FAILED = "model-failed"


@attrs.frozen
class ForecastStatus:
    """A status code with its ``reason`` in plain words, empty when the code is ok."""

    code: StatusCode = StatusCode.OK
    reason: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the plan follows the model's own forecast."""
        return self.code is StatusCode.OK

    @property
    def awaits_model(self) -> bool:
        """Whether a model's forecast should come soon. If the history is too short, it may take days."""
        return self.code in (StatusCode.LEARNING, StatusCode.MODEL_FAILED)

    @property
    def replaces_model_plan(self) -> bool:
        """Whether a plan may go below the last plan made from a model's forecast.

        It may if there is a newer forecast, or if the model's forecasts are worse than the last value.
        """
        return self.code in (StatusCode.OK, StatusCode.STANDING_DOWN)


OK = ForecastStatus()
STANDING_DOWN = ForecastStatus(StatusCode.STANDING_DOWN, "the forecast is worse than a naive forecast")


def learning_from(history: Series) -> ForecastStatus:
    """The model has not been fitted to ``history`` yet."""
    return ForecastStatus(StatusCode.LEARNING, f"learning from {format_span(span_of(history))} of history")


def too_little_history(history: Series, needed: float) -> ForecastStatus:
    """``history`` is shorter than the ``needed`` seconds before a plan may follow a model."""
    have = f"have {format_span(span_of(history))}, need {format_span(needed)}"
    return ForecastStatus(StatusCode.TOO_LITTLE_HISTORY, f"not enough history: {have}")


def model_failed(error: Exception) -> ForecastStatus:
    """The model raised ``error``, or its answer was not a forecast."""
    return ForecastStatus(StatusCode.MODEL_FAILED, f"the model failed: {error}")


def span_of(history: Series) -> float:
    """Seconds from the first to the newest value that is not a gap, both included; 0 if all are gaps."""
    newest, first = history.newest, history.first
    if newest is None or first is None:
        return 0.0
    return (newest.at - first.at).total_seconds() + history.step


def format_span(seconds: float) -> str:
    """``14 d``, ``3 h``, ``20 min`` or ``45 s``: the largest unit that gives at least two."""
    whole = timedelta(seconds=round(seconds * 1.005))  # two weeks less a minute still count as two weeks
    for name, unit in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1))):
        if whole >= 2 * unit:
            return f"{whole // unit} {name}"
    return f"{round(seconds)} s"
