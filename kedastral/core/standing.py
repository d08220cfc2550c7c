# SPDX-License-Identifier: Apache-2.0
"""`Standing`: whether a model's forecast is what is planned for, and if not, why not."""

from datetime import timedelta
from enum import StrEnum

import attrs

from kedastral.core.series import Series


class Status(StrEnum):
    """How a workload's forecast stands; every one but ``ok`` means that something else is planned for."""

    OK = "ok"
    LEARNING = "learning"
    TOO_LITTLE_HISTORY = "too-little-history"
    STANDING_DOWN = "standing-down"
    MODEL_FAILED = "model-failed"


@attrs.frozen
class Standing:
    """A status with its ``reason`` in plain words, empty where all is well."""

    status: Status = Status.OK
    reason: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the model's own forecast is what is planned for."""
        return self.status is Status.OK

    @property
    def may_take_back(self) -> bool:
        """Whether a plan may want less than a model's plan before: by a newer forecast, or since those lose."""
        return self.status in (Status.OK, Status.STANDING_DOWN)


OK = Standing()
STANDS_DOWN = Standing(Status.STANDING_DOWN, "the forecast loses to the last value")


def learning_from(history: Series) -> Standing:
    """The model has not learnt from ``history`` yet."""
    return Standing(Status.LEARNING, f"learning from {write_span(span_of(history))} of history")


def too_little(history: Series, need: float) -> Standing:
    """``history`` is shorter than the ``need`` seconds from which on a model may lead."""
    have = f"have {write_span(span_of(history))}, need {write_span(need)}"
    return Standing(Status.TOO_LITTLE_HISTORY, f"not enough history: {have}")


def model_failed(error: Exception) -> Standing:
    """The model raised ``error``, or gave what is no forecast."""
    return Standing(Status.MODEL_FAILED, f"the model failed: {error}")


def span_of(history: Series) -> float:
    """Seconds from the first to the newest value that is no gap, both counted; 0 where there is none."""
    newest, first = history.newest, history.first
    if newest is None or first is None:
        return 0.0
    return (newest.at - first.at).total_seconds() + history.step


def write_span(seconds: float) -> str:
    """``14 d``, ``3 h``, ``20 min`` or ``45 s``: in the largest unit of which there are at least two."""
    whole = timedelta(seconds=round(seconds * 1.005))  # two weeks that lack a minute are two weeks
    for name, unit in (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1))):
        if whole >= 2 * unit:
            return f"{whole // unit} {name}"
    return f"{round(seconds)} s"
