# SPDX-License-Identifier: Apache-2.0
"""`Learner`: what the model keeps of one workload between ticks: the ridges, and the panel that judges all experts."""

import attrs
import numpy as np

from kedastral.core.series import Floats, Ints
from kedastral.models.auto.experts import forecasts
from kedastral.models.auto.fitting import HALF_LIVES, Fit, fit
from kedastral.models.auto.panel import Answer, Panel
from kedastral.models.auto.seasons import HOUR, Seasons
from kedastral.models.auto.signal import DAY, MINUTE, Signal

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
class Recalled:
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
        self.panel = Panel(knots, signal.end - held_out * signal.step)

    def replay(self, seasons: Seasons) -> tuple[Recalled, ...]:
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
                said.append(Recalled(now, self.panel.ask(heard[:, :, i], now).loads))
        return tuple(said)

    def suits(self, signal: Signal) -> bool:
        """Whether what was learned still holds for ``signal``: no step back, no long pause, no history grown up."""
        grown = len(signal) >= GROWTH * self._born_with and self._born_with < signal.steps_in(ENOUGH)
        return 0 <= signal.end - self._now <= LONGEST_PAUSE and not grown

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

    def forecast(self, seasons: Seasons) -> Answer:
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
