# SPDX-License-Identifier: Apache-2.0
"""`AutoModel`: experts from last value to ridge, weighed by how well each has forecast this workload lately."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo

import attrs
import numpy as np

from kedastral.core.forecast import Experts, Forecast
from kedastral.core.series import Floats, Ints, Series
from kedastral.errors import ModelError, NotFittedError
from kedastral.models.auto.ensemble import LAST, NAMES, Ensemble, EnsembleForecast
from kedastral.models.auto.experts import forecasts
from kedastral.models.auto.features import HOUR, Seasons, seasons_of
from kedastral.models.auto.ridge import HALF_LIVES, Fit, fit
from kedastral.models.auto.signal import DAY, MINUTE, Signal, signal_of

# --- `Learner`: what the model keeps of one workload between ticks: the ridges, and the panel that judges all
# experts.

REFIT = 6 * HOUR
"""Seconds between two fits of a ridge; daily fits forecast worse, more frequent ones no better."""
FIT_EVERY = 3 * MINUTE
"""Seconds between any two fits: one costs several times as much as all else in a tick, and in a process of a thousand
workloads that began together they are all due at once."""
REPLAYED = DAY
"""How much of the past a new learner judges its experts on, with ridges that have not seen it."""
REPLAY_EVERY = 5 * MINUTE
REPLAYED_CLOSELY = 6 * HOUR
"""The newest part of it is replayed step by step: what was said then tells how far the load may exceed a forecast."""
FIRST_ROWS = 2000
"""Rows of the fits of a new learner, which come all at once; each is made anew with more in the hour that follows."""
LONGEST_PAUSE = DAY
"""Seconds between two ticks after which to start afresh."""
GROWTH = 2.0
"""A history this many times as long as at the start is worth a fresh start, until it is `ENOUGH` seconds."""
ENOUGH = 4 * DAY


@attrs.frozen(eq=False)
class HeldOutForecast:
    """What would have been said at ``at`` (epoch seconds): ``loads`` (knots,)."""

    at: float
    loads: Floats


class Learner:
    """The memory of one workload at the horizons ``knots``, in steps."""

    def __init__(self, knots: tuple[int, ...], seasons: Seasons) -> None:
        """Fit ridges on all but the newest part of the history, for `replay` to judge all experts on that part."""
        signal, held_out = seasons.signal, _held_out(seasons.signal)
        self.knots = knots
        self._now = signal.end
        self._born_with = len(signal)
        self._ridges = [
            [fit(seasons, Fit(ahead, half_life, held_out, FIRST_ROWS)) for half_life in HALF_LIVES] for ahead in knots
        ]
        self._fitted = np.full((len(knots), len(HALF_LIVES)), -np.inf)
        self._newest_fit = -np.inf
        self.panel = Ensemble(knots, signal.end - held_out * signal.step)

    def replay(self, seasons: Seasons) -> tuple[HeldOutForecast, ...]:
        """Go once through what the ridges have not seen, but for the very last step, as if the learner had been there.

        ``seasons`` are those that the learner was made with.
        """
        signal = seasons.signal
        rows = _replayed_rows(signal, _held_out(signal))
        if not len(rows):
            return ()
        heard = forecasts(seasons, rows, self.knots, self._ridges)
        said = []
        for i, row in enumerate(rows):
            now = signal.end - float(len(signal) - 1 - row) * signal.step
            self.panel.judge(signal, now)
            if now < signal.end:  # the forecast itself comes last
                said.append(HeldOutForecast(now, self.panel.ask(heard[:, :, i], now).loads))
        return tuple(said)

    def suits(self, signal: Signal) -> bool:
        """Whether what was learned still holds for ``signal``: no step back but for points
        that were taken for settled, no long pause, no history grown up."""
        grown = len(signal) >= GROWTH * self._born_with and self._born_with < signal.steps_in(ENOUGH)
        return -MAX_BRIDGED <= signal.end - self._now <= LONGEST_PAUSE and not grown

    def learn(self, seasons: Seasons) -> None:
        """Judge the forecasts whose time has come, and refit the ridge that is due; nothing if no time has passed."""
        signal = seasons.signal
        if signal.end <= self._now:
            return
        self._now = signal.end
        self.panel.judge(signal, signal.end)
        knot, kind = divmod(int(np.argmin(self._fitted)), len(HALF_LIVES))
        if self._now - self._newest_fit >= FIT_EVERY and self._now - self._fitted[knot, kind] >= REFIT:
            before = self._ridges[knot][kind]
            self._ridges[knot][kind] = fit(seasons, Fit(self.knots[knot], HALF_LIVES[kind]), before)
            self._fitted[knot, kind] = self._newest_fit = self._now

    def forecast(self, seasons: Seasons) -> EnsembleForecast:
        """The load at each knot from now on."""
        signal = seasons.signal
        heard = forecasts(seasons, np.array([len(signal) - 1]), self.knots, self._ridges)
        return self.panel.ask(heard[:, :, 0], signal.end)


def _held_out(signal: Signal) -> int:
    return min(signal.steps_in(REPLAYED), len(signal) // 4)


def _replayed_rows(signal: Signal, held_out: int) -> Ints:
    """The newest ``held_out`` steps: each of the last hours, and one every `REPLAY_EVERY` before."""
    back = np.arange(held_out)
    every = signal.steps_in(REPLAY_EVERY)
    rows: Ints = len(signal) - 1 - back[(back < signal.steps_in(REPLAYED_CLOSELY)) | (back % every == 0)][::-1]
    return rows


KNOTS = (1, 2, 3, 5, 7, 10, 14, 20, 30, 45, 70, 110, 170, 260, 400, 620, 1000)
"""Steps ahead at which the load is forecast; between them the forecast is a line. Dense where lead times lie."""
MAX_BRIDGED = 600.0
"""Seconds at the end of a history without a value that the forecast begins before: points that have not settled yet, or
partial answers. Carrying the last value over them instead would be a worse forecast of the same minutes."""
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
    bridged: float = 0.0
    """Steps of the signal between its end and ``made_at``, which the forecast bridges."""

    @property
    def knots(self) -> tuple[int, ...]:
        """The horizons to forecast, in steps of the signal."""
        return _knots_up_to(int(np.ceil(self.steps * self.history.step / self.signal.step)))

    def spread(self, loads: Floats) -> Floats:
        """``loads`` (knots,) as one for each step of the forecast: what lies between two knots lies on a line."""
        ahead = (np.arange(self.steps) + 0.5) * (self.history.step / self.signal.step) + 0.5 + self.bridged
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
        """See `kedastral.core.ports.TrainableModel.recall`."""
        seen = self._look(history, made_at, steps)
        learner = self._learnt_from(seen)
        if learner is None:
            raise NotFittedError("the model has not learnt from this history yet", reason="learning")
        return self._say(seen, learner)

    def learn(self, history: Series, made_at: datetime, steps: int) -> Sequence[Forecast]:
        """See `kedastral.core.ports.TrainableModel.learn`: those of the last six hours, one a step."""
        seen = self._look(history, made_at, steps)
        _, replayed = self._learn(seen)
        closely = made_at.timestamp() - REPLAYED_CLOSELY
        return [
            Forecast(made_at - timedelta(seconds=seen.signal.end - past.at), history.step, seen.spread(past.loads))
            for past in replayed
            if past.at > closely
        ]

    def _look(self, history: Series, made_at: datetime, steps: int) -> "_Seen":
        known = history.without_gaps_at_the_end()
        missing = (len(history) - len(known)) * history.step
        if not 0 < missing <= MAX_BRIDGED:  # a longer outage is carried, and counts as unknown
            known, missing = history, 0.0
        signal = signal_of(known, made_at - timedelta(seconds=missing))
        if signal is None:
            raise ModelError("there is no history of the last 14 days to forecast from", reason="no_history")
        return _Seen(known, made_at, steps, signal, seasons_of(signal, self._zone), missing / signal.step)

    def _learnt_from(self, seen: "_Seen") -> Learner | None:
        """What was learned from this history before; None where it cannot be gone on from."""
        learner = self._learner
        if learner is None or learner.knots != seen.knots or not learner.suits(seen.signal):
            return None
        return learner if self._continues(seen.history) else None

    def _learn(self, seen: "_Seen") -> tuple[Learner, Sequence[HeldOutForecast]]:
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


def _experts_of(learner: Learner, answer: EnsembleForecast, step: float) -> Experts:
    """Whose ``answer`` it is, at every knot."""
    errors = learner.panel.scores.errors[: len(NAMES)]
    relative = np.full_like(errors, np.nan)
    np.divide(errors, errors[LAST], out=relative, where=errors[LAST] > 0)
    return Experts(tuple(NAMES), np.multiply(learner.knots, step), answer.weights, relative)
