# SPDX-License-Identifier: Apache-2.0
"""`Ensemble`: the experts' forecasts combined by their recent errors, and scored as the load comes in.

Three memories decide how much each expert counts: `Scores`, the errors of the last hours; `Drift`, the bias of an
expert in the last minutes, part of which is corrected; and `Surprise`, whether errors have suddenly become so large
that the last value should be trusted instead.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping

import attrs
import numpy as np

from kedastral.core.series import DAY, MINUTE, Floats
from kedastral.models.auto.experts import EXPERTS
from kedastral.models.auto.signal import Signal

DRIFT_CORRECTED = ("day-5m", "ridge-1.5d", "random-features")
"""Experts that also take part with their recent drift corrected: this pays if load leaves its usual path for hours."""
MEMBERS = (*EXPERTS, *(f"{name}-drift" for name in DRIFT_CORRECTED))
"""The names of all forecasts that are combined, in the order of every array of them."""
LAST_VALUE = EXPERTS.index("last-value")

WEIGHT_POWER = 16.0
"""An expert is weighted by its inverse error to this power: the best dominate, and equals share."""
ERROR_HALF_LIFE = 0.25 * DAY
"""Half-life in seconds of an error: what was best at night need not be best by noon."""
MIN_RELATIVE_ERROR = 1e-6
"""As a share of the largest error: experts with smaller errors count as equal."""
LAST_VALUE_HANDICAP = 0.96
"""Multiplies the error of the last value when it is weighed against the rest combined: to count, they must be better
than the last value, not just as good."""
DRIFT_HALF_LIFE = 15 * MINUTE
DRIFT_SHARE = 0.4
"""The share of the recent mean error that is corrected: correcting all of it would chase noise."""
SURPRISE_HALF_LIFE = 10 * MINUTE
SURPRISE_RATIO = 2.0
"""Errors this many times larger than usual are a surprise."""
SURPRISE_LAST_VALUE_RATIO = 2.0
"""In a surprise, the last value takes over if its errors are this many times smaller."""
SURPRISE_POWER = 8
"""How sharply it takes over: the power to which the error ratios are raised."""
SURPRISE_FADE = 24.0
"""How many times faster errors are forgotten during a surprise, since they describe the old load."""
NEAREST = 2 * MINUTE
"""Seconds ahead up to which errors can show a surprise: longer horizons would show it too late."""

_DRIFT_CORRECTED = np.array([EXPERTS.index(name) for name in DRIFT_CORRECTED])


@attrs.frozen
class DecayingMean:
    """An exponentially decaying mean: ``total`` over ``mass`` (seconds)."""

    total: float = 0.0
    mass: float = 0.0

    def add(self, value: float, elapsed: float, half_life: float) -> "DecayingMean":
        """The mean after ``value`` has held for ``elapsed`` seconds."""
        fade = 0.5 ** (elapsed / half_life)
        return DecayingMean(self.total * fade + value * elapsed, self.mass * fade + elapsed)

    @property
    def mean(self) -> float:
        """The mean; 0 if nothing has been added."""
        return self.total / self.mass if self.mass > 0 else 0.0


@attrs.frozen(eq=False)
class Scores:
    """``errors`` (members, knots): discounted sums of absolute errors, in units of load times seconds."""

    errors: Floats

    @classmethod
    def none(cls, members: int, knots: int) -> "Scores":
        """Nothing known yet: all count equally."""
        return cls(np.zeros((members, knots)))

    def add(self, errors: Floats, elapsed: float, surprise: float = 0.0) -> "Scores":
        """The scores after signed or absolute ``errors`` (members, knots) over ``elapsed`` seconds; NaN is unknown.

        ``surprise``, 0..1, is `Surprise.trust`.
        """
        fade = 0.5 ** (elapsed * (1 + SURPRISE_FADE * surprise) / ERROR_HALF_LIFE)
        # a member that made no forecast counts as the last value: it must prove itself before it leads
        sizes = np.where(np.isfinite(errors), np.abs(errors), np.abs(errors[LAST_VALUE]))
        known = np.isfinite(sizes)
        return Scores(np.where(known, self.errors * fade + np.where(known, sizes, 0.0) * elapsed, self.errors))

    def weights(self, loads: Floats, which: slice | list[int], handicap: Floats | float = 1.0) -> Floats:
        """The weights of the members ``which`` with forecasts ``loads`` (members, knots); each column adds up to 1.

        Inverse errors to the power `WEIGHT_POWER`, after Bates and Granger (1969), who use inverse squared errors.
        ``handicap`` (members,) multiplies the errors. A forecast that is NaN has weight 0.
        """
        floor = MIN_RELATIVE_ERROR * float(self.errors.max()) + np.finfo(np.float64).tiny
        handicaps = np.broadcast_to(np.asarray(handicap), (len(loads),))
        errors = np.maximum(self.errors[which], floor) * handicaps[:, None]
        errors = np.where(np.isfinite(loads), errors, np.inf)
        shares = (errors.min(axis=0) / errors) ** WEIGHT_POWER
        weights: Floats = shares / shares.sum(axis=0)
        return weights


@attrs.frozen(eq=False)
class Drift:
    """How far load has recently exceeded the forecasts: ``sums`` (experts, knots) over ``mass`` (knots,)."""

    sums: Floats
    mass: Floats

    @classmethod
    def none(cls, experts: int, knots: int) -> "Drift":
        """Nothing known yet."""
        return cls(np.zeros((experts, knots)), np.zeros(knots))

    def add(self, errors: Floats, elapsed: float) -> "Drift":
        """The drift after ``errors`` (experts, knots), load minus forecast, over ``elapsed`` seconds; NaN: unknown."""
        fade = 0.5 ** (elapsed / DRIFT_HALF_LIFE)
        known = np.isfinite(errors)
        sums = self.sums * fade + np.where(known, errors, 0.0) * elapsed
        return Drift(sums, self.mass * fade + known.any(axis=0) * elapsed)

    def correct(self, loads: Floats) -> Floats:
        """``loads`` (experts, knots) with a share of the recent mean error corrected; never below 0."""
        return np.maximum(loads + DRIFT_SHARE * self.sums / np.maximum(self.mass, 1.0), 0.0)


@attrs.frozen(eq=False)
class Surprise:
    """Whether load behaves as never before: compares the newest errors with the usual ones and the last value's.

    After a jump, the errors of the last hours still favour experts that expect the load to return. ``usual`` is the
    mean absolute error of the forecast over hours, ``newest`` over minutes; ``last_value`` is that of the last value
    over minutes.
    """

    usual: DecayingMean = DecayingMean()
    newest: DecayingMean = DecayingMean()
    last_value: DecayingMean = DecayingMean()

    def add(self, error: float, last_value_error: float, elapsed: float) -> "Surprise":
        """The surprise after mean absolute errors over ``elapsed`` seconds; NaN is unknown."""
        if not (np.isfinite(error) and np.isfinite(last_value_error)):
            return self
        return Surprise(
            self.usual.add(error, elapsed, ERROR_HALF_LIFE),
            self.newest.add(error, elapsed, SURPRISE_HALF_LIFE),
            self.last_value.add(last_value_error, elapsed, SURPRISE_HALF_LIFE),
        )

    @property
    def trust(self) -> float:
        """How far to trust the last value instead, 0..1: near 1 if errors are unusual and its own are small."""
        sides = (
            self.newest.mean,
            SURPRISE_RATIO * self.usual.mean,
            SURPRISE_LAST_VALUE_RATIO * self.last_value.mean,
        )
        largest = max(sides)
        if largest <= 0:
            return 0.0
        newest, usual, last_value = ((side / largest) ** SURPRISE_POWER for side in sides)
        return newest / (newest + usual + last_value)


@attrs.frozen(eq=False)
class IssuedForecast:
    """The forecasts made at ``end`` (epoch seconds): ``loads`` (members + 1, knots), the last row all combined."""

    end: float
    loads: Floats


@attrs.frozen(eq=False)
class EnsembleForecast:
    """``loads`` (knots,) is the forecast, ``weights`` (members, knots) is the weight of each of `MEMBERS` in it."""

    loads: Floats
    weights: Floats


class Ensemble:
    """The memory of all members at the horizons ``knots`` (steps), from the time ``now`` (epoch seconds) on."""

    def __init__(self, knots: tuple[int, ...], now: float) -> None:
        self.scores = Scores.none(len(MEMBERS) + 1, len(knots))
        self._drift = Drift.none(len(DRIFT_CORRECTED), len(knots))
        self._surprise = Surprise()
        self._issued: deque[IssuedForecast] = deque()
        self._knots = knots
        self._ahead = np.array(knots)
        self._now = now

    @property
    def memory(self) -> dict[str, Floats]:
        """Its state as flat arrays, to be stored."""
        means = (self._surprise.usual, self._surprise.newest, self._surprise.last_value)
        issued = [each.loads.ravel() for each in self._issued]
        return {
            "ensemble.now": np.array([self._now]),
            "scores": self.scores.errors.ravel(),
            "drift.sums": self._drift.sums.ravel(),
            "drift.mass": self._drift.mass,
            "surprise": np.array([[mean.total, mean.mass] for mean in means]).ravel(),
            "issued.ends": np.array([each.end for each in self._issued]),
            "issued.loads": np.concatenate(issued) if issued else np.zeros(0),
        }

    @classmethod
    def restored(cls, knots: tuple[int, ...], memory: Mapping[str, Floats]) -> "Ensemble":
        """The ensemble that had this `memory`. Raises ValueError or KeyError for any other memory."""
        made = cls(knots, float(memory["ensemble.now"][0]))
        members, ends = len(MEMBERS) + 1, memory["issued.ends"].tolist()
        if len(memory["drift.mass"]) != len(knots):
            raise ValueError(f"the drift of {len(memory['drift.mass'])} horizons, of {len(knots)}")
        made.scores = Scores(memory["scores"].reshape(members, len(knots)))
        made._drift = Drift(memory["drift.sums"].reshape(len(DRIFT_CORRECTED), len(knots)), memory["drift.mass"])
        made._surprise = Surprise(*(DecayingMean(*mean) for mean in memory["surprise"].reshape(3, 2).tolist()))
        issued = memory["issued.loads"].reshape(len(ends), members, len(knots))
        made._issued.extend(IssuedForecast(end, loads) for end, loads in zip(ends, issued, strict=True))
        return made

    def predict(self, expert_loads: Floats, now: float) -> EnsembleForecast:
        """The forecast at ``now`` from those of `EXPERTS` (experts, knots); kept, once per ``now``, to be scored.

        The last value is weighted twice more: against the rest combined, and by the surprise of the last minutes.
        """
        loads = np.concatenate([expert_loads, self._drift.correct(expert_loads[_DRIFT_CORRECTED])])
        weights = self.scores.weights(loads, slice(0, len(MEMBERS)))
        combined = _combine(loads, weights)
        both = np.stack([combined, loads[LAST_VALUE]])
        shares = self.scores.weights(both, [len(MEMBERS), LAST_VALUE], np.array([1.0, LAST_VALUE_HANDICAP]))
        weights = weights * shares[0]
        weights[LAST_VALUE] += shares[1]
        weights = weights * (1 - self._surprise.trust)
        weights[LAST_VALUE] += self._surprise.trust
        if not self._issued or self._issued[-1].end < now:
            self._issued.append(IssuedForecast(now, np.concatenate([loads, combined[None]])))
        return EnsembleForecast(_combine(loads, weights), weights)

    def score(self, signal: Signal, now: float) -> None:
        """Score the forecasts of the steps that have ended since the last call; several of one horizon are averaged.

        ``signal`` may reach beyond ``now``; that part is ignored.
        """
        elapsed = now - self._now
        if elapsed <= 0:
            return
        self._now = now
        errors = self._errors(signal, now, elapsed / signal.step)
        self.scores = self.scores.add(errors, elapsed, self._surprise.trust)
        self._drift = self._drift.add(errors[_DRIFT_CORRECTED], elapsed)
        nearest = np.abs(errors[:, self._ahead * signal.step <= max(NEAREST, signal.step)])
        known = np.isfinite(nearest[LAST_VALUE])
        if known.any():
            combined, last_value = nearest[[len(MEMBERS), LAST_VALUE]][:, known].mean(axis=1)
            self._surprise = self._surprise.add(float(combined), float(last_value), elapsed)
        while self._issued and now - self._issued[0].end > self._ahead[-1] * signal.step:
            self._issued.popleft()

    def _errors(self, signal: Signal, now: float, passed: float) -> Floats:
        """Load minus forecast (members + 1, knots), ``passed`` steps on; NaN if none was due or load is unknown.

        An outage that has ended is filled with the value before it: judged by that, the last value would be right, and
        all that foresaw a change wrong. At the end of the history, samples that come late are filled all the time, and
        there is nothing else to score by.
        """
        newest = len(signal) - 1 - round((signal.end - now) / signal.step)
        errors = np.zeros(self.scores.errors.shape)
        counts = np.zeros(len(self._ahead))
        for issued in self._issued:
            age = round((now - issued.end) / signal.step)
            first, last = bisect_right(self._knots, age - passed), bisect_right(self._knots, age)
            if first == last:
                continue
            due = np.arange(first, last)
            rows = newest - age + self._ahead[due]
            due, rows = due[signal.scorable[rows]], rows[signal.scorable[rows]]
            errors[:, due] += signal.values[rows] - issued.loads[:, due]
            counts[due] += 1
        errors[:, counts == 0] = np.nan
        return errors / np.maximum(counts, 1)


def _combine(loads: Floats, weights: Floats) -> Floats:
    """The weighted sum over the members; a load without weight may be NaN."""
    combined: Floats = (np.where(weights > 0, loads, 0.0) * weights).sum(axis=0)
    return combined
