# SPDX-License-Identifier: Apache-2.0
"""`Panel`: the experts' forecasts put together by what each was worth, and judged as the load comes in."""

from bisect import bisect_right
from collections import deque

import attrs
import numpy as np

from kedastral.core.series import Floats
from kedastral.models.auto.ensemble import Drift, Scores, Surprise
from kedastral.models.auto.experts import NAMES as HEARD
from kedastral.models.auto.signal import MINUTE, Signal

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
class Said:
    """The forecasts made at ``end`` (epoch seconds): by each of `NAMES`, then all together; (experts + 1, knots)."""

    end: float
    loads: Floats


@attrs.frozen(eq=False)
class Answer:
    """``loads`` (knots,) is the forecast, ``weights`` (experts, knots) how much each of `NAMES` counted in it."""

    loads: Floats
    weights: Floats


class Panel:
    """What is remembered of experts at the horizons ``knots`` (steps), from the time ``now`` (epoch seconds) on."""

    def __init__(self, knots: tuple[int, ...], now: float) -> None:
        self.scores = Scores.none(len(NAMES) + 1, len(knots))
        self._drift = Drift.none(len(CORRECTED), len(knots))
        self._surprise = Surprise()
        self._said: deque[Said] = deque()
        self._knots = knots
        self._ahead = np.array(knots)
        self._now = now

    def ask(self, heard: Floats, now: float) -> Answer:
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
            self._said.append(Said(now, np.concatenate([loads, together[None]])))
        return Answer(_weigh(loads, weights), weights)

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
