# SPDX-License-Identifier: Apache-2.0
"""`AutoModel`: experts from last value to ridge, weighed by how well each has forecast this workload lately."""

from datetime import UTC, datetime, tzinfo

import attrs
import numpy as np

from kedastral.core.forecast import ExpertView, Forecast
from kedastral.core.series import Series
from kedastral.errors import ModelError
from kedastral.models.auto.learner import Learner
from kedastral.models.auto.panel import LAST, NAMES, Answer
from kedastral.models.auto.seasons import seasons_of
from kedastral.models.auto.signal import signal_of

KNOTS = (1, 2, 3, 5, 7, 10, 14, 20, 30, 45, 70, 110, 170, 260, 400, 620, 1000)
"""Steps ahead at which the load is forecast; between them the forecast is a line. Dense where lead times lie."""
TAIL = 16
"""Newest values that a history must share with the one before it to be of the same workload."""


@attrs.frozen
class Explanation:
    """Why the newest forecast is what it is."""

    made_at: datetime
    experts: tuple[ExpertView, ...]


class AutoModel:
    """The model for a workload nobody wants to tune: keeps state, so each workload has its own.

    Same calls in the same order, same forecasts. ``timezone`` is whose days the seasons follow.
    """

    name = "auto"

    def __init__(self, timezone: tzinfo = UTC) -> None:
        self._zone = timezone
        self._learner: Learner | None = None
        self._tail: Series | None = None
        self._explanation: Explanation | None = None

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.ports.Model.forecast`; raises ModelError where the last 14 days hold no value."""
        signal = signal_of(history, made_at)
        if signal is None:
            raise ModelError("there is no history of the last 14 days to forecast from", reason="no_history")
        ahead = (np.arange(steps) + 0.5) * (history.step / signal.step) + 0.5
        knots = _knots_up_to(int(np.ceil(steps * history.step / signal.step)))
        seasons = seasons_of(signal, self._zone)
        learner = self._learner
        if learner is None or learner.knots != knots or not learner.suits(signal) or not self._continues(history):
            learner = self._learner = Learner(knots, seasons)
        self._tail = _tail_of(history)
        learner.learn(seasons)
        answer = learner.forecast(seasons)
        self._explanation = _explain(made_at, learner, answer, signal.step)
        return Forecast(
            made_at,
            history.step,
            np.maximum(np.interp(ahead, knots, answer.loads), 0.0),
            self._explanation.experts,
        )

    def explain(self) -> Explanation | None:
        """The experts behind the newest forecast, or None before the first."""
        return self._explanation

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


def _explain(made_at: datetime, learner: Learner, answer: Answer, step: float) -> Explanation:
    errors = learner.panel.scores.errors
    yardstick = errors[LAST]
    experts = [
        ExpertView(
            name,
            ahead * step,
            weight=float(answer.weights[e, k]),
            error=float(errors[e, k] / yardstick[k]) if yardstick[k] > 0 else None,
        )
        for k, ahead in enumerate(learner.knots)
        for e, name in enumerate(NAMES)
    ]
    return Explanation(made_at, tuple(experts))
