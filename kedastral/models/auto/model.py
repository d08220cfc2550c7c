# SPDX-License-Identifier: Apache-2.0
"""`AutoModel`: the model `auto`, and the state that it keeps between two forecasts of its workload.

A `Learner` holds the ridges of all horizons and the `Ensemble` that scores all experts. A new one is fitted on all but
the newest part of the history and then replays that part, so that its experts have scores from the first forecast on.
Later it is only updated: due forecasts are scored, and the ridges are refitted one after another. `AutoModel` starts a
new learner if the history no longer continues the previous one, and interpolates between the horizons.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

import attrs
import numpy as np

from kedastral.core.forecast import Experts, Forecast
from kedastral.core.series import DAY, HOUR, MINUTE, Floats, Ints, Series
from kedastral.errors import ModelError, NotFittedError
from kedastral.models.auto.ensemble import LAST_VALUE, MEMBERS, Ensemble, EnsembleForecast
from kedastral.models.auto.experts import predict_all
from kedastral.models.auto.features import Seasons, count_features, find_seasons
from kedastral.models.auto.ridge import KINDS, FitSettings, Ridge, fit_horizon
from kedastral.models.auto.signal import Signal, make_signal

KNOTS = (1, 2, 3, 5, 7, 10, 14, 20, 30, 45, 70, 110, 170, 260, 400, 620, 1000)
"""Steps ahead at which the load is forecast, with linear interpolation in between. Dense at typical lead times."""
MAX_BRIDGED = 10 * MINUTE
"""A gap of at most this many seconds at the end of a history is cut off, and the forecast begins before it: these
points have not settled yet, or came in partial answers. Filling them with the last value would be less accurate."""
REFIT_INTERVAL = 6 * HOUR
"""Seconds between two fits of a ridge; daily fits are less accurate, more frequent ones no better."""
REPLAYED = DAY
"""Seconds of the past on which a new learner scores its experts, with ridges that have not seen it."""
REPLAY_INTERVAL = 5 * MINUTE
REPLAYED_EACH_STEP = 6 * HOUR
"""The newest part is replayed step by step: these forecasts show how far the load may exceed a forecast."""
FIRST_FIT_ROWS = 2000
"""Rows of each initial fit of a new learner, which all run at once; the refits of the next hour use more rows."""
MAX_PAUSE = DAY
"""A pause of more than this many seconds between two forecasts starts a new learner."""
GROWTH = 2.0
"""A history this many times longer than at the start is worth a new learner, up to `LONG_HISTORY` seconds."""
LONG_HISTORY = 4 * DAY
COMPARED_VALUES = 16
"""How many of the newest values are compared with the next history, to check that it is of the same workload."""


@attrs.frozen(eq=False)
class HeldOutForecast:
    """The forecast that would have been made at ``made_at`` (epoch seconds): ``loads`` (knots,)."""

    made_at: float
    loads: Floats


class Learner:
    """The memory of one workload at the horizons ``knots``, in steps."""

    def __init__(
        self,
        knots: tuple[int, ...],
        now: float,
        first_length: int,
        ridges: list[list[Ridge | None]],
        ensemble: Ensemble,
    ) -> None:
        self.knots = knots
        self.ensemble = ensemble
        self._now = now
        self._first_length = first_length
        self._ridges = ridges
        self._fitted_at = np.full((len(knots), len(KINDS)), -np.inf)
        self._newest_fit = -np.inf

    @classmethod
    def fitted(cls, knots: tuple[int, ...], seasons: Seasons) -> "Learner":
        """Fit ridges on all but the newest part of the history, for `replay` to score all experts on that part.

        Those with random features take several times as long: they are fitted one after another by `update`.
        """
        signal, held_out = seasons.signal, _count_held_out(seasons.signal)
        ridges = [
            [
                None if kind.is_random else fit_horizon(seasons, FitSettings(ahead, kind, held_out, FIRST_FIT_ROWS))
                for kind in KINDS
            ]
            for ahead in knots
        ]
        return cls(knots, signal.end, len(signal), ridges, Ensemble(knots, signal.end - held_out * signal.step))

    @property
    def memory(self) -> dict[str, Floats]:
        """Its state as flat arrays, to be stored."""
        ridges = [np.zeros(0) if one is None else one.flat for row in self._ridges for one in row]
        return {
            "knots": np.array(self.knots, dtype=np.float64),
            "learner": np.array([self._now, self._first_length, self._newest_fit]),
            "fitted": self._fitted_at.ravel(),
            "ridge.sizes": np.array([len(each) for each in ridges], dtype=np.float64),
            "ridges": np.concatenate(ridges),
            **self.ensemble.memory,
        }

    @classmethod
    def restored(cls, memory: Mapping[str, Floats]) -> "Learner":
        """The learner that had this `memory`. Raises ValueError or KeyError for any other memory."""
        knots = tuple(int(knot) for knot in memory["knots"])
        now, first_length, newest_fit = memory["learner"].tolist()
        kinds, ends = len(KINDS), np.cumsum(memory["ridge.sizes"]).astype(np.int64)[:-1]
        flat = np.split(memory["ridges"], ends)
        if len(flat) != len(knots) * kinds:
            raise ValueError(f"{len(flat)} ridges for {len(knots)} horizons")
        ridges = [
            Ridge.from_flat(each, is_random=KINDS[i % kinds].is_random) if len(each) else None
            for i, each in enumerate(flat)
        ]
        rows = [ridges[first : first + kinds] for first in range(0, len(ridges), kinds)]
        width = count_features(max(float(memory["tail"][1]), MINUTE))
        if {len(each.lowest) for each in ridges if each is not None} - {width}:
            raise ValueError(f"not {width} features in each ridge")
        made = cls(knots, now, int(first_length), rows, Ensemble.restored(knots, memory))
        made._fitted_at = memory["fitted"].reshape(len(knots), kinds).copy()
        made._newest_fit = newest_fit
        return made

    def replay(self, seasons: Seasons) -> tuple[HeldOutForecast, ...]:
        """Forecast at each step of the history that the ridges have not seen, except for the very last one.

        ``seasons`` are those that the learner was made with.
        """
        signal = seasons.signal
        rows = _choose_replayed(signal, _count_held_out(signal))
        if not len(rows):
            return ()
        loads = predict_all(seasons, rows, self.knots, self._ridges)
        replayed = []
        for i, row in enumerate(rows):
            now = signal.end - float(len(signal) - 1 - row) * signal.step
            self.ensemble.score(signal, now)
            if now < signal.end:  # the last forecast is the requested one: `predict` makes it
                replayed.append(HeldOutForecast(now, self.ensemble.predict(loads[:, :, i], now).loads))
        return tuple(replayed)

    def fits(self, signal: Signal) -> bool:
        """Whether the fit still holds for ``signal``: no long pause, no much longer history, no step back in time.

        A step back by up to `MAX_BRIDGED` is allowed: the newest points of the previous call may be gaps again.
        """
        grown = len(signal) >= GROWTH * self._first_length and self._first_length < signal.steps_in(LONG_HISTORY)
        return -MAX_BRIDGED <= signal.end - self._now <= MAX_PAUSE and not grown

    def update(self, seasons: Seasons) -> None:
        """Score the forecasts that are due, and refit the ridge that is due; does nothing if no time has passed."""
        signal = seasons.signal
        if signal.end <= self._now:
            return
        self._now = signal.end
        self.ensemble.score(signal, signal.end)
        kind, knot = divmod(int(np.argmin(self._fitted_at.T)), len(self.knots))
        if (
            self._now - self._newest_fit >= KINDS[kind].distance
            and self._now - self._fitted_at[knot, kind] >= REFIT_INTERVAL
        ):
            settings = FitSettings(self.knots[knot], KINDS[kind])
            nearest = self._ridges[knot][kind] or self._ridges[knot][0]
            self._ridges[knot][kind] = fit_horizon(seasons, settings, warm_start=nearest)
            self._fitted_at[knot, kind] = self._newest_fit = self._now

    def predict(self, seasons: Seasons) -> EnsembleForecast:
        """The load at each knot ahead."""
        signal = seasons.signal
        loads = predict_all(seasons, np.array([len(signal) - 1]), self.knots, self._ridges)
        return self.ensemble.predict(loads[:, :, 0], signal.end)


def _count_held_out(signal: Signal) -> int:
    return min(signal.steps_in(REPLAYED), len(signal) // 4)


def _choose_replayed(signal: Signal, held_out: int) -> Ints:
    """From the newest ``held_out`` steps, each of the last hours and one every `REPLAY_INTERVAL` before."""
    back = np.arange(held_out)
    every = signal.steps_in(REPLAY_INTERVAL)
    rows: Ints = len(signal) - 1 - back[(back < signal.steps_in(REPLAYED_EACH_STEP)) | (back % every == 0)][::-1]
    return rows


@attrs.frozen(eq=False)
class _Request:
    """The inputs of a forecast: ``history`` without a short gap at its end, and the signal and seasons made from it.

    ``bridged`` is the length of that gap, in steps of the signal.
    """

    history: Series
    made_at: datetime
    steps: int
    signal: Signal
    seasons: Seasons
    bridged: float

    @property
    def knots(self) -> tuple[int, ...]:
        """The horizons to forecast, in steps of the signal."""
        last = int(np.ceil(self.steps * self.history.step / self.signal.step))
        return (*(knot for knot in KNOTS if knot < last), last)

    def interpolate(self, loads: Floats) -> Floats:
        """``loads`` (knots,) interpolated linearly to one value for each step of the forecast (steps,)."""
        ahead = (np.arange(self.steps) + 0.5) * (self.history.step / self.signal.step) + 0.5 + self.bridged
        values: Floats = np.maximum(np.interp(ahead, self.knots, loads), 0.0)
        return values


class AutoModel:
    """The model that needs no tuning: it keeps state, so each workload has its own.

    The same calls in the same order give the same forecasts. The seasons follow the days of ``timezone``.
    """

    name = "auto"

    def __init__(self, timezone: tzinfo = UTC) -> None:
        self._zone = timezone
        self._learner: Learner | None = None
        self._tail: Series | None = None

    def forecast(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.model.Model.forecast`; fits first if it must, which takes over a tenth of a second.

        Raises ModelError if the last 14 days hold no value.
        """
        request = self._prepare(history, made_at, steps)
        learner = self._learner_for(request)
        if learner is None:
            learner, _ = self._fit(request)
        return self._predict(request, learner)

    def recall(self, history: Series, made_at: datetime, steps: int) -> Forecast:
        """See `kedastral.core.model.TrainableModel.recall`."""
        request = self._prepare(history, made_at, steps)
        learner = self._learner_for(request)
        if learner is None:
            raise NotFittedError("the model is not fitted to this history yet", reason="learning")
        return self._predict(request, learner)

    def learn(self, history: Series, made_at: datetime, steps: int) -> Sequence[Forecast]:
        """See `kedastral.core.model.TrainableModel.learn`: the forecasts of the last six hours, one per step."""
        request = self._prepare(history, made_at, steps)
        _, replayed = self._fit(request)
        since = made_at.timestamp() - REPLAYED_EACH_STEP
        return [
            Forecast(
                made_at - timedelta(seconds=request.signal.end - past.made_at),
                history.step,
                request.interpolate(past.loads),
            )
            for past in replayed
            if past.made_at > since
        ]

    def _prepare(self, history: Series, made_at: datetime, steps: int) -> _Request:
        known = history.without_gaps_at_the_end()
        gap = (len(history) - len(known)) * history.step
        # A single gap and a long one are filled with the last value; a long one counts as unknown.
        if not 1.5 * history.step < gap <= MAX_BRIDGED:
            known, gap = history, 0.0
        signal = make_signal(known, made_at - timedelta(seconds=gap))
        if signal is None:
            raise ModelError("there is no history of the last 14 days to forecast from", reason="no_history")
        return _Request(known, made_at, steps, signal, find_seasons(signal, self._zone), gap / signal.step)

    def memory(self) -> Mapping[str, Floats] | None:
        """See `kedastral.core.model.RestorableModel.memory`."""
        learner, tail = self._learner, self._tail
        if learner is None or tail is None:
            return None
        return {**learner.memory, "tail": np.array([tail.start.timestamp(), tail.step, *tail.values])}

    def restore(self, memory: Mapping[str, Floats]) -> None:
        """See `kedastral.core.model.RestorableModel.restore`."""
        try:
            learner = Learner.restored(memory)
            start, step, *values = memory["tail"].tolist()
            tail = Series(datetime.fromtimestamp(start, UTC), step, values)
        except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
            raise ValueError(f"not a memory of this model: {error}") from error
        self._learner, self._tail = learner, tail

    def _learner_for(self, request: _Request) -> Learner | None:
        """The learner of the previous forecast; None if a new one has to be fitted."""
        learner = self._learner
        if learner is None or learner.knots != request.knots or not learner.fits(request.signal):
            return None
        return learner if self._continues(request.history) else None

    def _fit(self, request: _Request) -> tuple[Learner, Sequence[HeldOutForecast]]:
        self._learner = learner = Learner.fitted(request.knots, request.seasons)
        self._tail = _tail_of(request.history)
        return learner, learner.replay(request.seasons)

    def _predict(self, request: _Request, learner: Learner) -> Forecast:
        self._tail = _tail_of(request.history)
        learner.update(request.seasons)
        forecast = learner.predict(request.seasons)
        experts = _explain(learner, forecast, request.signal.step)
        return Forecast(request.made_at, request.history.step, request.interpolate(forecast.loads), experts)

    def _continues(self, history: Series) -> bool:
        """Whether ``history`` continues that of the previous call: it holds most of its newest values.

        A value known in only one of them does not count as different: an outlier may turn out to be load, and load an
        outlier.
        """
        tail = self._tail
        if tail is None or tail.step != history.step:
            return False
        shift = (tail.start - history.start).total_seconds() / history.step
        if abs(shift - round(shift)) > 0.01:  # on another grid: nothing to compare
            return True
        first = round(shift)
        now = history.values[max(first, 0) : max(first + len(tail), 0)]
        before = tail.values[max(-first, 0) :][: len(now)]
        same = np.isclose(now, before, rtol=1e-9, atol=0.0, equal_nan=True)
        compared = np.isnan(now) == np.isnan(before)
        return 2 * int(same.sum()) > int(compared.sum())


def _tail_of(history: Series) -> Series:
    first = max(0, len(history) - COMPARED_VALUES)
    return Series(history.time_at(first), history.step, history.values[first:])


def _explain(learner: Learner, forecast: EnsembleForecast, step: float) -> Experts:
    """The weight of each member in ``forecast`` and its error, relative to that of the last value, at every knot.

    A member that makes no forecast, and never did, has the error of the last value (`Scores.add`): it is told as NaN.
    """
    errors = learner.ensemble.scores.errors[: len(MEMBERS)]
    relative = np.full_like(errors, np.nan)
    np.divide(errors, errors[LAST_VALUE], out=relative, where=errors[LAST_VALUE] > 0)
    silent = (forecast.weights == 0) & (errors == errors[LAST_VALUE])
    silent[LAST_VALUE] = False
    relative[silent] = np.nan
    return Experts(tuple(MEMBERS), np.multiply(learner.knots, step), forecast.weights, relative)
