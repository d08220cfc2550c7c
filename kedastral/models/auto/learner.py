# SPDX-License-Identifier: Apache-2.0
"""`Learner`: what the model keeps of one workload between ticks: ridges, scores, and forecasts not yet judged."""

from collections import deque

import attrs
import numpy as np

from kedastral.core.series import Floats
from kedastral.models.auto.ensemble import no_scores
from kedastral.models.auto.experts import NAMES, Ridges, forecasts
from kedastral.models.auto.fitting import fit_horizon
from kedastral.models.auto.seasons import HOUR, Seasons
from kedastral.models.auto.signal import DAY, MINUTE, Signal

REFIT = 4 * HOUR
"""Seconds between two fits of a horizon's ridges; daily fits forecast worse, more frequent ones no better."""
REPLAYED = DAY
"""How much of the past a new learner judges its experts on, with ridges that have not seen it."""
REPLAY_EVERY = 5 * MINUTE
FIRST_ROWS = 2000
"""Rows of the fits of a new learner, which come all at once; each is made anew with more at the ticks that follow."""
LONGEST_PAUSE = DAY
"""Seconds between two ticks after which to start afresh."""
GROWTH = 2.0
"""A history this many times as long as at the start is worth a fresh start, until it is `ENOUGH` seconds."""
ENOUGH = 4 * DAY


@attrs.frozen(eq=False)
class Pending:
    """What the experts said at ``end`` (epoch seconds), shape (experts, knots), to be compared with what came."""

    end: float
    loads: Floats


class Learner:
    """The memory of one workload at the horizons ``knots``, in steps."""

    def __init__(self, knots: tuple[int, ...], seasons: Seasons) -> None:
        """Fit ridges on all but the newest part of the history, and judge all experts on that part."""
        signal = seasons.signal
        held_out = min(signal.steps_in(REPLAYED), len(signal) // 4)
        self.knots = knots
        self.scores = no_scores(len(NAMES), len(knots))
        self._born_with = len(signal)
        self._ridges: list[Ridges | None] = [
            fit_horizon(seasons, ahead, held_out=held_out, most=FIRST_ROWS) for ahead in knots
        ]
        self._fitted = [-np.inf] * len(knots)
        self._pending: deque[Pending] = deque()
        self._replay(seasons, held_out)
        self._now = signal.end

    def suits(self, signal: Signal) -> bool:
        """Whether what was learned still holds for ``signal``: no step back, no long pause, no history grown up."""
        grown = len(signal) >= GROWTH * self._born_with and self._born_with < signal.steps_in(ENOUGH)
        return 0 <= signal.end - self._now <= LONGEST_PAUSE and not grown

    def learn(self, seasons: Seasons) -> None:
        """Judge the forecasts whose time has come, and refit the horizon that is due; nothing if no time has passed."""
        elapsed = seasons.signal.end - self._now
        if elapsed <= 0:
            return
        self._now = seasons.signal.end
        self._judge(seasons.signal, elapsed)
        oldest = int(np.argmin(self._fitted))
        if self._now - self._fitted[oldest] >= REFIT:
            self._ridges[oldest] = fit_horizon(seasons, self.knots[oldest], before=self._ridges[oldest])
            self._fitted[oldest] = self._now

    def forecast(self, seasons: Seasons) -> Floats:
        """What each expert says from now on, shape (experts, knots); remembered, to be judged."""
        signal = seasons.signal
        loads = forecasts(seasons, np.array([len(signal) - 1]), self.knots, self._ridges)[:, :, 0]
        if not self._pending or self._pending[-1].end < signal.end:
            self._pending.append(Pending(signal.end, loads))
        return loads

    def _judge(self, signal: Signal, elapsed: float) -> None:
        """Score what was said of the steps that have ended since the last tick; several of one horizon are averaged."""
        passed = elapsed / signal.step
        errors = np.zeros(self.scores.errors.shape)
        counts = np.zeros(len(self.knots))
        ahead = np.array(self.knots)
        for said in self._pending:
            age = round((signal.end - said.end) / signal.step)
            due = np.flatnonzero((ahead <= age) & (ahead > age - passed))
            rows = len(signal) - 1 - age + ahead[due]
            due, rows = due[signal.known[rows]], rows[signal.known[rows]]
            errors[:, due] += np.abs(said.loads[:, due] - signal.values[rows])
            counts[due] += 1
        errors[:, counts == 0] = np.nan
        self.scores = self.scores.add(errors / np.maximum(counts, 1), elapsed)
        self._forget(signal)

    def _forget(self, signal: Signal) -> None:
        while self._pending and signal.end - self._pending[0].end > self.knots[-1] * signal.step:
            self._pending.popleft()

    def _replay(self, seasons: Seasons, held_out: int) -> None:
        """Judge the experts on the newest ``held_out`` steps, as if the learner had been there."""
        signal = seasons.signal
        every = signal.steps_in(REPLAY_EVERY)
        rows = np.arange(len(signal) - 1, len(signal) - 1 - held_out, -every)[::-1]
        if not len(rows):
            return
        said = forecasts(seasons, rows, self.knots, self._ridges)
        for i, row in enumerate(rows):
            then = row + np.array(self.knots)
            seen = then < len(signal)
            then = np.where(seen, then, 0)
            known = seen & signal.known[then]
            errors = np.where(known, np.abs(said[:, :, i] - signal.values[then]), np.nan)
            self.scores = self.scores.add(errors, every * signal.step)
            self._pending.append(Pending(signal.end - (len(signal) - 1 - row) * signal.step, said[:, :, i]))
        self._forget(signal)
