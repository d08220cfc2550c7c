# SPDX-License-Identifier: Apache-2.0
"""`AutoModel`: experts from last value to ridge, weighed by how well each has forecast this workload lately."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo

import attrs
import numpy as np

from kedastral.core.forecast import Experts, Forecast
from kedastral.core.series import Floats, Series
from kedastral.errors import ModelError, NotLearntError
from kedastral.models.auto.learner import REPLAYED_CLOSELY, Learner, Recalled
from kedastral.models.auto.panel import LAST, NAMES, Answer
from kedastral.models.auto.seasons import Seasons, seasons_of
from kedastral.models.auto.signal import Signal, signal_of

KNOTS = (1, 2, 3, 5, 7, 10, 14, 20, 30, 45, 70, 110, 170, 260, 400, 620, 1000)
"""Steps ahead at which the load is forecast; between them the forecast is a line. Dense where lead times lie."""
TAIL = 16
"""Newest values that a history must share with the one before it to be of the same workload."""


@attrs.frozen(eq=False)
class _Seen:
    """What a forecast is made from: ``history`` as it was given, and as the model sees it."""

    history: Series
    made_at: datetime
    steps: int
    signal: Signal
    seasons: Seasons

    @property
    def knots(self) -> tuple[int, ...]:
        """The horizons to forecast, in steps of the signal."""
        return _knots_up_to(int(np.ceil(self.steps * self.history.step / self.signal.step)))

    def spread(self, loads: Floats) -> Floats:
        """``loads`` (knots,) as one for each step of the forecast: what lies between two knots lies on a line."""
        ahead = (np.arange(self.steps) + 0.5) * (self.history.step / self.signal.step) + 0.5
        values: Floats = np.maximum(np.interp(ahead, self.knots, loads), 0.0)
        return values


class AutoModel:
    """The model for a workload nobody wants to tune: keeps state, so each workload has its own.

    Same calls in the same order, same forecasts. ``timezone`` is whose days the seasons follow.
    """

    name = "auto"

    def __init__(self, timezone: tzinfo = UTC) -> None:
        self._zone = timezone
        self._learner: Learner | None = None
        self._tail: Series | None = None

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.ports.Model.forecast`; learns first where it must, which takes a good tenth of a second.

        Raises ModelError where the last 14 days hold no value.
        """
        seen = self._look(history, made_at, steps)
        learner = self._learnt_from(seen)
        if learner is None:
            learner, _ = self._learn(seen)
        return self._say(seen, learner)

    def recall(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.ports.LearningModel.recall`."""
        seen = self._look(history, made_at, steps)
        learner = self._learnt_from(seen)
        if learner is None:
            raise NotLearntError("the model has not learnt from this history yet", reason="learning")
        return self._say(seen, learner)

    def learn(self, history: Series, made_at: datetime, steps: int) -> Sequence[Forecast]:
        """See `kedastral.core.ports.LearningModel.learn`: those of the last six hours, one a step."""
        seen = self._look(history, made_at, steps)
        _, replayed = self._learn(seen)
        closely = made_at.timestamp() - REPLAYED_CLOSELY
        return [
            Forecast(made_at - timedelta(seconds=seen.signal.end - past.at), history.step, seen.spread(past.loads))
            for past in replayed
            if past.at > closely
        ]

    def _look(self, history: Series, made_at: datetime, steps: int) -> "_Seen":
        signal = signal_of(history, made_at)
        if signal is None:
            raise ModelError("there is no history of the last 14 days to forecast from", reason="no_history")
        return _Seen(history, made_at, steps, signal, seasons_of(signal, self._zone))

    def _learnt_from(self, seen: "_Seen") -> Learner | None:
        """What was learned from this history before; None where it cannot be gone on from."""
        learner = self._learner
        if learner is None or learner.knots != seen.knots or not learner.suits(seen.signal):
            return None
        return learner if self._continues(seen.history) else None

    def _learn(self, seen: "_Seen") -> tuple[Learner, Sequence[Recalled]]:
        self._learner = learner = Learner(seen.knots, seen.seasons)
        self._tail = _tail_of(seen.history)
        return learner, learner.replay(seen.seasons)

    def _say(self, seen: "_Seen", learner: Learner) -> Forecast:
        self._tail = _tail_of(seen.history)
        learner.learn(seen.seasons)
        answer = learner.forecast(seen.seasons)
        experts = _experts_of(learner, answer, seen.signal.step)
        return Forecast(seen.made_at, seen.history.step, seen.spread(answer.loads), experts)

    def _continues(self, history: Series) -> bool:
        """Whether ``history`` is the one of the call before, gone on: most of the newest values then are in it."""
        tail = self._tail
        if tail is None or tail.step != history.step:
            return False
        shift = (tail.start - history.start).total_seconds() / history.step
        if abs(shift - round(shift)) > 0.01:  # read on another grid: nothing to compare
            return True
        first = round(shift)
        again = history.values[max(first, 0) : max(first + len(tail), 0)]
        before = tail.values[max(-first, 0) :][: len(again)]
        same = np.isclose(again, before, rtol=1e-9, atol=0.0, equal_nan=True)
        return 2 * int(same.sum()) > len(same)


def _tail_of(history: Series) -> Series:
    first = max(0, len(history) - TAIL)
    return Series(history.time_at(first), history.step, history.values[first:])


def _knots_up_to(steps: int) -> tuple[int, ...]:
    return (*(knot for knot in KNOTS if knot < steps), steps)


def _experts_of(learner: Learner, answer: Answer, step: float) -> Experts:
    """Whose ``answer`` it is, at every knot."""
    errors = learner.panel.scores.errors[: len(NAMES)]
    relative = np.full_like(errors, np.nan)
    np.divide(errors, errors[LAST], out=relative, where=errors[LAST] > 0)
    return Experts(tuple(NAMES), np.multiply(learner.knots, step), answer.weights, relative)
