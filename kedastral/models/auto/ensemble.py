# SPDX-License-Identifier: Apache-2.0
"""What each expert is worth: `Scores` by its recent errors, `Drift` by the side it has erred on in the last minutes."""

import attrs
import numpy as np

from kedastral.core.series import Floats
from kedastral.models.auto.signal import DAY, MINUTE

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
