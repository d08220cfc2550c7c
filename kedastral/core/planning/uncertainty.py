# SPDX-License-Identifier: Apache-2.0
"""How far the load may exceed its forecast: calibrated upper quantiles of the largest load in a window.

A pod ordered now must be enough for the largest load of the whole window in which a later order cannot help. So the
maximum of the window is calibrated, not each step: ``log((actual maximum + offset) / (forecast maximum + offset))``, in
units of a scale that follows the newest residuals, against a threshold that moves until the stated share of windows
lies below it (online quantile tracking: Gibbs and Candes, "Adaptive Conformal Inference Under Distribution Shift",
2021). The same is kept for the last value used as a forecast. While the model's pinball loss is higher than that of
the last value, the model stands down. And it is kept for the forecast raised to recurring peaks
(`kedastral.core.planning.recurring_peaks`): while the loss of that is lower, a plan covers these peaks.
"""

import math
from datetime import datetime

import attrs
import numpy as np

from kedastral.core.planning.recurring_peaks import RecurringPeaks
from kedastral.core.series import EPOCH, Floats, Series

QUANTILES = (0.90, 0.95)
"""The calibrated levels. The planner reads the first: a moderate quantile times a safety factor that adapts is cheaper
than an extreme quantile, because a few weeks of data say little about a tail."""
FAST_HALF_LIFE, SLOW_HALF_LIFE = 30 * 60.0, 86400.0
"""Half-lives in seconds of the two residual scales, of which the mean is used. The fast one notices a jump within
minutes; the slow one remembers a day, so that a quiet hour does not make the load look quiet. For the fast one,
anything from 10 to 60 minutes does as well."""
THRESHOLD_RATE = 0.02
"""How far a threshold moves for each window, in scales: an hour of surprises moves it by one."""
INITIAL_THRESHOLDS = (1.28, 1.64)
"""The quantiles of the normal distribution."""
MIN_THRESHOLD, MAX_THRESHOLD = -1.0, 10.0
"""A quantile may lie below a forecast that is always too high, and must reach the tail of a load that is all tail."""
INITIAL_SCALE = 0.1
"""The residual scale before any window has ended, about 10 %; it counts as one window."""
MAX_LOG_RATIO = 3.0
"""Residuals and margins are limited to e^3, a factor of twenty. Otherwise a launch from zero would be remembered for
days."""
MAX_INFLUENCE, MIN_INFLUENCE = 6.0, 0.6
"""The most that one residual counts: this many scales, and never less than the second. A load that nobody could foresee
lies in every window around it, eight with the defaults, and would widen the margin for hours."""
OFFSET_OF_MEAN, OFFSET_OF_MAX = 1.0, 1e-3
"""The offset in the logarithm, as a share of the last day's mean and of its maximum. Margins are proportional well
above the offset and constant well below it; without it, jumps at quiet hours would widen the margin of busy hours too.
An offset of a twentieth of the mean costs 2.5 % more at the same service level."""
LOSS_HALF_LIFE = 6 * 3600.0
"""Half-life in seconds of the loss that makes a model stand down: short enough that a model returns on the day on which
it is right again."""
MIN_WINDOWS = 60
"""Windows that must have ended before a model may stand down: an hour at steps of a minute."""
STAND_DOWN_RATIO, RETURN_RATIO = 1.1, 1.0
"""The model stands down while its loss exceeds this many times that of the last value, and returns below the other."""

NEGLIGIBLE_LOSS = 0.002
"""A model stays whose loss is below this: a forecast that is always 2 % too high. After a night without load both
losses are tiny, and their ratio says nothing about the morning."""


COVER_RATIO, UNCOVER_RATIO = 0.75, 0.9
"""A plan covers recurring peaks from where the loss with them is below this many times the loss without them, until it
is above the other."""
TRIAL_CYCLES, MAX_TRIAL_HALF_LIFE = 4, 86400.0
"""The half-life of these losses is as many cycles, from `LOSS_HALF_LIFE` to the other, in seconds, which must have
passed before: a few hours say little about peaks that come once a day."""


@attrs.frozen
class Calibration:
    """The residuals of one forecast; scales and loss are logarithmic.

    ``thresholds`` and ``coverage`` match `QUANTILES`; ``coverage`` is the share of recent windows that stayed below
    each quantile. ``pinball_loss`` is that of the first quantile, averaged over about `LOSS_HALF_LIFE`. ``lead_error``
    is the absolute error of the value forecast for a lead time ahead, averaged likewise, in units of load.
    """

    fast_scale: float = INITIAL_SCALE
    slow_scale: float = INITIAL_SCALE
    thresholds: tuple[float, ...] = INITIAL_THRESHOLDS
    coverage: tuple[float, ...] = QUANTILES
    pinball_loss: float = 0.0
    windows: int = 0
    lead_error: float = 0.0

    @property
    def margins(self) -> tuple[float, ...]:
        """How far each quantile lies above the forecast, logarithmic; a higher level never has a smaller margin."""
        scale, highest = (self.fast_scale + self.slow_scale) / 2, -math.inf
        margins = []
        for threshold in self.thresholds:
            highest = max(highest, min(threshold * scale, MAX_LOG_RATIO))
            margins.append(highest)
        return tuple(margins)


@attrs.frozen
class IntervalForecast:
    """The forecast of a window's ``maximum`` with its upper ``quantiles``, in units of load.

    ``at_lead`` is the value forecast for a lead time ahead.
    """

    maximum: float
    quantiles: tuple[float, ...]
    at_lead: float


@attrs.frozen
class PendingWindow:
    """A window that has not ended yet. Its first value will be dated ``begins`` (epoch seconds).

    ``lead`` is the index, in the window, of the value a lead time ahead. ``model`` and ``last`` are the forecasts of
    the model and of the last value, ``raised`` is that of the model raised to the recurring peaks of a ``cycle`` in
    seconds, None where they were not looked for.
    """

    begins: float
    lead: int
    model: IntervalForecast
    last: IntervalForecast
    raised: IntervalForecast | None = None
    cycle: float = 0.0


@attrs.frozen
class WindowOutcome:
    """The actual load of a window that has ended: its ``maximum``, and the value ``at_lead``."""

    maximum: float
    at_lead: float


@attrs.frozen
class PeakTrial:
    """How plans would have done that cover recurring peaks: their ``calibration``, and whether they are ``covered``.

    ``loss`` and ``loss_without`` are the pinball losses of the second quantile with and without the peaks, in units of
    load and averaged over some cycles. Loads count here, not logarithms: pods are what they cost.
    """

    calibration: Calibration = attrs.field(factory=Calibration)
    loss: float = 0.0
    loss_without: float = 0.0
    covered: bool = False


@attrs.frozen
class UncertaintyState:
    """What is carried from tick to tick: the calibrations, and windows still open; plain numbers, to be stored."""

    model: Calibration = attrs.field(factory=Calibration)
    last: Calibration = attrs.field(factory=Calibration)
    pending: tuple[PendingWindow, ...] = ()
    standing_down: bool = False
    peaks: PeakTrial = attrs.field(factory=PeakTrial)


def judge_windows(state: UncertaintyState, history: Series, window: int) -> UncertaintyState:
    """``state`` after calibrating on every pending window of ``window`` steps that has ended in ``history``.

    A window has ended once its last value, or a later one, is known. A window with a gap, or one that lies before the
    history, is dropped: missing data teach nothing.
    """
    newest = history.newest
    known_until = -math.inf if newest is None else _epoch(newest.at) + history.step / 2  # later values may still come
    ended: list[PendingWindow] = []
    pending: list[PendingWindow] = []
    for each in state.pending:
        (ended if each.begins + (window - 1) * history.step < known_until else pending).append(each)
    if not ended:
        return state
    model, last, peaks, offset = state.model, state.last, state.peaks, offset_of(history)
    for each in ended:
        actual = _values_in_window(history, each.begins, window)
        if actual is not None:
            outcome = WindowOutcome(float(actual.max()), float(actual[min(each.lead, window - 1)]))
            model = _calibrate(model, each.model, outcome, offset, history.step)
            last = _calibrate(last, each.last, outcome, offset, history.step)
            peaks = _try_peaks(peaks, each, outcome, offset, history.step)
    in_use = peaks.calibration if peaks.covered else model
    stands_down = _stands_down(in_use, last, standing_down=state.standing_down)
    return UncertaintyState(model, last, tuple(pending), stands_down, peaks)


def add_forecast(
    state: UncertaintyState,
    history: Series,
    values: Floats,
    window: int,
    lead_steps: int | None = None,
    peaks: RecurringPeaks | None = None,
) -> UncertaintyState:
    """``state`` with the forecast ``values``, made from ``history``, to be judged once its window has ended.

    ``values[0]`` forecasts the value that follows ``history``; ``peaks`` are the recurring peaks at the same steps. The
    first ``lead_steps`` steps of the window, by default all of it, are those that the lead time overlaps. One window
    begins at each step: a second forecast from the same history changes nothing.
    """
    begins = _epoch(history.time_at(len(history)))
    newest = history.newest
    if newest is None or (state.pending and state.pending[-1].begins >= begins - history.step / 2):
        return state
    offset, lead = offset_of(history), min(lead_steps or window, len(values)) - 1
    model = _interval_forecast(state.model, float(values[:window].max()), float(values[lead]), offset)
    last = _interval_forecast(state.last, newest.value, newest.value, offset)
    raised, cycle = None, 0.0
    if peaks is not None:
        path, cycle = np.maximum(values[:window], peaks.loads[:window]), peaks.cycle
        raised = _interval_forecast(
            state.peaks.calibration, float(path.max()), float(path[min(lead, window - 1)]), offset
        )
    return attrs.evolve(state, pending=(*state.pending, PendingWindow(begins, lead, model, last, raised, cycle)))


def upper_path(values: Floats, margin: float, offset: float) -> Floats:
    """Each of ``values`` raised by a logarithmic ``margin``; the window's maximum is raised by exactly that."""
    return np.maximum((values + offset) * math.exp(margin) - offset, 0.0)


def offset_of(history: Series) -> float:
    """The offset to add before taking a logarithm, in units of load; 0 where the last day has no load."""
    recent = history.values[-max(1, round(86400 / history.step)) :]
    recent = recent[np.isfinite(recent)]
    return max(OFFSET_OF_MEAN * float(recent.mean()), OFFSET_OF_MAX * float(recent.max())) if len(recent) else 0.0


def _interval_forecast(calibration: Calibration, maximum: float, at_lead: float, offset: float) -> IntervalForecast:
    quantiles = (max((maximum + offset) * math.exp(margin) - offset, 0.0) for margin in calibration.margins)
    return IntervalForecast(maximum, tuple(quantiles), at_lead)


def _calibrate(
    calibration: Calibration, forecast: IntervalForecast, outcome: WindowOutcome, offset: float, step: float
) -> Calibration:
    """``calibration`` after one more window."""
    windows = calibration.windows + 1
    limit = max(MAX_INFLUENCE * (calibration.fast_scale + calibration.slow_scale) / 2, MIN_INFLUENCE)
    residual = min(abs(_log_ratio(outcome.maximum, forecast.maximum, offset)), limit)
    below = [1.0 if outcome.maximum <= quantile * (1 + 1e-9) else 0.0 for quantile in forecast.quantiles]
    excess = _log_ratio(outcome.maximum, forecast.quantiles[0], offset)
    loss = max(QUANTILES[0] * excess, (QUANTILES[0] - 1) * excess)
    fast, slow = _weight(FAST_HALF_LIFE, step, windows), _weight(SLOW_HALF_LIFE, step, windows)
    loss_weight = _weight(LOSS_HALF_LIFE, step, windows)
    return Calibration(
        fast_scale=_update_mean(calibration.fast_scale, residual, fast),
        slow_scale=_update_mean(calibration.slow_scale, residual, slow),
        thresholds=tuple(map(_move_threshold, calibration.thresholds, below, QUANTILES)),
        coverage=tuple(_update_mean(mean, new, slow) for mean, new in zip(calibration.coverage, below, strict=True)),
        pinball_loss=_update_mean(calibration.pinball_loss, loss, loss_weight),
        windows=windows,
        lead_error=_update_mean(calibration.lead_error, abs(outcome.at_lead - forecast.at_lead), loss_weight),
    )


def _try_peaks(
    trial: PeakTrial, window: PendingWindow, outcome: WindowOutcome, offset: float, step: float
) -> PeakTrial:
    """``trial`` after one more window."""
    if window.raised is None:
        return trial
    calibration = _calibrate(trial.calibration, window.raised, outcome, offset, step)
    half_life = min(max(TRIAL_CYCLES * window.cycle, LOSS_HALF_LIFE), MAX_TRIAL_HALF_LIFE)
    weight = _weight(half_life, step, calibration.windows)
    loss = _update_mean(trial.loss, _loss_of(window.raised, outcome), weight)
    without = _update_mean(trial.loss_without, _loss_of(window.model, outcome), weight)
    ratio = UNCOVER_RATIO if trial.covered else COVER_RATIO
    covered = calibration.windows * step >= half_life and loss < ratio * without
    return PeakTrial(calibration, loss, without, covered)


def _loss_of(forecast: IntervalForecast, outcome: WindowOutcome) -> float:
    """The pinball loss of the second quantile (Koenker and Bassett, "Regression Quantiles", 1978), in units of load."""
    excess = outcome.maximum - forecast.quantiles[1]
    return max(QUANTILES[1] * excess, (QUANTILES[1] - 1) * excess)


def _move_threshold(threshold: float, below: float, level: float) -> float:
    return min(max(threshold + THRESHOLD_RATE * (level - below), MIN_THRESHOLD), MAX_THRESHOLD)


def _stands_down(model: Calibration, last: Calibration, *, standing_down: bool) -> bool:
    ratio = RETURN_RATIO if standing_down else STAND_DOWN_RATIO
    least = max(last.pinball_loss * ratio, NEGLIGIBLE_LOSS)
    return model.windows >= MIN_WINDOWS and model.pinball_loss > least


def _weight(half_life: float, step: float, windows: int) -> float:
    """The weight of the newest window: that of a plain mean at first, later that of an exponential one."""
    return float(max(1 - 0.5 ** (step / half_life), 1 / (windows + 1)))


def _update_mean(mean: float, value: float, weight: float) -> float:
    return mean + weight * (value - mean)


def _log_ratio(actual: float, forecast: float, offset: float) -> float:
    if offset <= 0:  # no load at all for a day
        return 0.0
    return min(max(math.log((actual + offset) / (forecast + offset)), -MAX_LOG_RATIO), MAX_LOG_RATIO)


def _values_in_window(history: Series, begins: float, window: int) -> Floats | None:
    """The values of a window; None where one of them is missing."""
    first = round((begins - _epoch(history.start)) / history.step)
    values = history.values[first : first + window] if first >= 0 else history.values[:0]
    return values if len(values) == window and np.isfinite(values).all() else None


def _epoch(moment: datetime) -> float:
    return (moment - EPOCH).total_seconds()
