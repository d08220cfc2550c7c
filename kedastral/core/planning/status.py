# SPDX-License-Identifier: Apache-2.0
"""`ForecastStatus`: whether a model's forecast is what is planned for, and if not, why not."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

import attrs

from kedastral.core.series import Series
from kedastral.errors import QueryError, SourceError, WorkloadError


class StatusCode(StrEnum):
    """How a workload's forecast stands; every one but ``ok`` means that something else is planned for."""

    OK = "ok"
    LEARNING = "learning"
    TOO_LITTLE_HISTORY = "too-little-history"
    STANDING_DOWN = "standing-down"
    MODEL_FAILED = "model-failed"


@attrs.frozen
class ForecastStatus:
    """A status with its ``reason`` in plain words, empty where all is well."""

    code: StatusCode = StatusCode.OK
    reason: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether the model's own forecast is what is planned for."""
        return self.code is StatusCode.OK

    @property
    def may_take_back(self) -> bool:
        """Whether a plan may want less than a model's plan before: by a newer forecast, or since those lose."""
        return self.code in (StatusCode.OK, StatusCode.STANDING_DOWN)


OK = ForecastStatus()
STANDS_DOWN = ForecastStatus(StatusCode.STANDING_DOWN, "the forecast loses to the last value")


def learning_from(history: Series) -> ForecastStatus:
    """The model has not learnt from ``history`` yet."""
    return ForecastStatus(StatusCode.LEARNING, f"learning from {write_span(span_of(history))} of history")


def too_little(history: Series, need: float) -> ForecastStatus:
    """``history`` is shorter than the ``need`` seconds from which on a model may lead."""
    have = f"have {write_span(span_of(history))}, need {write_span(need)}"
    return ForecastStatus(StatusCode.TOO_LITTLE_HISTORY, f"not enough history: {have}")


def model_failed(error: Exception) -> ForecastStatus:
    """The model raised ``error``, or gave what is no forecast."""
    return ForecastStatus(StatusCode.MODEL_FAILED, f"the model failed: {error}")


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


# --- `LastFailure`: why a workload's newest tick gave no forecast, in words that whoever asks for it may read.

LONGEST = 300
"""Characters of what is told of a refusal: KEDA shows it in an event."""

WORDS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("source", "unreachable"): "its Prometheus cannot be reached",
        ("source", "timeout"): "its Prometheus did not answer in time",
        ("source", "http_status"): "its Prometheus answered with an error",
        ("source", "refused"): "its Prometheus refuses the request",
        ("source", "bad_answer"): "what its Prometheus answered is nothing to forecast from",
        ("source", "credentials"): "the credentials for its Prometheus cannot be read",
        ("source", "empty"): "the query matched nothing",
        ("source", "no_load"): "the query matched, but every value is NaN, infinite or negative",
        ("source", "stale"): "the newest value of the query is too old",
        ("model", "unreachable"): "its model cannot be reached",
        ("model", "timeout"): "its model did not answer in time",
        ("model", "http_status"): "its model answered with an error",
        ("model", "too_large"): "its model answered too much",
        ("model", "bad_answer"): "what its model gave is no forecast",
        ("model", "exception"): "its model failed",
        ("model", "no_history"): "there is no history to forecast from",
        ("store", "older"): "there is a later forecast already: the clock was set back",
    }
)
"""What the components and reasons of the metrics mean to whoever has the workload."""


@attrs.frozen
class Failure:
    """What failed ``at`` a moment: ``component`` and ``reason`` as in the metrics.

    ``refusal`` is what Prometheus says of the query, where that is what is wrong: whoever wrote it must change it.
    """

    at: datetime
    component: str
    reason: str
    refusal: str = ""

    @property
    def words(self) -> str:
        """One line, without addresses: those are the operator's business."""
        if self.refusal:
            return f"Prometheus refuses the query: {self.refusal}"
        words = WORDS.get((self.component, self.reason), "the newest attempt failed")
        return f"{words} ({self.component}: {self.reason})"


@attrs.define
class LastFailure:
    """Why the newest tick of one member of a fleet failed; its successor, which may ask otherwise, begins without one.

    It holds until a tick succeeds, whatever the clock shows by then. ``answered`` says whether what is asked now was
    ever answered.
    """

    answered: bool = False
    value: Failure | None = None

    def note(self, error: WorkloadError, at: datetime) -> None:
        """Remember ``error``. Where it is not the source's, that has answered."""
        refusal = error.refusal[:LONGEST] if isinstance(error, QueryError) else ""
        self.value = Failure(at, error.component, error.reason, refusal)
        self.answered = self.answered or not isinstance(error, SourceError)

    def note_success(self) -> None:
        """The newest tick gave a forecast."""
        self.value, self.answered = None, True

    def refused_from_the_start(self, *, has_plan: bool) -> Failure | None:
        """The failure, where the query is refused and has never given anything to plan for: it is wrong.

        A query that has worked may be refused for a while, by series that are there twice: the plan goes on.
        """
        failure, worked = self.value, self.answered and has_plan
        return None if failure is None or not failure.refusal or worked else failure
