# SPDX-License-Identifier: Apache-2.0
"""How far the load may exceed its forecast: upper quantiles of the window's maximum, calibrated on what came.

A pod ordered now must do for the largest load of the whole window in which nothing ordered later can help. So what is
calibrated is that maximum, not each step: ``log((largest seen + offset) / (largest forecast + offset))``, in units of
a scale that follows the newest residuals, against a threshold that moves until the stated share lies below it (online
quantile tracking: Gibbs and Candes, "Adaptive Conformal Inference Under Distribution Shift", 2021). The same is kept
for the last value as a forecast: where the model loses to it, the model stands down.
"""

import math
from datetime import datetime

import attrs
import numpy as np

from kedastral.core.series import EPOCH, Floats, Series

QUANTILES = (0.90, 0.95)
"""The levels that are calibrated; the planner reads the first: a moderate quantile times a steered factor is cheaper
than an extreme quantile, since a few weeks say little about a tail."""
FAST, SLOW = 30 * 60.0, 86400.0
"""Half-lives in seconds of the two residual scales, used half and half: one notices a jump within minutes, the other
remembers a day, so that a calm hour is not mistaken for a calm load. Anything from 10 to 60 min does as well."""
THRESHOLD_RATE = 0.02
"""How far a threshold moves for each window, in scales: an hour of surprises moves it by one."""
THRESHOLDS = (1.28, 1.64)
"""Where the thresholds begin: the normal distribution's."""
LOWEST_THRESHOLD, HIGHEST_THRESHOLD = -1.0, 10.0
"""A quantile may lie below a forecast that is always too high, and has to reach a tail that is all there is."""
FIRST_SCALE = 0.1
"""The residual scale before anything is known, about 10 %; counts as one window."""
MOST_SURPRISE = 3.0
"""Residuals and margins end at e^3, twentyfold: beyond, a launch from nothing would be remembered for days."""
OFFSET_OF_MEAN, OFFSET_OF_MOST = 1.0, 1e-3
"""The offset in the logarithm, of the last day's mean and of its maximum: margins are in proportion well above it, and
a constant amount well below, or the jumps out of a quiet spell would widen the margin of the busy ones as well. A
twentieth of the mean is 2.5 % dearer at the same service level."""
SCORE = 6 * 3600.0
"""Half-life in seconds of the loss by which a model stands down: short enough to return the day it is right again."""
ENOUGH_WINDOWS = 60
"""Windows seen before a model may be told to stand down: an hour of minutes."""
LOSES, WINS = 1.1, 1.0
"""The model stands down where its loss exceeds this many times the last value's, and returns below the other."""


@attrs.frozen
class Calibration:
    """What is known of one forecast's residuals; scales and loss are logarithmic.

    ``thresholds`` and ``covered``, the share of windows that stayed below each quantile of late, match `QUANTILES`.
    ``loss`` is the pinball loss of the first quantile, a mean over about `SCORE`; so is ``error``, of how far off the
    forecast of the value a lead time ahead was, in units of load.
    """

    fast: float = FIRST_SCALE
    slow: float = FIRST_SCALE
    thresholds: tuple[float, ...] = THRESHOLDS
    covered: tuple[float, ...] = QUANTILES
    loss: float = 0.0
    windows: int = 0
    error: float = 0.0

    @property
    def margins(self) -> tuple[float, ...]:
        """By how much each quantile lies above the forecast, logarithmic; never falls from one level to the next."""
        scale, highest = (self.fast + self.slow) / 2, -math.inf
        margins = []
        for threshold in self.thresholds:
            highest = max(highest, min(threshold * scale, MOST_SURPRISE))
            margins.append(highest)
        return tuple(margins)


@attrs.frozen
class Bet:
    """What a forecast said of a window's maximum: its ``largest`` value and the quantiles, in units of load.

    ``at_lead`` is what it said of the value that comes a lead time ahead.
    """

    largest: float
    uppers: tuple[float, ...]
    at_lead: float


@attrs.frozen
class Pending:
    """A window whose maximum is still to be seen; its first value will be dated ``begins`` (epoch seconds).

    ``lead`` is the index in it of the value that comes a lead time ahead.
    """

    begins: float
    lead: int
    model: Bet
    last: Bet


@attrs.frozen
class ObservedWindow:
    """What a window came to: its ``largest`` load, and that ``at_lead``."""

    largest: float
    at_lead: float


@attrs.frozen
class UncertaintyState:
    """All that is remembered from tick to tick; small, and made of numbers alone."""

    model: Calibration = attrs.field(factory=Calibration)
    last: Calibration = attrs.field(factory=Calibration)
    pending: tuple[Pending, ...] = ()
    standing_down: bool = False


def observe(state: UncertaintyState, history: Series, window: int) -> UncertaintyState:
    """``state`` after judging every window of ``window`` steps that ``history`` has seen the end of.

    A window with a gap, or one that lies before the history, is forgotten: nothing is learnt from missing data. It has
    ended once its last value, or a later one, is known.
    """
    ended: list[Pending] = []
    pending: list[Pending] = []
    newest = history.newest
    known = -math.inf if newest is None else _epoch(newest.at) + history.step / 2  # what is missing now may still come
    for bet in state.pending:
        (ended if bet.begins + (window - 1) * history.step < known else pending).append(bet)
    if not ended:
        return state
    model, last, offset = state.model, state.last, offset_of(history)
    for bet in ended:
        seen = _seen_of(history, bet.begins, window)
        if seen is not None:
            outcome = ObservedWindow(float(seen.max()), float(seen[min(bet.lead, window - 1)]))
            model = _learn(model, bet.model, outcome, offset, history.step)
            last = _learn(last, bet.last, outcome, offset, history.step)
    return UncertaintyState(model, last, tuple(pending), _stands_down(model, last, down=state.standing_down))


def expect(
    state: UncertaintyState, history: Series, values: Floats, window: int, lead_steps: int | None = None
) -> UncertaintyState:
    """``state`` with the forecast ``values``, made from ``history``, to be judged once its window has been seen.

    ``values[0]`` forecasts the value that follows ``history``. The first ``lead_steps`` steps of the window, by default
    all of it, are those that the lead time touches. One window begins at each step: a second forecast from the same
    history changes nothing.
    """
    begins = _epoch(history.time_at(len(history)))
    newest = history.newest
    if newest is None or (state.pending and state.pending[-1].begins >= begins - history.step / 2):
        return state
    offset, lead = offset_of(history), min(lead_steps or window, len(values)) - 1
    bets = (
        _bet(state.model, float(values[:window].max()), float(values[lead]), offset),
        _bet(state.last, newest.value, newest.value, offset),
    )
    return attrs.evolve(state, pending=(*state.pending, Pending(begins, lead, *bets)))


def upper_path(values: Floats, margin: float, offset: float) -> Floats:
    """Each of ``values`` raised by a logarithmic ``margin``; the window's maximum is raised by exactly that."""
    return np.maximum((values + offset) * math.exp(margin) - offset, 0.0)


def offset_of(history: Series) -> float:
    """What is added before a logarithm is taken, in units of load; from the last day, 0 where that holds no load."""
    recent = history.values[-max(1, round(86400 / history.step)) :]
    recent = recent[np.isfinite(recent)]
    return max(OFFSET_OF_MEAN * float(recent.mean()), OFFSET_OF_MOST * float(recent.max())) if len(recent) else 0.0


def _bet(calibration: Calibration, largest: float, at_lead: float, offset: float) -> Bet:
    uppers = (max((largest + offset) * math.exp(margin) - offset, 0.0) for margin in calibration.margins)
    return Bet(largest, tuple(uppers), at_lead)


def _learn(calibration: Calibration, bet: Bet, seen: ObservedWindow, offset: float, step: float) -> Calibration:
    windows, largest = calibration.windows + 1, seen.largest
    residual = abs(_log_ratio(largest, bet.largest, offset))
    covered = [1.0 if largest <= upper * (1 + 1e-9) else 0.0 for upper in bet.uppers]
    day = _weight(SLOW, step, windows)
    beyond = _log_ratio(largest, bet.uppers[0], offset)
    pinball = max(QUANTILES[0] * beyond, (QUANTILES[0] - 1) * beyond)
    score = _weight(SCORE, step, windows)
    return Calibration(
        fast=_towards(calibration.fast, residual, _weight(FAST, step, windows)),
        slow=_towards(calibration.slow, residual, day),
        thresholds=tuple(map(_move_threshold, calibration.thresholds, covered, QUANTILES)),
        covered=tuple(_towards(share, now, day) for share, now in zip(calibration.covered, covered, strict=True)),
        loss=_towards(calibration.loss, pinball, score),
        windows=windows,
        error=_towards(calibration.error, abs(seen.at_lead - bet.at_lead), score),
    )


def _move_threshold(threshold: float, covered: float, level: float) -> float:
    return min(max(threshold + THRESHOLD_RATE * (level - covered), LOWEST_THRESHOLD), HIGHEST_THRESHOLD)


def _stands_down(model: Calibration, last: Calibration, *, down: bool) -> bool:
    return model.windows >= ENOUGH_WINDOWS and model.loss > last.loss * (WINS if down else LOSES)


def _weight(half_life: float, step: float, windows: int) -> float:
    """The newest residual's weight: a plain mean at first, an exponential one once there is enough to forget."""
    return float(max(1 - 0.5 ** (step / half_life), 1 / (windows + 1)))


def _towards(mean: float, value: float, weight: float) -> float:
    return mean + weight * (value - mean)


def _log_ratio(seen: float, forecast: float, offset: float) -> float:
    if offset <= 0:  # no load at all for a day
        return 0.0
    return min(max(math.log((seen + offset) / (forecast + offset)), -MOST_SURPRISE), MOST_SURPRISE)


def _seen_of(history: Series, begins: float, window: int) -> Floats | None:
    """The values of a window; None where one of them is not known."""
    first = round((begins - _epoch(history.start)) / history.step)
    values = history.values[first : first + window] if first >= 0 else history.values[:0]
    return values if len(values) == window and np.isfinite(values).all() else None


def _epoch(moment: datetime) -> float:
    return (moment - EPOCH).total_seconds()
