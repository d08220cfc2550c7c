# SPDX-License-Identifier: Apache-2.0
"""What each expert is worth: `Scores` by its recent errors, `Drift` by the side it has erred on in the last minutes."""

from bisect import bisect_right
from collections import deque

import attrs
import numpy as np

from kedastral.core.series import Floats
from kedastral.models.auto.experts import NAMES as HEARD
from kedastral.models.auto.signal import DAY, MINUTE, Signal

SHARPNESS = 16.0
"""The power of an expert's inverse error that it weighs by: the best lead, and equals share."""
HALF_LIFE = 0.25 * DAY
"""Seconds after which an error counts half: what was best at night need not be best by noon."""
LEAST = 1e-6
"""Of the largest error: experts that are this good are equals."""
DRIFT_HALF_LIFE = 15 * MINUTE
DRIFT_SHARE = 0.4
"""Of the recent mean error that is taken off: the whole of it would chase noise."""
SURPRISE_HALF_LIFE = 10 * MINUTE
UNUSUAL = 2.0
"""Errors this many times the usual ones are a surprise."""
WORSE = 2.0
"""And then the last value counts, if its errors are this many times smaller."""
STEEP = 8
HASTE = 24.0
"""How many times faster errors are forgotten in the midst of a surprise: what they tell of is over."""


@attrs.frozen
class Weighted:
    """A mean that forgets: ``total`` over ``mass`` (seconds)."""

    total: float = 0.0
    mass: float = 0.0

    def add(self, value: float, elapsed: float, half_life: float) -> "Weighted":
        """With ``value``, that held for ``elapsed`` seconds."""
        fade = 0.5 ** (elapsed / half_life)
        return Weighted(self.total * fade + value * elapsed, self.mass * fade + elapsed)

    @property
    def mean(self) -> float:
        """0 where nothing has been added."""
        return self.total / self.mass if self.mass > 0 else 0.0


@attrs.frozen(eq=False)
class Scores:
    """``errors`` (experts, knots): discounted sums of absolute errors, in units of the load times seconds."""

    errors: Floats

    @classmethod
    def none(cls, experts: int, knots: int) -> "Scores":
        """Nothing known yet: all experts are equals."""
        return cls(np.zeros((experts, knots)))

    def add(self, errors: Floats, elapsed: float, surprise: float = 0.0) -> "Scores":
        """With signed or absolute ``errors`` (experts, knots) that held for ``elapsed`` seconds; NaN is not known.

        ``surprise``, 0..1, is that of `Surprise.trust`.
        """
        fade = 0.5 ** (elapsed * (1 + HASTE * surprise) / HALF_LIFE)
        known = np.isfinite(errors)
        return Scores(np.where(known, self.errors * fade + np.abs(np.where(known, errors, 0.0)) * elapsed, self.errors))

    def weights(self, loads: Floats, which: slice | list[int], handicap: Floats | float = 1.0) -> Floats:
        """The weights of the experts ``which`` with forecasts ``loads`` (experts, knots); each column adds up to 1.

        Inverse errors to the power `SHARPNESS`, after Bates and Granger (1969), who weigh by inverse squared errors.
        ``handicap`` (experts,) multiplies the errors. A forecast that is NaN has no weight.
        """
        floor = LEAST * float(self.errors.max()) + np.finfo(np.float64).tiny
        handicaps = np.broadcast_to(np.asarray(handicap), (len(loads),))
        errors = np.maximum(self.errors[which], floor) * handicaps[:, None]
        errors = np.where(np.isfinite(loads), errors, np.inf)
        shares = (errors.min(axis=0) / errors) ** SHARPNESS
        weights: Floats = shares / shares.sum(axis=0)
        return weights


@attrs.frozen(eq=False)
class Drift:
    """How far load has come out above forecasts lately: ``sums`` (experts, knots) over ``mass`` (knots,)."""

    sums: Floats
    mass: Floats

    @classmethod
    def none(cls, experts: int, knots: int) -> "Drift":
        """Nothing known yet."""
        return cls(np.zeros((experts, knots)), np.zeros(knots))

    def add(self, errors: Floats, elapsed: float) -> "Drift":
        """With ``errors`` (experts, knots), load less forecast, that held for ``elapsed`` seconds; NaN is not known."""
        fade = 0.5 ** (elapsed / DRIFT_HALF_LIFE)
        known = np.isfinite(errors)
        sums = self.sums * fade + np.where(known, errors, 0.0) * elapsed
        return Drift(sums, self.mass * fade + known.any(axis=0) * elapsed)

    def correct(self, loads: Floats) -> Floats:
        """``loads`` (experts, knots) with a share of the recent mean error put right; never below 0."""
        return np.maximum(loads + DRIFT_SHARE * self.sums / np.maximum(self.mass, 1.0), 0.0)


@attrs.frozen(eq=False)
class Surprise:
    """Whether load has left all that it used to do: the newest errors against the usual ones, and those of last value.

    After a jump the errors of the last hours still favour experts that expect the load back. ``usual`` is the mean
    absolute error of the forecast over hours, ``newest`` over minutes, ``last`` that of the last value over minutes;
    as sums, with their masses.
    """

    usual: Weighted = Weighted()
    newest: Weighted = Weighted()
    last: Weighted = Weighted()

    def add(self, error: float, of_last: float, elapsed: float) -> "Surprise":
        """With mean absolute errors that held for ``elapsed`` seconds; NaN is not known."""
        if not (np.isfinite(error) and np.isfinite(of_last)):
            return self
        return Surprise(
            self.usual.add(error, elapsed, HALF_LIFE),
            self.newest.add(error, elapsed, SURPRISE_HALF_LIFE),
            self.last.add(of_last, elapsed, SURPRISE_HALF_LIFE),
        )

    @property
    def trust(self) -> float:
        """The weight of the last value, 0..1: near 1 where errors are unheard of, and the last value's are small."""
        sides = (self.newest.mean, UNUSUAL * self.usual.mean, WORSE * self.last.mean)
        largest = max(sides)
        if largest <= 0:
            return 0.0
        newest, usual, last = ((side / largest) ** STEEP for side in sides)
        return newest / (newest + usual + last)


# --- `Ensemble`: the experts' forecasts put together by what each was worth, and judged as the load comes in.

CORRECTED = ("day-5m", "ridge-1.5d")
"""Experts heard a second time, with their recent drift put right: pays where load leaves its usual path for hours."""
NAMES = (*HEARD, *(f"{name}-drift" for name in CORRECTED))
LAST = HEARD.index("last-value")
CAUTION = 0.96
"""On the error of the last value when it is weighed against all the others together: they must be better to count."""

NEAREST = 2 * MINUTE
"""Seconds ahead up to which errors tell of a surprise: those of longer horizons would tell of it too late."""

_CORRECTED = np.array([HEARD.index(name) for name in CORRECTED])


@attrs.frozen(eq=False)
class IssuedForecast:
    """The forecasts made at ``end`` (epoch seconds): by each of `NAMES`, then all together; (experts + 1, knots)."""

    end: float
    loads: Floats


@attrs.frozen(eq=False)
class EnsembleForecast:
    """``loads`` (knots,) is the forecast, ``weights`` (experts, knots) how much each of `NAMES` counted in it."""

    loads: Floats
    weights: Floats


class Ensemble:
    """What is remembered of experts at the horizons ``knots`` (steps), from the time ``now`` (epoch seconds) on."""

    def __init__(self, knots: tuple[int, ...], now: float) -> None:
        self.scores = Scores.none(len(NAMES) + 1, len(knots))
        self._drift = Drift.none(len(CORRECTED), len(knots))
        self._surprise = Surprise()
        self._said: deque[IssuedForecast] = deque()
        self._knots = knots
        self._ahead = np.array(knots)
        self._now = now

    def ask(self, heard: Floats, now: float) -> EnsembleForecast:
        """The forecast at ``now`` from those ``heard`` (`HEARD`, knots); remembered once for each, to be judged."""
        loads = np.concatenate([heard, self._drift.correct(heard[_CORRECTED])])
        weights = self.scores.weights(loads, slice(0, len(NAMES)))
        together = _weigh(loads, weights)
        both = np.stack([together, loads[LAST]])
        trust = self.scores.weights(both, [len(NAMES), LAST], np.array([1.0, CAUTION]))
        weights = weights * trust[0]
        weights[LAST] += trust[1]
        weights = weights * (1 - self._surprise.trust)
        weights[LAST] += self._surprise.trust
        if not self._said or self._said[-1].end < now:
            self._said.append(IssuedForecast(now, np.concatenate([loads, together[None]])))
        return EnsembleForecast(_weigh(loads, weights), weights)

    def judge(self, signal: Signal, now: float) -> None:
        """Score what was said of the steps that have ended since the time before; several of one horizon are averaged.

        ``signal`` may reach beyond ``now``; what lies there is not looked at.
        """
        elapsed = now - self._now
        if elapsed <= 0:
            return
        self._now = now
        errors = self._errors(signal, now, elapsed / signal.step)
        self.scores = self.scores.add(errors, elapsed, self._surprise.trust)
        self._drift = self._drift.add(errors[_CORRECTED], elapsed)
        nearest = np.abs(errors[:, self._ahead * signal.step <= max(NEAREST, signal.step)])
        known = np.isfinite(nearest[LAST])
        if known.any():
            together, last = nearest[[len(NAMES), LAST]][:, known].mean(axis=1)
            self._surprise = self._surprise.add(float(together), float(last), elapsed)
        while self._said and now - self._said[0].end > self._ahead[-1] * signal.step:
            self._said.popleft()

    def _errors(self, signal: Signal, now: float, passed: float) -> Floats:
        """Load less forecast by each expert and knot, NaN where nothing was due or the load is not known."""
        newest = len(signal) - 1 - round((signal.end - now) / signal.step)
        errors = np.zeros(self.scores.errors.shape)
        counts = np.zeros(len(self._ahead))
        for said in self._said:
            age = round((now - said.end) / signal.step)
            first, last = bisect_right(self._knots, age - passed), bisect_right(self._knots, age)
            if first == last:
                continue
            due = np.arange(first, last)
            rows = newest - age + self._ahead[due]
            due, rows = due[signal.known[rows]], rows[signal.known[rows]]
            errors[:, due] += signal.values[rows] - said.loads[:, due]
            counts[due] += 1
        errors[:, counts == 0] = np.nan
        return errors / np.maximum(counts, 1)


def _weigh(loads: Floats, weights: Floats) -> Floats:
    """The weighted sum over experts; what has no weight may be NaN."""
    together: Floats = (np.where(weights > 0, loads, 0.0) * weights).sum(axis=0)
    return together
